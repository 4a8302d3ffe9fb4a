"""SIGKILL during a write-back: the same command continues, every row is written, at most a portion twice."""

from __future__ import annotations

import signal

import pytest
from tests.conftest import clean
from tests.faults import forked
from tests.faults.stride import thinned
from tests.harness import Deployment
from tests.scenarios.test_write_back import POINTS, TOLD, App, revise

from qmigrate.commands import upgrade

#: Minutes: see scripts/test --nightly.
pytestmark = pytest.mark.nightly

PORTION = 15


def prepare(folder, qdrant: dict, url: str) -> App:
    """A loaded deployment whose revision 0002 writes back to SQL."""
    folder.mkdir()
    if url.startswith("sqlite"):
        (folder / "app.db").touch()
        qdrant, url = {"path": str(folder / "qdrant")}, f"sqlite:///{folder}/app.db"
    app = App(Deployment(folder / "project", qdrant, f"sqlite:///{folder}/ledger.db"), url)
    app.run("UPDATE assets SET id = 1025 WHERE id = 25")
    revise(app, TOLD)
    return app


def child(app: App, kill_at: int | None = None, log=None):
    """Upgrade in a process of its own."""
    return forked.run("tests.faults.child_write_back", str(app.made.config), str(kill_at or "-"), str(log or "-"))


@pytest.mark.parametrize("end", ["local-sqlite", pytest.param("server-postgresql", marks=[pytest.mark.server, pytest.mark.postgres])])
@pytest.mark.timeout(300)
def test_every_row_is_told_at_least_once(request, tmp_path, end):
    """Killed before and after what is journaled of a portion: nothing is left out, and the revision stays applied."""
    qdrant, url = {}, "sqlite"
    if end.startswith("server"):
        server = request.getfixturevalue("qdrant_server")
        qdrant, url = {"url": server.url, "grpc_port": server.grpc_port, "timeout": 1}, request.getfixturevalue("postgres_database")
    log = tmp_path / "log"
    first = prepare(tmp_path / "first", qdrant, url)
    assert child(first, log=log).returncode == 0
    labels = log.read_text().splitlines()
    points = [number for number, label in enumerate(labels, start=1) if "write_back" in label]
    # The phase begins, a note per portion and one at the end, the phase is done: each has a point on both sides.
    assert len(points) == 2 * (1 + 3 + 1 + 1)
    kept = first.run("SELECT * FROM assets")
    if "url" in qdrant:
        clean(first.made)
        first.run("DROP TABLE assets")
    # The portion that SQL has and the journal has not is what matters; on a server that one is enough.
    for number in points[4:5] if "url" in qdrant else [*points[4:5], *thinned(points[5:])]:
        app = prepare(tmp_path / f"killed{number}", qdrant, url)
        assert child(app, number).returncode == -signal.SIGKILL
        assert (app.made.row().revision, app.made.row().generation) == ("0002", "g0002")
        again = child(app)
        assert again.returncode == 0, again.stderr
        told = app.told()
        assert told.keys() == {row["id"] for row in kept if row["told"]}
        assert len(told) == POINTS - 1
        repeated = sorted(row for row, times in told.items() if times == 2)
        assert max(told.values()) <= 2
        assert len(repeated) <= PORTION
        if number == points[4]:
            assert repeated == [one for one in range(PORTION + 1, 2 * PORTION + 1) if one != 25]
        assert not upgrade.plan(app.made.settings()).collections
        if "url" in qdrant:
            clean(app.made)
            app.run("DROP TABLE assets")
