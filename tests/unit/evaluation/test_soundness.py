"""Planted faults of vectors are found with their points, and what is sound is not accused."""

import numpy as np
import pytest

from qmigrate.evaluation.soundness import Soundness


def seen(rows, payloads=None) -> Soundness:
    """What was seen of some rows, in two pages; by default each has a payload of its own."""
    rows = np.asarray(rows, dtype=np.float32)
    ids = list(range(1, len(rows) + 1))
    payloads = payloads or [str(one).encode() for one in ids]
    found, half = Soundness(), len(rows) // 2
    found.add(ids[:half], rows[:half], payloads[:half])
    found.add(ids[half:], rows[half:], payloads[half:])
    return found


def unit(rows):
    """Rows of length 1."""
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def model(seed: int, count: int, size: int = 64, topics: int = 1):
    """Vectors of one model: large in dimensions of its own, with a centre of its own, around some topics."""
    of_model, random = np.random.default_rng(seed), np.random.default_rng(seed + 1000)
    scale = of_model.lognormal(0, 0.6, size)
    centres = of_model.normal(0.6, 0.6, (topics, size)) + of_model.normal(0, 1.5, size)
    return unit((centres[random.integers(0, topics, count)] + random.normal(0, 1, (count, size))) * scale)


def test_faults_of_single_vectors():
    """Zero, not a number, infinite, and not of length 1 where most are."""
    rows = unit(np.random.default_rng(1).normal(size=(100, 8)))
    rows[3], rows[5, 0], rows[60, 2], rows[70] = 0, np.nan, np.inf, rows[70] * 2
    found = seen(rows)
    assert (found.zero.ids, found.not_a_number.ids, found.infinite.ids) == ([4], [6], [61])
    assert (found.off_the_rule.ids, found.units) == ([71], 96)
    assert found.lengths == (pytest.approx(1, abs=1e-5), pytest.approx(2, abs=1e-5))
    raw = seen(np.random.default_rng(1).normal(size=(100, 8)))
    assert raw.off_the_rule.points == 0


def test_copies_across_payloads():
    """Two points with one vector, as long as their payloads differ; each is named once."""
    rows = np.random.default_rng(1).normal(size=(20, 8))
    rows[7] = rows[2]
    rows[9] = rows[2]
    payloads = [str(one).encode() for one in range(20)]
    assert seen(rows, payloads).copies.ids == [3, 8, 10]
    same = payloads.copy()
    same[7] = same[9] = same[2]
    assert seen(rows, same).copies.points == 0


def test_constant_dimensions():
    """Of enough vectors only."""
    rows = np.random.default_rng(1).normal(size=(100, 8))
    rows[:, [1, 6]] = 0.25
    assert seen(rows).constant == (1, 6)
    assert seen(rows[:10]).constant == ()


@pytest.mark.parametrize("seed", range(5))
def test_two_models_are_suspected_and_one_is_not(seed):
    """Also few vectors of the second, and a model with several topics."""
    one, other = model(seed, 500), model(seed + 77, 60)
    mixed = seen(np.concatenate([one, other])).mixture()
    assert mixed is not None
    assert mixed.share == pytest.approx(60 / 560, abs=0.01)
    assert set(mixed.ids) <= set(range(501, 561))
    assert seen(one).mixture() is None
    assert seen(model(seed, 500, topics=5)).mixture() is None
    assert seen(unit(np.random.default_rng(seed).normal(size=(300, 64)))).mixture() is None


def test_a_second_model_that_came_late_is_seen():
    """Of more vectors than are kept to compare, those that come last have the chance of the first."""
    rows = np.concatenate([model(3, 2600), model(80, 150)])
    found = seen(rows).mixture()
    assert found is not None
    assert found.share == pytest.approx(150 / 2750, abs=0.02)
    assert set(found.ids) <= set(range(2601, 2751))


def test_rows_and_words():
    """A multivector has the fault of any of its rows, a sparse vector that of its values; none is judged by its length."""
    found = Soundness()
    fine, odd = [[1.0, 2.0], [3.0, 4.0]], [[1.0, 2.0], [0.0, 0.0]]
    found.add_others([1, 2, 3, 4, 5, 6], [np.asarray(one, dtype=np.float32) for one in (fine, odd, [], [1.0, np.nan], [np.inf], [2.0])])
    assert (found.zero.ids, found.not_a_number.ids, found.infinite.ids) == ([2, 3], [4], [5])
    assert (found.vectors, found.off_the_rule.points, found.constant, found.mixture()) == (6, 0, (), None)
