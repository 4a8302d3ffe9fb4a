"""Inside an application: its own open client is used, threads wait for each other, and an event loop keeps running."""

from __future__ import annotations

import asyncio
import sqlite3
import threading

import pytest
from qdrant_client import AsyncQdrantClient, QdrantClient, models
from tests.harness import ADD, CREATE, Deployment, in_threads
from tests.scenarios.plain_names import plain

from qmigrate import ensure, expect, op
from qmigrate import fix as program
from qmigrate.commands import adopt, rollback, status, upgrade
from qmigrate.engine.golive import golive, plain_names
from qmigrate.errors import ConfigError, LeaseHeldError, StoreError, UsageError
from qmigrate.store import faults
from qmigrate.store.local.local import LocalStore

TENANTS = """
def upgrade():
    return [op.CreateCollection("{name}_tenant_*", vectors=VectorParams(size=4, distance=Distance.DOT))]
"""


@pytest.fixture
def made(deployment: Deployment) -> Deployment:
    """A collection of twenty points under management, and tenants by a glob."""
    deployment.revise("0001", CREATE)
    deployment.revise("0002", TENANTS)
    upgrade.upgrade(deployment.settings())
    deployment.load(20, uuids=False)
    return deployment


def where(made: Deployment) -> dict:
    """How the application opens its client."""
    if "path" in made.qdrant:
        return {"path": made.qdrant["path"], "force_disable_check_same_thread": True}
    return {"url": made.qdrant["url"], "check_compatibility": False}


@pytest.fixture
def client(made: Deployment):
    """The application's own, open all the time."""
    opened = QdrantClient(**where(made))
    yield opened
    opened.close()


def test_fixes_use_the_client_that_is_open(made, client):
    """Every function of qmigrate.fix works with it, its folder included, and leaves it open and up to date."""
    lent = {"client": client, "settings": made.settings()}
    assert program.run(op.SetPayload(made.name, {"seen": 1}, max_share=1), **lent).changed == 20
    done = program.delete_points(made.name, ids=[1, 2], reason="test", max_share=1, **lent).done[0]
    assert client.count(made.name).count == 18
    assert program.undo(done.log, **lent).changed == 2
    assert client.retrieve(made.name, [1])[0].payload["seen"] == 1
    assert program.stats(made.name, fields=["seen"], **lent).points == 20
    assert program.quarantine(made.name, **lent).rows == ()
    states = {row.name: row.state for row in status.status(made.settings().with_client(client)).collections}
    assert states[made.name] == "ready"
    points = program.reset(made.name, reason="test", expect=20, confirm="DELETE ALL VECTORS", **lent)
    assert (points.log is not None, client.count(made.name).count) == (True, 0)
    client.upsert(made.name, [models.PointStruct(id=1, vector={"a": [1.0] * 8})], wait=True)


@pytest.mark.parametrize("lends", [False, True])
def test_threads_wait_for_each_other(made, lends):
    """Eight threads change the same collection at once: each is let in, none fails, nothing is lost."""
    client = QdrantClient(**where(made)) if lends else None
    failed, numbers = [], list(range(1, 9))

    def one() -> None:
        try:
            found = program.delete_points(
                made.name, ids=[numbers.pop()], reason="test", max_share=1, client=client, settings=made.settings()
            )
            assert found.changed == 1
        except BaseException as error:
            failed.append(error)

    in_threads(one, 8)
    if client is not None:
        client.close()
    assert failed == []
    assert set(made.contents()) == set(range(9, 21))


def test_a_thread_waits_no_longer_than_the_lock_timeout(made):
    """Who has the folder, or the lease, for longer than that is named, and nothing was changed."""
    made.extra["limits"] = {"lock_timeout": "0s"}
    made.__post_init__()
    settings, entered, over = made.settings(), threading.Event(), threading.Event()

    def hold() -> None:
        with status_session(settings) as opened, opened.ledger.hold(made.name, timeout=0, ttl=30):
            entered.set()
            over.wait(60)

    holder = threading.Thread(target=hold)
    holder.start()
    try:
        assert entered.wait(60)
        with pytest.raises(LeaseHeldError, match="in use by another|another process works on"):
            program.delete_points(made.name, ids=[1], reason="test", max_share=1, settings=settings)
    finally:
        over.set()
        holder.join()
    assert program.delete_points(made.name, ids=[1], reason="test", max_share=1, settings=settings).changed == 1


def test_a_thread_does_not_wait_for_itself(tmp_path):
    """Who has the folder open already is refused at once; a client that was forgotten blocks no other."""
    first = LocalStore.open(str(tmp_path / "q"))
    with pytest.raises(LeaseHeldError):
        LocalStore.open(str(tmp_path / "q"), patience=3600)
    found = []
    waiting = threading.Thread(target=lambda: found.append(LocalStore.open(str(tmp_path / "q"), patience=60)))
    waiting.start()
    first.close()
    waiting.join()
    found[0].close()
    LocalStore.open(str(tmp_path / "q"), patience=60).close()


def status_session(settings):
    """What a verb has open while it works."""
    from qmigrate.commands.session import session

    return session(settings, writes=True)


