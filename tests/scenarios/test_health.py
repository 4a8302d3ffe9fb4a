"""Readiness: every part asked at once and bounded in time, nothing blocked, no secret shown; and what is expected."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import threading
from concurrent.futures import wait

import httpx
import pytest
from qdrant_client import QdrantClient, models
from tests.harness import ADD, CREATE, INDEX, Deployment
from tests.scenarios import peeking_embedder
from tests.scenarios.cli import environment
from tests.scenarios.test_read_only import watched

import qmigrate
from qmigrate.commands import upgrade
from qmigrate.errors import (
    ConfigError,
    DriftError,
    EmbedError,
    ForeignLedgerError,
    NotFoundError,
    PendingError,
    RefusedError,
    UsageError,
)
from qmigrate.health import Expectation, Health, Probe, readiness
from qmigrate.health import probe as probing
from qmigrate.health.slot import FAILURE_KEPT
from qmigrate.settings.load import Settings

#: Patient enough for a busy machine, and never believing an old answer.
PATIENT = {"timeout": "10s", "cache": 0}
SKIPPED = {"enabled": False, "skipped": True, "ok": None}


@pytest.fixture
def client(deployment):
    """The application's own client; it has the folder of local mode open."""
    if "path" in deployment.qdrant:
        upgrade_all(deployment)
        opened = QdrantClient(path=deployment.qdrant["path"], force_disable_check_same_thread=True)
    else:
        upgrade_all(deployment)
        opened = QdrantClient(url=deployment.qdrant["url"], check_compatibility=False)
    yield opened
    opened.close()


def upgrade_all(made: Deployment) -> None:
    """A collection with points at 0002."""
    again(made, health=PATIENT)
    made.revise("0001", CREATE)
    upgrade.upgrade(made.settings())
    made.load(20)
    made.revise("0002", ADD)
    upgrade.upgrade(made.settings())


def again(made: Deployment, **extra) -> None:
    """Other settings."""
    made.extra.update(extra)
    made.__post_init__()


def get(app, path: str = "/readyz", method: str = "GET", **more) -> httpx.Response:
    """One request, without a server."""

    async def ask() -> httpx.Response:
        transport = httpx.ASGITransport(app=app, **more)
        async with httpx.AsyncClient(transport=transport, base_url="http://service") as http:
            return await http.request(method, path)

    return asyncio.run(ask())


def test_ready_says_how_everything_stands(deployment, client, monkeypatch):
    """Parts with latency, skipped ones, revisions; what is pending is said, and counts when asked for; all of it reads."""
    name = deployment.name
    app = Health(deployment.settings(), service="api", client=client, collections=[name])
    with watched(monkeypatch) as sent:
        found = get(app)
        qmigrate.expect(name, revision="0002", embedder="words", client=client, settings=deployment.settings())
    assert sent.sql
    assert sent.writes() == []
    body = found.json()
    assert (found.status_code, body["service"], body["ready"], body["summary"]) == (200, "api", True, "ok")
    assert body["deps"]["embedder words"] == SKIPPED
    for part in ("qdrant", "ledger", "schema"):
        assert set(body["deps"][part]) == {"enabled", "ok", "latency_ms"}
        assert body["deps"][part]["ok"] is True
        assert body["deps"][part]["latency_ms"] >= 0
    assert (body["schema"]["head"], body["schema"]["pending"], body["schema"]["progress"]) == ("0002", [], None)
    row = body["schema"]["collections"][name]
    assert (row["state"], row["serving"], row["revision"], row["generation"]) == ("ready", True, "0002", "g0002")

    deployment.revise("0003", INDEX)
    again(deployment, health={**PATIENT, "embedders": True})
    open_ended = {"client": client, "collections": [name]}
    assert readiness(deployment.settings(), **open_ended).summary == "ok, 1 revision pending"
    assert readiness(deployment.settings(), **open_ended).deps["embedder words"]["ok"] is True
    needs = [Expectation(name, revision="0003")]
    unmet = readiness(config=deployment.config, **open_ended, expects=needs)
    assert (unmet.status_code, unmet.summary) == (503, f"{name} is at 0002, and this application needs 0003")
    again(deployment, health={**PATIENT, "require": ["pending"], "qdrant": False})
    strict = get(Health(deployment.settings(), **open_ended))
    assert (strict.status_code, strict.json()["summary"]) == (503, "1 revision pending")
    assert strict.json()["deps"]["qdrant"] == SKIPPED

    client.delete_collection(f"{name}__g0002")
    gone = readiness(deployment.settings(), **open_ended)
    assert not gone.ready
    assert gone.schema["collections"][name]["serving"] is False


