"""Which pending revisions of a collection go into one rebuild, so that its data is copied once. Pure.

Several revisions are fused only where the fused change does to every point exactly what they would do one after the
other; where it might not, a new segment begins (a *barrier*).
"""

from __future__ import annotations

from collections.abc import Sequence

from qmigrate.model.transform import PointTransform
from qmigrate.operations.values import Compute
from qmigrate.planner.segment import Part

#: Moves of the name, and data fixes, which change points on purpose: each is a segment of its own.
_ALONE = ("drop", "record", "edit")


def segments(parts: Sequence[Part], *, fuse: bool = True) -> list[tuple[Part, ...]]:
    """Consecutive parts that are done in one go.

    A run between two barriers is one segment when anything in it needs a rebuild: the light changes ride along.
    Without a rebuild each revision is done by itself, on the live collection.

    Args:
        fuse: False keeps every revision by itself.
    """
    found: list[tuple[Part, ...]] = []
    for run in _runs(parts):
        if fuse and any(part.strategy != "in_place" for part in run):
            found.append(tuple(run))
        else:
            found += [(part,) for part in run]
    return found


def _runs(parts: Sequence[Part]) -> list[list[Part]]:
    """The parts, split at the barriers."""
    runs: list[list[Part]] = []
    so_far: PointTransform | None = None
    for part in parts:
        alone = part.strategy in _ALONE or (bool(runs) and runs[-1][-1].strategy in _ALONE)
        if not runs or alone or part.strategy == "create" or (so_far is not None and _barrier(so_far, part.transform)):
            runs.append([])
            # Nothing happens to points that don't exist: a new collection is made in its final shape.
            so_far = None if part.strategy == "create" else part.transform
        elif so_far is not None:
            so_far = so_far.then(part.transform)
        runs[-1].append(part)
    return runs


def _barrier(so_far: PointTransform, later: PointTransform) -> bool:
    """Whether `later`, done in one go with what comes before it, would see other points than after it."""
    if (so_far.rekeys and not later.is_identity()) or (later.rekeys and not so_far.is_identity()):
        # The proof finds a point's counterpart by its new id alone, so nothing else may change in the same copy.
        return True
    if _reads_points(later) and not _keeps_points(so_far):
        # The user's functions would get the vectors of the old generation; and a vector that was filled has seen the
        # earlier payload, but a fused fill would see the one that a later function makes.
        return True
    # Stored in one form and then in another: rounded or normalised once is not the same as twice.
    formed = so_far.converted | frozenset(so_far.filled)
    return any(later.vectors[target] in formed for target in later.converted)


def _reads_points(transform: PointTransform) -> bool:
    """Whether a function of the user gets complete points."""
    return bool(transform.payload) or any(isinstance(value, Compute) for value in transform.values.values())


def _keeps_points(transform: PointTransform) -> bool:
    """Whether the vectors of every point stay what they are, whatever becomes of its payload."""
    carried = all(target == source for target, source in transform.vectors.items())
    return carried and not (transform.drops or transform.filled or transform.converted)
