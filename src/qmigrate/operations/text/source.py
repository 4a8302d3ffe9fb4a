"""Schemas and changes as the text of a revision's operations. It writes no file and executes nothing.

What a revision can't say is never lost silently: it is listed in :attr:`Source.missing` and becomes a comment
before the operation.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from qmigrate.model.schema import Change, CollectionSchema, JsonObject, declared_differs
from qmigrate.operations.checks import is_sparse, metadata_problem, shown, value_problem
from qmigrate.operations.collection import CreateCollection
from qmigrate.operations.text.code import WIDTH, Code, Group, Literal, call, laid_out, listed, literal, mapping, quoted
from qmigrate.parameters.catalogue import catalogue
from qmigrate.parameters.kinds import Each, Fields, Listed, Words
from qmigrate.parameters.own import SERVER_DEFAULTS


def written(value: Any, kind: Any, used: set[str]) -> Code:
    """A value of a kind of the catalogue as code; what has no class is the plain value that it is.

    Args:
        used: gets the names that have to be imported.
    """
    if isinstance(kind, tuple):
        kind = next((one for one in kind if value_problem(value, one, "") is None), None)
    if isinstance(kind, Fields):
        return _object(value, kind, used)
    if isinstance(kind, Words) and kind.model and value in kind.members:
        used.add(kind.model)
        return Literal(f"{kind.model}.{kind.members[value]}")
    if isinstance(kind, Each):
        return mapping({key: written(item, kind.of, used) for key, item in value.items()})
    if isinstance(kind, Listed):
        return listed([written(item, kind.of, used) for item in value])
    return literal(value)


def _object(value: Mapping[str, Any], kind: Fields, used: set[str]) -> Code:
    if kind.choices:
        chosen = next((one for one in kind.choices if value_problem(value, one, "") is None), None)
        return literal(value) if chosen is None else _object(value, chosen, used)
    used.add(kind.model)
    return call(kind.model, **{key: written(item, kind.known.get(key), used) for key, item in value.items()})


def index(params: JsonObject, used: set[str]) -> Code:
    """Parameters of a payload index: its type alone, or an object like ``KeywordIndexParams``."""
    kind = str(params["type"])
    found = catalogue().index_types if len(params) == 1 else catalogue().indexes.get(kind)
    return written(kind if len(params) == 1 else params, found, used)


#: No part of a value can be expressed.
NOTHING = object()


def without_defaults(key: str, value: Any, defaults: Mapping[str, Any]) -> Any:
    """A field of the create call without what equals the server's default; None or empty when nothing is left."""
    if key == "strict_mode_config" and value == {"enabled": False}:
        # Alone it has no effect; with limits it means that they are off.
        return None
    default = defaults.get(key)
    if default is None:
        return value
    if isinstance(value, Mapping) and isinstance(default, Mapping):
        return {
            name: item
            for name, item in value.items()
            if item is not None and (name not in default or declared_differs(item, default[name]))
        }
    return value if declared_differs(value, default) else None


def known_part(value: Any, kind: Any, where: str) -> tuple[Any, list[str]]:
    """The part of a value that is of a kind of the catalogue, and what is not, by its path."""
    if value_problem(value, kind, where) is None:
        return value, []
    if not isinstance(kind, Fields | Each) or not isinstance(value, Mapping):
        return NOTHING, [f"{where} = {value!r}"]
    kept: JsonObject = {}
    lost: list[str] = []
    for key, item in value.items():
        inner = kind.of if isinstance(kind, Each) else kind.known.get(key, NOTHING)
        if inner is NOTHING:
            lost.append(f"{where}.{key} = {item!r}")
            continue
        part, gone = known_part(item, inner, f"{where}.{key}")
        lost += gone
        if part is not NOTHING:
            kept[key] = part
    if value_problem(kept, kind, where):
        return NOTHING, [f"{where} = {value!r}"]
    return kept, lost


#: Fields of ``Reshard``.
_RESHARD = frozenset({"shard_number"})


