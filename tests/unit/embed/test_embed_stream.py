"""Batches of an embedder: order, doubles, failures as values, and the check of every vector."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest

from qmigrate.embed.stream import Failure, embed_all
from qmigrate.engine.prove.proof import lowest_cosine
from qmigrate.errors import EmbedError, UnavailableError
from qmigrate.model.schema import JsonObject


class Fake:
    """An embedder whose answer a test chooses; it remembers its batches."""

    size = None

    def __init__(self, answer: Callable[[Sequence[Any]], Any], max_batch: int = 4) -> None:
        self.answer = answer
        self.max_batch = max_batch
        self.batches: list[list[Any]] = []

    def fingerprint(self) -> JsonObject:
        return {"type": "fake"}

    def embed(self, items: Sequence[Any]) -> Any:
        self.batches.append(list(items))
        return self.answer(items)


def lengths(items: Sequence[str]) -> Any:
    """One row per text: its length and a one; texts with "bad" in them are refused."""
    for item in items:
        if "bad" in item:
            raise EmbedError(f"{item!r} is bad")
    return np.array([[len(item), 1] for item in items], dtype=np.float32)


def test_vectors_come_in_the_order_of_the_items() -> None:
    """Batches never exceed max_batch, and their vectors are put together in order."""
    fake = Fake(lengths, max_batch=4)
    items = ["x" * number for number in range(1, 11)]
    made = embed_all(fake, items, size=2)
    assert [vector[0] for vector in made] == list(range(1, 11))
    assert [len(batch) for batch in fake.batches] == [4, 4, 2]


def test_no_items_make_no_call() -> None:
    """An empty page costs nothing."""
    fake = Fake(lengths)
    assert embed_all(fake, [], size=2) == []
    assert fake.batches == []


def test_equal_texts_are_embedded_once() -> None:
    """Doubles share one embedding, also when it fails; text and bytes of the same letters are not doubles."""
    fake = Fake(lambda items: [[len(items), 1.0]] * len(items), max_batch=100)
    made = embed_all(fake, ["a", "b", "a", b"a", "b"], size=2)
    assert fake.batches == [["a", "b", b"a"]]
    assert len(made) == 5
    failed = embed_all(Fake(lengths), ["ok", "bad", "bad"], size=2)
    assert [result.index for result in failed if isinstance(result, Failure)] == [1, 2]


def test_items_that_have_no_hash_are_embedded() -> None:
    """Objects that can't be compared cheaply, such as points, go in one by one."""
    fake = Fake(lambda items: [[1.0, float(item["n"])] for item in items])
    made = embed_all(fake, [{"n": 1}, {"n": 1}], size=2)
    assert [vector.tolist() for vector in made] == [[1.0, 1.0], [1.0, 1.0]]


@pytest.mark.parametrize("bad", [[0], [7], [3, 4], [0, 1, 2, 3, 4, 5, 6, 7]])
def test_a_refused_batch_is_narrowed_down(bad: list[int]) -> None:
    """Only the items that are at fault become failures, with the embedder's own words."""
    items = [f"bad {number}" if number in bad else f"good {number}" for number in range(8)]
    made = embed_all(Fake(lengths, max_batch=8), items, size=2)
    failures = [result for result in made if isinstance(result, Failure)]
    assert [(failure.index, failure.stage) for failure in failures] == [(number, "embed") for number in bad]
    assert all(items[failure.index] in failure.message for failure in failures)
    assert [position for position, result in enumerate(made) if not isinstance(result, Failure)] == [
        number for number in range(8) if number not in bad
    ]


def test_an_outage_is_no_failure_of_an_item() -> None:
    """Whatever is not an EmbedError passes through: the run stops, no point is blamed."""

    def down(items: Sequence[Any]) -> Any:
        raise UnavailableError("the model server is down")

    fake = Fake(down)
    with pytest.raises(UnavailableError):
        embed_all(fake, ["a", "b"], size=2)
    assert len(fake.batches) == 1


