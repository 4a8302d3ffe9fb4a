"""All declared collections against all revisions: what becomes revisions, and what a person has to decide. Pure."""

from __future__ import annotations

import copy
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from qmigrate.declared.collection import Wanted
from qmigrate.declared.compare import (
    Compared,
    Piece,
    Rename,
    Stage,
    alike,
    candidates,
    compare,
    dropped,
    pairs,
    renamed_collection,
)
from qmigrate.declared.replay import Replayed, created, replay
from qmigrate.errors import PlanError, RefusedError, UsageError
from qmigrate.model.names import fits, has_wildcard
from qmigrate.operations.base import Operation, assign, check_contradictions
from qmigrate.operations.checks import shown
from qmigrate.operations.values import FILL_ME, Compute
from qmigrate.revisions.graph import Revisions
from qmigrate.text import quote


@dataclass(frozen=True, slots=True)
class Answers:
    """What a person has decided.

    Attributes:
        renames: what has another name now.
        different: what has not: it is new, and what was there goes only with `drops`.
        drops: what is not declared any more goes.
    """

    renames: frozenset[Rename] = frozenset()
    different: frozenset[Rename] = frozenset()
    drops: bool = False


@dataclass(frozen=True, slots=True)
class Outline:
    """What leads from the revisions to the declaration.

    Attributes:
        stages: operations by the revision that each belongs to, in order; empty stages are left out.
        kept: what is not declared any more, as ``docs: vector old``.
        unsaid: what no operation can express, likewise.
        silent: settings of revisions that the declaration doesn't name, likewise.
        alone: collections of revisions that are not declared.
        before: collections as the revisions leave them.
        after: the same after all of these operations.
    """

    stages: Mapping[Stage, tuple[Piece, ...]] = field(default_factory=dict)
    kept: tuple[str, ...] = ()
    unsaid: tuple[str, ...] = ()
    silent: tuple[str, ...] = ()
    alone: tuple[str, ...] = ()
    before: Mapping[str, Replayed] = field(default_factory=dict)
    after: Mapping[str, Replayed] = field(default_factory=dict)

    @property
    def differs(self) -> bool:
        """Whether revisions and declaration are not the same."""
        return bool(self.stages or self.kept or self.unsaid)


@dataclass(frozen=True, slots=True)
class State:
    """Declaration and revisions side by side.

    Attributes:
        wanted: declared collections by name, as far as they are meant.
        replayed: collections of the revisions by name; those that a declared name or glob is about, too.
        others: the other declared collections; they stay as they are.
        restricted: whether only some are meant: then nothing else goes.
    """

    wanted: Mapping[str, Wanted]
    replayed: Mapping[str, Replayed]
    others: Mapping[str, Wanted] = field(default_factory=dict)
    restricted: bool = False

    @classmethod
    def read(cls, declared: Iterable[Wanted], revisions: Revisions, only: Collection[str] | None = None) -> State:
        """Replay every revision.

        Args:
            only: restrict to these declared names.

        Raises:
            UsageError: one of them is not declared.
        """
        wanted = {one.name: one for one in declared}
        unknown = sorted(set(only or ()) - wanted.keys())
        if unknown:
            raise UsageError(
                f"{unknown[0]} is not declared", hint=f"declared are: {', '.join(sorted(wanted)) or 'none'}"
            )
        names = {*created(revisions), *wanted}
        found = {name: made for name in sorted(names) if (made := replay(revisions, name)) is not None}
        if only is None:
            return cls(wanted, found)
        chosen = {name: wanted.pop(name) for name in sorted(set(only))}
        return cls(chosen, found, wanted, restricted=True)

    def holder(self, name: str) -> str:
        """The name under which revisions have a declared collection: its own, or the one that it was renamed from."""
        if name in self.replayed:
            return name
        return next((one for one, made in self.replayed.items() if name in made.schema.aliases), name)

    def alone(self) -> list[str]:
        """Collections of revisions that nothing declares."""
        every = {**self.wanted, **self.others}
        held = {self.holder(name) for name in every} | {one.was for one in self.others.values()}
        globs = [name for name in every if has_wildcard(name)]
        return [name for name in self.replayed if name not in held and not any(fits(name, one) for one in globs)]

    def questions(self) -> tuple[Rename, ...]:
        """Everything that may be a rename, and that the declaration doesn't decide by ``renamed_from``."""
        found: list[Rename] = []
        for name, wanted in sorted(self.wanted.items()):
            before = self.replayed.get(self.holder(name))
            if before is None:
                found += [
                    Rename(name, old, name, "collection")
                    for old in self.alone()
                    if not has_wildcard(name)
                    and not has_wildcard(old)
                    and wanted.was is None
                    and alike(self.replayed[old].schema, wanted.schema)
                ]
                continue
            declared = {*wanted.renamed_from, *wanted.renamed_from.values()}
            found += [
                one for one in candidates(name, before.schema, wanted.schema) if not declared & {one.old, one.new}
            ]
        return tuple(found)

    def parsed(self, written: Iterable[str], option: str) -> frozenset[Rename]:
        """Renames as they are typed: ``old=new``, or ``docs:old=new`` where several collections have both.

        Raises:
            UsageError: nothing of that name is gone and new, or it is not clear where.
        """
        possible: list[Rename] = []
        for name, wanted in sorted(self.wanted.items()):
            before = self.replayed.get(self.holder(name))
            if before is not None:
                possible += pairs(name, before.schema, wanted.schema)
            else:
                possible += [Rename(name, old, name, "collection") for old in self.alone() if not has_wildcard(old)]
        found = set()
        for text in written:
            fitting = [one for one in possible if text in (one.written, f"{one.old}={one.new}")]
            if not fitting:
                known = ", ".join(f"{option} {quote(one.written)}" for one in possible[:5]) or "nothing"
                raise UsageError(
                    f"{option} {text}: nothing of these names is gone and new", hint=f"what may be renamed: {known}"
                )
            if len(fitting) > 1:
                named = ", ".join(one.written for one in fitting)
                raise UsageError(f"{option} {text} may be about several: {named}", hint="write it as one of these")
            found.add(fitting[0])
        return frozenset(found)

    def renames_of(self, wanted: Wanted, before: Replayed, answers: Answers) -> dict[str, str]:
        """Vectors of a collection that have another name now, new -> old.

        Raises:
            UsageError: one vector would get two names.
        """
        names = before.schema.vector_names()
        found = {new: old for new, old in wanted.renamed_from.items() if old in names and new not in names}
        found |= {one.new: one.old for one in answers.renames if one.what == "vector" and one.collection == wanted.name}
        twice = [old for old in found.values() if list(found.values()).count(old) > 1]
        if twice:
            raise UsageError(f"vector {shown(twice[0])} of {wanted.name} can't have got two names")
        return found


