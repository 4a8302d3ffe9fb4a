"""The directives that a revision of Alembic holds, read from its text: nothing of it is run."""

from __future__ import annotations

import ast
from dataclasses import dataclass
from pathlib import Path

#: Names in ``qmigrate.alembic.qdrant`` whose first argument is the step.
KINDS = ("require", "run", "apply", "revert", "fix")


@dataclass(frozen=True, slots=True)
class Directive:
    """One call in a revision.

    Attributes:
        kind: one of `KINDS`.
        step: our revision or the key; None where it is computed.
        line: in the file.
    """

    kind: str
    step: str | None
    line: int


def directives_of(file: Path, function: str) -> tuple[Directive, ...]:
    """The calls in ``upgrade()`` or ``downgrade()`` of a file, in order; none where it can't be read."""
    try:
        tree = ast.parse(file.read_text(encoding="utf-8"), str(file))
    except (OSError, SyntaxError, ValueError):
        return ()
    found: list[Directive] = []
    for node in tree.body:
        if isinstance(node, ast.FunctionDef) and node.name == function:
            found += [one for one in map(_directive, ast.walk(node)) if one is not None]
    return tuple(sorted(found, key=lambda one: one.line))


def _directive(node: ast.AST) -> Directive | None:
    if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
        return None
    owner = node.func.value
    named = owner.id if isinstance(owner, ast.Name) else owner.attr if isinstance(owner, ast.Attribute) else None
    if named != "qdrant":
        return None
    kind = "apply" if node.func.attr == "add_vector_dimension" else node.func.attr
    if kind not in KINDS:
        return None
    first = node.args[0] if node.args else next((word.value for word in node.keywords if word.arg in _FIRST), None)
    step = first.value if isinstance(first, ast.Constant) and isinstance(first.value, str) else None
    return Directive(kind, step, node.lineno)


#: How the first argument may be called.
_FIRST = ("revision", "key")
