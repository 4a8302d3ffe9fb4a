"""Conditions of a filter that say nothing, or that Qdrant reads in part: they select more than was meant. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

#: What a filter holds conditions under.
CONDITIONS = ("must", "should", "must_not", "min_should")
#: What a condition may say of a field; Qdrant reads one of them.
_SAID = ("match", "range", "geo_bounding_box", "geo_radius", "geo_polygon", "values_count", "is_empty", "is_null")
_BOUNDED = ("range", "values_count")
_TEXTS = ("text", "text_any", "phrase", "prefix")
_SHOWN = 60


def has_conditions(where: Mapping[str, Any]) -> bool:
    """Whether a filter holds any condition."""
    return any(True for _ in _conditions(where))


def problem(where: Mapping[str, Any]) -> str | None:
    """What in a filter selects less than it seems to, in words; None where every condition counts.

    Args:
        where: in REST shape; what is not valid for Qdrant is left to the request.
    """
    return next(_of_filter(where, turned=False), None)


def _of_filter(where: Mapping[str, Any], *, turned: bool) -> Iterator[str]:
    for group, condition in _conditions(where):
        if isinstance(condition, Mapping):
            yield from _of_condition(condition, turned=turned != (group == "must_not"))


def _conditions(where: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for group in CONDITIONS:
        held = where.get(group)
        if group == "min_should":
            held = held.get("conditions") if isinstance(held, Mapping) else None
        for condition in [held] if isinstance(held, Mapping) and held else held or ():
            yield group, condition


def _of_condition(condition: Mapping[str, Any], *, turned: bool) -> Iterator[str]:
    """The problems of one condition; `turned` where what it selects is left out."""
    nested = condition.get("nested")
    inner = nested.get("filter") if isinstance(nested, Mapping) else None
    if isinstance(inner, Mapping):
        yield from _of_inner(inner, condition, turned=turned)
    elif "key" in condition:
        yield from _of_field(condition, turned=turned)
    elif "has_id" in condition:
        yield from _of_list("has_id", condition["has_id"], condition, turned=turned)
    elif not condition or set(condition) <= set(CONDITIONS):
        yield from _of_inner(condition, condition, turned=turned)


def _of_inner(where: Mapping[str, Any], condition: Mapping[str, Any], *, turned: bool) -> Iterator[str]:
    if not has_conditions(where):
        yield f"the condition {_shown(condition)} is empty, so it has no effect"
    yield from _of_filter(where, turned=turned)


def _of_field(condition: Mapping[str, Any], *, turned: bool) -> Iterator[str]:
    said = [name for name in _SAID if condition.get(name) is not None]
    if not said and set(condition) <= {"key", *_SAID}:
        yield f"the condition {_shown(condition)} has no test for its field"
    elif len(said) > 1:
        yield f"the condition {_shown(condition)} has {' and '.join(said)}, and only one is read: write one for each"
    for name in _BOUNDED:
        bounds = condition.get(name)
        if isinstance(bounds, Mapping) and all(bound is None for bound in bounds.values()):
            yield f"the condition {_shown(condition)} has no bound, so it has no effect"
    match = condition.get("match")
    if not isinstance(match, Mapping):
        return
    if any(match.get(name) == "" for name in _TEXTS):
        yield f"the condition {_shown(condition)} searches for an empty text, which every text contains"
    if "any" in match:
        yield from _of_list("any", match["any"], condition, turned=turned)
    if "except" in match:
        yield from _of_list("except", match["except"], condition, turned=not turned)


def _of_list(name: str, values: Any, condition: Mapping[str, Any], *, turned: bool) -> Iterator[str]:
    """Nothing is among no values: left out on purpose, that means every point."""
    if turned and isinstance(values, list) and not values:
        yield f"the list of {name} in {_shown(condition)} is empty, so it excludes nothing"


def _shown(condition: Mapping[str, Any]) -> str:
    text = str(dict(condition))
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN - 1]}…"
