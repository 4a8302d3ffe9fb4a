"""What claims to only read sends no write: every request, every SQL statement and every file is checked."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import grpc
import httpx
import pytest
from sqlalchemy import event, inspect, text
from sqlalchemy.engine import Engine
from tests.conftest import clean
from tests.conftest_qdrant import serving
from tests.harness import ADD, CREATE, INDEX, Deployment, contents, make_point, write
from tests.scenarios.cli import Answer, call, verb_of

from qmigrate.commands import upgrade
from qmigrate.errors import QmigrateError
from qmigrate.ledger import Ledger
from qmigrate.store.server import points

#: REST requests other than GET that only read.
READING_POSTS = re.compile(r"/collections/[^/]+/points/(count|query|scroll)$")
#: Methods of gRPC that read.
READING_CALLS = frozenset(
    {
        "/qdrant.Points/Scroll",
        "/qdrant.Points/Get",
        "/qdrant.Points/Count",
        "/qdrant.Points/QueryBatch",
        # Whether REST and gRPC lead to the same server.
        "/qdrant.Collections/Get",
    }
)
#: The one request of doctor that is not a read: an alias that can't exist is removed, to see whether the key may.
PROBE = ("POST", "/collections/aliases", "delete_alias", "qmigrate_probe_")
#: How a statement begins that changes nothing but the session it is sent in.
READING_SQL = re.compile(r"^\s*(SELECT|PRAGMA|SHOW|BEGIN|ROLLBACK|SET TIME ZONE)\b", re.IGNORECASE)
#: And what such a statement may not hold: locks, functions that write, settings of the database.
WRITING_SQL = re.compile(
    r"\b(FOR UPDATE|FOR SHARE|INTO|pg_advisory\w*|nextval|setval|pg_notify)\b|PRAGMA\s+\w+\s*=", re.IGNORECASE
)


@pytest.fixture(scope="module")
def qdrant_server():
    """A server of this module's own: doctor judges everything that is on it, also what other tests have left."""
    yield from serving()


def read_only_verbs(name: str) -> dict[str, tuple[tuple[str, ...], int]]:
    """Every verb that only reads, with its arguments and exit code on a deployment with pending revisions."""
    return {
        "plan": (("plan",), 0),
        "plan of a target": (("plan", "+1", "--only", name), 0),
        "adopt --dry-run": (("adopt", f"{name}*", "--dry-run"), 0),
        "upgrade --dry-run": (("upgrade", "--dry-run"), 0),
        "rollback --dry-run": (("rollback", "base", "--discard-writes", "--dry-run"), 0),
        "status": (("status",), 0),
        "status --exit-code": (("status", "--exit-code"), 3),
        "history": (("history",), 0),
        "verify": (("verify", name, name), 0),
        "doctor": (("doctor",), 0),
        "snapshot list": (("snapshot", "list", f"{name}*"), 0),
        "snapshot delete --dry-run": (("snapshot", "delete", "--of", f"{name}*", "--keep", "0", "--dry-run"), 0),
        "metrics": (("metrics",), 0),
        "wait": (("wait", "--timeout", "1s"), 0),
        "check": (("check", "--only", name), 3),
        "check --strict": (("check", "--only", name, "--strict", "--no-models"), 3),
        "check --offline": (("check", "--offline"), 0),
        "schema": (("schema", f"{name}*"), 0),
        "schema --recorded": (("schema", "--recorded", "--changelog"), 0),
        "schema --revision": (("schema", "--revision", "head", "--format", "markdown"), 0),
    }


#: Of these, what needs no SQL, and what needs no Qdrant.
WITHOUT_LEDGER = frozenset({"check --offline", "schema --revision"})
WITHOUT_QDRANT = WITHOUT_LEDGER | {"schema --recorded", "history"}


@dataclass
class Sent:
    """What went out."""

    rest: list[tuple[str, str]] = field(default_factory=list)
    calls: list[str] = field(default_factory=list)
    sql: list[str] = field(default_factory=list)
    probes: int = 0

    def writes(self) -> list[object]:
        """What is not known to only read."""
        rest = [
            (method, path)
            for method, path in self.rest
            if method != "GET" and not (method == "POST" and READING_POSTS.search(path))
        ]
        calls = [method for method in self.calls if method not in READING_CALLS]
        sql = [one for one in self.sql if not READING_SQL.match(one) or WRITING_SQL.search(one)]
        return [*rest, *calls, *sql]


class Counting(grpc.UnaryUnaryClientInterceptor):
    """Notes every request of a gRPC channel and lets it pass."""

    def __init__(self, sent: Sent) -> None:
        self._sent = sent

    def intercept_unary_unary(self, continuation, client_call_details, request):
        """Note one."""
        self._sent.calls.append(client_call_details.method)
        return continuation(client_call_details, request)


