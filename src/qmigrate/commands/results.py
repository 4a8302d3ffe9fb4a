"""What the verbs return: plain values for programs and the command line. It computes and prints nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from qmigrate.errors import HeldError, PendingError
from qmigrate.model.facts.fixes import Copies, EraseSelect, EraseVerify, Forget
from qmigrate.model.facts.phases import F, Proof, Swap
from qmigrate.model.facts.stored import known, loaded
from qmigrate.model.plan import Plan
from qmigrate.text import counted, quote


@dataclass(frozen=True, slots=True)
class ErasedPlace:
    """One kind of place that held points.

    Attributes:
        name: ``live``, ``generations`` (others), ``exports``, ``journals``, ``samples``, ``quarantine``, ``archives``.
        found: points that were there.
        left: points that were still there when it was checked again.
    """

    name: str
    found: int
    left: int = 0


@dataclass(frozen=True, slots=True)
class HoldingSnapshot:
    """A server-side snapshot that was made before the erasure, and may hold the points.

    Attributes:
        collection: the generation that it is of.
        created_at: as the server reports it, ISO 8601; None where it doesn't.
        deleted: it was replaced by a newer one.
        command: what deletes it.
    """

    collection: str
    name: str
    created_at: str | None
    deleted: bool
    command: str


@dataclass(frozen=True, slots=True)
class Erasure:
    """What an erasure has done to one collection.

    Attributes:
        ids: how many ids no old copy brings back any more.
        places: where points were, and that none is left.
        written_again: points that another client has written again while it ran; they stay.
        snapshots: that may hold the points.
        made: name of the snapshot without them that took the place of these, or None.
        beyond: files that may hold them and could not be changed, each with what to do.
    """

    ids: int
    places: tuple[ErasedPlace, ...]
    written_again: int
    snapshots: tuple[HoldingSnapshot, ...]
    made: str | None
    beyond: tuple[str, ...]


def erased_of(outcome: Outcome, step: int) -> Erasure | None:
    """The result of one step, from what its phases learned; None where it was not an erasure, or had nothing to do."""
    forgotten, selected = outcome.facts(Forget, step), outcome.facts(EraseSelect, step)
    if forgotten.counts is None:
        return None
    live = selected.there.get(outcome.physical or "", 0)
    verified = outcome.facts(EraseVerify, step)
    left = verified.left or {}
    counts = {"live": live, "generations": sum(selected.there.values()) - live, **forgotten.counts}
    copies = outcome.facts(Copies, step)
    said = known(copies.unseen)
    unseen = (f"snapshots could not be listed ({said}): list them with a key that may: qmigrate snapshot list",)
    return Erasure(
        ids=selected.changes,
        places=tuple(ErasedPlace(name, count, left.get(name, 0)) for name, count in counts.items()),
        written_again=verified.written_again or 0,
        snapshots=tuple(
            HoldingSnapshot(
                entry.collection,
                entry.name,
                entry.created_at,
                entry.deleted,
                command=f"qmigrate snapshot delete {quote(entry.name)}",
            )
            for entry in copies.holding or ()
        ),
        made=known(copies.made),
        beyond=(*(forgotten.beyond or ()), *(unseen if said else ())),
    )


__all__ = [
    "Check",
    "CollectionStatus",
    "Doctor",
    "Held",
    "History",
    "HistoryEntry",
    "InitResult",
    "Outcome",
    "Repaired",
    "Resumed",
    "RevisionResult",
    "SnapshotEntry",
    "Snapshots",
    "Status",
    "UpgradeResult",
    "Waited",
    "in_all",
]


@dataclass(frozen=True, slots=True)
class InitResult:
    """`init`.

    Attributes:
        created: settings, template and folder of the revisions that were made.
        config: the settings file.
        scripts: the folder of the revisions.
        further: what else was written: the schema of the settings, ``.gitignore``.
        kept: what was there already, and stayed as it was.
    """

    created: tuple[Path, ...]
    config: Path
    scripts: Path
    further: tuple[Path, ...] = ()
    kept: tuple[Path, ...] = ()


@dataclass(frozen=True, slots=True)
class RevisionResult:
    """`revision`.

    Attributes:
        path: the new file.
        revision: its id.
        down: ids of the revisions it follows; empty for the first one, several for a merge.
        message: the one that was given.
    """

    path: Path
    revision: str
    down: tuple[str, ...]
    message: str


@dataclass(frozen=True, slots=True)
class Resumed:
    """A run that was found interrupted, as it was when it was found.

    Attributes:
        run: its id in the ledger.
        phase: the last one that it had begun.
        host: where it ran.
        done: points that were done.
        total: points in all, 0 where unknown.
    """

    collection: str
    run: int
    phase: str
    started_at: datetime
    host: str
    done: int = 0
    total: int = 0


@dataclass(frozen=True, slots=True)
class Held:
    """A collection whose next generation is built and proven and waits for `qmigrate cutover`.

    Attributes:
        collection: the logical name.
        physical: the generation that waits.
        revisions: what goes live with it, and what its run does afterwards.
        run: its id in the ledger.
        since: when it was proven; None when the journal doesn't have it.
        refused: why the last cut-over was refused, or None.
    """

    collection: str
    physical: str
    revisions: tuple[str, ...]
    run: int
    since: datetime | None = None
    refused: str | None = None


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one collection.

    Attributes:
        revisions: applied or rolled back, in this order; what is held is not among them.
        physical: the generation that serves now; None when the name is gone.
        seconds: how long it took.
        report: what was learned, by ``step.phase``.
        notes: what a person should know.
        held: what was built and waits now, or None.
        started_at: when it began; None where that isn't known.
    """

    collection: str
    revisions: tuple[str, ...]
    physical: str | None
    seconds: float
    report: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    held: Held | None = None
    started_at: datetime | None = None

    def facts(self, of: type[F], step: int) -> F:
        """What a phase of a step has learned; defaults where nothing."""
        return loaded(of, self.report.get(f"{step}.{of.phase}", {}))

    def learned(self, of: type[F]) -> list[F]:
        """The same of every step that came to this phase, in order."""
        return [loaded(of, facts) for name, facts in self.report.items() if name.partition(".")[2] == of.phase]

    def summary(self) -> str:
        """One line for a log: revisions, proof, what serves, and how long it took."""
        proof = next((one.report for one in reversed(self.learned(Proof)) if one.report is not None), None)
        moved = (one.milliseconds for one in reversed(self.learned(Swap)))
        swap = next((one for one in moved if one is not None), None)
        parts = [", ".join(self.revisions)] if self.revisions else []
        if proof is not None:
            parts.append(f"{proof.proven:,} of {counted(proof.points, 'point')} proven")
        if self.held is not None:
            parts.append(f"held as {self.held.physical}")
        else:
            parts.append(f"{self.physical} serves" if self.physical else "the name is gone")
        if swap is not None:
            parts.append(f"name moved in {swap:.0f} ms")
        return f"{self.collection}: {'; '.join([*parts, f'{self.seconds:.1f} s in all'])}"


