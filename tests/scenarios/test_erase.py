"""Erasure: a person's points go from everything that could bring them back, and are written down nowhere but as ids."""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
import zstandard
from sqlalchemy import MetaData, create_engine, select
from tests.conftest import clean
from tests.harness import ADD, CREATE, Deployment, audit, by_hand, make_point, write
from tests.scenarios.app_sql import App, application
from tests.scenarios.cli import call
from tests.scenarios.plain_names import plain
from tests.scenarios.test_alias_moved_by_hand import collection, lead

from qmigrate import archive, op
from qmigrate import fix as program
from qmigrate.commands import cutover, erase, fix, gc, reset, restore, snapshot, upgrade
from qmigrate.commands import rollback as back
from qmigrate.engine import phases as all_steps
from qmigrate.engine import rebuild
from qmigrate.engine.fixes import first_look
from qmigrate.engine.fixes.erase import erase as erase_steps
from qmigrate.engine.fixes.erase import generations
from qmigrate.engine.fixes.erase.generations import Tally
from qmigrate.engine.points import id_spaces
from qmigrate.engine.work import Phase
from qmigrate.errors import PlanError, RateLimitedError, RefusedError, StoppedError, VerificationError
from qmigrate.ledger import Lease, Ledger, Quarantined, reader
from qmigrate.model.transform import Point
from qmigrate.store.server.server import ServerStore

SECRET = "Jane Doe 4711"
INDEXED = """
def upgrade():
    return [op.UpdateCollection("{name}", hnsw_config=HnswConfigDiff(m=24))]
"""
HELD = """
def upgrade():
    return [op.AlterVector(
        "{name}", "a", VectorParams(size=16, distance=Distance.COSINE), values=Embed("words", text="text"), cutover="hold"
    )]
"""
DROP = """
def upgrade():
    return [op.DropCollection("{name}")]
"""
REKEY = """
def shifted(point):
    return point.id % 12 + 1

def upgrade():
    return [op.Rekey("{name}", shifted, cutover="immediate")]
"""


@pytest.fixture
def app(deployment: Deployment, app_url) -> App:
    """Local mode with SQLite, a server with PostgreSQL: 40 points that know their person, and rows."""
    deployment.extra["fixes"] = {"max_share": 1.0}
    return application(deployment, app_url, 40)


@pytest.fixture
def made(deployment: Deployment) -> Deployment:
    """Points alone."""
    deployment.extra["fixes"] = {"max_share": 1.0}
    deployment.__post_init__()
    deployment.revise("0001", CREATE)
    upgrade.upgrade(deployment.settings())
    deployment.load(12, uuids=False)
    return deployment


def put(made: Deployment, *points: Point) -> None:
    """Write through the name."""
    store = made.store()
    write(store, made.name, points)
    store.close()


def ledger_of(made: Deployment) -> Ledger:
    """To be closed."""
    return Ledger.open(made.settings().ledger.url)


def written(made: Deployment) -> str:
    """All that the ledger's tables and the files of a deployment say, unpacked; the application's own rows left out."""
    engine, found = create_engine(made.settings().ledger.url), []
    tables = MetaData()
    tables.reflect(engine)
    with engine.connect() as connection:
        for table in tables.sorted_tables:
            if table.name != "faces":
                for row in connection.execute(select(table)):
                    found += [unpacked(one) if isinstance(one, bytes | memoryview) else str(one) for one in row]
    engine.dispose()
    settings = made.settings()
    for folder in (settings.fixes.exports, settings.archives):
        found += [unpacked(path.read_bytes()) for path in folder.rglob("*") if path.is_file()]
    return "\n".join(found)


def unpacked(content: bytes) -> str:
    """As text, whether it is compressed or not."""
    with suppress(zstandard.ZstdError):
        content = zstandard.ZstdDecompressor().stream_reader(bytes(content), read_across_frames=True).read()
    return bytes(content).decode("utf-8", "replace")


