"""A restore from an archive: read and checked first, then filled, then proven.

It reads the archive three times, each time with every line checked: before anything is made, for the fill, and for
the proof, in which every point of the new generation is compared with its line. Points that were erased since stay out.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from qmigrate import archive
from qmigrate.archive import Archived
from qmigrate.engine.build.copy import CHECKPOINT_EVERY
from qmigrate.engine.epoch_aliases import own
from qmigrate.engine.points.base import base_name
from qmigrate.engine.points.compare import Judge
from qmigrate.engine.points.transformation import Maker
from qmigrate.engine.prove.passes import keyed, page_of
from qmigrate.engine.restore.empty import Base, erased_since, need_source, origin_of, position, settle
from qmigrate.engine.throttle import Throttle, waiting
from qmigrate.engine.work import Work
from qmigrate.model.facts.phases import Fill, Preflight, Proof
from qmigrate.model.plan import Build
from qmigrate.model.report import VerificationReport
from qmigrate.model.transform import PointId, PointTransform
from qmigrate.ports import PendingWrite
from qmigrate.sequences import join
from qmigrate.store import portable, records
from qmigrate.text import counted

#: Most points of one request; its bytes are bounded too.
PAGE = 500


def preflight(step: Build, work: Work) -> Preflight:
    """Only reads: the complete archive, and whether the collection that serves is there."""
    need_source(step, work)
    origin = origin_of(step)
    work.progress.begin(work.collection, "read archive", origin.points)
    seen = archive.verify(Path(origin.place), work.tick)
    archive.check_digest(Path(origin.place), seen.digest, str(origin.digest))
    work.progress.end(f"{counted(seen.points, 'point')}, every line in order")
    return Preflight(seen.points, origin.embedders or {})


def fill(step: Build, work: Work) -> Fill:
    """Write the points in the order of the archive; behind the cursor after an interruption."""
    points = work.facts(Preflight).points
    ranges = work.lease.ledger.ranges(work.run, work.step) or work.lease.fix_ranges(
        work.run, work.step, [(None, None)]
    )
    (share,) = ranges
    work.progress.begin(work.collection, "fill", points, share.points)
    work.lease.progress(work.run, share.points, points)
    done = share.points if share.done else _Fill(step, work, share.points).run(share.cursor)
    work.progress.end(counted(done, "point"))
    return Fill(restored=done)


def converge(step: Build, work: Work) -> Proof:
    """Compare every point with its line; what was seen is the base by which later writes are recognised.

    Raises:
        VerificationError: a point differs, is missing, or is one too many.
    """
    origin = origin_of(step)
    report = VerificationReport(source=origin.name, target=step.target)
    judge = Judge(_maker(step, work), None)
    base = Base(step, work)
    work.progress.begin(work.collection, "verify", work.facts(Preflight, position(step, work)).points)
    page = page_of(work, step.target)
    lines = ((one.key, one) for found in _pages(step, work) for one in found)
    for key, line, counterpart in join(lines, keyed(work, step.target, (None, None), page)):
        identifier = records.id_of_key(key)
        if line is None:
            report.failures.add(identifier, "is not in the archive")
            continue
        report.points += 1
        reason = judge.why_not(line.stored, counterpart, report)
        if reason is not None or counterpart is None:
            report.failures.add(identifier, reason or "is missing")
            continue
        report.proven += 1
        base.add(key, counterpart)
        if report.proven % PAGE == 0:
            work.tick(PAGE)
    return settle(step, work, report, base)


def _pages(step: Build, work: Work) -> Iterator[list[Archived]]:
    """The points of the archive in requests of a bearable size, without those that were erased since."""
    origin = origin_of(step)
    erased = erased_since(step, work)
    page: list[Archived] = []
    weight = 0
    # Between two passes, or two processes, another one may take its name.
    for one in archive.read(Path(origin.place), digest=origin.digest):
        page.append(one)
        weight += one.stored.ByteSize()
        if len(page) >= PAGE or weight >= records.BATCH_BYTES:
            yield _living(page, erased)
            page, weight = [], 0
    yield _living(page, erased)


def _living(page: list[Archived], erased: Callable[[Sequence[PointId]], set[PointId]] | None) -> list[Archived]:
    gone = erased([one.id for one in page]) if erased is not None else ()
    return [one for one in page if one.id not in gone]


class _Fill:
    """One pass over the archive that writes; a checkpoint never runs ahead of what was acknowledged."""

    def __init__(self, step: Build, work: Work, points: int) -> None:
        self._step = step
        self._work = work
        self._alias = own(work, step.target)
        self._throttle = Throttle(work.settings.rebuild.max_rate, pause=waiting(work.tick))
        self._points = points
        self._writes: list[PendingWrite] = []
        self._last: PointId | None = None
        self._saved_at = time.monotonic()

    def run(self, cursor: PointId | None) -> int:
        """Write what is behind `cursor`; how many points there are now."""
        after = records.order_key(cursor) if cursor is not None else b""
        self._last = cursor
        for page in _pages(self._step, self._work):
            fresh = [one for one in page if one.key > after]
            if fresh:
                self._write(fresh)
            self._work.tick(len(fresh))
            if time.monotonic() - self._saved_at >= CHECKPOINT_EVERY:
                self._checkpoint(done=False)
        self._checkpoint(done=True)
        return self._points

    def _write(self, fresh: list[Archived]) -> None:
        self._throttle.take(len(fresh))
        ready = [portable.ready(one.stored) for one in fresh]
        self._settle()
        self._writes = [self._work.store.upsert(self._alias, batch) for batch in records.batches(ready)]
        self._points += len(fresh)
        self._last = fresh[-1].id

    def _settle(self) -> None:
        for pending in self._writes:
            pending.wait()
        self._writes = []

    def _checkpoint(self, *, done: bool) -> None:
        self._settle()
        name = base_name(self._step.source, self._step.target, back=False)
        self._work.lease.checkpoint(self._work.run, self._work.step, 0, self._last, self._points, done, name, [])
        self._saved_at = time.monotonic()


def _maker(step: Build, work: Work) -> Maker:
    """Carries everything; where another kind of store made the archive, its vectors are compared as they convert."""
    transform = PointTransform.identity(step.schema.vector_names())
    if not origin_of(step).exact:
        changing = {
            name
            for name, params in step.schema.vectors.items()
            if params.get("distance") == "Cosine" or params.get("datatype") not in (None, "float32")
        }
        transform = replace(transform, converted=frozenset(changing))
    return Maker(work, transform, step.schema, step.target)

