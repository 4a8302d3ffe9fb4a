"""Fixes that meet nothing at all report what they read, or refuse: nothing to do is not the same as nothing found."""

from __future__ import annotations

import pytest
from tests.harness import write
from tests.scenarios.app_sql import FACES, App, application
from tests.scenarios.cli import call, refused

from qmigrate import fix as program
from qmigrate import op
from qmigrate.commands import upgrade
from qmigrate.errors import RefusedError
from qmigrate.model.transform import Point

EMPTY = FACES + " WHERE 1 = 0"
ELSEWHERE = "SELECT id + 10000 AS id, person FROM faces"


@pytest.fixture
def app(deployment, app_url) -> App:
    """60 points and their rows: local mode with SQLite, a server with PostgreSQL."""
    deployment.extra["fixes"] = {"max_share": 1.0}
    return application(deployment, app_url)


#: A query for all points that compares none of them, and the report on it.
COMPARES_NOTHING = [
    (EMPTY, "the query on app returns no row at all: none of 60 points was compared"),
    (ELSEWHERE, "the query on app returns 60 rows, and none has a point: none of 60 points was compared"),
]


@pytest.mark.parametrize(("sql", "words"), COMPARES_NOTHING)
def test_a_sync_that_compares_nothing_is_not_in_order(app, sql, words):
    """Another database, schema or key: refused, preview or not; a number of 0 allows it."""
    app.run("UPDATE faces SET person = 'other'")
    args = ("fix", "sync", app.made.name, "--sql", sql, "--field", "person")
    for more in (("--check",), ("--yes",), ()):
        refused(app.made.root, (*args, *more), 10, words, "--expect 0")
    for more in (("--check",), ("--yes",)):
        said = call(app.made.root, *args, *more, "--expect", "0")
        assert (said.code, "the query on app returned" in said.text, "No differences" in said.text) == (0, True, False), said.text
    with pytest.raises(RefusedError, match="none of 60 points was compared"):
        program.sync_payload(app.made.name, sql=sql, fields={"person": "person"}, settings=app.made.settings())


def test_a_part_of_a_sync_may_be_empty_and_says_so(app):
    """What changed since, and ids that were named, may have no row: that is success, and the notes name it."""
    args = ("fix", "sync", app.made.name, "--sql", FACES + ", changed_at", "--field", "person")
    since = ("--since", "2100-01-01T00:00Z", "--since-column", "changed_at")
    for part in (since, ("--id", "7777")):
        for more in (("--check",), ("--yes",)):
            sql = FACES.replace(" FROM", ", changed_at FROM")
            said = call(app.made.root, *args[:4], sql, *args[5:], *part, *more)
            assert (said.code, "the query on app returned no row" in said.text) == (0, True), said.text
            assert "No differences" not in said.text


def test_no_deployment_stops_for_a_sync_without_rows_or_points(app):
    """A collection that is still empty is not a reason to stop a deployment, nor is a revision whose table is."""
    app.made.revise("0002", f'def upgrade():\n    return [op.SyncPayload("{{name}}", sql="{EMPTY}", fields=["person"])]\n')
    planned = call(app.made.root, "plan")
    assert "the query on app returned no row" in planned.out, planned.text
    upgrade.upgrade(app.made.settings())
    program.delete_points(app.made.name, sql="SELECT id FROM faces", reason="r", settings=app.made.settings())
    said = call(app.made.root, "fix", "sync", app.made.name, "--sql", FACES, "--field", "person", "--yes")
    assert said.code == 0, said.text


#: What points have in a field, and the report on its age: of all 60, or of some.
AGES = [
    ("createdat", None, 0, "`createdat` is in none of 60 points, so none is old enough"),
    ("at", 1_600_000_000_000, 10, "at is never a time in NAME: 2 of 60 points have something else there, for example 1600000000000"),
    ("at", "yesterday", 10, "for example 'yesterday'"),
    ("at", 2019, 10, "for example 2019"),
    ("at", [True], 10, "for example True"),
    ("at", "2999-01-01T00:00:00Z", 0, "2 with field"),
    ("at", 4_000_000_000, 0, "2 with field"),
]


