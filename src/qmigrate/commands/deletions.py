"""history --deletions: the audit of data fixes and deletions, filtered. It only reads."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from qmigrate.commands.names import check_recorded
from qmigrate.commands.session import opened_ledger
from qmigrate.ledger import DeletionRow
from qmigrate.ledger.writes import OWN
from qmigrate.model.patterns import fits
from qmigrate.revisions import Revisions
from qmigrate.settings import Settings


@dataclass(frozen=True, slots=True)
class Deletion:
    """One row of ``vector_deletion_logs``.

    Attributes:
        id: what ``fix undo`` takes.
        kind: ``DIRECTORY``, ``ORPHAN``, ``PAYLOAD_SYNC``, …, or what the application wrote.
        target: what was meant, as text.
        count: vectors deleted; 0 for what deletes none.
        changed: points that were changed or deleted; None for rows of the application.
        collection: the logical name; None for rows of the application.
        undone_by: the fix that took it back, or None.
        facts: everything else that was recorded.
        metadata: of these, the caller's own.
    """

    id: int
    created_at: datetime
    collection: str | None
    kind: str
    target: str
    count: int
    changed: int | None
    reason: str | None
    actor: str | None
    undone_by: int | None
    facts: Mapping[str, Any]
    metadata: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Deletions:
    """Rows, newest first."""

    rows: tuple[Deletion, ...]


def deletions(
    settings: Settings,
    collection: str | None = None,
    *,
    since: datetime | None = None,
    kind: str | None = None,
    target: str | None = None,
    actor: str | None = None,
    limit: int = 50,
) -> Deletions:
    """What was deleted and changed on purpose, newest first; also what the application wrote into that table itself.

    Args:
        collection: only of this logical name.
        since: not before this moment; with a time zone.
        kind: of this type, whatever its case.
        target: a glob, or a part of the target.
        actor: a glob, or a part of who did it.
        limit: most rows.

    Raises:
        UnknownNameError: neither the ledger nor a revision speaks of the collection.
    """
    with opened_ledger(settings) as ledger:
        check_recorded(ledger, Revisions.load(settings.scripts), collection)
        rows = ledger.deletions()
    undone = {row.facts["undoes"]: row.id for row in reversed(rows) if row.facts.get("undoes") is not None}
    found = [
        row
        for row in rows
        if collection in (None, row.collection)
        and (since is None or row.created_at >= since)
        and (kind is None or row.kind.lower() == kind.lower())
        and _fits(target, row.target)
        and _fits(actor, row.actor or "")
    ]
    return Deletions(tuple(_plain(row, undone.get(row.id)) for row in found[:limit]))


def _fits(wanted: str | None, value: str) -> bool:
    return wanted is None or wanted in value or fits(value, wanted)


def _plain(row: DeletionRow, undone_by: int | None) -> Deletion:
    return Deletion(
        id=row.id,
        created_at=row.created_at,
        collection=row.collection,
        kind=row.kind,
        target=row.target,
        count=row.count,
        changed=row.facts.get("changed"),
        reason=row.reason,
        actor=row.actor,
        undone_by=undone_by,
        facts=row.facts,
        metadata=row.facts.get(OWN) or {},
    )
