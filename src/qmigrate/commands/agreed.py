"""A user has agreed to what was shown: a plan that is computed again afterwards does exactly that, or nothing."""

from __future__ import annotations

from qmigrate.errors import RefusedError
from qmigrate.model.plan import Build, GoLive, Job, Plan


def as_shown(made: Plan, shown: Plan | None) -> Plan:
    """The plan, where it does what was shown.

    Args:
        shown: while the question was asked; None where no question was asked.

    Raises:
        RefusedError: another client has changed something while the question stood there.
    """
    seen = {item.job.collection: _about(item.job) for item in (shown.collections if shown is not None else ())}
    for item in made.collections:
        if shown is not None and seen.get(item.job.collection) != _about(item.job):
            raise RefusedError(
                f"{item.job.collection} is not what was shown any more, so nothing was done: another client changed it",
                hint="the same command shows what it would do now",
            )
    return made


def _about(job: Job) -> list[tuple[object, ...]]:
    """What is changed, and from what; the number of a generation that is yet to be made says nothing of it."""
    return [
        (
            step.kind,
            None if isinstance(step, Build | GoLive) else step.target,
            *(getattr(step, name, None) for name in ("source", "serving", "origin", "changes")),
        )
        for step in job.steps
    ]
