"""Retire: the only module that deletes a collection. It re-reads aliases first and spares what has one."""

from __future__ import annotations

from qmigrate.errors import RefusedError
from qmigrate.model.names import is_own_alias
from qmigrate.model.plan import Retire
from qmigrate.steps.base import base_name
from qmigrate.steps.closing import close_retire
from qmigrate.steps.owned import check_same, release
from qmigrate.steps.shadow import is_over_and_there
from qmigrate.steps.work import Facts, Phase, Work


def preflight(step: Retire, work: Work) -> Facts:
    """Only reads: nothing points to it, and it is ours."""
    _refuse_names(step, work)
    return {"present": _refuse_foreign(step, work)}


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
