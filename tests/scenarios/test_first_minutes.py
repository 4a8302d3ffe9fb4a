"""The first commands in a new place: what works before `init`, and the questions of `init --guided`."""

from __future__ import annotations

import os
import re
import select
import shlex
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml
from qdrant_client import QdrantClient, models
from tests.scenarios.cli import CLEARED, SOURCE, call

#: Seconds within which a question has to come; a failing test waits this long.
LIMIT = 60.0


@pytest.fixture
def live(tmp_path):
    """A folder with a settings file and a collection, and nothing else."""
    (tmp_path / "qmigrate.yaml").write_text("qdrant: {path: q}\nledger: {url: 'sqlite:///ledger.db'}\n")
    client = QdrantClient(path=str(tmp_path / "q"))
    client.create_collection("docs", models.VectorParams(size=2, distance=models.Distance.DOT))
    client.upsert("docs", [models.PointStruct(id=1, vector=[1.0, 2.0])])
    client.close()
    return tmp_path


@pytest.mark.parametrize(
    "args", [("status",), ("doctor",), ("history",), ("adopt", "docs", "--dry-run")], ids=" ".join
)
def test_what_reads_needs_no_folder_of_revisions(live, args):
    """Before `init` there is nothing to read there, and nothing fails."""
    said = call(live, *args)
    assert said.code == 0, said.text
    assert "docs" in said.out or args[0] in ("history", "doctor")
    assert args[0] != "doctor" or "the first command that records something (upgrade, adopt) makes them" in " ".join(said.out.split())
    assert not (live / "qdrant_migrations").exists()


def test_the_first_thing_may_be_to_adopt(live):
    """The baseline is written into a folder that is made for it, and the next upgrade has nothing to do."""
    assert call(live, "adopt", "docs").code == 0
    (made,) = (live / "qdrant_migrations" / "versions").glob("*.py")
    assert re.fullmatch(r"20\d{12}[a-z]{4}_adopt_docs.py", made.name)
    assert (live / "qdrant_migrations" / "script.py.mako").exists()
    assert call(live, "status", "--exit-code").code == 0
    assert call(live, "upgrade").code == 0


def test_a_dry_run_of_adopt_ends_with_the_command_for_what_it_shows(live):
    """The real run makes the very file, although ids are moments; what was typed is in it."""
    shown = call(live, "adopt", "docs", "--dry-run", "-m", "as it is")
    command = shown.out.splitlines()[-1].partition("Run it: ")[2]
    wanted = re.search(r"would write (\S+)", shown.out)[1]
    done = call(live, *shlex.split(command)[1:])
    assert done.code == 0, done.text
    assert f"made {wanted}" in done.out
    assert (live / wanted).read_text() in shown.out + "\n"


def test_revisions_that_were_applied_are_missed(live):
    """A folder that is gone is not taken for an empty one."""
    assert call(live, "adopt", "docs").code == 0
    (live / "qdrant_migrations").rename(live / "elsewhere")
    said = call(live, "upgrade")
    assert (said.code, "there is no folder" in said.err) == (2, True)


def test_the_wrong_folder_is_called_that(tmp_path):
    """Without settings, and with nothing where Qdrant is by default, `status` names the place and asks; it makes none."""
    said = call(tmp_path, "status")
    assert said.code == 0
    assert f"local Qdrant in {tmp_path}/.qmigrate/qdrant" in said.out
    assert f"there is no qmigrate.yaml in {tmp_path}" in said.out
    assert "qmigrate init begins a project here" in said.out
    assert list(tmp_path.iterdir()) == []
    call(tmp_path, "init")
    assert "there is no qmigrate.yaml" not in call(tmp_path, "status").out


def test_what_is_done_last_is_what_status_shows(live):
    """A revision that was not filled in is not said to be where a collection is; the log of -v is qmigrate's own."""
    assert "made qdrant_migrations/versions/0001_adopt_docs.py" in call(live, "adopt", "docs", "--rev-id", "0001").out
    call(live, "revision", "-m", "index")
    body = 'from qmigrate import op\nrevision, down_revision = "0002", "0001"\n\ndef upgrade():\n    return [%s]\n'
    file = live / "qdrant_migrations" / "versions" / "0002_index.py"
    file.write_text(body % 'op.CreatePayloadIndex("dosc", "kind", "keyword")')
    said = call(live, "plan")
    assert (said.code, 'names dosc, which no earlier revision creates; did you mean "docs"?' in said.err) == (2, True)
    file.write_text(body % 'op.CreatePayloadIndex("docs", "kind", "keyword")')
    call(live, "revision", "-m", "later")
    assert "Done: 1 collection at 0002 in" in call(live, "upgrade").out
    said = call(live, "status", "-v")
    assert "0002" in said.out
    assert "alembic.runtime.plugins" not in said.err


