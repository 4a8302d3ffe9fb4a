"""Everything the rules read: the files, their order, and each operation with the schema before it. No judgement."""

from __future__ import annotations

import graphlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from qmigrate.errors import PlanError
from qmigrate.model import names as patterns
from qmigrate.model.schema import CollectionSchema
from qmigrate.operations.base import Operation, check_contradictions
from qmigrate.revisions.alembic_files import SqlProject
from qmigrate.revisions.file import Revision, files_of
from qmigrate.revisions.graph import Squashed, replaced_wrongly
from qmigrate.revisions.python_source import PythonSource, Span


@dataclass(frozen=True, slots=True, eq=False)
class Use:
    """One operation on one collection.

    Attributes:
        name: the logical name; the pattern itself where no revision creates what it speaks of.
        known: whether the schema before it is known: every operation up to here was.
        before: the schema before it; None where the collection doesn't exist or isn't known.
        problem: why it can't be planned, or None.
    """

    source: PythonSource
    operation: Operation
    index: int
    name: str
    known: bool
    before: CollectionSchema | None = None
    problem: PlanError | None = None

    @property
    def span(self) -> Span:
        """Where it is written."""
        return self.source.span_of_operation(self.operation, self.index)

    @property
    def revision(self) -> Revision:
        """The revision that contains it."""
        assert self.source.revision is not None  # noqa: S101  only loaded files have operations
        return self.source.revision

    def after(self) -> CollectionSchema | None:
        """The schema that it leads to; None where that isn't known or the collection is gone."""
        if not self.known or self.problem is not None:
            return None
        return self.operation.apply(self.before)


