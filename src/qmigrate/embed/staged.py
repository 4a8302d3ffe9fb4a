"""The seam between an embedder and the pipeline: what opens items, apart from what makes vectors. It opens nothing."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

#: How libraries word it that raise nothing more special than a RuntimeError: torch on CUDA, MPS and CPU, and others.
_SAYINGS = ("out of memory", "can't allocate memory", "cannot allocate memory", "failed to allocate")


def out_of_memory(error: BaseException) -> bool:
    """Whether it is torch's OutOfMemoryError, Python's MemoryError, or an error with such words."""
    if isinstance(error, MemoryError) or any(one.__name__ == "OutOfMemoryError" for one in type(error).__mro__):
        return True
    return isinstance(error, RuntimeError) and any(words in str(error).lower() for words in _SAYINGS)


class Prepared(NamedTuple):
    """An item that is open: what a batch is made of.

    Attributes:
        value: pixels, tokens, …: whatever the embedder makes of an item.
        kind: items of different kinds can't be in one batch.
        weight: its length where a batch is padded to its longest item; 1 where all are alike.
        size: bytes that it holds.
    """

    value: Any
    kind: int
    weight: int
    size: int


@dataclass(frozen=True, slots=True)
class Underway:
    """Vectors that a device is still at: the next batch can be passed to it already.

    Attributes:
        result: waits for them; called once, by another thread than the one that has begun them.
    """

    result: Callable[[], NDArray[np.float32]]


def settled(made: Any) -> Any:
    """Vectors, once they are there."""
    return made.result() if isinstance(made, Underway) else made


@runtime_checkable
class StagedEmbedder(Protocol):
    """An embedder that opens items apart from its model, so that both can be done side by side.

    ``prepare`` is called by several threads, ``collate`` by one, ``encode`` by one; ``embed`` is all of it.
    """

    @property
    def max_batch(self) -> int:
        """Most items of one batch."""

    @property
    def max_weight(self) -> int | None:
        """Most weight of one batch, padded: its items times the longest; None for no limit."""

    @property
    def threads(self) -> int:
        """How many open items at the same time."""

    def prepare(self, items: Sequence[Any]) -> list[Prepared | Exception]:
        """Open items, in order; an ``EmbedError`` in the place of one that can't be.

        Raises:
            ConfigError: none of them ever could.
        """

    def collate(self, batch: Sequence[Prepared]) -> Any:
        """A batch of one kind, put together and on its way to the device."""

    def encode(self, kind: int, batch: Any) -> NDArray[np.float32] | Sequence[Any] | Underway:
        """The vectors of what :meth:`collate` has made, in order."""


@runtime_checkable
class OpensImages(Protocol):
    """An embedder that finds the bytes of an image, by its own settings."""

    def source_of(self, item: Any) -> tuple[Path | BytesIO, str]:
        """The file or the bytes that an item names, and the name for it.

        Raises:
            EmbedError: it is outside what may be read, missing, or too large.
            ConfigError: none of them could ever be read.
        """


@runtime_checkable
class Releasable(Protocol):
    """An embedder that can do without its model for a while."""

    def release(self) -> None:
        """Release the memory of the model; the next use loads it again.

        Loading may raise a ``DriftError`` then: it has become another model.
        """
