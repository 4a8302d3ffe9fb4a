"""One late write after another, or some at once: carried over to the new side, or kept there and listed (rule 6).

Where the versions of the new side are known, a point of it whose number is not above that of the proof was written by
no other client since: it is carried over without a doubt about requests that name their points. What is there with
another number is kept and listed. A deletion that met nothing leaves no number: insertions next to other writes are
listed, and all others next to them are named for what a request by a filter may not have met. It fences nothing.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from qmigrate.engine.barriers import exact
from qmigrate.engine.epoch_aliases import check_same, own, reach
from qmigrate.engine.points.base import BaseEntry
from qmigrate.engine.points.compare import Judge
from qmigrate.engine.points.transformation import Made, Maker, write
from qmigrate.engine.prove.delta import newest
from qmigrate.engine.prove.passes import Sides, forgive
from qmigrate.engine.work import Work
from qmigrate.errors import EmbedError, PlanError
from qmigrate.ledger import Carry, Doubt
from qmigrate.model.ids import points_of
from qmigrate.model.names import EpochAlias
from qmigrate.model.report import KEPT, MAY_MISS, MAY_OVERWRITE, MAY_UNDO, NOT_BROUGHT, SweepReport, VerificationReport
from qmigrate.model.transform import PointId
from qmigrate.ports import OperationIds, Stored
from qmigrate.store import records

#: State of an id in the journal that was kept as it is and named in the report.
LISTED = "listed"
#: Not carried, because the new generation has it already; also its state in the journal.
ALREADY = "already there"
#: Late writes that are carried at once by versions: the fewer, the shorter are the moments in which others may write.
AT_ONCE = 32
#: What may be doubtful about a carry, the worst first.
DOUBTS = (MAY_UNDO, MAY_OVERWRITE, MAY_MISS, None)


class Late(NamedTuple):
    """One id that the old generation took a write of.

    Attributes:
        stored: its point there as it is now, or None.
        known: its base, with the carries of this step.
        whole: the digest of `stored`.
        doubt: what is doubtful about a carry, until the new side is known to have been left alone.
        begun: a process that died was about to carry it.
        kept: the journal has a carry of it already.
        numberless: it is there on the new side, and no number tells who has written it.
    """

    identifier: PointId
    stored: Stored | None
    known: BaseEntry
    whole: bytes
    doubt: str
    begun: bool
    kept: bool
    numberless: bool = False


@dataclass(slots=True)
class NewSide:
    """What versions tell of the new side: for one shard on one node, where every number up to the proof is ours.

    Attributes:
        vector: by which it is listed.
        since: the last operation before the proof ended.
        ours: operations of ours since.
        numbers: those by which ids were carried; None where that isn't known.
        rows: what the journal has of what was carried.
    """

    vector: str
    since: int
    ours: int = 0
    numbers: dict[PointId, int | None] = field(default_factory=dict)
    rows: dict[PointId, Carry] = field(default_factory=dict)

    @classmethod
    def of(cls, work: Work, sides: Sides, since: OperationIds | None) -> NewSide | None:
        """None where they tell nothing; both sides were listed for the proof, by this very holder."""
        known = newest(work, sides)
        if known is None or not since or len(since) != 1 or not exact(work):
            return None
        return cls(known.by.shadow, next(iter(since.values())))

    def counted(self, work: Work, alias: EpochAlias) -> int | None:
        """The number of an operation of ours that changes nothing: faster than asking the server for its last one."""
        self.ours += 1
        return work.store.delete(alias, [str(uuid.uuid4())])

    def look(self, work: Work, sides: Sides, ids: Sequence[PointId]) -> dict[PointId, int]:
        """Their numbers; a point without the vector has none, as has one that isn't there."""
        found: dict[PointId, int] = {}
        for page in work.store.versions(reach(work, sides.target), self.vector, ids=ids):
            found.update(zip(points_of(page.ids), page.numbers.tolist(), strict=True))
        return found

    def is_ours(self, identifier: PointId, number: int | None) -> bool:
        """Whether the point with this number was written by no other client since the proof."""
        return number is not None and (number <= self.since or number == self.numbers.get(identifier))

    def others(self, now: int | None) -> bool:
        """Whether another client has written anything at all until then."""
        return now is None or now - self.since != self.ours


