"""A data fix on the live generation: find, write down, change, look again, record. It chooses no point."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime, timedelta

from qmigrate.errors import NotFoundError, RefusedError, RepairNeededError, VerificationError
from qmigrate.model.fix import Entry, Found, same_keys
from qmigrate.model.plan import EditPoints
from qmigrate.model.transform import Payload, PointId
from qmigrate.ports import PayloadEdit
from qmigrate.steps.closing import close_edit
from qmigrate.steps.edit_journal import journal_name, windows, write
from qmigrate.steps.fixing import Fix, Place, check_cap, opened
from qmigrate.steps.owned import own, reach, release
from qmigrate.steps.work import Facts, Phase, Work
from qmigrate.store import records

#: Rows of the audit that are looked at for what can't be undone any more.
_AUDIT_ROWS = 1000
#: How often a group is sent again when one of its points went away in between.
_TRIES = 5


def select(step: EditPoints, work: Work) -> Facts:
    """Only reads Qdrant and the application's SQL: what is to be changed is written into the ledger.

    Raises:
        RefusedError: more would change than was agreed to.
    """
    live = work.store.describe(reach(work, step.target))
    if live is None:
        raise RepairNeededError(f"{step.target}, which serves {work.collection}, is not in Qdrant any more")
    if live.status == "red" or live.problem:
        raise RefusedError(
            f"{step.target} is in trouble: {live.problem or 'status red'}", hint="mend the collection first"
        )
    work.progress.begin(work.collection, "select", live.points)
    found = Found()
    with opened(_place(work, step), step.edit) as fix:
        write(work.lease, _journal(work), _counted(work, found, fix))
    work.progress.end(f"{found.changes:,} of {found.points:,} points to change")
    return found.to_json()


def _counted(work: Work, found: Found, fix: Fix) -> Iterator[Entry]:
    """What is found, counted; after the last one it is checked against the cap, before any of it counts as stored."""
    for entry in fix.find(found):
        found.note(entry)
        if found.changes % 500 == 0:
            work.tick(500)
        yield entry
    step = work.job.steps[work.step]
    expected = step.edit.get("expect") if isinstance(step, EditPoints) else None
    check_cap(work.collection, found, fix.share(), expected)


def change(step: EditPoints, work: Work) -> Facts:
    """Change what was selected, many equal changes in one request; each point is looked at again right before.

    A point that is as it should be counts as changed: it may be that of an attempt whose answer got lost.
    """
    selected = int(work.facts("select")["changes"])
    done = dict(work.facts("change")) or {"entries": 0, "changed": 0, "moved": 0, "gone": 0}
    if not selected:
        return done
    work.progress.begin(work.collection, "change", selected, done["entries"])
    with opened(_place(work, step), step.edit) as fix:
        for entries in windows(work.lease.ledger, _journal(work), done["entries"]):
            work.tick()
            counted = _change(work, step, fix, entries)
            done = {name: done[name] + counted.get(name, 0) for name in done}
            work.note(done)
            work.tick(len(entries))
    work.progress.end(f"{done['changed']:,} changed")
    return done


def _change(work: Work, step: EditPoints, fix: Fix, entries: Sequence[Entry]) -> dict[str, int]:
    """Change one window; how many entries became what."""
    address, alias = reach(work, step.target), own(work, step.target)
    for attempt in range(_TRIES):
        counted = {"entries": len(entries), "changed": 0, "moved": 0, "gone": 0}
        waiting = []
        now = _payloads(work, address, entries)
        for entry in entries:
            state = _state(now.get(entry.id), entry)
            if state == "before":
                waiting.append(entry)
            else:
                counted["changed" if state == "after" else state] += 1
        agreed = fix.still(waiting)
        counted["moved"] += len(waiting) - len(agreed)
        counted["changed"] += len(agreed)
        try:
            for edit in _grouped(agreed):
                work.store.edit_payloads(alias, edit)
                work.tick()
        except NotFoundError:
            # Either a point went away since it was read, or a later holder has taken the alias away.
            if attempt == _TRIES - 1 or work.store.aliases().get(alias) != step.target:
                raise
            continue
        break
    return counted


def _grouped(entries: Iterable[Entry]) -> Iterator[list[PayloadEdit]]:
    """Equal changes together, in portions that a server takes at once."""
    groups: dict[str, tuple[Entry, list[PointId]]] = {}
    for entry in entries:
        removed = [key for key in entry.before if key not in entry.after]
        key = json.dumps([entry.after, sorted(removed)], sort_keys=True, ensure_ascii=False)
        groups.setdefault(key, (entry, []))[1].append(entry.id)
    portion: list[PayloadEdit] = []
    count = 0
    for entry, ids in groups.values():
        removed = sorted(key for key in entry.before if key not in entry.after)
        portion.append(PayloadEdit(ids, entry.after, removed))
        count += len(ids)
        if count >= 10_000 or len(portion) >= 1000:
            yield portion
            portion, count = [], 0
    if portion:
        yield portion


def verify(step: EditPoints, work: Work) -> Facts:
    """Read everything back: what was changed is as it should be, or somebody has changed it since.

    Raises:
        VerificationError: points are what they were before.
    """
    selected = int(work.facts("select")["changes"])
    counted = {"verified": 0, "changed_since": 0, "gone": 0}
    if not selected:
        return counted
    unchanged: list[Entry] = []
    work.progress.begin(work.collection, "verify", selected)
    address = reach(work, step.target)
    for entries in windows(work.lease.ledger, _journal(work)):
        now = _payloads(work, address, entries)
        for entry in entries:
            state = _state(now.get(entry.id), entry)
            if state == "before":
                unchanged.append(entry)
            else:
                counted[{"after": "verified", "moved": "changed_since"}.get(state, state)] += 1
        work.tick(len(entries))
    # What was let be on purpose may still be what it was.
    if len(unchanged) > int(work.facts("change")["moved"]):
        raise VerificationError(
            f"{len(unchanged):,} points of {work.collection} are what they were before the fix, for example "
            f"{unchanged[0].id}: the server did not take the change",
            hint=f"run the same command again; qmigrate abort {work.collection} takes it back",
        )
    work.progress.end(f"{counted['verified']:,} verified")
    return counted


def close(step: EditPoints, work: Work) -> Facts:
    """Everything recorded in one transaction; the journal stays while the fix can be undone."""
    release(work, [step.target])
    found, changed = work.facts("select"), work.facts("change")
    facts = {
        "run": work.run,
        "step": work.step,
        "generation": step.target,
        "changed": changed["changed"],
        "counts": found["counts"],
        "not_changed": {"changed_meanwhile": changed["moved"], "gone": changed["gone"]},
    }
    report = {"select": found, "change": changed, "verify": work.facts("verify")}
    taken_back = bool(step.edit.get("drops"))
    with opened(_place(work, step), step.edit) as fix:
        fixed = fix.audit(facts) if found["changes"] and not taken_back else None
    # Before the run is recorded as done: afterwards nobody would come back for it.
    if fixed is None:
        work.lease.drop_base(_journal(work))
    if taken_back:
        work.lease.drop_base(journal_name(step.edit["run"], step.edit["step"]))
    _expire(work)
    return {"log": close_edit(work, step, fixed, report)}


def _expire(work: Work) -> None:
    """Forget the journals of fixes that are too old to be undone."""
    border = datetime.now(UTC) - timedelta(seconds=work.settings.fixes.undo)
    for row in work.lease.ledger.deletions(_AUDIT_ROWS):
        mine = row.collection == work.collection and row.facts.get("run") is not None
        if mine and row.created_at < border:
            name = journal_name(row.facts["run"], row.facts["step"])
            if work.lease.ledger.has_base(name):
                work.lease.drop_base(name)


def _place(work: Work, step: EditPoints) -> Place:
    return Place(work.collection, reach(work, step.target), work.store, work.lease.ledger, work.settings)


def _journal(work: Work) -> str:
    return journal_name(work.run, work.step)


def _payloads(work: Work, address: str, entries: Sequence[Entry]) -> dict[PointId, Payload]:
    """What these points have now under the keys that change."""
    keys = sorted({key for entry in entries for key in entry.keys})
    points = work.store.fetch(address, [entry.id for entry in entries], payload=keys, vectors=False)
    return {records.point_id(stored): records.payload_of(stored) for stored in points}


def _state(payload: Payload | None, entry: Entry) -> str:
    """``gone``, ``after`` (as it should be), ``before`` (as it was found) or ``moved`` (changed by somebody since)."""
    if payload is None:
        return "gone"
    if same_keys(payload, entry.after, entry.keys):
        return "after"
    return "before" if same_keys(payload, entry.before, entry.keys) else "moved"


PHASES = (
    Phase("select", select),
    Phase("change", change),
    Phase("verify", verify),
    Phase("close", close),
)
