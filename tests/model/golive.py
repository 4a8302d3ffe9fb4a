"""The holder from its proof on: the swap or the gap, fence and sweep, retirement; and the holder that takes over."""

from __future__ import annotations

from collections.abc import Callable

from tests.model import passes
from tests.model.passes import onward
from tests.model.state import (
    BARRIER,
    FENCED,
    FROZEN,
    OPEN,
    SOURCE,
    TARGET,
    Carry,
    Case,
    State,
    Step,
    Value,
    alike,
    made,
)
from tests.model.world import deleted, land, may_lift, pending, swap_flaws


def actions(case: Case, now: State) -> list[Step]:
    """What the holder may do next; nothing where it waits or has ended."""
    if now.gone and now.alias is None and now.pc not in ("dead", "gap alias", "stopped"):
        return [("the source is gone: the gap is finished", now._replace(pc="gap alias"))]
    place = PLACES.get(now.pc)
    return place(case, now) if place else []


def run(case: Case, now: State) -> list[Step]:
    """Noted before the name moves; a deletion is recorded before it is sent (rule 12)."""
    rules = case.rules
    if rules.gap:
        phase = "deleting" if rules.records_deletion else "cut"
        return [("journal: the deletion begins", now._replace(phase=phase, pc="gap delete"))]
    return [("journal: the name moves", now._replace(phase="cut", pc="early fence" if rules.fenced_before else "swap"))]


def early_fence(case: Case, now: State) -> list[Step]:
    """A freeze of milliseconds, where nodes may disagree about the name."""
    return [("FENCE before the swap", now._replace(fence=FROZEN, token=1, pc="early barrier"))]


def early_barrier(case: Case, now: State) -> list[Step]:
    """Its token is taken."""
    return [("token taken, barrier", now._replace(queue=(*now.queue, BARRIER), token=0, mark=now.accepted, pc="early wait"))]


def early_wait(case: Case, now: State) -> list[Step]:
    """The barrier is through."""
    return [] if BARRIER in now.queue else [("barrier acknowledged", now._replace(pc="swap"))]


def gap_delete(case: Case, now: State) -> list[Step]:
    """The plain collection goes, and its name with it."""
    return [("DELETE source", deleted(now._replace(flaws=swap_flaws(case, now, late=False)))._replace(pc="gap alias"))]


def gap_alias(case: Case, now: State) -> list[Step]:
    """Its name is an alias from here on."""
    return [("alias made", now._replace(alias=TARGET, alias_b=TARGET, pc="gap finish"))]


def gap_finish(case: Case, now: State) -> list[Step]:
    """Recorded."""
    return [("journal: done", now._replace(phase="done", pc="end", mode=""))]


def read_back(case: Case, now: State) -> list[Step]:
    """Every node shows it."""
    return [("read back on every node", now._replace(pc="behind"))] if now.alias_b == TARGET else []


def behind(case: Case, now: State) -> list[Step]:
    """A freeze stays as the fence; what was there when the last pass began is what a barrier is compared with."""
    fence = FENCED if now.fence == FROZEN else now.fence
    return [("on to the fence", now._replace(fence=fence, floor=now.start, mode="", pc="fence"))]


def fence(case: Case, now: State) -> list[Step]:
    """Sent once: sending it again gives a token back (rule 4)."""
    if case.rules.fence == "none":
        return [("(no fence)", now._replace(pc="barrier"))]
    if now.fence != OPEN and case.rules.fences_once:
        return [("the fence stands", now._replace(fence=FENCED, pc="barrier"))]
    return [("FENCE", now._replace(fence=FENCED, token=0 if case.rules.fence == "early" else 1, pc="barrier"))]


def barrier(case: Case, now: State) -> list[Step]:
    """Tokens, then a barrier; the mutants ask for the length of the queue, or send the fence again."""
    rules = case.rules
    if not rules.barriers:
        return [] if now.queue else [("queue length 0", begun(case, now._replace(mark=now.accepted)))]
    if not rules.fences_once and now.fence != OPEN and not now.token:
        return [("barrier refused: the fence is sent again", now._replace(token=1))]
    token = now.token if rules.fence == "early" else 0
    after = now._replace(queue=(*now.queue, BARRIER), mark=now.accepted, token=token, pc="behind barrier")
    return [("token taken, barrier", after)]


