"""All ids of what a fix finds and takes, in a file and read again; and an asset that is not there is reported."""

from __future__ import annotations

import json
import os
import stat
from datetime import datetime
from pathlib import Path

import pytest
from sqlalchemy import create_engine, text
from tests.harness import ADD, CREATE, audit, nightly_but
from tests.scenarios.app_sql import FACES, App, application
from tests.scenarios.cli import call

from qmigrate import fix as program
from qmigrate import op
from qmigrate.commands import export, fix, upgrade
from qmigrate.commands import rollback as back
from qmigrate.engine.fixes import edit
from qmigrate.errors import (
    ArchiveError,
    NotFoundError,
    PlanError,
    PointsNotFoundError,
    QmigrateError,
    RefusedError,
    RepairNeededError,
    UnavailableError,
)

IDS = "SELECT id FROM faces"


@pytest.fixture
def app(deployment, app_url) -> App:
    """Local mode with SQLite, a server with PostgreSQL: 60 points; the rows 1 to 25 are gone."""
    deployment.extra["fixes"] = {"max_share": 1, "presets": {}}
    made = application(deployment, app_url)
    made.run("DELETE FROM faces WHERE id <= 25")
    return made


def lines(path) -> list:
    """The JSON values of a file of ids, which only its owner can read."""
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o600
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_ids_of_all_points_go_into_a_file(app, tmp_path):
    """--ids-to has every id, not a sample: of a look, of a first look, of what is deleted, of a sync."""
    root, name, file = app.made.root, app.made.name, tmp_path / "out" / "ids"
    strays = ["fix", "orphans", name, "--sql", IDS, "--ids-to", str(file)]
    assert (call(root, *strays, "--check").code, lines(file)) == (4, list(range(1, 26)))
    file.unlink()
    assert (call(root, *strays, "--reason", "r", "--yes", "--expect", "25", "--no-wait").code, lines(file)) == (12, list(range(1, 26)))
    file.unlink()
    done = call(root, *strays, "--reason", "r", "--yes", "--expect", "25", "--grace", "0s")
    assert (done.code, lines(file)) == (0, list(range(1, 26))), done.text
    words = ["fix", "delete", name, "--filter", '{"must": [{"key": "score", "range": {"gte": 50}}]}', "--reason", "r"]
    shown = call(root, *words, "--dry-run", "--ids-to", "some ids")
    assert (shown.code, lines(root / "some ids")) == (0, list(range(50, 61))), shown.text
    assert program.delete_points(name, ids=[60], reason="r", ids_to=file, settings=app.made.settings()).changed == 1
    assert lines(file) == [60]
    app.run("UPDATE faces SET person = 'p9' WHERE id = 30")
    program.sync_payload(name, sql=FACES, fields=["person"], ids_to=file, settings=app.made.settings())
    assert lines(file) == [30]
    program.check_orphans(name, sql=IDS + " WHERE id < 59", ids_to=file, settings=app.made.settings())
    assert lines(file) == [59]


def test_what_is_left_alone_is_not_in_the_file(app, tmp_path, monkeypatch):
    """Only what was really deleted: a point that another client changes in between stays, and its id is not listed."""
    original = edit._change

    def meanwhile(work, step, fixing, hand, entries):
        point = app.made.store() if "url" in app.made.qdrant else work.store
        point.overwrite_payload(app.made.name, 27, {"score": 99.0})
        if point is not work.store:
            point.close()
        return original(work, step, fixing, hand, entries)

    monkeypatch.setattr(edit, "_change", meanwhile)
    wanted = op.DeletePoints(app.made.name, sql=IDS + " WHERE id < 30", reason="r")
    (done,) = fix.fix(app.made.settings(), wanted, narrow=fix.Narrow(ids_to=str(tmp_path / "ids"))).done
    assert (done.changed, done.changed_meanwhile, lines(tmp_path / "ids")) == (3, 1, [26, 28, 29])


def test_a_file_that_can_not_be_written_refuses_beforehand(app, tmp_path):
    """A folder in its place, or several collections for one file: nothing is deleted."""
    before = app.payloads()
    (tmp_path / "folder").mkdir()
    with pytest.raises(UnavailableError, match="folder can't be written"):
        program.delete_points(app.made.name, ids=[30], reason="r", ids_to=tmp_path / "folder", settings=app.made.settings())
    assert app.payloads() == before
    call(app.made.root, "abort", app.made.name, "--yes")
    made = app.made
    made.revise("0002", CREATE.replace("{name}", "{name}_b"))
    upgrade.upgrade(made.settings())
    for narrow in (fix.Narrow(ids_to=str(tmp_path / "ids")), fix.Narrow(missing_to=str(tmp_path / "ids"))):
        wanted = op.DeleteOrphans(f"{made.name}*", sql=IDS, reason="r", grace=0)
        for run in (fix.review, fix.fix):
            with pytest.raises(PlanError, match="one file can't hold the ids of several collections"):
                run(made.settings(), wanted, narrow=narrow)
    assert not (tmp_path / "ids").exists()


