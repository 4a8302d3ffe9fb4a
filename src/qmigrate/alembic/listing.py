"""What ``-x qdrant=plan`` prints: every vector step of the pending Alembic revisions, and that nothing was done."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from alembic.runtime.environment import EnvironmentContext
from alembic.script import Script

from qmigrate.alembic.failures import shown_by_alembic
from qmigrate.alembic.linking import directives_of_script
from qmigrate.commands import gate
from qmigrate.errors import PendingError, QmigrateError, RevisionError
from qmigrate.model.words import visible
from qmigrate.settings import Settings


def print_plan(settings: Settings, environment: EnvironmentContext, steps: Sequence[Any]) -> None:
    """Print what each directive would do, and stop: neither Qdrant nor SQL is changed.

    Raises:
        BridgeError: there is something to do.
    """
    if not steps:
        environment.config.print_stdout("Nothing to do in SQL.")
        return
    for step in steps:
        for line in _lines(settings, step):
            environment.config.print_stdout("%s", visible(line))
    with shown_by_alembic():
        raise PendingError(
            f"-x qdrant=plan: {len(steps)} Alembic revision(s) are listed above; nothing was changed in SQL or Qdrant",
            hint="without -x qdrant=plan they are applied",
        )


def _lines(settings: Settings, step: Any) -> list[str]:
    script = getattr(step, "revision", None)
    if not isinstance(script, Script):
        return [f"stamp {', '.join(step.to_revisions) or 'base'}"]
    way = "upgrade" if step.is_upgrade else "downgrade"
    lines = [f"{way} {script.revision}  {script.doc}"]
    for one in directives_of_script(script, way):
        lines.append(f"    {one.kind} {one.step or '(computed)'}: {_state(settings, one.kind, one.step)}")
    return lines


def _state(settings: Settings, kind: str, step: str | None) -> str:
    if step is None:
        return "known only when it runs"
    try:
        found = gate.look(settings, step)
    except RevisionError as error:
        # An inline step is known from the time when it is run first.
        return "not done" if kind in ("apply", "fix") else error.message
    except QmigrateError as error:
        return error.message
    if kind == "revert":
        return "applied" if found.is_open else f"applied in part or nowhere: {found.describe()}"
    return "done" if found.is_open else f"not done: {found.describe()}"
