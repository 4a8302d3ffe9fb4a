"""What each command shows, read from its source: `shell.show(result, show_…)`, and the type that `show_…` takes."""

from __future__ import annotations

import ast
import importlib
import inspect
import sys
import textwrap
from collections.abc import Iterator
from functools import cache
from types import FunctionType, ModuleType
from typing import Any, get_type_hints

import click

from qmigrate.cli.app import root
from qmigrate.commands.export import Exported
from qmigrate.commands.metrics import Metrics
from qmigrate.commands.schema import Schemas

#: Commands that print a document instead of lines for people: what `--json` has there is named here.
DOCUMENTS: dict[str, tuple[type, ...]] = {
    "metrics": (Metrics,),
    "schema": (Schemas,),
    "export show": (Exported,),
}


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
    """The types that a command may have under `data`, in the order of its source.

    Raises:
        LookupError: none is found: its renderer has no annotation, or it belongs into DOCUMENTS.
    """
    if words in DOCUMENTS:
        return DOCUMENTS[words]
    assert command.callback is not None
    found = dict.fromkeys(_shown(inspect.unwrap(command.callback), frozenset()))
    if not found:
        raise LookupError(f"qmigrate {words}: what it shows is unknown; see {__file__}")
    return tuple(found)


def _shown(function: FunctionType, seen: frozenset[FunctionType]) -> Iterator[type]:
    """Types that a function, or what it calls of the command line, passes to `shell.show`."""
    module = sys.modules[function.__module__]
    tree = ast.parse(textwrap.dedent(inspect.getsource(function)))
    names = _names(tree, module)
    for node in _walk(tree):
        if not isinstance(node, ast.Call):
            continue
        called = _found(node.func, names)
        if isinstance(node.func, ast.Attribute) and node.func.attr == "show" and len(node.args) == 2:
            renderer = _renderer(node.args[1], names)
            if renderer is not None:
                yield taken(renderer)
        elif isinstance(called, FunctionType) and called.__module__.startswith("qmigrate.cli."):
            called = inspect.unwrap(called)
            if called not in seen and called is not function:
                yield from _shown(called, seen | {function})


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
        if isinstance(node, ast.ImportFrom) and node.module and node.module.partition(".")[0] != "__future__":
            source = importlib.import_module(node.module)
            for one in node.names:
                found = getattr(source, one.name, None)
                yield one.asname or one.name, found or importlib.import_module(f"{node.module}.{one.name}")


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
