"""Rows of the application's SQL: in Qdrant's order, read-only, streamed, and refused where they don't fit."""

from __future__ import annotations

import sqlite3
import uuid
from contextlib import closing
from datetime import UTC, datetime, timedelta, timezone

import pytest
from sqlalchemy import create_engine, text

from qmigrate.engine.fixes.sync import plain
from qmigrate.errors import DatabaseError, RowsError
from qmigrate.model.ids import points_of
from qmigrate.rows import Marking, Marks, Query, Rows, reader
from qmigrate.rows.marks import Statement
from qmigrate.store import records

UUIDS = [str(uuid.uuid5(uuid.NAMESPACE_OID, str(number))) for number in range(60)]


@pytest.fixture
def database(ledger_url, tmp_path):
    """An empty database of the application, on SQLite and PostgreSQL; runs statements, and hands out its URL."""
    (tmp_path / "state").mkdir(exist_ok=True)
    engine = create_engine(ledger_url)

    def run(*statements: str, rows: list[dict] | None = None) -> str:
        with engine.begin() as connection:
            for one in statements:
                connection.execute(text(one), rows) if rows and ":" in one else connection.execute(text(one))
        return ledger_url

    yield run
    engine.dispose()


def asked(url: str, sql: str, key: str = "id", columns: tuple = ("v",), **parameters) -> Rows:
    """A query on a database that messages call app."""
    return Rows(url, Query(sql, key, columns, parameters), name="app")


def read(rows: Rows, how=lambda rows: list(rows.ordered())):
    """What a way of reading returns; everything closed."""
    try:
        return how(rows)
    finally:
        rows.close()


def ids_alone(rows: Rows) -> list:
    """The other way to read the ids."""
    return [one for page in rows.pages() for one in points_of(page)]


@pytest.mark.parametrize(
    ("kind", "ids"),
    [
        ("BIGINT", [3, 1, 2**62, 20, 100]),
        ("NUMERIC(20)", [30, 4, 0]),
        ("UUID", UUIDS),
        ("TEXT", UUIDS),
        ("VARCHAR(40)", [one.upper() for one in UUIDS]),
        ("TEXT", [one.replace("-", "") for one in UUIDS]),
    ],
)
def test_rows_come_in_qdrant_s_order_whatever_type_the_ids_have(database, kind, ids):
    """Integers ascend as numbers and UUIDs by bytes; each is found again by its id, in any spelling."""
    url = database(f"CREATE TABLE t (id {kind} PRIMARY KEY, v INTEGER)")
    rows = [{"id": one, "v": number} for number, one in enumerate(ids)]
    database("INSERT INTO t VALUES (:id, :v)", rows=rows)
    asking = asked(url, "SELECT id, v FROM t ORDER BY v; -- newest last")
    found = read(asking)
    wanted = [one if isinstance(one, int) else str(uuid.UUID(one)) for one in ids]
    assert [one for one, _ in found] == sorted(wanted, key=records.order_key)
    assert read(asking, ids_alone) == [one for one, _ in found]
    assert {one: values[0] for one, values in found} == {one: number for number, one in enumerate(wanted)}
    assert read(asking, lambda rows: rows.of([*wanted[:3], 987654321, str(uuid.uuid4())])) == {
        one: (number,) for number, one in enumerate(wanted[:3])
    }
    assert read(asking, lambda rows: rows.count()) == len(ids)


#: Column -> how it may hold a UUID besides the usual spellings.
WRITTEN = {
    "mixed case": ("TEXT", lambda one: one[:9].upper() + one[9:]),
    "mixed case without hyphens": ("TEXT", lambda one: one[:9].upper() + one[9:].replace("-", "")),
    "padded by the application": ("TEXT", lambda one: f"{one}    "),
    "padded by the column": ("CHAR(40)", str),
    "upper case, padded by the column": ("CHAR(40)", str.upper),
    "some in upper case": ("VARCHAR(40)", lambda one: one.upper() if one in UUIDS[:2] else one),
    "in braces": ("TEXT", lambda one: f"{{{one.upper()}}}"),
    "behind a space": ("TEXT", lambda one: f" {one}"),
}


