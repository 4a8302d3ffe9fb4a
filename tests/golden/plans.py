"""Deployments with a plan file each, one per strategy, reviewed and not yet done."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from tests.golden import project
from tests.golden.project import Project

#: Of the plan file within the folder.
NAME = "reviewed.json"


def planned(made: Project) -> Project:
    """What is pending as a plan file."""
    made.cli("plan", "--out", NAME)
    return made


def _pending(body: str) -> Callable[[Path], Project]:
    def build(folder: Path) -> Project:
        made = project.loaded(folder)
        made.revise("0002", body)
        return planned(made)

    return build


def create(folder: Path) -> Project:
    """A new collection."""
    made = Project(folder)
    made.revise("0001", project.CREATE)
    return planned(made)


def record(folder: Path) -> Project:
    """A collection that was made and taken away again before anything was done here: it is only recorded."""
    made = Project(folder)
    made.revise("0001", project.CREATE)
    made.revise("0002", project.DROPPED)
    return planned(made)


#: Name of the deployment -> what makes it; the strategy stands behind ``plan-``.
PLANS: Mapping[str, Callable[[Path], Project]] = {
    "plan-create": create,
    "plan-copy": _pending(project.ADD),
    "plan-in-place": _pending(project.INDEX),
    "plan-edit": _pending(project.WRITES),
    "plan-call": _pending(project.CALL),
    "plan-drop": _pending(project.DROPPED),
    "plan-hold": _pending(project.HOLD),
    "plan-record": record,
}
