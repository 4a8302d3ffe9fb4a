"""repair: decisions that only a human can make, each recorded, and leftovers of processes that are gone.

It touches no collection in use, and no point.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from qmigrate.commands.agreed import as_shown
from qmigrate.commands.meanings import CHANGED, SAME, Compared, compare, says
from qmigrate.commands.names import check_recorded
from qmigrate.commands.results import Repaired
from qmigrate.commands.run_job import RunOptions
from qmigrate.commands.run_plan import finish_open_runs, perform
from qmigrate.commands.session import Session, notes_on, opened_ledger, read_readable, session
from qmigrate.drift import plan_loss, plan_put_back
from qmigrate.engine.executor import Stop, stop_on_signals
from qmigrate.engine.retire.retire import drop_probe
from qmigrate.errors import RefusedError, RevisionError
from qmigrate.ledger import accept_checksum
from qmigrate.ledger import unlock as unlock_lease
from qmigrate.model.names import OWN_ALIAS, as_own, as_probe, unknown
from qmigrate.model.plan import REPAIRED, Plan
from qmigrate.model.schema import JsonObject
from qmigrate.model.state import World
from qmigrate.observe import observe
from qmigrate.planner import leftovers as names
from qmigrate.ports import Progress
from qmigrate.revisions.file import Revision
from qmigrate.settings.load import Settings
from qmigrate.text import quote


def accept(settings: Settings | None, revision: str, reason: str, *, changed_meaning: bool = False) -> Repaired:
    """Accept that an applied revision file has changed; who, why and what differs is in the history.

    The file is compared with what was applied: words, comments and layout may differ.

    Args:
        changed_meaning: accept also another meaning, or one that can't be compared. What is applied stays as it is;
            where the revision is applied from now on, something else is done.

    Raises:
        RevisionError: no such revision, it is not applied anywhere, or its file can't be used.
        DriftError: it has no file.
        RefusedError: it differs from what was applied, or that is unknown.
    """
    settings = settings or Settings.load()
    if not reason.strip():
        raise RevisionError("accepting a changed revision needs a reason", hint="--reason WHY")
    with opened_ledger(settings) as ledger:
        ledger.prepare()
        # Another file that is broken meanwhile has nothing to do with it.
        chosen = read_readable(settings, ledger)[0].get(revision)
        if chosen.problem is not None and chosen.is_unread:
            raise chosen.problem
        before = ledger.applied_checksums().get(chosen.id)
        if before is None:
            raise RevisionError(f"revision {chosen.id} is not applied, so there is nothing to accept")
        if before == chosen.checksum:
            return Repaired("accept", chosen.id, f"nothing to do: {chosen.path.name} is what was applied")
        found = compare(ledger, chosen, before)
        if found.meaning != SAME and not changed_meaning:
            raise _another_meaning(chosen, found)
        report: JsonObject = {"meaning": found.meaning, "differences": list(found.differences)}
        accepted = (chosen.id, chosen.checksum)
        accept_checksum(ledger, accepted, reason, ledger.actor, before=before, meaning=says(chosen), report=report)
    told = {SAME: "it does what was applied, only texts differ", CHANGED: "; ".join(found.differences)}
    detail = f"{chosen.path.name} is accepted as {chosen.checksum[:12]}: "
    detail += told.get(found.meaning, "what was applied is not recorded, so it was not compared")
    return Repaired("accept", chosen.id, detail, meaning=found.meaning, differences=found.differences)


def _another_meaning(chosen: Revision, found: Compared) -> RefusedError:
    listed = "".join(f"\n    {line}" for line in found.differences)
    if found.meaning == CHANGED:
        message = f"{chosen.path.name} differs from what was applied as {chosen.id}:{listed}"
    elif found.differences:
        message = f"{chosen.path.name} makes another schema than what was applied as {chosen.id}:{listed}"
    else:
        message = (
            f"{chosen.path.name} makes the same schema as before, but an earlier qmigrate applied {chosen.id}, and "
            "what it did to the points is not recorded: whether more than texts changed is unknown"
        )
    return RefusedError(
        message,
        hint="restore the file, and write what is to change into a new revision; or accept another meaning: "
        f"qmigrate repair --accept {quote(chosen.id)} --reason WHY --changed-meaning",
        facts={"meaning": found.meaning, "differences": list(found.differences)},
    )


def unlock(settings: Settings | None, collection: str) -> Repaired:
    """End the lease of a holder that is known to be dead; its run is then found interrupted.

    Raises:
        UnknownNameError: there is no such collection.
    """
    settings = settings or Settings.load()
    with opened_ledger(settings) as ledger:
        held = next((row for row in ledger.leases() if row.name == collection and not row.expired), None)
        if held is None:
            if collection not in {row.name for row in ledger.leases()}:
                check_recorded(ledger, read_readable(settings, ledger)[0], collection)
            return Repaired("unlock", collection, "nothing to do: no process holds its lease")
        unlock_lease(ledger, collection, ledger.actor)
    return Repaired(action="unlock", subject=collection, detail=f"the lease of {held.owner} on {held.host} is ended")


def name(
    settings: Settings | None,
    collection: str,
    *,
    agreed: Callable[[Plan], None] | None = None,
    lock_timeout: float | None = None,
    progress: Progress | None = None,
) -> Repaired:
    """Point a name that was moved or removed by hand back to the generation where the ledger left it.

    Args:
        collection: the logical name.
        agreed: called with the plan before anything is written; raises where there is no consent.

    Raises:
        NotFoundError: the ledger has no such name.
        RepairNeededError: that generation is gone, or another client made a collection of this name.
        RefusedError: a run of it is not finished, or the name was moved on after the plan was shown.
    """
    settings = settings or Settings.load()
    shown: Plan | None = None
    if agreed is not None:
        with session(settings, writes=False, readable=True) as opened:
            shown = plan_put_back(observe(opened.ledger, opened.store, only=[collection]), collection)
        if shown.collections:
            agreed(shown)
    with (
        session(settings, writes=True, progress=progress, readable=True, begins=False) as opened,
        stop_on_signals(opened.progress) as stop,
    ):
        for line in notes_on(opened.problems):
            opened.progress.say(line)
        resumed = _finish(opened, collection, stop, lock_timeout)
        plan, _ = perform(
            opened,
            lambda world: as_shown(plan_put_back(world, collection), shown),
            RunOptions(stop, lock_timeout, owned=False),
            names=[collection],
        )
    if plan.collections or resumed:
        lines = [line for item in plan.collections for line in item.lines] or ["put back, as an interrupted run began"]
        return Repaired("name", collection, "; ".join(lines))
    return Repaired("name", collection, "nothing to do: it is where the ledger left it")


def vanished(
    settings: Settings | None,
    generation: str,
    *,
    lock_timeout: float | None = None,
    progress: Progress | None = None,
) -> Repaired:
    """Record that one generation is not in Qdrant any more. Nothing is deleted, and no other way back is touched.

    Args:
        generation: its physical name.

    Raises:
        NotFoundError: the ledger has no such generation.
        RefusedError: it is there, or a run is not finished.
    """
    settings = settings or Settings.load()
    with (
        session(settings, writes=True, progress=progress, begins=False) as opened,
        stop_on_signals(opened.progress) as stop,
    ):
        owner = opened.ledger.physicals().get(generation)
        if owner is None:
            raise unknown(
                "generation",
                generation,
                opened.ledger.physicals(),
                of=" in the ledger, or it is recorded as gone already",
                hint="qmigrate check names those that are missing",
            )
        _finish(opened, owner, stop, lock_timeout)
        plan, _ = perform(
            opened,
            lambda world: _loss(opened, world, owner, generation),
            RunOptions(stop, lock_timeout, owned=False),
            names=[owner],
        )
    lines = [line for item in plan.collections for line in item.lines]
    return Repaired("vanished", generation, "; ".join(lines) or "recorded, as an interrupted run began")


def _loss(opened: Session, world: World, owner: str, generation: str) -> Plan:
    if opened.ledger.physicals().get(generation) is None:
        # An interrupted run has recorded it.
        return Plan(REPAIRED, (), ())
    return plan_loss(world, owner, generation)


def _finish(opened: Session, collection: str, stop: Stop, lock_timeout: float | None) -> bool:
    """Resume an interrupted repair of the collection; an upgrade is not this verb's business."""
    found = finish_open_runs(opened, RunOptions(stop, lock_timeout, only=[collection]), verb=REPAIRED)[0]
    return bool(found)


