"""What revisions do, for the record, and compared with what was recorded. It accepts nothing."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from qmigrate.engine.work import Said
from qmigrate.errors import PlanError
from qmigrate.ledger import Ledger, known_meanings, meaning
from qmigrate.model.plan import OpRef
from qmigrate.model.schema import CollectionSchema, JsonObject, changes
from qmigrate.model.state import Applied
from qmigrate.operations.text.stored import differences, meaning_of
from qmigrate.planner.members import refs_of
from qmigrate.revisions.file import Revision

if TYPE_CHECKING:
    from qmigrate.revisions.graph import Revisions

#: What a comparison has found.
SAME, CHANGED, UNKNOWN = "same", "changed", "unknown"


@dataclass(frozen=True, slots=True)
class Compared:
    """A changed file against what was applied from it.

    Attributes:
        meaning: ``same``: only words differ; ``changed``; ``unknown``: what was applied is not recorded.
        differences: one line each.
    """

    meaning: str
    differences: tuple[str, ...] = ()


def says(revision: Revision) -> JsonObject:
    """What a revision does, as it is recorded."""
    source = "" if revision.inline else revision.path.read_text(encoding="utf-8-sig")
    return meaning_of(
        revision.operations,
        source,
        down_revision=list(revision.down),
        requires_sql=revision.requires_sql,
        irreversible=revision.irreversible is not None,
    )


def meanings_of(ledger: Ledger, revisions: Revisions, wanted: Collection[str]) -> dict[tuple[str, str], JsonObject]:
    """What is not recorded yet of these revisions, and of applied ones whose files are what was applied.

    Args:
        wanted: ids of those that a job is about to use.
    """
    applied, known = ledger.applied_checksums(), known_meanings(ledger)
    return {
        (one.id, one.checksum): says(one)
        for one in revisions.order()
        if (one.id in wanted or applied.get(one.id) == one.checksum)
        and one.problem is None
        and (one.id, one.checksum) not in known
    }


def said(revision: Revision, ledger: Ledger, ref: OpRef, checksum: str) -> Said | None:
    """What an operation said in the file of a checksum, where it says something else now; else None.

    Args:
        revision: as its file is now.
        ref: of one of its operations; those of ``downgrade()`` come behind the others.

    Raises:
        RevisionError: the file can't be used.
        DriftError: it is missing.
    """
    if revision.checksum == checksum:
        return None
    if revision.problem is not None and revision.is_unread:
        raise revision.problem
    before, now = meaning(ledger, revision.id, checksum), says(revision)
    if before is None:
        return Said(None, None)
    then, today = (one["operations"][ref.index : ref.index + 1] for one in (before, now))
    if not then and ref.index >= len(before["operations"]):
        # Of downgrade() only a digest is kept.
        return None if before.get("downgrade") == now.get("downgrade") else Said(None, None)
    return None if _done(then) == _done(today) else Said(then[0], today[0] if today else None)


def says_the_same(revision: Revision, ledger: Ledger, checksum: str) -> bool:
    """Whether the file of a checksum said of the points what the file of now says."""
    if revision.checksum == checksum:
        return True
    before = meaning(ledger, revision.id, checksum)
    return before is not None and _done(before["operations"]) == _done(says(revision)["operations"])


def _done(operations: list[JsonObject]) -> list[JsonObject]:
    """What operations do, without the words for it, which another version of qmigrate may have chosen."""
    return [{name: value for name, value in one.items() if name != "says"} for one in operations]


def compare(ledger: Ledger, revision: Revision, applied: str) -> Compared:
    """Whether a file still does what was applied.

    Args:
        revision: as its file is now.
        applied: checksum of what was applied.
    """
    before = meaning(ledger, revision.id, applied)
    if before is not None:
        found = differences(before, says(revision))
        return Compared(CHANGED if found else SAME, found)
    lines: list[str] = []
    for name, entries in sorted(ledger.all_applied().items()):
        for entry in entries:
            if entry.revision == revision.id:
                recorded = ledger.moments(name)[-1].applied
                schema = next((after for one, _, after in recorded if one == revision.id), None)
                lines += _of_schemas(revision, name, entry, schema)
    return Compared(UNKNOWN, tuple(lines))


def _of_schemas(
    revision: Revision, name: str, entry: Applied, recorded: CollectionSchema | None
) -> Iterator[str]:
    """How the schema that was recorded differs from what the file would make of the previous one."""
    made = entry.prior
    try:
        for _, operation in refs_of(revision, name, exists=made is not None):
            operation.check(made)
            made = operation.apply(made)
    except PlanError as error:
        yield f"{name}: {error.message}"
        return
    if recorded is not None and made is not None:
        yield from (f"{name}: {change.describe()}" for change in changes(recorded, made))
    elif (recorded is None) != (made is None):
        yield f"{name}: {'created' if recorded is None else 'removed'} by the current file"
