"""Several revisions as one: the operations that make of nothing, or of what was there before, what they make. Pure.

It is proven here that both make the same schemas; of points only what a person has decided is left out.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from qmigrate.declared.collection import LATER
from qmigrate.declared.compare import pattern_of
from qmigrate.errors import PlanError, RefusedError, RevisionError
from qmigrate.model.names import fits
from qmigrate.model.schema import CollectionSchema
from qmigrate.model.transform import PointTransform
from qmigrate.operations.base import Operation, check_contradictions, merged
from qmigrate.operations.collection import CreateCollection, SetAlias, UpdateCollection
from qmigrate.operations.index import CreatePayloadIndex, DropPayloadIndex
from qmigrate.operations.text.code import quoted
from qmigrate.operations.text.operation import operation_source
from qmigrate.operations.text.source import CodeWriter
from qmigrate.operations.text.stored import from_text, to_text
from qmigrate.planner.forward import barrier
from qmigrate.planner.members import chain
from qmigrate.planner.replaced import parts_of
from qmigrate.revisions.graph import Revision, Revisions
from qmigrate.text import quote

#: One operation of a revision.
Item = tuple[Revision, Operation]


@dataclass(frozen=True, slots=True)
class Whole:
    """What stands for several revisions; nothing is written yet.

    Attributes:
        replaces: their ids, in the order in which they are applied.
        replaces_for: collection or glob -> those of them that are about it; empty where all are about all.
        squashed: those of them that were squashed revisions themselves -> what each of these stands for.
        down: what they follow.
        source: what ``upgrade()`` returns.
        operations: the same, as objects.
        downgrade: what ``downgrade()`` returns; None where the way back is derived.
        irreversible: why there is no way back, or None.
        changes: its operations in words.
        left_out: operations on points that are not in it, in words.
        undecided: what a person has to decide, one line each.
    """

    replaces: tuple[str, ...]
    replaces_for: Mapping[str, tuple[str, ...]]
    squashed: Mapping[str, tuple[str, ...]]
    down: tuple[str, ...]
    source: CodeWriter
    operations: tuple[Operation, ...]
    downgrade: CodeWriter | None
    irreversible: str | None
    changes: tuple[str, ...]
    left_out: tuple[str, ...]
    undecided: tuple[str, ...]


def between(revisions: Revisions, written: str) -> tuple[Revision, ...]:
    """The revisions of a range, in order: both ends, and everything between them.

    A squashed revision is there in place of what it replaces.

    Args:
        written: ``FROM:TO``; without FROM from the first one, without TO to the head.

    Raises:
        RevisionError: there is no such range, or something leads out of its middle.
    """
    first, colon, last = (part.strip() for part in written.partition(":"))
    if not colon:
        raise RevisionError(f"{written}: a range has two ends", hint="qmigrate squash FROM:TO; both are squashed, too")
    end = revisions.get(last) if last and last != "head" else revisions.head()
    if end is None:
        raise RevisionError("there is no revision to squash")
    inside = revisions.ancestors(end.id) | {end.id}
    _refuse_part(revisions, end.id, f"{first}:{{whole}}")
    if first:
        begin = revisions.get(first).id
        if begin not in inside:
            raise RevisionError(
                f"{end.id} doesn't come after {begin}", hint="name the earlier one first: qmigrate squash FROM:TO"
            )
        _refuse_part(revisions, begin, f"{{whole}}:{end.id}", first=True)
        inside = frozenset(one for one in inside if one == begin or begin in revisions.ancestors(one))
    found = tuple(one for one in revisions.order() if one.id in inside and revisions.replacement(one.id) is None)
    _check_range(revisions, found, end)
    return found


def _refuse_part(revisions: Revisions, one: str, span: str, *, first: bool = False) -> None:
    """Stop where a range begins or ends in the middle of what was squashed before.

    Args:
        span: the range with ``{whole}`` in the place of that end.
        first: whether it begins there: with the first one it begins with all of it.
    """
    whole = revisions.replacement(one)
    if whole is not None and not (first and one == whole.replaces[0]):
        raise RevisionError(
            f"{one} is a part of {whole.id}, which replaces it: a range has all of that, or nothing",
            hint=f"name the whole: qmigrate squash {quote(span.format(whole=whole.id))}",
        )


def _check_range(revisions: Revisions, found: Sequence[Revision], end: Revision) -> None:
    inside = {one.id for one in found}
    for one in found:
        if one.problem is not None:
            raise one.problem
        if one.inline:
            raise RevisionError(f"{one.id} is in {one.path.name}, a revision of Alembic: it can't be squashed")
    for one in revisions.standing():
        middle = next((each for each in one.down if each in inside and each != end.id), None)
        if one.id not in inside and middle is not None:
            raise RevisionError(
                f"{one.id} follows {middle}, which is in the middle of what is to be squashed",
                hint=f"squash to there: qmigrate squash {quote(f'{found[0].id}:{middle}')}; or join the branches "
                'first: qmigrate revision --merge -m "merge"',
            )


def on_points(revision: Revision) -> tuple[Operation, ...]:
    """Operations that are about points, and leave no trace in a schema: fixes, functions over payloads, other ids."""
    return tuple(one for one in revision.operations if _is_on_points(one))


def _is_on_points(operation: Operation) -> bool:
    return operation.edit() is not None or operation.rewrites_payload or operation.rekeys


def lines_of(revision: Revision) -> tuple[str, ...]:
    """Its operations on points in words: ``0003: docs: set payload …``."""
    return tuple(line_of(revision, one) for one in on_points(revision))


def line_of(revision: Revision, operation: Operation) -> str:
    """One of them."""
    return f"{revision.id}: {operation.pattern}: {operation.describe()}"


def on_older_points(revisions: Revisions, found: Sequence[Revision]) -> tuple[Item, ...]:
    """Those of a range that are about collections from before it: a deployment at an earlier revision has points."""
    earlier = _earlier(revisions, found)
    made = _Made(revisions, earlier, earlier)
    there = [name for name in made.names(()) if made.before(name) is not None]
    return tuple(
        (one, each)
        for one in found
        for each in on_points(one)
        if any(name == each.pattern or fits(name, each.pattern) for name in there)
    )


def _earlier(revisions: Revisions, found: Sequence[Revision]) -> frozenset[str]:
    """Ids of everything before a range."""
    inside = {one.id for one in found}
    down = {parent for one in found for parent in one.down if parent not in inside}
    return frozenset(older for one in down for older in (one, *revisions.ancestors(one)))


def runs_without(found: Sequence[Revision], kept: Collection[str]) -> tuple[tuple[Revision, ...], ...]:
    """The revisions, split at those that stay as they are; those with nothing next to them are left alone.

    Raises:
        RevisionError: they have branches, so that none of them can stay in the middle.
    """
    for earlier, later in itertools.pairwise(found):
        if kept and later.down != (earlier.id,):
            raise RevisionError(
                f"{later.id} doesn't follow {earlier.id} alone: between branches no revision can stay as it is",
                hint="--elide-data leaves out what is done with points; or squash each branch by itself",
            )
    runs: list[list[Revision]] = [[]]
    for one in found:
        if one.id in kept:
            runs.append([])
        else:
            runs[-1].append(one)
    return tuple(tuple(run) for run in runs if len(run) > 1)


def squashed(revisions: Revisions, found: Sequence[Revision]) -> Whole:
    """What stands for these revisions; operations on points are left out.

    Raises:
        RefusedError: they can't be said in one revision, or it would not make the same schemas.
    """
    inside = {one.id for one in found}
    down = tuple(dict.fromkeys(parent for one in found for parent in one.down if parent not in inside))
    before = _earlier(revisions, found)
    items = [(one, operation) for one in found for operation in one.operations if not _is_on_points(operation)]
    made = _Made(revisions, before, before | inside)
    folded = _folded(made, items)
    kept = _shorter(made, [one for one in items if one[1].pattern not in folded])
    source, operations = CodeWriter(), list[Operation]()
    begun: set[str] = set()
    for revision, operation in items:
        pattern = operation.pattern
        if pattern in folded:
            new = [] if pattern in begun else _creation(pattern, made.after(pattern))
            begun.add(pattern)
            words: tuple[str, ...] = (_origin(pattern, items),) if new else ()
        else:
            new = [one for old, one in kept if old is operation]
            words = (f"{revision.id} {revision.doc}".rstrip(),) if new else ()
        for one in new:
            source = source + _written(revision, one, words)
            operations.append(one)
            words = ()
    left_out = tuple(line for one in found for line in lines_of(one))
    if left_out:
        source = source + CodeWriter(((None, tuple(f"Left out: {line}" for line in left_out)),), words=frozenset())
    _prove(made, operations, found)
    rest = [one for one in found if any(each.pattern not in folded for each in one.operations)]
    back, undecided = _way_back(revisions, rest, folded)
    return Whole(
        replaces=tuple(each for one in found for each in (*one.replaces, one.id)),
        replaces_for=_parts(made, found),
        squashed={key: ids for one in found if one.replaces for key, ids in (*one.squashed, (one.id, one.replaces))},
        down=down,
        source=source,
        operations=tuple(operations),
        downgrade=back,
        irreversible="; ".join(f"{one.id}: {one.irreversible}" for one in rest if one.irreversible) or None,
        changes=tuple(f"{one.pattern}: {one.describe()}" for one in operations),
        left_out=left_out,
        undecided=(*undecided, *_never(revisions, found)),
    )


def _never(revisions: Revisions, found: Sequence[Revision]) -> Iterator[str]:
    """What deployments that are not past the range yet don't get, in words."""
    lines = "; ".join(line_of(*one) for one in on_older_points(revisions, found))
    if lines:
        yield (
            f"a deployment that is at an earlier revision never gets this, whatever points it has ({lines}): bring "
            f"each to {found[-1].id} before the file goes there, or squash again with --keep-data"
        )


