"""Snapshots and archives: made, listed, restored next to what serves, undone, deleted. On local mode and a server."""

from __future__ import annotations

import json
import stat
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import httpx
import pytest
import zstandard
from qdrant_client import grpc
from qdrant_client.conversions.conversion import json_to_value
from sqlalchemy import insert
from tests.conftest import clean
from tests.conftest_qdrant import free_port
from tests.harness import ADD, CREATE, INDEX, Deployment, by_hand, make_point, write
from tests.scenarios.cli import call
from tests.scenarios.plain_names import plain
from tests.scenarios.test_alias_moved_by_hand import cut_at
from tests.unit.root.test_archive import every_change, lines_of

from qmigrate import archive
from qmigrate.commands import adopt, restore, snapshot, status, upgrade
from qmigrate.commands import rollback as back
from qmigrate.commands.session import session
from qmigrate.engine.restore import archive as from_archive
from qmigrate.errors import (
    ArchiveError,
    DeniedError,
    DriftError,
    NotFoundError,
    RefusedError,
    StoreError,
    UnavailableError,
    VerificationError,
)
from qmigrate.ledger import Ledger, tables
from qmigrate.model.plan import Build
from qmigrate.model.schema import CollectionSchema
from qmigrate.observe import holdings, observe
from qmigrate.store import portable, records
from qmigrate.store.server.server import ServerStore

#: Every kind of vector, and what a server stores in another form.
ALL_KINDS = """
def upgrade():
    return [op.CreateCollection("{name}", {{
        "a": VectorParams(size=4, distance=Distance.COSINE),
        "d": VectorParams(size=4, distance=Distance.DOT),
        "h": VectorParams(size=4, distance=Distance.EUCLID, datatype=Datatype.FLOAT16),
        "u": VectorParams(size=4, distance=Distance.MANHATTAN, datatype=Datatype.UINT8),
        "m": VectorParams(size=4, distance=Distance.DOT,
                          multivector_config=MultiVectorConfig(comparator=MultiVectorComparator.MAX_SIM)),
    }}, sparse_vectors={{"s": SparseVectorParams()}}, payload_indexes={{"kind": PayloadSchemaType.KEYWORD}})]
"""
UNNAMED = """
def upgrade():
    return [op.CreateCollection("{name}", {{"": VectorParams(size=4, distance=Distance.DOT)}})]
"""
GLOB = """
def upgrade():
    return [op.CreatePayloadIndex("{name}*", "kind", PayloadSchemaType.KEYWORD)]
"""


def prepared(made: Deployment, count: int = 20) -> Deployment:
    """A loaded collection at 0001."""
    made.revise("0001", CREATE)
    upgrade.upgrade(made.settings())
    made.load(count)
    return made


def archived(made: Deployment, **options):
    """An archive of it, as an entry of the list."""
    (found,) = snapshot.create(made.settings(), made.name, archived=True, **options).rows
    return found


def target_of(made: Deployment, name: str | None = None):
    """Where the name points."""
    store = made.store()
    try:
        return store.aliases().get(name or made.name)
    finally:
        store.close()


def generations(made: Deployment) -> list[str]:
    """Physical collections of a deployment."""
    store = made.store()
    try:
        return [name for name in store.physical_names() if name.startswith(made.name)]
    finally:
        store.close()


def digests(made: Deployment, name: str | None = None) -> dict:
    """Id -> digest of everything behind a name, integers that gRPC can't carry included."""
    store = made.store()
    try:
        found = {}
        for page in store.scan(name or made.name):
            for stored in page:
                found[records.point_id(stored)] = records.digest_under(None)(stored)
        return found
    finally:
        store.close()


def put(made: Deployment, *points, name: str | None = None) -> None:
    """Write through a name."""
    store = made.store()
    try:
        write(store, name or made.name, points)
    finally:
        store.close()


def test_an_archive_is_restored_beside_what_serves(deployment):
    """The points of then serve again at their revision; what served is complete, and a command away."""
    made = prepared(deployment)
    before = made.contents()
    taken = archived(made)
    assert (taken.kind, taken.points, taken.revision, taken.generation) == ("archive", 20, "0001", "g0001")
    made.revise("0002", ADD)
    upgrade.upgrade(made.settings())
    put(made, make_point(500), make_point(1, text="changed"))
    now = made.contents()
    result = restore.restore(made.settings(), made.name, taken.name, consent=True)
    assert made.contents() == before
    assert target_of(made) == result.outcomes[-1].physical == f"{made.name}__g0003"
    row = made.row()
    assert (row.revision, row.pending, row.points) == ("0001", ("0002",), 20)
    assert made.contents(f"{made.name}__g0002") == now
    rows = [(one.revision, one.direction, one.strategy) for one in status.history(made.settings()).rows]
    assert rows[:2] == [("0001", "restore", "restore"), ("0002", "rollback", "restore")]
    restore.undo(made.settings(), made.name)
    assert made.contents() == now
    assert (made.row().revision, made.row().state) == ("0002", "ready")
    put(made, make_point(501))
    put(made, make_point(502))
    assert len(made.contents()) == len(now) + 2


def test_the_way_goes_on_after_a_restore(deployment):
    """The next upgrade builds on the restored points; rolling it back returns to them, with what was written since."""
    made = prepared(deployment)
    taken = archived(made)
    put(made, make_point(800))
    restore.restore(made.settings(), made.name, taken.name, consent=True)
    put(made, make_point(801))
    restored = made.contents()
    assert len(restored) == 21
    made.revise("0002", ADD)
    upgrade.upgrade(made.settings())
    assert made.row().revision == "0002"
    put(made, make_point(802))
    with pytest.raises(RefusedError, match="1 point added"):
        back.rollback(made.settings(), "0001")
    back.rollback(made.settings(), "0001", writes="carry")
    assert len(made.contents()) == 22
    with pytest.raises(RefusedError, match="2 points added"):
        restore.undo(made.settings(), made.name)
    restore.undo(made.settings(), made.name, writes="discard")
    assert target_of(made) == f"{made.name}__g0001"
    assert len(made.contents()) == 21
    put(made, make_point(803))


HELD = """
def upgrade():
    return [op.AlterVector("{name}", "a", VectorParams(size=16, distance=Distance.COSINE),
                           values=Embed("words", text="text"), cutover="hold")]
"""


