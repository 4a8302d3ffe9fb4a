"""Retraining: points are deleted and the rows that they came from marked, together where one transaction can do both."""

from __future__ import annotations

import importlib
import uuid
from datetime import UTC, datetime, timedelta
from pathlib import Path

import click
import pytest
from sqlalchemy import create_engine, text
from tests.conftest_postgres import fresh_database
from tests.harness import CREATE, Deployment, audit, make_point, write
from tests.scenarios.cli import call, left

from qmigrate import fix as program
from qmigrate.cli.shell import Shell
from qmigrate.commands import fix, retrain, upgrade
from qmigrate.commands.presets import marking, preset
from qmigrate.errors import ConfigError, LedgerError, QmigrateError, RefusedError, RowsError, UsageError
from qmigrate.ledger import Lease
from qmigrate.model import statement
from qmigrate.rows import Marks, Query, Rows
from qmigrate.settings.load import Settings

ROOT = Path(__file__).parents[2]

#: Points and rows per folder; a folder lies in another one.
FOLDERS = {"/photos/2024": 4, "/photos/2024/sub": 2, "/photos/2024-old": 3, "/photos/it's %_": 2, "/photos/2025": 5}
BELOW = "(path = :value OR substr(path, 1, length(:value) + 1) = :value || '/')"
MARKS = [
    f"UPDATE image_assets SET embedding_checksum = NULL, indexed_at = NULL WHERE {BELOW}",  # noqa: S608
    "UPDATE training_sessions SET status = 'RESET', reset_at = :now, reset_reason = :reason WHERE directory_path = :value",
]
TABLES = [
    "CREATE TABLE image_assets (id BIGINT PRIMARY KEY, path TEXT, embedding_checksum TEXT, indexed_at TIMESTAMP)",
    "CREATE TABLE training_sessions (id BIGINT PRIMARY KEY, directory_path TEXT, status TEXT, reset_at {zoned}, reset_reason TEXT)",
    "CREATE TABLE retrain_queue (value TEXT, reason TEXT, requested_at {zoned})",
]


class App:
    """The application's database, next to a deployment."""

    def __init__(self, made: Deployment, url: str) -> None:
        self.made, self.url = made, url

    def run(self, sql: str, rows=None) -> list:
        """One statement."""
        engine = create_engine(self.url)
        try:
            with engine.begin() as connection:
                result = connection.execute(text(sql), rows) if rows else connection.execute(text(sql))
                return [tuple(row) for row in result] if result.returns_rows else []
        finally:
            engine.dispose()

    def marked(self) -> set:
        """Rows that wait to be trained."""
        return {row[0] for row in self.run("SELECT path FROM image_assets WHERE embedding_checksum IS NULL")}

    def sessions(self) -> dict:
        """Folder -> status and reason."""
        return {row[0]: row[1:] for row in self.run("SELECT directory_path, status, reset_reason FROM training_sessions")}

    def queue(self) -> list:
        """What was asked for, by value."""
        return self.run("SELECT value, reason FROM retrain_queue ORDER BY value")

    def audit(self) -> list:
        """What the audit holds, oldest first."""
        return audit(self.made)[::-1]

    def paths(self) -> set:
        """Paths of the points."""
        return {payload["path"] for payload, _ in self.made.contents().values()}


