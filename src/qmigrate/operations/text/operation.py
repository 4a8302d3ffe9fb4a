"""One operation as the code that makes it again, and back: for revisions that are written for a person. No files."""

from __future__ import annotations

import ast
import importlib
from collections.abc import Mapping
from dataclasses import MISSING, fields
from functools import singledispatch
from types import ModuleType
from typing import Any, Final

from qmigrate.errors import PlanError
from qmigrate.operations.base import Operation
from qmigrate.operations.checks import is_sparse
from qmigrate.operations.collection import CreateCollection, DropCollection, Reshard, SetAlias, UpdateCollection
from qmigrate.operations.index import CreatePayloadIndex, DropPayloadIndex
from qmigrate.operations.text.code import Code, Group, Literal, call, flat, literal, mapping, quoted
from qmigrate.operations.text.source import CodeWriter, index, written
from qmigrate.operations.values import CopyOf, Embed, Empty, FillMe
from qmigrate.operations.variables import Variable
from qmigrate.operations.vector import AddVector, AlterVector, DropVector, Quantize, Reembed, RenameVector
from qmigrate.parameters.catalogue import catalogue


def operation_source(operation: Operation, comments: tuple[str, ...] = ()) -> CodeWriter:
    """An operation as code.

    Args:
        comments: lines that come before it.

    Raises:
        PlanError: it holds a function, or is of a class that nothing here writes.
    """
    used: set[str] = set()
    code = _code(operation, used)
    own = used & _OWN.keys()
    return CodeWriter(((code, comments),), frozenset(used - own), frozenset({"op", *own}))


def operation_text(operation: Operation) -> str:
    """The same on one line, without its imports, as :func:`operation_of` reads it.

    Raises:
        PlanError: see :func:`operation_source`.
    """
    return flat(_code(operation, set()))


def operation_of(text: str) -> Operation:
    """The operation that a text like ``op.DropVector("docs", "old", cutover="hold")`` makes.

    It may do nothing else: it has names of ``op``, of ``qmigrate`` and of Qdrant's models, their calls, and plain
    values.

    Raises:
        PlanError: it is another kind of text, or a call in it refuses its arguments.
    """
    hint = """for example: --op 'op.DropPayloadIndex("docs", "kind")'"""
    try:
        tree = ast.parse(text.strip(), mode="eval")
        odd = next((node for node in ast.walk(tree) if not isinstance(node, _PLAIN) or _hidden(node)), None)
        if odd is not None:
            raise PlanError(f"an operation can't hold {ast.unparse(odd)!r:.80}: {text!r:.200}", hint=hint)
        found = eval(compile(tree, "<op>", "eval"), {"__builtins__": {}}, _Names())  # noqa: S307  names and values alone
    except (SyntaxError, NameError, AttributeError, TypeError, ValueError, RecursionError) as error:
        raise PlanError(f"{text!r:.200} is not an operation: {error}", hint=hint) from error
    if not isinstance(found, Operation):
        raise PlanError(f"{text!r:.200} is not an operation", hint=hint)
    return found


#: What the text of an operation consists of.
_PLAIN = (
    *(ast.Expression, ast.Call, ast.keyword, ast.Name, ast.Attribute, ast.Load, ast.Constant, ast.UnaryOp, ast.USub),
    *(ast.List, ast.Tuple, ast.Dict),
)


def _hidden(node: ast.AST) -> bool:
    """Whether it leads further than to what a revision imports: classes are made, and nothing else is called."""
    if isinstance(node, ast.Attribute):
        return node.attr.startswith("_") or not isinstance(node.value, ast.Name)
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
        return not (isinstance(node.func.value, ast.Name) and node.func.value.id == "op")
    return isinstance(node, ast.Call) and not isinstance(node.func, ast.Name)


class _Operations:
    """``op`` without its modules, which lead everywhere."""

    def __getattr__(self, name: str) -> Any:
        module = importlib.import_module("qmigrate.operations")
        return getattr(module, name) if name in module.__all__ else module.__getattr__(name)