def behind_barrier(case: Case, now: State) -> list[Step]:
    """Nothing was written since the last reading began: over. Else another reading."""
    if BARRIER in now.queue:
        return []
    if case.rules.sweeps_again and now.floor == now.mark:
        return [("nothing written since the last reading", now._replace(pc="finish", floor=-1))]
    first = begun(case, now._replace(floor=now.mark))
    steps = [("a reading begins", first)]
    if case.rules.versions and case.rules.lacking:
        there = [key for key, value in enumerate(now.source) if value is not None]
        # What a listing lacks is asked for by its id, or taken for gone.
        steps += [(f"its listing lacks {key}", first._replace(lacked=1 << key, todo=first.todo | 1 << key)) for key in there]
    return steps


def begun(case: Case, now: State) -> State:
    """At the begin of a sweep's reading: by versions, only what has another one is read."""
    after = now._replace(key=0, pc="sweep source", todo=now.written, fresh=0)
    return after if case.rules.commits_round_last else after._replace(written=0)


def sweep_source(case: Case, now: State) -> list[Step]:
    """Rule 6, first part: what is as the base has it is skipped."""
    key, value = now.key, now.source[now.key]
    carry, bit = now.carries[key], 1 << now.key
    if by_versions(case, now):
        same = not now.todo & bit and (carry is None or carry.done)
        if now.lacked & bit and not case.rules.asks_by_id:
            value = None
    else:
        assert now.base_source is not None
        same = value == now.base_source[key] if carry is None else carry.done and value == carry.source
    if same:
        return [("sweep: source as in the base", onward(case, now, "sweep source", "sweep end"))]
    if case.rules.narrow and by_versions(case, now):
        return [(f"sweep reads the source: {value}, the carry is journaled", _journaled(now._replace(read=value)))]
    return [(f"sweep reads the source: {value}", now._replace(read=value, pc="sweep target"))]


def by_versions(case: Case, now: State) -> bool:
    """Whether versions tell what has changed: narrowly, only those that this very process has listed."""
    return case.rules.versions and (not case.rules.narrow or now.base_epoch == now.epoch)


def _expected(now: State) -> Value:
    """What the new side holds of the present key where no other client has written it."""
    carry = now.carries[now.key]
    assert now.base_target is not None
    return now.base_target[now.key] if carry is None else carry.target


def _journaled(now: State) -> State:
    """Before the new side is read: that is to be followed by the write at once."""
    carry = Carry(now.read, done=False, target=_expected(now))
    return now._replace(carries=noted(now, carry), pc="sweep mark")


def sweep_mark(case: Case, now: State) -> list[Step]:
    """The number of operations on the new side, before it is read."""
    return [("sweep counts the operations", now._replace(mark=now.foreign, pc="sweep ask"))]


def sweep_ask(case: Case, now: State) -> list[Step]:
    """The version of the new side: touched by others is kept; what isn't there is as absent as it was, or deleted."""
    here, expected = now.target[now.key], _expected(now)
    touched = here != expected
    if case.rules.asks_versions and here is not None:
        touched = bool(now.touched >> now.key & 1)
    if not touched:
        return [("sweep: untouched", now._replace(pc="carry" if case.rules.marks_first else "sweep count"))]
    equal = alike(here, now.read, case.rules) and (case.rules.computes or here is None)
    listed = now.listed if equal and here is None else now.listed | 1 << now.key
    # Whatever comes late for it afterwards must not take what was met for its own doing.
    left = Carry(now.read, done=True, target=expected)
    after = now._replace(carries=noted(now, left), read=None, mark=0, listed=listed)
    return [("sweep: touched, so kept and listed", onward(case, after, "sweep source", "sweep end"))]


def sweep_count(case: Case, now: State) -> list[Step]:
    """The mutant: they are counted behind the look."""
    return [("sweep counts the operations", now._replace(mark=now.foreign, pc="carry"))]