@pytest.fixture
def app(deployment: Deployment, request, tmp_path):
    """Two SQLite files with local mode; with a server one PostgreSQL that has both the ledger and the application."""

    def prepared(url: str) -> App:
        preset = {"collection": deployment.name, "prefix": ":value", "type": "DIRECTORY", "mark": MARKS, "queue": "retrain_queue"}
        deployment.extra.update(databases={"app": {"url": url}}, fixes={"max_share": 0.6, "presets": {"folder": preset}})
        deployment.__post_init__()
        deployment.revise("0001", CREATE)
        upgrade.upgrade(deployment.settings())
        made = App(deployment, url)
        for table in TABLES:
            made.run(table.format(zoned="TIMESTAMP" if "sqlite" in url else "TIMESTAMPTZ"))
        points = []
        for folder, count in FOLDERS.items():
            points += [(folder, f"{folder}/{number}.jpg") for number in range(count)]
        store = deployment.store()
        found = [make_point(number) for number in range(len(points))]
        for point, (_, path) in zip(found, points, strict=True):
            point.payload["path"] = path
        write(store, deployment.name, found)
        store.close()
        rows = [{"id": point.id, "path": path} for point, (_, path) in zip(found, points, strict=True)]
        made.run("INSERT INTO image_assets VALUES (:id, :path, 'sum', '2026-01-01 00:00:00')", rows)
        made.run(
            "INSERT INTO training_sessions VALUES (:id, :path, 'completed', NULL, NULL)",
            [{"id": number, "path": folder} for number, folder in enumerate(FOLDERS)],
        )
        return made

    if "url" not in deployment.qdrant:
        sqlite = tmp_path / "app.db"
        sqlite.touch()
        yield prepared(f"sqlite:///{sqlite}")
        return
    with fresh_database(request.getfixturevalue("postgres_url")) as url:
        deployment.ledger_url = url
        yield prepared(url)


def below(*folders: str) -> set:
    """Paths of the points in some folders, those inside them too."""
    every = {f"{folder}/{number}.jpg" for folder, count in FOLDERS.items() for number in range(count)}
    return {path for path in every if any(path.startswith(f"{folder}/") for folder in folders)}


#: How a list of folders is written, and what comes of it: points, or the message.
WRITTEN = [
    (b"\xef\xbb\xbf/photos/2024\r\n/photos/it's %_\r\n", 0, "8 points would be deleted"),
    ("/photos/2024\n".encode("utf-16"), 2, "--from-file"),
    (None, 2, "does not exist"),
]


@pytest.mark.parametrize(("written", "code", "words"), WRITTEN, ids=["marked", "utf-16", "absent"])
def test_a_list_is_read_as_editors_write_it(app, tmp_path, written, code, words):
    """The mark that Windows puts before UTF-8 is not of the first folder; another encoding is refused."""
    listed = tmp_path / "folders.txt"
    if written is not None:
        listed.write_bytes(written)
    said = call(app.made.root, "fix", "retrain", "--preset", "folder", "--reason", "r", "--from-file", str(listed), "--dry-run")
    assert (said.code, words in said.text, "unexpected" in said.text) == (code, True, False), said.text


def test_other_files_of_people_may_have_that_mark(app, tmp_path):
    """Settings, a query and a URL that an editor of Windows has saved."""
    (tmp_path / "url.txt").write_bytes(b"\xef\xbb\xbf" + app.url.encode() + b"\r\n")
    (tmp_path / "ids.sql").write_bytes(b"\xef\xbb\xbfSELECT 7777 AS id, 'x' AS path\r\n")
    app.made.extra["databases"] = {"app": {"url_file": str(tmp_path / "url.txt")}}
    app.made.__post_init__()
    app.made.config.write_bytes(b"\xef\xbb\xbf" + app.made.config.read_bytes())
    how = ("--sql-file", str(tmp_path / "ids.sql"), "--field", "path", "--check", "--expect", "0")
    said = call(app.made.root, "fix", "sync", app.made.name, *how)
    assert (said.code, "the query on app returned 1 row" in said.text) == (0, True), said.text


