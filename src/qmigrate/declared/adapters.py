"""Declarations that other libraries hold: pydantic models, qdrant-odmx, SQLAlchemy. It imports none of them.

Each is recognised by what it has, so that a project without the library never loads it.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from qmigrate.declared.collection import Collection
from qmigrate.errors import PlanError

#: Where a pydantic model and a SQLAlchemy table have theirs.
ATTRIBUTE, INFO = "qmigrate", "qmigrate"


def collections_of(found: Any) -> Iterator[Collection]:
    """Every collection of what the settings name.

    Args:
        found: a `Collection`, a list or mapping of declarations, a function that returns one, a pydantic or
            qdrant-odmx model, or SQLAlchemy's ``MetaData``, ``Table`` or mapped class.

    Raises:
        PlanError: it is something else.
    """
    if isinstance(found, Collection):
        yield found
    elif isinstance(found, Mapping) and not hasattr(found, "tables"):
        for name, body in found.items():
            yield from _named(str(name), body)
    elif _is_odmx(found):
        yield _of_odmx(found)
    elif _is_pydantic(found):
        yield _of_pydantic(found)
    elif hasattr(found, "tables") and hasattr(found, "naming_convention"):
        # SQLAlchemy's MetaData: tables without a declaration have no collection.
        for table in found.tables.values():
            if INFO in table.info:
                yield _of_table(table)
    elif hasattr(found, "__table__") or (hasattr(found, "info") and hasattr(found, "columns")):
        yield _of_table(getattr(found, "__table__", found))
    elif isinstance(found, Iterable) and not isinstance(found, str | bytes):
        for one in found:
            yield from collections_of(one)
    elif callable(found) and not isinstance(found, type):
        yield from collections_of(found())
    else:
        raise PlanError(
            f"expected qmigrate.Collection(…), a list of them or a model, got {found!r:.80}",
            hint='collections = [qmigrate.Collection("docs", vectors={…})]',
        )


def _named(name: str, body: Any) -> Iterator[Collection]:
    if isinstance(body, Mapping):
        yield Collection(name, **body)
        return
    for one in collections_of(body):
        if one.name != name:
            raise PlanError(f"the declaration of {name} has the name {one.name}")
        yield one


def _is_pydantic(found: Any) -> bool:
    return isinstance(found, type) and isinstance(getattr(found, "model_fields", None), Mapping)


def _of_pydantic(model: Any) -> Collection:
    """A payload model: ``qmigrate = {"name": …, "vectors": …}`` in it, and indexes in the annotations of its fields.

    A field ``kind: Annotated[str, PayloadSchemaType.KEYWORD]`` has an index; one with parameters is plain JSON there,
    ``{"type": "keyword", "is_tenant": True}``, since pydantic takes an object of the client for a validator.
    """
    declared = _class_value(model, ATTRIBUTE)
    if not isinstance(declared, Mapping | Collection):
        raise PlanError(
            f"the model {model.__name__} declares no collection",
            hint=f'{ATTRIBUTE}: ClassVar = {{"name": "docs", "vectors": {{…}}}}',
        )
    if isinstance(declared, Collection):
        return declared
    indexes = {name: one for name, field in model.model_fields.items() for one in _indexes_of(field.metadata)}
    body = {"name": model.__name__.lower(), **declared}
    return Collection(**{**body, "payload_indexes": {**indexes, **(body.get("payload_indexes") or {})}})


def _indexes_of(metadata: Iterable[Any]) -> Iterator[Any]:
    for one in metadata:
        if type(one).__name__ == "PayloadSchemaType" or (isinstance(one, Mapping) and "type" in one):
            yield one


def _class_value(model: Any, name: str) -> Any:
    for base in model.__mro__:
        if name in vars(base):
            return vars(base)[name]
    return None


def _of_table(table: Any) -> Collection:
    """``Table(…, info={"qmigrate": {"name": "docs", "vectors": {…}}})``; the table's own name where it has none.

    A column with ``info={"qmigrate": "keyword"}`` is a payload field of its name, with that index.
    """
    declared = table.info.get(INFO)
    if isinstance(declared, Collection):
        return declared
    if not isinstance(declared, Mapping):
        raise PlanError(
            f"the table {table.name} declares no collection", hint='info={"qmigrate": {"vectors": {…}}} of the table'
        )
    indexes = {column.name: column.info[INFO] for column in table.columns if INFO in column.info}
    body = {"name": table.name, **declared}
    return Collection(**{**body, "payload_indexes": {**indexes, **(body.get("payload_indexes") or {})}})


def _is_odmx(found: Any) -> bool:
    return isinstance(found, type) and hasattr(found, "__odm_meta__") and hasattr(found, "schema_definition")


def _of_odmx(model: Any) -> Collection:
    """A ``QdrantModel`` of qdrant-odmx, as its own ``sync_schema`` would create it."""
    # By its name: only a project with such a model has the library.
    build = importlib.import_module("qdrant_odm.schema.qdrant_schema").build_payload_index_schema

    meta = model.schema_definition()
    vectors = {
        one.name: {"size": one.size, "distance": one.distance, "on_disk": one.on_disk}
        for one in meta.vector_fields.values()
    }
    settings = {
        name: getattr(meta.collection_config, name)
        for name in (
            "quantization_config",
            "on_disk_payload",
            "hnsw_config",
            "optimizers_config",
            "shard_number",
            "replication_factor",
            "write_consistency_factor",
        )
    }
    indexes = {
        field: build(one) for field, one in meta.payload_fields.items() if one.index is not None
    }
    sparse: dict[str, Any] = {one.name: {} for one in meta.sparse_vector_fields.values()}
    return Collection(meta.collection_name, vectors, sparse, indexes, **settings)
