"""Server-side snapshots of one collection. It restores nothing."""

from __future__ import annotations

import hashlib
import re
import shutil
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import IO
from urllib.parse import quote, urlsplit

import httpx

from qmigrate import scratch
from qmigrate.atomic_file import restrict
from qmigrate.errors import NotFoundError, RateLimitedError, StoreError, UnavailableError
from qmigrate.model.schema import JsonObject
from qmigrate.ports import Beat, Recovery, Snapshot
from qmigrate.store.address import ConnectionSettings
from qmigrate.store.faults import TransientError
from qmigrate.store.server.capabilities import Version
from qmigrate.store.server.collections import path_of
from qmigrate.store.server.nodes import Nodes, physical_of
from qmigrate.store.server.rest import Rest, segment

#: From here on a server reads files of its snapshots folder only, and names the folder when it is asked for another.
FOLDER_TOLD_SINCE: Version = (1, 17, 1)
#: Where the folder is in the official image.
USUAL_FOLDER = "/qdrant/snapshots"
_FOLDER = re.compile(r'snapshots directory "(?P<path>[^"\\]+)"')
#: Bytes that must be left on the disk of this host behind a snapshot that passes through it.
_ROOM = 64 * 2**20


class Recoveries:
    """Recover requests to one node.

    Args:
        node: the server; it has made the snapshot itself.
        settings: for the key, which the server needs to fetch from its own address.
        version: of the server.
    """

    def __init__(self, node: Rest, settings: ConnectionSettings, version: Version) -> None:
        self._node = node
        self._key = settings.api_key
        self._version = version

    def recover(self, target: str, source: str, snapshot: Snapshot, location: str, tick: Beat) -> Recovery:
        """See :meth:`qmigrate.ports.Store.recover_snapshot`."""
        if location == "upload":
            return self._upload(target, source, snapshot, tick)
        body: JsonObject = {"priority": "snapshot"}
        if snapshot.checksum is not None:
            body["checksum"] = snapshot.checksum
        if location == "file":
            folder = self._folder(target)
            body["location"] = f"file://{quote(folder)}/{segment(source)}/{segment(snapshot.name)}"
        else:
            if urlsplit(self._node.address).username is not None:
                return Recovery("refused", "its address contains a password, which is not passed on")
            body["location"] = f"{self._node.address}{path_of(source)}/snapshots/{segment(snapshot.name)}"
            if self._key is not None:
                body["api_key"] = self._key
        path = f"{path_of(target)}/snapshots/recover"
        return self._sent(lambda: self._node.send("PUT", path, body, params={"wait": "true"}))

    def _sent(self, send: Callable[[], httpx.Response]) -> Recovery:
        try:
            result = self._node.envelope(send())
        except TransientError as error:
            if not error.unknown:
                raise
            over = error.answered or isinstance(error, RateLimitedError)
            return Recovery("refused" if over else "unclear", error.message)
        except StoreError as error:
            return Recovery("refused", error.message)
        return Recovery("done") if result is True else Recovery("unclear", f"the server answered {result!r}")

    def _folder(self, target: str) -> str:
        """The server's snapshots folder: it names it when it refuses to read elsewhere, which is all that it does."""
        if self._version < FOLDER_TOLD_SINCE:
            return USUAL_FOLDER
        try:
            self._node.send("PUT", f"{path_of(target)}/snapshots/recover", {"location": "file:///"})
        except StoreError as error:
            found = _FOLDER.search(error.message)
            return found["path"] if found else USUAL_FOLDER
        return USUAL_FOLDER

    def _upload(self, target: str, source: str, snapshot: Snapshot, tick: Beat) -> Recovery:
        """Through this process: the file has no name here, so nothing of it stays, however this process ends."""
        try:
            folder = scratch.folder()
        except UnavailableError as error:
            return Recovery("refused", error.message)
        if shutil.disk_usage(folder).free < snapshot.size + _ROOM:
            return Recovery("refused", f"{folder} on this host has no room for a snapshot of {snapshot.size:,} bytes")
        with scratch.file() as content:
            restrict(content)
            try:
                digest = self._download(source, snapshot, content, tick)
            except (StoreError, OSError) as error:
                return Recovery("refused", f"it could not be downloaded: {error}")
            if snapshot.checksum not in (None, digest):
                return Recovery("refused", "it arrived damaged: its checksum differs")
            params = {"wait": "true", "priority": "snapshot", "checksum": snapshot.checksum}
            path, files = f"{path_of(target)}/snapshots/upload", {"snapshot": (snapshot.name, _Watched(content, tick))}
            return self._sent(lambda: self._node.send("POST", path, params=params, files=files))

    def _download(self, source: str, snapshot: Snapshot, out: IO[bytes], tick: Beat) -> str:
        digest = hashlib.sha256()
        for chunk in self._node.stream(f"{path_of(source)}/snapshots/{segment(snapshot.name)}"):
            tick()
            digest.update(chunk)
            out.write(chunk)
        out.flush()
        return digest.hexdigest()


