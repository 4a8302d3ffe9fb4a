"""Ledger and store read into a World: the planner's whole input. It writes nothing and judges only ownership."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

from qmigrate.errors import ForeignLedgerError, RepairNeededError
from qmigrate.ledger import Ledger, View
from qmigrate.model.names import GENERATION, PROBE_PREFIX, is_internal
from qmigrate.model.plan import Plan
from qmigrate.model.state import CollectionState, LiveCollection, World
from qmigrate.ports import Store


def observe(ledger: Ledger, store: Store, *, only: Iterable[str] | None = None) -> World:
    """Everything a plan or a status needs.

    Args:
        only: logical names to read; None reads all that the ledger or Qdrant know.
    """
    physical = store.physical_names()
    aliases = {alias: target for alias, target in store.aliases().items() if not is_internal(alias, target)}
    views = ledger.collections()
    open_runs = {run.job.collection for run in ledger.open_runs()}
    served = ledger.physicals()
    names = logical_names(physical, aliases, views.keys() | open_runs, served)
    chosen = names if only is None else [name for name in names if name in set(only)] + [
        name for name in sorted(set(only)) if name not in names
    ]
    collections = {
        name: observe_one(
            ledger, store, name, physical=physical, aliases=aliases, view=views.get(name), served=served.get(name)
        )
        for name in chosen
    }
    return World(ledger_id=ledger.identity() or "", capabilities=store.capabilities, collections=collections)


def known_names(ledger: Ledger, store: Store) -> list[str]:
    """Every logical name that the ledger or Qdrant know, without looking at any collection."""
    aliases = {alias: target for alias, target in store.aliases().items() if not is_internal(alias, target)}
    known = ledger.collections().keys() | {run.job.collection for run in ledger.open_runs()}
    return logical_names(store.physical_names(), aliases, known, ledger.physicals())


def logical_names(
    physical: Iterable[str], aliases: Mapping[str, str], known: Iterable[str], served: Mapping[str, str]
) -> list[str]:
    """Names that applications use: never generations, own aliases, or other names of a managed collection.

    Args:
        physical: collections.
        aliases: alias -> collection, those of qmigrate left out.
        known: logical names of the ledger.
        served: physical name -> logical name, for the generations that the ledger knows.
    """
    names = set(known)
    for alias, target in aliases.items():
        match = GENERATION.match(target)
        owner = match["name"] if match and match["name"] in aliases else served.get(target)
        if owner in (None, alias):
            names.add(alias)
    for name in physical:
        if GENERATION.match(name) is None and not name.startswith(PROBE_PREFIX) and served.get(name) in (None, name):
            names.add(name)
    return sorted(names)


def observe_one(
    ledger: Ledger,
    store: Store,
    name: str,
    *,
    physical: Iterable[str],
    aliases: Mapping[str, str],
    view: View | None,
    served: str | None = None,
) -> CollectionState:
    """All that is known of one logical name.

    Args:
        physical: collections.
        aliases: alias -> collection, those of qmigrate left out.
        view: of this name.
        served: the logical name that a collection of this very name serves, as the ledger has it.
    """
    present = set(physical)
    target = aliases.get(name)
    # A collection that was adopted under another name has left its own to nobody.
    plain = name in present and served in (None, name)
    kind = "alias" if target is not None else "plain" if plain else "absent"
    live = store.describe(target or name) if kind != "absent" else None
    if live is not None:
        further = tuple(sorted(a for a in live.schema.aliases if a != name and not is_internal(a, live.physical)))
        live = _with_aliases(live, further)
    generations = ledger.generations(name)
    numbers = [entry.number for entry in generations]
    numbers += [int(match["number"]) for match in map(GENERATION.match, present) if match and match["name"] == name]
    if live is not None and live.seal is not None:
        numbers.append(int(live.seal.get("generation", 0)))
    return CollectionState(
        name=name,
        kind=kind,
        managed=view is not None or bool(generations),
        applied=ledger.applied(name),
        declared=view.declared if view else None,
        live=live,
        generations=generations,
        open_run=ledger.open_run(name),
        embedders=view.embedders if view else {},
        next_number=max(numbers, default=0) + 1,
        hides=target is not None and name in present,
    )


def check_ownership(world: World, name: str) -> None:
    """Stop before work on a collection that another ledger owns, or that was moved behind this one's back.

    Raises:
        ForeignLedgerError: its seal names another ledger.
        RepairNeededError: the alias is not where the ledger left it.
    """
    state = world.collections.get(name)
    if state is None or state.live is None:
        if state is not None and state.applied and state.open_run is None and _serves(state):
            raise RepairNeededError(
                f"the ledger has {name} at {state.applied[-1].revision}, but Qdrant has no such name",
                hint="is this the right Qdrant for this ledger? qmigrate doctor shows both",
            )
        return
    seal = state.live.seal
    if seal is not None and seal.get("ledger") != world.ledger_id:
        raise ForeignLedgerError(
            f"{name} ({state.live.physical}) is sealed by another ledger ({seal.get('ledger')}, at "
            f"{seal.get('revision')}); this one is {world.ledger_id or 'new'}",
            hint="point ledger.url at the database that recorded it; qmigrate doctor shows both identities",
        )
    if state.open_run is not None or not state.managed:
        return
    expected = next((row.physical for row in state.generations if row.state == "live"), None)
    if expected is not None and expected != state.live.physical:
        raise RepairNeededError(
            f"{name} points to {state.live.physical}, but the ledger left it on {expected}: somebody moved the alias",
            hint=f"point it back to {expected}, or find out who moved it",
        )
    recorded = seal.get("revision") if seal else None
    if seal is not None and recorded is not None and recorded not in state.applied_revisions():
        raise ForeignLedgerError(
            f"{name} is sealed at revision {recorded}, which this ledger does not know as applied: was the ledger "
            "restored from a backup?",
            hint="use the newer ledger; qmigrate history shows what this one knows",
        )


def check_hidden(world: World, plan: Plan) -> None:
    """Stop before work on a name that hides a collection, when the server has changed since it was hidden.

    No server documents that an alias may do so; one that was upgraded may see it differently.

    Raises:
        RepairNeededError: it is another version now.
    """
    for item in plan.collections:
        check_hidden_name(world, item.job.collection)


def check_hidden_name(world: World, name: str) -> None:
    """The same for one name.

    Raises:
        RepairNeededError: it is another version now.
    """
    state = world.collections.get(name)
    since = _hidden_since(state) if state is not None and state.hides else None
    if since is None or world.capabilities.local:
        return
    before, now = (label.split(" at ")[0] for label in (since, world.capabilities.label))
    if before != now:
        raise RepairNeededError(
            f"the alias {name} hides the old collection of that name since {before}; this is {now}, which "
            "may treat it differently",
            hint=f"qmigrate gc {name} --now removes the old collection; the alias is an ordinary one then",
        )


def _hidden_since(state: CollectionState) -> str | None:
    """Label of the server when the name became an alias: that of the generation that took it."""
    hidden = state.generation(state.name)
    children = [row for row in state.generations if hidden is not None and row.parent == hidden.number]
    return children[-1].server if children else None


def _serves(state: CollectionState) -> bool:
    return any(row.state == "live" for row in state.generations)


def _with_aliases(live: LiveCollection, aliases: tuple[str, ...]) -> LiveCollection:
    return replace(live, schema=live.schema.with_(aliases=aliases))
