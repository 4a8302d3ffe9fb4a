"""What was written since a generation went live, or was left: found by the versions that are kept with its base."""

from __future__ import annotations

import random
from contextlib import closing

import pytest
from tests.conftest import clean
from tests.harness import ADD, CREATE, Deployment, loaded_on, make_point, nightly_but, write
from tests.numbered import number
from tests.scenarios.cli import call
from tests.scenarios.test_alias_moved_by_hand import cut_at

from qmigrate import op
from qmigrate.commands import erase, fix, gc, restore, rollback, snapshot, status, upgrade
from qmigrate.commands.results import Since
from qmigrate.engine.golive import golive
from qmigrate.engine.points.base import base_name, versions_name
from qmigrate.engine.prove import proof, recorded
from qmigrate.errors import NoVersionsError, RefusedError
from qmigrate.ledger import Ledger
from qmigrate.model.names import as_own
from qmigrate.model.plan import GoLive
from qmigrate.ports import PayloadEdit
from qmigrate.store.local.local import LocalStore
from qmigrate.store.server.server import ServerStore

pytestmark = pytest.mark.timeout(180)

POINTS = 60
ON = ["numbered", pytest.param("server", marks=pytest.mark.server)]


@pytest.fixture(params=ON)
def before(request, tmp_path, monkeypatch):
    """A loaded collection: in local mode that numbers its writes, and on a real server."""
    monkeypatch.setattr(proof, "WORTH_IT", 10)
    if request.param == "numbered":
        number(monkeypatch)
        made = Deployment(tmp_path / "project", {"path": str(tmp_path / "qdrant")}, f"sqlite:///{tmp_path}/ledger.db")
        made.extra = {"fixes": {"max_share": 1.0}}
        made.__post_init__()
        made.revise("0001", CREATE)
        upgrade.upgrade(made.settings())
        made.load(POINTS)
        yield made
        return
    server = request.getfixturevalue("qdrant_server")
    made = loaded_on(server, tmp_path, POINTS, uuids=True, rebuild={"writes": "freeze"}, fixes={"max_share": 1.0})
    yield made
    clean(made)


@pytest.fixture
def made(before, monkeypatch):
    """A rebuild that has gone live, with what was listed before its proof.

    No point is read that versions say need not be: of so few it would be each, and show whatever they miss.
    """
    monkeypatch.setattr(recorded, "SAMPLE", 0)
    before.revise("0002", ADD)
    upgrade.upgrade(before.settings())
    return before


@pytest.fixture
def whole(monkeypatch) -> list[str]:
    """Collections that were read from beginning to end."""
    found: list[str] = []
    for kind in (ServerStore, LocalStore):
        monkeypatch.setattr(kind, "scan", _noting(kind.scan, found))
    return found


def _noting(original, found: list[str]):
    def scan(self, name, **options):
        # The first points of a collection tell how large a page may be; listings of ids have neither.
        if options.get("page") != 64 and options.get("vectors", True):
            found.append(name)
        return original(self, name, **options)

    return scan


def old(made) -> str:
    """The generation that was left."""
    return f"{made.name}__g0001"


def to(made, *actions, name=None) -> None:
    """Write as an application would."""
    with closing(made.store()) as store:
        for action in actions:
            action(store, name or made.name)


def put(*numbers, text="late"):
    """Points with another text, whole ones of the new schema."""
    def action(store, name):
        points = [make_point(number, text=text, uuid_id=number % 3 == 2) for number in numbers]
        write(store, name, points)

    return action


def edited(store, name):
    """A payload key of two points."""
    store.edit_payloads(name, [PayloadEdit([4, 5], {"kind": "other"})])


def and_back(store, name):
    """Written, and written back: it is what it was."""
    before = list(store.fetch(name, [7]))
    store.edit_payloads(name, [PayloadEdit([7], {"kind": "other"})])
    store.edit_payloads(name, [PayloadEdit([7], {"kind": "even"})])
    assert list(store.fetch(name, [7])) == before


def removed(*ids):
    """Deleted."""
    return lambda store, name: store.delete(name, list(ids))


