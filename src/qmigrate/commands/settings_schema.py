"""The settings as a JSON schema, for editors: made of what reads and checks them. It reads no settings.

A reader of ``settings/values.py`` that has no kind here is an error of this module, not a key that allows anything.
"""

from __future__ import annotations

import dataclasses
import inspect
import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, get_args, get_origin, get_type_hints

from qmigrate.embed import known_keys
from qmigrate.model.schema import JsonObject
from qmigrate.settings import approval, console, sections
from qmigrate.settings import values as read
from qmigrate.settings.load import (
    DatabaseSettings,
    LedgerSettings,
    QdrantSettings,
    Settings,
    override_keys,
    section_names,
)
from qmigrate.settings.sections import BudgetSettings, FixSettings, RaySettings, RebuildSettings

#: Which dialect it is written in: the newest that editors know.
DIALECT = "http://json-schema.org/draft-07/schema#"
#: What a duration looks like. The reader knows more words, such as ``2 weeks``; this admits all of them.
_DURATION: JsonObject = {
    "anyOf": [{"type": "string", "pattern": r"^\s*\d+(\.\d+)?\s*[A-Za-z]+\s*$"}, {"enum": [0, "0"]}],
    "examples": ["60s", "5m", "24h", "7d"],
}
_VARIABLE: JsonObject = {"type": "string", "pattern": "^[A-Za-z_][A-Za-z0-9_]*$"}
_URLS: Mapping[str, JsonObject] = {
    "url": {"type": "string", "description": "A SQLAlchemy URL such as postgresql+psycopg://app@db/app."},
    "url_env": {**_VARIABLE, "description": "The environment variable that holds the URL."},
    "url_file": {"type": "string", "description": "A file that holds the URL."},
}
_FILLED: JsonObject = {"type": "string", "minLength": 1}
_ROLE: JsonObject = {"enum": list(console.ROLES)}
#: Reader -> what it accepts.
_KINDS: Mapping[Callable[..., Any], JsonObject] = {
    read.text: {"type": "string"},
    read.flag: {"type": "boolean"},
    read.mapping: {"type": "object"},
    read.path: {"type": "string", "minLength": 1},
    read.positive: {"type": "number", "exclusiveMinimum": 0},
    read.amount: {"anyOf": [{"type": "integer", "minimum": 1}, {"type": "string", "pattern": "^[0-9.]+[KMGkmg]?$"}]},
    read.share: {"type": "number", "minimum": 0, "maximum": 1},
    read.allowance: {"type": "number", "minimum": 0},
    read.duration: _DURATION,
    read.positive_duration: _DURATION,
    read.timeout: {"anyOf": [{"type": "number", "minimum": 0}, *_DURATION["anyOf"]], "examples": ["60s"]},
    read.server_url: {"type": "string", "pattern": "^\\s*https?://", "examples": ["http://localhost:6333"]},
    read.host: {"type": "string"},
    read.variable_name: _VARIABLE,
    approval.bound: {"type": "string", "minLength": 1, "examples": ["1000 points", "1 %", "1000 points or 1 %"]},
    approval.percent: {
        "anyOf": [
            {"type": "string", "pattern": r"^\s*\d+(\.\d+)?\s*%\s*$"},
            {"type": "number", "minimum": 0, "maximum": 1},
        ],
        "examples": ["5 %", 0.05],
    },
    console.filled: _FILLED,
    sections.health_checks: {
        "type": "object",
        "additionalProperties": {
            "type": "object",
            "properties": {"database": _FILLED, "function": {"type": "string", "pattern": "^[^:]+:[^:]+$"}},
            "additionalProperties": False,
            "minProperties": 1,
            "maxProperties": 1,
        },
        "examples": [{"pg": {"database": "app"}, "redis": {"function": "app.checks:redis"}}],
    },
    console.function: {"type": "string", "pattern": "^[^:]+:[^:]+$", "examples": ["app.jobs:enqueue"]},
    console.presets: {
        "type": "object",
        "properties": dict.fromkeys(console.ENDPOINTS, _FILLED),
        "additionalProperties": False,
    },
    console.directories: {
        "type": "object",
        "properties": {"sql": _FILLED, "key": _FILLED, "database": _FILLED},
        "required": ["sql"],
        "additionalProperties": False,
    },
    console.tokens: {
        "type": "array",
        "items": {
            "type": "object",
            "properties": {"role": _ROLE, "user": _FILLED, "env": _VARIABLE, "file": _FILLED},
            "required": ["role"],
            "additionalProperties": False,
        },
    },
    console.proxy: {
        "type": "object",
        "properties": {
            "header": _FILLED,
            "addresses": {"type": "array", "items": _FILLED, "minItems": 1},
            "roles": {"type": "object", "additionalProperties": _ROLE},
        },
        "required": ["addresses"],
        "additionalProperties": False,
    },
}


