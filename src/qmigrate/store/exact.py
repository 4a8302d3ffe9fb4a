"""Payload integers that gRPC has no place for, carried with the double that they arrive as. It sends nothing.

A payload integer over gRPC is signed and has 64 bits. One of 2^63 and more is handed out as a double, and would be
written back as one, silently. A store reads points that may hold such a double once more, exactly, and the integer is
added to its message as a field that Qdrant doesn't know: so it is in digests, in comparisons, in what user code gets,
and in the bytes of a point that is ready to be written, by which a store sees that this point can't go over gRPC.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any

import numpy as np
from numpy.typing import NDArray
from qdrant_client.conversions.conversion import json_to_value

from qmigrate.model.transform import Payload, PointId, nearly
from qmigrate.ports import Ready, Stored
from qmigrate.store import wire

#: Payload integers from here on have no place in gRPC.
BEYOND_INT64 = 2**63
#: Number of the added field; and how its body begins, which also is how a point that has one is found.
_FIELD = 1000
_MARK = b"qmigrate-integer:"
#: A double from 2^63 to 2^64 in a server's answer: the length of its message, its tag, eight bytes with the exponent.
_LARGE_DOUBLE = re.compile(rb"\x09\x11.{6}[\xe0-\xf0]\x43", re.DOTALL)
#: The same for arrays: how it begins, as a number of two octets, where its exponent ends, and what that is.
_DOUBLE, _EXPONENT_AT, _EXPONENT, _LOWEST, _HIGHEST = 0x1109, 9, 0x43, 0xE0, 0xF0
#: Answers of at least this many bytes are searched as an array.
_LONG = 2**16
_Value: Any = type(json_to_value(None))


def new_value(plain: Any) -> Any:
    """What user code has made, as a message.

    Raises:
        TypeError, ValueError: it is not JSON, two keys are one as JSON has them, or an integer is beyond 64 bits,
            which a server would keep as a double.
    """
    made = value_of(plain)
    text = _same_text(plain)
    if text is not None:
        raise ValueError(f"two keys of an object would be {text!r:.40}")
    if made.WhichOneof("kind") != "string_value" and holds_beyond(plain, -BEYOND_INT64, 2 * BEYOND_INT64):
        raise ValueError("an integer is beyond 64 bits")
    return made


def _same_text(plain: Any) -> str | None:
    """A text that two keys of an object in it become, such as 1 and "1", or None."""
    if isinstance(plain, Mapping):
        texts = list(map(str, plain))
        if len(set(texts)) < len(texts):
            return next(text for text in texts if texts.count(text) > 1)
        plain = plain.values()
    elif not isinstance(plain, list | tuple):
        return None
    return next((found for found in map(_same_text, plain) if found is not None), None)


def value_of(plain: Any) -> Any:
    """A payload value as a message, whatever the size of its integers.

    Raises:
        TypeError, ValueError: it is not JSON.
    """
    with suppress(ValueError):
        return json_to_value(plain)
    # An integer somewhere in it, or what is not JSON, which fails again below.
    if isinstance(plain, Mapping):
        made = _Value()
        made.struct_value.SetInParent()
        for key, item in plain.items():
            made.struct_value.fields[key].CopyFrom(value_of(item))
        return made
    if isinstance(plain, list | tuple):
        made = _Value()
        made.list_value.SetInParent()
        made.list_value.values.extend(value_of(item) for item in plain)
        return made
    if type(plain) is int:
        return _marked(plain)
    return json_to_value(plain)


def _marked(number: int) -> Any:
    try:
        double = float(number)
    except OverflowError:
        double = math.inf if number > 0 else -math.inf
    body: bytes = json_to_value(double).SerializeToString() + wire.field(_FIELD, _MARK + str(number).encode())
    return _Value.FromString(body)


def number_of(value: Any) -> int | float:
    """A double as what it is: the integer that was added to it, or itself."""
    double: float = value.double_value
    if -BEYOND_INT64 < double < BEYOND_INT64 or math.isnan(double):
        return double
    raw: bytes = value.SerializeToString()
    _, found, digits = raw.partition(_MARK)
    return int(digits) if found else double


def nearly_equal(one: Any, other: Any) -> bool:
    """Whether two values differ in nothing but the last digits of doubles; integers and texts are equal or not."""
    kind = one.WhichOneof("kind")
    if kind != other.WhichOneof("kind"):
        return False
    if kind == "double_value":
        first, second = number_of(one), number_of(other)
        if type(first) is type(second) is float:
            return nearly(first, second) or (math.isnan(first) and math.isnan(second))
        return type(first) is type(second) and first == second
    if kind == "struct_value":
        fields, others = one.struct_value.fields, other.struct_value.fields
        return fields.keys() == others.keys() and all(nearly_equal(fields[key], others[key]) for key in fields)
    if kind == "list_value":
        items, others = one.list_value.values, other.list_value.values
        return len(items) == len(others) and all(map(nearly_equal, items, others))
    return bool(one == other)


def may_hold_large(answer: bytes) -> bool:
    """Whether an answer of a server may hold a payload double from 2^63 to 2^64; it nearly never errs."""
    if len(answer) > _LONG:
        return _may_hold_large(np.frombuffer(answer, np.uint8))
    return _LARGE_DOUBLE.search(answer) is not None


def _may_hold_large(octets: NDArray[np.uint8]) -> bool:
    """The same of a page, in half the time: two octets at a time, from the even ones on and from the odd ones."""
    for first in (0, 1):
        pairs = octets[first : len(octets) - (len(octets) - first) % 2].view("<u2")
        places = np.flatnonzero(pairs == _DOUBLE) * 2 + first
        places = places[places < len(octets) - _EXPONENT_AT]
        high = octets[places + _EXPONENT_AT - 1]
        if ((octets[places + _EXPONENT_AT] == _EXPONENT) & (high >= _LOWEST) & (high <= _HIGHEST)).any():
            return True
    return False


def is_marked(point: Ready) -> bool:
    """Whether a point that is ready to be written may hold an added integer; a text may look like one."""
    return _MARK in point


def settled(
    page: Sequence[Stored],
    identifier: Callable[[Stored], PointId],
    read: Callable[[Sequence[PointId]], Mapping[PointId, Payload]],
) -> Sequence[Stored]:
    """The same points, with the integers of those that may hold some: they are read once more, exactly.

    A value that isn't what it was in between is left as it came: its point was written to, and any later reading of
    it differs.

    Args:
        page: as they came over gRPC; changed in place.
        identifier: of a point.
        read: gives payloads of points that exist, with every integer as it is.
    """
    doubtful = {identifier(stored): stored for stored in page if may_hold_large(stored.SerializeToString())}
    if doubtful:
        exact = read(list(doubtful))
        for one, stored in doubtful.items():
            for key, plain in exact.get(one, {}).items():
                if key in stored.payload:
                    _settle(stored.payload[key], plain)
    return page


def _settle(value: Any, plain: Any) -> None:
    kind = value.WhichOneof("kind")
    if kind == "double_value":
        if type(plain) is int and plain >= BEYOND_INT64 and value.double_value == float(plain):
            value.CopyFrom(_marked(plain))
    elif kind == "struct_value" and isinstance(plain, dict):
        fields = value.struct_value.fields
        for key, item in plain.items():
            if key in fields:
                _settle(fields[key], item)
    elif kind == "list_value" and isinstance(plain, list) and len(plain) == len(value.list_value.values):
        for one, item in zip(value.list_value.values, plain, strict=True):
            _settle(one, item)


def holds_beyond(plain: Any, least: int = -BEYOND_INT64, below: int = BEYOND_INT64) -> bool:
    """Whether an integer of a plain payload value is outside of a range; by default of what gRPC can carry."""
    if isinstance(plain, dict):
        return any(holds_beyond(item, least, below) for item in plain.values())
    if isinstance(plain, list | tuple):
        return any(holds_beyond(item, least, below) for item in plain)
    return type(plain) is int and not least <= plain < below
