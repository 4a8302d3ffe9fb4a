"""Own aliases (rule 2): a holder writes, fences and swaps only through aliases of its own lease epoch.

A later holder removes them first, so whatever an earlier one still sends is answered 404. It moves no logical name
but by :func:`swap`.
"""

from __future__ import annotations

import math
import re
import time
from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

from qmigrate.engine.work import Work
from qmigrate.errors import LeaseHeldError, RefusedError, RepairNeededError, StoreError
from qmigrate.model.facts.phases import StoppedInOrder
from qmigrate.model.facts.stored import loaded
from qmigrate.model.names import OWN_ALIAS, EpochAlias, as_own, is_made, old_alias, own_alias
from qmigrate.model.plan import REPAIRED
from qmigrate.model.state import DELETING, OpenRun, marks_of
from qmigrate.observe import hidden_on_several
from qmigrate.text import quote

#: How long every node may take to show where a name leads, in seconds.
READ_BACK = 10.0


class Names(NamedTuple):
    """The names of a server, as one request has shown them."""

    aliases: Mapping[str, str]
    physical: Collection[str]


def look(work: Work) -> Names:
    """Read every name, for checks that follow each other with no request in between.

    A comment at each place that asks, here or the store, says what would be lost without it: *Load-bearing*.
    """
    return Names(work.store.aliases(), work.store.physical_names())


def holder(work: Work, seen: Names | None = None) -> str | None:
    """The collection that serves the logical name: what its alias points to, or the plain collection of that name."""
    target = (seen.aliases if seen else work.store.aliases()).get(work.collection)
    if target is None and work.collection in (seen.physical if seen else work.store.physical_names()):
        return work.collection
    return target


def reach(work: Work, physical: str) -> str:
    """The name by which requests get to a generation.

    A plain collection that an alias of its name hides is not reached by its own name any more: see
    :func:`qmigrate.model.names.old_alias`. Whether it is hidden is looked up each time, since the swap changes it.

    Raises:
        RepairNeededError: it is hidden, and there are several nodes: no name leads to it, and to nothing else.
    """
    if physical != work.collection:
        return physical
    known = work.store.aliases()
    if physical not in known:
        return physical
    if work.store.capabilities.several:
        raise hidden_on_several(physical, work.store.capabilities)
    return old_alias(physical) if known.get(old_alias(physical)) == physical else own(work, physical)


def is_same(work: Work, physical: str) -> bool:
    """Whether a collection that an application has made is still the one that the ledger knows, by its seal.

    An application may delete it and make it again, under an alias too (``adopt --alias``); generations have names that
    no other program makes.
    """
    generation = None if is_made(physical) else work.generation(physical)
    if generation is None:
        return True
    found = work.store.describe(reach(work, physical)) if physical in work.store.physical_names() else None
    return marks_of(found).is_of(work.ledger_id, generation.number)


def check_same(work: Work, physical: str) -> None:
    """Stop before work on a collection that is not what was proven.

    Raises:
        RepairNeededError: the collection of this name is not the one in the ledger.
    """
    if not is_same(work, physical):
        raise RepairNeededError(
            f"the collection {physical} was deleted by another client, or deleted and recreated: it is not the one "
            "that the ledger records",
            hint=f"qmigrate abort {quote(work.collection)} ends this run; then take over what is there now: "
            f"qmigrate adopt {quote(work.collection)}",
        )


def check_begun(work: Work, physical: str) -> None:
    """The same for what is changed in place, before and behind each interruption.

    An abort has checked that when it was planned, and a repair writes the seal of what a human has decided on.
    """
    repairs = any(closing.direction == REPAIRED for closing in work.job.closes)
    if work.job.supersedes is None and not repairs:
        check_same(work, physical)


def nothing_of_ours(work: Work, physical: str) -> bool:
    """Whether an abort finds another collection under the name: what its run has changed went with the one before."""
    return work.job.supersedes is not None and not is_same(work, physical)


