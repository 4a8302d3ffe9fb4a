"""What may be collected: generations past their holdover and leftovers, with the reason for each that stays. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from qmigrate.model.names import REHEARSAL, is_made
from qmigrate.model.plan import CollectionPlan, Job, Plan, Retire
from qmigrate.model.state import DELETING, CollectionState, Holding, KeptSnapshot, Seal
from qmigrate.observe import closed_later
from qmigrate.operations.checks import shown
from qmigrate.text import quote


@dataclass(frozen=True, slots=True)
class GcWish:
    """What a person, or the settings, have decided.

    Attributes:
        now: the moment that holdovers are compared with.
        ignore_holdover: also what is still held, and with it the way back.
        writes: ``refuse`` or ``discard`` what was written to a generation after it was left.
        keep_snapshots: snapshots are exported before their generation goes.
        automatic: no user is asked, so what may still be wanted is left alone.
        shown: physical names that a person has seen and agreed to; None for all.
        only: physical names that are meant; None for all. Nothing else goes, whatever its holdover.
        preview: nothing is done yet: a gc that was interrupted will be finished, or be over, before anything goes.
    """

    now: datetime
    ignore_holdover: bool = False
    writes: str = "refuse"
    keep_snapshots: bool = False
    automatic: bool = False
    shown: frozenset[str] | None = None
    only: frozenset[str] | None = None
    preview: bool = False


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether one physical collection goes.

    Attributes:
        state: of its record: ``live | retired | building | deleting``, or ``unknown``.
        reason: why it goes or stays.
        points: approximate count, None when it isn't in Qdrant.
        size: estimated bytes of its points.
        since: when it was retired or begun.
        held_until: end of its holdover.
        names: aliases that point to it.
    """

    collection: str
    generation: str
    goes: bool
    state: str
    reason: str
    points: int | None = None
    size: int | None = None
    since: datetime | None = None
    held_until: datetime | None = None
    names: tuple[str, ...] = ()
    snapshots: tuple[KeptSnapshot, ...] = ()


def judge(
    state: CollectionState, found: Sequence[Holding], ledger_id: str, choice: GcWish
) -> tuple[Verdict, ...]:
    """One verdict per holding, in their order."""
    verdicts = []
    for holding in found:
        keeps = _keeps(state, holding, ledger_id, choice)
        row = holding.row
        verdicts.append(
            Verdict(
                collection=state.name,
                generation=holding.physical,
                goes=keeps is None,
                state=row.state if row else "unknown",
                reason=_goes(holding, choice) if keeps is None else keeps,
                points=holding.points,
                size=holding.size,
                since=row.changed_at if row else None,
                held_until=row.held_until if row else None,
                names=holding.names,
                snapshots=holding.snapshots,
            )
        )
    return tuple(verdicts)


def plan_gc(state: CollectionState, verdicts: Sequence[Verdict], choice: GcWish) -> Plan:
    """One job that retires what goes; empty when nothing does."""
    going = [verdict for verdict in verdicts if verdict.goes]
    if not going:
        return Plan(verb="gc", target=(), collections=())
    steps = tuple(
        Retire(
            target=verdict.generation,
            reason=verdict.reason,
            writes=choice.writes,
            snapshots=tuple(made.name for made in verdict.snapshots),
            keep_snapshots=choice.keep_snapshots,
            spare=True,
        )
        for verdict in going
    )
    item = CollectionPlan(
        job=Job(state.name, state.basis(), steps),
        lines=tuple(f"delete {verdict.generation}" for verdict in going),
        reasons=tuple(f"{verdict.generation}  {verdict.reason}" for verdict in going),
        points=sum(verdict.points or 0 for verdict in going),
        bytes=sum(verdict.size or 0 for verdict in going),
    )
    return Plan(verb="gc", target=(), collections=(item,))


def _keeps(state: CollectionState, holding: Holding, ledger_id: str, choice: GcWish) -> str | None:
    """Why it stays, or None."""
    if choice.only is not None and holding.physical not in choice.only:
        return "another generation was named"
    reason = _untouchable(state, holding, ledger_id, preview=choice.preview)
    if reason is None:
        reason = _held(state, holding, choice)
    if reason is not None:
        return reason
    if holding.row is not None and holding.row.state == DELETING:
        return None
    lost = None if choice.ignore_holdover or choice.only is not None else _lost(state, holding)
    if lost is not None:
        return f"it has vector {shown(lost)!r}, which what serves has lost (qmigrate check): --now deletes it"
    if choice.writes != "discard" and _is_newer(state, holding, ledger_id):
        return (
            f"it was sealed later than {state.physical}, which serves: was an older snapshot recovered over that one? "
            "It may have the only copy of what was written since: --discard-writes deletes it"
        )
    if choice.automatic and holding.row is None and _is_late_copy(state, holding):
        return f"a snapshot was recovered under the name {holding.physical}, which no run uses: decide with qmigrate gc"
    if choice.automatic and holding.present and not is_made(holding.physical) and not holding.hidden:
        return f"applications may still use the name {holding.physical}: decide with qmigrate gc"
    foreign = [made.name for made in holding.snapshots if not made.own]
    if choice.automatic and foreign and not choice.keep_snapshots:
        return f"no run of this ledger made the snapshot {foreign[0]} of it: decide with qmigrate gc"
    if choice.shown is not None and holding.physical not in choice.shown:
        return "it was not in the list that was shown"
    return None


