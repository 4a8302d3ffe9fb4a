"""A Qdrant server as a ``ports.Store``: administration over REST, points over gRPC. It only joins the parts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, closing, contextmanager
from dataclasses import replace
from itertools import groupby
from typing import Any

from qmigrate.model.ids import Page
from qmigrate.model.inference import ServerText
from qmigrate.model.names import Permit
from qmigrate.model.pages import KeyedPage, ReadyPage
from qmigrate.model.schema import Change, CollectionSchema, JsonObject
from qmigrate.model.state import Capabilities, LiveCollection
from qmigrate.model.transform import Payload, PointId
from qmigrate.ports import (
    Beat,
    OperationIds,
    PayloadEdit,
    PendingWrite,
    Placement,
    Readiness,
    Ready,
    Recovery,
    Snapshot,
    Stored,
    VersionPage,
    WriteLimit,
)
from qmigrate.store import exact, filters, records
from qmigrate.store.address import ConnectionSettings
from qmigrate.store.faults import RefusedRequestError
from qmigrate.store.pages import ReadyPoints
from qmigrate.store.server import (
    aliases,
    capabilities,
    collections,
    fencing,
    hiding,
    nodes,
    payloads,
    snapshots,
)
from qmigrate.store.server.nodes import Nodes
from qmigrate.store.server.points import Points
from qmigrate.store.server.rest import own_client
from qmigrate.store.server.snapshots import Recoveries
from qmigrate.store.server.versions import Versions


class ServerStore:
    """See :class:`qmigrate.ports.Store`. Safe to use from several threads."""

    def __init__(self, settings: ConnectionSettings, found: Nodes, able: Capabilities) -> None:
        self._settings = settings
        self._nodes = found
        self._main = found.main
        self._capabilities = able
        self._hides = hiding.Hides()
        self._points = Points(settings, lambda name: fencing.strict_mode(found.main, name), self.payloads, found.main)
        self._versions = Versions(self._points, found.main, slices=able.version >= capabilities.SLICES_SINCE)

    @classmethod
    def open(cls, settings: ConnectionSettings, *, partial: bool = False) -> ServerStore:
        """Connect, and read what the server can do.

        Args:
            partial: continue with the nodes that answer, for what only reads; see ``Capabilities.silent``.

        Raises:
            StoreError: it can't be reached, denies the key, or is not Qdrant; without `partial` also where one of
                several nodes gives no answer.
            ServerTooOldError: a node is too old.
        """
        found = Nodes.of(settings)
        try:
            if not partial:
                found.check_all_answer()
            up = found.answering() if partial else found
            if up.silent:
                found.close()
                # What is on nodes that are down is asked for in vain: not for long. Points travel to this address, too.
                urls, patience = tuple(node.url for node in up.watched), min(settings.timeout, nodes.PATIENCE)
                settings = replace(settings, url=up.main.url, nodes=urls, timeout=patience)
                found = replace(Nodes.of(settings), silent=up.silent)
            return cls(settings, found, capabilities.read(found))
        except BaseException:
            found.close()
            raise

    @property
    def capabilities(self) -> Capabilities:
        """Read once at connection."""
        return self._capabilities

    @property
    def request_timeout(self) -> float:
        """The longest time in seconds that one request of ours can take inside the server."""
        return self._settings.timeout

    @contextmanager
    def limited_writes(self, name: str, limit: WriteLimit) -> Iterator[None]:
        """While the block runs, writes of points to this name end after the limit, and are sent again."""
        if self._settings.prefer_rest:
            limit.lift()
        self._points.limits[name] = limit
        try:
            yield
        finally:
            del self._points.limits[name]

    def physical_names(self) -> tuple[str, ...]:
        """Physical collections, sorted."""
        return nodes.physical_names(self._main)

    def aliases(self) -> dict[str, str]:
        """Alias -> physical name."""
        return nodes.aliases(self._main)

    def aliases_of_nodes(self) -> tuple[dict[str, str], ...]:
        """The same, read from every node."""
        return tuple(nodes.aliases(node) for node in self._nodes.everyone())

    def describe(self, name: str) -> LiveCollection | None:
        """The collection, or None when there is none of that name."""
        return collections.describe(self._nodes, name)

    def describe_all(
        self, names: Sequence[str], aliases: Mapping[str, str] | None = None
    ) -> dict[str, LiveCollection | None]:
        """The same for many names, with fewer requests and several at a time."""
        return collections.describe_all(self._nodes, names, aliases)

    def count(self, name: str, *, missing_field: str | None = None, without_vector: str | None = None) -> int:
        """Exact count; of points whose field is missing, null or empty, or that lack a vector, when asked."""
        try:
            return fencing.count(self._main, name, missing_field=missing_field, without_vector=without_vector)
        except RefusedRequestError:
            asked = missing_field is not None or without_vector is not None
            if asked or not fencing.exact_is_refused(self._main, name):
                raise
            return sum(map(len, self.scan_ids(name)))

    def scan(
        self,
        name: str,
        *,
        start: PointId | None = None,
        stop: PointId | None = None,
        page: int = 1000,
        payload: bool | Sequence[str] = True,
        vectors: bool = True,
        where: JsonObject | None = None,
    ) -> Iterator[Sequence[Stored]]:
        """Pages in Qdrant's order, from `start` up to before `stop`."""
        wanted = filters.wire_of(where) if where is not None else None
        return self._points.scan(
            name, start=start, stop=stop, page=page, payload=payload, vectors=vectors, where=wanted
        )

    def scan_canonical(
        self, name: str, *, start: PointId | None = None, stop: PointId | None = None, page: int = 1000
    ) -> Iterator[KeyedPage]:
        """The same points as bytes that are equal where they are."""
        return self._points.scan_canonical(name, start=start, stop=stop, page=page)

    def scan_ready(
        self,
        name: str,
        *,
        start: PointId | None = None,
        after: PointId | None = None,
        stop: PointId | None = None,
        page: int = 1000,
    ) -> Iterator[ReadyPage]:
        """The same points as they are written to another collection."""
        return self._points.scan_ready(name, start=start, after=after, stop=stop, page=page)

    def scan_ids(self, name: str, *, page: int = 10_000, where: JsonObject | None = None) -> Iterator[Page]:
        """Ids in Qdrant's order, as arrays."""
        return self._points.scan_ids(name, page=page, where=filters.wire_of(where) if where is not None else None)

    def fetch(
        self, name: str, ids: Sequence[PointId], *, payload: bool | Sequence[str] = True, vectors: bool = True
    ) -> list[Stored]:
        """The points of these ids that exist, in any order."""
        return self._points.fetch(name, ids, payload=payload, vectors=vectors)

    def fetch_ids(self, name: str, ids: Sequence[PointId]) -> set[PointId]:
        """Those of these ids that exist."""
        return self._points.fetch_ids(name, ids)

    def versions(self, name: str, vector: str, *, ids: Sequence[PointId] | None = None) -> Iterator[VersionPage]:
        """The number of the operation that last wrote each point; see :class:`~qmigrate.ports.Store`."""
        return self._versions.listed(name, vector, ids)

    def placement(self, name: str) -> Placement:
        """Where the shards are now, as the asked node sees it."""
        return collections.placement(self._main, name)

    def payloads(self, name: str, ids: Sequence[PointId]) -> dict[PointId, Payload]:
        """Payloads of the points that exist, exactly."""
        return payloads.read(self._main, name, ids)

    def overwrite_payload(self, name: str, point_id: PointId, payload: Payload) -> None:
        """Replace one point's payload exactly, and wait."""
        payloads.overwrite(self._main, name, point_id, payload)

    def sample_ids(self, name: str, count: int, *, having: str | None = None) -> list[PointId]:
        """Up to `count` ids at random, unsorted; of points that have a vector, where one is named."""
        return fencing.sample_ids(self._main, name, count, having)

    def nearest(
        self,
        name: str,
        vector: str,
        queries: Sequence[Any],
        *,
        limit: int,
        exact: bool,
        ef: int | None = None,
        among: Sequence[PointId] | None = None,
    ) -> list[list[PointId]]:
        """The nearest points of each query."""
        how = {"limit": limit, "exact": exact, "ef": ef, "among": among}
        return self._points.nearest(name, vector, queries, how)

    def why_no_inference(self, name: str, vector: str, text: ServerText) -> str | None:
        """Why the server makes no vector of a text; None where it does."""
        return capabilities.why_no_inference(self._main, name, vector, text)

    def facet(self, name: str, field: str, most: int) -> dict[str | int | bool, int] | None:
        """Value -> points that have it, exactly; see :class:`~qmigrate.ports.Store`."""
        return fencing.facet(self._main, name, field, most)

    def create_collection(self, name: str, schema: CollectionSchema, *, seal: JsonObject | None) -> None:
        """Make it, by one request."""
        collections.create(self._main, name, schema, seal=seal)

    def complete_collection(self, name: str, schema: CollectionSchema, *, defer_index: bool) -> None:
        """What one request can't make of a new collection; with `defer_index` no HNSW graph is built yet."""
        collections.complete(self._main, name, schema, defer_index=defer_index)

    def build_index(self, name: str, schema: CollectionSchema) -> None:
        """Undo the deferral of :meth:`complete_collection`."""
        collections.build_index(self._main, name, schema)

    def readiness(self, name: str) -> Readiness:
        """One reading."""
        return collections.readiness(self._nodes, name)

    def apply(self, name: str, change: Change) -> None:
        """One piece of in-place work, repeatable."""
        collections.apply(self._main, name, change)

    def flush(self, name: str) -> None:
        """A write that changes nothing, through every shard's queue."""
        fencing.flush(self._nodes, name)

    def drop_collection(self, permit: Permit) -> None:
        """Delete a physical collection, by one request; no error when it is gone."""
        collections.drop(self._main, permit)

    def place_replicas(self, name: str, factor: int) -> tuple[str, ...]:
        """Order replicas that are missing or too much; what is left to wait for."""
        return collections.place(self._nodes, name, factor)

    def write_seal(self, name: str, seal: JsonObject | None) -> None:
        """Set or remove the metadata key ``qmigrate``."""
        collections.write_seal(self._main, name, seal)

    def create_alias(self, alias: str, target: str) -> None:
        """One CreateAlias: makes or re-points."""
        aliases.create(self._main, alias, target)

    def drop_alias(self, alias: str) -> None:
        """No error when it is gone."""
        aliases.drop(self._main, alias)

    def change_aliases(
        self, guard: str, *, make: Mapping[str, str] | None = None, drop: Sequence[str] = ()
    ) -> None:
        """One request that makes and removes aliases, if `guard` is still there."""
        aliases.guarded(self._main, guard, make=make, drop=drop)

    def hides_collections(self) -> bool:
        """Whether an alias may take the name of a collection: never with several nodes, where nothing is tried."""
        if self._capabilities.may_be_several or capabilities.peers(self._main) != 1:
            return False
        return self._hides.look(self._nodes, self._settings.timeout)

    def rename_aliases(self, pairs: Sequence[tuple[str, str]], drop: Sequence[str] = ()) -> None:
        """One request of RenameAlias actions (old, new), and then DeleteAlias: re-points `new` atomically."""
        aliases.rename(self._main, pairs, drop)

    def upsert(self, name: str, points: Sequence[Ready], *, new_only: bool = False) -> PendingWrite:
        """Start replacing or inserting points; those that gRPC can't carry go over REST, and are waited for later."""
        new_only = new_only and self._capabilities.version >= capabilities.INSERTS_SINCE
        # Those that were moved as bytes hold none: nothing was added to them.
        marked = [] if isinstance(points, ReadyPoints) else [point for point in points if exact.is_marked(point)]
        if not marked:
            return self._points.upsert(name, points, new_only=new_only)
        if name in self._points.limits:
            # REST has the time of every other request.
            self._points.limits[name].lift()
        left = [point for point in points if not exact.is_marked(point)]
        others = self._points.upsert(name, left, new_only=new_only) if left else None
        return payloads.ExactUpsert(
            self._main, name, others, marked, lambda point: self._points.upsert(name, [point]), new_only=new_only
        )

    def delete(self, name: str, ids: Sequence[PointId]) -> int | None:
        """Delete points and wait; missing ids are not an error. The operation id of the last request."""
        return self._points.delete(name, ids)

    def edit_payloads(self, name: str, edits: Sequence[PayloadEdit]) -> None:
        """Set and remove payload keys, in this order, and wait."""
        for large, group in groupby(edits, key=lambda edit: exact.holds_beyond(dict(edit.values))):
            if large:
                for edit in group:
                    payloads.edit(self._main, name, edit)
            else:
                for request in payloads.requests(name, list(group)):
                    self._points.update(request)

    def edit_vectors(self, name: str, vectors: Mapping[PointId, Mapping[str, Any]]) -> None:
        """Set these vectors of points that are there, and wait."""
        self._points.edit_vectors(name, [records.with_vectors(*one) for one in vectors.items()])

    def barrier(self, name: str) -> OperationIds:
        """A write that changes nothing, through every shard's queue; the operation ids after it, of every node."""
        return fencing.barrier(self._nodes, name)

    def operation_ids(self, name: str) -> OperationIds:
        """Operation ids as they stand now, of every node."""
        return fencing.operation_ids(self._nodes, name)

    def fence(self, name: str) -> JsonObject:
        """Limit writes to one per minute and shard, seen on every node; returns the strict mode before."""
        return fencing.fence(self._nodes, name, self._settings.timeout)

    def take_tokens(self, name: str) -> int:
        """Use up what the limiter of each shard still lets pass; how many such writes passed on every shard."""
        return fencing.take_tokens(self._nodes, name)

    def lift_fence(self, name: str, prior: JsonObject) -> None:
        """Restore the earlier strict mode."""
        fencing.lift_fence(self._nodes, name, prior)

    def create_snapshot(self, name: str) -> Snapshot:
        """Make a server-side snapshot and wait for it."""
        return snapshots.create(self._nodes, name)

    def recover_snapshot(self, target: str, source: str, snapshot: Snapshot, location: str, tick: Beat) -> Recovery:
        """Make the new collection `target` of a snapshot of `source`; see the protocol."""
        able = Recoveries(self._main, self._settings, self._capabilities.version)
        return able.recover(target, source, snapshot, location, tick)

    def recovering(self, target: str) -> bool | None:
        """Whether the server works on a recovery of this name; None when it isn't reported."""
        return snapshots.recovering(self._main, target)

    def disk_size(self) -> int | None:
        """Bytes of the disk under the server's data; None when it isn't reported."""
        return capabilities.disk_size(self._nodes)

    def list_snapshots(self, name: str) -> list[Snapshot]:
        """Snapshots of one collection, oldest first."""
        return snapshots.listed(self._main, name)

    def delete_snapshot(self, name: str, snapshot: str) -> None:
        """Delete one snapshot; no error when it is gone."""
        snapshots.delete(self._main, name, snapshot)

    def read_snapshot(self, name: str, snapshot: str) -> Iterator[bytes]:
        """The file of one snapshot, in pieces."""
        return snapshots.read(self._main, name, snapshot)

    def cores(self) -> int | None:
        """Processor cores of the node that is asked."""
        return capabilities.cores(self._nodes)

    def client(self) -> AbstractContextManager[Any]:
        """A client of its own, with the address, key and certificate of the settings."""
        return closing(own_client(self._settings))

    def all_answered(self) -> bool:
        """Whether nothing of what was sent can still be carried out; what is under way is waited for."""
        parts = [self._points.answers, *(node.answers for node in self._nodes.everyone())]
        return all(part.all_known(self.request_timeout) for part in parts)

    def close(self) -> None:
        """Release connections."""
        self._points.close()
        self._nodes.close()