def test_what_waits_for_its_cutover_is_decided_first(deployment):
    """A restore neither runs with a held generation nor releases it."""
    made = prepared(deployment)
    taken = archived(made)
    made.revise("0002", HELD)
    upgrade.upgrade(made.settings())
    with pytest.raises(RefusedError, match="waits for its cut-over"):
        restore.restore(made.settings(), made.name, taken.name, consent=True)
    back.abort(made.settings(), made.name)
    restore.restore(made.settings(), made.name, taken.name, consent=True)
    assert made.row().points == 20


def test_a_later_revision_comes_back_and_goes_again(deployment):
    """A restore may also bring a revision again; rolling that back returns to what served, without mixing points."""
    made = prepared(deployment)
    made.revise("0002", ADD)
    upgrade.upgrade(made.settings())
    taken = archived(made)
    then = made.contents()
    back.rollback(made.settings(), "0001")
    put(made, make_point(900))
    now = made.contents()
    restore.restore(made.settings(), made.name, taken.name, consent=True)
    assert made.contents() == then
    assert made.row().revision == "0002"
    put(made, make_point(901))
    with pytest.raises(RefusedError, match="They can't be carried back"):
        back.rollback(made.settings(), "0001", writes="carry")
    back.rollback(made.settings(), "0001", writes="discard")
    assert made.contents() == now
    assert made.row().revision == "0001"


def test_two_who_undo_a_restore_at_once_undo_one(deployment, monkeypatch):
    """The one that waited for the lease does not undo the restore before that one, too."""
    made = prepared(deployment)
    taken = archived(made)
    for _ in range(2):
        restore.restore(made.settings(), made.name, taken.name, consent=True)
    planned = [restore.undo(made.settings(), made.name, dry_run=True).plan]
    restore.undo(made.settings(), made.name)
    original = restore.plan_undo
    monkeypatch.setattr(
        restore, "plan_undo", lambda *args, **kwargs: planned.pop() if planned else original(*args, **kwargs)
    )
    with pytest.raises(RefusedError, match=f"moved {made.name} away from {made.name}__g0003 meanwhile"):
        restore.undo(made.settings(), made.name)
    assert target_of(made) == f"{made.name}__g0002"
    restore.undo(made.settings(), made.name)
    assert target_of(made) == f"{made.name}__g0001", "who asks for it undoes the first restore, too"


def test_of_two_who_restore_at_once_one_does(deployment, monkeypatch):
    """The one that was slower says so, and what the other has restored serves; who asks again later restores again."""
    made = prepared(deployment)
    taken = archived(made)
    with session(made.settings(), writes=False) as opened:
        before = observe(opened.ledger, opened.store)
    restore.restore(made.settings(), made.name, taken.name, consent=True)
    with monkeypatch.context() as patch:
        patch.setattr(restore, "observe", lambda *_, **__: before)
        with pytest.raises(RefusedError, match=f"moved {made.name} away from {made.name}__g0001 meanwhile"):
            restore.restore(made.settings(), made.name, taken.name, consent=True)
    assert target_of(made) == f"{made.name}__g0002"
    restore.restore(made.settings(), made.name, taken.name, consent=True)
    assert target_of(made) == f"{made.name}__g0003"


def test_what_was_restored_without_writes_since_goes_back_at_once(deployment):
    """Nothing was written: no consent is needed."""
    made = prepared(deployment)
    taken = archived(made)
    put(made, make_point(100))
    now = made.contents()
    restore.restore(made.settings(), made.name, taken.name, consent=True)
    restore.undo(made.settings(), made.name)
    assert made.contents() == now
    with pytest.raises(RefusedError, match="was not restored"):
        restore.undo(made.settings(), made.name)


@pytest.mark.parametrize("revision", [ALL_KINDS, UNNAMED], ids=["named", "unnamed"])
def test_every_kind_of_point_comes_back_bit_by_bit(deployment, revision):
    """All vector kinds and datatypes, no vector at all, odd payloads, large integers: digests and JSON are equal."""
    made = deployment
    made.revise("0001", revision)
    upgrade.upgrade(made.settings())
    store = made.store()
    store.upsert(made.name, [point(number, named=revision is ALL_KINDS) for number in range(40)]).wait()
    huge = {"huge": 2**63 + 5, "deep": [{"n": 2**64 - 1}], "d": 1.0, "i": 1}
    store.overwrite_payload(made.name, 7, huge)
    store.close()
    before = digests(made)
    taken = archived(made)
    restore.restore(made.settings(), made.name, taken.name, consent=True)
    assert target_of(made).endswith("__g0002")
    assert digests(made) == before
    store = made.store()
    assert store.payloads(made.name, [7]) == {7: huge}
    assert json.dumps(store.payloads(made.name, [7])[7]["huge"]) == str(2**63 + 5)
    if not store.capabilities.local and revision is ALL_KINDS:
        assert store.describe(made.name).schema.indexes.keys() == {"kind"}
    store.close()


def point(number: int, *, named: bool) -> bytes:
    """A point with as many kinds of vectors as its number."""
    made = grpc.PointStruct(id=grpc.PointId(num=number))
    payload = {"kind": "odd" if number % 2 else "even", "ünï": "line\nbreak", "f": number / 7, "none": None, "l": []}
    for key, value in payload.items():
        made.payload[key].CopyFrom(json_to_value(value))
    dense = [float(number % 5) + 0.1, -0.0, 3.3, 1.0]
    if not named:
        made.vectors.vector.MergeFromString(records.vector_wire(dense))
        return made.SerializeToString()
    made.vectors.vectors.SetInParent()
    parts = {"a": dense, "d": dense, "h": dense, "u": [1.0, 2.0, 255.0, 0.0], "m": [dense, dense[::-1]]}
    parts["s"] = {"indices": [1, 7, 4_000_000_000], "values": [0.5, -1.0, 3.25]}
    for place, (name, value) in enumerate(parts.items()):
        if number % 8 > place:
            made.vectors.vectors.vectors[name].MergeFromString(records.vector_wire(value))
    return made.SerializeToString()


def test_nothing_is_restored_without_consent(deployment):
    """The refusal has the figures; a plan writes nothing."""
    made = prepared(deployment)
    archived(made)
    put(made, make_point(77))
    with pytest.raises(RefusedError, match="20 points of .*21 serve now") as refused:
        restore.restore(made.settings(), made.name)
    assert (refused.value.exit_code, refused.value.facts["points"]) == (10, 20)
    planned = restore.plan(made.settings(), made.name)
    assert planned.collections[0].points == 20
    assert generations(made) == [f"{made.name}__g0001"]
    assert made.row().state == "ready"