@dataclass(frozen=True, slots=True)
class _Made:
    """What revisions make, before a range and after it.

    Attributes:
        earlier: ids of everything before the range.
        upto: these, and the range.
    """

    revisions: Revisions
    earlier: frozenset[str]
    upto: frozenset[str]

    def before(self, name: str) -> CollectionSchema | None:
        """A collection, or what a glob makes, before the range."""
        links = chain(self.revisions, name, self.earlier)
        return links[-1].after if links else None

    def after(self, name: str) -> CollectionSchema | None:
        """The same after it."""
        links = chain(self.revisions, name, self.upto)
        return links[-1].after if links else None

    def names(self, items: Iterable[Operation]) -> list[str]:
        """Every name and glob that these operations, or ones that create something, speak of."""
        made = (each for one in self.revisions.order() for each in one.operations if one.id in self.upto)
        return sorted({*(one.pattern for one in items), *(one.pattern for one in made if one.creates)})


def _folded(made: _Made, items: Sequence[Item]) -> frozenset[str]:
    """Patterns that the range makes: their operations become one that creates the collection as it is in the end.

    Not where an operation of another pattern is about them: which of the two comes first decides what they get.
    """
    patterns = {operation.pattern for _, operation in items}
    new = {one.pattern for _, one in items if one.creates and made.before(one.pattern) is None}
    return frozenset(
        one for one in new if not any(other != one and (fits(one, other) or fits(other, one)) for other in patterns)
    )


