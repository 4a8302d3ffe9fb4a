"""What another client changes in the live collection while the next generation is built: never lost without a word."""

from __future__ import annotations

from dataclasses import replace

import pytest
from tests.harness import ADD, CREATE, by_hand, make_point, write
from tests.harness import INDEX as KIND
from tests.scenarios.cli import left
from tests.scenarios.plain_names import SCHEMA, plain
from tests.scenarios.test_alias_moved_by_hand import cut_at

from qmigrate import op
from qmigrate.commands import cutover, fix, upgrade
from qmigrate.commands import rollback as back
from qmigrate.engine import call, inplace
from qmigrate.engine import rebuild as build
from qmigrate.engine.fixes import edit
from qmigrate.engine.golive import golive
from qmigrate.errors import DriftError, RepairNeededError
from qmigrate.model.plan import Build, GoLive, InPlace
from qmigrate.model.schema import Change

POINTS = 20
VECTOR = {"size": 2, "distance": "Dot"}
INDEX = {"type": "integer"}
#: Name -> the change, and what the refusal reports about it.
CHANGES = {
    "index": (Change("index.add", "n", after=INDEX), "add payload index n"),
    "metadata": (Change("config.set", "metadata", after={"owner": "search"}), "set setting metadata"),
    "vector": (Change("vector.add", "h", after=VECTOR), "add vector h"),
}
#: Of local mode, which keeps no index.
KEPT = ("metadata", "vector")
INDEXED = """
def upgrade():
    return [op.CreatePayloadIndex("{name}", "n", PayloadSchemaType.INTEGER)]
"""
SETTING = """
def upgrade():
    return [op.UpdateCollection("{name}", hnsw_config=HnswConfigDiff(m=24))]
"""
DROP = """
def upgrade():
    return [op.DropCollection("{name}")]
"""
RENAME = """
def upgrade():
    return [op.RenameVector("{name}", "a", "z", cutover="immediate")]
"""
HELD = RENAME.replace("immediate", "hold")
#: Behind which call it comes: before the proof of the build, or behind it.
MOMENTS = {
    "while it is filled": (build, "copy_ranges"),
    "behind the proof": (build, "prove"),
    "while it is proven again": (golive, "prove"),
}


@pytest.mark.parametrize("moment", list(MOMENTS))
@pytest.mark.parametrize("kind", list(CHANGES))
def test_a_change_by_another_client_is_not_lost(deployment, monkeypatch, kind, moment):
    """The name does not move; once the change is undone, the run continues and loses no point."""
    if kind not in KEPT and "path" in deployment.qdrant:
        pytest.skip("local mode keeps no payload index")
    deployment.revise("0001", CREATE)
    upgrade.upgrade(deployment.settings())
    deployment.load(POINTS)
    deployment.revise("0002", ADD)
    change, words = CHANGES[kind]
    old = f"{deployment.name}__g0001"
    module, name = MOMENTS[moment]
    original = getattr(module, name)

    def changed(work, *args, **kwargs):
        made = original(work, *args, **kwargs)
        work.store.apply(old, change)
        return made

    with monkeypatch.context() as patch:
        patch.setattr(module, name, changed)
        # Others write all the time.
        patch.setattr(golive, "nothing_written", lambda *_, **__: False)
        patch.setattr(golive, "exact", lambda _: True)
        patch.setattr(golive, "barrier", lambda *_: {"a shard": 1})
        with pytest.raises(DriftError, match=f"would lose that: {words}") as refused:
            upgrade.upgrade(deployment.settings())
    assert "undo it" in (refused.value.hint or "")
    assert serves(deployment) == old
    store = deployment.store()
    store.apply(old, change.reverse() if kind != "metadata" else Change("config.set", "metadata", {}, change.after))
    store.close()
    upgrade.upgrade(deployment.settings())
    assert serves(deployment) == f"{deployment.name}__g0002"
    assert len(deployment.contents()) == POINTS


#: Where an upgrade of two revisions is stopped, with the first of them: before the build of the second one has looked.
STOPS = {
    "before its first look": (None, Build.kind, "preflight"),
    "behind another build": (ADD, GoLive.kind, "close"),
    "behind a change in place": (KIND, InPlace.kind, "close"),
}


@pytest.mark.parametrize("stop", list(STOPS))
@pytest.mark.parametrize("kind", list(CHANGES))
def test_a_change_behind_the_plan_is_not_lost(deployment, monkeypatch, kind, stop):
    """The plan knows nothing of it: the run ends, and the same command plans again and takes it along."""
    if kind not in KEPT and "path" in deployment.qdrant:
        pytest.skip("local mode keeps no payload index")
    first, *place = STOPS[stop]
    deployment.extra["rebuild"] = {"fuse": False}
    deployment.__post_init__()
    deployment.revise("0001", CREATE)
    upgrade.upgrade(deployment.settings())
    deployment.load(POINTS)
    if first is not None:
        deployment.revise("0002", first)
    deployment.revise("0003", ADD.replace('"b"', '"c"'))
    with cut_at(monkeypatch, *place):
        upgrade.upgrade(deployment.settings())
    change, words = CHANGES[kind]
    by_another(deployment, serves(deployment), change)
    with pytest.raises(DriftError, match=f"would lose that: {words}"):
        upgrade.upgrade(deployment.settings())
    upgrade.upgrade(deployment.settings())
    assert deployment.row().pending == ()
    store = deployment.store()
    found = store.describe(deployment.name).schema
    store.close()
    assert kind not in ("vector", "index") or change.name in {**found.vectors, **found.indexes}
    assert kind != "metadata" or found.config["metadata"] == change.after


