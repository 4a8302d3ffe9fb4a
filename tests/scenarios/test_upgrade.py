"""The main job, end to end, on every combination of store and ledger that this machine has."""

from __future__ import annotations

import pytest
from tests.harness import ADD, CREATE, INDEX, counts, make_point, write

from qmigrate.commands import rollback as back
from qmigrate.commands import status, upgrade
from qmigrate.engine.build import clone
from qmigrate.errors import EmbedError, PlanError, RefusedError, StoreError, UnchangedError
from qmigrate.ledger import Ledger
from qmigrate.store.faults import RefusedRequestError


@pytest.fixture
def three(deployment):
    """A deployment with three revisions: create, index, a second vector."""
    deployment.revise("0001", CREATE)
    deployment.revise("0002", INDEX)
    deployment.revise("0003", ADD)
    return deployment


def test_plan_upgrade_search_and_rollback(three):
    """From an empty folder to a second vector on every point and back again, nothing lost on the way."""
    settings = three.settings()
    upgrade.upgrade(settings, "0001")
    three.load(300)
    before = three.contents()
    assert len(before) == 300
    planned = upgrade.plan(settings)
    assert [closing.revision for closing in planned.collections[0].job.closes] == ["0002", "0003"]
    upgrade.upgrade(settings)
    after = three.contents()
    assert {key: (payload, {"a": vectors["a"]}) for key, (payload, vectors) in after.items()} == before
    assert all(len(vectors["b"]) == 16 for _, vectors in after.values())
    row = three.row()
    assert (row.revision, row.state, row.points) == ("0003", "ready", 300)
    assert not upgrade.upgrade(settings).outcomes
    back.rollback(settings, "0001")
    assert three.contents() == before
    assert [row.direction for row in status.history(settings).rows][:1] == ["rollback"]
    upgrade.upgrade(settings)
    assert three.contents() == after
    assert len(status.history(settings).rows) == 7


def test_rollback_refuses_to_lose_writes(three):
    """What was written since is counted; going back needs a choice, and each choice does what it promises."""
    settings = three.settings()
    upgrade.upgrade(settings, "0001")
    three.load(50)
    before = three.contents()
    upgrade.upgrade(settings)
    store = three.store()
    write(store, three.name, [make_point(100), make_point(1, text="changed")])
    store.delete(three.name, [1])
    store.close()
    with pytest.raises(RefusedError) as refused:
        back.rollback(settings, "0001")
    assert refused.value.exit_code == 10
    assert counts(refused.value.facts["writes_since"]) == (1, 1, 1)
    assert three.row().revision == "0003"
    back.rollback(settings, "0001", writes="carry")
    carried = three.contents()
    assert carried.keys() == before.keys() - {1} | {101}
    assert carried[2][0]["text"] == "changed"
    assert set(carried[2][1]) == {"a"}


def test_rollback_discarding_writes_gives_the_old_points_back(three):
    """With consent, the parent generation comes back exactly as it was."""
    settings = three.settings()
    upgrade.upgrade(settings, "0001")
    three.load(20)
    before = three.contents()
    upgrade.upgrade(settings)
    store = three.store()
    write(store, three.name, [make_point(100)])
    store.close()
    back.rollback(settings, "0001", writes="discard")
    assert three.contents() == before


def test_rollback_now_flips_first_and_carries_afterwards(three):
    """In an outage the name goes back first; what was written since is carried by the sweep."""
    settings = three.settings()
    upgrade.upgrade(settings, "0001")
    three.load(20)
    upgrade.upgrade(settings)
    store = three.store()
    write(store, three.name, [make_point(100)])
    store.close()
    back.rollback(settings, "0001", writes="now")
    found = three.contents()
    assert 101 in found
    assert set(found[101][1]) == {"a"}


def test_rollback_to_base_takes_the_name_away(three):
    """Back to base the name is gone; the way forward makes the collection again."""
    settings = three.settings()
    upgrade.upgrade(settings)
    back.rollback(settings, "base")
    store = three.store()
    assert three.name not in store.aliases()
    store.close()
    upgrade.upgrade(settings)
    assert three.row().revision == "0003"


TWO_CHANGES = """
def upgrade():
    return [
        op.UpdateCollection("{name}", metadata={{"owner": "search"}}),
        op.AddVector("{name}", "c", SparseVectorParams(), values=Empty(), strategy="in_place"),
    ]
"""
FAILING = """
def broken(given):
    raise ValueError("no text in it")

def upgrade():
    return [{operation}]
"""


@pytest.fixture
def one(deployment):
    """A loaded collection at its first revision."""
    deployment.revise("0001", CREATE)
    upgrade.upgrade(deployment.settings())
    deployment.load(20)
    return deployment


def refusing(made, monkeypatch, number):
    """Its server refuses the change in place with this number, counted from 1, every time."""
    store = made.store()
    kind = type(store)
    store.close()
    real, seen = kind.apply, []

    def apply(self, name, change):
        if change not in seen:
            seen.append(change)
        if seen.index(change) == number - 1:
            raise RefusedRequestError("Wrong input: the server says no")
        real(self, name, change)

    monkeypatch.setattr(kind, "apply", apply)


