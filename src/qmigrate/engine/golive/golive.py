"""Go live: move the name to the other generation, carry what came late, record it; backwards it is the rollback."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from qmigrate.embed.options import speed_key
from qmigrate.engine import closing
from qmigrate.engine.approval import need_approval
from qmigrate.engine.barriers import barrier, delta_of, exact, nothing_written
from qmigrate.engine.build import unchanged
from qmigrate.engine.epoch_aliases import (
    check_same,
    holder,
    look,
    own,
    reach,
    read_back,
    refuse_begun,
    refuse_hidden,
    swap,
)
from qmigrate.engine.fixes import reapply_deletions
from qmigrate.engine.further_names import moves, to_move
from qmigrate.engine.golive import freeze, plain_names, rollback, unrelated
from qmigrate.engine.golive.hold import hold
from qmigrate.engine.points.base import base_name
from qmigrate.engine.points.dropped import audit, keep_again
from qmigrate.engine.points.transformation import Maker, check_models
from qmigrate.engine.prove.delta import record
from qmigrate.engine.prove.passes import Sides
from qmigrate.engine.prove.proof import prove
from qmigrate.engine.prove.recorded import keep_alone
from qmigrate.engine.prove.rekey import check_time, must_freeze
from qmigrate.engine.prove.sweep import fence, leave_unread, sweep
from qmigrate.engine.work import Phase, Work, transform_of
from qmigrate.errors import EmbedderError, EmbedError, PlanError, RepairNeededError
from qmigrate.ledger.reader import present
from qmigrate.model.facts.history import CopyBefore, Measured, WentLive
from qmigrate.model.facts.phases import (
    Closed,
    Fill,
    GoLivePreflight,
    Hold,
    Index,
    Left,
    LeftOut,
    Preflight,
    Proof,
    Quality,
    SourceSnapshot,
    Swap,
    Sweep,
)
from qmigrate.model.facts.stored import UNLEARNED, Unlearned, known, learned, loaded, plain
from qmigrate.model.plan import Build, GoLive
from qmigrate.model.report import SweepReport
from qmigrate.operations.values import Embed
from qmigrate.store.weigh import weigh
from qmigrate.text import quote, tallied


def speed_of(work: Work, step: int) -> Measured | None:
    """Points and seconds of the phases of a build; None when it copied nothing, or in an earlier attempt only.

    Args:
        step: position of the build in the job.
    """
    if step < 0:
        return None
    build = work.job.steps[step]
    filled, proven = work.facts(Fill, step), work.facts(Proof, step)
    total = proven.report.points if proven.report is not None else 0
    if not isinstance(build, Build) or not filled.fresh or not total:
        return None
    return Measured(
        points=filled.fresh,
        fill=filled.seconds or 0.0,
        total=total,
        prove=proven.seconds or 0.0,
        index=work.facts(Index, step).seconds,
        embeds=len(work.facts(Preflight, step).embedders or {}),
        width=build.schema.bytes_per_point(),
        weight=weigh(work.store, build.target).per_point(build.schema),
        models=tuple(sorted(_embedders(work, build, step))),
    )


def _embedders(work: Work, build: Build, step: int) -> Iterator[str]:
    """Which embedders have filled the vectors of a build, by what their speed is known by."""
    source, configured = work.facts(Preflight, step).source, work.settings.embedders
    transform = transform_of(work.operations(build.ops), source) if source is not None else None
    for value in transform.values.values() if transform is not None else ():
        if isinstance(value, Embed) and value.embedder in configured:
            yield speed_key(value.embedder, configured[value.embedder])


def preflight(step: GoLive, work: Work) -> GoLivePreflight:
    """Only reads: both generations are there, and the name points where the plan saw it."""
    # Load-bearing: nothing was planned on what has become of the names while the target was built, or a run waited.
    seen = look(work)
    for physical in (step.source, step.target):
        if physical is not None and not plain_names.is_over(step, work, physical):
            if physical not in seen.physical:
                raise RepairNeededError(
                    f"{physical}, a generation of {work.collection}, is not in Qdrant any more",
                    hint="qmigrate status shows what is there",
                )
            check_same(work, physical)
    refuse_begun(work, step.target)
    serving = holder(work, seen)
    # This step has moved nothing yet: what serves from the target by now, another client has moved there, unproven.
    early = serving == step.target != step.source and work.facts(Swap).names is None
    if early or (serving not in (step.source, step.target) and not plain_names.is_open(step, work)):
        raise _foreign_alias(work, step, serving)
    if step.target is not None:
        refuse_hidden(work, to_move(step, work, seen.aliases), apart_from=plain_names.makes_room(step, work), seen=seen)
    if step.place == "shadow":
        plain_names.preflight(step, work)
    if step.target is None and step.source is not None and serving == step.source:
        points = work.store.count(reach(work, step.source))
        need_approval(work, points, points)
    if step.back:
        return rollback.preflight(step, work)
    return GoLivePreflight()


def converge(step: GoLive, work: Work) -> Proof:
    """Make the target what it has to be when it serves; what fixes have deleted since it was left goes there too."""
    if _was_moved(work):
        # Nothing is written to what another client has taken the name from: it has served, and has what it took.
        _check_moved(step, work)
    if rollback.loses(step) and holder(work) == step.source:
        rollback.refuse_overtaken(step, work)
    deleted = reapply_deletions.Reapplied()
    if step.back and step.target is not None and not _is_live(step, work):
        # An interruption may lie between the look and here.
        check_same(work, step.target)
        if step.source is not None:
            rollback.unbegun(work)
            deleted = reapply_deletions.apply(step, work)
    proof = _converge(step, work)
    if not step.back and proof.report is not None:
        # A pass over a big collection that others write to takes long, and the name moves next.
        unchanged.check_golive(step, work)
    return replace(proof, deleted_again=deleted.points, kept=deleted.file)


def _converge(step: GoLive, work: Work) -> Proof:
    """Converge again when anything was written since the proof, or when the proof is an earlier holder's (rule 7)."""
    if step.target is not None and step.source is None and step.back:
        rollback.lift_fence(step, work)
    if step.apart:
        return Proof() if _is_live(step, work) else unrelated.converge(step, work)
    if step.source is None or step.target is None or _is_live(step, work) or plain_names.is_open(step, work):
        return Proof()
    if step.back:
        return rollback.converge(step, work)
    plain_names.refuse_made_again(step, work)
    check_same(work, step.source)
    plain_names.take_names_back(step, work)
    unchanged.check_golive(step, work)
    rekeyed = must_freeze(step, work)
    if rekeyed:
        check_time(work, work.facts(Proof, work.build_step()).seconds or 0.0)
    if rekeyed or step.place == "gap" or work.settings.rebuild.writes == "freeze":
        return freeze.prove_frozen(
            work, sides_of(step, work), since=_proof(work).source_ids, delta=delta_of(work)
        )
    if work.settings.rebuild.writes == "auto":
        proven = freeze.prove_if_short(
            work, sides_of(step, work), since=_proof(work).source_ids, delta=delta_of(work)
        )
        if proven is not None:
            return proven
    proof = _proof(work)
    now = barrier(work.store, step.source)
    quiet = nothing_written(work, proof.source_ids, now, delta=delta_of(work))
    # Without ids nothing can be said; what is written from the proof on is found by the sweep, which then reads all.
    unknown = (not now or not exact(work)) and not work.store.capabilities.alone
    if proof.epoch == work.lease.epoch and (quiet or unknown) and not _is_newer(step, work):
        # The sweep compares with the newest barrier: this one moved the ids too.
        return Proof(source_ids=dict(now))
    # After days on hold, or while a plain name made room, much may have been written: then passes come first, so that
    # the last one is short.
    since = proof.source_ids if step.hold or work.build_step() < work.step - 1 else None
    return prove(work, sides_of(step, work), since=since, delta=delta_of(work))