def leftovers(settings: Settings | None = None, *, progress: Progress | None = None) -> Repaired:
    """Remove own aliases of processes that are gone, and what a probe of the server has left behind; nothing else.

    Aliases are removed under the lease of their collection, and only where no unfinished run resumes from them.
    Probes are removed when their name shows that they have ended long ago, and when they hold no points.

    Raises:
        LeaseHeldError: another process works on one of the collections.
        StoreError: the server refuses it.
    """
    settings = settings or Settings.load()
    with session(settings, writes=True, progress=progress, begins=False) as opened:
        removed = _aliases(opened)
        gone, kept = _probes(opened)
    removed += gone
    detail = f"removed {', '.join(removed)}" if removed else "nothing to do: there are none"
    return Repaired("leftovers", ", ".join(removed), detail + (f"; left unchanged: {', '.join(kept)}" if kept else ""))


def _aliases(opened: Session) -> list[str]:
    removed: list[str] = []
    for name in sorted({one.collection for one in _left(opened)}):
        limits = opened.settings.limits
        with opened.ledger.hold(
            name, timeout=limits.lock_timeout, ttl=limits.lease_ttl, progress=opened.progress.say
        ) as lease:
            if opened.ledger.open_run(name) is not None:
                # Begun and interrupted since the first look: its resume removes them.
                continue
            for alias, physical in opened.store.aliases().items():
                match = OWN_ALIAS.match(alias)
                ours = match is not None and match["physical"] == physical and int(match["epoch"]) < lease.epoch
                if ours and names.collection_of(physical) == name and not _is_foreign(opened, alias):
                    opened.store.drop_alias(as_own(alias))
                    removed.append(alias)
    return sorted(removed)


def _left(opened: Session) -> list[names.OwnAlias]:
    open_runs = {run.job.collection for run in opened.ledger.open_runs()}
    known = names.own_aliases(opened.store.aliases(), opened.ledger.leases(), open_runs)
    return [one for one in known if one.state == "left" and not _is_foreign(opened, one.alias)]


def _is_foreign(opened: Session, alias: str) -> bool:
    """Whether another ledger has sealed what an alias leads to: two may have held a lease of the same name."""
    found = opened.store.describe(alias)
    return found is not None and found.foreign_owner(opened.ledger_id) is not None


def _probes(opened: Session) -> tuple[list[str], list[str]]:
    """What was removed, and what was not: it holds something, or its probe may still be running."""
    ended, kept = names.probes(opened.store.aliases(), time.time())
    for alias in ended:
        opened.store.drop_alias(as_probe(alias))
    collections, unknown = names.probes(opened.store.physical_names(), time.time())
    gone = list(ended)
    for name in collections:
        (gone if drop_probe(opened.store, name) else kept).append(name)
    return gone, sorted({*kept, *unknown})
