"""Ways back that are easily lost: over downgrades, drops, several rebuilds, aliases and interruptions."""

from __future__ import annotations

from dataclasses import replace

import pytest
from tests.harness import ADD, CREATE, INDEX, make_point, write
from tests.scenarios.plain_names import plain

from qmigrate.commands import fix, gc, reset, upgrade
from qmigrate.commands import rollback as back
from qmigrate.engine import phases as steps
from qmigrate.engine.build import copy
from qmigrate.engine.golive import golive
from qmigrate.errors import DriftError, ForeignLedgerError, RefusedError, RepairNeededError, StoreError
from qmigrate.ledger import Lease, Ledger
from qmigrate.model.plan import GoLive, InPlace
from qmigrate.model.schema import CollectionSchema
from qmigrate.store import records

DROP = """
def upgrade():
    return [op.DropCollection("{name}")]
"""
RENAME = """
def upgrade():
    return [op.RenameVector("{name}", "b", "c", cutover="immediate")]
"""
ALSO = """
def upgrade():
    return [op.SetAlias("{name}_also", "{name}")]
"""
WITH_DOWNGRADE = """
def upgrade():
    return [op.CreatePayloadIndex("{name}", "kind", PayloadSchemaType.KEYWORD)]


def downgrade():
    return [op.UpdateCollection("{name}", hnsw_config=HnswConfigDiff(m=24)), op.DropPayloadIndex("{name}", "kind")]
"""


def put(made, *points, name=None):
    """Write through a name."""
    store = made.store()
    write(store, name or made.name, points)
    store.close()


def target_of(made):
    """Where the name points."""
    store = made.store()
    try:
        return store.aliases().get(made.name)
    finally:
        store.close()


def test_a_generation_made_by_a_downgrade_is_no_way_over_earlier_revisions(deployment):
    """Its parent has later revisions: going further back needs another way, and says so."""
    deployment.revise("0001", CREATE)
    upgrade.upgrade(deployment.settings())
    deployment.load(10)
    deployment.revise("0002", ADD)
    deployment.revise("0003", WITH_DOWNGRADE)
    upgrade.upgrade(deployment.settings())
    back.rollback(deployment.settings(), "0002")
    assert target_of(deployment).endswith("__g0003")
    with pytest.raises(RefusedError, match="revision 0002 can't be taken back"):
        back.rollback(deployment.settings(), "0001")
    assert deployment.row().revision == "0002"


def test_a_drop_is_taken_back_to_the_generation_that_served(deployment):
    """Not to a newer one that had been left before, and the application can write again."""
    deployment.revise("0001", CREATE)
    upgrade.upgrade(deployment.settings())
    deployment.load(10)
    path = deployment.revise("0002", ADD)
    upgrade.upgrade(deployment.settings())
    back.rollback(deployment.settings(), "0001")
    put(deployment, make_point(800))
    path.unlink()
    deployment.last = "0001"
    deployment.revise("0003", DROP)
    before = deployment.contents()
    upgrade.upgrade(deployment.settings())
    assert target_of(deployment) is None
    back.rollback(deployment.settings(), "0001")
    assert deployment.contents() == before
    put(deployment, make_point(801))
    put(deployment, make_point(802))


@pytest.mark.parametrize("collected", [False, True])
def test_a_drop_is_taken_back_to_what_it_has_left_and_to_nothing_else(deployment, collected):
    """A reset that was undone has left a newer generation at the same revisions: it never is what a rollback serves."""
    made, old, emptied = deployment, f"{deployment.name}__g0001", f"{deployment.name}__g0002"
    made.revise("0001", CREATE)
    upgrade.upgrade(made.settings())
    made.load(10)
    before = made.contents()
    done = reset.reset(made.settings(), made.name, reason="r", expect=10, confirm=reset.PHRASE)
    fix.undo(made.settings(), done.log)
    made.revise("0002", DROP)
    upgrade.upgrade(made.settings())
    if collected:
        gc.gc(made.settings(), made.name, now=True, discard_writes=True, generations=[old])
        with pytest.raises(RefusedError, match="no generation of it is kept any more"):
            back.rollback(made.settings(), "0001")
        assert (target_of(made), made.contents(emptied)) == (None, {})
        return
    back.rollback(made.settings(), "0001")
    assert (target_of(made), made.contents()) == (old, before)


