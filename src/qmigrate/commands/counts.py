"""counts: how many points each collection has, recorded once in a while, so that a page can show them by day."""

from __future__ import annotations

from datetime import timedelta

from qmigrate.commands.session import opened_ledger, session
from qmigrate.errors import NotFoundError
from qmigrate.ledger.counts import counted_last, keep_counts
from qmigrate.ledger.reader import present
from qmigrate.observe import observe
from qmigrate.settings.load import Settings

#: How old the newest count is before there is another one.
EVERY = timedelta(hours=1)


def count(settings: Settings) -> dict[str, int]:
    """Count every collection under management that serves, unless a worker has done so within :data:`EVERY`.

    Returns:
        By logical name; nothing where it isn't time yet, or the ledger has nothing.
    """
    with opened_ledger(settings) as ledger:
        newest = counted_last(ledger)
        if not ledger.ready() or (newest is not None and present(ledger) - newest < EVERY):
            return {}
    found: dict[str, int] = {}
    with session(settings, writes=False, partial=True, readable=True) as opened:
        for name, state in observe(opened.ledger, opened.store).collections.items():
            if not state.managed or state.physical is None:
                continue
            try:
                found[name] = opened.store.count(state.physical)
            except NotFoundError:
                # Deleted since it was listed.
                continue
        keep_counts(opened.ledger, found)
    return found
