"""The client's local mode as a ``ports.Store``: one process, one folder, no server. It talks to no network.

What local mode can't do is not pretended: no snapshots, no enforced payload indexes or settings, no operation ids.
The file lock of the folder proves that no other process writes, so barriers and fences have nothing to say; where the
application has lent its own client, that proves nothing, and what it writes is looked for by reading.
"""

from __future__ import annotations

import sqlite3
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from copy import deepcopy
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from qdrant_client import grpc, models
from qdrant_client.conversions.conversion import GrpcToRest, RestToGrpc

from qmigrate.errors import NotFoundError, NoVersionsError, StoreError
from qmigrate.model.ids import Page, pages_of
from qmigrate.model.names import Permit
from qmigrate.model.pages import KeyedPage, ReadyPage
from qmigrate.model.payload_path import drop, put, spelled
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
from qmigrate.store import exact, faults, filters, pages, records
from qmigrate.store.local import shapes
from qmigrate.store.local.folder import MEMORY, TURNS, delete, in_memory, open_folder
from qmigrate.store.local.shapes import Settings
from qmigrate.store.local.transaction import NotCommittedError, committed_once
from qmigrate.store.server import capabilities
from qmigrate.store.server.aliases import MOVED_ASIDE
from qmigrate.store.shapes import SEAL


class Absent(ABC):
    """The part of :class:`qmigrate.ports.Store` that has nothing to do where one process owns the files."""

    @abstractmethod
    def must_exist(self, name: str) -> None:
        """Raise where there is no such collection."""

    def barrier(self, name: str) -> OperationIds:
        """Nothing: the file lock proves that no other process writes."""
        return self.operation_ids(name)

    def operation_ids(self, name: str) -> OperationIds:
        """None; the collection must be there."""
        self.must_exist(name)
        return {}

    def fence(self, name: str) -> JsonObject:
        """Nothing: no other process can write."""
        self.must_exist(name)
        return {}

    def take_tokens(self, name: str) -> int:
        """None passed: there is no limiter."""
        self.must_exist(name)
        return 0

    def lift_fence(self, name: str, prior: JsonObject) -> None:  # noqa: B027
        """Nothing to lift."""

    def create_snapshot(self, name: str) -> Snapshot:
        """Local mode has none.

        Raises:
            StoreError: always.
        """
        raise self._no_snapshots(name)

    def recover_snapshot(self, target: str, source: str, snapshot: Snapshot, location: str, tick: Beat) -> Recovery:  # noqa: ARG002
        """Local mode has none.

        Raises:
            StoreError: always.
        """
        raise self._no_snapshots(source)

    def versions(self, name: str, vector: str, *, ids: Sequence[PointId] | None = None) -> Iterator[VersionPage]:  # noqa: ARG002
        """Local mode has none.

        Raises:
            NoVersionsError: always.
        """
        raise NoVersionsError("local mode has no point versions")

    def placement(self, name: str) -> Placement:
        """There are no shards."""
        self.must_exist(name)
        return Placement()

    def recovering(self, target: str) -> bool | None:  # noqa: ARG002
        """Never."""
        return False

    def disk_size(self) -> int | None:
        """Not looked up: nothing here needs it."""
        return None

    def list_snapshots(self, name: str) -> list[Snapshot]:
        """None; the collection must be there."""
        self.must_exist(name)
        return []

    def delete_snapshot(self, name: str, snapshot: str) -> None:  # noqa: B027
        """Nothing: there can't be one."""

    def read_snapshot(self, name: str, snapshot: str) -> Iterator[bytes]:  # noqa: ARG002
        """Local mode has none.

        Raises:
            StoreError: always.
        """
        raise self._no_snapshots(name)

    def _no_snapshots(self, name: str) -> StoreError:
        return StoreError(
            f"no snapshot of {name}: local mode has none",
            hint="qmigrate snapshot create writes an archive instead",
        )


Result = TypeVar("Result")


