"""Writing runs, journal, ranges, generations and what was done. It decides nothing of what is done."""

from __future__ import annotations

import socket
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection, and_, delete, select, update

from qmigrate.errors import LeaseHeldError, QmigrateError, RepairNeededError
from qmigrate.ledger import codec, tables
from qmigrate.ledger.bases import append_committed
from qmigrate.ledger.codec import Carry, Doubt, Fixed, Quarantined, Range, View
from qmigrate.ledger.fence import Fenced, elapsed, next_number, upsert
from qmigrate.ledger.meanings import keep
from qmigrate.ledger.quarantine import save_quarantined
from qmigrate.model.facts import figures as figures_row
from qmigrate.model.facts.audit import Audited
from qmigrate.model.facts.figures import Figures
from qmigrate.model.facts.stored import by_field, learned
from qmigrate.model.names import REHEARSAL, Permit
from qmigrate.model.plan import ASIDE, Closing, Job
from qmigrate.model.schema import JsonObject
from qmigrate.model.state import DELETING, Generation
from qmigrate.model.transform import PointId
from qmigrate.text import quote

if TYPE_CHECKING:
    from qmigrate.ledger.fence import Fenced


#: Keys of a run's metadata: the job of the background that has begun it, and which try of that.
JOB, ATTEMPT = "job", "job_attempt"
#: State of a job that a worker is at.
PROCESSING = "processing"
#: Run, step, and name of a phase.
PhaseKey = tuple[int, int, str]


def journal_in(connection: Connection, lease: Fenced, key: PhaseKey, state: str, facts: JsonObject) -> None:
    """Record that a phase is ``running``, ``done`` or ``failed``; new facts override its older ones."""
    phases = tables.phases
    now = lease.ledger.database.now()
    where = and_(phases.c.run == key[0], phases.c.step == key[1], phases.c.phase == key[2])
    row = connection.execute(select(phases).where(where)).mappings().first()
    values: dict[str, Any] = {
        "state": state,
        "epoch": lease.epoch,
        "finished_at": None if state == "running" else now,
    }
    if row is None:
        place = next_number(connection, phases.c.position, phases.c.run == key[0])
        named = {"run": key[0], "step": key[1], "phase": key[2], "position": place}
        connection.execute(phases.insert().values(**named, **values, facts=facts, started_at=now))
        return
    if state == "running" and (row["state"], row["epoch"]) != ("running", lease.epoch):
        values["started_at"] = now
    connection.execute(update(phases).where(where).values(**values, facts={**row["facts"], **facts}))


#: States of a run that is not finished.
OPEN_STATES = ("running", "failed", "held")
#: State of a run that ended in an error before it had changed anything; where consent was missing it is ``refused``.
UNCHANGED = "unchanged"
#: What `schema_version` holds at least in tables that applications made; the whole id is in `revision`.
SCHEMA_VERSION_LENGTH = 50