def _creation(name: str, schema: CollectionSchema | None) -> list[Operation]:
    """What makes a collection of a schema; nothing where it is dropped again."""
    if schema is None:
        return []
    config = {key: value for key, value in schema.config.items() if key not in LATER}
    later = {key: value for key, value in schema.config.items() if key in LATER}
    found: list[Operation] = [CreateCollection(name, schema.vectors, schema.sparse, schema.indexes, **config)]
    found += [UpdateCollection(pattern_of(name), params=later)] if later else []
    return [*found, *(SetAlias(alias, name) for alias in schema.aliases)]


def _origin(pattern: str, items: Iterable[Item]) -> str:
    """Where a folded collection comes from, and what has filled its vectors: a schema doesn't say that."""
    own = [(revision.id, one) for revision, one in items if one.pattern == pattern]
    ids = ", ".join(dict.fromkeys(one for one, _ in own))
    filled = {vector: value.describe() for _, one in own for vector, value in one.filled().items()}
    words = "".join(f"; {vector or '(unnamed)'} was filled by {said}" for vector, said in sorted(filled.items()))
    return f"From {ids}{words}"


def _shorter(made: _Made, items: Sequence[Item]) -> list[tuple[Operation, Operation]]:
    """(as it was, as it is written) for what can't be folded: indexes and settings in the end state alone."""
    found = [(one, one) for _, one in items]
    for pattern in dict.fromkeys(one.pattern for _, one in items):
        own = [one for _, one in items if one.pattern == pattern]
        found = _settings_joined(found, [one for one in own if isinstance(one, UpdateCollection)])
        before, after = made.before(pattern), made.after(pattern)
        indexes = [one for one in own if isinstance(one, CreatePayloadIndex | DropPayloadIndex)]
        for field in dict.fromkeys(one.field for one in indexes):
            about = [one for one in indexes if one.field == field]
            if len(about) < 2 or before is None or after is None:
                continue
            same = before.indexes.get(field) == after.indexes.get(field)
            gone = {id(one) for one in (about if same else about[:-1])}
            found = [pair for pair in found if id(pair[0]) not in gone]
    return found