def test_points_go_and_their_rows_are_marked(app, tmp_path):
    """Each value by itself: counted once, deleted, its rows marked and asked for, one row in the audit; undone by points."""
    before, everything = app.made.contents(), app.paths()
    words = ["fix", "retrain", "--preset", "folder", "--reason", "new model"]
    listed = tmp_path / "folders.txt"
    # As editors of Windows write it.
    listed.write_text("\ufeff/photos/2024/sub\n\n/photos/it's %_\n", encoding="utf-8")
    both = ["--value", "/photos/2024", "--from-file", str(listed)]
    shown = call(app.made.root, *words, *both, "--dry-run")
    assert (shown.code, "8 points would be deleted" in shown.out, "retrain_queue" in shown.out) == (0, True, True), shown.text
    found = call(app.made.root, *words, *both, "--dry-run", "--json").json["data"]
    assert [preview["changes"] for preview in found["previews"]] == [6, 0, 2]
    for more, code in ((["--yes"], 10), ([], 10), (["--yes", "--expect", "9"], 10), (["--yes", "--max-share", "0.3"], 10)):
        assert call(app.made.root, *words, *both, *more).code == code, more
    assert (app.made.contents(), app.marked(), app.queue(), app.audit()) == (before, set(), [], [])
    done = call(app.made.root, *words, *both, "--yes", "--expect", "8")
    assert (done.code, "8 points deleted, 3 values" in done.out) == (0, True), done.text
    gone = below("/photos/2024", "/photos/it's %_")
    assert (app.paths(), app.marked()) == (everything - gone, gone)
    reset = {"/photos/2024", "/photos/2024/sub", "/photos/it's %_"}
    assert app.sessions() == {one: ("RESET", "new model") if one in reset else ("completed", None) for one in FOLDERS}
    assert app.queue() == [(one, "new model") for one in sorted(reset)]
    assert [(row.kind, row.count, row.facts["value"], row.facts["marked"]) for row in app.audit()] == [
        ("DIRECTORY", 6, "/photos/2024", [6, 1, 1]),
        ("DIRECTORY", 0, "/photos/2024/sub", [2, 1, 1]),
        ("DIRECTORY", 2, "/photos/it's %_", [2, 1, 1]),
    ]
    ((at,),) = app.run("SELECT reset_at FROM training_sessions WHERE directory_path = '/photos/2024'")
    moment = datetime.fromisoformat(str(at))
    moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    assert abs(moment - app.audit()[0].created_at) < timedelta(hours=1)
    for row in app.audit()[::2]:
        fix.undo(app.made.settings(), row.id)
    assert (app.made.contents(), app.marked()) == (before, gone)
    with pytest.raises(RefusedError, match="kept nothing"):
        fix.undo(app.made.settings(), 2)
    # Deleting by the same preset marks nothing.
    again = call(app.made.root, "fix", "delete", "--preset", "folder", "--value", "/photos/2025", "--reason", "r", "--yes", "--expect", "5")
    assert (again.code, app.sessions()["/photos/2025"][0]) == (0, "completed"), again.text


def test_on_a_terminal_it_is_shown_and_asked_once(app, monkeypatch):
    """What would go and be run stands before the question; after a no nothing is changed, and a yes checks statements no third time."""
    before, tried = app.made.contents(), []
    check = Marks.check
    monkeypatch.setattr(Marks, "check", lambda self: (tried.append(self), check(self)))
    monkeypatch.setattr(Shell, "may_ask", property(lambda self: True))
    words = ["fix", "retrain", "--preset", "folder", "--reason", "r", "--value", "/photos/it's %_", "--value", "/photos/2024"]
    for answer, code in ((False, 10), (True, 0)):
        tried.clear()
        monkeypatch.setattr(click, "confirm", lambda question, err, answer=answer: answer)
        said = call(app.made.root, *words)
        assert (said.code, said.err.count("retrain_queue"), "nothing was changed" in said.err) == (code, 1, not answer), said.text
        assert len(tried) == (4 if answer else 2)
        assert (app.made.contents() == before) is not answer
    assert app.paths().isdisjoint(below("/photos/2024", "/photos/it's %_"))
    assert len(app.audit()) == 2


