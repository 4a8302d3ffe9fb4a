"""Runs any job: lease, journal, resume, signals. It depends on no kind of step and makes no Qdrant call."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from types import FrameType

from qmigrate.engine.epoch_aliases import await_late, leave_in_order, release, remove_earlier, was_left_in_order
from qmigrate.engine.figures import Recorder
from qmigrate.engine.phases import phases_of
from qmigrate.engine.throttle import Throttle, waiting
from qmigrate.engine.work import Phase, Work
from qmigrate.engine.write_limit import longest
from qmigrate.errors import (
    DriftError,
    HeldError,
    LeaseHeldError,
    OvertakenError,
    QmigrateError,
    RefusedError,
    StoppedError,
    UnavailableError,
    UnchangedError,
    UsageError,
    VerificationError,
    without_secrets,
)
from qmigrate.ledger.decisions import Pace, paces
from qmigrate.ledger.writer import UNCHANGED
from qmigrate.model.facts.phases import Facts
from qmigrate.model.plan import Job
from qmigrate.model.state import OpenRun
from qmigrate.ports import Progress
from qmigrate.text import rate

#: Errors that a phase which only reads raises on purpose: the run is closed and leaves nothing open.
REFUSALS = (RefusedError, UsageError, UnavailableError, VerificationError, DriftError)


#: Seconds between two looks for what people ask of a run.
ASKED_EVERY = 2.0


class Stop:
    """A request to stop at the next checkpoint, set by SIGINT or SIGTERM; the second one stops at once.

    Args:
        say: gets a line at once, since the next checkpoint may be seconds away.
    """

    def __init__(self, say: Callable[[str], None] | None = None) -> None:
        self.signal: int | None = None
        self._say = say

    def __call__(self, number: int, _frame: FrameType | None) -> None:
        """The signal handler."""
        if self.signal is not None:
            raise KeyboardInterrupt
        self.signal = number
        if self._say is not None:
            again = "Ctrl-C again stops at once" if number == signal.SIGINT else "the same signal again stops at once"
            line = f"Stopping at the next checkpoint, nothing is lost ({again})."
            # By a thread: the one that was interrupted may be writing to the terminal, and hold its lock.
            threading.Thread(target=self._say, args=(line,), name="stopping", daemon=True).start()

    def check(self) -> None:
        """Raise when a stop was asked for."""
        if self.signal is not None:
            raise StoppedError("stopped at a checkpoint, as asked", signal_number=self.signal)


@contextmanager
def stop_on_signals(progress: Progress | None = None) -> Iterator[Stop]:
    """Turn SIGINT and SIGTERM into stops while the block runs (in the main thread; elsewhere nothing is installed).

    Args:
        progress: gets a line as soon as a signal comes.
    """
    stop = Stop(progress.say if progress is not None else None)
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class Ticker:
    """What long work calls: progress display, progress in the ledger, lease deadline, stop signal, and pace.

    Attributes:
        pausable: whether the phase that runs may stand still, see :class:`qmigrate.engine.work.Phase`.
    """

    def __init__(self, work: Work, stop: Stop) -> None:
        self._work = work
        self._stop = stop
        self._figures = Recorder(work)
        work.progress = self._figures
        self._need = max(work.store.request_timeout, 0.0)
        self._checked = 0.0
        self._asked: Pace | None = None
        self._asked_at = time.monotonic()
        self._throttle = Throttle(None)
        self._reading = threading.Lock()
        self.pausable = False

    def __call__(self, count: int = 0, note: str = "") -> None:
        """See ``engine.work.Tick``."""
        self._check()
        if count or note:
            self._work.progress.advance(count, note)
        self._obey()
        # Worker processes know nothing of it, and a parent that stands still leaves them without an answer.
        if self.pausable and not self._work.delegated:
            while self._asked is not None and self._asked.paused:
                time.sleep(0.2)
                self._check()
                self._obey()
            if count:
                self._throttle.take(count)

    def _obey(self) -> None:
        """Learn now and then what people ask of this run.

        Raises:
            StoppedError: they ask it to stop.
        """
        if time.monotonic() - self._asked_at >= ASKED_EVERY and self._reading.acquire(blocking=False):
            try:
                self._learn()
            finally:
                self._asked_at = time.monotonic()
                self._reading.release()
        if self._asked is not None and self._asked.stopped:
            who = self._asked.actor
            raise StoppedError(f"stopped at a checkpoint, as {who} has asked", asked_by=who)

    def _learn(self) -> None:
        work = self._work
        # A ledger that doesn't answer for now changes nothing; the lease sees to what matters.
        with suppress(UnavailableError):
            found = paces(work.lease.ledger, [work.run]).get(work.run)
            asked = found if found is not None and found.epoch == work.lease.epoch else None
            if asked != self._asked:
                self._announce(asked)
                most = asked.rate if asked is not None else None
                self._throttle = Throttle(most, pause=waiting(self._check))
            self._asked = asked

    def _announce(self, asked: Pace | None) -> None:
        who = f", as {asked.actor} has asked" if asked is not None else ""
        if asked is not None and asked.paused:
            said = f"paused{who}"
        elif asked is not None and asked.rate is not None:
            said = f"at most {rate(asked.rate)}{who}"
        else:
            said = f"on, at full speed{who}"
        self._work.progress.say(f"{self._work.collection}: {said}")

    def _check(self) -> None:
        """Stop by a signal, or where the lease is about to end."""
        self._stop.check()
        now = time.monotonic()
        if now - self._checked < 0.2:
            return
        self._checked = now
        # A request sent now must be over before another process may take the lease.
        if self._work.lease.remaining() <= min(self._need, self._work.settings.limits.lease_ttl / 2):
            raise LeaseHeldError(
                f"the lease of {self._work.collection} could not be renewed in time; stopped before doing harm",
                hint="run the same command again: it continues from here",
            )
        if self._work.run:
            self._figures.look()


def run(work: Work, verb: str, checksums: Mapping[str, str], *, actor: str, stop: Stop, found: OpenRun | None) -> int:
    """Work through a job; a fresh run is a resume from nothing.

    Args:
        work: with lease, store and code; its job is the one to run.
        verb: recorded with a new run.
        checksums: of the revisions that the job uses, recorded with a new run.
        actor: who runs it.
        stop: see :func:`stop_on_signals`.
        found: the interrupted run to resume, or None.

    Returns:
        The run's id in the ledger.
    """
    ticker = Ticker(work, stop)
    work.tick = ticker
    _open(work, verb, checksums, actor, found)
    with _recorded(work), _revoked(work, found), _taking_back(work), _leaving_no_alias(work):
        position = 0
        # Counted, not iterated: a phase may amend the job, and append a step.
        while position < len(work.job.steps):
            work.step, step = position, work.job.steps[position]
            for phase in phases_of(step):
                if _is_done(work, phase, found):
                    continue
                if not phase.early:
                    await_late(work)
                # A phase may amend the step, too.
                step, work.phase = work.job.steps[position], phase.name
                ticker.pausable = phase.pausable
                work.tick()
                work.lease.journal(work.run, position, phase.name, "running")
                facts = work.learn(phase.run(step, work))
                if phase.name != "close":
                    work.lease.journal(work.run, position, phase.name, "done", facts)
            position += 1
        # Also where nothing was left to do: the next job doesn't know of the earlier holder.
        await_late(work)
    return work.run


def _open(work: Work, verb: str, checksums: Mapping[str, str], actor: str, found: OpenRun | None) -> None:
    """Record a new run, or continue the one that was found."""
    if found is None:
        server = work.store.capabilities.label
        work.run = work.lease.open_run(verb, work.job, checksums, actor=actor, tool=work.tool, server=server)
        return
    work.run = found.id
    work.lease.resume_run(found.id)
    work.learned = {(record.step, record.phase): dict(record.facts) for record in found.records}


@contextmanager
def _revoked(work: Work, found: OpenRun | None) -> Iterator[None]:
    """The process that had the job before can do nothing more while the block runs, also when it is only undone."""
    superseded = work.state.open_run if work.job.supersedes is not None else None
    earlier = superseded or found
    # A held run was ended in good order: it has no alias and no request any more.
    if earlier is not None and earlier.state != "held" and not earlier.job.throwaway:
        generations = _generations(superseded.job if superseded else work.job)
        within = longest(earlier, work.store.request_timeout)
        remove_earlier(work, generations, in_order=was_left_in_order(earlier), within=within)
    yield


@contextmanager
def _recorded(work: Work) -> Iterator[None]:
    """However the block ends, the ledger has it."""
    try:
        yield
        if not work.job.steps:
            work.lease.finish_run(work.run, "done")
    except StoppedError:
        with suppress(QmigrateError):
            leave_in_order(work, _generations(work.job))
        raise
    except KeyboardInterrupt:
        raise
    except HeldError:
        # Fenced too: the process that records a run as held must still be its holder.
        work.lease.finish_run(work.run, "held")
        raise
    except QmigrateError as error:
        if _is_waiting(work):
            _finish(work, "held", error.message)
            raise
        _finish(work, _ending(work, error), error.message)
        raise
    except Exception as error:
        said = without_secrets(f"{type(error).__name__}: {error}")
        _finish(work, "aborted" if work.job.repeatable else "failed", said)
        raise


@contextmanager
def _taking_back(work: Work) -> Iterator[None]:
    """Whatever ends the block early: what phases have asked to be undone is, the last first."""
    try:
        yield
    except BaseException:
        for take_back in reversed(work.on_failure):
            try:
                take_back(work)
            except QmigrateError as error:
                work.progress.say(f"{work.collection}: {error.message}")
        raise


@contextmanager
def _leaving_no_alias(work: Work) -> Iterator[None]:
    """A holder that finds itself superseded removes its own aliases: its successor has looked already."""
    try:
        yield
    except QmigrateError:
        if work.lease.is_lost():
            with suppress(QmigrateError):
                # An erasure works in further generations than those of its job.
                rows = work.lease.ledger.generations(work.collection)
                release(work, [*_generations(work.job), *(row.physical for row in rows)])
        raise


def _is_done(work: Work, phase: Phase[Facts], found: OpenRun | None) -> bool:
    record = found.record(work.step, phase.name) if found else None
    if record is None or record.state != "done":
        return False
    return not phase.volatile or record.epoch == work.lease.epoch or _is_closed(work, found)


def _is_closed(work: Work, found: OpenRun | None) -> bool:
    """Whether the entire step was finished: nothing of it is done again then, not even what is volatile."""
    last = phases_of(work.job.steps[work.step])[-1].name
    record = found.record(work.step, last) if found else None
    return record is not None and record.state == "done"


def _ending(work: Work, error: QmigrateError) -> str:
    """How a run ends that met an error: for good where nothing is left to resume."""
    if isinstance(error, REFUSALS) and _nothing_open(work):
        return "refused" if isinstance(error, RefusedError) else UNCHANGED
    if isinstance(error, UnchangedError | OvertakenError) and _closed_before(work):
        return UNCHANGED if isinstance(error, UnchangedError) else "refused"
    return "aborted" if work.job.repeatable else "failed"


def _nothing_open(work: Work) -> bool:
    """Whether refusing now leaves nothing behind: a first, reading phase, and every earlier step was recorded."""
    if not work.phase or work.phase != phases_of(work.job.steps[work.step])[0].name:
        return False
    return _closed_before(work)


def _closed_before(work: Work) -> bool:
    """Whether everything before this step was recorded."""
    return work.step == 0 or phases_of(work.job.steps[work.step - 1])[-1].name == "close"


def _is_waiting(work: Work) -> bool:
    phases = phases_of(work.job.steps[work.step]) if work.phase else ()
    return any(phase.waits and phase.name == work.phase for phase in phases)


def _finish(work: Work, state: str, message: str) -> None:
    try:
        work.lease.finish_run(work.run, state, message)
    except LeaseHeldError:
        # Another holder has taken over, which is why anything else failed.
        raise
    except QmigrateError:
        # The ledger is gone: the run stays as it is and is found interrupted.
        return


def _generations(job: Job) -> list[str]:
    names: list[str] = []
    for step in job.steps:
        for name in (getattr(step, "source", None), step.target):
            if name is not None and name not in names:
                names.append(name)
    return names
