"""Which points were written since an earlier look, by the numbers of their operations. It reads no content.

What vouches for what:

* A listing is taken **before** the contents are read that it vouches for: a write in between shows in the next one.
* What differs between two listings is a *candidate*. A point that isn't listed isn't gone: it is asked for by its id.
* A point that has not the vector by which is listed is in no listing, and is read each time.
* Numbers are compared only where the shards stayed where they were: a shard that moves gets new ones, and two of them
  may be equal although the point was written in between.
"""

from __future__ import annotations

import os
import random
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import IO, Any, Self

import numpy as np
from numpy.typing import NDArray

from qmigrate import scratch
from qmigrate.engine.barriers import barrier
from qmigrate.engine.epoch_aliases import reach
from qmigrate.engine.work import Work
from qmigrate.errors import NoVersionsError
from qmigrate.model.ids import NUMBERS, Page, as_page, cuts, packed, points_of, without
from qmigrate.model.transform import PointId
from qmigrate.ports import OperationIds, Placement, Store, VersionPage

#: Points that a table holds in memory, in 16 or 24 bytes each; beyond, they are in a file.
IN_MEMORY = 1_000_000
#: Points that are read from a file at once.
BLOCK = 50_000
#: An entry of a point whose id is a number, and of one whose id is a UUID, as its bytes.
_OF_NUMBER = np.dtype([("id", NUMBERS), ("number", NUMBERS)])
_OF_UUID = np.dtype([("id", "S16"), ("number", NUMBERS)])
#: Numbers come before UUIDs, as in Qdrant's order.
_KINDS = (_OF_NUMBER, _OF_UUID)
#: Stands for a number that isn't known: it equals none, itself included.
_UNKNOWN = np.uint64(2**64 - 1)
#: State of a replica that takes part.
ACTIVE = "Active"

Entries = NDArray[Any]


@dataclass(frozen=True, slots=True)
class Circumstances:
    """What must be alike for two listings to be compared.

    Attributes:
        placement: where the shards were.
        operations: operation ids behind the barrier; empty where they are unknown.
    """

    placement: Placement
    operations: OperationIds

    def check_follows(self, earlier: Circumstances) -> None:
        """Numbers of both can be compared.

        Raises:
            NoVersionsError: shards have moved in between, or have counted from an earlier number on.
        """
        if self.placement != earlier.placement:
            raise NoVersionsError("shards were moved while points were compared by their versions")
        now, before = self.operations, earlier.operations
        if now.keys() != before.keys() or any(now[shard] < before[shard] for shard in now):
            raise NoVersionsError("a shard has counted its operations from an earlier number on")


@dataclass(frozen=True, slots=True)
class _Run:
    """`count` entries in order, each id once: in memory, or in the file from `offset` on."""

    kind: np.dtype[Any]
    count: int
    entries: Entries | None = None
    offset: int = 0


