"""Operations as JSON and back: for those that are in no file. It takes data only, never code."""

from __future__ import annotations

import ast
import hashlib
import inspect
import json
import textwrap
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import MISSING, Field, fields, is_dataclass
from difflib import SequenceMatcher
from typing import Any

from qmigrate import operations
from qmigrate.errors import PlanError
from qmigrate.model.schema import JsonObject
from qmigrate.model.transform import Scale
from qmigrate.operations import quality, values
from qmigrate.operations.base import Operation, assign
from qmigrate.operations.deletion import DeleteOrphans, DeletePoints
from qmigrate.operations.rekey import Uuid5

#: Marks an object of ours among plain JSON, and one of the user's own that would look like it.
_KIND, _TUPLE, _OBJECT = "$is", "$tuple", "$object"
_MARKS = frozenset({_KIND, _TUPLE, _OBJECT})


def to_text(found: Iterable[Operation]) -> str:
    """The one text of some operations: equal operations have equal texts.

    Raises:
        PlanError: one of them holds code, such as a function.
    """
    return json.dumps([_out(one, one) for one in found], sort_keys=True, ensure_ascii=False, separators=(",", ":"))


def from_text(text: str) -> tuple[Operation, ...]:
    """The inverse of :func:`to_text`.

    Raises:
        PlanError: it names something that this version of qmigrate doesn't have.
    """
    return tuple(_in(one) for one in json.loads(text))


def checksum_of(text: str) -> str:
    """SHA-256, as revision files have one."""
    return hashlib.sha256(text.encode()).hexdigest()


def arguments_of(operation: Operation, code: Callable[[Any], Any]) -> dict[str, Any]:
    """The arguments of an operation as plain JSON; those that have their default are left out.

    Args:
        code: makes plain JSON of what can't be kept without a file.
    """
    said: dict[str, Any] = _out(operation, operation, code)
    return {name: value for name, value in said.items() if name != _KIND}


def _out(value: Any, within: Operation, code: Callable[[Any], Any] | None = None) -> Any:
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, Mapping) and all(isinstance(key, str) for key in value):
        said = {key: _out(item, within, code) for key, item in value.items()}
        return {_OBJECT: said} if _MARKS & said.keys() else said
    if isinstance(value, list):
        return [_out(item, within, code) for item in value]
    if isinstance(value, tuple):
        return {_TUPLE: [_out(item, within, code) for item in value]}
    known = code is not None or _class(type(value).__name__) is type(value)
    if known and is_dataclass(value) and not isinstance(value, type):
        # What is as it is anyway is left out: an argument that comes with a later version changes no recorded text.
        said = {one.name: getattr(value, one.name) for one in fields(value)}
        told = {one.name for one in fields(value) if not _equal(said[one.name], _default(one))}
        return {_KIND: type(value).__name__, **{name: _out(said[name], within, code) for name in sorted(told)}}
    if code is not None:
        return code(value)
    raise PlanError(
        f"{within.label()} contains {type(value).__name__} {getattr(value, '__name__', '')}".rstrip()
        + ", which can't be recorded without a file",
        hint="write it into a revision file (qmigrate revision) and name that one: qdrant.run(…)",
    )


def _in(value: Any) -> Any:
    if isinstance(value, list):
        return [_in(item) for item in value]
    if not isinstance(value, dict):
        return value
    if set(value) == {_OBJECT} and isinstance(value[_OBJECT], dict):
        return {key: _in(item) for key, item in value[_OBJECT].items()}
    if set(value) == {_TUPLE}:
        return tuple(_in(item) for item in value[_TUPLE])
    if _KIND not in value:
        return {key: _in(item) for key, item in value.items()}
    kind = _class(value[_KIND])
    if kind is None:
        raise PlanError(
            f"an operation {value[_KIND]} is recorded that this version of qmigrate doesn't have",
            hint="install the qmigrate that recorded it, or a newer one",
        )
    # Not by the constructor: what it makes of its arguments is what was recorded.
    made = object.__new__(kind)
    said = {key: _in(item) for key, item in value.items() if key != _KIND}
    usual = {one.name: _default(one) for one in fields(kind) if one.name not in said}
    assign(made, **usual, **said)
    if isinstance(made, DeletePoints | DeleteOrphans):
        made.as_recorded()
    return made


def _default(argument: Field[Any]) -> Any:
    """The default of an argument; ``MISSING`` where it must be given."""
    return argument.default if argument.default_factory is MISSING else argument.default_factory()


def _equal(one: Any, other: Any) -> bool:
    """1 and True are not the same here."""
    return type(one) is type(other) and bool(one == other)


def _class(name: str) -> Any:
    """An operation of ``qmigrate.op``, what fills a vector, or what makes ids; nothing else is ever made."""
    if name == "Uuid5":
        return Uuid5
    if name in operations.__all__:
        return getattr(operations, name)
    if name in ("Compare", "KnownItem", "Logged", "Recall", "SameValue", "Sentence"):
        return getattr(quality, name)
    if name == "Scale":
        return Scale
    return getattr(values, name) if name in ("Checksum", "CopyOf", "Embed", "Empty", "WriteBack") else None


