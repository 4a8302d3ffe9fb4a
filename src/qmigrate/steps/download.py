"""Server-side snapshots as files of one's own, proven by their checksum. It deletes nothing."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from qmigrate.errors import RefusedError
from qmigrate.model.schema import JsonObject
from qmigrate.ports import Snapshot
from qmigrate.steps.work import Work
from qmigrate.whole import private_folder

_CHUNK = 2**20


def export_snapshot(work: Work, address: str, physical: str, snapshot: Snapshot) -> JsonObject:
    """Download a snapshot to ``<fixes.exports>/snapshots/<generation>/``, readable by its owner only.

    Next to it is ``<name>.sha256``, as ``sha256sum -c`` reads it. A file that is there already and complete is kept.

    Args:
        address: the name by which the server is asked.
        physical: the generation, for the folder.

    Returns:
        ``file``, ``sha256`` and ``size`` of it.

    Raises:
        RefusedError: it can't be written, or what arrived is not what the server has.
    """
    folder = work.settings.fixes.exports / "snapshots" / _plain(physical)
    file = folder / _plain(snapshot.name)
    try:
        private_folder(folder)
        if not _is_whole(file, snapshot):
            _download(work, address, snapshot, file)
        digest = _digest(file)
        _write(file.with_name(file.name + ".sha256"), f"{digest}  {file.name}\n".encode())
    except OSError as error:
        raise RefusedError(
            f"the snapshot {snapshot.name} of {physical} can't be exported to {folder}: {error.strerror}",
            hint="make room, or name another folder: fixes.exports in qmigrate.yaml",
        ) from error
    return {"file": str(file), "sha256": digest, "size": file.stat().st_size}


def _download(work: Work, address: str, snapshot: Snapshot, file: Path) -> None:
    part = file.with_name(file.name + ".part")
    seen, size = hashlib.sha256(), 0
    work.progress.begin(work.collection, f"export {snapshot.name}", None)
    with os.fdopen(_open(part), "wb") as out:
        for chunk in work.store.read_snapshot(address, snapshot.name):
            work.tick()
            out.write(chunk)
            seen.update(chunk)
            size += len(chunk)
        out.flush()
        os.fsync(out.fileno())
    wrong = size != snapshot.size or snapshot.checksum not in (None, seen.hexdigest())
    if wrong:
        part.unlink()
        raise RefusedError(
            f"the snapshot {snapshot.name} arrived damaged: {size:,} of {snapshot.size:,} bytes, SHA-256 "
            f"{seen.hexdigest()[:12]} instead of {(snapshot.checksum or 'unknown')[:12]}",
            hint="run the same command again; if it happens again, the snapshot itself is damaged",
        )
    part.replace(file)
    work.progress.end(f"{size:,} bytes")


def _is_whole(file: Path, snapshot: Snapshot) -> bool:
    """Whether an earlier try has finished it: only a checksum of the server can say so."""
    return snapshot.checksum is not None and file.exists() and _digest(file) == snapshot.checksum


def _digest(file: Path) -> str:
    found = hashlib.sha256()
    with file.open("rb") as content:
        while chunk := content.read(_CHUNK):
            found.update(chunk)
    return found.hexdigest()


def _write(file: Path, content: bytes) -> None:
    with os.fdopen(_open(file), "wb") as out:
        out.write(content)


def _open(file: Path) -> int:
    return os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)


def _plain(name: str) -> str:
    """A name as one part of a path, never a way out of the folder."""
    return name.replace("/", "_").replace("\\", "_").lstrip(".") or "_"
