"""Points per folder and per value: from one reading, or counted by the server, compared with SQL."""

from __future__ import annotations

import pytest
from sqlalchemy import create_engine, text
from tests.conftest_postgres import fresh_database
from tests.harness import CREATE, Deployment, Point, make_point, write
from tests.scenarios.cli import call, refused

from qmigrate.commands import upgrade
from qmigrate.ports import PayloadEdit
from qmigrate.store.server.server import ServerStore

BODY = CREATE.rstrip().removesuffix("]") + ', op.CreatePayloadIndex("{name}", "kind", "keyword")]\n'
PATHS = [*["/photos/2024/may/%d.jpg"] * 6, *["/photos/2024/%d.jpg"] * 3, *["/photos/2024-old/%d.jpg"] * 2, "/%d.jpg", "%d.jpg"]


@pytest.fixture
def made(deployment, request, tmp_path) -> Deployment:
    """Local mode with SQLite, a server with PostgreSQL."""
    if "url" not in deployment.qdrant:
        yield filled(deployment, f"sqlite:///{tmp_path}/app.db")
        return
    with fresh_database(request.getfixturevalue("postgres_url")) as url:
        yield filled(deployment, url)


def filled(deployment: Deployment, url: str) -> Deployment:
    """Points in folders, with a kind, a session or two, and one that has none of it."""
    deployment.extra["databases"] = {"app": {"url": url}}
    deployment.__post_init__()
    deployment.revise("0001", BODY)
    upgrade.upgrade(deployment.settings())
    points = [make_point(number) for number in range(len(PATHS) + 1)]
    for point, path in zip(points, PATHS, strict=False):
        number = int(point.id)
        point.payload.update(path=path % number, kind="kn" if number % 2 else "kj", meta={"sessions": [1, 2] if number < 4 else [1]})
    points[-2].payload["path"] = [points[-2].payload["path"], "/photos/2024/may/again.jpg", "/photos/2024/may/b.jpg"]
    for point in points[-1:]:
        point.payload.pop("kind", None)
    store = deployment.store()
    write(store, deployment.name, points)
    store.close()
    engine = create_engine(url)
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE sessions (id INTEGER, directory TEXT, done TEXT)"))
        rows = [(1, "/photos/2024/may/", "2026-01-01"), (2, "/photos/2024/may/", "2026-02-01"), (3, "/gone", None)]
        for row in rows:
            connection.execute(text("INSERT INTO sessions VALUES (:a, :b, :c)"), dict(zip("abc", row, strict=True)))
    engine.dispose()
    return deployment


SQL = "SELECT directory AS path, count(*) AS session_count, max(done) AS last_trained_at FROM sessions GROUP BY directory"


def said(made: Deployment, *words: str) -> dict:
    """What --json has."""
    answer = call(made.root, "fix", "stats", made.name, *words, "--json")
    assert answer.code == 0, answer.text
    return answer.json["data"]


def counts(one: dict) -> dict:
    """Value -> points."""
    return {group["value"]: group["points"] for group in one["groups"]}


def test_folders_with_what_sql_says_of_them(made):
    """Whole folders, those of a depth, and those in a folder; a point in two folders counts in both, twice in one once."""
    found = said(made, "--folders", "path", "--sql", SQL, "--by", "kind", "--by", "meta.sessions")
    folders, kinds, sessions = found["grouped"]
    assert counts(folders) == {"/photos/2024/may": 7, "/photos/2024": 3, "/photos/2024-old": 2, "/": 1, "": 1}
    assert (folders["without"], folders["unmatched"], found["points"]) == (1, 1, len(PATHS) + 1)
    assert folders["groups"][0]["columns"] == {"session_count": 2, "last_trained_at": "2026-02-01"}
    assert folders["groups"][1]["columns"] == {}
    assert (counts(kinds), kinds["without"]) == ({"kj": 6, "kn": 7}, 1)
    assert (counts(sessions), sessions["without"]) == ({1: 13, 2: 3}, 1)
    (flat,) = said(made, "--depth", "2")["grouped"]
    assert counts(flat) == {"/photos/2024": 10, "/photos/2024-old": 2, "/": 1, "": 1}
    inside = said(made, "--prefix", "/photos/2024/", "--by", "kind")
    assert (inside["points"], counts(inside["grouped"][0])) == (10, {"/photos/2024/may": 7, "/photos/2024": 3})
    assert sum(counts(inside["grouped"][1]).values()) == 10
    shown = call(made.root, "fix", "stats", made.name, "--sql", SQL, "--top", "1").out
    for words in ("14 points", "session_count", "2026-02-01", "and 4 more with 7 points", "1 point without path", "1 row of SQL"):
        assert words in shown, shown


def test_values_that_the_server_counts_are_those_that_are_read(made, monkeypatch):
    """With an index the server counts; where its index doesn't hold every value, every point is read instead."""
    asked: list[str] = []
    facet = ServerStore.facet
    monkeypatch.setattr(ServerStore, "facet", lambda self, name, field, most: asked.append(field) or facet(self, name, field, most))
    scan = ServerStore.scan

    def scanned(*args, **more):
        asked.extend(["scan"] if more.get("where") is None else [])
        return scan(*args, **more)

    monkeypatch.setattr(ServerStore, "scan", scanned)
    (kinds,) = said(made, "--by", "kind")["grouped"]
    assert (counts(kinds), kinds["without"]) == ({"kj": 6, "kn": 7}, 1)
    assert asked == (["kind"] if "url" in made.qdrant else [])
    store = made.store()
    odd = Point(900, {"kind": 5}, make_point(900).vectors)
    write(store, made.name, [odd])
    store.close()
    (kinds,) = said(made, "--by", "kind")["grouped"]
    assert (counts(kinds), kinds["without"]) == ({"kj": 6, "kn": 7, 5: 1}, 1)
    assert asked == (["kind", "kind", "scan"] if "url" in made.qdrant else [])


def test_a_list_makes_up_for_no_value_that_the_index_does_not_hold(made):
    """Two values of one point and none of another are as many as there are points: that is read, and no number is lost."""
    store = made.store()
    store.edit_payloads(made.name, [PayloadEdit([2], {"kind": ["kj", "kx"]}), PayloadEdit([3], {"kind": 5})])
    store.close()
    (by,) = said(made, "--by", "kind")["grouped"]
    found = {one["value"]: one["points"] for one in by["groups"]}
    assert (found["kx"], found.get(5), by["without"]) == (1, 1, 1)


def test_what_cannot_be_counted(made):
    """One readable error each."""
    name = made.name
    for words, code, told in (
        (("nowhere",), 2, "there is no collection"),
        ((name, "--sql", "DELETE FROM sessions"), 2, "not a SELECT"),
        ((name, "--sql", "SELECT directory FROM sessions"), 2, "has the column 'path' not at all"),
        ((name, "--sql", "SELECT directory AS path FROM sessions"), 2, "more than once"),
        ((name, "--by", "a", "--by", "b", "--sql", SQL), 2, "SQL is joined to folders, or to one field"),
    ):
        refused(made.root, ("fix", "stats", *words), code, told)
