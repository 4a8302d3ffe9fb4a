"""Payloads over REST, which has every JSON number: integers of 2^63 and more are doubles over gRPC."""

from __future__ import annotations

from collections.abc import Sequence

from qmigrate.model.transform import Payload, PointId
from qmigrate.store.collection import path_of, waited
from qmigrate.store.rest import Rest

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
