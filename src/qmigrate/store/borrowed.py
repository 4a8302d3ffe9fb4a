"""A client that the application has opened: inspected, or used as a store. It never closes it."""

from __future__ import annotations

import inspect
import threading
import time
import warnings
from collections.abc import Callable, Coroutine, Sequence
from functools import partial
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

from qmigrate.errors import ConfigError, StoreError, UsageError
from qmigrate.model.schema import JsonObject
from qmigrate.model.state import Seal, marks_of
from qmigrate.ports import Store
from qmigrate.store.address import ConnectionSettings
from qmigrate.store.connect import connect
from qmigrate.store.local.folder import MEMORY
from qmigrate.store.local.local import LocalStore
from qmigrate.store.shapes import SEAL

#: Threads that borrow the same local client take turns.
_TURNS: WeakKeyDictionary[Any, threading.RLock] = WeakKeyDictionary()
_GUARD = threading.Lock()
#: How often two views are compared: a name may be on its way.
_LOOKS = 3
#: Names in common that are checked for a seal.
_NAMES = 5


class Borrowed:
    """The application's client.

    Args:
        client: a ``QdrantClient``, or an ``AsyncQdrantClient``: a server is reached by a connection of its own then,
            and of the local mode its own methods are called, which never wait for anything.

    Raises:
        UsageError: it is something else.
    """

    def __init__(self, client: object) -> None:
        from qdrant_client import AsyncQdrantClient, QdrantClient
        from qdrant_client.local.async_qdrant_local import AsyncQdrantLocal
        from qdrant_client.local.qdrant_local import QdrantLocal

        if not isinstance(client, QdrantClient | AsyncQdrantClient):
            raise UsageError(
                f"expected a QdrantClient or an AsyncQdrantClient of qdrant_client, got {type(client).__name__}"
            )
        inner: Any = getattr(client, "_client", None)
        self._lent: Any = client
        self._local = isinstance(inner, QdrantLocal | AsyncQdrantLocal)
        self._client: Any = client
        self._twin = False
        if isinstance(client, AsyncQdrantClient):
            self._client = AtOnce(inner) if self._local else _twin(client)
            self._twin = not self._local

    def close(self) -> None:
        """Close what was opened in addition to the application's client, if anything."""
        if self._twin:
            self._client.close()

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

    def seal(self, name: str) -> JsonObject | None:
        """What the collection behind a name that this client sees has as its marks: empty where it has none.

        Returns:
            None where that is unknown: the key may not read it, or the client doesn't understand its server.
        """
        try:
            found = self._client.get_collection(name)
        except Exception:
            # The client raises errors of several libraries.
            return None
        sealed: JsonObject = (getattr(found.config, "metadata", None) or {}).get(SEAL) or {}
        return sealed

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
                    f"the client is connected to a server, but qdrant.path in qmigrate.yaml is {settings.path}",
                    hint="name the same Qdrant in both: qdrant.url",
                )
            found = connect(settings)
            try:
                self._check_same(found)
            except BaseException:
                found.close()
                raise
            return found, True
        location = str(self._lent._client.location)
        if settings.path is None:
            raise ConfigError(
                f"the client is in local mode ({location}), but qdrant.url in qmigrate.yaml names a server",
                hint="name the same Qdrant in both: qdrant.path",
            )
        if location != MEMORY and Path(location).resolve() != Path(settings.path).resolve():
            raise ConfigError(
                f"the client's folder is {location}, but qdrant.path in qmigrate.yaml is {settings.path}",
                hint="name the same folder in both",
            )
        with _GUARD:
            turn = _TURNS.setdefault(self._lent, threading.RLock())
        return LocalStore(self._client, location, turn), False

    def _check_same(self, store: Store) -> None:
        """Stop where the client sees other names or seals than the settings' Qdrant; what is unknown doesn't count.

        Raises:
            ConfigError: it is connected to another Qdrant.
        """
        why: str | None = None
        for _ in range(_LOOKS):
            ours = set(store.aliases().items())
            try:
                theirs = {(entry.alias_name, entry.collection_name) for entry in self._client.get_aliases().aliases}
                plain = () if theirs or ours else self._client.get_collections().collections
            except Exception:
                # The client raises errors of several libraries.
                return
            common = {alias for alias, _ in theirs & ours}
            common |= {entry.name for entry in plain} & set(store.physical_names()) if plain else set()
            alike = common or not (theirs or ours)
            why = self._other_ledger(store, sorted(common)) if alike else "they have no alias in common"
            if why is None:
                return
            time.sleep(0.1)
        raise ConfigError(
            f"the client is connected to another Qdrant than qmigrate.yaml names: {why}",
            hint="name the same Qdrant in both: qdrant.url",
        )

    def _other_ledger(self, store: Store, names: Sequence[str]) -> str | None:
        """How one name is under management of two ledgers; None where that is not so, or unknown.

        The same revisions give the same names in staging and in production.
        """
        for name in names[:_NAMES]:
            found = store.describe(name)
            theirs = self.seal(name)
            if found is not None and found.seal and theirs:
                owner, other = marks_of(found).ledger, Seal.of(theirs).ledger
                return None if owner == other else f"{name} is sealed by ledger {owner}, and by {other} for the client"
        return None


class AtOnce:
    """The local mode of an asynchronous client without ``await``: nothing in it waits, so each call is over at once.

    Args:
        client: an ``AsyncQdrantLocal``.
    """

    def __init__(self, client: Any) -> None:
        self._wrapped = client

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._wrapped, name)
        return partial(_over, found) if inspect.iscoroutinefunction(found) else found


def _over(call: Callable[..., Coroutine[Any, Any, Any]], *args: Any, **kwargs: Any) -> Any:
    """The result of a coroutine that waits for nothing."""
    running = call(*args, **kwargs)
    try:
        running.send(None)
    except StopIteration as done:
        return done.value
    running.close()
    raise StoreError(f"the client's local mode waits for something in {call.__name__}, which is not expected")


def _twin(client: Any) -> Any:
    """A client of the same server that doesn't have to be awaited."""
    from qdrant_client import QdrantClient

    options = dict(client._init_options)
    if inspect.iscoroutinefunction(options.get("auth_token_provider")):
        raise UsageError(
            "an AsyncQdrantClient whose token provider is awaited can't be used from here",
            hint="pass a QdrantClient of the same address, in a thread: asyncio.to_thread(…)",
        )
    with warnings.catch_warnings():
        # Reported when the application made its own.
        warnings.simplefilter("ignore")
        return QdrantClient(**{**options, "check_compatibility": False})