def _is_newer(step: GoLive, work: Work) -> bool:
    """Whether this run has written to the source since the target was proven to be made of it.

    Where a plain name makes room, both are built first, and what was written to the plain collection since then comes
    into the identical one only when that goes live. Operation ids show it, too; local mode has none.
    """
    reports = [
        work.facts(Proof, position).report
        for position, one in enumerate(work.job.steps[: work.step])
        if position > work.build_step() and isinstance(one, GoLive) and one.target == step.source
    ]
    return any(report is None or report.repaired or report.passes for report in reports)


def swap_names(step: GoLive, work: Work) -> Swap:
    """One alias request; before and after are journaled first; read back on every node."""
    found = moves(step, work)
    names, facts = found.names, replace(work.facts(Swap), before=step.source, after=step.target)
    facts = replace(facts, names=tuple(names), earlier=found.earlier, given=found.given, dropped=tuple(found.dropped))
    work.note(facts)
    work.progress.begin(work.collection, "swap", None)
    started = time.monotonic()
    if step.target is None:
        serving = holder(work)
        if serving not in (None, step.source):
            raise _foreign_alias(work, step, serving)
        gone = [name for name in (*names, *found.dropped) if name != step.source]
        work.store.change_aliases(own(work, str(step.source)), make=found.given, drop=gone)
    else:
        # Load-bearing: what another client has moved since the proof must not be overwritten.
        serving = holder(work)
        if serving != step.target:
            _move(step, work, serving, names)
        # From here on it takes writes: an abort must not remove it, wherever the name is by then.
        work.note(replace(work.facts(Swap), moved=True))
    took = (time.monotonic() - started) * 1000
    if step.target is not None and (found.given or found.dropped):
        work.store.change_aliases(own(work, step.target), make=found.given, drop=found.dropped)
    read_back(work, names, step.target)
    freeze.over(work)
    work.progress.end(f"{step.target} serves, name moved in {took:.0f} ms" if step.target else "the name is gone")
    at = datetime.now(UTC)
    return replace(work.facts(Swap), milliseconds=round(took, 1), at=at, place=step.place)


