"""What will be done: jobs of steps, as JSON that outlives the process. Names and generations are chosen already."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, cast

from msgspec import Struct

from qmigrate.model.facts.stored import by_field, loaded, refuse_unknown
from qmigrate.model.names import REHEARSAL
from qmigrate.model.schema import Change, CollectionSchema, JsonObject

#: Direction of a history row that records where the points came from, not what is applied.
RESTORED = "restore"
#: Direction of a history row that records that points were changed on purpose, not what is applied.
FIXED = "fix"
#: Direction of a history row that records what a person has repaired or accepted, not what is applied.
REPAIRED = "repair"
#: Direction of a history row that records that a collection has all that a squashed revision stands for.
SQUASHED = "squash"
#: Directions that leave what is applied as it is.
ASIDE = frozenset({RESTORED, FIXED, REPAIRED, SQUASHED})


class OpRef(Struct, frozen=True, array_like=True):
    """The only link from stored data to code: operation `index` of `revision`, guarded by the file's checksum."""

    revision: str
    index: int

    def to_json(self) -> list[str | int]:
        """A list of both."""
        return [self.revision, self.index]


class Step:
    """One step of a job.

    Attributes:
        kind: which one; msgspec could tell only classes of its own apart by it, so that is done here.
        target: physical name that it is about.
    """

    __slots__ = ()
    kind: ClassVar[str]
    target: str | None

    def to_json(self) -> JsonObject:
        """Plain JSON: the kind, and every field."""
        return {"kind": self.kind, **by_field(self)}

    @classmethod
    def from_json(cls, data: JsonObject) -> Step:
        """The inverse of :meth:`to_json`.

        Raises:
            ValueError: a kind or a key that this version doesn't have.
        """
        kind = _STEPS.get(data["kind"])
        if kind is None:
            raise ValueError(f"no kind of step is called {data['kind']!r}")
        own = {name: value for name, value in data.items() if name != "kind"}
        refuse_unknown(kind, own)
        return loaded(kind, own)


@dataclass(frozen=True, slots=True)
class Build(Step):
    """Make generation `target` next to `source` and prove it.

    Attributes:
        ops: the operations that the points go through, in order.
        source: physical name of the live generation; None for a new collection.
        target: physical name of the generation to build.
        number: its generation number.
        schema: what the target gets.
        fill: ``copy``, ``clone`` (a snapshot that the server recovers), ``restore`` (points of an earlier time),
            ``sample`` (points at random, for a rehearsal) or ``empty``.
        reason: why this strategy, for people.
        origin: of a restore, where the points come from: see :mod:`qmigrate.model.origin`.
        sample: how many points, for ``sample``.
    """

    kind: ClassVar[str] = "build"
    ops: tuple[OpRef, ...]
    source: str | None
    target: str
    number: int
    schema: CollectionSchema
    fill: str
    reason: str
    origin: JsonObject | None = None
    sample: int = 0


@dataclass(frozen=True, slots=True)
class GoLive(Step):
    """Move the logical name (and the further aliases) from `source` to `target`; rollback is the same backwards.

    Attributes:
        ops: the operations of the build that made the newer of the two generations.
        source: physical name that serves now; None when the name is new.
        target: physical name that will serve; None when the name is removed.
        aliases: names that move, the logical one first.
        back: whether this is a rollback to the parent generation.
        writes: ``converge | freeze | refuse`` forwards (the policy of the settings where it is ``converge``);
            ``refuse | carry | discard | now`` backwards.
        hold: whether it waits for `qmigrate cutover` before anything of it happens.
        place: how the logical name moves: ``alias`` (it is one, or new), ``shadow`` (the alias hides the plain
            collection of that name), ``gap`` (the plain collection is deleted first).
        apart: the two hold points of different times (a restore, a reset, and the way back from one), so nothing is
            carried from one to the other.
        undoes: the row of the audit that this undoes: a reset's; else None.
        earlier: of a rollback: further name that the undone revisions had taken -> where it led before, None for
            nowhere.
    """

    kind: ClassVar[str] = "golive"
    ops: tuple[OpRef, ...]
    source: str | None
    target: str | None
    aliases: tuple[str, ...]
    back: bool = False
    writes: str = "converge"
    hold: bool = False
    place: str = "alias"
    apart: bool = False
    undoes: int | None = None
    earlier: Mapping[str, str | None] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class InPlace(Step):
    """Change the live generation `target` itself."""

    kind: ClassVar[str] = "inplace"
    ops: tuple[OpRef, ...]
    target: str
    changes: tuple[Change, ...]
    reason: str