@pytest.mark.parametrize("how", WRITTEN)
@pytest.mark.parametrize("of_values", [False, True])
def test_a_row_is_found_however_its_id_is_written(database, how, of_values):
    """A row that seems missing costs a point: each way of reading finds its id, or refuses."""
    kind, write = WRITTEN[how]
    url = database(f"CREATE TABLE t (id {kind}, v INTEGER)")
    database("INSERT INTO t VALUES (:id, :v)", rows=[{"id": write(one), "v": v} for v, one in enumerate(UUIDS[:9])])
    rows = Rows(url, Query("SELECT id, v FROM t", "id", ("v",), of_values=of_values), name="app")
    asked_for = [*UUIDS[1:4], UUIDS[20], 7]
    with closing(rows):
        assert rows.of(asked_for) == {UUIDS[1]: (1,), UUIDS[2]: (2,), UUIDS[3]: (3,)}
        assert {one for one, _ in rows.unordered()} == set(UUIDS[:9])
        if how == "some in upper case":
            # The database sorts them otherwise than Qdrant does.
            with pytest.raises(RowsError, match="in one order") as caught:
                list(rows.ordered())
            assert "lower(" in caught.value.hint
        else:
            assert [one for one, _ in rows.ordered()] == sorted(UUIDS[:9])


#: Column -> how it holds each UUID, and what of it a look-up by usual spellings can't find.
UNUSUAL = {
    "as usual": ("TEXT", str, ()),
    "in braces": ("TEXT", lambda one: f"{{{one}}}", ()),
    "in capitals and braces": ("TEXT", lambda one: f"{{{one.upper()}}}", ()),
    "mixed case": ("TEXT", lambda one: one[:9].upper() + one[9:], UUIDS[:9]),
    "one of them padded": ("TEXT", lambda one: one if one != UUIDS[3] else f"{one}  ", UUIDS[3:4]),
    "padded by the column": ("CHAR(40)", str, ()),
    "numbers": ("BIGINT", lambda one: uuid.UUID(one).int % 2**40, ()),
}


@pytest.mark.parametrize("how", UNUSUAL)
@pytest.mark.parametrize("most", [100, 0])
def test_what_a_look_up_does_not_find_is_told_by_the_column(database, monkeypatch, how, most):
    """One reading shows which ids need a thorough check; where these are too many, all do."""
    monkeypatch.setattr(reader, "_UNUSUAL", most)
    kind, write, left = UNUSUAL[how]
    url = database(f"CREATE TABLE t (id {kind}, v INTEGER)")
    database("INSERT INTO t VALUES (:id, :v)", rows=[{"id": write(one), "v": v} for v, one in enumerate(UUIDS[:9])])
    with closing(asked(url, "SELECT id, v FROM t")) as rows:
        found = rows.unusual()
        usual = rows.of([*UUIDS[:9], 7], thorough=False)
        assert usual.keys() == (set() if how == "numbers" else set(UUIDS[:9]) - set(left))
        assert found.among([*UUIDS[:20], 7]) == (list(left) if most or not left else UUIDS[:20])
        assert found.digits == ()


@pytest.mark.parametrize(
    ("kind", "ids", "hint"),
    [("TEXT", ["41", "7"], "CAST(id AS BIGINT)"), ("CHAR(40)", ["41", UUIDS[3]], "keep them in a column each")],
)
def test_numbers_that_are_texts_are_seen_in_the_column(database, kind, ids, hint):
    """No look-up by a number finds them, so a query for one is refused."""
    url = database(f"CREATE TABLE t (id {kind}, v INTEGER)")
    database("INSERT INTO t VALUES (:id, 1)", rows=[{"id": one} for one in ids])
    with closing(asked(url, "SELECT id, v FROM t")) as rows:
        found = rows.unusual()
        with pytest.raises(RowsError, match="'41', which is not a point id") as caught:
            rows.refuse(found.digits)
    assert hint in caught.value.hint


