"""Exact counts and random samples of ids over REST. It reads no payload and no vector."""

from __future__ import annotations

from qmigrate.model.schema import JsonObject
from qmigrate.model.transform import PointId
from qmigrate.store.collection import path_of
from qmigrate.store.faults import RefusedRequestError
from qmigrate.store.fence import strict_mode
from qmigrate.store.rest import Rest
from qmigrate.store.shapes import count_filter


def count(node: Rest, name: str, *, missing_field: str | None, without_vector: str | None) -> int:
    """Exact count; both conditions together when both are given."""
    body: JsonObject = {"exact": True}
    wanted = count_filter(missing_field=missing_field, without_vector=without_vector)
    if wanted:
        body["filter"] = wanted
    return int(node.call("POST", f"{path_of(name)}/points/count", body)["count"])


def facet(node: Rest, name: str, field: str, most: int) -> dict[str | int | bool, int] | None:
    """Value -> points that have it, by the payload index; None where there are more, or strict mode forbids it."""
    try:
        found = node.call("POST", f"{path_of(name)}/facet", {"key": field, "limit": most + 1, "exact": True})
    except RefusedRequestError:
        return None
    hits = found["hits"]
    return {hit["value"]: int(hit["count"]) for hit in hits} if len(hits) <= most else None


def exact_is_refused(node: Rest, name: str) -> bool:
    """Whether strict mode forbids exact counts; the ids can still be read one by one."""
    found = strict_mode(node, name)
    return bool(found.get("enabled")) and found.get("search_allow_exact") is False


def sample_ids(node: Rest, name: str, number: int, having: str | None) -> list[PointId]:
    """Up to `number` ids at random; fewer where strict mode limits a query.

    Args:
        having: a vector that the points must have; None for any point.
    """
    if number <= 0:
        return []
    try:
        return _sample(node, name, number, having)
    except RefusedRequestError:
        found = strict_mode(node, name)
        most = found.get("max_query_limit")
        if not found.get("enabled") or not isinstance(most, int) or not 0 < most < number:
            raise
        return _sample(node, name, most, having)


def _sample(node: Rest, name: str, number: int, having: str | None) -> list[PointId]:
    body: JsonObject = {"query": {"sample": "random"}, "limit": number, "with_payload": False, "with_vector": False}
    if having is not None:
        body["filter"] = {"must": [{"has_vector": having}]}
    return [point["id"] for point in node.call("POST", f"{path_of(name)}/points/query", body)["points"]]