def test_a_message_and_a_merge_say_what_is_next(live):
    """A revision without -m names the whole command; two heads are joined by a file that nothing has to be put into."""
    call(live, "init")
    assert '→ qmigrate revision -m "what changes"' in call(live, "revision").err
    for name in ("a", "b"):
        (live / "qdrant_migrations" / "versions" / f"{name}.py").write_text(
            f'revision, down_revision = "{name}", None\n\ndef upgrade():\n    return []\n'
        )
    said = call(live, "revision", "--merge", "-m", "join")
    assert "upgrade() of a merge may stay empty" in said.out
    assert "fill in" not in said.out


def test_several_collections_are_adopted_by_what_doctor_says(live):
    """Its hint can be typed as it stands."""
    client = QdrantClient(path=str(live / "q"))
    client.create_collection("faces", models.VectorParams(size=2, distance=models.Distance.DOT))
    client.close()
    assert "qmigrate adopt '*'" in " ".join(call(live, "doctor").out.split())
    assert call(live, "adopt", "*").code == 0


class Terminal:
    """A verb in a terminal of its own, whose questions are answered one by one."""

    def __init__(self, folder: Path, *args: str, **environ: str) -> None:
        self._ours, theirs = os.openpty()
        env = {name: value for name, value in os.environ.items() if not name.endswith(CLEARED)}
        env |= {"PYTHONPATH": str(SOURCE), "COLUMNS": "200", "TERM": "dumb", **environ}
        self._process = subprocess.Popen(
            [sys.executable, "-m", "qmigrate", *args], cwd=folder, env=env, stdin=theirs, stdout=theirs, stderr=theirs
        )
        os.close(theirs)
        self.text, self._read = "", 0

    def until(self, words: str) -> None:
        """Wait for words, behind those that were waited for before."""
        deadline = time.monotonic() + LIMIT
        while (found := self.text.find(words, self._read)) < 0:
            assert time.monotonic() < deadline, self.text
            if select.select([self._ours], [], [], 1.0)[0]:
                try:
                    self.text += os.read(self._ours, 65536).decode()
                except OSError:
                    raise AssertionError(self.text) from None
        self._read = found + len(words)

    def answer(self, question: str, line: str) -> None:
        """Answer a question."""
        self.until(question)
        os.write(self._ours, f"{line}\n".encode())

    def end(self) -> int:
        """The exit code."""
        while True:
            try:
                if not (more := os.read(self._ours, 65536)):
                    break
                self.text += more.decode()
            except OSError:
                break
        os.close(self._ours)
        return self._process.wait(LIMIT)

    def stop(self) -> None:
        """End it whatever it waits for."""
        self._process.kill()
        self._process.wait(LIMIT)


@pytest.fixture
def terminal(tmp_path):
    """Starts a verb in a terminal; it is ended with the test."""
    started: list[Terminal] = []

    def start(*args: str, **environ: str) -> Terminal:
        started.append(Terminal(tmp_path, *args, **environ))
        return started[-1]

    yield start
    for one in started:
        one.stop()


def test_guided_asks_tries_and_writes(tmp_path, terminal):
    """What doesn't work is asked again; what does is in a file that reads back."""
    (tmp_path / "my_model.py").write_text("def embed(items):\n    return [[0.5, 1.0, 2.0] for _ in items]\n")
    at = terminal("init", "--guided", APP_LEDGER=f"sqlite:///{tmp_path}/app.db")
    at.answer("Qdrant: URL", "localhost:6333")
    at.answer("API key", "")
    at.until("must be a URL such as http://localhost:6333")
    at.answer("Qdrant: URL", "")
    at.answer("Ledger", "postgresql://app:hunter2@db/app")
    at.until("a password doesn't belong in a file")
    at.answer("Ledger", "NO_SUCH_VARIABLE")
    at.until("NO_SUCH_VARIABLE is not set")
    at.answer("Ledger", "APP_LEDGER")
    at.until("can be used")
    at.answer("Embedder", "callable")
    at.answer("Your function", "no_such_module:embed")
    at.answer("Its name", "mine")
    at.until("can't be imported")
    at.answer("Embedder", "callable")
    at.answer("Your function", "my_model:embed")
    at.answer("Its name", "mine")
    at.until("mine: 3 values")
    assert at.end() == 0, at.text
    found = yaml.safe_load((tmp_path / "qmigrate.yaml").read_text())
    assert found["qdrant"] == {"path": ".qmigrate/qdrant"}
    assert found["ledger"] == {"url_env": "APP_LEDGER"}
    assert found["embedders"] == {"mine": {"type": "callable", "function": "my_model:embed"}}
    assert "hunter2" not in (tmp_path / "qmigrate.yaml").read_text()


