"""Schemas and changes as arguments of the client's local mode, and back. Values only, no calls."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from typing import Any

from qdrant_client import models

from qmigrate.errors import StoreError
from qmigrate.model.schema import Change, CollectionSchema, JsonObject
from qmigrate.model.transform import PointId
from qmigrate.store import shapes
from qmigrate.store.shapes import DEFERRED, SEAL

#: Keyword arguments of a client call.
Settings = dict[str, Any]


def order(identifier: PointId) -> tuple[int, int]:
    """Qdrant's order: unsigned ids ascending, then UUIDs by bytes."""
    return (0, identifier) if isinstance(identifier, int) else (1, uuid.UUID(str(identifier)).int)


def described(config: Any) -> tuple[CollectionSchema, JsonObject | None]:
    """The schema and the seal. Only what local mode keeps: vectors and metadata; the rest it shows is made up."""
    params = config.params
    vectors = params.vectors or {}
    named = vectors if isinstance(vectors, dict) else {"": vectors}
    metadata = dict(config.metadata or {})
    seal = metadata.pop(SEAL, None)
    metadata.pop(DEFERRED, None)
    schema = CollectionSchema(
        vectors={name: _plain(value) for name, value in named.items()},
        sparse={name: _plain(value) for name, value in (params.sparse_vectors or {}).items()},
        config={"metadata": metadata} if metadata else {},
    )
    return schema, seal


def _plain(value: Any) -> JsonObject:
    found: JsonObject = value.model_dump(mode="json", exclude_none=True)
    return found


def creation(schema: CollectionSchema, seal: JsonObject | None) -> Settings:
    """Arguments of ``create_collection`` for what local mode keeps.

    Raises:
        StoreError: the client's models don't take the schema.
    """
    body, _ = shapes.create_body(schema, seal)
    vectors = body["vectors"]
    wanted: Settings = {"metadata": body.get("metadata")}
    if set(schema.vectors) == {""}:
        wanted["vectors_config"] = _model(models.VectorParams, vectors)
    else:
        wanted["vectors_config"] = {name: _model(models.VectorParams, value) for name, value in vectors.items()}
    if "sparse_vectors" in body:
        wanted["sparse_vectors_config"] = {
            name: _model(models.SparseVectorParams, value) for name, value in body["sparse_vectors"].items()
        }
    return wanted


def new_vector(change: Change) -> Any:
    """The argument of ``create_vector_name``."""
    body, _ = shapes.new_vector(change)
    kind = models.DenseVectorNameConfig if "dense" in body else models.SparseVectorNameConfig
    return _model(kind, body)


def update(change: Change) -> Settings:
    """Arguments of ``update_collection`` for the parts of a change that local mode keeps; empty for none.

    Raises:
        StoreError: a server couldn't do it on an existing collection either.
    """
    body = shapes.patch_of(change)
    if "metadata" in body:
        return {"metadata": body["metadata"]}
    if "sparse_vectors" in body:
        found = {name: _model(models.SparseVectorParams, value) for name, value in body["sparse_vectors"].items()}
        return {"sparse_vectors_config": found}
    return {}


def count_filter(missing_field: str | None, without_vector: str | None) -> Any:
    """The filter of a count, or None."""
    wanted = shapes.count_filter(missing_field=missing_field, without_vector=without_vector)
    return _model(models.Filter, wanted) if wanted else None


def _model(kind: Any, value: JsonObject) -> Any:
    try:
        return kind.model_validate(value)
    except ValueError as error:
        raise StoreError(f"the client library doesn't take {value!r} as {kind.__name__}: {error}") from error




def vectors_struct(vectors: Mapping[str, Any]) -> Any:
    """Vectors by name as the client takes them; the unnamed one stands alone."""
    found = {name: _vector(value) for name, value in vectors.items()}
    return found[""] if set(found) == {""} else found


def _vector(value: Any) -> Any:
    if isinstance(value, Mapping):
        return models.SparseVector(indices=list(value["indices"]), values=list(value["values"]))
    return value.tolist() if hasattr(value, "tolist") else value
