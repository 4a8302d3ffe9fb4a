"""The JSON of each command: a schema for programs, tables for people, both made of the result's dataclass."""

from __future__ import annotations

import dataclasses
import json
import types
from collections.abc import Collection, Mapping, Sequence
from collections.abc import Set as AbstractSet
from datetime import datetime
from enum import Enum
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import markdown as md
from results import commands, namespace, results

SIMPLE: dict[Any, dict[str, Any]] = {
    str: {"type": "string"},
    int: {"type": "integer"},
    float: {"type": "number"},
    bool: {"type": "boolean"},
    type(None): {"type": "null"},
    datetime: {"type": "string", "format": "date-time"},
    Path: {"type": "string"},
}
LISTS = (tuple, list, set, frozenset, Sequence, Collection, AbstractSet)
ERROR = {
    "type": "object",
    "required": ["type", "message", "hint", "exit_code", "facts"],
    "properties": {
        "type": {"type": "string", "description": "the class in qmigrate.errors"},
        "message": {"type": "string", "description": "one sentence: what, where, why"},
        "hint": {"type": ["string", "null"], "description": "what to do next, often a command"},
        "exit_code": {"type": "integer", "description": "that of the process"},
        "code": {"type": "string", "description": "what it is beyond the exit code, where it has a word of its own"},
        "facts": {"type": "object", "description": "what the message is made of"},
    },
}


def pages() -> dict[str, str]:
    """Path below docs/ -> text."""
    found = {words: results(words, command) for words, command in commands()}
    shown = {words: kinds for words, kinds in found.items() if kinds}
    made = {f"reference/schemas/{file_of(words)}": dumped(words, kinds) for words, kinds in shown.items()}
    return {"reference/json.md": _page(shown), **made}


def file_of(words: str) -> str:
    """The name of a command's schema."""
    return f"qmigrate.{words.replace(' ', '.')}-1.json"


def dumped(words: str, kinds: Sequence[type]) -> str:
    """The schema of what a command prints with ``--json``."""
    defs: dict[str, Any] = {}
    data = [_reference(kind, defs) for kind in kinds]
    found = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": f"qmigrate {words} --json",
        "type": "object",
        "required": ["schema", "ok"],
        "properties": {
            "schema": {"const": f"qmigrate.{words.replace(' ', '.')}/1"},
            "ok": {"type": "boolean", "description": "false: there is an error, and no data"},
            "data": data[0] if len(data) == 1 else {"anyOf": data},
            "error": ERROR,
        },
        "oneOf": [{"required": ["data"]}, {"required": ["error"]}],
        "$defs": dict(sorted(defs.items())),
    }
    return json.dumps(found, indent=1, ensure_ascii=False) + "\n"


def _reference(kind: type, defs: dict[str, Any]) -> dict[str, Any]:
    """A reference to the definition of a dataclass, which is made when it is first asked for."""
    if kind is dict:
        return {"type": "object"}
    if kind.__name__ not in defs:
        defs[kind.__name__] = {}
        defs[kind.__name__] = _object(kind, defs)
    return {"$ref": f"#/$defs/{kind.__name__}"}


def _object(kind: type, defs: dict[str, Any]) -> dict[str, Any]:
    if hasattr(kind, "to_json"):
        return {"type": "object", "description": md.first_line(kind)}
    said = md.entries(kind, "Attributes")
    properties = {
        name: of(annotation, defs) | ({"description": said[name]} if name in said else {})
        for name, annotation in fields(kind).items()
    }
    return {
        "type": "object",
        "description": md.first_line(kind),
        "required": list(properties),
        "properties": properties,
    }


def fields(kind: type) -> dict[str, Any]:
    """Fields of a dataclass with their resolved annotations."""
    hints: dict[str, Any] = {}
    for one in reversed(kind.__mro__):
        if dataclasses.is_dataclass(one):
            hints |= get_type_hints(one, namespace(one.__module__))
    return {one.name: hints[one.name] for one in dataclasses.fields(kind)}


