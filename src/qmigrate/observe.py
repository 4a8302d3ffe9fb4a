"""Ledger and store read into a World: the planner's complete input. It writes nothing and judges only ownership."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from qmigrate.errors import ForeignLedgerError, QmigrateError, RefusedError, RepairNeededError
from qmigrate.ledger import Ledger
from qmigrate.model.facts.history import CopyBefore
from qmigrate.model.names import GENERATION, PROBE_PREFIX, REHEARSAL, is_internal, is_made, old_alias
from qmigrate.model.plan import GoLive, Plan
from qmigrate.model.state import (
    BUILDING,
    LIVE,
    Applied,
    Capabilities,
    CollectionState,
    Generation,
    Holding,
    KeptSnapshot,
    LiveCollection,
    OpenRun,
    Seal,
    World,
    marks_of,
)
from qmigrate.ports import Store
from qmigrate.store.weigh import weigh
from qmigrate.text import counted, quote

#: Points that the size of a generation is taken from.
SAMPLE = 16


def names_with_holdings(ledger: Ledger, physical: Sequence[str]) -> tuple[str, ...]:
    """Logical names that have a generation or the leftover of a rehearsal, in the ledger or in Qdrant; sorted."""
    names = set(ledger.physicals().values())
    for found in physical:
        match = GENERATION.match(found) or REHEARSAL.match(found)
        if match:
            names.add(match["name"])
    return tuple(sorted(names))


def holdings(
    ledger: Ledger,
    store: Store,
    name: str,
    *,
    physical: Sequence[str],
    aliases: Mapping[str, str],
    snapshots: bool = True,
) -> tuple[Holding, ...]:
    """Every physical collection of a logical name that isn't recorded as gone.

    Args:
        physical: all of the store.
        aliases: all of the store, alias -> physical name.
        snapshots: with theirs, and which of them are of runs of this ledger: all of its history is read for that.

    Returns:
        Those that the ledger has, oldest first, then those that it doesn't.
    """
    rows = [row for row in ledger.generations(name) if row.state != "gone"]
    known = {row.physical for row in rows}
    unknown = [
        found
        for found in physical
        if found not in known and (match := GENERATION.match(found) or REHEARSAL.match(found)) and match["name"] == name
    ]
    own = _own_snapshots(ledger, name) if snapshots and store.capabilities.snapshots else None
    found = [_holding(store, row.physical, row, physical, aliases, own) for row in rows]
    return (*found, *(_holding(store, one, None, physical, aliases, own) for one in unknown))


def _holding(
    store: Store,
    name: str,
    row: Generation | None,
    physical: Sequence[str],
    aliases: Mapping[str, str],
    own: frozenset[tuple[str, str]] | None,
) -> Holding:
    pointing = sorted(alias for alias, target in aliases.items() if target == name and not is_internal(alias, name))
    hidden = name in aliases
    address = old_alias(name) if hidden else name
    reachable = not hidden or aliases.get(address) == name
    live = store.describe(address) if name in physical and reachable else None
    if live is None:
        return Holding(name, row, present=name in physical, names=tuple(pointing), hidden=hidden)
    snapshots = store.list_snapshots(address) if own is not None else []
    return Holding(
        physical=name,
        row=row,
        seal=live.seal,
        points=live.points,
        size=live.points * weigh(store, address, SAMPLE).per_point(live.schema),
        names=tuple(pointing),
        hidden=hidden,
        snapshots=tuple(
            KeptSnapshot(made.name, made.size, made.created_at, own=own is not None and (name, made.name) in own)
            for made in snapshots
        ),
    )


def _own_snapshots(ledger: Ledger, name: str) -> frozenset[tuple[str, str]]:
    """(generation, snapshot) of those that runs of this ledger made before a rebuild."""
    # One that was only found there may be another client's.
    return frozenset(_key(one) for one in _of_runs(ledger, name) if one.made is not False)


def snapshots_of_runs(ledger: Ledger, name: str) -> frozenset[tuple[str, str]]:
    """(generation, snapshot) of those that runs have made, or found, of what a rebuild was about to be made from.

    By then all points were there, also where that was an identical copy which had not gone live yet.
    """
    return frozenset(_key(one) for one in _of_runs(ledger, name))


def _of_runs(ledger: Ledger, name: str) -> list[CopyBefore]:
    # A restore names the one that it was made of, which any client may have made.
    made = [row.told.snapshot for row in ledger.history(name) if row.strategy != "restore"]
    # An archive is a file.
    return [one for one in made if one is not None and isinstance(one.collection, str)]


def _key(made: CopyBefore) -> tuple[str, str]:
    return str(made.collection), made.name


def observe(ledger: Ledger, store: Store, *, only: Iterable[str] | None = None) -> World:
    """Everything a plan or a status needs.

    Whatever the number of collections, SQL is asked a handful of times; Qdrant twice per collection, several at once.

    Args:
        only: logical names to read; None reads all that the ledger or Qdrant have.
    """
    # Load-bearing: what isn't listed is planned as new or as gone. Also for the second time: a plan is made without a
    # lease, and checked against this look under it.
    physical = frozenset(store.physical_names())
    # Load-bearing: the source of a plan is what the name leads to, not what the ledger remembers; twice as above.
    known = store.aliases()
    aliases = {alias: target for alias, target in known.items() if not is_internal(alias, target)}
    views = ledger.collections()
    # The newest of a collection counts: an abort is newer than what it aborts.
    runs = {run.job.collection: run for run in ledger.open_runs()}
    served = ledger.physicals()
    names = logical_names(physical, aliases, views.keys() | runs.keys(), served)
    chosen = names if only is None else [name for name in names if name in set(only)] + [
        name for name in sorted(set(only)) if name not in names
    ]
    # A collection that was adopted under another name has left its own name unused.
    plain = {name for name in physical if served.get(name) in (None, name)}
    # By the names that applications use: another alias of a hidden collection leads to it, its own name doesn't.
    described = store.describe_all([name for name in chosen if name in aliases or name in plain], known)
    live = {name: _live(name, described.get(name)) for name in chosen}
    generations = ledger.all_generations() if only is None else {name: ledger.generations(name) for name in chosen}
    applied, passed = _recorded(ledger, None if only is None else chosen)
    left = _left(store, live, generations, known)
    numbers = _numbers(physical)
    collections = {
        name: CollectionState(
            name=name,
            kind="alias" if name in aliases else "plain" if name in plain else "absent",
            managed=name in views or bool(generations.get(name)),
            applied=applied.get(name, ()),
            declared=views[name].declared if name in views else None,
            live=live[name],
            generations=generations.get(name, ()),
            open_run=runs.get(name),
            embedders=views[name].embedders if name in views else {},
            next_number=_next_number(live[name], generations.get(name, ()), numbers.get(name, ())),
            hides=name in aliases and name in physical,
            left=left.get(name),
            passed=passed.get(name, frozenset()),
        )
        for name in chosen
    }
    return World(
        ledger_id=ledger.identity() or "",
        capabilities=store.capabilities,
        collections=collections,
        names=frozenset(names),
        physical=physical,
    )


def _recorded(
    ledger: Ledger, names: Iterable[str] | None
) -> tuple[Mapping[str, tuple[Applied, ...]], Mapping[str, frozenset[str]]]:
    """Logical name -> what is applied to it, and which squashed revisions it has passed; of some, or of all."""
    if names is None:
        return ledger.all_applied(), ledger.passed()
    applied: dict[str, tuple[Applied, ...]] = {}
    passed: dict[str, frozenset[str]] = {}
    for name in names:
        applied[name] = ledger.applied(name)
        passed.update(ledger.passed(name))
    return applied, passed


def known_names(ledger: Ledger, store: Store) -> list[str]:
    """Every logical name that the ledger or Qdrant have, without looking at any collection."""
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
        served: physical name -> logical name, for the generations that the ledger has.
    """
    names = set(known)
    for alias, target in aliases.items():
        match = GENERATION.match(target)
        owner = match["name"] if match and match["name"] in aliases else served.get(target)
        if owner in (None, alias):
            names.add(alias)
    for name in physical:
        if not is_made(name) and not name.startswith(PROBE_PREFIX) and served.get(name) in (None, name):
            names.add(name)
    return sorted(names)


