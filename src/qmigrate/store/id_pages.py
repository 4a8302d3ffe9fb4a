"""Answers that have ids only, decoded by the page from their bytes. It sends nothing."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from qdrant_client import grpc as messages

from qmigrate.model.ids import NUMBERS, UUIDS, Page
from qmigrate.store import wire

_NEXT = 0x0A
#: Tags of the points, the time and the usage, in the answer to a scroll and in that to a look-up.
SCROLLED, _LOOKED_UP = (0x12, 0x19, 0x22), (0x0A, 0x11, 0x1A)
_ID, _NUMBER, _TEXT = 0x0A, 0x08, 0x12
#: Length of the record of a UUID, and where its text begins.
_UUID_RECORD, _UUID_AT = 42, 6


class ForeignError(ValueError):
    """The bytes of an answer hold something that is not known where they are decoded."""


def decoded(answer: bytes) -> tuple[list[Page], bytes | None]:
    """Pages of a ``ScrollResponse`` that has ids only, and the ``PointId`` of the next one as bytes."""
    try:
        return _fast(answer)
    except ForeignError:
        return _slow(answer)


def looked_up(answer: bytes) -> list[Page]:
    """Pages of a ``GetResponse`` that has ids only, in no order."""
    try:
        return _points(answer, 0, _LOOKED_UP)
    except ForeignError:
        return _pages(messages.GetResponse.FromString(answer).result)


def _fast(answer: bytes) -> tuple[list[Page], bytes | None]:
    position, following = 0, None
    if answer[:1] == bytes((_NEXT,)):
        length = _short(answer, 1)
        following, position = answer[2 : 2 + length], 2 + length
    return _points(answer, position, SCROLLED), following


def _points(answer: bytes, position: int, tags: tuple[int, int, int]) -> list[Page]:
    """The points from here, behind which only the time and the usage may come."""
    pages: list[Page] = []
    octets = np.frombuffer(answer, np.uint8)
    while position < len(answer) and answer[position] == tags[0]:
        page, position = _run(answer, octets, position)
        pages.append(page)
    check_end(answer, position, tags)
    return _joined(pages)


def _run(answer: bytes, octets: NDArray[np.uint8], position: int) -> tuple[Page, int]:
    """The records from here that begin alike."""
    length = _short(answer, position + 1) + 2
    head = answer[position : position + 5]
    if len(head) < 5 or head[2] != _ID or head[3] != length - 4:
        raise ForeignError
    most = (len(answer) - position) // length
    rows = octets[position : position + most * length].reshape(most, length)
    alike = (rows[:, :5] == np.frombuffer(head, np.uint8)).all(axis=1)
    count = most if alike.all() else int(np.argmin(alike))
    rows = rows[:count]
    following = position + count * length
    if head[4] == _NUMBER:
        return _numbers(rows), following
    if head[4] == _TEXT and length == _UUID_RECORD and (rows[:, 5] == UUIDS.itemsize).all():
        return np.ascontiguousarray(rows[:, _UUID_AT:]).view(UUIDS).ravel(), following
    raise ForeignError


def _numbers(rows: NDArray[np.uint8]) -> Page:
    """Varints of one length."""
    last = rows.shape[1] - 1
    more = rows[:, 5:] & 0x80
    if more[:, -1].any() or not more[:, :-1].all():
        raise ForeignError
    found = np.zeros(len(rows), NUMBERS)
    for column in range(5, last + 1):
        found |= (rows[:, column] & np.uint8(0x7F)).astype(NUMBERS) << np.uint64(7 * (column - 5))
    return found


def check_end(answer: bytes | bytearray, position: int, tags: tuple[int, int, int]) -> None:
    """See that only the time and the usage come from here on.

    Raises:
        ForeignError: something else does.
    """
    _, time, usage = tags
    try:
        while position < len(answer):
            if answer[position] == time:
                position += 9
            elif answer[position] == usage:
                length, start = wire.read_varint(answer, position + 1)
                position = start + length
            else:
                raise ForeignError
    except IndexError:
        raise ForeignError from None


def _short(answer: bytes, position: int) -> int:
    """A length of one byte."""
    if position >= len(answer) or answer[position] > 0x7F:
        raise ForeignError
    return answer[position]


def _joined(pages: list[Page]) -> list[Page]:
    """Runs of one type as one page."""
    kinds = [[page for page in pages if page.dtype == kind] for kind in (NUMBERS, UUIDS)]
    return [np.concatenate(part) if len(part) > 1 else part[0] for part in kinds if part]


def _slow(answer: bytes) -> tuple[list[Page], bytes | None]:
    found = messages.ScrollResponse.FromString(answer)
    following = found.next_page_offset.SerializeToString() if found.HasField("next_page_offset") else None
    return _pages(found.result), following


def _pages(points: Iterable[Any]) -> list[Page]:
    ids = [point.id for point in points]
    numbers = [one.num for one in ids if one.WhichOneof("point_id_options") == "num"]
    uuids = [one.uuid for one in ids if one.WhichOneof("point_id_options") == "uuid"]
    return [page for page in (np.array(numbers, NUMBERS), np.array(uuids, UUIDS)) if len(page)]