def test_a_dropped_plain_collection_comes_back(deployment):
    """It made room for an alias first, by an identical generation: that one is the way back."""
    made = deployment
    plain(made, 9)
    before = made.contents()
    made.revise("0002", DROP)
    upgrade.upgrade(made.settings(), allow_gap=True)
    assert target_of(made) is None
    back.rollback(made.settings(), "-1")
    assert made.contents() == before


def test_a_rollback_over_two_rebuilds_is_refused_as_a_whole(deployment):
    """Writes since the older rebuild are found before the newer one is taken back."""
    deployment.revise("0001", CREATE)
    upgrade.upgrade(deployment.settings())
    deployment.load(10)
    deployment.revise("0002", ADD)
    upgrade.upgrade(deployment.settings())
    put(deployment, make_point(500))
    deployment.revise("0003", RENAME)
    upgrade.upgrade(deployment.settings())
    with pytest.raises(RefusedError):
        back.rollback(deployment.settings(), "0001")
    assert (deployment.row().revision, deployment.row().state) == ("0003", "ready")


def test_further_aliases_move_with_the_name(deployment):
    """One declared by a revision and one made by hand go along; going back drops what was declared since."""
    deployment.revise("0001", CREATE)
    upgrade.upgrade(deployment.settings())
    deployment.load(5)
    store = deployment.store()
    store.create_alias(f"{deployment.name}_hand", f"{deployment.name}__g0001")
    store.close()
    deployment.revise("0002", ADD)
    deployment.revise("0003", ALSO)
    upgrade.upgrade(deployment.settings())
    store = deployment.store()
    names = {alias for alias, target in store.aliases().items() if target == f"{deployment.name}__g0002"}
    store.close()
    assert names == {deployment.name, f"{deployment.name}_hand", f"{deployment.name}_also"}
    back.rollback(deployment.settings(), "0001")
    store = deployment.store()
    names = {alias: target for alias, target in store.aliases().items() if alias.startswith(deployment.name)}
    store.close()
    assert names == {deployment.name: f"{deployment.name}__g0001", f"{deployment.name}_hand": f"{deployment.name}__g0001"}


