"""Plans for people: what, how, why, and the way back."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qmigrate.cli.layout import Text, columns, labelled
from qmigrate.text import counted, moment, number, quote, size, took

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from rich.console import Console

    from qmigrate.commands.results import Held, Outcome, UpgradeResult
    from qmigrate.model.plan import CollectionPlan, Plan, Step


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
    from qmigrate.model.plan import Build, GoLive

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


def show_upgrade(console: Console, result: UpgradeResult) -> None:
    """One block per collection, then one line on all of it with the way back."""
    for found in result.resumed:
        done = f", {number(found.done)} of {number(found.total)} points" if found.total else ""
        console.print(f"Resumed {found.collection}: {found.phase}{done}")
        console.print(f"  the run of {moment(found.started_at)} on host {found.host}")
    ways = {item.job.collection: item.way_back for item in result.plan.collections if result.plan.verb == "upgrade"}
    for outcome in result.outcomes:
        for line in show_outcome(outcome, result.plan.verb):
            console.print(line)
        way = ways.get(outcome.collection)
        if way and outcome.held is None:
            for line in labelled("back", [way]):
                console.print(line)
    for note in result.plan.notes:
        console.print(f"note: {note}")
    if not result.outcomes:
        console.print(nothing_to_do(result.plan))
    elif any(outcome.held is None for outcome in result.outcomes):
        console.print(_closing(result))
    for line in [*held_lines(result.held), *_waiting_lines(result)]:
        console.print(line)


def _waiting_lines(result: UpgradeResult) -> list[Text]:
    """What waits for the SQL schema, and the command that continues."""
    waiting = result.plan.waiting
    sql = next(iter(waiting.values()), None)
    if sql is None:
        return []
    what = f"Waiting: {', '.join(waiting)} for the SQL schema. Next: "
    return [Text.assemble(what, (f"alembic upgrade {quote(sql)}", "bold"))]


def held_lines(held: Sequence[Held]) -> list[Text]:
    """What waits, and the command that continues: nothing when nothing does."""
    if not held:
        return []
    names = held[0].collection if len(held) == 1 else "--all"
    what = f"Held: {', '.join(one.collection for one in held)}, built and proven. Go live: "
    return [Text.assemble(what, (f"qmigrate cutover {quote(names)}", "bold"))]


def show_outcome(outcome: Outcome, verb: str) -> list[Text]:
    """The block of one collection: what was done, how it was proven, what serves now."""
    revisions = ", ".join(outcome.revisions)
    word = {"rollback": "without ", "abort": "aborted "}.get(verb, "") if revisions else ""
    title = f"  {word}{revisions}".rstrip() + f"  {took(outcome.seconds)}"
    lines = [Text.assemble((outcome.collection, "bold"), title)]
    swap: float | None = None
    for facts in outcome.report.values():
        if isinstance(facts, dict):
            lines += _learned(facts, next(iter(outcome.revisions), None))
            swap = facts.get("milliseconds", swap)
    serves = outcome.physical or "nothing: the name is gone"
    if swap is not None:
        serves += f", name moved in {took(swap / 1000)}"
    lines += labelled("live", [serves])
    if outcome.held is not None:
        waiting = ", ".join(outcome.held.revisions)
        lines += labelled("held", [f"{waiting} as {outcome.held.physical}, until qmigrate cutover"])
    return [*lines, *labelled("note", outcome.notes)]


def _learned(facts: dict[str, Any], revision: str | None = None) -> list[Text]:
    """What one phase found that a user needs to know; `revision` is the one that the run is about."""
    from qmigrate.model.report import NOT_BROUGHT

    lines: list[Text] = []
    if facts.get("cloned"):
        lines += labelled("cloned", [f"by the server, {facts['cloned']}"])
    if facts.get("copied_because"):
        lines += labelled("copied", [f"not cloned: {facts['copied_because']}"])
    if facts.get("stages"):
        from qmigrate.engine.points.streams import shown

        lines += labelled("busy", [shown(facts["stages"])])
    for one in facts.get("quality") or ():
        lines += labelled("search", [quality_line(one)])
    proof = facts.get("report")
    if isinstance(proof, dict) and "proven" in proof:
        lines += labelled("proven", _proof(proof))
    told = facts.get("told")
    if isinstance(told, dict):
        what = f"{counted(told['points'], 'point')} to SQL, {counted(told['rows'], 'row')} changed"
        lines += labelled("told", [what])
    if facts.get("deleted_again"):
        what = f"{counted(facts['deleted_again'], 'point')} that fixes have deleted since, here too"
        lines += labelled("deleted", [what])
    sweep = facts.get("sweep")
    if isinstance(sweep, dict):
        carried, listed = sweep.get("carried", 0), sweep.get("listed", {})
        if carried:
            lines += labelled("late", [f"{counted(carried, 'late write')} carried over"])
        if isinstance(listed, dict) and listed.get("count"):
            named = ", ".join(str(entry[0]) for entry in listed.get("named", [])[:5])
            undo = sweep.get("may_undo", 0)
            text = f"{counted(listed['count'], 'id')} may differ on the two sides: {named}; see docs/safety.md"
            more = [f"{counted(undo, 'id')} of them may undo a delete"] if undo else []
            if any(str(entry[1]).startswith(NOT_BROUGHT) for entry in listed.get("named", [])):
                more.append("what was not carried is only in the generation that was left, which gc deletes")
            every = f"all of them: qmigrate history --carried {quote(revision or 'REV')}"
            lines += labelled("review", [text, *more, every])
    return lines


def _proof(proof: dict[str, Any]) -> list[str]:
    lines = [f"{number(proof['proven'])} of {number(proof.get('points', 0))} points"]
    if proof.get("sampled"):
        cosine = proof.get("lowest_cosine")
        # Cut, not rounded: 1.0000 would claim more than was seen.
        worst = "" if cosine is None else f", cosine ≥ {int(cosine * 10000) / 10000:.4f}"
        lines[0] += f" · {number(proof['sampled'])} embedded again{worst}"
    if proof.get("passes"):
        lines.append(f"after {counted(proof['passes'], 'pass', 'passes')} over what was written during the run")
    if proof.get("without_vector"):
        lines.append(f"{number(proof['without_vector'])} left without the vector on purpose")
    if proof.get("dropped"):
        lines.append(f"{number(proof['dropped'])} left out on purpose: they could not be embedded")
    return lines


def quality_line(found: dict[str, Any]) -> str:
    """``recall@10 of 'l14' 0.987, at least 0.95 required; 0.61 of the results are unchanged``."""
    head = f"recall@{found['k']} of {found['vector']!r}"
    if found.get("recall") is None:
        return f"{head} not measured: {found['why']}"
    kept = found.get("overlap")
    before = "" if kept is None else f"; {kept:.3f} of the results are unchanged"
    return f"{head} {found['recall']:.3f}, at least {found['at_least']:.4g} required{before}"


def _closing(result: UpgradeResult) -> Text:
    from qmigrate.commands.results import in_all

    total = took(in_all(result.outcomes))
    names = dict.fromkeys(outcome.collection for outcome in result.outcomes if outcome.held is None)
    revisions = list(dict.fromkeys(one for outcome in result.outcomes for one in outcome.revisions))
    what = counted(len(names), "collection")
    if result.plan.verb == "abort":
        return Text(f"Aborted: {what} in {total}. They are as they were before.")
    if result.plan.verb == "rollback":
        forth = revisions[0] if revisions else "head"
        again = (f"qmigrate upgrade {quote(forth)}", "bold")
        return Text.assemble(f"Rolled back: {what} in {total}. To apply it again: ", again)
    at = f" at {', '.join(result.plan.target)}" if result.plan.target else ""
    done = Text(f"Done: {what}{at} in {total}.")
    if result.back:
        done.append(" To roll back: ").append("; ".join(result.back), style="bold")
    return done