class _Names(dict[str, Any]):
    """What a revision imports: ``op``, values of ``qmigrate``, and models of the client, which is loaded for them."""

    def __missing__(self, name: str) -> Any:
        if name == "op":
            return _Operations()
        module = _OWN.get(name, "qdrant_client.models")
        found = getattr(importlib.import_module(module), name, None)
        if found is None or isinstance(found, ModuleType):
            raise NameError(f"there is no {name}")
        return found


#: Names of ``qmigrate`` that operations hold, and where they are.
_OWN: Final[Mapping[str, str]] = {
    **dict.fromkeys(("Checksum", "WriteBack"), "qmigrate.operations.app_sql"),
    **dict.fromkeys(("CopyOf", "Embed", "Empty", "FILL_ME"), "qmigrate.operations.values"),
    **dict.fromkeys(
        ("Compare", "KnownItem", "Logged", "Recall", "SameValue", "Sentence"), "qmigrate.operations.quality"
    ),
    "Scale": "qmigrate.model.transform",
    "variable": "qmigrate.operations.variables",
}


@singledispatch
def _code(operation: Operation, used: set[str]) -> Code:  # noqa: ARG001
    raise PlanError(f"{operation.label()} can't be written as the text of a revision")


@_code.register
def _(operation: CreateCollection, used: set[str]) -> Code:
    parts: dict[str, Code] = {}
    found = operation.apply(None)
    vectors = {name: written(params, catalogue().vector, used) for name, params in found.vectors.items()}
    if vectors:
        parts["vectors"] = vectors[""] if set(vectors) == {""} else mapping(vectors)
    sparse = {name: written(params, catalogue().sparse, used) for name, params in found.sparse.items()}
    if sparse:
        parts["sparse_vectors"] = mapping(sparse)
    indexes = {name: index(params, used) for name, params in sorted(found.indexes.items())}
    if indexes:
        parts["payload_indexes"] = mapping(indexes)
    for key in (key for key in CreateCollection.settings() if key in found.config):
        parts[key] = _setting(found.config[key], catalogue().create.known[key], used)
    return call("op.CreateCollection", Literal(quoted(operation.name)), **parts)


@_code.register
def _(operation: DropCollection, used: set[str]) -> Code:  # noqa: ARG001
    return call("op.DropCollection", Literal(quoted(operation.name)))


@_code.register
def _(operation: UpdateCollection, used: set[str]) -> Code:
    parts = {key: _setting(value, catalogue().update.known[key], used) for key, value in operation.config.items()}
    if operation.params:
        names = {key: _setting(value, catalogue().params.known[key], used) for key, value in operation.params.items()}
        used.add(catalogue().params.model)
        parts["params"] = call(catalogue().params.model, **names)
    for key in ("vectors_config", "sparse_vectors_config"):
        found = getattr(operation, key)
        if found:
            parts[key] = literal(found)
    return call("op.UpdateCollection", Literal(quoted(operation.collection)), **parts, **_wish(operation))


@_code.register
def _(operation: Reshard, used: set[str]) -> Code:
    names = ("shard_number", "replication_factor", "write_consistency_factor")
    given = {name: getattr(operation, name) for name in names if getattr(operation, name) is not None}
    parts = {name: _setting(value, int, used) for name, value in given.items()}
    return call("op.Reshard", Literal(quoted(operation.collection)), **parts)


@_code.register
def _(operation: SetAlias, used: set[str]) -> Code:  # noqa: ARG001
    return call("op.SetAlias", Literal(quoted(operation.alias)), Literal(quoted(operation.collection)))


@_code.register
def _(operation: CreatePayloadIndex, used: set[str]) -> Code:
    return call("op.CreatePayloadIndex", *_named(operation), index(operation.schema, used), **_wish(operation))


@_code.register
def _(operation: DropPayloadIndex, used: set[str]) -> Code:  # noqa: ARG001
    return call("op.DropPayloadIndex", *_named(operation))


@_code.register
def _(operation: AddVector, used: set[str]) -> Code:
    return call("op.AddVector", *_named(operation), _params(operation.params, used), **_vector_parts(operation, used))


