"""Schemas and changes as arguments of the client's local mode, and back. Values only, no calls."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from typing import Any

import numpy as np
from qdrant_client import models

from qmigrate.errors import StoreError
from qmigrate.model.schema import Change, CollectionSchema, JsonObject
from qmigrate.model.transform import PointId
from qmigrate.store import shapes
from qmigrate.store.shapes import DEFERRED, SEAL

#: Keyword arguments of a client call.
Settings = dict[str, Any]
#: Values are multiples of 2^-20 (about six decimal digits): sixteen times the last digit of a float32 near one.
GRID = 2.0**20
#: Rounding moves the norm a little, so the rounding is repeated until it changes nothing; two rounds are usual.
ROUNDS = 8
#: How far, in steps of the grid, normalising may move a value that is on it: at half a step it would be another value.
_MARGIN = 0.4


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


def unit(value: list[Any], *, written: bool = False) -> list[Any]:
    """A dense vector, or every row of a multivector, normalised and on the grid.

    Args:
        written: it is to be written, so that it must be read the same ever after. What is read stays as it was read
            before: digests of it are recorded.
    """
    if value and isinstance(value[0], list):
        return [unit(row, written=written) for row in value]
    given = np.asarray(value, dtype=np.float64)
    vector = given
    for _ in range(ROUNDS):
        norm = np.linalg.norm(vector)
        again = np.round(vector / norm * GRID) / GRID if 0 < norm < np.inf else vector
        if np.array_equal(again, vector):
            break
        vector = again
    return [float(number) for number in (_settled(vector, given) if written else vector)]


def _settled(vector: Any, given: Any) -> Any:
    """A vector on the grid that is the same after the client has normalised it, in float32 and by whichever sum.

    Where many values are equal, all are rounded the same way, and the norm is off by so much that normalising moves
    them by half a step: what is read would then depend on the last digit of a sum. Those that were rounded furthest
    are rounded the other way instead, as many as it takes.
    """
    norm = np.linalg.norm(vector)
    if not 0 < norm < np.inf or abs(1 / norm - 1) * np.abs(vector).max() * GRID <= _MARGIN:
        return vector
    lacking = 1 - norm**2
    way = np.sign(vector) * np.sign(lacking)
    rounded = (given / np.linalg.norm(given) - vector) * way
    order = np.argsort(-rounded, kind="stable")
    order = order[vector[order] != 0]
    gained = np.cumsum(2 * np.abs(vector[order]) / GRID)
    count = int(np.argmin(np.abs(np.concatenate([[0.0], gained]) - abs(lacking))))
    settled = vector.copy()
    settled[order[:count]] += way[order[:count]] / GRID
    return settled


def in_unit_form(vectors: Any, cosine: frozenset[str], *, written: bool = False) -> Any:
    """The vectors of a point or record with those of `cosine` in unit form.

    Args:
        vectors: as ``PointStruct`` and ``Record`` hold them: a list for the unnamed vector, or by name.
        cosine: names of the vectors with cosine distance; ``""`` is the unnamed one.
        written: see :func:`unit`.
    """
    if isinstance(vectors, dict):
        return {
            name: unit(value, written=written) if name in cosine and isinstance(value, list) else value
            for name, value in vectors.items()
        }
    return unit(vectors, written=written) if isinstance(vectors, list) and "" in cosine else vectors


def cosine_vectors(vectors: Any) -> frozenset[str]:
    """Names of the vectors with cosine distance in a collection's config; ``""`` is the unnamed one."""
    named = vectors if isinstance(vectors, dict) else {"": vectors} if vectors is not None else {}
    return frozenset(name for name, params in named.items() if params.distance == models.Distance.COSINE)


def query_of(value: Any) -> Any:
    """What is searched by: a dense vector, rows of a multivector, or a sparse ``{"indices", "values"}``."""
    if isinstance(value, Mapping):
        return models.SparseVector(indices=list(value["indices"]), values=list(map(float, value["values"])))
    return np.asarray(value, dtype=np.float32).tolist()
