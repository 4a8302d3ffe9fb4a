"""Plans for people: what, how, why, and the way back."""

from __future__ import annotations

from collections.abc import Iterable

from rich.console import Console
from rich.text import Text

from qmigrate.cli.render.layout import columns, labelled
from qmigrate.cli.render.words import counted, number, size, took
from qmigrate.model.plan import Build, CollectionPlan, GoLive, Plan, Step
from qmigrate.model.words import quote


def show_plan(console: Console, plan: Plan, command: str) -> None:
    """The plan, and that nothing was written.

    Args:
        console: where to.
        plan: what would be done.
        command: what to type to have it done.
    """
    if plan.collections:
        console.print(_summary(plan))
        console.print()
    for group in _groups(plan):
        for line in _group(group, plan.verb):
            console.print(line)
        console.print()
    for note in plan.notes:
        console.print(f"note: {note}")
    if plan.notes:
        console.print()
    if not plan.collections:
        console.print(nothing_to_do(plan))
        return
    console.print(Text.assemble("Nothing was written. Run it: ", (command, "bold")))


def nothing_to_do(plan: Plan) -> str:
    """Why a plan is empty."""
    if plan.verb == "abort":
        return "Nothing to abort: no run is unfinished."
    if plan.verb == "rollback":
        return "Nothing to roll back."
    if plan.verb == "repair":
        return "Nothing to restore: it is as recorded."
    if plan.waiting:
        return f"Nothing to do before the SQL schema is at {', '.join(dict.fromkeys(plan.waiting.values()))}."
    if plan.held:
        return f"Nothing to do besides the cut-over of {', '.join(plan.held)}."
    if not plan.target:
        return 'Nothing to do: there are no revisions yet. Make one: qmigrate revision -m "what changes"'
    return f"Nothing to do: every collection is at {', '.join(plan.target)}."


def _summary(plan: Plan) -> str:
    closes = [closing.revision for item in plan.collections for closing in item.job.closes]
    revisions = list(dict.fromkeys(closes))
    what = f"{plan.verb}: {counted(len(plan.collections), 'collection')}"
    return f"{what}, {counted(len(revisions), 'revision')} ({', '.join(revisions)})" if revisions else what


def _groups(plan: Plan) -> list[list[CollectionPlan]]:
    """Collections that the same is done to, together, in the order of the plan."""
    groups: dict[object, list[CollectionPlan]] = {}
    for item in plan.collections:
        key = (item.lines, item.reasons, item.incompatible, item.way_back, item.holds)
        groups.setdefault(key, []).append(item)
    return list(groups.values())


def _group(group: list[CollectionPlan], verb: str) -> list[Text]:
    item = group[0]
    # Only the way forward is judged for readers: going back gives them the earlier schema.
    clear = ("nothing changes for them",) if verb == "upgrade" else ("meet the earlier schema",)
    return [
        *columns([_head(found) for found in group], right={2, 3, 4}, indent=0),
        *[Text(f"  {line}") for line in item.lines],
        *labelled("why", item.reasons),
        *labelled("readers", item.incompatible or clear),
        *(labelled("held", _held(group)) if item.holds else ()),
        *(labelled("back" if verb == "upgrade" else "forth", (item.way_back,)) if item.way_back else ()),
    ]


def _held(group: list[CollectionPlan]) -> tuple[str, ...]:
    """That it waits, and what continues it."""
    names = [item.job.collection for item in group if item.holds]
    named = names[0] if len(names) == 1 else "NAME"
    return (f"built and proven, then it waits for: qmigrate cutover {quote(named)}",)


def _head(item: CollectionPlan) -> tuple[str | Text, ...]:
    return (
        Text(item.job.collection, style="bold"),
        strategy(item.job.steps),
        "" if item.points is None else f"{number(item.points)} points",
        "" if item.bytes is None else f"~ {size(item.bytes)}",
        "" if item.seconds is None else f"~ {took(item.seconds)}",
    )


def strategy(steps: Iterable[Step]) -> str:
    """How a job works, in a word or two: ``copy``, ``create``, ``in place``, ``alias back``, ``drop``."""
    words: list[str] = []
    for step in steps:
        if isinstance(step, Build):
            word = "create" if step.source is None else step.fill
        elif isinstance(step, GoLive):
            if step.back:
                word = "alias back"
            elif step.target is None:
                word = "drop"
            else:
                continue
        else:
            word = {"inplace": "in place", "write_back": "write back"}.get(step.kind, step.kind)
        if word not in words:
            words.append(word)
    return ", ".join(words) or "record only"
