"""What earlier fixes have kept, deleted when it can't be needed any more. It changes no point."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

from qmigrate.ledger.clock import present
from qmigrate.steps.export import remove_ours
from qmigrate.steps.fixes.journal import journal_name
from qmigrate.steps.fixes.purge import is_over
from qmigrate.steps.fixes.soft import SOFT_DELETE
from qmigrate.steps.work import Work

#: Rows of the audit that are checked for what can't be undone any more.
_AUDIT_ROWS = 1000


def expire(work: Work) -> None:
    """Forget what fixes that are too old to be undone have kept.

    Which points were deleted is kept longer: until there is no older generation that could bring them back.
    Points that are only marked wait for `gc`, and until they are gone the mark can be undone.
    """
    settings, now = work.settings.fixes, present(work.lease.ledger)
    ledger = work.lease.ledger
    way_back = any(row.state == "retired" for row in ledger.generations(work.collection))
    rows = ledger.deletions(_AUDIT_ROWS)
    for row in rows:
        lasts = max(settings.undo, settings.soft_delete) if row.facts.get("flag") else settings.undo
        young = row.created_at >= now - timedelta(seconds=lasts)
        if row.collection != work.collection or row.facts.get("run") is None or young:
            continue
        if row.kind == SOFT_DELETE and not is_over(row, rows, now - timedelta(seconds=settings.undo)):
            # Only by it does gc know which marks are ours.
            continue
        name = journal_name(row.facts["run"], row.facts["step"])
        if ledger.has_base(name) and not (row.count and way_back):
            work.lease.drop_base(name)
        if row.facts.get("file"):
            remove_ours(Path(row.facts["file"]), work.ledger_id)