def test_a_statement_that_does_not_fit_stops_it_before_anything_is_deleted(app):
    """Wrong words in the settings are 2; what the database refuses shows while nothing is deleted yet."""
    before, preset = app.made.contents(), app.made.extra["fixes"]["presets"]["folder"]

    def attempt(**changed):
        app.made.extra["fixes"] = {"presets": {"folder": {**preset, **changed}}}
        app.made.__post_init__()
        return program.retrain("folder", ["/photos/2025"], reason="r", max_share=0.9, settings=app.made.settings())

    for mark, error, said in (
        ("DELETE FROM image_assets", ConfigError, "no WHERE of its own"),
        ("UPDATE image_assets SET path = ''; SELECT 1", ConfigError, "several statements"),
        ("DROP TABLE image_assets", ConfigError, "begins with DROP"),
        ("SELECT 1", ConfigError, "marks no rows"),
        ("UPDATE image_assets SET path = :other WHERE id = 1", UsageError, "a value for other"),
        ("UPDATE image_assets SET pth = :value WHERE id = 1", RowsError, "pth"),
        ("UPDATE nowhere SET path = :value WHERE id = 1", RowsError, "nowhere"),
    ):
        with pytest.raises(error, match=said):
            attempt(mark=mark)
    for changed, error, said in (
        ({"mark": None, "queue": None}, ConfigError, "marks nothing"),
        ({"queue": "no_such_queue"}, RowsError, "no_such_queue"),
        ({"queue": ""}, ConfigError, "must name a table"),
        ({"prefix": "/photos"}, UsageError, "no parameter value"),
        ({"parameters": {"now": "x"}}, ConfigError, "get anyway"),
        ({"collection": "t*"}, UsageError, "several collections"),
    ):
        with pytest.raises(error, match=said):
            attempt(**changed)
    assert (app.made.contents(), app.marked(), app.queue(), app.audit()) == (before, set(), [], [])
    assert left(app.made).open_runs == ()


def test_the_presets_of_the_reference_deployment_fit_its_tables(tmp_path, monkeypatch):
    """Every preset of the project's own settings is one, and its statements and queries name columns that are there."""
    monkeypatch.syspath_prepend(str(ROOT / "alembic"))
    tables = importlib.import_module("image_search_tables")
    engine = create_engine(f"sqlite:///{tmp_path}/app.db")
    tables.metadata.create_all(engine)
    engine.dispose()
    monkeypatch.setenv("QMIGRATE_LEDGER_URL", f"sqlite:///{tmp_path}/app.db")
    settings = Settings.load(config=ROOT / "qmigrate.yaml")
    values = {"folder": "/data/images/2024", "session": 12, "category": 3}
    assert set(settings.fixes.presets) == set(values)
    for name, value in values.items():
        operation = preset(settings, name, {"value": value}, reason="new model")
        operation.check_words()
        if operation.sql is not None:
            query = Query(operation.sql, operation.key, (), operation.parameters)
            rows = Rows(settings.database("app"), query, name="app")
            assert list(rows.ordered()) == []
            rows.close()
        if "mark" in settings.fixes.presets[name]:
            marks = Marks(settings.database("app"), marking(settings, name, {"value": value}))
            assert marks.shares(settings.ledger.url)
            marks.check()
            assert marks.run("new model", datetime.now(UTC), 4) == [0] * len(settings.fixes.presets[name]["mark"])
            marks.close()


