"""Old generations and leftovers read from ledger and store: the complete input of gc. It writes and judges nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from qmigrate.ledger import Ledger
from qmigrate.model.holding import Holding, KeptSnapshot
from qmigrate.model.names import GENERATION, REHEARSAL, is_internal, old_alias
from qmigrate.model.schema import JsonObject
from qmigrate.model.state import Generation
from qmigrate.ports import Store
from qmigrate.store.weigh import weigh

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
    ledger: Ledger, store: Store, name: str, *, physical: Sequence[str], aliases: Mapping[str, str]
) -> tuple[Holding, ...]:
    """Every physical collection of a logical name that isn't recorded as gone.

    Args:
        physical: all of the store.
        aliases: all of the store, alias -> physical name.

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
    own = _own_snapshots(ledger, name)
    found = [_holding(store, row.physical, row, physical, aliases, own) for row in rows]
    return (*found, *(_holding(store, one, None, physical, aliases, own) for one in unknown))


def _holding(
    store: Store,
    name: str,
    row: Generation | None,
    physical: Sequence[str],
    aliases: Mapping[str, str],
    own: frozenset[tuple[str, str]],
) -> Holding:
    pointing = sorted(alias for alias, target in aliases.items() if target == name and not is_internal(alias, name))
    hidden = name in aliases
    address = old_alias(name) if hidden else name
    reachable = not hidden or aliases.get(address) == name
    live = store.describe(address) if name in physical and reachable else None
    if live is None:
        return Holding(name, row, present=name in physical, names=tuple(pointing), hidden=hidden)
    snapshots = store.list_snapshots(address) if store.capabilities.snapshots else []
    return Holding(
        physical=name,
        row=row,
        seal=live.seal,
        points=live.points,
        size=live.points * weigh(store, address, SAMPLE).per_point(live.schema),
        names=tuple(pointing),
        hidden=hidden,
        snapshots=tuple(
            KeptSnapshot(made.name, made.size, made.created_at, own=(name, made.name) in own) for made in snapshots
        ),
    )


def _own_snapshots(ledger: Ledger, name: str) -> frozenset[tuple[str, str]]:
    """(generation, snapshot) of those that runs of this ledger made before a rebuild."""
    # One that was only found there may be somebody else's.
    return frozenset(_key(one) for one in _of_runs(ledger, name) if one.get("made", True))


def snapshots_of_runs(ledger: Ledger, name: str) -> frozenset[tuple[str, str]]:
    """(generation, snapshot) of those that runs have made, or found, of what a rebuild was about to be made from.

    By then all points were there, also where that was an identical copy which had not gone live yet.
    """
    return frozenset(_key(one) for one in _of_runs(ledger, name))


def _of_runs(ledger: Ledger, name: str) -> list[JsonObject]:
    # A restore names the one that it was made of, which anybody may have made.
    made = [(row.report or {}).get("snapshot") for row in ledger.history(name) if row.strategy != "restore"]
    # An archive is a file.
    return [one for one in made if one and "collection" in one]


def _key(made: JsonObject) -> tuple[str, str]:
    return str(made["collection"]), str(made["name"])