def test_every_touched_line_is_refused_before_anything_is_made(deployment, tmp_path):
    """Flipped, repeated, moved, left out, cut off: the line is named, and neither Qdrant nor the ledger knows of it."""
    made = prepared(deployment, 3)
    path = archived(made, to=tmp_path).path
    lines = lines_of(path)
    runs = len(runs_of(made))
    verified = archive.summary(path)
    cases = list(every_change(lines))
    for what, changed, line in cases:
        touched = tmp_path / "touched.jsonl.zst"
        # The closing frame stays complete where it can, so that the file is found.
        compressor = zstandard.ZstdCompressor()
        touched.write_bytes(b"".join(compressor.compress(part) for part in (b"".join(changed[:-1]), changed[-1]) if part) if changed else b"")
        with pytest.raises(ArchiveError) as refused:
            restore.restore(made.settings(), made.name, str(touched), consent=True)
        if "line" in refused.value.facts:
            assert refused.value.facts["line"] == line, what
    assert len(cases) > 30
    assert generations(made) == [f"{made.name}__g0001"]
    assert {run.state for run in runs_of(made)[:-runs]} <= {"refused"}
    assert archive.verify(path) == verified
    assert made.row().state == "ready"


def erase(made: Deployment, gone: list) -> None:
    """Record that these points must never come back."""
    ledger = Ledger.open(made.settings().ledger.url)
    with ledger.database.writing() as connection:
        for identifier in gone:
            values = {"collection": made.name, "point_id": json.dumps(identifier), "reason": "asked", "actor": "me"}
            connection.execute(insert(tables.erasures).values(**values, created_at=ledger.database.now()))
    ledger.close()


def runs_of(made: Deployment) -> list:
    """Every attempt in the ledger."""
    ledger = Ledger.open(made.settings().ledger.url)
    try:
        return ledger.runs()
    finally:
        ledger.close()


def test_an_archive_that_was_replaced_after_the_plan_is_refused(deployment, monkeypatch):
    """The preflight reads the file again; the run is closed as refused and leaves nothing."""
    made = prepared(deployment)
    taken = archived(made)
    put(made, make_point(300))
    other = archived(made)
    original = restore.perform

    def replaced(*args, **kwargs):
        taken.path.write_bytes(other.path.read_bytes())
        return original(*args, **kwargs)

    monkeypatch.setattr(restore, "perform", replaced)
    with pytest.raises(RefusedError, match="was replaced since"):
        restore.restore(made.settings(), made.name, taken.name, consent=True)
    assert generations(made) == [f"{made.name}__g0001"]
    assert (made.row().state, runs_of(made)[0].state) == ("ready", "refused")


def test_a_point_that_did_not_come_back_stops_the_restore(deployment, monkeypatch):
    """The proof compares every point with its line: nothing is swapped, and abort removes the generation."""
    made = prepared(deployment)
    taken = archived(made)
    put(made, make_point(1, text="changed"))
    now = made.contents()
    original = portable.ready

    def wrong(stored):
        if records.point_id(stored) == 4:
            stored.payload["text"].string_value = "wrong"
        return original(stored)

    monkeypatch.setattr(from_archive.portable, "ready", wrong)
    with pytest.raises(VerificationError, match="4 the payload differs"):
        restore.restore(made.settings(), made.name, taken.name, consent=True)
    monkeypatch.undo()
    assert made.contents() == now
    back.abort(made.settings(), made.name)
    assert generations(made) == [f"{made.name}__g0001"]
    assert (made.contents(), made.row().state) == (now, "ready")


def test_erased_points_do_not_come_back(deployment):
    """What must never come back is left out of the restored generation, and the proof knows it."""
    made = prepared(deployment)
    taken = archived(made)
    gone = sorted(made.contents(), key=str)[:3]
    erase(made, gone)
    result = restore.restore(made.settings(), made.name, taken.name, consent=True)
    assert not set(gone) & set(made.contents())
    assert len(made.contents()) == 17
    proof = next(facts for facts in result.outcomes[-1].report.values() if "report" in facts)
    assert (proof["report"]["proven"], proof["erased"]) == (17, 3)


def test_an_archive_moves_a_collection_to_another_deployment(qdrant_config, tmp_path):
    """A fresh ledger and store: created at the archive's revisions; the next upgrade continues from there."""
    one = Deployment(tmp_path / "one", {"path": str(tmp_path / "other")}, f"sqlite:///{tmp_path}/one.db")
    prepared(one)
    one.revise("0002", INDEX)
    upgrade.upgrade(one.settings())
    taken = archived(one, to=tmp_path / "moved")
    two = Deployment(tmp_path / "two", qdrant_config, f"sqlite:///{tmp_path}/two.db", name=one.name)
    two.revise("0001", CREATE)
    two.revise("0002", INDEX)
    result = restore.restore(two.settings(), two.name, str(taken.path), consent=True)
    assert result.outcomes[-1].physical == f"{two.name}__g0001"
    assert two.contents() == one.contents()
    assert (two.row().revision, two.row().pending) == ("0002", ())
    store = two.store()
    if not store.capabilities.local:
        assert "kind" in store.describe(two.name).schema.indexes
    store.close()
    two.revise("0003", ADD)
    upgrade.upgrade(two.settings())
    assert (two.row().revision, two.row().points) == ("0003", 20)
    back.rollback(two.settings(), "0002")
    assert two.row().revision == "0002"
    with pytest.raises(RefusedError, match="20 points"):
        back.rollback(two.settings(), "base")
    back.rollback(two.settings(), "base", writes="discard")
    assert target_of(two) is None
    if "url" in qdrant_config:
        clean(two)


@pytest.mark.server
def test_an_archive_of_a_server_is_restored_in_local_mode(qdrant_server, tmp_path):
    """The other way round: vectors that local mode stores in another form are compared as they convert."""
    config = {"url": qdrant_server.url, "grpc_port": qdrant_server.grpc_port, "timeout": 2}
    one = Deployment(tmp_path / "one", config, f"sqlite:///{tmp_path}/one.db")
    one.revise("0001", ALL_KINDS)
    upgrade.upgrade(one.settings())
    store = one.store()
    store.upsert(one.name, [point(number, named=True) for number in range(40)]).wait()
    store.close()
    taken = archived(one, to=tmp_path / "moved")
    there = Deployment(tmp_path / "two", {"path": str(tmp_path / "q")}, f"sqlite:///{tmp_path}/two.db", name=one.name)
    there.revise("0001", ALL_KINDS)
    restore.restore(there.settings(), there.name, str(taken.path), consent=True)
    assert digests(there).keys() == digests(one).keys()
    assert there.row().revision == "0001"
    again = archived(there, to=tmp_path / "again")
    restore.restore(one.settings(), one.name, str(again.path), consent=True)
    assert one.row().points == 40
    clean(one)


