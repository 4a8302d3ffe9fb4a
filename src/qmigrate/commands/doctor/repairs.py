"""The command that repairs what is odd about vectors, exactly as it is typed. It runs none."""

from __future__ import annotations

from qmigrate.model.schema import CollectionSchema
from qmigrate.model.transform import PointId
from qmigrate.model.weight import CANDIDATES, LINKS, graph_of
from qmigrate.operations.base import Operation
from qmigrate.operations.collection import UpdateCollection
from qmigrate.operations.text.operation import operation_text
from qmigrate.operations.values import FILL_ME, Embed
from qmigrate.operations.vector import Reembed
from qmigrate.text import quote


def again(collection: str, vector: str, filling: Embed | None) -> str:
    """A revision that fills a vector again.

    Args:
        filling: what fills it; None where that is not known, or has to be another one: a person decides.
    """
    # A function is in the revision that has it, and has to be copied from there.
    values = filling if filling is not None and not callable(filling.spec) else FILL_ME
    named = f"{collection} {vector}" if vector else collection
    return _revision(f"{named}: vectors again", Reembed(collection, vector, values=values, cutover="hold"))


def finer(collection: str, vector: str, schema: CollectionSchema) -> str:
    """A revision that builds the graph of a vector with twice as many links, of better ones."""
    now = graph_of(schema, schema.vectors[vector])
    links, candidates = int(now.get("m") or LINKS), int(now.get("ef_construct") or CANDIDATES)
    graph = {"m": max(2 * links, 32), "ef_construct": max(2 * candidates, 256)}
    operation = UpdateCollection(collection, vectors_config={vector: {"hnsw_config": graph}})
    return _revision(f"{collection}: a finer index", operation)


def delete(collection: str, identifier: PointId) -> str:
    """A fix that deletes one point."""
    return f"qmigrate fix delete {quote(collection)} --id {quote(identifier)} --reason 'a copy'"


def retry(collection: str) -> str:
    """A fix that embeds again what could not be embedded."""
    return f"qmigrate fix quarantine {quote(collection)} --retry"


def _revision(message: str, operation: Operation) -> str:
    return f"qmigrate revision -m {quote(message)} --op {quote(operation_text(operation))}"