@_code.register
def _(operation: AlterVector, used: set[str]) -> Code:
    return call("op.AlterVector", *_named(operation), _params(operation.params, used), **_vector_parts(operation, used))


@_code.register
def _(operation: Quantize, used: set[str]) -> Code:
    placed = {} if operation.on_disk is None else {"on_disk": literal(operation.on_disk)}
    return call(
        "op.Quantize", *_named(operation), literal(operation.to), **placed, **_vector_parts(operation, used)
    )


@_code.register
def _(operation: Reembed, used: set[str]) -> Code:
    return call("op.Reembed", *_named(operation), **_vector_parts(operation, used))


@_code.register
def _(operation: DropVector, used: set[str]) -> Code:
    return call("op.DropVector", *_named(operation), **_vector_parts(operation, used))


@_code.register
def _(operation: RenameVector, used: set[str]) -> Code:
    name = Literal(quoted(operation.new_name))
    return call("op.RenameVector", *_named(operation), name, **_vector_parts(operation, used))


def _named(operation: Operation) -> list[Code]:
    return [Literal(quoted(getattr(operation, name))) for name in operation.named_by]


def _params(params: Mapping[str, Any], used: set[str]) -> Code:
    return written(params, catalogue().sparse if is_sparse(dict(params)) else catalogue().vector, used)


def _setting(value: Any, kind: Any, used: set[str]) -> Code:
    if isinstance(value, Variable):
        used.add("variable")
        return call("variable", Literal(quoted(value.name)), Literal(str(value.default)))
    return written(value, kind, used)


def _vector_parts(operation: Operation, used: set[str]) -> dict[str, Code]:
    """``values=``, ``cutover=`` and ``quality=`` of an operation that has them."""
    parts: dict[str, Code] = {}
    values, cutover = getattr(operation, "values", None), getattr(operation, "cutover", None)
    quality = getattr(operation, "quality", None)
    if values is not None:
        parts["values"] = _value(values, operation, used)
    if cutover is not None:
        parts["cutover"] = literal(cutover)
    if quality is not None:
        parts["quality"] = _own(quality, used)
    return {**parts, **_wish(operation)}


def _wish(operation: Operation) -> dict[str, Code]:
    """``strategy=`` where one was asked for."""
    wish = getattr(operation, "wish", None)
    return {"strategy": literal(wish)} if wish is not None else {}


def _value(value: object, operation: Operation, used: set[str]) -> Code:
    if isinstance(value, FillMe):
        used.add("FILL_ME")
        return Literal("FILL_ME")
    if isinstance(value, Empty):
        used.add("Empty")
        return Group("Empty(", (), ")")
    if isinstance(value, CopyOf):
        return _own(value, used)
    if isinstance(value, Embed) and not callable(value.spec):
        used.add("Embed")
        parts = {name: getattr(value, name) for name in ("text", "image", "on_failure")}
        named = {name: literal(one) for name, one in parts.items() if one is not None}
        beside = {name: _own(getattr(value, name), used) for name in ("checksum", "write_back") if getattr(value, name)}
        return call("Embed", literal(value.embedder), **named, **beside)
    raise PlanError(f"{operation.label()}: what fills the vector can't be written as text")


def _own(value: Any, used: set[str]) -> Code:
    """A value of this library, with the arguments that are not as they are anyway; those of it in the same way."""
    name = type(value).__name__
    if name not in _OWN:
        raise PlanError(f"{name} can't be written as the text of a revision")
    used.add(name)
    first: list[Code] = []
    named: dict[str, Code] = {}
    for one in fields(value):
        given = getattr(value, one.name)
        usual = one.default if one.default_factory is MISSING else one.default_factory()
        if given == usual:
            continue
        code = literal(given) if not hasattr(type(given), "__dataclass_fields__") else _own(given, used)
        if one.default is MISSING and not one.kw_only:
            first.append(code)
        else:
            named[one.name] = code
    return call(name, *first, **named)
