"""Plans for people: what, how, why, and the way back."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qmigrate.cli.layout import Text, columns, labelled, note_lines
from qmigrate.model.facts.fixes import EditChange
from qmigrate.model.facts.phases import Closed, Fill, Proof, Quality, Shadow, SourceSnapshot, Swap, Sweep, WriteBack
from qmigrate.model.facts.stored import known
from qmigrate.text import counted, documented, moment, number, quote, size, took

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from rich.console import Console

    from qmigrate.commands.results import Held, Outcome, UpgradeResult
    from qmigrate.model.facts.phases import Searched
    from qmigrate.model.plan import CollectionPlan, EmbeddingCost, Plan, Step
    from qmigrate.model.report import VerificationReport


def show_plan(console: Console, plan: Plan, command: str, *, only: Sequence[str] = ()) -> None:
    """The plan, and that nothing was written.

    Args:
        console: where to.
        plan: what would be done.
        command: what to type to have it done.
        only: as :func:`nothing_to_do` has it.
    """
    if plan.collections:
        console.print(_summary(plan))
        console.print()
    for group in _groups(plan):
        for line in _group(group, plan.verb):
            console.print(line)
        console.print()
    notes = [*_money(plan), *_unmeasured(plan), *plan.notes]
    for line in note_lines(notes):
        console.print(line)
    if notes:
        console.print()
    for line in _refused(plan):
        console.print(line)
    if plan.refusals:
        return
    if not plan.collections:
        console.print(nothing_to_do(plan, only))
        return
    run = "Run it where nothing of what the notes name is missing: " if plan.elsewhere else "Run it: "
    console.print(Text.assemble(f"Nothing was written. {run}", (command, "bold")))


def _money(plan: Plan) -> list[str]:
    """What embedding costs in all, where that is more than one embedder's."""
    priced = [one for item in plan.collections for one in item.costs if one.money is not None]
    if plan.money is None or len(priced) < 2:
        return []
    low, high = plan.money
    return [f"embedding costs {low:.2f} to {high:.2f} in all, as far as it is known"]


def _unmeasured(plan: Plan) -> list[str]:
    """Why a time is unknown, and when it will be known."""
    names = sorted({name for item in plan.collections for name in item.unmeasured})
    notes = []
    if names:
        have = "has" if len(names) == 1 else "have"
        when = "qmigrate plan --trial tries some items; upgrade --max-estimate does before it starts"
        notes = [f"the time is unknown: {', '.join(names)} {have} not filled enough vectors here to tell; {when}"]
    guessed = sorted(_guessed(item) for item in plan.collections if _is_unknown(item) and not item.unmeasured)
    if guessed:
        shown = ", ".join(guessed[:_NAMED]) + (f" and {len(guessed) - _NAMED:,} more" if len(guessed) > _NAMED else "")
        why = "no run and no trial has shown how fast it is here; the first minute of the run measures it"
        notes.append(f"the time of {shown} is unknown: {why}")
    return notes


def _guessed(item: CollectionPlan) -> str:
    parts = " and ".join(item.rest_unknown)
    return f"{item.job.collection} ({parts})" if parts else item.job.collection


#: Collections that a note names.
_NAMED = 3


def _is_unknown(item: CollectionPlan) -> bool:
    """Whether how long it takes is no more than a guess."""
    return bool(item.unmeasured) or item.speed == "assumed"


def _refused(plan: Plan) -> list[Text]:
    """What would stop it before its first write, and what to do about each."""
    lines: list[Text] = []
    for one in plan.refusals:
        lines.append(Text.assemble((f"{plan.verb} would refuse", "bold red"), f" ({one.exit_code}): {one.message}"))
        lines += [Text(f"  → {line}") for line in (one.hint or "").splitlines()]
    return [*lines, Text("Nothing was written.")] if lines else []


def nothing_to_do(plan: Plan, only: Sequence[str] = ()) -> str:
    """Why a plan is empty.

    Args:
        only: what was asked for, where that is not all: of the others nothing is known.
    """
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
    these = f"{', '.join(only)} {'is' if len(only) == 1 else 'are'}" if only else "every collection is"
    return f"Nothing to do: {these} at {', '.join(plan.target)}."