def of(annotation: Any, defs: dict[str, Any]) -> dict[str, Any]:
    """The schema of an annotation, as :func:`qmigrate.cli.shell.to_plain` writes such a value."""
    if annotation in SIMPLE:
        return SIMPLE[annotation]
    origin, inner = get_origin(annotation), get_args(annotation)
    if origin in (Union, types.UnionType):
        return {"anyOf": [of(one, defs) for one in inner]}
    if origin is Literal:
        return {"enum": list(inner)}
    if origin in LISTS:
        several = [one for one in inner if one is not Ellipsis]
        if origin is tuple and Ellipsis not in inner:
            return {"type": "array", "prefixItems": [of(one, defs) for one in several]}
        return {"type": "array", "items": of(several[0], defs)}
    if origin in (dict, Mapping) or annotation in (dict, Mapping):
        values = of(inner[1], defs) if inner else {}
        return {"type": "object"} | ({"additionalProperties": values} if values else {})
    if isinstance(annotation, type) and issubclass(annotation, Enum):
        return {"enum": [one.value for one in annotation]}
    if dataclasses.is_dataclass(annotation):
        return dict(_reference(annotation, defs))
    return {}


def _page(shown: Mapping[str, Sequence[type]]) -> str:
    rows = []
    for words, kinds in shown.items():
        rows.append([f"`{words}`", named(kinds), f"[{file_of(words)}](schemas/{file_of(words)})"])
    return md.page(
        """# The JSON of each command

With `--json`, standard output is exactly one JSON object, whatever happens; everything else goes to standard error.

```json
{"schema": "qmigrate.status/1", "ok": true, "data": {"collections": [], "pending": 0}}
```

```json
{"schema": "qmigrate.plan/1", "ok": false,
 "error": {"type": "RevisionError", "message": "there is no folder versions", "hint": "qmigrate init makes it",
           "exit_code": 2, "facts": {}}}
```

- `schema` is the command and the version of its form. Keys are added within a version, none is renamed or removed.
- `ok` says whether there is `data` or an `error`. The exit code of the process is the answer for a script
  ([all of them](cli.md#exit-codes)): `check` has `ok: true` and 4 where it found drift.
- `error.type` is a class of `qmigrate.errors`; `error.code` is there where a condition has a word of its own
  (`unknown_name`); `error.facts` has what the message is made of.
- Times are ISO 8601 with their zone, durations seconds, sizes bytes, shares 0 to 1 unless a name says percent.

From Python the same values are [what the functions return](python.md).""",
        "## Commands",
        md.table(["command", "data", "JSON Schema"], rows),
        "## Objects",
        *_objects(shown),
    )


def named(kinds: Sequence[type], page: str = "") -> str:
    """Links to the tables of some dataclasses; what has a form of its own is just an object."""
    links = [f"[`{kind.__name__}`]({page}#{kind.__name__.lower()})" for kind in kinds if kind is not dict]
    return " or ".join([*links, *(["an object"] if dict in kinds else [])])


def _objects(shown: Mapping[str, Sequence[type]]) -> list[str]:
    """A table for each dataclass, those of the commands first, then what they hold."""
    queue = list(dict.fromkeys(kind for kinds in shown.values() for kind in kinds if kind is not dict))
    parts = []
    for kind in queue:
        heading = f"### {kind.__name__}\n\n{md.lead(kind)}"
        if hasattr(kind, "to_json"):
            parts.append(f"{heading}\n\nPlain JSON of its own form.")
            continue
        said, rows = md.entries(kind, "Attributes"), []
        for name, annotation in fields(kind).items():
            queue += [one for one in _held(annotation) if one not in queue]
            rows.append([f"`{name}`", _words(annotation), md.sentence(said.get(name, ""))])
        parts.append(f"{heading}\n\n{md.table(['key', 'type', 'meaning'], rows)}")
    return parts


def _held(annotation: Any) -> list[type]:
    if dataclasses.is_dataclass(annotation) and isinstance(annotation, type):
        return [annotation]
    return [one for part in get_args(annotation) for one in _held(part)]


def _words(annotation: Any) -> str:
    """A type as JSON has it, in words."""
    origin, inner = get_origin(annotation), get_args(annotation)
    if origin in (Union, types.UnionType):
        return " or ".join(_words(one) for one in inner)
    if origin is Literal:
        return " or ".join(f"`{one}`" for one in inner)
    if origin in LISTS:
        several = [one for one in inner if one is not Ellipsis]
        return f"list of {_words(several[0])}" if origin is not tuple or Ellipsis in inner else "list"
    if origin in (dict, Mapping):
        return f"names, each with {_words(inner[1])}"
    if dataclasses.is_dataclass(annotation):
        return f"[`{annotation.__name__}`](#{annotation.__name__.lower()})"
    said = {str: "text", int: "whole number", float: "number", bool: "true or false", type(None): "null"}
    return {**said, datetime: "time", Path: "path"}.get(annotation, "any JSON")
