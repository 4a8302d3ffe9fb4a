"""Exact counts of what the data fixes of a plan would change. It only reads."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from qmigrate.commands.session import Session, UserCode
from qmigrate.engine.fixes.kinds import check, preview
from qmigrate.engine.fixes.protocol import FixSource, unmet
from qmigrate.ledger.reader import present
from qmigrate.model.facts.edits import words_of
from qmigrate.model.fix import Found
from qmigrate.model.plan import CollectionPlan, EditPoints, OpRef, Plan, RunCode
from qmigrate.model.schema import JsonObject
from qmigrate.model.state import World
from qmigrate.text import counted, number


def with_counts(opened: Session, world: World, plan: Plan) -> Plan:
    """The plan with a line and the figures of each data fix, counted on what is live now."""
    return replace(plan, collections=tuple(_counted(opened, world, item) for item in plan.collections))


def count(opened: Session, name: str, edit: JsonObject, ops: Sequence[OpRef] = ()) -> Found:
    """What an edit would change of a collection that is live.

    Args:
        ops: the operations that its step names.
    """
    return preview(place_of(opened, name, ops), edit)


def check_all(opened: Session, plan: Plan) -> None:
    """Refuse, before anything of a plan is done, what the first data fix of any of its collections would refuse.

    What a later one of the same collection would meet depends on those before it.

    Raises:
        QmigrateError: as the fix would; nothing was changed, of no collection.
    """
    for item in plan.collections:
        step = next((one for one in item.job.steps if isinstance(one, EditPoints)), None)
        if step is not None and not isinstance(step, RunCode):
            check(place_of(opened, item.job.collection, step.ops), step.edit)


def place_of(opened: Session, name: str, ops: Sequence[OpRef]) -> FixSource:
    """What a fix of a live collection reads."""
    settings = opened.settings.for_collection(name)
    return FixSource(
        name,
        name,
        opened.store,
        opened.ledger,
        settings,
        operations=tuple(opened.operation(ref) for ref in ops),
        code=UserCode(opened, settings),
        now=present(opened.ledger),
    )


def figures(found: Found, edit: JsonObject) -> str:
    """``12 of 1,000 points would be deleted (9 different, 3 missing)``."""
    parts = ", ".join(f"{many:,} {name.replace('_', ' ')}" for name, many in found.counts.items() if many)
    said = f"{number(found.changes)} of {counted(found.points, 'point')} would {words_of(edit).would}"
    return said + (f" ({parts})" if parts else "")


def _counted(opened: Session, world: World, item: CollectionPlan) -> CollectionPlan:
    edits = [step for step in item.job.steps if isinstance(step, EditPoints)]
    # What the user's code would do is only known by calling it.
    steps = [step for step in edits if not isinstance(step, RunCode)]
    if not steps:
        return item
    state = world.collections.get(item.job.collection)
    if state is None or state.live is None:
        return replace(item, reasons=(*item.reasons, "data fix: counted once the collection is there"))
    found = [count(opened, item.job.collection, step.edit, step.ops) for step in steps]
    name = item.job.collection
    lines = tuple(
        f"data fix: {line}"
        for step, one in zip(steps, found, strict=True)
        for line in (figures(one, step.edit), *(unmet(name, step.edit, one.counts) if not one.changes else ()))
    )
    return replace(item, reasons=(*item.reasons, *lines), edits=tuple(one.to_json() for one in found))
