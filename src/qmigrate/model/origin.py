"""Where the points of a restore come from, and at which revisions they were. A value; it reads nothing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from qmigrate.model.facts.stored import loaded
from qmigrate.model.schema import CollectionSchema, JsonObject

#: Kinds: a file of our own, and what a server keeps.
ARCHIVE = "archive"
SNAPSHOT = "snapshot"
#: A reset: there are no points to come from anywhere.
NOTHING = "nothing"


@dataclass(frozen=True, slots=True)
class Known:
    """A revision that was applied to the points.

    Attributes:
        declared: the recorded schema right after it, where that is known.
    """

    revision: str
    checksum: str
    declared: CollectionSchema | None = None


@dataclass(frozen=True, slots=True)
class Origin:
    """One archive or one server-side snapshot.

    Attributes:
        kind: ``archive`` or ``snapshot``.
        name: of the snapshot, or of the file.
        place: path of the file, or the name by which the server reaches the collection of the snapshot.
        logical: the name that the collection had.
        physical: the collection that it was made of.
        digest: of the archive, or the server's checksum; None where the server has none.
        size: in bytes.
        created_at: when it was made, where that is known.
        points: how many it holds, where that is known.
        schema: what the restored generation gets; of a snapshot only what was recorded.
        declared: the recorded schema of that time.
        revisions: applied at that time, oldest first.
        embedders: vector -> model fingerprint of that time; None where only the seal inside has it.
        custom_sharding: whether that collection has shard keys.
        exact: whether every vector comes back bit by bit; another kind of store may store it in another form.
    """

    kind: str
    name: str
    place: str
    logical: str
    physical: str
    digest: str | None
    size: int
    created_at: datetime | None
    points: int | None
    schema: CollectionSchema
    declared: CollectionSchema
    revisions: tuple[Known, ...] = ()
    embedders: Mapping[str, Any] | None = field(default_factory=dict)
    custom_sharding: bool = False
    exact: bool = True

    def to_json(self) -> JsonObject:
        """What the steps need of it, as a stored job keeps it."""
        return {
            "kind": self.kind,
            "name": self.name,
            "place": self.place,
            "logical": self.logical,
            "physical": self.physical,
            "created_at": self.created_at.isoformat() if self.created_at else None,
            "digest": self.digest,
            "points": self.points,
            "revision": self.revisions[-1].revision if self.revisions else None,
            "embedders": dict(self.embedders) if self.embedders is not None else None,
            "exact": self.exact,
        }


@dataclass(frozen=True, slots=True)
class StoredOrigin:
    """What a stored job keeps of an origin; of a reset also why, and how many points were expected.

    Attributes:
        revision: the last one that was applied to the points.
        reason: of a reset.
        expect: points that were agreed to be left behind; None where nothing was counted.
    """

    kind: str = ""
    name: str = ""
    place: str = ""
    logical: str | None = None
    physical: str | None = None
    created_at: datetime | None = None
    digest: str | None = None
    points: int | None = None
    revision: str | None = None
    embedders: Mapping[str, Any] | None = None
    exact: bool = True
    reason: str | None = None
    expect: int | None = None

    @classmethod
    def of(cls, origin: JsonObject | None) -> StoredOrigin:
        """Of the origin of a build; one that has none comes from nowhere."""
        return loaded(StoredOrigin, origin or {})
