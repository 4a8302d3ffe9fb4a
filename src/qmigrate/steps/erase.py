"""An erasure: points deleted from everything that could bring them back, and written down before the first goes.

It writes no value of a point anywhere: what it has found is ids and digests, and the ids stay in ``qdrant_erasures``.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from qmigrate.errors import RefusedError, RepairNeededError, UnavailableError, UsageError, VerificationError
from qmigrate.model.fix import Entry, Found
from qmigrate.model.parts import parts
from qmigrate.model.plan import Erase, Job, Step
from qmigrate.model.transform import PointId
from qmigrate.ports import Stored
from qmigrate.steps.closing import close_edit
from qmigrate.steps.erasing import generations, kept, snapshots
from qmigrate.steps.erasing.selection import Erasure
from qmigrate.steps.erasing.tally import Tally
from qmigrate.steps.fixes.journal import journal_name, windows, write
from qmigrate.steps.fixes.protocol import Place, check_cap, consented
from qmigrate.steps.owned import reach, revoke_earlier
from qmigrate.steps.throttle import Throttle, waiting
from qmigrate.steps.work import Facts, Phase, Work
from qmigrate.store import records

#: Ids behind which is noted how far it came.
_PORTION = 500
#: What an edit has about the points, which would name a person: it goes when the run is over.
_NAMES = ("ids", "filter", "prefix", "sql")


def select(step: Erase, work: Work) -> Facts:
    """Only reads Qdrant and the application's SQL: which ids are meant is written into the ledger.

    Raises:
        RefusedError: more would go than was agreed to.
    """
    if work.store.describe(reach(work, step.target)) is None:
        raise RepairNeededError(f"{step.target}, which serves {work.collection}, is not in Qdrant any more")
    work.progress.begin(work.collection, "select", None)
    found, erasure = Found(), _erasure(step, work)
    try:
        write(work.lease, _journal(work), _counted(work, step, erasure, found))
    except (RefusedError, UsageError, UnavailableError, VerificationError):
        # It ends here, and its job must no longer name whom it was about.
        work.lease.amend_run(work.run, _nameless_job(work))
        raise
    spaces = {physical: erasure.spaces.of(physical) for physical in erasure.present}
    work.progress.end(f"{found.changes:,} ids to erase")
    return {**found.to_json(), "there": erasure.there, "spaces": spaces}


def _counted(work: Work, step: Erase, erasure: Erasure, found: Found) -> Iterator[Entry]:
    today = erasure.spaces.of(step.target)
    for entry in erasure.find(found):
        found.changes += 1
        if found.changes % 500 == 0:
            work.tick()
        yield Entry(entry.id, {**entry.before, "space": today}, {})
    check_cap(work.collection, found, erasure.share(), step.edit.get("expect"), consented(step.edit, work.collection))
    for space, ids in sorted(erasure.ids.items()):
        for identifier in sorted(ids, key=records.order_key) if space != today else ():
            yield Entry(identifier, {"space": space}, {})


def intend(step: Erase, work: Work) -> Facts:
    """Written down before the first point goes: from here on no old copy brings one back."""
    meant: dict[PointId, set[int]] = {}
    for space, ids in _ids(work).items():
        for identifier in ids:
            meant.setdefault(identifier, set()).add(space)
    if meant:
        work.lease.intend_erasures(work.run, meant, step.reason)
    return {"ids": len(meant)}


def change(step: Erase, work: Work) -> Facts:
    """Delete them from every generation that is there, the one that serves first."""
    there = work.facts("select")["there"]
    if not _anything(work):
        return {"changed": 0, "moved": 0, "gone": 0}
    erasure, ids = _erasure(step, work), _ids(work)
    revoke_earlier(work, list(erasure.present))
    # What was accepted before, and waits to be done, is erased as well.
    work.store.flush(reach(work, step.target))
    throttle = Throttle(step.edit.get("max_rate"), pause=waiting(work.tick))
    work.progress.begin(work.collection, "erase", sum(there.values()))
    for physical in erasure.present:
        mine = ids.get(erasure.spaces.of(physical), set())
        if physical == step.target:
            _delete_live(work, physical, mine, throttle)
        else:
            generations.delete(work, physical, mine, throttle)
    work.progress.end(f"{sum(there.values()):,} points of {len(there):,} generations")
    # Counted when they were selected: what an interrupted try has deleted isn't there to be counted any more.
    return {"changed": there.get(step.target, 0), "moved": 0, "gone": 0, "generations": there}


def _delete_live(work: Work, physical: str, ids: set[PointId], throttle: Throttle) -> None:
    """Delete points of what serves; of those that an earlier attempt has deleted only what is still the very point.

    It may have been interrupted long ago, and the application may have written a point again since.
    """
    ordered, before = sorted(ids, key=records.order_key), work.facts("change")
    through = len(ordered) if "changed" in before else int(before.get("through", 0))
    generations.delete(work, physical, _unchanged(work, set(ordered[:through])), throttle)
    for part in parts(iter(ordered[through:]), _PORTION):
        generations.delete(work, physical, part, throttle)
        through += len(part)
        if through < len(ordered):
            work.note({"through": through})


def forget(step: Erase, work: Work) -> Facts:
    """Take them out of what qmigrate has kept of them: bases, quarantine, journals, samples, exports, archives."""
    if not _anything(work):
        return {}
    spaces, ids, tally = _erasure(step, work).spaces, _ids(work), Tally.of(work)
    generations.forget(work, spaces, ids, tally)
    beyond = kept.clear(work, spaces, ids, tally)
    told = {"counts": tally.counts, "fixes": tally.fixes, "emptied": tally.emptied, "beyond": beyond}
    return {**tally.to_json(), **told}


def copies(step: Erase, work: Work) -> Facts:
    """Report which snapshots may hold them, or replace these by one that doesn't."""
    if not _anything(work):
        return {}
    return snapshots.handle(work, step.target, _erasure(step, work).present, step.edit.get("snapshots", "list"))


