"""What a fence sends besides its own limit: nothing that was switched off may come into force with it."""

from __future__ import annotations

import pytest

from qmigrate.store.server.fencing import FENCE, NO_LIMIT, fence_beside


@pytest.mark.parametrize(
    ("prior", "beside"),
    [
        ({}, {}),
        ({"enabled": True, "max_query_limit": 5, "search_allow_exact": False}, {}),
        ({"enabled": False}, {}),
        (
            {"max_query_limit": 5, "search_allow_exact": False, "search_max_oversampling": 1.5, "read_rate_limit": 1},
            {
                "max_query_limit": NO_LIMIT,
                "search_allow_exact": True,
                "search_max_oversampling": NO_LIMIT,
            },
        ),
        ({"enabled": False, "write_rate_limit": 7, "unindexed_filtering_retrieve": False}, {"unindexed_filtering_retrieve": True}),
        (
            {"enabled": False, "multivector_config": {"a": {"max_vectors": 5}}},
            {"multivector_config": {"a": {"max_vectors": 5}}},
        ),
    ],
    ids=["none", "in force", "off", "off, limits of reads, but that by rate, which is in force all the same", "off, of writes too", "off, of single vectors"],
)
def test_only_writes_are_limited_anew(prior, beside):
    """Limits that are in force stay as they are; those that are not get values that limit nothing."""
    assert fence_beside(prior) == {**beside, **FENCE}
