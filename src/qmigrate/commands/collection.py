"""collection: all of one collection: schema, revisions with what each did, generations, drift, days. It only reads."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from qmigrate.commands.check import compare
from qmigrate.commands.examined import Examination, examination
from qmigrate.commands.overview import WayBack, way_back
from qmigrate.commands.readiness import Standing, standings
from qmigrate.commands.results import HistoryEntry
from qmigrate.commands.schema import Document, live_document
from qmigrate.commands.session import Session, notes_on, session
from qmigrate.commands.status import entries
from qmigrate.drift import Finding
from qmigrate.ledger import summary
from qmigrate.ledger.reader import present
from qmigrate.model.names import generation_word, unknown
from qmigrate.model.state import CollectionState, World
from qmigrate.observe import holdings, observe
from qmigrate.revisions.graph import Revisions
from qmigrate.settings.load import Settings

#: Days that are shown.
_DAYS = timedelta(days=30)


@dataclass(frozen=True, slots=True)
class RevisionStep:
    """One revision, and what it did to this collection.

    Attributes:
        down: revisions that it follows.
        operations: what it does here, one line each; empty when its file is gone, or it is about others.
        state: ``applied``, also where that is only recorded; ``pending``; or ``passed`` where it has nothing to do with
            this collection.
        last: how it was applied last; None where it never was.
    """

    revision: str
    title: str
    down: tuple[str, ...]
    operations: tuple[str, ...]
    state: str
    last: HistoryEntry | None = None


@dataclass(frozen=True, slots=True)
class GenerationRow:
    """One generation.

    Attributes:
        name: ``g0002``.
        state: ``live | building | retired | deleting | gone``.
        revision: the newest one when it went live.
        parent: its number; None for the first.
        points: approximate count; None where it isn't there, or not known.
        size: estimated, in bytes; None likewise.
        changed_at: when the ledger last changed its row.
        held_until: when it may be collected.
    """

    name: str
    physical: str
    number: int
    state: str
    revision: str | None
    parent: int | None
    points: int | None
    size: int | None
    changed_at: datetime | None
    held_until: datetime | None


@dataclass(frozen=True, slots=True)
class CollectionView:
    """`collection`: what its page shows.

    Attributes:
        since: since when its name leads to what serves now.
        document: schema and counts, live; None when nothing serves.
        revisions: newest first.
        generations: newest first.
        findings: drift first, each with what is recorded and what is live.
        days: what was deleted and applied, by day, oldest first.
        back: the way back, or None.
        vectors: what the newest examination of its vectors has found; None where none was asked for.
        notes: what a person should know.
    """

    name: str
    standing: Standing
    since: datetime | None
    document: Document | None
    revisions: tuple[RevisionStep, ...]
    generations: tuple[GenerationRow, ...]
    findings: tuple[Finding, ...]
    days: tuple[summary.Day, ...]
    back: WayBack | None
    vectors: Examination | None = None
    notes: tuple[str, ...] = ()


def collection(settings: Settings, name: str) -> CollectionView:
    """Read all of one collection under management.

    Raises:
        UnknownNameError: there is none of that name.
    """
    with session(settings, writes=False, partial=True, readable=True) as opened:
        world = observe(opened.ledger, opened.store)
        rows = {row.name: row for row in standings(world, opened.revisions)}
        state = world.collections.get(name)
        if name not in rows or state is None:
            raise unknown("collection", name, list(rows))
        files = opened.revisions
        titles = {one.id: one.doc for one in files.order() if one.doc}
        compared = compare(opened, world, [name], models=False)
        newest = summary.newest_entries(opened.ledger, name)
        last = {row.revision: row for row in entries(opened.ledger, newest, titles)}
        return CollectionView(
            name=name,
            standing=rows[name],
            since=summary.went_live(opened.ledger).get(name),
            document=live_document(opened, state) if state.live is not None else None,
            revisions=tuple(reversed(list(_revisions(files, state, rows[name], last)))),
            generations=tuple(_generations(opened, world, state)),
            findings=tuple(one for row in compared.collections for one in row.findings),
            days=tuple(summary.days(opened.ledger, name, present(opened.ledger) - _DAYS)),
            back=way_back(opened, world, state),
            vectors=examination(opened.ledger, name),
            notes=(*world.capabilities.silent, *notes_on(opened.problems)),
        )


def _revisions(
    files: Revisions, state: CollectionState, row: Standing, last: Mapping[str, HistoryEntry]
) -> Iterator[RevisionStep]:
    applied, known = {*state.applied_revisions(), *state.passed}, set()
    for one in files.order():
        known.add(one.id)
        whole = files.replacement(one.id)
        if whole is not None and one.id not in applied and one.id not in row.pending and one.id not in last:
            # What replaces it was applied instead, or will be.
            continue
        about = tuple(found.describe() for found in one.operations if found.matches(state.name))
        word = "applied" if one.id in applied else "pending" if one.id in row.pending else "passed"
        if about or word != "passed" or one.id in last:
            yield RevisionStep(one.id, one.doc, one.down, about, word, last.get(one.id))
    for revision in state.applied_revisions():
        if revision not in known:
            squashed = files.replacement(revision)
            said = f"its file was removed: {squashed.id} replaces it" if squashed else "its file is not there"
            yield RevisionStep(revision, said, (), (), "applied", last.get(revision))


def _generations(opened: Session, world: World, state: CollectionState) -> Iterator[GenerationRow]:
    physical = sorted(world.physical or ())
    kept: dict[str, Any] = {
        one.physical: one
        for one in holdings(
            opened.ledger,
            opened.store,
            state.name,
            physical=physical,
            aliases=opened.store.aliases(),
            snapshots=False,
        )
    }
    for row in reversed(state.generations):
        found = kept.get(row.physical)
        yield GenerationRow(
            name=generation_word(row.physical),
            physical=row.physical,
            number=row.number,
            state=row.state,
            revision=row.revision,
            parent=row.parent,
            points=found.points if found is not None and found.present else None,
            size=found.size if found is not None and found.present else None,
            changed_at=row.changed_at,
            held_until=row.held_until,
        )