def test_a_failure_between_points_and_rows_is_finished_once(app, monkeypatch):
    """Rows and audit come together or, in two databases, rows first; the same command ends it, with one row of each."""
    shared = "url" in app.made.qdrant
    wish = retrain.Wish("folder", ["/photos/2025", "/photos/2024-old"], {}, "again")
    original = Lease.close_step if not shared else Marks.run_in

    def broken(self, *args, **given):
        result = original(self, *args, **given) if shared else None
        if shared or given.get("also") is not None:
            raise LedgerError("the connection was lost")
        return result if shared else original(self, *args, **given)

    with monkeypatch.context() as patched:
        patched.setattr(*((Marks, "run_in", broken) if shared else (Lease, "close_step", broken)))
        with pytest.raises(QmigrateError):
            retrain.retrain(app.made.settings(), wish, expect=8)
    # One transaction: nothing is marked. Two databases: the rows are, and the audit comes with the next attempt.
    assert (app.marked(), len(app.audit())) == (set() if shared else below("/photos/2025"), 0)
    done = retrain.retrain(app.made.settings(), wish, expect=8)
    assert [(one.value, one.deleted) for one in done.values] == [("/photos/2025", 5), ("/photos/2024-old", 3)]
    assert (len(done.resumed), done.deleted) == (1, 8)
    assert app.marked() == below("/photos/2025", "/photos/2024-old")
    assert app.queue() == [("/photos/2024-old", "again"), ("/photos/2025", "again")]
    assert [(row.count, row.facts["marked"]) for row in app.audit()] == [(5, [5, 1, 1]), (3, [3, 1, 1])]
    later = program.retrain("folder", ["/photos/2025"], reason="once more", expect=0, settings=app.made.settings())
    assert (later.deleted, later.values[0].marked) == (0, (5, 1, 1))
    assert len(app.queue()) == 3
    many = [f"/f{number}" for number in range(1001)]
    with pytest.raises(UsageError, match="not 1,001"):
        program.retrain("folder", many, reason="r", settings=app.made.settings())
    assert Path(app.audit()[0].facts["file"]).is_file()


#: A folder as it is typed, or as the application writes it.
WRITTEN = ["/photos/2024", "/photos/2024/", "/photos/2024//"]


@pytest.mark.parametrize("value", WRITTEN)
def test_a_folder_is_one_name_with_and_without_a_slash(app, value):
    """Points and rows are found by the same form of a folder, and the audit has what was given."""
    words = ["fix", "retrain", "--preset", "folder", "--reason", "r", "--value", value]
    done = call(app.made.root, *words, "--yes", "--expect", "6", "--json")
    assert done.code == 0, done.text
    assert app.marked() == below("/photos/2024")
    assert app.sessions()["/photos/2024"][0] == "RESET"
    assert app.queue() == [("/photos/2024", "r")]
    (row,) = app.audit()
    assert (row.target, row.facts["value"], row.count) == (value, value, 6)
    (found,) = done.json["data"]["values"]
    assert (found["value"], found["rows"]) == (value, {"image_assets": 6, "training_sessions": 1, "retrain_queue": 1})


def test_a_folder_that_is_named_twice_is_done_once(app):
    """The same folder with and without a slash is one value: its rows are marked and asked for once."""
    done = program.retrain("folder", WRITTEN, reason="r", expect=6, settings=app.made.settings())
    assert [(one.value, one.deleted) for one in done.values] == [("/photos/2024", 6)]
    assert len(app.queue()) == 1


def test_points_without_a_row_to_mark_are_left(app):
    """Where points would go and no row would be marked, it stops before the first one; on purpose, it is done."""
    app.run("DELETE FROM image_assets WHERE path LIKE '/photos/2025/%'")
    app.run("DELETE FROM training_sessions WHERE directory_path = '/photos/2025'")
    before, rows = app.made.contents(), app.run("SELECT * FROM image_assets ORDER BY id")
    words = ["fix", "retrain", "--preset", "folder", "--reason", "r", "--value", "/photos/2025", "--value", "/photos/2024", "--max-share", "1"]
    refused = call(app.made.root, *words, "--yes", "--expect", "11", "--json")
    assert (refused.code, refused.json["error"]["facts"]) == (10, {"unmarked": {"/photos/2025": 5}}), refused.text
    assert "--allow-unmarked" in refused.json["error"]["hint"]
    now = app.run("SELECT * FROM image_assets ORDER BY id")
    assert (app.made.contents(), now, app.queue(), app.audit()) == (before, rows, [], [])
    assert left(app.made).open_runs == ()
    done = call(app.made.root, *words, "--yes", "--expect", "11", "--allow-unmarked")
    assert done.code == 0, done.text
    assert "image_assets 0, training_sessions 0, retrain_queue 1" in done.out
    assert [row.count for row in app.audit()] == [5, 6]


