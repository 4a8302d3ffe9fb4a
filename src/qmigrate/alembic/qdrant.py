"""The directives that a revision of Alembic calls: ``from qmigrate.alembic import qdrant``. They decide nothing."""

from __future__ import annotations

from datetime import timedelta

from qmigrate.alembic.mode import shown_by_alembic
from qmigrate.errors import UsageError
from qmigrate.model.names import dimension_key
from qmigrate.operations import AddVector
from qmigrate.operations.base import Operation
from qmigrate.operations.values import Empty, Value
from qmigrate.settings.values import is_bare_number, parse_duration

__all__ = ["add_vector_dimension", "apply", "fix", "require", "revert", "run"]


def require(revision: str) -> None:
    """Continue only when the ledger has a revision of qmigrate as done.

    Args:
        revision: its id, or the beginning of one.

    Raises:
        BridgeError: it isn't done; names ``qmigrate upgrade …`` or ``qmigrate cutover …``.
    """
    from qmigrate.alembic import gates
    from qmigrate.alembic.integration import current

    with shown_by_alembic():
        gates.require(current(gates.context_of()), revision)


def run(revision: str, *, max_estimate: str | timedelta | None = None) -> None:
    """Bring the collections to a revision of qmigrate here; must come before any SQL of the Alembic revision.

    Args:
        revision: its id, or the beginning of one.
        max_estimate: refuse what is expected to take longer, as ``"10m"`` or a ``timedelta``.

    Raises:
        BridgeError: it can't be done, or takes too long; what was begun is resumed by the next run.
    """
    from qmigrate.alembic import gates
    from qmigrate.alembic.integration import current

    with shown_by_alembic():
        gates.run(current(gates.context_of()), revision, _seconds(max_estimate))


def apply(key: str, *operations: Operation, max_estimate: str | timedelta | None = None) -> None:
    """Do operations that are here and in no revision file; must come before any SQL of the Alembic revision.

    They are recorded under `key` and are from then on a revision like any other: `qmigrate status`, `history`,
    `upgrade` and `rollback` include it. Own code (``Compute``, ``TransformPoints``) needs a revision file.

    Args:
        key: the id; no other revision may have it, and its operations must stay as they are.
        operations: of ``qmigrate.op``; globs mean what they mean in files.
        max_estimate: refuse what is expected to take longer, as ``"10m"`` or a ``timedelta``.

    Raises:
        BridgeError: it can't be done, or other operations were applied under this key.
    """
    from qmigrate.alembic import gates
    from qmigrate.alembic.integration import current

    with shown_by_alembic():
        gates.apply(current(gates.context_of()), key, operations, _seconds(max_estimate))


def fix(key: str, *operations: Operation, max_estimate: str | timedelta | None = None) -> None:
    """Change data of points, with operations such as ``op.DeletePoints``: :func:`apply`, recorded as a fix.

    Args:
        key: the id; no other revision may have it.
        operations: of ``qmigrate.op``.
        max_estimate: refuse what is expected to take longer, as ``"10m"`` or a ``timedelta``.
    """
    from qmigrate.alembic import gates
    from qmigrate.alembic.integration import current

    with shown_by_alembic():
        gates.apply(current(gates.context_of()), key, operations, _seconds(max_estimate), "fix")


def add_vector_dimension(
    *, collection: str, vector_name: str, size: int, distance: str = "Cosine", values: Value | None = None
) -> None:
    """Give every matching collection a further vector: :func:`apply` with one ``AddVector``.

    Args:
        collection: logical name or glob.
        vector_name: of the new vector; the key is made of both.
        size: its length.
        distance: as Qdrant writes it: ``Cosine``, ``Dot``, ``Euclid`` or ``Manhattan``.
        values: what fills it; None leaves it empty, for the application to fill.
    """
    # Written as Qdrant's own JSON: the client library is not loaded for a name.
    params = {"size": size, "distance": distance}
    key = dimension_key(collection, vector_name)
    apply(key, AddVector(collection, vector_name, params, values=values or Empty()))


def revert(revision: str, *, writes: str = "refuse") -> None:
    """Revert a revision of qmigrate, or an inline one; for ``downgrade()``, before any SQL of it.

    Args:
        revision: its id, or the key of :func:`apply`.
        writes: what becomes of writes since: ``refuse`` (the default), ``carry`` or ``discard``.

    Raises:
        BridgeError: something was written since, or later revisions came after it; nothing was changed.
    """
    from qmigrate.alembic import gates
    from qmigrate.alembic.integration import current

    with shown_by_alembic():
        if writes not in ("refuse", "carry", "discard"):
            raise UsageError(f"qdrant.revert(): writes={writes!r} is unknown", hint="refuse, carry or discard")
        gates.revert(current(gates.context_of()), revision, writes)


def _seconds(given: str | timedelta | None) -> float | None:
    found = None if given is None else parse_duration(given)
    if given is not None and found is None:
        why = "has no unit" if is_bare_number(given) else "is not a duration"
        raise UsageError(f"max_estimate={given!r} {why}", hint='write it as "10m", or as a timedelta')
    return found