def own(work: Work, physical: str) -> EpochAlias:
    """The alias to write to `physical` through, made when it isn't there."""
    alias = own_alias(physical, work.lease.epoch)
    # Load-bearing: a swap renames it away, and a later holder removes it, so that only the server knows.
    known = work.store.aliases()
    if known.get(alias) != physical:
        make(work, [alias], physical, known)
    return alias


def make(
    work: Work, aliases: Sequence[EpochAlias], physical: str, known: Mapping[str, str] | None = None
) -> None:
    """Make own aliases, then check that the lease is still held: one made by an earlier holder is never used.

    Args:
        known: all aliases, where they have just been read.

    Raises:
        LeaseHeldError: another holder has taken over; none of them is left behind.
        RefusedError: an application has an alias of this name, which leads elsewhere.
    """
    known = work.store.aliases() if known is None else known
    for alias in aliases:
        if known.get(alias, physical) != physical:
            raise RefusedError(
                f"{alias} is a name that qmigrate creates itself, but an alias of {known[alias]} has it: it was "
                "left unchanged",
                hint="the same command uses the next number; better rename that alias",
            )
    try:
        for alias in aliases:
            work.store.create_alias(alias, physical)
        confirm(work)
    except LeaseHeldError:
        # A process that has taken over has looked for them already.
        for alias in aliases:
            work.store.drop_alias(alias)
        raise
    _remove_late(work, known)


def _remove_late(work: Work, known: Mapping[str, str]) -> None:
    """Remove what an earlier holder had sent, and what came when no process of it was there any more.

    None of these is used: its holder would have had to confirm it. One of a run that goes on was removed before.
    """
    found = [(alias, OWN_ALIAS.match(alias), at) for alias, at in sorted(known.items())]
    earlier = [
        (as_own(alias), at)
        for alias, match, at in found
        if match is not None and match["physical"] == at and int(match["epoch"]) < work.lease.epoch
    ]
    mine = {row.physical for row in work.lease.ledger.generations(work.collection)} if earlier else set()
    for alias, at in earlier:
        if at in mine:
            work.store.drop_alias(alias)


def confirm(work: Work) -> None:
    """A ledger write that only the present holder can make.

    Raises:
        LeaseHeldError: another holder has taken over.
    """
    work.lease.renew()


def refuse_begun(work: Work, physical: str | None) -> None:
    """Nothing serves, and nothing is built in, a generation whose deletion has begun: the request may be on its way.

    Raises:
        RepairNeededError: its deletion has begun.
    """
    row = work.generation(physical)
    if row is not None and row.state == DELETING:
        raise RepairNeededError(
            f"the deletion of {physical} has begun and can only be finished, so it can't serve {work.collection} again",
            hint=f"qmigrate abort {quote(work.collection)}, then "
            f"qmigrate gc {quote(work.collection)} finishes the deletion",
        )


def refuse_hidden(
    work: Work, names: Sequence[str], *, apart_from: Sequence[str | None] = (), seen: Names | None = None
) -> set[str]:
    """Stop before another client's name is taken: a server lets an alias hide a collection without an error.

    Args:
        names: that are about to become aliases of a generation.
        apart_from: those that are seen to in another way: a plain collection that makes room.
        seen: what the server has, where that has just been read.

    Returns:
        Those of the names that nothing has.

    Raises:
        RefusedError: a collection has one of them, or it is where another collection under management is served.
    """
    if not names:
        return set()
    known, present = seen or look(work)
    views = work.lease.ledger.collections()
    mine = {row.physical for row in work.lease.ledger.generations(work.collection)}
    for name in names:
        if name in apart_from:
            continue
        if name in present and name not in known and not _is_own_plain(work, name):
            raise RefusedError(
                f"{name} is to become an alias of {work.collection}, but there is a collection of that name, which it "
                "would hide",
                hint=f"the collection may be another client's: give one of the two another name; an unfinished run is "
                f"ended by qmigrate abort {quote(work.collection)}",
            )
        view = views.get(name) if name != work.collection else None
        if view is not None and view.physical is not None and known.get(name) not in (None, *mine):
            raise RefusedError(
                f"{name} is to become an alias of {work.collection}, but it is a collection under management itself, "
                f"on {known[name]}: its clients would get the points of {work.collection}",
                hint=f"give the alias another name; or drop {name} first, in a revision of its own",
            )
    return set(names).difference(known, present)


