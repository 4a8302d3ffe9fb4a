"""Pure planning: (World, revisions, target) to a Plan. No I/O, and no switch on an operation's type."""

from __future__ import annotations

from qmigrate.planner.abort import plan_abort
from qmigrate.planner.fix import plan_fix, plan_undo_fix, planned_fix
from qmigrate.planner.forward import plan_upgrade
from qmigrate.planner.guard import check_checksums
from qmigrate.planner.restore import plan_restore, plan_undo
from qmigrate.planner.rollback import plan_rollback

__all__ = [
    "check_checksums",
    "plan_abort",
    "plan_fix",
    "plan_restore",
    "plan_rollback",
    "plan_undo",
    "plan_undo_fix",
    "plan_upgrade",
    "planned_fix",
]