def test_another_model_under_the_same_name_does_not_go_on_with_a_copy(deployment, monkeypatch):
    """An interrupted copy is never finished by a different embedder."""
    deployment.revise("0001", CREATE)
    upgrade.upgrade(deployment.settings())
    deployment.load(10)
    deployment.revise("0002", ADD)
    original = copy._checkpoint

    def fail(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr(copy, "_checkpoint", fail)
    with pytest.raises(KeyboardInterrupt):
        upgrade.upgrade(deployment.settings())
    monkeypatch.setattr(copy, "_checkpoint", original)
    deployment.extra["embedders"] = {"words": {"type": "callable", "function": "tests.harness:flat", "size": 16}}
    deployment.__post_init__()
    with pytest.raises(DriftError, match="two models"):
        upgrade.upgrade(deployment.settings())
    back.abort(deployment.settings())
    upgrade.upgrade(deployment.settings())
    assert deployment.row().revision == "0002"


@pytest.mark.parametrize("crash", ["save_generation", "journal"])
def test_an_interruption_inside_the_fence_never_leaves_the_live_generation_fenced(deployment, monkeypatch, crash):
    """Stopped around the ledger's row of the fence: after a rollback the application can write."""
    deployment.revise("0001", CREATE)
    upgrade.upgrade(deployment.settings())
    deployment.load(5, uuids=False)
    deployment.revise("0002", INDEX)
    deployment.revise("0003", ADD)
    original = getattr(Lease, crash)
    armed = []

    def stop(self, *args, **kwargs):
        if crash == "save_generation" and armed:
            raise KeyboardInterrupt
        result = original(self, *args, **kwargs)
        if crash == "journal" and armed and args[2] == "sweep" and len(args) > 4:
            raise KeyboardInterrupt
        return result

    swap = golive.swap

    def arm(*args):
        armed.append(True)
        swap(*args)

    monkeypatch.setattr(golive, "swap", arm)
    monkeypatch.setattr(Lease, crash, stop)
    stopped = False
    try:
        upgrade.upgrade(deployment.settings())
    except KeyboardInterrupt:
        stopped = True
    monkeypatch.undo()
    assert stopped or "path" in deployment.qdrant
    upgrade.upgrade(deployment.settings())
    back.rollback(deployment.settings(), "0001")
    for number in range(3):
        put(deployment, make_point(600 + number))
    assert len(deployment.contents()) == 8


def test_a_name_that_was_moved_back_by_hand_stops_the_resume(deployment, monkeypatch):
    """The run doesn't fence and record a generation that serves again: exit 7."""
    deployment.revise("0001", CREATE)
    upgrade.upgrade(deployment.settings())
    deployment.load(5)
    deployment.revise("0002", ADD)

    def stop(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr(golive, "sweep", stop)
    with pytest.raises(KeyboardInterrupt):
        upgrade.upgrade(deployment.settings())
    monkeypatch.undo()
    store = deployment.store()
    store.create_alias(deployment.name, f"{deployment.name}__g0001")
    store.close()
    with pytest.raises(RepairNeededError):
        upgrade.upgrade(deployment.settings())
    put(deployment, make_point(700))
    put(deployment, make_point(701))


@pytest.mark.parametrize(
    ("params", "stored", "close"),
    [
        ({"datatype": "uint8"}, [10.0, 200.0], False),
        ({"datatype": "uint8"}, [10.7, 200.4], True),
        ({"datatype": "uint8"}, [12.0, 200.0], False),
        ({"datatype": "uint8"}, [0.0, 0.0], False),
        ({"datatype": "float16"}, [10.703125, 200.375], True),
        ({"datatype": "float16"}, [10.8, 200.4], False),
        ({"datatype": "float16"}, [10.6953125, 200.375], False),
        ({"datatype": "float16", "distance": "Cosine"}, [0.053314, 0.998535], True),
        ({"datatype": "float16", "distance": "Cosine"}, [0.053283, 0.998535], True),
        ({"datatype": "float16", "distance": "Cosine"}, [0.053223, 0.998535], False),
        ({"distance": "Cosine"}, [0.05333, 0.99858], False),
        ({"distance": "Dot"}, [10.7, 200.4], True),
    ],
)
def test_a_converted_vector_is_compared_as_its_new_form_allows(params, stored, close):
    """uint8 keeps what may be written to it, float16 rounds, cosine normalises; everything else is different."""
    import numpy as np

    wanted = np.array([10.7, 200.4], dtype=np.float32)
    seen = np.array(stored, dtype=np.float32)
    assert records._close(wanted, seen, records.tolerance_of(params)) is close
    if params.get("distance") == "Cosine":
        unit = (wanted / np.linalg.norm(wanted)).astype(np.float32)
        assert records._close(wanted, unit, records.tolerance_of(params))


@pytest.mark.parametrize("distance", ["Dot", "Cosine"])
@pytest.mark.parametrize(
    ("datatype", "wanted", "stored", "close"),
    [
        # What float16 still holds below its 11 bits, down to 6e-8, is compared as exactly as everything else.
        ("float16", [1.0, 5.96e-8], [1.0, 5.9604645e-8], True),
        ("float16", [1.0, 7e-7], [1.0, 7.1525574e-7], True),
        ("float16", [1.0, 7e-7], [1.0, 0.0], False),
        ("float16", [1.0, 7e-7], [1.0, -7.1525574e-7], False),
        ("float16", [1.0, 2e-8], [1.0, 0.0], True),
        ("float16", [1.0, 0.0], [1.0, float("nan")], False),
        ("float16", [65504.0, 65519.0], [65504.0, 65504.0], True),
        ("float16", [65504.0, 65520.0], [65504.0, float("inf")], False),
        ("float32", [1.0, 7e-7], [1.0, 7e-7], True),
        ("float32", [1.0, 7e-7], [1.0, 0.0], False),
        ("float32", [1.0, 7e-7], [1.0, 8e-7], False),
        ("float32", [1.0, 1e-20], [1.0, 0.0], False),
    ],
)
def test_small_values_are_compared_like_large_ones(distance, datatype, wanted, stored, close):
    """A value that became 0 although its datatype holds it is a difference, however small it is."""
    import numpy as np

    tolerance = records.tolerance_of({"distance": distance, "datatype": datatype})
    pair = np.array(wanted, dtype=np.float32), np.array(stored, dtype=np.float32)
    assert records._close(*pair, tolerance) is close


@pytest.mark.parametrize("prepared", [False, True])
def test_a_collection_sealed_by_another_ledger_is_left_alone(deployment, tmp_path, prepared):
    """The wrong ledger for this Qdrant, new or in use: exit 7 names both, and nothing is written."""
    deployment.revise("0001", CREATE)
    upgrade.upgrade(deployment.settings())
    deployment.load(3)
    before = deployment.contents()
    deployment.ledger_url = f"sqlite:///{tmp_path}/other.db"
    deployment.__post_init__()
    if prepared:
        ledger = Ledger.open(deployment.ledger_url)
        ledger.prepare()
        ledger.close()
    for verb in (upgrade.plan, upgrade.upgrade):
        with pytest.raises(ForeignLedgerError, match="sealed by another ledger") as refused:
            verb(deployment.settings())
        assert refused.value.exit_code == 7
    assert deployment.contents() == before


@pytest.mark.parametrize("phase", ["converge", "swap", "close"])
@pytest.mark.parametrize("verb", ["rollback", "upgrade"])
def test_the_same_relative_command_again_goes_no_further_than_it_was_told(deployment, monkeypatch, verb, phase):
    """Interrupted and sent again, one revision stays one revision: what is finished first counts."""
    made = deployment
    made.revise("0001", CREATE)
    upgrade.upgrade(made.settings())
    made.load(20)
    made.revise("0002", ADD)
    made.revise("0003", ADD.replace('"b"', '"c"'))
    if verb == "rollback":
        for _ in range(2):
            upgrade.upgrade(made.settings(), "+1")
    command = {
        "rollback": lambda: back.rollback(made.settings(), "-1"),
        "upgrade": lambda: upgrade.upgrade(made.settings(), "+1"),
    }[verb]

    def cut(*_):
        raise StoreError("cut off")

    with monkeypatch.context() as patch:
        phases = tuple(replace(one, run=cut) if one.name == phase else one for one in golive.PHASES)
        patch.setitem(steps._CHECKLISTS, GoLive.kind, phases)
        with pytest.raises(StoreError, match="cut off"):
            command()
    result = command()
    assert (len(result.resumed), len(result.outcomes)) == (1, 1)
    assert made.row().revision == "0002"


READ = 'def upgrade():\n    return [op.SetAlias("{name}_read", "{name}")]\n'
DROP = 'def upgrade():\n    return [op.DropCollection("{name}")]\n'


@pytest.mark.parametrize("change", ["rebuild", "drop", "back in place"])
def test_a_further_name_that_went_to_another_collection_meanwhile_stays_there(deployment, monkeypatch, change):
    """Another client gives it away after the plan was made: it is neither taken nor removed."""
    made, read, other = deployment, f"{deployment.name}_read", f"{deployment.name}_other"
    made.revise("0001", CREATE)
    upgrade.upgrade(made.settings())
    made.load(5)
    made.revise("0002", READ)
    upgrade.upgrade(made.settings())
    made.revise("0003", {"rebuild": ADD, "drop": DROP}.get(change, INDEX))
    kind, first = (InPlace.kind, "preflight") if change == "back in place" else (GoLive.kind, "converge")
    look = next(one.run for one in steps._CHECKLISTS[kind] if one.name == first)

    def given_away(step, work):
        if other not in work.store.physical_names():
            work.store.create_collection(other, CollectionSchema(), seal=None, defer_index=False)
        work.store.create_alias(read, other)
        return look(step, work)

    phases = tuple(replace(one, run=given_away) if one.name == first else one for one in steps._CHECKLISTS[kind])
    monkeypatch.setitem(steps._CHECKLISTS, kind, phases)
    if change == "back in place":
        back.rollback(made.settings(), "0001")
    else:
        upgrade.upgrade(made.settings())
    store = made.store()
    found = {name: target for name, target in store.aliases().items() if name.startswith(made.name)}
    store.close()
    serves = {"rebuild": "g0002", "back in place": "g0001"}.get(change)
    assert found == {read: other, **({made.name: f"{made.name}__{serves}"} if serves else {})}