def _is_own_plain(work: Work, name: str) -> bool:
    """Whether a collection is the plain one of the logical name, which makes room for its alias on purpose."""
    row = work.generation(name) if name == work.collection else None
    return row is not None and row.state != "gone" and is_same(work, name)


def swap(work: Work, target: str, names: Sequence[str]) -> None:
    """Point every name to `target` in one request, which fails completely once a later holder took over.

    Where `target` is the plain collection of a name, that name's alias is removed instead: it comes to light again.

    Raises:
        NotFoundError: our own aliases are gone.
        RefusedError: a name belongs to another client; nothing was moved.
        RepairNeededError: another client made a collection of one of the names in that very moment.
    """
    refuse_begun(work, target)
    # Load-bearing: the last look before the request that may hide a collection, or take a name that was given away.
    seen = look(work)
    free = refuse_hidden(work, names, apart_from=(target,), seen=seen)
    pairs = own_pairs(work, target, names, seen.aliases)
    work.store.rename_aliases(pairs, [name for name in names if name == target])
    # Load-bearing: no request makes an alias only where no collection has its name, so that is seen afterwards.
    hidden = sorted(free.intersection(work.store.physical_names())) if free else []
    if hidden:
        raise RepairNeededError(
            f"another client made a collection {hidden[0]} in the moment that name became an alias of "
            f"{target}, which hides it now: what was written to it can't be seen",
            hint=f"create another alias for the collection {hidden[0]}, and check what is in it; qmigrate "
            "upgrade continues this run",
        )


def read_back(work: Work, names: Sequence[str], target: str | None) -> None:
    """Wait until every node shows every name on the target.

    Raises:
        StoreError: one of them doesn't in time.
    """
    deadline = time.monotonic() + max(READ_BACK, work.store.request_timeout)
    while True:
        # Load-bearing: a node that is behind sends clients elsewhere until it shows the name too.
        nodes = work.store.aliases_of_nodes()
        if all(_shows(aliases, name, target) for aliases in nodes for name in names):
            return
        if time.monotonic() > deadline:
            raise StoreError(
                f"not every node shows {work.collection} on {target} yet",
                hint="run the same command again: it continues from here",
            )
        work.tick()
        time.sleep(0.02)


def _shows(aliases: Mapping[str, str], name: str, target: str | None) -> bool:
    """Whether a node has the name on the target: by an alias, or by none where the target has that very name."""
    return aliases.get(name) == (None if name == target else target)


def own_pairs(
    work: Work, target: str, names: Sequence[str], known: Mapping[str, str] | None = None
) -> list[tuple[EpochAlias, str]]:
    """Own aliases of `target`, made now, and what each is to be renamed to; every one of them must still be there.

    Args:
        known: all aliases, where they have just been read.

    Raises:
        LeaseHeldError: another holder has taken over.
    """
    epoch = work.lease.epoch
    made = [own_alias(target, epoch, position) for position in range(len(names))]
    make(work, made, target, known)
    # The plain collection needs no alias: its own is only moved aside, to prove that it was still there.
    aside = [own_alias(target, epoch, len(names) + position) for position in range(len(names))]
    return [(old, new if name == target else name) for old, new, name in zip(made, aside, names, strict=True)]