def test_a_file_that_can_not_be_written_any_more_stops_nothing(app, tmp_path, monkeypatch):
    """Another host that continues has no such folder: the fix is done nevertheless, and the ledger has the ids."""
    original, calls = edit.write_ids, []

    def lost(path, entries):
        calls.append(path)
        if len(calls) > 1:
            raise UnavailableError(f"{path} can't be written: gone")
        return original(path, entries)

    monkeypatch.setattr(edit, "write_ids", lost)
    done = call(app.made.root, "fix", "delete", app.made.name, "--id", "30", "--reason", "r", "--yes", "--expect", "1", "--ids-to", str(tmp_path / "ids"))
    assert (done.code, len(calls), "qmigrate export show has them" in done.err) == (0, 2, True), done.text
    assert call(app.made.root, "export", "show", "1", "--ids", "-q").out == '{"id":30}\n'


def test_an_export_is_read(app):
    """By its file or by the number of the fix: points with payload, vectors on request, ids alone, the first ones."""
    root, settings = app.made.root, app.made.settings()
    before = app.made.contents()
    done = program.delete_points(app.made.name, ids=[31, 30, 32], reason="why", settings=settings).done[0]
    file = audit(app.made)[0].facts["file"]
    for what in (file, str(done.log)):
        said = call(root, "export", "show", what)
        assert said.code == 0, said.text
        points = [json.loads(line) for line in said.out.splitlines()]
        assert [(one["id"], one["payload"]) for one in points] == [(one, before[one][0]) for one in (30, 31, 32)]
        assert "3 points" in said.err
    assert call(root, "export", "show", file, "--ids", "--limit", "2", "-q").text == '{"id":30}\n{"id":31}\n'
    found = call(root, "export", "show", str(done.log), "--vectors", "--json").json["data"]
    assert (found["log"], found["reason"], found["points"], found["kind"]) == (done.log, "why", 3, "ASSET")
    assert [round(one, 5) for one in found["entries"][0]["vectors"]["a"]] == before[30][1]["a"]
    damaged = app.made.root / "damaged.jsonl.zst"
    damaged.write_bytes(Path(file).read_bytes()[:-20])
    assert call(root, "export", "show", str(damaged)).code == 10
    with pytest.raises(ArchiveError), export.show(settings, damaged):
        pass


def test_ids_of_what_was_not_exported_are_kept(app, tmp_path):
    """--no-export keeps no point, and yet every id; so do syncs their values; an erasure nothing."""
    settings, name = app.made.settings(), app.made.name
    done = call(app.made.root, "fix", "orphans", name, "--sql", IDS, "--reason", "r", "--grace", "0s", "--yes", "--expect", "25", "--no-export")
    assert done.code == 0, done.text
    said = call(app.made.root, "export", "show", "1")
    assert [json.loads(line)["id"] for line in said.out.splitlines()] == list(range(1, 26))
    app.run("UPDATE faces SET person = 'p9' WHERE id = 30")
    program.sync_payload(name, sql=FACES, fields=["person"], settings=settings)
    with export.show(settings, 2) as found:
        assert (found.source, list(found.entries)) == ("ledger", [{"id": 30, "before": {"person": "p0"}, "after": {"person": "p9"}}])
    program.delete_points(name, ids=[40], reason="r", erase=True, expect=1, settings=settings)
    with pytest.raises(RefusedError, match="has kept no ids"), export.show(settings, 3):
        pass
    with pytest.raises(NotFoundError), export.show(settings, tmp_path / "nothing"):
        pass
    # The number of no fix is the same mistake for every verb.
    said = [call(app.made.root, *verb, "99") for verb in (("export", "show"), ("fix", "undo"))]
    assert (said[0].code, said[0].err) == (said[1].code, said[1].err) == (2, said[1].err)
    # A file that is gone leaves the ids.
    gone = program.delete_points(name, ids=[41, 42], reason="r", settings=settings).done[0]
    Path(audit(app.made)[0].facts["file"]).unlink()
    with export.show(settings, int(gone.log), ids=True) as found:
        assert [one["id"] for one in found.entries] == [41, 42]


#: A deletion of an asset that is not there, and as a condition of the application's own.
NOT_THERE = [
    ("--id", "999"),
    ("--id", "999", "--soft"),
    ("--id", "30", "--filter", '{"must": [{"key": "person", "match": {"value": "nobody"}}]}'),
    ("--filter", '{"must": [{"key": "person", "match": {"value": "nobody"}}]}', "--type", "ASSET"),
]