def _move(step: GoLive, work: Work, serving: str | None, names: Sequence[str]) -> None:
    """The one request, in the way that the place asks for; `serving` has just been seen to have the name."""
    def renew() -> None:
        freeze.renew(work, lambda: sides_of(step, work))

    if step.place == "gap":
        plain_names.move(step, work, names, renew)
        return
    if serving != step.source:
        raise _foreign_alias(work, step, serving)
    check_same(work, str(step.target))
    if step.source is not None:
        check_same(work, step.source)
        renew()
    if step.place == "shadow" and not step.back:
        plain_names.prepare(work)
    swap(work, str(step.target), names)


def sweep_late(step: GoLive, work: Work) -> Sweep:
    """Stragglers finish, the old generation is fenced, a barrier shows whether anything came late; that is carried."""
    _check_moved(step, work)
    if step.source is not None and step.target is None:
        leave_unread(work, step.source)
    if step.source is None or step.target is None or step.place == "gap":
        return Sweep()
    if plain_names.is_lost(step, work):
        return Sweep(sweep=plain_names.lost_report(work))
    if step.apart or (step.back and step.writes == "discard"):
        fence(work, step.source)
        work.store.take_tokens(own(work, step.source))
        report = rollback.late_in(step, work) if rollback.loses(step) else SweepReport()
        if not report.listed.count:
            # Else nothing says that it is as it was left, and gc compares.
            leave_unread(work, step.source)
        return Sweep(sweep=report)
    proof = _proof(work)
    sides = sides_of(step, work)
    if not work.lease.ledger.has_base(sides.base):
        raise RepairNeededError(
            f"{work.collection} points to {step.target}, but the base of its proof is gone from the ledger, so late "
            f"writes to {step.source} can't be distinguished from old ones",
            hint=f"qmigrate verify {quote(step.source)} {quote(step.target)} lists the differences both ways",
        )
    # Without operation ids a folder doesn't show who had it while this run was interrupted.
    interrupted = work.store.capabilities.local and proof.epoch != work.lease.epoch
    since = None if interrupted else proof.source_ids
    report = sweep(work, sides, since=since, target_since=proof.target_ids)
    if report.carried or report.listed.count:
        late = tallied("late write", (report.carried, "carried over"), (report.listed.count, "listed"))
        work.progress.say(f"{work.collection}: {late}")
    return Sweep(sweep=report, dropped=_left_out(step, work, sides))


def _left_out(step: GoLive, work: Work, sides: Sides) -> LeftOut | Unlearned | None:
    """What is kept of the points that were left out on purpose, where anything came late; else the proof has it."""
    left_out = None if step.back else known(_proof(work).dropped)
    if left_out is None or sides.maker is None or not work.lease.ledger.carries(work.run, work.step):
        return UNLEARNED
    try:
        return keep_again(work, sides.source, sides.target, sides.maker, left_out)
    except (EmbedError, EmbedderError, PlanError) as error:
        # The name has moved: what can't be made stops nothing, and the file of the proof stays.
        work.progress.say(f"{work.collection}: what was left out is kept as the proof saw it: {error.message}")
        return UNLEARNED


def close(step: GoLive, work: Work) -> Closed:
    """Seal, own aliases away, and everything recorded in one transaction."""
    _check_moved(step, work)
    holdover = timedelta(seconds=work.settings.rebuild.holdover)
    if step.place == "shadow" and step.back:
        plain_names.forget_hidden_name(work)
    gone = step.source is not None and (step.place == "gap" or plain_names.is_lost(step, work))
    if step.target is not None and step.source is not None and not step.apart:
        record(work, base_name(step.source, step.target, back=step.back), None if gone else step.source, step.target)
    if step.target is not None and step.apart and not step.back:
        keep_alone(work, base_name(step.source, step.target, back=False), step.target)
    report = _report(work)
    if step.target is not None and step.source is not None and not step.back:
        report = replace(report, closing=_closing_ids(step, work))
    left_out = None if step.back or step.target is None else audit(work, step.target, _dropped(work))
    held_until = present(work.lease.ledger) + holdover
    fixed = unrelated.audit(step, work, held_until) if step.apart else None
    said = plain(report)
    log = closing.close_golive(work, step, held_until=held_until, report=said, gone=gone, fixed=fixed or left_out)
    if fixed is None:
        return Closed()
    if step.undoes is None:
        return Closed(log=log)
    # What the undo of a reset leaves behind is kept until gc, but no fix leads back there.
    return Closed(log=log, undo=fixed.facts.undo, back_again=fixed.facts.changed)


