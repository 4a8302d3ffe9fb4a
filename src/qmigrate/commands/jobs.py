"""Jobs: verbs that are asked for now and done in the background, by any worker. It does each at most once.

A worker that dies is noticed by its silence, and another one takes the job. What the first had begun is finished as any
interrupted run is; a collection for which it had done its work is passed over, since each run keeps the id of its job;
what a person has aborted meanwhile is not begun again. A worker that wakes up begins nothing more: the ledger refuses.
"""

from __future__ import annotations

import itertools
import logging
import re
import threading
import time
import uuid
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import qmigrate.commands.requests as requests
from qmigrate.commands.counts import count
from qmigrate.commands.job_kinds import APPROVAL, HELD, KINDS, OWN, PROVEN, Arguments, held_now
from qmigrate.commands.rollback import abort
from qmigrate.commands.run_job import RunOptions
from qmigrate.commands.run_plan import finish_open_runs
from qmigrate.commands.session import opened_ledger, session
from qmigrate.engine.executor import Stop, stop_on_signals
from qmigrate.errors import (
    ApprovalNeededError,
    LeaseHeldError,
    QmigrateError,
    RefusedError,
    StoppedError,
    UnavailableError,
    UnknownNameError,
    UsageError,
    without_secrets,
)
from qmigrate.ledger import DeletionRow, Ledger
from qmigrate.ledger.approvals import APPROVED
from qmigrate.ledger.fence import elapsed
from qmigrate.ledger.job_queue import ATTEMPT, COMPLETED, FAILED, JOB, PENDING, STATES, JobQueue, QueuedJob
from qmigrate.model.schema import JsonObject
from qmigrate.settings.load import Settings
from qmigrate.text import did_you_mean

#: Seconds after which a silent worker counts as dead, and how often one reports.
TTL, _BEAT = 30.0, 5.0
#: Seconds between two looks for work.
_IDLE = 1.0
#: Tries of a job that could not be done for now: a lease that is held, a store that doesn't answer.
MOST_TRIES = 20
_LONGEST_WAIT = 60.0
#: Seconds after which a worker looks for the first time whether points were counted lately, and then from time to time.
FIRST_COUNT, COUNT_LOOK = 60.0, 600.0
_log = logging.getLogger(__name__)

@dataclass(frozen=True, slots=True)
class Jobs:
    """`jobs`, newest first."""

    rows: tuple[QueuedJob, ...]


@dataclass(frozen=True, slots=True)
class Worked:
    """`worker`.

    Attributes:
        ended: jobs that this worker has ended, whatever became of them.
    """

    ended: int


def submit(settings: Settings, kind: str, arguments: Arguments, *, key: str | None = None) -> tuple[QueuedJob, bool]:
    """Ask for a job.

    Args:
        kind: one of :data:`KINDS`.
        key: the same request with the same key is the same job.

    Returns:
        The job, and whether it is new.

    Raises:
        UsageError: there is no such kind or argument, or the key belongs to another request.
    """
    _check(kind, arguments)
    if key is not None and not (1 <= len(key) <= 255 and key.isprintable()):
        raise UsageError("an idempotency key has 1 to 255 printable characters")
    asked = dict(arguments)
    with opened_ledger(settings) as ledger:
        held = {HELD: held_now(ledger)} if kind == "cutover" else {}
        # The worker knows its own user only: a request for an approval names who has really asked.
        proven = {PROVEN: settings.called.proven} if settings.called.proven and settings.asks_approvals else {}
        found, new = JobQueue(ledger).add(kind, {**asked, **held, **proven}, key)
    same = _asked_for(found.arguments)
    if not new and (found.kind, same, found.actor) != (kind, asked, ledger.actor):
        raise UsageError(f"the idempotency key {key!r} belongs to another request, the job {found.id}")
    return found, new


def submit_approved(settings: Settings, number: int) -> QueuedJob | None:
    """Ask for the job that does what was approved, in the name of who asked for that.

    While such a job has not ended it is the one that is returned: however often it is asked for, it is done once.

    Returns:
        The job; None where the command has to be typed again, as for an upgrade that was begun in a terminal.

    Raises:
        UnknownNameError: there is no such request.
        RefusedError: no other person has approved it, or it is used up.
    """
    with opened_ledger(settings) as ledger:
        found = requests.known_request(ledger, number)
    if found.state != APPROVED:
        raise RefusedError(f"request {number} is {found.state}", hint=f"qmigrate requests show {number}")
    if found.again is None and not requests.runs_alone(found):
        return None
    acting = settings.acting(found.asked_by, {"request": number})
    asked = found.again or {"kind": "request", "arguments": {"request": number}}
    kind, arguments = asked["kind"], asked["arguments"]
    _check(kind, arguments)
    with opened_ledger(acting) as ledger:
        queue = JobQueue(ledger)
        for tried in itertools.count():
            # Two who ask at once have the same key. No caller's own has a sign that can't be printed.
            made, _ = queue.add(kind, {**arguments, APPROVAL: number}, f"\tapproved {number} {tried}")
            if made.state not in (COMPLETED, FAILED):
                return made
    raise AssertionError  # pragma: no cover


