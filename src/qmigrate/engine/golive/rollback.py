"""What is special about going live backwards: counting what was written since, and exchanging the sides of the base."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Set
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import NamedTuple

from qmigrate.engine.as_applied import refuse_changed
from qmigrate.engine.barriers import barrier, measure, nothing_written
from qmigrate.engine.epoch_aliases import own, reach, release
from qmigrate.engine.fixes import reapply_deletions
from qmigrate.engine.points.base import base_name, committed, digest_of, drop_versions, exchanged, unpack
from qmigrate.engine.points.transformation import Maker
from qmigrate.engine.prove.delta import begin_recorded
from qmigrate.engine.prove.passes import REDO_BATCH, Sides, keyed, page_of
from qmigrate.engine.prove.proof import prove
from qmigrate.engine.prove.recorded import Found, Kept, read, written_since
from qmigrate.engine.retire.late_writes import differing
from qmigrate.engine.work import Work, transform_of
from qmigrate.errors import DriftError, NoVersionsError, OvertakenError, RefusedError, RepairNeededError
from qmigrate.model.facts.phases import GoLivePreflight, Proof, WritesSince
from qmigrate.model.facts.stored import known
from qmigrate.model.plan import RESTORED, GoLive
from qmigrate.model.report import NOT_BROUGHT, SweepReport
from qmigrate.model.schema import CollectionSchema, JsonObject
from qmigrate.model.transform import PointTransform
from qmigrate.operations.checks import is_sparse, shown
from qmigrate.operations.vector_common import params_of, stored_differently
from qmigrate.ports import OperationIds, Stored
from qmigrate.sequences import join
from qmigrate.store import records
from qmigrate.store.faults import RefusedRequestError
from qmigrate.store.records import Digest
from qmigrate.text import counted, quote, tallied

#: Pages of a base that are written together.
_PAGES = 16


def preflight(step: GoLive, work: Work) -> GoLivePreflight:
    """Count what was written since the parent was left, and refuse to lose it without consent."""
    _refuse_changed(step, work)
    _refuse_hollow(step, work)
    if work.step == 0:
        for later in work.job.steps[1:]:
            if isinstance(later, GoLive) and later.source is not None and later.target is not None:
                _refuse_changed(later, work)
                _refuse_hollow(later, work)
                _check_writes(later, work)
    if step.source is None or step.writes == "now":
        if step.source is not None:
            _refuse_now(step, work)
            _need_base(step, work)
        return GoLivePreflight()
    if step.target is not None and step.writes != "discard":
        ids, delta = _untouched(step, work)
        if ids is not None:
            return GoLivePreflight(WritesSince(), dict(ids), delta)
    return GoLivePreflight(_check_writes(step, work))


def _refuse_changed(step: GoLive, work: Work) -> None:
    """What was written since, also while the name moves, comes back by the code of the revisions that are undone.

    Raises:
        RefusedError: that differs from what was applied.
    """
    if None in (step.source, step.target) or step.apart or step.writes == "discard":
        return
    applied = {entry.revision: entry.checksum for entry in work.state.applied}
    why = f"what was written to {step.source} can't be brought back to {step.target} by it"
    refuse_changed(work.code, step.ops, applied, why, f"or {_discarding(step, work)} loses what was written since")


def _refuse_hollow(step: GoLive, work: Work) -> None:
    """Going back must not lose a vector that is there: another client may have dropped it where the name would lead.

    Raises:
        DriftError: so it is.
    """
    row = work.generation(step.target)
    target = work.store.describe(reach(work, step.target)) if step.target is not None else None
    source = work.store.describe(reach(work, step.source)) if step.source is not None else None
    if row is None or target is None or source is None:
        return
    # As it was left; what it lacked then is in no generation that came after it.
    made: Mapping[str, str] = {name: name for name in row.schema.vector_names()}
    if not step.apart and step.writes != "discard":
        # Where nothing is brought along, nothing may depend on the revision's code.
        made = transform_of(work.operations(step.ops), row.schema).vectors
    for ours, theirs in sorted(made.items()):
        left, there = params_of(row.schema, theirs), params_of(target.schema, theirs)
        if left is not None and params_of(source.schema, ours) is not None and not _alike(left, there):
            raise DriftError(
                f"{step.target} has lost vector {shown(theirs)!r} since {work.collection} left it: another client has "
                f"dropped it, and going back would serve without what {step.source} has in it",
                hint=f"qmigrate snapshot list {quote(work.collection)} shows what can be restored; or write a "
                f"downgrade() in the revision, and remove what is left of {step.target} before: "
                f"qmigrate gc {quote(work.collection)} --now --generation {quote(str(step.target))}",
            )


def _check_writes(step: GoLive, work: Work) -> WritesSince:
    """Count, and refuse what would be lost without consent."""
    if step.writes == "now":
        _refuse_now(step, work)
        return WritesSince()
    if _has_unknown_ids(step, work):
        if step.writes == "discard":
            return WritesSince()
        raise RefusedError(
            f"{work.collection} got other ids on the way from {step.target} to {step.source}, by a revision whose file "
            "can't be run: what was written since can't be counted",
            hint=f"repair the file; or {_discarding(step, work)} goes back to the old points as they were",
        )
    since = _count(step, work, tried=step.writes == "carry") if step.target is not None else _all_of(step, work)
    if since.total and step.writes == "refuse":
        raise _refusal(step, work, since)
    if since.total and step.writes == "carry":
        way = _way(step, work)
        if way.transform is None:
            raise RefusedError(
                f"{work.collection} was written to since it left {step.target}: {_counted(since)}{_named(since)}. They "
                f"can't be carried back, since {way.why}",
                hint=f"{_discarding(step, work)} loses them",
                facts={"writes_since": since.to_json()},
            )
        if work.step == 0:
            for what in _staying(step, work):
                work.progress.say(f"{work.collection}: not brought along is {what}")
    return since


def loses(step: GoLive) -> bool:
    """Whether what is written to the generation that is left would be lost without consent."""
    return step.back and step.source is not None and step.writes == "refuse" and (step.apart or step.target is None)


def refuse_overtaken(step: GoLive, work: Work) -> None:
    """Count again before the name moves: nothing brings along what came since the look, which may be long ago.

    Once points have been deleted where it goes to, it can only be finished: see :func:`late_in`.

    Raises:
        OvertakenError: something was written since.
    """
    begun, seen = work.facts(Proof), work.facts(GoLivePreflight)
    if begun.kept or begun.deleted_again is not None:
        return
    now = barrier(work.store, reach(work, str(step.source)))
    if nothing_written(work, seen.untouched, now, delta=seen.barrier_delta or 0):
        return
    try:
        _check_writes(step, work)
    except RefusedError as error:
        release(work, [step.source, step.target])
        raise OvertakenError(error.message, hint=error.hint, facts=error.facts) from error


def late_in(step: GoLive, work: Work) -> SweepReport:
    """What came all the same while the name moved: it stays where it is, and is listed; the generation is fenced."""
    report, forward = SweepReport(), _forward(step, work)
    if not work.lease.ledger.has_base(forward):
        return report
    found = differing(_live_points(step, work)[0], digest_of(work.lease.ledger, forward))
    for identifier, how in found.named:
        report.listed.add(identifier, f"{NOT_BROUGHT}: {how} while the name moved")
    report.listed.count = found.count
    if found.count:
        work.progress.say(
            f"{work.collection}: {step.source} took writes while the name moved, of {counted(found.count, 'point')}: "
            "they are only there, and gc asks before it deletes that"
        )
    return report


def _all_of(step: GoLive, work: Work) -> WritesSince:
    """Every point was written since, where the name is removed."""
    return WritesSince(added=work.store.count(reach(work, str(step.source))))


def converge(step: GoLive, work: Work) -> Proof:
    """Lift the parent's fence, exchange the base, carry what was written since, and prove the parent."""
    assert step.source is not None  # noqa: S101  golive looked
    assert step.target is not None  # noqa: S101
    lift_fence(step, work)
    if step.writes == "discard":
        return Proof()
    delta = _delta(step, work)
    now = barrier(work.store, reach(work, step.source))
    seen = work.facts(GoLivePreflight)
    reach_then = seen.barrier_delta if seen.barrier_delta is not None else delta
    if nothing_written(work, seen.untouched, now, delta=reach_then):
        # Both sides are what the forward proof saw: nothing has to be read again.
        return Proof(barrier_delta=delta, source_ids=dict(now), epoch=work.lease.epoch)
    if rekeys(step, work):
        return prove(work, sides_of(step, work), since=None, delta=delta, carrying=True)
    _exchange(step, work)
    sides = sides_of(step, work)
    because = begin_recorded(work, sides, base_name(step.target, step.source, back=False))
    if because is not None:
        work.progress.say(f"{work.collection}: all points of both generations are read, since {because}")
    if step.writes == "now":
        return Proof(barrier_delta=delta)
    return prove(work, sides, since=None, delta=delta, carrying=True)


