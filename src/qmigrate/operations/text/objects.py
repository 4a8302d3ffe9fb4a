"""Parameters as objects of the client's models, in Python: by the catalogue, which knows the classes. No own tables."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from qmigrate.model.schema import JsonObject
from qmigrate.operations.checks import value_problem
from qmigrate.operations.text.code import Code, Literal, call, listed, literal, mapping
from qmigrate.parameters.catalogue import catalogue
from qmigrate.parameters.kinds import Each, Fields, Listed, Words


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
