"""heads, branches and show: the revision files, as Alembic's users ask for them. Qdrant is never asked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from qmigrate.commands.inline import with_inline
from qmigrate.commands.session import opened_ledger, read_revisions
from qmigrate.errors import UnavailableError
from qmigrate.ledger import Ledger
from qmigrate.revisions.graph import Revision, Revisions
from qmigrate.settings.load import Settings


@dataclass(frozen=True, slots=True)
class ShownRevision:
    """One revision.

    Attributes:
        doc: the first line of its docstring.
        down: revisions that it follows.
        next: revisions that follow it.
        path: its file; that of Alembic's revision where it has none of its own.
        operations: what ``upgrade()`` does, in words.
        way_back: ``derived`` from what was there before, ``downgrade()`` of the file, or why there is none.
        requires_sql: Alembic's revision that must be applied first, or None.
        applied: collections that are at it or past it; None where the ledger can't be read.
    """

    revision: str
    doc: str
    down: tuple[str, ...]
    next: tuple[str, ...]
    path: Path
    operations: tuple[str, ...]
    way_back: str
    requires_sql: str | None
    applied: tuple[str, ...] | None


@dataclass(frozen=True, slots=True)
class ShownRevisions:
    """Several of them, in the order in which they are applied."""

    rows: tuple[ShownRevision, ...]


def heads(settings: Settings | None = None) -> ShownRevisions:
    """The revisions that none follows: one, unless two branches wait for ``revision --merge``."""
    found, applied = _read(settings or Settings.load(stores=False))
    return ShownRevisions(tuple(_shown(found, found.get(one), applied) for one in found.heads()))


def branches(settings: Settings | None = None) -> ShownRevisions:
    """The revisions that more than one follows."""
    found, applied = _read(settings or Settings.load(stores=False))
    rows = (_shown(found, one, applied) for one in found.order())
    return ShownRevisions(tuple(row for row in rows if len(row.next) > 1))


def show(settings: Settings | None = None, revision: str = "head") -> ShownRevision:
    """One revision: what it does, where its file is, and which collections are at it.

    Args:
        revision: its id, or the beginning of one, or ``head``.

    Raises:
        UnknownRevisionError: there is none of that id.
        RevisionError: several begin like that, or there are several heads.
    """
    found, applied = _read(settings or Settings.load(stores=False))
    head = found.head() if revision == "head" else None
    return _shown(found, head or found.get(revision), applied)


def _read(settings: Settings) -> tuple[Revisions, Mapping[str, tuple[str, ...]] | None]:
    """The files, and what the ledger adds to them where it can be read."""
    try:
        with opened_ledger(settings) as ledger:
            return with_inline(read_revisions(settings, ledger), ledger), _applied(ledger)
    except UnavailableError:
        return Revisions.load(settings.scripts), None


def _applied(ledger: Ledger) -> dict[str, tuple[str, ...]]:
    found: dict[str, list[str]] = {}
    for name, entries in ledger.all_applied().items():
        for entry in entries:
            found.setdefault(entry.revision, []).append(name)
    return {revision: tuple(sorted(names)) for revision, names in found.items()}


def _shown(known: Revisions, one: Revision, applied: Mapping[str, tuple[str, ...]] | None) -> ShownRevision:
    back = "downgrade() of the file" if one.has_downgrade else "derived from what was there before"
    return ShownRevision(
        revision=one.id,
        doc=one.doc,
        down=one.down,
        next=tuple(other.id for other in known.order() if one.id in other.down),
        path=one.path,
        operations=tuple(f"{operation.pattern}: {operation.describe()}" for operation in one.operations),
        way_back=f"none: {one.irreversible}" if one.irreversible else back,
        requires_sql=one.requires_sql,
        applied=None if applied is None else applied.get(one.id, ()),
    )
