"""What people get wrong: each has its exit code and one readable message, and leaves nothing half-recorded."""

from __future__ import annotations

import os
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import yaml
from tests.conftest import clean
from tests.conftest_qdrant import free_port
from tests.harness import ADD, CREATE, INDEX, Deployment
from tests.scenarios.cli import OPENING, READABLE, VERBS, call, check_error_json, check_message, left, refused, spawn

from qmigrate.commands import status, upgrade
from qmigrate.errors import DriftError
from qmigrate.ledger import Ledger

KEY, READ_KEY = "the-full-key", "the-reading-key"
NOT_LIST = "\ndef upgrade():\n    return None\n"
NO_OPERATION = "\ndef upgrade():\n    return ['CreateCollection']\n"
RAISES = "\ndef upgrade():\n    return [1 / 0]\n"
RAISES_EARLY = "\nthere_is_no_such_name\n\ndef upgrade():\n    return []\n"
SYNTAX = "\ndef upgrade(:\n    return []\n"
NOTHING = "\ndef upgrade():\n    return []\n"


@pytest.fixture
def local(tmp_path):
    """A deployment on local mode, with one revision."""
    made = Deployment(tmp_path / "project", {"path": str(tmp_path / "qdrant")}, f"sqlite:///{tmp_path}/ledger.db")
    made.revise("0001", CREATE)
    return made


def reconfigure(made: Deployment, section: str, values: dict) -> None:
    """Replace one section of the settings file."""
    config = yaml.safe_load(made.config.read_text())
    made.config.write_text(yaml.safe_dump({**config, section: values}))


class Web(BaseHTTPRequestHandler):
    """Answers every request with the server's ``said``: status, content type, body; remembers what was asked."""

    def answer(self):
        """The same for every method."""
        self.server.asked.append(self.command)
        status, kind, body = self.server.said
        self.send_response(status)
        self.send_header("content-type", kind)
        self.end_headers()
        self.wfile.write(body.encode())

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = answer  # noqa: N815  the names that the base class wants

    def log_message(self, *_):
        """Say nothing."""


@pytest.fixture
def web():
    """A small web server that is not Qdrant."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Web)
    server.daemon_threads = False
    server.asked = []
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.parametrize(
    ("url", "code", "words"),
    [
        (f"http://127.0.0.1:{free_port()}", 9, ("can't be reached", "qdrant.url")),
        ("http://qdrant.invalid:6333", 9, ("qdrant.invalid:6333 can't be reached", "qdrant.url")),
        ("grpc://localhost:6334", 2, ("qdrant.url must be a URL such as http://localhost:6333",)),
        ("localhost:6333", 2, ("qdrant.url must be a URL such as http://localhost:6333",)),
        ("http://user:pass@localhost:6333", 2, ("http://***@localhost:6333", "QMIGRATE_QDRANT_API_KEY")),
    ],
    ids=["refused", "dns", "scheme", "no scheme", "credentials"],
)
def test_an_address_without_a_qdrant(local, url, code, words):
    """A server that is not there, or an address that can't be one, is named with what to repair; no ledger is made."""
    reconfigure(local, "qdrant", {"url": url, "timeout": 0.2})
    for verb in ("upgrade", "status"):
        refused(local.root, (verb,), code, *words)
    assert not os.path.exists(local.ledger_url.removeprefix("sqlite:///"))


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ((404, "text/html", "<h1>nothing here</h1>"), ("is not Qdrant", "qdrant.url is the REST address")),
        ((200, "text/html", "<h1>welcome</h1>"), ("is not Qdrant",)),
        ((200, "application/json", '{"version": {"number": "8.1"}}'), ("is not Qdrant",)),
        ((503, "text/plain", "no healthy upstream"), ("failed a request with 503",)),
        (
            (200, "application/json", '{"title": "qdrant - vector search engine", "version": "1.15.0"}'),
            ("version 1.15.0", "needs 1.16.0 or newer", "upgrade Qdrant"),
        ),
    ],
    ids=["404", "html", "another product", "a proxy", "too old"],
)
def test_what_answers_is_not_a_qdrant_to_work_with(local, web, said, words):
    """A web page, another product, a proxy's error and an old server are exit 9 before anything but a GET is sent."""
    web.said = said
    reconfigure(local, "qdrant", {"url": f"http://127.0.0.1:{web.server_port}", "timeout": 0.2})
    refused(local.root, ("upgrade",), 9, *words)
    assert set(web.asked) == {"GET"}
    assert not os.path.exists(local.ledger_url.removeprefix("sqlite:///"))