def prepared(app: App) -> tuple[Deployment, int, int]:
    """Jane (7, 8) is in a journal, a sample, an export, an archive, a snapshot, a quarantine and two generations."""
    made = app.made
    for number in (6, 7):
        point = make_point(number)
        point.payload.update(person=SECRET, score=float(point.id))
        put(made, point)
    app.run("UPDATE faces SET person = 'Janet' WHERE id IN (7, 8)")
    app.run("UPDATE faces SET person = 'p9' WHERE id IN (1, 2, 3)")
    snapshot.create(made.settings(), made.name, archived=True)
    if "url" in made.qdrant:
        snapshot.create(made.settings(), made.name)
    second = int(time.time())
    (synced,) = fix.fix(made.settings(), app.sync()).done
    put(made, *[Point(7, {**make_point(6).payload, "person": SECRET}, make_point(6).vectors)])
    put(made, *[Point(8, {**make_point(7).payload, "person": SECRET}, make_point(7).vectors)])
    (gone,) = fix.fix(made.settings(), op.DeletePoints(made.name, ids=[8, 9], reason="r")).done
    made.revise("0002", ADD)
    # The server names a snapshot by the second: that of the upgrade would take the place of the first.
    while int(time.time()) == second:
        time.sleep(0.02)
    upgrade.upgrade(made.settings())
    ledger = ledger_of(made)
    with ledger.hold(made.name, timeout=5) as lease:
        failed = Quarantined(7, "b", "kept", "embed", f"{SECRET} isn't a text", SECRET, None)
        lease.quarantine(f"{made.name}__g0002", None, [failed])
    ledger.close()
    return made, synced.log, gone.log


@pytest.mark.timeout(180)
def test_a_person_is_gone_everywhere_and_nothing_brings_them_back(app):
    """Counted per place, nothing left, no value kept; rollback, undo, restore of archive and snapshot leave them out."""
    made, synced, gone = prepared(app)
    server = "url" in made.qdrant
    assert SECRET in written(made)
    # A backup of an archive that can't be reached: only the record of the erasure keeps it from bringing them back.
    backup = made.root / "backup.jsonl.zst"
    backup.write_bytes(next(iter(sorted(made.settings().archives.glob("*")))).read_bytes())
    export = Path(next(row.facts["file"] for row in audit(made) if row.id == gone))
    exported = export.read_bytes()
    words = ["fix", "delete", made.name, "--id", "7", "--id", "8", "--id", "9000", "--erase", "--reason", "asked"]
    shown = call(made.root, *words, "--dry-run")
    assert (shown.code, "3 points would be erased for good" in shown.out, SECRET in shown.out) == (0, True, True), shown
    assert [call(made.root, *words, *more).code for more in ([], ["--yes"], ["--yes", "--expect", "2"])] == [10] * 3
    assert SECRET in written(made)
    done = call(made.root, *words, "--yes", "--expect", "3", "--json")
    assert done.code == 0, done.text
    (result,) = done.json["data"]["done"]
    seen = {one["name"]: (one["found"], one["left"]) for one in result["erasure"]["places"]}
    assert {one: left for one, (_, left) in seen.items()} == dict.fromkeys(seen, 0)
    assert {one: count for one, (count, _) in seen.items()} == {
        "live": 1, "generations": 1, "journals": 3, "samples": 6, "exports": 1, "archives": 2 if server else 3, "quarantine": 1
    }, seen  # fmt: skip
    assert len(result["erasure"]["snapshots"]) == (2 if server else 0)
    assert SECRET not in written(made)
    row = audit(made)[0]
    assert (row.kind, row.target, row.count, row.reason) == ("ERASURE", "erased by 3 ids", 1, "asked")
    assert "ERASURE" in call(made.root, "history", "--deletions").out
    with pytest.raises(RefusedError, match="can't be undone"):
        fix.undo(made.settings(), row.id)
    back.rollback(made.settings(), "0001")
    assert not {7, 8, 9} & set(made.contents())
    if server:
        export.write_bytes(exported)
    (undone,) = fix.undo(made.settings(), gone).done
    assert (undone.changed, undone.counts["erased"]) == (1, 1)
    (undone,) = fix.undo(made.settings(), synced).done
    assert (undone.changed, undone.counts["erased"]) == (3, 2)
    assert not {7, 8} & set(made.contents())
    kept = [one.name for one in snapshot.list_(made.settings(), made.name).rows]
    for name in (str(backup), *({kept[0], kept[-1]} if server else kept[:1])):
        restore.restore(made.settings(), made.name, name, consent=True)
        assert not {7, 8} & set(made.contents()), name
        assert {6, 10} <= set(made.contents()), name
    swept = gc.gc(made.settings(), made.name, now=True)
    assert (bool(swept.collected), swept.spared) == (True, ())


def ids_of(made: Deployment, generation: int) -> set:
    """Ids of one generation."""
    return set(made.contents(f"{made.name}__g{generation:04d}"))