def _asked_for(arguments: Arguments) -> JsonObject:
    """The arguments that a caller has given."""
    return {name: value for name, value in arguments.items() if name not in OWN}


def _check(kind: str, arguments: Arguments) -> None:
    if kind not in KINDS:
        raise UsageError(f"there is no kind of job {kind!r}{did_you_mean(kind, KINDS)}")
    odd, missing = sorted(arguments.keys() - KINDS[kind].takes), sorted(KINDS[kind].needs - arguments.keys())
    if odd:
        raise UsageError(f"a job of kind {kind} has no {odd[0]!r}")
    if missing:
        raise UsageError(f"a job of kind {kind} needs {missing[0]!r}")
    if re.search(r"[+-]\d+$", str(arguments.get("target") or "")):
        # Begun again after its worker died, it would go one further.
        said = f"a job needs the id of a revision, and {arguments['target']!r} is relative"
        raise UsageError(said, hint="qmigrate history")


def job(settings: Settings, identifier: str) -> QueuedJob:
    """One job.

    Raises:
        UnknownNameError: there is none.
    """
    with opened_ledger(settings) as ledger:
        return _known(JobQueue(ledger).get(identifier), identifier)


def jobs(
    settings: Settings | None = None, states: Sequence[str] = (), *, limit: int = 50, offset: int = 0
) -> Jobs:
    """Jobs, newest first.

    Args:
        states: only these.
    """
    settings = settings or Settings.load()
    odd = [one for one in states if one not in STATES]
    if odd:
        raise UsageError(f"a job is never {odd[0]!r}{did_you_mean(odd[0], STATES)}", hint=f"one of {', '.join(STATES)}")
    with opened_ledger(settings) as ledger:
        return Jobs(tuple(JobQueue(ledger).listed(states, limit=limit, offset=offset)))


def cancel(settings: Settings, identifier: str) -> QueuedJob:
    """Let a job that waits not begin, and one that is worked on stop at its next checkpoint.

    What a stopped job has begun is finished or undone as after any interruption: ``qmigrate status`` names the command.

    Raises:
        UnknownNameError: there is none.
    """
    with opened_ledger(settings) as ledger:
        queue = JobQueue(ledger)
        found = _known(queue.get(identifier), identifier)
        tried = found.attempts > 0
        when = "while it waited for another try" if tried else "before it had begun"
        error = _told(StoppedError(f"cancelled by {ledger.actor} {when}"))
        error.pop("hint")
        if found.state == PENDING and tried and queue.begun(identifier):
            # A worker undoes what an earlier try has begun.
            return _known(queue.cancel_begun(identifier), identifier)
        return _known(queue.cancel(identifier, error | ({"hint": "qmigrate status"} if tried else {})), identifier)


def _known(found: QueuedJob | None, identifier: str) -> QueuedJob:
    if found is None:
        raise UnknownNameError(f"there is no job {identifier}", hint="qmigrate jobs")
    return found


def work(settings: Settings | None = None, *, once: bool = False, stop: threading.Event | None = None) -> Worked:
    """Do jobs, one after the other, until a signal comes.

    Args:
        once: end where none is left that is due.
        stop: set by another thread to end it.

    Returns:
        How many it has ended.
    """
    settings = settings or Settings.load()
    ended = 0
    holder = f"{uuid.uuid4()}"
    with opened_ledger(settings) as ledger, stop_on_signals() as signals:
        queue, counting = JobQueue(ledger), _Counting()
        while signals.signal is None and not (stop is not None and stop.is_set()):
            wait = _IDLE
            try:
                taken = queue.take(holder, TTL, settings.console.job_retries)
                if taken is not None:
                    ended += _work_on(settings, ledger, taken, holder, signals)
                    continue
            except UnavailableError as error:
                # Of the ledger: a job that was worked on is taken again once it has been silent for long enough.
                if once:
                    raise
                _log.warning("no work can be looked for: %s", error.message)
                wait = _BEAT
            if once:
                break
            counting.when_due(settings)
            if stop is not None:
                stop.wait(wait)
            else:
                time.sleep(wait)
    return Worked(ended)