@pytest.mark.server
def test_keys(qdrant_with, tmp_path):
    """Without a key, with a wrong one, and with one that may only read, an upgrade changes nothing and says why."""
    server = qdrant_with({"QDRANT__SERVICE__API_KEY": KEY, "QDRANT__SERVICE__READ_ONLY_API_KEY": READ_KEY})
    qdrant = {"url": server.url, "grpc_port": server.grpc_port, "timeout": 2, "api_key_env": "KEY_OF_THE_TEST"}
    made = Deployment(tmp_path / "project", qdrant, f"sqlite:///{tmp_path}/ledger.db")
    made.revise("0001", CREATE)
    words = ("denied access", "missing or wrong", "QMIGRATE_QDRANT_API_KEY")
    for verb in ("status", "upgrade"):
        refused(made.root, (verb,), 9, *words, env={"KEY_OF_THE_TEST": "a-wrong-key"})
        refused(made.root, (verb,), 9, *words)
        refused(made.root, (verb,), 2, "KEY_OF_THE_TEST is set, but empty", env={"KEY_OF_THE_TEST": ""})
    reading = {"KEY_OF_THE_TEST": READ_KEY}
    assert call(made.root, "status", env=reading).code == 0
    assert call(made.root, "plan", env=reading).code == 0
    for _ in range(2):
        refused(made.root, ("upgrade",), 9, "read-only", "give qmigrate a key that may manage collections", env=reading)
    full = {"KEY_OF_THE_TEST": KEY}
    with_key = lambda *args: call(made.root, *args, env=full)  # noqa: E731
    assert with_key("status", "--json").json["data"]["collections"][0]["state"] == "pending"
    ledger = Ledger.open(made.ledger_url)
    assert ledger.open_runs() == ()
    assert not ledger.history(None, 10)
    ledger.close()
    # The same with a collection to rebuild, and one to undo.
    assert with_key("upgrade").code == 0
    made.revise("0002", ADD)
    for args in (("upgrade",), ("rollback",)):
        refused(made.root, args, 9, "read-only", env=reading)
        row = with_key("status", "--json").json["data"]["collections"][0]
        assert (row["state"], row["revision"], row["generation"]) == ("pending", "0001", "g0001")
    assert with_key("upgrade").code == 0
    assert with_key("status", "--json").json["data"]["collections"][0]["state"] == "ready"


@pytest.mark.parametrize(
    ("url", "code", "words"),
    [
        (f"postgresql://app:pw-of-app@127.0.0.1:{free_port()}/app", 9, ("ledger", "can't be used", "ledger.url")),
        ("postgresql://app:pw-of-app@db.invalid/app", 9, ("ledger", "can't be used", "ledger.url")),
        ("mysql://app:pw-of-app@db/app", 2, ("PostgreSQL or SQLite, not in mysql",)),
        ("sqlite://", 2, ("a ledger in memory would be lost",)),
        ("no url", 2, ("ledger.url must be a SQLAlchemy URL",)),
    ],
    ids=["refused", "dns", "mysql", "memory", "no url"],
)
def test_sql_that_can_not_be_used(local, url, code, words):
    """A database that is down or of a wrong kind is named without its password, and no collection is made."""
    reconfigure(local, "ledger", {"url": url})
    for verb in ("status", "upgrade"):
        said = refused(local.root, (verb,), code, *words)
        assert "pw-of-app" not in said.text
    assert left(local).names == ()


