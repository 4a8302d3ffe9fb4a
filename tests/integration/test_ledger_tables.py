"""The ledger's tables: who makes them, what they leave alone, and what is refused."""

from __future__ import annotations

import os
import subprocess
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.operations import Operations
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, create_engine, inspect, select, text

import qmigrate.ledger
from qmigrate.errors import ConfigError, LedgerError
from qmigrate.ledger import TABLE_NAMES, Ledger, schema, tables
from qmigrate.ledger.codec import Fixed, View
from qmigrate.ledger.migrations import v0001_ledger
from qmigrate.model.facts.audit import Audited
from qmigrate.model.plan import Closing, Job
from qmigrate.model.schema import CollectionSchema
from qmigrate.model.state import Generation

pytestmark = pytest.mark.timeout(120)

#: As an application's plan for schema versions has it.
SEED_VERSIONS = """CREATE TABLE qdrant_schema_versions (
    id {serial}, collection_name VARCHAR(255) NOT NULL UNIQUE, schema_version VARCHAR(50) NOT NULL,
    vectors_config {json} NOT NULL, last_migration TIMESTAMP DEFAULT CURRENT_TIMESTAMP,
    created_at TIMESTAMP DEFAULT CURRENT_TIMESTAMP)"""
#: As an application's plan for deletions has it.
SEED_DELETIONS = """CREATE TABLE vector_deletion_logs (
    id {serial}, deletion_type VARCHAR(50) NOT NULL, deletion_target TEXT NOT NULL, vector_count INTEGER NOT NULL,
    deletion_reason TEXT, metadata {json}, created_at {stamp} DEFAULT CURRENT_TIMESTAMP NOT NULL)"""
DIALECTS = {
    "sqlite": {"serial": "INTEGER PRIMARY KEY", "json": "TEXT", "stamp": "DATETIME"},
    "postgresql": {"serial": "SERIAL PRIMARY KEY", "json": "JSONB", "stamp": "TIMESTAMPTZ"},
}
PREPARE = "import sys; from qmigrate.ledger import Ledger; print(Ledger.open(sys.argv[1]).prepare())"


@contextmanager
def plainly(url: str) -> Iterator[Connection]:
    """A connection as any application has it."""
    if url.startswith("sqlite:///"):
        os.makedirs(os.path.dirname(url.removeprefix("sqlite:///")), exist_ok=True)
    engine = create_engine(url)
    with engine.begin() as connection:
        yield connection
    engine.dispose()


def table_names(url: str) -> set[str]:
    """Tables of the default schema."""
    with plainly(url) as connection:
        return set(inspect(connection).get_table_names())


def create(url: str, statement: str) -> None:
    """Make a table of the application, in the words of its database."""
    with plainly(url) as connection:
        connection.execute(text(statement.format(**DIALECTS[connection.dialect.name])))


def everything_read(ledger: Ledger) -> list[object]:
    """The answers of every reading method."""
    return [
        ledger.identity(),
        ledger.ready(),
        ledger.collections(),
        ledger.applied("a"),
        ledger.generations("a"),
        ledger.open_run("a"),
        ledger.open_runs(),
        ledger.history(),
        ledger.runs(),
        ledger.leases(),
        ledger.deletions(),
        ledger.applied_checksums(),
        ledger.ranges(1, 0),
        list(ledger.base_pages("a")),
        ledger.has_base("a"),
        list(ledger.dirty("a")),
        ledger.carries(1, 0),
        ledger.quarantined("a"),
    ]


def test_reading_a_database_without_tables_writes_nothing(ledger_url: str) -> None:
    """Every reading method answers "nothing", and neither a file nor a table is made."""
    ledger = Ledger.open(ledger_url)
    assert [bool(answer) for answer in everything_read(ledger)] == [False] * 18
    ledger.close()
    if ledger_url.startswith("sqlite"):
        assert not os.path.exists(os.path.dirname(ledger_url.removeprefix("sqlite:///")))
    else:
        assert table_names(ledger_url) == set()


