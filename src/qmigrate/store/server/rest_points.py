"""Points over REST, where gRPC can't pass: the messages of gRPC, sent and answered as JSON. It repeats nothing.

:class:`RestChannel` takes the place of a gRPC channel under :class:`qmigrate.store.server.points.Points`, so that
retries, pages and limits are the same on both ways.
Vectors arrive exactly: a float32 is a number of JSON and back the same.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from qdrant_client import grpc as messages
from qdrant_client.conversions.conversion import GrpcToRest

from qmigrate.errors import StoreError
from qmigrate.model.schema import JsonObject
from qmigrate.store import exact, records
from qmigrate.store.address import ConnectionSettings
from qmigrate.store.server.rest import Rest, segment

#: Requests that are under way at once; the others wait for their turn.
_AT_ONCE = 8
#: Values of vectors in one request: as JSON they take some 20 bytes each, and a server takes 32 MiB by default.
_VALUES = 500_000
_STATES = {
    "acknowledged": messages.UpdateStatus.Acknowledged,
    "completed": messages.UpdateStatus.Completed,
    "clock_rejected": messages.UpdateStatus.ClockRejected,
}


class RestChannel:
    """Methods of the gRPC service ``Points`` over REST; safe to use from several threads.

    Args:
        settings: address, key, timeout.
    """

    def __init__(self, settings: ConnectionSettings) -> None:
        self.rest = Rest(str(settings.url), settings)
        self._pool = ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="qmigrate-rest")

    def unary_unary(
        self, method: str, request_serializer: Any = None, response_deserializer: Any = None, **_more: Any
    ) -> Method:
        """As a gRPC channel gives it; without a deserializer the answer is the bytes of the message."""
        del request_serializer
        return Method(self, method.rpartition("/")[2], response_deserializer or bytes)

    def submit(self, call: Callable[[], Any]) -> Future[Any]:
        """Have a call made in parallel to the caller."""
        return self._pool.submit(call)

    def close(self) -> None:
        """Close the connections; what has not begun is cancelled."""
        self._pool.shutdown(wait=False, cancel_futures=True)
        self.rest.close()


class Method:
    """One method of the service.

    Args:
        channel: which sends.
        name: as gRPC has it.
        read: what makes the answer of the bytes of the message.
    """

    def __init__(self, channel: RestChannel, name: str, read: Callable[[bytes], Any]) -> None:
        self._channel = channel
        self._name = name
        self._read = read

    def future(self, request: Any, timeout: float | None = None, metadata: Any = None) -> Future[Any]:
        """Send a request, once; the key and the time limit are those of the channel."""
        del timeout, metadata
        return self._channel.submit(lambda: self._answered(request))

    def _answered(self, request: Any) -> Any:
        return self._read(_METHODS[self._name](self._channel.rest, request).SerializeToString())


def _scroll(rest: Rest, request: Any) -> Any:
    body: JsonObject = {"limit": request.limit, **_selectors(request)}
    if request.HasField("offset"):
        body["offset"] = records.point_id(messages.RetrievedPoint(id=request.offset))
    if request.HasField("filter"):
        body["filter"] = filter_of(request.filter)
    found = _sent(rest, "POST", request, "/points/scroll", body)
    answer = messages.ScrollResponse(result=[_retrieved(point) for point in found["points"]])
    if found.get("next_page_offset") is not None:
        answer.next_page_offset.CopyFrom(_id(found["next_page_offset"]))
    return answer


def _get(rest: Rest, request: Any) -> Any:
    found = _sent(rest, "POST", request, "/points", {"ids": _plain_ids(request.ids), **_selectors(request)})
    return messages.GetResponse(result=[_retrieved(point) for point in found])


def _upsert(rest: Rest, request: bytes) -> Any:
    parsed = messages.UpsertPoints.FromString(request)
    answer = None
    for part in _parts(parsed.points):
        points = [{**_located(one), "payload": records.payload_of(one)} for one in part]
        mode = {"update_mode": "insert_only"} if parsed.update_mode == messages.UpdateMode.InsertOnly else {}
        answer = _written(_sent(rest, "PUT", parsed, "/points?wait=true", {"points": points, **mode}))
        if answer.result.status != messages.UpdateStatus.Completed:
            break
    return answer


def _delete(rest: Rest, request: Any) -> Any:
    ids = _plain_ids(request.points.points.ids)
    return _written(_sent(rest, "POST", request, "/points/delete?wait=true", {"points": ids}))


def _update_vectors(rest: Rest, request: Any) -> Any:
    points = [_located(one) for one in request.points]
    return _written(_sent(rest, "PUT", request, "/points/vectors?wait=true", {"points": points}))


def _query_batch(rest: Rest, request: Any) -> Any:
    searches = []
    for one in request.query_points:
        params = {"exact": one.params.exact}
        if one.params.HasField("hnsw_ef"):
            params["hnsw_ef"] = one.params.hnsw_ef
        asked = {"query": _asked_by(one.query.nearest), "params": params, "limit": one.limit}
        asked |= {"filter": filter_of(one.filter)} if one.HasField("filter") else {}
        searches.append(asked | ({"using": one.using} if one.using else {}))
    found = _sent(rest, "POST", request, "/points/query/batch", {"searches": searches})
    results = [
        messages.BatchResult(result=[messages.ScoredPoint(id=_id(point["id"])) for point in one["points"]])
        for one in found
    ]
    return messages.QueryBatchResponse(result=results)


def _asked_by(message: Any) -> Any:
    """What a search is by, as JSON: a dense vector, rows, a sparse vector, or a text for a model of the server."""
    kind = message.WhichOneof("variant")
    return records.vector_value(messages.Vector(**{kind: getattr(message, kind)}))


def _query(rest: Rest, request: Any) -> Any:
    """A search for ids and versions."""
    body: JsonObject = {
        "query": list(request.query.nearest.dense.data),
        "params": {"exact": request.params.exact},
        "limit": request.limit,
        **_selectors(request),
    }
    if request.using:
        body["using"] = request.using
    if request.HasField("filter"):
        body["filter"] = filter_of(request.filter)
    found = _sent(rest, "POST", request, "/points/query", body)["points"]
    return messages.QueryResponse(
        result=[messages.ScoredPoint(id=_id(point["id"]), version=point["version"]) for point in found]
    )


def _update_batch(rest: Rest, request: Any) -> Any:
    operations: list[JsonObject] = []
    for one in request.operations:
        kind = str(one.WhichOneof("operation"))
        change = getattr(one, kind)
        points = _plain_ids(change.points_selector.points.ids)
        body: JsonObject = {"points": points}
        if kind == "set_payload":
            body["payload"] = {key: records.plain_value(change.payload[key]) for key in change.payload}
            if change.HasField("key"):
                body["key"] = change.key
        elif kind == "delete_payload":
            body["keys"] = list(change.keys)
        else:
            raise StoreError(f"{kind} can't be sent over REST", hint="qdrant.prefer_rest: false")
        operations.append({kind: body})
    found = _sent(rest, "POST", request, "/points/batch?wait=true", {"operations": operations})
    return messages.UpdateBatchResponse(result=[_written(one).result for one in found])


_METHODS: Mapping[str, Callable[[Rest, Any], Any]] = {
    "Scroll": _scroll,
    "Get": _get,
    "Upsert": _upsert,
    "Delete": _delete,
    "UpdateVectors": _update_vectors,
    "Query": _query,
    "QueryBatch": _query_batch,
    "UpdateBatch": _update_batch,
}


def filter_of(message: Any) -> JsonObject:
    """A filter as JSON."""
    model = GrpcToRest.convert_filter(message)
    found: JsonObject = _said(model.model_dump(mode="json", by_alias=True, exclude_none=True))
    return found


def _said(value: Any) -> Any:
    """The same without empty lists of conditions, which the client puts where nothing was given."""
    if isinstance(value, list):
        return [_said(one) for one in value]
    if not isinstance(value, dict):
        return value
    return {key: _said(one) for key, one in value.items() if one != [] or key not in ("must", "should", "must_not")}


def _sent(rest: Rest, method: str, request: Any, path: str, body: JsonObject) -> Any:
    return rest.envelope(rest.send(method, f"/collections/{segment(request.collection_name)}{path}", body))


def _selectors(request: Any) -> JsonObject:
    """The requested parts of the points."""
    payload = request.with_payload
    fields = list(payload.include.fields) if payload.WhichOneof("selector_options") == "include" else None
    return {
        "with_payload": payload.enable if fields is None else fields,
        "with_vector": request.with_vectors.enable,
    }


def _written(result: JsonObject) -> Any:
    """What a write has come to."""
    state = _STATES.get(str(result.get("status")), messages.UpdateStatus.UnknownUpdateStatus)
    found = messages.UpdateResult(status=state)
    if result.get("operation_id") is not None:
        found.operation_id = result["operation_id"]
    return messages.PointsOperationResponse(result=found)


def _parts(points: Sequence[Any]) -> Iterator[Sequence[Any]]:
    """Points whose vectors fit into one request."""
    return records.cut(points, lambda point: int(point.ByteSize()) // 4, _VALUES)


def _id(identifier: Any) -> Any:
    return messages.PointId(num=identifier) if isinstance(identifier, int) else messages.PointId(uuid=identifier)


def _plain_ids(ids: Sequence[Any]) -> list[int | str]:
    return [one.uuid if one.WhichOneof("point_id_options") == "uuid" else one.num for one in ids]


def _located(point: Any) -> JsonObject:
    """Id and vectors of a point to write; one without vectors is marked as such."""
    if point.vectors.WhichOneof("vectors_options") == "vector":
        return {"id": records.point_id(point), "vector": records.vector_value(point.vectors.vector)}
    named = point.vectors.vectors.vectors
    return {"id": records.point_id(point), "vector": {name: records.vector_value(named[name]) for name in named}}


def _retrieved(point: JsonObject) -> Any:
    """A stored point; integers beyond gRPC are there as they are, see :mod:`qmigrate.store.exact`."""
    made = messages.RetrievedPoint(id=_id(point["id"]))
    for key, value in (point.get("payload") or {}).items():
        made.payload[key].CopyFrom(exact.value_of(value))
    vector = point.get("vector")
    if isinstance(vector, Mapping):
        made.vectors.vectors.SetInParent()
        for name, one in vector.items():
            made.vectors.vectors.vectors[name].MergeFromString(records.vector_wire(one))
    elif vector is not None:
        made.vectors.vector.MergeFromString(records.vector_wire(vector))
    if point.get("shard_key") is not None:
        key = point["shard_key"]
        made.shard_key.CopyFrom(
            messages.ShardKey(number=key) if isinstance(key, int) else messages.ShardKey(keyword=key)
        )
    return made
