"""SIGKILL at each journal write and in each phase, then the same command again: it ends as if nothing had happened."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest
from tests.conftest import clean
from tests.faults import forked
from tests.faults.stride import thinned
from tests.harness import ADD, CREATE, Deployment, Repeated, make_point, write

from qmigrate.commands import gc, status, upgrade
from qmigrate.commands import rollback as back
from qmigrate.model.names import is_own_alias

POINTS = 40


def prepare(folder: Path, config: dict) -> Deployment:
    """A loaded collection at 0001 with revision 0003 pending."""
    # A resume waits as long as one request may take: a short limit keeps the many resumes of this file short.
    qdrant = {"path": str(folder / "qdrant")} if "path" in config else {**config, "timeout": 1}
    made = Deployment(folder / "project", qdrant, f"sqlite:///{folder}/ledger.db")
    made.revise("0001", CREATE)
    upgrade.upgrade(made.settings(), "0001")
    made.load(POINTS)
    made.revise("0003", ADD)
    return made


def child(made: Deployment, verb: str, target: str, *, kill_at=None, log=None, writes="refuse"):
    """Run a verb in a process of its own."""
    arguments = (str(made.config), verb, target, str(kill_at or "-"), str(log or "-"), writes)
    return forked.run("tests.faults.child", *arguments)


def points_of(log: Path) -> list[int]:
    """Kill points: the first of every kind of journal write, before it, and after those that begin a phase."""
    seen: set[str] = set()
    chosen = []
    for number, label in enumerate(log.read_text().splitlines(), start=1):
        wanted = label.startswith("before") or label.endswith(" running") or "checkpoint" in label
        if wanted and label not in seen:
            seen.add(label)
            chosen.append(number)
    return chosen


def check_finished(made: Deployment, expected: dict) -> None:
    """Everything is there, once, and there are no leftovers."""
    assert made.contents() == expected
    settings = made.settings()
    row = next(row for row in status.status(settings).collections if row.name == made.name)
    assert (row.revision, row.state) == ("0003", "ready")
    applied = [entry.revision for entry in status.history(settings).rows if entry.direction == "upgrade"]
    assert sorted(applied) == ["0001", "0003"]
    store = made.store()
    try:
        assert not [one for one in store.aliases().items() if one[0].startswith(made.name) and is_own_alias(*one)]
        generations = [name for name in store.physical_names() if name.startswith(made.name)]
        assert generations == [f"{made.name}__g0001", f"{made.name}__g0002"]
    finally:
        store.close()


@pytest.mark.timeout(900)
def test_killed_upgrade_is_resumed_to_the_same_end(qdrant_config, tmp_path):
    """A kill at any journal write or in any phase is seen by status and finished by the next upgrade."""
    prepared = Repeated(lambda folder: prepare(folder, qdrant_config), "path" in qdrant_config)
    probe = prepared(tmp_path / "probe")
    log = tmp_path / "points"
    done = child(probe, "upgrade", "head", log=log)
    assert done.returncode == 0, done.stderr
    expected = probe.contents()
    assert all(len(vectors["b"]) == 16 for _, vectors in expected.values())
    numbers = points_of(log)
    labels = log.read_text().splitlines()
    assert len(numbers) >= 25
    for number in thinned(numbers):
        made = prepared(tmp_path / f"kill{number}")
        label = labels[number - 1]
        killed = child(made, "upgrade", "head", kill_at=number)
        assert killed.returncode == -signal.SIGKILL, f"{label}: {killed.stderr}"
        states = {row.name: row.state for row in status.status(made.settings()).collections}
        assert states[made.name] in ("interrupted", "running", "pending", "ready"), label
        upgrade.upgrade(made.settings())
        try:
            check_finished(made, expected)
        except AssertionError as error:
            raise AssertionError(f"killed {label}: {error}") from error
        if "url" in qdrant_config:
            clean(made)


@pytest.mark.timeout(600)
def test_killed_upgrade_can_be_aborted_without_trace(qdrant_config, tmp_path):
    """Start → kill → abort → nothing left → start → finish → rollback → finish."""
    made = prepare(tmp_path / "abort", qdrant_config)
    before = made.contents()
    log = tmp_path / "points"
    child_log = child(prepare(tmp_path / "probe", qdrant_config), "upgrade", "head", log=log)
    assert child_log.returncode == 0, child_log.stderr
    number = log.read_text().splitlines().index("before journal fill done") + 1
    assert child(made, "upgrade", "head", kill_at=number).returncode == -signal.SIGKILL
    back.abort(made.settings())
    store = made.store()
    assert [name for name in store.physical_names() if name.startswith(made.name)] == [f"{made.name}__g0001"]
    store.close()
    assert made.contents() == before
    assert made.row().state == "pending"
    upgrade.upgrade(made.settings())
    after = made.contents()
    back.rollback(made.settings(), "0001")
    assert made.contents() == before
    upgrade.upgrade(made.settings())
    assert made.contents() == after


@pytest.mark.nightly
@pytest.mark.timeout(900)
def test_killed_rollback_is_resumed_to_the_same_end(qdrant_config, tmp_path):
    """A rollback that carries writes ends the same way wherever it was killed."""

    def ready(folder: Path) -> Deployment:
        made = prepare(folder, qdrant_config)
        upgrade.upgrade(made.settings())
        store = made.store()
        write(store, made.name, [make_point(POINTS + 1), make_point(0, text="changed")])
        store.delete(made.name, [2])
        store.close()
        return made

    made_ready = Repeated(ready, "path" in qdrant_config)
    probe = made_ready(tmp_path / "probe")
    log = tmp_path / "points"
    done = child(probe, "rollback", "0001", log=log, writes="carry")
    assert done.returncode == 0, done.stderr
    expected = probe.contents()
    for number in thinned(points_of(log)):
        made = made_ready(tmp_path / f"kill{number}")
        killed = child(made, "rollback", "0001", kill_at=number, writes="carry")
        assert killed.returncode == -signal.SIGKILL, killed.stderr
        back.rollback(made.settings(), "0001", writes="carry")
        assert made.contents() == expected
        assert made.row().revision == "0001"
        if "url" in qdrant_config:
            clean(made)


@pytest.mark.nightly
@pytest.mark.timeout(900)
def test_killed_gc_is_resumed_to_the_same_end(qdrant_config, tmp_path):
    """Wherever it was killed, the next gc ends with the old generation gone and the live one untouched."""

    def ready(folder: Path) -> Deployment:
        made = prepare(folder, qdrant_config)
        made.extra["rebuild"] = {"holdover": 0, "gc": "off"}
        made.__post_init__()
        upgrade.upgrade(made.settings())
        return made

    made_ready = Repeated(ready, "path" in qdrant_config)
    probe = made_ready(tmp_path / "probe")
    log = tmp_path / "points"
    expected = probe.contents()
    done = child(probe, "gc", probe.name, log=log)
    assert done.returncode == 0, done.stderr
    labels = log.read_text().splitlines()
    assert {"before journal check running", "before drop_base", "before close_step"} <= set(labels)
    decisive = ("check", "delete", "drop_base", "drop_carries", "close_step")
    for number in points_of(log):
        label = labels[number - 1]
        if not any(word in label for word in decisive):
            continue
        made = made_ready(tmp_path / f"kill{number}")
        killed = child(made, "gc", made.name, kill_at=number)
        assert killed.returncode == -signal.SIGKILL, f"{label}: {killed.stderr}"
        gc.gc(made.settings(), made.name)
        store = made.store()
        names = [name for name in store.physical_names() if name.startswith(made.name)]
        aliases = [alias for alias in store.aliases() if alias.startswith(made.name)]
        store.close()
        assert (names, aliases) == ([f"{made.name}__g0002"], [made.name]), label
        assert made.contents() == expected, label
        assert (made.row().revision, made.row().state) == ("0003", "ready"), label
        if "url" in qdrant_config:
            clean(made)
