"""Orphans both ways: strays go only when they are seen twice, missing ids are listed; what is being inserted is spared."""

from __future__ import annotations

import pytest
from sqlalchemy import create_engine, text
from tests.conftest_postgres import fresh_database
from tests.scenarios.app_sql import App, application
from tests.scenarios.cli import call

from qmigrate import op
from qmigrate.commands import fix
from qmigrate.errors import PlanError, RefusedError
from qmigrate.ledger import Ledger
from qmigrate.ports import Silent

IDS = "SELECT id FROM faces"


@pytest.fixture
def app(deployment, request, tmp_path) -> App:
    """Local mode beside SQLite, a server beside PostgreSQL: 60 points; rows 1 to 5 are gone, rows 900 to 902 are new."""

    def prepared(url: str) -> App:
        made = application(deployment, url)
        made.run("DELETE FROM faces WHERE id <= 5")
        made.run("INSERT INTO faces (id) VALUES (900), (901), (902)")
        return made

    if "url" not in deployment.qdrant:
        yield prepared(f"sqlite:///{tmp_path}/app.db")
        return
    with fresh_database(request.getfixturevalue("postgres_url")) as url:
        deployment.ledger_url = url
        yield prepared(url)


def wanted(app: App, **more) -> op.DeleteOrphans:
    """The operation of the tests."""
    return op.DeleteOrphans(app.made.name, **{"sql": IDS, "reason": "test", "grace": 0.2, **more})


def test_strays_go_and_missing_ids_are_listed(app, tmp_path):
    """--check exits with 4 and counts both; the strays go, are recorded as orphans, and come back."""
    before, file = app.payloads(), tmp_path / "missing"
    words = ["fix", "orphans", app.made.name, "--sql", IDS, "--missing", str(file)]
    said = call(app.made.root, *words, "--check", "--json")
    (seen,) = said.json["data"]["previews"]
    assert (said.code, seen["changes"], [one["id"] for one in seen["sample"]]) == (4, 5, [1, 2, 3, 4, 5])
    assert {name: seen["counts"][name] for name in ("rows", "strays", "missing")} == {"rows": 58, "strays": 5, "missing": 3}
    assert file.read_text().split() == ["900", "901", "902"]
    assert (app.payloads(), call(app.made.root, *words, "--reason", "r", "--yes").code) == (before, 10)
    done = call(app.made.root, *words, "--reason", "r", "--yes", "--expect", "5", "--grace", "0s")
    assert (done.code, "5 points deleted" in done.out) == (0, True), done.text
    assert app.payloads() == {one: value for one, value in before.items() if one > 5}
    ledger = Ledger.open(app.made.settings().ledger.url)
    (row,) = ledger.deletions()
    ledger.close()
    assert (row.kind, row.count, row.reason) == ("ORPHAN", 5, "r")
    assert call(app.made.root, *words, "--check").code == 4
    app.run("DELETE FROM faces WHERE id >= 900")
    assert call(app.made.root, *words, "--check").code == 0
    fix.undo(app.made.settings(), row.id)
    assert app.payloads() == before


def test_what_is_refused(app):
    """No row at all, more than the cap, no reason: nothing goes."""
    before, settings = app.payloads(), app.made.settings()
    for more, error, words in (
        ({"sql": IDS + " WHERE id < 0"}, RefusedError, "no row at all"),
        ({"sql": IDS + " WHERE id < 20"}, RefusedError, "cap of 10%"),
        ({"reason": ""}, PlanError, "a reason is wanted"),
        ({"grace": -1}, PlanError, "grace must be"),
    ):
        with pytest.raises(error, match=words):
            fix.fix(settings, wanted(app, **more))
    assert app.payloads() == before


class Meanwhile(Silent):
    """Does something once the second look is waited for, and something else when that was said some times."""

    def __init__(self, *steps) -> None:
        self.steps = list(steps)
        self.waits = 0

    def advance(self, count: int, note: str = "") -> None:
        """Count the waiting."""
        if note.startswith("second look"):
            self.waits += 1
            if self.steps and self.waits in (1, 4):
                self.steps.pop(0)()


def test_what_is_being_inserted_is_spared(app):
    """A row that comes between the two looks saves its point; so does one of a transaction that was open all the time."""
    engine = create_engine(app.url)
    progress = Meanwhile(lambda: app.run("INSERT INTO faces (id) VALUES (2)"))
    if app.url.startswith("postgresql"):
        connection = engine.connect()
        connection.execute(text("INSERT INTO faces (id) VALUES (1)"))
        progress.steps.append(connection.commit)
    (done,) = fix.fix(app.made.settings(), wanted(app), progress=progress).done
    kept = {2, 1} if app.url.startswith("postgresql") else {2}
    assert {one for one in app.payloads() if one <= 5} == kept
    assert (done.changed, progress.steps) == (5 - len(kept), [])
    if app.url.startswith("postgresql"):
        connection.close()
    engine.dispose()
