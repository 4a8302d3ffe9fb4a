"""What the connected server can do, read once: versions of all nodes, rights, and whether barriers can be trusted."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from qmigrate.errors import NotFoundError, ServerTooOldError, StoreError
from qmigrate.model.inference import ServerText
from qmigrate.model.schema import JsonObject
from qmigrate.model.state import MINIMUM_SERVER, OPERATION_IDS_SINCE, Capabilities, version_of
from qmigrate.model.weight import MOST_ROOM
from qmigrate.store import faults
from qmigrate.store.faults import RefusedRequestError, TransientError
from qmigrate.store.server.nodes import Nodes
from qmigrate.store.server.rest import Rest, segment

Version = tuple[int, int, int]

#: Adding and dropping named vectors works from here on (1.18.0 had panics).
VECTOR_NAMES_SINCE: Version = (1, 18, 1)
#: ``update_mode``: known since 1.17, and the same when a server replays its log since this one.
INSERTS_SINCE: Version = (1, 19, 0)
#: Filters by ``slice``: a share of the points, by the hash of their ids.
SLICES_SINCE: Version = (1, 19, 0)
#: ``match: {prefix}``, and keyword indexes that serve it. Older servers ignore what they don't know of an index.
PREFIXES_SINCE: Version = (1, 19, 0)

LOCAL = Capabilities(
    local=True,
    version=(0, 0, 0),
    label="local Qdrant",
    snapshots=False,
    payload_indexes=False,
    vector_names=True,
    barrier=False,
    nodes=1,
)


def local(path: str, *, shared: bool = False) -> Capabilities:
    """What local mode can do.

    Args:
        shared: whether the client is the application's own.
    """
    return replace(LOCAL, label=f"local Qdrant in {path}", shared=shared)


def why_no_inference(node: Rest, name: str, vector: str, text: ServerText) -> str | None:
    """Why a server makes no vector of a text: a search by it shows that. None where it does.

    A vector that doesn't fit into the collection that is searched was made all the same.
    """
    asked = {"text": text.text, "model": text.model, "options": dict(text.options)}
    body = {"query": asked, "limit": 1, "with_payload": False, **({"using": vector} if vector else {})}
    try:
        node.call("POST", f"/collections/{segment(name)}/points/query", body)
    except RefusedRequestError as error:
        return error.message if "inference" in error.message.lower() else None
    return None


def read(nodes: Nodes) -> Capabilities:
    """Ask every node.

    Raises:
        StoreError: a node can't be reached, denies the key, or is not Qdrant.
        ServerTooOldError: a node is below the oldest supported server.
    """
    versions = {node.label: _version(node) for node in nodes.everyone()}
    label, oldest = min(versions.items(), key=lambda found: found[1])
    shown = ".".join(map(str, oldest))
    if oldest < MINIMUM_SERVER:
        raise ServerTooOldError(
            f"Qdrant at {label} is version {shown}, but qmigrate needs {'.'.join(map(str, MINIMUM_SERVER))} or newer: "
            "older servers drop collection metadata, where the seal is kept, without an error",
            hint="upgrade Qdrant one minor version at a time",
        )
    cluster = _cluster(nodes.main)
    if isinstance(cluster, StoreError):
        # It may be a key that only must not ask this; whether it is one at all shows here.
        nodes.main.get("/collections")
    return Capabilities(
        local=False,
        version=oldest,
        label=f"Qdrant {shown} at {nodes.main.label}",
        snapshots=True,
        payload_indexes=True,
        vector_names=oldest >= VECTOR_NAMES_SINCE,
        barrier=oldest >= OPERATION_IDS_SINCE and why_no_barrier(nodes, {nodes.main: cluster}) is None,
        nodes=len(nodes.watched) + len(nodes.silent),
        peers=_peers(cluster),
        prefixes=oldest >= PREFIXES_SINCE,
        silent=nodes.silent,
        versions=True,
    )


def _cluster(node: Rest) -> JsonObject | StoreError:
    """What a node reports of its cluster, or why it doesn't."""
    try:
        found: JsonObject = node.get("/cluster")
    except StoreError as error:
        return error
    return found


def peers(node: Rest) -> int:
    """Nodes of the cluster as it is now: one may have joined since the connection was made; 0 where it is unknown."""
    return _peers(_cluster(node))


def _peers(cluster: JsonObject | StoreError) -> int:
    """Nodes of the cluster, watched or not; 0 where the key may not ask."""
    if isinstance(cluster, StoreError):
        return 0
    return 1 if cluster.get("status") == "disabled" else len(cluster.get("peers") or {})


def why_no_barrier(nodes: Nodes, clusters: Mapping[Rest, JsonObject | StoreError]) -> str | None:
    """Why operation ids of every shard can't be read, or None when they can.

    Args:
        clusters: what nodes have reported of their cluster already.
    """
    if nodes.silent:
        return nodes.silent[0]
    seen: set[str] = set()
    peers: set[str] = set()
    for node in nodes.watched:
        try:
            node.get("/telemetry", details_level=0)
        except StoreError as error:
            return error.message
        cluster = clusters[node] if node in clusters else _cluster(node)
        if isinstance(cluster, StoreError):
            return cluster.message
        if cluster.get("status") == "disabled":
            continue
        peers.update(str(peer) for peer in cluster.get("peers", {}))
        seen.add(str(cluster.get("peer_id")))
    if peers - seen:
        return f"the cluster has {len(peers)} nodes, but {len(seen)} of them are watched: name them all in qdrant.nodes"
    return None


def disk_size(nodes: Nodes) -> int | None:
    """Bytes of the disk under the server's data, used or not; None when it isn't reported."""
    found = int(_system(nodes).get("disk_size") or 0) * 1024
    return found if 0 < found < MOST_ROOM else None


def cores(nodes: Nodes) -> int | None:
    """Processor cores of the server; None when it isn't reported."""
    found = _system(nodes).get("cores")
    return int(found) if found else None


def _system(nodes: Nodes) -> JsonObject:
    """What the server reports about its machine; nothing where it doesn't."""
    try:
        app = nodes.main.get("/telemetry", details_level=1).get("app") or {}
    except TransientError:
        raise
    except StoreError:
        return {}
    return app.get("system") or {}


def _version(node: Rest) -> Version:
    try:
        body: Any = node.send("GET", "/").json()
    except NotFoundError as error:
        raise faults.not_qdrant(node.label, "it answers 404") from error
    except ValueError as error:
        raise faults.not_qdrant(node.label, "its answer is not JSON") from error
    shown = body.get("version") if isinstance(body, dict) else None
    found = version_of(shown)
    if found is None or "qdrant" not in str(body.get("title", "")).lower():
        raise faults.not_qdrant(node.label, "it doesn't report a Qdrant version")
    return found
