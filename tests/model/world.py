"""What happens without the holder: writers, the server's queue and limiter, nodes, late requests, and time."""

from __future__ import annotations

from tests.model.state import (
    BARRIER,
    CHECKED,
    DONE,
    FENCED,
    FROZEN,
    NEW,
    NO_BASE,
    NOTHING,
    OLD_PROOF,
    OPEN,
    QUEUED,
    REFUSED,
    RESOLVED,
    SERVES_NOTHING,
    SOURCE,
    TAKEN,
    TARGET,
    UNPROVEN,
    Case,
    Request,
    State,
    Step,
    alike,
    applied,
    fails,
    made,
    put,
    stamped,
)

#: Where a holder stands -> the kind of request that it sends from there.
KINDS = {
    "swap": "swap",
    "freeze": "freeze",
    "fence": "fence",
    "lift": "lift",
    "gap delete": "delete",
    "retire delete": "delete",
}
#: Where a retirement is between its barrier and its end.
RETIRING = ("behind barrier", "finish", "retire", "retire delete")
LEVELS = {"fence": FENCED, "freeze": FROZEN}


def actions(case: Case, now: State) -> list[Step]:
    """Everything that may happen next."""
    steps: list[Step] = []
    for number in range(len(case.ops)):
        steps += writer(case, now, number)
    return steps + worker(case, now) + surroundings(case, now)


def writer(case: Case, now: State, number: int) -> list[Step]:
    """One writer: it resolves the name, and its operation is accepted, refused or done."""
    stage = now.stages[number]
    if stage == NEW:
        return _begins(case, now, number)
    if stage == RESOLVED and now.sides[number] == TARGET:
        return [_on_target(case, now, number)]
    if stage in (RESOLVED, CHECKED):
        return [_on_source(case, now, number)]
    return []


def _to(now: State, number: int, stage: int) -> tuple[int, ...]:
    return (*now.stages[:number], stage, *now.stages[number + 1 :])


def _refused(now: State, number: int, why: str) -> Step:
    return f"w{number}: {why}", now._replace(stages=_to(now, number, REFUSED), failed=now.failed | 1 << number)


def _begins(case: Case, now: State, number: int) -> list[Step]:
    if now.alias is None:
        return [_refused(now, number, "404, no such name")]
    order = now.order
    for other in range(len(case.ops)):
        if now.acked >> other & 1:
            order |= 1 << (other * len(case.ops) + number)
    names = dict.fromkeys([now.alias, now.alias_b] if case.rules.nodes == 2 else [now.alias])
    stages = _to(now, number, RESOLVED)
    return [
        (
            f"w{number}: {case.ops[number]} begins, the name leads to {name}",
            now._replace(stages=stages, sides=(*now.sides[:number], name, *now.sides[number + 1 :]), order=order),
        )
        for name in names
        if name is not None
    ]


def _on_target(case: Case, now: State, number: int) -> Step:
    op = case.ops[number]
    if now.target_fenced:
        return _refused(now, number, "refused by the fence of the target")
    if fails(op, now.target):
        changed = now._replace(stages=_to(now, number, REFUSED), foreign=now.foreign + 1)
        return f"w{number}: no such point in the target", changed
    touched = now.touched | stamped(op, now.target) if case.rules.versions else 0
    return f"w{number}: done in the target", now._replace(
        stages=_to(now, number, DONE),
        target=applied(op, now.target),
        acked=now.acked | 1 << number,
        foreign=now.foreign + 1,
        touched=touched,
    )


def _on_source(case: Case, now: State, number: int) -> Step:
    """The limiter is asked together with the acceptance (``atomic``), or some time before it (``early``)."""
    rules, limited = case.rules, now.fence != OPEN and case.rules.fence != "none"
    if now.gone:
        return _refused(now, number, "the source is deleted")
    early = rules.fence == "early"
    if limited and not now.token and not (early and now.stages[number] == CHECKED):
        return _refused(now, number, "refused by the fence of the source")
    token = now.token - 1 if (limited and now.stages[number] == RESOLVED) or (limited and not early) else now.token
    if early and now.stages[number] == RESOLVED:
        return f"w{number}: passes the limiter", now._replace(stages=_to(now, number, CHECKED), token=token)
    if early:
        token = now.token
    return f"w{number}: accepted by the source", now._replace(
        stages=_to(now, number, QUEUED),
        queue=(*now.queue, number),
        accepted=now.accepted + 1,
        token=token,
        acked=now.acked if rules.waits else now.acked | 1 << number,
    )


def worker(case: Case, now: State) -> list[Step]:
    """The source does what was accepted, one after the other; what was taken from the queue is not visible yet."""
    if now.taken == NOTHING:
        if not now.queue:
            return []
        first, rest = now.queue[0], now.queue[1:]
        if first == BARRIER:
            return [("source: a barrier is done", now._replace(queue=rest))]
        return [(f"source: takes w{first}", now._replace(queue=rest, taken=first, stages=_to(now, first, TAKEN)))]
    number = now.taken
    op = case.ops[number]
    if fails(op, now.source):
        return [(f"source: w{number}, no such point", now._replace(taken=NOTHING, stages=_to(now, number, REFUSED)))]
    stamps = stamped(op, now.source) if case.rules.versions else 0
    return [
        (
            f"source: w{number} done",
            now._replace(
                taken=NOTHING,
                source=applied(op, now.source),
                done=now.done + 1,
                stages=_to(now, number, DONE),
                acked=now.acked | 1 << number,
                written=now.written | stamps,
                fresh=now.fresh | stamps,
                since=now.since | stamps if case.rules.recorded else 0,
            ),
        )
    ]