def _settings_joined(
    found: list[tuple[Operation, Operation]], updates: Sequence[UpdateCollection]
) -> list[tuple[Operation, Operation]]:
    if len(updates) < 2 or any(one.wish is not None for one in updates):
        return found
    keys = ("config", "params", "vectors_config", "sparse_vectors_config")
    whole: dict[str, Any] = {key: {} for key in keys}
    for one in updates:
        whole = {key: merged(whole[key], getattr(one, key)) for key in keys}
    config = whole.pop("config")
    joined = UpdateCollection(updates[0].collection, **config, **{key: value for key, value in whole.items() if value})
    earlier = [id(one) for one in updates[:-1]]
    kept = [pair for pair in found if id(pair[0]) not in earlier]
    return [(old, joined) if old is updates[-1] else (old, one) for old, one in kept]


def _written(revision: Revision, operation: Operation, words: tuple[str, ...]) -> CodeWriter:
    """An operation as code that makes this very one again.

    Raises:
        RefusedError: nothing here can write it.
    """
    try:
        source = operation_source(operation, words)
        text = to_text([operation])
    except PlanError as error:
        raise _unwritten(revision, operation, error.message) from error
    if to_text(from_text(text)) != text or not _reads_back(source, text):
        raise _unwritten(revision, operation, "not every argument of it can be written")
    return source


def _reads_back(source: CodeWriter, text: str) -> bool:
    names: dict[str, Any] = {}
    # Text that was made here a moment ago, of an operation that a file of the user has made.
    exec(f"{source.imports()}\nmade = {source.text(indent=0)}", names)  # noqa: S102
    return to_text(names["made"]) == text


def _unwritten(revision: Revision, operation: Operation, why: str) -> RefusedError:
    return RefusedError(
        f"{operation.label()} of revision {revision.id} can't be moved into another file: {why}",
        hint=f"{operation.pattern} was there before what is to be squashed. Leave {revision.id} out: squash what comes "
        "before it, and what comes after it",
        facts={"revision": revision.id, "operation": operation.label()},
    )


def _prove(made: _Made, operations: Sequence[Operation], found: Sequence[Revision]) -> None:
    """Both ways make the same schema of every collection, and carry points in the same way.

    Raises:
        RefusedError: they don't.
    """
    for name in made.names([*operations, *(one for each in found for one in each.operations)]):
        schema = made.before(name)
        about = [one for one in operations if one.matches(name) or one.pattern == name]
        try:
            check_contradictions(about)
            for operation in about:
                exists = schema is not None
                # Of a revision that makes a collection every operation is about it, also one that comes first.
                if (operation.creates and operation.is_glob and exists) or not (exists or _makes(about)):
                    continue
                operation.check(schema)
                schema = operation.apply(schema)
        except PlanError as error:
            raise _not_one(found, f"{name}: {error.message}") from error
        if _shape(schema) != _shape(made.after(name)):
            raise _not_one(found, f"it would not make the same of {name}")
        if made.before(name) is not None:
            _prove_points(made, name, found)
    aliases = [one.alias for one in operations if isinstance(one, SetAlias)]
    twice = next((alias for alias in aliases if aliases.count(alias) > 1), None)
    if twice is not None:
        raise _not_one(found, f"the alias {twice} is given to several collections, one after the other")


