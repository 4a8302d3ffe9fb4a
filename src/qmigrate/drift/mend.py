"""The plan that makes a live schema the recorded one again, in place. Pure; it decides nothing about values."""

from __future__ import annotations

from collections.abc import Mapping

from qmigrate.drift.collection import LOST, expected_seal
from qmigrate.drift.schema import lacking_replicas, restoration
from qmigrate.drift.undeclared import effective
from qmigrate.errors import RefusedError
from qmigrate.model.plan import CollectionPlan, InPlace, Job, Plan
from qmigrate.model.schema import Change, CollectionSchema
from qmigrate.model.state import CollectionState, World
from qmigrate.model.words import quote


def plan_restoration(world: World, name: str) -> Plan:
    """One in-place step without a revision: the recorded schema again, and the seal.

    Raises:
        RefusedError: it isn't under management, is not where the ledger left it, has an unfinished run, or nothing of
            what differs can be restored in place.
    """
    state = world.collections.get(name)
    serving = next((row for row in state.generations if row.state == "live"), None) if state else None
    if state is None or serving is None or state.declared is None:
        raise RefusedError(f"{name} is not under management", hint="qmigrate status lists what is")
    if state.live is None or state.live.physical != serving.physical:
        raise RefusedError(
            f"{name} is not where the ledger left it ({serving.physical})", hint="qmigrate check says what to do"
        )
    if state.open_run is not None:
        raise RefusedError(f"a run of {name} is not finished", hint="qmigrate upgrade finishes it")
    local, version = world.capabilities.local, world.capabilities.version
    recorded = state.declared if local else effective(state, version, restorable=True) or state.declared
    found = restoration(recorded, state.live.schema, local=local)
    lacking = lacking_replicas(state.declared, state.live, world.capabilities.peers)
    if lacking is not None and all(change.name != lacking.name for change in found):
        found = (*found, lacking)
    chosen, left = _sorted(state.live.schema, found)
    if not chosen and left:
        raise RefusedError(
            f"nothing of {name} can be restored in place: {'; '.join(left)}",
            hint=f"accept it: qmigrate revision --from-drift --only {quote(name)}",
        )
    sealed = state.live.seal == {**(state.live.seal or {}), **expected_seal(state, serving, world.ledger_id)}
    if not chosen and sealed:
        return Plan("repair", (), ())
    step = InPlace((), serving.physical, chosen, "the recorded schema, made again on the live collection")
    return Plan("repair", (), (_planned(state, step),), notes=tuple(f"{name}: {line}" for line in left))


def _planned(state: CollectionState, step: InPlace) -> CollectionPlan:
    lines = tuple(change.describe() for change in step.changes) or ("write the seal again",)
    return CollectionPlan(Job(state.name, state.basis(), (step,)), lines, (step.reason,))


def _sorted(live: CollectionSchema, found: tuple[Change, ...]) -> tuple[tuple[Change, ...], list[str]]:
    """What is done, and what stays as it is, in words."""
    chosen, left = [], []
    for change in found:
        if change.kind == "alias.drop":
            # Nobody has said that it has to go, and somebody uses it.
            continue
        if change.kind in LOST:
            verb = "is missing, and its values are gone" if change.kind.endswith(".add") else "was added by hand"
            left.append(f"vector {change.name or '(unnamed)'} {verb}")
        elif not change.possible_in_place():
            left.append(f"{change.describe()} is not possible in place")
        else:
            chosen.append(_whole(change, live))
    return tuple(chosen), left


def _whole(change: Change, live: CollectionSchema) -> Change:
    """Metadata is replaced key by key: keys that nobody declared stay."""
    if change.kind != "config.set" or change.name != "metadata":
        return change
    kept: Mapping[str, object] = live.config.get("metadata") or {}
    return Change(change.kind, change.name, after={**kept, **change.after}, before=change.before)