def test_places_that_can_not_be_written(local, tmp_path):
    """Where a folder is expected and a file is found, the path is named, and nothing is made there."""
    blocked = tmp_path / "file"
    blocked.write_text("in the way")
    reconfigure(local, "ledger", {"url": f"sqlite:///{blocked}/ledger.db"})
    refused(local.root, ("upgrade",), 9, f"{blocked}/ledger.db", "can't be")
    assert left(local).names == ()
    reconfigure(local, "ledger", {"url": local.ledger_url})
    reconfigure(local, "qdrant", {"path": f"{blocked}/qdrant"})
    refused(local.root, ("upgrade",), 9, f"{blocked}/qdrant", "qdrant.path")
    reconfigure(local, "qdrant", {"path": str(blocked)})
    refused(local.root, ("upgrade",), 9, str(blocked), "qdrant.path")
    (local.root / "scripts").write_text("a file")
    refused(local.root, ("revision", "-m", "x", "--scripts", "scripts"), 2, "scripts/versions", "qmigrate init")
    assert blocked.read_text() == "in the way"
    assert not os.path.exists(local.ledger_url.removeprefix("sqlite:///"))


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_without_rights(local, tmp_path):
    """A folder that may only be read is named."""
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o500)
    reconfigure(local, "ledger", {"url": f"sqlite:///{closed}/ledger.db"})
    refused(local.root, ("upgrade",), 9, str(closed), "right to write")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("qdrant: [unclosed", ("qmigrate.yaml, line",)),
        ("qdrant:\n\turl: x\n", ("qmigrate.yaml, line 2",)),
        ("- a\n- b\n", ("must hold keys and values",)),
        ("qdrnat: {}\n", ('unknown key "qdrnat"', 'did you mean "qdrant"?', "; the file is qmigrate.yaml")),
        ("rebuild: {holdovr: 7d}\n", ('unknown key "rebuild.holdovr"', 'did you mean "holdover"?')),
        ("rebuild: {holdover: 7 fortnights}\n", ("rebuild.holdover must be a duration",)),
        ("scripts: a\nscripts: b\n", ('line 2: the key "scripts" is given twice',)),
    ],
    ids=["malformed", "tab", "list", "section", "key", "unit", "twice"],
)
def test_a_settings_file_that_can_not_be_read(local, content, words):
    """Malformed YAML, an unknown key and a wrong unit are exit 2, with the place and what was probably meant."""
    local.config.write_text(content)
    refused(local.root, ("upgrade",), 2, *words)
    assert sorted(path.name for path in local.root.iterdir()) == ["qdrant_migrations", "qmigrate.yaml"]


# What a shell completes depends on no settings.
@pytest.mark.parametrize("verb", [verb for verb in VERBS if verb != "completion"])
def test_every_verb_fails_in_one_json_object(local, verb):
    """With broken settings, and with an unknown option, every verb prints one JSON object and the right exit code."""
    local.config.write_text("qdrnat: {}\n")
    for args in (VERBS[verb], (*VERBS[verb], "--frobnicate")):
        said = call(local.root, *args, "--json")
        assert said.code == 2
        assert said.err == ""
        check_error_json(said, VERBS[verb])


NEW_WITH_MODEL = """
from qdrant_client.models import Distance, VectorParams
from qmigrate import Embed


def upgrade():
    params = VectorParams(size=4, distance=Distance.COSINE)
    return [
        op.CreateCollection("other", vectors={{"a": params}}),
        op.AddVector("other", "b", params, values=Embed("wrods", text="x")),
    ]
"""
BODIES = {
    "syntax": (SYNTAX, ("0002_rev.py, line", "SyntaxError")),
    "raises on import": (RAISES_EARLY, ("0002_rev.py, line", "there_is_no_such_name is not defined")),
    "raises in upgrade": (RAISES, ("0002_rev.py, line", "upgrade() failed: ZeroDivisionError")),
    "no list": (NOT_LIST, ("upgrade() must return a list of operations, not None", "return [")),
    "no operation": (NO_OPERATION, ("item 0 of upgrade() is not an operation", "qmigrate.op")),
    "no upgrade": ("\n", ("has no upgrade()",)),
    "unknown collection": (
        '\ndef upgrade():\n    return [op.DropVector("nowhere", "a")]\n',
        ("0002 (0002_rev.py) names nowhere, which no earlier revision creates", "op.CreateCollection"),
    ),
    "unknown vector": (
        '\ndef upgrade():\n    return [op.DropVector("{name}", "z")]\n',
        ("0002 (0002_rev.py)", "there is no vector z (vectors: a)"),
    ),
    "unknown embedder": (
        ADD.replace('"words"', '"wrods"'),
        ("'wrods' is not configured (known: words); did you mean", '"words"?', "embedders:"),
    ),
    "unknown embedder of a new collection": (
        NEW_WITH_MODEL,
        ("'wrods' is not configured", "embedders:"),
    ),
}