def is_base(case: Case, now: State) -> tuple[bool, bool]:
    """Whether the target has only what we left there, and whether a carry of the dead has to be repeated."""
    carry, here = now.carries[now.key], now.target[now.key]
    assert now.base_target is not None
    if carry is not None and not carry.done:
        ours = here == carry.target or alike(here, carry.source, case.rules)
        return ours, ours
    if by_versions(case, now):
        return not now.touched >> now.key & 1, False
    if carry is not None:
        return alike(here, carry.source, case.rules), False
    return here == now.base_target[now.key], False


def sweep_target(case: Case, now: State) -> list[Step]:
    """Rule 6, second part: the target's base comes first, then f(source), else it is kept and listed."""
    base, again = is_base(case, now)
    first = now.pc == "sweep target"
    if again and first:
        return [("sweep: an interrupted carry", now._replace(pc="sweep look"))]
    equal = alike(now.target[now.key], now.read, case.rules)
    if equal and not (case.rules.base_first and base):
        return [("sweep: the target has it", onward(case, now, "sweep source", "sweep end", read=None))]
    if not base:
        listed = now.listed | 1 << now.key
        return [("sweep: kept and listed", onward(case, now, "sweep source", "sweep end", read=None, listed=listed))]
    if first:
        return [("sweep: target as in the base", now._replace(pc="sweep look"))]
    after = now._replace(pc="carry", mark=now.foreign)
    if case.rules.journals_carries:
        after = after._replace(carries=noted(now, Carry(now.read, done=False, target=now.target[now.key])))
    return [("sweep: re-read, the carry is journaled", after)]


def noted(now: State, carry: Carry) -> tuple[Carry | None, ...]:
    """The journal of carries with one of the present key."""
    return (*now.carries[: now.key], carry, *now.carries[now.key + 1 :])


def carry(case: Case, now: State) -> list[Step]:
    """It is written; listed, unless the target shows nothing but our own writes."""
    request = pending(case, now)
    assert request is not None
    rules, key, absent = case.rules, now.key, now.target[now.key] is None and now.read is not None
    after = land(case, now, request, late=False)
    others = now.foreign != now.base_foreign
    if rules.narrow and by_versions(case, now):
        absent = _expected(now) is None
        if (rules.lists_race and now.foreign != now.mark) or (rules.lists_absent and others and absent):
            after = after._replace(listed=now.listed | 1 << key)
        elif others and rules.names_missed:
            after = after._replace(missed=now.missed | 1 << key)
    else:
        doubtful = rules.lists_doubt == "any" or (rules.lists_doubt == "absent" and absent)
        if now.foreign != now.mark or (others and doubtful):
            after = after._replace(listed=now.listed | 1 << key)
    if rules.journals_carries:
        left = made(now.read, rules) if rules.narrow else None
        after = after._replace(carries=noted(now, Carry(now.read, done=True, target=left)))
    after = after._replace(read=None, mark=0)
    if rules.versions and not rules.knows_own:
        return [("sweep writes the target", after._replace(pc="carry note"))]
    return [("sweep writes the target", onward(case, after, "sweep source", "sweep end"))]


def carry_note(case: Case, now: State) -> list[Step]:
    """The mutant: the number of our own write is whatever is there a moment later."""
    touched = now.touched & ~(1 << now.key)
    return [("sweep lists the target again", onward(case, now, "sweep source", "sweep end", touched=touched))]


def sweep_end(case: Case, now: State) -> list[Step]:
    """Another barrier; what the listing of this round showed is carried, so it is what counts from now on."""
    after = now._replace(todo=0, lacked=0, written=now.fresh if case.rules.commits_round_last else now.written)
    return [("reading over", after._replace(pc="fence" if case.rules.sweeps_again else "finish"))]


def finish(case: Case, now: State) -> list[Step]:
    """Recorded; later the source is retired, checked once more."""
    rules = case.rules
    if now.mode == "retire":
        return [("as it was left", now._replace(pc="retire"))]
    if not rules.retires:
        return [("journal: done", now._replace(phase="done", pc="end", mark=0))]
    if now.phase != "done":
        return [("journal: done, holdover", now._replace(phase="done"))]
    if not rules.checks_retired:
        return [("retire", now._replace(pc="retire delete"))]
    return [("retire: fence and barrier", now._replace(pc="fence", mode="retire", floor=now.mark))]


