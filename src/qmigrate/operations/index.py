"""Operations on payload indexes: create (or retype) and drop. They change no point."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from qmigrate.errors import PlanError
from qmigrate.model.schema import CollectionSchema, JsonObject
from qmigrate.model.state import Capabilities
from qmigrate.operations.base import Key, Operation, Strategy, Wish, assign, plain
from qmigrate.operations.checks import index_problem
from qmigrate.operations.client_types import Index
from qmigrate.text import did_you_mean


def index_params(schema: Any, label: str) -> JsonObject:
    """Parameters of a payload index as plain JSON with ``type``.

    Args:
        schema: a ``PayloadSchemaType``, its name, an object like ``KeywordIndexParams``, or plain JSON.
        label: for the message.

    Raises:
        PlanError: something else.
    """
    found = plain(schema, f"{label}: the index")
    if isinstance(found, str):
        return {"type": found}
    if not isinstance(found, dict):
        raise PlanError(f"{label}: an index is given by its type or by its parameters, not as {schema!r:.80}")
    return found


@dataclass(frozen=True, slots=True, init=False)
class CreatePayloadIndex(Operation):
    """Index a payload field, or index it in another way.

    A new index is built on the live collection; writes queue up until it is done, so a big collection (100,000
    points and more) gets it next to the live one, in a clone that the server makes. A field that has an index of
    other type or parameters would be without one while it is rebuilt: that is always done next to it.

    Args:
        collection: logical name or glob.
        field: the payload field; ``a.b`` for one inside an object, ``a[].b`` inside a list.
        schema: a ``PayloadSchemaType``, its name, or an object like ``KeywordIndexParams`` or
            ``TextIndexParams``.
        strategy: ``in_place`` to build or retype it on the live collection, ``clone`` to have it made next to it,
            ``copy`` the same with every point rewritten, so that HNSW links for filters are built with it.
    """

    named_by = ("collection", "field")

    collection: str
    field: str
    schema: JsonObject
    wish: Wish

    def __init__(self, collection: str, field: str, schema: Index, *, strategy: Wish = None) -> None:
        assign(self, collection=collection, field=field, wish=strategy)
        assign(self, schema=index_params(schema, self.label()))

    def check_schema(self, schema: CollectionSchema) -> None:  # noqa: ARG002
        """See the base class."""
        problem = index_problem(self.schema)
        if not isinstance(self.field, str) or not self.field.strip():
            problem = "the field has no name"
        if problem:
            raise self.error(problem)

    def check_server(self, capabilities: Capabilities) -> None:
        """See the base class: BM25 on a text index is new in 1.20."""
        if self.schema.get("scoring") and not capabilities.scores_texts:
            raise self.error(
                f"{capabilities.label} ranks by no text index (1.20 and newer do), and would leave scoring out "
                "silently",
                hint="upgrade Qdrant, or add the words as a sparse vector: op.AddVector(…, "
                "SparseVectorParams(modifier=Modifier.IDF), values=Embed(…)) with an embedder of type bm25",
            )

    def apply(self, schema: CollectionSchema | None) -> CollectionSchema | None:
        """See the base class."""
        return schema.with_(indexes={**schema.indexes, self.field: self.schema}) if schema else None

    def describe(self) -> str:
        """See the base class."""
        extra = [f"{key}={value}" for key, value in sorted(self.schema.items()) if key != "type"]
        return " ".join(["add payload index", self.field, str(self.schema.get("type")), *extra])

    def touched(self) -> frozenset[Key]:
        """See the base class."""
        return frozenset({("payload index", self.field)})


@dataclass(frozen=True, slots=True)
class DropPayloadIndex(Operation):
    """Take the index of a payload field away; the payload stays.

    Args:
        collection: logical name or glob.
        field: the indexed payload field.
    """

    named_by = ("collection", "field")

    collection: str
    field: str

    def check_schema(self, schema: CollectionSchema) -> None:
        """See the base class. Local mode reports no index at all, so there an empty list proves nothing."""
        if schema.indexes and self.field not in schema.indexes:
            raise self._missing(schema)

    def strategy(self, schema: CollectionSchema, capabilities: Capabilities, points: int = 0) -> Strategy:
        """See the base class."""
        if capabilities.payload_indexes and self.field not in schema.indexes:
            raise self._missing(schema)
        return Operation.strategy(self, schema, capabilities, points)

    def _missing(self, schema: CollectionSchema) -> PlanError:
        return self.error(f"there is no payload index on {self.field!r}{did_you_mean(self.field, schema.indexes)}")

    def apply(self, schema: CollectionSchema | None) -> CollectionSchema | None:
        """See the base class."""
        if schema is None:
            return None
        return schema.with_(indexes={name: value for name, value in schema.indexes.items() if name != self.field})

    def describe(self) -> str:
        """See the base class."""
        return f"drop payload index {self.field}"

    def touched(self) -> frozenset[Key]:
        """See the base class."""
        return frozenset({("payload index", self.field)})
