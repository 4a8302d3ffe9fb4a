"""The holder up to its proof: fill, passes, freeze, last pass, and the base that is committed before a swap."""

from __future__ import annotations

from typing import Any

from tests.model.state import (
    BARRIER,
    DIRTY,
    FROZEN,
    OPEN,
    Case,
    Request,
    State,
    Step,
    Value,
    Values,
    alike,
    made,
    put,
)
from tests.model.world import land


def onward(case: Case, now: State, here: str, then: str, **changes: Any) -> State:
    """The same place with the next key, or the next place behind the last one."""
    last = now.key + 1 == len(case.initial)
    return now._replace(key=0 if last else now.key + 1, pc=then if last else here, **changes)


def seen(now: State, value: Value) -> Values:
    """The base of the passes with another reading of the present key."""
    return put(now.seen, now.key, value)


def fill_read(case: Case, now: State) -> list[Step]:
    """One key is read, to be copied."""
    return [(f"fill reads {now.source[now.key]}", now._replace(read=now.source[now.key], pc="fill write"))]


def fill_write(case: Case, now: State) -> list[Step]:
    """It is written; behind the last one the passes begin."""
    value = made(now.read, case.rules)
    target = now.target if value is None else put(now.target, now.key, value)
    last = now.key + 1 == len(case.initial)
    base = now.seen if case.rules.identity else seen(now, now.read)
    after = now._replace(target=target, seen=base, read=None, phase="converge" if last else now.phase)
    return [("fill writes", onward(case, after, "fill read", first_pass(case, now)))]


def first_pass(case: Case, now: State) -> str:
    """Behind the fill, and behind a death: without a base there is nothing that a pass over the source could tell."""
    return behind_passes(case) if case.rules.identity and now.base_source is None else "pass read"


def behind_passes(case: Case) -> str:
    """The last pass, or the freeze before it."""
    return "freeze" if case.rules.policy == "freeze" else "list"


def record_list(case: Case, now: State) -> list[Step]:
    """When the live generation was proven: it is listed, and that is kept (rule 15). It takes writes all the time."""
    return [("versions are recorded", now._replace(since=0, pc="record base" if case.rules.record_first else "lift"))]


def record_base(case: Case, now: State) -> list[Step]:
    """Its contents are read, and are the base; the other side is what it was made of."""
    left = tuple(made(value, case.rules) for value in now.source)
    after = now._replace(kept=now.source, seen=now.source, target=left, pc="lift" if case.rules.record_first else "record list")
    return [("the base is read", after)]


def lift(case: Case, now: State) -> list[Step]:
    """Going back: the fence of what is to serve again goes first; by a record, from the base that it is kept with."""
    rules = case.rules
    then = "run" if rules.at_once else "list" if rules.recorded else "pass read"
    base = now.seen
    if rules.recorded:
        # What was about to be redone is noted apart from the base, and stays noted.
        base = tuple(DIRTY if noted == DIRTY else kept for noted, kept in zip(now.seen, now.kept, strict=True))
    return [("the fence of the target is lifted", now._replace(target_fenced=False, seen=base, pc=then))]


def pass_read(case: Case, now: State) -> list[Step]:
    """A source pass redoes what is not as the base has it; that the base has nothing of it is noted first (rule 13)."""
    value = now.source[now.key]
    if value == now.seen[now.key]:
        return [("pass: unchanged", onward(case, now, "pass read", behind_passes(case)))]
    base = seen(now, DIRTY) if case.rules.marks_dirty else now.seen
    return [(f"pass reads {value}: changed", now._replace(read=value, seen=base, pc="redo write"))]


def redo_write(case: Case, now: State) -> list[Step]:
    """The point is written once more."""
    target = put(now.target, now.key, made(now.read, case.rules))
    return [("pass writes", now._replace(target=target, pc="redo note"))]


def redo_note(case: Case, now: State) -> list[Step]:
    """The base has it now; the passes begin again."""
    return [("pass commits its base", now._replace(seen=seen(now, now.read), read=None, key=0, pc="pass read"))]


def freeze(case: Case, now: State) -> list[Step]:
    """Writes are refused from here on: all but the one that the limiter lets through."""
    token = 1 if now.fence == OPEN else now.token
    then = "freeze barrier" if case.rules.closes_freeze else "list"
    return [("writes are frozen", now._replace(fence=FROZEN, token=token, pc=then))]


def freeze_barrier(case: Case, now: State) -> list[Step]:
    """The token is taken, and a barrier sent."""
    return [("token taken, barrier", now._replace(queue=(*now.queue, BARRIER), token=0, mark=now.accepted, pc="freeze wait"))]


def freeze_wait(case: Case, now: State) -> list[Step]:
    """It is through."""
    return [] if BARRIER in now.queue else [("barrier acknowledged", now._replace(pc="list"))]


def list_versions(case: Case, now: State) -> list[Step]:
    """Before the last pass: the number of the last operation; versions too, where they are what tells of changes."""
    closed = case.rules.policy == "freeze" and case.rules.closes_freeze
    start = now.mark if closed else now.done
    after = now._replace(start=start, view=(), key=0, pc="last source")
    if case.rules.versions and case.rules.versions_first:
        after = after._replace(written=0, fresh=0, touched=0)
    if case.rules.recorded:
        after = after._replace(todo=now.since)
    return [(f"last pass begins at operation {start}", after)]


