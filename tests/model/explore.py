"""Every state of a case, breadth first: the first flaw that is found has a shortest way to it. It judges only ends."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from tests.model import golive, world
from tests.model.judge import NO_END, Judge
from tests.model.state import NEW, Case, State


@dataclass(frozen=True, slots=True)
class Found:
    """What the states of a case say.

    Attributes:
        states: how many there are, up to the first flaw.
        flaw: what is wrong, or None.
        way: what happened until then.
    """

    states: int
    flaw: str | None = None
    way: tuple[str, ...] = ()


def first(case: Case) -> State:
    """Before anything has happened; a rollback begins with a target that was left some time ago."""
    keys, count, rules = len(case.initial), len(case.ops), case.rules
    none: tuple[None, ...] = (None,) * keys
    start = State(
        source=case.initial,
        target=none,
        stages=(NEW,) * count,
        sides=("",) * count,
        seen=none,
        carries=none,
    )
    if not rules.backwards:
        return start
    left = case.initial if rules.at_once else tuple(value and (9, 9) for value in case.initial)
    start = start._replace(
        target=left, target_fenced=True, pc="lift", phase="converge", seen=((-1, -1),) * keys
    )
    if rules.recorded:
        return start._replace(pc="record list" if rules.record_first else "record base")
    return start._replace(base_source=case.initial, base_target=left) if rules.at_once and rules.keeps_base else start


def explore(case: Case, *, ends: bool = False) -> Found:
    """Visit every state, up to the first flaw.

    Args:
        ends: also see that an end can be reached from every state.
    """
    start, judge = first(case), Judge(case)
    came: dict[State, tuple[State, str] | None] = {start: None}
    back: dict[State, list[State]] = {}
    over: list[State] = []
    waiting = deque([start])
    while waiting:
        now = waiting.popleft()
        steps = world.actions(case, now) + golive.actions(case, now)
        if not steps:
            flaw = judge.flaw(now)
            if flaw is not None:
                return Found(len(came), flaw, way_to(now, came))
            over.append(now)
        for said, after in steps:
            if ends:
                back.setdefault(after, []).append(now)
            if after not in came:
                came[after] = (now, said)
                waiting.append(after)
    lost = _without_end(came, back, over) if ends else None
    return Found(len(came)) if lost is None else Found(len(came), NO_END, way_to(lost, came))


def way_to(state: State, came: dict[State, tuple[State, str] | None]) -> tuple[str, ...]:
    """What happened up to a state."""
    said: list[str] = []
    while (step := came[state]) is not None:
        state, words = step
        said.append(words)
    return tuple(reversed(said))


def _without_end(
    came: dict[State, tuple[State, str] | None], back: dict[State, list[State]], over: list[State]
) -> State | None:
    reached, waiting = set(over), list(over)
    while waiting:
        for earlier in back.get(waiting.pop(), ()):
            if earlier not in reached:
                reached.add(earlier)
                waiting.append(earlier)
    return next((state for state in came if state not in reached), None)
