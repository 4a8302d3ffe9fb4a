"""Decisions that only a human can make, with who made them. They need no lease, and touch no run."""

from __future__ import annotations

from sqlalchemy import and_, update

from qmigrate.ledger import tables
from qmigrate.ledger.codec import readable
from qmigrate.ledger.reader import Ledger


def accept_checksum(ledger: Ledger, revision: str, checksum: str, reason: str, actor: str) -> None:
    """Accept that the file of an applied revision has changed; the tables must be there.

    Raises:
        LedgerError: the database can't be written.
    """
    database = ledger.database
    with database.writing() as connection:
        connection.execute(
            tables.accepted.insert().values(
                revision=revision,
                checksum=checksum,
                reason=readable(reason),
                actor=readable(actor),
                created_at=database.now(),
            )
        )


def unlock(ledger: Ledger, collection: str, actor: str) -> bool:
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
