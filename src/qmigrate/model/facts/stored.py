"""Dataclasses as the plain JSON that the journal keeps of them, by their fields. It knows none of them."""

from __future__ import annotations

import types
import typing
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import MISSING, Field, fields, is_dataclass
from datetime import datetime
from enum import Enum
from functools import cache
from typing import Any, Final, TypeVar

from qmigrate.model.schema import JsonObject

T = TypeVar("T")


class Unlearned(Enum):
    """The type of :data:`UNLEARNED`."""

    UNLEARNED = "unlearned"


#: Default of a field whose None means something itself: nothing is known of it yet.
UNLEARNED: Final = Unlearned.UNLEARNED
#: Metadata of a field that is kept also when it is the default: with whatever a phase notes, or once it is done. The
#: ``key`` of one is what it is called in the journal, where that isn't its name.
ALWAYS: Final[Mapping[str, bool]] = {"always": True, "done": True}
WHEN_DONE: Final[Mapping[str, bool]] = {"done": True}
#: Of a field that has every key that no other one has.
FLAT: Final[Mapping[str, bool]] = {"flat": True}


def known(value: T | Unlearned) -> T | None:
    """The value; None where it was not learned, too."""
    return None if isinstance(value, Unlearned) else value


def learned(facts: Any) -> JsonObject:
    """What a phase that is done has learned: everything that is not a default, and what is always kept."""
    found: JsonObject = {}
    for one, value in _values(facts):
        if one.metadata.get("flat"):
            found.update(plain(value))
        elif one.metadata.get("done") or value != _default(one):
            found[_key(one)] = plain(value)
    return found


def changed(facts: Any, row: Mapping[str, Any]) -> JsonObject:
    """What of it differs from a row of the journal; what is back at its default is kept as that."""
    before = loaded(type(facts), row)
    return {
        _key(one): plain(value)
        for one, value in _values(facts)
        if value != getattr(before, one.name) or (one.metadata.get("always") and _key(one) not in row)
    }


def plain(value: Any) -> Any:
    """Plain JSON of a value; of a dataclass all fields that are known."""
    if hasattr(value, "to_json"):
        return value.to_json()
    if is_dataclass(value):
        return {_key(one): plain(item) for one, item in _values(value) if item is not UNLEARNED}
    if isinstance(value, Mapping):
        return {name: plain(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return value.isoformat() if isinstance(value, datetime) else value


def loaded(kind: type[T], row: Mapping[str, Any]) -> T:
    """The dataclass of a row; a key that it doesn't know says nothing, and one that lacks gives the default."""
    hints, made = _hints(typing.cast("Any", kind)), {}
    named = {_key(one) for one in _fields(kind)}
    for one in _fields(kind):
        if one.metadata.get("flat"):
            made[one.name] = {name: value for name, value in row.items() if name not in named}
        elif _key(one) in row:
            made[one.name] = _typed(hints[one.name], row[_key(one)])
    return kind(**made)


def lenient(kind: type[T], row: Mapping[str, Any]) -> T:
    """The dataclass of a row that another client may have written: a value not of its field's kind says nothing."""
    hints = _hints(typing.cast("Any", kind))
    wrong = {
        _key(one)
        for one in _fields(kind)
        if not one.metadata.get("flat") and _key(one) in row and not _fits(hints[one.name], row[_key(one)])
    }
    return loaded(kind, {name: value for name, value in row.items() if name not in wrong})


def _fits(hint: Any, value: Any) -> bool:
    """Whether plain JSON is what a field of that kind is kept as."""
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        return any(_fits(one, value) for one in args if one is not Unlearned)
    if is_dataclass(hint):
        found = _hints(typing.cast("Any", hint))
        named = [(found[one.name], _key(one)) for one in _fields(hint)]
        return isinstance(value, Mapping) and all(_fits(of, value[key]) for of, key in named if key in value)
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return isinstance(value, Mapping) and all(_fits(args[1], item) for item in value.values())
    if isinstance(origin, type) and issubclass(origin, Sequence):
        return isinstance(value, list) and all(_fits(args[0], item) for item in value)
    if hint is datetime:
        return isinstance(value, str) and _is_moment(value)
    if hint is int:
        return type(value) is int
    return hint in (Any, object) or isinstance(value, hint)


def _is_moment(value: str) -> bool:
    try:
        return datetime.fromisoformat(value).tzinfo is not None
    except ValueError:
        return False


def _typed(hint: Any, value: Any) -> Any:
    if value is None:
        return None
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        kinds = [one for one in args if one not in (type(None), Unlearned)]
        return _typed(kinds[0], value) if len(kinds) == 1 else value
    if hasattr(hint, "from_json"):
        return hint.from_json(value)
    if is_dataclass(hint):
        return loaded(typing.cast("type[Any]", hint), value)
    if hint is datetime:
        return datetime.fromisoformat(value)
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return {name: _typed(args[1], item) for name, item in value.items()}
    if origin is tuple:
        each = [args[0]] * len(value) if args[-1] is Ellipsis else args
        return tuple(map(_typed, each, value))
    if isinstance(origin, type) and issubclass(origin, Sequence):
        return [_typed(args[0], item) for item in value]
    return value


@cache
def _hints(kind: type[Any]) -> dict[str, Any]:
    return typing.get_type_hints(kind)


def _fields(kind: Any) -> tuple[Field[Any], ...]:
    return fields(kind)


def _values(facts: Any) -> Iterator[tuple[Field[Any], Any]]:
    for one in _fields(facts):
        yield one, getattr(facts, one.name)


def _key(one: Field[Any]) -> str:
    return str(one.metadata.get("key") or one.name)


def _default(one: Field[Any]) -> Any:
    made: Callable[[], Any] | Any = one.default_factory
    return made() if made is not MISSING else one.default
