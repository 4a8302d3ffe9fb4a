"""What is kept of a collection besides what serves: its generations with all that decides whether one may go."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from qmigrate.model.schema import JsonObject
from qmigrate.model.state import Generation


@dataclass(frozen=True, slots=True)
class KeptSnapshot:
    """A server-side snapshot of a generation; `size` in bytes.

    Attributes:
        own: whether a run of this ledger made it; else a user wanted it.
    """

    name: str
    size: int
    created_at: datetime | None
    own: bool


@dataclass(frozen=True, slots=True)
class Holding:
    """A physical collection of one logical name, or the record of one.

    Attributes:
        physical: its name.
        row: the ledger's record; None when the ledger doesn't know it.
        present: whether it is in Qdrant.
        seal: the seal in its metadata.
        points: approximate count.
        size: estimated bytes of its points.
        names: aliases that point to it, without those that are qmigrate's own business.
        hidden: an alias of its very name leads elsewhere, so only a further alias reaches it.
        snapshots: server-side, oldest first.
    """

    physical: str
    row: Generation | None
    present: bool = True
    seal: JsonObject | None = None
    points: int | None = None
    size: int | None = None
    names: tuple[str, ...] = ()
    hidden: bool = False
    snapshots: tuple[KeptSnapshot, ...] = ()
