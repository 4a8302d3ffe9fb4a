"""All SQL state: runs, history, journal, generations, leases. It is independent of Qdrant and decides nothing.

`Ledger` only reads. `Ledger.hold` gives a `Lease`, and only a `Lease` writes; next to it are
`Ledger.prepare`, which makes the tables, and the two decisions of ``repair``.
"""

from __future__ import annotations

from qmigrate.ledger.bases import ANY_RANGE
from qmigrate.ledger.codec import (
    Carry,
    DeletionRow,
    Doubt,
    Fixed,
    HistoryRow,
    LeaseRow,
    Leaving,
    Quarantined,
    Range,
    RunRow,
    View,
)
from qmigrate.ledger.decisions import accept_checksum, unlock
from qmigrate.ledger.joined import JoinedLease, join
from qmigrate.ledger.lease import Lease, Ledger
from qmigrate.ledger.meanings import known_meanings, meaning
from qmigrate.ledger.schema import VERSION_TABLE
from qmigrate.ledger.tables import metadata

#: Names of the ledger's tables, for tools that compare the user's database with the user's models.
TABLE_NAMES = frozenset({VERSION_TABLE, *metadata.tables})

__all__ = [
    "ANY_RANGE",
    "TABLE_NAMES",
    "Carry",
    "DeletionRow",
    "Doubt",
    "Fixed",
    "HistoryRow",
    "JoinedLease",
    "Lease",
    "LeaseRow",
    "Leaving",
    "Ledger",
    "Quarantined",
    "Range",
    "RunRow",
    "View",
    "accept_checksum",
    "join",
    "known_meanings",
    "meaning",
    "unlock",
]
