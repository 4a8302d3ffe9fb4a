"""Who acts, and what the caller gives with it: in every record that names a user, whichever door it came through."""

from __future__ import annotations

import json

import pytest
from sqlalchemy import create_engine, inspect, select, text
from tests.harness import CREATE, audit
from tests.scenarios.cli import call

from qmigrate import fix as program
from qmigrate.commands import repair, snapshot, upgrade
from qmigrate.errors import ConfigError
from qmigrate.ledger import Ledger, schema, tables
from qmigrate.ledger.fence import system_user
from qmigrate.settings.load import Settings

KIM = "kim@example.org"


@pytest.fixture
def made(deployment):
    """Twelve points under one revision."""
    deployment.revise("0001", CREATE)
    upgrade.upgrade(deployment.settings())
    deployment.load(12, uuids=False)
    return deployment


def records(made) -> dict[str, set]:
    """Table -> every person named in a row of this collection, or of no collection."""
    ledger, found = Ledger.open(made.settings().ledger.url), {}
    with ledger.database.reading() as connection:
        for table in tables.metadata.sorted_tables:
            for name in ("actor", "owner", "unlocked_by"):
                if name not in table.c:
                    continue
                own = next((table.c[one] for one in ("collection", "name") if one in table.c), None)
                query = select(table.c[name]).where(table.c[name].is_not(None))
                rows = connection.scalars(query if own is None else query.where(own == made.name))
                found[f"{table.name}.{name}"] = set(rows)
    ledger.close()
    return found


def test_every_record_names_the_actor(made):
    """Runs, history, audit, erasures, leases, accepted files, ended leases: all say who it was, and of what system user."""
    before = records(made)
    assert before["qdrant_migration_history.actor"] == {system_user()}
    settings = made.settings().acting(KIM)
    upgrade.upgrade(settings, only=[made.name])
    program.delete_points(made.name, ids=[1], reason="r", actor=KIM, max_share=1, settings=made.settings())
    program.delete_points(made.name, ids=[2], reason="r", actor=KIM, erase=True, expect=1, settings=made.settings())
    path = made.root / "qdrant_migrations" / "versions" / "0001_rev.py"
    path.write_text(path.read_text() + "\n# other words\n")
    repair.accept(settings, "0001", "only words")
    after = records(made)
    for name in ("runs", "history", "erasures"):
        key = next(one for one in after if one.endswith(f"{name}.actor"))
        assert after[key] - before[key] == {KIM}, name
    assert after["vector_deletion_logs.actor"] == {KIM}
    assert KIM in after["qdrant_accepted_checksums.actor"]
    (owner,) = after["qdrant_migration_leases.owner"]
    assert owner.startswith(f"{KIM} ({system_user()}, process ")
    ledger = Ledger.open(settings.ledger.url)
    with ledger.hold(made.name, timeout=5):
        repair.unlock(settings, made.name)
        assert KIM in records(made)["qdrant_migration_leases.unlocked_by"]
    ledger.close()
    snapshot.create(settings, made.name, archived=True)


@pytest.mark.parametrize("door", ["flag", "flag before", "variable", "both"])
def test_the_command_line_and_the_environment_name_the_actor(made, door):
    """--actor before or behind the verb, else QMIGRATE_ACTOR; the flag wins; history shows it and filters by it."""
    words = ["fix", "delete", made.name, "--id", "1", "--reason", "r", "--yes", "--max-share", "1"]
    flags = {"flag": [*words, "--actor", KIM], "flag before": ["--actor", KIM, *words], "both": [*words, "--actor", KIM]}
    env = {"QMIGRATE_ACTOR": KIM if door == "variable" else "another user"} if door in ("variable", "both") else {}
    done = call(made.root, *flags.get(door, words), env=env)
    assert done.code == 0, done.text
    (row,) = audit(made)
    assert row.actor == KIM
    shown = call(made.root, "history", "--deletions", "--actor", "kim@*", "--json")
    assert [one["actor"] for one in shown.json["data"]["rows"]] == [KIM]
    assert call(made.root, "history", "--deletions", "--actor", "nobody", "--json").json["data"]["rows"] == []
    assert KIM in call(made.root, "history", "--json").out


@pytest.mark.parametrize("name", ["", "  ", "a\nb", "x" * 300])
def test_a_name_that_names_nobody_is_refused(made, name):
    """An empty variable (a missing secret) or one with control characters is exit 2, and nothing is recorded."""
    words = ["fix", "delete", made.name, "--id", "1", "--reason", "r", "--yes", "--max-share", "1"]
    empty = "QMIGRATE_ACTOR is set, but empty" if not name.strip() else "must name who acts"
    for more, env, why in ((["--actor", name], {}, "must name who acts"), ([], {"QMIGRATE_ACTOR": name}, empty)):
        said = call(made.root, *words, *more, env=env)
        assert (said.code, why in said.err) == (2, True), said.text
    with pytest.raises(ConfigError, match="must name who acts"):
        program.delete_points(made.name, ids=[1], reason="r", actor=name, settings=made.settings())
    assert audit(made) == []


