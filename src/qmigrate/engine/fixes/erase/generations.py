"""Points taken out of generations by id, and out of what the ledger keeps to compare these with. It chooses none."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace

from qmigrate.engine.barriers import barrier, nothing_written
from qmigrate.engine.epoch_aliases import own, reach, release
from qmigrate.engine.points.base import base_name, without
from qmigrate.engine.points.id_spaces import Ids, Spaces
from qmigrate.engine.prove.recorded import forget
from qmigrate.engine.throttle import Throttle
from qmigrate.engine.work import Work
from qmigrate.errors import VerificationError
from qmigrate.ledger import Leaving
from qmigrate.ledger.erasing import Noted
from qmigrate.model.facts.fixes import Forget, Tallied
from qmigrate.model.facts.phases import Sweep
from qmigrate.model.facts.stored import learned
from qmigrate.model.names import EpochAlias
from qmigrate.model.schema import JsonObject
from qmigrate.model.state import DELETING
from qmigrate.model.transform import PointId
from qmigrate.sequences import parts
from qmigrate.store import records

#: Places, in the order in which they are reported.
PLACES = ("journals", "samples", "exports", "archives", "quarantine")


@dataclass(slots=True)
class Tally:
    """Counts of a run so far.

    Attributes:
        work: whose running phase has them.
        taken: place -> points that rows were about.
        parts: place -> file, or other part that is removed as one -> points that were in it.
        fixes: by earlier fix (``run-step``), how many points it can't restore any more.
        emptied: earlier fixes whose export held nothing else, and is gone.
    """

    work: Work
    taken: dict[str, int] = field(default_factory=dict)
    parts: dict[str, dict[str, int]] = field(default_factory=dict)
    fixes: dict[str, int] = field(default_factory=dict)
    emptied: list[str] = field(default_factory=list)

    @classmethod
    def of(cls, work: Work) -> Tally:
        """As far as earlier attempts came."""
        known = work.facts(Forget).tally or Tallied()
        parts = {place: dict(counts) for place, counts in known.parts.items()}
        return cls(work, dict(known.taken), parts, dict(known.fixes), list(known.emptied))

    @property
    def counts(self) -> dict[str, int]:
        """Points by place."""
        return {name: self.taken.get(name, 0) + sum(self.parts.get(name, {}).values()) for name in PLACES}

    def add(self, place: str, count: int, fix: str | None = None) -> None:
        """This many points more.

        Args:
            fix: an earlier one, which can't give them back any more.
        """
        self.taken[place] = self.taken.get(place, 0) + count
        if fix is not None and count:
            self.fixes[fix] = self.fixes.get(fix, 0) + count

    def noted(self, count: Callable[[int], object]) -> Noted:
        """For a transaction that takes rows out.

        Args:
            count: called there with how many rows these were, so that :meth:`add` gets the figure.
        """

        def facts(rows: int) -> JsonObject:
            count(rows)
            return learned(Forget(self.so_far()))

        return Noted((self.work.run, self.work.step, self.work.phase), facts)

    def adding(self, place: str) -> Noted:
        """The same where each row is a point."""
        return self.noted(lambda rows: self.add(place, rows))

    def part(self, place: str, name: str, count: int) -> None:
        """What one part has lost to this run in all; may be reported again, as long as the part is there."""
        if count:
            self.parts.setdefault(place, {})[name] = count

    def note(self) -> None:
        """Write it down now."""
        self.work.note(replace(self.work.facts(Forget), tally=self.so_far()))

    def so_far(self) -> Tallied:
        """As it is kept."""
        parts = {place: dict(counts) for place, counts in self.parts.items()}
        return Tallied(dict(self.taken), parts, dict(self.fixes), tuple(self.emptied))


#: Points that are deleted together.
_AT_ONCE = 500


def delete(work: Work, physical: str, ids: Collection[PointId], throttle: Throttle | None = None) -> int:
    """Delete points of one generation, whether it serves, is fenced, or is still to serve; how many it had.

    A fence lets no write pass, so it is lifted for that moment and put back. A write past the alias in that
    moment is noticed before the generation is deleted or serves again, where anything was kept to compare it with.
    """
    throttle = throttle or Throttle(None)
    some = parts(iter(sorted(ids, key=records.order_key)), throttle.portion(_AT_ONCE))
    held = [part for part in some if _any(work, physical, part)]
    if not held:
        return 0
    generation = work.generation(physical)
    fenced = generation is not None and generation.state in ("retired", DELETING)
    prior = generation.fence if generation is not None and fenced else None
    alias = own(work, physical)
    leaving = work.lease.ledger.leaving(work.collection, physical) if prior is not None else None
    untouched = leaving is not None and _as_left(work, alias, leaving)
    gone = 0
    if prior is not None:
        work.store.lift_fence(alias, prior)
    try:
        for part in held:
            throttle.take(len(part))
            gone += len(work.store.fetch_ids(alias, part))
            work.store.delete(alias, part)
            work.tick()
    finally:
        if prior is not None:
            work.store.fence(alias)
            work.store.take_tokens(alias)
    if leaving is not None and leaving.left is not None and untouched and leaving.given_up:
        # What to compare it with was not kept: only these ids show later on that it is as it was left.
        left = replace(leaving.left, ids=dict(barrier(work.store, alias)))
        work.lease.journal(leaving.run, leaving.step, Sweep.phase, "done", learned(Sweep(left)))
    return gone


def _as_left(work: Work, alias: EpochAlias, leaving: Leaving) -> bool:
    """Whether nothing was written to it since it was left, by its operation ids."""
    told = leaving.left
    if told is None:
        return False
    taken = work.store.take_tokens(alias)
    return nothing_written(work, told.ids, barrier(work.store, alias), delta=told.barrier_delta, own_writes=taken)


def _any(work: Work, physical: str, ids: list[PointId]) -> bool:
    work.tick()
    return bool(work.store.fetch_ids(reach(work, physical), ids))


def drop_records(
    work: Work, spaces: Spaces, ids: Ids, tally: Tally | None = None, only: Collection[str] | None = None
) -> None:
    """Take points out of bases, late writes and quarantines, so that nothing takes them for missing.

    Args:
        tally: counts those of quarantines, where the caller needs that.
        only: the generations that lose them; None for all.
    """
    quarantined = tally.adding("quarantine") if tally is not None else None
    for physical in spaces.rows if only is None else only:
        mine, earlier = ids.get(spaces.of(physical), ()), ids.get(spaces.before(physical), ())
        for name, some, others in (
            (base_name(None, physical, back=False), earlier, mine),
            (base_name(physical, None, back=True), mine, earlier),
        ):
            _out_of_base(work, name, some)
            forget(work.lease, name, "source", some)
            forget(work.lease, name, "target", others)
        work.lease.forget_quarantined(physical, mine, quarantined)
        leaving = work.lease.ledger.leaving(work.collection, physical)
        if leaving is not None:
            work.lease.forget_carries(leaving.run, leaving.step, mine)
        work.tick()
    work.lease.forget_doubtful({one for known in ids.values() for one in known})


def _out_of_base(work: Work, name: str, ids: Iterable[PointId]) -> None:
    keys = {records.order_key(one) for one in ids}
    if keys:
        work.lease.rewrite_pages(name, lambda page: without(page, keys))
        work.lease.forget_dirty(name, keys)


def left_in(work: Work, spaces: Spaces, ids: Ids) -> dict[str, int]:
    """How many of these points are still in a quarantine, settled or not."""
    rows = work.lease.ledger.quarantine(list(spaces.rows), settled=True)
    return {"quarantine": sum(row.point_id in ids.get(spaces.of(row.generation), ()) for row in rows)}


def still_there(work: Work, physical: str, ids: Collection[PointId]) -> set[PointId]:
    """Those of these points that a generation has, read again."""
    found: set[PointId] = set()
    for part in parts(iter(sorted(ids, key=records.order_key))):
        found |= work.store.fetch_ids(reach(work, physical), part)
        work.tick()
    return found


def check_gone(physical: str, left: Collection[PointId]) -> None:
    """Stop where a generation has kept a point.

    Raises:
        VerificationError: it has.
    """
    if left:
        raise VerificationError(
            f"{len(left):,} points that are to be erased are still in {physical}, for example {min(left, key=str)}: "
            "the server did not delete them, or another client writes them there",
            hint="run the same command again; it continues from here",
        )


def drop_aliases(work: Work, present: Mapping[str, str]) -> None:
    """Remove every own alias that was made for it."""
    release(work, list(present))
