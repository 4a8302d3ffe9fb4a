"""A collection whose vector is computed from the vector that it replaces: what is stale in it, nothing else shows."""

from __future__ import annotations

from qmigrate.model.transform import Point

CREATE = """
def upgrade():
    return [op.CreateCollection("{name}", {{"a": VectorParams(size=4, distance=Distance.DOT)}})]
"""
#: The computed vector is the old one backwards.
TURN = """
def turned(point):
    return point.vectors["a"][::-1]


def upgrade():
    return [op.Reembed("{name}", "a", values=Compute(turned), cutover="immediate")]
"""


def values(number: int, *, turned: bool = False) -> list[float]:
    """The vector of a point, as it was loaded or as it is written since: in the payload nothing changes."""
    made = [float(number), 1.0, 2.0, 3.0]
    return [9.0, *made[:3]] if turned else made


def point(number: int, *, turned: bool = False) -> Point:
    """A point with one of its two vectors."""
    return Point(number, {"n": number, "old_id": str(number)}, {"a": values(number, turned=turned)})
