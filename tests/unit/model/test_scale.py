"""The rule that makes uint8 numbers of others: what it keeps, what it loses, and where it makes no sense."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qmigrate import Scale
from qmigrate.errors import PlanError
from qmigrate.model.transform import PointTransform
from qmigrate.store import records


def test_ends_and_middle():
    """The ends are 0 and 255, what is between is rounded, and the way back is within half a step."""
    scale = Scale(-1, 1)
    kept = scale.apply([-1.0, 1.0, 0.5, 1.02])
    assert kept.tolist() == [0, 255, 191, 258]
    assert np.abs(scale.undo(kept) - [-1.0, 1.0, 0.5, 1.02]).max() <= 1 / 255


@given(st.lists(st.floats(-0.1875, 0.1875, width=32), min_size=1, max_size=50))
def test_loss_is_the_share_of_its_own_length(values):
    """It is what the kept numbers stand for, compared with the vector: never above half a step in each value."""
    scale = Scale(-0.2, 0.2)
    given_ = np.asarray(values, dtype=np.float32).astype(float)
    apart = np.linalg.norm(scale.undo(scale.apply(values)) - given_)
    assert apart <= 0.2 / 255 * len(values) ** 0.5 * (1 + 1e-9)
    length = np.linalg.norm(given_)
    if length and apart:
        assert scale.loss(values) == pytest.approx(apart / length)


@pytest.mark.parametrize(
    ("values", "scale", "words"),
    [
        ([0.1, 0.3], Scale(-0.2, 0.2), "has no number for it"),
        ([0.1, float("nan")], Scale(-0.2, 0.2), "has no number for it"),
        ([0.001, 0.002], Scale(-1, 1), "of its own length"),
        ([0.0, 0.0], Scale(-1, 1), "of its own length"),
        ([[0.9, 0.1], [0.001, 0.002]], Scale(-1, 1), "of its own length"),
        ([0.1, -0.2], Scale(-0.2, 0.2), None),
        ([0.0, 0.0], Scale(0, 1), None),
    ],
)
def test_what_would_be_lost_is_named(values, scale, words):
    """A value outside, and a vector or a row that rounding changes too much."""
    lost = records.scaled_off(np.asarray(values, dtype=np.float32), scale)
    assert (lost is None) == (words is None)
    assert lost is None or words in lost.why


@pytest.mark.parametrize(
    "make",
    [
        lambda: Scale(1, -1),
        lambda: Scale(0, float("inf")),
        lambda: Scale("0", 1),
        lambda: Scale(0, 1, tolerance=0),
        lambda: Scale(0, 1, tolerance=0.9),
    ],
)
def test_nonsense_is_refused(make):
    """An empty range, or a tolerance that tolerates anything."""
    with pytest.raises(PlanError, match="^Scale: "):
        make()


def test_a_scale_stays_with_its_vector():
    """Through later transforms that carry it on, and not where it is left behind; nothing is had back from it."""
    scaled = PointTransform({"a": "a", "b": "a"}, converted=frozenset({"b"}), scaled={"b": Scale(0, 1)})
    renamed = scaled.then(PointTransform({"a": "a", "c": "b"}))
    assert renamed.scaled == {"c": Scale(0, 1)}
    assert scaled.then(PointTransform({"a": "a"})).scaled == {}
    assert scaled.back() is None
    assert not PointTransform({"a": "a"}, converted=frozenset({"a"}), scaled={"a": Scale(0, 1)}).keeps_vectors
