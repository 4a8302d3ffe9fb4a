"""Plans that make what is there the recorded state again: a schema, a name, a loss. Pure; no point is touched."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from qmigrate.drift.collection import LOST, expected_seal
from qmigrate.drift.schema import lacking_replicas, restoration
from qmigrate.drift.undeclared import effective
from qmigrate.errors import ForeignLedgerError, RefusedError, RepairNeededError, UnknownNameError
from qmigrate.model.names import unknown
from qmigrate.model.plan import REPAIRED, Closing, CollectionPlan, InPlace, Job, Plan, PutBack, RecordLoss, Step
from qmigrate.model.schema import Change, CollectionSchema
from qmigrate.model.state import CollectionState, Generation, World, marks_of
from qmigrate.observe import check_place, gone_back, is_earlier, is_later, lacks_seal
from qmigrate.text import quote


def plan_restoration(world: World, name: str) -> Plan:
    """One in-place step without a revision: the recorded schema again, and the seal.

    Raises:
        UnknownNameError: there is no such collection.
        RefusedError: it isn't under management, is not where the ledger left it, has an unfinished run, or nothing of
            what differs can be restored in place.
    """
    state = world.collections.get(name)
    serving = next((row for row in state.generations if row.state == "live"), None) if state else None
    if state is None or (state.kind == "absent" and not state.managed):
        raise unknown("collection", name, world.known - {name})
    if serving is None or state.declared is None:
        raise RefusedError(f"{name} is not under management", hint="qmigrate status lists what is")
    if state.live is None or state.live.physical != serving.physical:
        raise RefusedError(
            f"{name} is not where the ledger left it ({serving.physical})", hint="qmigrate check shows what to do"
        )
    if state.open_run is not None:
        raise RefusedError(f"a run of {name} is not finished", hint="qmigrate upgrade finishes it")
    local, version = world.capabilities.local, world.capabilities.version
    recorded = state.declared if local else effective(state, version, restorable=True) or state.declared
    found = restoration(recorded, state.live.schema, local=local)
    lacking = lacking_replicas(state.declared, state.live, world.capabilities.peers)
    if lacking is not None and all(change.name != lacking.name for change in found):
        found = (*found, lacking)
    foreign = _of_other_ledgers(world)
    chosen, left = _sorted(state.live.schema, [one for one in found if one.name not in foreign])
    left += [
        f"alias {one.name} leads to a collection of another ledger ({foreign[one.name]})"
        for one in found
        if one.kind == "alias.add" and one.name in foreign
    ]
    if not chosen and left:
        raise RefusedError(
            f"nothing of {name} can be restored in place: {'; '.join(left)}",
            hint=f"accept it: qmigrate revision --from-drift --only {quote(name)}",
        )
    sealed = replace(marks_of(state.live), version=None, run=None) == expected_seal(state, serving, world.ledger_id)
    if not chosen and sealed:
        return Plan("repair", (), ())
    step = InPlace((), serving.physical, chosen, "the recorded schema, restored on the live collection")
    return Plan("repair", (), (_planned(state, step),), notes=tuple(f"{name}: {line}" for line in left))


def plan_put_back(world: World, name: str) -> Plan:
    """The logical name on the generation that the ledger has as the live one; empty where it is there.

    Raises:
        UnknownNameError: the ledger has no such name.
        RefusedError: a run of it is not finished.
        RepairNeededError: that generation is gone, or a collection of another client has the name.
    """
    state, serving = _managed(world, name)
    # What a later state of this ledger has put there is never taken out of service, nor what an earlier one has in a
    # Qdrant that is of its time: what was written there may be nowhere else.
    there = state.live is not None and state.live.physical == serving.physical
    if there or is_later(world.ledger_id, state) or is_earlier(world.ledger_id, state):
        check_place(world, name)
    if there:
        return Plan(REPAIRED, (), ())
    if gone_back(world, state, serving.physical):
        check_place(world, name)
    if world.physical is not None and serving.physical not in world.physical:
        raise RepairNeededError(
            f"{serving.physical}, which served {name}, is not in Qdrant any more, so no name can be put back to it",
            hint=f"restore it: qmigrate snapshot list {quote(name)}, then "
            f"qmigrate snapshot restore {quote(name)} SNAPSHOT",
        )
    foreign = marks_of(state.live).ledger != world.ledger_id
    if state.kind == "plain" and (foreign or state.generation(name) is None):
        raise RepairNeededError(
            f"{name} is a collection that another client made while the name was away, and the ledger left the name on "
            f"{serving.physical}",
            hint=f"save what is in it and delete it, then qmigrate repair --name {quote(name)}",
        )
    left = f", and not to {state.physical} any more; what was written there stays there" if state.physical else ""
    step = PutBack(serving.physical, state.physical, "the name was moved or removed by hand")
    return _repair(state, step, f"point {name} to {serving.physical}{left}", declared=state.declared)


def plan_loss(world: World, name: str, physical: str) -> Plan:
    """Record that one generation is gone, and nothing else.

    Args:
        name: the logical name that it belongs to.
        physical: its own.

    Raises:
        RefusedError: it is there, it serves, or a run is not finished.
    """
    state = world.collections[name]
    _refuse_run(state)
    row = state.generation(physical)
    assert row is not None  # noqa: S101  the caller has found it in the ledger
    if world.physical is not None and physical in world.physical:
        raise RefusedError(
            f"{physical} is in Qdrant, so its loss can't be recorded",
            hint=f"qmigrate gc {quote(name)} shows what can go; where another client recreated it: save what is in "
            "it, remove it, then run this again",
        )
    if row.state != "live" and world.physical is not None and state.may_be_elsewhere(world.physical):
        serving = next(one.physical for one in state.generations if one.state == "live")
        raise RefusedError(
            f"neither {physical} nor {serving}, which serves {name}, is in this Qdrant: it may be another one than "
            "that of this ledger, and what is recorded as gone is no longer a way back",
            hint="qmigrate doctor shows both. Where it is the right one: first qmigrate repair --vanished "
            f"{quote(serving)}, then this again",
        )
    if row.state == "live" and state.live is not None:
        raise RefusedError(
            f"{physical} is what the ledger has for {name}, which leads to {state.physical} now",
            hint="qmigrate check shows what to do",
        )
    base = row.revision or "base"
    step, served = RecordLoss(physical, "it is not in Qdrant any more"), row.state == "live"
    meaning = f"which served {name}" if served else f"the way back to {base}"
    return _repair(state, step, f"{physical}, {meaning}, is gone", declared=None if served else state.declared)


def _of_other_ledgers(world: World) -> dict[str, str]:
    """Further alias -> the other ledger that has sealed the collection behind it."""
    found: dict[str, str] = {}
    for state in world.collections.values():
        owner = state.live.foreign_owner(world.ledger_id) if state.live is not None else None
        if state.live is not None and owner is not None:
            found |= dict.fromkeys((state.name, *state.live.schema.aliases), owner)
    return found


def _managed(world: World, name: str) -> tuple[CollectionState, Generation]:
    state = world.collections.get(name)
    serving = next((row for row in state.generations if row.state == "live"), None) if state else None
    if world.is_foreign(name):
        raise ForeignLedgerError(f"{name} is under management of another ledger", hint="qmigrate doctor shows both")
    if state is None or (state.kind == "absent" and not state.managed):
        raise unknown("collection", name, world.known - {name})
    if serving is None:
        raise UnknownNameError(f"the ledger has nothing that serves {name}", hint="qmigrate status lists what is there")
    _refuse_run(state)
    return state, serving


def _refuse_run(state: CollectionState) -> None:
    if state.open_run is not None:
        raise RefusedError(
            f"a {state.open_run.verb} of {state.name} is not finished",
            hint=f"qmigrate upgrade finishes it, qmigrate abort {quote(state.name)} undoes it",
        )


def _repair(state: CollectionState, step: Step, line: str, *, declared: CollectionSchema | None) -> Plan:
    """A job of one step that is recorded in the history, at the revision of the collection.

    Args:
        declared: the recorded schema from then on; None when nothing has the name any more.
    """
    newest = state.applied[-1] if state.applied else None
    revision, checksum = (newest.revision, newest.checksum) if newest else ("base", "")
    closing = Closing(0, revision, REPAIRED, checksum, declared, state.declared)
    job = Job(state.name, state.basis(), (step,), (closing,))
    return Plan(REPAIRED, (), (CollectionPlan(job, (line,), ()),))


def _planned(state: CollectionState, step: InPlace) -> CollectionPlan:
    lines = tuple(change.describe() for change in step.changes)
    if lacks_seal(state) and state.live is not None:
        lines += (f"seal {state.physical} again: its points, about {state.live.points:,}, count as what was proven",)
    lines = lines or ("write the seal again",)
    return CollectionPlan(Job(state.name, state.basis(), (step,)), lines, (step.reason,))


def _sorted(live: CollectionSchema, found: Sequence[Change]) -> tuple[tuple[Change, ...], list[str]]:
    """What is done, and what stays as it is, in words."""
    chosen, left = [], []
    for change in found:
        if change.kind == "alias.drop":
            # No revision says that it has to go, and an application may use it.
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
    """Metadata is replaced key by key: undeclared keys stay."""
    if change.kind != "config.set" or change.name != "metadata":
        return change
    kept: Mapping[str, object] = live.config.get("metadata") or {}
    return Change(change.kind, change.name, after={**kept, **change.after}, before=change.before)
