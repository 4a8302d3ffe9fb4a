"""Measures of search results, next to those of trec_eval."""

import random

import pytest

from qmigrate.evaluation.measures import Measures, measured, overlap


def test_by_hand():
    """Two relevant points, found at the first and third place of three, one of them of grade 2."""
    found = measured([1, 7, 2], {1: 1, 2: 2}, 3)
    ideal = 2 + 1 / 1.584962500721156
    assert found == Measures(0.5, 1.0, 1.0, pytest.approx((1 + 2 / 2) / ideal))


@pytest.mark.parametrize(
    ("results", "relevant", "found"),
    [
        ([], {1: 1}, (0, 0, 0, 0)),
        ([2, 3], {}, (0, 0, 0, 0)),
        ([2, 1], {1: 0}, (0, 0, 0, 0)),
        ([2, 1], {1: 1}, (0, 0, 0, 0)),
        ([1, 2], {1: 3}, (1, 1, 1, 1)),
    ],
    ids=str,
)
def test_edges(results, relevant, found):
    """Nothing found, nothing to find, a grade of 0, and what comes behind the first k."""
    assert measured(results, relevant, 1) == found


def test_as_trec_eval():
    """Recall, MRR and nDCG of random results with random grades are those of trec_eval."""
    trec = pytest.importorskip("pytrec_eval")
    rng = random.Random(7)
    judgements, runs, ours = {}, {}, {}
    for number in range(300):
        points = rng.sample(range(60), 40)
        relevant = {point: rng.choice([0, 1, 1, 2, 3]) for point in rng.sample(range(60), rng.randint(1, 14))}
        if not any(relevant.values()):
            relevant[next(iter(relevant))] = 1
        name = f"q{number}"
        judgements[name] = {str(point): grade for point, grade in relevant.items()}
        # It sees the first ten: its MRR has no k of its own.
        runs[name] = {str(point): float(100 - place) for place, point in enumerate(points[:10])}
        ours[name] = measured(points, relevant, 10)
    found = trec.RelevanceEvaluator(judgements, {"recall.1,10", "recip_rank", "ndcg_cut.10"}).evaluate(runs)
    assert len(found) == 300
    for name, one in found.items():
        expected = (one["recall_1"], one["recall_10"], one["recip_rank"], one["ndcg_cut_10"])
        assert ours[name] == pytest.approx(expected, abs=1e-9)


def test_overlap():
    """Of the first k of each; nothing found before is nothing lost."""
    assert overlap([1, 2, 3, 4], [2, 9, 1, 4], 3) == pytest.approx(2 / 3)
    assert overlap([], [1], 3) == 1.0
