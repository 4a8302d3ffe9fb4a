"""`retrying`: only the refusal of a write limit is tried again, and the rest of a client is as it was."""

from __future__ import annotations

import asyncio
import copy
import json
import subprocess
import sys
import time

import grpc
import httpx
import pytest
from qdrant_client import AsyncQdrantClient, QdrantClient, models
from qdrant_client.common.client_exceptions import ResourceExhaustedResponse
from qdrant_client.http.exceptions import UnexpectedResponse
from tests.unit.project.test_surface import HEAVY

from qmigrate import client as module
from qmigrate.client import retrying

ONE = "Rate limiting exceeded: Write rate limit exceeded: Operation requires 1 tokens but only 0.0 were available. Retry after 60s"
MANY = "Rate limiting exceeded: Write rate limit exceeded, request larger than rate limiter capacity, please try to split your request"
READ = ONE.replace("Write", "Read")
POINTS = [models.PointStruct(id=1, vector=[1.0, 2.0])]


class OverGrpc(grpc.RpcError):
    """As the library raises it."""

    def __init__(self, text: str, code: grpc.StatusCode = grpc.StatusCode.RESOURCE_EXHAUSTED) -> None:
        super().__init__(text)
        self._code = code

    def code(self) -> grpc.StatusCode:
        return self._code


def over_rest(text: str, status: int = 429) -> UnexpectedResponse:
    """As the library raises it without a time to wait."""
    return UnexpectedResponse(status, "", json.dumps({"status": {"error": text}}).encode(), httpx.Headers())


REFUSALS = {
    "one point": ResourceExhaustedResponse(ONE, 60),
    "many over REST": over_rest(MANY),
    "many over gRPC": OverGrpc(MANY),
}
OTHERS = {
    "reads": ResourceExhaustedResponse(READ, 60),
    "reads over REST": over_rest(READ),
    "another limiter": over_rest("too many requests"),
    "another status": over_rest(MANY, 400),
    "another code": OverGrpc(MANY, grpc.StatusCode.INVALID_ARGUMENT),
    "no answer": ConnectionError(MANY),
    "a mistake": ValueError(MANY),
}


class Failing:
    """Raises an error `times` times, then returns what it was given."""

    def __init__(self, error: Exception, times: int) -> None:
        self.error, self.left, self.calls = error, times, 0

    def __call__(self, *args: object, **kwargs: object) -> object:
        self.calls += 1
        # Whatever it is, it is read to its end, as by the library.
        found = [list(one) if not isinstance(one, str) else one for one in args], kwargs
        if self.left:
            self.left -= 1
            raise self.error
        return found

    async def later(self, *args: object, **kwargs: object) -> object:
        return self(*args, **kwargs)


@pytest.fixture(params=["sync", "async"])
def make(request):
    """Makes a client whose upsert fails, and what calls upsert through `retrying`."""

    def made(error: Exception, times: int, **more: float):
        failing = Failing(error, times)
        if request.param == "sync":
            client = QdrantClient(":memory:")
            client.upsert = failing
            wrapped = retrying(client, **more)
            return failing, wrapped.upsert
        client = AsyncQdrantClient(":memory:")
        client.upsert = failing.later
        wrapped = retrying(client, **more)
        return failing, lambda *args, **kwargs: asyncio.run(wrapped.upsert(*args, **kwargs))

    return made


@pytest.mark.parametrize("error", REFUSALS.values(), ids=REFUSALS)
def test_a_refusal_is_tried_again_until_it_passes(make, error):
    """Whichever way it came; the result is the client's own."""
    failing, upsert = make(error, 3)
    assert upsert("t", POINTS, wait=True) == (["t", POINTS], {"wait": True})
    assert failing.calls == 4


@pytest.mark.parametrize("error", OTHERS.values(), ids=OTHERS)
def test_every_other_error_is_the_callers(make, error):
    """Nothing is tried again of which it isn't known that it was refused."""
    failing, upsert = make(error, 1)
    with pytest.raises(type(error)) as caught:
        upsert("t", POINTS)
    assert caught.value is error
    assert failing.calls == 1


def test_it_ends(make):
    """The last answer is raised as it is, once the time is over; none at all is one try."""
    error = ResourceExhaustedResponse(ONE, 60)
    failing, upsert = make(error, 10**9, timeout=0.1)
    with pytest.raises(ResourceExhaustedResponse) as caught:
        upsert("t", POINTS)
    assert caught.value is error
    assert failing.calls > 2
    failing, upsert = make(error, 10**9, timeout=0)
    with pytest.raises(ResourceExhaustedResponse):
        upsert("t", POINTS)
    assert failing.calls == 1


def test_pauses_grow_to_a_bound_and_end_with_the_time(monkeypatch):
    """A server is not asked without a break, and not one second longer than was said."""
    now = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    found = []
    for pause in module._pauses(1.0):
        found.append(pause)
        now[0] += pause
    assert found[:6] == [0.01, 0.02, 0.04, 0.08, 0.16, 0.25]
    assert max(found) == 0.25
    assert sum(found) == pytest.approx(1.0)


def test_what_can_be_read_once_is_written_at_the_second_try_too(make):
    """A generator would be empty by then, and nothing would be written without an error."""
    _, upsert = make(ResourceExhaustedResponse(ONE, 60), 1)
    assert upsert("t", (one for one in POINTS)) == (["t", POINTS], {})


@pytest.mark.parametrize("kind", [QdrantClient, AsyncQdrantClient])
def test_nothing_of_a_client_is_lost(kind):
    """Every name leads where it led, but for the writes; who asks for its class gets that."""
    client = kind(":memory:")
    wrapped = retrying(client)
    assert isinstance(wrapped, kind)
    assert dir(wrapped) == dir(client)
    public = {name for name in dir(client) if not name.startswith("_") and not name.startswith(("grpc", "http", "rest"))}
    assert public > module._WRITES
    for name in public - module._WRITES:
        assert getattr(wrapped, name) == getattr(client, name)
    for name in module._WRITES:
        assert getattr(wrapped, name).__doc__ == getattr(client, name).__doc__
    wrapped.mark = 1
    assert client.mark == 1
    del wrapped.mark
    assert not hasattr(client, "mark")
    assert not hasattr(wrapped, "no_such_method")
    assert copy.copy(wrapped).init_options == client.init_options
    assert repr(client) in repr(wrapped)
    if kind is QdrantClient:
        wrapped.close()
    else:
        asyncio.run(wrapped.close())


def test_reads_and_uploads_are_the_clients_own_methods():
    """An upload reads its points once; the library itself waits there."""
    client = QdrantClient(":memory:")
    wrapped = retrying(client)
    for name in ("scroll", "query_points", "upload_points", "upload_collection", "create_collection", "create_vector_name"):
        assert getattr(wrapped, name) == getattr(client, name)
    wrapped.create_collection("t", vectors_config=models.VectorParams(size=2, distance=models.Distance.DOT))
    wrapped.upsert("t", POINTS)
    assert wrapped.count("t").count == 1
    client.close()


def test_importing_it_loads_no_client_library():
    """An application imports it next to its own client, of whichever version."""
    code = "import json, sys\nimport qmigrate.client\nprint(json.dumps(sorted({name.split('.')[0] for name in sys.modules})))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert set(json.loads(done.stdout)).isdisjoint(HEAVY)