#: What comes before the build in the same upgrade, and the settings: what it leaves in the source, no plan knows.
SAME = {
    "an index in place": ([INDEXED], {"fuse": False}),
    "a setting in place": ([SETTING], {"fuse": False}),
    "from nothing": ([], {}),
    "a generation": ([ADD], {"fuse": False}),
    "dropped and recreated": ([DROP, CREATE], {"fuse": False}),
}


@pytest.mark.parametrize("hold", [False, True])
@pytest.mark.parametrize("kind", list(SAME))
def test_what_the_same_upgrade_has_made_is_no_change(deployment, kind, hold):
    """Local mode keeps no index, and a server shows more than was asked for: neither is another client's work."""
    bodies, rebuild = SAME[kind]
    deployment.extra["rebuild"] = {"fuse": kind != "from nothing"} | rebuild
    deployment.__post_init__()
    deployment.revise("0001", CREATE)
    if kind != "from nothing":
        upgrade.upgrade(deployment.settings())
        deployment.load(POINTS)
    for number, body in enumerate([*bodies, HELD if hold else RENAME], start=2):
        deployment.revise(f"000{number}", body)
    result = upgrade.upgrade(deployment.settings())
    assert result.exit_code == (11 if hold else 0)
    if hold:
        assert cutover.cutover(deployment.settings(), [deployment.name]).exit_code == 0
    row = deployment.row()
    assert (row.state, row.pending) == ("ready", ())


@pytest.mark.parametrize("kind", list(CHANGES))
def test_what_an_earlier_version_has_built_is_compared_with_the_plan(deployment, monkeypatch, kind):
    """Its journal does not say how the source was: a cut-over refuses a change nonetheless, and then goes through."""
    if kind not in KEPT and "path" in deployment.qdrant:
        pytest.skip("local mode keeps no payload index")
    deployment.revise("0001", CREATE)
    upgrade.upgrade(deployment.settings())
    deployment.load(POINTS)
    deployment.revise("0002", HELD)
    checked = build.check_build
    with monkeypatch.context() as patch:
        patch.setattr(build, "check_build", lambda *given: replace(checked(*given), source=None))
        assert upgrade.upgrade(deployment.settings()).exit_code == 11
    change, words = CHANGES[kind]
    old = f"{deployment.name}__g0001"
    by_another(deployment, old, change)
    with pytest.raises(DriftError, match=f"would lose that: {words}"):
        cutover.cutover(deployment.settings(), [deployment.name])
    assert serves(deployment) == old
    by_another(deployment, old, change.reverse() if kind != "metadata" else Change("config.set", "metadata", {}, change.after))
    assert cutover.cutover(deployment.settings(), [deployment.name]).exit_code == 0


@pytest.mark.server
@pytest.mark.parametrize("qdrant_config", ["server"], indirect=True)
def test_what_a_freeze_leaves_in_the_source_is_no_change(deployment, monkeypatch):
    """A frozen run that ends before the name moves continues: its own write limits don't count as a change."""
    deployment.revise("0001", CREATE)
    upgrade.upgrade(deployment.settings())
    deployment.load(POINTS)
    deployment.revise("0002", ADD)
    deployment.extra["rebuild"] = {"writes": "freeze"}
    deployment.__post_init__()

    def ends(*args, **kwargs):
        raise OSError("the process ends here")

    with monkeypatch.context() as patch:
        patch.setattr(golive, "swap", ends)
        with pytest.raises(OSError, match="ends here"):
            upgrade.upgrade(deployment.settings())
    upgrade.upgrade(deployment.settings())
    assert serves(deployment) == f"{deployment.name}__g0002"
    assert len(deployment.contents()) == POINTS


@pytest.mark.server
@pytest.mark.parametrize("qdrant_config", ["server"], indirect=True)
def test_a_vector_that_comes_while_the_name_moves_stops_nobody(deployment, monkeypatch):
    """Behind the last look: a late point with it is named, one without it is carried, and the run ends."""
    deployment.revise("0001", CREATE)
    upgrade.upgrade(deployment.settings())
    deployment.load(POINTS, uuids=False)
    deployment.revise("0002", ADD)
    old = f"{deployment.name}__g0001"
    swap = golive.swap

    def late(work, target, names):
        work.store.apply(old, CHANGES["vector"][0])
        strange = replace(make_point(3, text="strange"), vectors={"a": [1.0] * 8, "h": [1.0, 2.0]})
        write(work.store, old, [strange, make_point(5, text="late")])
        swap(work, target, names)

    monkeypatch.setattr(golive, "swap", late)
    result = upgrade.upgrade(deployment.settings())
    (report,) = (facts["sweep"] for facts in result.outcomes[-1].report.values() if isinstance(facts.get("sweep"), dict))
    assert [(one, "vector 'h'" in reason) for one, reason in report["listed"]["named"]] == [(4, True)]
    found = deployment.contents()
    assert (found[4][0]["n"], found[6][0]["text"]) == (3, "late")
    assert found[4][0]["text"] != "strange"