class LocalStore(Absent):
    """See :class:`qmigrate.ports.Store`. Safe to use from several threads: one request at a time."""

    def __init__(self, client: Any, path: str, lock: threading.RLock | None = None) -> None:
        # A lock is that of threads which borrow the application's client.
        self._client = client
        self._path = path
        self._lock = lock or threading.RLock()
        self._capabilities = capabilities.local(path, shared=lock is not None)
        self._broken: StoreError | None = None

    @classmethod
    def open(cls, path: str, *, absent: bool = False, patience: float = 0.0) -> LocalStore:
        """Open a folder, made with rights for its owner only when it isn't there; or ``":memory:"``.

        Args:
            absent: the folder is not there, and is not made: something empty stands for it.
            patience: seconds to wait for another thread of this process that has it open.

        Raises:
            LeaseHeldError: another client uses it.
            StoreError: it can't be made or read.
        """
        try:
            held = absent or path == MEMORY
            client = in_memory() if held else TURNS.wait(path, patience, lambda: open_folder(Path(path)))
        except (OSError, ValueError, RuntimeError) as error:
            raise faults.of_local(error, path) from error
        return cls(client, path)

    def _run(self, call: Callable[[], Result]) -> Result:
        with self._lock:
            if self._broken is not None:
                raise self._broken
            try:
                return call()
            except (ValueError, KeyError, RuntimeError, NotImplementedError, OSError, sqlite3.Error) as error:
                raise faults.of_local(error, self._path) from error

    def _write(self, name: str, call: Callable[[], object]) -> None:
        """A request that changes points: on disk when this returns, all of it or nothing that was acknowledged."""

        def written() -> None:
            with committed_once(self._client, name):
                call()

        if self._capabilities.shared:
            # Other threads write through this client: what is acknowledged to them must be on disk.
            self._run(call)
            return
        try:
            self._run(written)
        except StoreError as error:
            if isinstance(error.__cause__, NotCommittedError):
                # Load-bearing: the client shows points that are not on disk, and a proof would believe it.
                self._broken = error
            raise

    @property
    def capabilities(self) -> Capabilities:
        """What local mode can do."""
        return self._capabilities

    @property
    def request_timeout(self) -> float:
        """Nothing continues after a call has returned."""
        return 0.0

    def limited_writes(self, name: str, limit: WriteLimit) -> AbstractContextManager[None]:
        """Nothing to limit."""
        del name, limit
        return nullcontext()

    def must_exist(self, name: str) -> None:
        """Raise where there is no such collection."""
        self._run(lambda: self._client.get_collection(name))

    def physical_names(self) -> tuple[str, ...]:
        """Physical collections, sorted."""
        found = self._run(self._client.get_collections).collections
        return tuple(sorted(entry.name for entry in found))

    def aliases(self) -> dict[str, str]:
        """Alias -> physical name."""
        found = self._run(self._client.get_aliases).aliases
        return {entry.alias_name: entry.collection_name for entry in found}

    def aliases_of_nodes(self) -> tuple[dict[str, str], ...]:
        """The one view there is."""
        return (self.aliases(),)

    def describe(self, name: str) -> LiveCollection | None:
        """The collection, or None when there is none of that name."""
        known = self.aliases()
        physical = known.get(name, name)
        if physical not in self.physical_names():
            return None
        info = self._run(lambda: self._client.get_collection(physical))
        schema, seal = shapes.described(info.config)
        pointing = tuple(sorted(alias for alias, target in known.items() if target == physical))
        return LiveCollection(
            physical=physical, schema=schema.with_(aliases=pointing), seal=seal, points=info.points_count or 0
        )

    def describe_all(self, names: Sequence[str], aliases: object = None) -> dict[str, LiveCollection | None]:  # noqa: ARG002
        """The same for many names."""
        return {name: self.describe(name) for name in names}

    def count(self, name: str, *, missing_field: str | None = None, without_vector: str | None = None) -> int:
        """Exact count; of points whose field is missing, null or empty, or that lack a vector, when asked."""
        wanted = shapes.count_filter(missing_field, without_vector)
        return int(self._run(lambda: self._client.count(name, count_filter=wanted, exact=True)).count)

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
        wanted = payload if isinstance(payload, bool) else list(payload)
        cosine = self._cosine(name) if vectors else frozenset()
        border = None if stop is None else shapes.order(stop)
        chosen = filters.model_of(where) if where is not None else None
        asked = {"scroll_filter": chosen, "limit": page, "with_payload": wanted, "with_vectors": vectors}
        offset, more = start, True
        while more:
            rows, following = self._run(partial(self._client.scroll, name, offset=offset, **asked))
            if border is not None:
                kept = [row for row in rows if shapes.order(row.id) < border]
                more, rows = len(kept) == len(rows), kept
            offset, more = following, more and following is not None
            if rows:
                yield self._stored(rows, cosine)

    def scan_canonical(
        self, name: str, *, start: PointId | None = None, stop: PointId | None = None, page: int = 1000
    ) -> Iterator[KeyedPage]:
        """The same points as bytes that are equal where they are."""
        return map(pages.of_messages, self.scan(name, start=start, stop=stop, page=page))

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
        for rows in self.scan(name, start=start, stop=stop, page=page):
            yield from pages.in_batches(pages.unchanged(rows), after)
            after = None

    def scan_ids(self, name: str, *, page: int = 10_000, where: JsonObject | None = None) -> Iterator[Page]:
        """Ids in Qdrant's order, as arrays."""
        for rows in self.scan(name, page=page, payload=False, vectors=False, where=where):
            yield from pages_of(records.point_id(row) for row in rows)

    def fetch(
        self, name: str, ids: Sequence[PointId], *, payload: bool | Sequence[str] = True, vectors: bool = True
    ) -> list[Stored]:
        """The points of these ids that exist, in any order."""
        if not ids:
            return []
        wanted = payload if isinstance(payload, bool) else list(payload)
        rows = self._run(lambda: self._client.retrieve(name, list(ids), with_payload=wanted, with_vectors=vectors))
        return self._stored(rows, self._cosine(name) if vectors else frozenset())

    def edit_payloads(self, name: str, edits: Sequence[PayloadEdit]) -> None:
        """Set and remove keys, edit by edit."""
        self._write(name, partial(self._edit_payloads, name, edits))

    def _edit_payloads(self, name: str, edits: Sequence[PayloadEdit]) -> None:
        for edit in edits:
            ids = list(edit.ids)
            if any("." in path for path in (*edit.values, *edit.removed)):
                self._edit_inside(name, edit)
                continue
            if edit.values:
                self._run(partial(self._client.set_payload, name, dict(edit.values), points=ids))
            if edit.removed:
                gone = list(map(spelled, edit.removed))
                self._run(partial(self._client.delete_payload, name, gone, points=ids))

    def _edit_inside(self, name: str, edit: PayloadEdit) -> None:
        """The same inside objects, by whole payloads: older clients take no path here, and no other process writes."""
        payloads = deepcopy(self.payloads(name, edit.ids))
        gone = [one for one in edit.ids if one not in payloads]
        if gone:
            raise NotFoundError(f"{name} has no point {gone[0]}")
        for identifier, payload in payloads.items():
            for path, value in edit.values.items():
                put(payload, path, value)
            for path in edit.removed:
                drop(payload, path)
            self._run(partial(self._client.overwrite_payload, name, payload, points=[identifier]))

    def edit_vectors(self, name: str, vectors: Mapping[PointId, Mapping[str, Any]]) -> None:
        """Set these vectors of points that are there."""
        gone = vectors.keys() - {records.point_id(one) for one in self.fetch(name, list(vectors), vectors=False)}
        if gone:
            raise NotFoundError(f"{name} has no point {next(iter(gone))}")
        cosine = self._cosine(name)
        points = [
            models.PointVectors(id=one, vector=shapes.in_unit_form(shapes.vectors_struct(found), cosine, written=True))
            for one, found in vectors.items()
        ]
        self._write(name, lambda: self._client.update_vectors(name, points))

    def payloads(self, name: str, ids: Sequence[PointId]) -> dict[PointId, Payload]:
        """Payloads of the points that exist, exactly."""
        if not ids:
            return {}
        rows = self._run(lambda: self._client.retrieve(name, list(ids), with_payload=True, with_vectors=False))
        return {row.id: row.payload or {} for row in rows}

    def overwrite_payload(self, name: str, point_id: PointId, payload: Payload) -> None:
        """Replace one point's payload exactly."""
        if not self.payloads(name, [point_id]):
            raise NotFoundError(f"{name} has no point {point_id}")
        self._run(lambda: self._client.overwrite_payload(name, payload, points=[point_id], wait=True))

    def sample_ids(self, name: str, count: int, *, having: str | None = None) -> list[PointId]:
        """Up to `count` ids at random, unsorted; of points that have a vector, where one is named."""
        if count <= 0:
            return []
        query = models.SampleQuery(sample=models.Sample.RANDOM)
        among = models.Filter(must=[models.HasVectorCondition(has_vector=having)]) if having is not None else None
        asked = {"query": query, "query_filter": among, "limit": count, "with_payload": False}
        found = self._run(lambda: self._client.query_points(name, **asked))
        return [point.id for point in found.points]

    def nearest(
        self,
        name: str,
        vector: str,
        queries: Sequence[Any],
        *,
        limit: int,
        among: Sequence[PointId] | None = None,
        **_how: Any,
    ) -> list[list[PointId]]:
        """The nearest points of each query; there is no index, so every search is exact."""
        chosen = None if among is None else models.Filter(must=[models.HasIdCondition(has_id=list(among))])
        how = {"using": vector or None, "limit": limit, "filter": chosen}
        asked = [models.QueryRequest(query=shapes.query_of(one), **how) for one in queries]
        found = self._run(lambda: self._client.query_batch_points(name, asked)) if asked else []
        return [[point.id for point in one.points] for one in found]

    def why_no_inference(self, name: str, vector: str, text: object) -> str:  # noqa: ARG002
        """It has no models."""
        return "local mode makes no vectors itself"

    def facet(self, name: str, field: str, most: int) -> None:  # noqa: ARG002
        """There are no payload indexes."""
        return

    def create_collection(self, name: str, schema: CollectionSchema, *, seal: JsonObject | None) -> None:
        """Make it; payload indexes and most settings have no effect here, and are not kept."""
        wanted = shapes.creation(schema, seal)
        self._run(lambda: self._client.create_collection(name, **wanted))

    def complete_collection(self, name: str, schema: CollectionSchema, *, defer_index: bool) -> None:  # noqa: ARG002
        """Text indexes that rank; there is nothing else that one request can't make."""
        self.must_exist(name)
        for field in sorted(schema.indexes):
            self._index(name, field, None, schema.indexes[field])

    def build_index(self, name: str, schema: CollectionSchema) -> None:
        """Nothing: there is no index."""

    def readiness(self, name: str) -> Readiness:
        """Always settled."""
        points = self.count(name)
        return Readiness(settled=True, detail="green", points=points)

    def apply(self, name: str, change: Change) -> None:
        """One piece of in-place work, repeatable; what has no effect in local mode is left out."""
        match change.kind:
            case "vector.add" | "sparse.add":
                config = shapes.new_vector(change)
                self._write(name, lambda: self._client.create_vector_name(name, change.name, config))
            case "vector.drop" | "sparse.drop":
                self._drop_vector(name, change.name)
            case "vector.alter" | "sparse.alter" | "config.set":
                wanted: Settings = shapes.update(change)
                if wanted:
                    self._run(lambda: self._client.update_collection(name, **wanted))
            case "index.add" | "index.alter" | "index.drop":
                self._run(lambda: self._client.get_collection(name))
                self._index(name, change.name, change.before, change.after)
            case _:
                raise StoreError(f"{change.kind} is not a change of a collection")

    def _index(self, name: str, field: str, before: JsonObject | None, after: JsonObject | None) -> None:
        """Text indexes that rank by BM25 are the only ones that local mode has."""
        if after is not None and after.get("scoring"):
            made = models.TextIndexParams(**after)
            self._run(lambda: self._client.create_payload_index(name, field, made))
        elif before is not None and before.get("scoring"):
            self._run(lambda: self._client.delete_payload_index(name, field))

    def _drop_vector(self, name: str, vector: str) -> None:
        found = self.describe(name)
        if found is None or vector in found.schema.vector_names():
            self._write(name, lambda: self._client.delete_vector_name(name, vector))

    def flush(self, name: str) -> None:
        """Nothing waits in local mode."""
        self.must_exist(name)

    def drop_collection(self, permit: Permit) -> None:
        """Delete a physical collection; no error when it is gone."""
        name = permit.use(0.0)
        self._run(lambda: delete(self._client, self._path, name))

    def place_replicas(self, name: str, factor: int) -> tuple[str, ...]:  # noqa: ARG002
        """There is one node."""
        return ()

    def write_seal(self, name: str, seal: JsonObject | None) -> None:
        """Set or remove the metadata key ``qmigrate``."""
        self._run(lambda: self._client.update_collection(name, metadata={SEAL: seal}))

    def create_alias(self, alias: str, target: str) -> None:
        """Makes or re-points."""
        self._change_aliases([_creation(alias, target)])

    def drop_alias(self, alias: str) -> None:
        """No error when it is gone."""
        self._change_aliases([_deletion(alias)])

    def change_aliases(
        self, guard: str, *, make: Mapping[str, str] | None = None, drop: Sequence[str] = ()
    ) -> None:
        """All or none: makes and removes aliases, if `guard` is still there."""
        aside = f"{guard}__{MOVED_ASIDE}"
        made = [_creation(alias, target) for alias, target in (make or {}).items()]
        self._change_aliases([_renaming(guard, aside), _renaming(aside, guard), *made, *map(_deletion, drop)])

    def hides_collections(self) -> bool:
        """Local mode refuses such an alias."""
        return False

    def rename_aliases(self, pairs: Sequence[tuple[str, str]], drop: Sequence[str] = ()) -> None:
        """All or none: re-points every `new`, then removes `drop`."""
        self._change_aliases([*(_renaming(old, new) for old, new in pairs), *map(_deletion, drop)])

    def _change_aliases(self, actions: list[Any]) -> None:
        self._run(lambda: self._client.update_collection_aliases(change_aliases_operations=actions))

    def upsert(self, name: str, points: Sequence[Ready], *, new_only: bool = False) -> PendingWrite:
        """Replace or insert points; it is done when this returns, and a failure shows in ``wait``."""
        try:
            cosine = self._cosine(name)
            found = [_struct_of(point) for point in points]
            there = self.fetch_ids(name, [point.id for point in found]) if new_only else set()
            found = [point for point in found if point.id not in there]
            for point in found:
                point.vector = shapes.in_unit_form(point.vector, cosine, written=True)
            if found:
                self._write(name, lambda: self._client.upsert(name, found, wait=True))
        except StoreError as error:
            return Done(error)
        return Done(None)

    def _cosine(self, name: str) -> frozenset[str]:
        return shapes.cosine_vectors(self._run(lambda: self._client.get_collection(name)).config.params.vectors)

    def _stored(self, rows: Sequence[models.Record], cosine: frozenset[str]) -> list[Stored]:
        for row in rows:
            row.vector = shapes.in_unit_form(row.vector, cosine)
        return [_message_of(row) for row in rows]

    def fetch_ids(self, name: str, ids: Sequence[PointId]) -> set[PointId]:
        """Those of these ids that exist."""
        return {records.point_id(stored) for stored in self.fetch(name, ids, payload=False, vectors=False)}

    def delete(self, name: str, ids: Sequence[PointId]) -> None:
        """Delete points; missing ids are not an error. There are no operation ids."""
        if ids:
            self._write(name, lambda: self._client.delete(name, points_selector=list(ids), wait=True))

    def cores(self) -> int | None:
        """There is no server."""
        return None

    def client(self) -> AbstractContextManager[Any]:
        """The client itself, which is left open: it is the only one that the folder lets in."""
        return nullcontext(self._client)

    def all_answered(self) -> bool:
        """Always: a call that has returned is over."""
        return True

    def close(self) -> None:
        """Close the files and release the lock."""
        with self._lock:
            self._client.close()
        TURNS.over(self._path, self._client)


