"""The update of the application's SQL once a rebuild serves, as a step after its go-live. Pure."""

from __future__ import annotations

from qmigrate.model.plan import GoLive, WriteRows
from qmigrate.model.schema import JsonObject
from qmigrate.operations.values import Embed
from qmigrate.planner.segment import Part, Segment


def told(found: Segment) -> tuple[WriteRows, ...]:
    """The step that updates it; none where no point is embedded, or no write-back is declared."""
    last = found.steps[-1] if found.steps else None
    if found.strategy != "copy" or not isinstance(last, GoLive) or last.target is None:
        return ()
    transform = found.parts[0].transform
    for part in found.parts[1:]:
        transform = transform.then(part.transform)
    statements = tuple(
        _statement(found.parts, vector, value)
        for vector, value in sorted(transform.values.items())
        if isinstance(value, Embed) and value.write_back is not None
    )
    return (WriteRows(last.target, statements),) if statements else ()


def _statement(parts: tuple[Part, ...], vector: str, value: Embed) -> JsonObject:
    wanted = value.write_back
    assert wanted is not None  # noqa: S101  the caller looked
    said_by = [part.revision for part in parts if any(one is value for one in part.transform.values.values())]
    return wanted.said(vector, said_by[-1] if said_by else parts[-1].revision)


def words(steps: tuple[WriteRows, ...]) -> list[str]:
    """What happens then, for people."""
    return [
        f"then: {one['database']} is updated for each point that got {one['vector'] or '(unnamed)'}, at least once"
        for step in steps
        for one in step.statements
    ]
