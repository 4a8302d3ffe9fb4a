"""The seams: what the engine needs of a vector store, an embedder and a display. Protocols only, no implementation."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from qmigrate.model.ids import Page
from qmigrate.model.inference import ServerText
from qmigrate.model.names import EpochAlias, Permit
from qmigrate.model.pages import KeyedPage, ReadyPage
from qmigrate.model.schema import Change, CollectionSchema, JsonObject
from qmigrate.model.state import Capabilities, LiveCollection
from qmigrate.model.transform import Payload, PointId

#: A stored point as the store returns it. Opaque outside ``store``; read it with ``store.records``.
Stored = Any
#: A point ready to be written: the bytes of a ``PointStruct`` message, made by ``store.records``.
Ready = bytes
#: Operation ids by (node, shard): what a barrier saw.
OperationIds = Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A server-side snapshot; `checksum` is SHA-256 in hex, `size` in bytes."""

    name: str
    size: int
    checksum: str | None
    created_at: datetime | None = None


class VersionPage(NamedTuple):
    """Some points with the numbers of the operations that last wrote them, in their shards.

    Attributes:
        ids: of one kind, as an array, see :mod:`qmigrate.model.ids`; in no order.
        numbers: of the same length, ``uint64``.
    """

    ids: Page
    numbers: NDArray[np.uint64]


@dataclass(frozen=True, slots=True)
class Placement:
    """Where the shards of a collection are; empty in local mode.

    Attributes:
        replicas: (shard, peer, state) of each, sorted.
        moving: transfers and reshardings that are under way, one line each, sorted.
    """

    replicas: tuple[tuple[int, int, str], ...] = ()
    moving: tuple[str, ...] = ()

    @property
    def most(self) -> int:
        """Replicas of the shard that has the most; 0 where that is not known."""
        return max(Counter(shard for shard, _, _ in self.replicas).values(), default=0)


#: How a server can be given one of its own snapshots, in the order in which they are tried: it fetches it from its own
#: address, it reads it from its own folder, or it is sent back to it through this process.
RECOVER_LOCATIONS = ("url", "file", "upload")


@dataclass(frozen=True, slots=True)
class PayloadEdit:
    """The same change of some points' payloads.

    Attributes:
        ids: of the points.
        values: key, or path as ``a.b``, -> value that it gets; other keys stay.
        removed: keys and paths that go.
    """

    ids: Sequence[PointId]
    values: Mapping[str, Any]
    removed: Sequence[str] = ()


class Beat(Protocol):
    """Called now and then by long work."""

    def __call__(self) -> None:
        """May raise to end it."""


@dataclass(frozen=True, slots=True)
class Recovery:
    """What is known of a recovery after its request.

    Attributes:
        state: ``done``; ``refused`` (the server has answered that it failed: nothing runs any more); ``unclear``
            (no answer: it may have failed, be over, or run on in the server for hours).
        reason: why it is not done, for people.
    """

    state: str
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Readiness:
    """One reading of how far a collection's optimizers are.

    Attributes:
        settled: green, no queued update, no deferred point, no optimization running or queued.
        detail: for the progress line, e.g. ``yellow, 3 optimizations queued``.
        failed: the optimizer's error, or None.
        points: points, approximate.
        queue: updates that are accepted and not done; None where a server doesn't tell.
        indexed: vectors that are in a graph, approximate; None without one.
        segments: that a search goes through; None likewise.
        moved: what differs from an earlier reading as soon as the optimizers have got on.
        waiting: segments that are optimized, or wait for that; None where a server doesn't tell.
    """

    settled: bool
    detail: str
    failed: str | None = None
    points: int = 0
    queue: int | None = None
    indexed: int | None = None
    segments: int | None = None
    moved: str = ""
    waiting: frozenset[str] | None = None


class WriteLimit(Protocol):
    """How long a write of points may take, where that is less than any other request."""

    @property
    def seconds(self) -> float:
        """That a write which is sent now may take."""

    def exceeded(self, used: float) -> None:
        """A write has taken longer than `used` seconds, its limit; called before it is sent again."""

    def lift(self) -> None:
        """Called before a write that the limit can't be kept for."""


