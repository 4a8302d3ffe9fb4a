"""A client that the application has opened: looked at, or used as a store. It never closes it."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

from qmigrate.errors import ConfigError, StoreError, UsageError
from qmigrate.ports import Store
from qmigrate.store.address import ConnectionSettings
from qmigrate.store.connect import connect
from qmigrate.store.local import LocalStore
from qmigrate.store.local_folder import MEMORY

#: Threads that borrow the same local client take turns.
_TURNS: WeakKeyDictionary[Any, threading.RLock] = WeakKeyDictionary()
_GUARD = threading.Lock()


class Borrowed:
    """The application's client.

    Args:
        client: a ``QdrantClient``.

    Raises:
        UsageError: it is something else, or the asynchronous one.
    """

    def __init__(self, client: object) -> None:
        from qdrant_client import AsyncQdrantClient, QdrantClient
        from qdrant_client.local.qdrant_local import QdrantLocal

        if isinstance(client, AsyncQdrantClient):
            raise UsageError(
                "an AsyncQdrantClient can't be used here: creating a collection waits for SQL and for Qdrant",
                hint="make a QdrantClient of the same address, and call it in a thread: asyncio.to_thread(…)",
            )
        if not isinstance(client, QdrantClient):
            raise UsageError(f"a qdrant_client.QdrantClient is wanted, not {type(client).__name__}")
        self._client: Any = client
        self._local = isinstance(getattr(client, "_client", None), QdrantLocal)

    def sees(self, name: str, *, patience: float = 0.0) -> bool:
        """Whether there is a collection or alias of this name, for this client.

        Args:
            name: either.
            patience: seconds to wait for it to appear: nodes of a cluster see a new name one after the other.

        Raises:
            StoreError: the client's request failed.
        """
        deadline = time.monotonic() + patience
        while True:
            try:
                if self._client.collection_exists(name):
                    return True
            except Exception as error:
                # The client raises errors of several libraries.
                raise StoreError(f"the client could not ask for {name}: {type(error).__name__}: {error}") from error
            if time.monotonic() >= deadline:
                return False
            time.sleep(0.02)

    def store(self, settings: ConnectionSettings) -> tuple[Store, bool]:
        """A store for the same Qdrant: the client's own folder in local mode, else a connection of its own.

        Returns:
            The store, and whether the caller has to close it.

        Raises:
            ConfigError: the settings name another Qdrant than the client's.
        """
        if not self._local:
            if settings.path is not None:
                raise ConfigError(
                    f"the client is one of a server, but qdrant.path in qmigrate.yaml is {settings.path}",
                    hint="name the same Qdrant in both: qdrant.url",
                )
            return connect(settings), True
        location = str(self._client._client.location)
        if settings.path is None:
            raise ConfigError(
                f"the client is one of local mode ({location}), but qdrant.url in qmigrate.yaml names a server",
                hint="name the same Qdrant in both: qdrant.path",
            )
        if location != MEMORY and Path(location).resolve() != Path(settings.path).resolve():
            raise ConfigError(
                f"the client's folder is {location}, but qdrant.path in qmigrate.yaml is {settings.path}",
                hint="name the same folder in both",
            )
        with _GUARD:
            turn = _TURNS.setdefault(self._client, threading.RLock())
        return LocalStore(self._client, location, turn), False
