"""An application that writes through `retrying` sees no error while an upgrade freezes, and loses nothing."""

from __future__ import annotations

import asyncio
import threading
import time
import warnings
from collections.abc import Callable

import pytest
from qdrant_client import AsyncQdrantClient, QdrantClient, models
from tests.conftest import clean
from tests.harness import ADD, Deployment, loaded_on

from qmigrate.client import retrying
from qmigrate.commands import upgrade
from qmigrate.engine.golive import golive

pytestmark = [pytest.mark.server, pytest.mark.timeout(280)]

POINTS = 200
#: This many points are written at once, every second time: the server refuses them with another text than one.
MANY = 5
PATIENCE = 60.0


@pytest.fixture
def made(qdrant_server, tmp_path):
    """A loaded collection with a rebuild pending, to go live under a freeze."""
    one = loaded_on(qdrant_server, tmp_path, POINTS, timeout=10, rebuild={"writes": "freeze"})
    one.revise("0002", ADD)
    yield one
    clean(one)


class Writer(threading.Thread):
    """Writes through `retrying`, one request after the other, until it is stopped.

    Attributes:
        truth: id -> text of what was acknowledged; None for what was deleted.
        error: what it has seen, which ends it.
        refused: answers that the client itself has raised; what follows each is another try.
    """

    def __init__(self, made: Deployment, wraps: Callable[[Writer], Callable[..., object]]) -> None:
        super().__init__(daemon=True)
        self.made = made
        self.truth: dict[int, str | None] = {}
        self.error: BaseException | None = None
        self.refused: dict[str, int] = {}
        self.stopped = threading.Event()
        self._send, self._close = wraps(self)

    def run(self) -> None:
        number = 10_000
        try:
            while not self.stopped.is_set():
                count = MANY if number % 2 else 1
                points = [self._point(one) for one in range(number, number + count)]
                self._send("upsert", self.made.name, points, wait=True)
                self.truth.update({point.id: point.payload["text"] for point in points})
                if count == MANY:
                    self._send("delete", self.made.name, [number], wait=True)
                    self.truth[number] = None
                number += count
        except BaseException as error:
            self.error = error
        finally:
            self._close()

    def _point(self, number: int) -> models.PointStruct:
        return models.PointStruct(id=number, vector={"a": [float(number % 7) + 1.0] * 8}, payload={"text": f"text {number}"})

    def stop(self) -> None:
        self.stopped.set()
        self.join(PATIENCE)
        assert not self.is_alive()

    def note(self, error: Exception) -> None:
        """The client has raised this."""
        kind = type(error).__name__
        self.refused[kind] = self.refused.get(kind, 0) + 1


