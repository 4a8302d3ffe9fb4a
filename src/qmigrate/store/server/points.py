"""Points over gRPC, or REST in its place: read in pages, fetched, written and deleted, as protobuf messages.

It looks inside a point in one case only: a payload integer that gRPC has no place for is read again, see ``exact``.
"""

from __future__ import annotations

import logging
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import CancelledError
from typing import Any, NamedTuple, TypeVar
from urllib.parse import urlsplit

import grpc
from qdrant_client import grpc as messages

from qmigrate.errors import ConfigError, NotFoundError, StoreError
from qmigrate.model.ids import Page, points_of
from qmigrate.model.pages import ReadyPage
from qmigrate.model.schema import JsonObject
from qmigrate.model.state import Seal
from qmigrate.model.transform import Payload, PointId
from qmigrate.ports import Ready, Stored, WriteLimit
from qmigrate.sequences import in_parts
from qmigrate.store import exact, faults, pages, records, wire
from qmigrate.store.address import ConnectionSettings
from qmigrate.store.faults import RefusedRequestError, SlowError
from qmigrate.store.id_pages import ForeignError, decoded, looked_up
from qmigrate.store.server.requests import Answers, address, open_channel, repeated
from qmigrate.store.server.rest import Rest, segment
from qmigrate.store.server.rest_points import RestChannel
from qmigrate.store.shapes import SEAL

_log = logging.getLogger(__name__)
#: How often both are asked, and the seconds in between: a name may be on its way from generation to generation.
LOOKS, PAUSE = 10, 0.2
#: The marks of a collection: its ledger and generation; empty where it has none.
_Says = tuple[str, int] | tuple[()]


class Same:
    """Compares one collection by both ways, once per connection.

    Args:
        rest: of the asked node.
        channel: of gRPC.
        label: of gRPC, for messages.
        metadata: of every gRPC request.
        timeout: of one, in seconds.
    """

    def __init__(self, rest: Rest, channel: Any, label: str, metadata: Any, timeout: float) -> None:
        self._rest = rest
        self._collections = messages.CollectionsStub(channel)
        self._label = label
        self._options = {"metadata": metadata, "timeout": timeout}
        self._known = False

    def check(self, name: str) -> None:
        """Stop where a collection is another one over gRPC; what is unknown is not a reason.

        Raises:
            ConfigError: the two are different servers.
        """
        if self._known:
            return
        for look in range(LOOKS):
            if look:
                time.sleep(PAUSE)
            found = self._is_same(name)
            if found is None:
                return
            if found:
                self._known = True
                return
        raise ConfigError(
            f"Qdrant at {self._label} (gRPC, for points) is not the one at {self._rest.label} (REST): {name} is "
            "not the same collection there",
            hint="qdrant.grpc_port and grpc_host in qmigrate.yaml, or QMIGRATE_QDRANT_GRPC_PORT and "
            "QMIGRATE_QDRANT_GRPC_HOST, must lead to the server of the URL",
        )

    def _is_same(self, name: str) -> bool | None:
        """None where one of the two doesn't say."""
        try:
            config = self._rest.get(f"/collections/{segment(name)}").get("config") or {}
        except (NotFoundError, StoreError):
            # The request itself will show what is wrong.
            return None
        found = (config.get("metadata") or {}).get(SEAL)
        seal = Seal.of(found)
        over_rest: _Says = (str(seal.ledger), seal.generation or 0) if found else ()
        try:
            answer = self._collections.Get(messages.GetCollectionInfoRequest(collection_name=name), **self._options)
        except grpc.RpcError as error:
            return False if error.code() == grpc.StatusCode.NOT_FOUND else None
        fields = answer.result.config.metadata[SEAL].struct_value.fields if answer.result.config.metadata else {}
        if not fields:
            return None if over_rest else True
        return over_rest == (fields["ledger"].string_value, fields["generation"].integer_value)


Result = TypeVar("Result")
StrictMode = Callable[[str], JsonObject]
ReadPayloads = Callable[[str, Sequence[PointId]], Mapping[PointId, Payload]]

#: Number of the field ``points`` in ``UpsertPoints``.
POINTS_FIELD = 3
#: Most ids of one request; an id takes at most 40 bytes.
IDS_PER_REQUEST = 10_000
#: Most points of one request that sets vectors.
VECTORS_PER_REQUEST = 200
#: Most searches of one request.
QUERIES_PER_REQUEST = 50


