"""A row that only can't be seen is not gone: hidden by a policy, not copied yet, or of an unlisted transaction."""

from __future__ import annotations

import uuid
from datetime import timedelta

import pytest
import yaml
from sqlalchemy import create_engine, make_url, text
from tests.conftest_postgres import fresh_database
from tests.harness import Deployment
from tests.scenarios.app_sql import App, application
from tests.scenarios.test_orphans import Clock, wanted

from qmigrate import op
from qmigrate.commands import erase, fix
from qmigrate.engine.fixes import first_look as sighting
from qmigrate.engine.fixes import orphans
from qmigrate.errors import RowsError
from qmigrate.rows import Moment, Query, Rows
from qmigrate.rows.database import Database

pytestmark = pytest.mark.postgres


@pytest.fixture
def app(postgres_url, tmp_path) -> App:
    """Local mode with PostgreSQL, which is asked as a user who may only SELECT, as the docs advise."""
    role = f"reader_{uuid.uuid4().hex[:8]}"
    with fresh_database(postgres_url) as url:
        made = Deployment(tmp_path / "project", {"path": str(tmp_path / "qdrant")}, f"sqlite:///{tmp_path}/ledger.db")
        app = application(made, url)
        app.run(f"CREATE ROLE {role} LOGIN")
        app.run(f"GRANT SELECT ON faces TO {role}")
        config = yaml.safe_load(made.config.read_text())
        reading = make_url(url).set(username=role).render_as_string(hide_password=False)
        config["databases"] = {"app": {"url": reading}}
        made.config.write_text(yaml.safe_dump(config))
        yield app
        app.run(f"DROP OWNED BY {role}")
        app.run(f"DROP ROLE {role}")


class Slow(Clock):
    """Another client's transaction: it inserts a row after the first look, and is committed long after the grace."""

    def __init__(self, monkeypatch, connection) -> None:
        super().__init__(monkeypatch)
        self.left = ["insert", "commit"]
        self.connection = connection

    def pause(self, seconds: float) -> None:
        """Some minutes go by."""
        if self.left == ["insert", "commit"]:
            self.connection.execute(text("INSERT INTO faces (id) VALUES (1)"))
            self.left.pop(0)
        elif self.left and self.ahead > timedelta(seconds=1200):
            self.connection.commit()
            self.left.pop()
        self.ahead += timedelta(seconds=100)


@pytest.mark.parametrize("when", ["before the look", "while it looks"])
def test_a_transaction_that_has_not_written_yet_is_waited_for(app, monkeypatch, when):
    """It has no number, and its session belongs to another user, so PostgreSQL doesn't show when it began."""
    app.run("DELETE FROM faces WHERE id <= 2")
    engine = create_engine(app.url)
    with engine.connect() as connection:
        hands, begin = Slow(monkeypatch, connection), lambda: connection.execute(text("SELECT 1"))
        if when == "before the look":
            begin()
        else:
            # What is read last is seen, and then it begins.
            check = orphans.check_cap
            monkeypatch.setattr(orphans, "check_cap", lambda *given, **more: (begin(), check(*given, **more))[1])
        (done,) = fix.fix(app.made.settings(), wanted(app, grace="900s")).done
    engine.dispose()
    assert (done.changed, hands.left) == (1, [])
    assert {one for one in app.payloads() if one <= 2} == {1}


@pytest.mark.parametrize("grace", [0, 900])
def test_rows_that_a_policy_hides_are_no_orphans(app, grace):
    """Row-level security leaves rows out without a word; the reading is refused, with what helps, and nothing goes."""
    before = app.payloads()
    app.run("ALTER TABLE faces ENABLE ROW LEVEL SECURITY")
    app.run("CREATE POLICY mine ON faces USING (id > 4)")
    with pytest.raises(RowsError, match="row-level security") as caught:
        fix.fix(app.made.settings(), wanted(app, grace=f"{grace}s"))
    assert ("BYPASSRLS" in str(caught.value.hint), app.payloads()) == (True, before)
    # What only looks for rows that are there is no worse for it.
    assert fix.review(app.made.settings(), app.sync()).previews[0].counts["rows"] == 56


@pytest.mark.parametrize("look", ["the second look", "right before they go"])
def test_a_replica_is_refused_at_every_look(app, monkeypatch, look):
    """The database fails over between two looks, or its URL names several servers: what answers may be behind."""
    app.run("DELETE FROM faces WHERE id <= 2")
    before, hands, replica = app.payloads(), Clock(monkeypatch), []
    execute = Database.execute

    def asked(self, connection, sql, *given, **more):
        return execute(self, connection, sql.replace("pg_is_in_recovery()", "true") if replica else sql, *given, **more)

    monkeypatch.setattr(Database, "execute", asked)
    if look == "the second look":
        hands.meanwhile.append(lambda: replica.append(1))
    else:
        still = orphans.Orphans.still
        monkeypatch.setattr(orphans.Orphans, "still", lambda *given: (replica.append(1), still(*given))[1])
    with pytest.raises(RowsError, match="is a replica"):
        fix.fix(app.made.settings(), wanted(app, grace="900s"))
    assert app.payloads() == before


