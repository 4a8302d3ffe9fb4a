"""Points of every kind, functions of revisions, and what is expected of a point afterwards. It runs nothing."""

from __future__ import annotations

import math
import uuid
from collections.abc import Callable
from typing import Any

from qmigrate.embed import load
from qmigrate.model.transform import Payload, Point, PointId

Vectors = dict[str, Any]
After = Callable[[PointId, Payload, Vectors], tuple[Payload, Vectors]]

# --- points -----------------------------------------------------------------------------------------------------

IDS = (0, 1, 2, 3, 5, 8, 13, 21, 2**31, 2**53 + 1, 2**63 - 1, 2**63, 2**64 - 1)
ODD: tuple[Payload, ...] = (
    {"nested": {"none": None, "list": [1, [2.5, None, {"deep": [True, "ü"]}], "x"], "empty": {}}, "gone": None},
    {"largest": 2**63 - 1, "smallest": -(2**63), "odd": 2**53 + 1, "huge": 1e308, "tiny": 5e-324, "whole": 2.0},
    {"long": "kilobytes " * 3000},
    {"": "no name", "a.b": "a dot", "ключ": "Zürich 東京 🐢 \u0000 e\u0301", "list": [], "object": {}, "no": False},
)


def dense(number: int, size: int) -> list[float]:
    """A vector that is never zero."""
    return [float((number * 7 + place * 3) % 11 - 5) + 0.5 for place in range(size)]


def whole(number: int, size: int) -> list[float]:
    """Whole numbers from 0 to 255."""
    return [float((number * 31 + place * 17 + 1) % 256) for place in range(size)]


def payload_of(number: int) -> Payload:
    """Fields of every type, and for some points what is rarely seen."""
    fields = {
        "text": f"the text number {number}",
        "kind": "even" if number % 2 == 0 else "odd",
        "n": number,
        "x": number / 4,
        "place": {"lon": number / 2, "lat": -number / 4},
        "flag": number % 3 == 0,
        "when": f"2024-05-{number % 28 + 1:02d}T10:00:00Z",
        "key": str(uuid.uuid5(uuid.NAMESPACE_URL, str(number))),
    }
    return {**fields, **(ODD[number // 2 % 4] if number % 2 else {})}


def identifier(number: int) -> PointId:
    """Integers up to the largest, and UUIDs."""
    return IDS[number] if number < len(IDS) else str(uuid.uuid5(uuid.NAMESPACE_OID, str(number)))


Points = Callable[[], list[Point]]


def points(count: int = 22, bare: bool = True, **vectors: Callable[[int], Any]) -> Points:
    """Points with these vectors (by default ``a``), two of them without any."""
    made = vectors or {"a": lambda number: dense(number, 8)}

    def make() -> list[Point]:
        found = []
        for number in range(count):
            values = {} if bare and number in (3, 15) else {name: value(number) for name, value in made.items()}
            found.append(Point(identifier(number), payload_of(number), values))
        return found

    return make


def unnamed(count: int = 22) -> Points:
    """The same with the unnamed vector."""
    return points(count, **{"": lambda number: dense(number, 8)})


def bare() -> list[Point]:
    """Points without any vector."""
    return [Point(one.id, one.payload, {}) for one in points()()]


def three_vectors() -> list[Point]:
    """Points with a dense vector, a sparse one and a multivector; some lack one of them."""
    made = points(
        a=lambda number: dense(number, 8),
        s=lambda number: {"indices": [number, 500 + number], "values": [0.5, float(number + 1)]},
        m=lambda number: [dense(number + row, 4) for row in range(1 + number % 3)],
    )()
    for place, name in ((4, "a"), (6, "s"), (7, "m")):
        made[place] = Point(made[place].id, made[place].payload, {k: v for k, v in made[place].vectors.items() if k != name})
    return made


# --- what is expected of a point ----------------------------------------------------------------------------------


def same(_: PointId, payload: Payload, vectors: Vectors) -> tuple[Payload, Vectors]:
    """Nothing changes."""
    return payload, vectors


def unit(vector: list[float]) -> list[float]:
    """What a cosine vector keeps."""
    length = math.sqrt(sum(x * x for x in vector))
    return [x / length for x in vector]


def gets(name: str, value: Callable[[Payload], Any]) -> After:
    """A vector that is a function of the payload."""
    return lambda _, payload, vectors: (payload, {**vectors, name: value(payload)})


def words(payload: Payload, size: int = 16) -> list[float]:
    """What the embedder of the settings makes of the text."""
    return unit([float(x) for x in load("words", {"type": "hashing", "size": size}).embed([payload["text"]])[0]])


def takes(name: str, source: str, keep: bool = True) -> After:
    """A vector that comes from another one, where a point has that."""

    def after(_: PointId, payload: Payload, vectors: Vectors) -> tuple[Payload, Vectors]:
        rest = {key: value for key, value in vectors.items() if keep or key != source}
        return payload, {**rest, **({name: vectors[source]} if source in vectors else {})}

    return after


def loses(name: str) -> After:
    """A vector is gone."""
    return lambda _, payload, vectors: (payload, {key: value for key, value in vectors.items() if key != name})


FUNCTIONS = '''
def dense(point):
    n = point.payload["n"]
    return [n + 0.5, n * 2.0, 1.0]

def small(point):
    n = point.payload["n"]
    return [(n % 8) / 8, 0.25, -1.5]

def whole(point):
    n = point.payload["n"]
    return [n, 255 - n, 1]

def sparse(point):
    n = point.payload["n"]
    return {"indices": [n, 1000 + n], "values": [1.0, n + 0.5]}

def multi(point):
    n = point.payload["n"]
    return [[row + 1, n, 0.5, 1] for row in range(1 + n % 3)]

def from_vector(point):
    return [*point.vectors.get("a", [1.0] * 8)[:2], point.payload["n"]]

def renamed(point):
    return {("sort" if key == "kind" else key): value for key, value in point.payload.items()}

def back(point):
    return {("kind" if key == "sort" else key): value for key, value in point.payload.items()}

def nothing(point):
    return {}

def cut(point):
    return {"n": point.payload["n"], "id": str(point.id), "had": sorted(point.vectors), "none": None}
'''
SPACE: dict[str, Any] = {}
exec(FUNCTIONS, SPACE)  # noqa: S102  the source of a revision, so that a row can say what its functions return


def calls(name: str, function: str) -> After:
    """A vector that a function of the revision makes."""
    return lambda key, payload, vectors: (
        payload,
        {**vectors, name: SPACE[function](Point(key, payload, vectors))},
    )


def rewrites(function: str) -> After:
    """A payload that a function of the revision makes."""
    return lambda key, payload, vectors: (SPACE[function](Point(key, payload, vectors)), vectors)
