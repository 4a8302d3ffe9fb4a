"""Runs over HTTP while they are worked on elsewhere: what listeners get, whatever dies, and how much it costs."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

import httpx
import pytest
import uvicorn
from fastapi import Request, Response
from fastapi.testclient import TestClient
from tests.harness import ADD, CREATE, Deployment, loaded_on
from tests.scenarios.cli import SOURCE, environment

from qmigrate.commands import runs as running
from qmigrate.commands import upgrade
from qmigrate.console import create_app, streams
from qmigrate.console.server import _server, config_of, listen, shown
from qmigrate.console.streams import _sample_of, event
from qmigrate.engine import figures
from qmigrate.errors import QmigrateError, UnknownNameError
from qmigrate.ledger import Ledger

TOKEN = "v" * 40
#: Seconds within which anything has to have happened.
LONG = 90
EMBEDDER = {"type": "callable", "function": "tests.scenarios.gated_embedder:embed", "size": 768, "max_batch": 20}
ADDING = """
def upgrade():
    return [op.AddVector("{name}", "b", VectorParams(size=768, distance=Distance.COSINE), values=Embed("slow", text="text"))]
"""


@pytest.fixture(autouse=True)
def token(monkeypatch):
    """Where the settings say it is."""
    monkeypatch.setenv("TEST_TOKEN", TOKEN)


def with_token(made: Deployment) -> Deployment:
    """With who may look."""
    made.extra["console"] = {"tokens": [{"role": "viewer", "user": "vera", "env": "TEST_TOKEN"}]}
    made.__post_init__()
    return made


def eventually(check: Callable[[], object]) -> object:
    """What a check returns once it is true."""
    until = time.monotonic() + LONG
    while time.monotonic() < until:
        found = check()
        if found:
            return found
        time.sleep(0.05)
    raise AssertionError("it did not happen")


@dataclass
class Heard:
    """The events of one stream, by a thread of its own, until it ends."""

    url: str
    last: str = ""
    events: list[tuple[str, dict | list | str]] = field(default_factory=list)
    status: int | None = None
    over: bool = False

    def __post_init__(self) -> None:
        self.thread = threading.Thread(target=self._listen, daemon=True)
        self.thread.start()

    def _listen(self) -> None:
        headers = {"Authorization": f"Bearer {TOKEN}", **({"Last-Event-ID": self.last} if self.last else {})}
        try:
            with httpx.stream("GET", self.url, headers=headers, timeout=LONG) as answer:
                self.status = answer.status_code
                name, data = "", []
                for line in answer.iter_lines():
                    kind, _, value = line.partition(": ")
                    if kind == "id":
                        self.last = value
                    elif kind == "event":
                        name = value
                    elif kind == "data":
                        data.append(value)
                    elif not line and data:
                        text = "\n".join(data)
                        self.events.append((name, json.loads(text) if text else ""))
                        name, data = "", []
        except httpx.HTTPError:
            pass
        self.over = True

    def runs(self) -> list[dict]:
        return [data for name, data in self.events if name == "run"]

    def state(self) -> str | None:
        found = self.runs()
        return found[-1]["summary"]["state"] if found else None

    def samples(self) -> list[int]:
        return [one["number"] for name, data in self.events if name == "samples" for one in data]


@contextmanager
def served(made: Deployment) -> Iterator[str]:
    """A console in a process of its own; killed at the end."""
    command = [sys.executable, "-m", "qmigrate", "serve", "--port", "0", "--no-worker"]
    variables = environment({"PYTHONPATH": f"{SOURCE}{os.pathsep}{SOURCE.parent}", "TEST_TOKEN": TOKEN})
    with subprocess.Popen(command, cwd=made.root, env=variables, stderr=subprocess.PIPE, text=True) as process:
        try:
            said = process.stderr.readline()
            assert said.startswith("Listening on "), said
            yield said.split()[2].rstrip(".")
        finally:
            process.kill()


def upgrading(made: Deployment, gate: Path) -> subprocess.Popen:
    """An upgrade in a process of its own."""
    variables = environment({"PYTHONPATH": f"{SOURCE}{os.pathsep}{SOURCE.parent}", "GATE": str(gate)})
    code = "import sys; from qmigrate.engine import figures; figures.FIRST_PAUSE = 1.0; from qmigrate.cli.app import run; sys.exit(run(['upgrade']))"
    return subprocess.Popen([sys.executable, "-c", code], cwd=made.root, env=variables, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)


@pytest.mark.server
def test_listeners_lose_nothing_whatever_dies(qdrant_server, tmp_path, monkeypatch):
    """An upgrade is killed and resumed, a console is killed and started again: both listeners hear of all of it."""
    made = with_token(loaded_on(qdrant_server, tmp_path, 200, embedders={"slow": EMBEDDER}))
    made.revise("0002", ADDING)
    gate = tmp_path / "gate"
    gate.mkdir()
    with ExitStack() as stack:
        first = stack.enter_context(upgrading(made, gate))
        stack.callback(first.kill)
        eventually((gate / "asked").exists)
        number = eventually(lambda: [one.id for one in running.runs(made.settings(), states=["running"]).rows])[0]
        one_console, base = ExitStack(), None
        stack.callback(one_console.close)
        base = one_console.enter_context(served(made))
        path = f"/api/v1/runs/{number}/events"
        left, right = Heard(base + path), Heard(base + path)
        for one in (left, right):
            eventually(lambda one=one: len(one.samples()) >= 2 and one.state() == "running")
        assert left.runs()[-1]["summary"]["stage"] == "fill"
        assert left.runs()[-1]["heartbeat_seconds"] is not None
        first.send_signal(signal.SIGKILL)
        first.wait(LONG)
        for one in (left, right):
            eventually(lambda one=one: one.state() == "interrupted")
        trouble = left.runs()[-1]["trouble"]
        assert trouble["next_command"] == "qmigrate upgrade"
        assert "serves" in trouble["untouched"]
        # The console dies, too; what the listener has seen says where the next one goes on.
        one_console.close()
        eventually(lambda: left.over and right.over)
        seen = left.samples()
        second = stack.enter_context(upgrading(made, gate))
        stack.callback(second.kill)
        eventually(lambda: running.run(made.settings(), number).last_sample > seen[-1])
        base = stack.enter_context(served(made))
        again, other = Heard(base + path, left.last), Heard(base + path)
        for one in (again, other):
            eventually(lambda one=one: one.state() == "running" and one.samples())
        (gate / "open").touch()
        assert second.wait(LONG) == 0, second.stderr.read()
        for one in (again, other):
            eventually(lambda one=one: one.over)
            assert one.events[-1] == ("end", "")
            assert one.state() == "done"
        heard = seen + again.samples()
        assert heard == sorted(set(heard)), "none twice"
        assert heard == list(range(heard[0], heard[-1] + 1)), "and none left out"
        assert other.samples()[-1] == heard[-1]
        done = again.runs()[-1]
        assert [stage["state"] for stage in done["stages"]] == ["done"] * 6
        assert done["proof"]["proven"] == done["proof"]["points"] == 200
        # Who has seen the end gets nothing more.
        late = Heard(base + path, again.last)
        assert eventually(lambda: late.over and late.status) == 204


@contextmanager
def own_server(made: Deployment) -> Iterator[tuple[str, uvicorn.Server, streams.Streams]]:
    """A console in this process, so that its bounds can be counted."""
    app = create_app(made.settings())
    with listen("127.0.0.1", 0) as listening:
        server = _server(config_of(app), app)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        try:
            yield shown(listening), server, app.state.streams
        finally:
            server.should_exit = True
            thread.join(LONG)
            assert not thread.is_alive(), "the streams keep the server from ending"


@pytest.fixture
def local(tmp_path, monkeypatch) -> Deployment:
    """Local mode with a collection that was filled once."""
    # However slow this machine is: a test has the figures that it makes.
    monkeypatch.setattr(figures, "FIRST_PAUSE", 1e6)
    made = with_token(Deployment(tmp_path / "project", {"path": str(tmp_path / "qdrant")}, f"sqlite:///{tmp_path}/ledger.db"))
    made.revise("0001", CREATE)
    upgrade.upgrade(made.settings())
    made.load(20)
    made.revise("0002", ADD)
    upgrade.upgrade(made.settings())
    return made


@contextmanager
def held_open(made: Deployment, state: str = "running") -> Iterator[tuple[Ledger, int]]:
    """A run that is worked on for as long as the block runs."""
    ledger = Ledger.open(made.ledger_url)
    try:
        with ledger.hold(made.name, timeout=0) as lease:
            job = ledger.jobs(made.name)[0]
            number = lease.open_run("upgrade", job, {}, actor="ann", tool="0.1", server="Qdrant")
            lease.journal(number, 0, "preflight", "done", {"points": 20})
            yield lease, number
    finally:
        ledger.close()


def test_one_look_is_for_all_who_listen_and_ends_with_them(local, monkeypatch):
    """However many listen to a run; nothing is asked once they have gone, and a shutdown waits for none of them."""
    monkeypatch.setattr(streams, "FASTEST", 0.05)
    monkeypatch.setattr(streams, "SLOWEST", 0.1)
    monkeypatch.setattr(streams, "_PATIENCE", 0.1)
    with held_open(local) as (lease, number), own_server(local) as (base, _, counted):
        url = f"{base}/api/v1/runs/{number}/events"
        heard = [Heard(url) for _ in range(5)]
        for one in heard:
            eventually(lambda one=one: one.state() == "running")
        assert counted.listening == 5
        assert len(counted._seen) == 1
        before = {id(one): len(one.runs()) for one in heard}
        lease.journal(number, 0, "fill", "running")
        for one in heard:
            eventually(lambda one=one: len(one.runs()) > before[id(one)])
            assert one.runs()[-1]["phases"][-1]["phase"] == "fill"
        with httpx.stream("GET", url, headers={"Authorization": f"Bearer {TOKEN}"}, timeout=LONG) as answer:
            # Kept: a generator that is thrown away closes the connection.
            lines = answer.iter_lines()
            next(lines)
            eventually(lambda: counted.listening == 6)
        eventually(lambda: counted.listening == 5)
        monkeypatch.setattr(streams, "MOST", 5)
        refused = httpx.get(url, headers={"Authorization": f"Bearer {TOKEN}"})
        assert (refused.status_code, refused.headers["retry-after"]) == (503, str(streams.RETRY))
        assert refused.json()["detail"].startswith("5 listen to runs here already")
    # Shutting down has ended them: see own_server.
    assert all(one.thread.join(LONG) is None and one.over for one in heard)
    assert counted.listening == 0
    assert not counted._seen
    assert not counted._tasks


def test_a_ledger_that_does_not_answer_is_asked_seldom(local, monkeypatch):
    """The stream stays, says so in a comment, and goes on once it answers again."""
    for name, value in (("FASTEST", 0.02), ("SLOWEST", 0.04), ("_PATIENCE", 0.05), ("ALIVE", 0.05), ("TROUBLED", 0.1)):
        monkeypatch.setattr(streams, name, value)
    looked = running.Watch.look
    broken = threading.Event()

    def look(self, number):
        if broken.is_set():
            raise QmigrateError("the ledger\nis away")
        return looked(self, number)

    with held_open(local) as (lease, number), own_server(local) as (base, _, _counted):
        monkeypatch.setattr(running.Watch, "look", look)
        lines: list[str] = []

        def listen_in() -> None:
            with httpx.stream("GET", f"{base}/api/v1/runs/{number}/events", headers={"Authorization": f"Bearer {TOKEN}"}, timeout=LONG) as answer:
                lines.extend(answer.iter_lines())

        thread = threading.Thread(target=listen_in, daemon=True)
        thread.start()
        got = Heard(f"{base}/api/v1/runs/{number}/events")
        eventually(lambda: got.state() == "running" and "event: run" in lines)
        broken.set()
        eventually(lambda: ": the ledger is away" in lines)
        # One that begins now gets the error at once.
        assert httpx.get(f"{base}/api/v1/runs/{number}", headers={"Authorization": f"Bearer {TOKEN}"}, timeout=LONG).status_code == 500
        broken.clear()
        lease.finish_run(number, "failed", "it broke")
        eventually(lambda: got.state() == "failed")
        assert got.runs()[-1]["trouble"]["message"] == "it broke"
        assert not got.over, "it may be resumed"
        lease.finish_run(number, "done")
        eventually(lambda: got.over)
        assert got.events[-1] == ("end", "")
        thread.join(LONG)


def test_a_run_as_it_is_read(local):
    """The list with its filters, one run with its journal, proof and stages; what isn't there is 404."""
    client = TestClient(create_app(local.settings()), headers={"Authorization": f"Bearer {TOKEN}"}, base_url="https://testserver")
    whole = client.get("/api/v1/runs").json()
    assert (whole["total"], [one["state"] for one in whole["rows"]]) == (2, ["done", "done"])
    newest, oldest = whole["rows"]
    assert (newest["verb"], newest["revisions"], newest["stage"], newest["percent"]) == ("upgrade", ["0002"], "live", 100.0)
    for query, found in (
        ("limit=1", [newest]),
        ("limit=1&offset=1", [oldest]),
        ("offset=2", []),
        (f"collection={local.name}&state=done", [newest, oldest]),
        ("state=running&state=interrupted", []),
        ("state=failed", []),
        ("verb=gc", []),
        ("actor=nobody", []),
        ("since=2999-01-01T00:00:00", []),
        (f"since={newest['started_at'].replace('+', '%2B')}", [newest]),
    ):
        answer = client.get(f"/api/v1/runs?{query}")
        assert answer.json()["rows"] == found, (query, answer.text)
    one = client.get(f"/api/v1/runs/{newest['id']}").json()
    assert one["summary"] == newest
    assert [(stage["name"], stage["state"]) for stage in one["stages"]] == [(name, "done") for name in running.STAGES]
    fill = next(phase for phase in one["phases"] if phase["phase"] == "fill")
    assert fill["found"][0].startswith("20 points")
    proof = next(phase for phase in one["phases"] if phase["phase"] == "converge")
    assert proof["found"][0] == "20 of 20 points proven"
    assert (one["proof"]["holds"], one["trouble"], one["conflicts"]["rows"], one["heartbeat_seconds"]) == (True, None, [], None)
    assert client.get(f"/api/v1/runs/{newest['id']}/figures").json() == {"run": newest["id"], "pause": 0.0, "samples": []}
    for path in ("", "/figures", "/events"):
        missing = client.get(f"/api/v1/runs/999{path}")
        assert (missing.status_code, missing.json()["detail"]) == (404, "there is no run 999 in the ledger"), path
        assert client.get(f"/api/v1/runs/0{path}").status_code == 422
    assert client.get("/api/v1/runs?state=odd").status_code == 422
    assert TestClient(client.app, base_url="https://testserver").get("/api/v1/runs").status_code == 401
    # A run that is over is one answer, and who has seen it gets none.
    with client.stream("GET", f"/api/v1/runs/{newest['id']}/events") as answer:
        lines = list(answer.iter_lines())
    assert [line for line in lines if line.startswith("event")] == ["event: run", "event: end"]
    last = next(line for line in lines if line.startswith("id: ")).removeprefix("id: ")
    assert client.get(f"/api/v1/runs/{newest['id']}/events", headers={"Last-Event-ID": last}).status_code == 204
    with pytest.raises(UnknownNameError):
        running.figures(local.settings(), 999)


