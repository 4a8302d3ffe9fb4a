"""The number of the operation that last wrote each point, listed by exact searches. It concludes nothing from them.

Every result of a search by a vector carries that number. A search for as many points as there are, without an index,
lists all that have the vector: in slices by the hash of the id where the server can, else some ids at a time.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from qdrant_client import grpc as messages

from qmigrate.errors import NotFoundError, NoVersionsError
from qmigrate.model.ids import NUMBERS, UUIDS, Page, points_of
from qmigrate.model.transform import PointId
from qmigrate.ports import VersionPage
from qmigrate.sequences import in_parts
from qmigrate.store.faults import RefusedRequestError, TransientError
from qmigrate.store.id_pages import ForeignError
from qmigrate.store.server.collections import info_of
from qmigrate.store.server.points import Points, add_ids
from qmigrate.store.server.rest import Rest
from qmigrate.store.shapes import described

#: Points of one slice at least, and at most. For each slice the server checks every id of the collection, which takes
#: some 40 ns, so that few of them are better; the larger an answer is, the more memory it needs there.
SLICE, LARGEST = 16_000, 100_000
#: Slices up to which they are small.
FEW = 10
#: Ids of one request where there are no slices.
IDS = 10_000
#: Requests under way at once: one is worked on while the answer of the other is decoded.
AT_ONCE = 2

_RESULT, _ID, _NUMBER, _TEXT, _SCORE, _VERSION = 0x0A, 0x0A, 0x08, 0x12, 0x1D, 0x28
#: Bytes of a message that holds a UUID, and the longest varint.
_UUID_ID, _LONGEST = 38, 10


def decoded(answer: bytes) -> list[VersionPage]:
    """Ids and numbers of a ``QueryResponse`` without payloads and vectors: a page for each kind of id, in no order."""
    try:
        return _fast(answer)
    except ForeignError:
        return _slow(answer)


def _slow(answer: bytes) -> list[VersionPage]:
    """The same by the library, message by message."""
    found = messages.QueryResponse.FromString(answer).result
    numbers = [(one.id.num, one.version) for one in found if one.id.WhichOneof("point_id_options") == "num"]
    texts = [(one.id.uuid, one.version) for one in found if one.id.WhichOneof("point_id_options") == "uuid"]
    return [
        VersionPage(np.array([one for one, _ in part], kind), np.array([version for _, version in part], NUMBERS))
        for part, kind in ((numbers, NUMBERS), (texts, UUIDS))
        if part
    ]


def _fast(answer: bytes) -> list[VersionPage]:
    """The same from the bytes, all results at once.

    Raises:
        ForeignError: there is something else in it.
    """
    starts, end = _starts(answer)
    rest = messages.QueryResponse.FromString(answer[end:])
    if rest.result:
        raise ForeignError
    if not starts:
        return []
    # What is read behind the end of the last result is zero.
    octets = np.frombuffer(answer[:end] + bytes(8), np.uint8)
    at = np.array(starts, np.int64) + 2
    ends = at + octets[at - 1]
    length = octets[at + 1].astype(np.int64)
    behind = at + 2 + length
    if (octets[at] != _ID).any() or (length < 2).any() or (behind > ends).any():
        raise ForeignError
    versions = _versions(octets, behind, ends)
    kinds = octets[at + 2]
    numbers = kinds == _NUMBER
    pages: list[tuple[Page, NDArray[Any]]] = []
    if numbers.any():
        pages.append((_varints(octets, at[numbers] + 3, behind[numbers]), versions[numbers]))
    if not numbers.all():
        others = ~numbers
        pages.append((_uuids(octets, at[others], length[others], kinds[others]), versions[others]))
    return [VersionPage(*page) for page in pages]


def _starts(answer: bytes) -> tuple[list[int], int]:
    """Where each result begins, and where the last one ends."""
    starts: list[int] = []
    append, position, size = starts.append, 0, len(answer)
    while position < size and answer[position] == _RESULT:
        append(position)
        length = answer[position + 1] if position + 1 < size else _LONGEST << 7
        if length > 0x7F:
            raise ForeignError
        position += 2 + length
    if position > size:
        raise ForeignError
    return starts, position


def _versions(octets: NDArray[np.uint8], at: NDArray[np.int64], ends: NDArray[np.int64]) -> NDArray[np.uint64]:
    """What stands behind the id: perhaps a score, then the number; what is 0 is left out."""
    at = at + np.where((at < ends) & (octets[at] == _SCORE), 5, 0)
    left = at < ends
    if (at > ends).any() or (octets[at[left]] != _VERSION).any():
        raise ForeignError
    found = np.zeros(len(at), NUMBERS)
    if left.any():
        found[left] = _varints(octets, at[left] + 1, ends[left])
    return found


def _varints(octets: NDArray[np.uint8], at: NDArray[np.int64], ends: NDArray[np.int64]) -> NDArray[np.uint64]:
    """Varints that begin and end there."""
    length = ends - at
    if (length < 1).any() or (length > _LONGEST).any():
        raise ForeignError
    found = np.zeros(len(at), NUMBERS)
    for place in range(int(length.max())):
        # Behind the end of a shorter one nothing is taken.
        value = np.where(place < length, octets[np.minimum(at + place, ends - 1)], 0)
        if ((value > 0x7F) != (place < length - 1)).any():
            raise ForeignError
        found |= (value & 0x7F).astype(NUMBERS) << np.uint64(7 * place)
    return found


def _uuids(
    octets: NDArray[np.uint8], at: NDArray[np.int64], length: NDArray[np.int64], kinds: NDArray[np.uint8]
) -> Page:
    if (kinds != _TEXT).any() or (length != _UUID_ID).any() or (octets[at + 3] != UUIDS.itemsize).any():
        raise ForeignError
    return np.ascontiguousarray(octets[(at + 4)[:, None] + np.arange(UUIDS.itemsize)]).view(UUIDS).ravel()


class Versions:
    """Lists point versions of one server; safe to use from several threads.

    Args:
        points: sends the requests.
        main: the node that is asked for the settings of a collection.
        slices: whether the server can divide a collection by the hash of the ids.
    """

    def __init__(self, points: Points, main: Rest, *, slices: bool) -> None:
        self._points = points
        self._main = main
        self._slices = slices
        self._query = points.reader("Query", messages.QueryPoints.SerializeToString)

    def listed(self, name: str, vector: str, ids: Sequence[PointId] | None) -> Iterator[VersionPage]:
        """See :meth:`qmigrate.ports.Store.versions`."""
        info = info_of(self._main, name)
        if info is None:
            raise NotFoundError(f"Qdrant at {self._main.label}: there is no collection {name!r}")
        params = described(info["config"], info["payload_schema"]).schema.vectors.get(vector)
        if params is None:
            raise NoVersionsError(f"{name} has no dense vector {vector!r}, by which versions could be listed")
        request = _request(name, vector, int(params["size"]))
        try:
            if ids is not None:
                yield from self._pages(_by_id(request, in_parts(ids, IDS)))
            elif self._slices:
                yield from self._pages(_by_slice(request, int(info.get("points_count") or 0)))
            else:
                parts = (points_of(page) for page in self._points.scan_ids(name, page=IDS))
                yield from self._pages(_by_id(request, parts))
        except (RefusedRequestError, TransientError) as error:
            # Also where an exact search takes longer than a request may: contents are read in smaller portions, and
            # where the server can't be reached, that reading says so.
            raise NoVersionsError(f"the versions of the points of {name} can't be listed: {error.message}") from error

    def _pages(self, requests: Iterable[Any]) -> Iterator[VersionPage]:
        flying: deque[tuple[Any, Any]] = deque()
        try:
            for request in requests:
                flying.append((request, self._points.start(self._query, request)))
                if len(flying) >= AT_ONCE:
                    yield from self._whole(*flying.popleft())
            while flying:
                yield from self._whole(*flying.popleft())
        finally:
            for _, future in flying:
                future.cancel()

    def _whole(self, request: Any, first: Any) -> list[VersionPage]:
        """All results of one request: the counts that its limit was made of are approximate."""
        pages = decoded(self._points.repeated(self._query, request, first))
        while sum(len(page.ids) for page in pages) >= request.limit:
            request.limit *= 2
            pages = decoded(self._points.repeated(self._query, request))
        return pages


def _request(name: str, vector: str, size: int) -> Any:
    """A search for no point in particular: to a vector of zeros all are equally near, where that is a product."""
    nearest = messages.VectorInput(dense=messages.DenseVector(data=[0.0] * size))
    request = messages.QueryPoints(
        collection_name=name,
        query=messages.Query(nearest=nearest),
        using=vector or None,
        params=messages.SearchParams(exact=True),
    )
    request.with_payload.enable = request.with_vectors.enable = False
    return request


def slices_of(points: int) -> int:
    """Into how many slices a collection is divided: two at least, so that a trial with few points tries them, too."""
    return max(2, min(FEW, -(-points // SLICE)), -(-points // LARGEST))


def _by_slice(common: Any, points: int) -> Iterator[Any]:
    total = slices_of(points)
    for index in range(total):
        request = _copy(common)
        request.limit = points // total * 5 // 4 + 1000
        part = request.filter.must.add().slice
        part.total, part.index = total, index
        yield request


def _by_id(common: Any, parts: Iterable[Sequence[PointId]]) -> Iterator[Any]:
    for part in parts:
        request = _copy(common)
        # One more than there can be, so that a full answer is not taken for one that was cut off.
        request.limit = len(part) + 1
        add_ids(request.filter.must.add().has_id.has_id, part)
        yield request


def _copy(common: Any) -> Any:
    made = messages.QueryPoints()
    made.CopyFrom(common)
    return made
