"""The folder of the client's local mode: opened by one process at a time. It knows no collection.

The client itself is left out: preparing it for embedding, which is never asked of it here, takes longer than reading
the folder.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import portalocker
from qdrant_client.local.qdrant_local import QdrantLocal

from qmigrate.whole import private_folder

#: The location that stands for no folder.
MEMORY = ":memory:"


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
            return client
        client.close()


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
    for place in (folder / "meta.json", *sorted(folder.glob("collection/*/storage.sqlite"))):
        if place.exists():
            state = os.stat(place)
            found[str(place)] = (state.st_mtime_ns, state.st_size)
    return found
