"""The proof where ids change: both sides are read in their own order, tied by a table of ids. It moves no name.

Every other pass joins two streams by id; here the same point is at different places of the two. See
``docs/adr/0005-rekey.md``.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from qmigrate import scratch
from qmigrate.engine.epoch_aliases import check_same, reach
from qmigrate.engine.points.base import BaseEntry, PageWriter, base_name, committed, digest_of, unpack
from qmigrate.engine.points.compare import Judge
from qmigrate.engine.points.transformation import write
from qmigrate.engine.prove.passes import REDO_BATCH, Sides, keyed, page_of
from qmigrate.engine.work import Work
from qmigrate.errors import RefusedError, VerificationError
from qmigrate.model.plan import GoLive
from qmigrate.model.report import Findings, VerificationReport
from qmigrate.model.transform import PointId, PointTransform
from qmigrate.ports import Stored
from qmigrate.sequences import join
from qmigrate.store import records
from qmigrate.text import counted

_IDS = "CREATE TABLE ids (new BLOB PRIMARY KEY, old BLOB, here BLOB, there BLOB) WITHOUT ROWID"


class IdTable:
    """New id -> old id and both digests; see :func:`id_table`."""

    def __init__(self, rows: sqlite3.Connection) -> None:
        self._rows = rows

    def claim(self, new: bytes, old: bytes) -> bytes | None:
        """Take a new id for an old one; the old id that has it already, or None."""
        done = self._rows.execute("INSERT OR IGNORE INTO ids (new, old) VALUES (?, ?)", (new, old))
        if done.rowcount:
            return None
        return bytes(self._rows.execute("SELECT old FROM ids WHERE new = ?", (new,)).fetchone()[0])

    def settle(self, seen: Iterable[tuple[bytes, BaseEntry]]) -> None:
        """Keep the digests of both sides, by new id, as last read."""
        rows = [(entry.target, entry.source, key) for key, entry in seen]
        self._rows.executemany("UPDATE ids SET here = ?, there = ? WHERE new = ?", rows)

    def in_order(self) -> Iterator[tuple[bytes, BaseEntry]]:
        """New id and the digests, as seen from the new generation, in the order of the new ids."""
        for new, here, there in self._rows.execute("SELECT new, here, there FROM ids ORDER BY new"):
            yield bytes(new), BaseEntry(bytes(here or records.ABSENT), bytes(there or records.ABSENT))


@contextmanager
def id_table() -> Iterator[IdTable]:
    """One in a file without a name that goes at the end of the block: memory stays flat.

    Raises:
        UnavailableError: there is no room for it.
    """
    with scratch.tables(_IDS) as rows:
        yield IdTable(rows)


def must_freeze(step: GoLive, work: Work) -> bool:
    """Whether writes have to stop before the name moves: what comes late can't be carried to another id.

    In local mode the lock of the folder sees to it.
    """
    local = work.store.capabilities.local
    return not local and any(operation.rekeys for operation in work.operations(step.ops))


def check_time(work: Work, seconds: float) -> None:
    """Before writes are refused: a reading that took longer than a freeze may would refuse them for nothing.

    Args:
        seconds: what the proof of the build took.

    Raises:
        RefusedError: it did.
    """
    limit = work.settings.limits.freeze
    if seconds > limit:
        raise RefusedError(
            f"the proof of {work.collection} took {seconds:.0f} s, and when ids change it has to be repeated "
            f"while writes are refused, which limits.freeze allows for {limit:.0f} s",
            hint="raise limits.freeze in qmigrate.yaml, then run qmigrate upgrade again, at a time without writers",
        )


def check_ids(work: Work, source: str, transform: PointTransform) -> None:
    """Before anything is written: every point gets an id, and no two the same. Only payloads are read.

    Raises:
        VerificationError: names at most 20 points, and counts all.
    """
    findings = Findings()
    wanted = records.id_fields(transform)
    work.progress.begin(work.collection, "ids", None)
    with id_table() as table:
        for page in work.store.scan(reach(work, source), payload=wanted, vectors=False):
            work.tick(len(page))
            _claim(table, transform, page, findings)
    refused = f"{counted(findings.count, 'point')} can't be given an id"
    work.progress.end(refused if findings.count else "every new id is free")
    if findings.count:
        named = "; ".join(f"{identifier} {reason}" for identifier, reason in findings.named)
        more = "; …" if findings.count > len(findings.named) else ""
        raise VerificationError(
            f"{counted(findings.count, 'point')} of {work.collection} can't be given their new id: {named}{more}. "
            "Nothing was written",
            hint="repair these points or the revision, then: qmigrate upgrade",
            facts={"ids": {"count": findings.count, "named": [list(one) for one in findings.named]}},
        )


def _claim(
    table: IdTable, transform: PointTransform, page: Sequence[Stored], findings: Findings
) -> list[tuple[Stored, PointId]]:
    """The points of a page that get an id of their own, each with it; the others are named."""
    fit = []
    for stored in page:
        old = records.point_id(stored)
        try:
            new = records.new_id(stored, transform)
        except ValueError as error:
            findings.add(old, str(error))
            continue
        other = table.claim(records.order_key(new), records.order_key(old))
        if other is None:
            fit.append((stored, new))
        else:
            findings.add(old, f"would get the id {new}, and so would {records.id_of_key(other)}")
    return fit


def last_pass(work: Work, sides: Sides) -> VerificationReport:
    """Prove that each side holds exactly the points of the other; forwards it repairs, backwards it only looks."""
    return _forwards(work, sides) if sides.maker is not None else _backwards(work, sides)


@dataclass(slots=True)
class _Pass:
    """One last pass forwards."""

    work: Work
    sides: Sides
    judge: Judge
    table: IdTable
    report: VerificationReport
    strays: list[PointId] = field(default_factory=list)


def _forwards(work: Work, sides: Sides) -> VerificationReport:
    """Source by source order, each point against its counterpart; then the target by its own order, against the ids.

    The first reading shows that every point of the source is there with its values; the second that every id of the
    target belongs to exactly one of them and still has the values that the first one saw.
    """
    report = VerificationReport(source=sides.source, target=sides.target)
    size = page_of(work, sides.source)
    work.lease.discard_stage(sides.base)
    with id_table() as table:
        run = _Pass(work, sides, Judge(sides.maker, sides.digest(work)), table, report)
        for share in work.lease.ledger.ranges(work.run, sides.step):
            pages = PageWriter()
            source = reach(work, sides.source)
            for page in work.store.scan(source, start=share.start, stop=share.stop, page=size):
                for key, entry in _prove_page(run, page):
                    pages.add(key, entry)
                work.lease.stage_base(sides.base, share.number, pages.take())
        _other_side(run, size)
    _remove(run)
    work.lease.commit_base(sides.base)
    work.lease.commit_base(_back_base(sides))
    return report


def _back_base(sides: Sides) -> str:
    """Where the base of the way back is kept: in the order of the new ids, so that a rollback can count at once."""
    return base_name(sides.target, sides.source, back=True)


def _prove_page(run: _Pass, page: Sequence[Stored]) -> list[tuple[bytes, BaseEntry]]:
    """Compare a page with its counterparts, make again what differs, and compare that again.

    Only the id is made, so what can be compared is all there is, and no base has to say more.
    """
    maker, report = run.sides.maker, run.report
    assert maker is not None  # noqa: S101  the caller looked
    run.work.tick(len(page))
    report.points += len(page)
    fit = _claim(run.table, maker.transform, page, report.failures)
    seen = _counterparts(run, [new for _, new in fit])
    odd = {new: stored for stored, new in fit if _why_not(run, stored, new, seen.get(new)) is not None}
    if odd:
        report.repaired += len(odd)
        check_same(run.work, run.sides.source)
        for pending in write(run.work, run.sides.alias, maker, maker.make(list(odd.values()))):
            pending.wait()
        seen = {**seen, **_counterparts(run, list(odd))}
    entries = []
    for stored, new in fit:
        counterpart = seen.get(new)
        reason = _why_not(run, stored, new, counterpart) if new in odd else None
        if reason is not None or counterpart is None:
            report.failures.add(records.point_id(stored), reason or "is missing in the new generation")
            continue
        report.proven += 1
        entries.append((stored, new, BaseEntry(run.judge.digest(stored), run.judge.digest(counterpart))))
    run.table.settle((records.order_key(new), entry) for _, new, entry in entries)
    return [(records.order_key(records.point_id(stored)), entry) for stored, _, entry in entries]


def _why_not(run: _Pass, stored: Stored, new: PointId, counterpart: Stored | None) -> str | None:
    """Why the counterpart is not this point under its new id, or None when it is."""
    if counterpart is not None and records.same(records.with_id(stored, new), counterpart):
        return None
    return run.judge.why_not(stored, counterpart, run.report)


def _counterparts(run: _Pass, ids: Sequence[PointId]) -> dict[PointId, Stored]:
    if not ids:
        return {}
    return {records.point_id(found): found for found in run.work.store.fetch(reach(run.work, run.sides.target), ids)}


def _other_side(run: _Pass, size: int) -> None:
    """Read the target in its own order against the ids that were given: nothing else may be there."""
    work, base = run.work, _back_base(run.sides)
    work.lease.begin_base(base, like=run.sides.base)
    pages = PageWriter()
    target = keyed(work, run.sides.target, (None, None), size)
    for key, stored, entry in join(target, run.table.in_order()):
        if entry is None:
            run.strays.append(records.id_of_key(key))
            continue
        if entry.source != records.ABSENT and (stored is None or run.judge.digest(stored) != entry.source):
            run.report.failures.add(records.id_of_key(key), "changed in the new generation while it was proven")
        pages.add(key, entry)
        if pages.full:
            work.lease.stage_base(base, 0, pages.take())
    work.lease.stage_base(base, 0, pages.take())


def _remove(run: _Pass) -> None:
    """Delete what comes from no point of the source: deleted there, or given another id, since it was copied."""
    for start in range(0, len(run.strays), REDO_BATCH):
        gone = run.strays[start : start + REDO_BATCH]
        check_same(run.work, run.sides.source)
        run.work.store.delete(run.sides.alias, gone)
        for identifier in _counterparts(run, gone):
            run.report.failures.add(identifier, "corresponds to no point of the source, and can't be deleted")
    run.report.repaired += len(run.strays)


def _backwards(work: Work, sides: Sides) -> VerificationReport:
    """Nothing can be carried back, so both sides must be what the proof of the way forward saw."""
    report = VerificationReport(source=sides.source, target=sides.target)
    ledger = work.lease.ledger
    forward = base_name(sides.target, sides.source, back=False)
    for name, base in ((sides.source, sides.base), (sides.target, forward)):
        points, digest = keyed(work, name, (None, None), page_of(work, name)), digest_of(ledger, base)
        for key, stored, entry in join(points, unpack(committed(ledger, base))):
            seen = digest(stored) if stored is not None else records.ABSENT
            same = entry is not None and seen == entry.source
            if name == sides.source:
                report.points += 1
                report.proven += int(same)
            if not same:
                how = "was added to" if entry is None else "was deleted in" if stored is None else "changed in"
                report.failures.add(records.id_of_key(key), f"{how} {name} since")
    return report