@pytest.mark.parametrize("case", BODIES)
def test_a_revision_that_can_not_be_used(local, case):
    """A broken file, or one that asks for what can't be, is exit 2, named with its place, and nothing of it happens."""
    upgrade.upgrade(local.settings())
    local.load(3)
    before, contents = left(local), local.contents()
    body, words = BODIES[case]
    local.revise("0002", body)
    refused(local.root, ("upgrade",), 2, *words)
    assert left(local) == before
    assert local.contents() == contents


def graph_heads(made):
    """Two revisions follow the same one."""
    made.revise("0002", INDEX, down="0001")
    made.revise("0003", INDEX, down="0001")


def graph_parent(made):
    """A parent that no file has."""
    made.revise("0003", INDEX, down="0002")


def graph_twice(made):
    """The same id in two files."""
    path = made.revise("0002", INDEX, down="0001")
    path.with_name("0002_other.py").write_text(path.read_text())


def graph_cycle(made):
    """Two revisions that follow each other."""
    made.revise("0002", INDEX, down="0003")
    made.revise("0003", INDEX, down="0002")


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (graph_heads, ("2 heads: 0002 (0002_rev.py), 0003 (0003_rev.py)", "qmigrate revision --merge")),
        (graph_parent, ("0003_rev.py follows the revision 0002, and no file has that id",)),
        (graph_twice, ("0002_other.py", "0002_rev.py", "another id")),
        (graph_cycle, ("in a circle", "0002_rev.py", "0003_rev.py", "down_revision")),
    ],
    ids=["heads", "missing parent", "duplicate", "cycle"],
)
def test_revisions_that_do_not_fit_together(local, spoil, words):
    """Several heads, a missing parent, an id twice and a circle are exit 2 and name the files."""
    upgrade.upgrade(local.settings())
    before = left(local)
    spoil(local)
    refused(local.root, ("upgrade",), 2, *words)
    assert left(local) == before


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (("upgrade", "0009"), ('there is no revision "0009"', "0001")),
        (("plan", "0009"), ('there is no revision "0009"',)),
        (("rollback", "0009"), ('there is no revision "0009"',)),
        (("upgrade", "+5"), ('"+5" goes too far',)),
        (("rollback", "-5"), ('"-5" goes too far',)),
        (("upgrade", "00"), ('several revisions begin with "00": 0001, 0002', "write more")),
        (("rollback", "--carry-writes", "--discard-writes"), ("--carry-writes and --discard-writes can't go",)),
        (("rollback", "--now", "--carry-writes"), ("can't go together",)),
        (("upgrade", "--lock-timeout", "soon"), ("'soon' is not a duration",)),
        (("repair",), ("choose one of --accept, --name, --vanished, --unlock",)),
        (("repair", "--accept", "0001"), ("--accept needs a --reason",)),
        (("repair", "--accept", "0009", "--reason", "x"), ('there is no revision "0009"',)),
        (("repair", "--accept", "0002", "--reason", "x"), ("0002 is not applied",)),
        (("frobnicate",), ("there is no verb 'frobnicate'",)),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) and value[0][0] not in "'\"" else None,
)
def test_targets_and_flags_that_can_not_be(local, args, words):
    """A target that doesn't exist, and flags that contradict each other, are exit 2 and change nothing."""
    upgrade.upgrade(local.settings())
    local.revise("0002", INDEX)
    before = left(local)
    said = call(local.root, *args)
    assert said.code == 2, said.text
    assert said.out == ""
    check_message(said.err, *words)
    assert call(local.root, *args, "--json").json["error"]["exit_code"] == 2
    assert left(local) == before


