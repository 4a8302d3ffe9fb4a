"""SIGKILL while a plain name becomes an alias, at every journal write and around the requests that move it."""

from __future__ import annotations

import json
import signal
import threading
import time
from pathlib import Path

import pytest
from tests.conftest import clean
from tests.faults.stride import thinned
from tests.faults.test_kill import child
from tests.harness import ADD, Deployment, make_point, write
from tests.scenarios.plain_names import plain

from qmigrate.commands import rollback as back
from qmigrate.commands import upgrade
from qmigrate.engine.golive.freeze_watchdog import act, watch
from qmigrate.errors import QmigrateError, RefusedError
from qmigrate.model.names import is_own_alias, old_alias

#: Minutes: see scripts/test --nightly.
pytestmark = pytest.mark.nightly

POINTS = 30
#: Requests that move names, and the phases around them: where a kill is worth a try.
CHOSEN = ("drop_collection", "rename_aliases", "create_alias", "journal swap", "journal sweep", "save_generation",
          "close_step", "journal converge")


def prepare(folder: Path, server, place: str) -> Deployment:
    """A plain collection with revision 0003 pending."""
    made = Deployment(
        folder / "project",
        {"url": server.url, "grpc_port": server.grpc_port, "timeout": 1},
        f"sqlite:///{folder}/ledger.db",
        extra={"rebuild": {"plain_names": "gap" if place == "gap" else "auto"}},
    )
    plain(made, POINTS)
    made.revise("0003", ADD)
    return made


def kill_points(log: Path) -> list[int]:
    """The first point of each kind among the chosen ones."""
    seen: set[str] = set()
    found = []
    for number, label in enumerate(log.read_text().splitlines(), start=1):
        if any(word in label for word in CHOSEN) and label not in seen:
            seen.add(label)
            found.append(number)
    return found


def wait_for(condition, seconds: float = 30.0) -> None:
    """Poll until it holds."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it never came true"
        time.sleep(0.02)


@pytest.mark.server
@pytest.mark.timeout(900)
@pytest.mark.parametrize("place", ["shadow", "gap"])
def test_a_kill_while_the_name_moves_is_resumed_to_the_same_end(qdrant_server, tmp_path, place):
    """Wherever it was killed, the next upgrade ends with every point behind the alias, and nothing of ours is left."""
    log = tmp_path / "points"
    probe = prepare(tmp_path / "probe", qdrant_server, place)
    done = child(probe, "upgrade", "head", log=log, writes="allow-gap")
    assert done.returncode == 0, done.stderr
    expected = probe.contents()
    clean(probe)
    labels = log.read_text().splitlines()
    numbers = kill_points(log)
    assert len(numbers) >= 15
    for number in thinned(numbers):
        made = prepare(tmp_path / f"kill{number}", qdrant_server, place)
        killed = child(made, "upgrade", "head", kill_at=number, writes="allow-gap")
        assert killed.returncode == -signal.SIGKILL, f"{labels[number - 1]}: {killed.stderr}"
        upgrade.upgrade(made.settings(), allow_gap=True)
        check(made, expected, place, labels[number - 1])
        clean(made)


def check(made: Deployment, expected: dict, place: str, label: str) -> None:
    """The end state, after a kill at `label`."""
    store = made.store()
    try:
        assert made.contents() == expected, label
        assert made.row().state == "ready", label
        aliases = {key: value for key, value in store.aliases().items() if key.startswith(made.name)}
        assert not [one for one in aliases.items() if is_own_alias(*one)], label
        shadowed = {old_alias(made.name): made.name} if place == "shadow" else {}
        assert aliases == {made.name: aliases[made.name], **shadowed}, label
        # What serves takes writes.
        for number in range(3):
            write(store, made.name, [make_point(1000 + number)])
    finally:
        store.close()


@pytest.mark.server
@pytest.mark.timeout(300)
def test_killed_in_the_gap_the_helper_finishes_it(qdrant_server, tmp_path):
    """Between the deletion and the alias nothing has to be done: the name is there again within moments."""
    made = prepare(tmp_path / "gap", qdrant_server, "gap")
    log = tmp_path / "points"
    probe = prepare(tmp_path / "probe", qdrant_server, "gap")
    assert child(probe, "upgrade", "head", log=log, writes="allow-gap").returncode == 0
    clean(probe)
    number = log.read_text().splitlines().index("after drop_collection") + 1
    assert child(made, "upgrade", "head", kill_at=number, writes="allow-gap").returncode == -signal.SIGKILL
    store = made.store()
    wait_for(lambda: made.name in store.aliases())
    assert store.aliases()[made.name] == f"{made.name}__g0001"
    assert store.count(made.name) == POINTS
    store.close()
    with pytest.raises(RefusedError, match="can only be finished"):
        back.abort(made.settings())
    upgrade.upgrade(made.settings(), allow_gap=True)
    assert made.row().state == "ready"
    clean(made)


@pytest.mark.server
@pytest.mark.timeout(300)
def test_killed_while_frozen_the_helper_lets_writes_in_again(qdrant_server, tmp_path):
    """A process that dies with the collection frozen: its helper lifts the freeze, the ledger is put right later."""
    made = prepare(tmp_path / "frozen", qdrant_server, "gap")
    log = tmp_path / "points"
    probe = prepare(tmp_path / "probe", qdrant_server, "gap")
    assert child(probe, "upgrade", "head", log=log, writes="allow-gap").returncode == 0
    clean(probe)
    labels = log.read_text().splitlines()
    number = labels.index("before journal swap running") + 1
    assert child(made, "upgrade", "head", kill_at=number, writes="allow-gap").returncode == -signal.SIGKILL
    store = made.store()

    def writable() -> bool:
        try:
            write(store, made.name, [make_point(500)])
            write(store, made.name, [make_point(501)])
        except QmigrateError:
            return False
        return True

    wait_for(writable)
    store.close()
    back.abort(made.settings())
    assert made.row().state == "pending"
    assert len(made.contents()) == POINTS + 2
    with_ledger = made.settings()
    from qmigrate.commands.session import session

    with session(with_ledger, writes=False) as opened:
        assert all(row.fence is None for row in opened.ledger.generations(made.name) if row.state == "live")
    clean(made)


class _Store:
    """A store that records what was asked of it, for the helper's decisions."""

    request_timeout = 0.0

    def __init__(self, physical=(), aliases=None) -> None:
        self.physical = tuple(physical)
        self.known = dict(aliases or {})
        self.done: list = []

    def physical_names(self):
        return self.physical

    def aliases_of_nodes(self):
        return (self.known,)

    def lift_fence(self, name, prior):
        self.done.append(("lift", name, prior))

    def rename_aliases(self, pairs, drop=()):
        self.done.append(("rename", tuple(pairs)))