def _live(name: str, found: LiveCollection | None) -> LiveCollection | None:
    """What serves a name; its aliases are the further ones that applications use."""
    if found is None:
        return None
    further = tuple(sorted(a for a in found.schema.aliases if a != name and not is_internal(a, found.physical)))
    return replace(found, schema=found.schema.with_(aliases=further))


def _left(
    store: Store,
    live: Mapping[str, LiveCollection | None],
    generations: Mapping[str, Sequence[Generation]],
    aliases: Mapping[str, str],
) -> dict[str, LiveCollection | None]:
    """Logical name -> what the ledger has as serving, of those names that lead elsewhere."""
    moved = {
        name: row.physical
        for name, found in live.items()
        for row in generations.get(name, ())
        if found is not None and row.state == "live" and row.physical != found.physical
    }
    if not moved:
        return {}
    reached = {one: old_alias(one) if aliases.get(old_alias(one)) == one else one for one in moved.values()}
    found = store.describe_all(list(reached.values()), aliases)
    # Behind a hidden name without such an alias is another collection.
    seen = {one: at for one, at in ((one, found.get(reached[one])) for one in reached) if at and at.physical == one}
    return {name: seen.get(one) for name, one in moved.items()}


def _numbers(physical: Iterable[str]) -> dict[str, list[int]]:
    """Logical name -> numbers of the generations that Qdrant has."""
    found: dict[str, list[int]] = {}
    for match in filter(None, map(GENERATION.match, physical)):
        found.setdefault(match["name"], []).append(int(match["number"]))
    return found


