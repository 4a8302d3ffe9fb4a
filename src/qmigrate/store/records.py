"""Points as protobuf messages: ids, digests, parts, and how a stored point becomes one to write. It sends nothing.

This is the seam of the copy: everything that touches the inside of a point is here, so that a path that moves
bytes without decoding them can take the place of these functions.
"""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any, NamedTuple, TypeVar

import numpy as np
import xxhash
from numpy.typing import NDArray
from qdrant_client import grpc

from qmigrate.model.inference import ServerText
from qmigrate.model.payload_path import selected
from qmigrate.model.transform import Payload, Point, PointId, PointTransform, Scale, VectorValue
from qmigrate.ports import Ready, Stored
from qmigrate.store import exact, wire

#: Bytes of one upsert request; the server takes more, but memory and latency grow with it.
BATCH_BYTES = 6 * 2**20
#: Bytes of an order key: a kind byte and sixteen of the id.
KEY_SIZE = 17
#: Bytes of a digest.
DIGEST_SIZE = 16
#: The digest of a point that isn't there.
ABSENT = bytes(DIGEST_SIZE)
#: In the place of a digest that isn't known: it equals none, so that such a point counts as written.
UNKNOWN = b"\xff" * DIGEST_SIZE
#: Makes the digest of a complete point: payload and all vectors, whatever order the server sent its maps in.
Digest = Callable[[Stored], bytes]
T = TypeVar("T")
#: How a digest with a key begins where it is kept as text; one of the time before has only hexadecimal digits.
_KEYED = "sha256:"


class Tolerance(NamedTuple):
    """How far a converted vector may be from what it was made of.

    Attributes:
        half: it is kept as float16, so that is what is compared: value by value, whatever their size.
        unit: the stored form is normalised, so only the direction counts; the last digits are those of the server.
        grid: what normalised values are rounded to, where local mode has them.
    """

    half: bool
    unit: bool
    grid: float = 0.0


#: How far the values of a normalised float32 vector may be apart, of their size: most measured are 1.1e-6, for 65,536.
_NORMALISED = 4e-6
#: What is below it has lost digits to the range of float32.
_SMALLEST = float(np.finfo(np.float32).tiny)
#: From where on float16 rounds to infinity, and below which it has less than its 11 bits.
_HALF_ENDS, _HALF_BEGINS = 65520.0, 2.0**-14
#: Qdrant leaves a vector as it is whose squared length is less than this.
_NOT_NORMALISED = float(np.finfo(np.float32).eps)


def tolerance_of(params: Mapping[str, Any], *, grid: float = 0.0) -> Tolerance:
    """What the datatype and the distance of a vector do to its values.

    uint8 holds what may be written to it exactly (see :func:`cut_off`); float16 rounds as numpy does; cosine
    normalises, but not uint8.

    Args:
        grid: see :class:`Tolerance`.
    """
    datatype = params.get("datatype")
    return Tolerance(datatype == "float16", params.get("distance") == "Cosine" and datatype != "uint8", grid)


class CutOff(NamedTuple):
    """A value that a vector would not keep.

    Attributes:
        value: as it is.
        why: what its datatype keeps instead.
        hint: the way out.
    """

    value: float
    why: str
    hint: str


def cut_off(values: NDArray[Any], params: Mapping[str, Any]) -> CutOff | None:
    """The first of these values that a vector of such parameters would not keep, or None where it keeps them all.

    uint8 keeps whole numbers from 0 to 255, and silently cuts others off. float16 makes infinity of large values, and
    loses a vector whose values are all too small for its 11 bits; small values next to larger ones are rounded by no
    more than those. Values that are not finite are found by the checks for them.
    """
    if params.get("datatype") == "uint8":
        lost = values[np.isfinite(values) & ((values != np.floor(values)) | (values < 0) | (values > 255))]
        why = "uint8 keeps whole numbers from 0 to 255 only, and cuts others off"
        hint = "scale and round them, values=CopyOf(…, scale=Scale(low, high)) or Compute(…)"
    elif params.get("datatype") == "float16":
        lost, why = _beyond_half(values, params)
        hint = "scale them, values=Compute(…)"
    else:
        return None
    return CutOff(float(lost.flat[0]), why, f"{hint}; or choose another datatype") if lost.size else None


