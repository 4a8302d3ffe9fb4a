"""The collections: ownership, health, strict mode, settings, and what applications must know of their names."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

from qmigrate.commands.doctor.deployment import Deployment, some
from qmigrate.commands.results import Check
from qmigrate.errors import DriftError, QmigrateError
from qmigrate.model.names import GENERATION, old_alias
from qmigrate.model.state import DELETING, CollectionState, Generation, LiveCollection, marks_of
from qmigrate.observe import check_hidden_name, check_ownership, hidden_on_several
from qmigrate.planner import leftovers
from qmigrate.text import counted, quote

#: Limits of strict mode that slow an upgrade down, and below what.
SLOWING: Mapping[str, tuple[int, str]] = {
    "max_query_limit": (100, "points are read in pages of at most {value}"),
    "upsert_max_batchsize": (100, "points are written in batches of at most {value}"),
    "read_rate_limit": (600, "at most {value} reads a minute: a copy mostly waits"),
    "write_rate_limit": (600, "at most {value} writes a minute: a copy mostly waits"),
}
#: Limits that the next generation takes over, and may run into.
BOUNDING: Mapping[str, str] = {
    "max_collection_vector_size_bytes": "a new or larger vector may exceed it",
    "max_collection_payload_size_bytes": "a payload that grows may exceed it",
    "max_points_count": "the copy holds as many points as the original",
    "max_payload_index_count": "a new payload index may exceed it",
    "max_resident_memory_percent": "writes of a copy are refused above it",
    "max_disk_usage_percent": "writes of a copy are refused above it",
}


def recorded(patient: Deployment) -> Iterator[Check]:
    """Files, ledger and Qdrant agree."""
    known = patient.revisions()
    # What can't be used is reported with the files.
    changed = [one.problem for one in known.order() if isinstance(one.problem, DriftError)]
    for drift in changed:
        yield Check("recorded state", False, drift.message, drift.hint, drift.exit_code)
    world = patient.world()
    right, unmanaged, foreign = 0, [], []
    named = {one.pattern for revision in known.order() for one in revision.operations if not one.is_glob}
    for name, state in world.collections.items():
        if world.is_foreign(name) and name not in named:
            foreign.append(name)
            continue
        try:
            check_ownership(world, name)
            check_hidden_name(world, name)
        except QmigrateError as error:
            yield Check(f"collection {name}", False, error.message, error.hint, error.exit_code)
            continue
        right += state.managed
        # One line for a collection, not one for each of its names.
        if not state.managed and state.kind != "absent" and state.adopted_as == name:
            unmanaged.append(name)
    if not changed:
        yield Check("recorded state", True, f"{counted(right, 'collection')} as the ledger has it")
    if unmanaged:
        detail = f"{counted(len(unmanaged), 'collection')} not under management: {some(unmanaged)}"
        hint = f"qmigrate adopt {quote(unmanaged[0])}"
        if len(unmanaged) > 1:
            hint += "; several at once by a glob, all of them: qmigrate adopt '*'"
        yield Check("unmanaged", None, detail, hint, facts={"names": unmanaged})
    if foreign:
        detail = f"{counted(len(foreign), 'collection')} under management of another ledger: {some(foreign)}"
        yield Check("foreign", None, detail, "another application's; nothing to do", facts={"names": foreign})


def health(patient: Deployment) -> Iterator[Check]:
    """Status, optimizer, replicas and visibility of every collection."""
    live = patient.live()
    well = 0
    busy = []
    for name, one in sorted(live.items()):
        found = _trouble(one)
        well += found is None
        if found is not None:
            yield found
        elif one.status != "green":
            busy.append(f"{name} ({one.status})")
    points = sum(one.points for one in patient.used().values())
    detail = f"{well:,} of {counted(len(live), 'collection')} well, about {counted(points, 'point')}"
    yield Check("health", True, detail, facts={"well": well, "collections": len(live)})
    if busy:
        detail = f"optimizing: {some(busy)}; an upgrade waits for it (limits.settle)"
        yield Check("optimizing", None, detail, facts={"names": busy})


def _trouble(one: LiveCollection) -> Check | None:
    name = f"collection {one.physical}"
    if one.status == "red" or one.problem:
        hint = "free disk or RAM of the server, then make the optimizer try again: any write does"
        return Check(name, False, f"{one.status}: {one.problem or 'no reason given'}", hint, 9)
    if one.unread is not None:
        return Check(name, False, f"not every shard can be asked: {one.unread}", "bring its nodes back", 9)
    if one.inactive:
        detail = f"not every replica is active: {some(one.inactive)}"
        hint = "wait until the cluster has recovered; an upgrade is refused until then"
        return Check(name, None, detail, hint, warns=True, facts={"replicas": list(one.inactive)})
    if one.hidden or one.prevents_unoptimized:
        detail = f"it hides points that are not optimized yet ({one.hidden:,} now): a copy would miss them"
        hint = "set prevent_unoptimized to false in its optimizers_config, and wait until it is green"
        return Check(name, None, detail, hint, warns=True)
    if one.custom_sharding:
        return Check(name, None, "custom sharding: it can't be rebuilt yet, only changed in place", warns=True)
    return None


def transfers(patient: Deployment) -> Iterator[Check]:
    """Shards that move from node to node, and snapshots under way."""
    for name, one in sorted(patient.stored().items()):
        if one.transfers:
            detail = f"shards are moving: {some(one.transfers)}"
            yield Check(f"transfers of {name}", None, detail, "migrate it when that is done", warns=True)
        if one.snapshots_running:
            detail = f"{counted(one.snapshots_running, 'snapshot')} being made or recovered"
            yield Check(f"snapshots of {name}", None, detail)


def strict_mode(patient: Deployment) -> Iterator[Check]:
    """Limits that would hurt an upgrade, by field; equal ones of many collections in one line."""
    found: dict[tuple[str, bool], list[str]] = {}
    limited = 0
    for name, one in patient.used().items():
        config = one.schema.config.get("strict_mode_config") or {}
        if not config.get("enabled"):
            continue
        limited += 1
        for finding in _limits(config):
            found.setdefault(finding, []).append(name)
    for (detail, warns), names in found.items():
        field = detail.partition(" ")[0]
        shown = f"{detail}: {some(names)}"
        hint = f"raise {field} with op.UpdateCollection(strict_mode_config=…) before a rebuild" if warns else None
        yield Check(f"strict mode {field}", None, shown, hint, warns=warns, facts={"collections": names})
    yield Check("strict mode", True, f"on for {limited:,} of {counted(len(patient.used()), 'collection')}")


def _limits(config: Mapping[str, Any]) -> Iterator[tuple[str, bool]]:
    """(what it means, whether it is in the way); the field comes first."""
    for field, (enough, words) in SLOWING.items():
        value = config.get(field)
        if not isinstance(value, int) or value >= enough or (field == "write_rate_limit" and value == 1):
            # One write a minute is a fence; leftovers reports it.
            continue
        zero = value == 0 and not field.endswith("rate_limit")
        yield f"{field} = {value}: {'it refuses every one' if zero else words.format(value=value)}", True
    for field, words in BOUNDING.items():
        if isinstance(config.get(field), int):
            yield f"{field} = {config[field]:,}: {words}", False
    if config.get("search_allow_exact") is False:
        yield "search_allow_exact = false: points are counted by reading their ids", False
    if config.get("unindexed_filtering_retrieve") is False:
        yield "unindexed_filtering_retrieve = false: missing fields show while filling, not before", False


def unknown(patient: Deployment) -> Iterator[Check]:
    """Settings that this version doesn't know, and that a rebuild would lose."""
    for name, one in sorted(patient.used().items()):
        if one.unknown:
            detail = f"settings that this qmigrate doesn't know and can't carry: {some(one.unknown)}; it is not rebuilt"
            yield Check(f"settings of {name}", None, detail, "update qmigrate", warns=True)


