"""Keys and passwords are in no output, log record, exception or table, whatever is run and whatever goes wrong."""

from __future__ import annotations

import logging
import traceback
import warnings
from pathlib import Path

import pytest
from sqlalchemy import inspect, make_url, text
from tests.conftest_qdrant import free_port
from tests.harness import ADD, CREATE, INDEX, Deployment, make_point, write
from tests.scenarios.cli import call, spawn

from qmigrate.commands import upgrade
from qmigrate.errors import QmigrateError
from qmigrate.ledger import Ledger
from qmigrate.settings.load import Settings
from qmigrate.store import ConnectionSettings, connect

KEY = "qdrant-key-4711-do-not-show"
#: What a person typed in, and how it stands in the URL.
PASSWORD, ENCODED = "pass@word/4711", "pass%40word%2F4711"
SECRETS = (KEY, PASSWORD, ENCODED)


class Listening(logging.Handler):
    """Keeps the text of every record of every logger, tracebacks included."""

    def __init__(self) -> None:
        super().__init__(logging.NOTSET)
        self.setFormatter(logging.Formatter("%(name)s %(message)s"))
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keep one record, and the arguments that its text may leave out."""
        self.lines.append(f"{self.format(record)} {record.args!r}")


@pytest.fixture
def heard():
    """Everything that is logged, at every level."""
    handler, root = Listening(), logging.getLogger()
    level = root.level
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    yield handler.lines
    root.removeHandler(handler)
    root.setLevel(level)


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)])
def guarded(request, qdrant_with, tmp_path):
    """A deployment whose server asks for a key, and whose ledger's URL has a password where it can have one."""
    server = qdrant_with({"QDRANT__SERVICE__API_KEY": KEY})
    url = f"sqlite:///{tmp_path}/ledger.db"
    if request.param == "postgresql":
        given = request.getfixturevalue("postgres_database")
        url = make_url(given).set(password=PASSWORD).render_as_string(hide_password=False)
        assert ENCODED in url
    qdrant = {"url": server.url, "grpc_port": server.grpc_port, "timeout": 2, "api_key_env": "KEY_OF_THE_TEST"}
    made = Deployment(tmp_path / "project", qdrant, url)
    made.revise("0001", CREATE)
    made.revise("0002", INDEX)
    return made


def settings_of(made: Deployment, **changed: str) -> Settings:
    """The settings with the key, as a Python program loads them."""
    return Settings.load(config=made.config, environ={"KEY_OF_THE_TEST": KEY}, **changed)


def check(*texts: object) -> None:
    """None of the secrets is in any of the texts."""
    for found in map(str, texts):
        for secret in SECRETS:
            assert secret not in found, found


def everything_in(url: str) -> str:
    """Every value of every table of the database, as text."""
    ledger = Ledger.open(url)
    try:
        with ledger.database.reading() as connection:
            tables = inspect(connection).get_table_names()
            assert "qdrant_migration_runs" in tables
            rows = [
                repr([bytes(value) if isinstance(value, memoryview) else value for value in row])
                for table in tables
                for row in connection.execute(text(f'SELECT * FROM "{table}"'))  # noqa: S608  names of the database
            ]
    finally:
        ledger.close()
    assert len(rows) > 20
    return "\n".join(rows)


def seals_of(made: Deployment) -> str:
    """What stands in Qdrant of the collections themselves."""
    store = connect(ConnectionSettings(**settings_of(made).connection()))
    try:
        return repr([(store.describe(name), store.aliases()) for name in store.physical_names()])
    finally:
        store.close()


def add_points(made: Deployment, numbers: range) -> None:
    """Points written as the application would."""
    store = connect(ConnectionSettings(**settings_of(made).connection()))
    try:
        write(store, made.name, [make_point(number) for number in numbers])
    finally:
        store.close()


@pytest.mark.server
def test_a_whole_life_shows_no_secret(guarded, heard, capfd):
    """From init to rollback, with -vv and with --json: no secret on either stream, in a log, a table or a seal."""
    made, env = guarded, {"KEY_OF_THE_TEST": KEY}

    def verb(*args: str, code: int = 0) -> None:
        for more in ((), ("-vv",), ("--json", "--debug")):
            said = call(made.root, *args, *more, env=env)
            assert said.code == code, said.text
            check(said.out, said.err)

    Path(made.root, "new").mkdir()
    check(call(made.root / "new", "init", env=env).text)
    verb("plan")
    verb("upgrade")
    add_points(made, range(30))
    made.revise("0003", ADD)
    for args in (("plan",), ("upgrade", "--dry-run"), ("upgrade",), ("status",), ("history",), ("snapshot", "list")):
        verb(*args)
    verb("snapshot", "create", made.name)
    verb("doctor")
    verb("wait", "--timeout", "1s")
    add_points(made, range(100, 102))
    said = call(made.root, "rollback", "0002", env=env)
    assert said.code == 10
    check(said.text)
    verb("rollback", "0002", "--carry-writes")
    verb("abort")
    check(everything_in(made.ledger_url), seals_of(made), repr(settings_of(made)), str(settings_of(made)))
    check(*heard)
    assert any("HTTP Request" in line for line in heard)
    printed = capfd.readouterr()
    check(printed.out, printed.err)