def retire(case: Case, now: State) -> list[Step]:
    """That it is about to be deleted is recorded first (rule 12)."""
    phase = "deleting" if case.rules.records_deletion else now.phase
    return [("journal: the deletion begins", now._replace(phase=phase, pc="retire delete"))]


def retire_delete(case: Case, now: State) -> list[Step]:
    """It goes."""
    return [("DELETE source", deleted(now)._replace(pc="end"))]


def dead(case: Case, now: State) -> list[Step]:
    """Another holder takes over, once what the last one sent can't arrive any more."""
    rules, late = case.rules, now.straggler
    if late is not None and late[1] and rules.waits_for_dead and not _goes_on(case, now):
        return []
    if rules.nodes == 2 and now.alias != now.alias_b:
        return []
    lifts = now.fence == FROZEN and may_lift(case, now) and now.phase != "deleting"
    if late is not None and rules.own_aliases and not late[1] and late[0].kind != "delete":
        # Its alias is gone: whatever it sends is answered 404. A deletion goes by the name of its collection.
        now = now._replace(straggler=None)
    if lifts:
        now = now._replace(fence=OPEN, token=0)
    return _behind(case, now) if now.alias == TARGET else [_before(case, now)]


def _goes_on(case: Case, now: State) -> bool:
    """Whether what is under way can do no harm but to what is proven later."""
    request = now.straggler[0] if now.straggler else None
    early = now.phase in ("fill", "converge") and now.alias == SOURCE and now.fence == OPEN
    return case.rules.goes_on and request is not None and request.kind == "write" and early


def _behind(case: Case, now: State) -> list[Step]:
    """The name has moved."""
    rules = case.rules
    if now.base_source is None:
        return [("resume: no base, exit 7", now._replace(pc="stopped"))]
    if rules.gap:
        return [("resume: the gap is over", now._replace(pc="gap finish"))]
    if now.phase not in ("done", "deleting"):
        start = now.base_start
        return [("resume: behind the swap", now._replace(pc="behind", start=start, phase="cut"))]
    if not rules.retires or now.gone:
        return [("resume: finished", now._replace(pc="end"))]
    on = [("resume: at the retirement", now._replace(pc="fence", mode="retire", floor=-1))]
    if rules.goes_back and now.phase != "deleting":
        on.append(("another holder goes back to the source", now._replace(alias=SOURCE, alias_b=SOURCE, pc="back")))
    return on


def _before(case: Case, now: State) -> Step:
    """The name is where it was, or nowhere."""
    if now.gone:
        return "resume: in the gap", now._replace(pc="gap alias")
    if now.phase == "fill":
        return "resume: fill", now._replace(pc="fill read")
    if now.phase in ("cut", "deleting") and not case.rules.proves_again and now.base_source is not None:
        return "resume: swap on the kept base", now._replace(pc="swap", start=now.base_start)
    phase = "deleting" if now.phase == "deleting" else "converge"
    then = "lift" if case.rules.backwards else passes.first_pass(case, now)
    if case.rules.recorded and not now.kept:
        # The way there was not over: it is proven once more, and listed before that.
        then = "record list"
    return "resume: converge", now._replace(pc=then, phase=phase)


PLACES: dict[str, Callable[[Case, State], list[Step]]] = {
    **passes.PLACES,
    "run": run,
    "early fence": early_fence,
    "early barrier": early_barrier,
    "early wait": early_wait,
    "gap delete": gap_delete,
    "gap alias": gap_alias,
    "gap finish": gap_finish,
    "read back": read_back,
    "behind": behind,
    "fence": fence,
    "barrier": barrier,
    "behind barrier": behind_barrier,
    "sweep source": sweep_source,
    "sweep target": sweep_target,
    "sweep look": sweep_target,
    "sweep mark": sweep_mark,
    "sweep ask": sweep_ask,
    "sweep count": sweep_count,
    "carry": carry,
    "carry note": carry_note,
    "sweep end": sweep_end,
    "finish": finish,
    "retire": retire,
    "retire delete": retire_delete,
    "dead": dead,
}