@contextmanager
def watched(monkeypatch) -> Iterator[Sent]:
    """Notes everything that is sent to Qdrant and to SQL while the block runs."""
    sent = Sent()
    handle, open_channel = httpx.HTTPTransport.handle_request, points.open_channel

    def noted(self, request):
        method, path, *words = PROBE
        body = request.content.decode() if request.method == method else ""
        if (request.method, request.url.path) == (method, path) and all(word in body for word in words):
            assert body.count("alias_name") == body.count("{") - 2 == 1
            sent.probes += 1
        else:
            sent.rest.append((request.method, request.url.path))
        return handle(self, request)

    def statement(_connection, _cursor, found, *_):
        sent.sql.append(found)

    with monkeypatch.context() as patch:
        patch.setattr(httpx.HTTPTransport, "handle_request", noted)
        patch.setattr(
            points, "open_channel", lambda settings: grpc.intercept_channel(open_channel(settings), Counting(sent))
        )
        event.listen(Engine, "before_cursor_execute", statement)
        try:
            yield sent
        finally:
            event.remove(Engine, "before_cursor_execute", statement)


def files(*folders: Path) -> dict[str, bytes | None]:
    """Every file with what it holds, and every folder; bytecode of Python left out."""
    return {
        str(path): None if path.is_dir() else path.read_bytes()
        for folder in folders
        for path in sorted(folder.rglob("*"))
        if "__pycache__" not in path.parts
    }


def dump_of_server(made: Deployment) -> dict:
    """Everything of the deployment's collections: schema, seal, names, operation ids, points."""
    store = made.store()
    try:
        names = [name for name in store.physical_names() if name.startswith(made.name)]
        return {
            "aliases": store.aliases(),
            "names": store.physical_names(),
            "collections": {name: (store.describe(name), store.operation_ids(name)) for name in names},
            "points": {name: contents(store, name) for name in names},
            "snapshots": {name: [one.name for one in store.list_snapshots(name)] for name in names},
        }
    finally:
        store.close()


def dump_of_ledger(url: str) -> dict[str, list[str]]:
    """Every row of every table."""
    ledger = Ledger.open(url)
    try:
        with ledger.database.reading() as connection:
            return {
                table: sorted(repr(list(row)) for row in connection.execute(text(f'SELECT * FROM "{table}"')))  # noqa: S608
                for table in inspect(connection).get_table_names()
            }
    finally:
        ledger.close()


@pytest.fixture
def pending(qdrant_config, ledger_url, tmp_path):
    """A deployment at its first revision with two pending ones, on every store and ledger."""
    made = Deployment(tmp_path / "project", qdrant_config, ledger_url)
    made.revise("0001", CREATE)
    upgrade.upgrade(made.settings())
    made.load(40)
    made.revise("0002", INDEX)
    made.revise("0003", ADD)
    yield made
    if "url" in qdrant_config:
        clean(made)


def check_answer(said: Answer, args: tuple[str, ...], code: int) -> None:
    """One JSON object on stdout, of the verb's schema."""
    assert said.code == code, said.text
    assert said.json["schema"] == f"qmigrate.{verb_of(args)}/1"
    assert said.json["ok"] is True


def test_reading_verbs_send_no_write(pending, monkeypatch, tmp_path):
    """With pending revisions, no verb that reads sends a write to Qdrant or SQL, and no file changes."""
    made = pending
    server, ledger = dump_of_server(made), dump_of_ledger(made.ledger_url)
    before = files(tmp_path)
    for label, (args, code) in read_only_verbs(made.name).items():
        with watched(monkeypatch) as sent:
            check_answer(call(made.root, *args, "--json"), args, code)
            assert call(made.root, *args).code == code
        assert sent.writes() == [], label
        assert bool(sent.sql) == (label not in WITHOUT_LEDGER), label
        assert sent.probes == (2 if label == "doctor" and "url" in made.qdrant else 0), label
        assert ("url" in made.qdrant and label not in WITHOUT_QDRANT) == bool(sent.rest), label
        if label == "verify" and "url" in made.qdrant:
            assert "/qdrant.Points/Scroll" in sent.calls
        assert files(tmp_path) == before, label
    assert dump_of_server(made) == server
    assert dump_of_ledger(made.ledger_url) == ledger


def test_what_writes_is_seen(pending, monkeypatch):
    """The watch itself works: an upgrade is full of writes."""
    with watched(monkeypatch) as sent:
        assert call(pending.root, "upgrade", "--json").json["ok"] is True
    found = sent.writes()
    assert any(str(one).startswith("INSERT") for one in found)
    if "url" in pending.qdrant:
        assert "/qdrant.Points/Upsert" in found
        assert any(isinstance(one, tuple) and one[0] == "PUT" for one in found)