def test_a_wrong_number_of_vectors_stops() -> None:
    """Vectors that can't be assigned to items are never guessed at."""
    with pytest.raises(EmbedError, match="1 vector for 2 items"):
        embed_all(Fake(lambda items: [[1.0, 2.0]]), ["a", "b"], size=2)


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ([1.0, 2.0, 3.0], "has 3 values instead of 2"),
        ([1.0, float("nan")], "not finite"),
        ([1.0, float("inf")], "not finite"),
        ([1.0, 1e300], "not finite"),
        ([0.0, 0.0], "all zeros"),
        ([], "is empty"),
        (["a", "b"], "not a list of numbers"),
        (None, "dimensions"),
        (1.0, "dimensions"),
        ([[1.0, 2.0], [3.0]], "rows of one length"),
        ([[1.0, 2.0, 3.0]], "has 3 values instead of 2"),
        ([[[1.0, 2.0]]], "3 dimensions"),
        ({"indices": [1, 2], "values": [1.0]}, "2 indices but 1 values"),
        ({"indices": [1, 1], "values": [1.0, 2.0]}, "an index twice"),
        ({"indices": [-1], "values": [1.0]}, "index outside"),
        ({"indices": [1], "values": [float("nan")]}, "not finite"),
        ({"index": [1], "values": [1.0]}, "without exactly"),
        ({"indices": ["x"], "values": [1.0]}, "not numbers"),
        ({"indices": [1.7, 2], "values": [1.0, 1.0]}, "the index 1.7, which is not a whole number"),
        ({"indices": ["3"], "values": [1.0]}, "the index '3', which is not a whole number"),
        ({"indices": [True], "values": [1.0]}, "the index True, which is not a whole number"),
        ({"indices": [float("inf")], "values": [1.0]}, "not numbers"),
        ({"indices": [1], "values": [1e39]}, "not finite"),
    ],
)
def test_every_vector_is_checked(value: Any, said: str) -> None:
    """A vector that can't be stored becomes a failure of its item; its neighbours keep theirs."""
    made = embed_all(Fake(lambda items: [[1.0, 2.0], value, [3.0, 4.0]]), ["a", "b", "c"], size=2)
    assert isinstance(made[1], Failure)
    assert (made[1].index, made[1].stage) == (1, "check")
    assert said in made[1].message
    assert [made[0].tolist(), made[2].tolist()] == [[1.0, 2.0], [3.0, 4.0]]


def test_rows_of_an_array_are_checked_like_lists() -> None:
    """The fast way for arrays finds what the slow way finds."""
    rows = np.array([[1, 2], [np.nan, 1], [0, 0], [np.inf, 1], [3, 4]], dtype=np.float32)
    made = embed_all(Fake(lambda items: rows, max_batch=5), list("abcde"), size=2)
    assert [isinstance(result, Failure) for result in made] == [False, True, True, True, False]
    wide = embed_all(Fake(lambda items: rows[:1]), ["a"], size=3)
    assert isinstance(wide[0], Failure)
    assert "has 2 values instead of 3" in wide[0].message


class Sparse:
    """A sparse vector as libraries have it: an object with two arrays."""

    indices = np.array([3, 1], dtype=np.int64)
    values = np.array([0.5, 2.0], dtype=np.float32)


@pytest.mark.parametrize(
    ("value", "size", "wanted"),
    [
        ([1, 2], 2, [1.0, 2.0]),
        (np.array([1, 2], dtype=np.float64), None, [1.0, 2.0]),
        ([[1, 2], [3, 4], [5, 6]], 2, [[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]),
        ({"indices": [5, 2], "values": [1, 2]}, None, {"indices": [5, 2], "values": [1.0, 2.0]}),
        (Sparse(), None, {"indices": [3, 1], "values": [0.5, 2.0]}),
    ],
)
def test_all_kinds_of_vectors_pass(value: Any, size: int | None, wanted: Any) -> None:
    """Dense, multi- and sparse vectors come out in one form each, float32 where they are arrays."""
    (made,) = embed_all(Fake(lambda items: [value]), ["a"], size=size)
    if isinstance(made, np.ndarray):
        assert made.dtype == np.float32
        made = made.tolist()
    assert made == wanted


@pytest.mark.parametrize(
    ("one", "other", "cosine"),
    [
        ([1.0, 0.0], np.array([2.0, 0.0]), 1.0),
        ([1.0, 0.0], [0.0, 1.0], 0.0),
        ([1.0, 0.0], [-3.0, 0.0], -1.0),
        ([1.0, 1.0], [1.0, 0.0], 2**-0.5),
        ([0.0, 0.0], [0.0, 0.0], 1.0),
        ([0.0, 0.0], [1.0, 0.0], 0.0),
        ([1.0], [1.0, 0.0], -1.0),
        ([[1.0, 0.0], [0.0, 1.0]], [[2.0, 0.0], [0.0, 3.0]], 1.0),
        ([[1.0, 0.0], [0.0, 1.0]], [[2.0, 0.0], [3.0, 0.0]], 0.0),
        ([[1.0, 0.0]], [[1.0, 0.0], [1.0, 0.0]], -1.0),
        ({"indices": [1, 5], "values": [1.0, 2.0]}, {"indices": [5, 1], "values": [2.0, 1.0]}, 1.0),
        ({"indices": [1], "values": [1.0]}, {"indices": [2], "values": [1.0]}, 0.0),
        ({"indices": [], "values": []}, {"indices": [], "values": []}, 1.0),
        ({"indices": [1], "values": [1.0]}, [1.0], -1.0),
    ],
)
def test_cosine_of_pairs(one: Any, other: Any, cosine: float) -> None:
    """Every kind of vector is compared with its own; what can't be compared never looks near."""
    assert lowest_cosine(one, other) == pytest.approx(cosine, abs=1e-6)