def _lost(state: CollectionState, holding: Holding) -> str | None:
    """A vector that what serves should have and hasn't, and that this generation may be the last to have; or None."""
    row = holding.row
    if row is None or row.state != "retired" or state.live is None or state.declared is None or not holding.present:
        return None
    missing = state.declared.vector_names() - state.live.schema.vector_names()
    return min(missing & row.schema.vector_names(), default=None)


def _is_newer(state: CollectionState, holding: Holding, ledger_id: str) -> bool:
    """Whether a generation that was left has a newer seal than what serves, which is always sealed last.

    Then what serves is of an earlier time, and lacks what was carried over to it before this one was left.
    """
    if holding.row is None or holding.row.state != "retired" or state.live is None:
        return False
    here, there = Seal.of(state.live.seal), Seal.of(holding.seal)
    return here.ledger == there.ledger == ledger_id and there.run is not None and there.run > (here.run or 0)


def _untouchable(state: CollectionState, holding: Holding, ledger_id: str, *, preview: bool) -> str | None:
    """What no decision of a person changes."""
    row = holding.row
    if state.open_run is not None and not (preview and state.open_run.job.repeatable):
        run, end = state.open_run, f"qmigrate abort {quote(state.name)}"
        return f"{run.verb} run {run.id} is not finished: qmigrate upgrade, or {end}"
    if holding.physical == state.physical or (row is not None and row.state == "live"):
        return "it serves"
    if holding.names:
        return f"{', '.join(holding.names)} points to it"
    if row is not None and row.state == "retired" and not holding.present and state.live is None:
        # Of a name that was dropped nothing else tells whether this is the Qdrant of the ledger.
        found = f"qmigrate repair --vanished {quote(holding.physical)}"
        return f"it is not here, and this may be another Qdrant than the ledger's; where it is gone: {found}"
    ours = Seal.of(holding.seal).ledger == ledger_id
    if row is None and not (ours and REHEARSAL.match(holding.physical)) and not _came_late(state, holding, ledger_id):
        return "it is not in the ledger"
    if holding.present and holding.seal is None:
        return "it has no seal" if not holding.hidden else "it is hidden by an alias, and nothing else leads to it"
    if holding.present and not ours:
        return "another ledger has sealed it"
    if row is not None and closed_later(state, Seal.of(holding.seal)):
        return "it is sealed as what has served, which this ledger does not record: was it restored from a backup?"
    if holding.present and holding.physical == state.name and not holding.hidden:
        return "no alias has its name, so applications reach it by that name"
    return None


def _came_late(state: CollectionState, holding: Holding, ledger_id: str) -> bool:
    """Whether it was made for a run that was over by then: recorded as gone, and sealed as still being built."""
    row, seal = state.generation(holding.physical), Seal.of(holding.seal)
    if row is None or row.state != "gone" or seal.ledger != ledger_id:
        return False
    return (seal.state, seal.generation) == ("building", row.number) or _is_late_copy(state, holding)


def _is_late_copy(state: CollectionState, holding: Holding) -> bool:
    """Whether a server recovered it of a snapshot then: it has the seal of its source, and its number never served."""
    row, seal = state.generation(holding.physical), Seal.of(holding.seal)
    if row is None or row.state != "gone" or row.revisions or seal.generation is None:
        return False
    return (seal.collection, seal.generation) != (state.name, row.number)


def _held(state: CollectionState, holding: Holding, choice: GcWish) -> str | None:
    row = holding.row
    if row is None or row.state != "retired" or choice.ignore_holdover:
        return None
    if row.held_until is not None and row.held_until <= choice.now:
        return None
    parent = state.parent()
    back = row.revision or "base"
    way = f"the way back to {back}" if parent is not None and parent.physical == row.physical else "held"
    return way if row.held_until is not None else f"{way}, without an end: --now deletes it"


def _goes(holding: Holding, choice: GcWish) -> str:
    """Why it goes."""
    row = holding.row
    if row is None:
        late = "made by a process that was paused until its run was over"
        return "left by a rehearsal" if REHEARSAL.match(holding.physical) else late
    if row.state == DELETING:
        return "its deletion has begun, and can only be finished"
    if row.state == "building":
        return "never finished, and no run works on it"
    if not holding.present:
        return "it is not in Qdrant any more: only the record is closed"
    if row.held_until is not None and row.held_until <= choice.now:
        return "its holdover has ended"
    return "its holdover is ignored"