def carry_by_version(
    work: Work, sides: Sides, judge: Judge, lates: Sequence[Late], told: tuple[SweepReport, NewSide]
) -> dict[PointId, str | None]:
    """Carry some ids at once. What can't be made, or has no place on the new side, goes one by one, and is listed.

    Returns:
        What was carried, each with what is doubtful about it.
    """
    maker, (report, side) = sides.maker, told
    assert maker is not None  # noqa: S101  no versions are listed where points can't be made
    placed = [late for late in lates if _without_place(sides, late.stored) is None]
    try:
        made = maker.make([late.stored for late in placed if late.stored is not None])
    except (EmbedError, PlanError):
        if len(lates) > 1:
            parts = [carry_by_version(work, sides, judge, [late], told) for late in lates]
            return {identifier: doubt for part in parts for identifier, doubt in part.items()}
        made, placed = Made([], [], [], []), []
    # A page whose vectors are carried names no ids.
    made = replace(made, ids=[late.identifier for late in placed if late.stored is not None])
    dropped = set(made.dropped)
    able = {late.identifier: late for late in placed if late.identifier not in dropped}
    done: dict[PointId, str | None] = {}
    for late in lates:
        if late.identifier not in able and carry_one(work, sides, judge, late, report):
            done[late.identifier] = late.doubt
    if not able:
        return done
    check_same(work, sides.source)
    alias = own(work, sides.target)
    # Journaled before the look, which the write has to follow at once.
    work.lease.carry_all(work.run, work.step, [_row(late, "running", late.doubt) for late in able.values()])
    # Load-bearing: counted before the look, so that what another client writes behind it shows.
    start = side.counted(work, alias)
    going = _untouched(work, sides, judge, able, told)
    if going:
        others, sent = side.others(start), _send(work, sides, alias, going, (made, side))
        # Between the look and our writes no other client has written: ours have the numbers that follow.
        race = start is None or sent != list(range(start + 1, start + 1 + len(sent)))
        after = _read_again(work, sides, judge, going, (side, others or race))
        for one, late in going.items():
            done[one] = _doubt_of(late, side.rows.get(one), others=others, race=race)
            side.rows[one] = _row(late, "done", done[one], after[one])
        work.lease.carry_all(work.run, work.step, [side.rows[one] for one in going])
        report.carried += len(going)
    return done


def _row(late: Late, state: str, doubt: str | None, after: bytes | None = None) -> Carry:
    """What the journal has of a carry by version: it has met what the base has."""
    known = late.known
    left = late.whole + (known.target if after is None else after)
    return Carry(late.identifier, known.source + known.target, left, state, Doubt(doubt, known.target))


def _doubt_of(late: Late, earlier: Carry | None, *, others: bool, race: bool) -> str | None:
    """What is doubtful about a carry; what was about an earlier one of the same id stays so.

    Args:
        others: whether other clients have written to the new side since the proof.
        race: whether one may have between the look and the carry.
    """
    found = None
    if others or race:
        blind = race or late.numberless
        found = MAY_UNDO if late.doubt == MAY_UNDO else MAY_OVERWRITE if blind else MAY_MISS
    then = earlier.doubt.reason if earlier is not None and earlier.doubt is not None else None
    return min(found, then, key=DOUBTS.index)


def _untouched(
    work: Work, sides: Sides, judge: Judge, able: Mapping[PointId, Late], told: tuple[SweepReport, NewSide]
) -> dict[PointId, Late]:
    """Those that no other client has written on the new side; the others are kept there, and listed."""
    report, side = told
    numbers = side.look(work, sides, list(able))
    asked = [one for one in able if not side.is_ours(one, numbers.get(one))]
    read = work.store.fetch(reach(work, sides.target), asked) if asked else ()
    found = {records.point_id(here): here for here in read}
    going: dict[PointId, Late] = {}
    for one, late in able.items():
        here = found.get(one)
        seen = judge.digest(here) if here is not None else records.ABSENT
        if side.is_ours(one, numbers.get(one)):
            going[one] = late
        elif one not in numbers and seen == late.known.target:
            # As absent as it was, or without the vector that is listed: its contents are all that tells.
            going[one] = late._replace(numberless=here is not None)
        else:
            reason = _why_kept(sides, judge, late, here) or KEPT
            if reason == ALREADY and one in side.rows:
                # What was carried earlier is what the journal goes on to have.
                work.lease.carry_all(work.run, work.step, [side.rows[one]])
            _keep(work, report, late, reason, seen)
    return going