def names(patient: Deployment) -> Iterator[Check]:
    """What an application must know once a name is an alias."""
    managed = [state for state in patient.world().collections.values() if state.managed]
    became = sorted(state.name for state in managed if state.kind == "alias")
    plain = sorted(state.name for state in managed if state.kind == "plain")
    if became:
        detail = (
            f"{some(became)}: {'an alias' if len(became) == 1 else 'aliases'}; {_listed(patient, became)}, and "
            "create_collection on such a name fails"
        )
        hint = "an application that creates what it doesn't see calls qmigrate.ensure(client, name) instead"
        yield Check("aliases", None, detail, hint, facts={"names": became})
    if plain:
        detail = f"{some(plain)}: under a plain name, which becomes an alias with the first rebuild"
        hint = "prepare applications that create what they don't see: qmigrate.ensure(client, name)"
        yield Check("plain names", None, detail, hint, facts={"names": plain})


def _listed(patient: Deployment, became: list[str]) -> str:
    """Whether `get_collections` lists names that are aliases: those that hide the plain collection of their name."""
    hidden = sorted(set(became).intersection(patient.physical()))
    if not hidden:
        return f"get_collections doesn't list {'it' if len(became) == 1 else 'them'}"
    if hidden == became:
        it, hides = ("it", "it hides") if len(became) == 1 else ("them", "they hide")
        return f"get_collections lists {it} until the plain collection that {hides} is deleted (gc)"
    rest = [name for name in became if name not in hidden]
    return f"get_collections doesn't list {some(rest)}, and lists {some(hidden)} until gc deletes what is hidden there"


