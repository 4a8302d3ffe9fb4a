"""Revisions without a file: known to every verb by what the ledger keeps of them, and recorded by Alembic's bridge."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from qmigrate.errors import DriftError, RefusedError, UsageError
from qmigrate.ledger import Ledger
from qmigrate.ledger.alembic_links import InlineRow, inline_rows, record_inline, want_inline
from qmigrate.observe import known_names
from qmigrate.operations.base import Operation
from qmigrate.operations.text.stored import checksum_of, from_text, to_text
from qmigrate.planner.guard import unfinished
from qmigrate.ports import Store
from qmigrate.revisions.file import Revision, is_identifier
from qmigrate.revisions.graph import Revisions
from qmigrate.text import quote


def with_inline(files: Revisions, ledger: Ledger, store: Store | None = None) -> Revisions:
    """The files, and the revisions without one that are applied somewhere, under way or still requested.

    Where a pattern in them is the name of a collection, it means that one alone.

    Args:
        store: also has names, of collections that are not under management; None where it is not asked.
    """
    rows = inline_rows(ledger)
    if rows:
        used = _used(ledger)
        files = files.with_inline(_revision(row) for row in rows if row.wanted or row.revision in used)

    def names() -> Iterable[str]:
        return known_names(ledger, store) if store is not None else ledger.collections().keys()

    return files.bound(names, any_sign=store is not None and store.capabilities.local)


def files_of(revisions: Revisions) -> dict[str, tuple[str, str]]:
    """Revision -> (checksum, file) as they are now; without those that have none."""
    return {one.id: (one.checksum, _where(one)) for one in revisions.order() if one.checksum}


def applied_files(revisions: Revisions, ledger: Ledger) -> dict[str, str]:
    """Revision -> checksum for what is applied anywhere, or recorded as passed.

    Without files that were removed as another one replaces them, and without squashed ones that were only recorded and
    were taken away again: what they stood for is what is applied.
    """
    passed = {one for ids in ledger.passed().values() for one in ids}
    passed -= {one.revision for entries in ledger.all_applied().values() for one in entries} if passed else set()
    return {
        one: found
        for one, found in ledger.applied_checksums().items()
        if not revisions.is_gone(one) and (one not in passed or revisions.knows(one))
    }


def _where(revision: Revision) -> str:
    return revision.path.name if revision.inline else f"{revision.path.parent.name}/{revision.path.name}"


def is_recorded(ledger: Ledger, key: str, operations: Sequence[Operation], source: str) -> bool:
    """Whether these very operations were begun under a key.

    Raises:
        UsageError: the key can't be an id, or there is no operation.
        PlanError: an operation holds code.
        DriftError: other operations were begun under this key.
    """
    row = _row(key, operations, source, "")
    before = next((one for one in inline_rows(ledger) if one.revision == key), None)
    if before is None or key not in _used(ledger):
        return False
    if before.checksum != row.checksum:
        raise DriftError(
            f"qdrant.apply({key!r}) in {source} has other operations than those that were applied under this key "
            f"(recorded {before.checksum[:12]}, now {row.checksum[:12]})",
            hint="restore them, and give the new operations a key of their own",
            facts={"revision": key, "recorded": before.checksum, "found": row.checksum},
        )
    return True


def record(
    scripts: Path, ledger: Ledger, key: str, operations: Sequence[Operation], source: str, *, actor: str
) -> None:
    """Keep operations under a key, before anything is done with them; raises what :func:`is_recorded` does.

    Raises:
        RevisionError: a file has this id.
    """
    if is_recorded(ledger, key, operations, source):
        want_inline(ledger, key, wanted=True)
        return
    row = _row(key, operations, source, actor)
    files = Revisions.load(scripts)
    # Its id must be free before it is recorded: afterwards every verb would stop at it.
    files.with_inline([_revision(row)])
    record_inline(ledger, replace(row, down=_newest_passed(files, ledger)))


def resolve(scripts: Path, ledger: Ledger, wanted: str) -> str:
    """The id of a revision, with a file or without.

    Raises:
        RevisionError: there is none.
    """
    if any(row.revision == wanted for row in inline_rows(ledger)):
        return wanted
    return Revisions.load(scripts).get(wanted).id


def refuse_part(revisions: Revisions, ledger: Ledger, wanted: str) -> None:
    """Stop where a revision was applied as a part of the one that replaces it: it can't be undone alone.

    Raises:
        RefusedError: so it was; names the collections.
    """
    applied = {name: {one.revision for one in entries} for name, entries in ledger.all_applied().items()}
    for whole in revisions.squashed(gone=True):
        names = sorted(name for name, ids in applied.items() if whole.id in ids and wanted in whole.replaces)
        if names:
            before = whole.down[0] if whole.down else "base"
            raise RefusedError(
                f"revision {wanted} can't be undone alone on {', '.join(names)}: it was applied there as a part of "
                f"{whole.id}, which replaces it",
                hint=f"undo all that {whole.id} did: qmigrate rollback {quote(before)} --only {quote(names[0])}",
            )


def _row(key: str, operations: Sequence[Operation], source: str, actor: str) -> InlineRow:
    if not is_identifier(key):
        raise UsageError(f"qdrant.apply({key!r}): the key must be a string without spaces and @ + : -")
    wrong = [one for one in operations if not isinstance(one, Operation)]
    if wrong or not operations:
        what = f"{wrong[0]!r:.60} is not an operation" if wrong else "no operation is given"
        raise UsageError(f"qdrant.apply({key!r}): {what}", hint='qdrant.apply("key", op.AddVector(…)) with qmigrate.op')
    text = to_text(operations)
    return InlineRow(key, checksum_of(text), text, (), source, actor)


def drop_unless_begun(ledger: Ledger, key: str) -> None:
    """It is withdrawn, unless something of it was done: what was refused must not block another run."""
    if key not in _used(ledger):
        want_inline(ledger, key, wanted=False)


def _newest_passed(files: Revisions, ledger: Ledger) -> tuple[str, ...]:
    """What it comes after: the newest revisions that no collection waits for.

    Not the newest applied ones: a glob that has met no collection yet has left no trace.
    """
    known = with_inline(files, ledger)
    everything = frozenset(one.id for one in known.order())
    found = unfinished(ledger.all_applied(), known, everything, ledger.away())
    waiting = {one for entries in found.values() for one in entries}
    gone = {old for one in known.squashed() for old in one.replaces if known.is_gone(old)}
    passed: set[str] = set()
    for one in known.order():
        if one.id not in waiting and known.ancestors(one.id) <= passed | gone:
            passed.add(one.id)
    return tuple(sorted(passed - {older for one in passed for older in known.ancestors(one)}))


def _used(ledger: Ledger) -> set[str]:
    """Ids that are applied to a collection, or that an unfinished run works on."""
    used = {one.revision for entries in ledger.all_applied().values() for one in entries}
    for run in ledger.open_runs():
        used |= run.job.revisions()
    return used


def _revision(row: InlineRow) -> Revision:
    operations: Iterable[Operation] = from_text(row.operations)
    return Revision(
        id=row.revision,
        down=row.down,
        path=Path(row.source),
        doc=f"inline, in {row.source}",
        checksum=row.checksum,
        operations=tuple(operations),
        has_downgrade=False,
        irreversible=None,
        requires_sql=None,
        inline=True,
    )