async def application(made: Deployment) -> list[str]:
    """An asynchronous application; what it has seen of the event loop while qmigrate worked."""
    client, beats = AsyncQdrantClient(**where(made)), list[str]()
    settings, tenant = made.settings(), f"{made.name}_tenant_a"

    async def beat() -> None:
        while True:
            beats.append("beat")
            await asyncio.sleep(0)

    heart = asyncio.create_task(beat())
    try:
        found = await asyncio.to_thread(ensure, client, tenant, settings=settings)
        again = await asyncio.to_thread(ensure, client, tenant, settings=settings)
        assert (found.created, again.created) == (True, False)
        await client.upsert(tenant, [models.PointStruct(id=1, vector=[1.0, 2.0, 3.0, 4.0])], wait=True)
        fitting = await asyncio.to_thread(
            lambda: expect(tenant, revision="0002", vectors={"": 4}, client=client, settings=settings)
        )
        assert fitting.physical == f"{tenant}__g0001"
        done = await asyncio.to_thread(
            lambda: program.delete_points(tenant, ids=[1], reason="test", max_share=1, client=client, settings=settings)
        )
        assert (done.changed, (await client.count(tenant)).count) == (1, 0)
        many = [asyncio.to_thread(ensure, client, f"{tenant}{number}", settings=settings) for number in range(4)]
        assert [one.created for one in await asyncio.gather(*many)] == [True] * 4
    finally:
        heart.cancel()
        await client.close()
    return beats




def test_an_asynchronous_application(made):
    """Its client serves ensure, expect and fixes from threads, and the event loop is not held up."""
    assert asyncio.run(application(made))


def test_what_cannot_be_lent(made, tmp_path):
    """Another folder, or what is not a client: reported at once, and nothing is changed."""
    settings = made.settings()
    elsewhere = QdrantClient(path=str(tmp_path / "elsewhere"))
    with pytest.raises(ConfigError, match="in qmigrate.yaml"):
        program.delete_points(made.name, ids=[1], reason="test", client=elsewhere, settings=settings)
    elsewhere.close()
    with pytest.raises(UsageError, match="expected a QdrantClient or an AsyncQdrantClient .* got str"):
        program.delete_points(made.name, ids=[1], reason="test", client="http://localhost", settings=settings)


@pytest.mark.server
@pytest.mark.parametrize("plain", [False, True])
def test_a_client_of_another_qdrant_with_the_same_names(qdrant_with, tmp_path, plain):
    """Staging and production have the same names from the same revisions: nothing is done in the one for the other."""
    both = []
    for place in ("production", "staging"):
        server = qdrant_with()
        qdrant = {"url": server.url, "grpc_port": server.grpc_port}
        one = Deployment(tmp_path / place, qdrant, f"sqlite:///{tmp_path}/{place}.db", name="docs")
        if plain:
            opened = QdrantClient(**where(one))
            opened.create_collection("docs", {"a": models.VectorParams(size=8, distance=models.Distance.COSINE)})
            opened.close()
            adopt.adopt(one.settings(), "docs")
        else:
            one.revise("0001", CREATE)
            upgrade.upgrade(one.settings())
        one.load(5, uuids=False)
        both.append(one)
    client = QdrantClient(**where(both[0]))
    mine, other = (one.settings() for one in both)
    with pytest.raises(ConfigError, match="docs is sealed by ledger"):
        program.delete_points("docs", ids=[1], reason="test", max_share=1, client=client, settings=other)
    with pytest.raises(ConfigError, match="docs is sealed by ledger"):
        expect("docs", client=client, settings=other)
    assert [len(one.contents()) for one in both] == [5, 5]
    program.delete_points("docs", ids=[1], reason="test", max_share=1, client=client, settings=mine)
    assert [len(one.contents()) for one in both] == [4, 5]
    client.close()


def test_a_client_that_only_its_own_thread_may_use():
    """An error of SQLite behind local mode becomes an error with the way out."""
    found = faults.of_local(sqlite3.ProgrammingError("SQLite objects created in a thread can only be used in that same thread."), "x")
    assert isinstance(found, StoreError)
    assert "force_disable_check_same_thread=True" in found.hint


@pytest.mark.parametrize("back_again", [False, True], ids=["forth", "back"])
def test_what_the_application_writes_while_the_name_moves_is_not_lost(made, client, monkeypatch, back_again):
    """Its event loop goes on meanwhile, in local mode by the very client that is lent: all of it is found and carried."""
    settings = made.settings().with_client(client)
    made.revise("0003", ADD)
    if back_again:
        upgrade.upgrade(settings)
    real = golive.swap

    def late(work, target, names):
        client.upsert(made.name, [models.PointStruct(id=77, vector={"a": [1.0] * 8}, payload={"text": "late"})])
        client.delete(made.name, [3])
        real(work, target, names)

    monkeypatch.setattr(golive, "swap", late)
    if back_again:
        rollback.rollback(settings, "0002", writes="carry")
    else:
        upgrade.upgrade(settings)
    found = {point.id for point in client.scroll(made.name, limit=100)[0]}
    assert (77 in found, 3 in found) == (True, False)
    assert made.name in {one.alias_name for one in client.get_aliases().aliases}


def test_what_the_application_writes_before_its_plain_collection_goes_is_not_lost(tmp_path, monkeypatch):
    """Local mode refuses no write meanwhile: what came since the proof is in what takes the name."""
    made = Deployment(tmp_path / "project", {"path": str(tmp_path / "qdrant")}, f"sqlite:///{tmp_path}/ledger.db")
    plain(made)
    made.revise("0002", ADD)
    client = QdrantClient(**where(made))
    real = plain_names.own_pairs

    def late(work, target, names):
        client.upsert(made.name, [models.PointStruct(id=777, vector={"a": [1.0] * 8}, payload={"text": "late"})])
        return real(work, target, names)

    monkeypatch.setattr(plain_names, "own_pairs", late)
    upgrade.upgrade(made.settings().with_client(client))
    (found,) = client.retrieve(made.name, [777], with_vectors=True)
    assert set(found.vector) == {"a", "b"}
    client.close()