#: Names that a revision file assigns, and that are compared by themselves.
_ASSIGNED = frozenset({"revision", "down_revision", "requires_sql", "irreversible"})
#: Modules of revision files are called so; see ``revision_file``.
_OWN = "qmigrate_revision_"
#: Characters of a value that a difference shows.
_SHOWN = 60


def meaning_of(operations: Sequence[Operation], source: str, **further: Any) -> JsonObject:
    """What operations say, as plain JSON.

    Args:
        operations: of the revision, in order.
        source: text of its file; empty where it has none.
        further: what else the revision contains, by name.
    """
    tree = ast.parse(source)
    says = [
        {"says": one.describe(), "label": one.label(), "arguments": arguments_of(one, _code_of(tree))}
        for one in operations
    ]
    way_back = any(isinstance(node, ast.FunctionDef) and node.name == "downgrade" for node in tree.body)
    found = {"operations": says, "downgrade": _digest(_own_code(tree)) if way_back else None, **further}
    # As SQL gives it back.
    plain: JsonObject = json.loads(json.dumps(found, default=repr))
    return plain


def differences(before: JsonObject, now: JsonObject) -> tuple[str, ...]:
    """What differs between two meanings, one line each; none where they say the same."""
    found = []
    old, new = before.get("operations", []), now.get("operations", [])
    # Without the sentence for each: an earlier qmigrate may have put it in other words.
    texts = [[json.dumps({**one, "says": ""}, sort_keys=True) for one in side] for side in (old, new)]
    for tag, first, last, begin, end in SequenceMatcher(None, texts[0], texts[1], autojunk=False).get_opcodes():
        if tag != "equal":
            found += _of_operations(old[first:last], new[begin:end])
    for name in sorted((before.keys() | now.keys()) - {"operations"}):
        if before.get(name) != now.get(name):
            words = ("other code now",) if name == "downgrade" else (_shown(before.get(name)), _shown(now.get(name)))
            found.append(f"{name}: {' → '.join(words)}")
    return tuple(found)


def _of_operations(old: Sequence[JsonObject], new: Sequence[JsonObject]) -> list[str]:
    found = []
    for was, is_now in zip(old, new, strict=False):
        if was["label"] != is_now["label"]:
            found.append(f"{was['says']} → {is_now['says']}")
            continue
        before, now = was["arguments"], is_now["arguments"]
        for name in sorted(before.keys() | now.keys()):
            if before.get(name) != now.get(name):
                found.append(f"{was['label']} {name}: {_shown(before.get(name))} → {_shown(now.get(name))}")
    found += [f"removed: {one['says']}" for one in old[len(new) :]]
    found += [f"added: {one['says']}" for one in new[len(old) :]]
    return found


def _shown(value: Any) -> str:
    words = "–" if value is None else value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return words if len(words) <= _SHOWN else f"{words[: _SHOWN - 1]}…"


def _code_of(tree: ast.Module) -> Callable[[Any], Any]:
    """Makes plain JSON of what an operation holds and no file could: functions, by what they do."""

    def plain(value: Any) -> Any:
        name = getattr(value, "__qualname__", None)
        if name is None:
            return {"$value": repr(value)}
        module = str(getattr(value, "__module__", ""))
        if not module.startswith(_OWN):
            return {"$code": f"{module}.{name}", "digest": _digest_of(value)}
        # Whatever it calls stands in the file as well; what is written inside upgrade() is part of that.
        inside = "<" in name
        return {"$code": name, "digest": _digest(tree.body if inside else _own_code(tree))}

    return plain


def _digest_of(value: Any) -> str | None:
    try:
        return _digest(ast.parse(textwrap.dedent(inspect.getsource(value))).body)
    except (OSError, TypeError, SyntaxError):
        return None


def _own_code(tree: ast.Module) -> list[ast.stmt]:
    """The file without what is compared by itself, its imports in the order of their text."""
    imports = [node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)]
    rest = [node for node in tree.body if node not in imports and not _stands_alone(node)]
    return [*sorted(imports, key=ast.unparse), *rest]


def _stands_alone(node: ast.stmt) -> bool:
    if isinstance(node, ast.FunctionDef):
        return node.name == "upgrade"
    targets = node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
    return any(isinstance(target, ast.Name) and target.id in _ASSIGNED for target in targets)


def _digest(body: Sequence[ast.stmt]) -> str:
    """Of code as Python understands it: without comments, layout and docstrings."""
    module = _Silent().visit(ast.parse(ast.unparse(ast.Module(list(body), []))))
    return hashlib.sha256(ast.unparse(module).encode()).hexdigest()


class _Silent(ast.NodeTransformer):
    """Takes docstrings, and other texts that are statements by themselves, out."""

    def visit_Expr(self, node: ast.Expr) -> ast.AST | None:
        if isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            return ast.Pass()
        return node