class Points:
    """Requests for points on one server; safe to use from several threads.

    Args:
        settings: address, key, timeout.
        strict_mode: reads the strict mode of a collection; asked only after a request was refused.
        payloads: reads payloads of a collection's points exactly.
        rest: of the same server, to check that it is the same; None where that is known.
    """

    def __init__(
        self, settings: ConnectionSettings, strict_mode: StrictMode, payloads: ReadPayloads, rest: Rest | None = None
    ) -> None:
        self._label = address(settings)
        opened: Callable[[ConnectionSettings], Any] = open_channel
        if settings.prefer_rest:
            self._label, opened = urlsplit(str(settings.url)).netloc, RestChannel
        self._timeout = settings.timeout
        self._metadata = (("api-key", settings.api_key),) if settings.api_key else ()
        self._strict_mode = strict_mode
        self._payloads = payloads
        self.answers = Answers()
        # By the name that the writes are sent to: several collections are worked on at a time.
        self.limits: dict[str, WriteLimit] = {}
        # Reads and writes on a connection each: large pages don't wait for large batches.
        self._channels = (opened(settings), opened(settings))
        self._reads, self._writes = (messages.PointsStub(channel) for channel in self._channels)
        # Where points come as JSON, whose integers are added to their messages, each is read.
        self._moves_bytes = not settings.prefer_rest
        self._same: Same | None = None
        if rest is not None and not settings.prefer_rest:
            self._same = Same(rest, self._channels[0], self._label, self._metadata, self._timeout)
        # Whether payload numbers have to be read again shows in the bytes of an answer.
        self._scroll = self._channels[0].unary_unary(
            "/qdrant.Points/Scroll",
            request_serializer=messages.ScrollPoints.SerializeToString,
            response_deserializer=lambda raw: (messages.ScrollResponse.FromString(raw), exact.may_hold_large(raw)),
        )
        self._get = self._channels[0].unary_unary(
            "/qdrant.Points/Get",
            request_serializer=messages.GetPoints.SerializeToString,
            response_deserializer=lambda raw: (messages.GetResponse.FromString(raw), exact.may_hold_large(raw)),
        )
        # Ids alone are decoded by the page, without a message per point.
        self._scroll_bytes = self.reader("Scroll", messages.ScrollPoints.SerializeToString)
        self._get_bytes = self.reader("Get", messages.GetPoints.SerializeToString)
        # Points arrive here as bytes, so the request is bytes too: nothing is parsed only to be serialised again.
        self._upsert = self._channels[1].unary_unary(
            "/qdrant.Points/Upsert", response_deserializer=messages.PointsOperationResponse.FromString
        )

    def close(self) -> None:
        """Close the connections."""
        for channel in self._channels:
            channel.close()

    def reader(self, method: str, serializer: Callable[[Any], bytes]) -> Any:
        """A reading method of the service whose answers stay bytes, for :meth:`start` and :meth:`repeated`."""
        return self._channels[0].unary_unary(f"/qdrant.Points/{method}", request_serializer=serializer)

    def start(self, method: Any, request: Any, *, timeout: float | None = None) -> Any:
        """Send a request without waiting for its answer; a future."""
        if self._same is not None and not isinstance(request, bytes):
            self._same.check(request.collection_name)
        return self.answers.sent(method.future(request, timeout=timeout or self._timeout, metadata=self._metadata))

    def start_write(self, name: str, method: Any, request: Any) -> Sent:
        """The same for a write of points, which may have a limit of its own."""
        seconds = self.limits[name].seconds if name in self.limits else self._timeout
        return Sent(self.start(method, request, timeout=seconds), seconds)

    def answer(self, future: Any) -> Any:
        """The answer of a future, errors translated."""
        try:
            return future.result()
        except (grpc.FutureCancelledError, CancelledError) as error:
            raise StoreError(f"a request to Qdrant at {self._label} was cancelled: the store was closed") from error
        except grpc.RpcError as error:
            raise faults.of_rpc(error, self._label, self._timeout) from error

    def repeated(self, method: Any, request: Any, first: Any = None) -> Any:
        """The answer of a request that may be repeated; `first` is a future of it that is under way already."""
        futures = [] if first is None else [first]
        return repeated(
            lambda: self.answer(futures.pop() if futures else self.start(method, request)), self._timeout
        )

    def scan(
        self,
        name: str,
        *,
        start: PointId | None,
        stop: PointId | None,
        page: int,
        payload: bool | Sequence[str],
        vectors: bool,
        where: Any = None,
    ) -> Iterator[Sequence[Stored]]:
        """Pages in Qdrant's order, up to before `stop`; the next is under way while the caller works on this one."""
        request = _from(_scroll_request(name, page, payload, vectors, where), start)

        def parsed(answer: tuple[Any, bool]) -> tuple[Sequence[Stored], Any]:
            found, large = answer
            rows, ended = _before(found.result, stop)
            following = found.next_page_offset if not ended and found.HasField("next_page_offset") else None
            return self._settled(name, rows) if large else rows, following

        return self._scrolled(self._scroll, request, parsed)

    def scan_canonical(
        self, name: str, *, start: PointId | None, stop: PointId | None, page: int
    ) -> Iterator[pages.CanonicalPage]:
        """The same as bytes: see :meth:`qmigrate.ports.Store.scan_canonical`."""

        def parsed(answer: bytes) -> tuple[list[pages.CanonicalPage], Any]:
            found = messages.ScrollResponse.FromString(answer)
            rows, ended = _before(found.result, stop)
            # A copy: the message is emptied below.
            more = not ended and found.HasField("next_page_offset")
            following = wire_id(_plain_id(found.next_page_offset)) if more else None
            if exact.may_hold_large(answer):
                self._settled(name, rows)
            made = pages.of_messages(rows) if ended else pages.canonical(found)
            return [made] if made.body else [], following

        request = _scroll_request(name, page, True, True, None)
        for found in self._scrolled(self._scroll_bytes, _from(request, start), parsed):
            yield from found

    def scan_ready(
        self, name: str, *, start: PointId | None, after: PointId | None, stop: PointId | None, page: int
    ) -> Iterator[ReadyPage]:
        """The same as they are to be written: see :meth:`qmigrate.ports.Store.scan_ready`."""
        border = None if stop is None else _order(stop)

        def parsed(answer: bytes) -> tuple[Sequence[ReadyPage], Any]:
            nonlocal after
            points, following = self._retagged(name, answer, border, stop)
            first, after = after, None
            found = list(pages.in_batches(points, first))
            return found, None if following is None else messages.PointId.FromString(following)

        request = _scroll_request(name, page, True, True, None)
        for found in self._scrolled(self._scroll_bytes, _from(request, start), parsed):
            yield from found

    def _retagged(
        self, name: str, answer: bytes, border: tuple[int, int] | None, stop: PointId | None
    ) -> tuple[pages.ReadyPoints | list[Ready], bytes | None]:
        """The points of an answer, moved as bytes, or made of messages where that can't be."""
        large = exact.may_hold_large(answer)
        if not large and self._moves_bytes:
            try:
                return pages.retagged(answer, lambda one: border is None or _order(one) < border)
            except ForeignError:
                self._moves_bytes = False
                _log.warning(
                    "Qdrant at %s answers with a field of points that qmigrate doesn't know: points are copied without "
                    "it, and slower",
                    self._label,
                )
        found = messages.ScrollResponse.FromString(answer)
        rows, ended = _before(found.result, stop)
        if large:
            self._settled(name, rows)
        following = None if ended or not found.HasField("next_page_offset") else found.next_page_offset
        return pages.unchanged(rows), None if following is None else following.SerializeToString()

    def _settled(self, name: str, rows: Sequence[Stored]) -> Sequence[Stored]:
        return exact.settled(rows, lambda row: _plain_id(row.id), lambda ids: self._payloads(name, ids))

    def scan_ids(self, name: str, *, page: int, where: Any = None) -> Iterator[Page]:
        """All ids in Qdrant's order, decoded from the bytes of the answers."""

        def parsed(answer: bytes) -> tuple[list[Page], Any]:
            found, following = decoded(answer)
            return found, None if following is None else messages.PointId.FromString(following)

        request = _scroll_request(name, page, False, False, where)
        for found in self._scrolled(self._scroll_bytes, request, parsed):
            yield from found

    def _scrolled(
        self, method: Any, request: Any, parsed: Callable[[Any], tuple[Sequence[Result], Any]]
    ) -> Iterator[Sequence[Result]]:
        """What is parsed from answer after answer; the next one is requested in the meantime."""
        pending: Any = self.start(method, request)
        try:
            while pending is not None:
                try:
                    found = self.repeated(method, request, pending)
                except RefusedRequestError as error:
                    request.limit = self._smaller(request.collection_name, "max_query_limit", request.limit, error)
                    pending = self.start(method, request)
                    continue
                rows, following = parsed(found)
                pending = None
                if following is not None:
                    request.offset.CopyFrom(following)
                    pending = self.start(method, request)
                if rows:
                    yield rows
        finally:
            if pending is not None:
                pending.cancel()

    def fetch(
        self, name: str, ids: Sequence[PointId], *, payload: bool | Sequence[str], vectors: bool
    ) -> list[Stored]:
        """The points of these ids that exist."""
        found: list[Stored] = []
        for part in in_parts(ids, IDS_PER_REQUEST):
            request = messages.GetPoints(
                collection_name=name,
                with_payload=_payload_selector(payload),
                with_vectors=messages.WithVectorsSelector(enable=vectors),
            )
            add_ids(request.ids, part)
            answer, large = self.repeated(self._get, request)
            found.extend(self._settled(name, answer.result) if large else answer.result)
        return found

    def fetch_ids(self, name: str, ids: Sequence[PointId]) -> set[PointId]:
        """Those of these ids that exist, decoded from the bytes of the answers."""
        found: set[PointId] = set()
        for part in in_parts(ids, IDS_PER_REQUEST):
            request = messages.GetPoints(collection_name=name)
            request.with_payload.enable = request.with_vectors.enable = False
            add_ids(request.ids, part)
            for page in looked_up(self.repeated(self._get_bytes, request)):
                found.update(points_of(page))
        return found

    def upsert(self, name: str, points: Sequence[Ready], *, new_only: bool = False) -> Upsert:
        """Start replacing or inserting points; with `new_only` those that are there stay as they are."""
        return Upsert(self, name, points, new_only)

    def delete(self, name: str, ids: Sequence[PointId]) -> int | None:
        """Delete points and wait until it is done; the operation id that the last request got."""
        operation = None
        for part in in_parts(ids, IDS_PER_REQUEST):
            request = messages.DeletePoints(collection_name=name, wait=True)
            add_ids(request.points.points.ids, part)
            operation = self.written(name, self._writes.Delete, request)
        return operation

    def edit_vectors(self, name: str, points: Sequence[Any]) -> None:
        """Set vectors of points that are there, and wait until it is done."""
        for part in in_parts(points, VECTORS_PER_REQUEST):
            request = messages.UpdatePointVectors(collection_name=name, wait=True, points=part)
            self.written(name, self._writes.UpdateVectors, request)

    def nearest(
        self, name: str, vector: str, queries: Sequence[Any], how: Mapping[str, Any]
    ) -> list[list[PointId]]:
        """Ids of the nearest points of each query; `how` has ``limit``, ``exact``, ``ef`` and, of `among`, ids."""
        params = messages.SearchParams(exact=how["exact"], hnsw_ef=how["ef"])
        found: list[list[PointId]] = []
        for part in in_parts(queries, QUERIES_PER_REQUEST):
            asked = [
                messages.QueryPoints(collection_name=name, using=vector or None, params=params, limit=how["limit"])
                for _ in part
            ]
            for request, one in zip(asked, part, strict=True):
                request.query.nearest.CopyFrom(records.vector_input(one))
                if how.get("among") is not None:
                    add_ids(request.filter.must.add().has_id.has_id, how["among"])
            request = messages.QueryBatchPoints(collection_name=name, query_points=asked)
            answer = self.repeated(self._reads.QueryBatch, request)
            found += [[_plain_id(point.id) for point in one.result] for one in answer.result]
        return found

    def update(self, request: Any) -> None:
        """Send an ``UpdateBatchPoints`` and wait until all of it is done; it must be one that may be repeated."""

        def once() -> None:
            states = {one.status for one in self.answer(self.start(self._writes.UpdateBatch, request)).result}
            if states - {messages.UpdateStatus.Completed}:
                names = ", ".join(sorted(messages.UpdateStatus.Name(state) for state in states))
                raise SlowError(f"Qdrant at {self._label} has accepted writes, but they are not done: {names}")

        repeated(once, self._timeout)

    def begin_upsert(self, name: str, head: bytes, points: Sequence[Ready]) -> tuple[Any, Sent]:
        """The bytes of an upsert request, and the request under way."""
        request = _upsert_request(head, points)
        return request, self.start_write(name, self._upsert, request)

    def finish_upsert(
        self, name: str, head: bytes, points: Sequence[Ready], sent: tuple[bytes, Sent]
    ) -> int | None:
        """Wait for an upsert that is under way; a batch beyond what strict mode lets pass is sent in parts."""
        try:
            return self.written(name, self._upsert, *sent)
        except RefusedRequestError as error:
            most = self._smaller(name, "upsert_max_batchsize", len(points), error)
            for part in in_parts(points, most):
                self.written(name, self._upsert, _upsert_request(head, part))
            return None

    def written(self, name: str, method: Any, request: Any, first: Sent | None = None) -> int | None:
        """Wait until the server reports a write *completed*; the operation id that it got, where the server reports it.

        One that is accepted but not done in time is sent again: it is idempotent, and waits behind the first.
        """
        sent = [] if first is None else [first]

        def once() -> int | None:
            one = sent.pop() if sent else self.start_write(name, method, request)
            try:
                result = self.answer(one.future).result
            except SlowError:
                if name in self.limits:
                    self.limits[name].exceeded(one.seconds)
                raise
            if result.status != messages.UpdateStatus.Completed:
                status = messages.UpdateStatus.Name(result.status)
                raise SlowError(f"Qdrant at {self._label} has accepted a write, but it is not done: {status}")
            return int(result.operation_id) if result.HasField("operation_id") else None

        return repeated(once, self._timeout)

    def _smaller(self, name: str, key: str, size: int, refusal: RefusedRequestError) -> int:
        """The limit of strict mode that a refused request was beyond; else the refusal itself."""
        found = self._strict_mode(name)
        most = found.get(key)
        if not found.get("enabled") or not isinstance(most, int) or not 0 < most < size:
            raise refusal
        return most