def shadowed(patient: Deployment) -> Iterator[Check]:
    """Plain collections that an alias of their name hides, and what is left of such a time."""
    physical, aliases = set(patient.physical()), patient.aliases()
    hidden = sorted(alias for alias, target in aliases.items() if alias in physical and target != alias)
    if hidden and patient.store().capabilities.several:
        stop = hidden_on_several(hidden[0], patient.store().capabilities)
        facts = {"names": hidden, "peers": patient.store().capabilities.peers}
        yield Check("shadowed names", False, f"{some(hidden)}: {stop.message}", stop.hint, stop.exit_code, facts=facts)
    elif hidden:
        detail = (
            f"{some(hidden)}: an alias hides the plain collection of its name, which no Qdrant documents: another "
            "version of Qdrant may treat it differently; qmigrate upgrade is not affected"
        )
        # Without --now it would wait for the holdover, and go with every other way back.
        commands = [f"qmigrate gc {quote(name)} --now --generation {quote(name)}" for name in hidden]
        hint = f"before you upgrade Qdrant itself: {some(commands)} (no way back to it afterwards)"
        yield Check("shadowed names", None, detail, hint, warns=True, facts={"names": hidden})


REPAIR = "qmigrate repair --leftovers"


def own_aliases(patient: Deployment) -> Iterator[Check]:
    """Aliases of lease holders that are gone."""
    ledger = patient.ledger()
    open_runs = {run.job.collection for run in ledger.open_runs()}
    found = leftovers.own_aliases(patient.aliases(), ledger.leases(), open_runs)
    by_state: dict[str, list[str]] = {}
    live, ours = patient.live(), (None, patient.world().ledger_id)
    for one in found:
        state = one.state if marks_of(live.get(one.physical)).ledger in ours else "foreign"
        by_state.setdefault(state, []).append(one.alias)
    left, foreign = by_state.get("left", []), by_state.get("foreign", [])
    if left:
        detail = f"{counted(len(left), 'alias', 'aliases')} of a process that is gone: {some(left)}"
        yield Check("own aliases", None, detail, REPAIR, warns=True, facts={"names": left})
    if foreign:
        detail = f"named like own aliases, but no lease of this ledger made them: {some(foreign)}"
        hint = "of another ledger, or an application's own: leave them, or drop them by hand"
        yield Check("foreign aliases", None, detail, hint, facts={"names": foreign})
    yield from _ways_to_nothing(patient, open_runs)


def _ways_to_nothing(patient: Deployment, open_runs: set[str]) -> Iterator[Check]:
    aliases = patient.aliases()
    for alias, target in sorted(aliases.items()):
        if alias == old_alias(target) and target not in aliases and target not in open_runs:
            detail = f"it leads to {target}, which no alias hides any more"
            yield Check(f"alias {alias}", None, detail, "drop it when no application uses that name")


def probes(patient: Deployment) -> Iterator[Check]:
    """Collections and aliases that a probe of the server has not removed."""
    ended, other = leftovers.probes({*patient.physical(), *patient.aliases()}, time.time())
    if ended:
        detail = f"{counted(len(ended), 'name')} of a probe that was interrupted: {some(ended)}"
        yield Check("probes", None, detail, REPAIR, warns=True, facts={"names": ended})
    if other:
        detail = f"{counted(len(other), 'name')} of a probe that may be running: {some(other)}"
        yield Check("probes now", None, detail, "in a few minutes again: qmigrate doctor", facts={"names": other})


def fences(patient: Deployment) -> Iterator[Check]:
    """Live collections that take no writes although no process works on them."""
    for name, state in sorted(patient.world().collections.items()):
        if state.live is None or (state.open_run is not None and state.open_run.leased):
            continue
        row = state.generation(state.physical)
        recorded = row is not None and row.fence is not None
        config = state.live.schema.config.get("strict_mode_config") or {}
        limited = bool(config.get("enabled")) and config.get("write_rate_limit") == 1
        facts = {"recorded": recorded, "strict_mode": dict(config), "prior": dict(row.fence or {}) if row else None}
        if limited:
            by = "qmigrate has fenced it" if recorded else "another client has limited it"
            detail = f"{state.physical} takes one write a minute and shard ({by}), and no process is working on it"
            hint = "qmigrate upgrade lifts it first" if recorded else "raise write_rate_limit where it was set"
            yield Check(f"fence of {name}", False, detail, hint, 7, facts=facts)
        elif recorded and not patient.local:
            detail = f"the ledger has {state.physical} as fenced, but it takes writes"
            yield Check(f"fence of {name}", None, detail, facts=facts)


