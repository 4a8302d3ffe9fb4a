"""What one request changes in the client's local mode, written to disk at once. It changes no point by itself.

The client commits each point on its own: a flush of the disk for every one, some fifty points a second on an ordinary
disk. A request of many points is acknowledged as a whole, so that it may as well be committed as a whole: killed in
between, none of it is there, and nothing was acknowledged.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import TracebackType
from typing import Any


class NotCommittedError(sqlite3.Error):
    """What a request has changed is in the memory of the client, and not on disk."""


@contextmanager
def committed_once(client: Any, name: str) -> Iterator[None]:
    """Commit what the block changes in a collection when it ends, also where it ends by an error.

    Only for a client that no other thread writes through meanwhile: its writes would be acknowledged before they are
    on disk. A client whose insides look different commits each point, as ever.

    Args:
        client: a ``QdrantClient`` in local mode, or what it has inside.
        name: a collection, or an alias of one. Where there is none, the block itself says so.

    Raises:
        NotCommittedError: the disk is full, or fails.
    """
    persistence = _persistence(client, name)
    if persistence is None:
        yield
        return
    connection: sqlite3.Connection = persistence.storage
    deferred = persistence.storage = _Deferred(connection)
    try:
        yield
    finally:
        # Also behind an error: the points before it are in the memory of the client, and were always kept on disk.
        persistence.storage = connection
        try:
            if deferred.waits and not connection.in_transaction:
                # A disk that is full has the whole transaction undone as soon as a statement notices, not the commit.
                raise sqlite3.OperationalError("what a request had changed was undone: the disk is full, or fails")
            connection.commit()
        except sqlite3.Error as error:
            with suppress(sqlite3.Error):
                connection.rollback()
            raise NotCommittedError(str(error)) from error


def _persistence(client: Any, name: str) -> Any:
    """The files of a collection; None where there are none, or where they are kept in another way."""
    local = getattr(client, "_client", client)
    collections, aliases = getattr(local, "collections", None), getattr(local, "aliases", None)
    if not isinstance(collections, dict) or not isinstance(aliases, dict):
        return None
    found = getattr(collections.get(aliases.get(name, name)), "storage", None)
    return found if isinstance(getattr(found, "storage", None), sqlite3.Connection) else None


class _Deferred:
    """A connection whose blocks don't commit; everything else is the connection's.

    Attributes:
        waits: whether a block has changed something that is not committed.
    """

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self.waits = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._connection, name)

    def __enter__(self) -> sqlite3.Connection:
        return self._connection

    def commit(self) -> None:
        """What was waiting is on disk."""
        self._connection.commit()
        self.waits = False

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """The block of one point: what it has changed is committed with the others."""
        self.waits = self.waits or kind is None
