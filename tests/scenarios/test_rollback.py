"""Ways back that are easily lost: over downgrades, drops, several rebuilds, aliases and interruptions."""

from __future__ import annotations

from dataclasses import replace

import pytest
from tests.harness import ADD, CREATE, INDEX, make_point, write
from tests.scenarios.cli import call
from tests.scenarios.plain_names import plain
from tests.scenarios.test_alias_moved_by_hand import cut_at

from qmigrate import op
from qmigrate.commands import fix, gc, reset, upgrade
from qmigrate.commands import rollback as back
from qmigrate.engine import phases as steps
from qmigrate.engine.build import copy
from qmigrate.engine.golive import golive
from qmigrate.engine.golive import rollback as back_steps
from qmigrate.errors import (
    DriftError,
    ForeignLedgerError,
    OvertakenError,
    PlanError,
    QmigrateError,
    RefusedError,
    RepairNeededError,
    StoreError,
    VerificationError,
)
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
ALTER = """
def upgrade():
    return [op.TransformPoints("{name}", same)]


def same(point):
    return {{**point.payload, "n": 0}}
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
    """Its parent has later revisions: going further back needs another way, and that is reported."""
    deployment.revise("0001", CREATE)
    upgrade.upgrade(deployment.settings())
    deployment.load(10)
    deployment.revise("0002", ADD)
    deployment.revise("0003", WITH_DOWNGRADE)
    upgrade.upgrade(deployment.settings())
    back.rollback(deployment.settings(), "0002")
    assert target_of(deployment).endswith("__g0003")
    with pytest.raises(RefusedError, match="revision 0002 can't be undone"):
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
    """Writes since the older rebuild are found before the newer one is undone."""
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
            work.store.create_collection(other, CollectionSchema(), seal=None)
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


BESIDE = """
def upgrade():
    return [op.AddVector("{name}", "b", {params}, values=Empty(), strategy="in_place")]
"""


@pytest.mark.parametrize("later", [False, True], ids=["alone", "below a rebuild"])
@pytest.mark.parametrize(
    ("params", "value"),
    [("VectorParams(size=2, distance=Distance.DOT)", [1.0, 2.0]), ("SparseVectorParams()", {"indices": [1], "values": [2.0]})],
    ids=["dense", "sparse"],
)
def test_what_was_written_to_a_vector_added_in_place_is_not_lost_without_consent(deployment, params, value, later):
    """No generation keeps it where the vector is dropped again; of one that was never filled, nothing is asked."""
    made = deployment
    made.revise("0001", CREATE)
    upgrade.upgrade(made.settings())
    put(made, make_point(1), make_point(2))
    made.revise("0002", BESIDE.replace("{params}", params))
    upgrade.upgrade(made.settings())
    back.rollback(made.settings(), "0001")
    upgrade.upgrade(made.settings())
    point = make_point(1)
    put(made, replace(point, vectors={**point.vectors, "b": value}))
    if later:
        made.revise("0003", ALTER)
        upgrade.upgrade(made.settings())
    before = made.contents()
    for writes in ("refuse", "carry", "now"):
        for dry_run in (True, False):
            with pytest.raises(RefusedError, match="1 points of .* have the vector 'b'"):
                back.rollback(made.settings(), "0001", writes=writes, dry_run=dry_run)
    with pytest.raises(RefusedError, match="0003|have the vector 'b'"):
        back.revert(made.settings(), "0002")
    assert made.contents() == before
    assert made.row().revision == ("0003" if later else "0002")
    back.rollback(made.settings(), "0001", writes="discard")
    assert {name for _, vectors in made.contents().values() for name in vectors} == {"a"}


CUT = """
def upgrade():
    return [op.TransformPoints("{name}", changed{inverse})]


def changed(point):
    return {{**point.payload, "more": 1}}


def undone(point):
    assert point.payload["kind"] != "odd"
    return {{key: value for key, value in point.payload.items() if key != "more"}}