def test_an_archive_becomes_another_collection(deployment):
    """--into makes a new name, at the revisions that name it; one that exists is refused."""
    made = prepared(deployment)
    made.revise("0002", GLOB)
    upgrade.upgrade(made.settings())
    taken = archived(made)
    other = f"{made.name}_old"
    result = restore.restore(made.settings(), made.name, taken.name, into=other, consent=True)
    assert made.contents(other) == made.contents()
    assert any("not every revision" in note for note in result.plan.notes)
    row = next(row for row in status.status(made.settings()).collections if row.name == other)
    assert (row.revision, row.generation, row.state) == ("0002", "g0001", "ready")
    put(made, make_point(700), name=other)
    with pytest.raises(RefusedError, match="exists already"):
        restore.restore(made.settings(), made.name, taken.name, into=other, consent=True)


def test_an_archive_of_unknown_revisions_makes_a_collection_at_none(deployment, tmp_path):
    """Without its revision files it can be restored next to it, but not take the place of a collection under management."""
    made = prepared(deployment)
    taken = archived(made, to=tmp_path / "moved")
    found = archive.summary(taken.path)
    facts = {**found.header.facts, "revisions": [["9999", "sum"]]}
    pages = [[portable.to_json(one.stored) for one in archive.read(taken.path)]]
    strange = archive.write(tmp_path / "strange.jsonl.zst", replace(found.header, facts=facts), pages)
    with pytest.raises(RefusedError, match="no file of 9999"):
        restore.restore(made.settings(), made.name, str(strange.path), consent=True)
    other = f"{made.name}_seen"
    result = restore.restore(made.settings(), made.name, str(strange.path), into=other, consent=True)
    assert "no revision" in result.plan.notes[0]
    assert made.contents(other) == made.contents()
    row = next(row for row in status.status(made.settings()).collections if row.name == other)
    assert (row.revision, row.state) == (None, "ready")


def test_an_archive_made_with_another_revision_file_is_refused(deployment, tmp_path):
    """Its points can't be recorded at a revision whose file has something else."""
    made = prepared(deployment)
    path = made.revise("0002", INDEX)
    upgrade.upgrade(made.settings())
    taken = archived(made, to=tmp_path / "moved")
    back.rollback(made.settings(), "0001")
    text = path.read_text()
    path.write_text(text.replace('"kind"', '"n"'))
    with pytest.raises(DriftError, match="another 0002_rev.py"):
        restore.restore(made.settings(), made.name, str(taken.path), consent=True)
    path.write_text(text + "\n# Nothing but words.\n")
    restore.restore(made.settings(), made.name, str(taken.path), consent=True)
    assert made.row().revision == "0002"


def test_an_archive_of_another_collection_or_of_some_points_is_refused(deployment, tmp_path):
    """The message names what it is of, and how to restore it under another name."""
    made = prepared(deployment)
    taken = archived(made, to=tmp_path / "moved")
    with pytest.raises(RefusedError, match=f"is an archive of {made.name}, not of other") as refused:
        restore.restore(made.settings(), "other", str(taken.path), consent=True)
    assert "--into other" in refused.value.hint
    found = archive.summary(taken.path)
    partly = archive.write(tmp_path / "some.jsonl.zst", replace(found.header, kind="deleted"), [])
    with pytest.raises(RefusedError, match="holds some points"):
        restore.restore(made.settings(), made.name, str(partly.path), consent=True)
    with pytest.raises(NotFoundError):
        restore.restore(made.settings(), made.name, "none", consent=True)


def test_a_rebuild_leaves_an_archive_where_there_are_no_snapshots(deployment):
    """Local mode: what the upgrade started from can be restored later; a server keeps a snapshot of its own."""
    made = prepared(deployment)
    before = made.contents()
    made.revise("0002", ADD)
    upgrade.upgrade(made.settings())
    kinds = [(row.kind, row.revision, row.generation) for row in snapshot.list_(made.settings(), made.name).rows]
    local = "path" in made.qdrant
    assert kinds == [("archive" if local else "snapshot", "0001", "g0001")]
    if local:
        (file,) = made.settings().archives.iterdir()
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
        restore.restore(made.settings(), made.name, consent=True)
        assert made.contents() == before


def test_a_rebuild_without_snapshot_leaves_none(deployment):
    """--no-snapshot is respected."""
    made = prepared(deployment)
    made.revise("0002", ADD)
    upgrade.upgrade(made.settings(), no_snapshot=True)
    assert snapshot.list_(made.settings(), made.name).rows == ()


@pytest.mark.server
def test_a_key_that_may_not_snapshot_gets_an_archive(qdrant_server, tmp_path, monkeypatch):
    """A rebuild continues with an archive; the verb names the flag that makes one."""
    config = {"url": qdrant_server.url, "grpc_port": qdrant_server.grpc_port, "timeout": 2}
    made = prepared(Deployment(tmp_path / "project", config, f"sqlite:///{tmp_path}/ledger.db"))

    def denied(self, name):
        raise DeniedError("the api key is too small")

    monkeypatch.setattr(ServerStore, "create_snapshot", denied)
    with pytest.raises(DeniedError) as refused:
        snapshot.create(made.settings(), made.name)
    assert "--archive" in refused.value.hint
    made.revise("0002", ADD)
    upgrade.upgrade(made.settings())
    assert [row.kind for row in snapshot.list_(made.settings(), made.name).rows] == ["archive"]
    clean(made)


def test_an_archive_that_cannot_be_written_stops_before_anything_is_made(deployment):
    """A rebuild is not begun without the snapshot that it was to have."""
    made = prepared(deployment)
    if "url" in made.qdrant:
        with pytest.raises(UnavailableError):
            archived(made, to=made.config)
        return
    made.settings().archives.parent.mkdir(exist_ok=True)
    made.settings().archives.write_text("in the way")
    made.revise("0002", ADD)
    with pytest.raises(UnavailableError, match="can't be written"):
        upgrade.upgrade(made.settings())
    made.settings().archives.unlink()
    upgrade.upgrade(made.settings())
    assert made.row().revision == "0002"