#: What is written -> added, changed, deleted; points that are read.
KINDS = {
    "nothing": ([], (0, 0, 0), None),
    "changed": ([put(0)], (0, 1, 0), 1),
    "added": ([put(900, 902)], (2, 0, 0), 2),
    "deleted": ([removed(1, 2, 4)], (0, 0, 3), 3),
    "payload edited": ([edited], (0, 2, 0), 2),
    "written back": ([and_back], (0, 0, 0), 1),
    "added and deleted": ([put(900), removed(901)], (0, 0, 0), 0),
    "deleted and added": ([removed(10), put(9)], (0, 1, 0), 1),
    "all of it": ([put(0, 900), edited, removed(1, 2, 13)], (1, 2, 3), 6),
}


@pytest.mark.parametrize("kind", nightly_but(KINDS, {"nothing", "written back", "all of it"}))
def test_a_rollback_counts_and_carries_by_versions(made, whole, kind):
    """Exactly, reading only what was written; the parent is what the live generation was, without the new vector."""
    actions, counts, read = KINDS[kind]
    to(made, *actions)
    expected = {one: (payload, {"a": vectors["a"]}) for one, (payload, vectors) in made.contents().items()}
    whole.clear()
    if any(counts):
        with pytest.raises(RefusedError) as refused:
            rollback.rollback(made.settings(), "0001")
        since = refused.value.facts["writes_since"]
        assert (since["added"], since["changed"], since["deleted"]) == counts
        assert len(since["named"]) == sum(counts)
        assert (since["read"], since.get("because")) == (read, None)
        assert f"{since['named'][0][0]} ({since['named'][0][1]})" in refused.value.message
    (outcome,) = rollback.rollback(made.settings(), "0001", writes="carry").outcomes
    assert whole == []
    assert made.contents() == expected
    since = outcome.report["0.preflight"]["writes_since"]
    assert since.get("read") == read
    if read is not None:
        assert outcome.report["0.converge"]["report"]["points"] == len(expected)


def test_an_outage_flips_first_and_carries_by_versions(made, whole):
    """`--now`: what was written since is found behind the swap, and carried."""
    to(made, put(0, 900), removed(1, 2))
    expected = {one: payload for one, (payload, _) in made.contents().items()}
    whole.clear()
    rollback.rollback(made.settings(), "0001", writes="now")
    assert whole == []
    assert {one: payload for one, (payload, _) in made.contents().items()} == expected


def test_what_comes_between_the_swap_and_the_close_was_written_since(made, monkeypatch):
    """What is kept was listed before the proof, not when it is kept."""
    made.revise("0003", ADD.replace('"b"', '"c"'))
    original = golive.sweep

    def late(work, sides, **options):
        write(work.store, f"{made.name}__g0003", [make_point(0, text="early")])
        return original(work, sides, **options)

    monkeypatch.setattr(golive, "sweep", late)
    upgrade.upgrade(made.settings())
    with pytest.raises(RefusedError, match=r"1 point changed: 1 \(changed\)"):
        rollback.rollback(made.settings(), "0002")


def test_each_base_has_versions_of_its_own(made, whole):
    """What was written between two rebuilds is written since for the first of them, although the second has listed it."""
    to(made, put(0, 900))
    made.revise("0003", ADD.replace('"b"', '"c"'))
    upgrade.upgrade(made.settings())
    to(made, put(4))
    whole.clear()
    rollback.rollback(made.settings(), "0002", writes="carry")
    with pytest.raises(RefusedError, match="1 point added, 2 changed"):
        rollback.rollback(made.settings(), "0001")
    rollback.rollback(made.settings(), "0001", writes="carry")
    assert whole == []
    assert {made.contents()[one][0]["text"] for one in (1, 5, 901)} == {"late"}