class VersionTable:
    """One listing of a collection, in the order of the ids. It is closed at the end, or with its block.

    Args:
        circumstances: under which it was taken.
        most: points in memory; beyond, they are in a file without a name.
    """

    def __init__(self, circumstances: Circumstances | None = None, *, most: int = IN_MEMORY) -> None:
        self.circumstances = circumstances or Circumstances(Placement(), {})
        self._most = most
        self._block = min(BLOCK, most)
        self._parts: dict[np.dtype[Any], list[Entries]] = {kind: [] for kind in _KINDS}
        self._held = 0
        self._runs: list[_Run] = []
        self._stack = ExitStack()
        self._file: IO[bytes] | None = None
        self._size = 0
        self._turn = threading.Lock()

    def __enter__(self) -> Self:
        """Nothing to do."""
        return self

    def __exit__(self, *_error: object) -> None:
        """Close it."""
        self.close()

    def close(self) -> None:
        """Give back its memory and its file; may be repeated."""
        self._stack.close()
        self._file, self._runs, self._held = None, [], 0
        self._parts = {kind: [] for kind in _KINDS}

    def add(self, page: VersionPage) -> None:
        """Points that were listed, in any order.

        One that is listed twice with different numbers counts as written.

        Raises:
            UnavailableError: there is no room for the file.
        """
        if not len(page.ids):
            return
        kind = _OF_NUMBER if page.ids.dtype == NUMBERS else _OF_UUID
        entries = np.empty(len(page.ids), kind)
        entries["id"] = page.ids if kind is _OF_NUMBER else packed(page.ids)
        entries["number"] = page.numbers
        self._parts[kind].append(entries)
        self._held += len(entries)
        if self._held >= self._most:
            self._settle(spill=True)

    def pages(self) -> Iterator[VersionPage]:
        """Every point, in the order of the ids; the number of one that was listed with several is 2^64 - 1."""
        for kind in _KINDS:
            for entries in self._merged(kind):
                yield VersionPage(as_page(entries["id"]), entries["number"])

    def sample(self, most: int) -> dict[PointId, int]:
        """The numbers of some points, picked at random; all of them where there are no more."""
        count = sum(len(page.ids) for page in self.pages())
        wanted = np.array(sorted(random.sample(range(count), min(most, count))), np.int64)
        found: dict[PointId, int] = {}
        passed = 0
        for page in self.pages():
            first, behind = np.searchsorted(wanted, (passed, passed + len(page.ids)))
            places = wanted[first:behind] - passed
            found.update(zip(points_of(page.ids[places]), page.numbers[places].tolist(), strict=True))
            passed += len(page.ids)
        return found

    def changed_since(self, earlier: VersionTable) -> Iterator[Page]:
        """Ids that are new, have another number, or are not listed any more: candidates, in the order of the ids.

        The caller reads them by their ids: one that is not listed may be there, as it was.

        Raises:
            NoVersionsError: the two can't be compared.
        """
        self.circumstances.check_follows(earlier.circumstances)
        for kind in _KINDS:
            for found in _differing(self._merged(kind), earlier._merged(kind)):
                if len(found):
                    yield as_page(found)

    def unlisted(self, ids: Iterable[Page]) -> Iterator[Page]:
        """Those of these ids, which are ascending, that are not in the listing: they have no number to go by."""
        unlisted = Unlisted(self)
        for page in ids:
            found = unlisted.of(page)
            if len(found):
                yield found

    def _settle(self, *, spill: bool) -> None:
        """What was added last becomes a run of each kind."""
        for kind, parts in self._parts.items():
            if parts:
                entries = _ordered(parts)
                self._runs.append(self._written(entries) if spill else _Run(kind, len(entries), entries))
                parts.clear()
        self._held = 0

    def _written(self, entries: Entries) -> _Run:
        if self._file is None:
            self._file = self._stack.enter_context(scratch.file())
        with self._turn, scratch.room():
            self._file.seek(self._size)
            self._file.write(entries.tobytes())
            self._file.flush()
        run = _Run(entries.dtype, len(entries), offset=self._size)
        self._size += entries.nbytes
        return run

    def _blocks(self, run: _Run) -> Iterator[Entries]:
        for start in range(0, run.count, self._block):
            count = min(self._block, run.count - start)
            yield self._read(run, start, count) if run.entries is None else run.entries[start : start + count]

    def _read(self, run: _Run, start: int, count: int) -> Entries:
        if self._file is None:
            raise ValueError("the table is closed")
        size = run.kind.itemsize
        with scratch.room():
            found = self._read_at(self._file, run.offset + start * size, count * size)
        return np.frombuffer(found, run.kind)

    def _read_at(self, file: IO[bytes], place: int, size: int) -> bytes:
        """Several may walk through the file at the same time."""
        if sys.platform == "win32":
            with self._turn:
                file.seek(place)
                return file.read(size)
        else:
            return os.pread(file.fileno(), size, place)

    def _merged(self, kind: np.dtype[Any]) -> Iterator[Entries]:
        """The entries of all runs in order, each id once; in memory for a block of each run."""
        self._settle(spill=False)
        readers = [self._blocks(run) for run in self._runs if run.kind == kind]
        heads = [(found, reader) for reader in readers if (found := next(reader, None)) is not None]
        while heads:
            border = min(found["id"][-1] for found, _ in heads)
            taken: list[Entries] = []
            left: list[tuple[Entries, Iterator[Entries]]] = []
            for found, reader in heads:
                upto = int(np.searchsorted(found["id"], border, "right"))
                taken.append(found[:upto])
                rest = found[upto:] if upto < len(found) else next(reader, None)
                if rest is not None:
                    left.append((rest, reader))
            heads = left
            yield taken[0] if len(taken) == 1 else _ordered(taken)


class Unlisted:
    """Which of some ids a listing lacks, page by page, in memory for a block of it: several may walk at one pace."""

    def __init__(self, table: VersionTable) -> None:
        self._pages = (page.ids for page in table.pages())
        self._head = next(self._pages, None)

    def of(self, page: Page) -> Page:
        """Those of a page that are not listed; pages come in ascending order."""
        lacking: list[Page] = []
        while len(page) and self._head is not None:
            upto, border = cuts(page, self._head)
            lacking.append(without(page[:upto], self._head[:border]) if upto else page[:0])
            page = page[upto:]
            self._head = self._head[border:] if border < len(self._head) else next(self._pages, None)
        lacking.append(page)
        return lacking[0] if len(lacking) == 1 else np.concatenate(lacking)