def scaled_off(values: NDArray[np.float32], scale: Scale) -> CutOff | None:
    """What a vector would lose that is scaled by a rule: a value outside its range, or too much of its length."""
    kept = scale.apply(values)
    outside = values[~((kept >= 0) & (kept <= 255))]
    if outside.size:
        why = f"Scale({scale.low:g}, {scale.high:g}) has no number for it"
        return CutOff(float(outside.flat[0]), why, "give it a range that holds every value")
    loss = scale.loss(values)
    if loss <= scale.tolerance:
        return None
    why = (
        f"Scale({scale.low:g}, {scale.high:g}) would change the vector by {loss:.3g} of its own length, and its "
        f"tolerance is {scale.tolerance:g}"
    )
    worst = int(np.abs(scale.undo(kept) - values).argmax())
    return CutOff(float(values.flat[worst]), why, "narrow the range, or allow more")


def _beyond_half(values: NDArray[Any], params: Mapping[str, Any]) -> tuple[NDArray[Any], str]:
    """Values that float16 would not keep, and what it keeps."""
    values = np.asarray(values, dtype=np.float32)
    if params.get("distance") == "Cosine":
        rows = np.atleast_2d(values).astype(np.float64)
        values = values.reshape(rows.shape)[np.square(rows).sum(axis=-1) < _NOT_NORMALISED]
    sizes = np.abs(values)
    lost = values[np.isfinite(values) & (sizes >= _HALF_ENDS)]
    if lost.size or (sizes >= _HALF_BEGINS).any():
        return lost, "float16 ends at 65504, and has infinity for what is larger"
    kept = "float16 has its 11 bits for vectors with a value of at least 0.000061, and 0 for what is below 0.00000003"
    return values[sizes > 0], kept


def point_id(stored: Stored) -> PointId:
    """The id as a Python value."""
    identifier = stored.id
    # Of most points this is all that is asked; 0 is a number too.
    number: int = identifier.num
    if number or identifier.WhichOneof("point_id_options") != "uuid":
        return number
    return str(identifier.uuid)


def order_key(identifier: PointId) -> bytes:
    """Bytes whose order is Qdrant's scroll order: unsigned ids ascending, then UUIDs by bytes."""
    if isinstance(identifier, int):
        return b"\x00" + identifier.to_bytes(8, "big") + bytes(8)
    return b"\x01" + uuid.UUID(identifier).bytes


def id_of_key(key: bytes) -> PointId:
    """The inverse of :func:`order_key`."""
    if key[0] == 0:
        return int.from_bytes(key[1:9], "big")
    return str(uuid.UUID(bytes=key[1:]))


#: Most bytes that hashlib takes without letting other threads in. Handing the interpreter over for the two microseconds
#: of one point costs several times as much as they do, where threads wait for it.
_HELD = 2047


def digest_under(key: bytes | None) -> Digest:
    """What makes digests under a key of a ledger: 128 bits of SHA-256 over the key and the point.

    An application that doesn't know the key can't write two points with one digest. None is for bases that were begun
    before there were keys, and continue as they were started: XXH3-128, for which every application can.
    """
    of_bytes = digest_of_bytes(key)
    return lambda stored: of_bytes(stored.SerializeToString(deterministic=True))


def digest_of_bytes(key: bytes | None) -> Callable[[bytes], bytes]:
    """The same of a point as its deterministic serialisation, as :meth:`qmigrate.ports.Store.scan_canonical` has it."""
    if key is None:
        return xxhash.xxh3_128_digest
    keyed = hashlib.sha256(key)

    def digest(data: bytes) -> bytes:
        made = keyed.copy()
        if len(data) <= _HELD:
            made.update(data)
        else:
            view = memoryview(data)
            for start in range(0, len(data), _HELD):
                made.update(view[start : start + _HELD])
        return made.digest()[:DIGEST_SIZE]

    return digest


def digest_text(stored: Stored, key: bytes) -> str:
    """The digest of a point under a key, as a journal keeps it."""
    return _KEYED + digest_under(key)(stored).hex()