def test_prepare_makes_the_tables_once_and_keeps_the_identity(ledger_url: str) -> None:
    """A second call changes nothing; the user's alembic_version is not made or touched."""
    ledger = Ledger.open(ledger_url)
    identity = ledger.prepare()
    assert len(identity) == 32
    assert (ledger.prepare(), ledger.identity(), ledger.ready()) == (identity, identity, True)
    ledger.close()
    assert table_names(ledger_url) == TABLE_NAMES


def test_the_revisions_make_what_the_code_reads(ledger_url: str) -> None:
    """The tables after all revisions are those of tables.py, and HEAD is the newest revision."""
    ledger = Ledger.open(ledger_url)
    ledger.prepare()
    ledger.close()
    with plainly(ledger_url) as connection:
        context = MigrationContext.configure(connection, opts={"version_table": schema.VERSION_TABLE})
        assert compare_metadata(context, tables.metadata) == []
    here = os.path.dirname(qmigrate.ledger.__file__)
    script = ScriptDirectory(here, version_locations=[os.path.join(here, "migrations")])
    assert script.get_heads() == [schema.HEAD]


def test_an_earlier_quarantine_is_kept(ledger_url: str) -> None:
    """Rows of the time before a point could be listed per vector keep all that they say, and get their collection."""
    ledger = Ledger.open(ledger_url)
    ledger.prepare()
    with ledger.hold("notes", timeout=5) as lease:
        lease.save_generation(Generation(2, "notes__g0002", 1, (), CollectionSchema(), "live"))
    earlier = v0001_ledger.metadata.tables["qdrant_quarantine"]
    when = datetime(2026, 3, 1, tzinfo=UTC)
    row = {"generation": "notes__g0002", "stage": "fill", "error_class": "EmbedError", "attempts": 2}
    with plainly(ledger_url) as connection:
        connection.execute(text("DROP TABLE qdrant_quarantine"))
        earlier.create(connection)
        for point, message in (("7", "b: no: text"), ('"u"', "odd")):
            more = {"point_id": point, "message": message, "created_at": when, "updated_at": when}
            connection.execute(earlier.insert().values(**row, **more))
        connection.execute(text("UPDATE qdrant_ledger_version SET version_num = '0002'"))
    ledger.close()
    ledger = Ledger.open(ledger_url)
    ledger.prepare()
    found = {one.point_id: one for one in ledger.quarantine(["notes__g0002"])}
    assert (found[7].vector, found[7].reason, found[7].attempts, found[7].created_at) == ("b", "no: text", 2, when)
    assert (found["u"].vector, found["u"].reason, found["u"].outcome, found["u"].digest) == ("", "odd", "kept", None)
    with ledger.database.reading() as connection:
        assert set(connection.scalars(select(tables.quarantine.c.collection))) == {"notes"}
    ledger.close()


def test_a_ledger_of_before_there_were_keys_gets_one_for_good(ledger_url: str) -> None:
    """Its bases stay as they are; every ledger has a key of its own, and a ledger without tables none that is kept."""
    ledger = Ledger.open(ledger_url)
    other = Ledger.open(ledger_url)
    assert ledger.own_key() == ledger.own_key() != other.own_key()
    other.close()
    ledger.prepare()
    first = ledger.own_key()
    with ledger.hold("notes", timeout=5) as lease:
        lease.stage_base("g", 0, [b"page"])
        lease.commit_base("g")
    ledger.close()
    with plainly(ledger_url) as connection:
        connection.execute(text("DROP TABLE qdrant_copy_dirty"))
        connection.execute(text("ALTER TABLE qdrant_ledger DROP COLUMN digest_key"))
        connection.execute(text("ALTER TABLE qdrant_copy_bases DROP COLUMN digest"))
        connection.execute(text("UPDATE qdrant_ledger_version SET version_num = '0004'"))
    ledger = Ledger.open(ledger_url)
    ledger.prepare()
    second = ledger.own_key()
    assert (len(first), len(second), first == second) == (32, 32, False)
    assert (ledger.digest_key("g"), list(ledger.base_pages("g"))) == (None, [b"page"])
    assert ledger.digest_key("h") == second
    ledger.prepare()
    ledger.close()
    with plainly(ledger_url) as connection:
        assert connection.scalar(select(tables.ledger.c.digest_key)) == second
        connection.execute(text("UPDATE qdrant_ledger SET digest_key = NULL"))
    ledger = Ledger.open(ledger_url)
    with pytest.raises(LedgerError, match="no key"):
        ledger.own_key()
    ledger.close()


