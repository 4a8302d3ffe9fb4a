"""Every rule of convergence that is taken away makes a test fail: see ``rules.py``, and ``tests/mutants`` by hand."""

from __future__ import annotations

import pytest
from tests.mutation.mutate import KILLED, SKIPPED, Copy
from tests.mutation.rules import MUTANTS

#: Minutes in all: see scripts/test --nightly.
pytestmark = pytest.mark.nightly


@pytest.mark.timeout(700)
@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: f"{mutant.rule} {mutant.name}")
def test_a_rule_that_is_taken_away_is_missed(tmp_path, mutant):
    """Its tests fail on a copy of the sources without it."""
    outcome = Copy(tmp_path / "copy").judge(mutant)
    if outcome.state == SKIPPED:
        pytest.skip("its tests need a real Qdrant server")
    assert outcome.state == KILLED, outcome.said
