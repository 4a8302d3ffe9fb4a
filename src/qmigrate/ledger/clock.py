"""The time by the clock that leases go by: the same for every host. It reads nothing else."""

from __future__ import annotations

from datetime import UTC, datetime

from sqlalchemy import select

from qmigrate.errors import LedgerError
from qmigrate.ledger.reader import Ledger


def present(ledger: Ledger) -> datetime:
    """The same, to compare with what the ledger has recorded; where there are no tables yet there is nothing of that.

    A host whose own clock is wrong must not take what others keep for expired.
    """
    rows = ledger.rows(select(ledger.database.now().label("now")))
    return rows[0]["now"] if rows else datetime.now(UTC)


def clock(ledger: Ledger) -> datetime:
    """The time of the ledger's database.

    Raises:
        LedgerError: there are no tables yet.
    """
    rows = ledger.rows(select(ledger.database.now().label("now")))
    if not rows:
        raise LedgerError("the ledger has no tables yet", hint="the first command that writes creates them")
    moment: datetime = rows[0]["now"]
    return moment