def undecided(state: State, answers: Answers) -> tuple[Rename, ...]:
    """What may be a rename and is neither answered nor settled by another answer."""
    taken = {(one.collection, name) for one in answers.renames for name in (one.old, one.new)}
    return tuple(
        one
        for one in state.questions()
        if one not in answers.different and not {(one.collection, one.old), (one.collection, one.new)} & taken
    )


def outline(state: State, answers: Answers) -> Outline:
    """The operations of all collections, by stage, proven to lead from the revisions to the declaration.

    Raises:
        RefusedError: something may be a rename, and is not decided; or operations for a glob would change a
            collection that is declared otherwise.
        UsageError: answers contradict each other.
    """
    open_ = undecided(state, answers)
    if open_:
        raise _refusal(open_)
    pieces: list[tuple[str, Piece]] = []
    compared: dict[str, Compared] = {}
    held: set[str] = set()
    # Globs first: what they do to a collection that is declared by its name is done by then.
    for name in sorted(state.wanted, key=lambda one: (not has_wildcard(one), one)):
        wanted, first = _placed(state, state.wanted[name], answers)
        held.add(wanted.name)
        before = state.replayed.get(wanted.name)
        for one in (*(piece for _, piece in pieces), *first):
            if before is not None and _about(one.operation, wanted.name, exists=True):
                before = before.after(one.operation)
        renames = state.renames_of(state.wanted[name], before, answers) if before is not None else {}
        found = compare(wanted, before, renames, drops=answers.drops)
        compared[name] = found
        pieces += [(wanted.name, one) for one in (*first, *found.pieces)]
    left = [name for name in state.alone() if name not in held]
    if answers.drops and not state.restricted:
        # Load-bearing: a command that names some collections does not ask for the others to go.
        pieces += [(name, dropped(name)) for name in left]
        left = []
    stages = {stage: tuple(one for _, one in pieces if one.stage == stage) for stage in Stage}
    made = Outline(
        stages={stage: found for stage, found in stages.items() if found},
        kept=_lines(compared, "kept"),
        unsaid=_lines(compared, "unsaid"),
        silent=_lines(compared, "silent"),
        alone=tuple(left),
        before=state.replayed,
        after=_folded(state, stages),
    )
    _check(state, made, answers)
    return made


def _lines(compared: Mapping[str, Compared], what: str) -> tuple[str, ...]:
    return tuple(f"{name}: {line}" for name, one in sorted(compared.items()) for line in getattr(one, what))


def _placed(state: State, wanted: Wanted, answers: Answers) -> tuple[Wanted, tuple[Piece, ...]]:
    """A declaration under the name that revisions have for it, and what gives it its own."""
    if wanted.name in state.replayed:
        return wanted, ()
    held = state.holder(wanted.name)
    if held != wanted.name:
        return renamed_collection(wanted, held)[0], ()
    said = next(
        (one.old for one in answers.renames if one.what == "collection" and one.collection == wanted.name), wanted.was
    )
    if said is None or said not in state.replayed:
        return wanted, ()
    return renamed_collection(wanted, said)[0], ()


