"""Exact search in a sample agrees with that of the client's local mode, for every kind of vector."""

from __future__ import annotations

import numpy as np
import pytest
from qdrant_client import QdrantClient, models

from qmigrate.evaluation.exact import searched

RANDOM = np.random.default_rng(11)
COUNT = 40


def dense() -> list:
    """Of one size."""
    return list(RANDOM.normal(0, 1, (COUNT, 6)))


def rows() -> list:
    """One to four for each."""
    return [RANDOM.normal(0, 1, (int(RANDOM.integers(1, 5)), 6)) for _ in range(COUNT)]


def sparse() -> list:
    """Of 30 words."""
    made = []
    for _ in range(COUNT):
        indices = sorted(RANDOM.choice(30, size=int(RANDOM.integers(1, 8)), replace=False).tolist())
        made.append({"indices": indices, "values": RANDOM.uniform(0.1, 2, len(indices)).tolist()})
    return made


DENSE = models.VectorParams(size=6, distance=models.Distance.COSINE)
LATE = DENSE.model_copy(update={"multivector_config": models.MultiVectorConfig(comparator="max_sim")})
WORDS = models.SparseVectorParams()
RARE = models.SparseVectorParams(modifier=models.Modifier.IDF)


@pytest.mark.parametrize(
    ("made", "params", "idf", "size", "room"),
    [(dense, DENSE, False, 6, 24), (rows, LATE, False, 6, None), (sparse, WORDS, False, None, None), (sparse, RARE, True, None, None)],
    ids=["dense", "rows", "sparse", "idf"],
)
def test_it_ranks_as_qdrant_does(made, params, idf, size, room):
    """Scores and order are those of an exact search, and a word that is nowhere finds nothing."""
    vectors, questions = made(), made()[:10]
    client = QdrantClient(":memory:")
    kinds = {"sparse_vectors_config": {"v": params}} if made is sparse else {"vectors_config": {"v": params}}
    client.create_collection("c", **({"vectors_config": {}} | kinds))

    def stored(one):
        return models.SparseVector(**one) if isinstance(one, dict) else np.asarray(one).tolist()

    client.upsert("c", [models.PointStruct(id=place, vector={"v": stored(one)}) for place, one in enumerate(vectors)])
    found = searched(vectors, idf=idf)
    for question in questions:
        scores = found.score(question)
        for point in client.query_points("c", query=stored(question), using="v", limit=COUNT).points:
            assert scores[point.id] == pytest.approx(point.score, abs=1e-4)
    if made is sparse:
        average = sum(len(one["indices"]) for one in vectors) / COUNT
        assert found.size == int(np.ceil(average))
        assert found.bytes == found.size * 8
        assert not found.score({"indices": [99], "values": [1.0]}).any()
    else:
        assert (found.size, room or found.bytes) == (size, found.bytes)


def test_vectors_of_several_kinds_are_refused():
    """No search could compare them."""
    with pytest.raises(ValueError, match="makes vectors of several kinds: dense of 6, dense of 7"):
        searched([np.ones(6), np.ones(7)])