def _summary(plan: Plan) -> str:
    closes = [closing.revision for item in plan.collections for closing in item.job.closes]
    revisions = list(dict.fromkeys(closes))
    if plan.verb == "upgrade":
        # One collection may lack what another has: in the order of the files, not of the collections.
        order = {revision: place for place, revision in enumerate(plan.checksums or ())}
        revisions.sort(key=lambda revision: order.get(revision, len(order)))
    what = f"{plan.verb}: {counted(len(plan.collections), 'collection')}"
    return f"{what}, {counted(len(revisions), 'revision')} ({', '.join(revisions)})" if revisions else what


def _groups(plan: Plan) -> list[list[CollectionPlan]]:
    """Collections that the same is done to, together, in the order of the plan."""
    groups: dict[object, list[CollectionPlan]] = {}
    for item in plan.collections:
        key = (item.lines, item.reasons, item.incompatible, item.shows, item.way_back, item.holds)
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
        *labelled("readers", (*item.incompatible, *item.shows) or clear),
        *labelled("room", _room(group)),
        *labelled("embed", [_cost(one) for found in group for one in found.costs]),
        *(labelled("held", _held(group)) if item.holds else ()),
        *(labelled("back" if verb == "upgrade" else "forth", (item.way_back,)) if item.way_back else ()),
    ]


def _cost(one: EmbeddingCost) -> str:
    """``large: 12,000 items, 1.1 to 1.3 M tokens, 375 requests, 0.14 to 0.17 (0.13 for a million), ~ 8 min``."""
    words = [counted(one.items, "item")]
    if one.tokens is not None:
        same = one.tokens[0] == one.tokens[1]
        words.append(f"{number(one.tokens[0])}{'' if same else f' to {number(one.tokens[1])}'} tokens")
    words += [counted(one.requests, "request")] if one.requests is not None else []
    if one.money is not None:
        words.append(f"{one.money[0]:.2f} to {one.money[1]:.2f} ({one.price:g} for a million)")
    elif one.price is not None:
        words.append("cost unknown: its tokens can't be counted here")
    elif one.requests is not None:
        words.append("cost unknown: it has no price")
    words.append("time unknown" if one.seconds is None else f"~ {took(one.seconds)} by {one.speed}")
    return f"{one.embedder}: {', '.join(words)}"


def _room(group: Sequence[CollectionPlan]) -> list[str]:
    """What the new generations need, and until when the old one is there as well."""
    lines = []
    for item in group:
        if item.bytes is None or item.memory is None:
            continue
        name = f"{item.job.collection}: " if len(group) > 1 else ""
        until = "on disk, next to the old generation until gc deletes that"
        lines.append(f"{name}~ {size(item.bytes)} {until}; ~ {size(item.memory)} in memory for vectors and index")
    return lines


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
        _unknown_time(item) if _is_unknown(item) else "" if item.seconds is None else f"~ {took(item.seconds)}",
    )


def _unknown_time(item: CollectionPlan) -> str:
    """Of which part, where its copy is known: a line below may have the time of what is embedded."""
    parts = " and ".join(item.rest_unknown)
    return f"time of the {parts} unknown" if parts else "time unknown"


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


def show_upgrade(console: Console, result: UpgradeResult, *, only: Sequence[str] = ()) -> None:
    """One block per collection, then one line on all of it with the way back.

    Args:
        only: as :func:`nothing_to_do` has it.
    """
    for found in result.resumed:
        done = f", {number(found.done)} of {number(found.total)} points" if found.total else ""
        console.print(f"Resumed {found.collection}: {found.phase}{done}")
        console.print(f"  the run of {moment(found.started_at)} on host {found.host}")
    ways = {item.job.collection: item.way_back for item in result.plan.collections if result.plan.verb == "upgrade"}
    for outcome in result.outcomes:
        for line in show_outcome(outcome, result.plan.verb):
            console.print(line)
        way = ways.get(outcome.collection)
        if way and outcome.held is None and not _fixed(outcome):
            for line in labelled("back", [way]):
                console.print(line)
    for line in note_lines(result.plan.notes):
        console.print(line)
    if result.undo:
        what = "What it has changed of the points is undone by: "
        if result.plan.verb == "rollback":
            what = "The points stay as the revision has changed them. To undo that: "
        console.print(Text.assemble(what, ("; ".join(result.undo), "bold")))
    if not result.outcomes:
        console.print(nothing_to_do(result.plan, only))
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
    told: list[str] = []
    for phase in outcome.report:
        step, _, name = phase.partition(".")
        # Two steps that prove the same, as where a plain name is hidden before a rebuild, say it once.
        found = [line for line in _learned(outcome, int(step), name) if line.plain.rstrip() not in told]
        told += [line.plain.rstrip() for line in found]
        lines += found
    times = [one.milliseconds for one in outcome.learned(Swap) if one.milliseconds is not None]
    swap = times[-1] if times else None
    serves = outcome.physical or "nothing: the name is gone"
    if swap is not None:
        serves += f", name moved in {took(swap / 1000)}"
    lines += labelled("live", [serves])
    if outcome.held is not None:
        waiting = ", ".join(outcome.held.revisions)
        until = f"qmigrate cutover {quote(outcome.collection)}"
        lines += labelled("held", [f"{waiting} as {outcome.held.physical}, until {until}"])
    return [*lines, *labelled("note", outcome.notes)]


