"""The whole gate on planted models: texts that a model sees better, as well, or worse by a known amount; how often it is right."""

from __future__ import annotations

import numpy as np
import pytest

from qmigrate.evaluation.comparison import Answered, Rule, Sides, compared
from qmigrate.evaluation.questions import Question

POINTS, SIZE, K = 1000, 24, 10


class Planted:
    """A model that sees what a text means only so sharply, and some texts not at all.

    Args:
        seed: another seed is another model, as good as this one on average.
        blur: of each vector, next to what the text means.
        blind: share of the texts of which it sees nothing, which is the share of answers that are lost.
    """

    def __init__(self, seed: list[int], blur: float, blind: float = 0.0) -> None:
        self.random = np.random.default_rng(seed)
        self.blur, self.blind = blur, blind

    def vectors(self, meanings):
        """Rows of length 1."""
        made = meanings + self.blur * self.random.normal(size=meanings.shape) / np.sqrt(SIZE)
        lost = self.random.random(len(meanings)) < self.blind
        made[lost] = self.random.normal(size=(int(lost.sum()), SIZE))
        return made / np.linalg.norm(made, axis=1, keepdims=True)


def found(model: Planted, points, asked):
    """The best of each question, by exact search; questions are never those texts that a blind model can't see."""
    of_points = model.vectors(points)
    questions = Planted([int(model.random.integers(2**31))], model.blur).vectors(asked)
    alike = -(questions @ of_points.T)
    best = np.argpartition(alike, K, axis=1)[:, :K]
    return np.take_along_axis(best, np.argsort(np.take_along_axis(alike, best, axis=1), axis=1), axis=1)


def decision(seed: int, blur: float, blind: float, at_least: float):
    """What is decided about a model next to one with a blur of 0.3, on as many questions as there are points."""
    random = np.random.default_rng([seed, 0])
    points = random.normal(size=(POINTS, SIZE))
    points /= np.linalg.norm(points, axis=1, keepdims=True)
    asked = points + 0.9 * random.normal(size=points.shape) / np.sqrt(SIZE)
    before = found(Planted([seed, 1], 0.3), points, asked).tolist()
    after = found(Planted([seed, 2], blur, blind), points, asked).tolist()
    answered = [
        Answered(Question(f"q{one}", relevant={one: 1.0}), before[one], after[one], (0.001, 0.001)) for one in range(POINTS)
    ]
    return compared(answered, Rule(K, "ndcg", at_least, 0.95), Sides("new", "old", "planted"))


#: (blur, share that isn't seen, share of the old figure that is asked for, whether it may serve, its true share)
MODELS = {
    "better": (0.15, 0.0, 0.95, True, None),
    "equal": (0.3, 0.0, 0.95, True, 1.0),
    "worse by 15 %": (0.3, 0.15, 0.95, False, 0.85),
    "worse by 30 %": (0.3, 0.3, 0.95, False, 0.7),
}


@pytest.mark.parametrize("name", list(MODELS))
def test_the_gate_knows_planted_models(name):
    """A few seeds of each; what is shown is the true share, within its interval and some."""
    blur, blind, at_least, serves, share = MODELS[name]
    for seed in range(3):
        made = decision(seed, blur, blind, at_least)
        assert made.go is serves, made.reason
        if share is not None:
            assert made.total.ratio.low - 0.03 <= share <= made.total.ratio.high + 0.03


@pytest.mark.nightly
@pytest.mark.parametrize("name", list(MODELS))
def test_the_gate_is_right_in_99_of_100_seeds(name):
    """At 95 % confidence."""
    blur, blind, at_least, serves, _ = MODELS[name]
    right = [decision(seed, blur, blind, at_least).go is serves for seed in range(100, 200)]
    assert sum(right) >= 99