class PendingWrite(Protocol):
    """A write under way."""

    def wait(self) -> int | None:
        """Return when the server reports it *completed*; anything else is an error.

        Returns:
            The operation id that it got; None where it isn't known, or several requests were made of it.

        Raises:
            StoreError: it failed, or its outcome stayed unknown after the retries. Writes are idempotent by id.
        """


class Store(Protocol):
    """Everything the engine asks of Qdrant. Every method but the ones named *write* only reads.

    `name` is a physical name or an alias, as in Qdrant; what changes something there takes an own alias of the lease
    epoch, so that a holder of the past changes nothing any more. Errors are those of :mod:`qmigrate.errors`.
    """

    @property
    def capabilities(self) -> Capabilities:
        """Read once at connection."""

    @property
    def request_timeout(self) -> float:
        """The longest time in seconds that one request of ours can run on inside the server; 0 in local mode."""

    def limited_writes(self, name: EpochAlias, limit: WriteLimit) -> AbstractContextManager[None]:
        """While the block runs, :meth:`upsert` and :meth:`delete` by this name end after it; they are sent again."""

    def physical_names(self) -> tuple[str, ...]:
        """Physical collections, sorted."""

    def aliases(self) -> dict[str, str]:
        """Alias -> physical name."""

    def aliases_of_nodes(self) -> tuple[dict[str, str], ...]:
        """The same, read from every node."""

    def describe(self, name: str) -> LiveCollection | None:
        """The collection, or None when there is none of that name."""

    def describe_all(
        self, names: Sequence[str], aliases: Mapping[str, str] | None = None
    ) -> dict[str, LiveCollection | None]:
        """The same for many names at once, by these; `aliases` are those that :meth:`aliases` has just returned."""

    def count(self, name: str, *, missing_field: str | None = None, without_vector: str | None = None) -> int:
        """Exact count; of points whose payload field is missing, null or empty, or that lack a vector, when asked."""

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
        """Pages in Qdrant's order (unsigned ids ascending, then UUIDs by bytes), from `start` up to before `stop`.

        Args:
            where: a filter in REST shape; None for every point.

        Raises:
            UsageError: it is not a filter.
        """

    def scan_canonical(
        self, name: str, *, start: PointId | None = None, stop: PointId | None = None, page: int = 1000
    ) -> Iterator[KeyedPage]:
        """The same points as :meth:`scan` gives, complete, in pages of bytes: to be compared and digested."""

    def scan_ready(
        self,
        name: str,
        *,
        start: PointId | None = None,
        after: PointId | None = None,
        stop: PointId | None = None,
        page: int = 1000,
    ) -> Iterator[ReadyPage]:
        """The same points, complete and unchanged, as they are written to another collection.

        Args:
            after: the first point is left out where it is this one.
        """

    def scan_ids(self, name: str, *, page: int = 10_000, where: JsonObject | None = None) -> Iterator[Page]:
        """Ids alone, as arrays, in the order of :meth:`scan`; see :mod:`qmigrate.model.ids`. Many times faster."""

    def fetch(
        self, name: str, ids: Sequence[PointId], *, payload: bool | Sequence[str] = True, vectors: bool = True
    ) -> list[Stored]:
        """The points of these ids that exist, in any order."""

    def fetch_ids(self, name: str, ids: Sequence[PointId]) -> set[PointId]:
        """Those of these ids that exist; faster than :meth:`fetch`."""

    def versions(self, name: str, vector: str, *, ids: Sequence[PointId] | None = None) -> Iterator[VersionPage]:
        """The number of the operation that last wrote each point; in no order.

        Points without the vector are not listed. **A point that isn't listed isn't gone**: next to large updates some
        are left out, and have to be asked for by their ids.

        Args:
            vector: a dense vector, or multivector, of the collection.
            ids: of the points that are asked for; None for all.

        Raises:
            NoVersionsError: there are no such numbers (local mode), or strict mode forbids to list them.
        """

    def placement(self, name: str) -> Placement:
        """Where the shards are now, as one node sees it."""

    def payloads(self, name: str, ids: Sequence[PointId]) -> dict[PointId, Payload]:
        """Payloads of the points that exist, exactly: integers of 2^63 and more too. For few points: it is slow."""

    def overwrite_payload(self, name: EpochAlias, point_id: PointId, payload: Payload) -> None:
        """*Write.* Replace one point's payload exactly, and wait; see :meth:`payloads`.

        Raises:
            NotFoundError: there is no such point.
        """

    def sample_ids(self, name: str, count: int, *, having: str | None = None) -> list[PointId]:
        """Up to `count` ids at random, unsorted; of points that have a vector, where one is named."""

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
        """The nearest points of each query, by one vector; `exact` does without the index.

        Args:
            queries: each a dense vector, rows of a multivector, a sparse ``{"indices", "values"}``, or a text that the
                server makes one of.
            among: ids that alone may be found; None for all.
        """

    def why_no_inference(self, name: str, vector: str, text: ServerText) -> str | None:
        """Why the server makes no vector of a text; None where it does.

        Args:
            name: of a collection to ask in; nothing is written.
            vector: one of its vectors, of whatever kind.
        """

    def facet(self, name: str, field: str, most: int) -> dict[str | int | bool, int] | None:
        """Value -> points that have it, exactly, by the payload index of the field.

        None where that is unknown: in local mode, where there are more values than `most`, or where strict mode
        forbids it.
        """

    def create_collection(self, name: str, schema: CollectionSchema, *, seal: JsonObject | None) -> None:
        """*Write.* Make it, by one request, without its payload indexes: :meth:`complete_collection` follows.

        Raises:
            ConflictError: it exists.
        """

    def complete_collection(self, name: EpochAlias, schema: CollectionSchema, *, defer_index: bool) -> None:
        """*Write.* What one request can't make of a new collection: its payload indexes, and some settings.

        May be repeated. Behind :meth:`create_collection` another holder may have filled it, and it may serve by now.

        Args:
            defer_index: no HNSW graph is built until :meth:`build_index`.
        """

    def build_index(self, name: EpochAlias, schema: CollectionSchema) -> None:
        """*Write.* Undo the deferral of :meth:`complete_collection`: the final optimizer and HNSW settings."""

    def readiness(self, name: str) -> Readiness:
        """One reading."""

    def apply(self, name: EpochAlias, change: Change) -> None:
        """*Write.* One piece of in-place work, repeatable. Aliases are changed by :meth:`change_aliases`.

        Raises:
            RefusedRequestError: the server refuses it (400), and nothing was changed.
        """

    def place_replicas(self, name: EpochAlias, factor: int) -> tuple[str, ...]:
        """*Write.* Order what a cluster lacks, or has too much, of the replicas of each shard; it waits for nothing.

        Setting ``replication_factor`` of a collection that is there makes no replica and takes none away. May be
        repeated until nothing is left; on fewer nodes than `factor` every node gets one.

        Returns:
            What is not as it should be yet, one line per shard; empty when all is done, and without a cluster.
        """

    def flush(self, name: str) -> None:
        """*Write that changes nothing*, through every shard's queue on every node: what was accepted before is done."""

    def drop_collection(self, permit: Permit) -> None:
        """*Write.* Delete a physical collection; no error when it is gone. Only ``engine.retire.retire`` calls it.

        It can't be made conditional, so it is sent once, and takes no longer than twice :attr:`request_timeout`.

        Raises:
            StoreError: it failed; where ``store.faults.is_unclear`` is true, it may be carried out nevertheless.
        """

    def write_seal(self, name: EpochAlias, seal: JsonObject | None) -> None:
        """*Write.* Set or remove the metadata key ``qmigrate``."""

    def create_alias(self, alias: EpochAlias, target: str) -> None:
        """*Write.* One CreateAlias: makes or re-points."""

    def drop_alias(self, alias: EpochAlias) -> None:
        """*Write.* No error when it is gone."""

    def change_aliases(
        self, guard: EpochAlias, *, make: Mapping[str, str] | None = None, drop: Sequence[str] = ()
    ) -> None:
        """*Write.* One request that changes aliases that applications use, if `guard` is still there.

        Args:
            guard: an own alias, which stays as it is.
            make: alias -> physical name: made, or re-pointed.
            drop: aliases that go; missing ones are not an error.

        Raises:
            NotFoundError: `guard` is gone: a later holder has taken over. Nothing was changed.
            ConflictError: an alias to be made has the name of a collection.
        """

    def hides_collections(self) -> bool:
        """*Write, on throwaway names.* Whether an alias may take the name of a collection, which it then hides.

        Servers don't document it, so it is tried each time; what was made for it is removed again. With more than one
        node it is not tried and never true: they pass names on and resolve them again, which mixes the two.
        """

    def rename_aliases(self, pairs: Sequence[tuple[EpochAlias, str]], drop: Sequence[str] = ()) -> None:
        """*Write.* One request of RenameAlias actions (old, new): re-points `new` atomically.

        Args:
            drop: aliases that the same request removes, after every rename was possible.

        Raises:
            NotFoundError: an `old` is gone: a later holder has taken over.
        """

    def upsert(self, name: EpochAlias, points: Sequence[Ready], *, new_only: bool = False) -> PendingWrite:
        """*Write.* Start replacing or inserting points; at most some MB per call, see ``store.records``.

        Args:
            new_only: a point that is there by then stays as it is, where the server supports that (from 1.19 on).
        """

    def delete(self, name: EpochAlias, ids: Sequence[PointId]) -> int | None:
        """*Write.* Delete points and wait; missing ids are not an error.

        Returns:
            The operation id that the last request got in a shard that it reached; None where that isn't reported.
        """

    def edit_payloads(self, name: EpochAlias, edits: Sequence[PayloadEdit]) -> None:
        """*Write.* Set and remove payload keys, in this order, and wait; may be repeated.

        Raises:
            NotFoundError: a point is not there; some of the edits may be done.
        """

    def edit_vectors(self, name: EpochAlias, vectors: Mapping[PointId, Mapping[str, Any]]) -> None:
        """*Write.* Set these vectors of points that are there, and wait; payload and other vectors stay.

        Raises:
            NotFoundError: a point is not there; some of the others may be done.
        """

    def barrier(self, name: str) -> OperationIds:
        """*Write that changes nothing*, through every shard's queue; the operation ids after it, of every node.

        Empty where they are unknown: in local mode, and of a collection that an alias of its own name hides.
        """

    def operation_ids(self, name: str) -> OperationIds:
        """Operation ids as they are now, of every node."""

    def fence(self, name: EpochAlias) -> JsonObject:
        """*Write.* Limit writes to one per minute and shard, seen on every node; returns the strict mode before."""

    def take_tokens(self, name: EpochAlias) -> int:
        """*Write that changes nothing*: uses up what the limiter of each shard still lets pass.

        Returns:
            How many of these writes passed on every shard before the first was refused; each moved ids by one.
        """

    def lift_fence(self, name: EpochAlias, prior: JsonObject) -> None:
        """*Write.* Restore the earlier strict mode; a value that can't be unset gets one too large to matter."""

    def create_snapshot(self, name: str) -> Snapshot:
        """*Write.* Make a server-side snapshot and wait for it."""

    def recover_snapshot(self, target: str, source: str, snapshot: Snapshot, location: str, tick: Beat) -> Recovery:
        """*Write.* Make the new collection `target` of a snapshot of the physical collection `source`.

        The server does it with the checksum of the snapshot, and everything it holds comes along: settings, payload
        indexes, HNSW graphs, and the metadata with the seal of `source`. `target` must be neither a collection nor an
        alias: the server would recover into what is there. What is uploaded stays with the server as a snapshot of
        `target`, of the same name.

        Args:
            location: one of :data:`RECOVER_LOCATIONS`.
            tick: called with no count while data passes through this process; what it raises ends the upload.

        Raises:
            StoreError: the server can't be reached, so nothing was sent.
        """

    def recovering(self, target: str) -> bool | None:
        """Whether the server works on a recovery of this name at this moment; None when it doesn't report that."""

    def disk_size(self) -> int | None:
        """Bytes of the disk under the server's data, used and free ones; None when it doesn't report that."""

    def list_snapshots(self, name: str) -> list[Snapshot]:
        """Snapshots of one collection, oldest first."""

    def delete_snapshot(self, name: str, snapshot: str) -> None:
        """*Write.* Delete one snapshot; no error when it is gone.

        By an own alias, but where a person has named the snapshot: a key that may delete it may not make aliases.
        """

    def read_snapshot(self, name: str, snapshot: str) -> Iterator[bytes]:
        """The file of one snapshot, in pieces.

        Raises:
            NotFoundError: there is none of that name.
            StoreError: the connection broke; what came so far is not all.
        """

    def cores(self) -> int | None:
        """Processor cores of the server that is asked, or None where it doesn't report that."""

    def client(self) -> AbstractContextManager[Any]:
        """What has the methods of ``qdrant_client.QdrantClient``, for code of the user's; closed at the end."""

    def all_answered(self) -> bool:
        """Whether nothing of what this process has sent can still be carried out; what is under way is waited for."""

    def close(self) -> None:
        """Release connections and locks."""


