"""Which points are older than an age: a filter on a field with times, of whatever form they are. It changes nothing."""

from __future__ import annotations

from datetime import timedelta

from qmigrate.model.schema import JsonObject
from qmigrate.steps.export import described
from qmigrate.steps.fixes.protocol import Place

#: A number below is no time in seconds since 1970 (this is 1973), but a year, a count, or nothing known.
_LEAST = 100_000_000


def older_than(place: Place, field: str, age: float) -> JsonObject:
    """Points whose time is known and lies more than `age` seconds before the moment of the fix.

    With a payload index its type says which form the times have; else texts and seconds since 1970 both count.
    """
    border = place.now - timedelta(seconds=age)
    texts = {"key": field, "range": {"lt": border.isoformat()}}
    numbers = {"key": field, "range": {"gte": _LEAST, "lt": border.timestamp()}}
    kind = described(place.store, place.address).schema.indexes.get(field, {}).get("type")
    if kind == "datetime":
        return {"must": [texts]}
    return {"must": [numbers]} if kind in ("integer", "float") else {"should": [texts, numbers]}