def test_a_first_look_of_an_earlier_version_is_read(app, monkeypatch):
    """It lists no transactions; what else it reports counts."""
    app.run("DELETE FROM faces WHERE id <= 2")
    hands = Clock(monkeypatch)
    packed = sighting.packed

    def older(entries):
        for entry in entries:
            if "moment" in entry.after:
                entry.after["moment"] = entry.after["moment"][:2]
        return packed(entries)

    monkeypatch.setattr(sighting, "packed", older)
    looked = fix.fix(app.made.settings(), wanted(app, grace="900s"), wait=False).looked
    assert [one.strays for one in looked] == [2]
    hands.ahead += timedelta(minutes=16)
    assert fix.fix(app.made.settings(), wanted(app, grace="900s"), wait=False).done[0].changed == 2


def test_which_transactions_are_open(app):
    """Those of every user, with a number and without; none of this one's own."""
    rows = Rows(app.made.settings().database("app"), Query("SELECT id FROM faces", "id", whole=True), name="app")
    quiet = rows.now()
    assert not rows.open_since(quiet)
    engine = create_engine(app.url)
    with engine.connect() as connection:
        connection.execute(text("SELECT 1"))
        moment = rows.now()
        assert (rows.open_since(moment), rows.open_since(Moment(moment.at, moment.border))) == (True, False)
        connection.commit()
        assert not rows.open_since(moment)
    engine.dispose()
    rows.close()


#: Faces that no other client uses: of rows that are not seen, more are selected.
UNUSED = "SELECT id FROM faces WHERE id <= 5 AND id NOT IN (SELECT face FROM uses)"
#: What deletes, marks or counts by such a query.
SELECTING = {
    "delete": lambda app, sql: fix.fix(app.made.settings(), op.DeletePoints(app.made.name, sql=sql, **REST)),
    "soft": lambda app, sql: fix.fix(app.made.settings(), op.DeletePoints(app.made.name, sql=sql, soft=True, **REST)),
    "erase": lambda app, sql: erase.erase(app.made.settings(), op.DeletePoints(app.made.name, sql=sql, **REST)),
    "preview": lambda app, sql: fix.review(app.made.settings(), op.DeletePoints(app.made.name, sql=sql, **REST)),
    "orphans": lambda app, sql: fix.fix(app.made.settings(), op.DeleteOrphans(app.made.name, sql=sql, grace="0s", **REST)),
}
REST = {"reason": "r", "max_share": 1.0}


@pytest.fixture
def used(app) -> App:
    """Two of the faces are used by another client, whose rows a policy hides."""
    app.run("CREATE TABLE uses (face BIGINT, session INT)")
    app.run("INSERT INTO uses VALUES (1, 2), (2, 2)")
    app.run("GRANT SELECT ON uses TO PUBLIC")
    return app


@pytest.mark.parametrize("kind", ["delete", "soft", "erase", "preview"])
def test_points_are_not_selected_by_rows_that_are_hidden(used, kind):
    """Where ids go that no other client uses, a use that is not seen lets a point go."""
    before = used.made.contents()
    SELECTING["preview"](used, UNUSED)
    used.run("ALTER TABLE uses ENABLE ROW LEVEL SECURITY")
    used.run("CREATE POLICY mine ON uses USING (session = 1)")
    with pytest.raises(RowsError, match="row-level security"):
        SELECTING[kind](used, UNUSED)
    assert used.made.contents() == before


@pytest.mark.parametrize("kind", ["delete", "soft", "erase", "sync"])
def test_nothing_is_changed_by_a_replica(used, monkeypatch, kind):
    """It may be behind: its content would replace something newer. Only reading one does no harm."""
    used.run("UPDATE faces SET person = 'older'")
    before, execute = used.made.contents(), Database.execute

    def asked(self, connection, sql, *given, **more):
        return execute(self, connection, sql.replace("pg_is_in_recovery()", "true"), *given, **more)

    monkeypatch.setattr(Database, "execute", asked)
    act = SELECTING.get(kind, lambda app, _: fix.fix(app.made.settings(), app.sync()))
    with pytest.raises(RowsError, match="is a replica"):
        act(used, UNUSED)
    assert used.made.contents() == before
    assert fix.review(used.made.settings(), used.sync()).changes == 60


@pytest.mark.parametrize("kind", ["delete", "orphans"])
def test_a_materialized_view_is_refused(used, kind):
    """It has no row that came since it was refreshed."""
    before = used.made.contents()
    used.run("CREATE MATERIALIZED VIEW known AS SELECT id FROM faces WHERE id > 2")
    used.run("CREATE VIEW shown AS SELECT id FROM known")
    used.run("GRANT SELECT ON known, shown TO PUBLIC")
    with pytest.raises(RowsError, match="reads the materialized view known"):
        SELECTING[kind](used, "SELECT id FROM shown")
    assert used.made.contents() == before