@pytest.mark.parametrize("seed", nightly_but(range(6), {0, 1}))
def test_versions_and_contents_count_alike(made, monkeypatch, seed):
    """Whatever is written, by whatever kind of write."""
    rng = random.Random(seed)
    numbers = list(range(POINTS)) + list(range(900, 920))
    for _ in range(rng.randrange(1, 40)):
        some = rng.sample(numbers, rng.randrange(1, 4))
        ids = [make_point(number, uuid_id=number % 3 == 2).id for number in some]
        to(made, rng.choice([put(*some, text=rng.choice("xyz")), removed(*ids)]))
    found = []
    for by_content in (False, True):
        if by_content:
            monkeypatch.setattr(recorded, "take", _refuses)
        answer = call(made.root, "--json", "rollback", "0001")
        facts = answer.json["error"]["facts"]["writes_since"] if answer.code == 10 else None
        assert facts is None or (facts.get("because") == "no") == by_content
        found.append(facts and [facts[key] for key in ("added", "changed", "deleted", "named")])
    assert found[0] == found[1]


def _refuses(_kept):
    raise NoVersionsError("no")


def test_without_a_record_everything_is_read_and_the_report_says_why(made, whole):
    """And nothing else is different."""
    with closing(Ledger.open(made.ledger_url)) as ledger, ledger.hold(made.name, timeout=5) as lease:
        for side in ("source", "target"):
            lease.drop_base(versions_name(base_name(old(made), f"{made.name}__g0002", back=False), side))
    to(made, put(0))
    (outcome,) = rollback.rollback(made.settings(), "0001", writes="carry").outcomes
    since = outcome.report["0.preflight"]["writes_since"]
    assert (since["changed"], since.get("read")) == (1, None)
    assert "no versions of the points" in since["because"]
    assert f"{made.name}__g0002" in whole
    assert made.contents()[1][0]["text"] == "late"


def unfenced(made) -> None:
    """The old generation takes writes under its own name, as if its fence had been taken away."""
    with closing(made.store()) as store:
        store.lift_fence(as_own(_alias(store, old(made))), {})


def _alias(store, physical):
    alias = f"{physical}__e99"
    store.create_alias(as_own(alias), physical)
    return alias


def test_gc_names_what_was_written_to_the_old_generation(made, whole):
    """Reading only that; what is as it was goes."""
    unfenced(made)
    to(made, put(0, 900), removed(2), name=old(made))
    whole.clear()
    found = gc.gc(made.settings(), made.name, now=True)
    (spared,) = found.spared
    assert sorted(map(tuple, spared.writes["named"])) == [(1, "changed"), (2, "deleted"), (901, "new")]
    assert whole == []


def test_gc_of_what_a_rollback_has_left_reads_what_was_written(made, whole):
    """By the versions that were kept when that went live, or those of the way back."""
    to(made, put(0))
    rollback.rollback(made.settings(), "0001", writes="carry")
    left = f"{made.name}__g0002"
    with closing(made.store()) as store:
        store.lift_fence(as_own(_alias(store, left)), {})
    to(made, put(3), name=left)
    whole.clear()
    (spared,) = gc.gc(made.settings(), made.name, now=True).spared
    assert [tuple(one) for one in spared.writes["named"]] == [(4, "changed")]
    assert whole == []


def test_gc_takes_the_versions_along(made):
    """Nothing leads back any more, so that nothing is compared."""
    assert kept(made) == {"source", "target"}
    gc.gc(made.settings(), made.name, now=True)
    assert kept(made) == set()


def kept(made) -> set[str]:
    """Sides of the base of the rebuild that have versions."""
    with closing(Ledger.open(made.ledger_url)) as ledger:
        return {side for side in ("source", "target") if recorded.known(ledger, f"{made.name}__g0002", side) is not None}


def test_erased_ids_are_in_no_record(made):
    """Of neither side; what else was written is counted as before."""
    erase.erase(made.settings(), op.DeletePoints(made.name, ids=[1, 4], reason="asked for"))
    with closing(Ledger.open(made.ledger_url)) as ledger, closing(made.store()) as store:
        for side, physical in (("source", old(made)), ("target", f"{made.name}__g0002")):
            found = recorded.Kept(store, ledger, f"{made.name}__g0002", side, physical, physical)
            _, table = recorded.take(found)
            with table:
                assert not {1, 4} & table.sample(1000).keys()
    to(made, put(4))
    with pytest.raises(RefusedError, match="1 point changed"):
        rollback.rollback(made.settings(), "0001")