def _delta(step: GoLive, work: Work) -> int:
    """How far one barrier moves ids: measured on the parent, or as it was when this generation was built.

    A hidden parent shows no ids, and on the live one others may write at the same time.
    """
    measured = measure(work.store, reach(work, str(step.target)))
    rows = work.lease.ledger.history(work.collection)
    noted = (row.told.barrier_delta for row in rows if row.physical == step.source)
    return measured or next((delta for delta in noted if delta), 0)


def sides_of(step: GoLive, work: Work) -> Sides:
    """The live generation as the source, its parent as the target."""
    assert step.source is not None  # noqa: S101  golive looked
    assert step.target is not None  # noqa: S101
    own_base = base_name(step.source, step.target, back=True)
    other_ids = rekeys(step, work)
    # Where ids differ, the way forward has written the base of the way back too, in its own order.
    has_own = other_ids or work.lease.ledger.has_base(own_base)
    return Sides(
        source=step.source,
        target=step.target,
        # Load-bearing: what was written since is carried through it, never by a holder that was replaced.
        alias=own(work, step.target),
        base=own_base if has_own else base_name(step.target, step.source, back=False),
        step=work.step,
        maker=_maker(step, work),
        exchange=not has_own,
        rekeys=other_ids,
        begins=lambda: _begins(work),
    )