@pytest.mark.parametrize(
    ("kind", "written", "same", "alike"),
    [
        ("CHAR(40)", "asset-3", "asset-3", ["ASSET-3"]),
        ("TEXT", "asset-3   ", "asset-3", ["Asset-3"]),
        ("TEXT", "Größe 3 ", "Größe 3", []),
        ("TEXT", "ABC", "ABC", ["abc", "aBc"]),
        ("TEXT", "Caf\u00e9 ", "Caf\u00e9", ["Cafe\u0301", "CAF\u00c9", "cafe\u0301", "\uff23af\u00e9"]),
    ],
)
def test_a_text_is_found_without_its_padding(database, kind, written, same, alike):
    """Trailing spaces don't count; another case or normalisation may be another id, and counts as the same as none."""
    url = database(f"CREATE TABLE t (id {kind}, v INTEGER)")
    database("INSERT INTO t VALUES (:id, :v)", rows=[{"id": written, "v": 1}, {"id": "other", "v": 2}])
    rows = Rows(url, Query("SELECT id, v FROM t", "id", ("v",), of_values=True), name="app")
    with closing(rows):
        assert rows.of([same, *alike, "nobody"]) == {same: (1,)}
        assert rows.alike([same, *alike, "nobody"]) == dict.fromkeys([same, *alike], same)
        assert {one for one, _ in rows.unordered()} == {same, "other"}


@pytest.mark.postgres
@pytest.mark.parametrize("kind", ["BYTEA", "CITEXT", "NAME", "JSONB", "own_uuid", "own_text", "own_word"])
@pytest.mark.parametrize("of_values", [False, True])
def test_a_row_is_found_by_its_id_in_every_type_or_it_is_said_that_it_can_not_be(database, ledger_url, kind, of_values):
    """Before an orphan is deleted its row is looked for by id: where none is ever found, all points would have none."""
    if not ledger_url.startswith("postgresql"):
        pytest.skip("types of PostgreSQL")
    words = "', '".join(UUIDS[:3])
    database(
        "CREATE EXTENSION IF NOT EXISTS citext",
        "CREATE DOMAIN own_uuid AS uuid",
        "CREATE DOMAIN own_text AS varchar(40)",
        f"CREATE TYPE own_word AS ENUM ('{words}')",
        f"CREATE TABLE t (id {kind}, v INTEGER)",
    )
    written = {"BYTEA": "decode(replace('{}', '-', ''), 'hex')", "JSONB": "to_jsonb('{}'::text)"}.get(kind, "'{}'")
    for number, one in enumerate(UUIDS[:3]):
        database(f"INSERT INTO t VALUES ({written.format(one)}, {number})")  # noqa: S608  our own ids
    rows = Rows(ledger_url, Query("SELECT id, v FROM t", "id", ("v",), of_values=of_values), name="app")
    with closing(rows):
        assert {one for one, _ in rows.unordered()} == set(UUIDS[:3])
        if kind == "JSONB":
            with pytest.raises(RowsError, match="holds JSON"):
                rows.of(UUIDS[:2])
        else:
            assert rows.of([*UUIDS[:2], UUIDS[5], 7]) == {UUIDS[0]: (0,), UUIDS[1]: (1,)}


@pytest.mark.parametrize(
    ("sql", "words"),
    [
        ("DELETE FROM t", "not a SELECT: it begins with DELETE"),
        ("SELECT id, v FROM t; DROP TABLE t", "several statements"),
        ("/* SELECT */ UPDATE t SET v = 1", "begins with UPDATE"),
        ("  ", "empty"),
        ("SELECT id, v FROM t WHERE v = :value", "parameter :value"),
        ("SELECT id FROM t", "the column 'v' not at all"),
        ("SELECT id, v FROM nowhere", "failed"),
        ("SELECT NULL AS id, 1 AS v", "NULL in a row"),
        ("SELECT -1 AS id, 1 AS v", "not a point id"),
        ("SELECT '17' AS id, 1 AS v", "not a point id"),
        ("SELECT 'x' AS id, 1 AS v", "not a point id"),
        ("SELECT 1.5 AS id, 1 AS v", "not a point id"),
        ("SELECT 7 AS id, 1 AS v UNION ALL SELECT 7, 2", "the id 7 more than once"),
        (f"SELECT '{UUIDS[0]}' AS id, 1 AS v UNION ALL SELECT '{UUIDS[0].upper()}', 2", "more than once|in one order"),
    ],
)
def test_what_does_not_fit_is_refused(database, sql, words):
    """No SELECT, several statements, ids that are NULL, repeated or no ids: a message that names which."""
    url = database("CREATE TABLE t (id BIGINT, v INTEGER)")
    with pytest.raises(RowsError, match=words):
        read(asked(url, sql))
    if "'v'" not in words:
        with pytest.raises(RowsError, match=words):
            read(asked(url, sql, columns=()), ids_alone)