def test_facts_of_the_caller_stand_in_the_audit(made):
    """Each fix records them, whatever kind it is; none can be taken for a fact of ours; SQL finds them."""
    settings, name = made.settings(), made.name
    own = {"ticket": "OPS-7", "undoes": 1, "file": "/etc/passwd", "nested": {"ids": [1, 2]}}
    done = program.delete_points(name, ids=[1, 2], reason="r", max_share=1, metadata=own, settings=settings).done[0]
    program.undo(done.log, metadata={"ticket": "OPS-8"}, settings=settings)
    program.delete_points(name, ids=[3], reason="r", erase=True, expect=1, metadata={"ticket": "OPS-9"}, settings=settings)
    program.reset(name, reason="r", expect=11, confirm="DELETE ALL VECTORS", metadata={"ticket": "OPS-10"}, settings=settings)
    rows = call(made.root, "history", "--deletions", "--json").json["data"]["rows"]
    assert [one["metadata"].get("ticket") for one in rows] == ["OPS-10", "OPS-9", "OPS-8", "OPS-7"]
    assert rows[-1]["metadata"] == own
    assert (rows[-1]["undone_by"], rows[-1]["facts"]["run"]) == (rows[-2]["id"], audit(made)[-1].facts["run"])
    engine = create_engine(settings.ledger.url)
    with engine.connect() as connection:
        stored = connection.execute(text("SELECT metadata FROM vector_deletion_logs ORDER BY id")).scalars().first()
    engine.dispose()
    assert (stored if isinstance(stored, dict) else json.loads(stored))["own"]["ticket"] == "OPS-7"


def test_facts_on_the_command_line(made):
    """--metadata KEY=VALUE may be repeated, before and behind the verb; a slip is exit 2 and deletes nothing."""
    words = ["fix", "delete", made.name, "--id", "1", "--reason", "r", "--yes", "--max-share", "1"]
    for wrong in ("ticket", "=x"):
        assert call(made.root, *words, "--metadata", wrong).code == 2
    done = call(made.root, "--metadata", "by=cron", *words, "--metadata", "ticket=a=b", "--metadata", "n=7")
    assert done.code == 0, done.text
    (row,) = audit(made)
    assert row.facts["own"] == {"by": "cron", "ticket": "a=b", "n": "7"}
    for wrong in ({"at": object()}, {"x": float("nan")}, {"long": "x" * 70_000}, {1: "x"}):
        with pytest.raises(ConfigError, match="metadata must"):
            program.delete_points(made.name, ids=[2], reason="r", metadata=wrong, settings=made.settings())


def test_an_older_ledger_gets_the_place_for_them(made):
    """An earlier ledger takes an actor and facts after the next writing verb, and keeps its rows."""
    url = made.settings().ledger.url
    engine = create_engine(url)
    with engine.begin() as connection:
        connection.execute(text("ALTER TABLE qdrant_migration_runs DROP COLUMN metadata"))
        connection.execute(text("UPDATE qdrant_ledger_version SET version_num = '0004'"))
        before = connection.execute(text("SELECT count(*) FROM qdrant_migration_runs")).scalar()
    program.delete_points(made.name, ids=[1], reason="r", max_share=1, metadata={"a": 1}, settings=made.settings())
    with engine.connect() as connection:
        assert connection.execute(text("SELECT count(*) FROM qdrant_migration_runs")).scalar() == before + 1
        assert connection.execute(text("SELECT version_num FROM qdrant_ledger_version")).scalar() == schema.HEAD
    assert "metadata" in {one["name"] for one in inspect(engine).get_columns("qdrant_migration_runs")}
    engine.dispose()
    assert audit(made)[0].facts["own"] == {"a": 1}


def test_settings_are_loaded_with_an_actor(tmp_path, monkeypatch):
    """In a program: Settings.load(actor=…), the variable, and acting() for one request of many."""
    monkeypatch.chdir(tmp_path)
    assert Settings.load(environ={}).actor is None
    assert Settings.load(environ={"QMIGRATE_ACTOR": "a"}).actor == "a"
    assert Settings.load(actor="b", environ={"QMIGRATE_ACTOR": "a"}).actor == "b"
    one = Settings.load(environ={"QMIGRATE_ACTOR": "a"}).acting("c", {"n": 1})
    assert (one.actor, one.metadata, one.acting().actor) == ("c", {"n": 1}, "c")
    (tmp_path / "qmigrate.yaml").write_text("actor: me\n")
    with pytest.raises(ConfigError, match="unknown key"):
        Settings.load(environ={})
