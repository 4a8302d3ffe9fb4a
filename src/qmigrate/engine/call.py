"""A function of the user's own, called for the live generation. What it does is not known here.

It is called again where a run was interrupted, so it has to be idempotent; whatever else can be checked is: that the
name still leads where it led, and that the collection still has the settings that it had.
"""

from __future__ import annotations

import json
from collections.abc import Mapping

from qmigrate.engine.closing import close_edit
from qmigrate.engine.epoch_aliases import check_begun, check_same, holder, own, reach, release
from qmigrate.engine.work import Phase, Work
from qmigrate.errors import QmigrateError, RefusedError, RepairNeededError, UsageError, VerificationError
from qmigrate.ledger import Fixed
from qmigrate.model.facts.audit import Audited
from qmigrate.model.facts.edits import CallEdit
from qmigrate.model.facts.phases import CallChange, CallLook, CallVerify, Closed
from qmigrate.model.facts.stored import learned, loaded
from qmigrate.model.plan import RunCode
from qmigrate.model.schema import JsonObject, changes
from qmigrate.model.state import LiveCollection
from qmigrate.operations.call import Call, Calling
from qmigrate.text import quote


def look(step: RunCode, work: Work) -> CallLook:
    """Read the collection before: what it is afterwards is compared with it.

    Raises:
        RefusedError: it is unhealthy.
    """
    found = _live(step, work)
    if found.status == "red" or found.problem:
        raise RefusedError(
            f"{step.target} is unhealthy: {found.problem or 'status red'}", hint="repair the collection first"
        )
    return CallLook(found.schema.with_(aliases=()))


def change(step: RunCode, work: Work) -> CallChange:
    """Call it.

    Raises:
        UsageError: it raised something, or returned what can't be recorded.
    """
    operation = _operation(step, work)
    check_begun(work, step.target)
    alias = own(work, step.target)
    work.progress.begin(work.collection, "call", None)
    with work.store.client() as client:
        calling = Calling(work.collection, alias, operation.name, client, lambda: work.tick())
        try:
            with work.code.turn.of(work, work.tick):
                returned = operation.function(calling)
        except QmigrateError:
            raise
        except Exception as error:
            raise UsageError(
                f"{_said(step).function} of {operation.label()} raised {type(error).__name__}: {error}",
                hint="qmigrate upgrade calls it again, once the cause is gone; qmigrate abort "
                f"{quote(work.collection)} ends the run, and what the function has done stays",
            ) from error
    said = _recordable(step, operation, returned)
    work.tick()
    work.progress.end(_said(step).function)
    return CallChange(said)


def verify(step: RunCode, work: Work) -> CallVerify:
    """The name and the settings are what they were.

    Raises:
        RepairNeededError: the name leads elsewhere.
        VerificationError: the settings are others.
    """
    if holder(work) != step.target:
        raise RepairNeededError(
            f"{work.collection} does not lead to {step.target} any more, since {_said(step).function} was called",
            hint="point it there again, then qmigrate upgrade; or end the run: "
            f"qmigrate abort {quote(work.collection)}",
        )
    check_same(work, step.target)
    found = _live(step, work)
    before = work.facts(CallLook).schema
    assert before is not None  # noqa: S101  the phase before keeps it
    different = changes(before, found.schema.with_(aliases=()))
    if different:
        raise VerificationError(
            f"{_said(step).function} has changed {work.collection} itself: {different[0].describe()}; a function may "
            "only change points; use operations for the rest",
            hint=f"set it back, then qmigrate upgrade; or qmigrate abort {quote(work.collection)}, and write an "
            "operation",
        )
    return CallVerify()


def close(step: RunCode, work: Work) -> Closed:
    """Recorded, with what the function has returned."""
    release(work, [step.target])
    returned = work.facts(CallChange).returned
    told = Audited(work.run, work.step, step.target, undo=None, key=_said(step).key, returned=returned)
    fixed = Fixed("CALL", _said(step).function, 0, _said(step).reason, told)
    return Closed(log=close_edit(work, step, fixed, {"call": {"function": _said(step).function, **learned(told)}}))


def _said(step: RunCode) -> CallEdit:
    return loaded(CallEdit, step.edit)


def _operation(step: RunCode, work: Work) -> Call:
    (operation,) = work.operations(step.ops)
    if not isinstance(operation, Call):
        raise RepairNeededError(
            f"the revision of run {work.run} has no call of {_said(step).function} where there was one",
            hint=f"put the file back, or end the run: qmigrate abort {quote(work.collection)}",
        )
    return operation


def _live(step: RunCode, work: Work) -> LiveCollection:
    found = work.store.describe(reach(work, step.target))
    if found is None:
        raise RepairNeededError(f"{step.target}, which serves {work.collection}, is not in Qdrant any more")
    return found


def _recordable(step: RunCode, operation: Call, returned: object) -> JsonObject | None:
    """What the record keeps.

    Raises:
        UsageError: it is neither None nor a plain JSON object.
    """
    if returned is None:
        return None
    try:
        if isinstance(returned, Mapping):
            said: JsonObject = json.loads(json.dumps(dict(returned), allow_nan=False))
            return said
        problem = type(returned).__name__
    except (TypeError, ValueError) as error:
        problem = str(error)
    raise UsageError(
        f"{_said(step).function} of {operation.label()} must return None or a plain JSON object: {problem}",
        hint="it is called again when the upgrade continues, so it has to be idempotent",
    )


PHASES = (
    Phase(CallLook, look),
    Phase(CallChange, change),
    Phase(CallVerify, verify, volatile=True),
    Phase(Closed, close),
)