def by_another(deployment, physical: str, change: Change) -> None:
    """Another client changes a collection."""
    store = deployment.store()
    store.apply(physical, change)
    store.close()


def serves(deployment) -> str | None:
    """The generation behind the name."""
    store = deployment.store()
    found = store.aliases().get(deployment.name)
    store.close()
    return found


class Killed(BaseException):
    """Stands for SIGKILL: it can't be caught."""


#: What is interrupted, and where.
BEGUN = {
    "deleted by id": (lambda made: op.DeletePoints(made.name, ids=[1, 2], reason="r", export=False), edit, "_change"),
    "deleted": (lambda made: op.DeletePoints(made.name, ids=[1, 2], reason="r"), edit, "_change"),
    "set": (lambda made: op.SetPayload(made.name, {"state": "old"}), edit, "_change"),
    "not selected yet": (lambda made: op.SetPayload(made.name, {"state": "old"}), edit, "write"),
    "called": (lambda _: None, call, "own"),
    "in place": (lambda _: None, inplace, "_apply"),
}
CALLED = """
def touch(calling):
    calling.client.set_payload(calling.alias, {{"state": "old"}}, points=[1, 2])

def upgrade():
    return [op.Call("{name}", touch)]
"""


@pytest.mark.parametrize("qdrant_config", ["local"], indirect=True)
@pytest.mark.parametrize("kind", list(BEGUN))
def test_a_collection_that_was_made_again_is_not_gone_on_with(deployment, monkeypatch, kind):
    """Another client deletes the plain collection and recreates it while a run is interrupted: its points differ."""
    made, (wanted, module, name) = deployment, BEGUN[kind]
    made.extra["fixes"] = {"max_share": 1.0}
    made.__post_init__()
    plain(made, POINTS)
    if kind in ("called", "in place"):
        made.revise("0002", CALLED if kind == "called" else INDEXED)
    act = (lambda: upgrade.upgrade(made.settings())) if wanted(made) is None else (lambda: fix.fix(made.settings(), wanted(made)))

    def killed(*_, **__):
        raise Killed

    with monkeypatch.context() as first:
        first.setattr(module, name, killed)
        with pytest.raises(Killed):
            act()
    store = made.store()
    store.drop_collection(by_hand(made.name))
    store.create_collection(made.name, SCHEMA, seal=None)
    write(store, made.name, [make_point(number) for number in range(3)])
    store.close()
    before = made.contents()
    with pytest.raises(RepairNeededError, match="recreated"):
        act()
    assert made.contents() == before
    back.abort(made.settings(), made.name)
    assert (made.contents(), left(made).open_runs) == (before, ())
    with pytest.raises(RepairNeededError, match="has no seal"):
        fix.fix(made.settings(), op.SetPayload(made.name, {"state": "old"}))


#: What an earlier revision of the same run does in place, and the rebuild after it.
BEFORE = {
    "index": ('op.CreatePayloadIndex("{name}", "kind", PayloadSchemaType.KEYWORD)', ""),
    "index that goes": (
        'op.CreatePayloadIndex("{name}", "kind", PayloadSchemaType.KEYWORD)',
        'op.DropPayloadIndex("{name}", "kind"), ',
    ),
    "setting": ('op.UpdateCollection("{name}", optimizers_config={{"flush_interval_sec": 7}})', ""),
    "metadata": ('op.UpdateCollection("{name}", metadata={{"owner": "we"}})', ""),
    "vector": ('op.UpdateCollection("{name}", vectors_config={{"a": {{"on_disk": True}}}})', ""),
}


@pytest.mark.parametrize("what", list(BEFORE))
def test_what_the_same_run_has_done_in_place_is_no_change_of_another_client(deployment, what):
    """Local mode keeps neither indexes nor most settings, and what isn't kept is not lost either."""
    in_place, also = BEFORE[what]
    deployment.extra["rebuild"] = {"fuse": False}
    deployment.__post_init__()
    deployment.revise("0001", CREATE)
    upgrade.upgrade(deployment.settings())
    deployment.load(10)
    deployment.revise("0002", f"\ndef upgrade():\n    return [{in_place}]\n")
    copy = f'{also}op.TransformPoints("{{name}}", lambda point: point.payload)'
    deployment.revise("0003", f"\ndef upgrade():\n    return [{copy}]\n")
    upgrade.upgrade(deployment.settings())
    assert (deployment.row().revision, len(deployment.contents())) == ("0003", 10)
