"""Own aliases (rule 2): a holder writes, fences and swaps only through aliases of its own lease epoch.

A later holder removes them first, so whatever an earlier one still sends is answered 404. It moves no logical name
but by :func:`swap`.
"""

from __future__ import annotations

import re
import time
from collections.abc import Sequence

from qmigrate.model.names import OWN_ALIAS
from qmigrate.steps.work import Work


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

    Raises:
        NotFoundError: our own aliases are gone.
    """
    pairs = []
    for position, name in enumerate(names):
        alias = f"{target}__e{work.lease.epoch}__{position}"
        work.store.create_alias(alias, target)
        pairs.append((alias, name))
    confirm(work)
    work.store.rename_aliases(pairs)


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