def test_guided_asks_for_the_port_that_points_go_to(tmp_path, terminal, qdrant_server):
    """A server whose gRPC port is another one answers over REST, and would fail with the first point."""
    with socket.socket() as probe:
        if probe.connect_ex(("127.0.0.1", 6334)) == 0:
            pytest.skip("something answers at 127.0.0.1:6334")
    at = terminal("init", "--guided", QDRANT_KEY=qdrant_server.api_key or "none", QMIGRATE_QDRANT_GRPC_PORT="9")
    at.answer("Qdrant: URL", qdrant_server.url)
    at.answer("API key", "QDRANT_KEY")
    at.until("its port for points doesn't")
    at.answer("Its gRPC port", str(qdrant_server.grpc_port))
    at.until("points go to ")
    at.answer("Ledger", "")
    at.answer("Embedder", "")
    at.answer("Values of a vector", "")
    at.answer("Its name", "")
    assert at.end() == 0, at.text
    found = yaml.safe_load((tmp_path / "qmigrate.yaml").read_text())["qdrant"]
    assert (found["url"], found["grpc_port"]) == (qdrant_server.url, qdrant_server.grpc_port)


def test_guided_can_write_what_does_not_answer_yet(tmp_path, terminal):
    """A server that is to be started later is written after a yes, and not tried again."""
    # What is typed is tried, not what the environment has.
    at = terminal("init", "--guided", QMIGRATE_QDRANT_URL="http://127.0.0.1:8", QMIGRATE_LEDGER_URL="sqlite:///x.db")
    at.answer("Qdrant: URL", "http://127.0.0.1:9")
    at.answer("API key", "QDRANT_KEY")
    at.answer("Write it all the same?", "y")
    at.answer("Ledger", "")
    at.until("a file: nothing to try")
    at.answer("Embedder", "")
    at.answer("Values of a vector", "")
    at.answer("Its name", "")
    assert at.end() == 0, at.text
    assert "127.0.0.1:8" not in at.text
    assert at.text.count("127.0.0.1:9") > 1
    found = yaml.safe_load((tmp_path / "qmigrate.yaml").read_text())
    assert found["qdrant"] == {"url": "http://127.0.0.1:9", "api_key_env": "QDRANT_KEY"}
    assert found["embedders"] == {"words": {"type": "hashing", "size": 256}}


@pytest.mark.parametrize(("args", "why"), [((), "stdin is not a terminal"), (("--json",), "--json was given")])
def test_guided_needs_someone_to_answer(tmp_path, args, why):
    """Without a terminal it is refused at once, with what works there, and writes nothing."""
    said = call(tmp_path, "init", "--guided", *args)
    assert said.code == 2
    assert why in said.text
    assert list(tmp_path.iterdir()) == []


def test_guided_asks_nothing_where_the_answers_could_not_be_kept(tmp_path, terminal):
    """A settings file is not overwritten, so that no question is answered in vain."""
    (tmp_path / "qmigrate.yaml").write_text("qdrant: {path: q}\n")
    at = terminal("init", "--guided")
    assert at.end() == 2
    assert "exists already; nothing was overwritten" in at.text
    assert "Qdrant: URL" not in at.text


@pytest.mark.parametrize(
    "args",
    [("adopt", "docs"), ("rollback",), ("abort",), ("fix", "undo", "1", "--yes"), ("gc",), ("verify", "a", "b")],
    ids=" ".join,
)
def test_what_finds_nothing_leaves_nothing(tmp_path, args):
    """Where neither settings nor stores are, a verb that can't be the first one makes none, and says where it looked."""
    said = call(tmp_path, *args)
    assert list(tmp_path.iterdir()) == []
    if args[0] in ("adopt", "verify"):
        assert said.code == 2
        assert f"there is no qmigrate.yaml in {tmp_path}" in said.err
        assert f"{tmp_path}/.qmigrate/qdrant" in said.err
        assert "→ qmigrate init begins a project here; --config FILE names another one" in said.err
    else:
        assert "unexpected" not in said.text


def test_an_unnamed_vector_gets_an_empty_one_beside_it(live):
    """The client's local mode refuses an unnamed vector that is written alone next to a named one."""
    assert call(live, "adopt", "docs", "--rev-id", "0001").code == 0
    (live / "qdrant_migrations" / "versions" / "0002_beside.py").write_text(
        """from qdrant_client.models import Distance, VectorParams
from qmigrate import Empty, op
revision, down_revision = "0002", "0001"

def upgrade():
    return [op.AddVector("docs", "b", VectorParams(size=2, distance=Distance.DOT), values=Empty())]
"""
    )
    said = call(live, "upgrade")
    assert said.code == 0, said.text
    # Hiding the plain name and the rebuild prove the same points: it is said once.
    assert said.out.count("proven ") == 1
    client = QdrantClient(path=str(live / "q"))
    try:
        assert client.retrieve("docs", [1], with_vectors=True)[0].vector == [1.0, 2.0]
    finally:
        client.close()