@dataclass(frozen=True, slots=True)
class EditPoints(Step):
    """Change points of the live generation `target` on purpose: a data fix.

    Attributes:
        ops: the operation of a revision that declares it; empty for a fix outside of revisions.
        target: physical name.
        edit: what to do, as an operation's ``edit()`` returns it: plain JSON with its ``kind``.
        reason: why, for the record.
    """

    kind: ClassVar[str] = "edit"
    ops: tuple[OpRef, ...]
    target: str
    edit: JsonObject
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Erase(EditPoints):
    """Delete points of the live generation `target` so that nothing brings them back: see ``engine/fixes/erase``."""

    kind: ClassVar[str] = "erase"


@dataclass(frozen=True, slots=True)
class RunCode(EditPoints):
    """Call a function of the user's own for the live generation `target`: see ``engine/call.py``."""

    kind: ClassVar[str] = "call"


def edit_step(ops: tuple[OpRef, ...], target: str, edit: JsonObject, reason: str) -> EditPoints:
    """The step that does what an operation's ``edit()`` returns."""
    made = next((one for one in (Erase, RunCode) if one.kind == edit.get("kind")), EditPoints)
    return made(ops, target, edit, reason)


@dataclass(frozen=True, slots=True)
class Retire(Step):
    """Delete generation `target`, which nothing points to.

    Attributes:
        target: physical name.
        reason: why, for the record.
        writes: what becomes of points that were written to it after it was left: ``refuse`` or ``discard``.
        snapshots: names of those that it has; with `spare`, one more spares it.
        keep_snapshots: they are exported before it goes; else they are only deleted.
        spare: what may not be deleted is left and reported, and the job goes on; else the job stops there.
    """

    kind: ClassVar[str] = "retire"
    target: str
    reason: str
    writes: str = "refuse"
    snapshots: tuple[str, ...] = ()
    keep_snapshots: bool = False
    spare: bool = False


@dataclass(frozen=True, slots=True)
class WriteRows(Step):
    """Update the application's SQL for the points that generation `target`, which serves now, was built with.

    Attributes:
        target: physical name.
        statements: each with ``vector``, ``revision``, ``database``, ``sql``, ``names`` of its parameters, and the
            user's own ``parameters``.
    """

    kind: ClassVar[str] = "write_back"
    target: str
    statements: tuple[JsonObject, ...]


@dataclass(frozen=True, slots=True)
class Adopt(Step):
    """Take `target` under management as it is, or record it at other revisions; no point and no setting is touched.

    Attributes:
        target: physical name; None when the name leaves the ledger, since its collection serves under another one.
        number: its generation number; 0 for a collection that qmigrate has not made.
        alias: whether the logical name is to be made an alias of `target`.
        overrides: the seal of another ledger that is taken over, or None.
        beside: physical name -> number of generations of that ledger that are kept next to it.
        embedders: vector -> model fingerprint, as far as it is known.
        report: recorded with the history.
    """

    kind: ClassVar[str] = "adopt"
    target: str | None
    number: int = 0
    alias: bool = False
    overrides: JsonObject | None = None
    beside: Mapping[str, int] = field(default_factory=dict)
    embedders: JsonObject = field(default_factory=dict)
    report: JsonObject = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class PutBack(Step):
    """Point the logical name back to `target`, where the ledger left it; no point is touched.

    Attributes:
        target: physical name of the generation that the ledger has as the live one.
        serving: what the name leads to instead; None where nothing has it.
        reason: why, for the record.
    """

    kind: ClassVar[str] = "put_back"
    target: str
    serving: str | None
    reason: str


@dataclass(frozen=True, slots=True)
class RecordLoss(Step):
    """Record that generation `target` is not in Qdrant any more; nothing is deleted, and no other one is touched.

    Attributes:
        target: physical name.
        reason: why, for the record.
    """

    kind: ClassVar[str] = "record_loss"
    target: str
    reason: str