def test_a_changed_revision_stops_everything_until_it_is_accepted(deployment):
    """An applied file that changed is exit 4 on every verb that would rely on it; the acceptance is recorded."""
    made = deployment
    first = made.revise("0001", CREATE)
    upgrade.upgrade(made.settings())
    made.revise("0002", INDEX)
    before = left(made)
    first.write_text(first.read_text() + "\n# an afterthought\n")
    said = ("0001_rev.py was changed after it was applied", "qmigrate repair --accept 0001")
    for verb in sorted(set(OPENING) - set(READABLE)):
        refused(made.root, VERBS[verb], 4, *said)
    assert left(made) == before
    doctor = call(made.root, "doctor")
    assert doctor.code == 4
    assert said[0] in doctor.out
    checks = {check["name"]: check["ok"] for check in call(made.root, "doctor", "--json").json["data"]["checks"]}
    assert [name for name, ok in checks.items() if ok is False] == ["recorded state"]
    assert [checks[part] for part in ("revisions", "ledger", "qdrant")] == [True, True, True]
    with pytest.raises(DriftError):
        upgrade.upgrade(made.settings())
    assert said[0] in status.status(made.settings()).notes[0]
    accepted = call(made.root, "repair", "--accept", "0001", "--reason", "only a comment")
    assert accepted.code == 0, accepted.text
    ledger = Ledger.open(made.ledger_url)
    with ledger.database.reading() as connection:
        rows = connection.exec_driver_sql("SELECT revision, reason, actor FROM qdrant_accepted_checksums").all()
    ledger.close()
    assert [row[:2] for row in rows] == [("0001", "only a comment")]
    assert "@" in rows[0][2]
    assert call(made.root, "upgrade").code == 0
    assert made.row().revision == "0002"
    first.unlink()
    refused(made.root, ("upgrade",), 2, "0002_rev.py follows the revision 0001, and no file has that id")


def test_an_applied_revision_that_is_gone(local):
    """The file of the newest applied revision is missing: exit 4, and what to bring back."""
    upgrade.upgrade(local.settings())
    last = local.revise("0002", INDEX)
    upgrade.upgrade(local.settings())
    last.unlink()
    before = left(local)
    for verb in ("upgrade", "plan"):
        refused(local.root, (verb,), 4, "revision 0002 is applied, but its file is not", "bring the file back")
    assert left(local) == before


def test_doctor_looks_at_every_part_by_itself(local):
    """Three broken parts are three failed checks, each with its own message and way on; the exit code is 9."""
    local.revise("0002", SYNTAX)
    reconfigure(local, "qdrant", {"url": f"http://127.0.0.1:{free_port()}", "timeout": 0.1})
    reconfigure(local, "ledger", {"url": f"postgresql://app@127.0.0.1:{free_port()}/app"})
    said = call(local.root, "doctor", "--json")
    assert said.code == 9
    checks = {check["name"]: check for check in said.json["data"]["checks"]}
    assert [name for name, check in checks.items() if check["ok"] is False] == ["revisions", "ledger", "qdrant"]
    assert "SyntaxError" in checks["revisions"]["detail"]
    assert "can't be reached" in checks["qdrant"]["detail"]
    assert "ledger.url" in checks["ledger"]["hint"]
    people = call(local.root, "doctor")
    assert (people.code, "Traceback" in people.text) == (9, False)