def test_snapshots_are_deleted_by_name_number_and_age(deployment):
    """Globs of names, the newest are kept, the young are kept; nothing without consent; each deletion is recorded."""
    made = prepared(deployment)
    settings = made.settings()
    taken = [archived(made).name for _ in range(4)]
    with pytest.raises(RefusedError, match="4 snapshots would be deleted"):
        snapshot.delete(settings, ["*"], collection=made.name)
    assert names(made) == taken
    shown = snapshot.delete(settings, collection=made.name, keep=3, dry_run=True)
    assert ([row.name for row in shown.rows], shown.preview) == (taken[:1], True)
    assert snapshot.delete(settings, collection=made.name, older_than=3600, consent=True).rows == ()
    gone = snapshot.delete(settings, collection=made.name, keep=2, older_than=0, consent=True)
    assert [row.name for row in gone.rows] == taken[:2]
    assert names(made) == taken[2:]
    snapshot.delete(settings, [taken[2]], consent=True)
    assert names(made) == taken[3:]
    with pytest.raises(NotFoundError):
        snapshot.delete(settings, [taken[2]], consent=True)
    recorded = [run for run in runs_of(made) if run.verb == "snapshot delete"]
    assert [(run.collection, run.state) for run in recorded] == [(made.name, "done")] * 2
    assert made.row().state == "ready"


def test_the_newest_are_kept_of_each_kind(deployment):
    """Of archives, and of what the server keeps and loses with its collection; a file of some points isn't a way back."""
    made = prepared(deployment)
    settings, server = made.settings(), "url" in made.qdrant
    taken = [archived(made).name for _ in range(2)]
    kept = [snapshot.create(settings, made.name).rows[0].name for _ in range(2)] if server else []
    header = replace(archive.summary(settings.archives / taken[0]).header, kind="deleted")
    partial = archive.write(settings.archives / f"partial{archive.SUFFIX}", header, []).path.name
    for keep in (2, 1):
        gone = snapshot.delete(settings, collection=made.name, keep=keep, older_than=0, consent=True)
        assert sorted(row.name for row in gone.rows) == sorted([*taken[:-keep], *list(dict.fromkeys(kept))[:-keep]])
    assert "partial" not in restore.plan(settings, made.name).collections[0].lines[0]
    gone = snapshot.delete(settings, ["partial*"], consent=True)
    assert [row.name for row in gone.rows] == [partial]


def test_an_interrupted_deletion_is_ended_by_the_next_command(deployment, monkeypatch):
    """What is gone is gone, the rest is there, and no run stays open."""
    made = prepared(deployment)
    taken = [archived(made).name for _ in range(2)]
    unlink = Path.unlink
    monkeypatch.setattr(Path, "unlink", lambda path, **kwargs: stop() if taken[1] in path.name else unlink(path, **kwargs))

    def stop():
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        snapshot.delete(made.settings(), ["*"], collection=made.name, consent=True)
    monkeypatch.undo()
    assert names(made) == taken[1:]
    assert made.row().state == "interrupted"
    upgrade.upgrade(made.settings())
    assert made.row().state == "ready"


def names(made: Deployment) -> list[str]:
    """Names in the list."""
    return [row.name for row in snapshot.list_(made.settings(), made.name).rows]


