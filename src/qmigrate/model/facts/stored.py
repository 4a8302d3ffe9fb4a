"""Dataclasses as the plain JSON that is kept of them, by their fields, and back. It knows none of them.

msgspec reads: it knows the types of the fields, ignores keys that no field has, and says where a value doesn't fit. It
writes none of it: of a time in UTC it makes ``…Z`` where ``…+00:00`` is stored, of a tuple a tuple, and of a dataclass
every field, also those that still have their default. See docs/adr/0010.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import MISSING, Field, fields, is_dataclass
from datetime import datetime
from functools import cache
from typing import Any, Final, TypeVar, cast, get_type_hints

import msgspec

T = TypeVar("T")

#: The type of :data:`UNLEARNED`.
Unlearned = msgspec.UnsetType
#: Default of a field whose None means something itself: nothing is known of it yet.
UNLEARNED: Final = msgspec.UNSET
#: Metadata of a field that is kept also when it is the default: with whatever a phase notes, or once it is done.
ALWAYS: Final[Mapping[str, bool]] = {"always": True, "done": True}
WHEN_DONE: Final[Mapping[str, bool]] = {"done": True}
#: Of a field that has every key that no other one has.
FLAT: Final[Mapping[str, bool]] = {"flat": True}


def known(value: T | Unlearned) -> T | None:
    """The value; None where it was not learned, too."""
    return None if isinstance(value, Unlearned) else value


def learned(facts: Any) -> dict[str, Any]:
    """What a phase that is done has learned: everything that is not a default, and what is always kept."""
    found: dict[str, Any] = {}
    for one, value in _values(facts):
        if one.metadata.get("flat"):
            found.update(plain(value))
        elif one.metadata.get("done") or value != _default(one):
            found[one.name] = plain(value)
    return found


def changed(facts: Any, row: Mapping[str, Any]) -> dict[str, Any]:
    """What of it differs from a row of the journal; what is back at its default is kept as that."""
    before = loaded(type(facts), row)
    return {
        one.name: plain(value)
        for one, value in _values(facts)
        if value != getattr(before, one.name) or (one.metadata.get("always") and one.name not in row)
    }


def plain(value: Any) -> Any:
    """Plain JSON of a value; of a dataclass as its ``to_json()`` says, else all fields that are known."""
    if hasattr(value, "to_json"):
        return value.to_json()
    if is_dataclass(value):
        return by_field(value)
    if isinstance(value, Mapping):
        return {name: plain(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return value.isoformat() if isinstance(value, datetime) else value


def by_field(value: Any) -> dict[str, Any]:
    """All fields of a dataclass that are known, as plain JSON."""
    return {one.name: plain(item) for one, item in _values(value) if item is not UNLEARNED}


def loaded(kind: type[T], row: Any) -> T:
    """The dataclass of a row; a key that it doesn't know says nothing, and one that lacks gives the default.

    A class that is not one reads itself by its ``from_json()``.

    Raises:
        ValueError: a value is not of its field's kind, or a field without a default lacks; the text says where and,
            of no value, what it is.
    """
    hints, flat = _shape(cast("Any", kind))
    if flat is not None:
        own = {name: value for name, value in row.items() if name in hints and name != flat}
        row = {**own, flat: {name: value for name, value in row.items() if name not in hints}}
    try:
        return msgspec.convert(row, kind, dec_hook=_by_itself)
    except msgspec.ValidationError as error:
        try:
            # Python's own values may be of a subclass, such as a float of numpy; what is stored of them never is.
            return msgspec.convert(json.loads(json.dumps(row)), kind, dec_hook=_by_itself)
        except (TypeError, ValueError):
            raise ValueError(f"{getattr(kind, '__name__', kind)}: {error}") from error


def lenient(kind: type[T], row: Mapping[str, Any]) -> T:
    """The dataclass of a row that another client may have written: a value not of its field's kind says nothing."""
    return loaded(kind, {name: value for name, value in row.items() if _fits(kind, name, value)})


def refuse_unknown(kind: Any, row: Mapping[str, Any]) -> None:
    """Where a key that says nothing would be work left out: msgspec refuses one of its own classes only.

    Raises:
        ValueError: naming the first one.
    """
    unknown = next((name for name in row if name not in _shape(kind)[0]), None)
    if unknown is not None:
        raise ValueError(f"{kind.__name__} has no {unknown!r}")


def _by_itself(kind: Any, value: Any) -> Any:
    return kind.from_json(value)


def _fits(kind: Any, name: str, value: Any) -> bool:
    hints, flat = _shape(kind)
    if name not in hints or name == flat:
        return True
    try:
        msgspec.convert(value, hints[name])
    except msgspec.ValidationError:
        return False
    return True


@cache
def _shape(kind: Any) -> tuple[dict[str, Any], str | None]:
    """Field -> type of a dataclass, and the one that has every other key; nothing of another class."""
    found = fields(kind) if is_dataclass(kind) else ()
    hints = get_type_hints(kind, include_extras=True) if found else {}
    flat = next((one.name for one in found if one.metadata.get("flat")), None)
    return {one.name: hints[one.name] for one in found}, flat


def _values(facts: Any) -> Iterator[tuple[Field[Any], Any]]:
    for one in fields(facts):
        yield one, getattr(facts, one.name)


def _default(one: Field[Any]) -> Any:
    made: Callable[[], Any] | Any = one.default_factory
    return made() if made is not MISSING else one.default