@pytest.mark.parametrize("how", ["moved", "recreated"])
def test_no_other_collection_is_erased_from_beside_what_is_held(made, how):
    """The name was moved, or its collection recreated, by another client: refused, as where nothing is held."""
    made.revise("0002", HELD)
    upgrade.upgrade(made.settings())
    physical = f"{made.name}__g0001"
    if how == "moved":
        physical = collection(made, f"{made.name}x")
    else:
        store = made.store()
        store.drop_collection(by_hand(physical))
        store.close()
        lead(made, collection(made, physical))
    lead(made, physical, make_point(2, text="theirs"))
    for only_shown in ([], ["--dry-run"]):
        said = call(made.root, "fix", "delete", made.name, "--id", "3", "--reason", "r", "--erase", "--yes", "--expect", "1", *only_shown)
        assert (said.code, "another client" in said.text) == (7, True), said.text
        assert set(made.contents(physical)) == {3, 78}


def test_what_waits_for_its_cut_over_is_cleared_too(made):
    """The held generation loses the point and stays held; its cut-over converges, and back it stays away."""
    made.revise("0002", HELD)
    assert upgrade.upgrade(made.settings()).exit_code == 11
    (done,) = program.delete_points(made.name, ids=[3], reason="r", erase=True, expect=1, settings=made.settings()).done
    assert {one.name: one.found for one in done.erasure.places if one.found} == {
        "live": 1, "generations": 1, **({} if "url" in made.qdrant else {"archives": 1})
    }  # fmt: skip
    assert (made.row().state, 3 in ids_of(made, 1), 3 in ids_of(made, 2)) == ("held", False, False)
    with pytest.raises(RefusedError, match="waits for its cut-over"):
        fix.fix(made.settings(), op.DeletePoints(made.name, ids=[4], reason="r"))
    cutover.cutover(made.settings(), [made.name])
    assert (made.row().revision, set(made.contents())) == ("0002", set(range(1, 13)) - {3})
    back.rollback(made.settings(), "0001")
    assert set(made.contents()) == set(range(1, 13)) - {3}


def test_an_interrupted_rebuild_is_finished_and_then_cleared(made, monkeypatch):
    """On a server its clone is made of a snapshot that holds the point: the proof and the erasure leave it out."""
    made.revise("0002", INDEXED)
    original = rebuild.fill
    monkeypatch.setattr(rebuild, "PHASES", tuple(Phase(one.facts, stopping) if one.name == "fill" else one for one in rebuild.PHASES))
    monkeypatch.setattr(all_steps, "_CHECKLISTS", {**all_steps._CHECKLISTS, "build": rebuild.PHASES})
    with pytest.raises(StoppedError):
        upgrade.upgrade(made.settings())
    monkeypatch.undo()
    assert original is rebuild.fill
    (done,) = program.delete_points(made.name, ids=[3], reason="r", erase=True, settings=made.settings()).done[-1:]
    assert (made.row().revision, 3 in ids_of(made, 1), 3 in ids_of(made, 2)) == ("0002", False, False)
    assert (done.changed, done.verified) == (1, 1)


def stopping(step, work):
    """A phase that is interrupted."""
    raise StoppedError("stopped")


def test_a_point_that_is_written_again_is_a_new_one(made, monkeypatch):
    """A rebuild keeps it, and so does a copy that was made later; an older one doesn't bring the old point."""
    monkeypatch.setattr(reader, "CLOCKS", timedelta(0))
    old = snapshot.create(made.settings(), made.name, archived=True).rows[0].path
    backup = old.with_name("copy-" + old.name)
    backup.write_bytes(old.read_bytes())
    old.unlink()
    moved = made.root / backup.name
    backup.replace(moved)
    program.delete_points(made.name, ids=[3, 4], reason="r", erase=True, settings=made.settings())
    put(made, make_point(2, text="consented again"))
    made.revise("0002", ADD)
    upgrade.upgrade(made.settings())
    assert made.contents()[3][0]["text"] == "consented again"
    later = snapshot.create(made.settings(), made.name, archived=True).rows[0]
    back.rollback(made.settings(), "0001", writes="carry")
    assert made.contents()[3][0]["text"] == "consented again"
    restore.restore(made.settings(), made.name, later.name, consent=True)
    assert made.contents()[3][0]["text"] == "consented again"
    restore.restore(made.settings(), made.name, str(moved), consent=True)
    assert not {3, 4} & set(made.contents())
    # A restore is not a way around it either: in place, and under another name.
    restore.restore(made.settings(), made.name, str(moved), into=made.name + "_b", consent=True)
    assert set(made.contents(made.name + "_b")) == set(range(1, 13)) - {3, 4}


