"""SIGKILL while points get other ids, then the same command again: it ends as if nothing had happened."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest
from tests.conftest import clean
from tests.faults.test_kill import child
from tests.harness import Deployment
from tests.scenarios.test_rekey import POINTS, REKEY, deployed, expected, generations, point

from qmigrate.commands import rollback as back
from qmigrate.commands import status, upgrade

#: Minutes: see scripts/test --nightly.
pytestmark = pytest.mark.nightly

#: Where both generations could be left in disagreement: half filled, half proven, one base of two, name moved.
KILLS = (
    "after checkpoint",
    "after stage_base",
    "after commit_base",
    "before journal swap done",
    "before close_step",
)


def ready(folder: Path, config: dict) -> Deployment:
    """A loaded collection whose points are about to get other ids."""
    short = config if "path" in config else {**config, "timeout": 1}
    store = {"path": str(folder / "qdrant")} if "path" in config else short
    return deployed(folder, store, *map(point, range(POINTS)), body=REKEY)


@pytest.mark.timeout(600)
def test_killed_rekey_is_resumed_to_the_same_end(qdrant_config, tmp_path):
    """Wherever it was killed, every point ends under its new id once, and the way back is open."""
    log = tmp_path / "points"
    probe = ready(tmp_path / "probe", qdrant_config)
    before = probe.contents()
    done = child(probe, "upgrade", "head", log=log)
    assert done.returncode == 0, done.stderr
    labels = log.read_text().splitlines()
    kills = [len(labels) - labels[::-1].index(label) if label == "after commit_base" else labels.index(label) + 1 for label in KILLS]
    # A resume on a server waits as long as a request may take: there, only where a crash would do most harm.
    for number in kills if "path" in qdrant_config else kills[2:4]:
        made = ready(tmp_path / f"kill{number}", qdrant_config)
        killed = child(made, "upgrade", "head", kill_at=number)
        assert killed.returncode == -signal.SIGKILL, f"{labels[number - 1]}: {killed.stderr}"
        upgrade.upgrade(made.settings())
        assert made.contents() == expected(before), labels[number - 1]
        assert made.row().state == "ready"
        applied = [row.revision for row in status.history(made.settings()).rows if row.direction == "upgrade"]
        assert applied.count("0002") == 1
        back.rollback(made.settings(), "0001")
        assert made.contents() == before, labels[number - 1]
        assert generations(made) == [f"{made.name}__g0001", f"{made.name}__g0002"]
        if "url" in qdrant_config:
            clean(made)
