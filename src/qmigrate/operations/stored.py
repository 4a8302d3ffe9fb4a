"""Operations as JSON and back: for those that stand in no file. It takes data only, never code."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import MISSING, Field, fields, is_dataclass
from typing import Any

from qmigrate import operations
from qmigrate.errors import PlanError
from qmigrate.operations import values
from qmigrate.operations.base import Operation, assign
from qmigrate.operations.deletion import DeleteOrphans, DeletePoints
from qmigrate.operations.quality import Recall
from qmigrate.operations.rekey import Uuid5

#: Marks an object of ours among plain JSON, and one of the user's own that would look like it.
_KIND, _TUPLE, _OBJECT = "$is", "$tuple", "$object"
_MARKS = frozenset({_KIND, _TUPLE, _OBJECT})


def to_text(found: Iterable[Operation]) -> str:
    """The one text of some operations: equal operations have equal texts.

    Raises:
        PlanError: one of them holds code, such as a function.
    """
    return json.dumps([_out(one, one) for one in found], sort_keys=True, ensure_ascii=False, separators=(",", ":"))


def from_text(text: str) -> tuple[Operation, ...]:
    """The inverse of :func:`to_text`.

    Raises:
        PlanError: it names something that this version of qmigrate doesn't have.
    """
    return tuple(_in(one) for one in json.loads(text))


def checksum_of(text: str) -> str:
    """SHA-256, as revision files have one."""
    return hashlib.sha256(text.encode()).hexdigest()


def arguments_of(operation: Operation, code: Callable[[Any], Any]) -> dict[str, Any]:
    """The arguments of an operation as plain JSON; those that have their default are left out.

    Args:
        code: makes plain JSON of what can't be kept without a file.
    """
    said: dict[str, Any] = _out(operation, operation, code)
    return {name: value for name, value in said.items() if name != _KIND}


def _out(value: Any, within: Operation, code: Callable[[Any], Any] | None = None) -> Any:
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, Mapping) and all(isinstance(key, str) for key in value):
        said = {key: _out(item, within, code) for key, item in value.items()}
        return {_OBJECT: said} if _MARKS & said.keys() else said
    if isinstance(value, list):
        return [_out(item, within, code) for item in value]
    if isinstance(value, tuple):
        return {_TUPLE: [_out(item, within, code) for item in value]}
    known = code is not None or _class(type(value).__name__) is type(value)
    if known and is_dataclass(value) and not isinstance(value, type):
        # What is as it is anyway is left out: an argument that comes with a later version changes no recorded text.
        said = {one.name: getattr(value, one.name) for one in fields(value)}
        told = {one.name for one in fields(value) if not _equal(said[one.name], _default(one))}
        return {_KIND: type(value).__name__, **{name: _out(said[name], within, code) for name in sorted(told)}}
    if code is not None:
        return code(value)
    raise PlanError(
        f"{within.label()} contains {type(value).__name__} {getattr(value, '__name__', '')}".rstrip()
        + ", which can't be recorded without a file",
        hint="write it into a revision file (qmigrate revision) and name that one: qdrant.run(…)",
    )


def _in(value: Any) -> Any:
    if isinstance(value, list):
        return [_in(item) for item in value]
    if not isinstance(value, dict):
        return value
    if set(value) == {_OBJECT} and isinstance(value[_OBJECT], dict):
        return {key: _in(item) for key, item in value[_OBJECT].items()}
    if set(value) == {_TUPLE}:
        return tuple(_in(item) for item in value[_TUPLE])
    if _KIND not in value:
        return {key: _in(item) for key, item in value.items()}
    kind = _class(value[_KIND])
    if kind is None:
        raise PlanError(
            f"an operation {value[_KIND]} is recorded that this version of qmigrate doesn't have",
            hint="install the qmigrate that recorded it, or a newer one",
        )
    # Not by the constructor: what it makes of its arguments is what was recorded.
    made = object.__new__(kind)
    said = {key: _in(item) for key, item in value.items() if key != _KIND}
    usual = {one.name: _default(one) for one in fields(kind) if one.name not in said}
    assign(made, **usual, **said)
    if isinstance(made, DeletePoints | DeleteOrphans):
        made.as_recorded()
    return made


def _default(argument: Field[Any]) -> Any:
    """The default of an argument; ``MISSING`` where it must be given."""
    return argument.default if argument.default_factory is MISSING else argument.default_factory()


def _equal(one: Any, other: Any) -> bool:
    """1 and True are not the same here."""
    return type(one) is type(other) and bool(one == other)


def _class(name: str) -> Any:
    """An operation of ``qmigrate.op``, what fills a vector, or what makes ids; nothing else is ever made."""
    if name == "Uuid5":
        return Uuid5
    if name in operations.__all__:
        return getattr(operations, name)
    if name == "Recall":
        return Recall
    return getattr(values, name) if name in ("Checksum", "CopyOf", "Embed", "Empty", "WriteBack") else None
