"""Pages of points as bytes: split, keyed, and turned into requests, with no message per point. It sends nothing.

What is done once per page is done by numpy or by protobuf's own C code. An answer that holds anything that isn't known
here is left to the messages of :mod:`qmigrate.store.records`: it raises ``ForeignError``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray
from qdrant_client import grpc

from qmigrate.model.ids import UUIDS, as_page, packed
from qmigrate.model.pages import ReadyPage
from qmigrate.model.transform import PointId, PointTransform
from qmigrate.ports import Ready, Stored
from qmigrate.sequences import first as first_place
from qmigrate.store import records, wire
from qmigrate.store.id_pages import SCROLLED, ForeignError, check_end
from qmigrate.store.records import KEY_SIZE

_NEXT, _RESULT = 0x0A, SCROLLED[0]
_ID, _PAYLOAD, _VECTORS = 0x0A, 0x12, 0x22
#: In ``UpsertPoints`` a point, and in ``PointStruct`` an entry of the payload.
_POINT, _PAYLOAD_OUT = 0x1A, 0x1A
_NUMBER, _TEXT = 0x08, 0x12
#: Bytes of the message of an id that is a UUID.
_UUID_SIZE = 2 + UUIDS.itemsize
#: ``vectors { vectors {} }``: without it a point that has no vector is refused.
_NO_VECTORS = b"\x22\x02\x12\x00"
#: Bytes of a varint, at most.
_VARINT = 10

_Octets = NDArray[np.uint8]
_Places = NDArray[np.int64]


class CanonicalPage:
    """A :class:`qmigrate.model.pages.KeyedPage` of an answer that was serialised deterministically.

    Args:
        body: field 2 once per point, and nothing else.
    """

    def __init__(self, body: bytes) -> None:
        self.body = body

    @cached_property
    def _places(self) -> tuple[list[int], list[int]]:
        starts, stops, position = _results(self.body, 0)
        if position != len(self.body):
            raise ForeignError
        return starts, stops

    @cached_property
    def records(self) -> Sequence[bytes]:
        """Each point as its deterministic serialisation."""
        body = self.body
        return [body[start:stop] for start, stop in zip(*self._places, strict=True)]

    @cached_property
    def keys(self) -> bytes:
        """The order key of each point."""
        try:
            return _keys(np.frombuffer(self.body, np.uint8), np.array(self._places[0], np.int64))
        except ForeignError:
            return b"".join(records.order_key(records.point_id(stored_of(record))) for record in self.records)


def stored_of(record: bytes) -> Stored:
    """A point of a page as a message."""
    return grpc.RetrievedPoint.FromString(record)


def canonical(answer: Any) -> CanonicalPage:
    """A page of a ``ScrollResponse``, whatever order its maps came in; the message is emptied of all else."""
    for name in ("next_page_offset", "time", "usage"):
        answer.ClearField(name)
    page = CanonicalPage(answer.SerializeToString(deterministic=True))
    try:
        count = len(page.records)
    except ForeignError:
        count = -1
    # What a newer server adds to an answer does not belong to its points.
    return page if count == len(answer.result) else of_messages(answer.result)


def of_messages(page: Sequence[Stored]) -> CanonicalPage:
    """The same of messages."""
    return CanonicalPage(b"".join(wire.field(2, stored.SerializeToString(deterministic=True)) for stored in page))


class ReadyPoints(Sequence[Ready]):
    """Points that are ready to be written, next to each other: each as field 3, as ``UpsertPoints`` has them.

    Args:
        body: the fields.
        starts: where each begins in it.
    """

    def __init__(self, body: bytes, starts: Sequence[int]) -> None:
        self.body = body
        self._starts = starts

    def __len__(self) -> int:
        """How many there are."""
        return len(self._starts)

    @overload
    def __getitem__(self, place: int) -> Ready: ...

    @overload
    def __getitem__(self, place: slice) -> ReadyPoints: ...

    def __getitem__(self, place: int | slice) -> Ready | ReadyPoints:
        """One point, or a stretch of them."""
        if isinstance(place, slice):
            first, last, step = place.indices(len(self))
            if step != 1:
                raise IndexError("only points next to each other")
            starts = self._starts[first:last]
            if not starts:
                return ReadyPoints(b"", ())
            begin = starts[0]
            return ReadyPoints(self.body[begin : self._end(last - 1)], [start - begin for start in starts])
        place = range(len(self))[place]
        return bytes(next(wire.fields(self.body[self._starts[place] : self._end(place)]))[1])

    def _end(self, place: int) -> int:
        return self._starts[place + 1] if place + 1 < len(self._starts) else len(self.body)

    def batches(self, limit: int) -> Iterator[ReadyPoints]:
        """Parts of at most `limit` bytes; a single larger point goes alone."""
        if len(self.body) <= limit:
            yield self
            return
        for places in records.cut(range(len(self)), self._weight, limit):
            yield self[places[0] : places[-1] + 1]

    def _weight(self, place: int) -> int:
        return self._end(place) - self._starts[place]


def retagged(answer: bytes, before: Callable[[PointId], bool]) -> tuple[ReadyPoints, bytes | None]:
    """The points of a ``ScrollResponse`` as those to write: tags are changed in place, nothing is decoded.

    Args:
        before: whether an id is one of those that are asked for; what follows the first that isn't is left out.

    Returns:
        The points, and the ``PointId`` of the next page as bytes; None where there is none, or it isn't asked for.

    Raises:
        ForeignError: the answer, or a point, has a field that is not known.
    """
    buffer = bytearray(answer)
    following, position = None, 0
    if buffer[:1] == bytes((_NEXT,)):
        size, position = wire.read_varint(buffer, 1)
        following, position = bytes(buffer[position : position + size]), position + size
    first = position
    starts, stops, position = _results(buffer, position)
    check_end(buffer, position, SCROLLED)
    count = len(starts)
    if count and not before(_id_at(answer, starts[-1])):
        count = first_place(count, lambda place: not before(_id_at(answer, starts[place])))
    if count < len(starts):
        following = None
    if not count:
        return ReadyPoints(b"", ()), following
    begins = [first, *stops[: count - 1]]
    octets = np.frombuffer(buffer, np.uint8)
    lacking = _retag(octets, np.array(starts[:count], np.int64), np.array(stops[:count], np.int64))
    octets[np.array(begins, np.int64)] = _POINT
    del octets
    body = bytes(buffer[first : stops[count - 1]])
    begins = [begin - first for begin in begins]
    if lacking:
        body, begins = _completed(body, begins, [stop - first for stop in stops[:count]], starts, first, lacking)
    return ReadyPoints(body, begins), following


def unchanged(page: Sequence[Stored]) -> list[Ready]:
    """The same of messages: each point as it is to be written, whatever integers it holds."""
    names = (frozenset(records.vector_messages(stored)) for stored in page)
    return [records.make_ready(*one, {}) for one in zip(page, map(PointTransform.identity, names), strict=True)]


def in_batches(points: ReadyPoints | list[Ready], after: PointId | None) -> Iterator[ReadyPage]:
    """Points cut into requests, without the first one where it is `after`: a scroll starts with the id it is given."""
    if points and after is not None and _id_of(points[0]) == after:
        points = points[1:]
    if points:
        parts = points.batches(records.BATCH_BYTES) if isinstance(points, ReadyPoints) else records.batches(points)
        yield from (ReadyPage(part, _id_of(part[-1])) for part in parts)


def _id_of(point: Ready) -> PointId:
    return _id_at(point, 0)


def _completed(
    body: bytes, begins: list[int], ends: list[int], starts: Sequence[int], first: int, lacking: set[int]
) -> tuple[bytes, list[int]]:
    """With an empty field ``vectors`` in the points that lack one."""
    parts, places, size = [], [], 0
    for place, (begin, end) in enumerate(zip(begins, ends, strict=True)):
        part = body[begin:end]
        if place in lacking:
            part = wire.field(3, body[starts[place] - first : end] + _NO_VECTORS)
        parts.append(part)
        places.append(size)
        size += len(part)
    return b"".join(parts), places


def _results(buffer: bytes | bytearray, position: int) -> tuple[list[int], list[int], int]:
    """Where the bodies of the points from here begin and end, and where something else comes."""
    starts: list[int] = []
    stops: list[int] = []
    size = len(buffer)
    try:
        while position < size and buffer[position] == _RESULT:
            more, start = buffer[position + 1], position + 2
            if more > 127:
                high = buffer[start]
                if high < 128:
                    more, start = more & 127 | high << 7, start + 1
                else:
                    more, start = wire.read_varint(buffer, position + 1)
            position = start + more
            starts.append(start)
            stops.append(position)
    except IndexError:
        raise ForeignError from None
    if position > size:
        raise ForeignError
    return starts, stops, position


def _id_at(answer: bytes, start: int) -> PointId:
    """The id of the point whose body begins here."""
    head = answer[start : start + 2]
    if len(head) < 2 or head[0] != _ID or head[1] > _UUID_SIZE:
        raise ForeignError
    size = head[1]
    found = grpc.PointId.FromString(answer[start + 2 : start + 2 + size])
    if found.WhichOneof("point_id_options") is None:
        raise ForeignError
    return records.point_id(grpc.RetrievedPoint(id=found))


def _retag(octets: _Octets, starts: _Places, stops: _Places) -> set[int]:
    """Make ``PointStruct`` of each ``RetrievedPoint``, a field of all of them at a time.

    Returns:
        The places of points without a vector.
    """
    lacking = np.ones(len(starts), bool)
    points, at, end = np.arange(len(starts)), starts, stops
    while len(at):
        tags = octets[at]
        payload, vectors = tags == _PAYLOAD, tags == _VECTORS
        if not (payload | vectors | (tags == _ID)).all():
            raise ForeignError
        octets[at[payload]] = _PAYLOAD_OUT
        size, behind = _lengths(octets, at + 1)
        lacking[points[vectors & (size > 0)]] = False
        at = behind + size
        if (at > end).any():
            raise ForeignError
        more = at < end
        points, at, end = points[more], at[more], end[more]
    return set(np.flatnonzero(lacking).tolist())


def _lengths(octets: _Octets, at: _Places) -> tuple[_Places, _Places]:
    """The varints at these places, and where each ends."""
    last = len(octets) - 1
    byte = octets[np.minimum(at, last)]
    size, behind, shift = (byte & 0x7F).astype(np.int64), at + 1, 7
    more = byte > 127
    while more.any():
        if shift > 28:
            raise ForeignError
        byte = octets[np.minimum(behind, last)]
        size[more] |= (byte[more] & 0x7F).astype(np.int64) << shift
        behind = behind + more
        more &= byte > 127
        shift += 7
    return size, behind


def _keys(octets: _Octets, starts: _Places) -> bytes:
    """Order keys of the points whose bodies begin there."""
    if not len(starts):
        return b""
    rows = np.zeros((len(starts), KEY_SIZE), np.uint8)
    heads = octets[np.minimum(starts[:, None] + np.arange(4), len(octets) - 1)]
    numbers, texts = heads[:, 2] == _NUMBER, (heads[:, 2] == _TEXT) & (heads[:, 1] == _UUID_SIZE)
    texts &= heads[:, 3] == UUIDS.itemsize
    if not ((heads[:, 0] == _ID) & (numbers | texts)).all():
        raise ForeignError
    if numbers.any():
        found = _varints(octets, starts[numbers] + 3, heads[numbers, 1])
        rows[numbers, 1:9] = found.astype(">u8")[:, None].view(np.uint8)
    if texts.any():
        uuids = octets[starts[texts][:, None] + np.arange(4, 4 + UUIDS.itemsize)].view(UUIDS).ravel()
        ids = packed(uuids)
        if (as_page(ids) != uuids).any():
            raise ForeignError
        rows[texts, 0] = 1
        rows[texts, 1:] = np.ascontiguousarray(ids).view(np.uint8).reshape(-1, 16)
    return rows.tobytes()


def _varints(octets: _Octets, at: _Places, sizes: _Octets) -> NDArray[np.uint64]:
    """Numbers of ids: `sizes` are those of their messages, which have a tag of one byte before them."""
    lengths = sizes.astype(np.int64) - 1
    most = int(lengths.max())
    if most > _VARINT or int(lengths.min()) < 1:
        raise ForeignError
    found = np.zeros(len(at), np.uint64)
    for column in range(most):
        byte = octets[np.minimum(at + column, len(octets) - 1)]
        here = column < lengths
        if ((byte > 127) != (column < lengths - 1))[here].any():
            raise ForeignError
        found[here] |= (byte[here] & 0x7F).astype(np.uint64) << np.uint64(7 * column)
    return found