def _next_number(live: LiveCollection | None, known: Iterable[Generation], present: Iterable[int]) -> int:
    sealed = marks_of(live).generation or 0
    return max([sealed, *(entry.number for entry in known), *present]) + 1


def check_ownership(world: World, name: str) -> None:
    """Stop before work on a collection that another ledger owns, or that another client has moved or recreated.

    Raises:
        ForeignLedgerError: its seal names another ledger, or was written by a later state of this one.
        RepairNeededError: the alias is not where the ledger left it, or what serves lacks its seal.
    """
    check_place(world, name)
    state = world.collections.get(name)
    if state is not None and lacks_seal(state):
        raise _without_seal(state)


def check_beside_held(world: World, name: str) -> None:
    """The same for what is done while a generation waits for its cut-over: that run has moved nothing yet.

    Raises:
        RepairNeededError: as :func:`check_ownership`; the held run is decided first.
    """
    state = world.collections[name]
    alone = replace(world, collections={name: replace(state, open_run=None)})
    try:
        check_ownership(alone, name)
    except RepairNeededError as error:
        raise RepairNeededError(
            error.message,
            hint=f"see what was written where {name} leads now, make it lead where it was left, and run the same "
            f"command again; or end what waits for its cut-over first: qmigrate abort {quote(name)}",
        ) from error


def check_place(world: World, name: str) -> None:
    """The same where the missing seal of what serves stops nothing: it is about to be written again.

    Raises:
        ForeignLedgerError: its seal names another ledger, or was written by a later state of this one.
        RepairNeededError: the alias is not where the ledger left it.
    """
    state = world.collections.get(name)
    if state is None or state.live is None:
        if state is not None and state.applied and state.open_run is None and _serves(state):
            raise _without_name(world, state)
        return
    _refuse_foreign(world.ledger_id, state)
    if state.open_run is not None or not state.managed:
        return
    if is_later(world.ledger_id, state):
        raise _lost(state)
    if is_earlier(world.ledger_id, state):
        raise RepairNeededError(
            OF_A_BACKUP.format(name=name, serves=state.live.physical),
            hint=f"use the newer state of both. {only_where_lost(name)} records what serves",
        )
    expected = next((row.physical for row in state.generations if row.state == "live"), None)
    if expected is not None and gone_back(world, state, expected):
        raise RepairNeededError(
            f"{name} points to {state.live.physical}, and {expected}, on which the ledger left it, is not in Qdrant: "
            "was that restored from a backup?",
            hint=f"use the newer Qdrant. {only_where_lost(name)} records what serves",
        )
    if expected is not None and expected != state.live.physical:
        raise RepairNeededError(
            f"{name} points to {state.live.physical}, but the ledger left it on {expected}: another client moved it",
            hint=f"{_put_back(name)} points it back to {expected}",
            facts={"next": _put_back(name)},
        )
    recorded = marks_of(state.live).revision
    if recorded is not None and recorded not in state.applied_revisions():
        raise ForeignLedgerError(
            f"{name} is sealed at revision {recorded}, which this ledger does not have as applied: was the ledger "
            "restored from a backup?",
            hint="use the newer ledger; qmigrate history shows what this one has",
        )


