"""The HTTP API: the contract's examples, who may do what, and that an answer is the verb's own."""

from __future__ import annotations

import json
import re
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path

import httpx
import pytest
import uvicorn
from fastapi import Depends, FastAPI, HTTPException, Request
from fastapi.testclient import TestClient
from sqlalchemy import create_engine, text
from tests.conftest_postgres import fresh_database
from tests.harness import ADD, CREATE, Deployment, audit, make_point, write
from tests.scenarios.cli import SOURCE, call, environment

from qmigrate.commands import upgrade
from qmigrate.console import create_app, vectors_router
from qmigrate.console.access import COOKIE, MOST_FAILURES, Access
from qmigrate.console.contract import typed
from qmigrate.console.server import check_address, config_of, is_loopback, listen, shown
from qmigrate.errors import ConfigError, LeaseHeldError, RefusedError
from qmigrate.settings.load import Settings

PATHS = ["/photos/2024/vacation/a.jpg", "/photos/2024/vacation/b.jpg", "/photos/2024/c.jpg", "/photos/2023/d.jpg", "/photos/2023/e.jpg", "/photos/2023/f.jpg"]
VIEWER, OPERATOR, APPROVER = ("v" * 40, "o" * 40, "a" * 40)
TABLES = [
    "CREATE TABLE image_assets (id BIGINT PRIMARY KEY, path TEXT)",
    "CREATE TABLE training_sessions (id BIGINT PRIMARY KEY, directory_path TEXT, status TEXT, completed_at {zoned})",
    "CREATE TABLE training_queue (value TEXT, category_id BIGINT, reason TEXT, requested_at {zoned})",
]
PRESETS = {
    "folder": {"prefix": ":value", "type": "DIRECTORY", "max_share": 1},
    "asset": {"filter": {"must": [{"has_id": [":value"]}]}, "type": "ASSET", "max_share": 1},
    "session": {"filter": {"must": [{"key": "session_id", "match": {"value": ":value"}}]}, "type": "SESSION", "max_share": 1},
    "category": {"filter": {"must": [{"key": "category_id", "match": {"value": ":value"}}]}, "type": "CATEGORY", "max_share": 1},
    "again": {
        "prefix": ":value",
        "type": "DIRECTORY",
        "max_share": 1,
        "mark": {"training_sessions": "UPDATE training_sessions SET status = 'RESET' WHERE directory_path = :value"},
        "queue": {"table": "training_queue", "columns": {"category_id": ":category_id"}},
    },
    "strays": {"kind": "orphans", "sql": "SELECT id FROM image_assets", "grace": "0s", "max_share": 1},
}
CONSOLE = {
    "presets": {"directory": "folder", "asset": "asset", "session": "session", "category": "category", "orphans": "strays", "retrain": "again"},
    "directories": {"sql": "SELECT directory_path AS path, count(*) AS session_count, max(completed_at) AS last_trained_at FROM training_sessions GROUP BY directory_path"},
}
QUEUED: list = []
SESSIONS = {7}
LOADED: list = []
CHECKED: list = []


def enqueue(*, path_prefix: str, category_id: int, reason: str) -> str:
    """What an application does: hand a job on."""
    QUEUED.append((path_prefix, category_id, reason))
    return "job-uuid-123"


def no_model(*_: object) -> None:
    """A model that can't be loaded."""
    LOADED.append("loaded")
    raise ValueError("no model")


def has_session(session: int) -> bool:
    """Whether there is one."""
    return session in SESSIONS


def delete_session(session: int) -> bool:
    """Whether there was one."""
    found = session in SESSIONS
    SESSIONS.discard(session)
    return found