def _learned(outcome: Outcome, step: int, phase: str) -> list[Text]:
    """What one phase found that a user needs to know."""
    show = _SHOWN.get(phase)
    return show(outcome, step) if show is not None else []


def _shadow(outcome: Outcome, step: int) -> list[Text]:
    facts, lines = outcome.facts(Shadow, step), list[Text]()
    if facts.cloned:
        lines += labelled("cloned", [f"by the server, {facts.cloned}"])
    return lines + _copied(facts.copied_because)


def _snapshot(outcome: Outcome, step: int) -> list[Text]:
    return _copied(outcome.facts(SourceSnapshot, step).copied_because)


def _copied(why: str | None) -> list[Text]:
    return labelled("copied", [f"not cloned: {why}"]) if why else []


def _fill(outcome: Outcome, step: int) -> list[Text]:
    stages = outcome.facts(Fill, step).stages
    if not stages:
        return []
    from qmigrate.engine.points.streams import shown

    return labelled("busy", [shown(stages)])


def _quality(outcome: Outcome, step: int) -> list[Text]:
    found = outcome.facts(Quality, step)
    lines = [line for one in found.quality or () for line in labelled("search", [quality_line(one)])]
    for one in found.compared or ():
        asked = counted(one.total.questions, "question")
        lines += labelled("search", [f"{one.vector!r} after {one.old_vector!r} on {asked}: GO, {one.reason}"])
    return lines


def _converge(outcome: Outcome, step: int) -> list[Text]:
    facts, lines = outcome.facts(Proof, step), list[Text]()
    if facts.report is not None:
        lines += labelled("proven", _proof(facts.report))
    if facts.deleted_again:
        what = f"{counted(facts.deleted_again, 'point')} that fixes have deleted since, here too"
        lines += labelled("deleted", [what])
    return lines


def _told(outcome: Outcome, step: int) -> list[Text]:
    told = outcome.facts(WriteBack, step).told
    if told is None:
        return []
    return labelled("told", [f"{counted(told.points, 'point')} to SQL, {counted(told.rows, 'row')} changed"])


#: Page and heading about what is written while the name moves.
_BETWEEN = ("safety", "What remains under writes: converge")


def _swept(outcome: Outcome, step: int) -> list[Text]:
    from qmigrate.model.report import NOT_BROUGHT

    sweep, lines = outcome.facts(Sweep, step).sweep, list[Text]()
    if sweep is None:
        return lines
    if sweep.carried:
        late = [f"{counted(sweep.carried, 'late write')} carried over"]
        if past := known(sweep.by_filter):
            late.append(f"a request by a filter may have gone past {number(past)} of them: {documented(*_BETWEEN)}")
        lines += labelled("late", late)
    if sweep.listed.count:
        named = ", ".join(str(identifier) for identifier, _ in sweep.listed.named[:5])
        text = f"{counted(sweep.listed.count, 'id')} may differ on the two sides: {named}"
        more = [f"{counted(sweep.may_undo, 'id')} of them may undo a delete"] if sweep.may_undo else []
        if any(reason.startswith(NOT_BROUGHT) for _, reason in sweep.listed.named):
            more.append("what was not carried is only in the generation that was left, which gc deletes")
        every = f"all of them: qmigrate history --carried {quote(next(iter(outcome.revisions), 'REV'))}"
        lines += labelled("review", [text, *more, every, f"why: {documented(*_BETWEEN)}"])
    return lines