class RunWrites(Fenced):
    """The part of a lease that writes runs and what they leave behind."""

    def open_run(
        self,
        verb: str,
        job: Job,
        checksums: Mapping[str, str],
        *,
        actor: str,
        tool: str,
        server: str,
        total_points: int = 0,
    ) -> int:
        """Record that a job begins.

        Args:
            verb: of the command.
            job: what a resume loads.
            checksums: revision -> checksum of its file, for all that the job uses.
            actor: who runs it.
            tool: version of qmigrate.
            server: label of the Qdrant server.
            total_points: what progress is measured against; 0 where unknown.

        Returns:
            The run's id.

        Raises:
            LeaseHeldError: it is part of a job of the background that another worker has taken since, or that is over.
        """
        if job.collection != self.collection:
            raise QmigrateError(f"the lease of {self.collection} was asked to open a run of {job.collection}")
        with self._write() as connection:
            _check_job(connection, self.ledger.metadata)
            result = connection.execute(
                tables.runs.insert().values(
                    verb=verb,
                    collection=job.collection,
                    state="running",
                    job=job.to_json(),
                    checksums=dict(checksums),
                    actor=codec.readable(actor),
                    metadata=self.ledger.metadata or None,
                    host=socket.gethostname(),
                    tool=tool,
                    server=server,
                    epoch=self.epoch,
                    done_points=0,
                    total_points=total_points,
                    started_at=self.ledger.database.now(),
                )
            )
            key = result.inserted_primary_key
        self._server = server
        return int(key[0]) if key is not None else 0

    def resume_run(self, run: int) -> None:
        """The run is worked on again, by this holder; its error is cleared."""
        with self._write() as connection:
            values = {"state": "running", "error": None, "finished_at": None, "epoch": self.epoch}
            self._run_update(connection, run, values)
            self._server = connection.scalar(select(tables.runs.c.server).where(tables.runs.c.id == run))

    def finish_run(self, run: int, state: str, error: str | None = None) -> None:
        """End an attempt: ``done | refused | unchanged | aborted`` for good, ``failed | held`` until it is resumed."""
        with self._write() as connection:
            values: dict[str, Any] = {
                "state": state,
                "error": codec.readable(error) if error is not None else None,
            }
            self._run_update(connection, run, {**values, "finished_at": self.ledger.database.now()})
            if state == "done":
                self._end_superseded(connection, run)

    def amend_run(self, run: int, job: Job) -> None:
        """The run continues with another job: the same steps, with one built in another way or under another name.

        What a resume or an abort loads is the job as amended, so nothing ever has two truths about a name.
        """
        if job.collection != self.collection:
            raise QmigrateError(f"the lease of {self.collection} was asked to amend a run of {job.collection}")
        with self._write() as connection:
            self._run_update(connection, run, {"job": job.to_json()})

    def keep_meanings(self, found: Mapping[tuple[str, str], JsonObject]) -> None:
        """Record what revisions say, by (revision, checksum); what is recorded already stays."""
        if found:
            with self._write() as connection:
                keep(connection, self.ledger.database, found)

    def progress(self, run: int, done: int, total: int) -> None:
        """Points done of points in all, for ``status`` from another terminal."""
        with self._write() as connection:
            self._run_update(connection, run, {"done_points": done, "total_points": total})

    def journal(self, run: int, step: int, phase: str, state: str, facts: JsonObject | None = None) -> None:
        """Record that a phase is ``running``, ``done`` or ``failed``; new facts override its older ones."""
        with self._write() as connection:
            journal_in(connection, self, (run, step, phase), state, facts or {})

    def keep_figures(self, run: int, figures: Figures) -> None:
        """Record how a run is doing, for those who watch it: in a row of the journal that belongs to no step."""
        phases = tables.phases
        now = self.ledger.database.now()
        key = {"run": run, "step": figures_row.STEP, "phase": figures_row.PHASE}
        values = {"state": "done", "epoch": self.epoch, "facts": by_field(figures), "finished_at": now}
        with self._write() as connection:
            upsert(connection, phases, key, values, position=-1, started_at=now)

    def fix_ranges(
        self, run: int, step: int, borders: Sequence[tuple[PointId | None, PointId | None]]
    ) -> tuple[Range, ...]:
        """Store the shares of a copy, once; a second call changes nothing.

        Returns:
            The stored ranges, which are not those of `borders` when there were some already.
        """
        ranges = tables.ranges
        with self._write() as connection:
            present = select(ranges.c.number).where(ranges.c.run == run, ranges.c.step == step).limit(1)
            if borders and connection.scalar(present) is None:
                fixed = {"run": run, "step": step, "points": 0, "done": False}
                for number, (start, stop) in enumerate(borders):
                    edges = {"start_id": codec.id_text(start), "stop_id": codec.id_text(stop)}
                    now = self.ledger.database.now()
                    connection.execute(ranges.insert().values(**fixed, **edges, number=number, updated_at=now))
        return self.ledger.ranges(run, step)

    def checkpoint(  # noqa: PLR0913 - one transaction
        self,
        run: int,
        step: int,
        range_number: int,
        cursor: PointId | None,
        points: int,
        done: bool,
        physical: str,
        pages: Sequence[bytes],
        failed: Sequence[Quarantined] = (),
    ) -> None:
        """One transaction: pages appended to the committed base of `physical`, then how far the range is.

        `cursor` is the last id whose write was acknowledged: the next holder continues behind it. `points` is
        what was written in this range so far; the run's count grows by the difference. `failed` are those among
        them that go into the quarantine of `physical`.
        """
        ranges = tables.ranges
        where = and_(ranges.c.run == run, ranges.c.step == step, ranges.c.number == range_number)
        with self._write() as connection:
            before = connection.scalar(select(ranges.c.points).where(where))
            if before is None:
                raise QmigrateError(f"run {run} has no range {range_number} in step {step}")
            self._check_range(range_number, before)
            append_committed(connection, physical, range_number, pages)
            save_quarantined(connection, self.collection, physical, run, failed, self.ledger.database.now())
            values = {"cursor_id": codec.id_text(cursor), "points": points, "done": done}
            connection.execute(update(ranges).where(where).values(**values, updated_at=self.ledger.database.now()))
            grown = tables.runs.c.done_points + (points - before)
            self._run_update(connection, run, {"done_points": grown})
        self._range_moved(range_number, points)

    def _check_range(self, number: int, points: int) -> None:
        """A range with `points` written is about to move; the holder's own threads share it out among themselves."""

    def _range_moved(self, number: int, points: int) -> None:
        """It has moved: the checkpoint is committed."""

    def carry(
        self,
        run: int,
        step: int,
        point_id: PointId,
        before: bytes,
        after: bytes,
        state: str,
        doubt: Doubt | None = None,
    ) -> None:
        """Journal one late write: ``running`` before it is carried over, then ``done``; else ``listed``.

        What is carried is doubtful from its first row on, until :meth:`carried_for_sure` is called.
        """
        self.carry_all(run, step, [Carry(point_id, before, after, state, doubt)])

    def carry_all(self, run: int, step: int, carries: Sequence[Carry]) -> None:
        """The same for several in one transaction."""
        with self._write() as connection:
            for one in carries:
                key = {"run": run, "step": step, "point_id": codec.id_text(one.point_id)}
                doubt = one.doubt
                values = {
                    "before": one.before,
                    "after": one.after,
                    "state": one.state,
                    "updated_at": self.ledger.database.now(),
                    "reason": None if doubt is None or doubt.reason is None else codec.readable(doubt.reason),
                    "met": None if doubt is None else doubt.met,
                }
                upsert(connection, tables.carries, key, values)

    def save_generation(self, generation: Generation) -> None:
        """Insert or update a generation of the own collection, by its number."""
        with self._write() as connection:
            self._save_generation(connection, generation)

    def _save_generation(self, connection: Connection, generation: Generation) -> None:
        now = self.ledger.database.now()
        key = {"collection": self.collection, "number": generation.number}
        table = tables.generations
        here = and_(table.c.collection == self.collection, table.c.number == generation.number)
        begun = connection.scalar(select(table.c.state).where(here)) == DELETING
        if begun and generation.state not in (DELETING, "gone"):
            raise RepairNeededError(
                f"the deletion of {generation.physical} has begun, so it can't be {generation.state} again",
                hint=f"qmigrate gc {quote(self.collection)} finishes the deletion",
            )
        values = {**codec.generation_columns(generation), "updated_at": now}
        upsert(connection, tables.generations, key, values, server=self._server, created_at=now)

    def begin_deletion(self, physical: str, seconds: float) -> Permit:
        """Record that a physical collection is about to be deleted: from here on that can only be finished.

        Args:
            physical: a generation of the own collection, or a throwaway of a rehearsal.
            seconds: the lease lasts longer than this from now on: the longest that the request can take.

        Returns:
            What the request needs, once.

        Raises:
            LeaseHeldError: another process has taken over; nothing may be deleted.
            QmigrateError: it is not a generation of this collection: a caller's mistake.
        """
        lasting = seconds + self._ttl
        with self._write() as connection:
            asked_at = elapsed()
            self._mark_deletion(connection, physical)
            connection.execute(self._extension(lasting))
        self._renewed(asked_at, lasting)
        return Permit(physical, self.remaining)

    def _mark_deletion(self, connection: Connection, physical: str) -> None:
        table = tables.generations
        mine = and_(table.c.collection == self.collection, table.c.physical == physical)
        state = connection.scalar(select(table.c.state).where(mine))
        if state is None and not REHEARSAL.match(physical):
            raise QmigrateError(f"{physical} is not a generation of {self.collection}, so it is not deleted")
        # What is recorded as gone serves no more: it was made by a request that came late.
        if state not in (None, DELETING, "gone"):
            begun = {"state": state, "epoch": self.epoch}
            values = {"state": DELETING, "deletion": begun, "updated_at": self.ledger.database.now()}
            connection.execute(update(table).where(mine).values(**values))

    def cancel_deletion(self, physical: str) -> bool:
        """Undo :meth:`begin_deletion`, where the server has answered that it deletes nothing.

        Nothing is undone where an earlier holder had begun it: its request may still be on its way.

        Returns:
            Whether it was undone.
        """
        table = tables.generations
        mine = and_(table.c.collection == self.collection, table.c.physical == physical, table.c.state == DELETING)
        with self._write() as connection:
            begun = connection.scalar(select(table.c.deletion).where(mine))
            if begun is None or begun["epoch"] != self.epoch:
                return False
            values = {"state": begun["state"], "deletion": None, "updated_at": self.ledger.database.now()}
            connection.execute(update(table).where(mine).values(**values))
            return True

    def forget_generation(self, physical: str) -> None:
        """Take a generation out of the ledger, with its quarantine: only for what never was one, as in a rehearsal."""
        table, failed = tables.generations, tables.quarantine
        with self._write() as connection:
            mine = and_(table.c.collection == self.collection, table.c.physical == physical)
            connection.execute(delete(table).where(mine))
            connection.execute(delete(failed).where(failed.c.generation == physical))

    def _log(self, connection: Connection, fixed: Fixed, actor: str) -> int:
        result = connection.execute(
            tables.deletions.insert().values(
                {
                    "deletion_type": fixed.kind,
                    "deletion_target": codec.readable(fixed.target),
                    "vector_count": fixed.count,
                    "deletion_reason": codec.readable(fixed.reason) if fixed.reason is not None else None,
                    "metadata": learned(fixed.facts),
                    "created_at": self.ledger.database.now(),
                    "actor": codec.readable(actor),
                    "collection": self.collection,
                }
            )
        )
        key = result.inserted_primary_key
        return int(key[0]) if key is not None else 0

    def close_step(  # noqa: PLR0913 - one transaction, and every value of it is a plain one
        self,
        run: int,
        step: int,
        *,
        closings: Sequence[Closing],
        view: View | None,
        generations: Sequence[Generation],
        strategy: str,
        physical: str | None,
        changes: Sequence[JsonObject],
        report: JsonObject,
        phase: str,
        last: bool,
        fixed: Fixed | None = None,
        job: Job | None = None,
        also: Callable[[Connection, Audited], Audited] | None = None,
    ) -> int | None:
        """Record the end of a step in one transaction; repeated, it changes nothing.

        Args:
            run: the run's id.
            step: position in its job.
            closings: the revisions that this step applied or took back, one history row each.
            view: the current view. None takes the name out of it when there are `closings`, else leaves it.
            generations: rows to insert or update.
            strategy: how, for the history.
            physical: the generation that serves now.
            changes: the in-place work, as JSON.
            report: counts and proof.
            phase: the closing phase as the journal calls it.
            last: whether the run is done with it, and a run that its job supersedes is aborted.
            fixed: what goes into the audit of data fixes.
            job: takes the place of the run's job, which has more than is to be kept; None leaves it.
            also: done in the same transaction right before; what it returns goes into that row.

        Returns:
            The id of that row, also of the one that was made when it is repeated; None without one.
        """
        with self._write() as connection:
            if not self._is_closed(connection, run, step, phase):
                what = {"strategy": strategy, "physical": physical, "changes": list(changes), "report": report}
                self._add_history(connection, run, closings, what)
                gone = any(closing.direction not in ASIDE for closing in closings)
                self._save_view(connection, view, drop=gone)
                for generation in generations:
                    self._save_generation(connection, generation)
                facts = self._audit(connection, run, fixed, also) if fixed is not None else {}
                journal_in(connection, self, (run, step, phase), "done", facts)
                if job is not None:
                    self._run_update(connection, run, {"job": job.to_json()})
            if last:
                done = {"state": "done", "error": None, "finished_at": self.ledger.database.now()}
                self._run_update(connection, run, done)
                self._end_superseded(connection, run)
            return _logged(connection, run, step, phase)

    def _audit(
        self,
        connection: Connection,
        run: int,
        fixed: Fixed,
        also: Callable[[Connection, Audited], Audited] | None,
    ) -> JsonObject:
        if also is not None:
            fixed = replace(fixed, facts=also(connection, fixed.facts))
        own = connection.scalar(select(tables.runs.c.metadata).where(tables.runs.c.id == run))
        if own:
            fixed = replace(fixed, facts=replace(fixed.facts, own=own))
        if approved := _approval(connection, run, fixed.facts.step):
            fixed = replace(fixed, facts=replace(fixed.facts, approval=approved))
        return {"log": self._log(connection, fixed, self._actor(connection, run))}

    def _is_closed(self, connection: Connection, run: int, step: int, phase: str) -> bool:
        phases = tables.phases
        where = and_(phases.c.run == run, phases.c.step == step, phases.c.phase == phase)
        return connection.scalar(select(phases.c.state).where(where)) == "done"

    def _add_history(
        self, connection: Connection, run: int, closings: Sequence[Closing], what: Mapping[str, Any]
    ) -> None:
        actor = self._actor(connection, run)
        for closing in closings:
            connection.execute(
                tables.history.insert().values(
                    collection=self.collection,
                    run=run,
                    revision=closing.revision,
                    direction=closing.direction,
                    checksum=closing.checksum,
                    declared=codec.schema_json(closing.declared),
                    prior=codec.schema_json(closing.prior),
                    actor=actor,
                    created_at=self.ledger.database.now(),
                    **what,
                )
            )

    def _actor(self, connection: Connection, run: int) -> str:
        return str(connection.scalar(select(tables.runs.c.actor).where(tables.runs.c.id == run)))

    def _save_view(self, connection: Connection, view: View | None, *, drop: bool) -> None:
        views = tables.views
        if view is None:
            if drop:
                connection.execute(delete(views).where(views.c.collection_name == self.collection))
            return
        now = self.ledger.database.now()
        declared = view.declared
        config = {"vectors": dict(declared.vectors), "sparse": dict(declared.sparse)} if declared else {}
        values = {
            "schema_version": (view.revision or "")[:SCHEMA_VERSION_LENGTH],
            "vectors_config": config,
            "last_migration": now,
            "updated_at": now,
            "revision": view.revision,
            "physical_name": view.physical,
            "declared": codec.schema_json(declared),
            "embedders": dict(view.embedders),
        }
        upsert(connection, views, {"collection_name": self.collection}, values, created_at=now)

    def _end_superseded(self, connection: Connection, run: int) -> None:
        job = connection.scalar(select(tables.runs.c.job).where(tables.runs.c.id == run))
        if job and job.get("supersedes") is not None:
            self._abort(connection, job["supersedes"])

    def _abort(self, connection: Connection, run: int) -> None:
        runs = tables.runs
        mine = and_(runs.c.id == run, runs.c.collection == self.collection, runs.c.state.in_(OPEN_STATES))
        now = self.ledger.database.now()
        connection.execute(update(runs).where(mine).values(state="aborted", finished_at=now))


