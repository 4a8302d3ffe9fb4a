"""Runs as those who watch them need them: a page of a list, one with its journal, lease and figures. It only reads."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

from sqlalchemy import Select, and_, func, or_, select

from qmigrate.ledger import codec, tables
from qmigrate.ledger.database import Database
from qmigrate.ledger.fence import Owner
from qmigrate.ledger.writer import OPEN_STATES
from qmigrate.model.facts.figures import PHASE, STEP, Figures
from qmigrate.model.facts.phases import Hold
from qmigrate.model.facts.stored import loaded
from qmigrate.model.state import OpenRun, Record


class Reads(Protocol):
    """A ledger that is read."""

    @property
    def database(self) -> Database:
        """Where the tables are."""

    def rows(self, query: Select[Any]) -> list[Any]:
        """The rows of a query over the ledger's tables; none while there are no tables."""


@dataclass(frozen=True, slots=True)
class PhaseTimes:
    """A row of the journal, with when.

    Attributes:
        finished_at: None of one that is not over.
    """

    record: Record
    started_at: datetime
    finished_at: datetime | None


@dataclass(frozen=True, slots=True)
class Watched:
    """A run, in whatever state.

    Attributes:
        run: with its journal; `leased` and `is_dead` are about a process that works on this very run.
        tool: version of qmigrate that has begun it.
        server: label of the Qdrant server.
        metadata: facts of the caller.
        finished_at: None of one that is being worked on, or was cut off.
        phases: the journal, in the order of the work.
        figures: samples.
        expires_at: when its lease ends unless renewed; None where another run has had the lease since.
        now: by the clock of the database.
    """

    run: OpenRun
    tool: str
    server: str
    metadata: dict[str, Any]
    finished_at: datetime | None
    phases: tuple[PhaseTimes, ...]
    figures: Figures
    expires_at: datetime | None
    now: datetime

    @property
    def is_over(self) -> bool:
        """Whether it has ended for good: nothing resumes it."""
        return self.run.state not in OPEN_STATES


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which runs.

    Attributes:
        collection: of this logical name.
        states: in one of these; empty for any.
        verb: of this verb.
        actor: a part of who began them.
        since: begun, or ended, not before this moment.
    """

    collection: str | None = None
    states: Collection[str] = ()
    verb: str | None = None
    actor: str | None = None
    since: datetime | None = None


def watched(ledger: Reads, wanted: Wanted, *, limit: int, offset: int = 0) -> list[Watched]:
    """Runs, newest first; without their figures."""
    runs = tables.runs
    query = _with_lease(ledger).where(*_conditions(wanted)).order_by(runs.c.id.desc()).limit(limit).offset(offset)
    rows = ledger.rows(query)
    journal = _journal(ledger, [row["id"] for row in rows])
    return [_watched(row, [one for one in journal if one["run"] == row["id"]]) for row in rows]


def count(ledger: Reads, wanted: Wanted) -> int:
    """How many there are."""
    rows = ledger.rows(select(func.count().label("runs")).select_from(tables.runs).where(*_conditions(wanted)))
    return int(rows[0]["runs"]) if rows else 0


def one_watched(ledger: Reads, run: int) -> Watched | None:
    """One run with its figures; None where there is none of this number."""
    if not 0 < run < 1 << 63:
        return None  # no database would take it for a number of one
    rows = ledger.rows(_with_lease(ledger).where(tables.runs.c.id == run))
    if not rows:
        return None
    return _watched(rows[0], _journal(ledger, [run], figures=True))


def worked_when_held(ledger: Reads, runs: Iterable[int]) -> dict[int, float]:
    """Seconds that the phases took of those of some runs that waited for a cut-over; the waiting is none of them."""
    found: dict[int, list[Any]] = {}
    for row in _journal(ledger, sorted(runs)):
        found.setdefault(row["run"], []).append(row)
    return {
        run: sum((one["finished_at"] - one["started_at"]).total_seconds() for one in rows if one["finished_at"])
        for run, rows in found.items()
        # Every go-live has that phase; one that didn't wait left it at once.
        if any(one["phase"] == Hold.phase and one["facts"].get("since") for one in rows)
    }


def figures_of(ledger: Reads, run: int) -> Figures:
    """The samples of a run."""
    phases = tables.phases
    query = select(phases.c.facts).where(phases.c.run == run, phases.c.step == STEP, phases.c.phase == PHASE)
    rows = ledger.rows(query)
    return loaded(Figures, rows[0]["facts"]) if rows else Figures()


def _conditions(wanted: Wanted) -> list[Any]:
    runs, found = tables.runs, list[Any]()
    if wanted.collection is not None:
        found.append(runs.c.collection == wanted.collection)
    if wanted.states:
        found.append(runs.c.state.in_(tuple(wanted.states)))
    if wanted.verb is not None:
        found.append(runs.c.verb == wanted.verb)
    if wanted.actor is not None:
        found.append(runs.c.actor.contains(wanted.actor, autoescape=True))
    if wanted.since is not None:
        found.append(or_(runs.c.started_at >= wanted.since, runs.c.finished_at >= wanted.since))
    return found


def _with_lease(ledger: Reads) -> Select[Any]:
    runs, leases = tables.runs, tables.leases
    where_it_runs = (leases.c.host.label("lease_host"), leases.c.boot_id, leases.c.pid_namespace)
    holder = (leases.c.expires_at, leases.c.released, *where_it_runs, leases.c.pid, leases.c.process_start)
    # One that was taken since is about another run, or another try.
    its_own = and_(leases.c.name == runs.c.collection, leases.c.epoch == runs.c.epoch)
    return select(runs, *holder, ledger.database.now().label("now")).outerjoin_from(runs, leases, its_own)


def _journal(ledger: Reads, runs: list[int], *, figures: bool = False) -> list[Any]:
    phases = tables.phases
    mine = phases.c.run.in_(runs)
    query = select(phases).where(mine if figures else and_(mine, phases.c.step >= 0))
    return ledger.rows(query.order_by(phases.c.run, phases.c.step, phases.c.position)) if runs else []


def _watched(row: Any, journal: list[Any]) -> Watched:
    of_steps = [one for one in journal if one["step"] >= 0]
    records = tuple(codec.record_of(one) for one in of_steps)
    alive = row["expires_at"] is not None and row["expires_at"] > row["now"] and not row["released"]
    dead = row["released"] is False and Owner.current().proves_dead({**row, "host": row["lease_host"]})
    samples = next((one["facts"] for one in journal if one["step"] == STEP and one["phase"] == PHASE), None)
    return Watched(
        run=codec.open_run_of(row, records, leased=alive and not dead, is_dead=dead),
        tool=row["tool"],
        server=row["server"],
        metadata=row["metadata"] or {},
        finished_at=row["finished_at"],
        phases=tuple(
            PhaseTimes(record, one["started_at"], one["finished_at"])
            for record, one in zip(records, of_steps, strict=True)
        ),
        figures=Figures() if samples is None else loaded(Figures, samples),
        expires_at=row["expires_at"],
        now=row["now"],
    )
