"""The proof before a swap: passes until the last one holds, and a sample embedded a second time. It moves no name."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qmigrate.embed.vectors import Vector, as_vector
from qmigrate.engine.barriers import barrier, nothing_written
from qmigrate.engine.epoch_aliases import await_late, late_for, reach
from qmigrate.engine.points.dropped import archive_dropped
from qmigrate.engine.prove import rekey
from qmigrate.engine.prove.delta import Listed, TooManyError, can_list, delta_pass, is_listed, keep, lists, passed
from qmigrate.engine.prove.passes import PassCounts, Sample, Sides, last_pass, source_pass
from qmigrate.engine.prove.recorded import WORTH_IT
from qmigrate.engine.work import Work
from qmigrate.errors import RefusedError, VerificationError
from qmigrate.model.facts.phases import DeltaPass, Proof
from qmigrate.model.inference import ServerText
from qmigrate.model.report import VerificationReport
from qmigrate.model.schema import FOUR_BITS
from qmigrate.model.transform import PointId
from qmigrate.ports import OperationIds
from qmigrate.store import records
from qmigrate.text import counted, quote, tallied

#: The cosine of two vectors that can't be compared: another kind, size or number of rows.
INCOMPARABLE = -1.0


def lowest_cosine(one: Any, other: Any) -> float:
    """The cosine of two vectors from -1 to 1; of two multivectors that of their farthest rows.

    Two zero vectors count as equal; vectors that differ in kind, size or number of rows have -1.

    Raises:
        ValueError: one of them is not a vector.
    """
    return _pair(as_vector(one), as_vector(other))


def _pair(one: Vector, other: Vector) -> float:
    if isinstance(one, dict) and isinstance(other, dict):
        return _sparse(one, other)
    if isinstance(one, dict | ServerText) or isinstance(other, dict | ServerText) or one.shape != other.shape:
        return INCOMPARABLE
    rows, others = np.atleast_2d(one).astype(np.float64), np.atleast_2d(other).astype(np.float64)
    if not len(rows):
        return 1.0
    return min(_cosine(row, counterpart) for row, counterpart in zip(rows, others, strict=True))


def _sparse(one: dict[str, list[Any]], other: dict[str, list[Any]]) -> float:
    places = {index: place for place, index in enumerate(dict.fromkeys(one["indices"] + other["indices"]))}
    spread = np.zeros((2, len(places)), dtype=np.float64)
    for row, vector in zip(spread, (one, other), strict=True):
        for index, value in zip(vector["indices"], vector["values"], strict=True):
            row[places[index]] += value
    return _cosine(spread[0], spread[1])


def _cosine(one: NDArray[np.float64], other: NDArray[np.float64]) -> float:
    norms = float(np.linalg.norm(one) * np.linalg.norm(other))
    if norms == 0.0:
        return 1.0 if not one.any() and not other.any() else 0.0
    return float(np.clip(np.dot(one, other) / norms, -1.0, 1.0))


#: A re-embedded vector must be at least this close to the stored one.
LOWEST_COSINE = 0.999
#: The same where the stored one has four bits a value.
LOWEST_OF_FOUR_BITS = 0.95
#: Of the points that a server embeds, the share that their own texts must find, and among how many of the nearest.
LOWEST_FOUND, NEAR = 0.9, 3
#: A source pass that changed no more than this is close enough for the last one.
SMALL_PASS = 100
#: A pass that finds more than this share of what an earlier one has found makes no headway: under steady writes that is
#: its length.
PLATEAU = 0.8
#: Passes in a row that made no such headway before the last pass is made all the same.
STALLS = 3


@dataclass(frozen=True, slots=True)
class _Pass:
    """One pass that is a proof.

    Attributes:
        report: on all points.
        source_ids: operation ids of the source before it was listed, or before its contents were read.
        began: when, as `time.monotonic`: what was written later may not be in it.
        read: how many points a delta pass has read; None of a pass over all.
    """

    report: VerificationReport
    source_ids: OperationIds
    began: float
    read: int | None = None


def prove(
    work: Work, sides: Sides, *, since: OperationIds | None, delta: int, carrying: bool = False, cloned: bool = False
) -> Proof:
    """Converge and prove; the base is committed when this returns.

    Args:
        since: operation ids of the source when its copy began; None to make no source pass.
        delta: reach of one barrier.
        carrying: whether differences are expected: a rollback that brings writes along.
        cloned: whether the server has copied: few points are expected to differ, and no base says which.

    Returns:
        What was proven; the ids are those of barriers around the last pass.

    Raises:
        VerificationError: a point is not proven, or a filled vector came out differently.
        RefusedError: policy ``refuse`` and something was written.
    """
    started = time.monotonic()
    late = late_for(work) > 0
    if late and not can_list(work, sides):
        # What lands behind a reading of all points shows in no listing.
        await_late(work)
        late = False
    quiet = cloned or (since is not None and is_unwritten(work, sides, since, delta))
    # Where delta passes follow the proof, none has to come before it.
    at_once = quiet or since is None or (not carrying and can_list(work, sides)) or not _has_base(work, sides)
    passes = 0 if at_once else approach(work, sides)
    last = _pass(work, sides, passes, delta=delta, carrying=carrying, quiet=quiet and not late)
    if late:
        # Load-bearing: what a dead holder had under way may have landed behind what that pass has read. What was
        # written since it was listed shows in a listing behind the last moment at which that could happen.
        await_late(work)
        last = _pass(work, sides, last.report.passes + 1, delta=delta, carrying=carrying)
    if is_listed(work, sides) and work.frozen is None:
        last = _until_short(work, sides, last, delta, carrying=carrying)
    left_out = None
    if not carrying and sides.maker is not None:
        left_out = archive_dropped(work, sides.source, sides.target, sides.maker)
    target_ids = barrier(work.store, reach(work, sides.target))
    passed(work, sides, target_ids, delta)
    return Proof(
        dropped=left_out,
        report=last.report,
        source_ids=dict(last.source_ids),
        target_ids=dict(target_ids),
        barrier_delta=delta,
        epoch=work.lease.epoch,
        seconds=round(time.monotonic() - started, 3),
        late=None if last.read is None else DeltaPass(last.read, round(time.monotonic() - last.began, 3)),
    )


def _has_base(work: Work, sides: Sides) -> bool:
    """Whether source passes have something to compare with; a copy that computes nothing leaves no base."""
    return not sides.equal_is_enough or next(sides.base_pages(work), None) is not None


def _until_short(work: Work, sides: Sides, last: _Pass, delta: int, *, carrying: bool = False) -> _Pass:
    """Delta passes until one is short, or no shorter than the one before: its length is that of the late window."""
    while True:
        now = barrier(work.store, reach(work, sides.source))
        if nothing_written(work, last.source_ids, now, delta=delta):
            # This barrier has moved the ids too: what asks next counts from here.
            return replace(last, source_ids=now)
        before, last = last, _pass(work, sides, last.report.passes + 1, delta=delta, carrying=carrying)
        if last.read is None or last.read <= SMALL_PASS:
            return last
        # A pass over all has taken far longer than what was written meanwhile takes to read: nothing follows from it.
        if before.read is not None and last.read > before.read * PLATEAU:
            return last


def _pass(
    work: Work, sides: Sides, passes: int, *, delta: int, carrying: bool, quiet: bool = False
) -> _Pass:
    """One pass that proves all: over what was written since the newest one where that is known, else over all points.

    Args:
        passes: passes before it.
        delta: reach of one barrier.
        quiet: whether nothing was written so far: then a later pass is unlikely, and nothing is listed for it; but of
            many points, since what is written once the name has moved is found by that (rule 15).
    """
    began = time.monotonic()
    needless = quiet and work.settings.rebuild.writes in ("converge", "refuse") and not _worth_it(work, sides)
    if needless:
        # What was listed earlier belongs to the report of an earlier pass, not to the base that this one writes.
        work.kept.pop(Listed, None)
    # Going back, only what was listed when the base was made shows what was written since.
    needless = needless or (carrying and not is_listed(work, sides))
    before, now = (None, None) if needless else lists(work, sides, delta=delta)
    # Of the barrier of the listing, where there is one: what was written behind it, a delta pass doesn't see.
    source_ids = now.source.circumstances.operations if now else barrier(work.store, reach(work, sides.source))
    points = before.report.points if before and before.report else work.store.count(reach(work, sides.source))
    sample = Sample(min(1.0, work.settings.rebuild.sample / max(points, 1)))
    found = _changed_only(work, sides, before, now, sample) if before is not None and now is not None else None
    if found is None:
        work.progress.begin(work.collection, "verify", None)
        report, read = (rekey.last_pass(work, sides) if sides.rekeys else last_pass(work, sides, sample)), None
    else:
        report, read = found
    report.passes = passes
    if not carrying:
        _refuse_writes(work, report.repaired)
    _embed_again(work, sides, sample, report)
    work.progress.end(_summary(report))
    if not report.holds:
        raise _failed(work, report, sides, carrying=carrying)
    keep(work, now, report, time.monotonic() - began if read is not None else None)
    if before is not None:
        before.close(unless=now)
    return _Pass(report, source_ids, began, read)


def _worth_it(work: Work, sides: Sides) -> bool:
    """Whether there are that many points that reading them again takes its time."""
    return work.store.count(reach(work, sides.source)) >= WORTH_IT


def _changed_only(
    work: Work, sides: Sides, before: Listed, now: Listed, sample: Sample
) -> tuple[VerificationReport, int] | None:
    """A delta pass; None where a pass over all is faster."""
    work.progress.begin(work.collection, "verify what was written", None)
    try:
        return delta_pass(work, sides, before, now, sample)
    except TooManyError:
        work.progress.end("so much was written that all points are read again")
        return None


def is_unwritten(work: Work, sides: Sides, since: OperationIds, delta: int) -> bool:
    """Whether a barrier shows that nothing was written to the source since; it moves the ids itself."""
    return nothing_written(work, since, barrier(work.store, reach(work, sides.source)), delta=delta)


def approach(work: Work, sides: Sides) -> int:
    """Source passes until little changes; how many these were."""
    counts: list[PassCounts] = []
    stalls = 0
    while True:
        work.progress.begin(work.collection, f"converge, pass {len(counts) + 1}", None)
        found = source_pass(work, sides)
        work.progress.end(tallied("point", (found.redone, "redone"), (found.removed, "removed")))
        _refuse_writes(work, found.changed)
        # Of the shortest so far: counts that go up and down end, too.
        least = min((one.changed for one in counts), default=None)
        stalls = stalls + 1 if least is not None and found.changed > least * PLATEAU else 0
        counts.append(found)
        if found.changed <= SMALL_PASS or stalls >= STALLS:
            return len(counts)


def _refuse_writes(work: Work, changed: int) -> None:
    if changed and work.settings.rebuild.writes == "refuse":
        raise RefusedError(
            f"{work.collection} was written to during the rebuild: {counted(changed, 'point')} changed, and the policy "
            "is writes: refuse",
            hint="stop the writers and run qmigrate upgrade again, or use writes: converge",
        )


def _embed_again(work: Work, sides: Sides, sample: Sample, report: VerificationReport) -> None:
    """Embed a sample a second time: a model that answers differently would make the proof of presence worthless."""
    filled = sides.maker.transform.filled if sides.maker else ()
    if sides.maker is None or not filled:
        return
    texts: dict[str, dict[PointId, ServerText]] = {name: {} for name in filled}
    for stored, counterpart in sample.pairs:
        messages = records.vector_messages(counterpart)
        for name in filled:
            if name in messages:
                again = sides.maker.vector_for(name, stored)
                if isinstance(again, ServerText):
                    texts[name][records.point_id(counterpart)] = again
                    continue
                params = sides.maker.schema.vectors.get(name, {})
                lowest = LOWEST_OF_FOUR_BITS if params.get("datatype") == FOUR_BITS else LOWEST_COSINE
                _compare((records.point_id(stored), name), messages[name], again, lowest, report)
        report.sampled += 1
    for name, asked in texts.items():
        _ask_by_text(work, sides.target, (name, asked), report)


def _ask_by_text(
    work: Work, target: str, which: tuple[str, Mapping[PointId, ServerText]], report: VerificationReport
) -> None:
    """See that points whose vectors a server has made are found by their own texts, among all that were picked.

    It shows no vector that it makes, so these can't be compared. A model may embed questions in another way than
    documents, so not every single one has to come first.
    """
    name, asked = which
    if not asked:
        return
    ids = list(asked)
    best = work.store.nearest(reach(work, target), name, list(asked.values()), limit=NEAR, exact=True, among=ids)
    words = {one: asked[one].text for one in ids}
    missed = [one for one, found in zip(ids, best, strict=True) if words[one] not in {words[other] for other in found}]
    if len(missed) > len(ids) * (1 - LOWEST_FOUND):
        for one in missed:
            report.failures.add(one, f"vector {name!r} isn't found by its own text: it was made of another one")


def _compare(
    which: tuple[PointId, str], message: Any, again: Any, lowest: float, report: VerificationReport
) -> None:
    identifier, name = which
    if again is None:
        report.failures.add(identifier, f"vector {name!r} could not be computed a second time")
        return
    cosine = lowest_cosine(records.vector_value(message), again)
    report.lowest_cosine = cosine if report.lowest_cosine is None else min(report.lowest_cosine, cosine)
    if cosine < lowest:
        report.failures.add(identifier, f"vector {name!r} computed a second time differs: cosine {cosine:.6f}")


def _summary(report: VerificationReport) -> str:
    parts = [f"{report.proven:,} of {report.points:,} proven"]
    if report.sampled and report.lowest_cosine is not None:
        parts.append(f"{report.sampled:,} re-embedded, cosine ≥ {math.floor(report.lowest_cosine * 1e4) / 1e4:.4f}")
    if report.without_vector:
        parts.append(f"{report.without_vector:,} without the new vector")
    if report.dropped:
        parts.append(f"{report.dropped:,} dropped")
    return " · ".join(parts)


def _failed(work: Work, report: VerificationReport, sides: Sides, *, carrying: bool) -> VerificationError:
    named = "; ".join(f"{identifier} {reason}" for identifier, reason in report.failures.named)
    count = max(report.failures.count, report.points - report.proven)
    return VerificationError(
        f"{count:,} of {report.points:,} points of {work.collection} are not proven in {report.target}: {named}. "
        "The live collection was not touched",
        hint=_way_on(work, report, sides, carrying=carrying),
        facts={"report": report.to_json()},
    )


def _way_on(work: Work, report: VerificationReport, sides: Sides, *, carrying: bool) -> str:
    if not carrying:
        return f"qmigrate abort {quote(work.collection)} removes {report.target}; qmigrate upgrade tries again"
    if sides.maker is None:
        return (
            "they were written while it went back, and the change has no inverse: "
            f"qmigrate abort {quote(work.collection)}, then the rollback again, which counts them"
        )
    return f"qmigrate rollback --only {quote(work.collection)} tries again"
