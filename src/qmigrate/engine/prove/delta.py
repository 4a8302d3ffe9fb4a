"""Delta passes (rule 11): behind a full proof only what was written since is read again. They move no name.

A server reports for every point which operation has written it last. These numbers are listed *before* the contents
that they vouch for are read: a point whose number is the same in the next listing has not been written in between, on
either side, so what was proven of it still holds. A point with another number, and one that either listing lacks, is
read again on both sides and judged as in every other pass.

What was listed lives in this process. A run that is resumed knows nothing of it, and begins with a full pass. Once the
name has moved, the last of it is kept with the base (rule 15): there a rollback begins, perhaps days later.
"""

from __future__ import annotations

import heapq
import time
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, replace
from itertools import groupby

import numpy as np

from qmigrate.engine.barriers import barrier, only_ours
from qmigrate.engine.epoch_aliases import reach
from qmigrate.engine.points.base import (
    SIDES,
    BaseEntry,
    BasePages,
    counted_of,
    dirty_keys,
    drop_versions,
    ids_of,
)
from qmigrate.engine.points.compare import Judge
from qmigrate.engine.points.ranges import in_parallel
from qmigrate.engine.prove import recorded
from qmigrate.engine.prove.choice import ByContent, ByVersion, choose
from qmigrate.engine.prove.passes import REDO_BATCH, OwnWrites, Sample, Share, Sides, forgive, repair
from qmigrate.engine.prove.recorded import MOST_OF_ALL, batches, by_key, order_keys, unlisted
from qmigrate.engine.prove.versions import Unlisted, VersionTable, listing, settled
from qmigrate.engine.work import Work
from qmigrate.errors import NoVersionsError
from qmigrate.model.ids import Page
from qmigrate.model.report import Findings, VerificationReport
from qmigrate.ports import OperationIds, Stored
from qmigrate.store import records


class TooManyError(Exception):
    """Too many points were written: a full pass is faster."""


@dataclass(frozen=True, slots=True)
class Listed:
    """Both sides as they were listed right before the newest pass over them.

    Attributes:
        by: the vectors by which they are listed.
        base: name of the base that has what the pass has seen.
        epoch: lease epoch of the holder.
        source: versions of the source.
        target: versions of the target.
        seconds: that listing both took.
        report: of the newest pass, on all points; None before it has ended.
        took: seconds of that pass with its listing, where it was a delta pass.
        recorded: whether they were listed when the base was made, perhaps long ago, by another process.
        untouched: sides to which no other client has written since the listing before: they keep that one.
    """

    by: ByVersion
    base: str
    epoch: int
    source: VersionTable
    target: VersionTable
    seconds: float
    report: VerificationReport | None = None
    took: float | None = None
    recorded: bool = False
    untouched: frozenset[str] = frozenset()

    def table(self, side: str) -> VersionTable:
        """What was listed of ``source`` or ``target``."""
        return self.source if side == "source" else self.target

    def close(self, unless: Listed | None = None) -> None:
        """Give back its memory and files, but what another one has kept."""
        for side in SIDES:
            if unless is None or unless.table(side) is not self.table(side):
                self.table(side).close()


def newest(work: Work, sides: Sides) -> Listed | None:
    """Both sides as they were listed before the newest pass over them, by this process and holder; else None."""
    known = work.recall(Listed)
    return known if known is not None and (known.base, known.epoch) == (sides.base, work.lease.epoch) else None


def is_listed(work: Work, sides: Sides) -> bool:
    """Whether they were."""
    return newest(work, sides) is not None


def lists(work: Work, sides: Sides, *, delta: int) -> tuple[Listed | None, Listed | None]:
    """List both sides, before anything of them is read.

    Args:
        delta: reach of one barrier.

    Returns:
        What was listed before the newest pass, where that can be compared with what is listed now; and what is listed
        now, None where versions can't be had.
    """
    known = newest(work, sides)
    work.kept.pop(Listed, None)
    by = way(work, sides)
    if isinstance(by, ByContent):
        return None, None
    try:
        now = _listed(work, sides, by, known, delta)
    except NoVersionsError as error:
        work.progress.say(f"{work.collection}: all points are read, since {error.message}")
        return None, None
    if known is None:
        return None, now
    try:
        now.source.circumstances.check_follows(known.source.circumstances)
        now.target.circumstances.check_follows(known.target.circumstances)
    except NoVersionsError as error:
        work.progress.say(f"{work.collection}: all points are read again, since {error.message}")
        return None, now
    return known, now


@dataclass(frozen=True, slots=True)
class _Way:
    """How changes between two sides are found, as it was tried for a base."""

    base: str
    found: ByVersion | ByContent