@pytest.mark.parametrize(
    ("identifier", "number"), [("", 0), ("12-abc", 12), ("x-1", 0), ("-5", 0), ("٣-a", 0), ("9" * 40, 0), ("7", 7)]
)
def test_ids_of_events_may_be_anything(identifier, number):
    """A listener may send what it likes: then it gets all of it."""
    assert _sample_of(identifier) == number


def test_no_text_ends_its_event():
    """Whatever ends a line, in whatever it quotes, stays within the data."""
    said = event("a\nb\r\nc\u2028d\revent: end", "run", "1-a")
    assert said == "id: 1-a\nevent: run\ndata: a\ndata: b\ndata: c\ndata: d\ndata: event: end\n\n"


def test_of_many_who_ask_at_once_no_more_than_the_bound_listen(local, monkeypatch):
    """The bound is kept while the ledger is slow, too; places of those who got nothing are free again."""
    monkeypatch.setattr(streams, "MOST", 5)
    looked = running.Watch.look

    def slow(self, number):
        time.sleep(0.02)
        return looked(self, number)

    monkeypatch.setattr(running.Watch, "look", slow)

    async def many() -> tuple[list[object], int]:
        one = streams.Streams(local.settings())
        scope = {"type": "http", "headers": [], "query_string": b"", "method": "GET", "path": "/"}
        asked = [one.answer(Request(scope), number, streams.as_json) for number in [1] * 30 + [999] * 3]
        found = await asyncio.gather(*asked, return_exceptions=True)
        taken = one.listening

        async def gone() -> dict[str, object]:
            return {"type": "http.disconnect"}

        async def nowhere(_message) -> None:
            raise OSError("gone before a word was sent")

        for answer in found:
            if isinstance(answer, Response):
                with suppress(OSError, BaseExceptionGroup):
                    await answer(scope, gone, nowhere)
        with suppress(UnknownNameError):
            await one.answer(Request(scope), 999, streams.as_json)
        assert one.listening == 0
        return found, taken

    found, taken = asyncio.run(many())
    assert [type(one).__name__ for one in found[:5]] == ["_Stream"] * 5
    assert {getattr(one, "status_code", None) for one in found[5:]} == {503}
    assert taken == 5


