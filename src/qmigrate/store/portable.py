"""A stored point as one JSON object and back, bit by bit: what an archive holds. It reads and writes no file.

::

    {"id": 7,                                   unsigned integer, or the UUID as a string
     "payload": {…},                            JSON; 1 and 1.0 stay apart, integers reach to 2^64
     "vector": V}                               of a collection with the unnamed vector
     "vectors": {"name": V, …}}                 of a collection with named ones; {} for a point without any

A vector `V` is a string for a dense one: base64 of its values as little-endian float32. A list of such strings is a
multivector, row by row. ``{"indices": […], "values": "…"}`` is a sparse one. ``{"data": "…"}`` is a dense one in the
form of old servers, and ``{"raw": "…"}`` the message itself where it is none of these. Whatever the datatype of a
vector is, a server hands its values out as float32, which holds every float16 and uint8 exactly.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Sequence
from typing import Any

from qdrant_client import grpc

from qmigrate.errors import StoreError
from qmigrate.model.schema import JsonObject
from qmigrate.model.transform import PointId, PointTransform
from qmigrate.ports import Ready, Stored
from qmigrate.store import records, wire
from qmigrate.store.exact import value_of

_CARRIES_ALL = PointTransform.identity(frozenset())


class NotPortableError(ValueError):
    """A JSON object is not a point as :func:`to_json` writes it; the message has the reason."""


def page_to_json(page: Sequence[Stored]) -> list[JsonObject]:
    """The points of a page.

    Raises:
        StoreError: a point has a shard key, which this form can't hold.
    """
    return [to_json(stored) for stored in page]


def to_json(stored: Stored) -> JsonObject:
    """One point as a JSON object: see the module's first lines.

    Raises:
        StoreError: it has a shard key.
    """
    if stored.HasField("shard_key"):
        raise StoreError(
            f"point {records.point_id(stored)} has a shard key, which an archive can't hold",
            hint="collections with custom sharding can't be archived",
        )
    point: JsonObject = {"id": records.point_id(stored), "payload": records.payload_of(stored)}
    if stored.HasField("vectors"):
        kind = stored.vectors.WhichOneof("vectors_options")
        if kind == "vector":
            point["vector"] = _vector(stored.vectors.vector)
        else:
            messages = records.vector_messages(stored)
            point["vectors"] = {vector: _vector(messages[vector]) for vector in sorted(messages)} if kind else None
    return point


def from_json(point: JsonObject) -> Stored:
    """The inverse of :func:`to_json`.

    Raises:
        NotPortableError: it is not such an object.
    """
    try:
        return _stored(point)
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError, binascii.Error) as error:
        raise NotPortableError(f"{type(error).__name__}: {error}") from error


def ready(stored: Stored) -> Ready:
    """The point as it is, ready to be written."""
    return records.make_ready(stored, _CARRIES_ALL, {})


def stored_of(point: Ready) -> Stored:
    """A point that is ready to be written, as it would be read back."""
    made = grpc.PointStruct.FromString(point)
    found = grpc.RetrievedPoint(id=made.id)
    for key in made.payload:
        found.payload[key].CopyFrom(made.payload[key])
    # The messages of vectors in and out have the same fields.
    found.vectors.MergeFromString(made.vectors.SerializeToString())
    return found


def _stored(point: JsonObject) -> Stored:
    identifier: PointId = point["id"]
    made = grpc.RetrievedPoint()
    if isinstance(identifier, bool) or not isinstance(identifier, int | str):
        raise NotPortableError(f"{identifier!r} is not a point id")
    if isinstance(identifier, int):
        made.id.num = identifier
    else:
        made.id.uuid = identifier
        # A name that is not a UUID would have no place in the order.
        records.order_key(identifier)
    for key, value in point["payload"].items():
        made.payload[key].CopyFrom(value_of(value))
    if "vector" in point:
        made.vectors.vector.MergeFromString(_message(point["vector"]))
    elif "vectors" in point:
        made.vectors.SetInParent()
        if point["vectors"] is not None:
            made.vectors.vectors.SetInParent()
            for name, vector in point["vectors"].items():
                made.vectors.vectors.vectors[name].MergeFromString(_message(vector))
    return made


def _vector(message: Any) -> Any:
    raw: bytes = message.SerializeToString()
    found = _known(message, raw)
    return {"raw": _text(raw)} if found is None else found


def _known(message: Any, raw: bytes) -> Any:
    """The form of a message that holds a vector of a known kind and nothing else, or None."""
    try:
        ((number, body),) = wire.fields(raw)
        inner = [] if number == 1 else list(wire.fields(body))
    except ValueError:
        return None
    if number == 1:
        return {"data": _text(body)}
    if number == 102:
        values = dict(inner).get(1, b"")
        return {"indices": list(message.sparse.indices), "values": _text(values)}
    if number == 103 and all(field == 1 for field, _ in inner):
        rows = [list(wire.fields(row)) for _, row in inner]
        return [_text(row[0][1] if row else b"") for row in rows]
    if number == 101:
        return _text(inner[0][1] if inner else b"")
    return None


def _message(vector: Any) -> bytes:
    """The bytes of the message that a form stands for."""
    if isinstance(vector, str):
        return wire.field(101, _floats(vector))
    if isinstance(vector, list):
        return wire.field(103, b"".join(wire.field(1, _floats(row)) for row in vector))
    if "raw" in vector:
        return _bytes(vector["raw"])
    if "data" in vector:
        return _floats(vector["data"])
    indices = bytes(grpc.SparseIndices(data=vector["indices"]).SerializeToString())
    packed = b"".join(wire.field(2, body) for _, body in wire.fields(indices))
    return wire.field(102, _floats(vector["values"]) + packed)


def _floats(text: str) -> bytes:
    """Packed float32 values as field 1; nothing for none, as protobuf writes it."""
    raw = _bytes(text)
    if len(raw) % 4:
        raise NotPortableError("a vector is not a whole number of float32 values")
    return wire.field(1, raw) if raw else b""


def _bytes(text: str) -> bytes:
    return base64.b64decode(text, validate=True)


def _text(raw: bytes) -> str:
    return base64.b64encode(raw).decode("ascii")
