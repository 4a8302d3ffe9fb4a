"""When each collection was last migrated, with one statement. It only reads."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import func, select

from qmigrate.ledger import tables
from qmigrate.ledger.reader import Ledger
from qmigrate.model.plan import ASIDE


def last_migrations(ledger: Ledger) -> dict[str, datetime]:
    """Logical name -> when a revision of it was last applied or undone, in UTC; data fixes don't count."""
    history = tables.history
    newest = func.max(history.c.created_at).label("newest")
    query = (
        select(history.c.collection, newest)
        .where(history.c.direction.not_in(ASIDE))
        .group_by(history.c.collection)
        .order_by(history.c.collection)
    )
    return {row["collection"]: row["newest"] for row in ledger.rows(query)}