@pytest.mark.parametrize("qdrant_config", ["local"], indirect=True)
def test_an_archive_of_another_ledger_is_left_and_named(made):
    """Of one name in two projects that share a folder: what the other one has archived holds other points."""
    ours = snapshot.create(made.settings(), made.name, archived=True).rows[0].path
    header = replace(archive.summary(ours).header, ledger="another")
    theirs = archive.write(ours.with_name(f"theirs{archive.SUFFIX}"), header, []).path
    before = theirs.read_bytes()
    (done,) = program.delete_points(made.name, ids=[3, 4], reason="r", erase=True, settings=made.settings()).done
    assert not {3, 4} & {one.id for one in archive.read(ours)}
    assert theirs.read_bytes() == before
    assert [one for one in done.erasure.beyond if str(theirs) in one]


@pytest.mark.parametrize("qdrant_config", ["local"], indirect=True)
def test_a_filter_is_asked_of_every_generation_and_leaves_no_trace(made):
    """A point that only an old generation has under that value is meant too; a query and a cap are as for a deletion."""
    put(made, Point(5, {"person": SECRET, "text": "t"}, {"a": [1.0] * 8}))
    made.revise("0002", ADD)
    upgrade.upgrade(made.settings())
    put(made, Point(5, {"person": "-", "text": "t"}, {"a": [1.0] * 8, "b": [1.0] * 16}))
    put(made, Point(6, {"person": SECRET, "text": "t"}, {"a": [1.0] * 8, "b": [1.0] * 16}))
    where = {"must": [{"key": "person", "match": {"value": SECRET}}]}
    wanted = op.DeletePoints(made.name, filter=where, reason="r")
    assert erase.review(made.settings(), wanted).changes == 2
    capped = op.DeletePoints(made.name, filter=where, reason="r", max_share=0.1)
    for given, words in ((capped, "cap of 10%"), (wanted, "3 were expected")):
        with pytest.raises(RefusedError, match=words):
            erase.erase(made.settings(), given, expect=3 if given is wanted else None)
    with pytest.raises(PlanError, match="list, replace"):
        erase.erase(made.settings(), wanted, snapshots="keep")
    erase.erase(made.settings(), wanted)
    assert not {5, 6} & (ids_of(made, 1) | ids_of(made, 2))
    assert SECRET not in written(made)
    # An export with no other person goes, and its undo reports it.
    (gone,) = fix.fix(made.settings(), op.DeletePoints(made.name, ids=[10], reason="r")).done
    file = Path(audit(made)[0].facts["file"])
    assert file.exists()
    erase.erase(made.settings(), op.DeletePoints(made.name, ids=[10], reason="r"))
    (undone,) = fix.undo(made.settings(), gone.log).done
    assert (file.exists(), undone.changed, undone.counts) == (False, 0, {"erased": 1})


@pytest.mark.parametrize("qdrant_config", [pytest.param("server", marks=pytest.mark.server)], indirect=True)
def test_a_collection_that_an_alias_hides_is_cleared_too(deployment):
    """It is kept behind its other name, fenced, and is a way back: the point goes there, and the fence stays."""
    made = deployment
    made.extra["fixes"] = {"max_share": 1.0}
    made.__post_init__()
    plain(made, 12)
    made.revise("0002", ADD)
    upgrade.upgrade(made.settings())
    program.delete_points(made.name, ids=[4], reason="r", erase=True, settings=made.settings())
    assert 4 not in {*made.contents(), *made.contents(made.name + "__old")}
    store = made.store()
    assert store.describe(made.name + "__old").schema.config["strict_mode_config"]["write_rate_limit"] == 1
    store.close()
    back.rollback(made.settings(), "0001")
    assert len(made.contents()) == 11


