"""The pipeline: every item its vector whatever the order, bounds that hold, and an end that leaves no thread."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest

import qmigrate.embed.pipeline as pipeline_module
from qmigrate.embed.inputs import ImageName
from qmigrate.embed.pipeline import Pipeline
from qmigrate.embed.staged import Prepared, StagedEmbedder, Underway
from qmigrate.embed.stream import TOO_LARGE, Failure, embed_all
from qmigrate.engine.points.streams import limit, shown
from qmigrate.errors import ConfigError, EmbedError, StoppedError


class OutOfMemoryError(RuntimeError):
    """As torch has it."""


def nothing() -> None:
    """A tick that asks for nothing."""


class Staged:
    """Opens texts and names of images; the model's answer is their length. It remembers its batches."""

    size = 2
    max_weight: int | None = None
    threads = 3

    def __init__(self, max_batch: int = 8, bytes_each: int = 10) -> None:
        self.max_batch = max_batch
        self.bytes_each = bytes_each
        self.batches: list[list[str]] = []
        self.opened: list[str] = []
        self.model: Callable[[list[str]], None] = lambda batch: None

    def fingerprint(self) -> dict[str, Any]:
        return {"type": "fake"}

    def embed(self, items: Sequence[Any]) -> Any:
        return self.encode(0, [str(item) for item in items])

    def prepare(self, items: Sequence[Any]) -> list[Any]:
        self.opened += map(str, items)
        return [self._one(item) for item in items]

    def _one(self, item: Any) -> Any:
        if "missing" in item:
            return EmbedError(f"{item} is not there")
        if "misconfigured" in item:
            raise ConfigError("the folder is not there")
        kind = int(isinstance(item, ImageName))
        return Prepared(str(item), kind, 1 if kind else len(item), self.bytes_each)

    def collate(self, batch: Sequence[Prepared]) -> list[str]:
        assert len({one.kind for one in batch}) == 1
        return [one.value for one in batch]

    def encode(self, kind: int, batch: list[str]) -> Any:
        self.batches.append(batch)
        self.model(batch)
        return np.array([[np.nan if "nan" in text else len(text), 1] for text in batch], dtype=np.float32)


def threads() -> set[str]:
    """Names of the pipeline's threads that live."""
    return {thread.name for thread in threading.enumerate() if thread.name.startswith("embed ")}


def texts(count: int) -> list[Any]:
    """Texts of many lengths, images among them, some doubles, some that fail."""
    made: list[Any] = ["x" * (1 + number * 37 % 101) + str(number) for number in range(count)]
    made[3::7] = [ImageName(f"{number}.jpg") for number in range(len(made[3::7]))]
    made[5::11] = ["the same"] * len(made[5::11])
    made[6::13] = [f"missing {number}" for number in range(len(made[6::13]))]
    made[8::17] = [f"nan {number}" for number in range(len(made[8::17]))]
    return made


