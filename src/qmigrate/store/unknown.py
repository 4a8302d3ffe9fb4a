"""Fields of a collection info that this version doesn't know, at every depth: a copy would lose them. Pure JSON."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from qmigrate.model.known import INDEX_INFO, INFO, VECTOR, Each, Fields, Listed
from qmigrate.model.schema import JsonObject


def unknown_fields(config: Mapping[str, Any], payload_schema: Mapping[str, Any]) -> JsonObject:
    """Path -> value of every field that is set and not known here.

    Args:
        config: of the collection info, as the server sent it.
        payload_schema: likewise.

    Returns:
        Paths like ``params.vectors.title.tiering``, sorted. A known field whose value has another shape than the
        known one (an object where a number was) counts as unknown too; a null has no value and never counts.
    """
    found: JsonObject = {}
    for key, value in config.items():
        kind = INFO.known.get(key)
        if kind is None:
            _note(found, key, value)
        elif key == "params" and isinstance(value, Mapping):
            _walk_params(found, value, kind)
        else:
            _walk(found, key, value, kind)
    for field, entry in payload_schema.items():
        path = f"payload_schema.{field}"
        data_type = entry.get("data_type") if isinstance(entry, Mapping) else None
        known = INDEX_INFO.get(data_type) if isinstance(data_type, str) else None
        if known is None:
            _note(found, path, entry)
        else:
            _walk(found, path, entry, known)
    return dict(sorted(found.items()))


def _walk_params(found: JsonObject, params: Mapping[str, Any], kind: Fields) -> None:
    """``params``: its ``vectors`` are the parameters of one unnamed vector, or those of several by name."""
    for key, value in params.items():
        path = f"params.{key}"
        if key not in kind.known:
            _note(found, path, value)
        elif key == "vectors" and isinstance(value, Mapping) and not isinstance(value.get("size", {}), Mapping):
            _walk(found, path, value, VECTOR)
        else:
            _walk(found, path, value, kind.known[key])


def _walk(found: JsonObject, path: str, value: Any, kind: Any) -> None:
    """Note what `value` holds beyond `kind`."""
    if value is None or kind is Any:
        return
    choices = kind if isinstance(kind, tuple) else (kind,)
    if isinstance(value, Mapping):
        wanted = next((one for one in choices if isinstance(one, Fields | Each)), None)
        if wanted is None:
            _note(found, path, value)
            return
        for key, item in value.items():
            inner = wanted.of if isinstance(wanted, Each) else wanted.known.get(key)
            if inner is None:
                _note(found, f"{path}.{key}", item)
            else:
                _walk(found, f"{path}.{key}", item, inner)
    elif isinstance(value, list):
        listed = next((one for one in choices if isinstance(one, Listed)), None)
        if listed is None:
            _note(found, path, value)
            return
        for number, item in enumerate(value):
            _walk(found, f"{path}.{number}", item, listed.of)
    elif all(isinstance(one, Fields | Each | Listed) for one in choices):
        _note(found, path, value)


def _note(found: JsonObject, path: str, value: Any) -> None:
    if value is not None:
        found[path] = value