def unmanaged(ledger_id: str, state: CollectionState, why: str, *, more: str = "") -> QmigrateError:
    """The error for a collection that is there and that this ledger doesn't have under management.

    Whose it is comes first: `adopt` refuses what another ledger has sealed, or a state of this one that is lost.

    Args:
        why: what it is, and what that blocks; after the name.
        more: after the way to take it over.
    """
    try:
        _refuse_foreign(ledger_id, state)
    except ForeignLedgerError as error:
        return error
    seal = marks_of(state.live)
    if (seal.ledger, seal.collection) == (ledger_id, state.name) and state.open_run is None:
        return _lost(state)
    return RefusedError(f"{state.name} {why}", hint=f"take it over first: qmigrate adopt {quote(state.name)}{more}")


def _refuse_foreign(ledger_id: str, state: CollectionState) -> None:
    seal = marks_of(state.live)
    if state.live is not None and state.live.seal is not None and seal.ledger != ledger_id:
        raise ForeignLedgerError(
            f"{state.name} ({state.physical}) is sealed by another ledger ({seal.ledger}, at "
            f"{seal.revision}); this one is {ledger_id or 'new'}",
            hint="point ledger.url at the database that recorded it; qmigrate doctor shows both identities",
        )


def _lost(state: CollectionState) -> ForeignLedgerError:
    return ForeignLedgerError(
        f"{state.name} is served by {state.physical}, which this ledger has sealed but does not record: was the ledger "
        "restored from a backup?",
        hint="use the newer ledger. Only where that one is lost for good: "
        f"qmigrate adopt {quote(state.name)} --take-over records what serves",
    )


def is_later(ledger_id: str, state: CollectionState) -> bool:
    """Whether what serves was made and sealed by a later state of this ledger: then the ledger is an old copy."""
    seal = marks_of(state.live)
    ours = (seal.ledger, seal.collection) == (ledger_id, state.name)
    return ours and state.managed and state.open_run is None and state.generation(state.physical) is None


#: What :func:`closed_later` means, of the collection of a logical name.
CLOSED_LATER = (
    "{physical} is sealed as what serves {name}, and in this ledger the run that would make it so has not ended: was "
    "the ledger restored from a backup?"
)


def use_the_newer(name: str) -> str:
    """The way out of that: no run of the old copy can be ended without removing what it was about to build."""
    return (
        "use the newer ledger. Only where that one is lost for good: name an empty database in ledger.url, then "
        f"qmigrate adopt {quote(name)} --take-over records what serves"
    )


def check_unclosed(store: Store, state: CollectionState, run: OpenRun) -> None:
    """Stop before a run that is unfinished in this ledger alone goes on: it would undo what was written since.

    Raises:
        ForeignLedgerError: what it builds, or goes back to, was closed by a later state of this ledger.
    """
    for position, step in enumerate(run.job.steps):
        # Its own end writes the seal before it is recorded.
        if not isinstance(step, GoLive) or step.target is None or run.record(position, "swap") is not None:
            continue
        found = state.live if step.target == state.physical else store.describe(step.target)
        seal = marks_of(found)
        # What a rollback goes to has served before: by whom it was closed last tells.
        again = (seal.collection, seal.state) == (state.name, LIVE) and seal.run is not None and seal.run >= run.id
        if again or closed_later(state, seal):
            raise ForeignLedgerError(
                CLOSED_LATER.format(name=state.name, physical=step.target), hint=use_the_newer(state.name)
            )


def closed_later(state: CollectionState, seal: Seal) -> bool:
    """Whether a generation that this ledger has as being built has served: it was closed by a later state of it."""
    row = next((one for one in state.generations if one.number == seal.generation), None)
    return row is not None and row.state == BUILDING and seal.state == LIVE and seal.collection == state.name


#: What :func:`is_earlier` means.
OF_A_BACKUP = (
    "{name} is served by {serves}, which was sealed later than what this ledger has as serving: was Qdrant, or the "
    "ledger, restored from a backup?"
)


def only_where_lost(name: str) -> str:
    """The way out where the newer state is gone."""
    return f"Only where that one is lost for good: qmigrate adopt {quote(name)} --take-over"


def is_earlier(ledger_id: str, state: CollectionState) -> bool:
    """Whether Qdrant is of an earlier time than the ledger, or a later one: no client has just moved a name.

    What serves is sealed by the newest run. Where a name was moved by hand, that is what the ledger left it on. In a
    Qdrant from before that run it is where the name leads, and what the ledger has as serving may lack what was
    carried.
    """
    here, there = marks_of(state.live), marks_of(state.left)
    if state.left is None or state.open_run is not None or {here.ledger, there.ledger} != {ledger_id}:
        return False
    return there.state == BUILDING or (here.run is not None and here.run > (there.run or 0))


