"""One file of revisions as text: its syntax tree, its ignores, and the line of each operation."""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import CodeType, ModuleType

from qmigrate.errors import RevisionError
from qmigrate.operations.base import Operation
from qmigrate.revisions.file import Revision, load_file

_COMMENT = re.compile(r"#\s*qmigrate:\s*ignore\b(?P<rest>.*)")
_IGNORE = re.compile(r"\s*\[(?P<codes>[^\]]*)\]\s*(?P<reason>.*)")
_LINE = re.compile(r", line (\d+)")


@dataclass(frozen=True, slots=True)
class Span:
    """Lines of a file, the first and the last, from 1."""

    line: int
    end: int


@dataclass(frozen=True, slots=True)
class Ignore:
    """A comment ``# qmigrate: ignore[QM302] the old vector is unused since June``.

    Attributes:
        line: its own.
        covers: the line that it is about: its own, or the next one when it is alone.
        codes: in the order they are written; empty when the comment can't be read.
    """

    line: int
    covers: int
    codes: tuple[str, ...]
    reason: str


@dataclass(slots=True, eq=False)
class PythonSource:
    """A revision file.

    Attributes:
        path: the file.
        text: what it holds; empty when it can't be read.
        revision: None when it can't be loaded.
        module: what running it made.
        problem: why it can't be loaded, or None.
        problem_line: where.
    """

    path: Path
    text: str = ""
    revision: Revision | None = None
    module: ModuleType | None = None
    problem: str | None = None
    problem_line: int = 1
    tree: ast.Module = field(default_factory=lambda: ast.Module([], []))
    ignores: tuple[Ignore, ...] = ()

    @classmethod
    def parse(cls, path: Path) -> PythonSource:
        """Read a file without running it; what goes wrong becomes its `problem`."""
        found = cls(path)
        try:
            found.text = path.read_text(encoding="utf-8-sig")
            found.tree = ast.parse(found.text)
            found.ignores = tuple(_ignores(found.text))
        except (OSError, SyntaxError, ValueError, tokenize.TokenError) as error:
            found.problem = str(error.msg if isinstance(error, SyntaxError) else error)
            found.problem_line = int(getattr(error, "lineno", None) or 1)
        return found

    @classmethod
    def read(cls, path: Path) -> PythonSource:
        """Read and run a file; what goes wrong becomes its `problem`."""
        # Running it names what is wrong with the text better.
        found = replace(cls.parse(path), problem=None, problem_line=1)
        try:
            found.revision, found.module = load_file(path)
        except RevisionError as error:
            line = _LINE.search(error.message)
            found.problem_line = int(line.group(1)) if line else 1
            said = error.message.removeprefix(str(path)).removeprefix(line.group() if line else "").lstrip(": ")
            found.problem = f"{said} ({error.hint})" if error.hint else said
        return found

    def span_of(self, variable: str) -> Span:
        """Where a variable of the module is set; the first line when it isn't."""
        for node in self.tree.body:
            targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
            if any(isinstance(target, ast.Name) and target.id == variable for target in targets):
                return span(node)
        return Span(1, 1)

    def span_of_function(self, name: str) -> Span:
        """The line with ``def name``; the first line when there is none."""
        found = self.function(name)
        return Span(found.lineno, found.lineno) if found else Span(1, 1)

    def function(self, name: str) -> ast.FunctionDef | None:
        """A function of the module."""
        return next((one for one in self.tree.body if isinstance(one, ast.FunctionDef) and one.name == name), None)

    def span_of_operation(self, operation: Operation, index: int) -> Span:
        """Where an operation of ``upgrade()`` is written; where that isn't clear, the line of the function."""
        upgrade = self.function("upgrade")
        if upgrade is None or self.revision is None:
            return Span(1, 1)
        calls = list(_operation_calls(upgrade))
        kind = type(operation).__name__
        kinds = [type(one).__name__ for one in self.revision.operations]
        if [name for name, _ in calls] == kinds:
            return span(calls[index][1])
        same = [call for name, call in calls if name == kind]
        if kinds.count(kind) == len(same):
            return span(same[kinds[:index].count(kind)])
        named = [call for call in same if _first_argument(call) == operation.written]
        if len(named) == 1 or (same and not named and len(same) == 1):
            return span((named or same)[0])
        return Span(upgrade.lineno, upgrade.lineno)


def span(node: ast.AST) -> Span:
    """The lines of a piece of syntax."""
    line = int(getattr(node, "lineno", 1))
    return Span(line, int(getattr(node, "end_lineno", None) or line))


def _operation_calls(function: ast.FunctionDef) -> Iterator[tuple[str, ast.Call]]:
    """Calls like ``op.AddVector(…)``, in the order they are written."""
    found = [
        (node.func.attr, node)
        for node in ast.walk(function)
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and isinstance(node.func.value, ast.Name)
        and node.func.value.id == "op"
    ]
    yield from sorted(found, key=lambda one: (one[1].lineno, one[1].col_offset))


def _first_argument(call: ast.Call) -> object:
    first = call.args[0] if call.args else next((one.value for one in call.keywords if one.arg), None)
    return first.value if isinstance(first, ast.Constant) else None


def _ignores(text: str) -> Iterator[Ignore]:
    lines = text.splitlines()
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        match = _COMMENT.search(token.string) if token.type == tokenize.COMMENT else None
        if match is None:
            continue
        line = token.start[0]
        alone = lines[line - 1].strip().startswith("#")
        parts = _IGNORE.fullmatch(match["rest"])
        codes = tuple(code.strip() for code in parts["codes"].split(",") if code.strip()) if parts else ()
        reason = parts["reason"].strip() if parts else ""
        yield Ignore(line, _next_code(lines, line) if alone else line, codes, reason)


def _next_code(lines: list[str], line: int) -> int:
    """The next line that is neither empty nor a comment."""
    for number in range(line + 1, len(lines) + 1):
        if lines[number - 1].strip() and not lines[number - 1].strip().startswith("#"):
            return number
    return line


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


def mentioned(source: PythonSource, start: ast.AST) -> Iterator[tuple[str, ast.expr]]:
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


def not_returned(source: PythonSource) -> Iterator[tuple[str, ast.Call]]:
    """(name, call) of every operation that stands alone as a statement, wherever in the file: nothing does it."""
    names = imported(source.tree)
    for node in ast.walk(source.tree):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
            name = full_name(node.value.func, names) or ""
            if name.startswith("qmigrate.op."):
                yield name.removeprefix("qmigrate."), node.value


def definition(source: PythonSource, function: Callable[..., object]) -> ast.FunctionDef | ast.Lambda | None:
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
