"""Questions to compare two searches by: from a labelled file, from rows of a log, or made of points. It asks none."""

from __future__ import annotations

import csv
import json
import re
import uuid
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from qmigrate.errors import UsageError
from qmigrate.model.transform import Payload, PointId

#: Keys of a question in a file.
QUERY, IMAGE, RELEVANT = "query", "image", "relevant"
#: Words that a sentence must have to be asked for.
_WORDS = 5
_SENTENCE_END = re.compile(r"(?<=[.!?。！？])\s+|\n+")


@dataclass(frozen=True, slots=True)
class Question:
    """One question.

    Attributes:
        text: what both embedders get; None where an image or a vector is given.
        image: the same as the name of an image: a path, a URL or base64, as an embedder of images takes it.
        vector: what is searched by as it is, by both; None where a text or an image is.
        relevant: id -> grade of what should be found; empty where that is not known.
        segment: the value of the field that questions are grouped by; empty where they are not.
        own: the point that asks by its own vector of each side, and is left out of what is found.
    """

    text: str | None = None
    vector: Sequence[float] | None = None
    relevant: Mapping[PointId, float] = field(default_factory=dict)
    segment: str = ""
    own: PointId | None = None
    image: str | None = None

    def shown(self) -> str:
        """For people: its text, the name of its image, or which point asks."""
        if self.text is not None:
            return self.text
        if self.image is not None:
            return f"image {self.image}"
        return f"point {self.own}" if self.own is not None else "a vector"