#: Directions of history rows that make a revision count as applied.
APPLYING = frozenset({"upgrade", "stamp"})


@dataclass(frozen=True, slots=True)
class Closing:
    """A revision that is recorded as applied or undone when a step ends.

    Attributes:
        step: position in the job; its close phase writes the history row.
        revision: full revision id.
        direction: ``upgrade`` or ``rollback``; ``stamp`` or ``unstamp`` where only the record changes; ``restore``,
            ``fix``, ``repair`` and ``squash`` for rows that record one and apply nothing.
        checksum: of the revision file.
        declared: the recorded schema afterwards (only what revisions declared); None when the name is gone.
        prior: the recorded schema before.
    """

    step: int
    revision: str
    direction: str
    checksum: str
    declared: CollectionSchema | None
    prior: CollectionSchema | None


@dataclass(frozen=True, slots=True)
class Job:
    """What a plan does to one collection: one lease, one journal, one failure.

    Attributes:
        collection: the logical name.
        basis: digest of the state it was planned on; another state means planning again.
        supersedes: an open run that this job ends (abort), or None.
    """

    collection: str
    basis: str
    steps: tuple[Step, ...]
    closes: tuple[Closing, ...] = ()
    supersedes: int | None = None

    def to_json(self) -> JsonObject:
        """Plain JSON; this is what a resume loads."""
        return by_field(self)

    @classmethod
    def from_json(cls, data: JsonObject) -> Job:
        """The inverse of :meth:`to_json`.

        Raises:
            ValueError: a step of a kind, or with a key, that this version doesn't have.
        """
        return loaded(cls, data)

    def with_build(self, old: Build, new: Build) -> Job:
        """The job with one build in place of another; later steps follow it to the name of its target."""
        steps = tuple(new if step == old else _renamed(step, old.target, new.target) for step in self.steps)
        return replace(self, steps=steps)

    @property
    def beside_held(self) -> bool:
        """Whether it may run while a generation is held for its cut-over: it is about that one too."""
        return bool(self.steps) and all(isinstance(step, Erase) for step in self.steps)

    @property
    def repeatable(self) -> bool:
        """Whether it can be planned again at any time, so that an attempt which failed leaves nothing to resume."""
        only_retires = all(step.kind == Retire.kind for step in self.steps)
        return bool(self.steps) and only_retires and not self.closes and self.supersedes is None

    @property
    def throwaway(self) -> bool:
        """Whether it only makes and removes collections that no client uses: what lands there late does no harm."""
        return bool(self.steps) and all(REHEARSAL.match(step.target or "") for step in self.steps)

    def names(self) -> frozenset[str]:
        """The logical name, and the aliases that it may move."""
        found = {self.collection}
        for step in self.steps:
            if isinstance(step, GoLive):
                found.update(step.aliases, step.earlier)
            elif isinstance(step, InPlace):
                found.update(change.name for change in step.changes if change.kind.startswith("alias."))
        return frozenset(found)

    def revisions(self) -> frozenset[str]:
        """Every revision that the job needs code of, or records."""
        named = {closing.revision for closing in self.closes}
        for step in self.steps:
            named.update(ref.revision for ref in getattr(step, "ops", ()))
        return frozenset(named)


@dataclass(frozen=True, slots=True)
class EmbeddingCost:
    """What one embedder has to do for a collection, and what that costs.

    Attributes:
        items: to be embedded.
        tokens: fewest and most, by a sample of the items; None where they can't be counted.
        requests: to its server, at least; None where it has none.
        price: of a million tokens, as the settings have it; None where they have none.
        money: least and most; None where tokens or price are unknown.
        seconds: that embedding takes at the speed that was measured; None where none was.
        speed: what that is taken from: ``earlier runs`` or ``a trial``; empty where it is unknown.
    """

    embedder: str
    items: int
    tokens: tuple[int, int] | None = None
    requests: int | None = None
    price: float | None = None
    money: tuple[float, float] | None = None
    seconds: float | None = None
    speed: str = ""


