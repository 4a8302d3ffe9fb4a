"""What env.py and the command line can get wrong, and what happens around a run: each trap with its one message."""

from __future__ import annotations

import contextlib
import io

import psycopg
import pytest
from alembic import command
from sqlalchemy import text
from tests.alembic_project import ENV, AlembicProject, project_at
from tests.conftest_qdrant import free_port
from tests.harness import CREATE, Deployment
from tests.scenarios.cli import call

from qmigrate.alembic import BridgeError
from qmigrate.alembic.lock import only_one
from qmigrate.commands import upgrade
from qmigrate.errors import (
    HeldError,
    LeaseHeldError,
    LedgerError,
    PendingError,
    RefusedError,
    StoreError,
    UsageError,
)
from qmigrate.ledger import Ledger, database

RUN = "def upgrade():\n    qdrant.run('0002')\n"
TABLE = 'op.create_table("{}", sa.Column("id", sa.Integer, primary_key=True))'
HOLD = """
def upgrade():
    return [op.AlterVector(
        "{name}", "a", VectorParams(size=16, distance=Distance.COSINE), values=Embed("words", text="text"), cutover="hold"
    )]
"""


@pytest.fixture
def sqlite(tmp_path) -> AlembicProject:
    """Alembic and the ledger in one SQLite file."""
    return project_at(tmp_path, f"sqlite:///{tmp_path}/sql.db")


@pytest.fixture
def postgres(tmp_path, postgres_database) -> AlembicProject:
    """Alembic and the ledger in one PostgreSQL database."""
    return project_at(tmp_path, postgres_database)


def refusal(project: AlembicProject, *x: str, kind: type = UsageError) -> str:
    """What an upgrade to head is refused with; the SQL schema stays empty."""
    with pytest.raises(BridgeError) as caught:
        project.upgrade("head", *x)
    assert isinstance(caught.value.error, kind), caught.value
    assert project.tables() <= {"alembic_version"}
    assert project.version() is None
    return str(caught.value)


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("qm = qma.integrate", "qm = lambda: 0; qm.options = dict; qm.session = __import__('contextlib').nullcontext; #", "doesn't call integrate()"),
        ("qm.session(), ", "", "outside qm.session()"),
        (", **qm.options()\n", "\n", "doesn't pass qm.options()"),
        ("transaction_per_migration=True, ", "", "share one transaction"),
        ("        qm = qma", "        connection.exec_driver_sql('SELECT 1')\n        qm = qma", "in a transaction before context.configure()"),
        ("        context.configure(\n", "        connection.exec_driver_sql('SELECT 1')\n        context.configure(\n", "in a transaction before context.configure()"),
        ("integrate(context, connection)", "integrate(context, None)", "got no connection"),
        ("connection=connection, target", "connection=engine.connect(), target", "different connections"),
    ],
)  # fmt: skip
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning", "ignore::ResourceWarning")
def test_a_wrong_env_py_is_refused_before_anything_runs(tmp_path, old, new, words):
    """Each mistake has its own sentence, and the way to write it."""
    assert old in ENV
    project = project_at(tmp_path, f"sqlite:///{tmp_path}/sql.db", ENV.replace(old, new))
    project.revise("a1", RUN)
    said = refusal(project, "qdrant=run")
    assert words in said
    assert "→" in said


@pytest.mark.parametrize(
    ("x", "words"),
    [
        ("qdrant=rnu", "qdrant=rnu is unknown"),
        ("qdrant=", "use one of: require, run, plan, skip"),
        ("qdrant_max=3", "qdrant_max_estimate"),
        ("qdrant_max_estimate=soon", "is not a duration"),
        ("qdrant_max_estimate=600", "qdrant_max_estimate=600 has no unit"),
        ("qdrant_lock_timeout=5", "qdrant_lock_timeout=5 has no unit"),
        ("QDRANT=plan", 'did you mean "qdrant"'),
        ("Qdrant=plan", "Qdrant=… is unknown"),
        ("qmigrate=plan", "qmigrate=… is unknown"),
    ],
)
def test_an_unknown_argument_is_refused(sqlite, x, words):
    """A typing mistake in -x never means the default."""
    sqlite.revise("a1", RUN)
    assert words in refusal(sqlite, x)


