"""What every restore has in common, wherever its points come from: the base of later writes, the end of the proof."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from qmigrate.engine.approval import need_approval
from qmigrate.engine.barriers import barrier, delta_of
from qmigrate.engine.epoch_aliases import reach
from qmigrate.engine.points.base import BaseEntry, PageWriter, base_name, digest_of
from qmigrate.engine.points.id_spaces import space_of
from qmigrate.engine.prove.recorded import list_alone
from qmigrate.engine.work import Work
from qmigrate.errors import PlanError, RefusedError, RepairNeededError, VerificationError
from qmigrate.model.facts.phases import Fill, Preflight, Proof
from qmigrate.model.origin import StoredOrigin
from qmigrate.model.plan import Build
from qmigrate.model.report import VerificationReport
from qmigrate.model.transform import PointId
from qmigrate.ports import Stored
from qmigrate.store import records
from qmigrate.text import counted, quote


class Base:
    """The digests of the new generation as it was proven: hT of every point, nothing on the other side."""

    def __init__(self, step: Build, work: Work) -> None:
        self._work = work
        self._name = base_name(step.source, step.target, back=False)
        self._pages = PageWriter()
        self._digest = digest_of(work.lease.ledger, self._name)
        # Load-bearing: before anything is read that the base gets.
        list_alone(work, self._name, str(step.target))
        work.lease.discard_stage(self._name)

    def add(self, key: bytes, stored: Stored) -> None:
        """One more point, in key order."""
        self._pages.add(key, BaseEntry(records.ABSENT, self._digest(stored)))
        if self._pages.full:
            self._stage()

    def commit(self) -> None:
        """From now on it counts."""
        self._stage()
        self._work.lease.commit_base(self._name)

    def _stage(self) -> None:
        self._work.lease.stage_base(self._name, 0, self._pages.take())


def settle(step: Build, work: Work, report: VerificationReport, base: Base) -> Proof:
    """The end of a proof: the base is committed, or the failure reported.

    Raises:
        VerificationError: the report doesn't hold.
    """
    if not report.holds:
        named = "; ".join(f"{identifier} {reason}" for identifier, reason in report.failures.named)
        raise VerificationError(
            f"{report.failures.count:,} points of {step.target} are not what {report.source} holds: {named}",
            hint=f"{work.collection} was not touched; qmigrate abort {quote(work.collection)} removes {step.target}",
            facts={"report": report.to_json()},
        )
    base.commit()
    work.progress.end(f"{report.proven:,} of {counted(report.points, 'point')} proven")
    return Proof(
        report=report,
        target_ids=dict(barrier(work.store, step.target)),
        barrier_delta=delta_of(work),
        epoch=work.lease.epoch,
        erased=work.lease.ledger.erasures(work.collection),
    )


def erased_since(step: Build, work: Work) -> Callable[[Sequence[PointId]], set[PointId]] | None:
    """Which points the copy must not bring back: what was erased after it was made. None where nothing was.

    Erased from this collection, or from the one that the copy was made of.
    """
    origin, ledger = origin_of(step), work.lease.ledger
    logical = origin.logical or work.collection
    names = [name for name in dict.fromkeys((work.collection, logical)) if ledger.erasures(name)]
    if not names:
        return None
    made, space = origin.created_at, space_of(ledger, work.code, logical, str(origin.physical))

    def erased(ids: Sequence[PointId]) -> set[PointId]:
        found: set[PointId] = set()
        for name in names:
            found |= ledger.erased(name, ids, made=made, space=space if name == logical else None)
        return found

    return erased


def origin_of(step: Build) -> StoredOrigin:
    """Where the points come from: see :meth:`qmigrate.model.origin.Origin.to_json`."""
    if step.origin is None:
        raise RepairNeededError(f"the stored job of {step.target} does not say what is restored")
    return StoredOrigin.of(step.origin)


def need_source(step: Build, work: Work) -> None:
    """What serves must still be there."""
    if step.source is not None and work.store.describe(reach(work, step.source)) is None:
        raise RepairNeededError(f"{step.source}, which serves {work.collection}, is not in Qdrant any more")


def position(step: Build, work: Work) -> int:
    """Position of the build in the job: the go-live behind it may ask too."""
    return work.job.steps.index(step)


def preflight(step: Build, work: Work) -> Preflight:
    """Only reads: as many points as were agreed to, in a collection whose settings can all be given to the next one.

    Raises:
        RefusedError: the collection has another number of points now, or a shard layout that can't be repeated.
        PlanError: it has settings that this version doesn't know.
    """
    need_source(step, work)
    address = reach(work, str(step.source))
    live = work.store.describe(address)
    if live is not None and live.unknown:
        raise PlanError(
            f"{step.source} has settings that this version of qmigrate doesn't know, and an empty one would not have "
            f"them: {', '.join(live.unknown)}",
            hint="update qmigrate, or revert these settings first",
        )
    if live is not None and live.custom_sharding:
        raise RefusedError(f"{step.source} uses custom sharding, which is not supported yet")
    left, expected = work.store.count(address), origin_of(step).expect
    if expected is not None and left != expected:
        raise RefusedError(
            f"{work.collection} has {counted(left, 'point')}, but {expected:,} were expected; nothing was changed",
            hint="check again: --dry-run counts them",
            facts={"points": left},
        )
    need_approval(work, left, left)
    view = work.lease.ledger.collections().get(work.collection)
    # Points that are written from now on are embedded by the earlier models.
    return Preflight(left=left, embedders=dict(view.embedders) if view else {})


def fill(step: Build, work: Work) -> Fill:  # noqa: ARG001
    """Nothing comes from anywhere."""
    return Fill()


def converge(step: Build, work: Work) -> Proof:
    """The proof: it is empty, so that every point that is there later was written since.

    Raises:
        VerificationError: another client has written to it before any name led there.
    """
    points = work.store.count(step.target)
    if points:
        raise VerificationError(
            f"{step.target} was made empty for {work.collection}, and has {counted(points, 'point')}: another client "
            "writes to it by "
            "that name",
            hint=f"find that client; qmigrate abort {quote(work.collection)} removes {step.target}",
        )
    return settle(step, work, VerificationReport(source=str(step.source), target=step.target), Base(step, work))