def _closed(outcome: Outcome, step: int) -> list[Text]:
    """What a data fix has done, under the number that its undo takes."""
    closed, change = outcome.facts(Closed, step), outcome.facts(EditChange, step)
    number_of = known(closed.log)
    if number_of is None or f"{step}.{EditChange.phase}" not in outcome.report:
        return []
    left = [f"{counted(change.moved, 'point')} left, written by another client meanwhile"] if change.moved else []
    # What changes points keeps what they were; a deletion keeps the points, or nothing.
    what = f"{counted(change.changed, 'point')} {'changed' if known(closed.undo) == 'undo' else 'deleted'}"
    return labelled("fix", ["; ".join([f"{number_of}: {what}", *left])])


def _fixed(outcome: Outcome) -> bool:
    """Whether its way back is that of the points, which have commands of their own."""
    return any(name.endswith(f".{EditChange.phase}") for name in outcome.report)


_SHOWN: Mapping[str, Callable[[Outcome, int], list[Text]]] = {
    SourceSnapshot.phase: _snapshot,
    Shadow.phase: _shadow,
    Fill.phase: _fill,
    Quality.phase: _quality,
    Proof.phase: _converge,
    WriteBack.phase: _told,
    Sweep.phase: _swept,
    Closed.phase: _closed,
}


def _proof(proof: VerificationReport) -> list[str]:
    lines = [f"{number(proof.proven)} of {number(proof.points)} points"]
    if proof.sampled:
        cosine = proof.lowest_cosine
        # Cut, not rounded: 1.0000 would claim more than was seen.
        worst = "" if cosine is None else f", cosine ≥ {int(cosine * 10000) / 10000:.4f}"
        lines[0] += f" · {number(proof.sampled)} embedded again{worst}"
    if proof.passes:
        lines.append(f"after {counted(proof.passes, 'pass', 'passes')} over what was written during the run")
    if proof.without_vector:
        lines.append(f"{number(proof.without_vector)} left without the vector on purpose")
    if proof.dropped:
        lines.append(f"{number(proof.dropped)} left out on purpose: they could not be embedded")
    return lines


def quality_line(found: Searched) -> str:
    """``recall@10 of 'l14' 0.987, at least 0.95 required; 0.61 of the results are unchanged``."""
    head = f"recall@{found.k} of {found.vector!r}"
    if found.recall is None:
        return f"{head} not measured: {known(found.why)}"
    before = "" if found.overlap is None else f"; {found.overlap:.3f} of the results are unchanged"
    return f"{head} {found.recall:.3f}, at least {found.at_least:.4g} required{before}"


def _reached(result: UpgradeResult) -> tuple[str, ...]:
    """The revision that everything is at, as `status` shows it: the target may hold nothing for what was changed."""
    last = {outcome.collection: outcome.revisions[-1] for outcome in result.outcomes if outcome.revisions}
    at = dict.fromkeys((last | dict(result.at)).values())
    return tuple(at) if len(at) == 1 else result.plan.target


def _closing(result: UpgradeResult) -> Text:
    from qmigrate.commands.results import in_all

    total = took(in_all(result.outcomes))
    names = dict.fromkeys(outcome.collection for outcome in result.outcomes if outcome.held is None)
    what = counted(len(names), "collection")
    if result.plan.verb == "abort":
        stays = "" if result.plan.notes else " They are as they were before."
        return Text(f"Aborted: {what} in {total}.{stays}")
    if result.plan.verb == "rollback":
        back = f"Rolled back: {what} in {total}. To apply it again"
        revisions = [one for outcome in result.outcomes for one in outcome.revisions]
        again = result.again or (f"qmigrate upgrade {quote(revisions[0] if revisions else 'head')}",)
        if len(again) == 1:
            return Text.assemble(f"{back}: ", (again[0], "bold"))
        return Text.assemble(f"{back}, in this order:", *((f"\n  {one}", "bold") for one in again))
    at = f" at {', '.join(_reached(result))}" if result.plan.target else ""
    done = Text(f"Done: {what}{at} in {total}.")
    if result.back:
        done.append(" To roll back: ").append("; ".join(result.back), style="bold")
    return done
