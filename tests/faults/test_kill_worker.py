"""Several worker processes fill a vector: some are killed in the middle, and their ranges continue in others."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest
from tests.conftest import clean
from tests.harness import ADD, CREATE, Deployment

from qmigrate.commands import status, upgrade
from qmigrate.embed.backends.function import _Function
from qmigrate.engine.workers import pool
from qmigrate.errors import UnavailableError
from qmigrate.ledger import Ledger
from qmigrate.store import records

#: Minutes: see scripts/test --nightly.
pytestmark = pytest.mark.nightly

POINTS = 800
MODULE = '''
import os, signal, threading
from pathlib import Path

from qmigrate.commands.workers.worker import JoinedWorker
from qmigrate.engine.build import copy
from qmigrate.store import records

here = Path(__file__).parent
told = threading.Event()
worker = os.getpid() != int(os.environ["TEST_PARENT"])
if worker:
    # Many pages in a range, and a checkpoint after each.
    records.page_size = lambda *_arguments, **_more: 10
    copy.CHECKPOINT_EVERY = 0.0
    stop = JoinedWorker.stop
    JoinedWorker.stop = lambda self: (stop(self), told.set())


def taken(name):
    """One process at most gets to do it."""
    try:
        (here / name).rename(here / f"{name}.{os.getpid()}")
    except FileNotFoundError:
        return False
    return True


def embed(texts):
    seen = here / f"seen.{os.getpid()}"
    with seen.open("a") as out:
        out.writelines(text + "\\n" for text in texts)
    mine = len(seen.read_text().splitlines())
    if worker and mine >= 60 and (here / "always").exists():
        os.kill(os.getpid(), signal.SIGKILL)
    if worker and mine >= 110 and taken("once"):
        os.kill(os.getpid(), signal.SIGKILL)
    if worker and mine >= 110 and (here / "parent").exists():
        number = int((here / "parent").read_text())
        if taken("parent"):
            os.kill(os.getppid(), number)
    if worker and any(here.glob("parent.*")):
        # Nothing gets ahead of the signal.
        told.wait(60)
    return [[float("nan")] * 16 if text.endswith("77") else [float(len(text)), *map(float, range(15))] for text in texts]
'''
KEEP = ADD.replace('text="text"', 'text="text", on_failure="keep_without_vector"')


@pytest.fixture
def prepared(qdrant_server, tmp_path, monkeypatch):
    """Makes a loaded collection at 0001 with revision 0002 pending, to be filled by two workers in four ranges."""
    made = []

    def prepare(ledger_url: str, *devices: str) -> Deployment:
        monkeypatch.setenv("TEST_PARENT", str(os.getpid()))
        (tmp_path / "worker_words.py").write_text(MODULE)
        monkeypatch.syspath_prepend(str(tmp_path))
        monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), *filter(None, sys.path)]))
        sys.modules.pop("worker_words", None)
        words = {"type": "callable", "function": "worker_words:embed", "version": "1", "max_batch": 10}
        one = Deployment(
            tmp_path / "project",
            {"url": qdrant_server.url, "grpc_port": qdrant_server.grpc_port, "timeout": 2},
            ledger_url,
            extra={
                "embedders": {"words": words},
                "limits": {"max_quarantine": 0.2},
                "rebuild": {"sample": 0, "devices": list(devices), "ranges": 4, "workers": 1},
            },
        )
        made.append(one)
        one.revise("0001", CREATE)
        upgrade.upgrade(one.settings(), "0001")
        one.load(POINTS, uuids=False)
        one.revise("0002", KEEP)
        return one

    yield prepare
    for one in made:
        clean(one)


def configure(made: Deployment, *devices: str) -> None:
    """Other devices from now on; none means that no worker is started."""
    made.extra["rebuild"] = {**made.extra["rebuild"], "devices": list(devices)}
    made.__post_init__()


def seen(folder) -> dict[int, set[str]]:
    """Process -> the texts that it has embedded; none of them one twice."""
    found = {}
    for file in folder.glob("seen.*"):
        lines = file.read_text().splitlines()
        assert len(lines) == len(set(lines))
        found[int(file.suffix[1:])] = set(lines)
    return found


def written(made: Deployment) -> set[str]:
    """Texts of the points that the shadow has with their vector."""
    store = made.store()
    try:
        points = [stored for page in store.scan(f"{made.name}__g0002") for stored in page]
        return {records.payload_of(one)["text"] for one in points if "b" in records.vectors_of(one)}
    finally:
        store.close()


def progress_of(made: Deployment) -> list[int]:
    """Points of each range, as the ledger has them; the run is open."""
    ledger = Ledger.open(made.ledger_url)
    try:
        return [share.points for share in ledger.ranges(ledger.open_run(made.name).id, 0)]
    finally:
        ledger.close()


def check_whole(made: Deployment) -> None:
    """Every point is proven, and every failure counted once."""
    bad = {number + 1: 1 for number in range(POINTS) if str(number).endswith("77")}
    ledger = Ledger.open(made.ledger_url)
    rows = {row.point_id: row.attempts for row in ledger.quarantine([f"{made.name}__g0002"])}
    ledger.close()
    proof = status.history(made.settings()).rows[0].report["verification"]
    assert (proof["points"], proof["proven"], proof["without_vector"]) == (POINTS, POINTS, len(bad))
    assert rows == bad
    store = made.store()
    assert not [alias for alias in store.aliases() if alias.startswith(f"{made.name}__g")]
    store.close()


@pytest.mark.server
def test_the_range_of_a_killed_worker_goes_on_in_another(prepared, tmp_path, monkeypatch):
    """What a killed worker had written is embedded by no other one, in this run or, where all die, in the next."""
    made = prepared(f"sqlite:///{tmp_path}/ledger.db", "cpu")
    there: list[tuple[set[str], list[int], str]] = []
    lose = pool._Copy._lose

    def watched(self, place, hand, why):
        there.append((written(made), progress_of(made), why))
        lose(self, place, hand, why)

    released = []
    monkeypatch.setattr(pool._Copy, "_lose", watched)
    # As embedders of torch can: this process needs no model while others fill.
    monkeypatch.setattr(_Function, "release", lambda self: released.append(len(written(made))), raising=False)
    (tmp_path / "once").touch()
    (tmp_path / "always").touch()
    with pytest.raises(UnavailableError, match=r"3 workers in a row .* killed by signal 9"):
        upgrade.upgrade(made.settings())
    (tmp_path / "always").unlink()
    before = written(made)
    assert before
    assert released == [0]
    assert any(0 < points < POINTS // 4 for points in progress_of(made))
    for file in tmp_path.glob("seen.*"):
        file.unlink()
    there.clear()
    configure(made, "cpu", "cpu")
    result = upgrade.upgrade(made.settings())
    [(held, ranges, why)] = there
    (killed,) = (int(file.suffix[1:]) for file in tmp_path.glob("once.*"))
    assert why == "killed by signal 9"
    by_process = seen(tmp_path)
    others = set().union(*(texts for process, texts in by_process.items() if process not in (killed, os.getpid())))
    assert len(by_process[killed]) >= 110
    assert held & by_process[killed]
    assert not held & by_process[killed] & others
    assert not before & (others | by_process[killed])
    assert result.outcomes[0].report["0.fill"]["limited_by"]
    check_whole(made)


@pytest.mark.server
@pytest.mark.postgres
def test_workers_end_with_their_parent(prepared, postgres_database, tmp_path):
    """SIGTERM, then SIGKILL to the process that holds the lease: no worker outlives it, and one process alone goes on."""
    made = prepared(postgres_database, "cpu", "cpu")
    command = [sys.executable, "-m", "qmigrate", "--config", str(made.config), "upgrade"]
    environ = {**os.environ, "TEST_PARENT": "0"}
    done: list[int] = []
    for number, code in ((signal.SIGTERM, 143), (signal.SIGKILL, -9)):
        before = written(made) if done else set()
        (tmp_path / "parent").write_text(str(int(number)))
        # The workers have the same end of the pipe: it is read to its end once they are gone.
        ended = subprocess.run(command, env=environ, capture_output=True, timeout=120)
        assert ended.returncode == code, ended.stderr
        assert not before & set().union(*seen(tmp_path).values())
        done.append(sum(progress_of(made)))
        for file in [*tmp_path.glob("seen.*"), *tmp_path.glob("parent.*")]:
            file.unlink()
    assert 0 < done[0] < done[1] < POINTS
    before = written(made)
    configure(made)
    upgrade.upgrade(made.settings())
    assert not before & seen(tmp_path)[os.getpid()]
    check_whole(made)
