"""What each phase learns and the journal keeps: one frozen dataclass per phase. They decide nothing.

A field that still has its default was not learned. When a field is kept, :mod:`.stored` says;
those that a plain ``dict`` or ``list`` would suit are mappings and tuples, so that no code changes what was kept.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import ClassVar, TypeVar

from qmigrate.model.facts.comparison import Compared
from qmigrate.model.facts.stored import ALWAYS, UNLEARNED, WHEN_DONE, Unlearned, learned, loaded
from qmigrate.model.report import NAMED_IDS, SweepReport, VerificationReport
from qmigrate.model.schema import CollectionSchema, JsonObject
from qmigrate.model.transform import PointId

#: Shard of a node -> id of its last operation.
Ids = Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Facts:
    """What a phase has learned.

    Attributes:
        phase: its name in the journal; empty where any phase may learn it.
    """

    phase: ClassVar[str] = ""


F = TypeVar("F", bound=Facts)


@dataclass(frozen=True, slots=True)
class StoppedInOrder(Facts):
    """Of any phase.

    Attributes:
        stopped_in_order: lease epoch of a holder that has stopped, and has left no alias and no request.
    """

    stopped_in_order: int | None = None


@dataclass(frozen=True, slots=True)
class WriteLimit(Facts):
    """Of the phases of a build that write points.

    Attributes:
        write_limit: seconds that a write of points takes at most; None where that is not known.
    """

    write_limit: float | None = None


@dataclass(frozen=True, slots=True)
class Copied(Facts):
    """Of the phases in which a clone turns out to be impossible: why the server could not clone."""

    copied_because: str | None = None


# -- build --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Preflight(Facts):
    """Of a build.

    Attributes:
        points: of the source.
        embedders: vector -> fingerprint, of those that are embedded here.
        models: the same for every vector that the target will have, carried and renamed ones too; None where only
            `embedders` say it.
        left: points of what a reset leaves behind.
        source: how the source was described, before anything else was checked.
    """

    phase: ClassVar[str] = "preflight"
    points: int = field(default=0, metadata=ALWAYS)
    embedders: Mapping[str, JsonObject] | None = None
    models: Mapping[str, JsonObject] | None = None
    left: int | None = None
    source: CollectionSchema | None = None


@dataclass(frozen=True, slots=True)
class ServerSnapshot:
    """A snapshot on a server.

    Attributes:
        size: in bytes.
        checksum: as the server has it.
        collection: physical name.
        made: whether this run has made it; one that was only found may be another client's.
    """

    name: str
    size: int
    checksum: str | None
    collection: str
    made: bool | Unlearned = UNLEARNED


@dataclass(frozen=True, slots=True)
class WrittenArchive:
    """An archive that a rebuild leaves.

    Attributes:
        place: path of the file.
        size: in bytes.
        points: how many are in it.
    """

    name: str
    place: str
    size: int
    digest: str
    points: int


@dataclass(frozen=True, slots=True)
class Disk:
    """Room that a clone needs, and how large the server's disk is, in bytes; None where it isn't told."""

    needed: int
    whole: int | None


@dataclass(frozen=True, slots=True)
class SourceSnapshot(Facts):
    """Of a build.

    Attributes:
        before: names of the snapshots that were there.
        source_ids: operation ids of the source before the snapshot; empty where a server doesn't tell.
        snapshot: the one that was made or is recovered; None where there is none.
        archive: what was written instead.
        aliases: alias -> physical name, at that moment.
        disk: of a clone.
        skipped: why there is none.
        copied_because: why the server could not clone.
    """

    phase: ClassVar[str] = "snapshot"
    before: tuple[str, ...] | None = None
    source_ids: Ids | None = None
    snapshot: ServerSnapshot | None = field(default=None, metadata=WHEN_DONE)
    archive: WrittenArchive | None = None
    aliases: Mapping[str, str] | None = None
    disk: Disk | None = None
    skipped: str | None = None
    copied_because: str | None = None


@dataclass(frozen=True, slots=True)
class Sent:
    """A request to recover a snapshot: under which physical name, and by which way the server gets it."""

    target: str
    location: str


@dataclass(frozen=True, slots=True)
class Shadow(Facts):
    """Of a build.

    Attributes:
        sent: a recovery whose answer is not known; None when there is none.
        tried: way -> why it led nowhere.
        there: physical name that a recovery has made.
        cloned: by which way, in words.
        copied_because: why the server could not clone.
        embedders: vector -> fingerprint, as a restored snapshot says of itself.
        barrier_delta: how far one barrier moves operation ids.
    """

    phase: ClassVar[str] = "shadow"
    sent: Sent | None = None
    tried: Mapping[str, str] | None = None
    there: str | None = None
    cloned: str | None = None
    copied_because: str | None = None
    embedders: Mapping[str, JsonObject] | None = None
    barrier_delta: int | None = None


@dataclass(frozen=True, slots=True)
class Fill(Facts):
    """Of a build.

    Attributes:
        source_ids: operation ids of the source when the copy began.
        again: whether an attempt before has begun to copy.
        copied: points in all.
        fresh: those of this attempt.
        seconds: that these took.
        stages: how busy each stage was, 0 to 1.
        limited_by: the busiest.
        points: of a clone.
        sampled: points of a sample.
        restored: points of an archive or a recovered snapshot.
        removed: of these, points that were erased since it was made.
        spent: tokens by embedder, where a budget limits them.
    """

    phase: ClassVar[str] = "fill"
    source_ids: Ids | None = None
    again: bool = False
    copied: int | None = None
    fresh: int | None = None
    seconds: float | None = None
    stages: Mapping[str, float] | None = None
    limited_by: str | None = None
    points: int | None = None
    sampled: int | None = None
    restored: int | None = None
    removed: int | None = None
    spent: Mapping[str, int] | None = None


@dataclass(frozen=True, slots=True)
class Index(Facts):
    """Of a build: how many seconds it took until the index was ready."""

    phase: ClassVar[str] = "index"
    seconds: float = field(default=0.0, metadata=ALWAYS)


@dataclass(frozen=True, slots=True)
class LeftOut:
    """Points that were left out on purpose: the archive that keeps them, and how many they are."""

    file: str
    points: int


@dataclass(frozen=True, slots=True)
class DeltaPass:
    """The last pass, where it has read only what was written since the one before.

    Attributes:
        points: that it has read.
        seconds: from its listing on: what is written later is late.
    """

    points: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Proof(Facts):
    """Of a build, and of the go-live behind it.

    Attributes:
        dropped: what was left out; None where nothing was.
        report: of the last pass.
        source_ids: operation ids of the source before the last pass.
        target_ids: those of the target behind it.
        barrier_delta: how far one barrier moves operation ids.
        epoch: lease epoch of the holder that has proven it.
        seconds: that it took.
        frozen: whether the source refused writes meanwhile.
        erased: erasures of the collection that a restore has seen to.
        deleted_again: points that fixes had deleted, and that were deleted here too.
        kept: the file that has these.
        brought: of a way back: whether anything may have been written to the parent; None where that was not noted.
        late: the last pass, where it was a delta pass.
    """

    phase: ClassVar[str] = "converge"
    dropped: LeftOut | Unlearned | None = UNLEARNED
    report: VerificationReport | None = None
    source_ids: Ids | None = None
    target_ids: Ids | None = None
    barrier_delta: int | None = None
    epoch: int | None = None
    seconds: float | None = None
    frozen: bool = False
    erased: int | None = None
    deleted_again: int | None = None
    kept: str | None = None
    brought: bool | None = None
    late: DeltaPass | None = None

    def renewed(self, later: Proof) -> Proof:
        """With what a later phase of that name has learned since."""
        return loaded(Proof, {**learned(self), **learned(later)})


@dataclass(frozen=True, slots=True)
class Searched:
    """How well a vector is found.

    Attributes:
        k: results of a search.
        at_least: the recall that is asked for.
        recall: share of the exact results that the index finds; None where every search is exact.
        overlap: share that the old generation found too; None where it has no such vector.
        queries: how many were made.
        why: why none was.
    """

    vector: str
    k: int
    at_least: float
    recall: float | None
    overlap: float | None
    queries: int | Unlearned = UNLEARNED
    why: str | Unlearned = UNLEARNED


@dataclass(frozen=True, slots=True)
class Quality(Facts):
    """Of a build: one measurement per gate.

    Attributes:
        quality: of an index and an exact search.
        compared: of an old and a new search; None where none was asked for.
    """

    phase: ClassVar[str] = "quality"
    quality: tuple[Searched, ...] | None = None
    compared: tuple[Compared, ...] | None = None


# -- go-live ------------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class WritesSince:
    """Points of the live generation that differ from what its proof saw.

    Attributes:
        named: some of them, each with what became of it.
        read: points that were read to find them, where the versions of the others show that they need not be; None
            where all points were.
        because: why all were.
    """

    added: int = 0
    changed: int = 0
    deleted: int = 0
    named: list[tuple[PointId, str]] = field(default_factory=list)
    read: int | None = None
    because: str | None = None

    @property
    def total(self) -> int:
        """All of them."""
        return self.added + self.changed + self.deleted

    def to_json(self) -> JsonObject:
        """Plain JSON; what says nothing is left out, as earlier versions had none of it."""
        found: JsonObject = {"added": self.added, "changed": self.changed, "deleted": self.deleted}
        if self.named:
            found["named"] = [list(one) for one in self.named]
        if self.read is not None:
            found["read"] = self.read
        return found if self.because is None else {**found, "because": self.because}

    def add(self, point_id: PointId, how: str) -> None:
        """One more; `how` is ``added``, ``changed`` or ``deleted``."""
        setattr(self, how, getattr(self, how) + 1)
        if len(self.named) < NAMED_IDS:
            self.named.append((point_id, how))


@dataclass(frozen=True, slots=True)
class GoLivePreflight(Facts):
    """Of a way back.

    Attributes:
        writes_since: what was written since the target was left.
        untouched: operation ids of the source, which show that nothing was.
        barrier_delta: how far one barrier moves operation ids.
    """

    phase: ClassVar[str] = "preflight"
    writes_since: WritesSince | None = None
    untouched: Ids | None = None
    barrier_delta: int | None = None


@dataclass(frozen=True, slots=True)
class Hold(Facts):
    """When it was proven and began to wait, and when its cut-over was asked for."""

    phase: ClassVar[str] = "hold"
    since: datetime | None = None
    asked_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Gap:
    """A plain collection whose deletion has begun.

    Attributes:
        generation: its number; None where the ledger has no row of it.
        recorded: whether the ledger knows of the deletion; earlier versions didn't record it.
    """

    generation: int | None
    recorded: bool = False


@dataclass(frozen=True, slots=True)
class Swap(Facts):
    """Of a go-live.

    Attributes:
        before: the source; None where nothing served.
        after: the target; None where the name is taken away.
        names: that move.
        earlier: alias -> where it led before it was taken (None: nowhere).
        given: alias -> where it was given back to.
        dropped: aliases that lead nowhere afterwards.
        moved: whether the name has moved.
        gap: of a plain collection that had to go first.
        gap_milliseconds: how long the name was away.
        milliseconds: how long the request took.
        at: when it was done.
        place: as the step has it.
    """

    phase: ClassVar[str] = "swap"
    before: str | None = field(default=None, metadata=ALWAYS)
    after: str | None = field(default=None, metadata=ALWAYS)
    names: tuple[str, ...] | None = None
    earlier: Mapping[str, str | None] | None = None
    given: Mapping[str, str | None] | None = None
    dropped: tuple[str, ...] | None = None
    moved: bool = False
    gap: Gap | None = None
    gap_milliseconds: float | None = None
    milliseconds: float | None = None
    at: datetime | None = None
    place: str | None = field(default=None, metadata=WHEN_DONE)


@dataclass(frozen=True, slots=True)
class Left:
    """With which operation ids a generation was left, and how far one barrier moves them."""

    ids: Ids
    barrier_delta: int


@dataclass(frozen=True, slots=True)
class Sweep(Facts):
    """Of a go-live.

    Attributes:
        left: of the source.
        sweep: what came late.
        dropped: what is left out of the target by now; None where nothing is any more.
    """

    phase: ClassVar[str] = "sweep"
    left: Left | None = None
    sweep: SweepReport | None = None
    dropped: LeftOut | Unlearned | None = UNLEARNED


@dataclass(frozen=True, slots=True)
class Closed(Facts):
    """Of every step.

    Attributes:
        log: id of the audit's row; None where it has none.
        undo: kind of the fix that takes it back; None where nothing does.
        marked: rows that each statement has changed.
        back_again: points that serve again since a reset was undone.
    """

    phase: ClassVar[str] = "close"
    log: int | Unlearned | None = UNLEARNED
    undo: str | Unlearned | None = UNLEARNED
    marked: tuple[int, ...] | None = None
    back_again: int | None = None


# -- what is small ------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class LivePreflight(Facts):
    """Of what leaves the generation where it is.

    Attributes:
        points: of it.
        filled: of a way back, how many of them have a vector that it drops; None where it drops none.
    """

    phase: ClassVar[str] = "preflight"
    points: int | None = None
    filled: int | None = None


@dataclass(frozen=True, slots=True)
class InPlaceChange(Facts):
    """Of a change in place.

    Attributes:
        changes: how many were made.
        earlier: alias -> where it led before it was taken (None: nowhere).
        given: alias -> where it was given back to.
    """

    phase: ClassVar[str] = "change"
    changes: int | None = None
    earlier: Mapping[str, str | None] | None = None
    given: Mapping[str, str | None] | None = None


@dataclass(frozen=True, slots=True)
class InPlaceVerify(Facts):
    """Of a change in place: what was declared and local mode doesn't enforce, in words."""

    phase: ClassVar[str] = "verify"
    declared_not_enforced: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True)
