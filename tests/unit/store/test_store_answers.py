"""Whether something that was sent may still be carried out: futures under way, errors without an answer, and time."""

from __future__ import annotations

from concurrent.futures import Future

import grpc
import pytest

from qmigrate.errors import StoreError
from qmigrate.store.faults import RefusedRequestError, SlowError, TransientError
from qmigrate.store.server.requests import Answers


class Clock:
    """A clock that is moved by hand."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


class RpcError(grpc.RpcError):
    """As gRPC raises it."""

    def __init__(self, code: grpc.StatusCode) -> None:
        self._code = code

    def code(self) -> grpc.StatusCode:
        return self._code


def made() -> tuple[Answers, Clock]:
    """A record of requests, and its clock."""
    clock = Clock()
    return Answers(clock), clock


@pytest.mark.parametrize(
    ("error", "known"),
    [
        (None, True),
        (RpcError(grpc.StatusCode.NOT_FOUND), True),
        (RpcError(grpc.StatusCode.INVALID_ARGUMENT), True),
        (RpcError(grpc.StatusCode.RESOURCE_EXHAUSTED), True),
        (RpcError(grpc.StatusCode.DEADLINE_EXCEEDED), False),
        (RpcError(grpc.StatusCode.UNAVAILABLE), False),
        (RpcError(grpc.StatusCode.UNKNOWN), False),
        (RefusedRequestError("no"), True),
        (SlowError("no answer"), False),
        (TransientError("no connection", unknown=False), True),
        (TransientError("broken off"), False),
        (StoreError("answered 418"), False),
        (ValueError("anything"), False),
    ],
    ids=str,
)
def test_only_a_request_that_was_answered_is_over(error, known):
    """An error is an answer where the server has given one; what is older than the longest request is over too."""
    answers, clock = made()
    future: Future = answers.sent(Future())
    if error is None:
        future.set_result("done")
    else:
        future.set_exception(error)
    assert answers.all_known(60) == known
    clock.now += 60.5
    assert answers.all_known(60)


def test_what_is_under_way_is_waited_for_with_a_limit():
    """A future that isn't done is not an answer; one that was cancelled was only read."""
    answers, _ = made()
    one, two = answers.sent(Future()), answers.sent(Future())
    assert not answers.all_known(0)
    one.cancel()
    one.set_running_or_notify_cancel()
    assert not answers.all_known(0)
    two.set_result("done")
    assert answers.all_known(0)


def test_an_administrative_request_without_an_answer_counts(monkeypatch):
    """REST notes what it doesn't know, and nothing that was only read."""
    import httpx

    from qmigrate.store.address import ConnectionSettings
    from qmigrate.store.server.rest import Rest

    def lost(request: httpx.Request) -> httpx.Response:
        raise httpx.ReadTimeout("", request=request)

    rest = Rest("http://127.0.0.1:1", ConnectionSettings(url="http://127.0.0.1:1", timeout=5))
    rest._client = httpx.Client(transport=httpx.MockTransport(lost), base_url="http://127.0.0.1:1")
    for method, known in (("GET", True), ("POST", False)):
        with pytest.raises(SlowError):
            rest.send(method, "/collections")
        assert rest.answers.all_known(5) == known
    rest.close()
