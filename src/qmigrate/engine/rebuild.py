"""Build: make the next generation next to the live one and prove it. It moves no name: no client notices."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace

from qmigrate.engine.barriers import barrier, delta_of, measure
from qmigrate.engine.build.clone import as_copy, clone, no_room, remove_uploaded, share_out, why_not
from qmigrate.engine.build.copy import copy_ranges, shows_late
from qmigrate.engine.build.index import enforced, wait_until_ready
from qmigrate.engine.build.preflight import check_build
from qmigrate.engine.build.quality import check_gates, gates_of, measured
from qmigrate.engine.build.shadow import HELD_BACK, is_unmade, recognise, record, seal, unmake, without_held_back
from qmigrate.engine.build.unchanged import check_built, check_planned
from qmigrate.engine.epoch_aliases import await_late, check_same, own, reach, refuse_hidden
from qmigrate.engine.export import save
from qmigrate.engine.further_names import refuse_taken_by
from qmigrate.engine.golive.plain_names import makes_room
from qmigrate.engine.points.base import base_name
from qmigrate.engine.points.budget import Budget, check_budget
from qmigrate.engine.points.ranges import borders
from qmigrate.engine.points.transformation import Maker, check_models, fill_inputs, try_again, write
from qmigrate.engine.prove.passes import Sides
from qmigrate.engine.prove.proof import prove
from qmigrate.engine.restore import phases
from qmigrate.engine.work import Phase, Work, transform_of
from qmigrate.engine.workers.pool import places_of
from qmigrate.engine.write_limit import limited
from qmigrate.errors import ConflictError, DeniedError, QmigrateError, RepairNeededError, StoreError, UnchangedError
from qmigrate.model.facts.phases import (
    Disk,
    Fill,
    Index,
    Preflight,
    Proof,
    Quality,
    ServerSnapshot,
    Shadow,
    SourceSnapshot,
)
from qmigrate.model.plan import Build, GoLive
from qmigrate.model.schema import Change, CollectionSchema, changes
from qmigrate.model.transform import PointTransform
from qmigrate.ports import Snapshot
from qmigrate.store.faults import RefusedRequestError, TransientError
from qmigrate.text import counted, quote

#: Points that are fetched at once.
_BATCH = 256


def copy_sample(step: Build, work: Work) -> Fill:
    """Copy up to `step.sample` points; all of them where there are fewer."""
    source = reach(work, str(step.source))
    alias = own(work, step.target)
    ids = work.store.sample_ids(source, step.sample)
    maker = Maker(work, PointTransform.identity(step.schema.vector_names()), step.schema)
    work.progress.begin(work.collection, "sample", len(ids))
    for start in range(0, len(ids), _BATCH):
        found = work.store.fetch(source, ids[start : start + _BATCH])
        for pending in write(work, alias, maker, maker.make(found)):
            pending.wait()
        work.tick(len(found))
    work.progress.end(counted(len(ids), "point"))
    return Fill(sampled=len(ids))




def preflight(step: Build, work: Work) -> Preflight:
    """Only reads; what is built from this very copy is checked too, on what it will be a copy of."""
    refuse_taken_by(step, work)
    for later in work.job.steps[work.step + 1 :]:
        if isinstance(later, Build) and later.source == step.target and step.fill == "copy" and not step.ops:
            _check(replace(later, source=step.source), work)
    for later in work.job.steps[work.step + 1 :]:
        if isinstance(later, GoLive) and later.target == step.target:
            # Load-bearing: a name that another client has is refused here without a trace; the swap would only find it
            # after the whole build.
            refuse_hidden(work, later.aliases, apart_from=makes_room(later, work))
    return _check(step, work)


def _check(step: Build, work: Work) -> Preflight:
    if step.fill == "restore":
        return phases.preflight(step, work)
    facts = check_build(step, work)
    if facts.source is not None:
        check_planned(step, facts.source, work)
        check_gates(step, work)
    return facts


def snapshot(step: Build, work: Work) -> SourceSnapshot:
    """A server-side snapshot of the source with its checksum, and the alias map of the moment.

    Where there is none to be had, or not with this key, an archive is written instead.
    """
    if step.fill == "restore":
        return phases.snapshot(step, work)
    cloned = step.fill == "clone"
    if step.source is None or not (work.snapshot or cloned):
        return SourceSnapshot()
    if not work.store.capabilities.snapshots:
        return save(work, step.source)
    if cloned and (trouble := why_not(step, work)):
        return snapshot(as_copy(step, work, trouble), work)
    if cloned and not work.snapshot:
        work.progress.say(f"{work.collection}: the server clones from a snapshot, so one is made anyway")
    try:
        made, ours = _make_snapshot(step.source, work, cloned=cloned)
    except StoreError as error:
        denied = isinstance(error, DeniedError)
        if not denied and (not cloned or work.snapshot or isinstance(error, TransientError)):
            raise _with_a_way_on(error, work) from error
        if cloned:
            as_copy(step, work, error.message)
        if not work.snapshot:
            return SourceSnapshot(skipped=error.message)
        work.progress.say(f"{work.collection}: {error.message}: an archive is written instead")
        return save(work, step.source)
    if cloned and (trouble := no_room(work, made.size)):
        as_copy(step, work, trouble)
    return SourceSnapshot(
        # One that was only found may be another client's: an abort leaves it.
        snapshot=ServerSnapshot(made.name, made.size, made.checksum, step.source, made=ours),
        # Load-bearing: a snapshot has no names; without these a person couldn't restore what clients used.
        aliases=work.store.aliases(),
        # A server reports the size of its disk, never how much is free.
        disk=Disk(made.size, work.store.disk_size()) if cloned else None,
    )


def _make_snapshot(source: str, work: Work, *, cloned: bool) -> tuple[Snapshot, bool]:
    """The snapshot, and whether this very call has made it."""
    facts = work.facts(SourceSnapshot)
    known = facts.before
    present = {made.name: made for made in work.store.list_snapshots(source)}
    if known is None:
        # The ids say afterwards whether anything was written that can't be in the clone.
        ids = dict(barrier(work.store, source)) if cloned else facts.source_ids
        work.note(replace(facts, before=tuple(sorted(present)), source_ids=ids))
        known = tuple(present)
    fresh = [made for name, made in present.items() if name not in known]
    # A snapshot that an interrupted try has made is used, not made twice.
    return (fresh[-1], False) if fresh else (work.store.create_snapshot(source), True)


def _with_a_way_on(error: StoreError, work: Work) -> StoreError:
    if error.hint is None:
        error.hint = (
            f"qmigrate upgrade --no-snapshot continues without one, qmigrate abort "
            f"{quote(work.collection)} ends it"
        )
    return error


def shadow(step: Build, work: Work) -> Shadow:
    """The new generation, sealed as building: cloned by the server, or made empty with its payload indexes."""
    # An attempt before this one may have made something, whatever is seen now.
    first = (work.step, work.phase) not in work.learned
    record(step, work)
    if step.fill == "clone":
        step = clone(step, work)
    if phases.recovers(step):
        step = phases.shadow(step, work)
    elif step.fill != "clone":
        _create(step, work, first=first)
    remove_uploaded(step, work)
    return Shadow(barrier_delta=measure(work.store, step.target))


def _create(step: Build, work: Work, *, first: bool) -> None:
    wanted = without_held_back(step.schema)
    try:
        try:
            work.store.create_collection(step.target, wanted, seal=seal(step, work))
        except ConflictError:
            recognise(step, work)
        # Load-bearing: behind the first request another holder may fill it and go live with it, so that by the name of
        # the collection the others might reach what serves.
        work.store.complete_collection(own(work, step.target), wanted, defer_index=_gets_points(step))
    except RefusedRequestError as error:
        # The same request would be refused again, whenever the run is resumed.
        untouched = f"{work.collection} was not touched"
        if first and is_unmade(step, work):
            unmake(step, work)
            raise UnchangedError(f"{error.message}; nothing was made, and {untouched}", hint=error.hint) from error
        error.hint = f"qmigrate abort {quote(work.collection)}, and change the revision: {untouched}"
        raise


def _gets_points(step: Build) -> bool:
    """Whether it is filled here, so that its index is built behind the points."""
    return step.source is not None or step.fill == "restore"


def fill(step: Build, work: Work) -> Fill:
    """Copy the points in fixed ranges; from the cursors on after an interruption. A clone has them."""
    if step.fill != "copy":
        await_late(work)
    if step.fill == "restore":
        return phases.fill(step, work)
    if step.source is None or step.fill == "empty":
        return Fill()
    if step.fill == "clone":
        return share_out(step, work)
    if step.fill == "sample":
        return copy_sample(step, work)
    known = work.facts(Fill)
    again = known.source_ids is not None
    ids = known.source_ids if again else dict(barrier(work.store, step.source))
    work.note(replace(known, again=again, source_ids=ids))
    points = work.facts(Preflight).points
    maker = maker_of(step, work)
    if not shows_late(maker.transform):
        await_late(work)
    ranges = work.lease.ledger.ranges(work.run, work.step) or work.lease.fix_ranges(
        work.run, work.step, borders(work, step.source, points, len(places_of(work, maker.transform)))
    )
    done = sum(share.points for share in ranges)
    started = time.monotonic()
    work.progress.begin(work.collection, "fill", points, done)
    work.lease.progress(work.run, done, points)
    delegated = bool(places_of(work, maker.transform))
    with limited(work, step.target, delegated=delegated):
        if maker.quarantine is not None and maker.quarantine.is_over():
            # What stopped the run may have been repaired since.
            base = base_name(step.source, step.target, back=False)
            try_again(work, step.source, own(work, step.target), maker, base)
        with _within_budget(work, maker):
            stages = copy_ranges(work, step, maker, ranges)
    copied = sum(share.points for share in work.lease.ledger.ranges(work.run, work.step))
    work.progress.end(counted(copied, "point"))
    # What an earlier attempt has copied took an unknown time.
    spent = maker.budget.spent if maker.budget is not None else None
    seconds = round(time.monotonic() - started, 3)
    return replace(stages, copied=copied, fresh=copied - done, seconds=seconds, spent=spent)


@contextmanager
def _within_budget(work: Work, maker: Maker) -> Iterator[None]:
    """While the block runs, what is embedded is counted; what was spent is known to the next attempt."""
    limits = work.settings.rebuild.budget
    if limits is None:
        yield
        return
    # Again: the settings may be others than those of the preflight.
    transform = maker.transform
    check_budget(work, list(fill_inputs(transform).values()), shared=bool(places_of(work, transform)))
    maker.budget = Budget(work, limits, work.facts(Fill).spent)
    try:
        yield
    except QmigrateError:
        with suppress(QmigrateError):
            maker.budget.note()
        raise


def index(step: Build, work: Work) -> Index:
    """Final HNSW and optimizer settings; wait until really ready; read back what the server took."""
    started = time.monotonic()
    if _gets_points(step):
        # Load-bearing: the fill may be that of an earlier holder, whose alias doesn't lead there any more.
        work.store.build_index(own(work, step.target), step.schema)
    strict = step.schema.config.get(HELD_BACK)
    if strict:
        work.store.apply(own(work, step.target), Change("config.set", HELD_BACK, after=strict))
    wait_until_ready(work, step.target)
    if phases.recovers(step):
        phases.check_schema(step, work)
    else:
        _read_back(step, work)
    return Index(round(time.monotonic() - started, 2))


def converge(step: Build, work: Work) -> Proof:
    """Pass by pass until the shadow equals f(source); the last pass is the proof."""
    if step.fill != "copy" or step.source is None:
        await_late(work)
    if step.fill == "restore":
        return phases.converge(step, work)
    if step.source is None or step.fill in ("empty", "sample"):
        return Proof(barrier_delta=delta_of(work), epoch=work.lease.epoch)
    check_built(step, work)
    maker = maker_of(step, work)
    sides = Sides(
        source=step.source,
        target=step.target,
        # Load-bearing: passes repair through it, and those of a holder that was replaced must get 404.
        alias=own(work, step.target),
        base=base_name(step.source, step.target, back=False),
        step=work.step,
        maker=maker,
        rekeys=maker.transform.rekeys,
    )
    # A clone has no base to make source passes against: the last pass reads both sides, and writes what differs.
    since = None if step.fill == "clone" else work.facts(Fill).source_ids
    with limited(work, step.target):
        return prove(work, sides, since=since, delta=delta_of(work), cloned=step.fill == "clone")


def quality(step: Build, work: Work) -> Quality:
    """What the revisions ask of search, measured; a miss can be repaired, and the run resumes here."""
    if step.source is None or step.fill in ("empty", "sample", "restore"):
        return Quality()
    wanted = gates_of(step, work)
    if wanted:
        # Settings that were corrected since take time to act.
        wait_until_ready(work, step.target)
    return measured(step, work, wanted) if wanted else Quality()


def maker_of(step: Build, work: Work) -> Maker:
    """F of a build, checked to be made by the same models, and of the same collection, as it was begun with.

    Raises:
        DriftError: a configured embedder is another one now.
        RepairNeededError: another client has deleted the source, or made it again.
    """
    check_same(work, str(step.source))
    source = work.store.describe(str(step.source))
    if source is None:
        raise RepairNeededError(f"{step.source} disappeared during the run")
    transform = transform_of(work.operations(step.ops), source.schema)
    check_models(work, transform, work.step)
    return Maker(work, transform, step.schema, step.target)


def _live_schema(step: Build, work: Work) -> CollectionSchema:
    found = work.store.describe(step.target)
    if found is None:
        raise StoreError(f"{step.target} was created, but is not there")
    return found.schema.with_(aliases=())


#: How long a payload index that was dropped may still be listed, in seconds.
_LISTED = 15.0


def _read_back(step: Build, work: Work) -> None:
    """Old servers silently ignore fields they don't know: what was asked for must be there.

    A payload index that was dropped is still listed while a segment that has it is being optimized: it is looked for
    again for some seconds.
    """
    until, wanted = time.monotonic() + _LISTED, step.schema.with_(aliases=())
    while ignored := enforced(changes(_live_schema(step, work), wanted), work):
        if time.monotonic() > until or any(change.kind != "index.drop" for change in ignored):
            break
        work.tick(0, "a dropped payload index is still listed")
        time.sleep(0.2)
    if ignored:
        raise StoreError(
            f"the server did not apply everything to {step.target}: " + "; ".join(c.describe() for c in ignored),
            hint="it may be too old for these settings: qmigrate doctor shows its version",
        )


PHASES = (
    Phase(Preflight, preflight),
    Phase(SourceSnapshot, snapshot),
    Phase(Shadow, shadow),
    Phase(Fill, fill, early=True, pausable=True),
    Phase(Index, index, early=True),
    Phase(Proof, converge, early=True, pausable=True),
    Phase(Quality, quality),
)
