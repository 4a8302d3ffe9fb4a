"""Protobuf fields as bytes: a stored point turned into one to write without decoding it. Independent of servers.

``RetrievedPoint {1 id, 2 payload, 4 vectors, 5 shard_key, 6 order_value}`` and ``PointStruct {1 id, 3 payload,
4 vectors}`` differ in the number of one field only, and the vector messages of replies and requests are equal on the
wire. So a copy changes a tag per payload entry, and a new named vector is one more entry at the end.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress
from importlib import import_module

_PAYLOAD, _PAYLOAD_OUT = 0x12, 0x1A
_VECTORS = 0x22
_ID = 0x0A
#: ``vectors { vectors {} }``: without it a point that has no vector is refused.
_NO_VECTORS = b"\x22\x02\x12\x00"
_NAMED = 0x12


with suppress(ImportError, AttributeError):
    # The library reads messages of 100 levels, of which one of a payload takes three: a point of 33 and more, as a
    # collection may hold it, could be written but not be read. Its only switch for that is named after something else.
    import_module("google._upb._message").SetAllowOversizeProtos(True)


def varint(number: int) -> bytes:
    """An unsigned integer in protobuf's variable length."""
    if number < 128:
        return bytes((number,))
    out = bytearray()
    while number > 127:
        out.append(number & 127 | 128)
        number >>= 7
    out.append(number)
    return bytes(out)


def field(number: int, body: bytes) -> bytes:
    """A length-delimited field."""
    return varint(number << 3 | 2) + varint(len(body)) + body


def fields(message: bytes) -> Iterator[tuple[int, bytes]]:
    """Number and body of every field of a serialised message that holds nothing but length-delimited ones.

    Raises:
        ValueError: another kind of field is in it.
    """
    position, size = 0, len(message)
    while position < size:
        tag, position = read_varint(message, position)
        if tag & 7 != 2:
            raise ValueError(f"field {tag >> 3} is not length-delimited")
        length, position = read_varint(message, position)
        yield tag >> 3, message[position : position + length]
        position += length


def spliced(stored: bytes, added: Mapping[str, bytes]) -> bytes | None:
    """A ``PointStruct`` with everything of a ``RetrievedPoint``, and named vectors added.

    Args:
        stored: a serialised ``RetrievedPoint`` whose vectors are last, as the library writes it.
        added: name -> serialised ``Vector``; none of them may be in `stored`.

    Returns:
        The bytes, or None where this can't be done so: an unnamed vector next to added ones, or a field behind the
        vectors. The caller then builds the message.
    """
    out = bytearray(stored)
    position, size = 0, len(out)
    while position < size:
        tag = out[position]
        length, start = read_varint(out, position + 1)
        if tag == _PAYLOAD:
            out[position] = _PAYLOAD_OUT
        elif tag == _VECTORS:
            if start + length != size:
                return None
            return _with_vectors(out, position, start, added)
        elif tag != _ID:
            return None
        position = start + length
    return bytes(out) + (_NO_VECTORS if not added else _vectors(b"", added))


def _with_vectors(out: bytearray, position: int, start: int, added: Mapping[str, bytes]) -> bytes | None:
    if start == len(out):
        return bytes(out[:position]) + (_NO_VECTORS if not added else _vectors(b"", added))
    if not added:
        return bytes(out)
    if out[start] != _NAMED:
        return None
    length, inner = read_varint(out, start + 1)
    if inner + length != len(out):
        return None
    return bytes(out[:position]) + _vectors(bytes(out[inner:]), added)


def _vectors(entries: bytes, added: Mapping[str, bytes]) -> bytes:
    """The field ``vectors`` with named vectors: those that are there as bytes, and the added ones."""
    more = b"".join(field(1, field(1, name.encode()) + field(2, vector)) for name, vector in added.items())
    return field(4, field(2, entries + more))


def read_varint(buffer: bytes | bytearray, position: int) -> tuple[int, int]:
    """A length (or a tag) and where its content starts."""
    byte = buffer[position]
    if byte < 128:
        return byte, position + 1
    length, shift = byte & 127, 7
    while True:
        position += 1
        byte = buffer[position]
        length |= (byte & 127) << shift
        if byte < 128:
            return length, position + 1
        shift += 7