class Sent(NamedTuple):
    """A write under way, and for how many seconds it may be."""

    future: Any
    seconds: float


class Upsert:
    """A :class:`qmigrate.ports.PendingWrite` over a gRPC future."""

    __slots__ = ("_batch", "_head", "_name", "_points", "_request", "_sent")

    def __init__(self, points: Points, name: str, batch: Sequence[Ready], new_only: bool) -> None:
        self._points = points
        self._name = name
        self._batch = batch
        mode = {"update_mode": messages.UpdateMode.InsertOnly} if new_only else {}
        self._head = bytes(messages.UpsertPoints(collection_name=name, wait=True, **mode).SerializeToString())
        self._request, self._sent = points.begin_upsert(name, self._head, batch)

    def wait(self) -> int | None:
        """Return when the server reports it *completed*, with its operation id.

        Raises:
            StoreError: it failed, or its outcome stayed unknown after the retries.
        """
        if self._request is None:
            return None
        operation = self._points.finish_upsert(self._name, self._head, self._batch, (self._request, self._sent))
        # The batch is freed as soon as it is safe.
        self._request, self._sent, self._batch = None, Sent(None, 0.0), ()
        return operation


def _upsert_request(head: bytes, points: Sequence[Ready]) -> bytes:
    """An ``UpsertPoints`` put together from its common fields and points that are bytes already."""
    if isinstance(points, pages.ReadyPoints):
        return head + points.body
    return head + b"".join(wire.field(POINTS_FIELD, point) for point in points)


