"""Hold: a go-live that waits, built and proven, until its cut-over is asked for. It moves and writes no point.

Days may pass between the two, so the way is checked again before it is released; a refusal leaves it held.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

from qmigrate.engine.build.index import enforced
from qmigrate.engine.build.preflight import check_source
from qmigrate.engine.build.unchanged import check_waited, over
from qmigrate.engine.epoch_aliases import check_same, holder, reach, refuse_hidden, release
from qmigrate.engine.golive import plain_names
from qmigrate.engine.golive.plain_names import makes_room
from qmigrate.engine.points.transformation import check_models
from qmigrate.engine.retire.late_writes import check_unserved
from qmigrate.engine.work import Work, transform_of
from qmigrate.errors import DriftError, HeldError, RepairNeededError
from qmigrate.model.facts.phases import Hold, Proof, Shadow
from qmigrate.model.plan import Build, GoLive
from qmigrate.model.schema import changes
from qmigrate.model.state import LiveCollection, marks_of
from qmigrate.text import quote


def hold(step: GoLive, work: Work) -> Hold:
    """Wait for consent, and check both generations again once it is there.

    Raises:
        HeldError: the cut-over was not asked for yet.
        DriftError: the source's schema, the built generation or an embedder is not what was built and proven.
        RefusedError: another client wrote to the built generation, or has one of the names.
        RepairNeededError: a generation is gone, or the name was moved.
    """
    if not step.hold:
        return Hold()
    if work.consent != work.step:
        # It may wait for days: nothing but the generation itself stays behind, and no request can come any more.
        release(work, [step.source, step.target])
        known = work.facts(Hold)
        work.note(replace(known, since=known.since or datetime.now(UTC)))
        raise HeldError(
            f"{work.collection} is built and proven as {step.target}, and waits for its cut-over",
            hint=f"qmigrate cutover {quote(work.collection)} goes live with it; qmigrate abort "
            f"{quote(work.collection)} removes it",
        )
    _check(step, work)
    return Hold(asked_at=datetime.now(UTC))


def _check(step: GoLive, work: Work) -> None:
    """Whether what was proven is still what would go live."""
    build = next(one for one in work.job.steps if isinstance(one, Build) and one.target == step.target)
    source, target = _described(step.source, work), _described(step.target, work)
    serving = holder(work)
    if serving != step.source:
        seen = f"is on {serving}" if serving else "is not there any more"
        raise RepairNeededError(
            f"{work.collection} {seen}, but {step.target} was built from {step.source}: another client moved the name",
            hint=f"what was written to {serving} since is only there: copy what you need from it, then point "
            f"{work.collection} back to {step.source}, or start over: {over(work)}",
        )
    check_same(work, str(step.source))
    refuse_hidden(work, step.aliases, apart_from=makes_room(step, work))
    if step.place == "shadow":
        plain_names.preflight(step, work)
    _check_target(build, source, target, work)
    check_source(work, source, keeps_unknown=build.fill == "clone")
    check_waited(build, source, work)
    operations = work.operations(step.ops)
    position = work.job.steps.index(build)
    check_models(work, transform_of(operations, source.schema), position)
    check_unserved(work, build, work.facts(Proof, position), work.facts(Shadow, position))


def _described(physical: str | None, work: Work) -> LiveCollection:
    found = work.store.describe(reach(work, str(physical)))
    if found is None:
        raise RepairNeededError(
            f"{physical}, a generation of {work.collection}, was deleted while it waited for its cut-over",
            hint="qmigrate status shows what is there, qmigrate snapshot list what can be restored",
        )
    return found


def _check_target(build: Build, source: LiveCollection, target: LiveCollection, work: Work) -> None:
    seal = marks_of(target)
    if not seal.is_of(work.ledger_id, build.number) or seal.state != "building":
        raise RepairNeededError(
            f"{build.target} is not the generation that was built: its seal differs",
            hint=f"it was left unchanged; start over: {over(work)}",
        )
    wanted = changes(target.schema, build.schema.with_(aliases=target.schema.aliases))
    lost = [change.describe() for change in enforced(wanted, work)]
    # A clone has taken along what this version doesn't know of the source.
    lost += sorted(set(source.unknown) - set(target.unknown)) if build.fill == "clone" else []
    if lost:
        raise DriftError(
            f"{build.target} or {build.source} was changed while it waited for its cut-over; {build.target} lacks: "
            + "; ".join(lost),
            hint=f"start over: {over(work)}",
        )