def _work_on(settings: Settings, ledger: Ledger, taken: QueuedJob, holder: str, signals: Stop) -> bool:
    """Do one job; whether it has ended."""
    queue = JobQueue(ledger)
    # Also one that was cancelled while the worker before was silent.
    state = _Reported(cancelled_by=taken.cancelled_by)

    def failed(error: JsonObject) -> bool:
        return queue.end(taken, holder, FAILED, error=error, **state.now())

    try:
        with _beating(queue, taken, holder, state):
            result = _done(settings, ledger, taken, state)
    except StoppedError as error:
        if state.cancelled_by is None and error.ends_process:
            # The worker is to end: another one continues.
            signals.signal = signals.signal or error.exit_code - 128
            queue.put_back(taken, holder, 0.0)
            return False
        if state.cancelled_by is None:
            # Load-bearing: a person has stopped it, or its budget is used up; the next worker must not continue.
            left = _left_open(queue.begun(taken.id)) if error.asked_by is not None else {}
            return failed(_told(error) | left)
        stopped = StoppedError(f"cancelled by {state.cancelled_by}; stopped at a checkpoint")
        with _beating(queue, taken, holder, state):
            more = _taken_back(settings, queue, taken, state)
        return failed(_told(stopped) | more)
    except QmigrateError as error:
        # A name that nothing has is one that another try doesn't find either.
        later = isinstance(error, LeaseHeldError | UnavailableError) and not isinstance(error, UsageError)
        if later and taken.attempts < MOST_TRIES:
            queue.put_back(taken, holder, min(2.0**taken.attempts, _LONGEST_WAIT), _told(error))
            return False
        return failed(_told(error))
    except Exception as error:  # whatever a function of the application raises
        _log.exception("job %s: unexpected %s", taken.id, type(error).__name__)
        said = f"unexpected {type(error).__name__}: {without_secrets(str(error))}".rstrip(": ")
        return failed(_told(QmigrateError(said, hint="the worker's log has it")))
    return queue.end(taken, holder, COMPLETED, result=result, error=None, **state.now())


@dataclass
class _Counting:
    """How many points there are, recorded by a worker that has nothing else to do."""

    due: float = field(default_factory=lambda: elapsed() + FIRST_COUNT)

    def when_due(self, settings: Settings) -> None:
        """Count, where no worker has done so for a while."""
        if elapsed() < self.due:
            return
        self.due = elapsed() + COUNT_LOOK
        try:
            count(settings)
        except QmigrateError as error:
            _log.warning("points could not be counted: %s", error.message)


def _left_open(begun: Iterable[str]) -> JsonObject:
    """What is to be said of the collections for which a stopped job has begun something that nothing takes back."""
    names = ", ".join(begun)
    return {"hint": f"qmigrate status: what was begun for {names} is continued or aborted there"} if names else {}


#: Kinds whose interrupted run is undone when they are cancelled: else the next command would finish it.
_TAKEN_BACK = frozenset({"delete", "retrain", "session", "orphans", "reset", "undo", "request"})


def _taken_back(settings: Settings, queue: JobQueue, taken: QueuedJob, state: _Reported) -> JsonObject:
    """Undo what a cancelled job has begun, so that nothing is left which blocks, or which another command would finish.

    Returns:
        What is to be said of it, and done where it could not be undone.
    """
    begun = queue.begun(taken.id)
    if not begun:
        return {"hint": "qmigrate status"}
    if taken.kind not in _TAKEN_BACK:
        return _left_open(begun)
    acting = settings.acting(taken.actor, {**settings.metadata, JOB: taken.id, ATTEMPT: taken.attempts})
    try:
        for name, run in begun.items():
            abort(acting, name, run=run)
    except QmigrateError as error:
        return {"hint": f"what was begun for {', '.join(begun)} could not be undone: {error.message}; qmigrate status"}
    said = f"cancelled by {state.cancelled_by}; what was begun for {', '.join(begun)} is undone"
    return {"message": said, "hint": "qmigrate history --all"}