@pytest.mark.parametrize(
    ("held", "where", "code"),
    [
        (str, "path = :value", 0),
        (str.upper, "path = :value", 10),
        (lambda one: f"{one}    ", "path = :value", 10),
        (str.upper, "lower(path) = :value", 0),
        (lambda one: f"{one.upper()}    ", "lower(trim(path)) = :value", 0),
    ],
)
def test_a_uuid_in_another_case_marks_its_rows_or_deletes_nothing(app, held, where, code):
    """What SQL writes otherwise is not a marked row, so the points stay until the statement has the spelling."""
    asset = str(uuid.uuid5(uuid.NAMESPACE_OID, "asset"))
    preset = {
        "collection": app.made.name,
        "filter": {"must": [{"key": "asset", "match": {"value": ":value"}}]},
        "mark": [f"UPDATE image_assets SET embedding_checksum = NULL WHERE {where}"],  # noqa: S608  our own
        "queue": "retrain_queue",
    }
    app.made.extra["fixes"] = {"max_share": 1, "presets": {"asset": preset}}
    app.made.__post_init__()
    point = make_point(900)
    point.payload.update(asset=asset, path="/asset")
    store = app.made.store()
    write(store, app.made.name, [point])
    store.close()
    app.run("INSERT INTO image_assets VALUES (900, :path, 'sum', '2026-01-01 00:00:00')", [{"path": held(asset)}])
    before = app.made.contents()
    said = call(app.made.root, "fix", "retrain", "--preset", "asset", "--reason", "r", "--value", asset, "--yes", "--expect", "1")
    assert said.code == code, said.text
    assert (point.id in app.made.contents(), held(asset) in app.marked()) == (bool(code), not code)
    if code:
        assert (app.made.contents(), app.queue(), app.audit()) == (before, [], [])


def test_statements_with_a_name_are_shown_by_it(app):
    """A preset can name its statements; else their tables do, distinguished where they are the same."""
    entry = app.made.extra["fixes"]["presets"]["folder"]
    app.made.extra["fixes"]["presets"]["folder"] = {**entry, "mark": {"files": MARKS[0], "sessions": MARKS[1]}}
    app.made.__post_init__()
    done = program.retrain("folder", ["/photos/2025"], reason="r", expect=5, settings=app.made.settings())
    assert done.values[0].rows == {"files": 5, "sessions": 1, "retrain_queue": 1}
    assert done.values[0].marked == (5, 1, 1)


#: A statement, and the table that it changes.
TABLE_NAMES = [
    ("UPDATE image_assets SET a = 1 WHERE b = 2", "image_assets"),
    ('update only "app"."Image Assets" set a = 1 where b = 2', "app.ImageAssets"),
    ("INSERT INTO app.queue (a) SELECT 1", "app.queue"),
    ("WITH some AS (SELECT 1) DELETE FROM rows WHERE a = 1", "rows"),
    ("MERGE INTO t USING s ON t.a = s.a WHEN MATCHED THEN UPDATE SET b = 1", "t"),
    ("-- update other\nUPDATE `t` SET a = 1 WHERE b = 2", "t"),
]


@pytest.mark.parametrize(("sql", "table"), TABLE_NAMES)
def test_a_statement_is_named_by_its_table(sql, table):
    """The table of an UPDATE, INSERT, DELETE or MERGE is the statement's name."""
    assert statement.table_of(sql) == table
