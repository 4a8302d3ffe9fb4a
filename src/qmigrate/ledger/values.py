"""What the ledger returns besides the model's own values: rows as frozen values. No SQL, no I/O."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, NamedTuple

from qmigrate.model.schema import CollectionSchema, JsonObject
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


@dataclass(frozen=True, slots=True)
class RunRow:
    """One attempt, whatever came of it. `state`: ``running | held | done | refused | unchanged | aborted | failed``."""

    id: int
    verb: str
    collection: str
    state: str
    actor: str
    host: str
    started_at: datetime
    finished_at: datetime | None
    error: str | None


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
        facts: what its sweep has learned.
        apart: the two held points of different times, so that no base distinguishes them.
    """

    run: int
    step: int
    source: str
    target: str | None
    back: bool
    writes: str
    facts: JsonObject
    apart: bool = False

    @property
    def given_up(self) -> bool:
        """Whether the points of the generation were left behind on purpose, so that what they were was not kept."""
        return self.target is None or self.apart or (self.back and self.writes == "discard")


@dataclass(frozen=True, slots=True)
class Fixed:
    """What a data fix has done, for the audit: see :class:`DeletionRow` for the fields."""

    kind: str
    target: str
    count: int
    reason: str | None
    facts: JsonObject


@dataclass(frozen=True, slots=True)
class DeletionRow:
    """One row of the deletion audit.

    Attributes:
        kind: ``DIRECTORY | ASSET | SESSION | CATEGORY | ORPHAN | FULL_RESET | FILTER``, or the application's;
            ``PAYLOAD_SYNC`` and ``UNDO`` with a count of 0, since they delete nothing.
        target: path prefix, id, filter, … as text.
        count: vectors deleted.
        facts: further context.
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
