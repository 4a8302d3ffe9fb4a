"""What was written behind a full proof is found by version, whatever kind of write it was and whatever a listing lacks."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from qdrant_client import QdrantClient
from tests.conftest import clean
from tests.harness import ADD, loaded_on, make_point, nightly_but, write

from qmigrate.commands import upgrade
from qmigrate.engine.golive import golive
from qmigrate.engine.prove import delta, proof
from qmigrate.engine.work import Work
from qmigrate.errors import RefusedError
from qmigrate.ledger import Ledger
from qmigrate.ports import PayloadEdit, VersionPage
from qmigrate.store.server.server import ServerStore

pytestmark = [pytest.mark.server, pytest.mark.timeout(180)]

POINTS = 60


@pytest.fixture
def made(qdrant_server, tmp_path):
    """A loaded collection with a pending rebuild that is to freeze, so that both sides are listed at the first proof."""
    deployment = loaded_on(qdrant_server, tmp_path, POINTS, uuids=True, rebuild={"writes": "freeze"})
    deployment.revise("0002", ADD)
    yield deployment
    clean(deployment)


@pytest.fixture
def read(monkeypatch) -> list[int | None]:
    """How many points each pass has read; None for a pass over all."""
    found: list[int | None] = []
    partial, full = proof.delta_pass, proof.last_pass

    def delta_pass(*args):
        report, count = partial(*args)
        found.append(count)
        return report, count

    def last_pass(*args):
        found.append(None)
        return full(*args)

    monkeypatch.setattr(proof, "delta_pass", delta_pass)
    monkeypatch.setattr(proof, "last_pass", last_pass)
    return found


def behind_the_proof(monkeypatch, action) -> None:
    """Do something to the old generation between the proof of the build and the freeze."""
    original = golive.freeze.prove_frozen

    def late(work: Work, sides, **options):
        action(work.store, sides.source)
        return original(work, sides, **options)

    monkeypatch.setattr(golive.freeze, "prove_frozen", late)


def _edited(store, name):
    store.edit_payloads(name, [PayloadEdit([4, 5], {"kind": "other"})])


def _and_back(store, name):
    write(store, name, [make_point(6, text="for a moment")])
    write(store, name, [make_point(6)])


def _deleted_and_added(store, name):
    store.delete(name, [10])
    write(store, name, [make_point(9)])


def _vectors(store, name):
    store.edit_vectors(name, {13: {"a": [1.0] * 8}})


#: What is done -> how many points the delta pass behind it reads.
KINDS = {
    "nothing": (lambda store, name: None, 0),
    "changed": (lambda store, name: write(store, name, [make_point(0, text="changed")]), 1),
    "added": (lambda store, name: write(store, name, [make_point(1000), make_point(1001, uuid_id=True)]), 2),
    "deleted": (lambda store, name: store.delete(name, [1, 2, 4]), 3),
    "payload edited": (_edited, 2),
    "vector edited": (_vectors, 1),
    "written and written back": (_and_back, 1),
    "deleted and added": (_deleted_and_added, 1),
}


@pytest.mark.parametrize("kind", nightly_but(KINDS, {"nothing", "payload edited", "written and written back", "deleted and added"}))
def test_only_what_was_written_is_read_again(made, read, monkeypatch, kind):
    """Both sides agree afterwards, and no other point was read."""
    action, expected = KINDS[kind]
    behind_the_proof(monkeypatch, action)
    before = made.contents()
    (outcome,) = upgrade.upgrade(made.settings()).outcomes
    assert read[0] is None
    assert None not in read[1:]
    assert max(read[1:]) == expected, read
    report = outcome.report["1.converge"]["report"]
    now = made.contents()
    assert (report["points"], report["proven"], report["embedded"]) == (len(now), len(now), len(now))
    assert all("b" in vectors for _, vectors in now.values())
    old = made.contents(f"{made.name}__g0001")
    assert {one: payload for one, (payload, _) in now.items()} == {one: payload for one, (payload, _) in old.items()}
    assert (len(now) == len(before)) == (kind not in ("added", "deleted"))


@pytest.mark.parametrize("when", ["second listing", "every listing"])
def test_what_a_listing_lacks_is_asked_for_by_id(made, read, monkeypatch, when):
    """A point that isn't listed isn't gone: it is read, and found changed or as it was."""
    original, calls = ServerStore.versions, []
    missed = [5, 7, 8]

    def fewer(self, name, vector, *, ids=None):
        calls.append(name)
        for page in original(self, name, vector, ids=ids):
            if ids is None and (when == "every listing" or len(calls) > 8) and page.ids.dtype.kind == "u":
                kept = ~_isin(page.ids, missed)
                page = VersionPage(page.ids[kept], page.numbers[kept])
            yield page

    monkeypatch.setattr(ServerStore, "versions", fewer)
    behind_the_proof(monkeypatch, lambda store, name: write(store, name, [make_point(7, text="changed")]))
    (outcome,) = upgrade.upgrade(made.settings()).outcomes
    assert read[0] is None
    assert max(found or 0 for found in read[1:]) <= len(missed) + 1
    assert made.contents()[8][0]["text"] == "changed"
    assert outcome.report["1.converge"]["report"]["points"] == POINTS


def _isin(ids, missed):
    return np.isin(ids, np.array(missed, dtype=ids.dtype))


def test_points_without_the_vector_are_read_each_time(made, read, monkeypatch):
    """They have no version, so that nothing but their contents shows a write; a new one is in no base either."""
    client = QdrantClient(url=made.qdrant["url"], grpc_port=made.qdrant["grpc_port"], check_compatibility=False)
    client.delete_vectors(made.name, ["a"], [13, 16])

    def change(store, name):
        store.edit_payloads(name, [PayloadEdit([13], {"kind": "changed"})])
        write(store, name, [make_point(3000)])
        client.delete_vectors(name, ["a"], [3001])

    behind_the_proof(monkeypatch, change)
    upgrade.upgrade(made.settings())
    client.close()
    assert read[0] is None
    assert max(found or 0 for found in read[1:]) == 3
    assert made.contents()[13][0]["kind"] == "changed"
    assert made.contents()[3001][0]["text"] == "the text number 3000"


def test_shards_that_moved_make_all_points_be_read(made, read, monkeypatch):
    """Numbers of a moved shard may be equal although a point was written."""
    original, moved = ServerStore.placement, []

    def placement(self, name):
        found = original(self, name)
        return replace(found, replicas=((0, 99, "Active"),)) if moved else found

    monkeypatch.setattr(ServerStore, "placement", placement)

    def move(store, name):
        moved.append(True)
        write(store, name, [make_point(0, text="changed")])

    behind_the_proof(monkeypatch, move)
    upgrade.upgrade(made.settings())
    assert read[:2] == [None, None], read
    assert made.contents()[1][0]["text"] == "changed"


def test_a_write_behind_the_reading_of_its_point_is_found(made, read, monkeypatch):
    """It comes while the pass over all points is under way, so that only a listing from before shows it."""
    original = proof.last_pass

    def last_pass(work, sides, sample):
        report = original(work, sides, sample)
        write(work.store, sides.source, [make_point(6, text="behind the reading")])
        return report

    monkeypatch.setattr(proof, "last_pass", last_pass)
    upgrade.upgrade(made.settings())
    assert made.contents()[7][0]["text"] == "behind the reading"
    assert read.count(None) == 1


def test_a_write_to_the_new_generation_is_found(made, read, monkeypatch):
    """Another client writes to it by its own name between the proof and the swap: it is repaired."""
    behind_the_proof(
        monkeypatch,
        lambda store, name: store.edit_payloads(f"{made.name}__g0002", [PayloadEdit([7], {"text": "foreign"})]),
    )
    upgrade.upgrade(made.settings())
    assert made.contents()[7][0]["text"] == "the text number 6"
    assert read[0] is None
    assert max(found or 0 for found in read[1:]) == 1


@pytest.mark.parametrize("foreign", [None, 7, 8])
def test_only_what_another_client_has_written_to_is_listed_again(made, read, monkeypatch, foreign):
    """The new generation keeps its listing next to our own writes, until there is a write that is not ours.

    It takes a repair of ours first; then another client writes to it, the repaired point or another one.
    """
    listed: list[str] = []
    original, fence = delta.listing, golive.freeze.fence

    def listing(work, name, *args, **options):
        listed.append(name)
        return original(work, name, *args, **options)

    def fenced(work, physical):
        if foreign:
            work.store.edit_payloads(f"{made.name}__g0002", [PayloadEdit([foreign], {"text": "foreign"})])
        write(work.store, physical, [make_point(9, text="changed, too")])
        fence(work, physical)

    monkeypatch.setattr(delta, "listing", listing)
    monkeypatch.setattr(golive.freeze, "fence", fenced)
    behind_the_proof(monkeypatch, lambda store, name: write(store, name, [make_point(6, text="changed")]))
    upgrade.upgrade(made.settings())
    now = made.contents()
    assert [now[one][0]["text"] for one in (7, 8, 10)] == ["changed", "the text number 7", "changed, too"]
    assert read[0] is None
    assert None not in read[1:]
    assert listed.count(f"{made.name}__g0002") == (2 if foreign else 1), listed
    assert listed.count(f"{made.name}__g0001") > 2


@pytest.mark.parametrize(
    ("writes", "limit", "said"),
    [
        ("converge", "1s", ""),
        ("freeze", "1s", "writes are refused for about 0.3 s before its name moves"),
        ("auto", "1s", "writes are refused for about 0.3 s before its name moves"),
        ("auto", "100ms", "writes continue while its name moves: refusing them would take about 0.3 s, longer than"),
    ],
)
def test_the_plan_says_how_long_writes_are_refused(made, writes, limit, said):
    """Before anything is begun, from the number of points; where nothing is refused, what may be listed."""
    made.extra = {"rebuild": {"writes": writes}, "limits": {"write_pause": limit}}
    made.__post_init__()
    told = upgrade.plan(made.settings()).notes
    notes = [note for note in told if "writes" in note]
    assert len(notes) == bool(said)
    assert all(said in note for note in notes), notes
    (outcome,) = upgrade.upgrade(made.settings()).outcomes
    frozen = writes == "freeze" or (writes, limit) == ("auto", "1s")
    assert bool(outcome.report["1.converge"].get("frozen")) == frozen
    assert any("listed to be reviewed" in note for note in told) != frozen


def test_a_freeze_that_takes_far_longer_than_expected_is_ended(made, monkeypatch):
    """With `auto` writes go on then, and what comes late is carried; nothing stays limited."""
    made.extra = {"rebuild": {"writes": "auto"}, "limits": {"write_pause": "1s"}}
    made.__post_init__()
    monkeypatch.setattr(golive.freeze, "MOST_PAUSES", 0.0)
    end, prove = golive.freeze.end, golive.freeze.prove
    ended = []

    def accepts(work):
        end(work)
        ended.append(work)
        write(work.store, f"{made.name}__g0001", [make_point(3, text="while writes went on")])

    def late(work, sides, **options):
        facts = prove(work, sides, **options)
        if ended:
            write(work.store, f"{made.name}__g0001", [make_point(5, text="behind the proof")])
        return facts

    monkeypatch.setattr(golive.freeze, "end", accepts)
    monkeypatch.setattr(golive.freeze, "prove", late)
    (outcome,) = upgrade.upgrade(made.settings()).outcomes
    assert len(ended) == 1
    assert not outcome.report["1.converge"].get("frozen")
    assert outcome.report["1.sweep"]["sweep"]["carried"] == 1
    found = made.contents()
    assert found[4][0]["text"] == "while writes went on"
    assert found[6][0]["text"] == "behind the proof"


def test_passes_before_a_freeze_that_fail_leave_no_freeze_in_the_ledger(made, monkeypatch):
    """Nothing was refused yet: what another client sets from here on is not undone by the next command."""
    original = golive.freeze.prove

    def failing(*_args, **_options):
        raise RefusedError("no")

    monkeypatch.setattr(golive.freeze, "prove", failing)
    with pytest.raises(RefusedError):
        upgrade.upgrade(made.settings())
    ledger = Ledger.open(made.settings().ledger.url)
    assert [row.fence for row in ledger.generations(made.name)] == [None, None]
    ledger.close()
    monkeypatch.setattr(golive.freeze, "prove", original)
    upgrade.upgrade(made.settings())
    assert all("b" in vectors for _, vectors in made.contents().values())