def has_digest(stored: Stored, text: str, key: bytes) -> bool:
    """Whether a point has the digest that a journal has kept, with the key or of the time before there was one."""
    kept = text.removeprefix(_KEYED)
    return digest_under(key if kept != text else None)(stored).hex() == kept


def same(one: Stored, other: Stored) -> bool:
    """Whether two points are equal bit by bit, id and all, whatever order the server sent their maps in."""
    first, second = (stored.SerializeToString(deterministic=True) for stored in (one, other))
    return bool(first == second)


def payload_of(stored: Stored) -> Payload:
    """The payload as plain values, with every number as it is."""
    source = stored.payload
    return {key: plain_value(source[key]) for key in source}


def payload_digest(stored: Stored) -> bytes:
    """Equal for equal payloads, for comparisons within a process."""
    return xxhash.xxh3_128_digest(_payload_bytes(stored, None))


def plain_value(value: Any) -> Any:
    """One payload value with its own number type."""
    kind = value.WhichOneof("kind")
    if kind == "integer_value" or kind == "string_value":
        return getattr(value, kind)
    if kind == "struct_value":
        fields = value.struct_value.fields
        return {key: plain_value(fields[key]) for key in fields}
    if kind == "list_value":
        return [plain_value(item) for item in value.list_value.values]
    if kind == "double_value":
        return exact.number_of(value)
    return None if kind in (None, "null_value") else getattr(value, kind)


def vector_messages(stored: Stored) -> dict[str, Any]:
    """Vector messages by name; the unnamed one is ``""``."""
    kind = stored.vectors.WhichOneof("vectors_options")
    if kind is None:
        return {}
    if kind == "vector":
        return {"": stored.vectors.vector}
    return dict(stored.vectors.vectors.vectors)


def vector_value(message: Any) -> VectorValue:
    """One vector as plain values: dense list, ``{"indices", "values"}``, or rows."""
    kind = message.WhichOneof("vector")
    if kind == "sparse":
        return {"indices": list(message.sparse.indices), "values": list(message.sparse.values)}
    if kind == "multi_dense":
        return [list(row.data) for row in message.multi_dense.vectors]
    if kind == "document":
        options = {name: plain_value(value) for name, value in message.document.options.items()}
        return {"text": message.document.text, "model": message.document.model, "options": options}
    return list(message.dense.data if kind == "dense" else message.data)


def vectors_of(stored: Stored) -> dict[str, VectorValue]:
    """All vectors as plain values."""
    return {name: vector_value(message) for name, message in vector_messages(stored).items()}


def plain_point(stored: Stored, payload: Payload | None = None) -> Point:
    """A copy for user functions; `payload` replaces the stored one."""
    return Point(point_id(stored), payload_of(stored) if payload is None else payload, vectors_of(stored))


def new_payload(stored: Stored, transform: PointTransform) -> Payload | None:
    """The payload after the transform's functions, or None when it is carried as it is."""
    if transform.keeps_payload:
        return None
    point, last = plain_point(stored), len(transform.payload) - 1
    for position, function in enumerate(transform.payload):
        payload: Any = function(point)
        if not isinstance(payload, dict):
            name = getattr(function, "__name__", function)
            raise TypeError(f"{name} returned {type(payload).__name__}, not a dict")
        if position < last or transform.filled:
            # The next reader gets what it would read from the collection: lists for tuples, and so on.
            payload = {key: plain_value(exact.new_value(value)) for key, value in payload.items()}
        point = Point(point.id, payload, point.vectors)
    return point.payload


def new_id(stored: Stored, transform: PointTransform) -> PointId:
    """The id that the transform gives to a point; its own where it gives none.

    Raises:
        ValueError: the point is not fit for it, or the function returned no id; the message has the reason, without it.
    """
    if transform.new_id is None:
        return point_id(stored)
    reads = getattr(transform.new_id, "reads", None)
    wanted = stored.payload if reads is None else [key for key in reads() if key in stored.payload]
    payload = {key: plain_value(stored.payload[key]) for key in wanted}
    try:
        made: Any = transform.new_id(Point(point_id(stored), payload, {}))
    except ValueError:
        raise
    except Exception as error:
        raise ValueError(f"gets no new id: {type(error).__name__}: {error}") from error
    if isinstance(made, int) and not isinstance(made, bool) and 0 <= made < 2**64:
        return made
    if isinstance(made, str | uuid.UUID):
        with suppress(ValueError):
            return str(uuid.UUID(str(made)))
    raise ValueError(f"would get the id {made!r:.80}, which is neither an unsigned integer nor a UUID")


