"""heads, branches and show: the revision files, as Alembic's users ask for them. Qdrant is never asked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from qmigrate.commands.inline import with_inline
from qmigrate.commands.session import opened_ledger, read_revisions
from qmigrate.errors import UnavailableError
from qmigrate.planner.replaced import having, single_parts
from qmigrate.revisions.graph import Revision, Revisions
from qmigrate.revisions.in_git import remove_command, restore_command
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
        applied: collections that are at it or past it, also where that is only recorded; None where the ledger can't be
            read.
        replaces: what it stands for, where it was squashed from others.
        replaced_files: those of their files that are still there.
        replaced_by: the squashed revision that stands for it, or None.
        passed: collections that had what it replaces, all of it; None where the ledger can't be read.
        between: collections that have a part of it -> what they haven't got.
        recorded: those of `passed` for which it is recorded already, and so of `applied`.
        remove: git's command for the files that it replaces, where this deployment doesn't need them any more.
        bring_back: git's command for those that were removed, where this deployment needs them.
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
    replaces: tuple[str, ...] = ()
    replaced_files: tuple[Path, ...] = ()
    replaced_by: str | None = None
    passed: tuple[str, ...] | None = ()
    between: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    recorded: tuple[str, ...] = ()
    remove: str | None = None
    bring_back: str | None = None


@dataclass(frozen=True, slots=True)
class ShownRevisions:
    """Several of them, in the order in which they are applied."""

    rows: tuple[ShownRevision, ...]


def heads(settings: Settings | None = None) -> ShownRevisions:
    """The revisions that none follows: one, unless two branches wait for ``revision --merge``."""
    found, entries = _read(settings or Settings.load(stores=False))
    return ShownRevisions(tuple(_shown(found, found.get(one), entries) for one in found.heads()))


def branches(settings: Settings | None = None) -> ShownRevisions:
    """The revisions that more than one follows."""
    found, entries = _read(settings or Settings.load(stores=False))
    rows = (_shown(found, one, entries) for one in found.standing())
    return ShownRevisions(tuple(row for row in rows if len(row.next) > 1))


def show(settings: Settings | None = None, revision: str = "head") -> ShownRevision:
    """One revision: what it does, where its file is, and which collections are at it.

    Args:
        revision: its id, or the beginning of one, or ``head``.

    Raises:
        UnknownRevisionError: there is none of that id.
        RevisionError: several begin like that, or there are several heads.
    """
    found, entries = _read(settings or Settings.load(stores=False))
    head = found.head() if revision == "head" else None
    return _shown(found, head or found.standing_for(revision), entries)


@dataclass(frozen=True, slots=True)
class _Recorded:
    """What the ledger has.

    Attributes:
        applied: logical name -> what is applied to it.
        passed: logical name -> squashed revisions that are recorded as passed.
    """

    applied: Mapping[str, tuple[str, ...]]
    passed: Mapping[str, frozenset[str]]


def _read(settings: Settings) -> tuple[Revisions, _Recorded | None]:
    """The files, and what the ledger adds to them where it can be read."""
    try:
        with opened_ledger(settings) as ledger:
            applied = {name: tuple(one.revision for one in found) for name, found in ledger.all_applied().items()}
            known = with_inline(read_revisions(settings, ledger), ledger)
            return known, _Recorded(applied, ledger.passed())
    except UnavailableError:
        return Revisions.load(settings.scripts), None


def _shown(known: Revisions, one: Revision, ledger: _Recorded | None) -> ShownRevision:
    whole = known.replacement(one.id)
    entries = ledger.applied if ledger is not None else {}
    passed, between = _passing(known, one, entries)
    recorded = tuple(name for name in passed if ledger is not None and one.id in ledger.passed.get(name, ()))
    there = tuple(known.get(old).path for old in one.replaces if not known.is_gone(old))
    gone = [old for old in one.replaces if known.is_gone(old)]
    may_go = ledger is not None and not between
    back = "downgrade() of the file" if one.has_downgrade else "derived from what was there before"
    return ShownRevision(
        revision=one.id,
        doc=one.doc,
        down=one.down,
        next=tuple(other.id for other in known.order() if one.id in other.down),
        replaces=one.replaces,
        replaced_files=there,
        replaced_by=whole.id if whole is not None else None,
        passed=None if ledger is None else passed,
        between=between,
        path=one.path,
        operations=tuple(f"{operation.pattern}: {operation.describe()}" for operation in one.operations),
        way_back=f"none: {one.irreversible}" if one.irreversible else back,
        requires_sql=one.requires_sql,
        applied=None
        if ledger is None
        else tuple(sorted({*(name for name, ids in entries.items() if one.id in ids), *recorded})),
        recorded=recorded,
        # Also what is not a revision: a pattern must not meet it.
        remove=remove_command(there, sorted(one.path.parent.iterdir())) if there and may_go else None,
        bring_back=restore_command(one, gone) if gone and between else None,
    )


def _passing(
    known: Revisions, one: Revision, entries: Mapping[str, tuple[str, ...]]
) -> tuple[tuple[str, ...], dict[str, tuple[str, ...]]]:
    """Collections that have all of what a revision replaces, and those with a part of it."""
    passed, between = [], {}
    for name, ids in sorted(entries.items()):
        if one.id in ids or set(ids).isdisjoint(one.replaces):
            continue
        older = known.ancestors(ids[0]) if known.knows(ids[0]) and not known.is_gone(ids[0]) else frozenset()
        has = having(known, name, ids)
        missing = tuple(old for old in single_parts(one, name, known) if old not in has and old not in older)
        if missing:
            between[name] = missing
        else:
            passed.append(name)
    return tuple(passed), between