def test_prepare_by_several_processes_at_once(ledger_url: str) -> None:
    """All succeed and agree on one identity."""
    racers = [
        subprocess.Popen([sys.executable, "-c", PREPARE, ledger_url], stdout=subprocess.PIPE, text=True)
        for _ in range(4)
    ]
    answers = {racer.communicate(timeout=100)[0].strip() for racer in racers}
    assert [racer.returncode for racer in racers] == [0] * 4
    assert len(answers) == 1
    assert len(answers.pop()) == 32


def test_prepare_inside_an_alembic_run_leaves_its_op_alone(ledger_url: str, tmp_path: os.PathLike[str]) -> None:
    """A migration of the application that calls qmigrate can continue using ``op``."""
    from alembic import op

    application = create_engine(f"sqlite:///{tmp_path}/application.db")
    with application.begin() as connection, Operations.context(MigrationContext.configure(connection)):
        ledger = Ledger.open(ledger_url)
        ledger.prepare()
        ledger.close()
        op.execute("CREATE TABLE after_it (id INTEGER)")
    application.dispose()


def test_a_table_of_the_application_is_extended(ledger_url: str) -> None:
    """Both tables of the application are kept with their rows and take the ledger's."""
    create(ledger_url, SEED_VERSIONS)
    create(ledger_url, SEED_DELETIONS)
    with plainly(ledger_url) as connection:
        connection.execute(
            text(
                "INSERT INTO qdrant_schema_versions (collection_name, schema_version, vectors_config) "
                "VALUES ('theirs', '2.1', '{}')"
            )
        )
        connection.execute(
            text(
                "INSERT INTO vector_deletion_logs (deletion_type, deletion_target, vector_count) "
                "VALUES ('ASSET', '7', 1)"
            )
        )
    ledger = Ledger.open(ledger_url)
    ledger.prepare()
    assert ledger.collections() == {}, "a row of the application says nothing about revisions"
    wanted = CollectionSchema(vectors={"": {"size": 4, "distance": "Cosine"}})
    closing = Closing(step=0, revision="r" * 60, direction="upgrade", checksum="c", declared=wanted, prior=None)
    with ledger.hold("theirs", timeout=0) as lease:
        run = lease.open_run("adopt", Job("theirs", "b", (), (closing,)), {}, actor="me", tool="1", server="q")
        lease.close_step(
            run,
            0,
            closings=[closing],
            view=View("theirs", closing.revision, "theirs__g0001", wanted, {"": {"model": "m"}}),
            generations=[],
            strategy="create",
            physical="theirs__g0001",
            changes=[],
            report={},
            phase="close",
            last=True,
            fixed=Fixed("ORPHAN", "sql", 3, None, Audited()),
        )
    view = ledger.collections()["theirs"]
    assert (view.revision, view.physical, view.declared) == (closing.revision, "theirs__g0001", wanted)
    assert [(row.kind, row.count, row.actor) for row in ledger.deletions()] == [("ORPHAN", 3, "me"), ("ASSET", 1, None)]
    ledger.close()
    with plainly(ledger_url) as connection:
        rows = connection.execute(text("SELECT id, schema_version FROM qdrant_schema_versions")).all()
    assert [tuple(row) for row in rows] == [(1, "r" * 50)], (
        "the application's own row is the one that is kept up to date"
    )