def client_of(made: Deployment, kind: type, grpc: bool):
    """An application's own client."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return kind(
            url=made.qdrant["url"], grpc_port=made.qdrant["grpc_port"], prefer_grpc=grpc, check_compatibility=False, timeout=20
        )


def noting(writer: Writer, client) -> None:
    """Have a client report what it raises."""
    for name in ("upsert", "delete"):
        original = getattr(client, name)

        def sync(*args, _original=original, **kwargs):
            try:
                return _original(*args, **kwargs)
            except Exception as error:
                writer.note(error)
                raise

        async def later(*args, _original=original, **kwargs):
            try:
                return await _original(*args, **kwargs)
            except Exception as error:
                writer.note(error)
                raise

        setattr(client, name, later if isinstance(client, AsyncQdrantClient) else sync)


def sync(grpc: bool):
    """What sends by a `QdrantClient`."""

    def wraps(writer: Writer):
        client = client_of(writer.made, QdrantClient, grpc)
        noting(writer, client)
        wrapped = retrying(client)
        return (lambda name, *args, **kwargs: getattr(wrapped, name)(*args, **kwargs)), client.close

    return wraps


def asynchronous(grpc: bool):
    """What sends by an `AsyncQdrantClient`, in a loop of its own."""

    def wraps(writer: Writer):
        loop = asyncio.new_event_loop()

        async def made():
            return client_of(writer.made, AsyncQdrantClient, grpc)

        client = loop.run_until_complete(made())
        noting(writer, client)
        wrapped = retrying(client)

        def close() -> None:
            loop.run_until_complete(client.close())
            loop.close()

        return (lambda name, *args, **kwargs: loop.run_until_complete(getattr(wrapped, name)(*args, **kwargs))), close

    return wraps


@pytest.mark.parametrize(
    ("kind", "grpc"),
    [
        pytest.param(sync, False, id="sync-rest"),
        pytest.param(sync, True, id="sync-grpc", marks=pytest.mark.nightly),
        pytest.param(asynchronous, False, id="asynchronous-rest", marks=pytest.mark.nightly),
        pytest.param(asynchronous, True, id="asynchronous-grpc"),
    ],
)
def test_a_writer_sees_no_error_and_loses_nothing(made, monkeypatch, kind, grpc):
    """It is refused before the name has moved, and the same call is acknowledged by the new generation afterwards."""
    writer = Writer(made, kind(grpc))
    swap = golive.swap

    def refused_before(*args, **kwargs):
        deadline = time.monotonic() + PATIENCE
        while not writer.refused and writer.error is None:
            assert time.monotonic() < deadline, "no write was refused"
            time.sleep(0.01)
        return swap(*args, **kwargs)

    monkeypatch.setattr(golive, "swap", refused_before)
    writer.start()
    try:
        upgrade.upgrade(made.settings())
        written = len(writer.truth)
        deadline = time.monotonic() + PATIENCE
        while len(writer.truth) <= written and writer.error is None and time.monotonic() < deadline:
            time.sleep(0.01)
    finally:
        writer.stop()
    assert writer.error is None
    assert writer.refused
    assert len(writer.truth) > written, "nothing was written after the swap"
    found = {identifier: payload["text"] for identifier, (payload, _) in made.contents().items()}
    assert {one for one in found if one >= 10_000} == {one for one, text in writer.truth.items() if text is not None}
    assert all(found[one] == text for one, text in writer.truth.items() if text is not None)
    assert len([one for one in found if one < 10_000]) == POINTS
    assert (made.row().revision, made.row().state) == ("0002", "ready")


@pytest.mark.parametrize("grpc", [False, True], ids=["rest", "grpc"])
@pytest.mark.parametrize("count", [1, MANY])
@pytest.mark.parametrize("kind", [QdrantClient, AsyncQdrantClient])
def test_what_a_server_answers_is_what_is_tried_again(made, kind, count, grpc):
    """Every way in which a fenced collection refuses: it is tried until the fence is lifted."""
    store, name = made.store(), made.name
    prior = store.fence(made_alias(store, name))
    store.take_tokens(made_alias(store, name))
    raised: list[Exception] = []
    points = [models.PointStruct(id=number + 1, vector={"a": [1.0] * 8}, payload={"n": -1}) for number in range(count)]

    class Noting:
        def note(self, error: Exception) -> None:
            raised.append(error)
            if len(raised) == 3:
                store.lift_fence(made_alias(store, name), prior)

    if kind is QdrantClient:
        client = client_of(made, kind, grpc)
        noting(Noting(), client)
        retrying(client).upsert(name, points, wait=True)
        client.close()
    else:

        async def go() -> None:
            client = client_of(made, kind, grpc)
            noting(Noting(), client)
            await retrying(client).upsert(name, points, wait=True)
            await client.close()

        asyncio.run(go())
    store.close()
    assert len(raised) >= 3
    assert [made.contents()[point.id][0] for point in points] == [{"n": -1}] * count


def made_alias(store, name: str):
    """An own alias, as only a holder of the lease has one."""
    from qmigrate.model.names import own_alias

    alias = own_alias(store.aliases()[name], 999)
    if alias not in store.aliases():
        store.create_alias(alias, store.aliases()[name])
    return alias