def id_fields(transform: PointTransform) -> list[str] | bool:
    """What of a payload has to be read for :func:`new_id`: all of it, or what its keys are asked for by."""
    reads = getattr(transform.new_id, "reads", None)
    return True if reads is None else selected(reads())


def with_id(stored: Stored, identifier: PointId) -> Stored:
    """A copy under another id."""
    renamed = type(stored)()
    renamed.CopyFrom(stored)
    renamed.id.CopyFrom(_message_of(identifier))
    return renamed


def make_ready(
    stored: Stored, transform: PointTransform, values: Mapping[str, Any], payload: Payload | None = None
) -> Ready:
    """The new point, f(stored) with the filled vectors `values`, as the bytes of a ``PointStruct``.

    Args:
        stored: the point of the old generation.
        transform: what is carried.
        values: target vector -> float32 row(s), sparse dict, or nothing where the point stays without it.
        payload: the transformed payload; None carries the stored one.
    """
    if payload is None and transform.keeps_vectors:
        spliced = wire.spliced(stored.SerializeToString(), {name: vector_wire(one) for name, one in values.items()})
        if spliced is not None:
            return spliced
    ready = grpc.PointStruct(id=stored.id)
    _put_payload(ready, stored, payload)
    parts = {name: found.SerializeToString() for name, found in _carried(stored, transform)}
    parts.update({name: vector_wire(value) for name, value in values.items()})
    _set_vectors(ready, parts)
    return bytes(ready.SerializeToString())


def new_point(identifier: PointId, vectors: Mapping[str, Any]) -> Ready:
    """A point without a payload, as the bytes of a ``PointStruct``: what :func:`vector_wire` takes, by name."""
    made = grpc.PointStruct(id=_message_of(identifier))
    _set_vectors(made, {name: vector_wire(value) for name, value in vectors.items()})
    return bytes(made.SerializeToString())


def _message_of(identifier: PointId) -> Any:
    return grpc.PointId(num=identifier) if isinstance(identifier, int) else grpc.PointId(uuid=identifier)


def _carried(stored: Stored, transform: PointTransform) -> Iterator[tuple[str, Any]]:
    messages = vector_messages(stored)
    for target, source in transform.vectors.items():
        if source in messages:
            scale = transform.scaled.get(target)
            yield target, messages[source] if scale is None else _scaled(messages[source], scale)


def _scaled(message: Any, scale: Scale) -> Any:
    """A vector message as a ``Vector`` of scaled values, whatever kind of message it was read as."""
    return grpc.Vector.FromString(vector_wire(scale.apply(array_of(message))))


def _set_vectors(ready: Any, parts: Mapping[str, bytes]) -> None:
    if set(parts) == {""}:
        ready.vectors.vector.MergeFromString(parts[""])
        return
    # An explicit empty field: without it a point that has no vector is refused.
    ready.vectors.vectors.SetInParent()
    for name, part in parts.items():
        ready.vectors.vectors.vectors[name].MergeFromString(part)


def rest_form(ready: Ready) -> dict[str, Any]:
    """A point that is ready to be written as a REST request has it: with every number of its payload as it is."""
    point = grpc.PointStruct.FromString(ready)
    vectors = vectors_of(point)
    vector = vectors[""] if set(vectors) == {""} else vectors
    return {"id": point_id(point), "payload": payload_of(point), "vector": vector}


def without_payload(ready: Ready) -> Ready:
    """A point that is ready to be written, with its vectors alone."""
    point = grpc.PointStruct.FromString(ready)
    point.ClearField("payload")
    return bytes(point.SerializeToString())