def test_nothing_can_be_written_through_it(database):
    """What looks like a SELECT and writes is stopped by the database, and changes nothing."""
    url = database("CREATE TABLE t (id BIGINT, v INTEGER)", "INSERT INTO t VALUES (1, 1)")
    if url.startswith("postgresql"):
        database("CREATE SEQUENCE s")
    trick = "WITH gone AS (DELETE FROM t RETURNING id, v) SELECT id, v FROM gone"
    for sql in (trick, "SELECT nextval('s') AS id, 1 AS v"):
        with pytest.raises(RowsError, match="read-only|top level|syntax error|no such function"):
            read(asked(url, sql))
    opened = asked(url, "SELECT 1 AS id")
    with pytest.raises(RowsError, match="readonly|read-only"), opened._database.connected() as connection:
        opened._database.execute(connection, "DELETE FROM t")
    opened.close()
    assert read(asked(url, "SELECT * FROM t")) == [(1, (1,))]


def test_rows_since_a_moment_and_parameters(database):
    """Only rows at or after the moment come, and :parameters are bound, not pasted."""
    url = database("CREATE TABLE t (id BIGINT, v TEXT, at TIMESTAMP)")
    now = datetime(2026, 3, 1, 12, tzinfo=UTC)
    rows = [{"id": n, "v": "it's :x", "at": (now + timedelta(hours=n)).replace(tzinfo=None)} for n in range(5)]
    if url.startswith("sqlite"):
        rows = [{**row, "at": row["at"].isoformat(sep=" ") + ".000000"} for row in rows]
    database("INSERT INTO t VALUES (:id, :v, :at)", rows=rows)
    asking = asked(url, "SELECT * FROM t WHERE v = :wanted AND v <> ':no'", wanted="it's :x")
    found = read(asking, lambda rows: sorted(one for one, _ in rows.since("at", now + timedelta(hours=3))))
    assert found == [3, 4]


#: How SQLite's columns hold times: what is stored, and whether it is at or after the moment, which has microseconds.
MOMENT = datetime(2026, 11, 25, 9, 30, 0, 250_000, tzinfo=UTC)
SECONDS = MOMENT.timestamp()
TIMES = [
    ("2026-11-25 09:30:00.250000", True),
    ("2026-11-25 09:30:00.25", True),
    ("2026-11-25T09:30:00.250Z", True),
    ("2026-11-25T10:30:00.250+01:00", True),
    ("2026-11-25T10:30:00.249999+01:00", False),
    ("2026-11-25T09:30:00.249", False),
    ("2026-11-25 09:30:00", False),
    ("2026-11-25T04:30:01-05:00", True),
    ("2026-11-25", True),
    ("2026-11-24", False),
    (" 2026-11-26 00:00 ", True),
    (SECONDS, True),
    (int(SECONDS), False),
    (int(SECONDS) + 1, True),
    (str(int(SECONDS) + 1), True),
    (int(SECONDS * 1000), True),
    (int(SECONDS * 1000) - 1, False),
    (int(SECONDS * 1000) * 1000, True),
    (int(SECONDS * 1000) * 1000 - 1, False),
    (int(SECONDS * 1000) * 1_000_000, True),
    (SECONDS / 86400 + 2440587.5, True),
    (SECONDS / 86400 + 2440587.4, False),
    (0, False),
    (None, False),
]
#: What is not a time, or may be another one than it seems.
NO_TIMES = ["yesterday", "", "25.11.2026", 20261125, 20261125093000, 20418, -1, 1e300, "12:30", b"2026-11-25"]