def test_plan_lists_and_changes_nothing(sqlite):
    """-x qdrant=plan shows what each gate would do; not even Alembic's or the ledger's tables are made."""
    sqlite.revise("a1", f"def upgrade():\n    {TABLE.format('one')}\n    qdrant.require('0001')")
    sqlite.revise("a2", RUN)
    said = refusal(sqlite, "qdrant=plan", kind=PendingError)
    assert "nothing was changed in SQL or Qdrant" in said
    assert f"require 0001: not done: {sqlite.made.name} (needs 0001)" in sqlite.said[-1]
    assert "run 0002: not done" in sqlite.said[-1]
    with sqlite.engine() as engine, engine.connect() as connection:
        assert not connection.scalar(text("SELECT count(*) FROM sqlite_master"))


def test_skip_goes_on_and_leaves_a_loud_record(sqlite):
    """The link is skipped, and status shows it until the vector step is done."""
    sqlite.revise("a1", RUN)
    assert "SKIPPED: Alembic revision a1 continues although vector revision 0002 is not done" in sqlite.upgrade(
        "head", "qdrant=skip"
    )
    assert sqlite.links() == [("a1", "0002", "run", "skipped")]
    told = "the SQL revision a1 was skipped although 0002 is not done"
    assert told in call(sqlite.made.root, "status").text
    upgrade.upgrade(sqlite.made.settings())
    assert told not in call(sqlite.made.root, "status").text


def test_a_stamp_is_recorded_as_what_it_is(sqlite):
    """Stamping past gates links them as stamped, all of them; stamping back removes them."""
    sqlite.revise("a1", RUN)
    sqlite.revise("a2", "def upgrade():\n    qdrant.require('0001')")
    assert "was not checked" in sqlite.stamp("head")
    assert sqlite.links() == [("a1", "0002", "run", "stamped"), ("a2", "0001", "require", "stamped")]
    sqlite.stamp("a1")
    assert sqlite.links() == [("a1", "0002", "run", "stamped")]
    sqlite.stamp("base")
    assert (sqlite.links(), sqlite.version()) == ([], None)


def test_a_run_is_bounded_and_a_hold_names_its_cutover(sqlite):
    """What is expected to take too long isn't begun; what is built and held stops the gate with its own command."""
    made = sqlite.made
    sqlite.revise("a1", "def upgrade():\n    qdrant.run('0001')")
    sqlite.upgrade()
    made.load(20)
    sqlite.revise("a2", "def upgrade():\n    qdrant.run('0003', max_estimate='1h')")
    made.revise("0003", HOLD)
    with pytest.raises(BridgeError, match="longer than the 0 s of --max-estimate"):
        sqlite.upgrade("head", "qdrant_max_estimate=0s")
    assert made.row().state == "pending"
    for _ in range(2):
        with pytest.raises(BridgeError, match=f"→ qmigrate cutover {made.name}") as caught:
            sqlite.upgrade("head")
        assert isinstance(caught.value.error, HeldError)
    assert (made.row().state, sqlite.version()) == ("held", "a1")
    assert call(made.root, "cutover", made.name).code == 0
    sqlite.upgrade("head")
    assert sqlite.version() == "a2"


@pytest.mark.postgres
def test_sql_before_a_vector_step_is_refused_and_stays_uncommitted(postgres):
    """The step would commit that SQL without its version; a gate that only looks may stand behind SQL."""
    postgres.revise("a1", f"def upgrade():\n    {TABLE.format('one')}\n    qdrant.run('0002')")
    said = refusal(postgres, kind=RefusedError)
    assert "has executed SQL before its vector step (CREATE TABLE one" in said
    assert "Alembic revision of its own" in said
    assert "one" not in postgres.tables()
    upgrade.upgrade(postgres.made.settings())
    postgres.upgrade()
    assert "one" in postgres.tables()