@pytest.mark.parametrize("gone", [True, False], ids=["the points are gone", "the points are there"])
@pytest.mark.parametrize("qdrant_config", [pytest.param("server", marks=pytest.mark.server)], indirect=True)
def test_a_fence_that_was_lifted_for_it_is_put_back(deployment, monkeypatch, gone):
    """Also by the process that continues for one that died in that moment: else clients could write there, unseen."""
    made = deployment
    made.extra["fixes"] = {"max_share": 1.0}
    made.__post_init__()
    made.revise("0001", CREATE)
    upgrade.upgrade(made.settings())
    made.load(12, uuids=False)
    made.revise("0002", ADD)
    upgrade.upgrade(made.settings())
    old = f"{made.name}__g0001"
    dies_at, dead = ("fence" if gone else "delete"), []

    class Killed(BaseException):
        """As a process that does nothing more, not even what stands behind ``finally``."""

    def dying(name):
        original = getattr(ServerStore, name)

        def call(self, alias, *args, **kwargs):
            lifted = not self.describe(old).schema.config["strict_mode_config"]["enabled"]
            if dead or (lifted and name == dies_at):
                dead.append(name)
                raise Killed
            return original(self, alias, *args, **kwargs)

        return call

    with monkeypatch.context() as patched:
        for name in ("fence", "delete", "take_tokens", "drop_alias"):
            patched.setattr(ServerStore, name, dying(name))
        with pytest.raises(Killed):
            program.delete_points(made.name, ids=[4], reason="r", erase=True, settings=made.settings())
    store = made.store()
    assert store.describe(old).schema.config["strict_mode_config"]["write_rate_limit"] != 1
    program.delete_points(made.name, ids=[4], reason="r", erase=True, settings=made.settings())
    assert 4 not in {*made.contents(), *made.contents(old)}
    assert store.describe(old).schema.config["strict_mode_config"]["write_rate_limit"] == 1
    with pytest.raises(RateLimitedError):
        store.delete(old, [5])
    store.close()
    back.rollback(made.settings(), "0001")
    assert len(made.contents()) == 11


@pytest.mark.server
def test_snapshots_are_replaced_by_one_without_the_points(qdrant_server, tmp_path):
    """Those of the live generation and of the one before go; the new one brings all others back."""
    config = {"url": qdrant_server.url, "grpc_port": qdrant_server.grpc_port, "timeout": 2}
    made = Deployment(tmp_path / "project", config, f"sqlite:///{tmp_path}/ledger.db", extra={"fixes": {"max_share": 1.0}})
    try:
        made.revise("0001", CREATE)
        upgrade.upgrade(made.settings())
        made.load(12, uuids=False)
        made.revise("0002", ADD)
        upgrade.upgrade(made.settings())
        snapshot.create(made.settings(), made.name)
        (done,) = program.delete_points(
            made.name, ids=[3], reason="r", erase=True, snapshots="replace", settings=made.settings()
        ).done
        assert [one.deleted for one in done.erasure.snapshots] == [True, True]
        (left,) = snapshot.list_(made.settings(), made.name).rows
        assert left.name == done.erasure.made
        restore.restore(made.settings(), made.name, left.name, consent=True)
        assert set(made.contents()) == set(range(1, 13)) - {3}
    finally:
        clean(made)


def test_ids_of_before_a_rekey_are_told_by_its_function(made):
    """The same person has another id in the old generation; the one with the person's new id there stays."""
    moved = made.root / "before.jsonl.zst"
    snapshot.create(made.settings(), made.name, archived=True).rows[0].path.replace(moved)
    made.revise("0002", REKEY)
    upgrade.upgrade(made.settings())
    assert made.contents()[4][0]["n"] == 2
    (done,) = program.delete_points(made.name, ids=[4], reason="r", erase=True, settings=made.settings()).done
    assert {one.name: one.found for one in done.erasure.places if one.name in ("live", "generations")} == {
        "live": 1, "generations": 1
    }  # fmt: skip
    everybody = set(range(1, 13))
    assert (ids_of(made, 1), ids_of(made, 2)) == (everybody - {3}, everybody - {4})
    back.rollback(made.settings(), "0001")
    assert set(made.contents()) == everybody - {3}
    restore.restore(made.settings(), made.name, str(moved), consent=True)
    assert set(made.contents()) == everybody - {3}
    swept = gc.gc(made.settings(), made.name, now=True)
    assert (len(swept.collected), swept.spared) == (2, ()), swept.spared


def emptied(made: Deployment) -> int:
    """At 0002, a Rekey, and empty since a reset; the application has written its twelve points again. The reset."""
    made.revise("0002", REKEY)
    upgrade.upgrade(made.settings())
    done = reset.reset(made.settings(), made.name, reason="r", expect=12, confirm=reset.PHRASE)
    put(made, *(make_point(number) for number in range(12)))
    return done.log


