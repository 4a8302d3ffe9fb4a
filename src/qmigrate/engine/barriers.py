"""Barriers (rule 3): whether anything was written since an earlier one. It writes only what changes nothing."""

from __future__ import annotations

import time
import uuid
from collections.abc import Sequence

from qmigrate.engine.work import Work
from qmigrate.errors import DeniedError, NotFoundError
from qmigrate.model.facts.phases import Proof, Shadow
from qmigrate.model.names import EpochAlias
from qmigrate.ports import OperationIds, Store

#: How long stragglers of the old generation are waited for before it is fenced, in seconds.
STRAGGLER_LIMIT = 5.0


def barrier(store: Store, name: str) -> OperationIds:
    """Pass through every shard's queue; the operation ids behind it.

    A server that doesn't tell its ids (before 1.17) is only flushed: the ids are empty, which counts as quiet only in
    local mode, where no other process can write.
    """
    if store.capabilities.local or store.capabilities.barrier:
        return store.barrier(name)
    store.flush(name)
    return {}


def measure(store: Store, name: str) -> int:
    """How far one barrier moves each shard's ids, seen on a collection that no other client writes to."""
    before, after = barrier(store, name), barrier(store, name)
    moved = {after[shard] - before.get(shard, 0) for shard in after}
    return max(moved) if moved else 0


def nothing_written(
    work: Work, before: OperationIds | None, now: OperationIds, *, delta: int, own_writes: int = 0
) -> bool:
    """Whether ids moved only by one barrier of our own and by `own_writes` per shard.

    Any doubt counts as a write: other shards or nodes than before, ids that went back after a restart, no ids.
    """
    if before is None or before.keys() != now.keys():
        return False
    if not now or not exact(work):
        return work.store.capabilities.alone
    expected = delta + own_writes
    return all(now[shard] - before[shard] == expected for shard in now)


def only_ours(
    work: Work, before: OperationIds, now: OperationIds, *, delta: int, ours: Sequence[int | None] | None
) -> bool:
    """Whether ids moved only by one barrier of our own, and by operations of ours.

    Args:
        ours: the ids that these got, None of one whose id is not known; None where these operations are not known.
    """
    if ours is None:
        return False
    if ours and (len(now) != 1 or before.keys() != now.keys()):
        # An id is that of one of the shards that an operation has reached.
        return False
    within = {number for shard in now for number in ours if number and before.get(shard, 0) < number <= now[shard]}
    # An operation that was sent twice has moved the ids twice: that is a doubt, too.
    return len(within) == len(ours) and nothing_written(work, before, now, delta=delta, own_writes=len(ours))


def exact(work: Work) -> bool:
    """Whether operation ids prove anything: on a loaded cluster our own barrier may reach a replica after the reading.

    Without them the fence and a full reading behind it do, as on a server that doesn't report its ids.
    """
    return work.store.capabilities.nodes == 1


def moved_in_all(before: OperationIds, now: OperationIds) -> int | None:
    """Operations over all shards since `before`, replicas counted once each; None when that is unknown."""
    if before.keys() != now.keys():
        return None
    return sum(now[shard] - before[shard] for shard in now)


def lone_barrier(store: Store, name: str) -> OperationIds:
    """A barrier from which :class:`Undisturbed` can count; empty where it can't, or must not be asked for."""
    if store.capabilities.local or not store.capabilities.barrier or store.capabilities.nodes != 1:
        return {}
    try:
        found = store.barrier(name)
    except (DeniedError, NotFoundError):
        return {}
    return found if len(found) == 1 else {}


class Undisturbed:
    """Whether no other client has written to a collection since a barrier; asked right before each write of our own.

    For one shard on one node: each of its writes has the id after that of the write before. One that comes between
    the question and our write shows in the answer to ours, and the next question reports it. What is accepted and
    waits to be done has no id yet that could be asked for: :meth:`settle` comes first.

    Args:
        name: by which the collection is reached.
        since: the ids behind that barrier; empty for never.
    """

    def __init__(self, store: Store, name: str, since: OperationIds) -> None:
        self._store = store
        self._name = name
        self._ids = dict(since) if len(since) == 1 else {}

    def holds(self) -> bool:
        """Ask the server; once another client has written, nothing makes up for it."""
        if self._ids and self._store.operation_ids(self._name) != self._ids:
            self._ids = {}
        return bool(self._ids)

    def settle(self, alias: EpochAlias) -> None:
        """Have everything done that was accepted before, which the ids of the server don't show; what it was does here.

        A deletion of an id that no point has is one operation, as each of ours is.
        """
        if self._ids:
            self.wrote(self._store.delete(alias, [str(uuid.uuid4())]))
        else:
            self._store.flush(alias)

    def wrote(self, operation: int | None) -> None:
        """One request of ours is done, and got this id."""
        self._ids = {shard: last + 1 for shard, last in self._ids.items() if operation == last + 1}


def wait_for_stragglers(work: Work, name: str) -> None:
    """Wait (bounded) until the ids of `name` no longer change, so that requests under way finish."""
    deadline = time.monotonic() + min(STRAGGLER_LIMIT, max(work.store.request_timeout, 0.0))
    if not work.store.capabilities.barrier:
        return
    last = work.store.operation_ids(name)
    while time.monotonic() < deadline:
        time.sleep(0.05)
        work.tick()
        now = work.store.operation_ids(name)
        if now == last:
            return
        last = now


class TokenGuard:
    """Whether a fenced collection took a write of another client while it was read, known by its tokens alone.

    A shard's limiter gives one token back every minute. A client that keeps trying gets it moments after it came
    back; a longer wait means that another client had it. Exact for one shard; several come back moments apart, so that
    a try may find only some of them, which counts as a foreign write.
    """

    #: Seconds until a token comes back, how often it is tried for, and what a slow answer may take.
    REFILL, EVERY, SLACK = 60.0, 4.0, 1.0

    def __init__(self, work: Work, alias: EpochAlias) -> None:
        self._work = work
        self._alias = alias
        self._taken = self._tried = time.monotonic()
        self._late = False

    def __call__(self) -> None:
        """Try for the token when it is time; cheap otherwise."""
        now = time.monotonic()
        if now - self._tried >= self.EVERY:
            self._tried = now
            self._try(now)

    @property
    def age(self) -> float:
        """Seconds since the tokens were taken last: none comes back before :data:`REFILL`."""
        return time.monotonic() - self._taken

    def clean(self) -> bool:
        """Whether no other client can have written since the guard was set up, right after the tokens were taken."""
        while time.monotonic() - self._taken >= self.REFILL and not self._late:
            self._try(time.monotonic())
            self._work.tick()
            time.sleep(0.05)
        return not self._late

    def _try(self, now: float) -> None:
        passed = self._work.store.take_tokens(self._alias)
        waited = now - self._taken
        overdue = waited > self.REFILL + (self.EVERY if passed else 0) + self.SLACK
        self._late = self._late or overdue
        if passed:
            self._taken = now


def delta_of(work: Work) -> int:
    """The measured reach of one barrier on this step's collections, from the journal; 0 in local mode."""
    for found in (work.facts(Proof), work.facts(Shadow), work.facts(Shadow, work.build_step())):
        if found.barrier_delta is not None:
            return found.barrier_delta
    return 0