class Named(Facts):
    """Of a name that is taken over or put back: where it led, and where it leads."""

    phase: ClassVar[str] = "name"
    before: str | Unlearned | None = UNLEARNED
    after: str | None = None


@dataclass(frozen=True, slots=True)
class CallLook(Facts):
    """Of a call: what the collection was before."""

    phase: ClassVar[str] = "look"
    schema: CollectionSchema | None = None


@dataclass(frozen=True, slots=True)
class CallChange(Facts):
    """Of a call: what the function has returned."""

    phase: ClassVar[str] = "change"
    returned: JsonObject | None = field(default=None, metadata=ALWAYS)


@dataclass(frozen=True, slots=True)
class CallVerify(Facts):
    """Of a call: nothing is kept."""

    phase: ClassVar[str] = "verify"


@dataclass(frozen=True, slots=True)
class WriteBackPreflight(Facts):
    """Of a write-back: the time that every statement gets."""

    phase: ClassVar[str] = "preflight"
    now: datetime | None = None


@dataclass(frozen=True, slots=True)
class Told:
    """Points that were written back to the application's SQL, and rows that this has changed."""

    points: int = 0
    rows: int = 0


@dataclass(frozen=True, slots=True)
class WriteBack(Facts):
    """Of a write-back.

    Attributes:
        statement: the one that is worked on.
        cursor: the last point that was written back; None before the first, and once it is through.
        told: by all of them.
    """

    phase: ClassVar[str] = "write_back"
    statement: int = field(default=0, metadata=ALWAYS)
    cursor: PointId | None = field(default=None, metadata=ALWAYS)
    told: Told | None = None
