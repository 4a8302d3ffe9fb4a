"""Retire: the only module that deletes a collection. It re-reads aliases first and spares what has one."""

from __future__ import annotations

from qmigrate.errors import RefusedError
from qmigrate.model.names import PROBE_PREFIX, is_internal, is_own_alias
from qmigrate.model.plan import Retire
from qmigrate.ports import Store
from qmigrate.steps.base import base_name
from qmigrate.steps.closing import close_retire
from qmigrate.steps.owned import check_same, release
from qmigrate.steps.shadow import is_over_and_there
from qmigrate.steps.superseded import drop_snapshot, refuse_last_copy
from qmigrate.steps.work import Facts, Phase, Work

#: Points that a probe may have written.
MOST_PROBE_POINTS = 10


def preflight(step: Retire, work: Work) -> Facts:
    """Only reads: nothing points to it, and it is ours."""
    _refuse_names(step, work)
    present = _refuse_foreign(step, work)
    refuse_last_copy(step, work)
    return {"present": present}


def delete(step: Retire, work: Work) -> Facts:
    """Own aliases away, names looked at once more, then the collection and its base."""
    release(work, [step.target])
    generation = work.generation(step.target)
    if generation is not None and generation.state == "building":
        # A recovery that the server is still at would make the collection again behind its deletion.
        is_over_and_there(work, step.target)
        _refuse_foreign(step, work)
    _refuse_names(step, work)
    work.store.drop_collection(step.target)
    drop_snapshot(step, work)
    for back in (False, True):
        work.lease.drop_base(base_name(step.target, step.target, back=back))
    return {}


def delete_plain(work: Work, physical: str) -> None:
    """Delete the plain collection of the logical name, behind a proven freeze: only ``gap`` may ask for it.

    Raises:
        RepairNeededError: it is not the collection that was proven.
    """
    check_same(work, physical)
    work.store.drop_collection(physical)


def drop_probe(store: Store, name: str) -> bool:
    """Delete a collection that a probe of the server has left behind: named so, with nothing in it to keep.

    Returns:
        Whether it was deleted; False where anything speaks against it.
    """
    if not name.startswith(PROBE_PREFIX):
        return False
    found = store.describe(name)
    named = [alias for alias, target in store.aliases().items() if target == name and not is_internal(alias)]
    if found is None or found.seal is not None or named:
        return False
    if store.count(name) > MOST_PROBE_POINTS:
        return False
    store.drop_collection(name)
    return True


def close(step: Retire, work: Work) -> Facts:
    """Recorded in one transaction."""
    close_retire(work, step)
    return {}


def _refuse_foreign(step: Retire, work: Work) -> bool:
    """Refuse what this ledger hasn't sealed; whether there is anything at all."""
    found = work.store.describe(step.target)
    seal = (found.seal if found else None) or {}
    if found is not None and seal.get("ledger") != work.ledger_id:
        raise RefusedError(f"{step.target} is not sealed by this ledger; it was left as it is")
    return found is not None


def _refuse_names(step: Retire, work: Work) -> None:
    names = [
        alias
        for alias, physical in work.store.aliases().items()
        if physical == step.target and not is_own_alias(alias)
    ]
    if names:
        raise RefusedError(f"{step.target} is in use: {', '.join(sorted(names))} points to it; it was left as it is")


PHASES = (
    Phase("preflight", preflight),
    Phase("delete", delete),
    Phase("close", close),
)