@pytest.mark.parametrize("more", [(), ("--soft",)], ids=["gone", "soft"])
@pytest.mark.parametrize(("field", "value", "code", "words"), AGES, ids=lambda one: str(one)[:20])
def test_an_age_that_no_point_can_reach_is_said(app, field, value, code, words, more):
    """A field that is in no point is named; one that never holds a time is refused; young points are not news."""
    if value is not None:
        store = app.made.store()
        payloads = [{field: value, "person": "p1"} for _ in range(2)]
        write(store, app.made.name, [Point(one, payload, {"a": [1.0] * 8}) for one, payload in enumerate(payloads, 1)])
        store.close()
    before = app.payloads()
    args = ("fix", "delete", app.made.name, "--older-than", "90d", "--age-field", field, "--reason", "r", *more)
    words = words.replace("NAME", app.made.name)
    for how in (("--dry-run",), ("--yes", "--max-share", "1")):
        said = call(app.made.root, *args, *how)
        assert (said.code, words in said.text) == (code, True), said.text
    assert app.payloads() == before


def test_an_index_says_which_form_counts_and_so_does_the_refusal(app):
    """Seconds under an index of times are never old: the refusal names the index."""
    if "url" not in app.made.qdrant:
        pytest.skip("no index is known in local mode")
    store = app.made.store()
    write(store, app.made.name, [Point(1, {"at": 1_600_000_000}, {"a": [1.0] * 8})])
    store.close()
    app.made.revise("0002", 'def upgrade():\n    return [op.CreatePayloadIndex("{name}", "at", "datetime")]\n')
    upgrade.upgrade(app.made.settings())
    wanted = op.DeletePoints(app.made.name, older_than={"field": "at", "age": "90d"}, reason="r")
    with pytest.raises(RefusedError, match="of the type datetime"):
        program.run(wanted, settings=app.made.settings())


#: A query of a deletion, and the report on it.
DELETES_NOTHING = [
    ("SELECT id FROM faces WHERE 1 = 0", "the query on app returned no row"),
    ("SELECT id + 10000 AS id FROM faces", "the query on app returned 60 rows, and none has a point"),
]


@pytest.mark.parametrize(("sql", "words"), DELETES_NOTHING)
def test_a_deletion_whose_query_meets_nothing_says_so(app, sql, words):
    """Nothing to do is success; what was read is shown with it."""
    args = ("fix", "delete", app.made.name, "--sql", sql, "--reason", "r")
    for how in (("--dry-run",), ("--yes", "--max-share", "1"), ("--soft", "--yes", "--max-share", "1")):
        said = call(app.made.root, *args, *how)
        assert (said.code, words in said.text) == (0, True), said.text


def test_orphans_by_a_field_that_no_point_has_are_refused(app):
    """Else every row would be handed on as missing, to be embedded again."""
    args = ("fix", "orphans", app.made.name, "--sql", "SELECT id FROM faces", "--id-field", "asset_di", "--reason", "r")
    for how in (("--check",), ("--yes", "--max-share", "1", "--grace", "0s")):
        refused(app.made.root, (*args, *how), 10, "none of 60 points of", "has anything in asset_di", "--id-field")


def test_a_range_on_a_field_that_no_point_has_is_named(app):
    """As a value is that a filter compares a field with."""
    for key, bound, words in (("scoer", 5, "`scoer` is in none of the 60 points"), ("person", 5, "`person` holds texts")):
        where = f'{{"must": [{{"key": "{key}", "range": {{"gt": {bound}}}}}]}}'
        said = call(app.made.root, "fix", "delete", app.made.name, "--filter", where, "--reason", "r", "--yes", "--max-share", "1")
        assert (said.code, words in said.text) == (0, True), said.text
