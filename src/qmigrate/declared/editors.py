"""The JSON schema of collections.yaml, for editors: made of the catalogue that checks it. It reads no declaration."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from qmigrate.declared.collection import LATER
from qmigrate.declared.reading import TOLD
from qmigrate.model.schema import JsonObject
from qmigrate.operations.collection import CreateCollection
from qmigrate.parameters.catalogue import catalogue
from qmigrate.parameters.kinds import Each, Fields, Listed, Number, Whole, Words

#: Which dialect it is written in: the newest that editors know.
_DIALECT = "http://json-schema.org/draft-07/schema#"
#: A number that differs by environment.
_VARIABLE: JsonObject = {
    "type": "string",
    "pattern": r"^\$\{[A-Za-z_][A-Za-z0-9_]*:-\d+\}$",
    "examples": ["${SHARDS:-1}"],
}
_TEXT: JsonObject = {"type": "string"}


def declaration_schema() -> JsonObject:
    """What ``collections.yaml`` may hold: exactly what ``qmigrate schema`` prints, and what only a declaration has."""
    known = catalogue()
    indexes = [_kind(one) for one in known.indexes.values()]
    words = {"enum": sorted(known.index_types.members)}
    settings = {name: _setting(name) for name in (*CreateCollection.settings(), *LATER)}
    one = _object(
        {
            "vectors": _by_name(_kind(known.vector)),
            "sparse_vectors": _by_name({"anyOf": [_kind(known.sparse), {"type": "null"}]}),
            "payload_indexes": _by_name({"anyOf": [words, *indexes]}),
            "settings": _object(settings),
            "aliases": {"type": "array", "items": _TEXT},
            "embedders": _by_name({"anyOf": [_TEXT, _embedder()]}),
            "renamed_from": {"anyOf": [_TEXT, _by_name(_TEXT)]},
            **{name: {} for name in TOLD},
        }
    )
    return {
        "$schema": _DIALECT,
        "title": "Declared collections of qmigrate (collections.yaml)",
        **_object({"collections": _by_name(one)}),
    }


def declaration_schema_text() -> str:
    """The same as the text of a file."""
    return json.dumps(declaration_schema(), indent=1, ensure_ascii=False) + "\n"


def _setting(name: str) -> JsonObject:
    known = catalogue()
    shape = _kind(known.create.known[name] if name in known.create.known else known.params.known[name])
    whole = shape.get("type") == "integer"
    return {"anyOf": [shape, _VARIABLE]} if whole else shape


def _embedder() -> JsonObject:
    further = {"type": "object"}
    words: JsonObject = {"type": "string", "minLength": 1}
    made = _object(
        {
            "embedder": words,
            "text": words,
            "image": words,
            "on_failure": {"enum": ["stop", "keep_without_vector", "drop"]},
            "checksum": further,
            "write_back": further,
        },
        required=("embedder",),
    )
    others = [_object({"copy_of": _TEXT}, required=("copy_of",)), _object({"empty": {}}, required=("empty",))]
    return {"anyOf": [made, *others]}


def _kind(kind: Any) -> JsonObject:
    """What a kind of the catalogue takes."""
    if isinstance(kind, tuple):
        return {"anyOf": [_kind(one) for one in kind]}
    if isinstance(kind, Fields):
        if kind.choices:
            return {"anyOf": [_kind(one) for one in kind.choices]}
        return _object({name: _or_null(_kind(one)) for name, one in kind.known.items()}, required=kind.required)
    if isinstance(kind, Words):
        return {"enum": sorted(kind.members)}
    if isinstance(kind, Each):
        return _by_name(_kind(kind.of))
    if isinstance(kind, Listed):
        return {"type": "array", "items": _kind(kind.of)}
    if isinstance(kind, Whole | Number):
        ends = {"minimum": kind.least, "maximum": kind.most}
        bounds = {name: one for name, one in ends.items() if one is not None}
        return {"type": "integer" if isinstance(kind, Whole) else "number", **bounds}
    plain: Mapping[Any, JsonObject] = {bool: {"type": "boolean"}, str: _TEXT}
    return plain.get(kind, {})


def _or_null(shape: JsonObject) -> JsonObject:
    return {"anyOf": [shape, {"type": "null"}]}


def _by_name(shape: JsonObject) -> JsonObject:
    return {"type": ["object", "null"], "additionalProperties": shape}


def _object(properties: Mapping[str, JsonObject], required: tuple[str, ...] = ()) -> JsonObject:
    made: JsonObject = {"type": ["object", "null"], "additionalProperties": False, "properties": dict(properties)}
    return {**made, "type": "object", "required": list(required)} if required else made