def failing(made: Deployment) -> list[tuple[str, dict[str, str], tuple[str, ...]]]:
    """Ways to fail: what is wrong, the environment, further arguments."""
    right, closed = {"KEY_OF_THE_TEST": KEY}, free_port()
    down = f"postgresql://app:{ENCODED}@127.0.0.1:{closed}/app?sslpassword={ENCODED}"
    cases = [
        ("key of another server", {"KEY_OF_THE_TEST": KEY + "x"}, ()),
        ("server down", right, ("--qdrant-url", f"http://127.0.0.1:{closed}")),
        ("key in the URL", right, ("--qdrant-url", f"http://{KEY}@127.0.0.1:{closed}")),
        ("SQL down", right, ("--ledger-url", down)),
        ("SQL of another kind", right, ("--ledger-url", down.replace("postgresql", "mysql"))),
        ("no SQL URL", right, ("--ledger-url", f"app:{PASSWORD}@db")),
        ("a port that is none", right, ("--ledger-url", f"postgresql://app:{ENCODED}@127.0.0.1:port/app")),
    ]
    if made.ledger_url.startswith("postgresql"):
        gone = make_url(made.ledger_url).set(database="no_such_database").render_as_string(hide_password=False)
        cases.append(("no such database", right, ("--ledger-url", gone)))
    return cases


@pytest.mark.server
def test_no_failure_shows_a_secret(guarded, heard):
    """Wrong keys, servers and databases that are down, malformed URLs: neither message, traceback nor log shows one."""
    made = guarded
    for label, env, more in failing(made):
        for verb in ("upgrade", "doctor"):
            said = call(made.root, verb, *more, "-vv", "--debug", env=env)
            assert said.code in (2, 9), f"{label}: {said.text}"
            check(said.out, said.err)
        check(call(made.root, "upgrade", *more, "--json", env=env).text)
    check(*heard)


@pytest.mark.server
def test_exceptions_of_a_python_program_show_no_secret(guarded):
    """Also the complete chain of an exception, with its causes and what was going on, has none."""
    made = guarded
    for label, env, more in failing(made):
        names = dict(zip(more[::2], more[1::2], strict=True))
        changed = {name.removeprefix("--").replace("-", "_"): value for name, value in names.items()}
        try:
            upgrade.upgrade(Settings.load(config=made.config, environ=env, **changed))
        except QmigrateError as error:
            check("".join(traceback.format_exception(error)), repr(error), error.hint, error.facts)
        else:
            raise AssertionError(label)


@pytest.mark.server
def test_a_failed_run_records_no_secret(guarded):
    """What a run that broke in the middle leaves in the ledger has none."""
    made, env = guarded, {"KEY_OF_THE_TEST": KEY}
    assert call(made.root, "upgrade", env=env).code == 0
    add_points(made, range(30))
    made.revise("0003", ADD.replace('Embed("words", text="text")', "Compute(fails)") + FAILS)
    said = call(made.root, "upgrade", env=env)
    assert said.code == 2, said.text
    assert "RuntimeError" in said.err
    assert call(made.root, "status", "--json", env=env).json["data"]["collections"][0]["state"] == "failed"
    check(said.text, everything_in(made.ledger_url))
    assert call(made.root, "abort", env=env).code == 0


FAILS = """

def fails(point):
    if point.payload["n"] > 20:
        raise RuntimeError("the function fell over")
    return [1.0] * 16
"""


@pytest.mark.server
@pytest.mark.parametrize("guarded", ["sqlite"], indirect=True)
def test_a_process_of_its_own_shows_no_secret(guarded):
    """Nor does the command in a process of its own, with every warning shown."""
    env = {"KEY_OF_THE_TEST": KEY, "PYTHONWARNINGS": "always"}
    said = spawn(guarded.root, "upgrade", "-vv", env=env)
    assert said.code == 0, said.text
    check(said.text)


def test_the_key_on_a_plain_connection_raises_no_warning(tmp_path):
    """Nothing is warned of with the key in its text, and building a request puts it in no representation."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        settings = ConnectionSettings(url=f"http://127.0.0.1:{free_port()}", api_key=KEY, timeout=0.1)
        with pytest.raises(QmigrateError) as failed:
            connect(settings)
    check(repr(settings), str(settings), *(entry.message for entry in caught))
    check("".join(traceback.format_exception(failed.value)))
