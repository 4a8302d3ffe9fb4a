"""Passes of convergence (rule 1): make the target equal to f(source), and prove it. They move no name.

A *source pass* reads the source against the base and redoes what is new, gone or changed. The *last pass* reads both
sides, repairs what it finds, and is the proof: after it every point of the source was seen equal to its counterpart.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import repeat

import xxhash

from qmigrate.engine.epoch_aliases import check_same, reach
from qmigrate.engine.points.allocator import pages_reused
from qmigrate.engine.points.base import BaseEntry, PageWriter, committed, digest_of, digest_of_bytes, exchanged, unpack
from qmigrate.engine.points.compare import Judge
from qmigrate.engine.points.pace import paced
from qmigrate.engine.points.ranges import in_parallel
from qmigrate.engine.points.transformation import Maker, write
from qmigrate.engine.throttle import Throttle
from qmigrate.engine.work import Work
from qmigrate.model.names import EpochAlias
from qmigrate.model.pages import KeyedPage
from qmigrate.model.report import VerificationReport
from qmigrate.model.transform import PointId
from qmigrate.ports import Stored
from qmigrate.sequences import Stretch, join, join_pages
from qmigrate.store import records
from qmigrate.store.pages import stored_of
from qmigrate.store.records import Digest

#: Points that are redone in one batch.
REDO_BATCH = 256
#: Points after which the last pass settles what it has seen: bounds its memory.
SETTLE_AT = 2000


@dataclass(frozen=True, slots=True)
class Sides:
    """The two collections of a pass and how they are related.

    Attributes:
        source: physical name of the side that is read and trusted.
        target: physical name of the side that is made equal.
        alias: own alias to write to the target through.
        base: name of the base in the ledger.
        step: position of the step whose ranges are walked.
        maker: f; None where going back has no inverse, so nothing can be redone.
        exchange: the base was written from the other point of view, so its sides change places.
        rekeys: a point has another id on each side: see ``engine/prove/rekey.py``.
        begins: called before anything is written to the target.
    """

    source: str
    target: str
    alias: EpochAlias
    base: str
    step: int
    maker: Maker | None
    exchange: bool = False
    rekeys: bool = False
    begins: Callable[[], None] = lambda: None

    @property
    def equal_is_enough(self) -> bool:
        """Whether a target that is f(source) now is as good as one whose base says so: where f computes no vector.

        A vector that a model or a function has filled may be that of an earlier source, which only the base shows.
        Going back, the base says in addition what was left out on purpose.
        """
        forwards = self.base == self.target and not self.exchange and not self.rekeys
        return forwards and self.maker is not None and not self.maker.transform.filled

    @property
    def is_identity(self) -> bool:
        """Whether every point stays exactly as it is."""
        return self.maker is not None and self.maker.transform.is_identity()

    def base_pages(self, work: Work, number: int | None = None) -> Iterator[bytes]:
        """The committed base of one range, or of all in order, from the point of view of these sides."""
        pages = committed(work.lease.ledger, self.base, number)
        return exchanged(pages) if self.exchange else pages

    def digest(self, work: Work) -> Digest:
        """What makes the digests of the base."""
        return digest_of(work.lease.ledger, self.base)


@dataclass(slots=True)
class OwnWrites:
    """The operation ids of what this process has written to the target since that was listed.

    Attributes:
        ids: None of one whose id is not known.
    """

    ids: list[int | None] = field(default_factory=list)


@dataclass(slots=True)
class PassCounts:
    """What a source pass found."""

    points: int = 0
    redone: int = 0
    removed: int = 0

    @property
    def changed(self) -> int:
        """Points that were new, gone or changed since the base."""
        return self.redone + self.removed


def keyed(work: Work, name: str, share: tuple[PointId | None, PointId | None], page: int) -> Iterator[
    tuple[bytes, Stored]
]:
    """The points of a share in order, each with its order key."""
    for found in work.store.scan(reach(work, name), start=share[0], stop=share[1], page=page):
        work.tick()
        for stored in found:
            yield records.order_key(records.point_id(stored)), stored


def source_pass(work: Work, sides: Sides) -> PassCounts:
    """Read the source once and redo what differs from the base, which is replaced at the end."""
    counts, digest = PassCounts(), sides.digest(work)
    size = page_of(work, sides.source)
    work.lease.discard_stage(sides.base)
    ranges = work.lease.ledger.ranges(work.run, sides.step)
    for share in ranges:
        redo = _Redo(work, sides, share.number)
        pages = PageWriter()
        base = unpack(sides.base_pages(work, share.number))
        for key, stored, entry in join(keyed(work, sides.source, (share.start, share.stop), size), base):
            if stored is None:
                if not sides.rekeys:
                    # Else its new id is not known any more: the last pass finds what nothing stands behind.
                    redo.remove(records.id_of_key(key))
                counts.removed += 1
                continue
            counts.points += 1
            whole = digest(stored)
            if entry is None or entry.source != whole:
                redo.add(stored)
                counts.redone += 1
                entry = BaseEntry(whole, records.ABSENT)
            pages.add(key, entry)
            if pages.full:
                work.lease.stage_base(sides.base, share.number, pages.take())
        redo.flush()
        work.lease.stage_base(sides.base, share.number, pages.take())
    work.lease.commit_base(sides.base)
    return counts


@dataclass(slots=True)
class Sample:
    """Pairs of (source point, counterpart) as the last pass saw them, picked evenly by a hash of the id.

    Taken inside the pass: a point that is read again later may have been written to since.

    Attributes:
        share: of all points, 0 to 1.
    """

    share: float
    pairs: list[tuple[Stored, Stored]] = field(default_factory=list)
    # Another one each time: no application can choose ids that are never picked.
    _seed: int = field(default_factory=lambda: secrets.randbits(64))

    def offer(self, key: bytes, stored: Stored, counterpart: Stored) -> None:
        """Keep the pair when its id is picked."""
        if xxhash.xxh3_64_intdigest(key, self._seed) < self.share * 2**64:
            self.pairs.append((_alone(stored), _alone(counterpart)))


def _alone(stored: Stored) -> Stored:
    """A copy: a message that was read as a part of an answer keeps the memory of the entire answer.

    None stays what it is: of a point that was deleted on purpose there is no counterpart.
    """
    if stored is None:
        return None
    made = type(stored)()
    made.CopyFrom(stored)
    return made


def last_pass(work: Work, sides: Sides, sample: Sample) -> VerificationReport:
    """Read both sides and the base, repair, and prove: see the module's first lines.

    Args:
        sample: gets the pairs that are to be embedded a second time.

    Returns:
        A report; its ``failures`` are points that stayed different after the repair.
    """
    report = VerificationReport(source=sides.source, target=sides.target)
    size = page_of(work, sides.source)
    work.lease.discard_stage(sides.base)
    based = not sides.equal_is_enough and work.lease.ledger.has_base(sides.base)
    judge = Judge(sides.maker, sides.digest(work), based=based)
    ranges = work.lease.ledger.ranges(work.run, sides.step)
    prove_share = _prove_share_by_pages if sides.equal_is_enough and sides.is_identity else _prove_share
    with pages_reused(), paced(work, sides.source, None) as pace:
        shares = [Share(share.number, share.start, share.stop, sample, pace) for share in ranges]
        in_parallel(work, shares, lambda share: prove_share(work, sides, judge, share, size))
    for share in shares:
        share.add_to(report)
    work.lease.commit_base(sides.base)
    return report


@dataclass(slots=True)
class Share:
    """One range of the last pass: its borders and its own counts, so that threads share nothing but their pace."""

    number: int
    start: PointId | None
    stop: PointId | None
    sample: Sample
    pace: Throttle = field(default_factory=lambda: Throttle(None))
    report: VerificationReport = field(default_factory=lambda: VerificationReport("", ""))
    pages: PageWriter = field(default_factory=PageWriter)
    suspects: list[tuple[bytes, Stored | None]] = field(default_factory=list)
    settled: list[tuple[bytes, BaseEntry | None]] = field(default_factory=list)

    def add_to(self, whole: VerificationReport) -> None:
        """Sum up."""
        for name in ("points", "proven", "embedded", "without_vector", "dropped", "repaired"):
            setattr(whole, name, getattr(whole, name) + getattr(self.report, name))
        for identifier, reason in self.report.failures.named:
            whole.failures.add(identifier, reason)
        whole.failures.count += self.report.failures.count - len(self.report.failures.named)


def _prove_share(work: Work, sides: Sides, judge: Judge, share: Share, size: int) -> None:
    """Walk one range three ways; suspects are repaired in batches without losing the order of the base."""
    span = (share.start, share.stop)
    both = join(keyed(work, sides.source, span, size), keyed(work, sides.target, span, size))
    base = unpack(sides.base_pages(work, share.number) if judge.based else ())
    pairs = ((key, (stored, counterpart)) for key, stored, counterpart in both)
    for key, pair, entry in join(pairs, base):
        if pair is None:
            # Dropped, and deleted in the source since.
            forgive(sides.maker, [records.id_of_key(key)])
            continue
        stored, counterpart = pair
        if stored is not None:
            share.report.points += 1
        proven = judge.proven(stored, counterpart, entry, share.report)
        share.settled.append((key, proven))
        if proven is None:
            share.suspects.append((key, stored))
        elif counterpart is not None:
            share.sample.offer(key, stored, counterpart)
        _settle_in_time(work, sides, judge, share)
    _settle(work, sides, judge, share)
    work.lease.stage_base(sides.base, share.number, share.pages.take())


def _prove_share_by_pages(work: Work, sides: Sides, judge: Judge, share: Share, size: int) -> None:
    """The same where f changes nothing: both sides are compared as bytes, by the page where they are equal.

    Equal bytes are equal points with equal digests, since digests are made of these very bytes. Whatever differs in any
    way is decoded, and judged as in every other pass.
    """
    digest = digest_of_bytes(work.lease.ledger, sides.base)
    one, other = (_canonical(work, name, share, size) for name in (sides.source, sides.target))
    for stretch in join_pages(one, other, records.KEY_SIZE):
        if stretch.left is not None and stretch.left == stretch.right and not share.settled:
            share.pages.add_equal(stretch.keys, [digest(record) for record in stretch.left])
            share.report.points += len(stretch.left)
            share.report.proven += len(stretch.left)
            share.pace.take(len(stretch.left))
            work.tick(len(stretch.left), share.pace.note())
        else:
            for key, record, counterpart in _each(stretch):
                share.report.points += record is not None
                if record is not None and record == counterpart:
                    seen = digest(record)
                    share.report.proven += 1
                    share.settled.append((key, BaseEntry(seen, seen)))
                else:
                    _judge_bytes(judge, share, key, record, counterpart)
                _settle_in_time(work, sides, judge, share)
            if not share.suspects:
                _settle(work, sides, judge, share)
        if share.pages.full:
            work.lease.stage_base(sides.base, share.number, share.pages.take())
    _settle(work, sides, judge, share)
    work.lease.stage_base(sides.base, share.number, share.pages.take())


def _judge_bytes(judge: Judge, share: Share, key: bytes, record: bytes | None, counterpart: bytes | None) -> None:
    """Judge a point whose sides differ as bytes."""
    stored, there = (None if one is None else stored_of(one) for one in (record, counterpart))
    proven = judge.proven(stored, there, None, share.report)
    share.settled.append((key, proven))
    if proven is None:
        share.suspects.append((key, stored))


def _canonical(work: Work, name: str, share: Share, page: int) -> Iterator[KeyedPage]:
    for found in work.store.scan_canonical(reach(work, name), start=share.start, stop=share.stop, page=page):
        work.tick()
        yield found


def _each(stretch: Stretch) -> Iterator[tuple[bytes, bytes | None, bytes | None]]:
    """Key and both sides of each point."""
    size = records.KEY_SIZE
    lefts, rights = (side or repeat(None) for side in (stretch.left, stretch.right))
    for place, (left, right) in enumerate(zip(lefts, rights, strict=False)):
        yield stretch.keys[place * size : (place + 1) * size], left, right


def _settle_in_time(work: Work, sides: Sides, judge: Judge, share: Share) -> None:
    """Settle what was seen before it takes too much memory."""
    if len(share.suspects) >= REDO_BATCH or len(share.settled) >= SETTLE_AT:
        _settle(work, sides, judge, share)


def _settle(work: Work, sides: Sides, judge: Judge, share: Share) -> None:
    """Repair the suspects, read them again, and write the entries of the settled points to the base in order."""
    mended = repair(work, sides, judge, share) if share.suspects else {}
    share.pace.take(len(share.settled))
    work.tick(sum(1 for _, entry in share.settled if entry is not None) + len(mended), share.pace.note())
    for key, entry in share.settled:
        final = entry or mended.get(key)
        if final is not None:
            share.pages.add(key, final)
            if share.pages.full:
                work.lease.stage_base(sides.base, share.number, share.pages.take())
    share.settled, share.suspects = [], []


def repair(work: Work, sides: Sides, judge: Judge, share: Share) -> dict[bytes, BaseEntry]:
    """Make the suspects of a share again, read them back, and return the entries of those that are equal now."""
    present = [(key, stored) for key, stored in share.suspects if stored is not None]
    gone = [records.id_of_key(key) for key, stored in share.suspects if stored is None]
    share.report.repaired += len(share.suspects)
    redo = _Redo(work, sides, share.number)
    for identifier in gone:
        redo.remove(identifier)
    for _, stored in present:
        redo.add(stored)
    redo.flush()
    ids = [records.point_id(stored) for _, stored in present]
    target = reach(work, sides.target)
    again = {records.point_id(found): found for found in work.store.fetch(target, ids)} if ids else {}
    for identifier in (records.point_id(found) for found in (work.store.fetch(target, gone) if gone else ())):
        share.report.failures.add(identifier, "was deleted in the source, but is still in the new generation")
    mended: dict[bytes, BaseEntry] = {}
    for key, stored in present:
        counterpart = again.get(records.point_id(stored))
        reason = judge.why_not(stored, counterpart, share.report)
        if reason is None:
            there = counterpart is not None
            mended[key] = BaseEntry(judge.digest(stored), judge.digest(counterpart) if there else records.ABSENT)
            share.report.proven += 1
            if there:
                share.sample.offer(key, stored, counterpart)
        else:
            share.report.failures.add(records.point_id(stored), reason)
    return mended


def forgive(maker: Maker | None, gone: Sequence[PointId]) -> None:
    """Points that are not in the source any more are in no quarantine either."""
    if maker is not None and maker.quarantine is not None:
        maker.quarantine.record(gone, ())


class _Redo:
    """Points that are recomputed and ids that are deleted, in batches, each waited for.

    Before a batch is sent the ledger has its points: whatever becomes of this process, no base decides about them
    that was not committed after it.
    """

    def __init__(self, work: Work, sides: Sides, number: int) -> None:
        self._work = work
        self._sides = sides
        self._number = number
        self._points: list[Stored] = []
        self._gone: list[PointId] = []

    def add(self, stored: Stored) -> None:
        """Make one point again."""
        self._points.append(stored)
        if len(self._points) >= REDO_BATCH:
            self.flush()

    def remove(self, identifier: PointId) -> None:
        """Delete one id in the target."""
        self._gone.append(identifier)
        if len(self._gone) >= REDO_BATCH:
            self.flush()

    def flush(self) -> None:
        """Send what is collected and wait until it is acknowledged.

        Raises:
            RepairNeededError: the source was recreated while it was read: what it lacks may be nowhere else by now.
        """
        points, gone, maker = self._points, self._gone, self._sides.maker
        self._points, self._gone = [], []
        if maker is None:
            # Nothing is brought back where that can't be all of it: the proof fails, and the target is what it was.
            return
        if points or gone:
            check_same(self._work, self._sides.source)
        ids = [*map(records.point_id, points), *gone]
        self._work.lease.mark_dirty(self._sides.base, self._number, [records.order_key(one) for one in ids])
        if points:
            made = maker.make(points)
            self._sides.begins()
            for pending in write(self._work, self._sides.alias, maker, made):
                self._wrote(pending.wait())
            if made.failed and maker.quarantine is not None:
                maker.quarantine.check()
        if gone:
            self._sides.begins()
            self._wrote(self._work.store.delete(self._sides.alias, gone))
            forgive(maker, gone)

    def _wrote(self, operation: int | None) -> None:
        ours = self._work.recall(OwnWrites)
        if ours is not None:
            ours.ids.append(operation)


def page_of(work: Work, name: str) -> int:
    """Points per page of a collection, judged by its first points."""
    first: Sequence[Stored] = next(iter(work.store.scan(reach(work, name), page=64)), ())
    return records.page_size(first, limit=2**20)