#: Further columns of a queue, what a person adds, and what the row holds then.
COLUMNS = [
    ({"category_id": ":category_id", "priority": 5}, ["--param", "category_id=7"], (7, 5, None, None)),
    ({"category_id": ":category_id", "asked_by": ":who"}, ["--param", "category_id=7", "--param", "who=kim"], (7, None, "kim", None)),
    ({"asked_by": "cron", "points": ":deleted"}, [], (None, None, "cron", 3)),
]


@pytest.mark.parametrize(("columns", "more", "row"), COLUMNS, ids=["parameter", "two", "constant"])
def test_a_queue_has_further_columns(app, columns, more, row):
    """What training needs besides the value is in the row of the queue, once, however often it is repeated."""
    for column in ("category_id BIGINT", "priority BIGINT", "asked_by TEXT", "points BIGINT"):
        app.run(f"ALTER TABLE retrain_queue ADD COLUMN {column}")
    app.made.extra["fixes"]["presets"]["folder"]["queue"] = {"table": "retrain_queue", "columns": columns}
    app.made.__post_init__()
    words = ["fix", "retrain", "--preset", "folder", "--value", "/photos/it's %_" if row[3] is None else "/photos/2025", "--reason", "r"]
    shown = call(app.made.root, *words, *more, "--dry-run")
    assert (shown.code, f"with {', '.join(sorted(columns))}" in shown.out) == (0, True), shown.text
    if more:
        missing = call(app.made.root, *words, "--yes", "--max-share", "1")
        assert (missing.code, "needs a value for" in missing.err) == (2, True), missing.text
    points = FOLDERS["/photos/2025"]
    done = call(app.made.root, *words, *more, "--yes", "--max-share", "1")
    assert done.code == 0, done.text
    expected = (*row[:3], points if row[3] is not None else None)
    assert app.run("SELECT category_id, priority, asked_by, points FROM retrain_queue") == [expected]


def test_a_queue_that_can_not_be_is_refused(app):
    """Columns that every row has anyway, that the table lacks, or that are not values: nothing is deleted."""
    before = app.made.contents()
    for queue, code, said in (
        ({"table": "retrain_queue", "columns": {"Value": 1}}, 2, "which every row gets anyway"),
        ({"table": "retrain_queue", "columns": {"a": [1]}}, 2, "must be a :parameter"),
        ({"table": "retrain_queue", "column": {}}, 2, "columns"),
        ({"columns": {"a": 1}}, 2, "must name a table"),
        ({"table": "retrain_queue", "columns": {"nowhere": 1}}, 2, "nowhere"),
    ):
        app.made.extra["fixes"]["presets"]["folder"]["queue"] = queue
        app.made.__post_init__()
        words = ["fix", "retrain", "--preset", "folder", "--value", "/photos/2025", "--reason", "r", "--yes", "--max-share", "1"]
        refused = call(app.made.root, *words)
        assert (refused.code, said in refused.err) == (code, True), refused.text
    assert app.made.contents() == before


@pytest.mark.parametrize("how", ["queue alone", "unmarked allowed"])
def test_what_the_database_refuses_is_known_before_any_point_goes(app, how):
    """A plan shows no constraint: the row of the queue, too, is tried in advance, in a transaction that is rolled back."""
    preset = {**app.made.extra["fixes"]["presets"]["folder"], "queue": "strict_queue"}
    if how == "queue alone":
        del preset["mark"]
    app.run("CREATE TABLE strict_queue (value TEXT, reason TEXT, requested_at TIMESTAMP, category INT NOT NULL)")
    app.made.extra["fixes"]["presets"] = {"folder": preset}
    app.made.__post_init__()
    before, given = app.made.contents(), {"allow_unmarked": how != "queue alone"}
    with pytest.raises(RowsError, match="category"):
        program.retrain("folder", ["/photos/2024"], reason="r", settings=app.made.settings(), max_share=1.0, **given)
    assert (app.made.contents(), left(app.made).open_runs) == (before, ())