def _closing_ids(step: GoLive, work: Work) -> Left | None:
    """What a rollback compares with: ids of the new generation, if nothing at all was written to it since the proof.

    Whatever came between the swap and now is in these ids, but not in the base; then only counting shows it.
    """
    swept = work.facts(Sweep).sweep or SweepReport()
    now = barrier(work.store, str(step.target))
    quiet = nothing_written(work, _proof(work).target_ids, now, delta=delta_of(work))
    if not quiet or swept.carried or swept.listed.count:
        return None
    return Left(dict(now), delta_of(work))


def _check_moved(step: GoLive, work: Work) -> None:
    """The name is where this step has moved it: it may have been moved back by hand since an interruption."""
    # Load-bearing: what follows writes to one generation and seals it as the one that serves.
    serving = holder(work)
    if serving != step.target:
        raise _foreign_alias(work, step, serving)


def sides_of(step: GoLive, work: Work) -> Sides:
    """The two generations as a pass sees them."""
    if step.back:
        return rollback.sides_of(step, work)
    assert step.source is not None  # noqa: S101  the phases look first
    assert step.target is not None  # noqa: S101
    source = work.store.describe(reach(work, step.source))
    target = work.store.describe(step.target)
    if source is None or target is None:
        raise RepairNeededError(f"a generation of {work.collection} disappeared during the run")
    transform = transform_of(work.operations(step.ops), source.schema)
    check_models(work, transform, work.build_step())
    return Sides(
        source=step.source,
        target=step.target,
        # Load-bearing: a swap has renamed the earlier one away, so late writes and the seal need it again.
        alias=own(work, step.target),
        base=base_name(step.source, step.target, back=False),
        step=work.build_step(),
        maker=Maker(work, transform, target.schema, step.target),
        rekeys=transform.rekeys,
    )


def _proof(work: Work) -> Proof:
    """The newest facts of the proof: the build's, and what this step has learned since."""
    step = work.job.steps[work.step]
    built = Proof() if getattr(step, "back", False) else work.facts(Proof, work.build_step())
    return built.renewed(work.facts(Proof))


def _dropped(work: Work) -> LeftOut | None:
    """What is left out of the target by now."""
    swept = work.facts(Sweep).dropped
    return known(_proof(work).dropped if swept is UNLEARNED else swept)


def _is_live(step: GoLive, work: Work) -> bool:
    # Load-bearing: points are never deleted or written back in what serves already.
    return step.target is not None and holder(work) == step.target


def _was_moved(work: Work) -> bool:
    """Whether this step has moved the name already, by its journal; earlier versions noted only the end of it."""
    swapped = work.facts(Swap)
    return swapped.moved or swapped.at is not None


def _foreign_alias(work: Work, step: GoLive, serving: str | None) -> RepairNeededError:
    seen = f"is on {serving}" if serving else "is not there any more"
    if _was_moved(work):
        return RepairNeededError(
            f"{work.collection} {seen}; this run had moved it to {step.target}: another client moved it elsewhere",
            hint=f"writes to {step.target} while it served exist only there: point the alias {quote(work.collection)} "
            "there again, then qmigrate upgrade finishes this run; qmigrate rollback --only "
            f"{quote(work.collection)} --carry-writes goes back",
        )
    return RepairNeededError(
        f"{work.collection} {seen}; this run expected {step.source or 'a free name'}: another client moved it",
        hint=f"qmigrate status shows what is where; qmigrate abort {quote(work.collection)} ends this run",
    )


def _report(work: Work) -> WentLive:
    kept = work.facts(SourceSnapshot, work.build_step())
    copy = kept.snapshot or kept.archive
    return WentLive(
        verification=_proof(work).report,
        dropped=_dropped(work),
        quality=work.facts(Quality, work.build_step()).quality,
        compared=work.facts(Quality, work.build_step()).compared,
        stages=work.facts(Fill, work.build_step()).stages,
        sweep=work.facts(Sweep).sweep,
        swap=learned(work.facts(Swap)),
        writes_since=work.facts(GoLivePreflight).writes_since,
        deleted_again=work.facts(Proof).deleted_again or 0,
        snapshot=loaded(CopyBefore, plain(copy)) if copy is not None else None,
        barrier_delta=delta_of(work),
        speed=None if getattr(work.job.steps[work.step], "back", False) else speed_of(work, work.build_step()),
    )


PHASES = (
    Phase(GoLivePreflight, preflight),
    Phase(Hold, hold, waits=True),
    Phase(Proof, converge, volatile=True),
    Phase(Swap, swap_names),
    Phase(Sweep, sweep_late),
    Phase(Closed, close),
)