@pytest.mark.postgres
def test_sql_that_fails_after_its_vector_step_is_repeated_without_it(tmp_path, postgres_database, monkeypatch):
    """Idle-in-transaction limits don't hit a long step; after a rollback of SQL the step is recognised and recorded."""
    limit = "poolclass=pool.NullPool, connect_args={'options': '-c idle_in_transaction_session_timeout=500'}"
    quick = upgrade.upgrade

    def long(*args, **kwargs):
        with psycopg.connect(postgres_database.replace("+psycopg", "")) as connection:
            connection.execute("SELECT pg_sleep(1)")
        return quick(*args, **kwargs)

    monkeypatch.setattr(upgrade, "upgrade", long)
    project = project_at(tmp_path, postgres_database, ENV.replace("poolclass=pool.NullPool", limit))
    # Found only when the version, and with it the link, is committed.
    late = "CREATE TABLE late (id int PRIMARY KEY, up int REFERENCES late DEFERRABLE INITIALLY DEFERRED)"
    row = "INSERT INTO late VALUES (1, 2)"
    broken = project.revise("a1", RUN + f"    op.execute({late!r})\n    op.execute({row!r})")
    with pytest.raises(Exception, match="violates foreign key"):
        project.upgrade()
    assert (project.version(), project.tables(), project.links()) == (None, {"alembic_version"}, [])
    assert project.made.row().revision == "0002"
    broken.write_text(broken.read_text().replace("(1, 2)", "(1, 1)"))
    assert "is done already: it is just recorded" in project.upgrade()
    assert project.links() == [("a1", "0002", "run", "linked")]


@pytest.mark.postgres
def test_a_lock_of_the_revision_itself_is_no_hang(postgres, monkeypatch):
    """Who locks the ledger's tables and then asks the ledger, through another connection, gets a message."""
    monkeypatch.setattr(database, "LOCK_TIMEOUT", 1)
    upgrade.upgrade(postgres.made.settings())
    lock = "op.execute('LOCK TABLE qdrant_migration_history IN ACCESS EXCLUSIVE MODE')"
    postgres.revise("a1", f"def upgrade():\n    {lock}\n    qdrant.require('0002')")
    assert "lock timeout" in refusal(postgres, kind=LedgerError)


@pytest.mark.postgres
def test_the_users_own_hooks_run_too_and_autogenerate_sees_no_table_of_ours(tmp_path, postgres_database):
    """on_version_apply and include_object compose; `alembic check` is clean next to a ledger in a schema of its own."""
    hooks = "on_version_apply=lambda **kw: print('applied', kw['step'].up_revision_id), include_object=mine"
    mine = "def mine(object, name, type_, reflected, compare_to):\n    return name != 'theirs'\n"
    env = ENV.replace("target_metadata=metadata,", "target_metadata=metadata, include_schemas=True,")
    body = env.replace("**qm.options()", f"**qm.options({hooks})").replace("metadata = M", f"{mine}metadata = M", 1)
    project = project_at(tmp_path, postgres_database, body, ledger={"schema": "Vector state"})
    project.revise("a1", f"def upgrade():\n    qdrant.run('0002')\n    {TABLE.format('theirs')}")
    with contextlib.redirect_stdout(io.StringIO()) as out:
        assert "right after each commit" not in project.upgrade()
    assert "applied a1" in out.getvalue()
    with project.engine() as engine, engine.connect() as connection:
        assert connection.scalar(text('SELECT state FROM "Vector state".qdrant_alembic_links')) == "linked"
    assert "No new upgrade operations" in project.run(lambda config: command.check(config))
    (project.folder / "env.py").write_text(env)
    with pytest.raises(Exception, match="theirs"):
        project.run(lambda config: command.check(config))
    project.run(lambda config: command.current(config))