@dataclass(frozen=True, slots=True)
class CodeWriter:
    """Operations as code.

    Attributes:
        operations: in order, each with the comments before it; None for comments alone.
        models: names of ``qdrant_client.models`` that they use.
        words: names of ``qmigrate`` that they use.
        missing: what a revision can't say, one line each.
    """

    operations: tuple[tuple[Code | None, tuple[str, ...]], ...] = ()
    models: frozenset[str] = frozenset()
    words: frozenset[str] = frozenset({"op"})
    missing: tuple[str, ...] = ()

    def __add__(self, other: CodeWriter) -> CodeWriter:
        """Both, one after the other."""
        return CodeWriter(
            self.operations + other.operations,
            self.models | other.models,
            self.words | other.words,
            self.missing + other.missing,
        )

    def imports(self) -> str:
        """The import lines, sorted as linters want them."""
        lines = [_import("qmigrate", self.words)]
        if self.models:
            lines.insert(0, _import("qdrant_client.models", self.models))
        if "FILL_ME" in self.words:
            # As in a file that is filled in by hand: nothing that would be unused.
            lines.append("# from qmigrate import Compute, CopyOf, Embed, Empty  (one of them instead of FILL_ME)")
        return "\n".join(lines)

    def text(self, *, indent: int = 4) -> str:
        """The list that ``upgrade()`` returns, behind ``return`` at `indent` spaces."""
        if not self.operations:
            return "[]"
        pad = " " * (indent + 4)
        lines = ["["]
        for operation, comments in self.operations:
            for comment in comments:
                lines += textwrap.wrap(
                    _printable(comment),
                    WIDTH,
                    initial_indent=f"{pad}# ",
                    subsequent_indent=f"{pad}#   ",
                    break_long_words=False,
                    break_on_hyphens=False,
                )
            if operation is not None:
                lines.append(laid_out(operation, indent=indent + 4, after=","))
        return "\n".join([*lines, " " * indent + "]"])


def _printable(comment: str) -> str:
    """Names of the user's may hold anything; a file with a null byte or half a surrogate is not valid Python."""
    return "".join(one if one.isprintable() else one.encode("unicode_escape").decode() for one in comment)


@dataclass(slots=True)
class _Draft:
    """A source while it is put together."""

    used: set[str] = field(default_factory=set)
    words: set[str] = field(default_factory=lambda: {"op"})
    lost: list[str] = field(default_factory=list)
    operations: list[tuple[Code | None, tuple[str, ...]]] = field(default_factory=list)

    def add(self, operation: Code | None) -> None:
        """One more operation, with what was lost on the way to it."""
        said = sum(len(comments) for _, comments in self.operations)
        comments = tuple(f"A revision can't express this: {line}" for line in self.lost[said:])
        self.operations.append((operation, comments))

    def said(self, value: Any, kind: Any, where: str) -> Any:
        """The part of a value that operations take, or ``NOTHING``; the rest is listed as lost."""
        part, lost = known_part(value, kind, where)
        self.lost += lost
        return part

    def finished(self) -> CodeWriter:
        """The result; what was lost after the last operation comes after it."""
        if len(self.lost) > sum(len(comments) for _, comments in self.operations):
            self.add(None)
        return CodeWriter(tuple(self.operations), frozenset(self.used), frozenset(self.words), tuple(self.lost))


def create_source(
    name: str,
    schema: CollectionSchema,
    *,
    defaults: Mapping[str, Any] = SERVER_DEFAULTS,
    unknown: Iterable[str] = (),
) -> CodeWriter:
    """Operations that make a collection of `schema`.

    Args:
        name: logical name, or a glob for collections that are equal.
        schema: as found live; its aliases become ``SetAlias``.
        defaults: what a server fills in by itself, by field of the create call: left out where it is equal.
        unknown: fields of the live collection that this version of qmigrate doesn't know.

    Returns:
        ``CreateCollection``, and what only an update can say.
    """
    draft = _Draft()
    config = {key: without_defaults(key, value, defaults) for key, value in schema.config.items()}
    config = {key: value for key, value in config.items() if value not in (None, {})}
    parts: dict[str, Code] = {}
    vectors = _each(draft, schema.vectors, catalogue().vector, "vector")
    if vectors:
        parts["vectors"] = vectors[""] if set(vectors) == {""} else mapping(vectors)
    sparse = _each(draft, schema.sparse, catalogue().sparse, "sparse vector")
    if sparse:
        parts["sparse_vectors"] = mapping(sparse)
    indexes = _indexes(draft, schema.indexes)
    if indexes:
        parts["payload_indexes"] = mapping(indexes)
    for key in (key for key in CreateCollection.settings() if key in config):
        found = _setting(draft, key, config.pop(key), catalogue().create.known[key])
        if found is not None:
            parts[key] = found
    later = {key: config.pop(key) for key in sorted(catalogue().params.known.keys() & config.keys())}
    draft.lost += [f"{key} = {value!r}" for key, value in sorted(config.items())]
    draft.lost += [f"{key}, a setting that this version of qmigrate doesn't know" for key in unknown]
    draft.add(call("op.CreateCollection", Literal(quoted(name)), **parts))
    if later:
        _update(draft, name, {"params": later})
    return draft.finished() + alias_source(name, schema.aliases)