def test_status_says_what_was_written_since(made, whole, monkeypatch):
    """Where that is known at once; else it says what counts it. It sends no write."""
    whole.clear()
    assert made.row().written_since == Since()
    to(made, put(0, 900), edited, removed(1, 2, 13))
    row = made.row()
    assert (row.written_since.added, row.written_since.changed, row.written_since.deleted) == (1, 2, 3)
    assert set(row.written_since.named) >= {(901, "added"), (2, "deleted")}
    assert "written since: 1 added, 2 changed, 3 deleted" in call(made.root, "status").out
    assert whole == []
    monkeypatch.setattr(status, "LISTED", 10)
    row = made.row()
    assert (row.written_since, row.not_counted) == (None, "58 points: qmigrate status --count-writes counts it")
    assert "written since: not counted" in call(made.root, "status").out
    (row,) = status.status(made.settings(), count_writes=True).collections
    assert row.written_since.deleted == 3


def test_status_leaves_out_what_fixes_have_deleted(made):
    """A rollback does them again, so that nothing of it is lost."""
    fix.fix(made.settings(), op.DeletePoints(made.name, ids=[4, 5], reason="spam"))
    to(made, removed(7))
    assert made.row().written_since == Since(deleted=1, named=((7, "deleted"),))


@pytest.mark.parametrize("worth", [10, 1000])
def test_a_generation_of_many_points_is_listed_for_the_sake_of_it(before, monkeypatch, worth):
    """Also where no client writes and nothing else needs the versions; few points are read in a moment."""
    made = before
    monkeypatch.setattr(proof, "WORTH_IT", worth)
    made.extra["rebuild"] = {"writes": "converge"}
    made.__post_init__()
    made.revise("0002", ADD)
    upgrade.upgrade(made.settings())
    assert kept(made) == ({"source", "target"} if worth < POINTS else set())
    (note,) = [one for one in rollback.rollback(made.settings(), "0001", dry_run=True).plan.notes if "is found by" in one]
    assert ("the versions of its points" in note, "no versions of the points" in note) == (worth < POINTS, worth > POINTS)


def test_what_is_written_to_what_was_restored_is_found_by_versions(made, whole, monkeypatch):
    """The undo of a restore counts it, and names it; what nothing wrote to is not read again."""
    monkeypatch.setattr(recorded, "WORTH_IT", 10)
    snapshot.create(made.settings(), made.name, archived=True)
    restore.restore(made.settings(), made.name, consent=True)
    to(made, put(0, 900), removed(2))
    whole.clear()
    with pytest.raises(RefusedError, match="1 point added, 1 changed, 1 deleted") as refused:
        restore.undo(made.settings(), made.name)
    assert refused.value.facts["writes_since"]["read"] == 3
    assert whole == []
    restore.undo(made.settings(), made.name, writes="discard")
    assert made.contents()[2][0]["text"] == "the text number 1"


def test_what_was_written_to_the_parent_is_made_good(made, whole):
    """Past its fence, which lets a write a minute pass: the rollback makes it what the live generation says."""
    unfenced(made)
    to(made, put(0, 900), removed(2), name=old(made))
    to(made, put(3))
    expected = {one: payload for one, (payload, _) in made.contents().items()}
    whole.clear()
    rollback.rollback(made.settings(), "0001", writes="carry")
    assert whole == []
    assert {one: payload for one, (payload, _) in made.contents().items()} == expected


def test_a_rollback_that_was_interrupted_goes_on_by_versions(made, whole, monkeypatch):
    """What it has carried by then, and what was written and written back since, is read once more."""
    to(made, put(0, 3, 900), removed(5))
    with cut_at(monkeypatch, GoLive.kind, "swap"):
        rollback.rollback(made.settings(), "0001", writes="carry")
    to(made, put(0, text="the text number 0"), put(6), removed(901))
    expected = {one: payload for one, (payload, _) in made.contents().items()}
    whole.clear()
    upgrade.upgrade(made.settings(), "0001")
    assert whole == []
    assert made.row().revision == "0001"
    assert {one: payload for one, (payload, _) in made.contents().items()} == expected
