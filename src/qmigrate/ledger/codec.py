"""Between SQL columns and plain values: point ids, JSON, schemas, generations. It runs no SQL."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy import RowMapping

from qmigrate.model.facts.audit import Audited
from qmigrate.model.facts.history import Reported
from qmigrate.model.facts.phases import Left
from qmigrate.model.facts.stored import lenient, loaded
from qmigrate.model.plan import APPLYING, ASIDE, Job
from qmigrate.model.schema import CollectionSchema, JsonObject
from qmigrate.model.state import Applied, Generation, Moment, OpenRun, Record
from qmigrate.model.transform import PointId


@dataclass(frozen=True, slots=True)
class View:
    """The current view of one logical name: a row of ``qdrant_schema_versions``.

    Attributes:
        name: the logical name.
        revision: the newest applied revision, or None.
        physical: the generation that serves, or None when the name was removed.
        declared: the recorded schema.
        embedders: vector -> model fingerprint.
        updated_at: by the database's clock; None for a view that was not stored yet.
    """

    name: str
    revision: str | None
    physical: str | None
    declared: CollectionSchema | None
    embedders: Mapping[str, Any] = field(default_factory=dict)
    updated_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class HistoryRow:
    """One revision applied to, or undone on, one collection.

    Attributes:
        direction: ``upgrade | rollback | stamp | unstamp``; ``restore`` in addition where points of an earlier time
            came back, ``fix`` where points were changed on purpose.
        strategy: ``copy | clone | in_place | create | drop | adopt | restore | edit``; ``undo`` where a restore was
            undone.
        physical: the generation that served afterwards.
        report: counts and proof, as the step reported them.
    """

    id: int
    collection: str
    run: int
    revision: str
    direction: str
    checksum: str
    strategy: str
    physical: str | None
    report: JsonObject
    actor: str
    created_at: datetime

    @property
    def told(self) -> Reported:
        """What of the report is read again."""
        return loaded(Reported, self.report or {})


@dataclass(frozen=True, slots=True)
class RunRow:
    """One attempt, whatever came of it. `state`: ``running | held | done | refused | unchanged | aborted | failed``.

    Attributes:
        revisions: those that it was to apply, or to undo.
    """

    id: int
    verb: str
    collection: str
    state: str
    actor: str
    host: str
    started_at: datetime
    finished_at: datetime | None
    error: str | None
    revisions: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class LeaseRow:
    """Who holds, or last held, the lease of a collection; `expired` is by the database's clock."""

    name: str
    owner: str
    host: str
    epoch: int
    expires_at: datetime
    expired: bool


@dataclass(frozen=True, slots=True)
class Range:
    """A fixed share of the id space, from `start` up to before `stop`; None is an open end.

    Attributes:
        cursor: the last id whose write was acknowledged, or None.
        points: how many were written.
    """

    number: int
    start: PointId | None
    stop: PointId | None
    cursor: PointId | None = None
    points: int = 0
    done: bool = False


class Doubt(NamedTuple):
    """Why a late write is doubtful, None once it is known not to be; and the digest of what the new generation had."""

    reason: str | None
    met: bytes | None = None


@dataclass(frozen=True, slots=True)
class Carry:
    """A late write to carry over; `before` and `after` are opaque. `state`: ``running | done | listed``.

    Attributes:
        doubt: why a person should check it, and what it met; None of one that an earlier qmigrate has carried.
    """

    point_id: PointId
    before: bytes
    after: bytes
    state: str
    doubt: Doubt | None = None


@dataclass(frozen=True, slots=True)
class Quarantined:
    """A point that has no vector because it could not be embedded.

    Attributes:
        point_id: as it is in the generation.
        vector: the one that it lacks.
        outcome: ``kept`` without the vector, or ``dropped``: not in the generation at all.
        stage: ``read``, ``embed`` or ``check``.
        reason: why, for people.
        source: what should have been embedded, shortened; None where there was nothing.
        digest: of the complete source point; None for a row of an earlier version.
        attempts: how often it was tried.
        resolved_at: when it was settled; None while it is open.
        resolution: how.
    """

    point_id: PointId
    vector: str
    outcome: str
    stage: str
    reason: str
    source: str | None = None
    digest: bytes | None = None
    generation: str = ""
    run: int | None = None
    attempts: int = 1
    created_at: datetime | None = None
    resolved_at: datetime | None = None
    resolution: str | None = None


