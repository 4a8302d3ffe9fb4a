"""Cosine vectors of local mode read the same before and after a restart."""

import numpy as np
import pytest

from qmigrate.store.local.shapes import in_unit_form, unit


@pytest.mark.parametrize("size", [8, 17, 256, 768])
def test_one_more_normalisation_changes_nothing(size):
    """What local mode makes of a vector in unit form, in float32 or as a list, reads as the same values."""
    random = np.random.default_rng(size)
    for _ in range(200):
        written = unit(list(random.normal(size=size)))
        single = np.array(written, dtype=np.float32)
        as_new = single / np.linalg.norm(single)
        as_known = (np.array(written) / np.linalg.norm(written)).astype(np.float32)
        assert unit(list(as_new)) == written
        assert unit(list(as_known)) == written


def test_unit_form_is_the_vector_to_six_digits():
    """Only the last digits of a float32 are given up."""
    vector = np.random.default_rng(1).normal(size=64)
    assert np.allclose(unit(list(vector)), vector / np.linalg.norm(vector), atol=1e-6)


def test_only_cosine_vectors_are_touched():
    """Other distances, sparse vectors and zero vectors stay as they are."""
    vectors = {"dot": [3.0, 4.0], "cos": [3.0, 4.0], "zero": [0.0, 0.0], "rows": [[0.0, 2.0], [5.0, 0.0]]}
    found = in_unit_form(vectors, frozenset({"cos", "zero", "rows"}))
    assert found["dot"] == [3.0, 4.0]
    assert np.allclose(found["cos"], [0.6, 0.8], atol=1e-6)
    assert found["zero"] == [0.0, 0.0]
    assert found["rows"] == [[0.0, 1.0], [1.0, 0.0]]


@pytest.mark.parametrize("size", [2, 3, 7, 64, 96])
def test_vectors_of_few_values_are_read_as_they_were_written(size):
    """Many equal values are all rounded the same way: the norm of what is written is off by most then."""
    random = np.random.default_rng(size)
    for _ in range(1500):
        counts = random.integers(0, random.integers(2, 8), size=size) * random.choice([-1, 1], size=size)
        if not counts.any():
            continue
        written = unit(list(counts / np.linalg.norm(counts)), written=True)
        assert unit(written, written=True) == written
        assert unit(written) == written
        narrow = np.array(written, dtype=np.float32)
        for norm in (np.linalg.norm(narrow), np.linalg.norm(narrow[None], axis=-1)[0], np.sqrt(np.float32((narrow**2).sum()))):
            assert unit(list(narrow / norm)) == written
        assert unit(list(np.array(written) / np.linalg.norm(written))) == written
        assert np.allclose(written, counts / np.linalg.norm(counts), atol=2**-20)