"""


def cut(made, *, inverse):
    """At 0002, by a function."""
    made.revise("0001", CREATE)
    upgrade.upgrade(made.settings())
    put(made, make_point(2), make_point(4))
    made.revise("0002", CUT.replace("{inverse}", ", inverse=undone" if inverse else ""))
    upgrade.upgrade(made.settings())


@pytest.mark.parametrize("how", ["write", "delete"])
@pytest.mark.parametrize("inverse", [False, True])
def test_what_comes_while_it_goes_back_is_no_dead_end(deployment, monkeypatch, how, inverse):
    """It can't be brought along: the run can be ended, leaves the parent as it was, and the next try counts it."""
    made = deployment
    cut(made, inverse=inverse)
    older, real = made.contents(f"{made.name}__g0001"), back_steps.converge

    def late(step, work):
        monkeypatch.setattr(back_steps, "converge", real)
        if how == "write":
            write(work.store, made.name, [make_point(9)])
        else:
            work.store.delete(made.name, [3])
            if inverse:
                # What can be brought along is not begun either, where the rest fails.
                write(work.store, made.name, [make_point(9)])
        return real(step, work)

    monkeypatch.setattr(back_steps, "converge", late)
    with pytest.raises(QmigrateError):
        back.rollback(made.settings(), "0001")
    assert made.contents(f"{made.name}__g0001") == older
    with pytest.raises(QmigrateError):
        upgrade.upgrade(made.settings())
    back.abort(made.settings())
    assert (made.row().state, made.row().revision) == ("ready", "0002")
    with pytest.raises(RefusedError, match="1 point added|1 point deleted"):
        back.rollback(made.settings(), "0001")
    back.rollback(made.settings(), "0001", writes="discard")
    assert made.contents() == older


REKEY = """
def upgrade():
    return [op.Rekey("{name}", other, cutover="immediate")]


def other(point):
    return point.id + 100
"""


@pytest.mark.parametrize("body", [CUT.replace("{inverse}", ""), REKEY], ids=["no inverse", "other ids"])
@pytest.mark.parametrize("deleted", [False, True])
def test_it_is_none_behind_a_fix_nor_over_other_ids(deployment, monkeypatch, body, deleted):
    """What a fix has deleted is deleted in the parent by then: the run can be ended all the same, and says so."""
    made = deployment
    made.revise("0001", CREATE)
    upgrade.upgrade(made.settings())
    put(made, make_point(2), make_point(4), make_point(6))
    made.revise("0002", body)
    upgrade.upgrade(made.settings())
    ids, real = sorted(made.contents()), back_steps.converge
    if deleted:
        fix.fix(made.settings(), op.DeletePoints(made.name, ids=ids[:1], reason="r", max_share=1.0))

    def late(step, work):
        monkeypatch.setattr(back_steps, "converge", real)
        work.store.delete(made.name, ids[1:2])
        return real(step, work)

    monkeypatch.setattr(back_steps, "converge", late)
    with pytest.raises(VerificationError):
        back.rollback(made.settings(), "0001")
    with pytest.raises(VerificationError):
        upgrade.upgrade(made.settings())
    said = call(made.root, "abort")
    assert (said.code, "stays deleted there, too" in said.text) == (0, deleted), said.text
    assert (made.row().state, made.row().revision) == ("ready", "0002")
    with pytest.raises(RefusedError, match="1 point deleted"):
        back.rollback(made.settings(), "0001")
    back.rollback(made.settings(), "0001", writes="discard")
    assert set(made.contents()) == ({5, 7} if deleted else {3, 5, 7})


def test_an_inverse_that_fails_is_found_before_anything_is_brought_back(deployment):
    """Each point is made once before the first is written; the run is over, and another way can be chosen."""
    made = deployment
    cut(made, inverse=True)
    older = made.contents(f"{made.name}__g0001")
    put(made, make_point(6), make_point(9))
    with pytest.raises(PlanError, match="undone failed for point 10"):
        back.rollback(made.settings(), "0001", writes="carry")
    assert (made.contents(f"{made.name}__g0001"), made.row().state) == (older, "ready")
    back.rollback(made.settings(), "0001", writes="discard")
    assert made.contents() == older