@pytest.mark.parametrize("qdrant_config", ["local"], indirect=True)
def test_behind_a_reset_the_ids_go_on_that_were_there(made):
    """What begins empty gets the ids of its time, not those from before a Rekey; so the very person goes, everywhere."""
    emptied(made)
    program.delete_points(made.name, ids=[4], reason="r", erase=True, settings=made.settings())
    everybody = set(range(1, 13))
    assert [ids_of(made, one) for one in (1, 2, 3)] == [everybody - {3}, everybody - {4}, everybody - {4}]


@pytest.mark.parametrize("qdrant_config", ["local"], indirect=True)
def test_what_was_deleted_behind_a_reset_is_deleted_under_its_own_id_in_what_comes_back(made):
    """The same for the undo of the reset, which deletes it there again."""
    log = emptied(made)
    fix.fix(made.settings(), op.DeletePoints(made.name, ids=[4], reason="r"))
    fix.undo(made.settings(), log, overwrite=True)
    everybody = set(range(1, 13))
    assert [ids_of(made, one) for one in (1, 2)] == [everybody - {3}, everybody - {4}]


@pytest.mark.parametrize("qdrant_config", ["local"], indirect=True)
def test_whose_ids_a_collection_has_that_was_made_again_is_not_guessed(made):
    """Dropped behind a Rekey and created again: which ids its points share is unknown, so nothing is erased."""
    made.revise("0002", REKEY)
    made.revise("0003", DROP)
    made.revise("0004", CREATE)
    upgrade.upgrade(made.settings())
    put(made, *(make_point(number) for number in range(12)))
    with pytest.raises(RefusedError, match="which ids the points of .*__g000[12] have is unknown"):
        program.delete_points(made.name, ids=[4], reason="r", erase=True, settings=made.settings())
    everybody = set(range(1, 13))
    assert [ids_of(made, one) for one in (1, 2, 3)] == [everybody] * 3
    gc.gc(made.settings(), made.name, now=True, generations=[f"{made.name}__g000{number}" for number in (1, 2)])
    program.delete_points(made.name, ids=[4], reason="r", erase=True, settings=made.settings())
    assert ids_of(made, 3) == everybody - {4}


@pytest.mark.parametrize("qdrant_config", ["local"], indirect=True)
def test_ids_are_told_by_the_rekey_as_it_was_applied(made):
    """Undone and rewritten, it says nothing of the ids that it gave once; so nothing is erased by it."""
    path = made.revise("0002", REKEY)
    upgrade.upgrade(made.settings())
    back.rollback(made.settings(), "0001")
    path.write_text(path.read_text().replace("point.id % 12 + 1", "(point.id + 1) % 12 + 1"))
    with pytest.raises(RefusedError, match="__g0002 have other ids than those of .* is unknown: revision 0002 differs from what was applied"):
        program.delete_points(made.name, ids=[4], reason="r", erase=True, settings=made.settings())
    everybody = set(range(1, 13))
    assert [ids_of(made, one) for one in (1, 2)] == [everybody, everybody]
    gc.gc(made.settings(), made.name, now=True, generations=[f"{made.name}__g0002"])
    program.delete_points(made.name, ids=[4], reason="r", erase=True, settings=made.settings())
    assert ids_of(made, 1) == everybody - {4}


@pytest.mark.parametrize("qdrant_config", ["local"], indirect=True)
def test_ids_of_what_was_built_from_a_rekeyed_generation_are_not_those_of_before(made):
    """The rekeyed one went first, and its file says something else by now: what was built from it has ids of its own."""
    path = made.revise("0002", REKEY)
    made.revise("0003", ADD)
    upgrade.upgrade(made.settings())
    back.rollback(made.settings(), "0001")
    gc.gc(made.settings(), made.name, now=True, generations=[f"{made.name}__g0002"])
    path.write_text(path.read_text().replace("point.id % 12 + 1", "(point.id + 1) % 12 + 1"))
    with pytest.raises(RefusedError, match="__g0003 have other ids than those of .* is unknown: revision 0002") as refused:
        program.delete_points(made.name, ids=[4], reason="r", erase=True, settings=made.settings())
    everybody = set(range(1, 13))
    assert [ids_of(made, one) for one in (1, 3)] == [everybody, everybody]
    assert f"--generation {made.name}__g0003" in str(refused.value.hint)
    gc.gc(made.settings(), made.name, now=True, generations=[f"{made.name}__g0003"])
    program.delete_points(made.name, ids=[4], reason="r", erase=True, settings=made.settings())
    assert ids_of(made, 1) == everybody - {4}


