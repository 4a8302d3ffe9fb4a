"""A restore from a snapshot that a server has kept: recovered by the server, sealed at once, counted and read through.

Its checksum is the server's to check; what it answers about points is not believed (`facts/measured.md`): every shard
must be active, and every point that is counted must be readable. Points that were erased since are removed again.
"""

from __future__ import annotations

from dataclasses import replace

from qmigrate.engine.build.clone import is_there, no_room, reasons, recover
from qmigrate.engine.build.shadow import HELD_BACK, seal, without_held_back
from qmigrate.engine.epoch_aliases import own
from qmigrate.engine.prove.passes import keyed, page_of
from qmigrate.engine.restore.empty import Base, erased_since, need_source, origin_of, settle
from qmigrate.engine.work import Work
from qmigrate.errors import ForeignLedgerError, NotFoundError, RefusedError, StoreError, VerificationError
from qmigrate.model.facts.phases import Fill, Preflight, Proof, ServerSnapshot, Shadow, SourceSnapshot
from qmigrate.model.ids import points_of
from qmigrate.model.plan import Build
from qmigrate.model.report import VerificationReport
from qmigrate.model.schema import Change, changes
from qmigrate.model.state import LiveCollection, Seal, marks_of
from qmigrate.observe import snapshots_of_runs
from qmigrate.ports import Snapshot
from qmigrate.store import records
from qmigrate.text import quote

#: Ids that are asked about at once.
PAGE = 1000


def preflight(step: Build, work: Work) -> Preflight:
    """Only reads: the snapshot is there as it was chosen, of a collection that a server can bring back."""
    need_source(step, work)
    made = _made(step, work)
    of = work.store.describe(origin_of(step).place)
    if of is not None and of.custom_sharding:
        raise RefusedError(f"{of.physical} uses custom sharding: its snapshot comes back without any shard")
    trouble = no_room(work, made.size)
    if trouble is not None:
        raise RefusedError(f"the snapshot can't be recovered: {trouble}", hint="make room on the server")
    return Preflight(embedders={})


def chosen(step: Build, work: Work) -> SourceSnapshot:
    """The snapshot that is recovered, as the phase that makes one for other builds notes it."""
    made = _made(step, work)
    place = origin_of(step).place
    return SourceSnapshot(snapshot=ServerSnapshot(made.name, made.size, made.checksum, place))


def shadow(step: Build, work: Work) -> Build:
    """Recover it under the generation's name; its seal is overwritten at once.

    Returns:
        The build as the job has it afterwards: an unclear answer of the server costs a number.
    """
    origin = origin_of(step)
    step = recover(step, work)
    if not is_there(step, work):
        raise StoreError(
            f"the server could not recover {origin.name}: {reasons(work)}",
            hint=f"qmigrate abort {quote(work.collection)}; an archive can be restored instead: "
            "qmigrate snapshot create --archive makes one",
        )
    found = _found(step, work)
    _take(step, work, found)
    _open(step, work, found)
    for change in changes(without_held_back(found.schema), without_held_back(step.schema)):
        # A server that was killed in the middle may have left an index out.
        if change.kind.startswith("index."):
            work.store.apply(own(work, step.target), change)
    return step


def fill(step: Build, work: Work) -> Fill:
    """The points are there; those that were erased since go."""
    removed = 0
    erased = erased_since(step, work)
    if erased is not None:
        alias = own(work, step.target)
        for page in work.store.scan_ids(step.target, page=PAGE):
            gone = erased(points_of(page))
            if gone:
                work.store.delete(alias, sorted(gone, key=records.order_key))
            removed += len(gone)
            work.tick()
    points = work.store.count(step.target)
    work.lease.progress(work.run, points, points)
    return Fill(restored=points, removed=removed)


def converge(step: Build, work: Work) -> Proof:
    """Read every point and count: what can be read, what the server counts, and what was recorded must agree."""
    origin = origin_of(step)
    found = _found(step, work)
    if found.inactive or found.status == "red" or found.problem:
        raise VerificationError(
            f"{step.target} is not healthy: {', '.join(found.inactive) or found.problem or 'status red'}",
            hint=f"{work.collection} was not touched; qmigrate abort {quote(work.collection)} removes {step.target}",
        )
    base = Base(step, work)
    counted = work.store.count(step.target)
    report = VerificationReport(source=origin.name, target=step.target, points=counted)
    work.progress.begin(work.collection, "verify", counted)
    for key, stored in keyed(work, step.target, (None, None), page_of(work, step.target)):
        base.add(key, stored)
        report.proven += 1
        if report.proven % PAGE == 0:
            work.tick(PAGE)
    if report.proven != counted:
        report.failures.add("all", f"{counted:,} points are counted, but {report.proven:,} can be read")
    return settle(step, work, report, base)