def settings_schema() -> JsonObject:
    """What ``qmigrate.yaml`` may hold; each key with its meaning, default and bounds."""
    properties = {name: _section(name) for name in section_names()}
    return {
        "$schema": DIALECT,
        "title": "Settings of qmigrate (qmigrate.yaml)",
        **_object(properties),
        "definitions": {"embedders": _embedders()},
    }


def settings_schema_text() -> str:
    """The same as the text of a file."""
    return json.dumps(settings_schema(), indent=1, ensure_ascii=False) + "\n"


def _section(name: str) -> JsonObject:
    made = {
        "qdrant": _qdrant,
        "ledger": _ledger,
        "databases": _databases,
        "sql": lambda: _keys(sections.SqlSettings, more=_URLS),
        "scripts": lambda: {"type": "string", "default": "qdrant_migrations"},
        "declared": lambda: {
            "type": "string",
            "minLength": 1,
            "examples": ["app.schema:collections", "collections.yaml"],
        },
        "revision_ids": lambda: {"enum": ["auto", "sequence", "time"], "default": "auto"},
        "embedders": lambda: dict(_NAMED),
        "collections": _collections,
    }
    if name in made:
        return {**made[name](), "description": _meanings(Settings).get(name, _FURTHER.get(name, ""))}
    kind = get_type_hints(Settings)[name]
    return {**_keys(kind), "description": _first_line(kind)}


#: Embedders by name, of all collections or of one.
_NAMED: JsonObject = {"$ref": "#/definitions/embedders"}
#: What the class of all settings doesn't explain.
_FURTHER = {
    "qdrant": "Where Qdrant is: a server, or a folder of the client's local mode.",
    "ledger": "Where the SQL state is.",
    "databases": "The application's SQL databases by name, for fixes.",
    "sql": "Where Alembic's version table is, for revisions with requires_sql.",
}


def _qdrant() -> JsonObject:
    named = {"api_key_env": {**_VARIABLE, "description": "The environment variable that holds the API key."}}
    return _keys(QdrantSettings, more=named)


def _ledger() -> JsonObject:
    meanings = _meanings(LedgerSettings)
    return _object(
        {
            **_URLS,
            "schema": {"type": "string", "description": meanings["schema"]},
            "file_systems": {"type": "array", "items": {"type": "string"}, "description": meanings["file_systems"]},
        }
    )


def _databases() -> JsonObject:
    one = {**_object(_URLS), "description": _first_line(DatabaseSettings)}
    return {"type": "object", "additionalProperties": one}


def _embedders() -> JsonObject:
    """Each type has its own keys."""
    types = known_keys()
    kinds = [
        {
            "if": {"properties": {"type": {"const": kind}}},
            "then": {**_object({"type": {"const": kind}, **{key: {} for key in sorted(keys)}}), "type": "object"},
        }
        for kind, keys in sorted(types.items())
    ]
    one = {
        "type": "object",
        "required": ["type"],
        "properties": {"type": {"enum": sorted(types)}},
        "allOf": kinds,
    }
    return {"type": ["object", "null"], "additionalProperties": one}


def _collections() -> JsonObject:
    fixes = _keys(FixSettings)
    chosen = {name: fixes["properties"][name] for name in override_keys()}
    one = _object({"rebuild": _keys(RebuildSettings), "fixes": _object(chosen), "embedders": _NAMED})
    return {"type": "object", "additionalProperties": one}


