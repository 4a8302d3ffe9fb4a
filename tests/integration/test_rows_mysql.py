"""Rows of MySQL and MariaDB: types of ids, what an open transaction may hide, and errors of statements."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from contextlib import closing

import pytest
from sqlalchemy import create_engine, make_url, text

from qmigrate.errors import DatabaseError, RowsError
from qmigrate.model.ids import points_of
from qmigrate.rows import Query, Rows
from qmigrate.rows.marks import Statement
from qmigrate.store import records

SERVER = os.environ.get("QMIGRATE_TEST_MYSQL_URL", "")
pytestmark = pytest.mark.skipif(not SERVER, reason="no MySQL or MariaDB: QMIGRATE_TEST_MYSQL_URL names none")
UUIDS = sorted(str(uuid.uuid5(uuid.NAMESPACE_OID, str(number))) for number in range(40))


@pytest.fixture
def url() -> Iterator[str]:
    """An empty database, made for one test."""
    name = f"qmigrate_{uuid.uuid4().hex[:12]}"
    engine = create_engine(SERVER)
    with engine.begin() as connection:
        connection.execute(text(f"CREATE DATABASE {name}"))
    yield make_url(SERVER).set(database=name).render_as_string(hide_password=False)
    with engine.begin() as connection:
        connection.execute(text(f"DROP DATABASE {name}"))
    engine.dispose()


def run(url: str, *statements: str, rows: list[dict] | None = None) -> None:
    """Statements of the application; rows belong to the last one."""
    engine = create_engine(url)
    with engine.begin() as connection:
        for one in statements[: len(statements) - bool(rows)]:
            connection.execute(text(one))
        if rows:
            connection.execute(text(statements[-1]), rows)
    engine.dispose()


def asked(url: str, sql: str = "SELECT id, v FROM t") -> closing[Rows]:
    """A query on a database that messages call app."""
    return closing(Rows(url, Query(sql, "id", ("v",), {}), name="app"))


@pytest.mark.parametrize(
    ("kind", "ids"),
    [
        ("BIGINT", [3, 1, 2**62, 20, 100]),
        ("BIGINT UNSIGNED", [2**64 - 2, 5]),
        ("DECIMAL(20)", [30, 4, 0]),
        ("CHAR(36)", UUIDS),
        ("VARCHAR(40)", [one.upper() for one in UUIDS]),
        ("CHAR(32)", [one.replace("-", "") for one in UUIDS]),
        ("BINARY(16)", [uuid.UUID(one).bytes for one in UUIDS]),
    ],
)
def test_rows_come_in_qdrant_s_order_whatever_type_the_ids_have(url, kind, ids):
    """Numbers, texts in any spelling, and bytes; a look-up by id finds them and nothing that merely begins alike."""
    rows = [{"id": one, "v": number} for number, one in enumerate(ids)]
    run(url, f"CREATE TABLE t (id {kind} PRIMARY KEY, v INTEGER)", "INSERT INTO t VALUES (:id, :v)", rows=rows)
    wanted = [one if isinstance(one, int) else UUIDS[number] for number, one in enumerate(ids)]
    with asked(url) as reading:
        found = list(reading.ordered())
        assert [one for one, _ in found] == sorted(wanted, key=records.order_key)
        assert [one for page in reading.pages() for one in points_of(page)] == [one for one, _ in found]
        others = ["3a000000-0000-4000-8000-000000000000", 987654321]
        assert reading.of([*wanted[:3], *others]) == {one: (number,) for number, one in enumerate(wanted[:3])}


def test_a_table_without_rows_has_none_of_the_ids(url):
    """There is no value that would show the type."""
    run(url, "CREATE TABLE t (id BINARY(16) PRIMARY KEY, v INTEGER)")
    with asked(url) as reading:
        assert (list(reading.ordered()), reading.of([1, UUIDS[0]])) == ([], {})


def test_the_uuids_of_mariadb_are_cast(url):
    """Their order is not that of their bytes: it is refused with the way out."""
    engine = create_engine(url)
    with engine.connect() as connection:
        if "MariaDB" not in connection.execute(text("SELECT version()")).scalar_one():
            pytest.skip("MySQL has no type UUID")
    engine.dispose()
    rows = [{"id": one, "v": 1} for one in UUIDS]
    run(url, "CREATE TABLE t (id UUID PRIMARY KEY, v INTEGER)", "INSERT INTO t VALUES (:id, :v)", rows=rows)
    with asked(url) as reading, pytest.raises(RowsError, match="not in one order") as refused:
        list(reading.ordered())
    assert "CAST(… AS CHAR)" in (refused.value.hint or "")
    with asked(url, "SELECT CAST(id AS CHAR(36)) AS id, v FROM t") as reading:
        assert [one for one, _ in reading.ordered()] == UUIDS
        assert set(reading.of(UUIDS[:2])) == set(UUIDS[:2])


def test_an_open_transaction_is_seen_until_it_ends(url):
    """One that began before the moment counts, one that began later doesn't, and this one's own never."""
    run(url, "CREATE TABLE t (id BIGINT PRIMARY KEY, v INTEGER) ENGINE=InnoDB")
    engine = create_engine(url)
    with asked(url) as reading, engine.connect() as connection:
        assert not reading.open_since(reading.now())
        connection.execute(text("INSERT INTO t VALUES (1, 1)"))
        # Moments of transactions are whole seconds there: one of the same second counts too.
        moment = reading.now()
        assert reading.open_since(moment)
        connection.rollback()
        assert not reading.open_since(moment)
    engine.dispose()


def test_nothing_can_be_written_through_it(url):
    """The session only reads, whatever the query does."""
    run(url, "CREATE TABLE t (id BIGINT PRIMARY KEY, v INTEGER)", "CREATE FUNCTION f() RETURNS INTEGER MODIFIES SQL DATA "
        "BEGIN INSERT INTO t VALUES (7, 7); RETURN 1; END")  # fmt: skip
    with asked(url, "SELECT 1 AS id, f() AS v") as reading, pytest.raises(RowsError, match="(?i)read.only"):
        list(reading.ordered())
    with asked(url) as reading:
        assert reading.count() == 0


def test_a_refused_statement_is_told_from_a_lost_database(url):
    """A constraint is the statement's trouble; a wrong password and a closed port are the database's."""
    run(url, "CREATE TABLE t (id BIGINT PRIMARY KEY, v INTEGER CHECK (v < 3))", "INSERT INTO t VALUES (1, 1), (2, 2)")
    with pytest.raises(RowsError, match="the statement on app failed: .*(?i:constraint)"):
        Statement(url, "UPDATE t SET v = v + 1 WHERE id = :id", name="app").run([{"id": 1}, {"id": 2}])
    with asked(url) as reading:
        assert list(reading.ordered()) == [(1, (1,)), (2, (2,))]
    for change in ({"port": 1}, {"password": "wrong-secret"}):
        with asked(make_url(url).set(**change).render_as_string(hide_password=False)) as reading:
            with pytest.raises(DatabaseError, match="app can't be read") as lost:
                list(reading.ordered())
            assert "secret" not in str(lost.value)
