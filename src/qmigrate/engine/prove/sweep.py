"""After a swap (rules 4 to 6): the old generation is fenced; what came late is carried or listed. It moves no name."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Set
from dataclasses import replace

from qmigrate.engine.barriers import (
    TokenGuard,
    barrier,
    delta_of,
    exact,
    measure,
    moved_in_all,
    nothing_written,
    wait_for_stragglers,
)
from qmigrate.engine.epoch_aliases import own, reach
from qmigrate.engine.points.base import BaseEntry, PageWriter, left_by, unpack
from qmigrate.engine.points.compare import Judge
from qmigrate.engine.prove.carry import ALREADY, AT_ONCE, LISTED, Late, NewSide, add_to, carry_by_version, carry_one
from qmigrate.engine.prove.delta import written_since
from qmigrate.engine.prove.passes import Sides, keyed, page_of
from qmigrate.engine.work import Work
from qmigrate.errors import RepairNeededError
from qmigrate.model.facts.phases import Left, Sweep
from qmigrate.model.report import (
    MAY_MISS,
    MAY_OVERWRITE,
    MAY_UNDO,
    SweepReport,
)
from qmigrate.model.schema import JsonObject
from qmigrate.model.transform import PointId
from qmigrate.ports import OperationIds, Stored
from qmigrate.sequences import join
from qmigrate.store import records

#: Rounds after which another client must be writing to the old generation directly.
MOST_ROUNDS = 8
#: Seconds after which the write limiter lets one write per shard pass again, with a margin.
TOKEN_RETURNS = 50.0


def fence(work: Work, physical: str) -> None:
    """Fence a generation once; the earlier strict mode is recorded first, so that it can be restored."""
    if work.store.capabilities.local or work.generation(physical) is None:
        return
    record_fence(work, physical)
    # Load-bearing: a fence of a holder that was replaced would stop the writes of a generation that serves again.
    work.store.fence(own(work, physical))


def record_fence(work: Work, physical: str) -> JsonObject:
    """Keep the earlier strict mode in the ledger, where it isn't kept yet.

    Returns:
        What to restore when the fence is lifted.
    """
    generation = work.generation(physical)
    if generation is not None and generation.fence is not None:
        return generation.fence
    found = work.store.describe(reach(work, physical))
    prior = dict(found.schema.config.get("strict_mode_config") or {}) if found else {}
    if generation is not None:
        work.lease.save_generation(replace(generation, fence=prior))
    return prior


def sweep(
    work: Work, sides: Sides, *, since: OperationIds | None, target_since: OperationIds | None
) -> SweepReport:
    """Carry over what the old generation acknowledged after the last pass read it.

    Args:
        since: operation ids of the old side before the last pass began; None when nothing is known of them.
        target_since: operation ids of the new side when the proof ended.

    Raises:
        RepairNeededError: the old generation keeps being written to.
    """
    report = SweepReport()
    delta = delta_of(work)
    wait_for_stragglers(work, reach(work, sides.source))
    fence(work, sides.source)
    # Load-bearing: a holder that was replaced must not take the tokens of what may serve again by now.
    taken = work.store.take_tokens(own(work, sides.source))
    now = barrier(work.store, reach(work, sides.source))
    # Carries of an interrupted try: what the new side took in addition is unknown.
    known = work.lease.ledger.carries(work.run, work.step)
    earlier = [carry for carry in known if carry.state not in (LISTED, ALREADY)]
    for carry in earlier:
        undoes = carry.doubt is not None and carry.doubt.reason == MAY_UNDO
        add_to(report, carry.point_id, MAY_UNDO if undoes else "carried over by a run that was interrupted")
    report.carried = len(earlier)
    if nothing_written(work, since, now, delta=delta, own_writes=taken):
        note_left(work, now, delta)
        return report
    carried: dict[PointId, str | None] = {}
    told = NewSide.of(work, sides, target_since)
    while report.rounds < MOST_ROUNDS:
        report.rounds += 1
        guard = TokenGuard(work, own(work, sides.source)) if not now else None
        started = time.monotonic()
        carried |= _read_and_carry(work, sides, report, now, guard or told)
        alone = guard is not None and guard.clean()
        taken = work.store.take_tokens(own(work, sides.source))
        before, now = now, barrier(work.store, reach(work, sides.source))
        if alone or is_last(work, before, now, (delta, taken), time.monotonic() - started):
            if told is None:
                _list_unproven(work, sides, report, (carried, report.carried - len(earlier)), target_since)
            else:
                _list_doubtful(report, carried)
            _absorb(work, sides)
            note_left(work, now, delta)
            return report
    raise RepairNeededError(
        f"another client keeps writing to {sides.source}, the old generation of {work.collection}, under its own name: "
        f"{report.carried:,} writes were carried over in {report.rounds} rounds",
        hint=f"find the client that uses the name {sides.source}, stop it, then run qmigrate upgrade again",
    )


def note_left(work: Work, ids: OperationIds, delta: int) -> None:
    """Keep the operation ids with which the old generation was left: gc asks whether anything came after them."""
    work.note(replace(work.facts(Sweep), left=Left(dict(ids), delta)))


def leave_unread(work: Work, physical: str) -> None:
    """The same for a generation whose points are given up on purpose, so that nothing of it is read or carried."""
    address = own(work, physical)
    delta = measure(work.store, address)
    note_left(work, barrier(work.store, address), delta)


def _journaled(work: Work, states: Set[str]) -> dict[bytes, BaseEntry]:
    """What the carries of this step in one of `states` have left behind, by order key: their ids' newest base."""
    return left_by(work.lease.ledger.carries(work.run, work.step), states)


