"""Which of qmigrate's own aliases and probes are not needed any more. Pure: from names, leases and runs."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from qmigrate.ledger import LeaseRow
from qmigrate.model.names import GENERATION, OWN_ALIAS, PROBE_PREFIX

#: Seconds after which a probe has ended for certain, clocks that differ included.
LONGEST_PROBE = 600
_PROBE = re.compile(rf"^{PROBE_PREFIX}(?P<began>[0-9a-f]{{8,9}})_[0-9a-f]+_[a-z]$")


@dataclass(frozen=True, slots=True)
class OwnAlias:
    """An alias that only a lease holder uses.

    Attributes:
        collection: the logical name that it was made for.
        state: ``in use`` (its lease is held) · ``kept`` (an unfinished run resumes from it, or is undone) ·
            ``left`` (of a holder that is gone; it is not needed) · ``foreign`` (no lease of this ledger made it).
    """

    alias: str
    physical: str
    collection: str
    state: str


def own_aliases(
    aliases: Mapping[str, str], leases: Iterable[LeaseRow], open_runs: Collection[str]
) -> list[OwnAlias]:
    """Every own alias, sorted, with what is known of its holder.

    Args:
        aliases: alias -> physical name.
        leases: every row of this ledger.
        open_runs: logical names with an unfinished run.
    """
    known = {row.name: row for row in leases}
    found = []
    for alias, physical in sorted(aliases.items()):
        match = OWN_ALIAS.match(alias)
        if match is None or match["physical"] != physical:
            # An alias such as model__e5 is an application's own when it leads elsewhere.
            continue
        collection = collection_of(physical)
        state = _state(known.get(collection), int(match["epoch"]), collection in open_runs)
        found.append(OwnAlias(alias, physical, collection, state))
    return found


def collection_of(physical: str) -> str:
    """The logical name that a physical one belongs to: a generation's, or that of a plain collection."""
    match = GENERATION.match(physical)
    return match["name"] if match else physical


def _state(lease: LeaseRow | None, epoch: int, unfinished: bool) -> str:
    if lease is None or epoch > lease.epoch:
        return "foreign"
    if not lease.expired:
        return "in use"
    return "kept" if unfinished else "left"


def probes(names: Iterable[str], now: float) -> tuple[list[str], list[str]]:
    """Collections and aliases of probes, which are made and removed again within one command.

    Args:
        names: of collections and aliases.
        now: seconds since 1970; the names say when their probe began.

    Returns:
        Those of a probe that has ended, and those that may be in use or don't say when they were made; sorted.
    """
    ended: list[str] = []
    other: list[str] = []
    for name in sorted(names):
        if name.startswith(PROBE_PREFIX):
            found = _PROBE.match(name)
            old = found is not None and now - int(found["began"], 16) > LONGEST_PROBE
            (ended if old else other).append(name)
    return ended, other
