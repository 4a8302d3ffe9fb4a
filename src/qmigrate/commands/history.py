"""history --deletions: the audit of data fixes and deletions, filtered. It only reads."""

from __future__ import annotations

import csv
import io
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from datetime import datetime
from itertools import islice
from typing import Any

from qmigrate.commands.names import check_recorded
from qmigrate.commands.results import LateWrite, LateWrites
from qmigrate.commands.session import notes_on, open_store, opened_ledger, read_readable
from qmigrate.commands.snapshot import address
from qmigrate.engine.points.base import left_and_right
from qmigrate.engine.prove.carry import ALREADY, LISTED
from qmigrate.errors import StoreError, UnknownNameError
from qmigrate.ledger import Carry, DeletionRow, Ledger, summary
from qmigrate.model.facts.audit import UNDO
from qmigrate.model.names import fits
from qmigrate.model.plan import GoLive, Job
from qmigrate.model.report import KEPT, MAY_MISS, MAY_UNDO
from qmigrate.ports import Store
from qmigrate.settings.load import Settings
from qmigrate.store import records
from qmigrate.text import to_plain


@dataclass(frozen=True, slots=True)
class Deletion:
    """One row of ``vector_deletion_logs``.

    Attributes:
        id: what ``fix undo`` takes.
        kind: ``DIRECTORY``, ``ORPHAN``, ``PAYLOAD_SYNC``, …, or what the application wrote.
        target: what was meant, as text.
        count: vectors deleted; 0 for what deletes none.
        changed: points that were changed or deleted; None for rows of the application.
        collection: the logical name; None for rows of the application.
        undone_by: the fix that took it back, or None.
        facts: everything else that was recorded.
        metadata: of these, the caller's own.
    """

    id: int
    created_at: datetime
    collection: str | None
    kind: str
    target: str
    count: int
    changed: int | None
    reason: str | None
    actor: str | None
    undone_by: int | None
    facts: Mapping[str, Any]
    metadata: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Deletions:
    """Rows, newest first; `notes`: what is wrong with revision files."""

    rows: tuple[Deletion, ...]
    notes: tuple[str, ...] = ()


def deletions(
    settings: Settings | None = None,
    collection: str | None = None,
    *,
    since: datetime | None = None,
    kind: str | None = None,
    target: str | None = None,
    actor: str | None = None,
    limit: int = 50,
) -> Deletions:
    """What was deleted and changed on purpose, newest first; also what the application wrote into that table itself.

    Args:
        collection: only of this logical name.
        since: not before this moment; with a time zone.
        kind: of this type, whatever its case.
        target: a glob, or a part of the target.
        actor: a glob, or a part of who did it.
        limit: most rows.

    Raises:
        UnknownNameError: neither the ledger nor a revision speaks of the collection.
    """
    settings = settings or Settings.load()
    with opened_ledger(settings) as ledger:
        files, problems = read_readable(settings, ledger)
        check_recorded(ledger, files, collection)
        rows = summary.audit(ledger, collection, kind=kind, since=since)
        fitting = (row for row in rows if _fits(target, row.target) and _fits(actor, row.actor or ""))
        found = list(islice(fitting, limit))
        undos = summary.audit(ledger, kind=UNDO, after=found[-1].id) if found else ()
        # Of several the first one has taken it back: it comes last.
        undone = {row.told.undoes: row.id for row in undos if row.told.undoes is not None}
    return Deletions(tuple(_plain(row, undone.get(row.id)) for row in found), notes_on(problems))


def _fits(wanted: str | None, value: str) -> bool:
    return wanted is None or wanted in value or fits(value, wanted)


def _plain(row: DeletionRow, undone_by: int | None) -> Deletion:
    return Deletion(
        id=row.id,
        created_at=row.created_at,
        collection=row.collection,
        kind=row.kind,
        target=row.target,
        count=row.count,
        changed=row.told.changed,
        reason=row.reason,
        actor=row.actor,
        undone_by=undone_by,
        facts=row.facts,
        metadata=row.told.own or {},
    )