def in_all(outcomes: Sequence[Outcome]) -> float:
    """Seconds that several collections took: from the first beginning to the last end, since some go side by side."""
    begun = [(one.started_at, timedelta(seconds=one.seconds)) for one in outcomes if one.started_at is not None]
    if len(begun) < len(outcomes) or not begun:
        return sum(one.seconds for one in outcomes)
    return (max(at + took for at, took in begun) - min(at for at, _ in begun)).total_seconds()


@dataclass(frozen=True, slots=True)
class UpgradeResult:
    """`upgrade`, `rollback` and `abort`; a dry run has no outcomes.

    Attributes:
        plan: what was to be done.
        resumed: interrupted runs that were finished first.
        outcomes: one per finished job, in the order of execution.
        held: what waits for its cut-over at the end, built now or earlier.
        back: of an upgrade: the commands that undo what it has done, and nothing of other collections.
        undo: the commands, in order, that undo what its data fixes did to points; of a rollback, which leaves that.
        at: of an upgrade: collection -> the revision that it is at now, as `status` shows it.
        again: of a rollback: the commands, in order, that apply again what it has undone.
    """

    plan: Plan
    resumed: tuple[Resumed, ...]
    outcomes: tuple[Outcome, ...]
    held: tuple[Held, ...] = ()
    back: tuple[str, ...] = ()
    undo: tuple[str, ...] = ()
    at: Mapping[str, str] = field(default_factory=dict)
    again: tuple[str, ...] = ()

    @property
    def exit_code(self) -> int:
        """11 when anything is held, 3 when a revision waits for the SQL schema, else 0."""
        if self.held:
            return HeldError.exit_code
        return PendingError.exit_code if self.plan.waiting else 0