def gone_back(world: World, state: CollectionState, expected: str) -> bool:
    """Whether what the ledger left a name on is gone, and the name on an earlier generation of ours."""
    if world.physical is None or expected in world.physical or state.open_run is not None:
        return False
    row = state.generation(state.physical)
    return row is not None and row.physical != expected and marks_of(state.live).is_of(world.ledger_id, row.number)


def lacks_seal(state: CollectionState) -> bool:
    """Whether what serves has the recorded name, and not the seal that it was given: it may be another collection.

    One that is sealed as being built was never closed: Qdrant is of an earlier time.
    """
    row = state.generation(state.physical)
    if state.live is None or row is None or row.state != "live" or state.open_run is not None:
        return False
    seal = marks_of(state.live)
    return seal.generation != row.number or seal.state == BUILDING


def _without_seal(state: CollectionState) -> RepairNeededError:
    look = f"qmigrate check --only {quote(state.name)}"
    assert state.live is not None  # noqa: S101  lacks_seal() looked
    what = "the seal of another generation" if state.live.seal else "no seal any more"
    why = "another client has rewritten its metadata, or deleted and recreated it"
    if marks_of(state.live).state == BUILDING:
        what, why = "the seal of one that is being built", "Qdrant was restored from a backup of that time"
    return RepairNeededError(
        f"{state.physical}, which serves {state.name}, has {what} and about {counted(state.live.points, 'point')}: "
        f"{why}",
        hint=f"compare the points with what they were; {look} names the next steps",
        facts={"next": look},
    )


def _without_name(world: World, state: CollectionState) -> RepairNeededError:
    """Nothing has a name that the ledger has as serving: put back where its collection is still there."""
    at = f"the ledger has {state.name} at {state.applied[-1].revision}, but Qdrant has no such name"
    expected = next(row.physical for row in state.generations if row.state == "live")
    if world.physical is not None and expected not in world.physical:
        return RepairNeededError(
            f"{at}, and {expected}, which served it, is gone",
            hint=f"is this the right Qdrant for this ledger? qmigrate doctor shows both; else: {_restore(state.name)}",
        )
    return RepairNeededError(
        f"{at}: another client removed the alias of {expected}",
        hint=f"{_put_back(state.name)} puts it back",
        facts={"next": _put_back(state.name)},
    )


def _put_back(name: str) -> str:
    return f"qmigrate repair --name {quote(name)}"


def _restore(name: str) -> str:
    return f"qmigrate snapshot restore {quote(name)}, from what qmigrate snapshot list {quote(name)} shows"


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
        RepairNeededError: it is another version now, or there is more than one node.
    """
    state = world.collections.get(name)
    if state is None or not state.hides or world.capabilities.local:
        return
    if world.capabilities.several:
        raise hidden_on_several(name, world.capabilities)
    since = hidden_since(state)
    if since is None:
        return
    before, now = (label.split(" at ")[0] for label in (since, world.capabilities.label))
    if before != now:
        raise RepairNeededError(
            f"the alias {name} hides the old collection of that name since {before}; this is {now}, which "
            "may treat it differently",
            hint=f"qmigrate gc {quote(name)} --now --generation {quote(name)} removes the old collection alone; the "
            "alias is an ordinary one then",
        )


def hidden_on_several(name: str, capabilities: Capabilities) -> RepairNeededError:
    """Why work on a name that hides a collection stops where there are several nodes, and the way out."""
    return RepairNeededError(
        f"the alias {name} hides the old collection of that name, and this Qdrant has {capabilities.peers_words}: they "
        f"pass names on and resolve them again, so reads and writes of {old_alias(name)} reach both generations",
        hint=f"qmigrate gc {quote(name)} --now --generation {quote(name)} --discard-writes removes the old collection "
        "alone, without checking what it has taken past its fence, which is unknown there; the alias is an "
        "ordinary one then",
    )


def hidden_since(state: CollectionState) -> str | None:
    """Label of the server when the name became an alias: that of the generation that took it."""
    hidden = state.generation(state.name)
    children = [row for row in state.generations if hidden is not None and row.parent == hidden.number]
    return children[-1].server if children else None


def _serves(state: CollectionState) -> bool:
    return any(row.state == "live" for row in state.generations)
