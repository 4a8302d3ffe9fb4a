"""What each command shows, read from its source: `shell.show(result, show_…)`, and the type that `show_…` takes.

Where the renderer is a lambda, the type is that of the function of `qmigrate.commands` that made the result.
"""

from __future__ import annotations

import ast
import dataclasses
import importlib
import importlib.util
import inspect
import sys
import textwrap
from collections.abc import Iterator
from functools import cache
from types import FunctionType, ModuleType
from typing import Any, get_args, get_origin, get_type_hints

import click

from qmigrate.cli.app import root


def commands(group: click.Group = root, before: str = "") -> Iterator[tuple[str, click.Command]]:
    """Every command with its words, without the groups, in the order of the help."""
    for name, command in group.commands.items():
        if command.hidden:
            continue
        if isinstance(command, click.Group):
            yield from commands(command, f"{before}{name} ")
        else:
            yield f"{before}{name}", command


def results(words: str, command: click.Command) -> tuple[type, ...]:
    """The types that a command may have under `data`, in the order of its source; none where it only prints a document.

    Raises:
        LookupError: what it shows is of an unknown type: its renderer, or the function behind it, has no annotation.
    """
    assert command.callback is not None
    found = dict.fromkeys(_shown(inspect.unwrap(command.callback), frozenset()))
    if None in found:
        raise LookupError(f"qmigrate {words}: what it shows is of an unknown type; see {__file__}")
    return tuple(one for one in found if one is not None)


def _shown(function: FunctionType, seen: frozenset[FunctionType]) -> Iterator[type | None]:
    """Types that a function, or what it calls of the command line, passes to `shell.show`; None for an unknown one."""
    module = sys.modules[function.__module__]
    tree = ast.parse(textwrap.dedent(inspect.getsource(function)))
    names = _names(tree, module)
    for node in _walk(tree):
        if not isinstance(node, ast.Call):
            continue
        called = _found(node.func, names)
        if ast.unparse(node.func) == "shell.show":
            renderer = _renderer(node.args[1], names)
            yield taken(renderer) if renderer is not None else _made(node.args[0], tree, names)
        elif isinstance(called, FunctionType) and called.__module__.startswith("qmigrate.cli."):
            called = inspect.unwrap(called)
            if called not in seen and called is not function:
                yield from _shown(called, seen | {function})


def _made(node: ast.expr, tree: ast.AST, names: dict[str, Any]) -> type | None:
    """The type of an expression: what a function returns, also through a name or `dataclasses.replace`."""
    if isinstance(node, ast.Name):
        values = [
            one.value
            for one in ast.walk(tree)
            if isinstance(one, ast.Assign) and any(isinstance(to, ast.Name) and to.id == node.id for to in one.targets)
        ]
        values += [
            one.context_expr
            for one in ast.walk(tree)
            if isinstance(one, ast.withitem)
            and any(isinstance(to, ast.Name) and to.id == node.id for to in ast.walk(one.optional_vars or node))
        ]
        return next((found for found in (_made(one, tree, names) for one in values) if found is not None), None)
    if not isinstance(node, ast.Call):
        return None
    called = _found(node.func, names)
    if called is dataclasses.replace:
        return _made(node.args[0], tree, names)
    if isinstance(called, type) and dataclasses.is_dataclass(called):
        return called
    if not isinstance(called, FunctionType):
        return None
    called = inspect.unwrap(called)
    found = get_type_hints(called, namespace(called.__module__)).get("return")
    if get_origin(found) is dict:
        return dict
    # A context manager gives the first of what it yields.
    inner = [one for part in (found, *get_args(found)) for one in (part, *get_args(part))]
    return next((one for one in inner if dataclasses.is_dataclass(one) and isinstance(one, type)), None)


def _walk(node: ast.AST) -> Iterator[ast.AST]:
    """Every node, without what is done for people only."""
    yield node
    for one in ast.iter_child_nodes(node):
        if isinstance(node, ast.If) and one in node.body and "not shell.options.json" in ast.unparse(node.test):
            continue
        yield from _walk(one)


def _renderer(node: ast.expr, names: dict[str, Any]) -> FunctionType | None:
    if isinstance(node, ast.Call) and node.args:
        return _renderer(node.args[0], names)
    found = _found(node, names)
    return found if isinstance(found, FunctionType) else None


def _found(node: ast.expr, names: dict[str, Any]) -> Any:
    if isinstance(node, ast.Name):
        return names.get(node.id)
    if isinstance(node, ast.Attribute):
        return getattr(_found(node.value, names), node.attr, None)
    return None


def _names(tree: ast.AST, module: ModuleType) -> dict[str, Any]:
    """Names of a module, and those that a piece of code imports itself."""
    return vars(module) | dict(_imported(tree))


def _imported(tree: ast.AST) -> Iterator[tuple[str, Any]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((one.asname, importlib.import_module(one.name)) for one in node.names if one.asname)
        if isinstance(node, ast.ImportFrom) and node.module and node.module.partition(".")[0] != "__future__":
            source = importlib.import_module(node.module)
            for one in node.names:
                inner = f"{node.module}.{one.name}"
                # A module, also where its package has a function of the same name.
                module = importlib.import_module(inner) if inner in sys.modules or _is_module(inner) else None
                yield one.asname or one.name, module or getattr(source, one.name, None)


def _is_module(name: str) -> bool:
    try:
        return importlib.util.find_spec(name) is not None
    except ModuleNotFoundError:
        return False


def taken(renderer: FunctionType) -> type:
    """The type of what a renderer gets behind the console."""
    name = list(inspect.signature(renderer).parameters)[1]
    found = get_type_hints(renderer, namespace(renderer.__module__))[name]
    assert isinstance(found, type), (renderer, found)
    return found


@cache
def namespace(module: str) -> dict[str, Any]:
    """Names of a module with those that it imports for the type checker only."""
    source = sys.modules[module]
    tree = ast.parse(inspect.getsource(source))
    checked = [one for one in tree.body if isinstance(one, ast.If) and ast.unparse(one.test) == "TYPE_CHECKING"]
    return {**vars(source), **{name: found for one in checked for name, found in _imported(one)}}
