"""SIGKILL in a job whose revisions share a copy: resumed to the same end, or aborted as one."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest
from tests.conftest import clean
from tests.faults.stride import thinned
from tests.faults.test_kill import child, points_of
from tests.harness import ADD, CREATE, INDEX, Deployment, Repeated

from qmigrate.commands import rollback as back
from qmigrate.commands import status, upgrade

#: Minutes: see scripts/test --nightly.
pytestmark = pytest.mark.nightly

RENAME = """
def upgrade():
    return [op.RenameVector("{name}", "a", "z", cutover="immediate")]
"""


def prepare(folder: Path, config: dict) -> Deployment:
    """A loaded collection at 0001; three revisions are pending that share a copy."""
    qdrant = {"path": str(folder / "qdrant")} if "path" in config else {**config, "timeout": 3}
    made = Deployment(folder / "project", qdrant, f"sqlite:///{folder}/ledger.db")
    made.revise("0001", CREATE)
    upgrade.upgrade(made.settings(), "0001")
    made.load(30)
    for number, body in enumerate((INDEX, ADD, RENAME), start=2):
        made.revise(f"000{number}", body)
    return made


@pytest.mark.timeout(900)
def test_a_fused_job_is_resumed_or_aborted_as_one(qdrant_config, tmp_path):
    """Wherever it was killed: never some of its revisions applied, and the end is that of one run."""
    prepared = Repeated(lambda folder: prepare(folder, qdrant_config), "path" in qdrant_config)
    probe = prepared(tmp_path / "probe")
    before = probe.contents()
    done = child(probe, "upgrade", "head", log=tmp_path / "points")
    assert done.returncode == 0, done.stderr
    expected = probe.contents()
    labels = (tmp_path / "points").read_text().splitlines()
    closing = labels.index("before close_step") + 1
    numbers = points_of(tmp_path / "points")
    chosen = sorted({*thinned(numbers), closing, closing + 1})
    for count, number in enumerate(chosen):
        made = prepared(tmp_path / f"kill{number}")
        killed = child(made, "upgrade", "head", kill_at=number)
        assert killed.returncode == -signal.SIGKILL, f"{labels[number - 1]}: {killed.stderr}"
        applied = {row.revision for row in status.history(made.settings()).rows}
        assert applied in ({"0001"}, {"0001", "0002", "0003", "0004"}), labels[number - 1]
        if count % 2 and number < labels.index("before journal swap running"):
            back.abort(made.settings())
            assert (made.contents(), made.row().state) == (before, "pending"), labels[number - 1]
        upgrade.upgrade(made.settings())
        assert made.contents() == expected, labels[number - 1]
        assert (made.row().state, made.row().revision) == ("ready", "0004"), labels[number - 1]
        back.rollback(made.settings(), "0001")
        assert made.contents() == before, labels[number - 1]
        if "url" in qdrant_config:
            clean(made)