ORDER = {"collection": "foo", "source": "foo", "alias": "foo__e3", "prior": {"enabled": False}}


@pytest.mark.parametrize(
    ("physical", "aliases", "pairs", "done"),
    [
        (["foo"], {}, [], [("lift", "foo__e3", {"enabled": False})]),
        (["foo", "foo__g0001"], {"foo": "foo__g0001"}, [], []),
        (["foo__g0001"], {}, [("a", "foo")], [("rename", (("a", "foo"),))]),
        (["foo"], {}, [("a", "foo")], [("lift", "foo__e3", {"enabled": False})]),
        ([], {}, [], []),
    ],
)
def test_what_the_helper_does_for_a_dead_parent(physical, aliases, pairs, done):
    """It lifts a freeze whose name has not moved, finishes a gap, and leaves everything else alone."""
    store = _Store(physical, aliases)
    act(store, ORDER, pairs)
    assert store.done == done


@pytest.mark.parametrize("told", [(), ({"prior": {"enabled": False}},)], ids=["nothing is frozen yet", "frozen"])
def test_the_helper_restores_nothing_before_anything_is_refused(told):
    """It stands by while passes are made, which may take long: another client may set limits meanwhile."""
    store = _Store(["foo"], {})
    order = {"order": {one: value for one, value in ORDER.items() if one != "prior"} | {"connection": {}}}
    watch([json.dumps(message) for message in (order, *told)], lambda _connection: store)
    assert store.done == [("lift", "foo__e3", message["prior"]) for message in told]


@pytest.mark.server
@pytest.mark.timeout(280)
def test_with_freeze_a_rebuild_loses_nothing_and_refuses_writes_only_for_a_while(qdrant_server, tmp_path):
    """Policy freeze under a writer: refused writes are answered as such, every acknowledged one is there."""
    made = prepare(tmp_path / "busy", qdrant_server, "shadow")
    made.extra["rebuild"] = {"writes": "freeze"}
    made.__post_init__()
    stopped = threading.Event()
    acknowledged: set[int] = set()

    def writer() -> None:
        store = made.store()
        number = 2000
        while not stopped.is_set():
            number += 1
            try:
                write(store, made.name, [make_point(number)])
            except QmigrateError:
                continue
            acknowledged.add(number + 1)
        store.close()

    thread = threading.Thread(target=writer)
    thread.start()
    try:
        result = upgrade.upgrade(made.settings())
        known = len(acknowledged)
        wait_for(lambda: len(acknowledged) > known + 3)
    finally:
        stopped.set()
        thread.join()
    assert any(facts.get("frozen") for facts in result.outcomes[0].report.values())
    assert acknowledged <= made.contents().keys()
    clean(made)
