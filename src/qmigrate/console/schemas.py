"""What answers hold, for the description of the API: made of the dataclasses that verbs return. It answers nothing."""

from __future__ import annotations

import dataclasses
import inspect
import types
from collections.abc import Collection, Mapping, Sequence
from collections.abc import Set as AbstractSet
from datetime import datetime
from enum import Enum
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from fastapi import FastAPI
from pydantic import BaseModel, ConfigDict, Field

JsonSchema = dict[str, Any]
_SIMPLE: Mapping[Any, JsonSchema] = {
    str: {"type": "string"},
    int: {"type": "integer"},
    # A number that JSON lacks is null: see `to_plain`.
    float: {"type": ["number", "null"]},
    bool: {"type": "boolean"},
    type(None): {"type": "null"},
    datetime: {"type": "string", "format": "date-time"},
    Path: {"type": "string"},
}
_LISTS = (tuple, list, set, frozenset, Sequence, Collection, AbstractSet)


class Problem(BaseModel):
    """An error: one sentence on what, where and why, and what to do next."""

    model_config = ConfigDict(populate_by_name=True)
    detail: str | list[Any] = Field(description="the sentence; a list where a request doesn't have the form described")
    hint: str | None = Field(None, description="what to do next, often a command")
    type: str | None = Field(None, description="the class in qmigrate.errors")
    exit_code: int | None = Field(None, alias="exitCode", description="that of the command line")
    code: str | None = Field(None, description="what it is beyond the exit code, where it has a word of its own")
    facts: dict[str, Any] | None = Field(None, description="what the sentence is made of")


_SAID: Mapping[int, str] = {
    400: "a confirmation is missing, or the request can't be read",
    401: "no caller is known by this request",
    403: "the role is too small, or the request is not from a page of this console",
    404: "nothing has that name",
    409: "refused, or another process works on it",
    422: "something that can't be done, or a request that doesn't have this form",
    429: "too many wrong tokens",
    500: "a fault of the server, or of its settings",
    501: "the settings don't say what the endpoint stands for",
    503: "a store doesn't answer, or too many listen: Retry-After",
}
#: Of every endpoint.
PROBLEMS: dict[int | str, dict[str, Any]] = {
    status: {
        "description": said,
        # Not as a model: it would be of the kind that the endpoint answers with otherwise.
        "content": {"application/json": {"schema": {"$ref": f"#/components/schemas/{Problem.__name__}"}}},
    }
    for status, said in _SAID.items()
}

#: Name -> dataclass, of all that answers hold.
_named: dict[str, type] = {}


def answers(kind: Any, said: str = "what the verb returns") -> dict[int | str, dict[str, Any]]:
    """The successful answer of an endpoint, for ``responses`` of its route."""
    return {200: {"description": said, "content": {"application/json": {"schema": schema_of(kind)}}}}


def describe(app: FastAPI) -> None:
    """Let the description of an application hold the definitions that its routes refer to."""
    made = app.openapi

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            document = made()
            known = document.setdefault("components", {}).setdefault("schemas", {})
            known[Problem.__name__] = Problem.model_json_schema()
            done: set[str] = set()
            # Each may name others.
            while left := [name for name in _named if name not in done]:
                for name in left:
                    known[name] = _object(_named[name])
                    done.add(name)
            app.openapi_schema = document
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]


def schema_of(annotation: Any) -> JsonSchema:
    """The schema of an annotation, as :func:`qmigrate.text.to_plain` writes such a value."""
    if annotation in _SIMPLE:
        return dict(_SIMPLE[annotation])
    origin, inner = get_origin(annotation), get_args(annotation)
    if origin in (Union, types.UnionType):
        return {"anyOf": [schema_of(one) for one in inner]}
    if origin is Literal:
        return {"enum": list(inner)}
    if origin in _LISTS:
        several = [one for one in inner if one is not Ellipsis]
        if origin is tuple and Ellipsis not in inner:
            items = [schema_of(one) for one in several]
            return {"type": "array", "prefixItems": items, "minItems": len(items), "maxItems": len(items)}
        return {"type": "array", "items": schema_of(several[0])}
    if origin in (dict, Mapping) or annotation in (dict, Mapping):
        values = schema_of(inner[1]) if inner else {}
        return {"type": "object"} | ({"additionalProperties": values} if values else {})
    if isinstance(annotation, type) and issubclass(annotation, Enum):
        return {"enum": [one.value for one in annotation]}
    if dataclasses.is_dataclass(annotation) and isinstance(annotation, type):
        return {"$ref": f"#/components/schemas/{_name(annotation)}"}
    return {}


def _name(kind: type) -> str:
    """Its own name, unless another one has it."""
    name = kind.__name__
    if _named.get(name, kind) is not kind:
        name = f"{kind.__module__.rpartition('.')[2]}_{name}"
    _named[name] = kind
    return name


def _object(kind: type) -> JsonSchema:
    said = (inspect.getdoc(kind) or "").splitlines()[:1]
    described: JsonSchema = {"description": said[0]} if said else {}
    if hasattr(kind, "to_json"):
        # It has a form of its own.
        return {**described, "type": "object"}
    hints = get_type_hints(kind)
    names = [one.name for one in dataclasses.fields(kind)]
    properties = {name: schema_of(hints[name]) for name in names}
    return {**described, "type": "object", "required": names, "properties": properties}