def drop_source(name: str) -> CodeWriter:
    """The operation that takes a name away."""
    draft = _Draft()
    draft.add(call("op.DropCollection", _pattern(name)))
    return draft.finished()


def alias_source(name: str, aliases: Iterable[str]) -> CodeWriter:
    """Operations that give a collection further names."""
    draft = _Draft()
    for alias in aliases:
        draft.add(call("op.SetAlias", Literal(quoted(alias)), Literal(quoted(name))))
    return draft.finished()


def change_source(
    name: str, found: Iterable[Change], *, defaults: Mapping[str, Any] = SERVER_DEFAULTS
) -> CodeWriter:
    """Operations that make these changes of a collection; drift, accepted.

    Args:
        name: logical name.
        found: differences, `after` being the target. Settings that `before` doesn't name and that equal what a
            server fills in by itself are not part of it.
        defaults: what a server fills in by itself.

    Returns:
        One operation per change, settings joined in one ``UpdateCollection``. A new vector is ``Empty()``.
    """
    draft = _Draft()
    settings: dict[str, Any] = {}
    # Drops first: a sparse vector may make way for a dense one of its name.
    for change in sorted(found, key=lambda change: not change.kind.endswith(".drop")):
        family, verb = change.kind.split(".")
        if family == "config":
            _collect(draft, change, settings, defaults)
        elif family == "index":
            _index_change(draft, name, change, verb)
        elif family == "alias":
            _alias_change(draft, name, change, verb)
        else:
            _vector_change(draft, name, change, verb)
    shards = {key: settings.pop(key) for key in sorted(_RESHARD & settings.keys())}
    params = {key: settings.pop(key) for key in sorted(catalogue().params.known.keys() & settings.keys())}
    if params:
        settings["params"] = params
    if settings:
        _update(draft, name, settings)
    if shards:
        draft.add(call("op.Reshard", _pattern(name), **{key: literal(value) for key, value in shards.items()}))
    return draft.finished()


def _each(draft: _Draft, found: Mapping[str, JsonObject], kind: Fields, family: str) -> dict[str, Code]:
    made = {}
    for name, params in found.items():
        part = draft.said(params, kind, f"{family} {shown(name)}")
        if part is not NOTHING:
            made[name] = written(part, kind, draft.used)
    return made


def _indexes(draft: _Draft, found: Mapping[str, JsonObject]) -> dict[str, Code]:
    made = {}
    for name, params in sorted(found.items()):
        part = _index_part(draft, name, params)
        if part is not NOTHING:
            made[name] = index(part, draft.used)
    return made


def _index_part(draft: _Draft, name: str, params: JsonObject) -> Any:
    kind = catalogue().indexes.get(str(params.get("type")))
    if kind is None:
        draft.lost.append(f"payload index {name} = {params!r}")
        return NOTHING
    return draft.said(params, kind, f"payload index {name}")


def _setting(draft: _Draft, key: str, value: Any, kind: Any) -> Code | None:
    if key == "sharding_method" and value == "custom":
        draft.lost.append("sharding_method = 'custom'")
        return None
    if key == "metadata":
        value = _metadata(draft, value)
        return literal(value) if value else None
    part = draft.said(value, kind, key)
    return None if part is NOTHING else written(part, kind, draft.used)


def _metadata(draft: _Draft, metadata: JsonObject) -> JsonObject:
    kept = {}
    for key, value in metadata.items():
        if metadata_problem({key: value}):
            draft.lost.append(f"metadata {key!r} = {value!r}")
        else:
            kept[key] = value
    return kept


def _pattern(name: str) -> Literal:
    """The argument that means this very name where a glob is allowed: brackets would be one."""
    return Literal(quoted(name if {"*", "?"} & set(name) else name.replace("[", "[[]")))


def _update(draft: _Draft, name: str, settings: Mapping[str, Any]) -> None:
    parts: dict[str, Code] = {}
    for key, value in settings.items():
        if key == "params":
            part = draft.said(value, catalogue().params, key)
            if part is not NOTHING and part:
                parts[key] = written(part, catalogue().params, draft.used)
        elif key in catalogue().update.known:
            found = _setting(draft, key, value, catalogue().update.known[key])
            if found is not None:
                parts[key] = found
        else:
            draft.lost.append(f"{key} = {value!r}, which only a new collection can have")
    if parts:
        draft.add(call("op.UpdateCollection", _pattern(name), **parts))