def listing(
    work: Work, name: str, vector: str, *, behind: OperationIds | None = None, most: int = IN_MEMORY
) -> VersionTable:
    """List the versions of a generation, behind a barrier: what was accepted before has its number by then.

    Args:
        name: physical.
        vector: by which is listed, see :func:`qmigrate.engine.prove.choice.choose`.
        behind: operation ids of a barrier that has just passed, behind which is listed; None for one of its own.
        most: points in memory.

    Returns:
        The table, to be closed.

    Raises:
        NoVersionsError: shards moved meanwhile, or the server doesn't list them: read contents instead.
    """
    reached = reach(work, name)

    def operations() -> OperationIds:
        return barrier(work.store, reached) if behind is None else behind

    return listed(work.store, reached, vector, operations, tick=work.tick, most=most)


def listed(
    store: Store,
    reached: str,
    vector: str,
    operations: Callable[[], OperationIds],
    *,
    tick: Callable[[], None],
    most: int = IN_MEMORY,
) -> VersionTable:
    """The same without a run.

    Args:
        reached: name by which requests get to the collection.
        operations: asked right before the listing, with the operation ids behind which is listed.
        tick: called for each page.

    Raises:
        NoVersionsError: as there.
    """
    placement = settled(store.placement(reached))
    table = VersionTable(Circumstances(placement, operations()), most=most)
    try:
        for page in store.versions(reached, vector):
            tick()
            table.add(page)
        if settled(store.placement(reached)) != placement:
            raise NoVersionsError("shards were moved while the versions of their points were listed")
    except BaseException:
        table.close()
        raise
    return table


def settled(placement: Placement) -> Placement:
    """The same, where numbers of operations mean something.

    Raises:
        NoVersionsError: shards move, or have several replicas, each of which counts its own operations.
    """
    if placement.moving:
        raise NoVersionsError(f"shards are being moved ({placement.moving[0]})")
    idle = [f"shard {shard} is {state}" for shard, _, state in placement.replicas if state != ACTIVE]
    if idle:
        raise NoVersionsError(f"{idle[0]}, so that the versions of its points can't be compared")
    if placement.most > 1:
        raise NoVersionsError("shards have several replicas, each of which counts its own operations")
    return placement


def _ordered(parts: Sequence[Entries]) -> Entries:
    """All entries in order, each id once: with its number, or with none where it has several."""
    whole = np.concatenate(parts)
    # Sorted by one field: numpy compares whole entries many times slower.
    entries = whole[np.argsort(whole["id"], kind="stable")]
    same = entries["id"][1:] == entries["id"][:-1]
    if not same.any():
        return entries
    firsts = np.flatnonzero(np.concatenate(([True], ~same)))
    lowest = np.minimum.reduceat(entries["number"], firsts)
    highest = np.maximum.reduceat(entries["number"], firsts)
    found = entries[firsts]
    found["number"] = np.where(lowest == highest, lowest, _UNKNOWN)
    return found


def _differing(now: Iterator[Entries], before: Iterator[Entries]) -> Iterator[Entries]:
    """Ids of one kind that differ between two streams, in memory for a block of each."""
    one, other = next(now, None), next(before, None)
    while one is not None and other is not None:
        border = min(one["id"][-1], other["id"][-1])
        upto = int(np.searchsorted(one["id"], border, "right"))
        cut = int(np.searchsorted(other["id"], border, "right"))
        yield _candidates(one[:upto], other[:cut])
        one = one[upto:] if upto < len(one) else next(now, None)
        other = other[cut:] if cut < len(other) else next(before, None)
    for left, stream in ((one, now), (other, before)):
        if left is not None:
            yield left["id"]
            yield from (entries["id"] for entries in stream)


def _candidates(now: Entries, before: Entries) -> Entries:
    if len(now) == len(before) and np.array_equal(now["id"], before["id"]):
        other: Entries = now["id"][(now["number"] != before["number"]) | (now["number"] == _UNKNOWN)]
        return other
    if not len(now) or not len(before):
        return np.concatenate((now["id"], before["id"]))
    places = np.minimum(np.searchsorted(before["id"], now["id"]), len(before) - 1)
    known = before["id"][places] == now["id"]
    as_before = known & (before["number"][places] == now["number"]) & (now["number"] != _UNKNOWN)
    return np.sort(np.concatenate((now["id"][~as_before], without(before["id"], now["id"]))))