def test_times_of_sqlite_are_compared_as_times(tmp_path):
    """SQLite has no type for them: texts in any spelling, days, and numbers since 1970 are recognised."""
    file = tmp_path / "app.db"
    with closing(sqlite3.connect(file)) as made, made:
        made.execute("CREATE TABLE t (id INTEGER, v INTEGER, at)")
        made.executemany("INSERT INTO t VALUES (?, ?, ?)", [(n, n, stored) for n, (stored, _) in enumerate(TIMES)])
    asking = asked(f"sqlite:///{file}", "SELECT * FROM t")
    found = dict(read(asking, lambda rows: list(rows.since("at", MOMENT.astimezone(timezone(timedelta(hours=9)))))))
    assert [(stored, n in found) for n, (stored, _) in enumerate(TIMES)] == TIMES
    assert found == {n: (n,) for n in found}


@pytest.mark.parametrize("stored", NO_TIMES, ids=repr)
def test_what_is_no_time_is_not_left_out_in_silence(tmp_path, stored):
    """A row that can't be compared would seem unchanged."""
    file = tmp_path / "app.db"
    with closing(sqlite3.connect(file)) as made, made:
        made.execute("CREATE TABLE t (id INTEGER, v INTEGER, at)")
        made.execute("INSERT INTO t VALUES (7, 1, ?)", (stored,))
    with pytest.raises(RowsError, match="the column 'at' of the query on app is not a time in the row 7") as caught:
        read(asked(f"sqlite:///{file}", "SELECT * FROM t"), lambda rows: list(rows.since("at", MOMENT)))
    assert "unixepoch" in caught.value.hint


@pytest.mark.parametrize("kind", ["DATE", "TIMESTAMP", "TIMESTAMP WITH TIME ZONE"])
def test_a_day_is_not_over_before_its_end(database, kind):
    """A row of a day may have changed at any time of it; one of a time has changed then."""
    url = database(f"CREATE TABLE t (id BIGINT, v TEXT, at {kind})")
    database("INSERT INTO t VALUES (1, 'a', '2026-11-24'), (2, 'b', '2026-11-25'), (3, 'c', '2026-11-26')")
    lite = url.startswith("sqlite")
    found = read(asked(url, "SELECT * FROM t"), lambda rows: sorted(one for one, _ in rows.since("at", MOMENT)))
    assert found == ([2, 3] if kind == "DATE" or lite else [3])


def test_a_database_that_is_not_there_is_not_made(tmp_path):
    """A missing file, a refused connection: exit code 9, the URL's password not shown; no file appears."""
    for url in (f"sqlite:///{tmp_path}/none.db", "postgresql://app:hidden@127.0.0.1:1/app"):
        with pytest.raises(DatabaseError) as caught:
            read(asked(url, "SELECT 1 AS id, 2 AS v"))
        assert caught.value.exit_code == 9
        assert "hidden" not in caught.value.message
    assert not (tmp_path / "none.db").exists()


def test_values_become_what_a_payload_can_hold():
    """Times, UUIDs and decimals get their text or number; what JSON can't hold is refused."""
    import decimal

    cases = {decimal.Decimal("3"): 3, decimal.Decimal("1.50"): 1.5, uuid.UUID(UUIDS[0]): UUIDS[0], None: None, True: True}
    assert {key: plain(key, "x") for key in cases} == cases
    assert plain(datetime(2026, 1, 1, tzinfo=UTC), "x") == "2026-01-01T00:00:00+00:00"
    assert plain([{"a": (1, 2)}], "x") == [{"a": [1, 2]}]
    for value in (b"x", float("nan"), 2**63, {1: 2}, object()):
        with pytest.raises(RowsError, match="no payload can hold"):
            plain(value, "x")


