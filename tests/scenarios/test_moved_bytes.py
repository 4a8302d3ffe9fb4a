"""A copy that changes nothing: what is written in between, what a killed process leaves, and what the base says of it."""

from __future__ import annotations

from contextlib import closing, suppress
from dataclasses import replace

import pytest
from tests.conftest import clean
from tests.harness import Deployment, loaded_on, make_point, write

from qmigrate.commands import rollback, upgrade
from qmigrate.engine import rebuild
from qmigrate.engine.build import copy
from qmigrate.engine.points.base import BaseEntry, committed, digest_of, unpack
from qmigrate.engine.prove import passes
from qmigrate.errors import StoreError
from qmigrate.ledger import Ledger
from qmigrate.store import records
from qmigrate.store.server.server import ServerStore

pytestmark = [pytest.mark.server, pytest.mark.timeout(180)]

POINTS = 60
RESHARD = """
from qmigrate import op
def upgrade():
    return [op.Reshard("{name}", shard_number=2)]
"""


@pytest.fixture
def made(qdrant_server, tmp_path, monkeypatch):
    """A loaded collection with a pending rebuild that changes no point, in ranges and small pages."""
    monkeypatch.setattr(records, "page_size", lambda *_args, **_more: 7)
    deployment = loaded_on(qdrant_server, tmp_path, POINTS, timeout=1, rebuild={"ranges": 3})
    deployment.revise("0002", RESHARD)
    yield deployment
    clean(deployment)


def based(made: Deployment) -> dict[bytes, BaseEntry]:
    """What the base of the new generation has."""
    with closing(Ledger.open(made.ledger_url)) as ledger:
        return dict(unpack(committed(ledger, f"{made.name}__g0002")))


def check_base(made: Deployment) -> None:
    """It has the digest of every point of either side, as they are."""
    store = made.store()
    try:
        with closing(Ledger.open(made.ledger_url)) as ledger:
            digest = digest_of(ledger, f"{made.name}__g0002")
        sides = [
            {records.order_key(records.point_id(one)): digest(one) for page in store.scan(name) for one in page}
            for name in (f"{made.name}__g0001", f"{made.name}__g0002")
        ]
    finally:
        store.close()
    assert sides[0].keys() == sides[1].keys()
    assert based(made) == {key: BaseEntry(seen, sides[1][key]) for key, seen in sides[0].items()}


def test_what_is_written_between_the_copy_and_its_proof_is_found(made, monkeypatch):
    """Changed, inserted and deleted points of the source, and what landed in the target: all repaired, and proven."""
    found = {}
    original = rebuild.prove

    def late(work, sides, **options):
        store = work.store
        write(store, sides.source, [make_point(3, text="changed"), make_point(900), make_point(POINTS + 1)])
        store.delete(sides.source, [0, 11, 12, 13, 14, 15, 16, 17, POINTS - 1])
        # What a request of a dead process may leave in the copy.
        write(store, sides.target, [make_point(20, text="older"), make_point(901), make_point(33, text="stray")])
        for name, number in ((sides.source, 50), (sides.target, 52)):
            # Another vector alone: its payload says nothing of it.
            write(store, name, [replace(make_point(number), vectors=make_point(number + 1).vectors)])
        store.delete(sides.target, [40, 41])
        found["wanted"] = made.contents(sides.source)
        return original(work, sides, **options)

    monkeypatch.setattr(rebuild, "prove", late)
    upgrade.upgrade(made.settings())
    assert made.contents() == found["wanted"]
    check_base(made)
    assert made.row().revision == "0002"


def test_a_copy_that_stops_anywhere_goes_on_behind_its_cursor(made, monkeypatch):
    """Every page is followed by a checkpoint; each try gets one page further, and none is skipped."""
    monkeypatch.setattr(copy, "CHECKPOINT_EVERY", 0.0)
    wanted = made.contents()
    upsert, left, sent = ServerStore.upsert, [], []

    def broken(self, name, points, **options):
        if name.startswith(f"{made.name}__g0002") and len(points) > 1:
            if not left:
                raise StoreError("the server is gone")
            left.pop()
            sent.append([records.point_id(records.grpc.PointStruct.FromString(one)) for one in points])
        return upsert(self, name, points, **options)

    monkeypatch.setattr(ServerStore, "upsert", broken)
    tries = 0
    while True:
        tries += 1
        left[:] = [None] * 2
        try:
            upgrade.upgrade(made.settings())
        except StoreError:
            assert tries < 30
        else:
            break
    assert tries > 3
    assert made.contents() == wanted
    check_base(made)
    # A page that was sent when the other range broke off may come again.
    assert sum(map(len, sent)) < POINTS + 7 * 3 * tries


def test_a_write_that_fails_is_behind_the_cursor(made, monkeypatch):
    """What was sent and never acknowledged is sent again by the next try: no cursor has passed it."""
    monkeypatch.setattr(copy, "CHECKPOINT_EVERY", 0.0)
    # Where the proof repaired it, the copy would not show it.
    monkeypatch.setattr(passes._Redo, "add", lambda *_: pytest.fail("a point was missing behind the copy"))
    wanted, upsert, failing = made.contents(), ServerStore.upsert, [True] * 2

    class Lost:
        def wait(self):
            raise StoreError("the answer stays away")

    def lossy(self, name, points, **options):
        if failing and name.startswith(f"{made.name}__g0002") and len(points) > 1:
            failing.pop()
            return Lost()
        return upsert(self, name, points, **options)

    monkeypatch.setattr(ServerStore, "upsert", lossy)
    for _ in range(3):
        with suppress(StoreError):
            upgrade.upgrade(made.settings())
    assert made.contents() == wanted
    assert made.row().revision == "0002"


@pytest.mark.parametrize("listed", [True, False], ids=["by version", "by content"])
def test_a_change_that_computes_nothing_needs_no_base_of_the_copy(made, monkeypatch, listed):
    """No digest is made while it is filled; no pass over the source alone redoes what is there already."""
    seen = []
    original = passes.last_pass

    def looked(work, sides, sample):
        seen.append(next(sides.base_pages(work), None))
        return original(work, sides, sample)

    monkeypatch.setattr("qmigrate.engine.prove.proof.last_pass", looked)
    monkeypatch.setattr("qmigrate.engine.prove.proof.can_list", lambda *_: listed)
    monkeypatch.setattr("qmigrate.engine.prove.proof.is_unwritten", lambda *_: False)
    redone = []
    monkeypatch.setattr(passes._Redo, "add", lambda self, stored: redone.append(stored))
    upgrade.upgrade(made.settings())
    assert seen[0] is None
    assert redone == []
    check_base(made)
    before = made.contents()
    rollback.rollback(made.settings(), "0001")
    assert made.contents() == before
    assert made.row().revision == "0001"
