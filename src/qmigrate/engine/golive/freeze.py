"""Freeze (rule 8): the source refuses every write from the last pass until the swap. It moves no name.

The earlier strict mode is recorded first. The freeze is bounded in time, undone when anything fails, and undone
by a helper process when this one dies; every command that changes something first ends one without an owner.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace

from qmigrate.engine.barriers import barrier
from qmigrate.engine.epoch_aliases import holder, own, reach, release
from qmigrate.engine.golive.freeze_watchdog import Watch
from qmigrate.engine.prove.delta import can_list, is_listed, seconds_of_delta
from qmigrate.engine.prove.passes import Sides
from qmigrate.engine.prove.proof import approach, is_unwritten, prove
from qmigrate.engine.prove.sweep import TOKEN_RETURNS, fence, is_last, record_fence
from qmigrate.engine.work import Frozen, Tick, Work
from qmigrate.errors import NotFoundError, RefusedError, RepairNeededError
from qmigrate.model.facts.phases import Proof
from qmigrate.model.state import DELETING
from qmigrate.ports import OperationIds
from qmigrate.text import took

#: Seconds of a freeze around its pass: the fence with its tokens, the barriers and the swap.
AROUND = 0.3
#: How often a freeze is begun before it is abandoned.
MOST_TRIES = 3
#: With ``writes: auto``, how many times ``limits.write_pause`` a freeze may take in all before it is ended.
MOST_PAUSES = 2.0
#: Last passes within one freeze: more than one only where a write came through before its token was taken.
MOST_ROUNDS = 4


class _TooLongError(Exception):
    """The time that a freeze may take is over."""


def prove_if_short(work: Work, sides: Sides, *, since: OperationIds | None, delta: int) -> Proof | None:
    """With ``writes: auto``: freeze and prove where the pause is expected to be within ``limits.write_pause``.

    How long it takes is known from the newest pass: within the freeze there is one more of its kind.

    Args:
        since: operation ids of the source at the earlier proof; None when nothing is known of them.
        delta: reach of one barrier.

    Returns:
        What was proven; None where it would take too long, and the proof that there is still is the newest. A freeze
        that takes far longer than expected is ended, and everything is proven once more while writes go on.
    """
    # Where nothing can be listed, another proof would not tell how long it takes, and the one that there is may do.
    known = is_listed(work, sides) or not can_list(work, sides)
    proven = None if known else prove(work, sides, since=since, delta=delta)
    passing, limit = seconds_of_delta(work, sides), work.settings.limits.write_pause
    if passing is not None and passing + AROUND <= limit:
        work.progress.say(f"{work.collection}: writes will be refused for about {took(passing + AROUND)}")
        return prove_frozen(work, sides, since=since, delta=delta, most=limit * MOST_PAUSES)
    why = "what was written can't be listed" if passing is None else f"a pause would take {took(passing + AROUND)}"
    work.progress.say(f"{work.collection}: writes go on during the swap, since {why}")
    return proven


def prove_frozen(
    work: Work, sides: Sides, *, since: OperationIds | None, delta: int, most: float | None = None
) -> Proof:
    """Converge, freeze the source and prove again; nothing can be written between this proof and the swap.

    Args:
        since: operation ids of the source at the earlier proof; None when nothing is known of them.
        delta: reach of one barrier.
        most: seconds after which writes go on instead, where that may be; None for ``limits.freeze``, several times.

    Returns:
        What :func:`qmigrate.engine.prove.proof.prove` learns, with the ids of the closing barrier as ``source_ids``;
        where writes go on, those of the barrier before its last pass.

    Raises:
        RefusedError: the last pass did not end within ``limits.freeze``, several times.
    """
    limit = work.settings.limits.freeze if most is None else min(most, work.settings.limits.freeze)
    for _ in range(MOST_TRIES):
        if since is not None and not can_list(work, sides) and not is_unwritten(work, sides, since, delta):
            approach(work, sides)
        # Another collection may have the models for hours: they are waited for before, not while writes are refused.
        with work.code.turn.of(work, work.tick):
            frozen = begin(work, sides.source, delta, lambda: _catch_up(work, sides, delta))
            try:
                return _proven(work, sides, frozen.began + limit)
            except _TooLongError:
                end(work)
            lasted = took(time.monotonic() - frozen.began)
        if most is not None:
            work.progress.say(
                f"{work.collection}: writes were refused for {lasted}, far longer than expected: they go on during "
                "the swap"
            )
            # What the pass that was ended has repaired, the earlier proof doesn't have.
            return prove(work, sides, since=None, delta=delta)
        work.progress.say(f"{sides.source}: not proven within {lasted}, so it takes writes again for now")
    raise RefusedError(
        f"{sides.source} could not be read within limits.freeze ({limit:.0f} s) while it refused writes; it takes "
        "them again",
        hint="raise limits.freeze in qmigrate.yaml, then run qmigrate upgrade again",
    )


def _catch_up(work: Work, sides: Sides, delta: int) -> None:
    """Passes until one is short, so that the delta pass within the freeze is."""
    if can_list(work, sides):
        prove(work, sides, since=None, delta=delta)


def begin(work: Work, source: str, delta: int, ready: Callable[[], None]) -> Frozen:
    """Refuse writes from now on, with a helper that ends it when this process dies.

    Args:
        ready: what is done once the helper stands by, which takes a second, and before writes are refused.

    Returns:
        The freeze that is in force.
    """
    if work.frozen is not None:
        return work.frozen
    watch = Watch.start(work, source)
    try:
        ready()
        # Not before: until then another client may change what is to be restored.
        watch.freezes(record_fence(work, source))
    except BaseException:
        watch.release()
        raise
    work.frozen = Frozen(source, watch, delta, began=time.monotonic())
    work.on_failure.append(end)
    work.progress.say(f"{work.collection}: writes are refused from here on until the name has moved")
    fence(work, source)
    return work.frozen


def end(work: Work) -> None:
    """Take writes again, where the name is still on the source; behind a name that has moved it stays as the fence."""
    frozen, work.frozen = work.frozen, None
    if frozen is None:
        return
    if holder(work) == frozen.source:
        thaw(work, frozen.source)
    frozen.watch.release()


def thaw(work: Work, source: str) -> None:
    """Restore the strict mode from before the freeze."""
    generation = work.generation(source)
    if generation is None or generation.fence is None:
        return
    if generation.state == DELETING:
        work.progress.say(f"{source}: its deletion has begun, so it takes no more writes; qmigrate upgrade finishes it")
        return
    # It may have been deleted since: nothing is left to lift then.
    with suppress(NotFoundError):
        work.store.lift_fence(own(work, source), generation.fence)
    work.lease.save_generation(replace(generation, fence=None))
    if not work.run:
        # Outside of a run no closing phase takes it away.
        release(work, [source])


def over(work: Work) -> None:
    """The name has moved: what was a freeze is the fence of the old generation now."""
    frozen, work.frozen = work.frozen, None
    if frozen is not None:
        frozen.watch.release()
        work.progress.say(f"{work.collection}: writes were refused for {took(time.monotonic() - frozen.began)}")


def renew(work: Work, sides: Callable[[], Sides]) -> None:
    """Right before the swap: prove again when so much time went by that a write may have come through.

    Raises:
        RefusedError: the last pass did not end within ``limits.freeze`` this time.
    """
    frozen, limit = work.frozen, work.settings.limits.freeze
    # In local mode nothing is refused, but no other process can write: unless the application has lent its client.
    fresh = frozen is not None and time.monotonic() - frozen.quiet_at <= TOKEN_RETURNS
    if frozen is None or (fresh and not work.store.capabilities.shared):
        return
    try:
        _proven(work, sides(), time.monotonic() + limit)
    except _TooLongError:
        raise RefusedError(
            f"{frozen.source} could not be read once more within limits.freeze ({limit:.0f} s) before the name moved",
            hint="raise limits.freeze in qmigrate.yaml, then run qmigrate upgrade again",
        ) from None


def _proven(work: Work, sides: Sides, deadline: float) -> Proof:
    frozen = work.frozen
    assert frozen is not None  # noqa: S101  the callers have begun
    tick, work.tick = work.tick, _bounded(work.tick, deadline)
    try:
        work.store.take_tokens(own(work, sides.source))
        for _ in range(MOST_ROUNDS):
            started = time.monotonic()
            facts = prove(work, sides, since=None, delta=frozen.delta)
            taken = work.store.take_tokens(own(work, sides.source))
            frozen.quiet_at = time.monotonic()
            closing = barrier(work.store, reach(work, sides.source))
            if is_last(work, facts.source_ids or {}, closing, (frozen.delta, taken), frozen.quiet_at - started):
                return replace(facts, source_ids=dict(closing), frozen=True)
    finally:
        work.tick = tick
    raise RepairNeededError(
        f"{sides.source} takes writes although its limit was set: it can't be proven while it changes",
        hint="qmigrate doctor shows its strict mode; is a client changing it?",
    )


def _bounded(tick: Tick, deadline: float) -> Tick:
    def bounded(count: int = 0, note: str = "") -> None:
        if time.monotonic() > deadline:
            raise _TooLongError
        tick(count, note)

    return bounded
