"""Which collections adopt and stamp are about: names, what serves them, what lies next to them. It only reads."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

from qmigrate.commands.session import Session
from qmigrate.errors import QmigrateError, RefusedError, UsageError
from qmigrate.model.names import GENERATION, met, old_alias, unknown
from qmigrate.model.state import CollectionState, LiveCollection, World, marks_of
from qmigrate.observe import known_names, observe
from qmigrate.operations.checks import logical_name_problem
from qmigrate.planner.adopt import Target
from qmigrate.text import quote


@dataclass(frozen=True, slots=True)
class Left:
    """A collection that matches and can't be adopted; the others are.

    Attributes:
        name: its logical name, or its own where several lead to it.
        reason: why.
        hint: what to do.
        exit_code: of the error that it would be by itself.
    """

    name: str
    reason: str
    hint: str | None
    exit_code: int

    @classmethod
    def of(cls, name: str, error: QmigrateError) -> Left:
        """The error of one collection."""
        return cls(name, error.message, error.hint, error.exit_code)


@dataclass(frozen=True, slots=True)
class Candidates:
    """The chosen names.

    Attributes:
        chosen: logical names to adopt.
        every: all logical names that the ledger or Qdrant have.
        alias: the new logical name of the only chosen one, or None.
        notes: what a person should know of the choice.
        left: what matches and is left alone.
    """

    chosen: tuple[str, ...]
    every: tuple[str, ...]
    alias: str | None = None
    notes: tuple[str, ...] = field(default=())
    left: tuple[Left, ...] = field(default=())

    @classmethod
    def named(cls, opened: Session, names: Iterable[str]) -> Candidates:
        """Names that were given one by one."""
        return cls(tuple(dict.fromkeys(names)), tuple(known_names(opened.ledger, opened.store)))

    @property
    def names(self) -> tuple[str, ...]:
        """What has to be inspected."""
        return (*self.chosen, *((self.alias,) if self.alias else ()))

    def leaving(self, world: World) -> list[CollectionState]:
        """A name under management whose collection gets another one."""
        if self.alias is None:
            return []
        return [state for state in map(world.collections.__getitem__, self.chosen) if state.declared is not None]

    def targets(self, opened: Session, world: World) -> list[Target]:
        """The collections behind the names, as they are now.

        Raises:
            NotFoundError: a name has no collection.
        """
        found = []
        for name in self.chosen:
            state = world.collections[name]
            if state.live is None:
                raise unknown("collection", name)
            found.append(self._target(opened, world, state, state.live))
        return found

    def _target(self, opened: Session, world: World, state: CollectionState, live: LiveCollection) -> Target:
        if self.alias is None:
            return Target(state, live, _beside(opened, state))
        new = world.collections[self.alias]
        _check_alias(state, new)
        further = tuple(one for one in live.schema.aliases if one != self.alias)
        named = replace(live, schema=live.schema.with_(aliases=further))
        return Target(new, named, _beside(opened, new), alias=new.live is None)


def find(opened: Session, pattern: str, alias: str | None, *, take_over: bool = False) -> Candidates:
    """The collections that a pattern means; a glob never means those of another ledger, unless they are taken over.

    Args:
        take_over: whether they are.

    Raises:
        NotFoundError: none.
        RefusedError: a collection has several names that match, and it is not clear which the application uses.
        UsageError: `alias` doesn't fit.
    """
    every = known_names(opened.ledger, opened.store)
    matching = met(pattern, every)
    world = observe(opened.ledger, opened.store, only=matching)
    present = [state for name, state in sorted(world.collections.items()) if state.live is not None]
    if not present:
        _refuse_other_name(opened, pattern)
        raise unknown("collection", pattern, every)
    present, foreign = (present, []) if pattern in every else _without_foreign(world, present, take_over=take_over)
    chosen, notes, left = _one_name_each(present)
    left += foreign
    if alias is not None:
        if len(chosen) != 1:
            raise UsageError(f"--alias is for one collection; {pattern!r} matches {len(chosen)}: {', '.join(chosen)}")
        problem = logical_name_problem(alias, "the alias")
        if problem or alias == chosen[0]:
            raise UsageError(problem or f"{alias} is the name of the collection itself")
    return Candidates(tuple(chosen), tuple(every), alias, tuple(notes), tuple(left))


def _without_foreign(
    world: World, present: list[CollectionState], *, take_over: bool
) -> tuple[list[CollectionState], list[Left]]:
    """The collections that a glob means, and what to report of those that another application has under management.

    Raises:
        RefusedError: a take-over would meet the collections of several ledgers.
    """
    owners: dict[str, list[str]] = {}
    for state in present:
        if world.is_foreign(state.name):
            owners.setdefault(str(marks_of(state.live).ledger), []).append(state.name)
    if take_over and len(owners) > 1:
        listed = "; ".join(f"{owner}: {', '.join(names)}" for owner, names in owners.items())
        raise RefusedError(
            f"the names are under management of several other ledgers, not all of which may be lost: {listed}",
            hint="name the collections one by one: qmigrate adopt NAME --take-over",
        )
    own = [state for state in present if not world.is_foreign(state.name)]
    if take_over or not own:
        # Nothing else is meant: each names its owner.
        return present, []
    theirs = "it is under management of another ledger"
    return own, [
        Left(name, f"{theirs} ({owner})", f"qmigrate adopt {quote(name)} --take-over", 0)
        for owner, names in owners.items()
        for name in names
    ]


def _refuse_other_name(opened: Session, name: str) -> None:
    """A further name of a collection under management is not adopted: it moves with the collection."""
    owner = opened.ledger.physicals().get(opened.store.aliases().get(name, name))
    if owner not in (None, name):
        raise RefusedError(
            f"{name} is another name of {owner}, which is under management", hint="qmigrate status shows it"
        )


def _one_name_each(present: Sequence[CollectionState]) -> tuple[list[str], list[str], list[Left]]:
    """One logical name per collection: the alias, if there is one, since it was made to be used.

    Raises:
        RefusedError: the only collection has several; of many, such a one is left alone.
    """
    by_physical: dict[str, list[CollectionState]] = {}
    for state in present:
        by_physical.setdefault(str(state.physical), []).append(state)
    chosen: list[str] = []
    notes: list[str] = []
    left: list[Left] = []
    for physical, states in by_physical.items():
        aliases = [state for state in states if state.kind == "alias"]
        managed = [state for state in states if state.managed]
        best = managed if len(managed) == 1 else aliases or states
        if len(best) > 1:
            named = ", ".join(state.name for state in states)
            error = RefusedError(
                f"the collection {physical} has several names that match: {named}. One of them becomes its logical "
                "name, which every later revision moves; the others move with it",
                hint=f"name the one that the application uses: qmigrate adopt {quote(best[0].name)}",
            )
            if len(by_physical) == 1:
                raise error
            left.append(Left.of(physical, error))
            continue
        chosen.append(best[0].name)
        if len(states) > 1 and best[0].name != physical:
            notes.append(
                f"{physical} is adopted as {best[0].name}: requests that name {physical} itself don't follow when a "
                "later revision moves the name"
            )
    return chosen, notes, left


def _check_alias(state: CollectionState, new: CollectionState) -> None:
    """Whether a collection can get a new logical name."""
    if state.kind != "plain":
        raise UsageError(
            f"{state.name} is an alias already, of {state.physical}: a revision can move it as it is",
            hint=f"qmigrate adopt {quote(state.name)}",
        )
    if new.kind == "plain":
        raise RefusedError(f"there is a collection {new.name} already, so it can't become an alias of {state.name}")
    if new.live is not None and new.live.physical != state.physical:
        raise RefusedError(f"the alias {new.name} points to {new.live.physical} already, and not to {state.physical}")


def _beside(opened: Session, state: CollectionState) -> tuple[LiveCollection, ...]:
    """Generations of the name that don't serve and that the ledger doesn't have, by their names."""
    known = {row.physical for row in state.generations if row.state != "gone"}
    names = []
    for name in opened.store.physical_names():
        match = GENERATION.match(name)
        if match and match["name"] == state.name and name != state.physical and name not in known:
            names.append(name)
    if state.hides and state.name not in known:
        names.append(old_alias(state.name))
    found = (opened.store.describe(name) for name in names)
    return tuple(one for one in found if one is not None)
