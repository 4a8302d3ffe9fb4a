"""schema: what collections look like, live, as recorded or at a revision, and how they came to be so. It only reads."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from qmigrate.commands.inline import with_inline
from qmigrate.commands.session import Session, opened_ledger, session
from qmigrate.embed import fingerprint_digest
from qmigrate.errors import NotFoundError, UnavailableError, UnknownNameError
from qmigrate.ledger import Ledger
from qmigrate.model.names import check_known, is_glob, is_own_alias, met_by_any, unknown
from qmigrate.model.schema import CollectionSchema
from qmigrate.model.state import CollectionState
from qmigrate.observe import observe
from qmigrate.operations.vector_common import params_of
from qmigrate.planner.members import Link, chain, naming, newest
from qmigrate.planner.replaced import newest_of, stands_at
from qmigrate.revisions.graph import Revisions
from qmigrate.settings.load import Settings

LIVE, RECORDED, REVISION = "live", "recorded", "revision"


@dataclass(frozen=True, slots=True)
class ChangelogEntry:
    """One line of a changelog.

    Attributes:
        revision: its id.
        doc: first line of its docstring; empty when its file is gone.
        at: when; None where the revisions alone are asked.
        direction: ``upgrade`` or ``rollback``.
        strategy: how, or None where the revisions alone are asked.
        actor: who, or None likewise.
        changes: what it does to the collection, one line each; empty when its file is gone.
    """

    revision: str
    doc: str
    at: datetime | None = None
    direction: str = "upgrade"
    strategy: str | None = None
    actor: str | None = None
    changes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Document:
    """One collection.

    Attributes:
        source: ``live``, ``recorded`` or ``revision``.
        revision: the newest applied one, or the one that was asked for; None where nothing is applied.
        physical: what serves; None where the revisions alone are asked.
        points: exact count, live only.
        schema: as the source has it.
        embedders: vector -> what fills it, in words.
        changelog: oldest first.
    """

    name: str
    source: str
    revision: str | None
    physical: str | None
    points: int | None
    schema: CollectionSchema
    embedders: Mapping[str, str] = field(default_factory=dict)
    changelog: tuple[ChangelogEntry, ...] = ()


@dataclass(frozen=True, slots=True)
class Schemas:
    """`schema`.

    Attributes:
        source: where the schemas come from.
        collections: sorted by name.
        notes: what a person should know.
    """

    source: str
    collections: tuple[Document, ...]
    notes: tuple[str, ...] = ()


def schema(
    settings: Settings | None = None,
    names: Iterable[str] = (),
    *,
    source: str | None = None,
    revision: str | None = None,
) -> Schemas:
    """Document collections.

    Args:
        names: logical names or globs; none for all.
        source: ``live`` or ``recorded``; None is live, and recorded where Qdrant can't be reached.
        revision: as this revision declares it; needs neither Qdrant nor the ledger.

    Raises:
        NotFoundError: a name is nowhere.
        RevisionError: there is no such revision.
    """
    settings = settings or Settings.load()
    patterns = tuple(names)
    if revision is not None:
        return _of_revision(settings, patterns, revision)
    if source == RECORDED:
        return _recorded(settings, patterns, ())
    try:
        return _live(settings, patterns)
    except NotFoundError:
        raise
    except UnavailableError as error:
        if source == LIVE:
            raise
        note = f"Qdrant can't be asked, so this is what is recorded: {error.message}"
        return _recorded(settings, patterns, (note,))


def _live(settings: Settings, patterns: tuple[str, ...]) -> Schemas:
    with session(settings, writes=False, unchanged=False, looking=True, partial=True) as opened:
        world = observe(opened.ledger, opened.store)
        found = []
        for name in _chosen(patterns, world.collections):
            state = world.collections[name]
            if state.live is None:
                continue
            found.append(live_document(opened, state, _history(opened.ledger, opened.revisions, name)))
        local = "local mode keeps no payload indexes and settings: --recorded shows what is declared"
        notes = (local,) if world.capabilities.local else ()
        _check_found(patterns, [one.name for one in found])
        return Schemas(LIVE, tuple(found), notes)


def live_document(opened: Session, state: CollectionState, changelog: tuple[ChangelogEntry, ...] = ()) -> Document:
    """What serves one collection; the state has it."""
    assert state.live is not None  # noqa: S101  asked by the caller
    at = state.live.physical
    aliases = tuple(alias for alias in state.live.schema.aliases if not is_own_alias(alias, at))
    return Document(
        name=state.name,
        source=LIVE,
        revision=stands_at(state, opened.revisions),
        physical=at,
        points=opened.store.count(at),
        schema=state.live.schema.with_(aliases=aliases),
        embedders=_filled_by(
            opened.revisions, state.applied_revisions(), state.name, state.embedders, state.live.schema
        ),
        changelog=changelog,
    )


def _recorded(settings: Settings, patterns: tuple[str, ...], notes: tuple[str, ...]) -> Schemas:
    files = Revisions.load(settings.scripts)
    with opened_ledger(settings) as ledger:
        revisions = with_inline(files, ledger)
        views = {name: view for name, view in ledger.collections().items() if view.declared is not None}
        found = []
        passed = ledger.passed()
        for name in _chosen(patterns, views):
            view = views[name]
            applied = [entry.revision for entry in ledger.applied(name)]
            declared = view.declared or CollectionSchema()
            found.append(
                Document(
                    name=name,
                    source=RECORDED,
                    revision=newest_of(name, applied, passed.get(name, frozenset()), revisions) or view.revision,
                    physical=view.physical,
                    points=None,
                    schema=declared,
                    embedders=_filled_by(revisions, applied, name, view.embedders, declared),
                    changelog=_history(ledger, revisions, name),
                )
            )
        _check_found(patterns, list(views))
        return Schemas(RECORDED, tuple(found), notes)


def _of_revision(settings: Settings, patterns: tuple[str, ...], revision: str) -> Schemas:
    revisions = Revisions.load(settings.scripts)
    wanted = revisions.resolve(revision, current=frozenset())
    target = ", ".join(newest(revisions, wanted)) or "base"
    created = _created(revisions, wanted)
    exact = [pattern for pattern in patterns if not is_glob(pattern, created)]
    names = _chosen(patterns, {*created, *exact})
    found = []
    for name in names:
        links = chain(revisions, name, wanted)
        declared = links[-1].after if links else None
        if declared is None:
            if name in exact:
                hint = "op.CreateCollection makes one; qmigrate schema --live shows what is there"
                if not any(operation.matches(name) for one in revisions.order() for operation in one.operations):
                    raise unknown("collection", name, created)
                raise UnknownNameError(f"the revisions up to {target} declare no collection {name}", hint=hint)
            continue
        found.append(
            Document(
                name=name,
                source=REVISION,
                revision=target,
                physical=None,
                points=None,
                schema=declared,
                embedders=_filled_by(revisions, [link.revision.id for link in links], name, {}, declared),
                changelog=tuple(_declared_entry(link) for link in links),
            )
        )
    _check_found(patterns, [one.name for one in found])
    return Schemas(REVISION, tuple(found))


def _created(revisions: Revisions, wanted: frozenset[str]) -> set[str]:
    """Names that these revisions create; a glob stands for whatever is created by it."""
    return {
        operation.pattern
        for revision in revisions.order()
        for operation in revision.operations
        if revision.id in wanted and operation.creates
    }


def _declared_entry(link: Link) -> ChangelogEntry:
    changes = tuple(operation.describe() for _, operation in link.refs)
    return ChangelogEntry(link.revision.id, link.revision.doc, changes=changes)


def _chosen(patterns: tuple[str, ...], known: Iterable[str]) -> list[str]:
    names = sorted(known)
    if not patterns:
        return names
    return met_by_any(patterns, names)


def _check_found(patterns: tuple[str, ...], names: list[str]) -> None:
    check_known("collection", patterns, names)


def _filled_by(
    revisions: Revisions,
    applied: Collection[str],
    name: str,
    fingerprints: Mapping[str, Any],
    has: CollectionSchema,
) -> dict[str, str]:
    """Vector -> what fills it, as the applied revisions declare it, and a short digest of the model that did."""
    words: dict[str, str] = {}
    for _, operations in naming(revisions, applied, name):
        for operation in operations:
            words.update({vector: value.describe() for vector, value in operation.filled().items()})
    for vector, fingerprint in fingerprints.items():
        said = words.get(vector, "a model")
        words[vector] = f"{said}, fingerprint {fingerprint_digest(fingerprint)[:12]}"
    return {vector: said for vector, said in sorted(words.items()) if params_of(has, vector) is not None}


def _history(ledger: Ledger, revisions: Revisions, name: str) -> tuple[ChangelogEntry, ...]:
    """What was applied and rolled back, oldest first."""
    known = {one.id: one for one in revisions.order()}
    words = {one.id: tuple(each.describe() for each in one.operations if each.matches(name)) for one in known.values()}
    entries = []
    for row in reversed(ledger.history(name)):
        found = known.get(row.revision)
        entries.append(
            ChangelogEntry(
                revision=row.revision,
                doc=found.doc if found else "",
                at=row.created_at,
                direction=row.direction,
                strategy=row.strategy,
                actor=row.actor,
                changes=words.get(row.revision, ()),
            )
        )
    return tuple(entries)
