"""Jobs of the background: added once, taken by one worker at a time, ended once. What a job does it doesn't know."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, RowMapping, Select, and_, delete, or_, select, update
from sqlalchemy.exc import IntegrityError

from qmigrate.ledger.codec import readable
from qmigrate.ledger.reader import LedgerReader
from qmigrate.ledger.tables import jobs, runs
from qmigrate.ledger.writer import ATTEMPT as ATTEMPT
from qmigrate.ledger.writer import JOB as JOB
from qmigrate.ledger.writer import OPEN_STATES, PROCESSING
from qmigrate.model.schema import JsonObject

PENDING, COMPLETED, FAILED = "pending", "completed", "failed"
STATES = (PENDING, PROCESSING, COMPLETED, FAILED)
#: In the error of a job: how many workers in a row have been silent at it.
_SILENT = "silent"
#: Runs of a job that do something else than it was asked for.
_BESIDE = ("gc", "abort")


@dataclass(frozen=True, slots=True)
class QueuedJob:
    """One job.

    Attributes:
        id: a UUID.
        kind: what it does, a name of :mod:`qmigrate.commands.jobs`.
        arguments: of that.
        state: ``pending | processing | completed | failed``.
        stage: what it is at, in words; None before it has begun.
        done: points that the stage has done.
        total: points of the stage; None where unknown.
        result: plain JSON, once it is completed.
        error: ``message``, ``hint``, ``type`` and ``exitCode``, where it failed or is to be tried again.
        actor: who asked for it.
        key: by which the same request is the same job; None for none.
        attempts: how often a worker has taken it.
        cancelled_by: who has asked for it to stop, or None.
        created_at: when it was asked for.
        updated_at: when its row last changed.
    """

    id: str
    kind: str
    arguments: JsonObject
    state: str
    stage: str | None
    done: int
    total: int | None
    result: JsonObject | None
    error: JsonObject | None
    actor: str
    key: str | None
    attempts: int
    cancelled_by: str | None
    created_at: datetime
    updated_at: datetime

    @property
    def progress(self) -> int:
        """Of the stage, 0 to 100; 100 once it is completed."""
        if self.state == COMPLETED:
            return 100
        return min(99, 100 * self.done // self.total) if self.total else 0


class JobQueue:
    """The jobs of a ledger."""

    def __init__(self, ledger: LedgerReader) -> None:
        self._ledger = ledger
        self._database = ledger.database

    def add(self, kind: str, arguments: JsonObject, key: str | None = None) -> tuple[QueuedJob, bool]:
        """Ask for a job.

        Args:
            key: where a job has it, that one is returned, whatever else was asked for.

        Returns:
            The job, and whether it is new.
        """
        self._ledger.prepare()
        if key is not None and (known := self._one(jobs.c.idempotency_key == key)) is not None:
            return known, False
        made, now = str(uuid.uuid4()), self._database.now()
        values = {
            "id": made,
            "kind": kind,
            "arguments": arguments,
            "state": PENDING,
            "done": 0,
            "actor": readable(self._ledger.actor),
            "idempotency_key": key,
            "attempts": 0,
            "created_at": now,
            "updated_at": now,
        }
        with self._database.writing() as connection:
            try:
                with connection.begin_nested():
                    connection.execute(jobs.insert().values(**values))
            except IntegrityError:
                # Another request with this key was faster.
                pass
        found = self.get(made) or (None if key is None else self._one(jobs.c.idempotency_key == key))
        assert found is not None  # noqa: S101  nothing removes a job
        return found, found.id == made

    def get(self, identifier: str) -> QueuedJob | None:
        """A job; None where there is none of that id."""
        return self._one(jobs.c.id == identifier)

    def listed(self, states: Sequence[str] = (), limit: int = 50, offset: int = 0) -> list[QueuedJob]:
        """Jobs, newest first."""
        query = select(jobs).order_by(jobs.c.created_at.desc(), jobs.c.id).limit(limit).offset(offset)
        if states:
            query = query.where(jobs.c.state.in_(states))
        return [_job(row) for row in self._rows(query)]

    def newest(self, kind: str, collection: str, states: Sequence[str] = STATES) -> QueuedJob | None:
        """The newest job of a kind that is about a collection, as its arguments name it."""
        about = jobs.c.arguments["collection"].as_string() == collection
        where = and_(jobs.c.kind == kind, jobs.c.state.in_(states), about)
        query = select(jobs).where(where).order_by(jobs.c.created_at.desc(), jobs.c.id).limit(1)
        return next((_job(row) for row in self._rows(query)), None)

    def take(self, holder: str, ttl: float, retries: int | None = None) -> QueuedJob | None:
        """The oldest job that no worker is at: a pending one that is due, or one whose worker is silent.

        One whose workers have died one after the other fails, so that it takes no further ones with it.

        Args:
            holder: who takes it, a name that no other worker has.
            ttl: seconds until it is free again, unless :meth:`beat` says otherwise.
            retries: how often it is taken again whose worker is silent; None for no limit.
        """
        now = self._database.now()
        free = and_(jobs.c.state.in_((PENDING, PROCESSING)), or_(jobs.c.free_at.is_(None), jobs.c.free_at <= now))
        columns = (jobs.c.id, jobs.c.state, jobs.c.error)
        oldest = select(*columns).where(free).order_by(jobs.c.created_at, jobs.c.id).limit(8)
        for row in self._rows(oldest):
            values: dict[str, Any] = {
                "state": PROCESSING,
                "holder": holder,
                "free_at": self._database.now(ttl),
                "attempts": jobs.c.attempts + 1,
            }
            if row["state"] == PROCESSING:
                silent = _silent(row["error"])
                values |= {"error": silent}
                if retries is not None and silent[_SILENT] > retries:
                    error = silent | {"hint": "qmigrate status"}
                    values = {"state": FAILED, "holder": None, "free_at": None, "error": error}
                    self._change(and_(jobs.c.id == row["id"], free), **values)
                    continue
            if self._change(and_(jobs.c.id == row["id"], free), **values):
                return self.get(row["id"])
        return None

    def beat(self, job: QueuedJob, holder: str, ttl: float, **progress: Any) -> str | None:
        """Keep a job, and say how far it is.

        Args:
            progress: ``stage``, ``done`` and ``total``.

        Returns:
            Who has asked for it to stop, or None.

        Raises:
            LookupError: another worker has it.
        """
        if not self._change(_mine(job, holder), free_at=self._database.now(ttl), **progress):
            raise LookupError(job.id)
        found = self.get(job.id)
        return None if found is None else found.cancelled_by

    def end(self, job: QueuedJob, holder: str, state: str, **what: Any) -> bool:
        """Complete a job or let it fail; whether it was still this worker's.

        Args:
            what: ``result`` or ``error``.
        """
        return self._change(_mine(job, holder), state=state, holder=None, free_at=None, **what)

    def put_back(self, job: QueuedJob, holder: str, delay: float, error: JsonObject | None = None) -> bool:
        """Let a job wait again; whether it was still this worker's.

        Args:
            delay: seconds before which it isn't taken.
        """
        due = self._database.now(delay)
        return self._change(_mine(job, holder), state=PENDING, holder=None, free_at=due, error=error)

    def cancel(self, identifier: str, error: JsonObject) -> QueuedJob | None:
        """Let a job that waits fail now, and one that is worked on at its next checkpoint; an ended one stays.

        Args:
            error: of the one that waits.
        """
        by = readable(self._ledger.actor)
        here = jobs.c.id == identifier
        if not self._change(and_(here, jobs.c.state == PENDING), state=FAILED, cancelled_by=by, error=error):
            self._change(and_(here, jobs.c.state == PROCESSING, jobs.c.cancelled_by.is_(None)), cancelled_by=by)
        return self.get(identifier)

    def cancel_begun(self, identifier: str) -> QueuedJob | None:
        """Let a job that waits for another try be taken at once by a worker, which ends what was begun."""
        by, here = readable(self._ledger.actor), and_(jobs.c.id == identifier, jobs.c.state == PENDING)
        self._change(here, cancelled_by=by, free_at=None)
        return self.get(identifier)

    def remove_ended(self, seconds: float) -> int:
        """Remove jobs that have ended this many seconds ago, or earlier; how many."""
        if not self.listed((COMPLETED, FAILED), limit=1):
            return 0
        old = and_(jobs.c.state.in_((COMPLETED, FAILED)), jobs.c.updated_at <= self._database.now(-seconds))
        with self._database.writing() as connection:
            return int(connection.execute(delete(jobs).where(old)).rowcount)

    def begun(self, identifier: str) -> dict[str, int]:
        """Collections with a run that a job has begun, and that has not ended; each with the newest such run."""
        return self._with_runs(identifier, OPEN_STATES)

    def done(self, identifier: str) -> dict[str, int]:
        """Collections for which a job has done what it was asked for, each with its newest run."""
        return self._with_runs(identifier, ("done",))

    def aborted(self, identifier: str) -> dict[str, int]:
        """Collections for which a person has ended what a job had begun, each with its newest run."""
        return self._with_runs(identifier, ("aborted",))

    def collections(self) -> dict[str, list[str]]:
        """Job -> the collections that its runs were about."""
        found: dict[str, list[str]] = {}
        for row in self._ledger.rows(select(runs.c.collection, runs.c.metadata).order_by(runs.c.id)):
            job = (row["metadata"] or {}).get(JOB)
            if isinstance(job, str) and row["collection"] not in found.setdefault(job, []):
                found[job].append(row["collection"])
        return found

    def _with_runs(self, identifier: str, states: Sequence[str]) -> dict[str, int]:
        where = and_(runs.c.state.in_(states), runs.c.verb.not_in(_BESIDE))
        columns = (runs.c.id, runs.c.collection, runs.c.metadata)
        rows = self._ledger.rows(select(*columns).where(where).order_by(runs.c.id))
        return {row["collection"]: row["id"] for row in rows if (row["metadata"] or {}).get(JOB) == identifier}

    def _one(self, where: ColumnElement[bool]) -> QueuedJob | None:
        return next((_job(row) for row in self._rows(select(jobs).where(where))), None)

    def _rows(self, query: Select[Any]) -> list[Any]:
        """None while there is no table yet: the ledger of an earlier qmigrate can be read."""
        return self._ledger.rows(query) if self._database.has(jobs) else []

    def _change(self, where: ColumnElement[bool], **values: Any) -> bool:
        """Whether a row was changed; the table is there, since a row was read."""
        with self._database.writing() as connection:
            changed = update(jobs).where(where).values(updated_at=self._database.now(), **values)
            return connection.execute(changed).rowcount == 1


def done_before(ledger: LedgerReader) -> frozenset[str]:
    """Collections for which an earlier try of the job that a ledger is opened for has done its work; mostly none."""
    job, attempt = ledger.metadata.get(JOB), ledger.metadata.get(ATTEMPT)
    if not isinstance(job, str) or not isinstance(attempt, int) or attempt < 2:
        return frozenset()
    queue = JobQueue(ledger)
    return frozenset(queue.done(job)) if queue.get(job) is not None else frozenset()


def _silent(error: JsonObject | None) -> JsonObject:
    """The error of a job whose worker has died, or stands still."""
    times = int((error or {}).get(_SILENT, 0)) + 1
    workers = "its worker was silent" if times == 1 else f"{times} workers in a row were silent at it"
    return {"message": f"{workers}: killed, or out of memory", "type": "WorkerDied", "exitCode": 9, _SILENT: times}


def _mine(job: QueuedJob, holder: str) -> ColumnElement[bool]:
    return and_(jobs.c.id == job.id, jobs.c.state == PROCESSING, jobs.c.holder == holder)


def _job(row: RowMapping) -> QueuedJob:
    names = ("id", "kind", "arguments", "state", "stage", "done", "total", "result", "error", "actor", "attempts")
    same = {name: row[name] for name in (*names, "cancelled_by", "created_at", "updated_at")}
    return QueuedJob(**same, key=row["idempotency_key"])
