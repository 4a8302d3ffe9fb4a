"""Checklists of phases, one module per kind of step, and what they call. Steps know nothing of revisions or plans."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from qmigrate.engine import adopt, call, inplace, rebuild, repair, write_back
from qmigrate.engine.fixes import edit
from qmigrate.engine.fixes.erase import erase
from qmigrate.engine.golive import golive
from qmigrate.engine.retire import retire
from qmigrate.engine.work import Phase
from qmigrate.model.facts.phases import Facts
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

_CHECKLISTS: Mapping[str, Sequence[Phase[Facts]]] = {
    Build.kind: rebuild.PHASES,
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


def phases_of(step: Step) -> Sequence[Phase[Facts]]:
    """The checklist of a step."""
    return _CHECKLISTS[step.kind]