def generations(patient: Deployment) -> Iterator[Check]:
    """Generations that the ledger has and Qdrant hasn't, and the other way round."""
    world, live = patient.world(), patient.live()
    known: set[str] = set()
    late: list[str] = []
    for name, state in sorted(world.collections.items()):
        known.update(row.physical for row in state.generations)
        known.update(_targets(state))
        for row in state.generations:
            yield from _row(name, state, row, frozenset(live))
            if row.physical in live and _is_past(row):
                late.append(row.physical)
    if late:
        detail = f"{counted(len(late), 'generation')} past the holdover: {some(late)}"
        yield Check("holdover", None, detail, "qmigrate gc", facts={"names": late})
    served = {state.physical for state in world.collections.values()}
    foreign: list[str] = []
    for physical, one in sorted(live.items()):
        match = GENERATION.match(physical)
        if match and physical not in known and physical not in served:
            if one.foreign_owner(world.ledger_id) is not None and not _is_ours(patient, match["name"]):
                foreign.append(physical)
                continue
            yield _unexplained(patient, physical, one)
    if foreign:
        detail = f"{counted(len(foreign), 'generation')} sealed by another ledger: {some(foreign)}"
        yield Check("foreign generations", None, detail, "another application's; leave them", facts={"names": foreign})


def _is_ours(patient: Deployment, name: str) -> bool:
    """Whether this ledger has had the name under management."""
    state = patient.world().collections.get(name)
    return (state is not None and state.managed) or bool(patient.ledger().generations(name))


def _is_past(row: Generation) -> bool:
    return row.state == "retired" and row.held_until is not None and row.held_until < datetime.now(UTC)


def _targets(state: CollectionState) -> set[str]:
    if state.open_run is None:
        return set()
    steps = state.open_run.job.steps
    return {str(name) for step in steps for name in (step.target, getattr(step, "source", None)) if name}


def _row(name: str, state: CollectionState, row: Generation, present: frozenset[str]) -> Iterator[Check]:
    there = row.physical in present
    if row.state == "retired" and not there:
        detail = f"the ledger keeps it as a way back for {name}, but it is not in Qdrant any more"
        look = f"qmigrate snapshot list {quote(name)} may have it"
        hint = f"qmigrate repair --vanished {quote(row.physical)} records that; {look}"
        if state.may_be_elsewhere(present):
            hint = f"is this the right Qdrant for this ledger? What serves {name} is not there either; {look}"
        yield Check(f"generation {row.physical}", None, detail, hint, warns=True)
    if row.state == DELETING and there and state.open_run is None:
        detail = f"the deletion of this generation of {name} has begun, and can only be finished"
        yield Check(f"generation {row.physical}", None, detail, f"qmigrate gc {quote(name)}", warns=True)
    if row.state == "building" and there and state.open_run is None:
        detail = f"it was being built for {name}, and no run continues it"
        yield Check(f"generation {row.physical}", None, detail, "qmigrate gc", warns=True)


def _unexplained(patient: Deployment, physical: str, one: LiveCollection) -> Check:
    owner = marks_of(one).ledger
    match = GENERATION.match(physical)
    name = match["name"] if match else physical
    facts = {"seal": dict(one.seal or {}), "points": one.points}
    if owner == patient.world().ledger_id and owner:
        row = next((row for row in patient.ledger().generations(name) if row.physical == physical), None)
        if row is not None:
            hint = f"qmigrate gc {quote(name)} --dry-run shows when it goes"
            return Check(f"generation {physical}", None, f"of {name}, which was dropped ({row.state})", hint)
        detail = "sealed by this ledger, but neither a run nor a row of the ledger explains it"
        hint = "was the ledger restored from a backup? If nothing needs it, delete it by hand"
        return Check(f"shadow {physical}", None, detail, hint, warns=True, facts=facts)
    whose = f"sealed by another ledger ({owner})" if owner else "named like a generation, but without a seal"
    hint = "point ledger.url at the database that recorded it, or leave it to its owner"
    return Check(f"shadow {physical}", None, whose, hint, warns=owner is not None, facts=facts)
