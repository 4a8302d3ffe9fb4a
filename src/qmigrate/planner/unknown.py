"""Settings that this version doesn't know: what a plan does about them before anything is written. Pure."""

from __future__ import annotations

from qmigrate.errors import PlanError
from qmigrate.planner.position import Position


def refuse_unknown(before: Position, reason: str) -> None:
    """A copy is made of what this version knows: settings that it doesn't know would be lost silently.

    Args:
        before: the collection that would be copied.
        reason: why it would be a copy.

    Raises:
        PlanError: it has such settings; they are named.
    """
    if before.unknown:
        raise PlanError(
            f"{before.physical} has settings that this version of qmigrate doesn't know, and a copy would lose them: "
            f"{', '.join(before.unknown)} (a copy, because: {reason})",
            hint="update qmigrate, or revert these settings first",
            facts={"unknown": list(before.unknown)},
        )


def notice(before: Position) -> tuple[str, ...]:
    """What a person should know of a clone of such a collection, one line each."""
    if not before.unknown:
        return ()
    names = ", ".join(before.unknown)
    return (f"settings unknown to this version are left to the server's clone, and checked in it: {names}",)
