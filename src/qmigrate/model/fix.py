"""What a data fix finds and changes: plain values, and when two payload values are the same. It reads nothing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, NamedTuple

from qmigrate.model.schema import JsonObject
from qmigrate.model.transform import PointId, nearly

#: Entries of a sample that are shown to people.
SAMPLE = 10
#: Kinds of values that are the same only when they are equal.
_SCALARS = frozenset({int, float, bool, type(None)})


class PointEdit(NamedTuple):
    """What a fix does to one point: the keys that it changes, before and after; a key that is not there is absent."""

    id: PointId
    before: dict[str, Any]
    after: dict[str, Any]

    @property
    def digest(self) -> str | None:
        """Of the whole point as it was found, where a kind of fix keeps that; None where the point was not there."""
        found: str | None = self.before.get("digest")
        return found

    @property
    def space(self) -> int:
        """Of an erasure: the id space in which the id means the point."""
        return int(self.before["space"])

    @property
    def dropped(self) -> bool:
        """Of another try to embed: whether the point was left out of the generation."""
        return bool(self.before["dropped"])

    @property
    def source(self) -> PointId:
        """Of a point that is brought back: its id in the file."""
        found: PointId = self.after["from"]
        return found

    @property
    def lacks(self) -> list[str]:
        """Of a point that is brought back: vectors that could not be embedded."""
        return list(self.after.get("lacks", ()))

    @property
    def keys(self) -> list[str]:
        """Every key that changes."""
        return list(self.after if self.before.keys() <= self.after.keys() else self.before | self.after)


@dataclass(slots=True)
class Found:
    """What a fix has found, counted while it looks.

    Attributes:
        points: of the collection that were read, or that it has.
        changes: points that would change.
        counts: further figures by name, as the kind of fix has them.
        sample: the first of what would change, for people.
    """

    points: int = 0
    changes: int = 0
    counts: dict[str, int] = field(default_factory=dict)
    sample: list[JsonObject] = field(default_factory=list)

    def add(self, name: str, count: int = 1) -> None:
        """Count something."""
        self.counts[name] = self.counts.get(name, 0) + count

    @property
    def room(self) -> int:
        """How many more the sample takes."""
        return SAMPLE - len(self.sample)

    def show(self, entry: PointEdit) -> None:
        """Keep it for the sample, while there is room."""
        if self.room:
            self.sample.append({"id": entry.id, "before": dict(entry.before), "after": dict(entry.after)})

    def to_json(self) -> JsonObject:
        """Plain JSON."""
        return {
            "points": self.points,
            "changes": self.changes,
            "counts": dict(self.counts),
            "sample": list(self.sample),
        }


def same(one: Any, other: Any) -> bool:
    """Whether two payload values say the same: 1 and 1.0 do, and two texts of one moment; 1 and True don't.

    Nor do doubles differ whose last digits do: a server may change these at every reading.
    """
    kind = type(one)
    # Most values are of these kinds, and this is asked of every point.
    if kind is type(other) and kind in _SCALARS:
        return one is other or bool(one == other) or (kind is float and nearly(one, other))
    if isinstance(one, bool) or isinstance(other, bool):
        return one is other
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        return one.keys() == other.keys() and all(same(value, other[key]) for key, value in one.items())
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, str) and isinstance(other, str):
        return one == other or (_meaning(one) is not None and _meaning(one) == _meaning(other))
    if isinstance(one, int | float) and isinstance(other, int | float):
        return one == other
    return one is other


def same_keys(payload: Mapping[str, Any], wanted: Mapping[str, Any], keys: list[str]) -> bool:
    """Whether a payload has exactly these values under `keys`; null counts as an absent key."""
    for key in keys:  # noqa: SIM110  asked of every point several times, and a generator doubles its time
        if not same(payload.get(key), wanted.get(key)):
            return False
    return True


def _meaning(text: str) -> datetime | None:
    """The moment that a text stands for, or None. UUIDs have to be equal: a filter compares their texts."""
    if len(text) < 19 or text[4] != "-" or not text[:4].isdigit():
        return None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    return moment.replace(tzinfo=moment.tzinfo or UTC)