def as_csv(found: Deletions) -> str:
    """Rows as comma-separated values, with a header; times are ISO 8601."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    names = ("id", "created_at", "collection", "kind", "target", "count", "changed", "reason", "actor", "undone_by")
    writer.writerow(names)
    for one in found.rows:
        writer.writerow([_cell(getattr(one, name)) for name in names])
    return out.getvalue()


def as_jsonl(found: Deletions) -> str:
    """One JSON object a line, with everything that was recorded."""
    return "".join(json.dumps(to_plain(one), ensure_ascii=False) + "\n" for one in found.rows)


def _cell(value: object) -> object:
    """A spreadsheet must not take a text for a formula."""
    if isinstance(value, str) and value[:1] in ("=", "+", "-", "@", "\t", "\r"):
        return "'" + value
    return value.isoformat() if hasattr(value, "isoformat") else value


#: Kinds, the most doubtful first, with what they mean for people; ``not_made`` has its own reason.
KINDS: Mapping[str, str] = {
    "may_undo_delete": MAY_UNDO,
    "may_overwrite": "carried over while the new generation took other writes: may have overwritten a newer one",
    "kept": KEPT,
    "not_made": "not carried",
    "may_have_missed": MAY_MISS,
    "unknown": "carried or listed by an earlier qmigrate, which recorded no more",
    "already_there": "the new generation had it already",
    "carried": "carried over, and nothing else was written there",
}
#: Of these, nothing is in doubt.
_CERTAIN = frozenset({"already_there", "carried"})
#: Points that are asked for in one request.
_AT_ONCE = 256
#: Characters of a payload that are shown.
EXCERPT = 300


def carried(settings: Settings | None, revision: str, collection: str | None = None) -> LateWrites:
    """Every late write of the runs that applied a revision, or took it back.

    The ledger has them; the values of today are read in addition from Qdrant, as far as it can be reached.

    Args:
        revision: its id, or the beginning of one.
        collection: restrict to this logical name.

    Raises:
        UnknownRevisionError: there is no such revision.
        UnknownNameError: it was never applied to the collection, or there is no such collection.
    """
    settings = settings or Settings.load()
    with opened_ledger(settings) as ledger:
        recorded = {row.revision for row in ledger.history(collection)}
        found = list(_rows(ledger, revision, collection))
        if not found and revision not in recorded:
            revisions, _ = read_readable(settings, ledger)
            check_recorded(ledger, revisions, collection)
            revision = revisions.get(revision).id
            found = list(_rows(ledger, revision, collection))
            if not found and revision not in recorded:
                raise UnknownNameError(f"revision {revision} was never applied", hint="qmigrate history lists what was")
    order = list(KINDS)
    found.sort(key=lambda row: (order.index(row.kind), -row.run, row.collection, str(row.id).zfill(20)))
    counts = Counter(row.kind for row in found)
    rows, notes = _with_values(settings, found)
    return LateWrites(revision, tuple(rows), {kind: counts[kind] for kind in order if counts[kind]}, tuple(notes))


def doubtful(
    settings: Settings | None, run: int, *, fields: Sequence[str] | None = None, most: int | None = None
) -> LateWrites:
    """The late writes of one run that a person should check, the most doubtful first.

    Args:
        settings: of qmigrate; by default those of the folder.
        run: its id in the ledger.
        fields: those of the payloads of today that may be shown; None for all.
        most: most rows; the counts are of all.
    """
    settings, found = settings or Settings.load(), []
    with opened_ledger(settings) as ledger:
        for number, job, late in ledger.late_writes(run=run):
            closed = next(((one.revision, one.direction) for one in job.closes), ("", ""))
            found += [_row(job, number, step, carry, closed) for step, carry in late]
    order = [kind for kind in KINDS if kind not in _CERTAIN]
    chosen = [row for row in found if row.kind in order]
    chosen.sort(key=lambda row: (order.index(row.kind), str(row.id).zfill(20)))
    counts = Counter(row.kind for row in chosen)
    rows, notes = _with_values(settings, chosen[:most], fields)
    revision = rows[0].revision if rows else ""
    return LateWrites(revision, tuple(rows), {kind: counts[kind] for kind in order if counts[kind]}, tuple(notes))


def _rows(ledger: Ledger, revision: str, collection: str | None) -> Sequence[LateWrite]:
    found = []
    for run, job, late in ledger.late_writes(collection):
        direction = next((one.direction for one in job.closes if one.revision == revision), None)
        if direction is not None:
            found += [_row(job, run, step, carry, (revision, direction)) for step, carry in late]
    return found


def _row(job: Job, run: int, step: int, carry: Carry, closed: tuple[str, str]) -> LateWrite:
    kind = _kind(carry)
    doubt = carry.doubt.reason if carry.doubt is not None else None
    golive = job.steps[step]
    source, target = (golive.source, golive.target) if isinstance(golive, GoLive) else (None, None)
    before, after = left_and_right(carry.before), left_and_right(carry.after)
    met = carry.doubt.met if carry.doubt is not None else None
    served = carry.state not in (LISTED, ALREADY)
    return LateWrite(
        kind=kind,
        collection=job.collection,
        id=carry.point_id,
        reason=doubt if kind == "not_made" and doubt else KINDS[kind],
        revision=closed[0],
        run=run,
        direction=closed[1],
        old={"generation": source, "before": _hex(before[0]), "written": _hex(after[0]), "now": None},
        new={
            "generation": target,
            "before": _hex(before[1]),
            "met": _hex(met),
            "after": _hex(after[1] if served else met),
            "now": None,
        },
    )


def _kind(carry: Carry) -> str:
    if carry.state == ALREADY:
        return "already_there"
    if carry.doubt is None:
        return "unknown"
    if carry.state == LISTED:
        return "kept" if carry.doubt.reason == KEPT else "not_made"
    if carry.doubt.reason is None:
        return "carried"
    return {MAY_UNDO: "may_undo_delete", MAY_MISS: "may_have_missed"}.get(carry.doubt.reason, "may_overwrite")


def _hex(digest: bytes | None) -> str | None:
    """None where there was no point, or where it isn't known."""
    return None if digest in (None, records.ABSENT, records.UNKNOWN) else digest.hex()


