"""What a random sample shows about all: an interval that holds the truth 19 times in 20. It counts nothing."""

from __future__ import annotations

import math

#: Of the normal distribution: 95 % lie within this many deviations.
_Z = 1.959964


def between(hits: int, sampled: int, whole: int) -> tuple[int, int]:
    """At least and at most how many of `whole` are hits, when `hits` of `sampled` at random are (Wilson, 95 %).

    What was seen counts as seen: never less than `hits`, and never more than all but the others that were seen. A
    sample of everything is exact.
    """
    if sampled <= 0 or sampled >= whole:
        return (hits, max(hits, whole)) if sampled <= 0 else (hits, hits)
    share, weight = hits / sampled, _Z**2 / sampled
    # Without putting back: what was seen already can't vary any more.
    left = (whole - sampled) / (whole - 1)
    middle = (share + weight / 2) / (1 + weight)
    spread = _Z * math.sqrt((share * (1 - share) + weight / 4) / sampled * left) / (1 + weight)
    low, high = math.floor((middle - spread) * whole), math.ceil((middle + spread) * whole)
    return max(hits, low), min(max(hits, high), whole - (sampled - hits))