def test_every_item_gets_its_vector_whatever_the_order() -> None:
    """Several threads, several kinds, doubles and failures: the same as one after the other."""
    embedder, items = Staged(), texts(600)
    assert isinstance(embedder, StagedEmbedder)
    wanted = {text: len(text) for text in items}
    results: dict[int, list[Any]] = {}
    with Pipeline(embedder, 2, items=64) as pipeline:

        def work(number: int) -> None:
            mine = items[number::4]
            tickets = [pipeline.submit(mine[start : start + 30], nothing) for start in range(0, len(mine), 30)]
            results[number] = [one for ticket in tickets for one in ticket.result(nothing)]

        workers = [threading.Thread(target=work, args=(number,)) for number in range(4)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        assert pipeline.peak_items <= 64
        assert set(pipeline.shares()) == {"decode", "build", "model"}
        assert all(0 <= share <= 1 for share in pipeline.shares().values())
    assert threads() == set()
    for number, made in results.items():
        for place, (item, one) in enumerate(zip(items[number::4], made, strict=True)):
            if "missing" in item or "nan" in item:
                assert isinstance(one, Failure)
                assert (one.index % 30, one.stage) == (place % 30, "read" if "missing" in item else "check")
            else:
                assert one.tolist() == [wanted[item], 1]
    assert max(map(len, embedder.batches)) <= 8


def test_equal_items_are_embedded_once_per_window() -> None:
    """Whether they are still under way or were lately; a text and an image of that name are not equal."""
    embedder, items = Staged(), ["a", "b", "a", ImageName("a"), "b", "missing", "missing"]
    with Pipeline(embedder, 2, items=8) as pipeline:
        made = pipeline.submit(items, nothing).result(nothing)
        again = pipeline.submit(["a", "missing"], nothing).result(nothing)
    assert sorted(embedder.opened) == ["a", "a", "b", "missing"]
    assert [one.index if isinstance(one, Failure) else one.tolist() for one in made] == [[1, 1]] * 5 + [5, 6]
    assert [one.index if isinstance(one, Failure) else one.tolist() for one in again] == [[1, 1], 1]


def test_what_is_kept_for_equal_items_is_bounded_in_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows of late interaction are large: only as many are kept as fit, the latest ones."""

    class Rows:
        size, max_batch = 4, 4

        def __init__(self) -> None:
            self.asked: list[str] = []

        def fingerprint(self) -> dict[str, Any]:
            return {"type": "rows"}

        def embed(self, items: Sequence[Any]) -> Any:
            self.asked += items
            return [np.ones((16, 4), dtype=np.float32) for _ in items]

    monkeypatch.setattr(pipeline_module, "KEPT_BYTES", 3 * 16 * 4 * 4)
    embedder = Rows()
    with Pipeline(embedder, 4) as pipeline:
        for text in ["a", "b", "c", "d", "d", "c", "b", "a"]:
            assert pipeline.submit([text], nothing).result(nothing)[0].shape == (16, 4)
    assert embedder.asked == ["a", "b", "c", "d", "a"]


def test_too_much_under_way_waits() -> None:
    """While the model stands still, no more is opened than may be held, and no more taken than may be under way."""
    embedder, go, items = Staged(bytes_each=100), threading.Event(), [f"text {number}" for number in range(400)]
    embedder.model = lambda batch: bool(go.wait(60))
    with Pipeline(embedder, 2, items=100, held=1000) as pipeline:
        waited = []

        def tick() -> None:
            waited.append(pipeline.peak_items)
            if len(waited) == 3:
                go.set()

        ticket = pipeline.submit(items, tick)
        assert [one[0] for one in ticket.result(nothing)] == [len(item) for item in items]
        assert waited[:3] == [100, 100, 100]
        # One portion per thread may be open already when the limit is reached.
        assert pipeline.peak_bytes <= 1000 + 3 * 32 * 100


def stop() -> None:
    """A tick that has got a signal."""
    raise StoppedError("stopped", signal_number=15)


@pytest.mark.parametrize(
    ("item", "tick", "error"),
    [("misconfigured", nothing, ConfigError), ("broken", nothing, ZeroDivisionError), ("endless", stop, StoppedError)],
)
def test_an_end_leaves_no_thread(item: str, tick: Callable[[], None], error: type[Exception]) -> None:
    """A stage that breaks, or a stop while a thread waits: it is raised where one waits, and every thread ends."""
    embedder, go = Staged(), threading.Event()

    def model(batch: list[str]) -> None:
        if "broken" in batch:
            raise ZeroDivisionError
        if "endless" in batch:
            go.wait(60)

    embedder.model = model
    with pytest.raises(error):
        fill(embedder, item, tick, go)
    assert threads() == set()


def fill(embedder: Staged, item: str, tick: Callable[[], None], go: threading.Event) -> None:
    """Two submissions, the second of which has to wait for the first."""
    with Pipeline(embedder, 2, items=20) as pipeline:
        try:
            pipeline.submit([*(f"text {number}" for number in range(10)), item], tick).result(tick)
            pipeline.submit([f"later {number}" for number in range(50)], tick).result(tick)
        finally:
            go.set()


@pytest.mark.parametrize(
    "error",
    [OutOfMemoryError("CUDA out of memory"), RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory"), MemoryError()],
    ids=["torch", "cpu", "python"],
)
def test_a_batch_that_does_not_fit_is_halved_for_good(error: Exception) -> None:
    """The device's memory holds three items: batches shrink to two and stay so; one that fits nowhere is a failure."""
    embedder = Staged(max_batch=16)

    def model(batch: list[str]) -> None:
        if len(batch) > 3 or "huge" in batch:
            raise error

    embedder.model = model
    with Pipeline(embedder, 2) as pipeline:
        first = pipeline.submit([f"{number:02}" for number in range(16)], nothing).result(nothing)
        assert [one.tolist() for one in first] == [[2, 1]] * 16
        embedder.batches.clear()
        second = pipeline.submit([ImageName(f"{number:03}") for number in range(10)], nothing).result(nothing)
        assert [one.tolist() for one in second] == [[3, 1]] * 10
        assert max(map(len, embedder.batches)) == 2
        third = pipeline.submit(["huge", "small"], nothing).result(nothing)
    assert isinstance(third[0], Failure)
    assert third[0].message == TOO_LARGE
    assert third[1].tolist() == [5, 1]
    embedder.batches.clear()
    together = embed_all(embedder, ["huge", *(f"{number:02}" for number in range(15))], size=2)
    assert [isinstance(one, Failure) for one in together] == [True, *[False] * 15]


def test_a_device_has_the_next_batch_while_it_is_at_one() -> None:
    """Two batches are handed over at most; one that doesn't fit is halved between them, and every item has its vector."""
    go, launched, waiting = threading.Event(), [], []

    class Device(Staged):
        def encode(self, kind: int, batch: list[str]) -> Any:
            if len(batch) > 2 and "large" in batch:
                raise OutOfMemoryError("CUDA out of memory")
            made = super().encode(kind, batch)
            launched.append(batch)

            def result() -> Any:
                waiting.append(batch)
                assert go.wait(60)
                return made

            return Underway(result)

    items = [*(f"{number:02}" for number in range(24)), "large", *(f"{number:03}" for number in range(7))]
    seen: list[int] = []

    def tick() -> None:
        # The first is waited for, the second is behind it; a few checks show that there is no third.
        seen.extend([len(launched)] * bool(waiting and len(launched) > 1))
        if len(seen) == 3:
            go.set()

    with Pipeline(Device(max_batch=8), 2) as pipeline:
        made = pipeline.submit(items, tick).result(tick)
        assert pipeline.shares()["model"] <= 1
    assert seen[:3] == [2, 2, 2]
    assert [one[0] for one in made] == [len(item) for item in items]
    assert [len(batch) <= 2 for batch in launched if "large" in batch] == [True]


def test_texts_are_sorted_and_cut_by_their_length() -> None:
    """Batches are of about one length, and padded they hold no more than the budget."""
    embedder = Staged(max_batch=32)
    embedder.max_weight = 200
    items = ["x" * (1 + number * 13 % 90) + f"{number:03}" for number in range(300)]
    go = threading.Event()
    embedder.model = lambda batch: bool(go.wait(60))
    with Pipeline(embedder, 2) as pipeline:
        ticket = pipeline.submit(items, nothing)
        go.set()
        ticket.result(nothing)
    padded = [len(batch) * max(map(len, batch)) for batch in embedder.batches]
    assert all(len(batch) == 1 or size <= 200 for batch, size in zip(embedder.batches, padded, strict=True))
    assert sum(padded) < 1.25 * sum(map(len, items))


def test_an_idle_device_waits_for_no_window_of_texts() -> None:
    """What is open goes to it, while most texts of the window are still being opened."""
    begun = threading.Event()

    class Slow(Staged):
        def _one(self, item: Any) -> Any:
            assert int(item[-3:]) < 100 or begun.wait(60)
            return super()._one(item)

    embedder, items = Slow(), ["x" * (number * 13 % 90) + f"{number:03}" for number in range(300)]
    embedder.model = lambda batch: begun.set()
    with Pipeline(embedder, 2) as pipeline:
        made = pipeline.submit(items, nothing).result(nothing)
    assert [one[0] for one in made] == [len(item) for item in items]


def test_an_embedder_of_one_piece_needs_no_threads_for_opening() -> None:
    """It gets its items as they are, in its own batches."""
    sizes: list[int] = []

    class Plain:
        size, max_batch = 2, 4

        def fingerprint(self) -> dict[str, Any]:
            return {}

        def embed(self, items: Sequence[Any]) -> list[Any]:
            assert len(items) <= 4
            sizes.append(len(items))
            return [EmbedError("no") if item == b"bad" else [1.0, len(item)] for item in items]

    with Pipeline(Plain(), 2) as pipeline:
        made = pipeline.submit([b"a", b"bad", b"abc"], nothing).result(nothing)
        assert set(pipeline.shares()) == {"build", "model"}
        sizes.clear()
        more = pipeline.submit([bytes([number]) for number in range(16)], nothing).result(nothing)
    assert [one if isinstance(one, Failure) else one.tolist() for one in made] == [[1, 1], Failure(1, "embed", "no"), [1, 3]]
    # The first of many doesn't go alone.
    assert (len(more), sizes) == (16, [4, 4, 4, 4])


def test_the_busiest_stage_is_named() -> None:
    """The line that people read: shares in the order of the work, and what everything else waits for."""
    shares = {"read": 0.031, "decode": 0.928, "build": 0.001, "model": 0.4, "write": 0.1}
    assert shown(shares) == "read 3 %, decode 93 %, model 40 %, write 10 %, limited by: decode"
    assert (limit(shares), limit({})) == ("decode", "")