class _Watched:
    """A file that reports its reader's progress: an upload takes long."""

    def __init__(self, content: IO[bytes], tick: Beat) -> None:
        self._content = content
        self._tick = tick

    def read(self, size: int = -1) -> bytes:
        """The next bytes."""
        self._tick()
        return self._content.read(size)

    def seek(self, offset: int, whence: int = 0) -> int:
        """As of any file."""
        return self._content.seek(offset, whence)

    def tell(self) -> int:
        """As of any file."""
        return self._content.tell()

    def fileno(self) -> int:
        """As of any file."""
        return self._content.fileno()


#: Pause between two checks of a snapshot that outlasts its request, in seconds.
_LOOK = 1.0


def create(nodes: Nodes, name: str) -> Snapshot:
    """Make a snapshot and wait for it, also past the request's timeout: the server continues with it.

    Raises:
        StoreError: it failed, or the server stopped working on it and it is not there.
    """
    physical = physical_of(nodes, name)
    before = {made.name for made in listed(nodes.main, name)}
    try:
        answer = nodes.main.send("POST", f"{path_of(name)}/snapshots", params={"wait": "true"})
        return _snapshot(nodes.main.envelope(answer))
    except TransientError as error:
        if not error.unknown:
            raise
        return _outlasting(nodes.main, physical, before, error)


def _outlasting(node: Rest, physical: str, before: set[str], reason: TransientError) -> Snapshot:
    # Asked to work on it first, then for the result: the other order could miss one that ends in between.
    while True:
        working = _running(node, physical)
        fresh = [made for made in listed(node, physical) if made.name not in before]
        if fresh:
            return fresh[-1]
        if not working:
            raise StoreError(f"no snapshot of {physical} was made: {reason.message}", hint=reason.hint) from reason
        time.sleep(_LOOK)


def _running(node: Rest, physical: str) -> bool:
    return any(entry.get("id") == physical and entry.get("running_snapshots") for entry in _under_way(node) or ())


def _under_way(node: Rest) -> list[JsonObject] | None:
    """What the server reports of snapshots being made and recovered, by collection; None when it doesn't."""
    found = node.get("/telemetry", details_level=3)
    entries: list[JsonObject] | None = (found.get("collections") or {}).get("snapshots")
    return entries


def recovering(node: Rest, target: str) -> bool | None:
    """Whether the server works on a recovery of `target`; None when it isn't reported, or the key may not ask.

    A recovery counts from before anything of it can be seen until it is over, also when the caller has disconnected.
    """
    try:
        entries = _under_way(node)
    except TransientError:
        raise
    except StoreError:
        return None
    if entries is None:
        return None
    mine = [entry for entry in entries if entry.get("id") == target]
    if any("running_snapshot_recovery" not in entry for entry in mine):
        return None
    return any(entry["running_snapshot_recovery"] for entry in mine)


def listed(node: Rest, name: str) -> list[Snapshot]:
    """Snapshots of one collection, oldest first."""
    found = [_snapshot(entry) for entry in node.get(f"{path_of(name)}/snapshots")]
    return sorted(found, key=lambda made: (made.created_at or datetime.min.replace(tzinfo=UTC), made.name))


def delete(node: Rest, name: str, snapshot: str) -> None:
    """Delete one snapshot; no error when it is gone."""
    try:
        node.call("DELETE", f"{path_of(name)}/snapshots/{segment(snapshot)}", params={"wait": "true"})
    except NotFoundError:
        return


def read(node: Rest, name: str, snapshot: str) -> Iterator[bytes]:
    """The file of one snapshot, in pieces; nothing is repeated once the first has come."""
    return node.stream(f"{path_of(name)}/snapshots/{segment(snapshot)}")


def _snapshot(found: JsonObject) -> Snapshot:
    made = found.get("creation_time")
    when = datetime.fromisoformat(made) if made else None
    if when is not None and when.tzinfo is None:
        when = when.replace(tzinfo=UTC)
    return Snapshot(name=found["name"], size=int(found["size"]), checksum=found.get("checksum"), created_at=when)
