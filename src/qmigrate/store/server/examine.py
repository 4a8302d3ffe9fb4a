"""What a server reports about itself, node by node. It only reads, judges nothing, and needs no collection.

Unlike ``server`` it opens without asking: a node that is down, too old or closed to the key is part of the answer.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import partial
from typing import Any
from urllib.parse import urlsplit

import grpc
import httpx
from qdrant_client import grpc as messages

from qmigrate.errors import DeniedError, NotFoundError, StoreError
from qmigrate.model.health import ClusterHealth, KeyRights, NodeHealth, Peer, Stored, Version
from qmigrate.model.names import PROBE_PREFIX
from qmigrate.model.schema import JsonObject
from qmigrate.model.state import version_of
from qmigrate.model.weight import MOST_ROOM
from qmigrate.store import faults
from qmigrate.store.address import ConnectionSettings
from qmigrate.store.faults import RefusedRequestError
from qmigrate.store.server import aliases
from qmigrate.store.server.collections import path_of
from qmigrate.store.server.nodes import PATIENCE, Nodes, physical_names
from qmigrate.store.server.requests import address, open_channel
from qmigrate.store.server.rest import Rest, segment

#: Most collections that a limited key is tried on, one by one.
MOST_COLLECTIONS = 50


def tried(node: Rest, *, sent: bool) -> KeyRights:
    """What the key of a connection may do.

    Args:
        node: carries the key.
        sent: whether there is one.

    Raises:
        StoreError: the server can't be reached; nothing is known then.
    """
    try:
        names = physical_names(node)
    except DeniedError as error:
        return KeyRights(sent=sent, accepted=False, reason=error.message)
    unknown = f"{PROBE_PREFIX}{uuid.uuid4().hex}"
    reads, reason = _allowed(lambda: node.get("/cluster"))
    manages, refused = _allowed(lambda: aliases.drop(node, unknown))
    found = {} if reads else {name: _access(node, name, unknown) for name in names[:MOST_COLLECTIONS]}
    return KeyRights(
        sent=sent, accepted=True, reads=reads, manages=manages, collections=found, reason=reason or refused
    )


def _access(node: Rest, name: str, unknown: str) -> str:
    """What a limited key may do with one collection that it sees."""
    path = path_of(name)
    snapshot = f"{path}/snapshots/{segment(unknown)}"
    if _allowed(lambda: node.call("DELETE", snapshot, params={"wait": "true"}, retry=False))[0]:
        return "rw"
    body = {"points": [str(uuid.uuid4())], "shard_key": unknown}
    if _allowed(lambda: node.call("POST", f"{path}/points/delete", body, params={"wait": "true"}, retry=False))[0]:
        return "prw"
    return "r" if _allowed(lambda: node.get(path))[0] else "none"


def _allowed(request: Callable[[], object]) -> tuple[bool, str]:
    """Whether a request is let through, and the refusal; what it was let through to and found missing doesn't count."""
    try:
        request()
    except DeniedError as error:
        return False, error.message
    except (NotFoundError, RefusedRequestError):
        pass
    return True, ""


#: Telemetry counts memory and disks of the machine in these.
_KIB = 1024


class Examiner:
    """Examines one server; nothing is sent before the first question.

    Args:
        settings: of a server, not of local mode.
    """

    def __init__(self, settings: ConnectionSettings) -> None:
        self._settings = settings
        self._nodes = Nodes.of(settings)
        self._up: Nodes | None = None

    @property
    def _answering(self) -> Nodes:
        if self._up is None:
            self._up = self._nodes.answering()
        return self._up

    def close(self) -> None:
        """Close the connections."""
        self._nodes.close()

    def nodes(self) -> tuple[NodeHealth, ...]:
        """Every node that the settings name, asked side by side."""
        everyone = self._nodes.everyone()
        with ThreadPoolExecutor(len(everyone)) as pool:
            # One that is down is reported as such at once; a single one is waited for.
            return tuple(pool.map(partial(_node, patient=len(everyone) == 1), everyone))

    def cluster(self) -> ClusterHealth:
        """The cluster, as the first node sees it; which peers are watched is asked of every node.

        Raises:
            StoreError: the node can't be asked, or the key may not ask it.
        """
        up = self._answering
        found = up.main.get("/cluster")
        if found.get("status") == "disabled":
            return ClusterHealth(enabled=False)
        versions = _peer_versions(self._telemetry(up.main, 3))
        watched = {_peer_id(node) for node in up.watched}
        unseen = {str(peer) for peer in found.get("peers") or {}} - watched
        if len(unseen) <= len(up.silent):
            # A node that is down doesn't say which peer it is; it is named in the settings.
            watched |= unseen
        peers = tuple(
            Peer(id=str(peer), uri=entry.get("uri", ""), version=versions.get(str(peer)), watched=str(peer) in watched)
            for peer, entry in sorted((found.get("peers") or {}).items(), key=lambda entry: entry[1].get("uri", ""))
        )
        raft = found.get("raft_info") or {}
        return ClusterHealth(
            enabled=True,
            peers=peers,
            pending=int(raft.get("pending_operations") or 0),
            consensus=_consensus(found.get("consensus_thread_status")),
            leader=bool(raft.get("leader")),
            failures=tuple(
                f"{uri}: {entry.get('latest_error') or entry.get('count')}"
                for uri, entry in sorted((found.get("message_send_failures") or {}).items())
            ),
        )

    def stored(self) -> Mapping[str, Stored]:
        """Physical name -> what it takes on the watched nodes; empty where telemetry doesn't say."""
        found: dict[str, Stored] = {}
        for node in self._answering.watched:
            told = self._telemetry(node, 3).get("collections") or {}
            running = {entry.get("id"): _running(entry) for entry in told.get("snapshots") or ()}
            for entry in told.get("collections") or ():
                if "id" in entry:
                    found[entry["id"]] = _added(found.get(entry["id"]), entry, running.get(entry["id"], 0))
        return found

    def rights(self) -> KeyRights:
        """What the key may do; see :mod:`qmigrate.store.server.examine`."""
        return tried(self._answering.main, sent=self._settings.api_key is not None)

    def points_reachable(self) -> str:
        """Whether the port for points answers: ``host:port``.

        Raises:
            StoreError: it doesn't.
        """
        if self._settings.prefer_rest:
            self._answering.main.get("/collections")
            return self._answering.main.label
        settings = replace(self._settings, url=self._answering.main.url)
        channel = open_channel(settings)
        where = address(settings)
        try:
            stub = messages.QdrantStub(channel)
            metadata = (("api-key", self._settings.api_key),) if self._settings.api_key else ()
            stub.HealthCheck(messages.HealthCheckRequest(), timeout=self._settings.timeout, metadata=metadata)
        except grpc.RpcError as error:
            raise faults.of_rpc(error, where, self._settings.timeout) from error
        finally:
            channel.close()
        return where

    @staticmethod
    def _telemetry(node: Rest, level: int) -> JsonObject:
        found: JsonObject = node.get("/telemetry", details_level=level)
        return found


