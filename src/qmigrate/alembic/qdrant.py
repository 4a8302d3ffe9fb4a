"""The directives that a revision of Alembic calls: ``from qmigrate.alembic import qdrant``. They decide nothing."""

from __future__ import annotations

from qmigrate.alembic.failures import shown_by_alembic
from qmigrate.errors import UsageError
from qmigrate.settings_read import parse_duration

__all__ = ["require", "run"]


def require(revision: str) -> None:
    """Go on only when the ledger says that a revision of qmigrate is done.

    Args:
        revision: its id, or the beginning of one.

    Raises:
        BridgeError: it isn't done; names ``qmigrate upgrade …`` or ``qmigrate cutover …``.
    """
    from qmigrate.alembic import gates
    from qmigrate.alembic.integration import current

    with shown_by_alembic():
        gates.require(current(gates.context_of()), revision)


def run(revision: str, *, max_estimate: str | float | None = None) -> None:
    """Bring the collections to a revision of qmigrate here; must come before any SQL of the Alembic revision.

    Args:
        revision: its id, or the beginning of one.
        max_estimate: refuse what is expected to take longer, as ``10m`` or seconds.

    Raises:
        BridgeError: it can't be done, or takes too long; what was begun is resumed by the next run.
    """
    from qmigrate.alembic import gates
    from qmigrate.alembic.integration import current

    with shown_by_alembic():
        limit = None if max_estimate is None else parse_duration(max_estimate)
        if max_estimate is not None and limit is None:
            raise UsageError(f"qdrant.run(): max_estimate={max_estimate!r} is no duration", hint='write it as "10m"')
        gates.run(current(gates.context_of()), revision, limit)