def _check_job(connection: Connection, metadata: Mapping[str, Any]) -> None:
    """A worker that stood still begins nothing more of its job.

    Load-bearing: who takes a job looks for what was begun, so that no run may begin behind that look.
    """
    jobs, mine = tables.jobs, metadata.get(ATTEMPT)
    if not isinstance(mine, int):
        return
    query = select(jobs.c.attempts, jobs.c.state).where(jobs.c.id == metadata.get(JOB)).with_for_update()
    found = connection.execute(query).mappings().first()
    if found is not None and (found["attempts"], found["state"]) != (mine, PROCESSING):
        said = "another worker has taken this job: this one was silent for too long"
        raise LeaseHeldError(said, hint="qmigrate jobs")


def _approval(connection: Connection, run: int, step: int | None) -> JsonObject | None:
    """Who has asked for what a run does, and who has approved it; None where no approval was needed.

    Args:
        step: whose row it is; a reset is approved where its generation is built, and recorded by a later step.
    """
    table = tables.requests
    query = select(table.c.id, table.c.step, table.c.asked_by, table.c.decided_by).where(table.c.run == run)
    found = connection.execute(query.order_by(table.c.id)).all()
    mine = [one for one in found if one.step == step] or [one for one in found if (one.step or 0) < (step or 0)]
    if not mine:
        return None
    return {"request": mine[-1].id, "asked_by": mine[-1].asked_by, "approved_by": mine[-1].decided_by}


def _logged(connection: Connection, run: int, step: int, phase: str) -> int | None:
    """The row of the audit that a closing phase has noted."""
    phases = tables.phases
    where = and_(phases.c.run == run, phases.c.step == step, phases.c.phase == phase)
    facts: JsonObject = connection.scalar(select(phases.c.facts).where(where)) or {}
    return facts.get("log")
