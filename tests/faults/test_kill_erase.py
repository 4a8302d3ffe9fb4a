"""SIGKILL at each journal write and each write to Qdrant of an erasure: the same command ends it, and nothing comes back."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest
from tests.conftest import clean
from tests.faults import forked
from tests.faults.stride import thinned
from tests.harness import ADD, Deployment
from tests.scenarios.app_sql import ERASED, IN_SQL, App, application, drift
from tests.scenarios.test_erase import audit, ids_of

from qmigrate import op
from qmigrate.commands import erase, fix, upgrade
from qmigrate.commands import rollback as back
from qmigrate.errors import RefusedError
from qmigrate.ledger import Ledger

#: Minutes: see scripts/test --nightly.
pytestmark = pytest.mark.nightly


def prepare(folder: Path, config: dict) -> App:
    """Two generations; a sync and a deletion have kept what they changed."""
    qdrant = {"path": str(folder / "qdrant")} if "path" in config else {**config, "timeout": 1}
    folder.mkdir()
    made = Deployment(folder / "project", qdrant, f"sqlite:///{folder}/ledger.db", extra={"fixes": {"max_share": 1.0}})
    app = application(made, f"sqlite:///{folder}/app.db", 40)
    drift(app)
    fix.fix(made.settings(), app.sync())
    fix.fix(made.settings(), op.DeletePoints(made.name, sql=IN_SQL, ids=[number for number in range(41) if number != 4], reason="r"))
    made.revise("0002", ADD)
    upgrade.upgrade(made.settings(), no_snapshot=True)
    return app


def child(app: App, *, kill_at=None, log=None) -> int:
    """The erasure in a fork; its exit code."""
    arguments = (str(app.made.config), app.made.name, "erase", str(kill_at or "-"), str(log or "-"))
    return forked.run("tests.faults.child_fix", *arguments).returncode


def erased(made: Deployment) -> tuple[set, bool]:
    """Ids that must not come back, and whether that is recorded as over."""
    ledger = Ledger.open(made.settings().ledger.url)
    try:
        runs = [run.state for run in ledger.runs() if run.verb == "fix"]
        return ledger.erased(made.name, ERASED), set(runs) == {"done"}
    finally:
        ledger.close()


@pytest.mark.timeout(300)
def test_a_killed_erasure_is_finished_and_brings_nothing_back(qdrant_config, tmp_path):
    """From the first deletion on the ids are recorded; finished, it is counted once, and no place has them."""
    local = "path" in qdrant_config
    probe = prepare(tmp_path / "probe", qdrant_config)
    assert child(probe, log=tmp_path / "points") == 0
    labels = (tmp_path / "points").read_text().splitlines()
    first = next(place for place, label in enumerate(labels) if label in ("before delete", "before rewrite_pages"))
    assert "after intend_erasures" in labels[:first]
    numbers = [number for number, label in enumerate(labels, 1) if label.startswith("before") or label == "after delete"]
    intended = labels.index("after intend_erasures") + 1
    (whole,) = [row.facts["kept"] for row in audit(probe.made) if row.kind == "ERASURE"]
    assert whole["journals"] > 0
    assert whole["samples"] > 0
    assert whole["exports"] > 0
    clean(probe.made)
    for number in thinned(numbers)[1 :: 6 if local else 5]:
        app = prepare(tmp_path / f"kill{number}", qdrant_config)
        made = app.made
        assert child(app, kill_at=number) == -signal.SIGKILL, labels[number - 1]
        if number > intended:
            assert erased(made)[0] == set(ERASED), labels[number - 1]
            with pytest.raises(RefusedError, match="can only be finished"):
                back.abort(made.settings(), made.name)
        (done,) = erase.erase(made.settings(), op.DeletePoints(made.name, ids=ERASED, reason="asked"), expect=3).done
        assert [(one.name, one.left) for one in done.erasure.places if one.left] == []
        assert erased(made) == (set(ERASED), True)
        assert not {4, 9} & (ids_of(made, 1) | ids_of(made, 2)), labels[number - 1]
        (row,) = [row for row in audit(made) if row.kind == "ERASURE"]
        assert (row.count, row.facts["generations"]) == (1, {f"{made.name}__g0001": 1, f"{made.name}__g0002": 1})
        # What the killed attempt had taken out counts too.
        assert row.facts["kept"] == whole, labels[number - 1]
        (undone,) = fix.undo(made.settings(), next(row.id for row in audit(made) if row.kind == "PAYLOAD_SYNC")).done
        assert undone.counts["erased"] >= 1
        back.rollback(made.settings(), "0001", writes="discard")
        assert not {4, 9} & set(made.contents())
        clean(made)
