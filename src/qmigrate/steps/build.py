"""Build: make the next generation beside the live one and prove it. It moves no name: nobody else notices."""

from __future__ import annotations

import time

from qmigrate.errors import ConflictError, RepairNeededError, StoreError
from qmigrate.model.plan import Build
from qmigrate.model.schema import Change, CollectionSchema, changes
from qmigrate.model.state import Generation
from qmigrate.steps.base import base_name
from qmigrate.steps.closing import seal_of
from qmigrate.steps.fill import copy_ranges
from qmigrate.steps.owned import own
from qmigrate.steps.passes import Sides
from qmigrate.steps.points import Maker, check_models
from qmigrate.steps.preflight import check_build
from qmigrate.steps.proof import prove
from qmigrate.steps.quiet import barrier, delta_of, measure
from qmigrate.steps.ranges import borders
from qmigrate.steps.sample import copy_sample
from qmigrate.steps.work import Facts, Phase, Work, transform_of

#: Readings in a row that must be settled: a server reports green before a config change has begun to act.
SETTLED_READINGS = 3
#: What a shadow doesn't get before it is filled: it would limit the copy itself.
HELD_BACK = "strict_mode_config"


def preflight(step: Build, work: Work) -> Facts:
    """Only reads."""
    return check_build(step, work)


def snapshot(step: Build, work: Work) -> Facts:
    """A server-side snapshot of the source with its checksum, and the alias map of the moment."""
    if step.source is None or not work.snapshot:
        return {"snapshot": None}
    if not work.store.capabilities.snapshots:
        return {"snapshot": None, "skipped": "local mode has no snapshots; the old generation itself is kept"}
    known = work.facts("snapshot").get("before")
    present = {made.name: made for made in work.store.list_snapshots(step.source)}
    if known is None:
        work.note({"before": sorted(present)})
        known = list(present)
    fresh = [made for name, made in present.items() if name not in known]
    # A snapshot that an interrupted try has made is used, not made again.
    made = fresh[-1] if fresh else work.store.create_snapshot(step.source)
    found = {"name": made.name, "size": made.size, "checksum": made.checksum, "collection": step.source}
    return {
        # One that was only found may be somebody else's: an abort leaves it.
        "snapshot": {**found, "made": not fresh},
        "aliases": work.store.aliases(),
    }


def shadow(step: Build, work: Work) -> Facts:
    """The new generation with its payload indexes, sealed as building; HNSW comes after the points."""
    parent = work.generation(step.source)
    row = Generation(
        number=step.number,
        physical=step.target,
        parent=parent.number if parent else None,
        revisions=(),
        schema=step.schema,
        state="building",
    )
    work.lease.save_generation(row)
    seal = seal_of(work, step.number, "building", None, {})
    wanted = _held_back(step.schema)
    try:
        work.store.create_collection(step.target, wanted, seal=seal, defer_index=step.source is not None)
    except ConflictError:
        _recognise(step, work)
        # An interrupted try may have stopped between the collection and its indexes.
        for change in changes(_live_schema(step, work), wanted):
            if change.kind.startswith("index."):
                work.store.apply(step.target, change)
    return measure(work.store, step.target)


def _recognise(step: Build, work: Work) -> None:
    """The collection is there already: it must be ours and unfinished, or nothing is touched."""
    found = work.store.describe(step.target)
    seal = (found.seal if found else None) or {}
    ours = seal.get("ledger") == work.ledger_id and seal.get("generation") == step.number
    if not ours or seal.get("state") != "building":
        raise RepairNeededError(
            f"{step.target} exists already and no journal explains it; it was left as it is",
            hint=f"it was to become {work.collection}; when nobody needs it, delete it in Qdrant and run again",
        )


def fill(step: Build, work: Work) -> Facts:
    """Copy the points in fixed ranges; from the cursors on after an interruption."""
    if step.source is None or step.fill == "empty":
        return {}
    if step.fill == "sample":
        return copy_sample(step, work)
    if "source_ids" not in work.facts("fill"):
        work.note({"source_ids": dict(barrier(work.store, step.source))})
    points = int(work.facts("preflight").get("points", 0))
    ranges = work.lease.ledger.ranges(work.run, work.step) or work.lease.fix_ranges(
        work.run, work.step, borders(work, step.source, points)
    )
    done = sum(share.points for share in ranges)
    started = time.monotonic()
    work.progress.begin(work.collection, "fill", points, done)
    work.lease.progress(work.run, done, points)
    copy_ranges(work, step, _maker(step, work), ranges)
    copied = sum(share.points for share in work.lease.ledger.ranges(work.run, work.step))
    work.progress.end(f"{copied:,} points")
    # What an earlier attempt has copied took time that nobody knows.
    return {"copied": copied, "fresh": copied - done, "seconds": round(time.monotonic() - started, 3)}


