"""What a rule is, and what it hits. It reads nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from qmigrate.lint.project import Project
    from qmigrate.revisions.python_source import PythonSource, Span

ERROR, WARNING = "error", "warning"


@dataclass(frozen=True, slots=True)
class Hit:
    """One place where a rule is broken.

    Attributes:
        source: the file.
        span: its lines.
        message: what is wrong there, in one sentence.
    """

    source: PythonSource
    span: Span
    message: str


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule. Its code never changes its meaning, and is never used again.

    Attributes:
        code: ``QM`` and three digits; the first one is the family.
        name: a slug for programs.
        severity: ``error`` or ``warning``.
        title: what it forbids, in a few words.
        why: the reason.
        fix: what to do instead.
        look: finds every place where it is broken.
    """

    code: str
    name: str
    severity: str
    title: str
    why: str
    fix: str
    look: Callable[[Project], Iterator[Hit]]