@dataclass(frozen=True, slots=True)
class CollectionPlan:
    """A job with what a person needs to know before it runs.

    Attributes:
        job: the work.
        lines: what each step does, one line each.
        reasons: why each strategy, one line each.
        points: exact count of the source, or None.
        bytes: estimated size of what is copied, or None.
        memory: bytes that vectors and indexes of what is built want in the server's memory, or None.
        incompatible: reader-incompatible changes, one line each.
        shows: what existing readers see otherwise, though nothing has to fail by it, one line each.
        way_back: how it can be undone.
        holds: whether it is built and proven, and then waits for `qmigrate cutover`.
        seconds: how long it is expected to take, or None.
        speed: what that is taken from: ``earlier runs``, ``a trial`` that reads a little and tries its embedders, or
            ``assumed``: then it is a guess.
        unmeasured: embedders that have not run here before, and were not tried: how long they take is unknown, and
            `seconds` a guess.
        unknown: parts of its copies whose time is a guess: ``copy`` (with what it embeds), ``proof``, ``index``.
        edits: what each of its data fixes would change now: counts and a sample.
        costs: of each of its embedders: items, tokens, requests, money and time, as far as they are known.
    """

    job: Job
    lines: tuple[str, ...]
    reasons: tuple[str, ...]
    points: int | None = None
    bytes: int | None = None
    incompatible: tuple[str, ...] = ()
    way_back: str = ""
    holds: bool = False
    seconds: float | None = None
    speed: str = ""
    unmeasured: tuple[str, ...] = ()
    edits: tuple[JsonObject, ...] = ()
    costs: tuple[EmbeddingCost, ...] = ()
    memory: int | None = None
    shows: tuple[str, ...] = ()
    unknown: tuple[str, ...] = ()

    @property
    def rest_unknown(self) -> tuple[str, ...]:
        """The same where the copy itself is known; nothing where the time as a whole is a guess."""
        return () if "copy" in self.unknown or self.unmeasured else self.unknown


@dataclass(frozen=True, slots=True)
class Refusal:
    """An error that the verb would raise before its first write.

    Attributes:
        type: the class of the error.
        collection: that it is about; None where it is about none alone.
    """

    type: str
    message: str
    hint: str | None
    exit_code: int
    collection: str | None = None


@dataclass(frozen=True, slots=True)
class Plan:
    """What a changing verb will do.

    Attributes:
        verb: upgrade, rollback, abort, adopt, stamp, gc, rehearse, fix, repair.
        target: the full revision ids that it goes to.
        collections: one entry per collection with work, in the order of execution.
        notes: what a person should know (empty globs, declared but not enforced, …).
        checksums: of every revision file that the plan used.
        held: collections that are built and wait for their cut-over: nothing is planned for them.
        waiting: revision -> the SQL revision that it waits for: neither it nor what follows it is planned.
        refusals: what would stop it before its first write, as far as a plan looks for that.
        elsewhere: an upgrade would be refused from this machine or with this key alone; a note says what is missing.
    """

    verb: str
    target: tuple[str, ...]
    collections: tuple[CollectionPlan, ...]
    notes: tuple[str, ...] = ()
    checksums: Mapping[str, str] | None = None
    held: tuple[str, ...] = ()
    waiting: Mapping[str, str] = field(default_factory=dict)
    refusals: tuple[Refusal, ...] = ()
    elsewhere: bool = False

    @property
    def money(self) -> tuple[float, float] | None:
        """Least and most of what all its embedders cost together, as far as it is known; None where nothing is."""
        known = [one.money for item in self.collections for one in item.costs if one.money is not None]
        return (sum(low for low, _ in known), sum(high for _, high in known)) if known else None

    @property
    def exit_code(self) -> int:
        """That of the first refusal, else 0."""
        return self.refusals[0].exit_code if self.refusals else 0


def _renamed(step: Step, old: str, new: str) -> Step:
    """The step with another physical name wherever it has `old`."""
    if isinstance(step, Build | GoLive) and step.source == old:
        step = replace(step, source=new)
    # Every step is a dataclass that has its target.
    renamed: Step = replace(cast("Any", step), target=new) if step.target == old else step
    return renamed


_KINDS = (Build, GoLive, InPlace, EditPoints, Erase, RunCode, Retire, Adopt, WriteRows, PutBack, RecordLoss)
_STEPS: Mapping[str, type[Step]] = {step.kind: step for step in _KINDS}