def vector_wire(value: Any) -> bytes:
    """A ``Vector`` message as bytes; a float32 row goes in as it is, since extending a field is ten times slower."""
    if isinstance(value, ServerText):
        return bytes(grpc.Vector(document=_document(value)).SerializeToString())
    if isinstance(value, Mapping):
        message = grpc.Vector(
            sparse=grpc.SparseVector(values=list(value["values"]), indices=list(value["indices"]))
        )
        return bytes(message.SerializeToString())
    array = np.ascontiguousarray(value, dtype="<f4")
    if array.ndim == 1:
        return wire.field(101, wire.field(1, array.tobytes()))
    return wire.field(103, b"".join(wire.field(1, wire.field(1, row.tobytes())) for row in array))


def vector_input(value: Any) -> Any:
    """A ``VectorInput`` to search by: what :func:`vector_wire` takes."""
    if isinstance(value, ServerText):
        return grpc.VectorInput(document=_document(value))
    if isinstance(value, Mapping):
        sparse = grpc.SparseVector(values=list(value["values"]), indices=list(value["indices"]))
        return grpc.VectorInput(sparse=sparse)
    if np.ndim(value) == 1:
        return grpc.VectorInput(dense=grpc.DenseVector(data=list(map(float, value))))
    rows = [grpc.DenseVector(data=list(map(float, row))) for row in value]
    return grpc.VectorInput(multi_dense=grpc.MultiDenseVector(vectors=rows))


def _document(value: ServerText) -> Any:
    options = {name: exact.new_value(one) for name, one in value.options.items()}
    return grpc.Document(text=value.text, model=value.model, options=options)


def with_vectors(identifier: PointId, vectors: Mapping[str, Any]) -> Any:
    """A ``PointVectors`` message: what :func:`vector_wire` takes, by name."""
    made = grpc.PointVectors(id=_message_of(identifier))
    _set_vectors(made, {name: vector_wire(value) for name, value in vectors.items()})
    return made


def array_of(message: Any) -> NDArray[np.float32]:
    """A dense vector, or the rows of a multivector, or a sparse vector's values, as float32."""
    kind = message.WhichOneof("vector")
    if kind == "multi_dense":
        return np.array([row.data for row in message.multi_dense.vectors], dtype=np.float32)
    if kind == "sparse":
        return np.array(message.sparse.values, dtype=np.float32)
    return np.array(message.dense.data if kind == "dense" else message.data, dtype=np.float32)


class Pure:
    """The pure part of a point: payload and carried vectors, comparable across generations."""

    __slots__ = ("payload", "vectors")

    def __init__(self, payload: bytes, vectors: dict[str, Any]) -> None:
        self.payload = payload
        self.vectors = vectors


def expected(stored: Stored, transform: PointTransform, payload: Payload | None) -> Pure:
    """The pure part of f(stored)."""
    return Pure(_payload_bytes(stored, payload), dict(_carried(stored, transform)))


def found(stored: Stored, transform: PointTransform) -> Pure:
    """The pure part of a point of the new generation."""
    messages = vector_messages(stored)
    return Pure(_payload_bytes(stored, None), {name: messages[name] for name in transform.vectors if name in messages})


def difference(wanted: Pure, seen: Pure, loose: Mapping[str, Tolerance]) -> str | None:
    """Why the pure parts differ, in a few words, or None when they are equal bit by bit.

    Bit by bit but for the last digits of payload doubles, which a server may change each time it reads its own JSON.

    Args:
        loose: vectors that are stored in another form on purpose, with the tolerance of each.
    """
    if wanted.payload != seen.payload and not _nearly_equal(wanted.payload, seen.payload):
        return "the payload differs"
    if wanted.vectors.keys() != seen.vectors.keys():
        odd = sorted(wanted.vectors.keys() ^ seen.vectors.keys())
        return f"vector {odd[0]!r} is {'missing' if odd[0] in wanted.vectors else 'unexpected'}"
    for name, message in wanted.vectors.items():
        other = seen.vectors[name]
        if message == other or message.SerializeToString() == other.SerializeToString():
            continue
        if name not in loose or not _close(array_of(message), array_of(other), loose[name]):
            return f"vector {name!r} differs{_not_finite(message)}"
    return None


