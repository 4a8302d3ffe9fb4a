"""SIGKILL at each journal write of a restore and of its way back: the same command again ends it, once."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest
from tests.conftest import clean
from tests.faults import forked
from tests.faults.stride import thinned
from tests.faults.test_kill import points_of
from tests.harness import ADD, CREATE, Deployment, make_point, write

from qmigrate.commands import restore, snapshot, status, upgrade
from qmigrate.commands import rollback as back
from qmigrate.ledger import Ledger
from qmigrate.model.names import is_own_alias

#: Minutes: see scripts/test --nightly.
pytestmark = pytest.mark.nightly

POINTS = 30


def prepare(folder: Path, config: dict, *, archived: bool = True) -> tuple[Deployment, str, dict, dict]:
    """A collection at 0002 with an archive (or snapshot) of 0001: (deployment, its name, points then, points now)."""
    qdrant = {"path": str(folder / "qdrant")} if "path" in config else {**config, "timeout": 1}
    made = Deployment(folder / "project", qdrant, f"sqlite:///{folder}/ledger.db")
    made.revise("0001", CREATE)
    upgrade.upgrade(made.settings())
    made.load(POINTS)
    then = made.contents()
    (taken,) = snapshot.create(made.settings(), made.name, archived=archived).rows
    made.revise("0002", ADD)
    upgrade.upgrade(made.settings(), no_snapshot=True)
    store = made.store()
    write(store, made.name, [make_point(POINTS + 1)])
    store.close()
    return made, taken.name, then, made.contents()


def child(made: Deployment, what: str, *, kill_at=None, log=None):
    """Restore in a process of its own."""
    arguments = (str(made.config), made.name, what, str(kill_at or "-"), str(log or "-"))
    return forked.run("tests.faults.child_restore", *arguments)


def check(made: Deployment, expected: dict, revision: str, *, spent: bool = False) -> None:
    """What serves is what was asked for, once; no own alias and no half file is left."""
    assert made.contents() == expected
    row = made.row()
    assert row.revision == revision
    assert row.state in ("ready", "pending")
    store = made.store()
    try:
        assert not [one for one in store.aliases().items() if one[0].startswith(made.name) and is_own_alias(*one)]
        generations = [name for name in store.physical_names() if name.startswith(made.name)]
    finally:
        store.close()
    # A recovery whose answer never arrived may cost a number.
    third = 4 if spent and len(generations) == 3 and generations[-1].endswith("4") else 3
    assert generations == [f"{made.name}__g000{number}" for number in (1, 2, third)]
    ledger = Ledger.open(made.settings().ledger.url)
    assert ledger.open_runs() == ()
    ledger.close()
    assert not list(made.settings().archives.glob("*.part"))


@pytest.mark.timeout(1800)
@pytest.mark.parametrize("archived", [True, pytest.param(False, marks=pytest.mark.server)], ids=["archive", "snapshot"])
def test_killed_restore_is_resumed_to_the_same_end(qdrant_config, tmp_path, archived):
    """The same command finishes it, from where it was, and does not begin another one."""
    if not archived and "path" in qdrant_config:
        pytest.skip("local mode has no snapshots")
    probe, taken, then, _ = prepare(tmp_path / "probe", qdrant_config, archived=archived)
    log = tmp_path / "points"
    done = child(probe, taken, log=log)
    assert done.returncode == 0, done.stderr
    check(probe, then, "0001")
    labels = log.read_text().splitlines()
    numbers = points_of(log)
    assert len(numbers) >= 20
    for number in thinned(numbers):
        made, name, expected, _ = prepare(tmp_path / f"kill{number}", qdrant_config, archived=archived)
        killed = child(made, name, kill_at=number)
        label = labels[number - 1]
        assert killed.returncode == -signal.SIGKILL, f"{label}: {killed.stderr}"
        again = restore.restore(made.settings(), made.name, name, consent=True)
        assert len(again.outcomes) == 1, label
        try:
            check(made, expected, "0001", spent=not archived)
            restores = [row for row in status.history(made.settings()).rows if row.direction == "restore"]
            assert len(restores) == 1
        except AssertionError as error:
            raise AssertionError(f"killed {label}: {error}") from error
        if "url" in qdrant_config:
            clean(made)


@pytest.mark.timeout(600)
def test_killed_way_back_from_a_restore_is_resumed(qdrant_config, tmp_path):
    """Undone once, whatever the kill interrupted; the application can write again."""
    probe, taken, _, now = prepare(tmp_path / "probe", qdrant_config)
    restore.restore(probe.settings(), probe.name, taken, consent=True)
    log = tmp_path / "points"
    done = child(probe, "--undo", log=log)
    assert done.returncode == 0, done.stderr
    check(probe, now, "0002")
    for number in thinned(points_of(log)):
        made, name, _, expected = prepare(tmp_path / f"kill{number}", qdrant_config)
        restore.restore(made.settings(), made.name, name, consent=True)
        assert child(made, "--undo", kill_at=number).returncode == -signal.SIGKILL
        restore.undo(made.settings(), made.name)
        check(made, expected, "0002")
        store = made.store()
        for extra in range(3):
            write(store, made.name, [make_point(700 + extra)])
        store.close()
        if "url" in qdrant_config:
            clean(made)


@pytest.mark.timeout(600)
def test_killed_restore_can_be_aborted_without_trace(qdrant_config, tmp_path):
    """In the fill and after the proof: the generation goes, what serves was never touched, the archive stays."""
    probe, taken, _, _ = prepare(tmp_path / "probe", qdrant_config)
    log = tmp_path / "points"
    assert child(probe, taken, log=log).returncode == 0
    labels = log.read_text().splitlines()
    for label in ("before journal fill done", "after journal converge done"):
        made, name, then, now = prepare(tmp_path / label.replace(" ", "-"), qdrant_config)
        assert child(made, name, kill_at=labels.index(label) + 1).returncode == -signal.SIGKILL
        back.abort(made.settings(), made.name)
        store = made.store()
        generations = [one for one in store.physical_names() if one.startswith(made.name)]
        store.close()
        assert generations == [f"{made.name}__g0001", f"{made.name}__g0002"]
        assert (made.contents(), made.row().state) == (now, "ready")
        restore.restore(made.settings(), made.name, name, consent=True)
        assert made.contents() == then
        if "url" in qdrant_config:
            clean(made)
