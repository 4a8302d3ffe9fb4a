"""Decisions that only a human can make, with who made them. They need no lease, and touch no run."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, and_, select, update

from qmigrate.ledger import codec, tables
from qmigrate.ledger.codec import readable
from qmigrate.ledger.meanings import keep
from qmigrate.ledger.reader import LedgerReader
from qmigrate.model.plan import REPAIRED
from qmigrate.model.schema import JsonObject

#: Of the history rows that say so: no run has made them.
NO_RUN = 0


def accept_checksum(
    ledger: LedgerReader,
    revision: tuple[str, str],
    reason: str,
    actor: str,
    *,
    before: str | None = None,
    meaning: JsonObject | None = None,
    report: JsonObject | None = None,
) -> None:
    """Accept that the file of an applied revision has changed; the tables must be there.

    Every collection that it is applied to gets a row in its history, in the same transaction.

    Args:
        revision: its id, and the checksum of the file as it is now.
        before: the checksum that was recorded until now.
        meaning: what the file means from now on.
        report: for the history, in addition to reason and checksums.

    Raises:
        LedgerError: the database can't be written.
    """
    database, (key, checksum) = ledger.database, revision
    names = [name for name, entries in ledger.all_applied().items() if key in {one.revision for one in entries}]
    facts = {**(report or {}), "reason": readable(reason), "old": before, "new": checksum}
    with database.writing() as connection:
        connection.execute(
            tables.accepted.insert().values(
                revision=key,
                checksum=checksum,
                reason=readable(reason),
                actor=readable(actor),
                created_at=database.now(),
            )
        )
        if meaning is not None:
            keep(connection, database, {revision: meaning})
        for name in sorted(names):
            _add_row(connection, ledger, name, revision, readable(actor), facts)


def _add_row(
    connection: Connection, ledger: LedgerReader, name: str, revision: tuple[str, str], actor: str, facts: JsonObject
) -> None:
    views = tables.views
    mine = select(views).where(views.c.collection_name == name, views.c.updated_at.is_not(None))
    row = connection.execute(mine).mappings().first()
    view = codec.view_of(row) if row is not None else None
    declared = codec.schema_json(view.declared) if view else None
    connection.execute(
        tables.history.insert().values(
            collection=name,
            run=NO_RUN,
            revision=revision[0],
            direction=REPAIRED,
            checksum=revision[1],
            strategy="accept",
            physical=view.physical if view else None,
            declared=declared,
            prior=declared,
            changes=[],
            report=facts,
            actor=actor,
            created_at=ledger.database.now(),
        )
    )


def unlock(ledger: LedgerReader, collection: str, actor: str) -> bool:
    """Let the lease of a dead holder expire now.

    Its epoch stays: a holder that is alive after all renews it again.

    Returns:
        Whether there was a lease that had not expired.

    Raises:
        LedgerError: the database can't be written.
    """
    database, leases = ledger.database, tables.leases
    if not ledger.ready():
        return False
    now = database.now()
    held = and_(leases.c.name == collection, leases.c.expires_at > now)
    with database.writing() as connection:
        ended = update(leases).where(held).values(expires_at=now, unlocked_by=readable(actor), unlocked_at=now)
        return connection.execute(ended).rowcount == 1


@dataclass(frozen=True, slots=True)
class Pace:
    """What people ask of a run that is worked on.

    Attributes:
        run: its id.
        epoch: of the lease of the process that worked on it then; no other process is bound by it.
        paused: wait at the next checkpoint until this is no longer asked.
        stopped: stop at the next checkpoint.
        rate: most points per second; None for what the settings say.
        actor: who has asked last.
        asked_at: when.
    """

    run: int
    epoch: int
    paused: bool
    stopped: bool
    rate: float | None
    actor: str
    asked_at: datetime | None = None


def ask_pace(ledger: LedgerReader, pace: Pace) -> None:
    """Ask it of a run, in place of what was asked before.

    Raises:
        LedgerError: the database can't be written.
    """
    ledger.prepare()
    database, table = ledger.database, tables.paces
    values = {
        "epoch": pace.epoch,
        "paused": pace.paused,
        "stopped": pace.stopped,
        "rate": pace.rate,
        "actor": readable(pace.actor),
        "asked_at": database.now(),
    }
    with database.writing() as connection:
        mine = update(table).where(table.c.run == pace.run).values(**values)
        if not connection.execute(mine).rowcount:
            connection.execute(table.insert().values(run=pace.run, **values))


def paces(ledger: LedgerReader, runs: list[int]) -> dict[int, Pace]:
    """Run -> what is asked of it; none in a ledger that an earlier qmigrate has made."""
    table = tables.paces
    if not runs or not ledger.database.has(table):
        return {}
    return {row["run"]: Pace(**row) for row in ledger.rows(select(table).where(table.c.run.in_(runs)))}