def test_what_was_begun_to_be_brought_back_is_finished(deployment, monkeypatch):
    """Once the first write has reached the parent, no abort leaves it half-way."""
    made = deployment
    cut(made, inverse=True)
    put(made, make_point(6))
    with cut_at(monkeypatch, GoLive.kind, "swap"):
        back.rollback(made.settings(), "0001", writes="carry")
    with pytest.raises(RefusedError, match="can only be finished"):
        back.abort(made.settings())
    upgrade.upgrade(made.settings(), "0001")
    assert set(made.contents()) == {3, 5, 7}


@pytest.mark.parametrize("phase", ["converge", "swap"])
def test_a_name_is_not_removed_from_points_that_came_since(deployment, monkeypatch, phase):
    """The collection was empty when its creation was to be undone; the run is over then."""
    made = deployment
    made.revise("0001", CREATE)
    upgrade.upgrade(made.settings())
    with cut_at(monkeypatch, GoLive.kind, phase):
        back.rollback(made.settings(), "base")
    put(made, make_point(1))
    with pytest.raises(OvertakenError, match="1 point added"):
        upgrade.upgrade(made.settings())
    assert (set(made.contents()), made.row().state) == ({2}, "ready")


@pytest.mark.parametrize("phase", ["change", "verify"])
def test_a_vector_that_is_filled_while_a_way_back_is_interrupted_is_not_dropped(deployment, monkeypatch, phase):
    """Nothing had it when it was asked about; the run is over then, and the next try asks."""
    made = deployment
    made.revise("0001", CREATE)
    upgrade.upgrade(made.settings())
    put(made, make_point(1))
    made.revise("0002", BESIDE.replace("{params}", "VectorParams(size=2, distance=Distance.DOT)"))
    upgrade.upgrade(made.settings())
    with cut_at(monkeypatch, InPlace.kind, phase):
        back.rollback(made.settings(), "0001")
    if phase == "verify":
        upgrade.upgrade(made.settings(), "0001")
        assert "b" not in made.contents()[2][1]
        return
    point = make_point(1)
    put(made, replace(point, vectors={**point.vectors, "b": [1.0, 2.0]}))
    before = made.contents()
    with pytest.raises(RefusedError, match="1 points of .* have the vector 'b' by now"):
        upgrade.upgrade(made.settings(), "0001")
    assert (made.contents(), made.row().state, made.row().revision) == (before, "ready", "0002")
    with pytest.raises(RefusedError, match="1 points of .* have the vector 'b', which is dropped"):
        back.rollback(made.settings(), "0001")
    back.rollback(made.settings(), "0001", writes="discard")
    assert "b" not in made.contents()[2][1]


@pytest.mark.parametrize("filled", [False, True])
def test_an_abort_drops_no_vector_that_another_client_has_filled(deployment, monkeypatch, filled):
    """The run had added it in place, and was interrupted: it can be finished, and then be undone with consent."""
    made = deployment
    made.revise("0001", CREATE)
    upgrade.upgrade(made.settings())
    put(made, make_point(1))
    made.revise("0002", BESIDE.replace("{params}", "VectorParams(size=2, distance=Distance.DOT)"))
    with cut_at(monkeypatch, InPlace.kind, "verify"):
        upgrade.upgrade(made.settings())
    if not filled:
        back.abort(made.settings())
        assert made.row().state.startswith("pending")
        return
    point = make_point(1)
    put(made, replace(point, vectors={**point.vectors, "b": [1.0, 2.0]}))
    before = made.contents()
    with pytest.raises(RefusedError, match="1 points of .* have the vector 'b'"):
        back.abort(made.settings())
    upgrade.upgrade(made.settings())
    assert (made.contents(), made.row().revision) == (before, "0002")


def test_what_an_outage_leaves_behind_is_said(deployment):
    """Flipped first, over a change without an inverse: what was written since is only in what gc deletes."""
    made = deployment
    cut(made, inverse=False)
    put(made, make_point(6))
    said = call(made.root, "rollback", "0001", "--now")
    assert (said.code, "may differ on the two sides: 7" in said.out, "which gc deletes" in said.out) == (0, True, True), said.text
    assert (set(made.contents()), 7 in made.contents(f"{made.name}__g0002")) == ({3, 5}, True)
