"""The model of convergence: with all rules every promise holds in every state, without any one of them one is broken.

Everything here is deterministic. The complete bound takes minutes and runs every night; the smaller one every time.
"""

from __future__ import annotations

import pytest
from tests.model.explore import Found, explore
from tests.model.judge import Judge
from tests.model.state import Case, Rules
from tests.model.variants import FEW, LIMITS, MUTANTS, SOUND, Variant
from tests.mutation.rules import RULES

#: Sound variants of which a part belongs to every run.
SMALL = [one for one in SOUND if not one.rules.crashes and set(FEW) & set(one.writers)]


def checked(variant: Variant, writers=None) -> Found | None:
    """The first flaw over all writers of a variant, or None."""
    for initial, ops in writers or variant.writers:
        found = explore(Case(variant.rules, initial, ops), ends=variant.ends)
        if found.flaw is not None:
            return found
    return None


def told(found: Found | None) -> str:
    """A counter-example to be read."""
    return "holds" if found is None else f"{found.flaw}:\n  " + "\n  ".join(found.way)


@pytest.mark.nightly
@pytest.mark.timeout(900)
@pytest.mark.parametrize("variant", SOUND, ids=lambda one: one.name)
def test_with_every_rule_the_promises_hold(variant):
    """No acknowledged write is lost or undone unlisted, and no name moves but on a proof that holds."""
    found = checked(variant)
    assert found is None, told(found)


@pytest.mark.parametrize("variant", SMALL, ids=lambda one: one.name)
def test_the_promises_hold_in_a_smaller_bound(variant):
    """The same for some of the writers, without deaths."""
    found = checked(variant, [one for one in variant.writers if one in FEW][:2])
    assert found is None, told(found)


@pytest.mark.parametrize("variant", [*MUTANTS, *LIMITS], ids=lambda one: f"{one.rule} {one.name}")
def test_without_a_rule_a_promise_is_broken(variant):
    """The flaw is the expected one; the same for what no rule prevents (0)."""
    found = checked(variant)
    assert found is not None
    assert found.flaw == variant.flaw, told(found)
    assert found.way


def test_every_rule_has_a_variant_without_it():
    """And every rule that can be taken away is: a switch that no variant turns proves nothing."""
    assert {variant.rule for variant in MUTANTS} == set(RULES)
    switched = {
        name
        for variant in MUTANTS
        for name in Rules.__dataclass_fields__
        if getattr(variant.rules, name) != getattr(Rules(), name)
    }
    kept = [name for name, field in Rules.__dataclass_fields__.items() if field.default is True and name not in ("computes", "waits", "pauses")]
    assert set(kept) <= switched


def test_the_states_are_the_same_every_time():
    """The number of states, and the way to the first flaw."""
    case = Case(Rules(), *FEW[1])
    assert explore(case) == explore(case)
    flawed = Case(MUTANTS[0].rules, *MUTANTS[0].writers[2])
    assert explore(flawed) == explore(flawed) != explore(case)


@pytest.mark.parametrize(
    ("shown", "order", "listed", "explained"),
    [
        (((1, 1),), 0, 0, True),
        (((2, 2),), 0, 0, True),
        (((2, 2),), 0b0100, 0, False),
        (((1, 1),), 0b0010, 0, False),
        (((0, 0),), 0, 0, False),
        (((0, 0),), 0, 1, True),
    ],
)
def test_an_end_is_explained_by_an_order_of_what_was_acknowledged(shown, order, listed, explained):
    """Of two writes of one id either is the last, unless one was acknowledged before the other began."""
    case = Case(Rules(), ((0, 0),), (("put", 0, 1), ("put", 0, 2)))
    assert Judge(case)._search(shown, 0b11, order, ("source", "source"), listed) is explained
