"""Qdrant's collection info as a schema, and a change as the request that makes it. Pure JSON, no requests."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from qmigrate.errors import StoreError
from qmigrate.model.schema import (
    FIXED_CONFIG,
    TUNABLE_SPARSE_FIELDS,
    TUNABLE_VECTOR_FIELDS,
    Change,
    CollectionSchema,
    JsonObject,
    declared_differs,
)
from qmigrate.parameters.catalogue import catalogue
from qmigrate.parameters.kinds import Each, Fields, Listed


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
    parts = catalogue()
    for key, value in config.items():
        kind = parts.info.known.get(key)
        if kind is None:
            _note(found, key, value)
        elif key == "params" and isinstance(value, Mapping):
            _walk_params(found, value, kind)
        else:
            _walk(found, key, value, kind)
    for field, entry in payload_schema.items():
        path = f"payload_schema.{field}"
        data_type = entry.get("data_type") if isinstance(entry, Mapping) else None
        known = parts.index_info.get(data_type) if isinstance(data_type, str) else None
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
            _walk(found, path, value, catalogue().vector)
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


#: Metadata key of the seal.
SEAL = "qmigrate"
#: Metadata key of what :func:`qmigrate.store.server.collections.complete` put off.
DEFERRED = "qmigrate_deferred"


def without_nulls(value: Any) -> Any:
    """The same JSON without keys whose value is null."""
    if isinstance(value, Mapping):
        return {key: without_nulls(found) for key, found in value.items() if found is not None}
    if isinstance(value, list):
        return [without_nulls(found) for found in value]
    return value


@dataclass(frozen=True, slots=True)
class Described:
    """What a collection's info contains: its schema without aliases, its seal, and fields that are not known here.

    Attributes:
        unknown_values: the values of `unknown`, by path.
    """

    schema: CollectionSchema
    seal: JsonObject | None
    unknown_values: JsonObject

    @property
    def unknown(self) -> tuple[str, ...]:
        """Paths of the fields that are not known here, sorted."""
        return tuple(self.unknown_values)


def described(config: JsonObject, payload_schema: JsonObject) -> Described:
    """Read ``config`` and ``payload_schema`` of the collection info."""
    params = without_nulls(config["params"])
    vectors = params.pop("vectors", {})
    sparse = params.pop("sparse_vectors", {})
    if not isinstance(vectors.get("size", {}), Mapping):
        vectors = {"": vectors}
    parts = catalogue()
    settings = {name: value for name, value in params.items() if name in parts.carried}
    for name, target in parts.blocks.items():
        if config.get(name) is not None:
            settings[target] = without_nulls(config[name])
    metadata = dict(config.get("metadata") or {})
    seal = metadata.pop(SEAL, None)
    metadata.pop(DEFERRED, None)
    if metadata:
        settings["metadata"] = metadata
    indexes = {field: index_params(found) for field, found in payload_schema.items()}
    schema = CollectionSchema(vectors=vectors, sparse=sparse, indexes=indexes, config=settings)
    return Described(schema, seal, unknown_fields(config, payload_schema))


def index_params(found: JsonObject) -> JsonObject:
    """One entry of ``payload_schema`` as the parameters that would create it."""
    return {"type": found["data_type"], **without_nulls(found.get("params") or {})}


def create_body(schema: CollectionSchema, seal: JsonObject | None) -> tuple[JsonObject, JsonObject]:
    """The body of the create call, and the ``params`` of the PATCH that completes it (may be empty)."""
    body: JsonObject = without_nulls({**schema.create_request(), "metadata": None})
    if schema.config.get("metadata"):
        # A null inside it is the user's own.
        body["metadata"] = dict(schema.config["metadata"])
    later = {name: body.pop(name) for name in catalogue().after_creation & body.keys()}
    if seal is not None:
        body["metadata"] = {**body.get("metadata", {}), SEAL: seal}
    return body, later


def count_filter(*, missing_field: str | None, without_vector: str | None) -> JsonObject:
    """The filter of a count; empty when nothing is asked."""
    found: JsonObject = {}
    if missing_field is not None:
        found["must"] = [{"is_empty": {"key": missing_field}}]
    if without_vector is not None:
        found["must_not"] = [{"has_vector": without_vector}]
    return found


def patch_of(change: Change) -> JsonObject:
    """The PATCH that makes a ``config.set``, ``vector.alter`` or ``sparse.alter``.

    Raises:
        StoreError: it can't be changed on an existing collection.
    """
    if change.kind == "config.set":
        return _config_patch(change)
    family = change.kind.split(".")[0]
    tunable = TUNABLE_VECTOR_FIELDS if family == "vector" else TUNABLE_SPARSE_FIELDS | {"modifier"}
    before, after = change.before or {}, without_nulls(change.after or {})
    fixed = sorted(key for key in after if key not in tunable and declared_differs(before.get(key), after[key]))
    if fixed:
        raise StoreError(f"{', '.join(fixed)} of an existing vector can't be changed in place ({change.describe()})")
    section = "vectors" if family == "vector" else "sparse_vectors"
    return {section: {change.name: {key: after[key] for key in after if key in tunable}}}


def _config_patch(change: Change) -> JsonObject:
    name, after = change.name, change.after
    if name in FIXED_CONFIG:
        raise StoreError(f"{name} can only be chosen when a collection is created")
    if name == "metadata":
        gone = {key: None for key in change.before or {} if key not in (after or {})}
        return {"metadata": {**gone, **(after or {})}}
    if name == "quantization_config":
        return {name: without_nulls(after) if after else "Disabled"}
    if after is None:
        raise StoreError(f"the server can't unset {name}: it has no value that means none")
    if name in catalogue().tunable:
        return {"params": {name: after}}
    return {name: without_nulls(after)}


def new_vector(change: Change) -> tuple[JsonObject, JsonObject | None]:
    """What adds a named vector: the request that makes it, and the PATCH for its settings (or None)."""
    params = without_nulls(change.after or {})
    if change.kind == "sparse.add":
        index = dict(params.get("index", {}))
        made = {name: params[name] for name in ("modifier",) if name in params}
        if "datatype" in index:
            made["datatype"] = index.pop("datatype")
        return {"sparse": made}, {"sparse_vectors": {change.name: {"index": index}}} if index else None
    settings = {name: value for name, value in params.items() if name in TUNABLE_VECTOR_FIELDS}
    made = {name: value for name, value in params.items() if name not in TUNABLE_VECTOR_FIELDS}
    return {"dense": made}, {"vectors": {change.name: settings}} if settings else None