def way(work: Work, sides: Sides) -> ByVersion | ByContent:
    """How changes between these sides are found; tried once for each pair, by writing to the target."""
    known = work.recall(_Way)
    if known is None or known.base != sides.base:
        if sides.rekeys or sides.exchange or sides.maker is None:
            found: ByVersion | ByContent = ByContent("a point has another id, or no inverse, on the other side")
        else:
            found = choose(work, sides.source, sides.target)
        known = work.kept[_Way] = _Way(sides.base, found)
    return known.found


def can_list(work: Work, sides: Sides) -> bool:
    """Whether versions of both sides can be listed."""
    return isinstance(way(work, sides), ByVersion)


def _listed(work: Work, sides: Sides, by: ByVersion, known: Listed | None, delta: int) -> Listed:
    """List what another client may have written to since it was listed last; the other side is as it was then.

    What was listed at the close of an earlier run is listed in any case: its ids are of another time.
    """
    started = time.monotonic()
    asked = {"source": (sides.source, by.source), "target": (sides.target, by.shadow)}
    found: dict[str, VersionTable] = {}
    untouched: set[str] = set()
    wrote = {"source": OwnWrites(), "target": work.kept.pop(OwnWrites, None)}
    work.kept[OwnWrites] = OwnWrites()

    def listed(side: str) -> None:
        name, vector = asked[side]
        before, ours = None if known is None or known.recorded else known.table(side), wrote[side]
        now = barrier(work.store, reach(work, name))
        if before is not None and _is_untouched(work, name, (before, now), delta, ours):
            # From here on only one more barrier is ours.
            before.circumstances = replace(before.circumstances, operations=now)
            untouched.add(side)
            found[side] = before
        else:
            found[side] = listing(work, name, vector, behind=now)

    try:
        # The server works for one while the other's answer is on its way.
        in_parallel(work, list(asked), listed, len(asked))
    except BaseException:
        for table in found.values():
            table.close()
        raise
    took = time.monotonic() - started
    lists = found["source"], found["target"]
    return Listed(by, sides.base, work.lease.epoch, *lists, took, untouched=frozenset(untouched))


def _is_untouched(
    work: Work, name: str, when: tuple[VersionTable, OperationIds], delta: int, ours: OwnWrites | None
) -> bool:
    """Whether no other client has written to a side since it was listed.

    What we have written to it was read back and proven, so that nothing of it has to be read again. The listing goes
    on to have the versions from before: a later one shows these points, too, as if they were written in between.

    Args:
        when: what was listed, and the ids behind a barrier that has just passed.
    """
    table, now = when
    then = table.circumstances
    # Load-bearing: operations that are not known to be ours may be those of another client.
    if not only_ours(work, then.operations, now, delta=delta, ours=None if ours is None else ours.ids):
        return False
    return settled(work.store.placement(reach(work, name))) == then.placement


def passed(work: Work, sides: Sides, ids: OperationIds, delta: int) -> None:
    """A barrier of ours has passed the target: what comes next counts from here, where only we have written to it.

    Args:
        ids: behind it.
        delta: its reach.
    """
    known, ours = newest(work, sides), work.recall(OwnWrites)
    if known is None or known.recorded or ours is None:
        return
    then = known.target.circumstances
    if only_ours(work, then.operations, ids, delta=delta, ours=ours.ids):
        known.target.circumstances = replace(then, operations=ids)
        work.kept[OwnWrites] = OwnWrites()


def begin_recorded(work: Work, sides: Sides, forward: str) -> str | None:
    """Take both sides as they were listed at their close for what was listed before the newest pass.

    What was written since, on either side, is a candidate of the pass that comes now, and of the sweep behind it.

    Args:
        forward: base of the way there, whose records are older than what the base of these sides has.

    Returns:
        Why that can't be, and all points are read; None where it can.
    """
    if sides.exchange or sides.rekeys:
        return "a point has another id on the other side"
    if sides.maker is not None and sides.maker.transform.filled:
        return "vectors are filled on the way back"
    found: list[tuple[recorded.Recorded, VersionTable]] = []
    try:
        for side, name, other in (("source", sides.source, "target"), ("target", sides.target, "source")):
            places = ((sides.base, side), (forward, other))
            kept = recorded.Kept(
                work.store, work.lease.ledger, sides.base, side, name, reach(work, name), places, tick=work.tick
            )
            found.append(recorded.take(kept))
    except NoVersionsError as error:
        for _, table in found:
            table.close()
        return error.message
    (source, one), (target, other_one) = found
    by = ByVersion(source.vector, target.vector)
    # Those too that an interrupted try has written: a pass takes them out of the report before it judges them.
    points, lacking = counted_of(work.lease.ledger.base_pages(sides.base))
    report = VerificationReport(sides.source, sides.target, points, points, dropped=lacking)
    work.kept[_Way] = _Way(sides.base, by)
    work.kept[Listed] = Listed(by, sides.base, work.lease.epoch, one, other_one, 0.0, report, recorded=True)
    return None