def index(step: Build, work: Work) -> Facts:
    """Final HNSW and optimizer settings; wait until really ready; read back what the server took."""
    started = time.monotonic()
    if step.source is not None:
        work.store.build_index(step.target, step.schema)
    strict = step.schema.config.get(HELD_BACK)
    if strict:
        work.store.apply(step.target, Change("config.set", HELD_BACK, after=strict))
    wait_until_ready(work, step.target)
    _read_back(step, work)
    return {"seconds": round(time.monotonic() - started, 2)}


def converge(step: Build, work: Work) -> Facts:
    """Pass by pass until the shadow equals f(source); the last pass is the proof."""
    if step.source is None or step.fill in ("empty", "sample"):
        return {"barrier_delta": delta_of(work), "epoch": work.lease.epoch}
    sides = Sides(
        source=step.source,
        target=step.target,
        alias=own(work, step.target),
        base=base_name(step.source, step.target, back=False),
        step=work.step,
        maker=_maker(step, work),
    )
    return prove(work, sides, since=work.facts("fill").get("source_ids"), delta=delta_of(work))


def wait_until_ready(work: Work, physical: str) -> None:
    """Several settled readings in a row, or an error when the optimizer fails or the time is up."""
    deadline = time.monotonic() + work.settings.limits.ready_timeout
    work.progress.begin(work.collection, "index", None)
    settled, pause = 0, 0.05
    while True:
        reading = work.store.readiness(physical)
        if reading.failed:
            raise StoreError(f"the optimizer of {physical} failed: {reading.failed}", hint="qmigrate doctor")
        settled = settled + 1 if reading.settled else 0
        if settled >= SETTLED_READINGS or (settled and work.store.capabilities.local):
            work.progress.end(reading.detail)
            return
        if time.monotonic() > deadline:
            raise StoreError(
                f"{physical} is not ready after {work.settings.limits.ready_timeout:.0f} s: {reading.detail}",
                hint="run the same command again: it goes on waiting; limits.ready_timeout sets the limit",
            )
        work.tick(0, reading.detail)
        time.sleep(pause)
        pause = min(1.0, pause * 1.5)


def _maker(step: Build, work: Work) -> Maker:
    source = work.store.describe(str(step.source))
    if source is None:
        raise RepairNeededError(f"{step.source} disappeared during the run")
    transform = transform_of(work.operations(step.ops), source.schema)
    check_models(work, transform, work.step)
    return Maker(work, transform, step.schema)


def _held_back(schema: CollectionSchema) -> CollectionSchema:
    return schema.with_(config={name: value for name, value in schema.config.items() if name != HELD_BACK})


def _live_schema(step: Build, work: Work) -> CollectionSchema:
    found = work.store.describe(step.target)
    if found is None:
        raise StoreError(f"{step.target} was created, but is not there")
    return found.schema.with_(aliases=())


def _read_back(step: Build, work: Work) -> None:
    """Old servers ignore fields they don't know without a word: what was asked for must be there."""
    ignored = enforced(changes(_live_schema(step, work), step.schema.with_(aliases=())), work)
    if ignored:
        raise StoreError(
            f"the server did not take everything for {step.target}: " + "; ".join(c.describe() for c in ignored),
            hint="it may be too old for these settings: qmigrate doctor shows its version",
        )


def enforced(found: tuple[Change, ...], work: Work) -> list[Change]:
    """Differences that count: local mode declares indexes and settings without enforcing them."""
    if not work.store.capabilities.local:
        return list(found)
    return [change for change in found if change.kind.startswith(("vector.", "sparse."))]


PHASES = (
    Phase("preflight", preflight),
    Phase("snapshot", snapshot),
    Phase("shadow", shadow),
    Phase("fill", fill),
    Phase("index", index),
    Phase("converge", converge),
)