@pytest.mark.parametrize("words", NOT_THERE, ids=lambda one: " ".join(one)[:30])
def test_an_asset_that_is_not_there_says_so(app, words):
    """Exit 10 with a code of its own in JSON, whether it is a preview or not; what was asked for is recorded with 0."""
    for more in (["--dry-run"], ["--yes", "--expect", "0"], ["--yes", "--max-share", "0.5"], []):
        said = call(app.made.root, "fix", "delete", app.made.name, *words, "--reason", "r", *more, "--json")
        assert said.code == 10, said.text
        assert (said.json["error"]["code"], said.json["error"]["type"]) == ("not_found", "PointsNotFoundError")
    assert {row.count for row in audit(app.made)} == {0}
    with pytest.raises(PointsNotFoundError, match="999"):
        program.delete_points(app.made.name, ids=[999], reason="r", settings=app.made.settings())


def test_an_asset_of_another_type_says_so(app):
    """A number that is compared with texts finds nothing, and the error names the field and what it holds."""
    words = ["--filter", '{"must": [{"key": "person", "match": {"value": 7}}]}', "--type", "ASSET", "--reason", "r"]
    for more in (["--dry-run"], ["--yes", "--expect", "0"]):
        said = call(app.made.root, "fix", "delete", app.made.name, *words, *more)
        assert said.code == 10, said.text
        assert "`person` holds texts, and is compared with the number 7" in said.err


def test_what_kept_nothing_offers_no_undo(app):
    """The undo is named after a deletion that was exported, not after one with --no-export; nothing found prints no line."""
    words = ["fix", "delete", app.made.name, "--reason", "r", "--yes", "--expect", "1", "--id"]
    kept, gone = call(app.made.root, *words, "40"), call(app.made.root, *words, "41", "--no-export")
    assert (kept.code, "Undo it: qmigrate fix undo 1" in kept.out) == (0, True)
    assert (gone.code, "Undo it" in gone.out) == (0, False)
    assert "found" not in kept.out + gone.out
    assert call(app.made.root, "fix", "undo", "2", "--yes").code == 10


def test_other_deletions_of_nothing_are_done(app):
    """What selects a set may select none of it; one id of several that is there is enough; marked ones are there."""
    none = '{"must": [{"key": "person", "match": {"value": "nobody"}}]}'
    words = ["fix", "delete", app.made.name, "--reason", "r", "--yes", "--max-share", "1"]
    assert call(app.made.root, *words, "--filter", none).code == 0
    assert call(app.made.root, *words, "--id", "30", "--id", "999").code == 0
    assert [call(app.made.root, *words, "--id", "31", "--soft").code for _ in range(2)] == [0, 0]
    other = call(app.made.root, *words[:-2], "--filter", none, "--expect", "3", "--json")
    assert (other.code, "code" in other.json["error"]) == (10, False)


def test_a_deletion_that_was_interrupted_is_found(app, monkeypatch):
    """Run again after a kill it is finished; that its points are gone by then is no "not found"."""
    original = edit._change

    def broken(work, *given):
        original(work, *given)
        raise RefusedError("stopped here")

    monkeypatch.setattr(edit, "_change", broken)
    wanted = op.DeletePoints(app.made.name, ids=[30, 31], reason="r", max_share=0.5)
    with pytest.raises(RefusedError, match="stopped here"):
        fix.fix(app.made.settings(), wanted)
    monkeypatch.undo()
    assert fix.fix(app.made.settings(), wanted).changed == 2


class Killed(BaseException):
    """Stands for SIGKILL: it can't be caught."""


@pytest.mark.parametrize("deployment", ["local"], indirect=True)
@pytest.mark.parametrize("after", [0, 1])
def test_no_point_goes_that_is_in_no_file(app, monkeypatch, after):
    """A deletion continues where its export is not: exported again, once nothing is lost or a person has said so."""
    original, calls, settings = edit._change, [], app.made.settings()
    monkeypatch.setattr(edit, "_portions", lambda stored, _: ([one] for some in stored for one in some))

    def killed(*given):
        if len(calls) == after:
            raise Killed
        calls.append(1)
        return original(*given)

    wanted = op.DeletePoints(app.made.name, ids=[1, 2, 3], reason="r")
    with monkeypatch.context() as first:
        first.setattr(edit, "_change", killed)
        with pytest.raises(Killed):
            fix.fix(settings, wanted)
    (file,) = settings.fixes.exports.glob("*")
    file.unlink()
    if after:
        with pytest.raises(RepairNeededError, match="1 of the points .* are gone") as caught:
            fix.fix(settings, wanted)
        assert ("touch" in str(caught.value.hint), {2, 3} <= set(app.payloads())) == (True, True)
        file.touch()
    done = fix.fix(settings, wanted).done[0]
    assert (done.changed, {1, 2, 3} & set(app.payloads())) == (3, set())
    assert audit(app.made)[-1].facts.get("lost", 0) == after
    assert fix.undo(settings, done.log).changed == 3 - after
    assert {1, 2, 3} & set(app.payloads()) == ({2, 3} if after else {1, 2, 3})


