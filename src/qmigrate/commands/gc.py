"""gc: old generations past their holdover, and leftovers. It prints nothing and asks nothing."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from qmigrate.commands.audit import AuditArchive, archive_rows, due_rows
from qmigrate.commands.purge import Purge, due, purge
from qmigrate.commands.results import Outcome
from qmigrate.commands.run_fixes import Done
from qmigrate.commands.run_job import PlannedHere, RunOptions, run_job
from qmigrate.commands.run_plan import finish_open_runs
from qmigrate.commands.session import Session, notes_on, session
from qmigrate.engine.executor import Stop, stop_on_signals
from qmigrate.engine.retire.retire import KINDS
from qmigrate.errors import QmigrateError, StoppedError, UnknownNameError
from qmigrate.ledger.approvals import Requests
from qmigrate.ledger.job_queue import JobQueue
from qmigrate.ledger.reader import present
from qmigrate.model.facts.retire import RetirePreflight, RetireSnapshots
from qmigrate.model.facts.stored import known, plain
from qmigrate.model.names import check_known, met, unknown
from qmigrate.model.plan import Job, Plan
from qmigrate.model.state import World
from qmigrate.observe import holdings, known_names, names_with_holdings, observe
from qmigrate.planner.gc import GcWish, Verdict, judge, plan_gc
from qmigrate.ports import Progress
from qmigrate.settings.load import Settings


@dataclass(frozen=True, slots=True)
class Collected:
    """A generation that is gone.

    Attributes:
        collection: the logical name.
        points: that it had; None when it was gone from Qdrant before.
        snapshots: what became of each, with ``name``, ``size``, ``kept``, and ``file`` and ``sha256`` of an export.
    """

    collection: str
    generation: str
    points: int | None
    snapshots: tuple[dict[str, Any], ...] = ()


@dataclass(frozen=True, slots=True)
class Spared:
    """A generation that was to go and stays.

    Attributes:
        writes: what was written to it since it was left: ``count``, and ``named`` as pairs of id and how.
        exit_code: 10 where a decision is missing, else that of the error.
    """

    collection: str
    generation: str | None
    reason: str
    hint: str | None = None
    writes: dict[str, Any] | None = None
    exit_code: int = 10


@dataclass(frozen=True, slots=True)
class GcResult:
    """`gc`; a preview has only verdicts, and of what is spared the points that can't be found.

    Attributes:
        going: what goes, or was to go.
        staying: what stays, with the reason; what serves is left out.
        collected: what is gone now.
        spared: what was to go and stays; of a preview, what can't go as things are.
        preview: whether nothing was done.
        purges: points that are marked as deleted for longer than ``fixes.soft_delete``, which go too.
        purged: what became of them.
        notes: of a preview: what is wrong with revision files.
        audit: rows of the deletion audit that are older than ``fixes.audit``; None where there are none.
        jobs: jobs of the background that were removed, ended for longer than ``console.keep_jobs``.
    """

    going: tuple[Verdict, ...]
    staying: tuple[Verdict, ...]
    collected: tuple[Collected, ...] = ()
    spared: tuple[Spared, ...] = ()
    preview: bool = False
    purges: tuple[Purge, ...] = ()
    purged: tuple[Done, ...] = ()
    notes: tuple[str, ...] = ()
    audit: AuditArchive | None = None
    jobs: int = 0

    @property
    def anything(self) -> bool:
        """Whether anything goes."""
        return bool(self.going or any(one.points for one in self.purges) or self.audit)

    @property
    def exit_code(self) -> int:
        """0, or that of what was spared where it agrees, else 10."""
        codes = {entry.exit_code for entry in self.spared}
        codes |= {10} if self.audit is not None and self.audit.problem is not None else set()
        return codes.pop() if len(codes) == 1 else 10 * bool(codes)


@dataclass(slots=True)
class _Sweep:
    """One gc over several collections, while it runs."""

    opened: Session
    choice: GcWish
    keep_snapshots: bool | None
    stop: Stop
    lock_timeout: float | None
    collected: list[Collected] = field(default_factory=list)
    spared: list[Spared] = field(default_factory=list)


def review(
    settings: Settings, pattern: str = "*", *, now: bool = False, generations: Iterable[str] = ()
) -> GcResult:
    """What `gc` would do. Sends no write to Qdrant or SQL.

    Args:
        pattern: of logical names.
        now: also what is still held.
        generations: physical names, where only these are meant; nothing else is touched.

    Raises:
        NotFoundError: nothing of that name is kept.
    """
    with session(settings, writes=False, readable=True) as opened:
        names, moment = _names(opened, pattern), present(opened.ledger)
        only = frozenset(generations) or None
        choice = GcWish(now=moment, ignore_holdover=now, only=only, preview=True)
        verdicts = _judged(opened, names, choice)
        _refuse_unknown(verdicts, only)
        purges = () if only else due(opened, pattern, moment)
        found = replace(_sorted(verdicts, preview=True), purges=purges, spared=_not_found(purges))
        found = replace(found, audit=due_rows(opened, moment) if _is_all(pattern, only) else None)
        return replace(found, notes=notes_on(opened.problems))


def gc(  # noqa: PLR0913  the options of the verb
    settings: Settings | None = None,
    pattern: str = "*",
    *,
    now: bool = False,
    discard_writes: bool = False,
    keep_snapshots: bool | None = None,
    generations: Iterable[str] = (),
    shown: Iterable[str] | None = None,
    purges: Iterable[Purge] | None = None,
    lock_timeout: float | None = None,
    progress: Progress | None = None,
) -> GcResult:
    """Retire what is past its holdover, with its snapshots, and delete points that were marked long ago.

    What may not go is spared and reported.

    Args:
        pattern: of logical names.
        now: also what is still held; the way back is gone then.
        discard_writes: also where points were written to a generation after it was left.
        keep_snapshots: export snapshots first; None for ``rebuild.keep_snapshots``.
        generations: physical names, where only these are meant; nothing else is touched.
        shown: physical names that may go, where a person has seen a preview; None for all that is found.
        purges: marked points that may go, likewise.
        lock_timeout: seconds to wait for another process; None for the setting.

    Raises:
        NotFoundError: nothing of that name is kept.
    """
    settings = settings or Settings.load()
    only = frozenset(generations) or None
    with (
        session(settings, writes=True, progress=progress, begins=False) as opened,
        stop_on_signals(opened.progress) as stop,
    ):
        choice = GcWish(
            only=only,
            now=present(opened.ledger),
            ignore_holdover=now,
            writes="discard" if discard_writes else "refuse",
            shown=None if shown is None else frozenset(shown),
        )
        finish_open_runs(opened, RunOptions(stop, lock_timeout), verb="gc")
        names = _names(opened, pattern)
        verdicts = _judged(opened, names, choice)
        _refuse_unknown(verdicts, only)
        sweep = _Sweep(opened, choice, keep_snapshots, stop, lock_timeout)
        for name in dict.fromkeys(verdict.collection for verdict in verdicts if verdict.goes):
            _collect(sweep, name)
        marked = () if only else due(opened, pattern, choice.now)
        wanted = marked if purges is None else tuple(purges)
        purged = purge(opened, wanted, lock_timeout)
        audit, jobs = _records(opened, choice.now) if _is_all(pattern, only) else (None, 0)
    spared = (*sweep.spared, *_not_found(wanted))
    found = replace(_sorted(verdicts), collected=tuple(sweep.collected), spared=spared, purges=wanted, purged=purged)
    return replace(found, audit=audit, jobs=jobs)


def _is_all(pattern: str, only: frozenset[str] | None) -> bool:
    """Whether it is about everything: records are of no collection alone."""
    return pattern == "*" and only is None


def _records(opened: Session, now: datetime) -> tuple[AuditArchive | None, int]:
    """Archive what is old of the audit, and remove jobs that have ended long ago; how many of these."""
    Requests(opened.ledger).forget_expired()
    return archive_rows(opened, now), JobQueue(opened.ledger).remove_ended(opened.settings.console.keep_jobs)


def collect_due(
    opened: Session, *, stop: Stop, only: Iterable[str] | None = None, lock_timeout: float | None = None
) -> tuple[str, ...]:
    """What ``gc: auto`` does when an upgrade starts. A failure is a note: it stops nothing.

    Args:
        only: restrict to these logical names.

    Returns:
        Notes for people, on what is gone and on what was left.
    """
    moment = present(opened.ledger)
    chosen = frozenset(only) if only is not None else None
    sweep = _Sweep(opened, GcWish(now=moment, automatic=True), None, stop, lock_timeout)
    for name in opened.ledger.due(moment):
        automatic = opened.settings.for_collection(name).rebuild.gc == "auto"
        if automatic and (chosen is None or name in chosen):
            _collect(sweep, name)
    gone = [f"gc: {entry.generation} is gone, its holdover had ended" for entry in sweep.collected]
    return (*gone, *(f"gc left {entry.generation or entry.collection}: {entry.reason}" for entry in sweep.spared))


def _not_found(purges: Iterable[Purge]) -> tuple[Spared, ...]:
    """Marked points that were to go, and that nothing can find now."""
    found = (one for one in purges if one.problem is not None)
    why = "points that are marked as deleted can't be found"
    return tuple(Spared(one.collection, None, f"{why}: {one.problem}", one.hint) for one in found)


def _refuse_unknown(verdicts: Iterable[Verdict], only: frozenset[str] | None) -> None:
    """A generation that was named is one that is kept.

    Raises:
        NotFoundError: it is not.
    """
    lacking = sorted((only or frozenset()) - {verdict.generation for verdict in verdicts})
    if lacking:
        raise unknown("generation", lacking[0], of=" among those that are kept")


def _names(opened: Session, pattern: str) -> tuple[str, ...]:
    found = names_with_holdings(opened.ledger, opened.store.physical_names())
    known = {*found, *known_names(opened.ledger, opened.store)}
    matching = tuple(met(pattern, found, known))
    if not matching and pattern != "*":
        check_known("collection", [pattern], known)
        raise UnknownNameError(f"no collection that matches {pattern!r} has a generation", hint="qmigrate status")
    return matching


def _judged(opened: Session, names: Iterable[str], choice: GcWish) -> list[Verdict]:
    names = list(names)
    world = observe(opened.ledger, opened.store, only=names)
    physical, aliases = opened.store.physical_names(), opened.store.aliases()
    verdicts: list[Verdict] = []
    for name in names:
        found = holdings(opened.ledger, opened.store, name, physical=physical, aliases=aliases)
        verdicts += judge(world.collections[name], found, world.ledger_id, choice)
    return verdicts


def _sorted(verdicts: list[Verdict], *, preview: bool = False) -> GcResult:
    staying = tuple(verdict for verdict in verdicts if not verdict.goes and verdict.state != "live")
    return GcResult(tuple(verdict for verdict in verdicts if verdict.goes), staying, preview=preview)


def _collect(sweep: _Sweep, name: str) -> None:
    """One collection, planned again under its lease; what goes wrong there is kept for the report."""
    settings = sweep.opened.settings.for_collection(name)
    keep = settings.rebuild.keep_snapshots if sweep.keep_snapshots is None else sweep.keep_snapshots
    choice = replace(sweep.choice, keep_snapshots=keep)
    jobs: list[Job] = []

    def make_plan(world: World) -> Plan:
        store, ledger = sweep.opened.store, sweep.opened.ledger
        found = holdings(ledger, store, name, physical=store.physical_names(), aliases=store.aliases())
        verdicts = judge(world.collections[name], found, world.ledger_id, choice)
        plan = plan_gc(world.collections[name], verdicts, choice)
        jobs.extend(item.job for item in plan.collections)
        return plan

    try:
        ran = run_job(sweep.opened, name, PlannedHere(make_plan), RunOptions(sweep.stop, sweep.lock_timeout))
    except StoppedError:
        raise
    except QmigrateError as error:
        if sweep.choice.automatic and error.facts.get("lost"):
            # Another holder works on it, and may be taking it elsewhere than this upgrade was going to.
            raise
        sweep.spared.append(Spared(name, None, error.message, error.hint, exit_code=error.exit_code))
        return
    if ran is not None:
        _report(sweep, jobs[-1], ran.outcome)


def _report(sweep: _Sweep, job: Job, outcome: Outcome) -> None:
    for position, step in enumerate(job.steps):
        found = [outcome.facts(kind, position) for kind in KINDS]
        target = str(step.target)
        stopped = next((one for one in found if one.spared is not None), None)
        if stopped is not None and stopped.spared is not None:
            writes = dict(stopped.writes) if stopped.writes is not None else None
            sweep.spared.append(Spared(job.collection, target, stopped.spared, known(stopped.hint), writes))
        else:
            made = tuple(map(plain, outcome.facts(RetireSnapshots, position).snapshots or ()))
            points = outcome.facts(RetirePreflight, position).points
            sweep.collected.append(Collected(job.collection, target, points, made))
