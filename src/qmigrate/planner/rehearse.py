"""A plan played on a sample of points: its builds and in-place steps on throwaway collections, removed again. Pure.

No name moves, and no revision is recorded.
"""

from __future__ import annotations

from dataclasses import replace

from qmigrate.model.names import rehearsal_name
from qmigrate.model.plan import Build, CollectionPlan, InPlace, Job, Plan, Retire, Step
from qmigrate.model.schema import CollectionSchema
from qmigrate.model.state import CollectionState

_REASON = "the end of a rehearsal"


def plan_rehearsal(state: CollectionState, item: CollectionPlan, points: int) -> Plan:
    """The throwaway version of one collection's plan.

    What the server would clone is rehearsed as a copy. Each throwaway is the source of the next.

    Args:
        state: the collection as it is.
        item: what is planned for it.
        points: how many are sampled from the live collection.

    Returns:
        A plan of one job; of none where nothing would be built or changed.
    """
    rehearsed: list[Step] = []
    stands_for: dict[str | None, str] = {None: ""}
    if state.live is not None and any(_works_on(step, state.physical) for step in item.job.steps):
        target = rehearsal_name(state.name, 1)
        rehearsed.append(_sample(state.live.physical, target, state.live.schema, points))
        stands_for[state.physical] = target
    for step in item.job.steps:
        if isinstance(step, Build) and step.source in stands_for:
            target = rehearsal_name(state.name, len(stands_for))
            rehearsed.append(_build(step, stands_for[step.source] or None, target, len(stands_for)))
            stands_for[step.target] = target
        elif isinstance(step, InPlace) and step.target in stands_for:
            # An alias is a name that applications use: it must not lead to a throwaway.
            changes = tuple(change for change in step.changes if not change.kind.startswith("alias."))
            rehearsed.append(replace(step, target=stands_for[step.target], changes=changes))
    if not rehearsed:
        return Plan(verb="rehearse", target=(), collections=())
    made = [step.target for step in rehearsed if isinstance(step, Build)]
    steps = (*rehearsed, *(Retire(target, _REASON) for target in reversed(made)))
    job = Job(state.name, state.basis(), steps)
    plan = replace(item, job=job)
    return Plan(verb="rehearse", target=(), collections=(plan,))


def _works_on(step: Step, physical: str | None) -> bool:
    """Whether a step reads or changes the live collection."""
    return (isinstance(step, Build) and step.source == physical) or (
        isinstance(step, InPlace) and step.target == physical
    )


def _sample(source: str, target: str, schema: CollectionSchema, points: int) -> Build:
    return Build(
        ops=(),
        source=source,
        target=target,
        number=-1,
        schema=schema.with_(aliases=()),
        fill="sample",
        reason="points at random",
        sample=points,
    )


def _build(step: Build, source: str | None, target: str, number: int) -> Build:
    # Numbers below zero are not generations: none is used up.
    fill = "copy" if source else "empty"
    schema = step.schema.with_(aliases=())
    return replace(step, source=source, target=target, number=-number, schema=schema, fill=fill)