@dataclass(slots=True)
class Project:
    """The revisions of a folder.

    Attributes:
        sources: every file, sorted by name; without those that a squashed revision replaces.
        order: loaded files, parents before children; those of a circle are left out.
        circle: files that follow each other in a circle.
        embedders: of the settings, by collection: ``""`` for all.
        uses: every operation with the schema before it.
        folder: that of the files.
        sql: the Alembic environment next to them, or None.
        run_points: points from which on work is too long for `alembic upgrade`.
        points: logical name or glob -> how many points it has, as in the settings.
        holdover: seconds that an old generation is kept.
        replaced: replaced id -> the revision that replaces it.
        squashed: revisions that can't stand for what they replace, each with why.
    """

    sources: tuple[PythonSource, ...]
    embedders: Mapping[str, Mapping[str, Mapping[str, Any]]] = field(default_factory=dict)
    order: tuple[PythonSource, ...] = ()
    circle: tuple[PythonSource, ...] = ()
    uses: tuple[Use, ...] = ()
    folder: str = ""
    sql: SqlProject | None = None
    run_points: int = 0
    points: Mapping[str, int] = field(default_factory=dict)
    holdover: float = 0.0
    replaced: Mapping[str, str] = field(default_factory=dict)
    squashed: tuple[tuple[PythonSource, str], ...] = ()

    @classmethod
    def read(cls, scripts: Path, embedders: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> Project:
        """Read every file of ``versions/``; one that can't be loaded doesn't hide the next.

        Raises:
            RevisionError: there is no such folder, or it can't be read.
        """
        made = cls(tuple(PythonSource.read(file) for file in files_of(scripts)), embedders, folder=scripts.name)
        made.leave_out_replaced()
        made.order, made.circle = _ordered(made.sources)
        made.uses = tuple(_uses(made.order))
        return made

    def leave_out_replaced(self) -> None:
        """What was squashed was judged when it was written; what follows it follows what replaces it."""
        loaded = {id(source): source.revision for source in self.sources if source.revision is not None}
        wrong = {revision.id: error for revision, error in replaced_wrongly(loaded.values())}
        standing = Squashed.of(loaded.values())
        self.replaced = standing.by
        files = {one.id: one for one in standing.files}
        kept = []
        for source in self.sources:
            revision = loaded.get(id(source))
            if revision is None or revision.id not in standing.by:
                now = files.get(revision.id, revision) if revision is not None else None
                same = revision is None or now is None or now.path != revision.path
                kept.append(source if same else replace(source, revision=now))
        self.sources = tuple(kept)
        self.squashed = tuple(
            (source, f"{error.message} ({error.hint})")
            for source, revision in self.loaded()
            if (error := wrong.get(revision.id)) is not None
        )

    def loaded(self) -> Iterator[tuple[PythonSource, Revision]]:
        """Files that could be loaded."""
        for source in self.sources:
            if source.revision is not None:
                yield source, source.revision

    def every_source(self) -> Iterator[PythonSource]:
        """Every file that a rule may find something in."""
        yield from self.sources
        yield from self.sql.every_source() if self.sql is not None else ()

    def closure(self, wanted: str | None) -> frozenset[str]:
        """A revision, named by the beginning of its id, and everything before it; empty when there is none."""
        by_id = {revision.id: revision for _, revision in self.loaded()}
        standing = self.replaced.get(wanted or "", wanted)
        todo = [one for one in by_id if standing and one.startswith(standing)]
        found: set[str] = set()
        while todo:
            one = todo.pop()
            if one in by_id and one not in found:
                found.add(one)
                todo += by_id[one].down
        return frozenset(found)

    def is_key(self, step: str | None) -> bool:
        """Whether an Alembic revision applies operations of its own under this key."""
        revisions = self.sql.revisions.values() if self.sql is not None else ()
        return any(one.step == step for revision in revisions for one in revision.directives("apply", "fix"))

    def points_of(self, collection: str) -> int | None:
        """How many points a collection, or each that a glob matches, has by the settings."""
        exact = self.points.get(collection)
        if exact is not None:
            return exact
        matching = [count for name, count in self.points.items() if patterns.fits(collection, name)]
        return max(matching, default=None)

    def embedder(self, collection: str, name: str) -> Mapping[str, Any] | None:
        """The settings of an embedder, for one collection."""
        return self.embedders.get(collection, {}).get(name) or self.embedders.get("", {}).get(name)


def _ordered(sources: Iterable[PythonSource]) -> tuple[tuple[PythonSource, ...], tuple[PythonSource, ...]]:
    by_id: dict[str, PythonSource] = {}
    for source in sources:
        if source.revision is not None:
            by_id.setdefault(source.revision.id, source)
    circle: tuple[PythonSource, ...] = ()
    while True:
        sorter = graphlib.TopologicalSorter(
            {one: sorted(set(_down(source)) & by_id.keys()) for one, source in sorted(by_id.items())}
        )
        try:
            return tuple(by_id[one] for one in sorter.static_order()), circle
        except graphlib.CycleError as error:
            broken = dict.fromkeys(error.args[1])
            circle += tuple(by_id.pop(one) for one in broken)


def _down(source: PythonSource) -> tuple[str, ...]:
    return source.revision.down if source.revision else ()


def _uses(order: Iterable[PythonSource]) -> Iterator[Use]:
    """Operations folded over the schemas of the collections that revisions create."""
    schemas: dict[str, CollectionSchema | None] = {}
    lost: set[str] = set()
    for source in order:
        operations = source.revision.operations if source.revision else ()
        before = {name: schemas[name] for name in schemas}
        for index, operation in enumerate(operations):
            for name in _names(operation, schemas):
                # After an operation that can't be planned the schema is unknown.
                known = name not in lost and (name in schemas or operation.creates)
                schema = schemas.get(name)
                problem = _problem(operation, schema) if known else _words_problem(operation)
                yield Use(source, operation, index, name, known, schema, problem)
                if problem is not None:
                    lost.add(name)
                elif known:
                    schemas[name] = operation.apply(schema)
        yield from _contradictions(source, operations, frozenset({*before, *schemas} - lost))


def _names(operation: Operation, schemas: dict[str, CollectionSchema | None]) -> list[str]:
    """Collections that an operation is about, as far as the files name them.

    A glob that creates stands for all that it matches, under its own text; a name that it matches begins like it.
    """
    pattern = operation.pattern
    if operation.creates and operation.is_glob:
        return [pattern]
    # A name that a revision creates is one, whatever it looks like.
    exact = operation.bound(schemas)
    found = [name for name in sorted(schemas) if exact.matches(name)]
    if not found and not operation.is_glob and not operation.creates:
        made = [name for name in sorted(schemas) if patterns.fits(pattern, name)]
        if made:
            schemas[pattern] = schemas[made[0]]
    return found or [pattern]


def _problem(operation: Operation, schema: CollectionSchema | None) -> PlanError | None:
    try:
        operation.check(schema)
    except PlanError as error:
        return error
    return None


def _words_problem(operation: Operation) -> PlanError | None:
    try:
        operation.check_words()
    except PlanError as error:
        return error
    return None


def _contradictions(source: PythonSource, operations: tuple[Operation, ...], names: frozenset[str]) -> Iterator[Use]:
    """The first contradiction of a file; the operation that its message begins with."""
    for name in sorted(names):
        matching = [operation for operation in operations if operation.bound(names).matches(name)]
        try:
            check_contradictions(matching)
        except PlanError as error:
            first = next((one for one in matching if error.message.startswith(one.label())), matching[0])
            yield Use(source, first, operations.index(first), name, False, None, error)
            return