def test_reading_verbs_leave_an_interrupted_run_alone(pending, monkeypatch, tmp_path):
    """With a run that has failed half-way, reading changes nothing: it neither continues nor is undone."""
    made = pending
    store = made.store()
    write(store, made.name, [make_point(number, text=" ") for number in range(1000, 1001)])
    store.close()
    with pytest.raises(QmigrateError):
        upgrade.upgrade(made.settings())
    server, ledger, before = dump_of_server(made), dump_of_ledger(made.ledger_url), files(tmp_path)
    rows = call(made.root, "status", "--json").json["data"]["collections"]
    state = next(row for row in rows if row["name"] == made.name)
    assert (state["name"], state["state"]) == (made.name, "failed")
    with watched(monkeypatch) as sent:
        for args, _ in read_only_verbs(made.name).values():
            said = call(made.root, *args, "--json")
            assert said.json["schema"].startswith("qmigrate.")
            assert said.code in (0, 3, 10), said.text
    assert sent.writes() == []
    assert files(tmp_path) == before
    assert (dump_of_server(made), dump_of_ledger(made.ledger_url)) == (server, ledger)


def test_an_empty_project_stays_empty(qdrant_config, tmp_path, monkeypatch):
    """Before the first upgrade, no verb that reads makes a folder, a file, a table or a collection."""
    made = Deployment(tmp_path / "project", qdrant_config, f"sqlite:///{tmp_path}/state/ledger.db")
    made.revise("0001", CREATE)
    made.revise("0002", ADD)
    before = files(tmp_path)
    for label, (args, _) in read_only_verbs(made.name).items():
        with watched(monkeypatch) as sent:
            said = call(made.root, *args, "--json")
        # There is nothing to verify, adopt, list, delete or show of a collection that doesn't exist.
        missing = args[0] in ("verify", "adopt", "snapshot") or label == "schema"
        pending = "--exit-code" in args or (args[0] == "check" and "--offline" not in args)
        assert said.code == (2 if missing else 3 if pending else 0), (label, said.text)
        assert said.json["ok"] is not missing, label
        assert not missing or said.json["error"]["type"] == "UnknownNameError", label
        assert sent.writes() == [], label
        assert files(tmp_path) == before, label
    if "url" in made.qdrant:
        assert not any(name.startswith(made.name) for name in dump_of_server(made)["names"])


def test_a_project_of_defaults_stays_empty(tmp_path):
    """The same with nothing but an initialised folder: local mode and ledger are only where they are looked for."""
    project = tmp_path / "project"
    project.mkdir()
    assert call(project, "init").code == 0
    before = files(project)
    reading = ("status", "plan", "history", "upgrade --dry-run", "doctor", "wait --timeout 0s", "snapshot list")
    reading += ("check", "check --offline", "schema", "schema --recorded", "schema --revision head")
    for args in map(str.split, reading):
        said = call(project, *args, "--json")
        assert said.code == 0, said.text
        assert files(project) == before, args


def test_every_verb_answers_in_one_json_object(pending):
    """Also the verbs that change something: one object on stdout, of the verb's schema, whatever the outcome."""
    made = pending
    verbs: list[tuple[tuple[str, ...], int]] = [
        (("upgrade", "--only", made.name), 0),
        (("upgrade",), 0),
        (("snapshot", "create", made.name), 0),
        (("snapshot", "restore", made.name, "--latest"), 10),
        (("snapshot", "restore", made.name, "--latest", "--yes"), 0),
        (("snapshot", "restore", made.name, "--undo"), 0),
        (("snapshot", "delete", "*", "--of", made.name), 10),
        (("snapshot", "delete", "*", "--of", made.name, "--yes"), 0),
        # Both revisions went live together, so one of them can't go back alone.
        (("rollback",), 10),
        (("rollback", "0001"), 0),
        (("abort",), 0),
        (("repair", "--accept", "0001", "--reason", "why"), 0),
        (("repair", "--unlock", made.name, "--yes"), 0),
        (("repair", "--unlock", made.name), 10),
        (("revision", "-m", "what changes"), 0),
        (("init",), 0),
    ]
    for args, code in verbs:
        said = call(made.root, *args, "--json")
        assert (said.code, said.json["schema"]) == (code, f"qmigrate.{verb_of(args)}/1"), said.text
        assert set(said.json) == {"schema", "ok", "data" if code == 0 else "error"}
        assert "Traceback" not in said.err