def _absorb(work: Work, sides: Sides) -> None:
    """Put what was carried into the base, so that a later rollback doesn't take it for written since."""
    carried = _journaled(work, {"done"})
    if not carried or sides.base != sides.target:
        return
    work.lease.discard_stage(sides.base)
    for share in work.lease.ledger.ranges(work.run, sides.step):
        start = records.order_key(share.start) if share.start is not None else b""
        stop = records.order_key(share.stop) if share.stop is not None else b"\xff"
        own_share = sorted((key, entry) for key, entry in carried.items() if start <= key < stop)
        pages = PageWriter()
        for key, known, late in join(unpack(sides.base_pages(work, share.number)), own_share):
            entry = late or known
            if entry is not None and entry.source != records.ABSENT:
                pages.add(key, entry)
            if pages.full:
                work.lease.stage_base(sides.base, share.number, pages.take())
        work.lease.stage_base(sides.base, share.number, pages.take())
    work.lease.commit_base(sides.base)


def is_last(work: Work, before: OperationIds, now: OperationIds, own: tuple[int, int], seconds: float) -> bool:
    """Whether nothing can have been written since the reading of this round began."""
    if nothing_written(work, before, now, delta=own[0], own_writes=own[1]) or work.store.capabilities.local:
        return True
    # Without ids: the fence holds and every token was taken, so nothing passed until the first token came back.
    return (not now or not exact(work)) and own[1] == 0 and seconds < TOKEN_RETURNS


def _read_and_carry(
    work: Work, sides: Sides, report: SweepReport, ids: OperationIds, how: TokenGuard | NewSide | None
) -> dict[PointId, str | None]:
    """One reading of the old side against the base, with the carries of this step laid over it.

    A carry that was begun by a process that died is gone into again, whatever the old side holds now: what that
    process wrote may be made of something that the old side does not hold any more.

    Args:
        how: what tells that no other client writes to the old side, or what was written to the new one.

    Returns:
        What was carried, each with what is doubtful about it: by versions that is final, else it holds until the new
        side is known to have been left alone.
    """
    guard, told = (how if isinstance(how, TokenGuard) else None), (how if isinstance(how, NewSide) else None)
    journal = work.lease.ledger.carries(work.run, work.step)
    done = left_by(journal, {"done", LISTED})
    ours = left_by(journal, {"running", "done"}).keys()
    begun = left_by(journal, {"running"}).keys()
    # An id that was inserted once stays doubtful for that, whatever comes late for it afterwards.
    inserted = {one.point_id for one in journal if one.doubt is not None and one.doubt.reason == MAY_UNDO}
    judge = Judge(sides.maker, sides.digest(work))
    journaled = {records.order_key(one.point_id) for one in journal}
    carried: dict[PointId, str | None] = {}
    waiting: list[Late] = []
    for key, stored, entry in _points(work, sides, journaled, ids, guard):
        if guard is not None:
            guard()
        known = done.get(key, entry or BaseEntry(records.ABSENT, records.ABSENT))
        whole = judge.digest(stored) if stored is not None else records.ABSENT
        if whole == known.source and key not in begun:
            continue
        identifier = records.id_of_key(key)
        # What neither side had may have been deleted through the name before it is carried.
        fresh = stored is not None and known.target == records.ABSENT
        doubt = MAY_UNDO if fresh or identifier in inserted else MAY_OVERWRITE
        late = Late(identifier, stored, known, whole, doubt, begun=key in begun, kept=key in ours)
        if told is not None:
            waiting.append(late)
            if len(waiting) == AT_ONCE:
                carried |= carry_by_version(work, sides, judge, waiting, (report, told))
                waiting = []
        elif carry_one(work, sides, judge, late, report):
            carried[identifier] = late.doubt
    if told is not None and waiting:
        carried |= carry_by_version(work, sides, judge, waiting, (report, told))
    return carried


def _points(
    work: Work, sides: Sides, journaled: Set[bytes], ids: OperationIds, guard: TokenGuard | None
) -> Iterator[tuple[bytes, Stored | None, BaseEntry | None]]:
    """Points of the old side with their base, in order: those that can have been written late, or all of them.

    Args:
        journaled: order keys of what this step has carried or listed.
        ids: behind the newest barrier.
    """
    written = written_since(work, sides, ids, journaled) if guard is None else None
    if written is not None:
        return written
    base = unpack(sides.base_pages(work))
    return join(keyed(work, sides.source, (None, None), page_of(work, sides.source)), base)


def _list_doubtful(report: SweepReport, carried: Mapping[PointId, str | None]) -> None:
    """List what versions leave open; what only a request by a filter may have gone past is counted."""
    for identifier, doubt in carried.items():
        if doubt not in (None, MAY_MISS):
            add_to(report, identifier, doubt)
    report.by_filter = sum(doubt == MAY_MISS for doubt in carried.values())


def _list_unproven(
    work: Work,
    sides: Sides,
    report: SweepReport,
    carries: tuple[Mapping[PointId, str | None], int],
    since: OperationIds | None,
) -> None:
    """List the carries unless the new side shows nothing but our own writes since the proof.

    Args:
        carries: what was carried, with what is doubtful about it, and in how many writes.
    """
    carried, writes = carries
    if not carried:
        return
    if not work.store.capabilities.alone:
        now = barrier(work.store, reach(work, sides.target))
        moved = moved_in_all(since, now) if since is not None and exact(work) else None
        if moved is None or moved != len(now) * delta_of(work) + writes:
            for identifier, doubt in carried.items():
                add_to(report, identifier, doubt or MAY_OVERWRITE)
            return
    work.lease.carried_for_sure(work.run, work.step, list(carried))
