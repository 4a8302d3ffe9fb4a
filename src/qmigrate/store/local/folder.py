"""The folder of the client's local mode: opened by one client at a time. Independent of collections.

The client itself is left out: preparing it for embedding, which is never asked of it here, takes longer than reading
the folder.
"""

from __future__ import annotations

import json
import os
import shutil
import stat
import threading
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import portalocker
from qdrant_client.local.qdrant_local import QdrantLocal

from qmigrate.atomic_file import private_folder, writing

#: The location that stands for no folder.
MEMORY = ":memory:"
#: Where the client lists collections and aliases; where their points are; and what is put next to points that go.
_LISTED, _POINTS, _GOING = "meta.json", "collection", ".deleting"


Opened = TypeVar("Opened")


class Turns:
    """Threads of this process take turns on a folder: who opened it, or is about to, is known until it is closed."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._holders: dict[str, _Holder] = {}

    def wait(self, path: str, patience: float, opened: Callable[[], Opened]) -> Opened:
        """Open a folder; where another thread of this process has it, once that has closed it.

        Raises:
            RuntimeError: another process has it, or this very thread, or `patience` seconds are over.
        """
        place, mine = os.path.realpath(path), _Holder(threading.get_ident())
        with self._changed:
            # Not even tried before: to try the lock of a folder is to have it for a moment, and to keep others out.
            self._changed.wait_for(lambda: self._is_free(place, mine), max(patience, 0.0))
            if self._is_free(place):
                self._holders[place] = mine
        try:
            found = opened()
        except BaseException:
            self._leave(place, mine)
            raise
        with self._changed:
            # One that is left open closes by itself, silently.
            mine.client = weakref.ref(found, lambda _: self._leave(place, mine))
            self._holders[place] = mine
        return found

    def over(self, path: str, client: object) -> None:
        """This client was closed: the next one may have the folder."""
        place = os.path.realpath(path)
        with self._changed:
            holder = self._holders.get(place)
        if holder is not None and holder.client is not None and holder.client() is client:
            self._leave(place, holder)

    def _is_free(self, place: str, who: _Holder | None = None) -> bool:
        """Whether no other caller has it that `who` could wait for; who waits for itself waits forever."""
        holder = self._holders.get(place)
        return holder is None or (who is not None and holder.thread == who.thread)

    def _leave(self, place: str, holder: _Holder) -> None:
        with self._changed:
            if self._holders.get(place) is holder:
                del self._holders[place]
                self._changed.notify_all()


@dataclass(eq=False, slots=True)
class _Holder:
    """Who has a folder open, or is about to: then there is no client yet."""

    thread: int
    client: weakref.ref[Any] | None = None


#: Of this process.
TURNS = Turns()


def in_memory() -> Any:
    """The client's local mode without a folder."""
    return QdrantLocal(MEMORY)


def open_folder(folder: Path) -> Any:
    """The client's local mode on this folder, which is made when it isn't there.

    Raises:
        RuntimeError: another process has it.
    """
    private_folder(folder)
    while True:
        _refuse_when_locked(folder)
        # The client reads the folder before it locks it: what another process wrote in between would be lost on it.
        before = _stamp(folder)
        client = QdrantLocal(str(folder), force_disable_check_same_thread=True)
        if before in (_stamp(folder), {}):
            _finish_deletions(folder, client)
            return client
        client.close()


def delete(client: Any, path: str, name: str) -> None:
    """Delete a collection: first what lists it, with its aliases, then its points.

    Args:
        client: that has the folder, or memory.
        path: of the folder, else :data:`MEMORY`.
    """
    if path != MEMORY:
        # Load-bearing: the client removes the points first. Killed in between it would show the collection without
        # points, and what a run had made of these would be made equal to that.
        _unlist(Path(path), name)
    client.delete_collection(name)


def _unlist(folder: Path, name: str) -> None:
    """Take a collection out of what the client lists, as it is on disk."""
    listed, points = folder / _LISTED, folder / _POINTS / name
    if not listed.is_file() or not points.is_dir():
        return
    found = json.loads(listed.read_bytes())
    if name not in found["collections"]:
        return
    (points / _GOING).touch(mode=0o600)
    found["collections"].pop(name)
    found["aliases"] = {alias: to for alias, to in found["aliases"].items() if to != name}
    found.get("text_indexes", {}).pop(name, None)
    with writing(listed, mode=stat.S_IMODE(listed.stat().st_mode)) as out:
        out.write(json.dumps(found).encode())


def _finish_deletions(folder: Path, client: Any) -> None:
    """Remove points that were to go when a process was killed; those of a collection that is still listed stay."""
    for mark in tuple((folder / _POINTS).rglob(_GOING)):
        if str(mark.parent.relative_to(folder / _POINTS)) in client.collections:
            mark.unlink()
        else:
            shutil.rmtree(mark.parent)


def _refuse_when_locked(folder: Path) -> None:
    lock = folder / ".lock"
    if not lock.exists():
        return
    with lock.open("r+") as file:
        try:
            portalocker.lock(file, portalocker.LockFlags.EXCLUSIVE | portalocker.LockFlags.NON_BLOCKING)
        except portalocker.exceptions.LockException as error:
            raise RuntimeError(f"{folder} is already accessed by another instance") from error
        portalocker.unlock(file)


def _stamp(folder: Path) -> dict[str, tuple[int, int]]:
    """Size and time of every file that holds data."""
    found = {}
    for place in (folder / _LISTED, *sorted((folder / _POINTS).glob("*/storage.sqlite"))):
        if place.exists():
            state = os.stat(place)
            found[str(place)] = (state.st_mtime_ns, state.st_size)
    return found