def test_all_runs_that_are_listened_to_are_read_by_one_connection(local, monkeypatch):
    """A console that shows many runs takes no connections from who migrates."""
    for name in ("FASTEST", "SLOWEST", "_PATIENCE"):
        monkeypatch.setattr(streams, name, 0.05)
    opened, most = [0], [0]
    real = running.Watch.opened

    @contextmanager
    def counted(settings):
        with real(settings) as watch:
            opened[0] += 1
            most[0] = max(most[0], opened[0])
            yield watch
            opened[0] -= 1

    monkeypatch.setattr(streams.Watch, "opened", counted)
    ledger = Ledger.open(local.ledger_url)
    job = ledger.jobs(local.name)[0]
    with ExitStack() as stack:
        stack.callback(ledger.close)
        numbers = []
        for name in ("a", "b", "c", "d"):
            lease = stack.enter_context(ledger.hold(name, timeout=0))
            numbers.append(lease.open_run("upgrade", replace(job, collection=name), {}, actor="ann", tool="0.1", server="Qdrant"))
        with own_server(local) as (base, _, of):
            heard = [Heard(f"{base}/api/v1/runs/{number}/events") for number in numbers]
            for one in heard:
                eventually(lambda one=one: one.state() == "running")
            assert (len(of._seen), most[0]) == (4, 1)
    eventually(lambda: opened[0] == 0)