@pytest.mark.nightly
def test_a_process_of_its_own_says_the_same(local):
    """``python -m qmigrate`` has the exit code of its error, no traceback, and one with --debug."""
    local.revise("0002", RAISES)
    said = spawn(local.root, "upgrade")
    assert said.code == 2
    assert said.out == ""
    check_message(said.err, "upgrade() failed: ZeroDivisionError")
    said = spawn(local.root, "upgrade", "--debug")
    assert said.code == 2
    assert "Traceback" in said.err
    assert "ZeroDivisionError" in said.err


DELETE = ("fix", "delete", "NAME", "--reason", "why", "--yes", "--expect", "1")
SYNC = ("fix", "sync", "NAME", "--field", "v", "--yes")


@pytest.mark.parametrize(
    ("args", "words"),
    [
        ((*DELETE, "--filter", "@missing.json"), ("--filter @missing.json can't be read: No such file",)),
        ((*DELETE, "--id", "1", "--filter", " "), ("--filter is given, but empty",)),
        ((*DELETE, "--id", "1", "--sql", ""), ("",)),
        ((*DELETE, "--id", "1", "--prefix", ""), ("would select every path",)),
        ((*DELETE, "--filter", "@."), ("--filter @. can't be read: Is a directory",)),
        ((*DELETE, "--filter", "@latin.json"), ("--filter @latin.json is not UTF-8",)),
        ((*SYNC, "--sql-file", "latin.json"), ("--sql-file: latin.json can't be read: it is not UTF-8",)),
        ((*DELETE, "--sql", "SELECT :p AS id", "--param", "p"), ("--param p: expected NAME=VALUE",)),
        ((*DELETE, "--sql", "SELECT :p AS id", "--param", "p=--5"), ("no database 'app'",)),
        ((*DELETE, "--sql", "SELECT :p AS id", "--param", "p=\u00b2"), ("no database 'app'",)),
        ((*DELETE, "--sql", "SELECT :p AS id", "--param", f"p={'9' * 5000}"), ("too many digits",)),
        ((*DELETE, "--id", "\u00b2"), ("is not a point id",)),
        ((*DELETE, "--id", "9" * 5000), ("is not a point id",)),
        ((*DELETE, "--id", "-5"), ("is not a point id",)),
        (
            (*DELETE, "--filter", '{"filter": {"must": [{"key": "kind", "match": {"value": "a"}}]}}'),
            ("has the key 'filter'", '{"must": [{"key": "kind", "match": {"value": "a"}}]}'),
        ),
        (
            (*DELETE, "--filter", '{"key": "kind", "match": {"value": "a"}}'),
            ("has the key 'key'", '{"must": [{"key": "kind", "match": {"value": "a"}}]}'),
        ),
        ((*DELETE, "--filter", '{"musst": [{"key": "a"}]}'), ("has the key 'musst'", "must, should, must_not")),
        ((*DELETE, "--filter", '{"must": []}'), ("selects every point",)),
        (("fix", "undo", "99", "--yes"), ("there is no fix 99", "qmigrate history --deletions")),
        (("fix", "undo", "99"), ("there is no fix 99",)),
        (("fix", "undo", "9" * 20), ("there is no fix 9999",)),
        ((*DELETE, "--prefix", "\\"), ("would select every path",)),
        ((*DELETE, "--sql", "SELECT id FROM rows", "--param", "n=7"), ("a value for n", "no parameter :n")),
        ((*DELETE, "--id", "1", "--param", "n=7"), ("a value for n, but no query",)),
        ((*SYNC, "--sql", "SELECT id, v FROM rows", "--param", "n=7"), ("a value for n", "no parameter :n")),
        (
            ("fix", "orphans", "NAME", "--sql", "SELECT id FROM rows", "--param", "n=7", "--check"),
            ("a value for n", "no parameter :n"),
        ),
        ((*DELETE, "--sql", "SELECT :n AS id", "--param", "n=7", "--param", "n=8"), ("--param n is given twice",)),
        (("verify", "NAME", "NAME__g0001"), ("lead to the same collection",)),
    ],
)
def test_what_is_typed_wrong_is_a_usage_error(local, args, words):
    """Files, numbers and filters that can't be read are exit 2 with what is wrong, and never to be reported."""
    assert call(local.root, "upgrade").code == 0
    (local.root / "latin.json").write_bytes(b'{"must": "\xe9"}')
    refused(local.root, tuple(one.replace("NAME", local.name) for one in args), 2, *words)