class Served:
    """A deployment, its application's database, and a client of the API."""

    def __init__(self, made: Deployment, url: str) -> None:
        made.extra.update(
            databases={"app": {"url": url}},
            fixes={"presets": {name: {"collection": made.name, **one} for name, one in PRESETS.items()}},
            console={"collection": made.name, **CONSOLE},
        )
        made.__post_init__()
        made.revise("0001", CREATE)
        upgrade.upgrade(made.settings())
        self.made, self.url = made, url
        for table in TABLES:
            self.run(table.format(zoned="TIMESTAMP" if "sqlite" in url else "TIMESTAMPTZ"))
        points = [make_point(number) for number in range(len(PATHS))]
        for number, (point, path) in enumerate(zip(points, PATHS, strict=True)):
            point.payload.update(path=path, session_id=number // 2, category_id=2 - number // 3)
        store = made.store()
        write(store, made.name, points)
        store.close()
        self.ids = [point.id for point in points]
        self.run("INSERT INTO image_assets VALUES (:id, :path)", [{"id": one, "path": path} for one, path in zip(self.ids, PATHS, strict=True)])
        self.run("INSERT INTO training_sessions VALUES (1, '/photos/2023', 'completed', '2024-12-18 15:30:00+00:00'), (2, '/photos/2023', 'completed', NULL)")

    def run(self, sql: str, rows=None) -> list:
        engine = create_engine(self.url)
        try:
            with engine.begin() as connection:
                result = connection.execute(text(sql), rows) if rows else connection.execute(text(sql))
                return [tuple(row) for row in result] if result.returns_rows else []
        finally:
            engine.dispose()

    def client(self, token: str | None = OPERATOR, **console) -> TestClient:
        """A client with a token of the settings."""
        self.made.extra["console"] = {
            **self.made.extra["console"],
            "tokens": [{"role": role, "user": user, "env": f"TEST_{role.upper()}"} for role, user in (("viewer", "vera"), ("operator", "otto"), ("approver", "anna"))],
            **console,
        }
        self.made.__post_init__()
        app = create_app(self.made.settings())
        return TestClient(app, headers={"Authorization": f"Bearer {token}"} if token else {}, base_url="https://testserver")

    def paths(self) -> set:
        return {payload["path"] for payload, _ in self.made.contents().values()}


@pytest.fixture(autouse=True)
def tokens(monkeypatch):
    """Where the settings say they are."""
    for name, value in (("VIEWER", VIEWER), ("OPERATOR", OPERATOR), ("APPROVER", APPROVER)):
        monkeypatch.setenv(f"TEST_{name}", value)


@pytest.fixture
def served(deployment, request, tmp_path):
    """SQLite with local mode; with a server PostgreSQL."""
    QUEUED.clear()
    LOADED.clear()
    SESSIONS.clear()
    SESSIONS.add(7)
    if "url" not in deployment.qdrant:
        (tmp_path / "app.db").touch()
        yield Served(deployment, f"sqlite:///{tmp_path}/app.db")
        return
    with fresh_database(request.getfixturevalue("postgres_url")) as url:
        deployment.ledger_url = url
        yield Served(deployment, url)


def test_a_directory_goes_as_the_contract_has_it(served):
    """A directory goes as the contract has it."""
    client = served.client()
    url = "/api/v1/vectors/by-directory"
    body = {"pathPrefix": "/photos/2024/vacation/", "deletionReason": "Removing duplicates", "confirm": True}
    refused = client.request("DELETE", url, json={**body, "confirm": False})
    assert (refused.status_code, refused.json()) == (400, {"detail": "Must confirm deletion by setting confirm=true"})
    assert client.request("DELETE", url, json={"pathPrefix": "", "confirm": True}).status_code == 422
    assert client.request("DELETE", url, json={"pathPrefix": "/photos"}).status_code == 422
    assert served.paths() == set(PATHS)
    found = client.request("DELETE", url, json=body)
    assert found.status_code == 200, found.text
    assert found.json() == {"deletedCount": 2, "pathPrefix": "/photos/2024/vacation/", "logId": audit(served.made)[0].id}
    assert served.paths() == set(PATHS[2:])
    newest = client.get("/api/v1/deletions").json()["rows"][0]
    assert {key: newest[key] for key in ("kind", "count", "reason", "actor")} == {"kind": "DIRECTORY", "count": 2, "reason": "Removing duplicates", "actor": "otto"}
    assert newest["metadata"] == {"endpoint": f"DELETE {url}"}
    again = client.request("DELETE", url, json=body).json()
    assert again["deletedCount"] == 0


def test_an_asset_is_204_and_404(served):
    """An asset is 204, and 404 where nothing is there."""
    client = served.client()
    first = served.ids[0]
    assert client.delete(f"/api/v1/vectors/by-asset/{first}").status_code == 204
    assert PATHS[0] not in served.paths()
    gone = client.delete(f"/api/v1/vectors/by-asset/{first}")
    assert (gone.status_code, gone.json()["detail"]) == (404, f"No vectors found for asset {first}")


@pytest.mark.parametrize(
    ("url", "shown", "left"),
    [
        ("/api/v1/vectors/by-session/1", "session_1", [*PATHS[:2], *PATHS[4:]]),
        ("/api/v1/vectors/by-category/2", "category_2", PATHS[3:]),
    ],
)
def test_sessions_and_categories_need_a_confirmation_in_the_query(served, url, shown, left):
    """Sessions and categories need a confirmation in the query."""
    client = served.client()
    refused = client.delete(url)
    assert (refused.status_code, refused.json()) == (400, {"detail": "Must confirm deletion with ?confirm=true"})
    found = client.delete(f"{url}?confirm=true")
    assert found.status_code == 200, found.text
    assert found.json() == {"deletedCount": 6 - len(left), "pathPrefix": shown, "logId": audit(served.made)[0].id}
    assert served.paths() == set(left)
    assert client.delete("/api/v1/vectors/by-session/many?confirm=true").status_code == 422


def test_retraining_deletes_marks_and_queues(served):
    """Retraining deletes marks and queues."""
    client = served.client()
    body = {"pathPrefix": "/photos/2023/", "categoryId": 2, "deletionReason": "Re-training with updated model", "confirm": True}
    refused = client.post("/api/v1/vectors/retrain", json={**body, "confirm": False})
    assert (refused.status_code, refused.json()) == (400, {"detail": "Must confirm retraining by setting confirm=true"})
    found = client.post("/api/v1/vectors/retrain", json=body)
    assert found.status_code == 200, found.text
    assert found.json() == {"deletedCount": 3, "jobId": f"retrain-{audit(served.made)[0].id}", "sessionsReset": 2}
    assert served.run("SELECT value, category_id, reason FROM training_queue") == [("/photos/2023", 2, "Re-training with updated model")]
    assert {row[0] for row in served.run("SELECT status FROM training_sessions")} == {"RESET"}


def test_a_function_of_the_application_queues_and_names_the_job(served):
    """A function of the application queues and names the job."""
    QUEUED.clear()
    client = served.client(queue=f"{__name__}:enqueue")
    body = {"pathPrefix": "/photos/2023", "categoryId": 4, "confirm": True}
    assert client.post("/api/v1/vectors/retrain", json=body).json()["jobId"] == "job-uuid-123"
    assert QUEUED == [("/photos/2023", 4, "POST /api/v1/vectors/retrain")]


def test_directories_are_counted_next_to_their_sessions(served):
    """Directories are counted next to their sessions."""
    found = served.client(VIEWER).get("/api/v1/vectors/directories/status")
    assert found.status_code == 200, found.text
    by_path = {one.pop("path"): one for one in found.json()}
    assert by_path["/photos/2024/vacation/"] == {"vectorCount": 2, "sessionCount": 0, "lastTrainedAt": None}
    trained = by_path["/photos/2023/"]
    assert (trained["vectorCount"], trained["sessionCount"]) == (3, 2)
    assert trained["lastTrainedAt"].startswith("2024-12-18")


def test_orphans_go_and_are_named(served):
    """Orphans go and are named."""
    client = served.client()
    stray = served.ids[1]
    served.run(f"DELETE FROM image_assets WHERE id = {stray}")  # noqa: S608  our own
    refused = client.post("/api/v1/vectors/cleanup-orphans", json={"confirm": False})
    assert (refused.status_code, refused.json()) == (400, {"detail": "Must confirm cleanup by setting confirm=true"})
    found = client.post("/api/v1/vectors/cleanup-orphans", json={"confirm": True, "deletionReason": "Cleanup after asset deletion"})
    assert found.status_code == 200, found.text
    assert found.json() == {"deletedCount": 1, "orphanAssetIds": [str(stray)]}
    assert client.post("/api/v1/vectors/cleanup").json() == {"deleted": 0}


def test_a_reset_needs_the_phrase_and_keeps_what_was_there(served):
    """A reset needs the phrase and keeps what was there."""
    client = served.client()
    body = {"confirm": True, "confirmationText": "DELETE ALL VECTORS", "deletionReason": "Complete system reset"}
    refused = client.post("/api/v1/vectors/reset", json={**body, "confirmationText": "delete all vectors"})
    assert (refused.status_code, refused.json()) == (400, {"detail": "confirmationText must exactly match 'DELETE ALL VECTORS'"})
    assert client.post("/api/v1/vectors/reset", json={**body, "confirm": False}).json() == {"detail": "Must confirm reset by setting confirm=true"}
    found = client.post("/api/v1/vectors/reset", json=body)
    assert found.json() == {"deletedCount": 6, "message": "Successfully deleted 6 vectors and reset collection"}
    assert not served.made.contents()
    assert client.get(f"/api/v1/collections/{served.made.name}").json()["status"]["points"] == 0


def test_the_older_paths(served):
    """The older paths."""
    client = served.client(delete_session=f"{__name__}:delete_session", has_session=f"{__name__}:has_session")
    assert client.delete("/api/v1/sessions/0/vectors").status_code == 204
    assert served.paths() == set(PATHS[2:])
    assert client.delete("/api/v1/sessions/7?delete_vectors=false").status_code == 204
    missing = client.delete("/api/v1/sessions/1")
    assert (missing.status_code, missing.json()) == (404, {"detail": "Training session 1 not found"})
    assert served.paths() == set(PATHS[2:]), "what is not there has lost nothing"
    SESSIONS.add(1)
    assert client.delete("/api/v1/sessions/1").status_code == 204
    assert served.paths() == set(PATHS[4:]), "its vectors went first, as by default"
    assert client.delete("/api/v1/vectors/reset").status_code == 422
    assert client.delete("/api/v1/vectors/reset?confirm=false").status_code == 400
    assert client.delete("/api/v1/vectors/reset?confirm=true").status_code == 204
    assert not served.made.contents()


def test_no_session_loses_its_vectors_before_it_is_known_to_be_there(served):
    """No session loses its vectors before it is known to be there."""
    client = served.client(delete_session=f"{__name__}:delete_session")
    found = client.delete("/api/v1/sessions/1")
    assert (found.status_code, found.json()["detail"]) == (501, "console.has_session of the settings names no function")
    assert served.paths() == set(PATHS)


def test_a_viewer_plans_without_models(served):
    """A plan of a viewer runs the revision files, as everything that reads does, and loads no model."""
    served.made.revise("0002", ADD)
    served.made.extra["embedders"] = {"words": {"type": "callable", "function": f"{__name__}:no_model", "size": 16}}
    client = served.client(VIEWER)
    found = client.get("/api/v1/plan").json()
    assert (found["target"], found["refusals"]) == (["0002"], [])
    assert LOADED == []
    served.client(OPERATOR).get("/api/v1/plan")
    assert LOADED


def test_what_no_preset_stands_for_says_so(served):
    """What no preset stands for says so."""
    client = served.client(presets={})
    found = client.delete("/api/v1/vectors/by-session/1?confirm=true")
    assert (found.status_code, found.json()["detail"]) == (501, "console.presets.session of the settings names no preset")
    assert client.delete("/api/v1/sessions/1").status_code == 501
    assert served.paths() == set(PATHS)


def test_the_cap_holds_over_http(served):
    """The cap holds over HTTP."""
    for preset in served.made.extra["fixes"]["presets"].values():
        preset.pop("max_share")
    found = served.client().request("DELETE", "/api/v1/vectors/by-directory", json={"pathPrefix": "/photos", "confirm": True})
    assert found.status_code == 409
    assert found.json()["exitCode"] == RefusedError.exit_code
    assert found.json()["hint"]
    assert served.paths() == set(PATHS)


def test_a_lease_that_is_held_is_a_conflict(served, monkeypatch):
    """A lease that is held is a conflict."""
    from qmigrate.commands import fix

    def held(*_, **__):
        raise LeaseHeldError("another process works on it", hint="qmigrate status")

    monkeypatch.setattr(fix, "fix", held)
    found = served.client().delete("/api/v1/vectors/by-session/1?confirm=true")
    assert (found.status_code, found.json()["hint"]) == (409, "qmigrate status")


@pytest.mark.parametrize("url", ["/collections", "/schema", "/plan", "/check", "/snapshots", "/history", "/deletions", "/schema?revision=0001"])
def test_what_is_read_has_the_fields_of_the_verb(served, url):
    """What is read has the fields of the verb."""
    found = served.client(VIEWER).get(f"/api/v1{url}")
    assert found.status_code == 200, found.text
    assert json.dumps(found.json())
    assert found.headers["cache-control"] == "no-store"


def test_unknown_names_and_wrong_filters(served):
    """Unknown names and wrong filters."""
    client = served.client(VIEWER)
    assert client.get("/api/v1/collections/none").status_code == 404
    assert client.get("/api/v1/schema?revision=9999").status_code == 404
    assert client.get("/api/v1/history?limit=0").status_code == 422
    assert client.get("/api/v1/deletions?format=xml").status_code == 422


def test_deletions_are_paged_filtered_and_a_spreadsheet(served):
    """Deletions are paged filtered and a spreadsheet."""
    client = served.client()
    for number in range(3):
        client.delete(f"/api/v1/vectors/by-session/{number}?confirm=true")
    whole = client.get("/api/v1/deletions?kind=session").json()["rows"]
    assert [one["target"] for one in whole] == ["2", "1", "0"]
    assert client.get("/api/v1/deletions?limit=1&offset=1").json()["rows"] == [whole[1]]
    table = client.get("/api/v1/deletions?format=csv")
    assert table.headers["content-type"].startswith("text/csv")
    assert table.text.splitlines()[0].startswith("id,created_at,collection")
    assert len(table.text.splitlines()) == 4
    assert client.get("/api/v1/deletions?since=2999-01-01T00:00:00").json()["rows"] == []


def unwell() -> None:
    """A check of the application."""
    if CHECKED:
        raise ConnectionError("redis://:hunter2@cache")


def test_health_and_metrics(served):
    """Liveness and readiness at both places, with the parts that the settings name: databases and own functions."""
    CHECKED.clear()
    served.made.extra["health"] = {"checks": {"pg": {"database": "app"}, "redis": {"function": f"{__name__}:unwell"}}, "cache": "0s", "timeout": "5s"}
    client = served.client(None)
    assert client.get("/health/livez").status_code == 200
    assert client.get("/livez", headers={"Accept": "text/html"}).json()["alive"] is True
    found = client.get("/readyz")
    assert (found.status_code, found.json()["ready"]) == (200, True), found.text
    assert [name for name, part in found.json()["deps"].items() if part["ok"]] == ["qdrant", "ledger", "schema", "pg", "redis"]
    CHECKED.append("gone")
    found = client.get("/health/readyz")
    assert (found.status_code, found.json()["deps"]["redis"]["error"], "hunter2" in found.text) == (503, "ConnectionError", False)
    assert client.get("/metrics").status_code == 401
    assert client.get("/metrics", headers={"Authorization": f"Bearer {VIEWER}"}).text.endswith("# EOF\n")


@pytest.fixture
def plain(tmp_path):
    """A deployment that no request of these tests gets to."""
    return Deployment(tmp_path / "project", {"path": str(tmp_path / "qdrant")}, f"sqlite:///{tmp_path}/ledger.db")


def _client(made: Deployment, token: str | None = None, **console) -> TestClient:
    made.extra["console"] = {"tokens": [{"role": role, "env": f"TEST_{role.upper()}"} for role in ("viewer", "operator", "approver")], **console}
    made.__post_init__()
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    return TestClient(create_app(made.settings()), headers=headers, base_url="https://testserver", client=("10.0.0.1", 1))


def routes() -> list[tuple[str, str]]:
    """Every method and path of the API."""
    app = create_app(Settings(), access=Access((), None, b"key"))
    paths = app.openapi()["paths"]
    return sorted((method.upper(), re.sub(r"\{\w+\}", "1", path)) for path, methods in paths.items() for method in methods)


#: What another person decides.
DECIDES = {path for _, path in routes() if path.endswith("/approve")}
#: What changes nothing, for callers who may only look.
READS = {path for method, path in routes() if method == "GET"}


@pytest.mark.parametrize(("method", "path"), routes(), ids=[f"{method} {path}" for method, path in routes()])
def test_no_route_answers_a_caller_without_the_role(plain, method, path):
    """No route answers a caller without the role."""
    body = {"json": {}} if method in ("POST", "DELETE") else {}
    assert _client(plain).request(method, path, **body).status_code == 401
    assert _client(plain, "x" * 40).request(method, path, **body).status_code == 401
    if path not in READS or method != "GET":
        found = _client(plain, VIEWER).request(method, path, **body)
        assert found.status_code == 403, found.text
        role = "approver" if path in DECIDES else "operator"
        assert found.json()["detail"] == f"this needs the role {role}, and viewer has viewer"
    if path in DECIDES:
        found = _client(plain, OPERATOR).request(method, path, **body)
        assert (found.status_code, "role approver" in found.text) == (403, True)


def test_a_cookie_needs_the_token_of_a_page_for_changes(plain):
    """A cookie needs the token of a page for changes."""
    client = _client(plain)
    assert client.get("/login?token=wrong").status_code == 401
    entered = client.get("/login", params={"token": OPERATOR}, follow_redirects=False)
    assert entered.status_code == 303
    cookie = entered.headers["set-cookie"]
    assert cookie.startswith(f"{COOKIE}=")
    assert all(word in cookie.lower() for word in ("httponly", "secure", "samesite=strict", "path=/"))
    assert OPERATOR not in cookie
    me = client.get("/api/v1/me").json()
    assert (me["user"], me["role"]) == ("operator", "operator")
    url = "/api/v1/vectors/by-session/1"
    assert client.delete(url).status_code == 403
    assert client.delete(url, headers={"X-CSRF-Token": "0" * 64}).status_code == 403
    assert client.delete(url, headers={"X-CSRF-Token": me["csrf"], "Sec-Fetch-Site": "cross-site"}).status_code == 403
    assert client.delete(url, headers={"X-CSRF-Token": me["csrf"], "Sec-Fetch-Site": "same-origin"}).status_code == 400
    value = cookie.split("=")[1].split(";")[0]
    forged = value[:-1] + ("1" if value[-1] == "0" else "0")
    assert TestClient(client.app, base_url="https://testserver", cookies={COOKIE: forged}).get("/api/v1/me").status_code == 401


def test_a_link_logs_in_once(plain):
    """A link logs in once."""
    access = Access.of(plain.settings())
    app = create_app(plain.settings(), access=access)
    token = access.link_token("kim", "approver")
    client = TestClient(app, base_url="https://testserver")
    entered = client.get("/login", params={"token": token}, follow_redirects=False)
    assert (entered.status_code, entered.headers["location"]) == (303, "/")
    assert client.get("/api/v1/me").json()["user"] == "kim"
    assert TestClient(app, base_url="https://testserver").get("/login", params={"token": token}).status_code == 401


def test_wrong_tokens_wait(plain):
    """Wrong tokens wait."""
    client = _client(plain)
    for _ in range(MOST_FAILURES):
        assert client.get("/login?token=wrong").status_code == 401
    late = client.get("/login", params={"token": OPERATOR})
    assert late.status_code == 429
    assert int(late.headers["retry-after"]) > 0


@pytest.mark.parametrize(
    ("headers", "address", "expected"),
    [
        ({"X-Forwarded-User": "kim"}, "10.0.0.1", ("kim", "approver")),
        ({"X-Forwarded-User": "lee"}, "10.0.0.1", ("lee", "viewer")),
        ({"X-Forwarded-User": "kim"}, "10.9.9.9", None),
        ({}, "10.0.0.1", None),
    ],
)
def test_a_proxy_is_believed_only_from_its_address(plain, headers, address, expected):
    """A proxy is believed only from its address."""
    plain.extra["console"] = {"proxy": {"addresses": ["10.0.0.0/24"], "roles": {"kim": "approver", "*": "viewer"}}}
    plain.__post_init__()
    client = TestClient(create_app(plain.settings()), base_url="https://testserver", client=(address, 1), headers=headers)
    found = client.get("/api/v1/me")
    if expected is None:
        assert found.status_code == 401
    else:
        assert (found.json()["user"], found.json()["role"]) == expected


def test_no_user_of_a_proxy_makes_a_cookie_of_what_they_are_told(plain):
    """The token for forms is a signature, too: of a name that a user may have chosen as a cookie would be written."""
    name = f"kim.approver.{1 << 40}"
    plain.extra["console"] = {"proxy": {"addresses": ["10.0.0.0/24"], "roles": {"*": "viewer"}}}
    plain.__post_init__()
    app = create_app(plain.settings())
    inside = TestClient(app, base_url="https://testserver", client=("10.0.0.1", 1), headers={"X-Forwarded-User": name})
    told = inside.get("/api/v1/me").json()
    assert told["role"] == "viewer"
    for said in (name, f"csrf {name}"):
        forged = {"Cookie": f"{COOKIE}={said}.{told['csrf']}"}
        found = TestClient(app, base_url="https://testserver", client=("10.9.9.9", 1), headers=forged).get("/api/v1/me")
        assert found.status_code == 401, found.text


def test_a_client_of_this_machine_is_not_whom_a_header_names():
    """Else a program on the host of `qmigrate serve` would be the proxy, and its user whom it likes."""
    app = FastAPI()

    @app.get("/who")
    def who(request: Request) -> str:
        return request.client.host

    with listen("127.0.0.1", 0) as listening:
        config = config_of(app)
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        try:
            answer = httpx.get(f"{shown(listening)}/who", headers={"X-Forwarded-For": "10.0.0.1"}, timeout=30)
        finally:
            server.should_exit = True
            thread.join(60)
    assert answer.json() == "127.0.0.1"


@pytest.mark.parametrize(
    ("console", "told"),
    [
        ({"tokens": [{"role": "boss", "env": "TEST_VIEWER"}]}, "console.tokens[0].role"),
        ({"tokens": [{"role": "viewer"}]}, "either env or file"),
        ({"tokens": [{"role": "viewer", "env": "TEST_NOT_SET"}]}, "is missing: the environment variable TEST_NOT_SET"),
        ({"tokens": [{"role": "viewer", "file": "short"}]}, "fewer than 16 characters"),
        ({"tokens": [{"role": "viewer", "user": "kim", "env": "TEST_VIEWER"}, {"role": "operator", "user": "lee", "env": "TEST_VIEWER"}]}, "lee and kim have the same token"),
        ({"proxy": {"roles": {"*": "viewer"}}}, "console.proxy.addresses is missing"),
        ({"proxy": {"addresses": ["everywhere"]}}, "must be an address or a network"),
        ({"presets": {"folder": "x"}}, "console.presets.folder"),
        ({"queue": "module"}, "module:attribute"),
    ],
)
def test_settings_that_let_the_wrong_ones_in_are_refused(plain, console, told):
    """Settings that let the wrong ones in are refused."""
    (plain.root / "short").write_text("abc\n")
    plain.extra["console"] = console
    plain.__post_init__()
    with pytest.raises(ConfigError) as caught:
        create_app(plain.settings())
    assert told in str(caught.value)
    assert VIEWER not in str(caught.value)


def test_an_address_that_others_reach_needs_tokens(plain):
    """An address that others reach needs tokens."""
    nobody = Access.of(plain.settings())
    with pytest.raises(ConfigError, match="every client there could delete points"):
        check_address("0.0.0.0", nobody)  # noqa: S104  it is refused
    check_address("127.0.0.1", nobody)
    _client(plain)
    check_address("0.0.0.0", Access.of(plain.settings()))  # noqa: S104  nothing listens
    assert [is_loopback(host) for host in ("::1", "localhost", "127.9.9.9", "::", "192.168.0.1")] == [True, True, True, False, False]


def test_the_router_lives_in_an_application_of_its_own(served):
    """The router lives in an application of its own."""
    app = FastAPI()

    def logged_in(request: Request) -> None:
        if request.headers.get("x-user") != "kim":
            raise HTTPException(401, "who are you?")

    app.include_router(
        vectors_router(served.made.settings(), actor=lambda request: request.headers["x-user"], dependencies=[Depends(logged_in)]),
        prefix="/api/v1",
    )
    client = TestClient(app)
    assert client.delete("/api/v1/vectors/by-session/0?confirm=true").status_code == 401
    assert client.delete("/api/v1/vectors/by-session/0?confirm=true", headers={"x-user": "kim"}).json()["deletedCount"] == 2
    assert audit(served.made)[0].actor == "kim"


def test_values_of_a_path_have_a_type():
    """Values of a path have a type."""
    given = ["0", "7", "-7", "007", "7.5", '"7"', "b8c3", "٣", "", "--5", "9" * 5000]
    assert [typed(one) for one in given] == [0, 7, -7, "007", "7.5", "7", "b8c3", "٣", "", "--5", "9" * 5000]


def test_nothing_is_loaded_from_another_host(plain):
    """Nothing is loaded from another host."""
    client = _client(plain)
    found = client.get("/health/livez")
    assert found.headers["content-security-policy"].startswith("default-src 'self'")
    assert found.headers["x-content-type-options"] == "nosniff"
    assert client.get("/docs").status_code == 404
    document = client.get("/api/v1/openapi.json").json()
    assert document["info"]["title"] == "qmigrate"
    assert "cdn" not in json.dumps(document)
    assert Path(plain.root).name not in json.dumps(document)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_server_listens_logs_in_by_its_link_and_ends_by_a_signal(plain, number):
    """The server listens logs in by its link and ends by a signal."""
    plain.revise("0001", CREATE)
    command = [sys.executable, "-m", "qmigrate", "serve", "--port", "0"]
    variables = environment({"PYTHONPATH": str(SOURCE)})
    with subprocess.Popen(command, cwd=plain.root, env=variables, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            link = process.stdout.readline().strip()
            base = link.partition("/login")[0]
            with httpx.Client(base_url=base) as client:
                assert client.get("/health/livez").json()["alive"] is True
                entered = client.get(link.removeprefix(base))
                assert entered.status_code == 303
                # httpx, unlike a browser, takes loopback for a host like any other, and sends no secure cookie to it.
                cookie = entered.headers["set-cookie"].split(";")[0]
                me = client.get("/api/v1/me", headers={"Cookie": cookie}).json()
                assert me["role"] == "approver"
            process.send_signal(number)
            _, said = process.communicate(timeout=60)
        finally:
            process.kill()
    assert process.returncode == 0, said
    assert f"Listening on {base}." in said
    assert "Traceback" not in said
    assert link.partition("token=")[2] not in said


def test_an_address_that_is_taken_is_a_sentence(plain):
    """An address that is taken is a sentence."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        found = call(plain.root, "serve", "--port", str(taken.getsockname()[1]))
    assert found.code == 2
    assert "nothing can listen on 127.0.0.1:" in found.err
    found = call(plain.root, "serve", "--host", "0.0.0.0")  # noqa: S104  it is refused
    assert (found.code, found.out) == (2, "")
    assert "every client there could delete points" in found.err


@pytest.mark.parametrize("url", ["/api/v1/upgrade", "/api/v1/requests/1/approve", "/api/v1/vectors/retrain"])
def test_a_long_body_of_whoever_it_is_is_not_read_to_its_end(plain, url):
    """It is read before the caller is known: it must not fill the memory."""
    body = (b" " * 100_000 for _ in range(60))
    answer = _client(plain).post(url, content=body, headers={"Content-Type": "application/json"})
    assert (answer.status_code, answer.json()) == (413, {"detail": "the body has more than 1,000,000 bytes"})
    assert answer.headers["x-content-type-options"] == "nosniff"