def _makes(operations: Iterable[Operation]) -> bool:
    return any(one.creates for one in operations)


def _prove_points(made: _Made, name: str, found: Sequence[Revision]) -> None:
    """No revision reads what an earlier one of them has made of the points: in one go it would see what was before."""
    so_far: PointTransform | None = None
    inside = {one.id for one in found}
    for link in chain(made.revisions, name, made.upto):
        if link.revision.id not in inside or link.before is None or link.after is None:
            continue
        schema: CollectionSchema | None = link.before
        own = PointTransform.identity(link.before.vector_names())
        for _, operation in link.refs:
            if schema is None or _is_on_points(operation):
                continue
            own, schema = own.then(operation.transform(schema)), operation.apply(schema)
        if so_far is not None and barrier(so_far, own):
            raise _not_one(found, f"{link.revision.id} reads what an earlier revision has made of the points of {name}")
        so_far = own if so_far is None else so_far.then(own)


def _shape(schema: CollectionSchema | None) -> object:
    return schema.to_json() if schema is not None else None


def _not_one(found: Sequence[Revision], why: str) -> RefusedError:
    ends = f"{found[0].id} to {found[-1].id}"
    return RefusedError(
        f"{ends} can't be said in one revision: {why}",
        hint="squash them in two parts, the second one from the revision that this is about",
    )


def _parts(made: _Made, found: Sequence[Revision]) -> dict[str, tuple[str, ...]]:
    """Which of the revisions each pattern goes through; nothing where each goes through all of them."""
    inside = tuple(each for one in found for each in (*one.replaces, one.id))
    parts: dict[str, tuple[str, ...]] = {}
    for pattern in dict.fromkeys(one.pattern for each in found for one in each.operations):
        links = {link.revision.id for link in chain(made.revisions, pattern, made.upto)}
        if not links & set(inside):
            about = (one for one in found if any(fits(pattern, each.pattern) for each in one.operations))
            links = {one.id for one in about}
        earlier = {old for one in found if one.id in links for old in parts_of(one, pattern, made.revisions)}
        parts[pattern] = tuple(one for one in inside if one in links or one in earlier)
    return {} if all(ids == inside for ids in parts.values()) else parts


def _way_back(
    revisions: Revisions, rest: Sequence[Revision], folded: Collection[str]
) -> tuple[CodeWriter | None, tuple[str, ...]]:
    """What undoes operations that were not folded, where revisions say it themselves, and what is left to decide."""
    own = [one.id for one in rest if one.has_downgrade]
    if not own:
        return None, ()
    named = f"downgrade() of {', '.join(own)}"
    if len(own) < len(rest):
        others = ", ".join(one.id for one in rest if not one.has_downgrade)
        return None, (f"{named} is not in it, since {others} have none: write one, or leave the way back derived",)
    found = CodeWriter(words=frozenset())
    try:
        for one in reversed(rest):
            for operation in revisions.downgrade_operations(one.id) or ():
                if operation.pattern not in folded:
                    found = found + _written(one, operation, ())
    except RefusedError as error:
        return None, (f"{named} is not in it: {error.message}",)
    return found, ()


def lines(variables: Mapping[str, object]) -> Iterator[str]:
    """Assignments at the top of a revision: ``replaces = […]``."""
    writers: Mapping[type, Callable[[Any], str]] = {tuple: _list, dict: _object, str: quoted}
    for name, value in variables.items():
        writer = writers.get(type(value), repr)
        yield f"{name} = {writer(value)}"


def _list(ids: Sequence[str]) -> str:
    return f"[{', '.join(map(quoted, ids))}]"


def _object(parts: Mapping[str, Sequence[str]]) -> str:
    inner = "".join(f"    {quoted(name)}: {_list(ids)},\n" for name, ids in parts.items())
    return f"{{\n{inner}}}"
