"""How many of the kill points one run of the tests tries: every one takes minutes. It tests nothing."""

from __future__ import annotations

import os
from collections.abc import Sequence

#: Every how many-th point is tried; ``QMIGRATE_KILL_STRIDE=1`` tries each.
STRIDE = int(os.environ.get("QMIGRATE_KILL_STRIDE", "9"))


def thinned(numbers: Sequence[int]) -> list[int]:
    """Evenly spread points of an enumeration, the last one among them."""
    return sorted({*numbers[::STRIDE], *numbers[-1:]})