def test_the_snapshot_of_an_unfinished_run_is_spared(deployment, monkeypatch):
    """Also when everything is chosen: the run may need it, and that is reported."""
    made = prepared(deployment)
    made.revise("0002", ADD)

    def stop(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr("qmigrate.engine.rebuild.copy_ranges", stop)
    with pytest.raises(KeyboardInterrupt):
        upgrade.upgrade(made.settings())
    monkeypatch.undo()
    kept = names(made)
    assert len(kept) == 1
    other = archived(made).name
    gone = snapshot.delete(made.settings(), ["*"], collection=made.name, consent=True)
    assert [row.name for row in gone.rows] == [other]
    assert list(gone.spared) == kept == names(made)
    upgrade.upgrade(made.settings())
    assert made.row().revision == "0002"
    assert len(snapshot.delete(made.settings(), ["*"], collection=made.name, consent=True).rows) == 1


def test_the_command_line_from_making_to_deleting(deployment, monkeypatch):
    """Each verb as typed, with its exit codes, for people and as JSON."""
    made = prepared(deployment)

    def verb(*args, code=0):
        said = call(made.root, *args)
        assert said.code == code, said.text
        return said

    verb("snapshot", "create", code=2)
    assert verb("snapshot", "create", made.name, "--archive", "--json").json["data"]["rows"][0]["points"] == 20
    assert verb("snapshot", "create", made.name, "--to", "elsewhere").out
    assert len(list((made.root / "elsewhere").iterdir())) == 1
    listed = verb("snapshot", "list", made.name, "--json").json["data"]["rows"]
    assert [row["kind"] for row in listed] == ["archive"]
    name = listed[0]["name"]
    assert name in verb("snapshot", "list", made.name).out
    put(made, make_point(50))
    verb("snapshot", "restore", made.name, code=2)
    verb("snapshot", "restore", made.name, name, "--latest", code=2)
    verb("snapshot", "restore", made.name, "--latest", "--discard-writes", code=2)
    assert "21 serve now" in verb("snapshot", "restore", made.name, "--latest", code=10).err
    assert "Nothing was written" in verb("snapshot", "restore", made.name, name, "--dry-run").out
    assert "20 of 20 points" in verb("snapshot", "restore", made.name, "--latest", "--yes").out
    assert made.row().points == 20
    assert f"back to {made.name}__g0001" in verb("snapshot", "restore", made.name, "--undo", "--dry-run").out
    verb("snapshot", "restore", made.name, "--undo")
    assert made.row().points == 21
    (file,) = (made.root / "elsewhere").iterdir()
    data = verb("snapshot", "restore", made.name, "--archive", str(file), "--yes", "--json").json["data"]
    assert data["outcomes"][0]["physical"].endswith("__g0003")
    verb("snapshot", "delete", code=2)
    verb("snapshot", "delete", name, code=10)
    assert name in verb("snapshot", "delete", name, "--dry-run").out
    assert "Deleted: 1 snapshot" in verb("snapshot", "delete", name, "--yes").out
    assert verb("snapshot", "delete", "*", "--of", made.name, "--in", "elsewhere", "--yes", "--json").json["data"]["rows"]
    assert not list((made.root / "elsewhere").iterdir())


def test_an_adopted_plain_collection_is_restored_beside(deployment):
    """The alias hides it, or it becomes a generation of its own first; either way it is kept and a command away."""
    made = deployment
    store = made.store()
    store.create_collection(
        made.name, CollectionSchema(vectors={"a": {"size": 8, "distance": "Cosine"}}), seal=None
    )
    store.close()
    made.load(20)
    adopt.adopt(made.settings(), made.name)
    taken = archived(made)
    then = made.contents()
    put(made, make_point(300))
    now = made.contents()
    restore.restore(made.settings(), made.name, taken.name, consent=True)
    assert made.contents() == then
    assert target_of(made).startswith(f"{made.name}__g")
    put(made, make_point(301))
    restore.undo(made.settings(), made.name, writes="discard")
    assert made.contents() == now
    put(made, make_point(302))
    put(made, make_point(303))
    assert made.row().points == 23


def test_a_plain_collection_is_archived_and_not_restored_over(deployment):
    """Not under management: it can be read, and nothing is put in its place."""
    made = deployment
    store = made.store()
    made.revise("0001", CREATE)
    other = f"{made.name}p"
    store.create_collection(other, CollectionSchema(vectors={"a": {"size": 8, "distance": "Dot"}}), seal=None)
    write(store, other, [make_point(1)])
    store.close()
    (taken,) = snapshot.create(made.settings(), other, archived=True).rows
    assert (taken.revision, taken.generation, taken.points) == (None, "plain", 1)
    with pytest.raises(RefusedError, match="not under management"):
        restore.restore(made.settings(), other, taken.name, consent=True)
    restore.restore(made.settings(), other, taken.name, into=made.name, consent=True)
    assert made.contents() == made.contents(other)


@pytest.fixture
def served(qdrant_server, tmp_path):
    """A loaded deployment on the server, with a snapshot that the server keeps."""
    config = {"url": qdrant_server.url, "grpc_port": qdrant_server.grpc_port, "timeout": 2}
    made = prepared(Deployment(tmp_path / "project", config, f"sqlite:///{tmp_path}/ledger.db"))
    (taken,) = snapshot.create(made.settings(), made.name).rows
    yield made, taken
    clean(made)


@pytest.mark.server
def test_a_snapshot_of_the_server_is_restored_beside_what_serves(served):
    """Recovered under the next generation's name, sealed as that, counted, and a command away from what served."""
    made, taken = served
    before = made.contents()
    made.revise("0002", ADD)
    upgrade.upgrade(made.settings(), no_snapshot=True)
    put(made, make_point(500))
    now = made.contents()
    listed = snapshot.list_(made.settings(), made.name).rows
    assert [(row.name, row.revision, row.generation) for row in listed] == [(taken.name, "0001", "g0001")]
    assert listed[0].kept_until is not None
    result = restore.restore(made.settings(), made.name, taken.name, consent=True)
    assert made.contents() == before
    assert (made.row().revision, made.row().generation) == ("0001", "g0003")
    proof = next(facts["report"] for facts in result.outcomes[-1].report.values() if "report" in facts)
    assert (proof["points"], proof["proven"]) == (20, 20)
    store = made.store()
    seal = store.describe(made.name).seal
    assert (seal["generation"], seal["revision"], seal["state"]) == (3, "0001", "live")
    store.close()
    for number in range(3):
        put(made, make_point(600 + number))
    with pytest.raises(RefusedError, match="3 points added"):
        restore.undo(made.settings(), made.name)
    restore.undo(made.settings(), made.name, writes="discard")
    assert made.contents() == now


@pytest.mark.server
def test_a_snapshot_of_a_fenced_generation_takes_writes_again(served):
    """One that was made after the generation was left has its fence inside; what is restored must not."""
    made, _ = served
    made.revise("0002", ADD)
    upgrade.upgrade(made.settings(), no_snapshot=True)
    store = made.store()
    late = store.create_snapshot(f"{made.name}__g0001")
    store.close()
    restore.restore(made.settings(), made.name, late.name, consent=True)
    assert made.row().revision == "0001"
    for number in range(4):
        put(made, make_point(600 + number))
    assert made.row().points == 24


@pytest.mark.server
def test_erased_points_of_a_snapshot_do_not_come_back(served):
    """They are removed from what the server recovered, before it serves."""
    made, taken = served
    gone = sorted(made.contents(), key=str)[:4]
    erase(made, gone)
    restore.restore(made.settings(), made.name, taken.name, consent=True)
    assert not set(gone) & set(made.contents())
    assert made.row().points == 16


@pytest.mark.server
def test_a_snapshot_that_is_not_of_the_revision_that_was_recorded_is_not_swapped_in(served):
    """The seal inside is more reliable than the clocks: refused, and abort leaves nothing."""
    made, _ = served
    store = made.store()
    physical = f"{made.name}__g0001"
    seal = store.describe(physical).seal
    store.write_seal(physical, {**seal, "revision": "0009"})
    odd = store.create_snapshot(physical)
    store.write_seal(physical, seal)
    store.close()
    before = made.contents()
    with pytest.raises(VerificationError, match="made at revision 0009, but the history has 0001"):
        restore.restore(made.settings(), made.name, odd.name, consent=True)
    assert made.contents() == before
    back.abort(made.settings(), made.name)
    assert generations(made) == [physical]
    assert made.row().state == "ready"


@pytest.mark.server
def test_a_damaged_snapshot_is_refused_by_its_checksum(qdrant_with, tmp_path):
    """Nothing of it stays; what serves is as it was."""
    server = qdrant_with({"QDRANT__STORAGE__SNAPSHOTS_PATH": str(tmp_path / "snapshots")})
    config = {"url": server.url, "grpc_port": server.grpc_port, "timeout": 2}
    made = prepared(Deployment(tmp_path / "project", config, f"sqlite:///{tmp_path}/ledger.db"))
    (taken,) = snapshot.create(made.settings(), made.name).rows
    (file,) = (tmp_path / "snapshots").rglob(taken.name)
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(bytes(content))
    before = made.contents()
    with pytest.raises(StoreError, match="could not recover"):
        restore.restore(made.settings(), made.name, taken.name, consent=True)
    assert made.contents() == before
    back.abort(made.settings(), made.name)
    assert generations(made) == [f"{made.name}__g0001"]


@pytest.mark.server
def test_a_collection_with_custom_sharding_is_not_archived(qdrant_with, tmp_path):
    """Its shard keys would be lost without a word; a restore of its snapshot is refused by the planner."""
    server = qdrant_with({"QDRANT__CLUSTER__ENABLED": "true"}, ("--uri", f"http://127.0.0.1:{free_port()}"))
    config = {"url": server.url, "grpc_port": server.grpc_port, "timeout": 5}
    made = Deployment(tmp_path / "project", config, f"sqlite:///{tmp_path}/ledger.db")
    made.revise("0001", CREATE)
    body = {"vectors": {"a": {"size": 8, "distance": "Dot"}}, "sharding_method": "custom"}
    httpx.put(f"{server.url}/collections/{made.name}", json=body, timeout=30).raise_for_status()
    httpx.put(f"{server.url}/collections/{made.name}/shards", json={"shard_key": "k"}, timeout=30).raise_for_status()
    with pytest.raises(RefusedError, match="uses custom sharding, and an archive can't hold shard keys"):
        archived(made)
    assert not made.settings().archives.exists()


# --- a plain collection's first upgrade -------------------------------------------------------------------------------

FIRST = ["local", pytest.param("auto", marks=pytest.mark.server), pytest.param("gap", marks=pytest.mark.server)]


@pytest.fixture
def upgraded(request, tmp_path, way):
    """A plain collection under management, and its first rebuild; what it held before comes along."""
    config = {"path": str(tmp_path / "qdrant")}
    if way != "local":
        server = request.getfixturevalue("qdrant_server")
        config = {"url": server.url, "grpc_port": server.grpc_port, "timeout": 2}
    extra = {} if way == "local" else {"rebuild": {"plain_names": way}}
    made = Deployment(tmp_path / "project", config, f"sqlite:///{tmp_path}/ledger.db", extra=extra)
    plain(made, 20)
    before = made.contents()
    made.revise("0002", ADD)
    upgrade.upgrade(made.settings(), allow_gap=True)
    yield made, before
    if way != "local":
        clean(made)


@pytest.mark.parametrize("way", FIRST)
def test_the_newest_snapshot_of_a_first_upgrade_is_restored(upgraded):
    """It was made of the plain collection or of its identical copy: either way it is known at which revision."""
    made, before = upgraded
    assert {row.revision for row in snapshot.list_(made.settings(), made.name).rows} == {"0001"}
    said = call(made.root, "snapshot", "restore", made.name, "--latest", "--yes")
    assert said.code == 0, said.text
    assert made.contents() == before
    assert made.row().revision == "0001"
    assert call(made.root, "check", "--only", made.name).code == 3, "0002 is pending again, and nothing else differs"


@pytest.mark.parametrize("way", ["local"])
def test_an_archive_without_a_revision_is_known_by_the_ledger(upgraded, monkeypatch):
    """As earlier versions wrote them: whose copy its generation was stands in the ledger."""
    made, before = upgraded
    from qmigrate.commands import restore as command

    found = archive.summary
    monkeypatch.setattr(
        command.archive,
        "summary",
        lambda path: (one := found(path)) and replace(
            one, header=replace(one.header, facts={**one.header.facts, "revisions": [], "declared": None})
        ),
    )
    restore.restore(made.settings(), made.name, consent=True)
    assert made.contents() == before
    assert made.row().revision == "0001"


@pytest.mark.parametrize("way", ["local"])
def test_a_restore_over_a_plain_name_goes_back_to_its_revisions(deployment, way):
    """Taking the restore back leads to the identical copy of the plain collection, which is at its revisions."""
    made = deployment
    plain(made, 20)
    taken = archived(made)
    restore.restore(made.settings(), made.name, taken.name, consent=True)
    restore.undo(made.settings(), made.name)
    assert made.row().revision == "0001"
    assert made.row().state == "ready"


def test_archives_of_another_ledger_in_the_same_folder_neither_go_nor_count(qdrant_config, tmp_path):
    """Of one name in two projects: the newest of ours is spared, and what the other one has is, unless it is named."""
    config = {"path": str(tmp_path / "theirs")} if "path" in qdrant_config else qdrant_config
    ours = prepared(Deployment(tmp_path / "a", qdrant_config, f"sqlite:///{tmp_path}/a.db"))
    try:
        mine = [snapshot.create(ours.settings(), ours.name, archived=True, to=tmp_path).rows[0].name for _ in range(2)]
        if "url" in qdrant_config:
            clean(ours)
        theirs = prepared(Deployment(tmp_path / "b", config, f"sqlite:///{tmp_path}/b.db", name=ours.name))
        (other,) = snapshot.create(theirs.settings(), theirs.name, archived=True, to=tmp_path).rows
        if "path" in qdrant_config:
            plan = restore.plan(ours.settings(), ours.name, folder=tmp_path)
            assert mine[-1] in plan.collections[0].lines[0]
        gone = snapshot.delete(ours.settings(), collection=ours.name, keep=1, folder=tmp_path, consent=True)
        assert [row.name for row in gone.rows] == mine[:1]
        gone = snapshot.delete(ours.settings(), ["*"], collection=ours.name, folder=tmp_path, consent=True)
        assert ([row.name for row in gone.rows], set(gone.spared)) == (mine[1:], {other.name})
        gone = snapshot.delete(ours.settings(), [other.name], folder=tmp_path, consent=True)
        assert [row.name for row in gone.rows] == [other.name]
    finally:
        if "url" in qdrant_config:
            clean(ours)


@pytest.mark.server
def test_snapshots_of_what_serves_are_not_those_of_what_its_alias_hides(qdrant_server, tmp_path):
    """The way to the hidden collection was removed by another client: nothing is listed, or deleted, in its place."""
    config = {"url": qdrant_server.url, "grpc_port": qdrant_server.grpc_port, "timeout": 2}
    made = Deployment(tmp_path / "project", config, f"sqlite:///{tmp_path}/ledger.db")
    plain(made)
    made.revise("0002", ADD)
    upgrade.upgrade(made.settings(), no_snapshot=True)
    store = made.store()
    # A server names a snapshot by the second in which it was made.
    while len(store.list_snapshots(made.name)) < 3:
        snapshot.create(made.settings(), made.name)
    store.drop_alias(f"{made.name}__old")
    store.close()
    listed = snapshot.list_(made.settings(), made.name).rows
    assert [(row.revision, row.generation) for row in listed] == [("0002", "g0001")] * 3
    kept = {row.name for row in listed[1:]}
    gone = snapshot.delete(made.settings(), keep=2, consent=True)
    assert [row.name for row in gone.rows] == [listed[0].name]
    assert {row.name for row in snapshot.list_(made.settings(), made.name).rows} == kept
    clean(made)


@pytest.mark.parametrize("phase", ["preflight", "shadow", "fill", "converge"])
def test_an_archive_that_was_replaced_meanwhile_is_not_restored(deployment, tmp_path, monkeypatch, phase):
    """The run was interrupted, and another archive got the name: nothing of that one goes live as what was chosen."""
    made, latest = prepared(deployment), tmp_path / "latest.jsonl.zst"
    chosen, newer = [], made.contents()
    for _ in range(2):
        (taken,) = snapshot.create(made.settings(), made.name, archived=True).rows
        chosen.append(taken.path.read_bytes())
        put(made, make_point(700))
        newer = made.contents()
    latest.write_bytes(chosen[0])
    with cut_at(monkeypatch, Build.kind, phase):
        restore.restore(made.settings(), made.name, str(latest), consent=True)
    latest.write_bytes(chosen[1])
    with pytest.raises(RefusedError, match="replaced since"):
        upgrade.upgrade(made.settings())
    assert made.contents() == newer
    if phase == "preflight":
        # Nothing had been made, so that it is over.
        return
    latest.write_bytes(chosen[0])
    upgrade.upgrade(made.settings())
    assert len(made.contents()) == len(newer) - 1


@pytest.mark.server
def test_a_snapshot_that_was_restored_is_still_that_of_who_made_it(served):
    """A restore makes none, so an unattended gc leaves it, and what it is of."""
    made, taken = served
    restore.restore(made.settings(), made.name, taken.name, consent=True)
    store, ledger = made.store(), Ledger.open(made.ledger_url)
    names = store.physical_names()
    (old,) = [
        one
        for one in holdings(ledger, store, made.name, physical=names, aliases=store.aliases())
        if one.physical == f"{made.name}__g0001"
    ]
    assert [(one.name, one.own) for one in old.snapshots] == [(taken.name, False)]
    store.close()
    ledger.close()


def later(made: Deployment, seconds: int) -> None:
    """Until the server's clock, which reports whole seconds of a snapshot, has advanced by this many."""
    store, spare = made.store(), f"{made.name}x"
    store.create_collection(spare, CollectionSchema(vectors={"a": {"size": 2, "distance": "Dot"}}), seal=None)
    first = store.create_snapshot(spare).created_at
    while (store.create_snapshot(spare).created_at - first).total_seconds() < seconds:
        pass
    store.drop_collection(by_hand(spare))
    store.close()


def nightly(made: Deployment) -> dict[str, str]:
    """A snapshot of every collection, as jobs make them that know of no generation; physical name -> its name."""
    store = made.store()
    names = [name for name in store.physical_names() if name.startswith(made.name)]
    found = {name: store.create_snapshot(name).name for name in names}
    store.close()
    return found


@pytest.mark.server
@pytest.mark.parametrize("body", [ADD, None], ids=["rebuild", "copy"])
def test_a_snapshot_of_what_was_being_built_never_goes_live(qdrant_server, tmp_path, monkeypatch, body):
    """Points may be missing in it: it is not the newest, and by its name it is refused."""
    config = {"url": qdrant_server.url, "grpc_port": qdrant_server.grpc_port, "timeout": 2}
    made = Deployment(tmp_path / "project", config, f"sqlite:///{tmp_path}/ledger.db")
    if body is None:
        # The identical copy that takes a plain name is at a revision while it is built.
        made.extra["rebuild"] = {"plain_names": "gap"}
        made.__post_init__()
        plain(made, 20)
    else:
        prepared(made)
    made.revise("0002", body or ADD)
    with cut_at(monkeypatch, Build.kind, "index"):
        upgrade.upgrade(made.settings(), allow_gap=True, no_snapshot=True)
    store, unfinished = made.store(), f"{made.name}__g000{1 if body is None else 2}"
    store.delete(unfinished, [1, 2])
    store.close()
    partial, other = nightly(made)[unfinished], f"{made.name}b"
    # Under another name it may get the number of its own generation.
    with pytest.raises(RefusedError, match="was being built"):
        restore.restore(made.settings(), made.name, partial, into=other, consent=True)
    with monkeypatch.context() as patch:
        patch.setattr(restore, "may_be_whole", lambda *_: True)
        with pytest.raises(VerificationError, match="was being built"):
            restore.restore(made.settings(), made.name, partial, into=other, consent=True)
    back.abort(made.settings(), other)
    upgrade.upgrade(made.settings(), allow_gap=True, no_snapshot=True)
    before = made.contents()
    with pytest.raises(VerificationError, match="was being built"):
        restore.restore(made.settings(), made.name, partial, consent=True)
    assert made.contents() == before
    back.abort(made.settings(), made.name)
    clean(made)


@pytest.mark.server
def test_snapshots_of_a_generation_that_was_left_stand_in_for_none(served, monkeypatch):
    """A job makes them of every collection: the newest is that of what served, and what goes with another doesn't count."""
    made, taken = served
    made.revise("0002", ADD)
    upgrade.upgrade(made.settings(), no_snapshot=True)
    back.rollback(made.settings(), "0001")
    monkeypatch.setattr(snapshot, "CLOCKS_APART", timedelta(seconds=1))
    later(made, 3)
    mine = nightly(made)[f"{made.name}__g0001"]
    later(made, 2)
    store = made.store()
    left = store.create_snapshot(f"{made.name}__g0002").name
    store.close()
    (item,) = restore.plan(made.settings(), made.name).collections
    assert mine in item.lines[0]
    gone = {row.name for row in snapshot.delete(made.settings(), keep=1, consent=True).rows}
    assert (taken.name in gone, mine in gone, left in gone) == (True, False, False)
    store = made.store()
    store.delete_snapshot(f"{made.name}__g0001", mine)
    store.close()
    with pytest.raises(NotFoundError, match="had been left when it was made"):
        restore.restore(made.settings(), made.name, consent=True)
    restore.restore(made.settings(), made.name, left, consent=True)
    assert made.row().revision == "0002"