def from_file(path: Path, by: str | None) -> list[Question]:
    """The questions of a file: JSON Lines, or CSV where its name ends so.

    ``{"query": "red shoes", "relevant": [7, 12], "language": "en"}``; instead of a list of ids an object of id and
    grade. A query may be a list of numbers; instead of it ``image`` may name an image. A CSV file has a row for each
    question, or one for each relevant point of it.

    Args:
        by: key of what they are grouped by, or None.

    Raises:
        UsageError: it can't be read; names the line.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            if path.suffix.lower() == ".csv":
                return from_rows(csv.DictReader(file), by, path.name)
            found = [(number, json.loads(line)) for number, line in enumerate(file, start=1) if line.strip()]
    except (OSError, UnicodeDecodeError, json.JSONDecodeError, csv.Error) as error:
        raise UsageError(f"the questions can't be read from {path}: {error}") from error
    return [_of_line(value, by, f"line {number:,} of {path.name}") for number, value in found]


def from_rows(rows: Iterable[Mapping[str, Any]], by: str | None, where: str) -> list[Question]:
    """The questions of a log: rows of the same query are one question, whose relevant points are those of all.

    Args:
        rows: with ``query`` (a text) or ``image`` (the name of one), and where it is known ``relevant``: an id, or
            several with blanks between them.
        by: column of what they are grouped by, or None.
        where: they come from, for messages.

    Raises:
        UsageError: a column lacks, or is not what it should be.
    """
    found: dict[tuple[str, str, str], dict[PointId, float]] = {}
    for number, row in enumerate(rows, start=1):
        at = f"row {number:,} of {where}"
        for name in (QUERY if IMAGE not in row else IMAGE, *([by] if by else [])):
            if name not in row:
                columns = ", ".join([QUERY, RELEVANT, *([by] if by else [])])
                raise UsageError(f"{at} has no column {name!r}", hint=f"name the columns: {columns}")
        text, image = (str(row.get(name) or "").strip() for name in (QUERY, IMAGE))
        if text and image:
            raise UsageError(f"{at} has both a {QUERY} and an {IMAGE}", hint="one question is one of them")
        if text or image:
            relevant = found.setdefault((text, image, _segment(row, by)), {})
            relevant.update(_relevant(row.get(RELEVANT), at))
    return [
        Question(text or None, relevant=relevant, segment=segment, image=image or None)
        for (text, image, segment), relevant in found.items()
    ]


def known_items(points: Iterable[tuple[PointId, Payload]], key: str, by: str | None) -> list[Question]:
    """A text of each point asks for its own point; a text that several of them have asks for none."""
    return _unmistakable((identifier, _text(payload, key), _segment(payload, by)) for identifier, payload in points)


def sentences(points: Iterable[tuple[PointId, Payload]], key: str, by: str | None) -> list[Question]:
    """One sentence of a text of each point asks for its own point: the longest, but not the first, which is a title."""

    def chosen(text: str) -> str:
        parts = [one.strip() for one in _SENTENCE_END.split(text)]
        long = [one for one in parts[1:] if len(one.split()) >= _WORDS]
        return max(long, key=len, default="")

    return _unmistakable(
        (identifier, chosen(_text(payload, key)), _segment(payload, by)) for identifier, payload in points
    )


def alike(groups: Iterable[Sequence[tuple[PointId, Payload]]], by: str | None) -> list[Question]:
    """A point asks, by its own vector, for the others of its group."""
    return [
        Question(
            relevant={other: 1.0 for other, _ in group[1:]}, segment=_segment(group[0][1], by), own=group[0][0]
        )
        for group in groups
        if len(group) > 1
    ]


def _unmistakable(found: Iterable[tuple[PointId, str, str]]) -> list[Question]:
    asked = [one for one in found if one[1]]
    often = Counter(text for _, text, _ in asked)
    return [Question(text, relevant={one: 1.0}, segment=segment) for one, text, segment in asked if often[text] == 1]


def _of_line(value: Any, by: str | None, at: str) -> Question:
    if isinstance(value, str):
        value = {QUERY: value}
    query, image = (value.get(QUERY), value.get(IMAGE)) if isinstance(value, Mapping) else (None, None)
    image = image.strip() if isinstance(image, str) and image.strip() else None
    text = query.strip() if isinstance(query, str) and query.strip() else None
    numbers = (
        [float(one) for one in query]
        if isinstance(query, list) and query and all(_is_number(one) for one in query)
        else None
    )
    if sum(one is not None for one in (text, numbers, image)) != 1:
        none = 'has no "query" that is a text or a list of numbers'
        what = none if image is None else "has both a query and an image"
        raise UsageError(
            f"{at} {what}", hint='{"query": "red shoes", "relevant": [7, 12]}, or instead of the query "image": "a.jpg"'
        )
    if by is not None and by not in value:
        raise UsageError(f"{at} has no {by!r}, by which the questions are grouped")
    return Question(text, numbers, _relevant(value.get(RELEVANT), at), _segment(value, by), image=image)


def _relevant(value: Any, at: str) -> dict[PointId, float]:
    if isinstance(value, str):
        value = value.replace(",", " ").replace(";", " ").split()
    elif value is None:
        value = []
    elif not isinstance(value, list | tuple | Mapping):
        value = [value]
    grades = value if isinstance(value, Mapping) else dict.fromkeys(map(_hashable, value), 1.0)
    found = {}
    for name, grade in grades.items():
        if not _is_number(grade):
            raise UsageError(f"{at}: the grade of {name!r} is not a number: {grade!r:.40}")
        found[_id(name, at)] = float(grade)
    return found


def _hashable(value: Any) -> Any:
    return value if isinstance(value, str | int | float | uuid.UUID) else repr(value)


def _id(value: Any, at: str) -> PointId:
    text = str(value).strip()
    if isinstance(value, float) and value.is_integer():
        text = str(int(value))
    if text.isascii() and text.isdigit() and not isinstance(value, bool):
        return int(text)
    try:
        return str(uuid.UUID(text))
    except ValueError:
        raise UsageError(f"{at}: {value!r:.80} is not a point id", hint="an unsigned integer, or a UUID") from None


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _segment(row: Mapping[str, Any], by: str | None) -> str:
    value = row.get(by) if by is not None else None
    return "" if by is None else "(none)" if value in (None, "") else str(value)


def _text(payload: Payload, key: str) -> str:
    here: Any = payload
    for part in [key] if key in payload else key.split("."):
        here = here.get(part) if isinstance(here, Mapping) else None
    return here.strip() if isinstance(here, str) else ""

