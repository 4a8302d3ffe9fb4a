"""Edits of payloads as requests: many small groups of points in one batch. It sends nothing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from qdrant_client import grpc

from qmigrate.model.payload_path import spelled
from qmigrate.ports import PayloadEdit
from qmigrate.store.exact import value_of
from qmigrate.store.points import IDS_PER_REQUEST, add_ids

#: Operations of one request, and its bytes.
_OPERATIONS = 1000
_BYTES = 4 * 2**20


def requests(name: str, edits: Sequence[PayloadEdit]) -> Iterator[Any]:
    """Waited ``UpdateBatchPoints`` messages that together make the edits, in order."""
    operations: list[Any] = []
    ids = size = 0
    for edit in edits:
        for first in range(0, len(edit.ids), IDS_PER_REQUEST):
            part = edit.ids[first : first + IDS_PER_REQUEST]
            made = list(_operations(part, edit))
            weight = sum(one.ByteSize() for one in made)
            full = len(operations) >= _OPERATIONS or ids + len(part) > IDS_PER_REQUEST or size + weight > _BYTES
            if operations and full:
                yield grpc.UpdateBatchPoints(collection_name=name, wait=True, operations=operations)
                operations, ids, size = [], 0, 0
            operations += made
            ids, size = ids + len(part), size + weight
    if operations:
        yield grpc.UpdateBatchPoints(collection_name=name, wait=True, operations=operations)


def _operations(ids: Sequence[Any], edit: PayloadEdit) -> Iterator[Any]:
    selected = grpc.PointsSelector()
    add_ids(selected.points.ids, ids)
    for parent, values in by_object(edit.values):
        made = {key: value_of(value) for key, value in values.items()}
        within = {"key": parent} if parent else {}
        change = grpc.PointsUpdateOperation.SetPayload(payload=made, points_selector=selected, **within)
        yield grpc.PointsUpdateOperation(set_payload=change)
    if edit.removed:
        keys = [spelled(path) for path in edit.removed]
        gone = grpc.PointsUpdateOperation.DeletePayload(keys=keys, points_selector=selected)
        yield grpc.PointsUpdateOperation(delete_payload=gone)


def by_object(values: Mapping[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """(path of an object as Qdrant reads it, key in it -> value): a server sets what lies inside one at a time.

    The path of what lies at the top is empty.
    """
    inside: dict[str, dict[str, Any]] = {}
    for path, value in values.items():
        parent, _, key = path.rpartition(".")
        inside.setdefault(parent, {})[key] = value
    for parent, found in inside.items():
        yield spelled(parent) if parent else "", found