@pytest.mark.parametrize("qdrant_config", ["local"], indirect=True)
def test_ids_are_told_by_points_alike_where_their_generation_is_gone(made, monkeypatch):
    """Restored from before the Rekey, the points lead to their later ids as the old ones did; else nothing is erased."""
    moved = made.root / "before.jsonl.zst"
    snapshot.create(made.settings(), made.name, archived=True).rows[0].path.replace(moved)
    made.revise("0002", REKEY)
    upgrade.upgrade(made.settings())
    gc.gc(made.settings(), made.name, now=True)
    restore.restore(made.settings(), made.name, str(moved), consent=True)
    with monkeypatch.context() as patched:
        patched.setattr(id_spaces.Spaces, "hops", ())
        with pytest.raises(RefusedError, match="which ids the points of .*__g0002 have is unknown"):
            program.delete_points(made.name, ids=[3], reason="r", erase=True, settings=made.settings())
    assert len(made.contents()) == 12
    program.delete_points(made.name, ids=[3], reason="r", erase=True, settings=made.settings())
    everybody = set(range(1, 13))
    assert (ids_of(made, 2), ids_of(made, 3)) == (everybody - {4}, everybody - {3})


@pytest.mark.parametrize("qdrant_config", ["local"], indirect=True)
def test_a_point_that_stays_is_an_error_and_the_same_command_goes_on(made, monkeypatch):
    """What a server doesn't delete is found when it is checked again; nothing is undone, nothing is abandoned."""
    original = generations.delete
    monkeypatch.setattr(generations, "delete", lambda *given: 0)
    with pytest.raises(VerificationError, match="still in"):
        program.delete_points(made.name, ids=[3], reason="r", erase=True, settings=made.settings())
    assert made.row().state == "failed"
    with pytest.raises(RefusedError, match="can only be finished"):
        back.abort(made.settings(), made.name)
    monkeypatch.setattr(generations, "delete", original)
    done = program.delete_points(made.name, ids=[3], reason="r", erase=True, settings=made.settings()).done
    assert ([one.changed for one in done], 3 in made.contents()) == ([1, 0], False)
    assert [row.kind for row in audit(made)] == ["ERASURE", "ERASURE"]


def test_a_generation_that_a_restore_has_left_can_still_be_collected(made):
    """Nothing was kept to compare it with, so an erasure must not make it look as if a user had written to it."""
    taken = snapshot.create(made.settings(), made.name, archived=True).rows[0].name
    restore.restore(made.settings(), made.name, taken, consent=True)
    program.delete_points(made.name, ids=[3], reason="r", erase=True, settings=made.settings())
    assert (3 in ids_of(made, 1), 3 in ids_of(made, 2)) == (False, False)
    swept = gc.gc(made.settings(), made.name, now=True)
    assert (len(swept.collected), swept.spared) == (1, ())


class Killed(BaseException):
    """Stands for SIGKILL at one moment: it can't be caught."""


