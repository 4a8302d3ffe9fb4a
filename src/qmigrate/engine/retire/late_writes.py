"""Whether anything was written to a generation after it was left (rule 9 of the design). It deletes nothing."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import Any

from qmigrate.engine.barriers import TokenGuard, barrier, exact, measure, nothing_written
from qmigrate.engine.epoch_aliases import own
from qmigrate.engine.points.base import (
    BaseEntry,
    base_name,
    committed,
    digest_of,
    drop_base,
    exchanged,
    left_by,
    unpack,
)
from qmigrate.engine.prove.passes import keyed, page_of
from qmigrate.engine.prove.recorded import Found, Kept, read, written_since
from qmigrate.engine.prove.sweep import MOST_ROUNDS, TOKEN_RETURNS, fence, is_last
from qmigrate.engine.work import Work
from qmigrate.errors import NoVersionsError, RefusedError
from qmigrate.ledger import Leaving
from qmigrate.model.facts.phases import Proof, Shadow
from qmigrate.model.facts.retire import RetireCheck
from qmigrate.model.names import EpochAlias
from qmigrate.model.plan import Build, GoLive
from qmigrate.model.report import Findings
from qmigrate.model.state import HOLD, OpenRun
from qmigrate.ports import OperationIds
from qmigrate.sequences import join
from qmigrate.store import records
from qmigrate.text import quote

#: Makes the digest of a point, as the base has it.
Digest = Callable[[Any], bytes]


def check_left(work: Work, physical: str) -> RetireCheck:
    """See that a generation still is what it was when it was left; then nothing of it can be lost.

    Unchanged operation ids show that there were none; any doubt is settled by reading it against the base.

    Returns:
        What :func:`check_again` needs.

    Raises:
        RefusedError: it was written to, or that is unknown; facts name at most 20 ids.
    """
    leaving = work.lease.ledger.leaving(work.collection, physical)
    address = own(work, physical)
    fence(work, physical)
    told = leaving.left if leaving else None
    delta = told.barrier_delta if told is not None else measure(work.store, address)
    started = time.monotonic()
    taken, now = _barrier(work, address)
    if told and now and nothing_written(work, told.ids, now, delta=delta, own_writes=taken):
        return _facts(work, now, delta, started)
    if leaving is None or _base_of(work, leaving) is None:
        _refuse_unknown(work, physical, leaving, now)
        return _facts(work, now, delta, started)
    work.progress.begin(work.collection, f"compare {physical}", None)
    for _ in range(MOST_ROUNDS):
        started = time.monotonic()
        # Where ids prove nothing, tokens do: see there.
        blind = not work.store.capabilities.local and not (now and exact(work))
        guard = TokenGuard(work, address) if blind else None
        found = _written_since(work, physical, leaving, now, guard)
        if found.count:
            raise _refusal(work, physical, found)
        if guard is not None and _holds_tokens(work, guard):
            work.progress.end("as it was left")
            return _facts(work, now, delta, time.monotonic() - guard.age)
        before = now
        taken, now = _barrier(work, address)
        if is_last(work, before, now, (delta, taken), time.monotonic() - started):
            work.progress.end("as it was left")
            return _facts(work, now, delta, started)
    raise RefusedError(
        f"in {MOST_ROUNDS} passes it could not be proven that no client writes to {physical}, an old generation of "
        f"{work.collection}, under its own name",
        hint=f"find the client that uses the name {physical} and stop it; or {_way_on(work, physical)}",
        facts={"generation": physical},
    )


def _holds_tokens(work: Work, guard: TokenGuard) -> bool:
    """Whether no other client wrote; waits until the tokens are so fresh that none comes back before the deletion."""
    while guard.clean():
        if guard.age < TOKEN_RETURNS:
            return True
        work.tick()
        time.sleep(0.1)
    return False


def check_again(work: Work, physical: str, earlier: RetireCheck) -> None:
    """Right before the deletion: nothing came since :func:`check_left`, or all of it is checked again.

    Raises:
        RefusedError: as there.
    """
    if earlier.epoch == work.lease.epoch and earlier.ids is not None:
        taken, now = _barrier(work, own(work, physical))
        reach = (earlier.barrier_delta or 0, taken)
        # The clock is that of this process: the epoch shows that it was the same one.
        if is_last(work, earlier.ids, now, reach, time.monotonic() - (earlier.taken_at or 0.0)):
            return
    check_left(work, physical)


def drop_late_writes(work: Work, physical: str) -> None:
    """Drop what was only kept to compare a generation with: its bases, and the late writes carried from it."""
    leaving = work.lease.ledger.leaving(work.collection, physical)
    for back in (False, True):
        drop_base(work.lease, base_name(physical, physical, back=back))
    if leaving is not None:
        if leaving.target is not None and not leaving.back:
            drop_base(work.lease, base_name(physical, leaving.target, back=False))
            # The base of the way back to this generation, where it was made earlier: nothing leads back any more.
            drop_base(work.lease, base_name(leaving.target, physical, back=True))
        work.lease.drop_carries(leaving.run, leaving.step)


def _barrier(work: Work, address: EpochAlias) -> tuple[int, OperationIds]:
    """Tokens first, so that nothing passes behind the barrier; how many of them passed, and the ids."""
    taken = work.store.take_tokens(address)
    return taken, barrier(work.store, address)


def _facts(work: Work, now: OperationIds, delta: int, taken_at: float) -> RetireCheck:
    return RetireCheck(ids=dict(now), barrier_delta=delta, epoch=work.lease.epoch, taken_at=taken_at)


def _base_of(work: Work, leaving: Leaving) -> tuple[str, bool] | None:
    """Name of the base with the points of the generation as they were read last, and whether its sides are exchanged.

    None when no process has kept any.
    """
    if leaving.given_up:
        return None
    ledger = work.lease.ledger
    forward = base_name(leaving.target, leaving.source, back=False)
    mine = base_name(leaving.source, leaving.target, back=leaving.back)
    if ledger.has_base(mine):
        return mine, False
    if leaving.back and ledger.has_base(forward):
        # Nothing had been written since the way forward, so the rollback made no base of its own.
        return forward, True
    return None


def _written_since(
    work: Work, physical: str, leaving: Leaving, ids: OperationIds, guard: TokenGuard | None
) -> Findings:
    """Read the generation against its base, with the late writes that were carried from it laid over.

    Args:
        ids: behind the barrier that has just passed.
    """
    ledger, address = work.lease.ledger, own(work, physical)
    late = left_by(ledger.carries(leaving.run, leaving.step))
    name, turned = _base_of(work, leaving) or ("", False)
    places = [] if turned else [(name, "source")]
    if leaving.back:
        # That of the way there is older than whatever a rollback has read.
        places.append((base_name(leaving.target, leaving.source, back=False), "target"))
    side = "target" if turned else "source"
    kept = Kept(work.store, ledger, name, side, physical, address, tuple(places), late, work.tick)
    try:
        points = read(kept, written_since(kept, lambda: ids))
    except NoVersionsError as error:
        work.progress.say(f"{work.collection}: all points of {physical} are read, since {error.message}")
        pages = exchanged(committed(ledger, name)) if turned else committed(ledger, name)
        base = ((key, carried or entry) for key, entry, carried in join(unpack(pages), sorted(late.items())))
        points = join(keyed(work, address, (None, None), page_of(work, address)), base)
    return differing(points, digest_of(ledger, name), guard)


def differing(points: Iterable[Found], digest: Digest, guard: TokenGuard | None = None) -> Findings:
    """Points of a collection that are not what was kept of them, as they are read.

    Args:
        points: in the order of their ids, with what was kept.
    """
    found, unknown = Findings(), BaseEntry(records.ABSENT, records.ABSENT)
    for key, stored, entry in points:
        if guard is not None:
            guard()
        seen = digest(stored) if stored is not None else records.ABSENT
        known = (entry or unknown).source
        if seen != known:
            how = "new" if known == records.ABSENT else "deleted" if stored is None else "changed"
            found.add(records.id_of_key(key), how)
    return found


def _way_on(work: Work, physical: str) -> str:
    """What deletes this generation all the same, and no other one."""
    command = f"qmigrate gc {quote(work.collection)} --now --generation {quote(physical)} --discard-writes"
    return f"copy what you need from it, then: {command} deletes it anyway"


def _refuse_unknown(work: Work, physical: str, leaving: Leaving | None, now: OperationIds) -> None:
    """Without a base: what was given up on purpose may go, unless operation ids show that it was written to since."""
    given_up = leaving is not None and leaving.given_up
    left = leaving.left if leaving else None
    told: OperationIds = left.ids if left is not None else {}
    # After a restart ids begin again: then they show nothing.
    grown = bool(told) and exact(work) and told.keys() == now.keys() and all(now[one] >= told[one] for one in now)
    if given_up and not grown:
        return
    why = (
        "another client wrote to it after it was left, and which points is unknown"
        if given_up
        else "the ledger has nothing to compare it with, so it is unknown whether it was written to since"
    )
    raise RefusedError(
        f"{physical} was left unchanged: {why}", hint=_way_on(work, physical), facts={"generation": physical}
    )


def _refusal(work: Work, physical: str, found: Findings) -> RefusedError:
    named = ", ".join(f"{identifier} ({how})" for identifier, how in found.named)
    more = f", … {found.count:,} in all" if found.count > len(found.named) else ""
    return RefusedError(
        f"another client wrote to {physical} after it was left: {found.count:,} points differ from what was carried "
        f"over: {named}{more}",
        hint=_way_on(work, physical),
        facts={"generation": physical, "writes": {"count": found.count, "named": [list(one) for one in found.named]}},
    )


def check_held(work: Work, run: OpenRun, build: Build) -> None:
    """See, before an abort removes it, that a generation which waits for its cut-over is what was proven.

    Once the cut-over was released, the run itself writes to it, and nothing is known.

    Raises:
        RefusedError: another client wrote to it; names at most 20 ids.
    """
    for position, step in enumerate(run.job.steps):
        held = run.record(position, HOLD) if isinstance(step, GoLive) and step.target == build.target else None
        if held is not None and held.state != "done":
            at = run.job.steps.index(build)
            check_unserved(work, build, run.facts(Proof, at), run.facts(Shadow, at))


def check_unserved(work: Work, build: Build, proof: Proof, made: Shadow) -> None:
    """See that nothing was written to a generation since its proof: the name may have been moved there and back.

    Raises:
        RefusedError: something was; names at most 20 ids.
    """
    ledger, physical = work.lease.ledger, build.target
    forward = base_name(build.source, physical, back=False)
    # Where ids differ, the way forward has kept the other side too, in the order of its own ids.
    backward = base_name(physical, build.source, back=True)
    if physical not in work.store.physical_names() or not ledger.has_base(forward):
        return
    now = barrier(work.store, physical)
    delta = proof.barrier_delta if proof.barrier_delta is not None else made.barrier_delta or 0
    if now and nothing_written(work, proof.target_ids, now, delta=delta):
        return
    name = backward if ledger.has_base(backward) else forward
    pages = committed(ledger, name) if name == backward else exchanged(committed(ledger, name))
    points = join(keyed(work, physical, (None, None), page_of(work, physical)), unpack(pages))
    found = differing(points, digest_of(ledger, name))
    if not found.count:
        return
    named = ", ".join(f"{identifier} ({how})" for identifier, how in found.named)
    raise RefusedError(
        f"{physical} was built and proven and does not serve, but another client wrote to it since: {found.count:,} "
        f"points differ from what was proven: {named}",
        hint=f"copy what you need from it and delete {physical} in Qdrant, then "
        f"qmigrate abort {quote(work.collection)}",
        facts={"generation": physical, "writes": {"count": found.count, "named": [list(one) for one in found.named]}},
    )
