"""Filters whose conditions say nothing, or are read in part, are refused before anything is selected by them."""

from __future__ import annotations

import pytest

from qmigrate import op
from qmigrate.errors import PlanError

EVEN = {"key": "kind", "match": {"value": "even"}}
#: A filter, and words of what is wrong with it.
REFUSED = [
    ({"must": [{}]}, "has no effect"),
    ({"must": [EVEN, {}]}, "has no effect"),
    ({"must": [{"must": []}]}, "has no effect"),
    ({"should": [{"must": [{"should": []}]}]}, "has no effect"),
    ({"must": [{"key": "kind"}]}, "no test"),
    ({"must": [{"key": "kind", "match": None}]}, "no test"),
    ({"must": {"key": "n", "range": {}}}, "no bound"),
    ({"must": [{"key": "n", "range": {"lt": None, "gte": None}}]}, "no bound"),
    ({"must": [{"key": "n", "values_count": {}}]}, "no bound"),
    ({"must": [{"nested": {"key": "a", "filter": {}}}]}, "has no effect"),
    ({"must_not": [{"has_id": []}]}, "is empty"),
    ({"must_not": [{"key": "kind", "match": {"any": []}}]}, "is empty"),
    ({"must_not": [{"must": [{"has_id": []}]}]}, "is empty"),
    ({"must": [{"key": "kind", "match": {"except": []}}]}, "is empty"),
    ({"must": [{"must_not": [{"has_id": []}]}]}, "is empty"),
    ({"min_should": {"conditions": [EVEN, {}], "min_count": 1}}, "has no effect"),
    ({"must": [{"key": "text", "match": {"text": ""}}]}, "empty text"),
    ({"must": [{"key": "path", "match": {"prefix": ""}}]}, "empty text"),
    ({"must": [{"key": "n", "match": {"value": 1}, "range": {"gt": 100}}]}, "only one is read"),
    ({"must": [{"key": "n", "range": {"gt": 1}, "is_null": False}]}, "only one is read"),
]
TAKEN = [
    {"must": [EVEN]},
    {"must": EVEN},
    {"must_not": [{"has_id": [1]}]},
    {"must": [{"has_id": []}]},
    {"must": [{"key": "kind", "match": {"any": []}}]},
    {"must": [{"key": "n", "range": {"gt": 0}}]},
    {"must": [{"key": "n", "match": {"value": 0}}]},
    {"must": [{"key": "n", "match": {"value": False}}]},
    {"must": [{"key": "n", "is_empty": False}]},
    {"must": [{"is_empty": {"key": "n"}}]},
    {"must": [{"has_vector": ""}]},
    {"must": [{"nested": {"key": "a", "filter": {"must": [EVEN]}}}]},
    {"min_should": {"conditions": [EVEN], "min_count": 1}},
]


@pytest.mark.parametrize(("where", "words"), REFUSED, ids=str)
def test_a_condition_that_says_nothing_is_refused(where, words):
    """Left out it would select more, or every point: for a deletion and for payload keys alike."""
    for made in (
        op.DeletePoints("c", filter=where, reason="r"),
        op.SetPayload("c", {"a": 1}, filter=where),
        op.DeletePayload("c", ["a"], filter=where),
    ):
        with pytest.raises(PlanError, match=words):
            made.check_words()


@pytest.mark.parametrize("where", TAKEN, ids=str)
def test_a_condition_that_says_something_is_taken(where):
    """Also one that selects no point."""
    op.DeletePoints("c", filter=where, reason="r").check_words()
    op.SetPayload("c", {"a": 1}, filter=where).check_words()
