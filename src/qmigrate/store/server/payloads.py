"""Points and payloads over REST, which has every JSON number: integers of 2^63 and more are doubles over gRPC."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from qdrant_client import grpc

from qmigrate.errors import RefusedError
from qmigrate.model.payload_path import spelled
from qmigrate.model.schema import JsonObject
from qmigrate.model.transform import Payload, PointId
from qmigrate.ports import PayloadEdit, PendingWrite, Ready
from qmigrate.store import records
from qmigrate.store.exact import BEYOND_INT64, holds_beyond, value_of
from qmigrate.store.faults import RefusedRequestError
from qmigrate.store.server.collections import path_of, waited
from qmigrate.store.server.points import IDS_PER_REQUEST, add_ids
from qmigrate.store.server.rest import Rest

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


#: Points of one request.
_AT_ONCE = 256


def read(node: Rest, name: str, ids: Sequence[PointId]) -> dict[PointId, Payload]:
    """Id -> payload, of those that exist."""
    found: dict[PointId, Payload] = {}
    for first in range(0, len(ids), _AT_ONCE):
        part = list(ids[first : first + _AT_ONCE])
        body = {"ids": part, "with_payload": True, "with_vector": False}
        rows = node.call("POST", f"{path_of(name)}/points", body)
        found.update({row["id"]: row["payload"] or {} for row in rows})
    return found


def overwrite(node: Rest, name: str, identifier: PointId, payload: Payload) -> None:
    """Replace the payload of one point and wait."""
    waited(node, "PUT", f"{path_of(name)}/points/payload", {"points": [identifier], "payload": payload})


def edit(node: Rest, name: str, change: PayloadEdit) -> None:
    """Set and remove keys of some points and wait; for values that gRPC can't carry."""
    ids, path = list(change.ids), f"{path_of(name)}/points/payload"
    _check(change.values, f"the points {ids[0]}, …" if len(ids) > 1 else f"point {ids[0]}")
    for parent, values in by_object(change.values):
        within = {"key": parent} if parent else {}
        waited(node, "POST", path, {"points": ids, "payload": values, **within})
    if change.removed:
        waited(node, "POST", f"{path}/delete", {"points": ids, "keys": list(map(spelled, change.removed))})


class ExactUpsert:
    """A :class:`qmigrate.ports.PendingWrite` of points of which some can't go over gRPC.

    Args:
        others: the write of those that can, which is under way; None where there are none.
        points: those that can't.
        over_grpc: writes a point without its payload: one whose vectors JSON can't carry.
        new_only: points that are there stay as they are, but for those of `over_grpc`.
    """

    def __init__(
        self,
        node: Rest,
        name: str,
        others: PendingWrite | None,
        points: Sequence[Ready],
        over_grpc: Callable[[Ready], PendingWrite],
        *,
        new_only: bool = False,
    ) -> None:
        self._mode = {"update_mode": "insert_only"} if new_only else {}
        self._node = node
        self._name = name
        self._others = others
        self._points = list(points)
        self._over_grpc = over_grpc

    def wait(self) -> None:
        """Return when the server reports all of them *completed*.

        Raises:
            RefusedError: a payload integer is of a size that no server keeps.
            StoreError: it failed, or its outcome stayed unknown after the retries.
        """
        if self._others is not None:
            self._others.wait()
        finite = []
        for point in self._points:
            form = records.rest_form(point)
            _check(form["payload"], f"point {form['id']}")
            try:
                json.dumps(form["vector"], allow_nan=False)
            except ValueError:
                self._over_grpc(records.without_payload(point)).wait()
                overwrite(self._node, self._name, form["id"], form["payload"])
            else:
                finite.append(form)
        if finite:
            self._put(finite)
        self._others, self._points = None, []

    def _put(self, points: list[JsonObject]) -> None:
        try:
            waited(self._node, "PUT", f"{path_of(self._name)}/points", {"points": points, **self._mode})
        except RefusedRequestError:
            # Strict mode may allow no so large a batch.
            if len(points) == 1:
                raise
            for point in points:
                self._put([point])


def _check(payload: object, what: str) -> None:
    """Stop before a server turns an integer into a double.

    Raises:
        RefusedError: one is beyond 64 bits.
    """
    if holds_beyond(payload, -BEYOND_INT64, 2 * BEYOND_INT64):
        raise RefusedError(
            f"{what} would get a payload integer beyond 64 bits, which Qdrant keeps as a double",
            hint="store such a number as a string",
        )