def record(work: Work, base: str, source: str | None, target: str) -> None:
    """Keep the versions that were listed before the proof of a base, once its name has moved.

    What an earlier attempt of this run has kept stays; anything else that is kept with the base goes.

    Args:
        source: physical name of the side that was read and trusted; None where it is gone: nothing leads back then.
        target: of the other one.
    """
    found = work.kept.pop(Listed, None)
    if found is not None and source is None:
        with found.source, found.target:
            found = None
    if found is None or source is None or (found.base, found.epoch) != (base, work.lease.epoch):
        kept = (recorded.known(work.lease.ledger, base, side) for side in SIDES)
        if any(one is not None and one.run != work.run for one in kept):
            drop_versions(work.lease, base)
        return
    with found.source, found.target:
        recorded.keep(work, base, "source", (source, reach(work, source)), found.by.source, found.source)
        recorded.keep(work, base, "target", (target, reach(work, target)), found.by.shadow, found.target)


def keep(work: Work, now: Listed | None, report: VerificationReport, took: float | None) -> None:
    """A pass that came after a listing has proven all points: the next one needs to read only what is written since.

    Args:
        took: seconds of a delta pass with its listing; None of a pass over all.
    """
    if now is not None:
        work.kept[Listed] = replace(now, report=replace(report), took=took)


def seconds_of_delta(work: Work, sides: Sides) -> float | None:
    """How long the next delta pass is expected to take; None where there can be none."""
    known = newest(work, sides)
    if known is None:
        return None
    return known.seconds if known.took is None else known.took


def delta_pass(work: Work, sides: Sides, before: Listed, now: Listed, sample: Sample) -> tuple[
    VerificationReport, int
]:
    """Read what either listing has otherwise than `before`, repair it, and prove it; the base is written in place.

    Args:
        before: from before the newest pass, with its report.
        now: from right before this one.
        sample: gets pairs that are to be embedded a second time.

    Returns:
        A report on all points, which is that of `before` brought up to date; and how many points were read again.

    Raises:
        TooManyError: a full pass is faster; what was repaired so far is in the base.
    """
    assert before.report is not None  # noqa: S101  the caller has made a pass before
    judge = Judge(sides.maker, sides.digest(work))
    earlier = replace(before.report, passes=before.report.passes + 1, repaired=0, failures=Findings())
    dirty = dirty_keys(work.lease.ledger, sides.base)
    counts = _Counts(work, sides, judge, earlier, dirty)
    most = max(REDO_BATCH * 4, int(before.report.points * MOST_OF_ALL))
    base, read = BasePages(work.lease, sides.base), 0
    for number, keys in groupby(candidates(work, sides, before, now, dirty), key=_range_of(work, sides)):
        for batch in batches(keys, REDO_BATCH):
            read += len(batch)
            if read > most:
                raise TooManyError
            counts.settle(base, Share(number, None, None, sample), batch)
            work.tick(len(batch))
    work.lease.settle_dirty(sides.base)
    return counts.report, read


def candidates(work: Work, sides: Sides, before: Listed, now: Listed, dirty: Iterable[bytes]) -> Iterator[bytes]:
    """Order keys, ascending and each once, of every point that may not be what the newest pass has seen.

    Points that another client has written, on either side; those that we have written since; those that are in no
    listing, or were in none; those that were being recomputed when a pass ended, which are `dirty`. Of a side to which
    no other client has written there is none.
    """
    streams: list[Iterator[Page]] = []
    asked = {"source": (sides.source, now.by.source), "target": (sides.target, now.by.shadow)}
    written = {side: now.table(side) for side in SIDES if side not in now.untouched}
    for side, table in written.items():
        name, vector = asked[side]
        streams.append(table.changed_since(before.table(side)))
        streams.append(unlisted(work.store, reach(work, name), vector, table))
    if written:
        streams.append(_known(work, sides, written))
    keys = heapq.merge(*map(order_keys, streams), sorted(dirty))
    return (key for key, _ in groupby(keys))