def unbegun(work: Work) -> None:
    """Note before the first attempt that nothing is written to the parent yet: an abort leaves it as it was."""
    if (work.step, work.phase) not in work.learned:
        work.note(replace(work.facts(Proof), brought=False))


def _begins(work: Work) -> None:
    if work.facts(Proof).brought is False:
        work.note(replace(work.facts(Proof), brought=True))


def _maker(step: GoLive, work: Work) -> Maker | None:
    """What makes a point of the parent from one of the live generation; None where nothing does."""
    transform = _inverse(step, work)
    target = work.store.describe(reach(work, str(step.target)))
    return Maker(work, transform, target.schema) if transform is not None and target is not None else None


class _Way(NamedTuple):
    """How a point of the live generation becomes one of its parent.

    Attributes:
        transform: None where nothing does that.
        why: then the reason.
        lost: whether that is a vector which the live generation has had, so that each of its points counts as changed.
    """

    transform: PointTransform | None
    why: str = ""
    lost: bool = False


def _inverse(step: GoLive, work: Work) -> PointTransform | None:
    return _way(step, work).transform


def _way(step: GoLive, work: Work) -> _Way:
    target = None if step.apart or step.target is None else work.store.describe(reach(work, step.target))
    if target is None:
        return _Way(None, "they are points of another time")
    back = transform_of(work.operations(step.ops), target.schema).back()
    if back is None:
        return _Way(None, "the change has no inverse")
    lost = _lost(step, work, back, target.schema)
    if lost is not None:
        why = f"vector {shown(lost)!r} of {step.source} was dropped since, and {step.target} would lose its own with it"
        return _Way(None, why, lost=True)
    return _Way(back)