@dataclass(frozen=True, slots=True)
class Leaving:
    """The go-live that left a generation last.

    Attributes:
        run: its id.
        step: position in its job.
        source: the generation that was left.
        target: the one that served then, or None when the name was removed.
        back: whether it was a rollback.
        writes: the policy of that step.
        left: how its sweep has left the generation; None where that isn't known.
        apart: the two held points of different times, so that no base distinguishes them.
    """

    run: int
    step: int
    source: str
    target: str | None
    back: bool
    writes: str
    left: Left | None
    apart: bool = False

    @property
    def given_up(self) -> bool:
        """Whether the points of the generation were left behind on purpose, so that what they were was not kept."""
        agreed = self.writes == "discard" if self.back else self.apart
        return self.target is None or agreed


@dataclass(frozen=True, slots=True)
class Fixed:
    """What a data fix has done, for the audit: see :class:`DeletionRow` for the fields."""

    kind: str
    target: str
    count: int
    reason: str | None
    facts: Audited


@dataclass(frozen=True, slots=True)
class DeletionRow:
    """One row of the deletion audit.

    Attributes:
        kind: ``DIRECTORY | ASSET | SESSION | CATEGORY | ORPHAN | FULL_RESET | FILTER``, or the application's;
            ``PAYLOAD_SYNC`` and ``UNDO`` with a count of 0, since they delete nothing.
        target: path prefix, id, filter, … as text.
        count: vectors deleted.
        facts: further context, as it is stored.
        collection: None for rows that the application itself wrote.
    """

    id: int
    kind: str
    target: str
    count: int
    reason: str | None
    facts: JsonObject
    created_at: datetime
    actor: str | None
    collection: str | None

    @property
    def told(self) -> Audited:
        """The context of a fix of ours; of a row of the application, which may have any keys, what could be that."""
        return lenient(Audited, self.facts if self.collection is not None else {})


def id_text(point_id: PointId | None) -> str | None:
    """A point id as JSON text, so that 7 and "7" stay apart and 64 unsigned bits survive in any database."""
    return None if point_id is None else json.dumps(point_id)


def id_value(text: str | None) -> PointId | None:
    """The inverse of :func:`id_text`."""
    return None if text is None else known_id(text)


def known_id(text: str) -> PointId:
    """The same for a column that is never NULL."""
    value = json.loads(text)
    if not isinstance(value, int | str):
        raise TypeError(f"not a point id: {text}")
    return value


def dumps(value: Any) -> str:
    """JSON that every database takes: NaN and infinities, which JSON lacks, become null."""
    try:
        return json.dumps(value, allow_nan=False)
    except ValueError:
        return json.dumps(_finite(value), allow_nan=False)