def _keys(kind: type, more: Mapping[str, JsonObject] | None = None) -> JsonObject:
    """The keys of a class of settings: those that have a reader."""
    meanings = _meanings(kind)
    found: dict[str, JsonObject] = {}
    for one in dataclasses.fields(kind):
        hint = get_type_hints(kind, include_extras=True)[one.name]
        if hasattr(hint, "__metadata__"):
            reader = hint.__metadata__[0]
            shape = {**_kind(reader), "description": meanings[one.name]}
            found[one.name] = shape | _default(one, reader, hint)
    return _object({**found, **(more or {})})


def _object(properties: Mapping[str, JsonObject]) -> JsonObject:
    """An object with these keys and no other; null, of a key or of all, is the default."""
    return {
        "type": ["object", "null"],
        "additionalProperties": False,
        "properties": {name: _or_null(shape) for name, shape in properties.items()},
    }


def _or_null(shape: JsonObject) -> JsonObject:
    kind = shape.get("type")
    if isinstance(kind, str):
        return {**shape, "type": [kind, "null"]}
    if "enum" in shape and None not in shape["enum"]:
        return {**shape, "enum": [*shape["enum"], None]}
    if "anyOf" in shape:
        return {**shape, "anyOf": [*shape["anyOf"], {"type": "null"}]}
    return shape


def _kind(reader: Callable[..., Any]) -> JsonObject:
    """What a reader accepts.

    Raises:
        KeyError: it is unknown here.
    """
    if reader in _KINDS:
        return dict(_KINDS[reader])
    if reader is sections.read_ray:
        return _keys(RaySettings)
    if reader is approval.approval:
        return {**_keys(approval.ApprovalSettings), "required": ["above"]}
    if reader is sections.read_budget:
        return _keys(BudgetSettings)
    if reader is sections.read_room:
        return {"type": "number", "minimum": 0}
    maker = reader.__qualname__.partition(".")[0]
    inside: Mapping[str, Any] = inspect.getclosurevars(reader).nonlocals
    if maker == "integer_between":
        return {"type": "integer", "minimum": inside["lowest"], "maximum": inside["highest"]}
    if maker == "choice":
        # YAML reads a bare `off` as false.
        bare = {"off": False, "on": True}
        return {"enum": [*inside["known"], *(bare[word] for word in inside["known"] if word in bare)]}
    if maker == "automatic":
        return {"anyOf": [{"const": "auto"}, _kind(inside["reader"])]}
    if maker == "listed":
        return {"type": "array", "items": _kind(inside["reader"])}
    if maker == "each":
        return {"type": "object", "additionalProperties": _kind(inside["reader"])}
    raise KeyError(f"no JSON schema is known for what {reader.__qualname__} reads")


def _default(one: dataclasses.Field[Any], reader: Callable[..., Any], hint: Any) -> JsonObject:
    """As it would be written in the file; nothing where only the absence means it."""
    value = one.default if one.default is not dataclasses.MISSING else None
    kinds = get_args(get_args(hint)[0]) or (get_args(hint)[0],)
    if value is None:
        automatic = reader.__qualname__.startswith("automatic.")
        return {"default": "auto"} if automatic else {}
    if reader in (read.duration, read.positive_duration, read.timeout):
        return {"default": _written(value)}
    if isinstance(value, tuple):
        return {"default": list(value)}
    if isinstance(value, Path):
        return {"default": str(value)}
    return {"default": value} if value != "" and get_origin(kinds[0]) is None else {}


def _written(seconds: float) -> str:
    """A duration as it is written: in the largest unit that needs no fraction."""
    for unit, length in (("d", 86400), ("h", 3600), ("m", 60), ("s", 1)):
        if seconds >= length and seconds % length == 0:
            return f"{seconds / length:.0f}{unit}"
    return f"{seconds * 1000:.0f}ms"


def _meanings(kind: type) -> dict[str, str]:
    """Attribute -> what its class says of it, in one line."""
    text = inspect.cleandoc(kind.__doc__ or "").partition("Attributes:\n")[2]
    found = re.findall(r"^ {4}(\w+): (.+(?:\n {8}.+)*)", text, re.MULTILINE)
    return {name: " ".join(said.replace("``", "`").split()) for name, said in found}


def _first_line(kind: type) -> str:
    return inspect.cleandoc(kind.__doc__ or "").partition("\n")[0].replace("``", "`")