def test_a_name_that_nothing_has_is_not_ready(deployment, client):
    """A misspelt name is said, with what was probably meant; what is there under another name, or may come, is noted."""
    name = deployment.name
    loose, other = f"loose_{name}", f"other_{name}"
    client.create_collection(loose, vectors_config=models.VectorParams(size=2, distance=models.Distance.DOT))
    further = models.CreateAlias(collection_name=f"{name}__g0002", alias_name=other)
    client.update_collection_aliases([models.CreateAliasOperation(create_alias=further)])
    wrong = f"{name[:-1]}x"
    lacking = f"{wrong}: there is no collection {wrong!r}; did you mean \"{name}\"?"
    elsewhere = "{0} is not under management by this name: its state is not known"
    table = {
        (wrong,): (False, lacking, []),
        (name, wrong): (False, lacking, []),
        name: (True, "ok", []),
        wrong: (False, lacking, []),
        (loose,): (True, "ok", [elsewhere.format(loose)]),
        (other, f"{name}__g0002"): (True, "ok", [elsewhere.format(one) for one in (other, f"{name}__g0002")]),
        ("tenant_*", name): (True, "ok", ["no collection under management matches 'tenant_*'"]),
        (f"glob:{name[:-1]}?",): (True, "ok", []),
    }
    found = {}
    for asked in table:
        report = readiness(deployment.settings(), client=client, collections=asked)
        found[asked] = report.ready, report.summary, report.schema.get("notes", [])
    assert found == table
    row = readiness(deployment.settings(), client=client, collections=wrong).schema["collections"][wrong]
    assert (row["state"], row["serving"], row["next"]) == ("absent", False, "qmigrate status")
    again(deployment, health={**PATIENT, "require": ["drift"]})
    assert readiness(deployment.settings(), client=client, collections=wrong).ready
    # What a pending revision creates has its name already.
    deployment.revise("0003", CREATE.replace("{name}", wrong))
    assert readiness(deployment.settings(), client=client, collections=wrong).schema["collections"][wrong]["pending"] == ["0003"]
    deployment.revise("0004", CREATE.replace("{name}", "of_*"))
    made = readiness(deployment.settings(), client=client, collections="of_one")
    assert (made.ready, made.schema["notes"]) == (True, ["of_one is not there yet: an application creates it by qmigrate.ensure"])


def test_a_mounted_app_answers_below_its_root(tmp_path):
    """Full paths and the rest of them; HEAD; other paths and methods; live without any request; lifespan."""
    made = Deployment(tmp_path / "p", {"url": "http://127.0.0.1:9"}, f"sqlite:///{tmp_path}/l.db")
    asked = []
    app = Health(made.settings(), checks={"mine": lambda: asked.append(1)})
    assert get(app, "/livez").json() == {"service": "qmigrate", "alive": True}
    assert get(app, "/health/livez", root_path="/health").status_code == 200
    assert get(app, "/livez/", root_path="/health").status_code == 200
    assert get(app, "/metrics").status_code == 404
    refused = get(app, "/livez", "POST")
    assert (refused.status_code, refused.headers["allow"]) == (405, "GET, HEAD")
    head = get(app, "/livez", "HEAD")
    assert (head.content, head.headers["cache-control"]) == (b"", "no-store")
    assert int(head.headers["content-length"]) > 0
    assert asked == []

    async def lifespan() -> list[str]:
        messages = iter(["lifespan.startup", "lifespan.shutdown"])
        sent: list[str] = []

        async def receive():
            return {"type": next(messages)}

        async def send(message):
            sent.append(message["type"])

        await app({"type": "lifespan"}, receive, send)
        return sent

    assert asyncio.run(lifespan()) == ["lifespan.startup.complete", "lifespan.shutdown.complete"]


