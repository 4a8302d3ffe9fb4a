"""Points by the page, as bytes: what a store hands out and a join walks. It reads nothing itself."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from qmigrate.model.transform import PointId


class KeyedPage(Protocol):
    """Items in the order of their keys, as bytes: equal points have equal bytes, however the server sent their maps."""

    @property
    def body(self) -> bytes:
        """All of it: of two pages equal where all keys and items are."""

    @property
    def keys(self) -> bytes:
        """All keys, one after the other: of points see :func:`qmigrate.store.records.order_key`."""

    @property
    def records(self) -> Sequence[bytes]:
        """The items: each point, as its digest is made of it."""


class ReadyPage(NamedTuple):
    """Points in order, ready to be written in one request as they are.

    Attributes:
        points: each as it is to be written.
        last: the id of the last one.
    """

    points: Sequence[bytes]
    last: PointId