def _with_values(
    settings: Settings, rows: Sequence[LateWrite], fields: Sequence[str] | None = None
) -> tuple[list[LateWrite], list[str]]:
    """The same with what the two generations hold today."""
    if not rows:
        return [], []
    try:
        with ExitStack() as stack:
            store = open_store(settings, stack, writes=False, partial=True)
            return _looked_up(store, rows, fields)
    except StoreError as error:
        return list(rows), [f"the values of today can't be read: {error.message}"]


def _looked_up(
    store: Store, rows: Sequence[LateWrite], fields: Sequence[str] | None
) -> tuple[list[LateWrite], list[str]]:
    present, aliases, notes = set(store.physical_names()), store.aliases(), []
    now: dict[tuple[str, int | str], str] = {}
    wanted: dict[str, list[int | str]] = {}
    for row in rows:
        for side in (row.old, row.new):
            if side["generation"] is not None:
                wanted.setdefault(side["generation"], []).append(row.id)
    for physical, ids in wanted.items():
        name = address(aliases, physical)
        if physical not in present:
            notes.append(f"{physical} is gone: digests are all that is left of it")
        elif physical in aliases and (name == physical or store.capabilities.several):
            notes.append(f"{physical} is hidden, and nothing leads to it alone: its values can't be read")
        else:
            for first in range(0, len(ids), _AT_ONCE):
                found = store.payloads(name, ids[first : first + _AT_ONCE])
                now |= {(physical, identifier): _excerpt(payload, fields) for identifier, payload in found.items()}
    return [
        replace(
            row,
            old={**row.old, "now": now.get((row.old["generation"], row.id))},
            new={**row.new, "now": now.get((row.new["generation"], row.id))},
        )
        for row in rows
    ], notes


def _excerpt(payload: Mapping[str, Any], fields: Sequence[str] | None) -> str:
    if fields is not None:
        payload = {name: payload[name] for name in fields if name in payload}
    text = json.dumps(payload, ensure_ascii=False, sort_keys=True, default=str)
    return text if len(text) <= EXCERPT else text[: EXCERPT - 1] + "…"