def _lost(step: GoLive, work: Work, back: PointTransform, parent: CollectionSchema) -> str | None:
    """A vector of the parent that the live generation has got from it and lost since, in place, or None.

    A revision may have dropped it, or another client; and one of its name may be there again, with values that have
    nothing to do with it. Each point that is brought would replace one of the parent that has it.
    """
    found = work.store.describe(reach(work, str(step.source)))
    live = found.schema if found is not None else CollectionSchema()
    dropped = work.lease.ledger.dropped_in_place(work.collection, str(step.source))
    for theirs, ours in sorted(back.vectors.items()):
        if ours in dropped or not _alike(params_of(live, ours), params_of(parent, theirs)):
            return ours
        # Another client may have made it again just as it was: no record shows that, but no point has it any more.
        none = found is not None and found.points > 0 and not _having(work, str(step.source), ours)
        if none and _having(work, str(step.target), theirs):
            return ours
    return None


def _having(work: Work, physical: str, vector: str) -> int:
    """How many points of a generation have a vector; one is enough to know where strict mode forbids to count them."""
    place = reach(work, physical)
    try:
        return work.store.count(place) - work.store.count(place, without_vector=vector)
    except RefusedRequestError:
        return len(work.store.sample_ids(place, 1, having=vector))


def _alike(one: JsonObject | None, other: JsonObject | None) -> bool:
    """Whether values of one vector can be those of another."""
    if one is None or other is None or is_sparse(one) != is_sparse(other):
        return False
    rows = [bool(params.get("multivector_config")) for params in (one, other)]
    return one.get("size") == other.get("size") and rows[0] == rows[1] and not stored_differently(one, other)


def _without_place(step: GoLive, work: Work) -> dict[str, int]:
    """Vectors of what is left that don't come along as far as the job goes back, and no model makes again.

    Returns:
        Each as it is called there, with how many points have it.
    """
    live = work.store.describe(reach(work, str(step.source)))
    # As it is called on the way -> as it is called there.
    names = {name: name for name in live.schema.vector_names()} if live is not None else {}
    left: set[str] = set()
    for one in work.job.steps[work.job.steps.index(step) :]:
        target = work.store.describe(reach(work, one.target)) if isinstance(one, GoLive) and one.target else None
        way = _way(one, work).transform if isinstance(one, GoLive) and target is not None else None
        if way is None or target is None or not isinstance(one, GoLive):
            break
        forward = transform_of(work.operations(one.ops), target.schema)
        # What the revision made of others, it makes of them again.
        made = {*way.vectors.values(), *forward.vectors, *forward.filled}
        left |= {called for name, called in names.items() if name not in made}
        names = {theirs: names[ours] for theirs, ours in way.vectors.items() if ours in names}
    having = {name: _having(work, str(step.source), name) for name in sorted(left)}
    return {name: count for name, count in having.items() if count > 0}


def _untouched(step: GoLive, work: Work) -> tuple[OperationIds | None, int]:
    """Operation ids now, when they show that nothing was written since it went live, and the reach of a barrier."""
    if not work.store.capabilities.barrier:
        return None, 0
    for row in work.lease.ledger.history(work.collection):
        closing = known(row.told.closing) if row.physical == step.source else None
        if closing is not None and row.direction != "rollback":
            now = barrier(work.store, reach(work, str(step.source)))
            delta = closing.barrier_delta
            return (now, delta) if nothing_written(work, closing.ids, now, delta=delta) else (None, 0)
    return None, 0


def _has_unknown_ids(step: GoLive, work: Work) -> bool:
    """Whether a Rekey lies between whose code can't be run: nothing says which point was which, and in which order.

    Only a Rekey leaves a base of the way back on the way forward.
    """
    restored = any(closing.direction == RESTORED for closing in work.job.closes)
    unread = step.apart and step.target is not None and not restored
    return unread and work.lease.ledger.has_base(base_name(str(step.source), str(step.target), back=True))