def _nearly_equal(wanted: bytes, seen: bytes) -> bool:
    """Whether two payloads differ in nothing but the last digits of doubles."""
    one, other = (grpc.RetrievedPoint.FromString(payload).payload for payload in (wanted, seen))
    return one.keys() == other.keys() and all(exact.nearly_equal(one[key], other[key]) for key in one)


def _not_finite(message: Any) -> str:
    """Why a carried vector may have changed on its way: a server normalises infinity to NaN, once more every time."""
    if np.isfinite(array_of(message)).all():
        return ""
    return ", since it holds values that are not finite, which Qdrant changes when they are written: repair it first"


def _close(wanted: NDArray[np.float32], seen: NDArray[np.float32], tolerance: Tolerance) -> bool:
    """Whether a vector is what another one becomes in its form: exactly, but for the last digits once normalised."""
    if wanted.shape != seen.shape:
        return False
    if _agree(wanted, seen, tolerance.half):
        return True
    if not tolerance.unit:
        return False
    norms = np.linalg.norm(wanted.astype(np.float64), axis=-1, keepdims=True)
    unit = (wanted / np.where(norms == 0, 1, norms)).astype(np.float32)
    if tolerance.half and not tolerance.grid:
        return _agree(unit, seen, half=True, apart=1)
    return bool(np.allclose(seen, unit, rtol=_NORMALISED, atol=tolerance.grid or _SMALLEST))


def _agree(wanted: NDArray[np.float32], seen: NDArray[np.float32], half: bool, apart: int = 0) -> bool:
    """Whether all values are equal; with `half` as float16, where they may be `apart` of its steps away."""
    if not half:
        return bool(np.array_equal(wanted, seen))
    # Infinity is one step behind the largest value, and equal to itself only.
    if np.isnan(seen).any() or not np.array_equal(np.isinf(wanted), np.isinf(seen)):
        return False
    with np.errstate(over="ignore"):
        return bool((np.abs(_steps(wanted) - _steps(seen)) <= apart).all())


def _steps(values: NDArray[np.float32]) -> NDArray[np.int32]:
    """How many float16 lie between 0 and each value, with its sign."""
    bits = values.astype(np.float16).view(np.int16).astype(np.int32)
    return np.where(bits < 0, -(bits & 0x7FFF), bits)


def _put_payload(message: grpc.PointStruct | grpc.RetrievedPoint, stored: Stored, payload: Payload | None) -> None:
    """Fill the payload of a message: the transformed one, or with None that of the stored point."""
    if payload is None:
        source = stored.payload
        # items() of a protobuf map is slower than looking every key up
        for key in source:
            message.payload[key].CopyFrom(source[key])
    else:
        for key, plain in payload.items():
            message.payload[key].CopyFrom(exact.new_value(plain))


def _payload_bytes(stored: Stored, payload: Payload | None) -> bytes:
    holder = grpc.RetrievedPoint()
    _put_payload(holder, stored, payload)
    return bytes(holder.SerializeToString(deterministic=True))


def batches(points: Sequence[Ready], limit: int = BATCH_BYTES) -> Iterator[Sequence[Ready]]:
    """Cut points into requests of at most `limit` bytes (a single larger point goes alone)."""
    return cut(points, len, limit)


def cut(points: Sequence[T], weigh: Callable[[T], int], limit: int) -> Iterator[Sequence[T]]:
    """Cut points into parts that weigh at most `limit` each; a single heavier point goes alone.

    Args:
        points: in order.
        weigh: how much of the limit one point takes.
        limit: of one part.
    """
    start, weight = 0, 0
    for position, point in enumerate(points):
        more = weigh(point)
        if weight and weight + more > limit:
            yield points[start:position]
            start, weight = position, 0
        weight += more
    if start < len(points):
        yield points[start:]


def page_size(sample: Sequence[Stored], limit: int = BATCH_BYTES, most: int = 1000) -> int:
    """Points per page so that a page stays near `limit` bytes, judged by `sample`."""
    if not sample:
        return most
    weight = sum(point.ByteSize() for point in sample) / len(sample)
    return max(8, min(most, int(limit / max(weight, 1.0))))