def test_stores_that_are_down_are_named_without_secrets(tmp_path, monkeypatch):
    """503, each part with its reason; no key, password, or text of a user's error in the body."""
    monkeypatch.setenv("QMIGRATE_QDRANT_API_KEY", "the-key-123")
    made = Deployment(
        tmp_path / "p", {"url": "http://127.0.0.1:9", "timeout": 1}, "postgresql://app:the-password@127.0.0.1:9/app",
        extra={"health": {"timeout": "500ms"}},
    )

    def broken() -> None:
        raise ValueError("redis://:the-secret@cache")

    found = get(Health(made.settings(), checks={"redis": broken}, expects=[Expectation("docs", revision="0001")]))
    body = found.json()
    assert (found.status_code, body["ready"]) == (503, False)
    assert body["deps"]["redis"] == {
        "enabled": True, "ok": False, "latency_ms": body["deps"]["redis"]["latency_ms"], "error": "ValueError", "tries": 3,
    }
    assert body["deps"]["qdrant"]["ok"] is False
    assert body["deps"]["ledger"]["ok"] is False
    assert body["summary"].startswith("qdrant: ")
    for secret in ("the-key-123", "the-password", "the-secret"):
        assert secret not in found.text


def test_a_probe_that_hangs_blocks_nobody_and_is_asked_once(tmp_path):
    """Twenty requests at once: one call, the event loop continues, each is answered without waiting for it."""
    made = Deployment(
        tmp_path / "p", {"path": str(tmp_path / "q")}, f"sqlite:///{tmp_path}/l.db",
        extra={"health": {"timeout": "100ms", "first": 0, "retries": 0, "schema": False, "qdrant": False}},
    )
    gate, calls = threading.Event(), []

    def hang() -> None:
        calls.append(threading.current_thread().name)
        gate.wait(60)

    app = Health(made.settings(), checks={"slow": hang})
    ticks = 0

    async def many() -> list[httpx.Response]:
        nonlocal ticks
        transport = httpx.ASGITransport(app=app)
        async with httpx.AsyncClient(transport=transport, base_url="http://service") as http:
            asked = [asyncio.ensure_future(http.get("/readyz")) for _ in range(20)]
            asked[0].cancel()
            while not all(one.done() for one in asked):
                ticks += 1
                await asyncio.sleep(0)
            return await asyncio.gather(*asked[1:])

    answers = asyncio.run(many())
    assert ticks > 1
    assert calls == ["qmigrate-health-slow"]
    assert {one.status_code for one in answers} == {503}
    assert {one.json()["deps"]["slow"]["error"] for one in answers} == {"no answer within 100 ms"}
    gate.set()


def test_answers_are_kept_and_failures_only_briefly(tmp_path):
    """By the clock: a good answer for the cache's time, a bad one for a second; retries before it is bad."""
    made = Deployment(
        tmp_path / "p", {"path": str(tmp_path / "q")}, f"sqlite:///{tmp_path}/l.db",
        extra={"health": {"timeout": "10s", "retries": 1, "cache": "10s", "schema": False, "qdrant": False}},
    )
    now, calls, broken = [100.0], [], []

    def part() -> None:
        calls.append(now[0])
        if broken:
            raise OSError

    probe = Probe(made.settings(), checks={"part": part}, clock=lambda: now[0])
    assert [probe.check().ready, probe.check().ready, len(calls)] == [True, True, 1]
    now[0] += 9.9
    broken.append(True)
    assert (probe.check().ready, len(calls)) == (True, 1)
    now[0] += 0.2
    assert (probe.check().deps["part"]["tries"], len(calls)) == (2, 3)
    broken.clear()
    assert (probe.check().ready, len(calls)) == (False, 3)
    now[0] += FAILURE_KEPT
    assert (probe.check().ready, len(calls)) == (True, 4)


def test_the_first_answer_is_waited_for(tmp_path, monkeypatch):
    """A part that answers only to who waits longer than usual is ready from the start; later on no check waits longer."""
    made = Deployment(
        tmp_path / "p", {"path": str(tmp_path / "q")}, f"sqlite:///{tmp_path}/l.db",
        extra={"health": {"timeout": "1ms", "first": "30s", "retries": 0, "cache": 0, "schema": False, "qdrant": False, "ledger": False}},
    )
    now, gate, waits = [100.0], threading.Event(), []

    def patient(futures, timeout):
        waits.append(timeout)
        if timeout > 1:
            gate.set()
            return wait(futures, 60)
        return wait(futures, 0)

    monkeypatch.setattr(probing, "wait", patient)
    probe = Probe(made.settings(), checks={"slow": lambda: gate.wait(60)}, clock=lambda: now[0])
    assert (probe.check().ready, waits) == (True, [30.0])
    gate.clear()
    assert probe.check().summary == "slow: no answer within 1 ms"
    gate.set()
    assert waits == [30.0, 0.001]