@dataclass(frozen=True, slots=True)
class Since:
    """What was written to a generation since it went live: what a rollback would carry, or lose.

    Attributes:
        added: points.
        changed: points.
        deleted: points, but for those that fixes have deleted: these stay deleted in any case.
        named: some of them, as pairs of id and ``added``, ``changed`` or ``deleted``.
    """

    added: int = 0
    changed: int = 0
    deleted: int = 0
    named: tuple[tuple[int | str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class CollectionStatus:
    """One collection.

    Attributes:
        name: the logical name.
        revision: the newest applied one, or None.
        revision_doc: first line of its docstring.
        generation: ``g0002``, or ``plain``; None when nothing serves.
        points: exact count, or None.
        state: ``ready|pending|drift|running|held|interrupted|failed|unmanaged|plain|foreign``.
        pending: revisions to come.
        detail: the state in words.
        phase: of an unfinished run.
        percent: points done of an unfinished run, 0 to 100.
        eta_seconds: what is left of it.
        host: where it runs or ran.
        next_command: what to type next, or None.
        written_since: since it went live, where there is a way back; None where that is not known, or takes too long.
        not_counted: why it isn't, where there is a way back.
        untouched: later revisions that have nothing for it: it is at the newest one all the same.
    """

    name: str
    revision: str | None
    revision_doc: str | None
    generation: str | None
    points: int | None
    state: str
    pending: tuple[str, ...] = ()
    detail: str = ""
    phase: str | None = None
    percent: float | None = None
    eta_seconds: float | None = None
    host: str | None = None
    next_command: str | None = None
    written_since: Since | None = None
    not_counted: str | None = None
    untouched: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Status:
    """`status`.

    Attributes:
        qdrant: where, and which version.
        ledger: where, without secrets.
        head: newest revision of the files; None when there is none, or several.
        pending: collections with revisions to come.
        notes: what a person should know.
    """

    qdrant: str
    ledger: str
    head: str | None
    collections: tuple[CollectionStatus, ...]
    pending: int
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class HistoryEntry:
    """A revision that was applied to a collection or rolled back; or an attempt that came to nothing.

    Attributes:
        direction: ``upgrade``, ``rollback``; ``stamp``, ``unstamp``: only the record; of an attempt its verb.
        strategy: how: ``copy | clone | in_place | create | drop | adopt``.
        physical: the generation that served afterwards.
        run: id in the ledger.
        actor: who: user and host.
        report: the proof, where there was one.
        id: number of the row; None of an attempt, which has only that of its run.
        title: first line of the revision's docstring, as its file has it now.
        points: that were proven, changed or deleted; None where the step counts none.
        reason: given with it; of an attempt, why it ended.
        seconds: from the beginning of its run; an interruption counts, a wait for the cut-over doesn't.
        fixes: numbers of a data fix, as ``fix undo`` takes them; `undoes`: the one that it has undone, or None.
        state: ``done``; of an attempt ``failed | refused | unchanged | aborted | held | running``.
        held: whether it waited for its cut-over.
    """

    created_at: datetime
    collection: str
    revision: str
    direction: str
    strategy: str | None
    physical: str | None
    run: int | None
    actor: str | None
    report: Mapping[str, Any] | None = None
    id: int | None = None
    title: str | None = None
    points: int | None = None
    reason: str | None = None
    seconds: float | None = None
    fixes: tuple[int, ...] = ()
    undoes: int | None = None
    state: str = "done"
    held: bool = False


@dataclass(frozen=True, slots=True)
class History:
    """`history`, newest first; `notes`: what is wrong with revision files."""

    rows: tuple[HistoryEntry, ...]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class LateWrite:
    """A write that the old generation acknowledged after the proof, and what became of it.

    Attributes:
        kind: ``may_undo_delete | may_overwrite | kept | not_made | may_have_missed | unknown | already_there |
            carried``, the most doubtful first; of ``unknown`` an earlier qmigrate has not recorded what it met.
        reason: the same for people.
        run: id in the ledger.
        direction: ``upgrade`` or ``rollback``.
        old: of the generation that was left: ``generation``, ``before`` and ``written`` (digests of the point; None
            where there was none), ``now`` (its payload, shortened; None where it can't be read or isn't there).
        new: of that which serves: ``generation``, ``before`` (as proven), ``met`` (at the write), ``after``, ``now``.
    """

    kind: str
    collection: str
    id: int | str
    reason: str
    revision: str
    run: int
    direction: str
    old: Mapping[str, Any]
    new: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class LateWrites:
    """`history --carried`: one row per id, the most doubtful first.

    Attributes:
        counts: how many of each kind.
        notes: why values of today are missing.
    """

    revision: str
    rows: tuple[LateWrite, ...]
    counts: Mapping[str, int]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class SnapshotEntry:
    """A server-side snapshot, or an archive.

    Attributes:
        collection: the logical name.
        physical: what it was made of.
        size: in bytes.
        checksum: SHA-256 of a snapshot, the digest of an archive's lines; in hex.
        kind: ``snapshot`` or ``archive``.
        generation: like ``g0002``; ``plain`` for a collection without a number.
        revision: that the collection was at when it was made; None where that isn't known.
        points: of an archive.
        kept_until: when its collection may be deleted, and a server-side snapshot with it; None for what serves.
        path: of an archive.
        whole: it holds the entire collection, so it is a way back; else some points of it, kept for something else.
    """

    collection: str
    physical: str
    name: str
    size: int
    checksum: str | None
    created_at: datetime | None
    kind: str = "snapshot"
    generation: str | None = None
    revision: str | None = None
    points: int | None = None
    kept_until: datetime | None = None
    path: Path | None = None
    whole: bool = True


@dataclass(frozen=True, slots=True)
class Snapshots:
    """`snapshot create` and `snapshot list`; `notes`: what is wrong with revision files."""

    rows: tuple[SnapshotEntry, ...]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that `doctor` checked.

    Attributes:
        ok: False for a failure, None where it is only to be known, or a warning.
        detail: what was found, for people.
        hint: the next command, or the repair.
        exit_code: of the error of a failure, 0 without one.
        group: what it belongs to, for people.
        warns: it will block something; only with `ok` None.
        facts: the same for programs: plain JSON.
    """

    name: str
    ok: bool | None
    detail: str
    hint: str | None = None
    exit_code: int = 0
    group: str = ""
    warns: bool = False
    facts: Mapping[str, Any] = field(default_factory=dict)

    @property
    def level(self) -> str:
        """``fail``, ``warn``, ``ok`` or ``info``."""
        if self.ok is None:
            return "warn" if self.warns else "info"
        return "ok" if self.ok else "fail"

    def to_json(self) -> dict[str, Any]:
        """Plain JSON, with the level."""
        names = ("name", "group", "level", "ok", "detail", "hint", "exit_code")
        return {**{name: getattr(self, name) for name in names}, "facts": dict(self.facts)}


@dataclass(frozen=True, slots=True)
class Doctor:
    """`doctor`.

    Attributes:
        checks: in the order in which they were made.
        seconds: how long they took.
    """

    checks: tuple[Check, ...]
    seconds: float = 0.0

    @property
    def failed(self) -> int:
        """How many checks failed."""
        return sum(check.ok is False for check in self.checks)

    @property
    def warned(self) -> int:
        """How many checks warn."""
        return sum(check.level == "warn" for check in self.checks)

    @property
    def exit_code(self) -> int:
        """That of the failed checks where they agree, else 9; 0 when everything is in order."""
        codes = {check.exit_code or 9 for check in self.checks if check.ok is False}
        return codes.pop() if len(codes) == 1 else 9 * bool(codes)

    def to_json(self) -> dict[str, Any]:
        """Plain JSON; the numbers first, so that no reader has to count."""
        return {
            "failed": self.failed,
            "warned": self.warned,
            "exit_code": self.exit_code,
            "seconds": self.seconds,
            "checks": [check.to_json() for check in self.checks],
        }


@dataclass(frozen=True, slots=True)
class Waited:
    """`wait`: what answers now, after how many seconds."""

    qdrant: bool
    ledger: bool
    seconds: float


@dataclass(frozen=True, slots=True)
class Repaired:
    """`repair`.

    Attributes:
        action: ``accept``, ``name``, ``vanished``, ``unlock`` or ``leftovers``.
        subject: revision, collection or generation; the names that were removed.
        detail: what was done.
        meaning: of an accepted file, compared with what was applied: ``same``, ``changed``, or ``unknown``.
        differences: in what they differ, one line each.
    """

    action: str
    subject: str
    detail: str
    meaning: str | None = None
    differences: tuple[str, ...] = ()
