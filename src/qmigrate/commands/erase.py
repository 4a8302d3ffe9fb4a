"""fix delete --erase: points that nothing may bring back. What is done the steps decide."""

from __future__ import annotations

from collections.abc import Mapping

from qmigrate.commands.fix import Review, previews
from qmigrate.commands.names import within
from qmigrate.commands.parallel import paced
from qmigrate.commands.run_fixes import FixResult, run_fix
from qmigrate.commands.session import session
from qmigrate.errors import PlanError
from qmigrate.model.schema import JsonObject
from qmigrate.observe import observe
from qmigrate.operations.deletion import DeletePoints
from qmigrate.planner import plan_fix
from qmigrate.ports import Progress
from qmigrate.settings.load import Settings

#: What becomes of server-side snapshots that may hold the points: listed, or replaced by one that doesn't.
SNAPSHOTS = ("list", "replace")


def review(settings: Settings, operation: DeletePoints, *, tenant: str | int | None = None) -> Review:
    """How many ids would be erased, and a sample. Sends no write to Qdrant or SQL.

    Args:
        tenant: as :func:`qmigrate.commands.fix.fix` has it.

    Raises:
        PlanError: it can't be done there.
        RefusedError: an old generation's ids can't be derived from today's.
    """
    operation = within(settings, operation, tenant)
    with session(settings, writes=False) as opened:
        plan = plan_fix(observe(opened.ledger, opened.store), [(operation, operation.erasure())])
        return Review(tuple(previews(opened, plan)), plan.notes)


def erase(  # noqa: PLR0913  the options of the verb
    settings: Settings | None,
    operation: DeletePoints,
    *,
    expect: int | None = None,
    most: Mapping[str, int] | None = None,
    snapshots: str = "list",
    tenant: str | int | None = None,
    max_rate: float | None = None,
    lock_timeout: float | None = None,
    progress: Progress | None = None,
) -> FixResult:
    """Delete points from every generation and from everything that was kept of them, for good.

    The ids are recorded before the first point goes, so that no restore, rollback or undo brings one back.
    Interrupted runs of the collection are finished first; one that is held for its cut-over stays held.

    Args:
        operation: which points, and why.
        expect: how many ids, exactly; None leaves it to the cap.
        most: as :func:`qmigrate.commands.fix.fix` has it.
        snapshots: of :data:`SNAPSHOTS`.
        tenant: as :func:`qmigrate.commands.fix.fix` has it.
        max_rate: most points per second.

    Raises:
        RefusedError: more would go than `expect` or the cap allow; nothing was erased.
        VerificationError: a point was still there when every place was checked again.
    """
    settings = settings or Settings.load()
    if snapshots not in SNAPSHOTS:
        raise PlanError(f"snapshots must be one of {', '.join(SNAPSHOTS)}, not {snapshots!r}")
    operation = within(settings, operation, tenant)
    given: JsonObject = {"snapshots": snapshots, "expect": expect, "most": None if most is None else dict(most)}
    given |= paced(max_rate)
    edit = operation.erasure() | {name: value for name, value in given.items() if value is not None}
    with session(settings, writes=True, progress=progress) as opened:
        return run_fix(opened, lambda world: plan_fix(world, [(operation, edit)]), lock_timeout)
