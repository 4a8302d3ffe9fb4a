"""A copy that goes slower where searches on the live collection take longer than they may."""

from __future__ import annotations

import threading

import pytest
from tests.conftest import clean
from tests.harness import ADD, loaded_on

from qmigrate.commands import upgrade
from qmigrate.engine import throttle
from qmigrate.errors import StoreError
from qmigrate.ports import Silent
from qmigrate.store import records
from qmigrate.store.faults import LimitedError, SlowError
from qmigrate.store.server.server import ServerStore

pytestmark = [pytest.mark.server, pytest.mark.timeout(180)]

POINTS = 40
RESHARD = """
def upgrade():
    return [op.Reshard("{name}", shard_number=2)]
"""


class Notes(Silent):
    """What the progress line says besides its figures."""

    def __init__(self) -> None:
        self.found: list[str] = []

    def advance(self, count: int, note: str = "") -> None:
        """Keep it."""
        del count
        self.found.append(note)


def made_on(server, folder, monkeypatch, change, **rebuild):
    """A loaded collection with a pending change, in small pages; searches are judged as soon as there is one."""
    monkeypatch.setattr(records, "page_size", lambda *_args, **_more: 7)
    for name, value in (("SEARCH_EVERY", 0.0), ("CHANGE_EVERY", 0.0), ("FEWEST", 1)):
        monkeypatch.setattr(throttle, name, value)
    deployment = loaded_on(server, folder, POINTS, rebuild={"ranges": 1, "snapshot": False, **rebuild})
    deployment.revise("0002", change)
    return deployment


def wait_before_the_end(monkeypatch) -> threading.Event:
    """The copy stops behind its first pages until the event that is returned."""
    told, upsert, sent = threading.Event(), ServerStore.upsert, []

    def held(self, name, points, **options):
        sent.append(name)
        if len(sent) == 3:
            assert told.wait(60)
        return upsert(self, name, points, **options)

    monkeypatch.setattr(ServerStore, "upsert", held)
    return told


def judged(monkeypatch, told: threading.Event) -> None:
    """The event is set once a search was judged."""
    adapt, give_up = throttle.Pace.adapt, throttle.Pace.give_up
    for name, original in (("adapt", adapt), ("give_up", give_up)):

        def wrapped(self, *args, _original=original):
            _original(self, *args)
            if self.note():
                told.set()

        monkeypatch.setattr(throttle.Pace, name, wrapped)


@pytest.mark.parametrize(
    "change", [RESHARD, pytest.param(ADD, marks=pytest.mark.nightly)], ids=["as bytes", "embedded"]
)
@pytest.mark.parametrize(
    ("error", "said"),
    [
        pytest.param(None, "searches take", marks=pytest.mark.nightly),
        pytest.param(SlowError("too slow"), "slowed to", marks=pytest.mark.nightly),
        pytest.param(LimitedError("too many"), "searches can't be measured: too many", marks=pytest.mark.nightly),
        pytest.param(StoreError("no search"), "searches can't be measured: no search", marks=pytest.mark.nightly),
    ],
    ids=["answered", "too slow", "limited", "refused"],
)
def test_searches_on_the_live_collection_say_how_fast_a_copy_may_be(
    qdrant_server, tmp_path, monkeypatch, change, error, said
):
    """The reason is in the progress line, every point arrives, and no search is sent when the copy is over."""
    made = made_on(qdrant_server, tmp_path, monkeypatch, change, max_latency="10s")
    nearest, asked, notes = ServerStore.nearest, [], Notes()

    def search(self, name, vector, queries, **options):
        if options.get("among") is not None:
            return nearest(self, name, vector, queries, **options)
        asked.append(name)
        if error is not None:
            raise error
        found = nearest(self, name, vector, queries, **options)
        assert len(found[0]) == 10
        return found

    judged(monkeypatch, wait_before_the_end(monkeypatch))
    monkeypatch.setattr(ServerStore, "nearest", search)
    upgrade.upgrade(made.settings(), progress=notes)
    assert set(asked) == {f"{made.name}__g0001"}
    assert any(said in note for note in notes.found), notes.found
    assert len(made.contents()) == POINTS
    assert not [one for one in threading.enumerate() if one.name.startswith("searches-")]
    clean(made)


@pytest.mark.nightly
def test_nothing_is_asked_unless_the_setting_says_so(qdrant_server, tmp_path, monkeypatch):
    """By default no search is sent."""
    made = made_on(qdrant_server, tmp_path, monkeypatch, RESHARD)
    monkeypatch.setattr(ServerStore, "nearest", lambda *_args, **_more: pytest.fail("a search was sent"))
    upgrade.upgrade(made.settings())
    assert len(made.contents()) == POINTS
    clean(made)