@pytest.mark.postgres
def test_rights_and_stores_that_are_missing_leave_sql_untouched(tmp_path, postgres_database):
    """A role that may not make the ledger's tables, and a Qdrant that is down: one message each, nothing applied."""
    with psycopg.connect(postgres_database.replace("+psycopg", ""), autocommit=True) as connection:
        connection.execute("REVOKE CREATE ON SCHEMA public FROM PUBLIC")
        connection.execute("DROP ROLE IF EXISTS weak")
        connection.execute("CREATE ROLE weak LOGIN")
        poor = project_at(tmp_path / "a", postgres_database.replace("qmigrate@", "weak@", 1))
        poor.revise("a1", RUN)
        assert "permission denied" in refusal(poor, kind=LedgerError)
        connection.execute("GRANT CREATE ON SCHEMA public TO weak")
        with contextlib.closing(Ledger.open(postgres_database)) as ledger:
            ledger.prepare()
        split = project_at(tmp_path / "c", postgres_database)
        split.url = poor.url
        split.__post_init__()
        split.revise("a1", "def upgrade():\n    qdrant.require('0002')")
        assert "links are written right after each commit" in split.upgrade("head", "qdrant=skip")
        assert split.links() == [("a1", "0002", "require", "skipped")]
        connection.execute("DROP TABLE alembic_version; DROP OWNED BY weak; DROP ROLE weak")
    down = {"url": f"http://127.0.0.1:{free_port()}", "timeout": 1}
    project = project_at(tmp_path / "b", postgres_database, qdrant=down)
    project.revise("a1", RUN + f"    {TABLE.format('one')}")
    assert "127.0.0.1" in refusal(project, kind=StoreError)


@pytest.mark.postgres
def test_a_ledger_in_another_database_is_linked_after_the_commit(tmp_path, postgres_database):
    """It says so; a crash between commit and link is made good by the next run, and a downgrade removes it."""
    made = Deployment(tmp_path / "project", {"path": str(tmp_path / "qdrant")}, f"sqlite:///{tmp_path}/ledger.db")
    made.revise("0001", CREATE)
    project = AlembicProject(made, postgres_database)
    project.revise("a1", "def upgrade():\n    qdrant.run('0001')")
    project.revise("a2", "def upgrade():\n    pass")
    assert "links are written right after each commit" in project.upgrade("a1")
    linked = [("a1", "0001", "run", "linked")]
    assert project.links() == linked
    assert project.tables() == {"alembic_version"}
    with contextlib.closing(Ledger.open(made.ledger_url)) as ledger, ledger.database.writing() as connection:
        connection.execute(text("DELETE FROM qdrant_alembic_links"))
    assert "recording the links of a1" in project.upgrade()
    assert project.links() == linked
    project.downgrade("base")
    assert project.links() == []


@pytest.mark.parametrize("kind", ["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def test_one_of_several_replicas_migrates_and_the_others_wait(request, kind):
    """Started at the same time, each revision runs once and all end well; who waits too long says for what."""
    project = request.getfixturevalue(kind)
    project.revise("a1", RUN + f"    {TABLE.format('ran')}")
    with project.engine() as engine, only_one(engine, "alembic_version", 0):
        assert "another Alembic run is working on alembic_version" in refusal(
            project, "qdrant_lock_timeout=0s", kind=LeaseHeldError
        )
        started = [project.spawn("upgrade", "head") for _ in range(2)]
    said = [(one.communicate(timeout=120)[0], one.returncode) for one in started]
    assert [code for _, code in said] == [0, 0], said
    assert project.version() == "a1"


def test_alembic_shows_one_message_without_a_traceback(sqlite):
    """As Alembic shows its own errors: FAILED on stdout, exit code 255, and our next command in it."""
    sqlite.revise("a1", "def upgrade():\n    qdrant.require('0002')")
    ended = sqlite.spawn("upgrade", "head")
    said = ended.communicate(timeout=120)[0]
    assert ended.returncode == 255
    assert "FAILED: Alembic revision a1 needs the vector revision 0002" in said
    assert "→ qmigrate upgrade 0002" in said
    assert "Traceback" not in said


def test_several_databases_in_one_env_py(tmp_path):
    """Each has a session of its own; what the first one left in Alembic's options is not taken for Alembic's."""
    first = ENV.replace("engine = create_engine(url", "engine = create_engine(address").replace("\n    engine = ", "\n  for address in (url, url + '2'):\n    engine = ")
    project = project_at(tmp_path, f"sqlite:///{tmp_path}/sql.db", first)
    project.revise("a1", RUN)
    assert "links are written right after each commit" in project.upgrade()
    assert project.links() == [("a1", "0002", "run", "linked")]