def test_the_first_answer_is_not_waited_for_for_ever(tmp_path, monkeypatch):
    """Where a part never answers, every request after `first` waits no longer than usual."""
    made = Deployment(
        tmp_path / "p", {"path": str(tmp_path / "q")}, f"sqlite:///{tmp_path}/l.db",
        extra={"health": {"timeout": "1ms", "first": "30s", "retries": 0, "schema": False, "qdrant": False, "ledger": False}},
    )
    now, gate, waits = [100.0], threading.Event(), []
    monkeypatch.setattr(probing, "wait", lambda futures, timeout: waits.append(timeout))
    probe = Probe(made.settings(), checks={"hangs": lambda: gate.wait(60)}, clock=lambda: now[0])
    for passed in (0, 10, 40):
        now[0] = 100.0 + passed
        assert not probe.check().ready
    gate.set()
    assert waits == [30.0, 20.0, 0.001]


def test_what_is_imported_is_imported_before_the_first_request(tmp_path):
    """The client library and the driver of the ledger's database are there once a probe is made; nothing is connected."""
    code = (
        "import sys\n"
        "from qmigrate.health import Health\n"
        "from qmigrate.settings.load import Settings\n"
        "Health(Settings.load())\n"
        "print([name in sys.modules for name in ('qdrant_client', 'psycopg', 'sqlalchemy.dialects.postgresql.psycopg')])\n"
    )
    env = {"QMIGRATE_QDRANT_URL": "http://127.0.0.1:1", "QMIGRATE_LEDGER_URL": "postgresql+psycopg://u:p@127.0.0.1:1/none"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, env=environment(env), timeout=60, check=True)
    assert done.stdout.strip() == "[True, True, True]"


@pytest.mark.postgres
def test_a_cold_probe_of_postgresql_is_ready(tmp_path, postgres_database):
    """The very first request of a fresh process finds the ledger well, with the usual patience and no answer kept."""
    code = (
        "from qmigrate.health import Health\n"
        "from qmigrate.settings.load import Settings\n"
        "print(Health(Settings.load()).check().summary)\n"
    )
    env = {"QMIGRATE_LEDGER_URL": postgres_database, "QMIGRATE_HEALTH_SCHEMA": "no", "QMIGRATE_HEALTH_FIRST": "60s"}
    (tmp_path / ".qmigrate" / "qdrant").mkdir(parents=True)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, env=environment(env), timeout=60, check=True)
    assert done.stdout.strip() == "ok", done.stderr


def test_startup_asks_every_part(tmp_path):
    """The lifespan of ASGI begins to ask, so that the first request finds answers on their way."""
    made = Deployment(
        tmp_path / "p", {"path": str(tmp_path / "q")}, f"sqlite:///{tmp_path}/l.db",
        extra={"health": {"schema": False, "qdrant": False, "ledger": False}},
    )
    asked, sent = threading.Event(), []
    app = Health(made.settings(), checks={"part": asked.set})
    messages = iter([{"type": "lifespan.startup"}, {"type": "lifespan.shutdown"}])

    async def receive() -> dict:
        return next(messages)

    async def send(message: dict) -> None:
        sent.append(message["type"])

    asyncio.run(app({"type": "lifespan"}, receive, send))
    assert (asked.wait(60), sent) == (True, ["lifespan.startup.complete", "lifespan.shutdown.complete"])