def surroundings(case: Case, now: State) -> list[Step]:
    """A minute, the second node, late requests, a death, and the helper of a freeze."""
    rules, steps = case.rules, list[Step]()
    # What follows the taking of a token ends before another one is there, a deletion that is under way too.
    under_way = now.straggler is not None and now.straggler[1] and now.straggler[0].kind == "delete"
    quick = now.mode == "closing" or (now.mode == "retire" and now.pc in RETIRING) or under_way
    if now.fence != OPEN and not now.token and now.minutes < rules.refills and not quick:
        steps.append(("a minute passes: one write may pass", now._replace(token=1, minutes=now.minutes + 1)))
    if rules.nodes == 2 and now.alias == TARGET and now.alias_b == SOURCE:
        steps.append(("the second node moves the name", now._replace(alias_b=TARGET)))
    if now.straggler is not None:
        request = now.straggler[0]
        steps.append((f"late request arrives: {request.kind}", land(case, now, request, late=True)._replace(straggler=None)))
        steps.append(("late request is lost", now._replace(straggler=None)))
    # A helper acts for a parent that is dead, not for one that stands still.
    stands = now.straggler is not None and case.rules.looks_before_lifting
    if now.pc == "dead" and now.fence == FROZEN and not stands and may_lift(case, now) and now.phase != "deleting":
        steps.append(("helper: the freeze is lifted", now._replace(fence=OPEN, token=0)))
    if now.epoch < rules.crashes and now.pc not in ("end", "stopped", "dead", "back"):
        steps += _deaths(case, now)
    return steps


def may_lift(case: Case, now: State) -> bool:
    """Whether a freeze without an owner may be lifted: the name is on the source, and no request can move it."""
    if not case.rules.looks_before_lifting:
        return True
    sent = now.straggler is not None and (now.straggler[1] or not case.rules.own_aliases)
    return now.alias == SOURCE and not sent


def _deaths(case: Case, now: State) -> list[Step]:
    request = pending(case, now)
    if request is not None and case.rules.only not in (None, request.kind):
        request = None
    after = now._replace(
        epoch=now.epoch + 1, pc="dead", key=0, read=None, mark=0, start=0, floor=-1, view=(), mode=""
    )._replace(fresh=0, todo=0, lacked=0)
    sent = (request, True) if request else None
    steps = [(f"holder dies at {now.pc!r}", after._replace(straggler=sent))]
    if request and case.rules.pauses:
        steps.append((f"holder stands still before: {request.kind}", after._replace(straggler=(request, False))))
    return steps


def pending(case: Case, now: State) -> Request | None:
    """The request that a holder is about to send at its place."""
    rules, value = case.rules, made(now.read, case.rules)
    if now.pc in ("redo write", "repair write") or (now.pc == "fill write" and value is not None):
        return Request("write", now.key, value)
    if now.pc == "carry":
        assert now.base_target is not None
        fresh = now.base_target[now.key] is None and now.target[now.key] is None and now.read is not None
        return Request("write", now.key, value, fresh)
    if now.pc == "lift" and not now.target_fenced:
        return None
    if now.pc == "fence" and now.fence != OPEN and rules.fences_once:
        return None
    kind = KINDS.get(now.pc)
    return Request(kind) if kind else None


def land(case: Case, now: State, request: Request, *, late: bool) -> State:
    """A request of a holder reaches the server."""
    rules = case.rules
    if request.kind == "write":
        foreign = now.foreign + late
        if request.fresh and now.target[request.key] is not None:
            return now._replace(foreign=foreign)
        touched, bit = now.touched, 1 << request.key
        if rules.versions and (late or rules.knows_own):
            # Our own write is known by its number; one of the dead is not.
            touched = touched | bit if late else touched & ~bit
        since = now.since | bit if rules.recorded else 0
        target = put(now.target, request.key, request.value)
        return now._replace(target=target, foreign=foreign, touched=touched, since=since)
    if request.kind == "swap":
        both = TARGET if rules.nodes == 1 else now.alias_b
        return now._replace(alias=TARGET, alias_b=both, flaws=swap_flaws(case, now, late=late))
    if request.kind in LEVELS:
        level = LEVELS[request.kind]
        return now._replace(fence=max(now.fence, level), token=0 if rules.fence == "early" else 1)
    if request.kind == "lift":
        return now._replace(target_fenced=False)
    if now.alias == SOURCE and not rules.gap:
        now = now._replace(flaws=now.flaws | SERVES_NOTHING)
    return deleted(now)


def deleted(now: State) -> State:
    """The source is gone, and its name with it where it is a plain one."""
    if now.alias == TARGET:
        return now._replace(gone=True)
    return now._replace(gone=True, alias=None, alias_b=None)


def swap_flaws(case: Case, now: State, *, late: bool) -> int:
    """What is wrong with a swap in this state (a proof that holds is true)."""
    if now.base_source is None or now.base_target is None:
        return now.flaws | NO_BASE
    flaws = now.flaws
    held = all(
        here == base and alike(here, source, case.rules)
        for here, base, source in zip(now.target, now.base_target, now.base_source, strict=True)
    )
    if not held and now.alias == SOURCE:
        flaws |= UNPROVEN
    if now.base_epoch != now.epoch and not late:
        flaws |= OLD_PROOF
    return flaws

