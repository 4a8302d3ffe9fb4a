"""The report of a fix that met nothing at all: what it read, as far as its figures show. It reads nothing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from qmigrate.model.schema import JsonObject
from qmigrate.model.words import counted


def unmet(name: str, edit: JsonObject, counts: Mapping[str, int]) -> tuple[str, ...]:
    """Lines about what was read and met no point; none where one was, or the figures don't show it.

    Args:
        name: of the collection.
        edit: of the fix.
        counts: what it found.
    """
    return tuple(f"{name}: {line}" for line in _lines(edit, counts))


def compares_nothing(edit: JsonObject, counts: Mapping[str, int]) -> bool:
    """Whether a sync has met no pair of a row and its point."""
    return edit.get("kind") == "sync" and "rows" in counts and counts["rows"] == counts.get("without_point", 0)


def _lines(edit: JsonObject, counts: Mapping[str, int]) -> Iterator[str]:
    sql = edit.get("sql")
    if compares_nothing(edit, counts):
        yield _of_rows(str(edit["database"]), counts["rows"])
    elif edit.get("kind") in ("delete", "soft") and isinstance(sql, Mapping) and _selects_nothing(counts):
        yield _of_rows(str(sql["database"]), counts["rows"])
    if edit.get("older_than") and counts.get("without_field") and not counts.get("with_field"):
        points = counted(counts["without_field"], "point")
        yield f"`{edit['older_than']['field']}` is in none of {points}, so none is old enough"


def _selects_nothing(counts: Mapping[str, int]) -> bool:
    """Whether no row that a deletion went by has a point."""
    return "rows" in counts and counts["rows"] == counts.get("not_there", 0)


def _of_rows(database: str, rows: int) -> str:
    if not rows:
        return f"the query on {database} returned no row"
    return f"the query on {database} returned {counted(rows, 'row')}, and none has a point"