#: Variables of the environment, and what the settings are then; the file has 7 retries and 400 ms.
VARIABLES = [
    ({}, {"timeout": 0.4, "retries": 7, "cache": 10.0, "qdrant": True}),
    ({"PROBE_TIMEOUT_MS": "300", "PROBE_RETRIES": "2", "PROBE_CACHE_SEC": "20"}, {"timeout": 0.3, "retries": 2, "cache": 20.0}),
    ({"PROBE_TIMEOUT_MS": "300", "QMIGRATE_HEALTH_TIMEOUT": "2s"}, {"timeout": 2.0, "retries": 7}),
    ({"ENABLE_QDRANT": "false", "QMIGRATE_HEALTH_SCHEMA": "0", "QMIGRATE_HEALTH_EMBEDDERS": "Yes"}, {"qdrant": False, "schema": False, "embedders": True}),
    ({"ENABLE_QDRANT": "false"}, {"qdrant": False, "schema": False, "ledger": True}),
    ({"ENABLE_QDRANT": "false", "QMIGRATE_HEALTH_SCHEMA": "true"}, {"qdrant": False, "schema": True}),
    ({"ENABLE_QDRANT": "true"}, {"qdrant": True, "schema": True}),
    ({"QMIGRATE_HEALTH_REQUIRE": "serving, drift", "QMIGRATE_HEALTH_FIRST": "90s"}, {"require": ("serving", "drift"), "first": 90.0}),
    ({"PROBE_CACHE_SEC": "0.5", "QMIGRATE_HEALTH_RETRIES": "0"}, {"cache": 0.5, "retries": 0}),
]


@pytest.mark.parametrize(("environ", "expected"), VARIABLES)
def test_health_comes_from_the_environment_too(tmp_path, environ, expected):
    """Our own names win over those that services have, and both over the file."""
    (tmp_path / "qmigrate.yaml").write_text("health: {timeout: 400ms, retries: 7}\n")
    found = Settings.load(config=tmp_path / "qmigrate.yaml", environ=environ).health
    assert {name: getattr(found, name) for name in expected} == expected


@pytest.mark.parametrize(
    ("name", "value"),
    [("PROBE_TIMEOUT_MS", "0"), ("PROBE_TIMEOUT_MS", "soon"), ("PROBE_RETRIES", "-1"), ("PROBE_RETRIES", "1.5"), ("PROBE_CACHE_SEC", ""),
     ("ENABLE_QDRANT", "maybe"), ("QMIGRATE_HEALTH_REQUIRE", "everything"), ("QMIGRATE_HEALTH_LEDGER", " ")],
)
def test_a_variable_that_can_not_be_used_is_named(tmp_path, name, value):
    """The message names the variable, and no other value is used instead."""
    (tmp_path / "qmigrate.yaml").write_text("health: {timeout: 400ms}\n")
    with pytest.raises(ConfigError, match=name):
        Settings.load(config=tmp_path / "qmigrate.yaml", environ={name: value})


@pytest.mark.server
def test_a_running_job_shows_its_progress(qdrant_server, tmp_path):
    """While points are copied: processing, stage, 0 to 100, and the old generation serves; afterwards it is gone."""
    made = Deployment(
        tmp_path / "p", {"url": qdrant_server.url, "grpc_port": qdrant_server.grpc_port}, f"sqlite:///{tmp_path}/l.db",
        extra={
            "embedders": {"peek": {"type": "callable", "function": "tests.scenarios.peeking_embedder:embed", "size": 4}},
            "rebuild": {"ranges": 4, "workers": 1, "sample": 1},
            "health": PATIENT,
        },
    )
    made.revise("0001", CREATE)
    upgrade.upgrade(made.settings())
    made.load(40)
    made.revise("0002", ADD.replace("size=16", "size=4").replace('"words"', '"peek"'))
    probe = Probe(made.settings(), collections=[made.name])
    reports = []
    peeking_embedder.looks.append(lambda: reports.append(probe.check()))
    try:
        upgrade.upgrade(made.settings())
    finally:
        peeking_embedder.looks.clear()
    rows = [report.schema["collections"][made.name] for report in reports if report.schema["progress"] is not None]
    jobs = [row["job"] for row in rows if row["job"]["stage"] == "fill"]
    assert all(report.ready for report in reports)
    assert {(job["verb"], job["status"], job["error"]) for job in jobs} == {("upgrade", "processing", None)}
    progress = [job["progress"] for job in jobs]
    assert progress == sorted(progress)
    assert progress[0] == 0
    assert 0 < progress[-1] < 100
    assert {row["revision"] for row in rows} == {"0001"}
    after = probe.check()
    assert (after.summary, after.schema["progress"]) == ("ok", None)
    assert after.schema["collections"][made.name]["revision"] == "0002"