@pytest.mark.parametrize(
    ("kind", "ids", "sql"),
    [
        ("BIGINT", [1, 2**40, 2**62], "UPDATE assets SET seen = :now, word = :word WHERE id = :id -- :nothing"),
        ("UUID", UUIDS[:3], "UPDATE assets SET seen = :now, word = :word WHERE id = :id"),
        ("TEXT", UUIDS[:3], "UPDATE assets SET seen = :now, word = :word WHERE id = :id;"),
        ("TEXT", [1, 2**40, 2**63], "UPDATE assets SET seen = :now, word = :word WHERE id = CAST(:id AS TEXT)"),
    ],
    ids=["numbers", "uuids", "texts", "numbers-as-texts"],
)
def test_a_statement_is_said_once_per_row_in_utc(database, kind, ids, sql):
    """Whatever type the id's column has; a time without a zone is UTC, also where the server's zone is another one."""
    url = database(f"CREATE TABLE assets (id {kind} PRIMARY KEY, seen TIMESTAMP, word TEXT)")
    database("INSERT INTO assets (id) VALUES (:id)", rows=[{"id": str(one) if kind == "TEXT" else one} for one in ids])
    if url.startswith("postgresql"):
        url += "?options=-c%20timezone%3DAsia/Tokyo"
    moment = datetime(2026, 1, 2, 23, 0, tzinfo=UTC)
    said = Statement(url, sql, name="app")
    rows = [{"id": one, "now": moment, "word": "it's :id", "more": 1} for one in ids]
    said.check(rows[0])
    assert read(asked(url, "SELECT word FROM assets WHERE word IS NOT NULL", "word", ()), lambda found: found.count()) == 0
    assert said.run(rows) == len(ids)
    assert said.run([]) == 0
    said.close()
    found = read(asked(url, "SELECT seen, word FROM assets", "word", ("seen",)), lambda rows: list(rows.every()))
    assert [(str(row["seen"])[:19], row["word"]) for row in found] == [("2026-01-02 23:00:00", "it's :id")] * len(ids)


def test_a_statement_that_is_refused_changes_nothing(database):
    """One row that can't be written rolls back the complete portion; the message has the database's own line."""
    url = database("CREATE TABLE assets (id INTEGER PRIMARY KEY, n INTEGER CHECK (n < 3))", "INSERT INTO assets VALUES (1, 1), (2, 2)")
    said = Statement(url, "UPDATE assets SET n = n + 1 WHERE id = :id", name="app")
    with pytest.raises(RowsError, match="the statement on app failed: .*(?i:check)"):
        said.run([{"id": 1}, {"id": 2}])
    said.close()
    assert read(asked(url, "SELECT id, n FROM assets", "id", ("n",))) == [(1, (1,)), (2, (2,))]
    with closing(Statement(url, "UPDATE absent SET n = 1 WHERE id = :id", name="app")) as wrong, pytest.raises(RowsError, match="absent"):
        wrong.check({"id": 1})


def test_a_queue_with_further_columns_takes_their_types(ledger_url, tmp_path):
    """Whole numbers, texts and NULL go into columns of their type, on every database; the rows come once per moment."""
    url = ledger_url if ledger_url.startswith("postgresql") else f"sqlite:///{tmp_path}/app.db"
    (tmp_path / "app.db").touch()
    engine = create_engine(url)
    with engine.begin() as connection:
        zoned = "TIMESTAMP" if "sqlite" in url else "TIMESTAMPTZ"
        columns = "category_id BIGINT, asked_by VARCHAR(20), share DOUBLE PRECISION, none_yet BIGINT, reason2 TEXT"
        connection.execute(text(f'CREATE TABLE "Odd Queue" (value TEXT, reason TEXT, requested_at {zoned}, {columns})'))
    further = {"category_id": ":category", "asked_by": "cron", "share": 0.5, "none_yet": None, "reason2": ":reason"}
    marks = Marks(url, Marking("app", (), "Odd Queue", {"value": 17, "category": 7}, columns=further))
    now = datetime.now(UTC)
    marks.check()
    assert [marks.run("why", now, 3) for _ in range(2)] == [[1], [0]]
    marks.close()
    with engine.connect() as connection:
        query = 'SELECT value, category_id, asked_by, share, none_yet, reason2 FROM "Odd Queue"'
        assert connection.execute(text(query)).all() == [("17", 7, "cron", 0.5, None, "why")]
    engine.dispose()