def _why_kept(sides: Sides, judge: Judge, late: Late, here: Stored | None) -> str | None:
    """Why what is there is not overwritten; None where nothing but its being ours can tell.

    What can be compared may be equal; vectors that are made can't be: they may be made of another source, or of none.
    """
    if not _already(judge, late.stored, here):
        return KEPT
    if late.stored is None or sides.maker is None or not sides.maker.transform.filled:
        return ALREADY
    return None if late.begun else KEPT


def _send(
    work: Work, sides: Sides, alias: EpochAlias, going: Mapping[PointId, Late], ours: tuple[Made, NewSide]
) -> list[int | None]:
    """Write them; the numbers that our operations got."""
    maker, (made, side) = sides.maker, ours
    assert maker is not None  # noqa: S101  see carry_by_version
    dropped = set(made.dropped)
    ready = dict(zip((one for one in made.ids if one not in dropped), made.ready, strict=True))
    kept = [one for one in ready if one in going]
    if maker.quarantine is not None:
        maker.quarantine.record(kept, [one for one in made.failed if one.point_id in going])
    sent: list[int | None] = []
    gone = [one for one in going if one not in ready]
    if gone:
        sent.append(work.store.delete(alias, gone))
        forgive(maker, gone)
    fresh = [one for one in kept if going[one].known.target == records.ABSENT]
    others = [one for one in kept if going[one].known.target != records.ABSENT]
    for ids, new_only in ((fresh, True), (others, False)):
        for part in records.cut(ids, lambda one: len(ready[one]), records.BATCH_BYTES):
            number = work.store.upsert(alias, [ready[one] for one in part], new_only=new_only).wait()
            side.numbers.update(dict.fromkeys(part, number))
            sent.append(number)
    side.ours += len(sent)
    return sent


def _read_again(
    work: Work, sides: Sides, judge: Judge, going: Mapping[PointId, Late], told: tuple[NewSide, bool]
) -> dict[PointId, bytes]:
    """The digests of what was carried, as far as no other client has written it since.

    Contents are read before the numbers that tell whose they are.

    Args:
        told: the numbers of ours, and whether others have written to the new side at all.
    """
    side, others = told
    ids = list(going)
    found = {records.point_id(here): here for here in work.store.fetch(reach(work, sides.target), ids)}
    numbers = side.look(work, sides, list(found)) if found else {}
    after: dict[PointId, bytes] = {}
    for one, late in going.items():
        here = found.get(one)
        if late.stored is None or here is None:
            after[one] = records.ABSENT if here is None else records.UNKNOWN
        else:
            ours = numbers.get(one) == side.numbers.get(one) if one in numbers else not others
            after[one] = judge.digest(here) if ours else records.UNKNOWN
    return after


def carry_one(work: Work, sides: Sides, judge: Judge, late: Late, report: SweepReport) -> bool:
    """Carry one id; what can't be made or must not be overwritten is listed, once, and stops nothing."""
    met: bytes | None = None
    try:
        reason, met = _carry(work, sides, judge, late)
    except (EmbedError, PlanError) as error:
        reason = error.message
    if reason is not None:
        _keep(work, report, late, reason, met)
        return False
    report.carried += 1
    return True