@runtime_checkable
class Embedder(Protocol):
    """Items to vectors; deterministic for a given fingerprint."""

    @property
    def size(self) -> int | None:
        """Length of its vectors, or None where it is only known after the first batch."""

    @property
    def max_batch(self) -> int:
        """Most items of one call."""

    def fingerprint(self) -> JsonObject:
        """What decides its output: library, model, weights, size, normalisation, preprocessing."""

    def embed(self, items: Sequence[Any]) -> NDArray[np.float32] | Sequence[Any]:
        """Vectors of shape (n, d), in the order of `items`; or a sequence of dense, sparse or multivectors.

        In such a sequence an item that can't be embedded may have an ``EmbedError`` in its place, so that the
        others need not be embedded again.

        Raises:
            EmbedError: an item can't be embedded; its message names the item.
        """


@runtime_checkable
class CountsTokens(Protocol):
    """An embedder that knows what its model reads of a text."""

    @property
    def max_tokens(self) -> int | None:
        """Most tokens of a text, those that the model adds among them; None where it is not known."""

    def count_tokens(self, texts: Sequence[str]) -> list[int] | None:
        """How many tokens each text has, those that the model adds among them; None where that is not known."""


@runtime_checkable
class ByServer(Protocol):
    """An embedder that leaves it to the server to make the vectors."""

    def for_server(self, text: str) -> ServerText:
        """What stands for the vector of a text."""


class Progress(Protocol):
    """Where long work reports to. Implementations must be cheap and thread-safe."""

    def begin(self, collection: str, phase: str, total: int | None, done: int = 0) -> None:
        """A phase starts; `total` in points, None where unknown."""

    def advance(self, count: int, note: str = "") -> None:
        """`count` more points are done."""

    def end(self, summary: str = "") -> None:
        """The phase is over."""

    def say(self, line: str) -> None:
        """One line that a user should read."""


def beside(progress: Progress) -> Progress:
    """A display for one of several collections that are worked on at a time; the same where it has no such thing."""
    made: Progress = getattr(progress, "beside", lambda: progress)()
    return made


class Silent:
    """A :class:`Progress` that shows nothing."""

    def begin(self, collection: str, phase: str, total: int | None, done: int = 0) -> None:
        """Ignore."""

    def advance(self, count: int, note: str = "") -> None:
        """Ignore."""

    def end(self, summary: str = "") -> None:
        """Ignore."""

    def say(self, line: str) -> None:
        """Ignore."""