def test_a_change_that_the_server_refuses_at_once_leaves_no_run_behind(one, monkeypatch):
    """Nothing was changed, so the run is over: status says why, nothing is resumed, and the repaired file applies."""
    path = one.revise("0002", TWO_CHANGES)
    with monkeypatch.context() as patch:
        refusing(one, patch, 1)
        with pytest.raises(UnchangedError, match="says no"):
            upgrade.upgrade(one.settings())
    row = one.row()
    assert (row.state, row.pending, row.next_command) == ("failed", ("0002",), "qmigrate upgrade")
    assert "says no" in row.detail
    assert back.abort(one.settings()).outcomes == ()
    path.write_text(path.read_text().replace("search", "a team"))
    assert upgrade.upgrade(one.settings()).resumed == ()
    assert one.row().state == "ready"


def test_a_change_that_is_refused_later_names_the_way_out(one, monkeypatch):
    """The first change is made: the run stays open, its error names abort, and abort takes the change back."""
    one.revise("0002", TWO_CHANGES)
    with monkeypatch.context() as patch:
        refusing(one, patch, 2)
        for _ in range(2):
            with pytest.raises(RefusedRequestError) as caught:
                upgrade.upgrade(one.settings())
            assert f"qmigrate abort {one.name}" in caught.value.hint
    assert one.row().state == "failed"
    back.abort(one.settings())
    store = one.store()
    assert "metadata" not in store.describe(one.name).schema.config
    store.close()
    assert one.row().state == "pending"


NEW = """
def upgrade():
    return [op.CreateCollection("{name}_new", {{"a": VectorParams(size=8, distance=Distance.COSINE)}})]
"""
CLONED = """
def upgrade():
    return [op.UpdateCollection("{name}", hnsw_config=HnswConfigDiff(m=8))]
"""


def refused_at(made, monkeypatch, when):
    """Its server refuses to make a collection: before anything is there, when it is half made, or behind a timeout."""
    store = made.store()
    kind = type(store)
    store.close()
    real = kind.create_collection

    def refuse(self, name, schema, **more):
        if when == "half made":
            real(self, name, schema, **more)
        if when == "unclear":
            monkeypatch.setattr(kind, "all_answered", lambda _: False)
        raise RefusedRequestError("Qdrant says no")

    monkeypatch.setattr(kind, "create_collection", refuse)


@pytest.mark.parametrize("body", [ADD, NEW, CLONED], ids=["rebuild", "new", "clone"])
def test_a_generation_that_the_server_refuses_at_once_leaves_no_run_behind(one, monkeypatch, body):
    """Nothing was made: the run is over, its number is free again, and the repaired file applies without an abort."""
    before = one.contents()
    path = one.revise("0002", body)
    with monkeypatch.context() as patch:
        refused_at(one, patch, "at once")
        if body is CLONED:
            patch.setattr(clone, "recover", lambda step, work: step)
        for _ in range(2):
            with pytest.raises(UnchangedError, match="says no") as caught:
                upgrade.upgrade(one.settings())
            assert "abort" not in (caught.value.hint or "")
    assert one.contents() == before
    assert back.abort(one.settings()).outcomes == ()
    ledger = Ledger.open(one.settings().ledger.url)
    rows = [row for found in ledger.all_generations().values() for row in found]
    ledger.close()
    assert {row.state for row in rows} == {"live"}
    store = one.store()
    made = {name for name in store.physical_names() if name.startswith(one.name)}
    assert made == {f"{one.name}__g0001"}
    assert not store.capabilities.snapshots or not store.list_snapshots(f"{one.name}__g0001")
    store.close()
    path.write_text(path.read_text() + "# repaired\n")
    assert upgrade.upgrade(one.settings()).resumed == ()
    assert one.row().revision == ("0001" if body is NEW else "0002")


@pytest.mark.parametrize("when", ["half made", "unclear", "resumed"])
def test_a_generation_that_may_have_been_made_names_the_way_out(one, monkeypatch, when):
    """Where it isn't certain that nothing was made the run stays open, and its error names abort, which ends it."""
    one.revise("0002", ADD)
    with monkeypatch.context() as patch:
        if when == "resumed":
            store = one.store()
            kind = type(store)
            store.close()
            patch.setattr(kind, "create_collection", lambda *_a, **_b: (_ for _ in ()).throw(StoreError("cut off")))
            with pytest.raises(StoreError, match="cut off"):
                upgrade.upgrade(one.settings())
        refused_at(one, patch, when)
        # What is half made is found by the next try, and finished.
        for _ in range(1 if when == "half made" else 2):
            with pytest.raises(RefusedRequestError) as caught:
                upgrade.upgrade(one.settings())
            assert f"qmigrate abort {one.name}" in caught.value.hint
    back.abort(one.settings())
    assert one.row().state == "pending"
    assert upgrade.upgrade(one.settings()).resumed == ()


@pytest.mark.parametrize(
    "operation",
    [
        'op.TransformPoints("{name}", broken)',
        'op.AddVector("{name}", "b", VectorParams(size=4, distance=Distance.DOT), values=Compute(broken))',
    ],
    ids=["points", "values"],
)
def test_a_function_that_fails_in_the_first_step_shows_in_status(one, operation):
    """Not as something that is still to come: what the function reported, until an upgrade gets further."""
    one.revise("0002", FAILING.replace("{operation}", operation))
    with pytest.raises((PlanError, EmbedError)):
        upgrade.upgrade(one.settings())
    row = one.row()
    assert (row.state, "no text in it" in row.detail) == ("failed", True)


def test_a_missing_consent_is_still_pending(one):
    """A rollback that was refused for want of consent is not a failure of the upgrade that comes next."""
    one.revise("0002", ADD)
    upgrade.upgrade(one.settings())
    one.load(5, start=100)
    one.revise("0003", INDEX)
    with pytest.raises(RefusedError):
        back.rollback(one.settings(), "0001")
    assert one.row().state == "pending"