def _known(work: Work, sides: Sides, tables: Mapping[str, VersionTable]) -> Iterator[Page]:
    """Ids that the base has on a side and its listing has not: what no listing ever had may have been deleted.

    Args:
        tables: of each side that is asked for; the base is read once for all of them.
    """
    walks = {side: Unlisted(table) for side, table in tables.items()}
    for page in work.lease.ledger.base_pages(sides.base):
        # Each side has a page for each kind of id; what both lack is merged, since keys are to come in order.
        for found in zip(*(map(one.of, ids_of([page], side)) for side, one in walks.items()), strict=True):
            lacking = [one for one in found if len(one)]
            if lacking:
                yield lacking[0] if len(lacking) == 1 else np.union1d(*lacking)


def _range_of(work: Work, sides: Sides) -> Callable[[bytes], int]:
    """What tells the number of the range in which a key lies."""
    ranges = work.lease.ledger.ranges(work.run, sides.step)
    starts = [records.order_key(one.start) if one.start is not None else b"" for one in ranges]
    return lambda key: ranges[max(bisect_right(starts, key) - 1, 0)].number


class _Counts:
    """The report on all points, kept up to date as points are settled again."""

    def __init__(
        self, work: Work, sides: Sides, judge: Judge, report: VerificationReport, dirty: Set[bytes]
    ) -> None:
        self._work = work
        self._sides = sides
        self._judge = judge
        self.report = report
        # Recomputed by a pass that has not ended: the base doesn't count for these.
        self._dirty = dirty

    def settle(self, base: BasePages, share: Share, keys: Sequence[bytes]) -> None:
        """Judge a batch of points, recompute what is not f(source), and write what was seen into the base."""
        work, sides = self._work, self._sides
        ids = [records.id_of_key(key) for key in keys]
        here = by_key(work.store.fetch(reach(work, sides.source), ids))
        there = by_key(work.store.fetch(reach(work, sides.target), ids))
        counted = base.read(share.number, keys)
        self._forget(counted)
        entries: dict[bytes, BaseEntry | None] = {}
        for key in keys:
            stored, counterpart = here.get(key), there.get(key)
            if stored is None and counterpart is None:
                forgive(sides.maker, [records.id_of_key(key)])
                entries[key] = None
                continue
            share.report.points += stored is not None
            entry = counted.get(key) if key not in self._dirty else None
            entries[key] = self._judge.proven(stored, counterpart, entry, share.report)
            if entries[key] is None:
                share.suspects.append((key, stored))
            elif counterpart is not None:
                share.sample.offer(key, stored, counterpart)
        if share.suspects:
            entries.update(repair(work, sides, self._judge, share))
        base.write(share.number, entries)
        share.add_to(self.report)

    def _forget(self, counted: Mapping[bytes, BaseEntry]) -> None:
        """What the report has of points that are judged again."""
        maker = self._sides.maker
        filled = maker is not None and bool(maker.transform.filled)
        quarantine = maker.quarantine if maker is not None else None
        for key, entry in counted.items():
            self.report.points -= 1
            self.report.proven -= 1
            if entry.target == records.ABSENT:
                self.report.dropped -= 1
            elif filled and quarantine is not None and records.id_of_key(key) in quarantine:
                self.report.without_vector -= 1
            elif filled:
                self.report.embedded -= 1


def written_since(
    work: Work, sides: Sides, ids: OperationIds, further: Iterable[bytes]
) -> Iterator[tuple[bytes, Stored | None, BaseEntry | None]] | None:
    """Points of the source that were written since it was listed for the newest pass, with their base; in order.

    Args:
        ids: behind the barrier that has just passed: the source was fenced before.
        further: order keys of points that are to be among them in any case.

    Returns:
        None where all points have to be read.
    """
    known = newest(work, sides)
    if known is None:
        return None
    try:
        now = listing(work, sides.source, known.by.source, behind=ids)
        now.circumstances.check_follows(known.source.circumstances)
    except NoVersionsError as error:
        work.progress.say(f"{work.collection}: all points are read, since {error.message}")
        return None
    changed = order_keys(now.changed_since(known.source))
    lacking = order_keys(unlisted(work.store, reach(work, sides.source), known.by.source, now))
    keys = heapq.merge(changed, lacking, order_keys(_known(work, sides, {"source": now})), sorted(further))
    return _with_base(work, sides, (key for key, _ in groupby(keys)), now)


def _with_base(
    work: Work, sides: Sides, keys: Iterable[bytes], table: VersionTable
) -> Iterator[tuple[bytes, Stored | None, BaseEntry | None]]:
    base = BasePages(work.lease, sides.base)
    with table:
        for number, share in groupby(keys, key=_range_of(work, sides)):
            for batch in batches(share, REDO_BATCH):
                work.tick()
                found = by_key(work.store.fetch(reach(work, sides.source), [records.id_of_key(key) for key in batch]))
                entries = base.read(number, batch)
                for key in batch:
                    yield key, found.get(key), entries.get(key)
