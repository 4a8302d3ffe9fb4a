"""What an interrupted or lost run may have left behind, and which command takes care of it. It removes nothing."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import UTC, datetime

from qmigrate.commands.doctor.patient import Patient
from qmigrate.commands.doctor.words import some
from qmigrate.commands.results import Check
from qmigrate.model.names import GENERATION, old_alias
from qmigrate.model.state import DELETING, CollectionState, Generation, LiveCollection
from qmigrate.model.words import counted, quote
from qmigrate.planner import leftovers

REPAIR = "qmigrate repair --leftovers"


def own_aliases(patient: Patient) -> Iterator[Check]:
    """Aliases of lease holders that are gone."""
    ledger = patient.ledger()
    open_runs = {run.job.collection for run in ledger.open_runs()}
    found = leftovers.own_aliases(patient.aliases(), ledger.leases(), open_runs)
    by_state: dict[str, list[str]] = {}
    live, ours = patient.live(), (None, patient.world().ledger_id)
    for one in found:
        seal = (live[one.physical].seal if one.physical in live else None) or {}
        state = one.state if seal.get("ledger") in ours else "foreign"
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


def _ways_to_nothing(patient: Patient, open_runs: set[str]) -> Iterator[Check]:
    aliases = patient.aliases()
    for alias, target in sorted(aliases.items()):
        if alias == old_alias(target) and target not in aliases and target not in open_runs:
            detail = f"it leads to {target}, which no alias hides any more"
            yield Check(f"alias {alias}", None, detail, "drop it when no application uses that name")


def probes(patient: Patient) -> Iterator[Check]:
    """Collections and aliases that a probe of the server has not removed."""
    ended, other = leftovers.probes({*patient.physical(), *patient.aliases()}, time.time())
    if ended:
        detail = f"{counted(len(ended), 'name')} of a probe that was interrupted: {some(ended)}"
        yield Check("probes", None, detail, REPAIR, warns=True, facts={"names": ended})
    if other:
        detail = f"{counted(len(other), 'name')} of a probe that may be running: {some(other)}"
        yield Check("probes now", None, detail, "in a few minutes again: qmigrate doctor", facts={"names": other})


def fences(patient: Patient) -> Iterator[Check]:
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
            detail = f"{state.physical} takes one write a minute and shard ({by}), and no process works on it"
            hint = "qmigrate upgrade lifts it first" if recorded else "raise write_rate_limit where it was set"
            yield Check(f"fence of {name}", False, detail, hint, 7, facts=facts)
        elif recorded and not patient.local:
            detail = f"the ledger has {state.physical} as fenced, but it takes writes"
            yield Check(f"fence of {name}", None, detail, facts=facts)


def generations(patient: Patient) -> Iterator[Check]:
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


def _is_ours(patient: Patient, name: str) -> bool:
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


def _unexplained(patient: Patient, physical: str, one: LiveCollection) -> Check:
    seal = one.seal or {}
    owner = seal.get("ledger")
    match = GENERATION.match(physical)
    name = match["name"] if match else physical
    facts = {"seal": dict(seal), "points": one.points}
    if owner == patient.world().ledger_id and owner:
        row = next((row for row in patient.ledger().generations(name) if row.physical == physical), None)
        if row is not None:
            return Check(f"generation {physical}", None, f"of {name}, which was dropped ({row.state})", "qmigrate gc")
        detail = "sealed by this ledger, but neither a run nor a row of the ledger explains it"
        hint = "was the ledger restored from a backup? If nothing needs it, delete it by hand"
        return Check(f"shadow {physical}", None, detail, hint, warns=True, facts=facts)
    whose = f"sealed by another ledger ({owner})" if owner else "named like a generation, but without a seal"
    hint = "point ledger.url at the database that recorded it, or leave it to its owner"
    return Check(f"shadow {physical}", None, whose, hint, warns=owner is not None, facts=facts)