def _count(step: GoLive, work: Work, *, tried: bool) -> WritesSince:
    """Read the live generation against its base.

    Args:
        tried: make each point that would be brought back, once: what can't be made is refused before the first is.
    """
    _need_base(step, work)
    since = WritesSince()
    trial = _Trial(_maker(step, work) if tried else None)
    digest = digest_of(work.lease.ledger, _forward(step, work))
    work.progress.begin(work.collection, "count what was written since", None)
    points, since.read, since.because = _live_points(step, work)
    # They are done again where it goes back to, so nothing of them is lost.
    by_fixes = {records.order_key(identifier) for identifier in reapply_deletions.deleted_since(step, work)}
    tally(since, points, digest, by_fixes, trial.add)
    trial.make()
    read = "all points read" if since.read is None else f"{counted(since.read, 'point')} read again, by versions"
    because = f", since {since.because}" if since.because else ""
    work.progress.end(f"{_counted(since) if since.total else 'nothing'}; {read}{because}")
    return since


def tally(
    since: WritesSince,
    points: Iterable[Found],
    digest: Digest,
    by_fixes: Set[bytes],
    each: Callable[[Stored], None] = lambda _stored: None,
) -> None:
    """Count the points that are not what the base has of them.

    Args:
        points: with the base from their point of view.
        by_fixes: order keys of points that fixes have deleted.
        each: called with those that are there.
    """
    for key, stored, entry in points:
        known = entry.source if entry is not None else records.ABSENT
        if stored is None:
            # What was dropped on the way here never was there.
            if known != records.ABSENT and key not in by_fixes:
                since.add(records.id_of_key(key), "deleted")
        elif known == records.ABSENT or digest(stored) != known:
            since.add(records.id_of_key(key), "added" if known == records.ABSENT else "changed")
            each(stored)


def _live_points(step: GoLive, work: Work) -> tuple[Iterator[Found], int | None, str | None]:
    """Points of the live generation that may have been written since its proof, with its base; in order.

    Returns:
        How many points are read, and why all of them are, None where that is so; see :class:`WritesSince`.
    """
    source, name = str(step.source), _forward(step, work)
    reached = reach(work, source)
    if not rekeys(step, work):
        kept = Kept(work.store, work.lease.ledger, name, "target", source, reached, tick=work.tick)
        try:
            keys = written_since(kept, lambda: barrier(work.store, reached))
        except NoVersionsError as error:
            because = error.message
        else:
            return read(kept, keys), len(keys), None
    else:
        because = "points got other ids on the way"
    live = keyed(work, source, (None, None), page_of(work, source))
    return join(live, unpack(_forward_pages(step, work))), None, because


@dataclass(slots=True)
class _Trial:
    """Points as they would be brought back, made and thrown away."""

    maker: Maker | None
    points: list[Stored] = field(default_factory=list)

    def add(self, stored: Stored) -> None:
        """One more that was written since."""
        if self.maker is not None:
            self.points.append(stored)
            if len(self.points) >= REDO_BATCH:
                self.make()

    def make(self) -> None:
        """What is collected; an error of the inverse comes out of here."""
        if self.maker is not None and self.points:
            self.maker.make(self.points)
            self.points = []


def _forward_pages(step: GoLive, work: Work) -> Iterator[bytes]:
    """What the proof of the live generation saw, in the order of its ids and from its point of view."""
    pages = committed(work.lease.ledger, _forward(step, work))
    return pages if rekeys(step, work) else exchanged(pages)


def _forward(step: GoLive, work: Work) -> str:
    """Name of the base that the proof of the live generation has left, in the order of its ids."""
    if rekeys(step, work):
        return base_name(step.source, step.target, back=True)
    return base_name(step.target, step.source, back=False)


def _need_base(step: GoLive, work: Work) -> None:
    if step.target is None or step.writes == "discard":
        return
    names = [base_name(step.target, step.source, back=False)]
    names += [base_name(step.source, step.target, back=True)] if rekeys(step, work) else []
    if not all(work.lease.ledger.has_base(name) for name in names):
        raise RepairNeededError(
            f"the ledger has no base of {step.source}, so what was written since it left {step.target} is unknown",
            hint=f"{_discarding(step, work)} goes back to the old points as they were",
        )