@pytest.mark.parametrize("deployment", ["local"], indirect=True)
def test_an_undo_whose_file_is_lost_can_be_ended(app, monkeypatch):
    """It was interrupted on a host that is gone, with the file: nothing could finish it, so an abort ends it."""
    settings = app.made.settings()
    (done,) = fix.fix(settings, op.DeletePoints(app.made.name, ids=[1, 2, 3], reason="r")).done
    original, calls = edit._change, []
    monkeypatch.setattr(edit, "_portions", lambda stored, _: ([one] for some in stored for one in some))

    def killed(*given):
        if calls:
            raise Killed
        calls.append(1)
        return original(*given)

    with monkeypatch.context() as first:
        first.setattr(edit, "_change", killed)
        with pytest.raises(Killed):
            fix.undo(settings, done.log)
    (file,) = settings.fixes.exports.glob("*")
    kept = file.read_bytes()
    file.unlink()
    with pytest.raises(QmigrateError):
        fix.fix(settings, op.DeletePoints(app.made.name, ids=[9], reason="r"))
    back.abort(settings, app.made.name)
    assert {1, 2, 3} & set(app.payloads()) == {1}
    assert fix.fix(settings, op.DeletePoints(app.made.name, ids=[9], reason="r")).changed == 1
    file.write_bytes(kept)
    assert fix.undo(settings, done.log).done[0].counts["there"] == 1
    assert {1, 2, 3} <= set(app.payloads())


#: What an application may write into the audit, which is a table of its own: metadata, and when.
ROWS = [
    ('"{\\"session\\": 1}"', "2026-11-30 00:00:00"),
    ("[1, 2]", "2026-11-30 00:00:00"),
    ('{"run": 5}', "2026-11-30T00:00:00"),
    ('{"run": "x", "step": 1}', "2026-11-30T00:00:00+00:00"),
    ("null", "2026-11-30 00:00:00.25"),
    ("session 5", "2026-11-30 00:00:00"),
    # Keys that rows of ours have too, with something else in them.
    ('{"rows": 3, "counts": 5, "ids": [1, 2], "kept": true}', "2026-11-30 00:00:00"),
    ('{"held_until": "for good", "not_changed": 2, "fixes": ["a"]}', "2026-11-30 00:00:00"),
    ('{"archive": 5, "revisions": 5, "purges": 3, "emptied": 5, "undoes": "all"}', "2026-11-30 00:00:00"),
    ('{"archive": 5, "file": 5, "flag": 5, "undo": 5}', "2026-11-30 00:00:00"),
]


@pytest.mark.parametrize(("metadata", "at"), nightly_but(ROWS, ROWS[-2:]))
def test_rows_that_the_application_has_written_into_the_audit_stop_nobody(deployment, metadata, at):
    """It shares the table: what it has written there is shown, and every verb that reads it goes on."""
    deployment.extra["fixes"] = {"max_share": 1.0}
    deployment.__post_init__()
    deployment.revise("0001", CREATE)
    upgrade.upgrade(deployment.settings())
    deployment.load(12, uuids=False)
    url = deployment.settings().ledger.url
    if not url.startswith("sqlite") and metadata == "session 5":
        pytest.skip("PostgreSQL takes no such thing for JSON")
    engine = create_engine(url)
    columns = "deletion_type, deletion_target, vector_count, metadata, created_at, collection"
    as_json = ":said" if url.startswith("sqlite") else "CAST(:said AS jsonb)"
    for name in (None, deployment.name):
        with engine.begin() as connection:
            row = f"INSERT INTO vector_deletion_logs ({columns}) VALUES ('SESSION', '5', 3, {as_json}, :at, :name)"  # noqa: S608
            when = at if url.startswith("sqlite") else datetime.fromisoformat(at)
            connection.execute(text(row), {"said": metadata, "at": when, "name": name})
    engine.dispose()
    deployment.revise("0002", ADD)
    words = ["fix", "delete", deployment.name, "--reason", "r", "--yes", "--expect", "1", "--id"]
    verbs = [["upgrade"], [*words, "4"], ["fix", "undo", "3", "--yes"], [*words, "4"], ["rollback", "0001"]]
    verbs += [[*words, "5", "--erase"], ["gc", deployment.name, "--now", "--yes"], ["history", "--deletions", "--json"]]
    done = [call(deployment.root, *verb) for verb in verbs]
    assert [one.code for one in done] == [0] * len(verbs), [one.text for one in done if one.code]
    rows = done[-1].json["data"]["rows"]
    assert [row["kind"] for row in rows] == ["ERASURE", "ASSET", "UNDO", "ASSET", "SESSION", "SESSION"]