def verify(step: Erase, work: Work) -> Facts:
    """Check every place again.

    Raises:
        VerificationError: a point is still where it was.
    """
    if not _anything(work):
        return {"verified": 0}
    erasure, ids = _erasure(step, work), _ids(work)
    work.progress.begin(work.collection, "verify", None)
    work.store.flush(reach(work, step.target))
    again = 0
    for physical in erasure.present:
        mine = ids.get(erasure.spaces.of(physical), set())
        left = generations.still_there(work, physical, mine)
        if physical == step.target:
            again = len(left)
            left = _unchanged(work, left)
            again -= len(left)
        generations.check_gone(physical, left)
    found = {**kept.left_in(work, erasure.spaces, ids), **generations.left_in(work, erasure.spaces, ids)}
    if any(found.values()):
        told = ", ".join(f"{count:,} in {name}" for name, count in found.items() if count)
        raise VerificationError(
            f"points of {work.collection} that are to be erased are still kept: {told}",
            hint="run the same command again; it continues from here",
        )
    work.progress.end("gone everywhere")
    return {"verified": len(ids[erasure.spaces.of(step.target)]) - again, "written_again": again, "left": found}


def close(step: Erase, work: Work) -> Facts:
    """Everything recorded, without a value of a point and without what they were selected by."""
    erasure = _erasure(step, work)
    generations.let_go(work, erasure.present)
    found, cleared = work.facts("select"), work.facts("forget")
    fixed = None
    if found["changes"]:
        work.lease.settle_erasures(work.run)
        fixed = erasure.audit(
            {
                "run": work.run,
                "step": work.step,
                "generation": step.target,
                "changed": work.facts("change")["changed"],
                "undo": None,
                "ids": found["changes"],
                "generations": found["there"],
                "kept": cleared.get("counts", {}),
                "fixes": cleared.get("fixes", {}),
                "emptied": cleared.get("emptied", []),
                "written_again": work.facts("verify").get("written_again", 0),
            }
        )
    work.lease.drop_base(_journal(work))
    report = {name: work.facts(name) for name in ("select", "change", "snapshots", "verify")}
    report["forget"] = {name: one for name, one in cleared.items() if name != "tally"}
    return {"log": close_edit(work, step, fixed, report, _nameless_job(work))}


def _nameless_job(work: Work) -> Job:
    """What stays of the job once it is over."""
    return replace(work.job, steps=tuple(map(_nameless, work.job.steps)))


def _nameless(step: Step) -> Step:
    """A step that doesn't say any more whom it was about."""
    if not isinstance(step, Erase):
        return step
    return replace(step, edit={name: value for name, value in step.edit.items() if name not in _NAMES})


def _erasure(step: Erase, work: Work) -> Erasure:
    address, ledger = reach(work, step.target), work.lease.ledger
    place = Place(work.collection, address, work.store, ledger, work.settings, work.tick, work.code)
    return Erasure(place, step.edit)


def _anything(work: Work) -> bool:
    return bool(work.facts("select")["changes"])


def _ids(work: Work) -> dict[int, set[PointId]]:
    """What was selected, by id space."""
    found: dict[int, set[PointId]] = {int(one): set() for one in work.facts("select")["spaces"].values()}
    for entries in windows(work.lease.ledger, _journal(work)):
        for entry in entries:
            found.setdefault(int(entry.before["space"]), set()).add(entry.id)
    return found


def _unchanged(work: Work, ids: set[PointId]) -> set[PointId]:
    """Those that are the very points that were found; others were written again by the application since."""
    before = {
        entry.id: entry.before["digest"]
        for entries in windows(work.lease.ledger, _journal(work))
        for entry in entries
        if entry.id in ids and "digest" in entry.before
    }
    found = set()
    step, key = work.job.steps[work.step], work.lease.ledger.own_key()
    if before:
        # What was accepted may not be there to be read yet.
        work.store.flush(reach(work, str(step.target)))
    for part in parts(iter(sorted(before, key=records.order_key))):
        points: list[Stored] = work.store.fetch(reach(work, str(step.target)), part)
        found |= {
            records.point_id(stored)
            for stored in points
            if records.has_digest(stored, before[records.point_id(stored)], key)
        }
    return found


def _journal(work: Work) -> str:
    return journal_name(work.run, work.step)


PHASES = (
    Phase("select", select),
    Phase("intend", intend),
    # Both again after an interruption: verify may have found what was left.
    Phase("change", change, volatile=True),
    Phase("forget", forget, volatile=True),
    Phase("snapshots", copies),
    Phase("verify", verify),
    Phase("close", close),
)