def words(size: int):
    """The application's own model."""
    from qmigrate.embed import load

    return load("words", {"type": "hashing", "size": size})


@pytest.mark.parametrize(
    ("declared", "error", "said"),
    [
        ({}, None, ""),
        ({"revision": "0001"}, None, ""),
        ({"revision": "0002", "embedder": "words", "vectors": {"a": 8, "b": 16}}, None, ""),
        ({"embedder": {"b": "words"}}, None, ""),
        ({"embedder": "own"}, None, ""),
        ({"vectors": {"a": models.VectorParams(size=8, distance=models.Distance.COSINE)}}, None, ""),
        ({"revision": "0007"}, PendingError, "is at 0002, and this application needs 0007"),
        ({"vectors": {"z": 8}}, DriftError, "it has no vector z (recorded: a, b)"),
        ({"vectors": {"a": 9}}, DriftError, "vector a has the size 8, and this application works with 9"),
        ({"vectors": {"a": {"size": 8, "distance": "Dot"}}}, DriftError, "the distance Cosine"),
        ({"embedder": {"a": "words"}}, DriftError, "no model is recorded that filled the vector a"),
        ({"embedder": "other"}, DriftError, "filled with size 16"),
        ({"embedder": "absent"}, EmbedError, "'absent' is not configured (known: words)"),
    ],
)
def test_what_is_expected_of_a_collection(expected, declared, error, said):
    """A collection that fits is described; one that doesn't is refused with what differs and the next command."""
    made, ask = expected
    own = {"own": words(16), "other": words(32)}
    if declared.get("embedder") in ("own", "other"):
        declared = {**declared, "embedder": own[declared["embedder"]]}
    if error is None:
        found = ask(made.name, **declared)
        assert (found.name, found.physical, found.revision) == (made.name, f"{made.name}__g0002", "0002")
        assert found.embedders["b"]["size"] == 16
        return
    with pytest.raises(error) as caught:
        ask(made.name, **declared)
    assert said in caught.value.message
    assert caught.value.hint


@pytest.fixture(scope="module")
def expected(tmp_path_factory):
    """A collection at 0002 in local mode, whose revision files the application doesn't have."""
    root = tmp_path_factory.mktemp("expected")
    made = Deployment(root / "p", {"path": str(root / "q")}, f"sqlite:///{root}/l.db")
    upgrade_all(made)
    made.settings().scripts.rename(root / "elsewhere")
    return made, lambda name, **declared: qmigrate.expect(name, config=made.config, **declared)


def test_a_collection_that_is_not_as_recorded_is_not_served(deployment, client):
    """One that is not there, not managed, sealed by another ledger, or without a recorded vector."""

    def ask(name: str) -> None:
        qmigrate.expect(name, settings=deployment.settings(), client=client)

    name = deployment.name
    ask(name)
    with pytest.raises(UsageError, match="form of qmigrate's own names"):
        ask(f"{name}__g0001")
    with pytest.raises(NotFoundError, match="there is no collection"):
        ask(f"{name}_other")
    client.create_collection(f"{name}_plain", models.VectorParams(size=2, distance=models.Distance.DOT))
    with pytest.raises(RefusedError, match="not under management"):
        ask(f"{name}_plain")
    if "url" in deployment.qdrant:
        httpx.delete(f"{deployment.qdrant['url']}/collections/{name}/vectors/b").raise_for_status()
        with pytest.raises(DriftError, match=r"vectors.b is missing"):
            ask(name)
        seen = readiness(deployment.settings(), collections=[name])
        assert (seen.ready, seen.schema["drift"]) == (True, [f"{name}: vectors.b is missing"])
        assert seen.summary == f"ok, drift: {name}: vectors.b is missing"
        again(deployment, health={**PATIENT, "require": ["serving", "drift"]})
        assert not readiness(deployment.settings(), collections=[name]).ready
    deployment.ledger_url = deployment.ledger_url.replace("ledger.db", "another.db")
    deployment.__post_init__()
    with pytest.raises(ForeignLedgerError, match="sealed by another ledger"):
        ask(name)
    assert json.loads(json.dumps(readiness(deployment.settings(), client=client).to_json()))