def revoke_earlier(work: Work, physicals: Sequence[str], *, foreign: bool = False) -> None:
    """Remove the aliases of earlier epochs, then wait until no request sent through them can still land.

    Args:
        foreign: see :func:`remove_earlier`.
    """
    remove_earlier(work, physicals, foreign=foreign)
    await_late(work)


def remove_earlier(
    work: Work,
    physicals: Sequence[str],
    *,
    foreign: bool = False,
    in_order: bool = False,
    within: float | None = None,
) -> int:
    """Remove the aliases of earlier epochs; what was sent through them before may land for a while: :func:`await_late`.

    Only the executor calls it, which waits before the first phase that a late request could harm. What else takes over
    waits at once: :func:`revoke_earlier`.

    Args:
        in_order: the holder before has left none of either, see :func:`leave_in_order`: nothing is waited for then,
            unless one of its aliases is there nevertheless.
        foreign: those of later epochs too: the epochs of another ledger say nothing. Else such an alias is that of
            the process that has taken over from this one.
        within: seconds that a request of theirs may take; None for the longest request time.

    Returns:
        How many aliases were removed.
    """
    confirm(work)
    mine = work.lease.epoch
    found = [(alias, int(match["epoch"])) for alias, match in _own_aliases(work, physicals)]
    stale = [alias for alias, epoch in found if epoch < mine or (foreign and epoch != mine)]
    for alias in stale:
        work.store.drop_alias(alias)
    if not in_order or stale:
        # From now on: a worker of the dead holder may have used its alias to the last.
        work.late_until = time.monotonic() + (work.store.request_timeout if within is None else within)
        work.left_behind = bool(stale)
    return len(stale)


def late_for(work: Work) -> float:
    """Seconds for which a request of an earlier holder may still land; 0 where none can."""
    return max(0.0, work.late_until - time.monotonic())


def await_late(work: Work) -> None:
    """Wait until no request of an earlier holder can land any more, for what is left of the longest request time."""
    left = late_for(work)
    if left > 0 and work.left_behind:
        work.left_behind = False
        work.progress.say(
            f"{work.collection}: waiting {math.ceil(left)} s until no request of the interrupted run can still arrive"
        )
    while (left := late_for(work)) > 0:
        work.tick()
        time.sleep(min(0.1, left))


def leave_in_order(work: Work, physicals: Sequence[str]) -> None:
    """After a stop at a checkpoint: no request of ours is under way any more and no alias is left, which is recorded.

    Then the next process needs to wait for nothing. Where the outcome of a request is unknown, or workers have sent
    some, nothing is recorded, and the next holder waits the longest request time as after a crash. Nor where requests
    of the holder before may still land: that one was not waited for yet.
    """
    if not work.phase or work.delegated or late_for(work) or not work.store.all_answered():
        return
    release(work, physicals)
    work.note(StoppedInOrder(work.lease.epoch))


def was_left_in_order(run: OpenRun) -> bool:
    """Whether the last holder of a run has left it so: no process has worked on it since."""
    newest = max((record.epoch for record in run.records), default=None)
    last = (record for record in run.records if record.epoch == newest)
    return any(loaded(StoppedInOrder, record.facts).stopped_in_order == newest for record in last)


def release(work: Work, physicals: Sequence[str | None]) -> None:
    """Remove the own aliases of these generations, but those of a holder that came later."""
    names = [name for name in physicals if name]
    for alias, match in _own_aliases(work, names):
        if int(match["epoch"]) <= work.lease.epoch:
            work.store.drop_alias(alias)


def _own_aliases(work: Work, physicals: Sequence[str]) -> list[tuple[EpochAlias, re.Match[str]]]:
    found = []
    # Load-bearing: what an earlier holder has made, or a failed request of ours, stands nowhere else.
    for alias, physical in work.store.aliases().items():
        match = OWN_ALIAS.match(alias)
        # One of such a name that leads elsewhere is an application's.
        if match and match["physical"] == physical and physical in physicals:
            found.append((as_own(alias), match))
    return found