def _scroll_request(name: str, page: int, payload: bool | Sequence[str], vectors: bool, where: Any) -> Any:
    request = messages.ScrollPoints(
        collection_name=name,
        limit=page,
        with_payload=_payload_selector(payload),
        with_vectors=messages.WithVectorsSelector(enable=vectors),
    )
    if where is not None:
        request.filter.CopyFrom(where)
    return request


def _from(request: Any, start: PointId | None) -> Any:
    """The same request, from an id on."""
    if start is not None:
        request.offset.CopyFrom(wire_id(start))
    return request


def add_ids(field: Any, ids: Sequence[PointId]) -> None:
    """Fill a repeated field of ids in place: a message made for each and copied takes four times as long."""
    add = field.add
    for identifier in ids:
        if isinstance(identifier, int):
            add().num = identifier
        else:
            add().uuid = identifier


def _plain_id(found: Any) -> PointId:
    return str(found.uuid) if found.WhichOneof("point_id_options") == "uuid" else int(found.num)


def wire_id(identifier: PointId) -> Any:
    """An id as its message."""
    if isinstance(identifier, int):
        return messages.PointId(num=identifier)
    return messages.PointId(uuid=identifier)


def _payload_selector(payload: bool | Sequence[str]) -> Any:
    if isinstance(payload, bool):
        return messages.WithPayloadSelector(enable=payload)
    return messages.WithPayloadSelector(include=messages.PayloadIncludeSelector(fields=list(payload)))


def _order(identifier: PointId) -> tuple[int, int]:
    """Qdrant's order: unsigned ids ascending, then UUIDs by bytes."""
    return (0, identifier) if isinstance(identifier, int) else (1, uuid.UUID(identifier).int)


def _order_of(point: Stored) -> tuple[int, int]:
    kind = point.id.WhichOneof("point_id_options")
    return _order(point.id.uuid if kind == "uuid" else point.id.num)


def _before(rows: Sequence[Stored], stop: PointId | None) -> tuple[Sequence[Stored], bool]:
    """The rows before `stop`, and whether it was reached."""
    if stop is None or not rows:
        return rows, False
    border = _order(stop)
    if _order_of(rows[-1]) < border:
        return rows, False
    return [row for row in rows if _order_of(row) < border], True
