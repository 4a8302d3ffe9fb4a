"""Server-side snapshots of one collection. It restores nothing."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import UTC, datetime

from qmigrate.errors import NotFoundError, StoreError
from qmigrate.model.schema import JsonObject
from qmigrate.ports import Snapshot
from qmigrate.store.collection import path_of
from qmigrate.store.faults import TransientError
from qmigrate.store.nodes import Nodes, physical_of
from qmigrate.store.rest import Rest, segment

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
