"""Further names: where one led before an operation took it is noted first, and the way back gives it back there."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from qmigrate.engine.work import Work
from qmigrate.errors import RefusedError
from qmigrate.ledger import Ledger
from qmigrate.model.facts.phases import InPlaceChange, Swap
from qmigrate.model.names import EpochAlias, is_internal
from qmigrate.model.plan import Build, GoLive, InPlace, Step
from qmigrate.model.schema import Change
from qmigrate.model.state import DELETING
from qmigrate.ports import Store
from qmigrate.text import quote


@dataclass(slots=True)
class Moves:
    """What becomes of the names of a collection when it goes live, goes back or goes.

    Attributes:
        names: they lead to the target afterwards.
        dropped: they lead nowhere afterwards.
        given: alias -> the collection of another name that it leads to again.
        earlier: of those that are taken from elsewhere, where they led.
    """

    names: list[str] = field(default_factory=list)
    dropped: list[str] = field(default_factory=list)
    given: dict[str, str] = field(default_factory=dict)
    earlier: dict[str, str | None] = field(default_factory=dict)


def take(work: Work, guard: EpochAlias, item: Change, target: str) -> None:
    """Point an alias to the collection; one that a way back had given away only comes from where that has put it."""
    led = work.store.aliases().get(item.name)
    if item.before is not None and led not in (item.before["physical"], target):
        _say_moved(work, item.name, led)
        return
    if led != target:
        found = work.facts(InPlaceChange)
        work.note(replace(found, earlier={**(found.earlier or {}), item.name: led}))
    # An alias can't point to an alias.
    work.store.change_aliases(guard, make={item.name: target})


def give(work: Work, guard: EpochAlias, item: Change, source: str) -> None:
    """Take an alias from the collection, back to where it led; one that another client has moved stays there."""
    led = work.store.aliases().get(item.name)
    given = work.facts(InPlaceChange).given or {}
    if led != source:
        if item.name not in given or led != given[item.name]:
            _say_moved(work, item.name, led)
        return
    earlier = (item.after or {}).get("physical")
    target = led_back(work, item.name, earlier)
    work.note(replace(work.facts(InPlaceChange), given={**given, item.name: target}))
    if target is None:
        work.store.change_aliases(guard, drop=[item.name])
    else:
        work.store.change_aliases(guard, make={item.name: target})


def recorded(item: Change, earlier: Mapping[str, str | None]) -> Change:
    """A change as the history keeps it: with where an alias led before, so that its reverse gives it back."""
    if item.kind != "alias.add" or item.name not in earlier:
        return item
    return Change(item.kind, item.name, before={"physical": earlier[item.name]})


def led_back(work: Work, alias: str, earlier: str | None) -> str | None:
    """The collection that an alias leads to again: what serves the name that it belonged to, or that very one.

    Returns:
        None where it led nowhere, or where neither is there any more, which is reported.
    """
    if earlier is None:
        return None
    present, known = work.store.physical_names(), work.store.aliases()
    rows = work.lease.ledger.all_generations()
    owners = {row.physical: (name, row) for name, found in rows.items() for row in found}
    owner, row = owners.get(earlier, (None, None))
    target: str | None = earlier if row is None or row.state != DELETING else None
    if owner is not None and owner != work.collection:
        target = next((one.physical for one in rows[owner] if one.state == "live"), None)
    elif owner is None:
        # Another application's, whose name may have become an alias since: that is what its clients reach by it.
        target = known.get(earlier, earlier)
    if target in present:
        return target
    work.progress.say(f"{work.collection}: {alias} led to {earlier} before, which is gone: the alias is removed")
    return None


def moves(step: GoLive, work: Work) -> Moves:
    """Every name of the generation that is left: those of the plan, and any that was given to it since.

    Going back, a further name that the undone revisions had declared is taken from it instead. One that was given
    to another collection since stays there, unless the revisions say themselves that it is taken.
    """
    # Load-bearing: a name that was given to the generation since the plan moves with it, and is recorded first.
    known, found = work.store.aliases(), Moves()
    taken = _taken(step, work)
    refuse_taken(work.store, work.lease.ledger, work.ledger_id, work.collection, sorted(taken))
    found.names = _to_move(step, work, known, taken)
    for alias in step.aliases:
        if alias not in found.names and alias not in step.earlier:
            _say_kept(work, alias, known)
    _note_earlier(step, work, found, (taken & set(found.names), known))
    declared = frozenset(work.state.declared.aliases) if work.state.declared else frozenset()
    for alias, physical in sorted(known.items()):
        if physical != step.source or step.source is None or alias in found.names or is_internal(alias, physical):
            continue
        if step.back and alias in step.earlier:
            target = led_back(work, alias, step.earlier[alias])
            if target is not None:
                found.given[alias] = target
                continue
        if step.back and (alias in declared or alias in step.earlier):
            found.dropped.append(alias)
        else:
            found.names.append(alias)
    _say_left(step, work, known)
    return found


def to_move(step: GoLive, work: Work, known: Mapping[str, str]) -> list[str]:
    """Names of the plan that are still to become those of the target; it leaves out the others.

    Args:
        known: all aliases.
    """
    return _to_move(step, work, known, _taken(step, work))


def _to_move(step: GoLive, work: Work, known: Mapping[str, str], taken: frozenset[str]) -> list[str]:
    ours = taken | {work.collection}
    return [alias for alias in step.aliases if alias in ours or _is_free(step, work, alias, known)]


def _is_free(step: GoLive, work: Work, alias: str, known: Mapping[str, str]) -> bool:
    """Whether the step may move an alias that no revision gives to the collection now."""
    if alias in step.earlier:
        return False
    led = known.get(alias)
    if led is None and step.back:
        return alias not in work.store.physical_names()
    return led in (None, step.source, step.target)


def _say_kept(work: Work, alias: str, known: Mapping[str, str]) -> None:
    now = f"leads to {known[alias]} now, and stays there" if alias in known else "is a collection now, and stays one"
    work.progress.say(f"{work.collection}: {alias} {now}")


def _note_earlier(
    step: GoLive, work: Work, found: Moves, seen: tuple[frozenset[str], Mapping[str, str]]
) -> None:
    """Where the names that are taken lead; of those that an attempt before has moved, where they led then."""
    before = work.facts(Swap).earlier or {}
    taken, known = seen
    for alias in sorted(taken - {work.collection}):
        led = known.get(alias)
        if led not in (step.source, step.target) or led is None:
            found.earlier[alias] = led
        elif alias in before:
            found.earlier[alias] = before[alias]


def _say_left(step: GoLive, work: Work, known: Mapping[str, str]) -> None:
    """What was to be handed back, and is with neither of the two generations any more."""
    before = work.facts(Swap)
    for alias in step.earlier:
        led = known.get(alias)
        done = alias in (before.given or {}) or alias in (before.dropped or ())
        if led != step.source and not done:
            _say_moved(work, alias, led)


def refuse_taken_by(step: Build, work: Work) -> None:
    """:func:`refuse_taken` for the names that the operations of a build give, before anything is built."""
    refuse_taken(work.store, work.lease.ledger, work.ledger_id, work.collection, sorted(_taken(step, work)))


def _taken(step: Build | GoLive, work: Work) -> frozenset[str]:
    """Names that the operations of the step give to the collection, wherever they lead; a way back gives none."""
    if isinstance(step, GoLive) and step.back:
        return frozenset()
    touched = (key for operation in work.operations(step.ops) for key in operation.touched())
    return frozenset(str(key[1]) for key in touched if len(key) > 1 and key[0] == "alias")


def _say_moved(work: Work, alias: str, led: str | None) -> None:
    now = f"leads to {led} now, and stays there" if led else "is not there any more, and is not recreated"
    work.progress.say(f"{work.collection}: another client has moved {alias}: it {now}")


def refuse_taken(store: Store, ledger: Ledger, ledger_id: str, collection: str, aliases: Iterable[str]) -> None:
    """Stop before an alias is pointed to a collection that another one is reached by.

    Clients that read and write by it would find other points there, without an error.

    Args:
        ledger_id: identity of the ledger; empty while it has none.
        collection: that the further names are for.
        aliases: the names; those that nothing has, and further ones of this ledger's own collections, may be given.

    Raises:
        RefusedError: one is the logical name of a collection, or leads to a collection of another ledger.
    """
    further = [alias for alias in aliases if alias != collection]
    if not further:
        return
    known, views = store.aliases(), ledger.collections()
    for alias in further:
        view = views.get(alias)
        if view is not None and view.physical is not None:
            raise RefusedError(
                f"{alias} is the name of a collection under management, which {view.physical} serves: as a further "
                f"name of {collection} it would be taken from it",
                hint=f"choose another alias; or drop that collection first, in a revision of its own: "
                f"op.DropCollection({alias!r})",
            )
        if alias not in known:
            continue
        found = store.describe(alias)
        owner = found.foreign_owner(ledger_id) if found is not None else None
        if owner is not None:
            raise RefusedError(
                f"{alias} leads to {known[alias]}, which is under management of another ledger ({owner}): as a further "
                f"name of {collection} it would be taken from it",
                hint=f"choose another alias; or have the owner of that application drop {quote(alias)} first",
            )


def names_of(step: Step) -> tuple[str, ...]:
    """The further names that a step gives."""
    if isinstance(step, GoLive):
        return () if step.back or step.target is None else step.aliases
    added = step.changes if isinstance(step, InPlace) else ()
    return tuple(change.name for change in added if change.kind == "alias.add")
