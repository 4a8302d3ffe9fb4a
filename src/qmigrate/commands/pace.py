"""How fast a fix may go, as its caller gives it. It paces nothing."""

from __future__ import annotations

import math

from qmigrate.errors import UsageError
from qmigrate.model.schema import JsonObject


def paced(max_rate: float | None) -> JsonObject:
    """The part of an edit for how fast it may go; empty where nothing is given.

    Args:
        max_rate: most points per second; None for no limit.

    Raises:
        UsageError: it is not a number above 0; NaN and infinity, which the ledger can't hold, are not.
    """
    if max_rate is None:
        return {}
    try:
        rate = math.nan if isinstance(max_rate, bool) or not isinstance(max_rate, int | float) else float(max_rate)
    except OverflowError:
        rate = math.inf
    if not (math.isfinite(rate) and rate > 0):
        raise UsageError(
            f"max_rate must be a number above 0 (points per second), not {repr(max_rate)[:40]}",
            hint="leave it out for no limit",
        )
    return {"max_rate": max_rate}
