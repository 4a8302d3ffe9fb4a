"""Checklists of phases, one module per kind of step, and what they call. Steps know nothing of revisions or plans."""

from __future__ import annotations

from collections.abc import Sequence

from qmigrate.model.plan import (
    Adopt,
    Build,
    EditPoints,
    Erase,
    GoLive,
    InPlace,
    PutBack,
    RecordLoss,
    Retire,
    RunCode,
    Step,
    WriteRows,
)
from qmigrate.steps import adopt, build, call, edit, erase, golive, inplace, repair, retire, write_back
from qmigrate.steps.work import Phase

_CHECKLISTS = {
    Build.kind: build.PHASES,
    GoLive.kind: golive.PHASES,
    InPlace.kind: inplace.PHASES,
    EditPoints.kind: edit.PHASES,
    Erase.kind: erase.PHASES,
    RunCode.kind: call.PHASES,
    Retire.kind: retire.PHASES,
    Adopt.kind: adopt.PHASES,
    WriteRows.kind: write_back.PHASES,
    PutBack.kind: repair.PUT_BACK,
    RecordLoss.kind: repair.RECORD_LOSS,
}


def phases_of(step: Step) -> Sequence[Phase]:
    """The checklist of a step."""
    return _CHECKLISTS[step.kind]
