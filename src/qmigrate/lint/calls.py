"""What code calls, by full name: imports followed, helpers of the same file looked into. It runs nothing."""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator
from types import CodeType

from qmigrate.lint.source import Source


def imported(tree: ast.AST) -> dict[str, str]:
    """Local name -> full name, of every import in a tree: ``dt`` -> ``datetime.datetime``."""
    found: dict[str, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                found[alias.asname or alias.name.split(".")[0]] = (
                    alias.name if alias.asname else alias.name.split(".")[0]
                )
        elif isinstance(node, ast.ImportFrom) and not node.level:
            for alias in node.names:
                found[alias.asname or alias.name] = f"{node.module}.{alias.name}"
    return found


def full_name(node: ast.expr, names: dict[str, str]) -> str | None:
    """``numpy.random.rand`` for ``np.random.rand``; None for what is not a dotted name."""
    parts: list[str] = []
    while isinstance(node, ast.Attribute):
        parts.append(node.attr)
        node = node.value
    if not isinstance(node, ast.Name):
        return None
    return ".".join([names.get(node.id, node.id), *reversed(parts)])


def mentioned(source: Source, start: ast.AST) -> Iterator[tuple[str, ast.expr]]:
    """(full name, node) of every call and every dotted name in a piece of code, helpers of the file included."""
    names = imported(source.tree)
    seen: set[str] = set()
    todo: list[ast.AST] = [start]
    while todo:
        for node in ast.walk(todo.pop()):
            if isinstance(node, ast.Call):
                name = full_name(node.func, names)
                if name is not None:
                    yield name, node
                if isinstance(node.func, ast.Name) and node.func.id not in seen:
                    seen.add(node.func.id)
                    helper = source.function(node.func.id)
                    todo += [helper] if helper is not None else []
            elif isinstance(node, ast.Attribute):
                name = full_name(node, names)
                if name is not None:
                    yield name, node


def definition(source: Source, function: Callable[..., object]) -> ast.FunctionDef | ast.Lambda | None:
    """The code of a function of this file; None when it is written elsewhere."""
    code = getattr(function, "__code__", None)
    if not isinstance(code, CodeType) or code.co_filename != str(source.path):
        return None
    for node in ast.walk(source.tree):
        if isinstance(node, ast.FunctionDef) and node.name == code.co_name:
            first = min([node.lineno, *(one.lineno for one in node.decorator_list)])
            if first == code.co_firstlineno:
                return node
        if isinstance(node, ast.Lambda) and code.co_name == "<lambda>" and node.lineno == code.co_firstlineno:
            return node
    return None