def _collect(draft: _Draft, change: Change, settings: dict[str, Any], defaults: Mapping[str, Any]) -> None:
    """A changed setting: only what differs, since an update leaves the rest as it is."""
    if change.after is None:
        draft.lost.append(f"{change.name} was {change.before!r} and is not set any more")
    elif change.name == "quantization_config" or not isinstance(change.after, Mapping):
        if change.before is not None or without_defaults(change.name, change.after, defaults) is not None:
            settings[change.name] = change.after
    else:
        before = change.before if isinstance(change.before, Mapping) else {}
        default = defaults.get(change.name)
        silent = default if isinstance(default, Mapping) else {}
        wanted = _difference(draft, change.name, before, change.after, silent)
        if wanted:
            settings[change.name] = wanted


def _difference(
    draft: _Draft, where: str, before: Mapping[str, Any], after: Mapping[str, Any], silent: Mapping[str, Any]
) -> JsonObject:
    wanted: JsonObject = {}
    for key, value in after.items():
        old = before.get(key)
        if isinstance(value, Mapping) and isinstance(old, Mapping) and where != "metadata":
            inner = _difference(draft, f"{where}.{key}", old, value, {})
            if inner:
                wanted[key] = inner
        elif value is None or not _differs(where, key, before, value):
            continue
        elif old is not None or key not in silent or declared_differs(value, silent[key]):
            wanted[key] = value
    for key, value in before.items():
        if value is not None and after.get(key) is None:
            draft.lost.append(f"{where}.{key} was {value!r} and is not set any more")
    return wanted


def _differs(where: str, key: str, before: Mapping[str, Any], value: Any) -> bool:
    """Metadata is the user's own JSON, in which even an empty object means something."""
    if where == "metadata":
        return key not in before or bool(before[key] != value)
    return declared_differs(before.get(key), value)


def _index_change(draft: _Draft, name: str, change: Change, verb: str) -> None:
    arguments = [_pattern(name), Literal(quoted(change.name))]
    if verb == "drop":
        draft.add(call("op.DropPayloadIndex", *arguments))
        return
    part = _index_part(draft, change.name, change.after)
    if part is not NOTHING:
        draft.add(call("op.CreatePayloadIndex", *arguments, index(part, draft.used)))


def _alias_change(draft: _Draft, name: str, change: Change, verb: str) -> None:
    if verb == "add":
        draft.add(call("op.SetAlias", Literal(quoted(change.name)), Literal(quoted(name))))
    else:
        draft.lost.append(f"the alias {change.name} is gone")


def _vector_change(draft: _Draft, name: str, change: Change, verb: str) -> None:
    arguments: list[Code] = [_pattern(name), Literal(quoted(change.name))]
    if verb == "drop":
        draft.add(call("op.DropVector", *arguments, cutover=Literal('"immediate"')))
        return
    sparse = is_sparse(change.after)
    kind = catalogue().sparse if sparse else catalogue().vector
    part = draft.said(change.after, kind, f"vector {shown(change.name)}")
    if part is NOTHING:
        return
    arguments.append(written(part, kind, draft.used))
    if verb == "add":
        draft.words.add("Empty")
        draft.add(call("op.AddVector", *arguments, values=Group("Empty(", (), ")")))
        return
    before = change.before or {}
    decisive = ("size", "distance", "multivector_config")
    named: dict[str, Code] = {}
    if any(before.get(key) != change.after.get(key) for key in decisive):
        named["cutover"] = Literal('"immediate"')
    if before.get("size") != change.after.get("size"):
        draft.lost.append(f"what fills vector {shown(change.name)} of another size: values=Embed(…) or Compute(…)")
        draft.words.add("Empty")
        named = {"values": Group("Empty(", (), ")"), **named}
    draft.add(call("op.AlterVector", *arguments, **named))


def _import(module: str, names: Iterable[str]) -> str:
    # Constants, classes, functions: as linters want them.
    found = sorted(names, key=lambda name: (not name.isupper(), not name[0].isupper(), name.lower(), name))
    line = f"from {module} import {', '.join(found)}"
    if len(line) <= WIDTH:
        return line
    return "\n".join([f"from {module} import (", *(f"    {name}," for name in found), ")"])
