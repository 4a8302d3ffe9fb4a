"""SIGKILL in the middle of embedding: what was acknowledged is not embedded again, and no failure is lost or doubled."""

from __future__ import annotations

import signal

import pytest
from tests.conftest import clean
from tests.faults import forked
from tests.harness import ADD, CREATE, Deployment, make_point

from qmigrate.commands import status, upgrade
from qmigrate.ledger import Ledger
from qmigrate.store import records

#: Minutes: see scripts/test --nightly.
pytestmark = pytest.mark.nightly

MODULE = '''
import os, signal
from pathlib import Path

here = Path(__file__).parent
seen = here / "seen.log"


def embed(texts):
    with seen.open("a") as out:
        out.writelines(text + "\\n" for text in texts)
    limit = here / "limit"
    if limit.exists() and len(seen.read_text().splitlines()) >= int(limit.read_text()):
        limit.unlink()
        os.kill(os.getpid(), signal.SIGTERM if (here / "gently").exists() else signal.SIGKILL)
    return [[float("nan")] * 16 if text.endswith("7") else [float(len(text)), *map(float, range(15))] for text in texts]
'''
POINTS = 200
KEEP = ADD.replace('text="text"', 'text="text", on_failure="keep_without_vector"')


def prepare(folder, config) -> Deployment:
    """A loaded collection at 0001 with revision 0002 pending; every tenth point can't be embedded."""
    folder.mkdir()
    (folder / "kill_words.py").write_text(MODULE)
    made = Deployment(
        folder / "project",
        {"path": str(folder / "qdrant")} if "path" in config else {**config, "timeout": 1},
        f"sqlite:///{folder}/ledger.db",
        extra={
            "embedders": {"words": {"type": "callable", "function": "kill_words:embed", "version": "1", "max_batch": 10}},
            "limits": {"max_quarantine": 0.2},
            "rebuild": {"sample": 0},
        },
    )
    made.revise("0001", CREATE)
    upgrade.upgrade(made.settings(), "0001")
    made.load(POINTS, uuids=False)
    made.revise("0002", KEEP)
    return made


def written(made: Deployment) -> set[str]:
    """Texts of the points that the shadow has with their vector."""
    store = made.store()
    try:
        shadow = f"{made.name}__g0002"
        if shadow not in store.physical_names():
            return set()
        points = [stored for page in store.scan(shadow) for stored in page]
        return {records.payload_of(one)["text"] for one in points if "b" in records.vectors_of(one)}
    finally:
        store.close()


@pytest.mark.timeout(300)
def test_what_was_acknowledged_is_not_embedded_again(qdrant_config, tmp_path):
    """With no checkpoint, or one per page: the next run embeds only what is missing, and the quarantine is complete."""
    for limit, every in ((60, "3600"), (150, "0")):
        folder = tmp_path / str(limit)
        made = prepare(folder, qdrant_config)
        (folder / "limit").write_text(str(limit))
        killed = forked.run("tests.faults.child_embed", str(made.config), str(folder), every)
        assert killed.returncode == -signal.SIGKILL, killed.stderr
        there = written(made)
        ledger = Ledger.open(made.ledger_url)
        done = sum(share.points for share in ledger.ranges(ledger.open_run(made.name).id, 0))
        # Without a checkpoint only the shadow itself shows what is there.
        assert bool(done) == (every == "0")
        assert there
        (folder / "seen.log").unlink()
        again = forked.run("tests.faults.child_embed", str(made.config), str(folder), every)
        assert again.returncode == 0, again.stderr
        lines = (folder / "seen.log").read_text().splitlines()
        assert not there & set(lines)
        assert len(lines) == len(set(lines))
        bad = {point.id for point in map(make_point, range(POINTS)) if point.payload["text"].endswith("7")}
        rows = {row.point_id: row.attempts for row in ledger.quarantine([f"{made.name}__g0002"])}
        ledger.close()
        assert rows == dict.fromkeys(bad, 1)
        proof = status.history(made.settings()).rows[0].report["verification"]
        assert (proof["points"], proof["proven"], proof["without_vector"]) == (POINTS, POINTS, len(bad))
        if "url" in qdrant_config:
            clean(made)


def test_a_signal_ends_every_thread(qdrant_config, tmp_path):
    """SIGTERM while pages are on their way: exit 143, no thread left, and the same command continues."""
    made = prepare(tmp_path / "made", qdrant_config)
    (tmp_path / "made" / "limit").write_text("60")
    (tmp_path / "made" / "gently").touch()
    stopped = forked.run("tests.faults.child_embed", str(made.config), str(tmp_path / "made"), "3600")
    assert (stopped.returncode, stopped.stdout.strip()) == (143, "[]"), stopped.stderr
    there = written(made)
    ledger = Ledger.open(made.ledger_url)
    done = sum(share.points for share in ledger.ranges(ledger.open_run(made.name).id, 0))
    ledger.close()
    assert done
    (tmp_path / "made" / "seen.log").unlink()
    again = forked.run("tests.faults.child_embed", str(made.config), str(tmp_path / "made"), "3600")
    assert again.returncode == 0, again.stderr
    assert not there & set((tmp_path / "made" / "seen.log").read_text().splitlines())
    assert made.row().revision == "0002"
    if "url" in qdrant_config:
        clean(made)
