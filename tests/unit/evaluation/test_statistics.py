"""What the gate decides on planted models: better, equal and worse by a known amount, and how often it is right."""

import numpy as np
import pytest

from qmigrate.evaluation.comparison import Answered, Rule, Sides, compared
from qmigrate.evaluation.questions import Question
from qmigrate.evaluation.statistics import GO, NO_GO, UNDECIDED, figures, judged

SEEDS = 100


def planted(seed: int, share: float, questions: int = 1000, changed: float = 0.2):
    """Reciprocal ranks of an old model, and of one whose average is `share` of it.

    `changed` of the questions are answered in another way, as well as before, so that equal models differ in single questions.
    """
    random = np.random.default_rng([seed, int(share * 1000)])
    ranks = np.array([1, 1 / 2, 1 / 3, 1 / 5, 1 / 10, 0])
    chances = [0.6, 0.15, 0.08, 0.05, 0.05, 0.07]
    before = random.choice(ranks, questions, p=chances)
    again = random.random(questions) < changed
    after = np.where(again, random.choice(ranks, questions, p=chances), before)
    if share < 1:
        after = np.where(random.random(questions) < share, after, 0.0)
    elif share > 1:
        mean = float(np.dot(ranks, chances))
        better = (share - 1) * mean / (1 - mean)
        after = np.where(random.random(questions) < better, 1.0, after)
    return before, after


@pytest.mark.parametrize(
    ("share", "state"),
    [(1.05, GO), (1.0, GO), (0.85, NO_GO), (0.7, NO_GO)],
)
def test_the_gate_is_right(share, state):
    """In at least 99 of 100 seeds, with 95 % of the old average asked for, on 1,000 questions."""
    found = [judged(*planted(seed, share), 0.95, 0.95).state for seed in range(SEEDS)]
    assert found.count(state) >= 99, found


@pytest.mark.parametrize("confidence", [0.9, 0.99])
def test_what_is_just_too_bad_seldom_passes(confidence):
    """At the very border it passes no oftener than the confidence lets it, give or take what the seeds show."""
    passed = sum(judged(*planted(seed, 0.9), 0.9, confidence).state == GO for seed in range(SEEDS))
    allowed = SEEDS * (1 - confidence)
    assert passed <= allowed + 3 * (allowed * confidence) ** 0.5 + 1


def test_few_questions_decide_nothing():
    """However good they look: what isn't seen in n questions may happen in 3 of n. A disaster shows sooner."""
    perfect = np.ones(20)
    assert judged(perfect, perfect, 0.98, 0.95).state == UNDECIDED
    assert judged(np.ones(200), np.ones(200), 0.98, 0.95).state == GO
    assert judged(np.ones(3), np.zeros(3), 0.98, 0.95).state == UNDECIDED
    assert judged(np.ones(15), np.zeros(15), 0.98, 0.95).state == NO_GO


def test_it_says_how_many_would_decide():
    """And with that many it decides, for most seeds."""
    decided = 0
    for seed in range(20):
        found = judged(*planted(seed, 1.0, questions=150), 0.95, 0.95)
        if found.state == UNDECIDED and found.needed is not None:
            assert found.needed > 150
            decided += judged(*planted(seed, 1.0, questions=4 * found.needed), 0.95, 0.95).state == GO
        else:
            decided += found.state == GO
    assert decided >= 15


def test_nothing_found_before():
    """There is no ratio to nothing, and nothing at all decides nothing."""
    assert judged(np.zeros(200), np.zeros(200), 0.9, 0.95).ratio is None
    assert judged(np.zeros(0), np.zeros(0), 0.9, 0.95).state == UNDECIDED


def test_intervals_hold_what_they_say():
    """The true average is in nine of ten intervals of 90 %, give or take what 300 show; always the same for the same."""
    inside = 0
    for seed in range(300):
        drawn = np.random.default_rng(seed).binomial(1, 0.7, (200, 1)).astype(float)
        one = figures(drawn, 0.9)[0]
        inside += one.low <= 0.7 <= one.high
        assert one.value == pytest.approx(drawn.mean(), abs=1e-6)
    assert 254 <= inside <= 286
    assert figures(drawn, 0.9) == figures(drawn, 0.9)


@pytest.mark.parametrize(("answered", "go", "said"), [(0, False, "finds nothing"), (200, True, "reaches 0.98"), (5, False, "5 questions don't show")])
def test_a_question_without_an_old_result_shows_nothing_of_the_new_search(answered, go, said):
    """However many of these there are: an overlap with nothing agrees in nothing."""
    found = [Answered(Question(text="x"), [1, 2], [1, 2], (0.1, 0.1)) for _ in range(answered)]
    found += [Answered(Question(text="x"), [], [1, 2], (0.1, 0.1)) for _ in range(500)]
    made = compared(found, Rule(10, "overlap", 0.98, 0.95), Sides("b", "a", "a file"))
    assert (made.go, said in made.reason) == (go, True), made.reason


@pytest.mark.parametrize(
    ("count", "new", "reason"),
    [
        (8, 1, "8 questions don't show whether the new search reaches 0.98 of the old ndcg@10; in these it reaches 1.585 of it (0.631 → 1.000)"),
        (200, 1, "the new search reaches 0.98 of the old ndcg@10: 1.585 of it (0.631 → 1.000)"),
        (200, 3, "the new search has to reach 0.98 of the old ndcg@10, and reaches 0.792 of it (0.631 → 0.500)"),
    ],
    ids=["undecided", "better", "worse"],
)
def test_a_share_is_not_read_as_a_figure(count, new, reason):
    """A reason says what its share is of, with both figures: no nDCG is above 1."""
    found = [
        Answered(Question(text="x", relevant={0: 1.0}), [9, 0], [*range(11, 10 + new), 0], (0.1, 0.1)) for _ in range(count)
    ]
    made = compared(found, Rule(10, "ndcg", 0.98, 0.95), Sides("b", "a", "a file"))
    assert made.reason.startswith(reason), made.reason
