"""Which points are older than an age: a filter on a field with times, of whatever form they are. It changes nothing."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from qmigrate.errors import RefusedError
from qmigrate.model.fix import Found
from qmigrate.model.payload_path import values_at
from qmigrate.model.schema import JsonObject
from qmigrate.steps.export import described
from qmigrate.steps.fixes.protocol import Place
from qmigrate.store import records
from qmigrate.store.faults import RefusedRequestError

#: A number below is not a time in seconds since 1970 (this is 1973), but a year, a count, or something unknown.
_LEAST = 100_000_000
#: Nor is one from here on (the year 5138): it counts milliseconds, or something still smaller.
_MOST = 100_000_000_000
_EVER = "0001-01-01T00:00:00+00:00"


def older_than(place: Place, field: str, age: float) -> JsonObject:
    """Points whose time is known and lies more than `age` seconds before the moment of the fix.

    With a payload index its type tells which form the times have; else texts and seconds since 1970 both count.
    """
    border = place.now - timedelta(seconds=age)
    return _times(place, field, {"lt": border.isoformat()}, {"gte": _LEAST, "lt": border.timestamp()})


def check_times(place: Place, field: str, found: Found) -> None:
    """Where no point is old enough: count how many have the field at all, and see that one of them has a time there.

    Counts points ``with_field`` and ``without_field``; of no field a collection need have any yet.

    Raises:
        RefusedError: what they have there is never a time, so that none will ever be old enough.
    """
    store, address = place.store, place.address
    times = _times(place, field, {"gte": _EVER}, {"gte": _LEAST, "lt": _MOST})
    try:
        lacking = min(store.count(address, missing_field=field), found.points)
        held = found.points - lacking
        there = not held or any(store.scan(address, page=1, payload=False, vectors=False, where=times))
    except RefusedRequestError:
        # Strict mode counts less than it lets a deletion select.
        return
    found.counts.update(with_field=held, without_field=lacking)
    if there:
        return
    kind = _index(place, field)
    said = f", and its payload index is of the type {kind}" if kind is not None else ""
    raise RefusedError(
        f"{field} is never a time in {place.collection}: {held:,} of {found.points:,} points have something else "
        f"there, for example {_example(place, field)!r:.40}{said}; nothing was changed",
        hint="a time is a text such as 2026-03-01T12:00:00Z, or a number of seconds since 1970, not of milliseconds; "
        "--age-field names another field",
    )


def _times(place: Place, field: str, texts: JsonObject, numbers: JsonObject) -> JsonObject:
    """A filter for points whose time, of the form that counts, is in a range."""
    as_text, as_number = {"key": field, "range": texts}, {"key": field, "range": numbers}
    kind = _index(place, field)
    if kind == "datetime":
        return {"must": [as_text]}
    return {"must": [as_number]} if kind in ("integer", "float") else {"should": [as_text, as_number]}


def _index(place: Place, field: str) -> str | None:
    kind = described(place.store, place.address).schema.indexes.get(field, {}).get("type")
    return None if kind is None else str(kind)


def _example(place: Place, field: str) -> Any:
    where = {"must_not": [{"is_empty": {"key": field}}]}
    for page in place.store.scan(place.address, page=1, payload=[field], vectors=False, where=where):
        for stored in page:
            return next(iter(values_at(records.payload_of(stored), field)), None)
    return None