def _finite(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return value


def readable(text: str) -> str:
    """Text from outside (an error, a reason) that every database takes: no NUL, no lone surrogate."""
    return text.replace("\x00", "\\x00").encode("utf-8", "backslashreplace").decode("utf-8")


def schema_json(schema: CollectionSchema | None) -> JsonObject | None:
    """A schema for a JSON column."""
    return schema.to_json() if schema is not None else None


def schema_value(data: JsonObject | None) -> CollectionSchema | None:
    """The inverse of :func:`schema_json`."""
    return CollectionSchema.from_json(data) if data is not None else None


def view_of(row: RowMapping) -> View:
    """A row of ``qdrant_schema_versions``."""
    return View(
        name=row["collection_name"],
        revision=row["revision"],
        physical=row["physical_name"],
        declared=schema_value(row["declared"]),
        embedders=row["embedders"] or {},
        updated_at=row["updated_at"],
    )


def generation_of(row: RowMapping) -> Generation:
    """A row of ``qdrant_generations``."""
    return Generation(
        number=row["number"],
        physical=row["physical"],
        parent=row["parent"],
        revisions=tuple(row["revisions"]),
        schema=CollectionSchema.from_json(row["recorded"]),
        state=row["state"],
        held_until=row["held_until"],
        fence=row["fence"],
        swept=row["swept"],
        server=row["server"],
        settings=row["settings"],
        changed_at=row["updated_at"],
        deletion=row["deletion"],
    )


def generation_columns(generation: Generation) -> dict[str, Any]:
    """What is stored of a generation besides its key."""
    return {
        "physical": generation.physical,
        "parent": generation.parent,
        "revisions": list(generation.revisions),
        "recorded": generation.schema.to_json(),
        "state": generation.state,
        "held_until": generation.held_until,
        "fence": generation.fence,
        "swept": generation.swept,
        "deletion": generation.deletion,
        "settings": generation.settings,
    }


def applied_of(row: RowMapping, left: str | None = None) -> Applied:
    """A row of the history, as how a revision came to be applied.

    Args:
        left: the generation that served before it.
    """
    swap = (row["report"] or {}).get("swap") or {}
    taken = {one["name"]: one["before"]["physical"] for one in row["changes"] if _was_taken(one)}
    return Applied(
        revision=row["revision"],
        checksum=row["checksum"],
        physical=row["physical"],
        strategy=row["strategy"],
        prior=schema_value(row["prior"]),
        changes=tuple(row["changes"]),
        run=row["run"],
        names=tuple(swap.get("names") or ()),
        earlier={**(swap.get("earlier") or {}), **taken},
        left=left,
    )


def _was_taken(change: JsonObject) -> bool:
    """Whether a change in place gave an alias to the collection and records where it led before."""
    return change["kind"] == "alias.add" and bool(change.get("before"))


def moments_of(rows: Sequence[RowMapping]) -> tuple[Moment, ...]:
    """Rows of one collection's history, oldest first, as what was applied after each."""
    applied: dict[str, RowMapping] = {}
    found = []
    for row in rows:
        if row["direction"] not in ASIDE:
            applied.pop(row["revision"], None)
        if row["direction"] in APPLYING:
            applied[row["revision"]] = row
        known = tuple((name, one["checksum"], schema_value(one["declared"])) for name, one in applied.items())
        declared = schema_value(row["declared"])
        found.append(Moment(row["created_at"], row["physical"], known, declared, row["direction"], row["strategy"]))
    return tuple(found)


def record_of(row: RowMapping) -> Record:
    """A row of the journal."""
    return Record(step=row["step"], phase=row["phase"], state=row["state"], facts=row["facts"], epoch=row["epoch"])


def open_run_of(row: RowMapping, records: tuple[Record, ...], *, leased: bool, is_dead: bool) -> OpenRun:
    """A row of the runs with its journal."""
    return OpenRun(
        id=row["id"],
        verb=row["verb"],
        state=row["state"],
        job=Job.from_json(row["job"]),
        checksums=row["checksums"],
        actor=row["actor"],
        host=row["host"],
        started_at=row["started_at"],
        error=row["error"],
        records=records,
        done_points=row["done_points"],
        total_points=row["total_points"],
        leased=leased,
        is_dead=is_dead,
    )


def history_of(row: RowMapping) -> HistoryRow:
    """A row of the history, for people."""
    names = (
        "id",
        "collection",
        "run",
        "revision",
        "direction",
        "checksum",
        "strategy",
        "physical",
        "report",
        "actor",
    )
    return HistoryRow(**{name: row[name] for name in names}, created_at=row["created_at"])


def run_of(row: RowMapping) -> RunRow:
    """A row of the runs, for people."""
    names = ("id", "verb", "collection", "state", "actor", "host", "started_at", "finished_at", "error")
    closes = (row["job"] or {}).get("closes") or ()
    revisions = tuple(dict.fromkeys(str(one["revision"]) for one in closes))
    return RunRow(**{name: row[name] for name in names}, revisions=revisions)


def range_of(row: RowMapping) -> Range:
    """A row of the ranges."""
    return Range(
        number=row["number"],
        start=id_value(row["start_id"]),
        stop=id_value(row["stop_id"]),
        cursor=id_value(row["cursor_id"]),
        points=row["points"],
        done=row["done"],
    )


def carry_of(row: RowMapping) -> Carry:
    """A row of the carries."""
    return Carry(
        point_id=known_id(row["point_id"]),
        before=bytes(row["before"]),
        after=bytes(row["after"]),
        state=row["state"],
        doubt=_doubt_of(row),
    )


def _doubt_of(row: RowMapping) -> Doubt | None:
    if row["reason"] is None and row["met"] is None:
        return None
    return Doubt(row["reason"], None if row["met"] is None else bytes(row["met"]))


def _facts_of(metadata: Any) -> dict[str, Any]:
    """What a row of the audit says; an application writes its own rows there, with any JSON, or with JSON in a text."""
    ours = isinstance(metadata, dict) and (
        "run" not in metadata or all(type(metadata.get(name)) is int for name in ("run", "step"))
    )
    return dict(metadata) if ours else {} if metadata is None else {"metadata": metadata}


def deletion_of(row: RowMapping) -> DeletionRow:
    """A row of the deletion audit."""
    return DeletionRow(
        id=row["id"],
        kind=row["deletion_type"],
        target=row["deletion_target"],
        count=row["vector_count"],
        reason=row["deletion_reason"],
        facts=_facts_of(row["metadata"]),
        created_at=row["created_at"],
        actor=row["actor"],
        collection=row["collection"],
    )