def _keep(work: Work, report: SweepReport, late: Late, reason: str, met: bytes | None) -> None:
    """One that is not carried: listed, or there already."""
    identifier, known, whole = late.identifier, late.known, late.whole
    before = known.source + known.target
    # The base stays as it is, whatever was met: a further late write must not take that for its own doing.
    if reason != ALREADY:
        add_to(report, identifier, reason)
        work.lease.carry(work.run, work.step, identifier, before, whole + known.target, LISTED, Doubt(reason, met))
    elif not late.kept:
        # Kept for gc only, which would take it for written since the name moved.
        work.lease.carry(work.run, work.step, identifier, before, whole + known.target, ALREADY)


def _carry(work: Work, sides: Sides, judge: Judge, late: Late) -> tuple[str | None, bytes | None]:
    """Rule 6 for one id. T = base: apply S; T = f(S): it is there already; else T took another write: keep and list.

    Returns:
        Why it was not carried, or None when it was; and the digest of T, where it was read.
    """
    identifier, stored, known, whole = late.identifier, late.stored, late.known, late.whole
    if sides.rekeys:
        return f"{NOT_BROUGHT}, past its fence; in the other one it has another id: not carried", None
    here = next(iter(work.store.fetch(reach(work, sides.target), [identifier])), None)
    seen = judge.digest(here) if here is not None else records.ABSENT
    if seen != known.target:
        reason = _why_kept(sides, judge, late, here)
        if reason is not None:
            return reason, seen
    if stored is not None and sides.maker is None:
        return f"{NOT_BROUGHT}; the change has no inverse", seen
    strange = _without_place(sides, stored)
    if strange is not None:
        return f"has the vector {strange!r}, which was added to {sides.source} while the name moved: not carried", seen
    # Doubtful from now on, and for good where this process ends before it is known what else the new side took.
    before, doubt = known.source + known.target, Doubt(late.doubt, seen)
    work.lease.carry(work.run, work.step, identifier, before, whole + seen, "running", doubt)
    alias = own(work, sides.target)
    # A collection that was recreated while it is read lacks points that no client has deleted.
    check_same(work, sides.source)
    if stored is None:
        work.store.delete(alias, [identifier])
        forgive(sides.maker, [identifier])
    elif sides.maker is not None:
        made = sides.maker.make([stored])
        if made.dropped and here is None and sides.maker.quarantine is not None:
            # What is kept of it must be what was written last.
            sides.maker.quarantine.record(made.ids, made.failed)
            return f"{made.failed[0].reason}; left out, and kept with what could not be embedded before", seen
        if made.dropped:
            return _why_not_made(sides.maker, identifier, made, there=here is not None), seen
        for pending in write(work, alias, sides.maker, made):
            pending.wait()
    now = next(iter(work.store.fetch(reach(work, sides.target), [identifier])), None)
    after = judge.digest(now) if now is not None else records.ABSENT
    work.lease.carry(work.run, work.step, identifier, before, whole + after, "done", doubt)
    return None, seen


def _why_not_made(maker: Maker, identifier: PointId, made: Made, *, there: bool) -> str:
    """The report on a point that can't be filled; of one that was left out before, the quarantine has this reading.

    Args:
        there: whether the other side has it.
    """
    quarantine, reason = maker.quarantine, made.failed[0].reason
    if there or quarantine is None or identifier not in quarantine:
        return f"{reason}; nothing is dropped any more once the name has moved"
    quarantine.record(made.ids, made.failed)
    return f"{reason}; it was left out before, and still is"


def _without_place(sides: Sides, stored: Stored | None) -> str | None:
    """A vector of the point that the other side lacks, or None."""
    if stored is None or sides.maker is None:
        return None
    lacking = sides.maker.transform.vectors.keys() - sides.maker.schema.vector_names()
    return min(lacking & records.vector_messages(stored).keys(), default=None) if lacking else None


def add_to(report: SweepReport, identifier: PointId, reason: str) -> None:
    """List one id; what may undo a deletion comes first."""
    report.may_undo += reason == MAY_UNDO
    report.listed.add(identifier, reason, first=reason == MAY_UNDO)


def _already(judge: Judge, stored: Stored | None, here: Stored | None) -> bool:
    if stored is None or here is None:
        return stored is None and here is None
    return judge.why_not(stored, here, VerificationReport("", "")) is None