def _creation(alias: str, target: str) -> models.CreateAliasOperation:
    return models.CreateAliasOperation(create_alias=models.CreateAlias(collection_name=target, alias_name=alias))


def _renaming(old: str, new: str) -> models.RenameAliasOperation:
    return models.RenameAliasOperation(rename_alias=models.RenameAlias(old_alias_name=old, new_alias_name=new))


def _message_of(row: models.Record) -> Stored:
    """A record as a message, with payload numbers of any size; the conversion of the library takes 64 bits."""
    payload, row.payload = row.payload or {}, {}
    message = RestToGrpc.convert_record(row)
    for key, plain in payload.items():
        message.payload[key].CopyFrom(exact.value_of(plain))
    return message


def _struct_of(point: Ready) -> models.PointStruct:
    """The inverse, for a point to be written; the unnamed vector by its name: alone it is refused next to others."""
    message = grpc.PointStruct.FromString(point)
    payload = records.payload_of(message)
    message.ClearField("payload")
    made: models.PointStruct = GrpcToRest.convert_point_struct(message)
    made.payload, made.vector = payload, {"": made.vector} if isinstance(made.vector, list) else made.vector
    return made


def _deletion(alias: str) -> models.DeleteAliasOperation:
    return models.DeleteAliasOperation(delete_alias=models.DeleteAlias(alias_name=alias))


class Done:
    """A :class:`qmigrate.ports.PendingWrite` that is over."""

    __slots__ = ("_error",)

    def __init__(self, error: StoreError | None) -> None:
        self._error = error

    def wait(self) -> None:
        """Raise what went wrong, if anything."""
        if self._error is not None:
            raise self._error