def _made(step: Build, work: Work) -> Snapshot:
    origin = origin_of(step)
    for made in work.store.list_snapshots(origin.place):
        if made.name == origin.name and made.checksum == origin.digest:
            return made
    raise NotFoundError(f"the snapshot {origin.name} is not there any more", hint="qmigrate snapshot list")


def _found(step: Build, work: Work) -> LiveCollection:
    found = work.store.describe(step.target)
    if found is None:
        raise StoreError(f"{step.target} was recovered, but is not there")
    return found


def _is_copy(step: Build, work: Work, marks: Seal) -> bool:
    """Whether it was made of an identical copy before that went live: earlier versions gave those no revision."""
    of = work.generation(origin_of(step).physical)
    told = (marks.state, marks.revision, marks.generation)
    return of is not None and told == ("building", None, of.number)


def _refuse_unfinished(step: Build, work: Work, marks: Seal) -> None:
    """Refuse what was being built when the snapshot was made, but by a run of this ledger: that knew it to be whole.

    Raises:
        VerificationError: points may be missing in it, and nothing could tell.
    """
    origin = origin_of(step)
    logical = str(origin.logical or work.collection)
    whole = snapshots_of_runs(work.lease.ledger, logical)
    if marks.state != "building" or (origin.physical, origin.name) in whole:
        return
    raise VerificationError(
        f"{origin.name} was made while {origin.physical} was being built: points may be missing in it",
        hint=f"{work.collection} was not touched; qmigrate abort {quote(work.collection)} removes {step.target}; "
        f"another one: qmigrate snapshot list {quote(logical)}",
    )


def _take(step: Build, work: Work, found: LiveCollection) -> None:
    """Check the seal of the snapshot, keep what only it has, and seal it as being built."""
    marks = marks_of(found)
    if marks.ledger != work.ledger_id:
        raise ForeignLedgerError(
            f"{origin_of(step).name} is sealed by another ledger ({marks.ledger or 'no seal'})",
            hint=f"delete {step.target} in Qdrant, then qmigrate abort {quote(work.collection)}",
        )
    mine = ("building", step.number, work.collection)
    if (marks.state, marks.generation, marks.collection) == mine:
        return
    _refuse_unfinished(step, work, marks)
    wanted = origin_of(step).revision
    if marks.revision != wanted and not _is_copy(step, work, marks):
        raise VerificationError(
            f"{origin_of(step).name} was made at revision {marks.revision}, but the history has "
            f"{wanted} at that time: do the clocks of Qdrant and the database differ?",
            hint=f"{work.collection} was not touched; qmigrate abort {quote(work.collection)} removes {step.target}",
        )
    work.note(replace(work.facts(Shadow), embedders=dict(marks.embedders or {})))
    work.store.write_seal(own(work, step.target), seal(step, work))


def _open(step: Build, work: Work, found: LiveCollection) -> None:
    """A snapshot of a generation that was left has its fence: what is made of it has to take writes."""
    strict = found.schema.config.get(HELD_BACK) or {}
    declared = step.schema.config.get(HELD_BACK) or {}
    if strict.get("enabled") and strict.get("write_rate_limit") == 1 and declared.get("write_rate_limit") != 1:
        of = work.generation(origin_of(step).physical)
        prior = of.fence if of is not None and of.fence is not None else declared
        work.store.lift_fence(own(work, step.target), dict(prior))


def drifted(step: Build, work: Work) -> list[Change]:
    """Where the snapshot is not what was recorded of its revision: reported, but no reason to leave the points behind.

    Raises:
        VerificationError: its vectors are others, so it is not of that revision.
    """
    found = changes(_found(step, work).schema.with_(aliases=()), without_held_back(step.schema))
    strange = [change for change in found if change.kind in ("vector.add", "vector.drop", "sparse.add", "sparse.drop")]
    if strange:
        raise VerificationError(
            f"{origin_of(step).name} is not what was recorded for revision {origin_of(step).revision}: "
            + "; ".join(change.describe() for change in strange),
            hint=f"{work.collection} was not touched; qmigrate abort {quote(work.collection)} removes {step.target}",
        )
    return list(found)