def _done(settings: Settings, ledger: Ledger, taken: QueuedJob, progress: _Reported) -> JsonObject:
    """The result of a job: of an earlier worker's runs where there are some, else by doing it."""
    kind, queue = KINDS[taken.kind], JobQueue(ledger)
    acting = settings.acting(taken.actor, {**settings.metadata, JOB: taken.id, ATTEMPT: taken.attempts})
    if taken.kind != "request":
        # What needs an approval asks for this very job again once it has one.
        again = {"kind": taken.kind, "arguments": _asked_for(taken.arguments)}
        acting = acting.called_by(taken.arguments.get(PROVEN), again=again)
    number = taken.arguments.get(APPROVAL)
    if number is not None and not (queue.begun(taken.id) or queue.done(taken.id)):
        by = requests.approved_run(settings, number)
        if by is not None:
            # The same command was typed again meanwhile: no second time was approved.
            return {"request": number, "run": by}
    if taken.attempts == 1:
        return kind.run(acting, taken.arguments, progress)
    ended = queue.aborted(taken.id)
    if ended:
        raise RefusedError(
            f"what this job had begun for {', '.join(ended)} was ended by another command since",
            hint="qmigrate status; ask for it again where it is still wanted",
        )
    begun = queue.begun(taken.id) if kind.recovered is not None else {}
    if begun:
        progress.check()
        with session(acting, writes=True, progress=progress) as opened, stop_on_signals() as stop:
            finish_open_runs(opened, RunOptions(stop, only=begun))
    done = kind.recovered is not None and bool(queue.done(taken.id))
    if not done or kind.several(settings, taken.arguments):
        # What was cancelled meanwhile isn't even begun: nothing is left then that would have to be aborted.
        progress.check()
        result = kind.run(acting, taken.arguments, progress)
    if done and kind.recovered is not None:
        result = kind.recovered(acting, taken.arguments, _rows(ledger, taken))
    return result


def _rows(ledger: Ledger, taken: QueuedJob) -> list[DeletionRow]:
    """What a job has done, as the audit has it; the oldest first."""
    return [row for row in reversed(ledger.deletions()) if (row.told.own or {}).get(JOB) == taken.id]


@dataclass
class _Reported:
    """How far a job is, as its verb reports it; a checkpoint of the verb is where it stops."""

    stage: str | None = None
    done: int = 0
    total: int | None = None
    cancelled_by: str | None = None
    lost: bool = False
    heard: float = field(default_factory=elapsed)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def begin(self, collection: str, phase: str, total: int | None, done: int = 0) -> None:
        """See :class:`qmigrate.ports.Progress`."""
        with self._lock:
            self.stage, self.total, self.done = f"{collection}: {phase}", total, done
        self.check()

    def advance(self, count: int, note: str = "") -> None:  # noqa: ARG002  the display has no room for it
        """See :class:`qmigrate.ports.Progress`."""
        with self._lock:
            self.done += count
        self.check()

    def end(self, summary: str = "") -> None:
        """See :class:`qmigrate.ports.Progress`."""

    def say(self, line: str) -> None:
        """See :class:`qmigrate.ports.Progress`."""
        _log.info("%s", line)

    def now(self) -> dict[str, Any]:
        """For the row of the job."""
        with self._lock:
            return {"stage": self.stage, "done": self.done, "total": self.total}

    def check(self) -> None:
        """Stop where another worker has the job, or a person has asked for it.

        Raises:
            LeaseHeldError: another one has it, or may have.
            StoppedError: it is cancelled.
        """
        if self.lost or elapsed() - self.heard > TTL:
            raise LeaseHeldError("another worker has taken this job: this one was silent for too long")
        if self.cancelled_by is not None:
            raise StoppedError("stopped at a checkpoint, as asked")


@contextmanager
def _beating(queue: JobQueue, taken: QueuedJob, holder: str, state: _Reported) -> Iterator[None]:
    """Report while the block runs, from a thread of its own."""
    over = threading.Event()

    def beat() -> None:
        while True:
            try:
                asked = elapsed()
                state.cancelled_by = queue.beat(taken, holder, TTL, **state.now())
                state.heard = asked
            except LookupError:
                state.lost = True
                return
            except QmigrateError as error:
                # Silent for now; who takes the job in the meantime waits for the lease of its collection.
                _log.warning("job %s could not report: %s", taken.id, error.message)
            if over.wait(_BEAT if state.cancelled_by is None else TTL / 3):
                return

    thread = threading.Thread(target=beat, name=f"job {taken.id}", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def _told(error: QmigrateError) -> JsonObject:
    found: JsonObject = {
        "message": error.message,
        "hint": error.hint,
        "type": type(error).__name__,
        "exitCode": error.exit_code,
        "request": error.facts.get("request") if isinstance(error, ApprovalNeededError) else None,
    }
    return {key: value for key, value in found.items() if value is not None}
