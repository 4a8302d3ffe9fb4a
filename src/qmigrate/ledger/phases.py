"""Rows of the journal, written in a transaction of the caller's. It decides nothing of what they say."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection, and_, select, update

from qmigrate.ledger import tables
from qmigrate.ledger.fence import next_number
from qmigrate.model.schema import JsonObject

if TYPE_CHECKING:
    from qmigrate.ledger.fence import Fenced

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