def _refuse_now(step: GoLive, work: Work) -> None:
    """Flipping first needs a way to carry afterwards, and there is none between two sets of ids."""
    if step.target is not None and rekeys(step, work):
        raise RefusedError(
            f"{work.collection} got other ids on the way from {step.target} to {step.source}: what was written since "
            "can't be carried back afterwards, so it has to be counted first",
            hint=f"the rollback without --now counts it; {_discarding(step, work)} loses it",
        )
    way = _way(step, work)
    if way.lost:
        raise RefusedError(
            f"what was written to {step.source} since can't be carried back afterwards, since {way.why}",
            hint=f"{_discarding(step, work)} loses it",
        )


def rekeys(step: GoLive, work: Work) -> bool:
    """Whether the points of the two generations have different ids."""
    return not step.apart and any(operation.rekeys for operation in work.operations(step.ops))


def _discarding(step: GoLive, work: Work) -> str:
    """The command that goes back whatever was written since."""
    if step.undoes is not None:
        return f"qmigrate fix undo {quote(step.undoes)} --overwrite"
    name = quote(work.collection)
    # Of this collection alone: others may have been written to as well.
    # A rollback goes without the code of a revision that can't be run, too; else it is the undo of a restore.
    restored = step.apart and any(closing.direction == RESTORED for closing in work.job.closes)
    verb = f"snapshot restore {name} --undo" if restored else f"rollback … --only {name}"
    return f"qmigrate {verb} --discard-writes"


def _refusal(step: GoLive, work: Work, since: WritesSince) -> RefusedError:
    ways, way = f"{_discarding(step, work)} loses them", _way(step, work)
    if way.transform is not None:
        carrying = f"qmigrate rollback … --only {quote(work.collection)} --carry-writes"
        left = "".join(f", but not {what}" for what in _staying(step, work))
        ways = f"{carrying} brings them along (all {since.total:,} can be){left}, or {ways}"
    none = f"; every point counts, and none can be carried back, since {way.why}" if way.lost else ""
    return RefusedError(
        f"{work.collection} was written to since it left {step.target or 'nothing'}: {_counted(since)}{_named(since)}. "
        f"Going back now would lose them{none}",
        hint=ways,
        facts={"writes_since": since.to_json()},
    )


def _staying(step: GoLive, work: Work) -> list[str]:
    """What is not brought along of the points that are, in words."""
    return [
        f"what {counted(points, 'point')} {'has' if points == 1 else 'have'} in vector {shown(vector)!r}, which stays "
        f"in {step.source} until gc"
        for vector, points in _without_place(step, work).items()
    ]


def _counted(since: WritesSince) -> str:
    return tallied("point", (since.added, "added"), (since.changed, "changed"), (since.deleted, "deleted"))


def _named(since: WritesSince) -> str:
    """Which points these are, behind their number; the error's facts name as many."""
    if not since.named:
        return ""
    more = f", … {since.total:,} in all" if since.total > len(since.named) else ""
    return f": {', '.join(f'{identifier} ({how})' for identifier, how in since.named)}{more}"


def lift_fence(step: GoLive, work: Work) -> None:
    """Take the fence from the generation that is about to serve again."""
    generation = work.generation(step.target)
    if generation is None or generation.fence is None:
        return
    work.store.lift_fence(own(work, str(step.target)), generation.fence)
    work.lease.save_generation(replace(generation, fence=None))


def _exchange(step: GoLive, work: Work) -> None:
    """The forward base with its sides exchanged, in one range: the parent is what it was, the fence saw to that."""
    name, forward = base_name(step.source, step.target, back=True), base_name(step.target, step.source, back=False)
    work.lease.fix_ranges(work.run, work.step, [(None, None)])
    # Load-bearing: what is recorded with this name belongs to another base.
    drop_versions(work.lease, name)
    work.lease.begin_base(name, like=forward)
    pages = exchanged(committed(work.lease.ledger, forward))
    while some := list(islice(pages, _PAGES)):
        work.tick()
        work.lease.stage_base(name, 0, some)
    work.lease.commit_base(name, seen=False)