def last_source(case: Case, now: State) -> list[Step]:
    """The last pass reads both sides: the old one first. By a record, only what was written since on either."""
    if case.rules.recorded and not now.todo >> now.key & 1 and now.seen[now.key] != DIRTY:
        view = (*now.view, (now.seen[now.key], now.target[now.key]))
        return [("last pass: not written since", onward(case, now, "last source", "commit", view=view))]
    return [(f"last pass reads {now.source[now.key]}", now._replace(read=now.source[now.key], pc="last target"))]


def last_target(case: Case, now: State) -> list[Step]:
    """Equal and unchanged: proven. Else it is repaired, or ``refuse`` stops."""
    here, rules = now.target[now.key], case.rules
    # Where f computes nothing, what equals f of the source now is proven by that: there may be no base.
    unchanged = rules.identity or now.read == now.seen[now.key] or not rules.redoes_changed
    wanted = made(now.read, rules)
    # An inverse fills no vector, so that all of a point can be compared.
    equal = here == wanted if rules.recorded else alike(here, now.read, rules)
    if equal and unchanged:
        view = (*now.view, (now.read, here))
        return [("last pass: equal", onward(case, now, "last source", "commit", view=view, read=None))]
    changed = rules.identity or (now.seen[now.key] != DIRTY and now.read != now.seen[now.key])
    if rules.policy == "refuse" and changed:
        return [("refused: a change was seen", now._replace(pc="stopped", read=None))]
    return [("last pass: different", now._replace(pc="repair read"))]


def repair_read(case: Case, now: State) -> list[Step]:
    """It is read once more, and noted as in a pass."""
    value = now.source[now.key]
    base = seen(now, DIRTY) if case.rules.marks_dirty else now.seen
    return [(f"repair reads {value}", now._replace(read=value, seen=base, pc="repair write"))]


def repair_write(case: Case, now: State) -> list[Step]:
    """It is written."""
    target = put(now.target, now.key, made(now.read, case.rules))
    since = now.since | 1 << now.key if case.rules.recorded else 0
    return [("repair writes", now._replace(target=target, since=since, pc="repair back"))]


def repair_back(case: Case, now: State) -> list[Step]:
    """What is there now is what the base has."""
    view = (*now.view, (now.read, now.target[now.key]))
    after = now._replace(view=view, seen=seen(now, now.read), read=None)
    return [("repair is read back", onward(case, after, "last source", "commit"))]


def commit(case: Case, now: State) -> list[Step]:
    """The base of the proof, before the swap."""
    rules = case.rules
    if rules.goes_on and now.straggler is not None:
        return []
    if rules.goes_on and now.touched and rules.lists_behind:
        return [("the dead has written meanwhile: once more", now._replace(pc="list", start=0, view=()))]
    if rules.policy == "freeze" and now.done != now.start and not rules.closes_freeze:
        return [("written meanwhile: once more", now._replace(pc="list", start=0, view=()))]
    if rules.policy == "refuse" and now.done != now.start:
        return [("refused: written meanwhile", now._replace(pc="stopped", view=()))]
    if not rules.base_before_swap:
        return [("the base is not committed yet", now._replace(pc="run"))]
    closing = rules.policy == "freeze" and rules.closes_freeze
    return [("base committed", based(case, now)._replace(view=(), pc="closing barrier" if closing else "run"))]


def based(case: Case, now: State) -> State:
    """With the base that the last pass has seen."""
    after = now._replace(
        base_source=tuple(source for source, _ in now.view),
        base_target=tuple(target for _, target in now.view),
        base_start=now.start,
        base_epoch=now.epoch,
        base_foreign=now.foreign,
    )
    if case.rules.identity:
        after = after._replace(seen=tuple(source for source, _ in now.view))
    if case.rules.versions and not case.rules.versions_first:
        # The mutant: they are listed behind what they are to vouch for.
        after = after._replace(written=0, fresh=0, touched=0)
    return after


def closing_barrier(case: Case, now: State) -> list[Step]:
    """Before the swap under a freeze."""
    queue = (*now.queue, BARRIER)
    after = now._replace(queue=queue, token=0, mark=now.accepted, mode="closing", pc="closing wait")
    return [("token taken, closing barrier", after)]


def closing_wait(case: Case, now: State) -> list[Step]:
    """Nothing was written since the last pass began, or it is repeated."""
    if BARRIER in now.queue:
        return []
    if now.mark == now.start:
        return [("nothing written since", now._replace(pc="run"))]
    return [("written since: last pass again", now._replace(pc="list", mode="", start=0))]


def swap(case: Case, now: State) -> list[Step]:
    """The name moves, on the first node."""
    after = land(case, now, Request("swap"), late=False)
    if not case.rules.base_before_swap:
        after = based(case, after)._replace(view=())
    return [("SWAP", after._replace(pc="read back" if case.rules.nodes == 2 else "behind"))]


PLACES = {
    "fill read": fill_read,
    "fill write": fill_write,
    "record list": record_list,
    "record base": record_base,
    "lift": lift,
    "pass read": pass_read,
    "redo write": redo_write,
    "redo note": redo_note,
    "freeze": freeze,
    "freeze barrier": freeze_barrier,
    "freeze wait": freeze_wait,
    "list": list_versions,
    "last source": last_source,
    "last target": last_target,
    "repair read": repair_read,
    "repair write": repair_write,
    "repair back": repair_back,
    "commit": commit,
    "closing barrier": closing_barrier,
    "closing wait": closing_wait,
    "swap": swap,
}
