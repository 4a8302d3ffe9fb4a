"""What the pipeline's threads do to items, by the kind of embedder; and how batches are cut. It has no thread."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from qmigrate.embed.inputs import ImageName
from qmigrate.embed.memory import out_of_memory
from qmigrate.embed.staged import Prepared, StagedEmbedder
from qmigrate.ports import Embedder

#: Texts that one thread takes at a time: a call of a tokenizer has its price.
TEXTS_AT_ONCE = 32
#: Batches whose items are sorted by length together.
WINDOW = 50


@dataclass(slots=True)
class Job:
    """One input on its way; equal inputs are one job.

    Attributes:
        key: equal for equal inputs; None for one that nothing is equal to.
        places: who waits for it: a ticket, and the place in it.
    """

    item: Any
    key: Any
    places: list[tuple[Any, int]]
    prepared: Prepared | None = None


@dataclass(frozen=True, slots=True)
class Batch:
    """Jobs of one kind; `collated` is None where they could not be put together."""

    jobs: Sequence[Job]
    collated: Any


class Stages:
    """The steps of one embedder; one that isn't staged has a model only."""

    def __init__(self, embedder: Embedder) -> None:
        self._embedder = embedder
        self._staged = embedder if isinstance(embedder, StagedEmbedder) else None

    @property
    def threads(self) -> int:
        """How many open items; 0 where the model doesn't show it."""
        return self._staged.threads if self._staged is not None else 0

    @property
    def most_weight(self) -> int | None:
        """Of one batch; None for no limit."""
        return self._staged.max_weight if self._staged is not None else None

    @property
    def names(self) -> tuple[str, ...]:
        """The stages whose time is counted."""
        return ("decode", "build", "model") if self.threads else ("build", "model")

    def width(self, name: str) -> int:
        """Threads of a stage."""
        return self.threads if name == "decode" else 1

    def portion(self, first: Any, there: int) -> int:
        """How many items a thread takes: texts by the dozen, as long as the others have some; images one by one."""
        if isinstance(first, ImageName) or not isinstance(first, str):
            return 1
        return max(1, min(TEXTS_AT_ONCE, there // max(self.threads, 1)))

    def window(self, ready: Sequence[Job], cap: int, most: int) -> int:
        """How many items are worth waiting for: a batch, or many where lengths differ, `most` of them."""
        uneven = any(job.prepared is not None and job.prepared.weight > 1 for job in ready[:1])
        return max(cap, min(cap * WINDOW, most)) if uneven else cap

    def as_it_is(self, item: Any) -> Prepared:
        """An item of an embedder that opens by itself."""
        return Prepared(item, 0, 1, len(item) if isinstance(item, str | bytes) else 0)

    def prepared(self, items: Sequence[Any]) -> list[Any]:
        """Items, opened."""
        assert self._staged is not None  # noqa: S101  only its threads come here
        return self._staged.prepare(items)

    def collated(self, jobs: Sequence[Job]) -> Any:
        """A batch, put together."""
        values = [job.prepared for job in jobs if job.prepared is not None]
        return self._staged.collate(values) if self._staged is not None else [one.value for one in values]

    def is_short(self, error: BaseException) -> bool:
        """Whether memory was too short for a batch."""
        return out_of_memory(error)

    def encoded(self, batch: Batch, part: Sequence[Job]) -> Any:
        """The vectors of a batch, or of a part of it, which is put together again."""
        whole = len(part) == len(batch.jobs) and batch.collated is not None
        collated = batch.collated if whole else self.collated(part)
        if self._staged is None:
            return self._embedder.embed(collated)
        first = part[0].prepared
        return self._staged.encode(first.kind if first is not None else 0, collated)


def chosen(
    ready: Sequence[Job], most: int, weight: int | None, *, keep: bool
) -> tuple[list[list[Job]], list[Job]]:
    """Batches of one kind and about one length, and what is left.

    Args:
        most: items of one batch.
        weight: of one batch, padded to its longest; None for no limit.
        keep: leave a batch that is not full for what still comes.
    """
    def order(job: Job) -> tuple[int, int]:
        return (job.prepared.kind, job.prepared.weight) if job.prepared is not None else (0, 0)

    groups: list[list[Job]] = []
    for job in sorted(ready, key=order):
        kind, length = order(job)
        last = groups[-1] if groups else None
        fits = last is not None and len(last) < most and order(last[0])[0] == kind
        # Ascending, so this one is what the batch would be padded to.
        if last is not None and fits and (weight is None or (len(last) + 1) * length <= weight):
            last.append(job)
        else:
            groups.append([job])
    rest: list[Job] = []
    if keep and len(groups) > 1 and len(groups[-1]) < most:
        rest = groups.pop()
    return groups, rest
