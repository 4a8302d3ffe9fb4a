"""SIGKILL around a hold: at each journal write of the build, of the cut-over and of the abort of what is held."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest
from tests.conftest import clean
from tests.faults.stride import thinned
from tests.faults.test_kill import child, points_of
from tests.harness import CREATE, Deployment, Repeated, make_point, write
from tests.scenarios.test_cutover_hold import REEMBED, seen

from qmigrate.commands import cutover, upgrade
from qmigrate.commands import rollback as back

#: Minutes: see scripts/test --nightly.
pytestmark = pytest.mark.nightly

POINTS = 30


def prepare(folder: Path, config: dict) -> Deployment:
    """A loaded collection at 0001; 0002 is pending and has cutover="hold"."""
    qdrant = {"path": str(folder / "qdrant")} if "path" in config else {**config, "timeout": 3}
    made = Deployment(folder / "project", qdrant, f"sqlite:///{folder}/ledger.db")
    made.revise("0001", CREATE)
    upgrade.upgrade(made.settings(), "0001")
    made.load(POINTS)
    made.revise("0002", REEMBED)
    return made


def hold(folder: Path, config: dict) -> Deployment:
    """The same, built and held, and written to since."""
    made = prepare(folder, config)
    assert upgrade.upgrade(made.settings()).exit_code == 11
    store = made.store()
    write(store, made.name, [make_point(0, text="changed"), make_point(POINTS + 1)])
    store.delete(made.name, [2])
    store.close()
    return made


def kill_points(made: Deployment, verb: str, target: str, log: Path) -> list[int]:
    """Run it once to the end and choose from the points that it passed."""
    done = child(made, verb, target, log=log)
    assert done.returncode == 0, done.stderr
    return points_of(log)


def killed_at(made: Deployment, verb: str, target: str, number: int) -> None:
    """Run it until the point and kill it there."""
    done = child(made, verb, target, kill_at=number)
    assert done.returncode == -signal.SIGKILL, f"{number}: {done.stderr}"


@pytest.mark.timeout(600)
def test_killed_on_the_way_to_the_hold(qdrant_config, tmp_path):
    """Wherever the build was killed, the next upgrade ends built and held, and the live collection is untouched."""
    prepared = Repeated(lambda folder: prepare(folder, qdrant_config), "path" in qdrant_config)
    probe = prepared(tmp_path / "probe")
    numbers = kill_points(probe, "upgrade", "head", tmp_path / "points")
    labels = (tmp_path / "points").read_text().splitlines()
    assert "before finish_run" in labels
    late = [number for number in numbers if "hold" in labels[number - 1] or "finish" in labels[number - 1]]
    assert len(late) >= 3
    for number in (*thinned(numbers[4 : -len(late)]), *late):
        made = prepared(tmp_path / f"kill{number}")
        before = made.contents()
        killed_at(made, "upgrade", "head", number)
        assert made.row().state in ("interrupted", "held", "pending"), labels[number - 1]
        assert upgrade.upgrade(made.settings()).exit_code == 11, labels[number - 1]
        assert (made.row().state, made.contents()) == ("held", before)
        if "url" in qdrant_config:
            clean(made)


@pytest.mark.timeout(900)
@pytest.mark.parametrize("again", ["cutover", "upgrade"])
def test_killed_cut_over_is_finished_to_the_same_end(qdrant_config, tmp_path, again):
    """By cutover always; by upgrade once it had begun, else it stays held."""
    held = Repeated(lambda folder: hold(folder, qdrant_config), "path" in qdrant_config)
    probe = held(tmp_path / "probe")
    numbers = kill_points(probe, "cutover", probe.name, tmp_path / "points")
    labels = (tmp_path / "points").read_text().splitlines()
    expected = probe.contents()
    assert len(expected) == POINTS
    passed = labels.index("after journal hold done") + 1
    chosen = thinned(numbers)
    for number in chosen:
        made = held(tmp_path / f"kill{number}")
        killed_at(made, "cutover", made.name, number)
        if again == "cutover":
            cutover.cutover(made.settings(), [made.name])
        elif upgrade.upgrade(made.settings()).exit_code == 11:
            assert number < passed, labels[number - 1]
            cutover.cutover(made.settings(), [made.name])
        assert made.contents() == expected, labels[number - 1]
        assert (made.row().state, made.row().revision) == ("ready", "0002"), labels[number - 1]
        if "url" in qdrant_config:
            clean(made)


@pytest.mark.timeout(600)
def test_killed_abort_of_a_held_run_leaves_no_trace_in_the_end(qdrant_config, tmp_path):
    """The abort is repeated; afterwards Qdrant is what it was before the build."""
    probe = hold(tmp_path / "probe", qdrant_config)
    numbers = kill_points(probe, "abort", probe.name, tmp_path / "points")
    for number in thinned(numbers):
        made = prepare(tmp_path / f"kill{number}", qdrant_config)
        before = seen(made)
        upgrade.upgrade(made.settings())
        killed_at(made, "abort", made.name, number)
        back.abort(made.settings(), made.name)
        assert seen(made) == before
        assert made.row().state == "pending"
        if "url" in qdrant_config:
            clean(made)