def _node(node: Rest, *, patient: bool) -> NodeHealth:
    try:
        started = time.monotonic()
        answer = node.repeat(lambda: node.send("GET", "/")) if patient else node.send("GET", "/", timeout=PATIENCE)
        seconds = time.monotonic() - started
        version = _version(answer)
        skew = _skew(answer, seconds)
    except StoreError as error:
        return NodeHealth(label=node.label, problem=error.message, hint=error.hint)
    try:
        told = node.get("/telemetry", details_level=1)
    except StoreError:
        # Its own check reports what the key may not read.
        told = {}
    return _told(NodeHealth(label=node.label, version=version, seconds=seconds, skew=skew), told)


def _told(node: NodeHealth, told: JsonObject) -> NodeHealth:
    app, collections = told.get("app") or {}, told.get("collections") or {}
    system = app.get("system") or {}
    return NodeHealth(
        label=node.label,
        version=node.version,
        seconds=node.seconds,
        skew=node.skew,
        ram=_bytes(system.get("ram_size"), _KIB),
        resident=_bytes((told.get("memory") or {}).get("resident_bytes"), 1),
        disk=_bytes(system.get("disk_size"), _KIB),
        collections=collections.get("number_of_collections"),
        most_collections=collections.get("max_collections"),
        recovery_mode=bool((app.get("features") or {}).get("recovery_mode")),
    )


def _bytes(value: Any, unit: int) -> int | None:
    found = int(value) * unit if value else 0
    # Without a limit a container's is the largest number there is.
    return found if 0 < found < MOST_ROOM else None


def _version(answer: httpx.Response) -> Version:
    try:
        body = answer.json()
    except ValueError:
        body = None
    shown = body.get("version") if isinstance(body, dict) else None
    found = version_of(shown)
    if found is None or "qdrant" not in str(body.get("title", "")).lower():
        raise faults.not_qdrant(urlsplit(str(answer.request.url)).netloc, "it doesn't report a Qdrant version")
    return found


def _skew(answer: httpx.Response, seconds: float) -> float | None:
    """From the answer's Date header, which has whole seconds: less than one of difference is none."""
    try:
        there = parsedate_to_datetime(answer.headers["date"])
    except (KeyError, ValueError):
        return None
    # The header names the second that had begun; on average the answer was written half a second into it.
    ahead = (there - datetime.now(UTC)).total_seconds() + 0.5 + seconds / 2
    return ahead if abs(ahead) >= 1 else 0.0


def _peer_id(node: Rest) -> str | None:
    try:
        return str(node.get("/cluster").get("peer_id"))
    except StoreError:
        return None


def _peer_versions(told: JsonObject) -> dict[str, str | None]:
    known = (told.get("cluster") or {}).get("peer_metadata") or {}
    return {str(peer): entry.get("version") for peer, entry in known.items()}


def _consensus(status: Any) -> str:
    if not isinstance(status, dict):
        return "unknown"
    shown = str(status.get("consensus_thread_status", "unknown"))
    return f"{shown}: {status['err']}" if status.get("err") else shown


def _running(entry: JsonObject) -> int:
    return int(entry.get("running_snapshots") or 0) + int(entry.get("running_snapshot_recovery") or 0)


def _added(known: Stored | None, entry: JsonObject, running: int) -> Stored:
    """One more node's view of a collection: bytes add up, transfers are the same everywhere."""
    before = known or Stored()
    sizes = [_local_bytes(shard.get("local")) for shard in entry.get("shards") or ()]
    told = [size for size in sizes if size is not None]
    total = (before.bytes or 0) + sum(told) if told or before.bytes is not None else None
    transfers = {*before.transfers, *(_transfer(one) for one in entry.get("transfers") or ())}
    return Stored(total, tuple(sorted(transfers)), before.snapshots_running + running)


def _local_bytes(local: Any) -> int | None:
    if not isinstance(local, dict):
        return None
    parts: Iterable[Any] = (local.get("vectors_size_bytes"), local.get("payloads_size_bytes"))
    told = [int(part) for part in parts if part is not None]
    return sum(told) if told else None


def _transfer(entry: JsonObject) -> str:
    return f"shard {entry.get('shard_id')} from peer {entry.get('from')} to peer {entry.get('to')}"