def test_a_folder_of_windows_is_a_folder(local):
    r"""--prefix 'C:\photos' selects what lies below it, and not its neighbours."""
    assert call(local.root, "upgrade").code == 0
    points, store = local.load(4), local.store()
    paths = [r"C:\photos\a.jpg", r"C:\photos-old\a.jpg", r"C:\photos", r"D:\photos\a.jpg"]
    for point, path in zip(points, paths, strict=True):
        store.overwrite_payload(local.name, point.id, {"path": path})
    store.close()
    said = call(local.root, "fix", "delete", local.name, "--prefix", "C:\\photos", "--reason", "why", "--dry-run", "--json")
    assert said.json["data"]["previews"][0]["changes"] == 2


def test_what_comes_back_is_not_counted_among_what_is_there(local):
    """The undo of a deletion reports how many come back, and how many are there."""
    assert call(local.root, "upgrade").code == 0
    point = local.load(1)[0]
    chosen = ("fix", "delete", local.name, "--id", str(point.id), "--reason", "why", "--yes", "--expect", "1")
    assert call(local.root, *chosen, "--max-share", "1").code == 0
    said = call(local.root, "fix", "undo", "1", "--dry-run")
    assert said.code == 0, said.text
    assert "1 point would come back; 0 points there now" in said.out
    # What it names is an option of this verb.
    assert "review them first (--dry-run); --yes does it" in call(local.root, "fix", "undo", "1").err
    assert "1 of 0" not in said.text


@pytest.mark.server
def test_points_of_another_server_are_never_taken_for_those_of_the_url(qdrant_server, qdrant_with, tmp_path):
    """REST by the variable, gRPC by the file, and both servers have the names: what reads points stops, too."""
    servers = (qdrant_server, qdrant_with())
    one, two = (
        Deployment(
            tmp_path / folder,
            {"url": server.url, "grpc_port": server.grpc_port, "timeout": 2},
            f"sqlite:///{tmp_path}/{folder}.db",
            name="tsameservers",
        )
        for folder, server in zip(("one", "two"), servers, strict=True)
    )
    try:
        for made in (one, two):
            made.revise("0001", CREATE)
            assert call(made.root, "upgrade").code == 0
        one.load(20)
        mixed = {"QMIGRATE_QDRANT_URL": two.qdrant["url"], "QMIGRATE_LEDGER_URL": two.ledger_url}
        name = one.name
        for args in (
            ("verify", name, name),
            ("fix", "stats", name),
            ("fix", "delete", name, "--id", "1", "--reason", "r", "--dry-run"),
            ("doctor",),
        ):
            said = call(one.root, *args, env=mixed)
            assert (said.code, "is not the one at" in " ".join(said.text.split())) == (2, True), said.text
        assert call(one.root, "status", env=mixed).code == 0
        right = {**mixed, "QMIGRATE_QDRANT_GRPC_PORT": str(two.qdrant["grpc_port"])}
        assert call(one.root, "verify", name, name, env=right).code == 0
    finally:
        clean(one)


@pytest.mark.parametrize("rate", ["nan", "inf", "-1", "0"])
def test_a_pace_is_a_number_above_zero(local, rate):
    """Refused before anything is begun: no run is left open, and no point is gone."""
    assert call(local.root, "upgrade").code == 0
    local.load(3)
    for verb in (("delete", local.name, "--id", "1", "--reason", "r"), ("sync", local.name, "--sql", "SELECT 1 AS id", "--field", "n=id")):
        said = call(local.root, "fix", *verb, "--yes", "--expect", "1", "--max-share", "1", f"--max-rate={rate}")
        assert (said.code, "Traceback" in said.text, left(local).open_runs) == (2, False, ()), said.text
    assert len(local.contents()) == 3