def _about(operation: Operation, name: str, *, exists: bool) -> bool:
    return operation.bound((name,)).matches(name) and not (operation.creates and operation.is_glob and exists)


def _folded(state: State, stages: Mapping[Stage, Sequence[Piece]]) -> dict[str, Replayed]:
    """Every collection after every operation.

    Raises:
        RefusedError: an operation can't be made on one of them, or two contradict each other.
    """
    operations = {stage: [one.operation for one in stages[stage]] for stage in Stage}
    names = {*state.replayed, *(one.pattern for found in operations.values() for one in found if one.creates)}
    found: dict[str, Replayed] = {}
    for name in sorted(names):
        now = state.replayed.get(name)
        try:
            for stage in Stage:
                about = [one for one in operations[stage] if _about(one, name, exists=now is not None)]
                check_contradictions(about)
                for operation in about:
                    if now is not None:
                        _check_possible(operation, now)
                    now = operation_after(now, operation)
        except PlanError as error:
            raise _one_by_one(name, error.message) from error
        if now is not None:
            found[name] = now
    return found


def _check_possible(operation: Operation, before: Replayed) -> None:
    """Whether it can be made there, as far as that is decided yet.

    Raises:
        PlanError: it can't.
    """
    if operation.creates:
        raise operation.error(f"{operation.pattern} exists already")
    if getattr(operation, "values", None) is FILL_ME:
        operation = copy.copy(operation)
        assign(operation, values=Compute(repr))
    operation.check_schema(before.schema)


def operation_after(before: Replayed | None, operation: Operation) -> Replayed | None:
    """A collection after an operation; of one that is not there only what creates it makes one."""
    if before is None:
        return Replayed(operation.apply(None)) if operation.creates else None  # type: ignore[arg-type]
    return before.after(operation)


def _check(state: State, made: Outline, answers: Answers) -> None:
    """What the operations lead to is what is declared, and nothing else is touched.

    Raises:
        RefusedError: it isn't: a glob meets a collection that is declared otherwise.
    """
    for name in sorted(state.wanted):
        wanted, _ = _placed(state, state.wanted[name], answers)
        after = made.after.get(wanted.name)
        left = compare(wanted, after, {}, drops=answers.drops).pieces
        if left:
            raise _one_by_one(wanted.name, left[0].operation.describe())
        added = _parts(after) - _parts(Replayed(wanted.schema)) - _parts(state.replayed.get(wanted.name))
        if added:
            raise _one_by_one(wanted.name, f"it would get {' '.join(min(added))}")
    for name in sorted(map(state.holder, state.others)):
        if name in state.replayed and made.after.get(name) != state.replayed[name]:
            raise RefusedError(
                f"{name} is not among those that were named, and what is declared for a glob would change it",
                hint="leave --only out, or name it as well",
            )
    free = [name for name in made.alone if name in made.after]
    for name in free:
        if made.after[name].schema != state.replayed[name].schema:
            raise _one_by_one(name, "it is not declared, and would be changed")
    for name, now in sorted(made.after.items()):
        glob = next((one for one in sorted(state.wanted) if has_wildcard(one) and fits(name, one)), None)
        if glob is None or name in state.wanted or name == glob or name not in state.replayed:
            continue
        left = compare(state.wanted[glob], now, {}, drops=True).pieces
        if left and now.schema != state.replayed[name].schema:
            raise _one_by_one(name, left[0].operation.describe())


def _parts(found: Replayed | None) -> set[tuple[str, str]]:
    """Vectors and payload indexes by their names."""
    if found is None:
        return set()
    vectors = {("vector", shown(name)) for name in found.schema.vector_names()}
    return vectors | {("payload index", name) for name in found.schema.indexes}


def _one_by_one(name: str, why: str) -> RefusedError:
    return RefusedError(
        f"what is declared for a glob would not make {name} what it should be: {why}",
        hint=f"declare {name} by its name, and leave the glob to those that are equal",
    )


def _refusal(found: Sequence[Rename]) -> RefusedError:
    first = found[0]
    what = f"{first.what} {shown(first.new)}" + (f" of {first.collection}" if first.what == "vector" else "")
    more = f", and {len(found) - 1} more" if len(found) > 1 else ""
    ways = []
    for one in found:
        where = f"renamed_from of {one.collection}" if one.what == "collection" else f"renamed_from in {one.collection}"
        ways.append(f"--rename {quote(one.written)}, or {where}: it is the same under another name")
        ways.append(f"--different {quote(one.written)}: it is another one")
    return RefusedError(
        f"{what} is new, and {first.what} {shown(first.old)}, which fits it, is gone{more}: renamed, or another one?",
        hint="\n".join(ways),
        facts={"renames": [one.written for one in found]},
    )
