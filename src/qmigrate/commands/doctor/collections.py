"""The collections: ownership, health, strict mode, settings, and what applications must know of their names."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from qmigrate.commands.doctor.patient import Patient
from qmigrate.commands.doctor.words import some
from qmigrate.commands.inline import files_of, with_inline
from qmigrate.commands.results import Check
from qmigrate.errors import QmigrateError
from qmigrate.model.state import LiveCollection
from qmigrate.model.words import counted, quote
from qmigrate.observe import check_hidden_name, check_ownership, hidden_on_several
from qmigrate.planner import check_checksums

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


def recorded(patient: Patient) -> Iterator[Check]:
    """Files, ledger and Qdrant agree."""
    known = with_inline(patient.revisions(), patient.ledger())
    check_checksums(files_of(known), patient.ledger().applied_checksums())
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
    yield Check("recorded state", True, f"{counted(right, 'collection')} as the ledger has it")
    if unmanaged:
        detail = f"{counted(len(unmanaged), 'collection')} not under management: {some(unmanaged)}"
        hint = f"qmigrate adopt {quote(unmanaged[0])}" if len(unmanaged) == 1 else "qmigrate adopt 'glob'"
        yield Check("unmanaged", None, detail, hint, facts={"names": unmanaged})
    if foreign:
        detail = f"{counted(len(foreign), 'collection')} under management of another ledger: {some(foreign)}"
        yield Check("foreign", None, detail, "another application's; nothing to do", facts={"names": foreign})


def health(patient: Patient) -> Iterator[Check]:
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


def transfers(patient: Patient) -> Iterator[Check]:
    """Shards that move from node to node, and snapshots under way."""
    for name, one in sorted(patient.stored().items()):
        if one.transfers:
            detail = f"shards are moving: {some(one.transfers)}"
            yield Check(f"transfers of {name}", None, detail, "migrate it when that is done", warns=True)
        if one.snapshots_running:
            detail = f"{counted(one.snapshots_running, 'snapshot')} being made or recovered"
            yield Check(f"snapshots of {name}", None, detail)


def strict_mode(patient: Patient) -> Iterator[Check]:
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


def unknown(patient: Patient) -> Iterator[Check]:
    """Settings that this version doesn't know, and that a rebuild would lose."""
    for name, one in sorted(patient.used().items()):
        if one.unknown:
            detail = f"settings that this qmigrate doesn't know and can't carry: {some(one.unknown)}; it is not rebuilt"
            yield Check(f"settings of {name}", None, detail, "update qmigrate", warns=True)


def names(patient: Patient) -> Iterator[Check]:
    """What an application must know once a name is an alias."""
    managed = [state for state in patient.world().collections.values() if state.managed]
    became = sorted(state.name for state in managed if state.kind == "alias")
    plain = sorted(state.name for state in managed if state.kind == "plain")
    if became:
        detail = (
            f"{some(became)}: {'an alias' if len(became) == 1 else 'aliases'}; get_collections doesn't list "
            f"{'it' if len(became) == 1 else 'them'}, and create_collection on such a name fails"
        )
        hint = "an application that creates what it doesn't see calls qmigrate.ensure(client, name) instead"
        yield Check("aliases", None, detail, hint, facts={"names": became})
    if plain:
        detail = f"{some(plain)}: under a plain name, which becomes an alias with the first rebuild"
        hint = "prepare applications that create what they don't see: qmigrate.ensure(client, name)"
        yield Check("plain names", None, detail, hint, facts={"names": plain})


def shadowed(patient: Patient) -> Iterator[Check]:
    """Plain collections that an alias of their name hides, and what is left of such a time."""
    physical, aliases = set(patient.physical()), patient.aliases()
    hidden = sorted(alias for alias, target in aliases.items() if alias in physical and target != alias)
    if hidden and patient.store().capabilities.several:
        stop = hidden_on_several(hidden[0], patient.store().capabilities)
        facts = {"names": hidden, "peers": patient.store().capabilities.peers}
        yield Check("shadowed names", False, f"{some(hidden)}: {stop.message}", stop.hint, stop.exit_code, facts=facts)
    elif hidden:
        detail = f"{some(hidden)}: an alias hides the plain collection of its name, which no Qdrant documents"
        hint = "qmigrate gc before you upgrade Qdrant"
        yield Check("shadowed names", None, detail, hint, warns=True, facts={"names": hidden})