@pytest.mark.parametrize(
    ("statement", "table", "column", "word"),
    [
        (
            SEED_VERSIONS.replace("vectors_config {json}", "vectors_config INTEGER"),
            "qdrant_schema_versions",
            "vectors_config",
            "JSON",
        ),
        (
            SEED_DELETIONS.replace("vector_count INTEGER", "vector_count TEXT"),
            "vector_deletion_logs",
            "vector_count",
            "number",
        ),
        (
            SEED_DELETIONS.replace("deletion_reason TEXT", "deletion_reason TEXT NOT NULL"),
            "vector_deletion_logs",
            "deletion_reason",
            "NOT NULL",
        ),
        (
            SEED_DELETIONS.replace("metadata {json}", "metadata {json}, tenant VARCHAR(9) NOT NULL"),
            "vector_deletion_logs",
            "tenant",
            "NOT NULL",
        ),
        (
            SEED_VERSIONS.replace("id {serial}", "id INTEGER").replace("'", ""),
            "qdrant_schema_versions",
            "id",
            "number its rows",
        ),
    ],
    ids=["other type", "text for a number", "must be given", "unknown and must be given", "no numbering"],
)
def test_a_table_that_cannot_be_shared_is_refused(
    ledger_url: str, statement: str, table: str, column: str, word: str
) -> None:
    """The error names table and column, and nothing else was made."""
    create(ledger_url, statement)
    ledger = Ledger.open(ledger_url)
    with pytest.raises(LedgerError) as caught:
        ledger.prepare()
    assert f"{table} " in caught.value.message
    assert f"column {column} " in caught.value.message
    assert word in caught.value.message
    assert not ledger.ready()
    ledger.close()
    assert table_names(ledger_url) == {table}


@pytest.mark.postgres
def test_a_short_column_of_the_application_is_refused(postgres_database: str) -> None:
    """PostgreSQL would refuse a longer value only when the collection has moved already."""
    create(postgres_database, SEED_VERSIONS.replace("VARCHAR(50)", "VARCHAR(10)"))
    ledger = Ledger.open(postgres_database)
    with pytest.raises(LedgerError, match="column schema_version takes 10 characters"):
        ledger.prepare()
    ledger.close()


@pytest.mark.postgres
def test_a_schema_of_its_own_holds_every_table(postgres_database: str) -> None:
    """With `schema` the tables, their version table and every write are there and nowhere else."""
    ledger = Ledger.open(postgres_database, schema="Vector State")
    assert not ledger.ready()
    identity = ledger.prepare()
    with ledger.hold("a", timeout=0) as lease:
        lease.open_run("upgrade", Job("a", "b", ()), {}, actor="me", tool="1", server="q")
    assert (ledger.identity(), len(ledger.runs())) == (identity, 1)
    ledger.close()
    assert table_names(postgres_database) == set()
    with plainly(postgres_database) as connection:
        assert set(inspect(connection).get_table_names(schema="Vector State")) == TABLE_NAMES


def test_a_schema_on_sqlite_is_a_mistake(tmp_path: os.PathLike[str]) -> None:
    """It is refused, not ignored."""
    with pytest.raises(ConfigError, match="schema"):
        Ledger.open(f"sqlite:///{tmp_path}/l.db", schema="s")


def test_tables_of_a_newer_version_are_not_read_or_changed(ledger_url: str) -> None:
    """Both reading and preparing say so, and the version stays."""
    first = Ledger.open(ledger_url)
    first.prepare()
    first.close()
    with plainly(ledger_url) as connection:
        connection.execute(text("UPDATE qdrant_ledger_version SET version_num = '9999'"))
    ledger = Ledger.open(ledger_url)
    for attempt in (ledger.collections, ledger.prepare):
        with pytest.raises(LedgerError, match="version 9999"):
            attempt()
    ledger.close()
    with plainly(ledger_url) as connection:
        assert connection.scalar(text("SELECT version_num FROM qdrant_ledger_version")) == "9999"


def test_reading_warns_of_nothing(ledger_url: str) -> None:
    """No warning of Alembic or SQLAlchemy reaches the user."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ledger = Ledger.open(ledger_url)
        ledger.prepare()
        everything_read(ledger)
        ledger.close()
