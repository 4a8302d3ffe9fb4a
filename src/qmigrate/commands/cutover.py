"""cutover: go live with what is built, proven and held. It plans nothing: it resumes stored jobs."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from qmigrate.commands.failures import Failures
from qmigrate.commands.held_runs import held_collections
from qmigrate.commands.parallel import at_once
from qmigrate.commands.results import Held, Outcome, Resumed
from qmigrate.commands.run_job import RunOptions
from qmigrate.commands.run_plan import finish_open_runs
from qmigrate.commands.session import Session, session
from qmigrate.engine.executor import stop_on_signals
from qmigrate.errors import HeldError, RefusedError, UsageError
from qmigrate.model import names as globs
from qmigrate.model.names import check_known
from qmigrate.model.state import OpenRun
from qmigrate.observe import known_names
from qmigrate.ports import Progress
from qmigrate.settings.load import Settings


@dataclass(frozen=True, slots=True)
class CutoverResult:
    """`cutover`; a dry run has no outcomes.

    Attributes:
        chosen: logical names that are cut over, in order.
        resumed: their runs as they were found.
        outcomes: one per run, in the order of execution.
        held: what is held at the end, among the chosen: a later step of the same run may wait for its own cut-over.
        notes: what a person should know.
    """

    chosen: tuple[str, ...]
    resumed: tuple[Resumed, ...] = ()
    outcomes: tuple[Outcome, ...] = ()
    held: tuple[Held, ...] = ()
    notes: tuple[str, ...] = ()
    dry_run: bool = False

    @property
    def exit_code(self) -> int:
        """11 when something is held again, else 0."""
        return HeldError.exit_code if self.held and not self.dry_run else 0


def cutover(
    settings: Settings | None = None,
    names: Iterable[str] = (),
    *,
    every: bool = False,
    dry_run: bool = False,
    lock_timeout: float | None = None,
    keep_going: bool = False,
    parallel: int | None = 1,
    progress: Progress | None = None,
) -> CutoverResult:
    """Converge and verify again what is held, then go live with it; an interrupted cut-over is finished.

    Args:
        names: logical names or globs.
        every: everything that is held.
        dry_run: only report what would be cut over.
        keep_going: when one fails, continue with the others, and raise at the end.
        parallel: collections at a time; None for as many as suit the server.

    Raises:
        CollectionsFailedError: with `keep_going`, for all that failed; it holds the result of the others.
        UsageError: neither names nor `every`, or a name that nothing has.
        RefusedError: a named collection is not built yet.
        DriftError: the source, the built generation, an embedder or a revision file was changed since; still held.
        RepairNeededError: a generation is gone, or the name was moved; still held.
    """
    settings = settings or Settings.load()
    patterns = tuple(names)
    with (
        session(settings, writes=not dry_run, progress=progress, begins=False) as opened,
        stop_on_signals(opened.progress) as stop,
    ):
        chosen, notes = _choose(opened, patterns, every=every)
        if dry_run:
            waiting = tuple(one for one in held_collections(opened, chosen))
            return CutoverResult(chosen=chosen, held=waiting, notes=notes, dry_run=True)
        opened.parallel = at_once(opened.store, parallel)
        failures = Failures(opened.progress, keep_going=keep_going)
        resumed, outcomes = finish_open_runs(
            opened, RunOptions(stop, lock_timeout, only=chosen, cutover=True, failures=failures)
        )
        held = held_collections(opened, chosen)
    result = CutoverResult(chosen, tuple(resumed), tuple(outcomes), held, notes)
    failures.raise_any(result)
    return result


def _choose(opened: Session, patterns: tuple[str, ...], *, every: bool) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Which collections are cut over, and what to report of those that are not."""
    runs = {run.job.collection: run for run in opened.ledger.open_runs()}
    ready = [name for name, run in sorted(runs.items()) if _is_ready(run)]
    if every == bool(patterns):
        waiting = ", ".join(ready) or "nothing"
        raise UsageError(
            "name the collections to cut over: names or globs, or all of them", hint=f"held now: {waiting}; or --all"
        )
    if every:
        return tuple(ready), ()
    notes: list[str] = []
    chosen: list[str] = []
    known = {*runs, *known_names(opened.ledger, opened.store)}
    check_known("collection", patterns, known)
    for pattern in patterns:
        matching = globs.met(pattern, ready, known)
        if not matching and not globs.is_glob(pattern, known):
            notes.append(_not_held(pattern, runs.get(pattern)))
            continue
        if not matching:
            notes.append(f"nothing that matches {pattern!r} is held")
        chosen += [name for name in matching if name not in chosen]
    return tuple(chosen), tuple(notes)


def _is_ready(run: OpenRun) -> bool:
    """Built and waiting, also when an earlier cut-over was interrupted before or after it began."""
    return run.waiting() is not None or run.let_on()


def _not_held(name: str, run: OpenRun | None) -> str:
    """Why a named collection is not cut over.

    Raises:
        RefusedError: it is not built yet.
    """
    if run is not None:
        last = run.records[-1].phase if run.records else "preflight"
        where = f"is running on {run.host}" if run.leased else f"stopped in {last}"
        raise RefusedError(
            f"{name} is not built and proven yet: its {run.verb} {where}",
            hint="qmigrate status shows it" if run.leased else "qmigrate upgrade resumes it",
        )
    return f"{name} is not held: nothing to do for it"
