"""Own aliases (rule 2): a holder writes, fences and swaps only through aliases of its own lease epoch.

A later holder removes them first, so whatever an earlier one still sends is answered 404. It moves no logical name
but by :func:`swap`.
"""

from __future__ import annotations

import re
import time
from collections.abc import Mapping, Sequence

from qmigrate.errors import RepairNeededError, StoreError
from qmigrate.model.names import OWN_ALIAS, old_alias
from qmigrate.steps.work import Work

#: How long every node may take to show where a name leads, in seconds.
READ_BACK = 10.0


def holder(work: Work) -> str | None:
    """The collection that serves the logical name: what its alias points to, or the plain collection of that name."""
    target = work.store.aliases().get(work.collection)
    if target is None and work.collection in work.store.physical_names():
        return work.collection
    return target


def reach(work: Work, physical: str) -> str:
    """The name by which requests get to a generation.

    A plain collection that an alias of its name hides is not reached by its own name any more: see
    :func:`qmigrate.model.names.old_alias`. Whether it is hidden is looked up each time, since the swap changes it.
    """
    if physical != work.collection:
        return physical
    known = work.store.aliases()
    if physical not in known:
        return physical
    return old_alias(physical) if known.get(old_alias(physical)) == physical else own(work, physical)


def is_same(work: Work, physical: str) -> bool:
    """Whether a plain collection is still the one that the ledger knows, by its seal.

    An application may delete it and make it again; generations have names that nobody else makes.
    """
    generation = work.generation(physical)
    if physical != work.collection or generation is None:
        return True
    found = work.store.describe(reach(work, physical)) if physical in work.store.physical_names() else None
    seal = (found.seal if found else None) or {}
    return seal.get("ledger") == work.ledger_id and seal.get("generation") == generation.number


def check_same(work: Work, physical: str) -> None:
    """Stop before work on a collection that is not what was proven.

    Raises:
        RepairNeededError: the collection of this name is another one than the ledger knows.
    """
    if not is_same(work, physical):
        raise RepairNeededError(
            f"the collection {physical} was deleted by somebody else, or deleted and made again: it is not the one "
            "that the ledger knows",
            hint=f"qmigrate abort {work.collection} ends this run; then take over what is there now: "
            f"qmigrate adopt {work.collection}",
        )


def own(work: Work, physical: str) -> str:
    """The alias to write to `physical` through, made when it isn't there."""
    alias = f"{physical}__e{work.lease.epoch}"
    if work.store.aliases().get(alias) != physical:
        work.store.create_alias(alias, physical)
        confirm(work)
    return alias


def confirm(work: Work) -> None:
    """A ledger write that only the present holder can make: an alias made by a holder of the past is never used.

    Raises:
        LeaseHeldError: somebody has taken over.
    """
    work.note({})


def swap(work: Work, target: str, names: Sequence[str]) -> None:
    """Point every name to `target` in one request, which fails as a whole once a later holder took over.

    Where `target` is the plain collection of a name, that name's alias is removed instead: it comes to light again.

    Raises:
        NotFoundError: our own aliases are gone.
    """
    pairs = own_pairs(work, target, names)
    confirm(work)
    work.store.rename_aliases(pairs, [name for name in names if name == target])


def read_back(work: Work, names: Sequence[str], target: str | None) -> None:
    """Wait until every node shows every name on the target.

    Raises:
        StoreError: one of them doesn't in time.
    """
    deadline = time.monotonic() + max(READ_BACK, work.store.request_timeout)
    while True:
        nodes = work.store.aliases_of_nodes()
        if all(_shows(aliases, name, target) for aliases in nodes for name in names):
            return
        if time.monotonic() > deadline:
            raise StoreError(
                f"not every node shows {work.collection} on {target} yet",
                hint="run the same command again: it goes on from here",
            )
        work.tick()
        time.sleep(0.02)


def _shows(aliases: Mapping[str, str], name: str, target: str | None) -> bool:
    """Whether a node has the name on the target: by an alias, or by none where the target has that very name."""
    return aliases.get(name) == (None if name == target else target)


def own_pairs(work: Work, target: str, names: Sequence[str]) -> list[tuple[str, str]]:
    """Own aliases of `target`, made now, and what each is to be renamed to; every one of them must still be there."""
    pairs = []
    for position, name in enumerate(names):
        stem = f"{target}__e{work.lease.epoch}__"
        work.store.create_alias(stem + str(position), target)
        # The plain collection needs no alias: its own is only moved aside, to prove that it was still there.
        pairs.append((stem + str(position), stem + str(len(names) + position) if name == target else name))
    return pairs


def revoke_earlier(work: Work, physicals: Sequence[str]) -> int:
    """Remove the aliases of earlier epochs, then wait until no request sent through them can still land.

    Returns:
        How many aliases were removed.
    """
    stale = [alias for alias, match in _own_aliases(work, physicals) if int(match["epoch"]) != work.lease.epoch]
    for alias in stale:
        work.store.drop_alias(alias)
    deadline = time.monotonic() + work.store.request_timeout
    if stale and work.store.request_timeout:
        work.progress.say(
            f"{work.collection}: waiting {work.store.request_timeout:.0f} s until no request of the interrupted run "
            "can still arrive"
        )
    while time.monotonic() < deadline:
        work.tick()
        time.sleep(min(0.1, max(0.0, deadline - time.monotonic())))
    return len(stale)


def release(work: Work, physicals: Sequence[str | None]) -> None:
    """Remove all own aliases of these generations."""
    names = [name for name in physicals if name]
    for alias, _ in _own_aliases(work, names):
        work.store.drop_alias(alias)


def _own_aliases(work: Work, physicals: Sequence[str]) -> list[tuple[str, re.Match[str]]]:
    found = []
    for alias in work.store.aliases():
        match = OWN_ALIAS.match(alias)
        if match and match["physical"] in physicals:
            found.append((alias, match))
    return found