@pytest.mark.nightly
@pytest.mark.timeout(240)
def test_an_erasure_that_is_killed_again_and_again_tells_the_whole_count(app, monkeypatch):
    """Killed once behind each removal outside of Qdrant: what every attempt has taken out is in the result and the audit."""
    made, _, _ = prepared(app)
    server = "url" in made.qdrant
    put(made, *[Point(8, {**make_point(7).payload, "person": SECRET}, make_point(7).vectors)])
    # An export with no other person, so that the file goes.
    (alone,) = fix.fix(made.settings(), op.DeletePoints(made.name, ids=[8], reason="r")).done
    # A first check of orphans that has seen one of them.
    words = op.DeleteOrphans(made.name, sql="SELECT id FROM faces WHERE id <> 7", reason="r")
    assert fix.fix(made.settings(), words, wait=False).looked
    killed: set[tuple] = set()

    def deadly(name: str, original, key=lambda *_: ""):
        def call_of(*arguments, **more):
            result = original(*arguments, **more)
            # A server is waited for after each kill: once for the rows and once for the files is enough there.
            place = (name, "" if server else str(key(*arguments)))
            if place not in killed and (not server or name in ("rewrite_pages", "without")):
                killed.add(place)
                raise Killed(place)
            return result

        return call_of

    for owner, name, key in (
        (Lease, "forget_quarantined", lambda lease, physical, *_: physical),
        (Lease, "forget_samples", lambda *_: ""),
        (Lease, "rewrite_pages", lambda lease, journal, *_: journal),
        (first_look, "forget_with", lambda *_: ""),
        (archive, "without", lambda path, *_: path),
        (Tally, "note", lambda tally: (tally.parts, tally.emptied)),
    ):
        monkeypatch.setattr(owner, name, deadly(name, getattr(owner, name), key))
    unlink = Path.unlink
    fatal = deadly("unlink", unlink)
    monkeypatch.setattr(Path, "unlink", lambda self, **more: (fatal if self.name.endswith(archive.SUFFIX) else unlink)(self, **more))
    wanted, attempts = op.DeletePoints(made.name, ids=[7, 8, 9000], reason="asked"), 0
    while True:
        attempts += 1
        try:
            (done,) = erase.erase(made.settings(), wanted, expect=3).done
            break
        except Killed:
            assert attempts < 60
    assert (len({name for name, _ in killed}), attempts > 10) == ((2, False) if server else (7, True))
    assert len(killed) + 1 == attempts
    archives = 2 if server else 3
    found = {one.name: one.found for one in done.erasure.places}
    wanted_counts = {"journals": 5, "samples": 8, "exports": 2, "archives": archives, "quarantine": 1}
    assert found == {"live": 1, "generations": 1, **wanted_counts}
    assert not [one for one in done.erasure.places if one.left]
    assert not [one for one in done.erasure.beyond if "not on this host" in one]
    rows = {row.id: row for row in audit(made)}
    last, deleted = rows[done.log], rows[alone.log]
    assert last.facts["kept"] == wanted_counts
    assert last.facts["emptied"] == [f"{deleted.facts['run']}-{deleted.facts['step']}"]
    assert sum(last.facts["fixes"].values()) == 4  # both by the sync, one by each deletion
    assert SECRET not in written(made)


@pytest.mark.parametrize("qdrant_config", ["local"], indirect=True)
@pytest.mark.parametrize("killed_in", ["change", "snapshots"])
def test_what_is_written_after_an_interruption_stays(made, monkeypatch, killed_in):
    """An erasure that is finished days later deletes no point of which it has deleted the one before already."""
    removed = generations.delete

    def deadly(work, physical, ids, *more):
        if 4 in ids:
            raise Killed
        return removed(work, physical, ids, *more)

    with monkeypatch.context() as first:
        if killed_in == "change":
            first.setattr(erase_steps, "_PORTION", 1)
            first.setattr(generations, "delete", deadly)
        else:
            first.setattr(erase_steps, "handle", _killed)
        with pytest.raises(Killed):
            program.delete_points(made.name, ids=[3, 4], reason="r", erase=True, settings=made.settings())
    put(made, make_point(2, text="consented again"))
    upgrade.upgrade(made.settings())
    found = made.contents()
    assert (found[3][0]["text"], 4 in found) == ("consented again", False)
    assert audit(made)[0].facts["written_again"] == 1


def _killed(*_):
    raise Killed


DROPPING = """
def upgrade():
    return [op.AddVector("{name}", "b", VectorParams(size=16, distance=Distance.COSINE),
                         values=Embed("words", text="text", on_failure="drop"))]
"""


@pytest.mark.parametrize("qdrant_config", ["local"], indirect=True)
def test_files_in_folders_of_before_are_cleared_too(made):
    """The settings name other folders by now; the ledger has where a quarantine is."""
    put(made, Point(50, {"who": SECRET}, {"a": [1.0] * 8}))
    made.revise("0002", DROPPING)
    upgrade.upgrade(made.settings())
    (file,) = made.settings().fixes.exports.glob("*quarantine*")
    assert SECRET.encode() in zstandard.ZstdDecompressor().stream_reader(file.read_bytes(), read_across_frames=True).read()
    made.extra["fixes"] = {"max_share": 1.0, "exports": str(made.root / "elsewhere")}
    made.__post_init__()
    program.delete_points(made.name, ids=[50], reason="r", erase=True, settings=made.settings())
    assert SECRET.encode() not in zstandard.ZstdDecompressor().stream_reader(file.read_bytes(), read_across_frames=True).read()
