"""Points that can't be embedded: kept or dropped on purpose, counted, limited, tried again; proof of all others."""

from __future__ import annotations

import importlib
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tests.harness import ADD, CREATE, Deployment, make_point, write
from tests.scenarios.test_bad_points import MODULE
from tests.scenarios.test_erase import REKEY

from qmigrate import archive, op
from qmigrate.commands import erase, fix, history, quarantine, restore, snapshot, status, upgrade
from qmigrate.commands import rollback as back
from qmigrate.engine import rebuild
from qmigrate.engine.fixes.quarantine import Retry
from qmigrate.engine.golive import golive
from qmigrate.engine.points.quarantine import Quarantine
from qmigrate.engine.points.transformation import Maker
from qmigrate.errors import DriftError, EmbedError, QuarantineError, RefusedError, VerificationError
from qmigrate.ledger import Ledger
from qmigrate.store import records

POINTS = 60
KEEP = ADD.replace('text="text"', 'text="text", on_failure="keep_without_vector"')
DROP = ADD.replace('text="text"', 'text="text", on_failure="drop"')
BAD = {5: [math.nan] * 16, 20: [0.0] * 16, 41: EmbedError("400: it is too long")}


@pytest.fixture
def words(tmp_path, monkeypatch):
    """A module with an embedder that goes wrong on demand: points 5, 20 and 41 do from the start."""
    (tmp_path / "quarantine_words.py").write_text(MODULE)
    monkeypatch.syspath_prepend(str(tmp_path))
    module = importlib.import_module("quarantine_words")
    importlib.reload(module)
    module.wrong.update({make_point(number).payload["text"]: value for number, value in BAD.items()})
    return module


@pytest.fixture
def made(deployment, words):
    """A loaded collection at 0001; the vector b will be filled by that module."""
    deployment.extra["embedders"] = {"words": {"type": "callable", "function": "quarantine_words:embed", "size": 16}}
    deployment.__post_init__()
    deployment.revise("0001", CREATE)
    upgrade.upgrade(deployment.settings(), "0001")
    deployment.load(POINTS, uuids=False)
    return deployment


def ids_of(numbers) -> set[int]:
    """Ids of these points."""
    return {make_point(number).id for number in numbers}


def lacking(made: Deployment) -> set[int]:
    """Points of the live collection without the vector b."""
    return {identifier for identifier, (_, vectors) in made.contents().items() if "b" not in vectors}


def proof_of(made: Deployment) -> dict:
    """The newest proof, as the history has it."""
    return status.history(made.settings()).rows[0].report["verification"]


def open_rows(made: Deployment) -> dict:
    """What is listed, by point and vector."""
    return {(row.point_id, row.vector): row for row in quarantine.quarantine(made.settings(), made.name).rows}


def test_kept_points_are_listed_counted_and_filled_later(made, words):
    """They serve without the vector, the proof knows them by their source, --retry fills those that are repaired."""
    made.revise("0002", KEEP)
    upgrade.upgrade(made.settings())
    assert lacking(made) == ids_of(BAD)
    proof = proof_of(made)
    assert (proof["points"], proof["proven"], proof["embedded"], proof["without_vector"]) == (60, 60, 57, 3)
    rows = open_rows(made)
    assert {key[0] for key in rows} == ids_of(BAD)
    assert rows[42, "b"].reason == "400: it is too long"
    assert (rows[6, "b"].stage, rows[6, "b"].source) == ("check", "the text number 5")
    assert all((row.outcome, row.attempts) == ("kept", 1) for row in rows.values())
    # One is repaired, one is deleted, one still fails.
    del words.wrong[make_point(5).payload["text"]]
    store = made.store()
    store.delete(made.name, [21])
    store.close()
    before = made.contents()
    result = quarantine.retry(made.settings(), made.name)
    assert (result.filled, result.failed, result.settled) == (1, 1, 1)
    after = made.contents()
    assert len(after[6][1].pop("b")) == 16
    assert after == before
    assert {key: row.attempts for key, row in open_rows(made).items()} == {(42, "b"): 2}
    assert quarantine.retry(made.settings(), made.name).filled == 0
    made.revise("0003", 'def upgrade():\n    return [op.RenameVector("{name}", "b", "c", cutover="immediate")]')
    upgrade.upgrade(made.settings())
    words.wrong.clear()
    assert quarantine.retry(made.settings(), made.name).filled == 1
    assert open_rows(made) == {}


def test_dropped_points_are_exported_logged_and_brought_back(made, words, monkeypatch):
    """They are in a file and the audit, not in the new generation; a rollback has them, and --retry brings them back."""
    # Ranges that fail side by side list them in any order.
    listed = Quarantine.ids
    monkeypatch.setattr(Quarantine, "ids", lambda self, outcome: listed(self, outcome)[::-1])
    made.revise("0002", DROP)
    before = made.contents()
    upgrade.upgrade(made.settings())
    after = made.contents()
    assert before.keys() - after.keys() == ids_of(BAD)
    proof = proof_of(made)
    assert (proof["points"], proof["proven"], proof["embedded"], proof["dropped"]) == (60, 60, 57, 3)
    row = history.deletions(made.settings(), made.name).rows[0]
    assert (row.kind, row.count, row.changed) == ("QUARANTINE", 3, 3)
    kept = {one.id: one.stored for one in archive.read(Path(row.facts["archive"]))}
    assert {key: records.payload_of(stored) for key, stored in kept.items()} == {key: before[key][0] for key in ids_of(BAD)}
    with pytest.raises(RefusedError, match="nothing to undo"):
        fix.undo(made.settings(), row.id)
    back.rollback(made.settings(), "0001")
    assert made.contents() == before
    upgrade.upgrade(made.settings())
    words.wrong.clear()
    assert quarantine.retry(made.settings(), made.name).filled == 3
    whole = made.contents()
    assert whole.keys() == before.keys()
    assert {key: (payload, vectors["a"]) for key, (payload, vectors) in whole.items()} == {
        key: (payload, vectors["a"]) for key, (payload, vectors) in before.items()
    }
    assert lacking(made) == set()
    assert open_rows(made) == {}
    with pytest.raises(RefusedError, match="3 points added"):
        back.rollback(made.settings(), "0001")


def test_too_many_stop_the_run_until_they_are_mended_or_allowed(made, words):
    """Over the limit: exit 10, the reasons, and nothing lost; a resume tries them again first."""
    made.extra["limits"] = {"max_quarantine": 2}
    made.extra["rebuild"] = {"on_failure": "keep_without_vector", "sample": 0}
    made.__post_init__()
    made.revise("0002", ADD)
    with pytest.raises(QuarantineError) as caught:
        upgrade.upgrade(made.settings())
    assert caught.value.exit_code == 10
    assert "3 of 60 points" in caught.value.message
    assert "2 may" in caught.value.message
    assert "400: it is too long" in caught.value.message
    assert "qmigrate fix quarantine" in caught.value.hint
    assert made.row().revision == "0001"
    assert quarantine.retry(made.settings()).waiting == 3
    ledger = Ledger.open(made.ledger_url)
    assert ledger.quarantined(f"{made.name}__g0002") == 3
    del words.wrong[make_point(20).payload["text"]]
    upgrade.upgrade(made.settings())
    assert lacking(made) == ids_of({5, 41})
    assert ledger.quarantined(f"{made.name}__g0002") == 2
    ledger.close()


def test_a_vector_that_is_lacking_without_a_reason_is_no_proof(made, words, monkeypatch):
    """A point that was embedded, and whose vector got lost on the way, fails the proof although others may lack it."""
    made.revise("0002", KEEP)
    original = records.make_ready

    def forgetful(stored, transform, values, payload=None):
        kept = {} if records.point_id(stored) == 31 else values
        return original(stored, transform, kept, payload)

    monkeypatch.setattr(records, "make_ready", forgetful)
    with pytest.raises(VerificationError, match="1 of 60 points .*: 31 vector 'b' is missing"):
        upgrade.upgrade(made.settings())
    assert len(open_rows(made)) == 3
    exported = made.settings().fixes.exports / f"{made.name}__g0002-run9-quarantine{archive.SUFFIX}"
    exported.parent.mkdir(parents=True, exist_ok=True)
    exported.touch()
    back.abort(made.settings())
    assert (open_rows(made), exported.exists()) == ({}, False)
    ledger = Ledger.open(made.ledger_url)
    assert ledger.quarantine([f"{made.name}__g0002"], settled=True) == []
    ledger.close()


def test_a_point_that_changes_meanwhile_is_judged_anew(made, words, monkeypatch):
    """One that is repaired while it is copied is embedded after all; one that goes bad is dropped from the new side."""
    made.extra["rebuild"] = {"sample": 0}
    made.__post_init__()
    made.revise("0002", DROP)
    original = rebuild.wait_until_ready

    def meddling(work, physical):
        changed = [make_point(5, text="mended"), make_point(7, text=make_point(20).payload["text"])]
        write(work.store, made.name, changed)
        work.store.delete(made.name, [21])
        original(work, physical)

    monkeypatch.setattr(rebuild, "wait_until_ready", meddling)
    upgrade.upgrade(made.settings())
    gone = ids_of(range(POINTS)) - made.contents().keys()
    assert gone == {8, 21, 42}
    assert open_rows(made).keys() == {(8, "b"), (42, "b")}


@pytest.mark.parametrize("qdrant_config", ["local"], indirect=True)
@pytest.mark.parametrize("when", ["before", "meanwhile", "at last"])
def test_a_retry_brings_no_point_back_over_what_the_application_wrote(made, words, monkeypatch, when):
    """A dropped point that is there again, without the vector, is filled as it is; one that comes during the run is skipped."""
    made.revise("0002", DROP)
    upgrade.upgrade(made.settings())
    words.wrong.clear()

    def put(store):
        write(store, made.name, [make_point(5, text="newer")])

    if when == "before":
        store = made.store()
        put(store)
        store.close()
    elif when == "at last":
        written = Retry.write
        monkeypatch.setattr(Retry, "write", lambda self, hand, rest: (put(hand.store), written(self, hand, rest)))
    else:
        made_of = Retry._embedded
        monkeypatch.setattr(Retry, "_embedded", lambda self, *rest: [*made_of(self, *rest), *(put(self._place.store) or ())])
    result = quarantine.retry(made.settings(), made.name)
    assert (result.filled, result.failed) == ((2, 1) if when == "meanwhile" else (3, 0))
    payload, vectors = made.contents()[6]
    assert (payload["text"], "b" in vectors) == ("newer", when == "before")
    monkeypatch.undo()
    monkeypatch.syspath_prepend(str(made.root))
    assert quarantine.retry(made.settings(), made.name).filled == int(when != "before")
    (payload, vectors), other = made.contents()[6], words.vector("newer")
    assert payload["text"] == "newer"
    assert np.allclose(np.array(vectors["b"]), np.array(other) / np.linalg.norm(other), atol=1e-5)


@pytest.mark.parametrize("qdrant_config", ["local"], indirect=True)
def test_a_retry_gives_no_point_the_vector_of_what_it_was(made, words, monkeypatch):
    """A point that is written while its vector is made is left alone, and filled by the next try."""
    made.revise("0002", KEEP)
    upgrade.upgrade(made.settings())
    words.wrong.clear()
    made_of = Retry._embedded

    def embedded(self, *rest):
        found = list(made_of(self, *rest))
        write(self._place.store, made.name, [make_point(5, text="newer")])
        return found

    monkeypatch.setattr(Retry, "_embedded", embedded)
    result = quarantine.retry(made.settings(), made.name)
    assert (result.filled, result.failed, lacking(made)) == (2, 1, {6})
    assert open_rows(made).keys() == {(6, "b")}


@pytest.mark.parametrize("qdrant_config", ["local"], indirect=True)
def test_a_retry_finds_points_that_have_other_ids_since(made, words):
    """What a generation from before a Rekey lacks is filled under the ids of today, and its rows are settled by it."""
    made.revise("0002", KEEP)
    upgrade.upgrade(made.settings())
    made.revise("0003", REKEY.replace("12", "60"))
    upgrade.upgrade(made.settings())
    without = lacking(made)
    assert len(without) == 3
    del words.wrong[make_point(5).payload["text"]]
    result = quarantine.retry(made.settings(), made.name)
    assert (result.filled, result.failed, result.settled) == (1, 2, 0)
    assert (len(lacking(made)), open_rows(made).keys()) == (2, {(21, "b"), (42, "b")})
    words.wrong.clear()
    assert quarantine.retry(made.settings(), made.name).filled == 2
    assert (lacking(made), open_rows(made)) == (set(), {})


CREATE_THREE = """
def upgrade():
    return [op.CreateCollection("{name}", {{"a": VectorParams(size=8, distance=Distance.COSINE), "z": VectorParams(size=4, distance=Distance.DOT)}}, {{"s": SparseVectorParams()}})]
"""
_GONE = (
    'op.DropVector("{name}", "z", cutover="immediate", strategy="in_place"), '
    'op.DropVector("{name}", "s", cutover="immediate", strategy="in_place")'
)
_EMPTY = 'op.AddVector("{name}", "z", VectorParams(size=%d, distance=Distance.DOT), values=Empty(), strategy="in_place")'
_SPARSE = 'op.AddVector("{name}", "s", SparseVectorParams(), values=Empty(), strategy="in_place")'
#: What became of the vectors z and s of the generation since points were dropped from it: revisions in place.
SINCE = {
    "dropped": [_GONE],
    "dropped, and added again for the application to fill": [_GONE, f"{_EMPTY % 4}, {_SPARSE}"],
    "dropped, and another one has its name": [_GONE, _EMPTY % 3],
}


@pytest.mark.parametrize("since", SINCE)
def test_a_dropped_point_comes_back_with_the_vectors_that_are_still_there(deployment, words, since):
    """What was dropped in place since is left out of it, as it is of every other point, also where the name is back."""
    deployment.extra["embedders"] = {"words": {"type": "callable", "function": "quarantine_words:embed", "size": 16}}
    deployment.__post_init__()
    deployment.revise("0001", CREATE_THREE)
    upgrade.upgrade(deployment.settings())
    store = deployment.store()
    points = [make_point(number) for number in range(POINTS)]
    sparse = {"indices": [1, 5], "values": [1.0, 2.0]}
    write(store, deployment.name, [replace(one, vectors={**one.vectors, "z": [1.0, 2.0, 3.0, 4.0], "s": sparse}) for one in points])
    store.close()
    deployment.revise("0002", DROP)
    upgrade.upgrade(deployment.settings())
    for number, body in enumerate(SINCE[since]):
        deployment.revise(f"000{number + 3}", f'def upgrade():\n    return [{body}]\nirreversible = "gone"')
        upgrade.upgrade(deployment.settings())
    assert status.history(deployment.settings()).rows[0].physical == f"{deployment.name}__g0002"
    assert ids_of(BAD).isdisjoint(deployment.contents())
    words.wrong.clear()
    assert quarantine.retry(deployment.settings(), deployment.name).filled == 3
    back_again = {key: (payload, vectors.keys()) for key, (payload, vectors) in deployment.contents().items()}
    assert {key: back_again[key] for key in ids_of(BAD)} == {
        make_point(number).id: (make_point(number).payload, {"a", "b"}) for number in BAD
    }
    assert open_rows(deployment) == {}


def _delete(made, words, store):
    store.delete(f"{made.name}__g0001", [6])


def _delete_all(made, words, store):
    store.delete(f"{made.name}__g0001", sorted(ids_of(BAD)))


def _fail_again(made, words, store):
    words.wrong["newer"] = EmbedError("400: it is still too long")
    write(store, f"{made.name}__g0001", [make_point(5, text="newer")])


def _get_well(made, words, store):
    write(store, f"{made.name}__g0001", [make_point(5, text="newer")])


#: What comes late to the old generation: with it, what is still left out, and what the point 6 is after a retry.
LATE = {
    "deleted": (_delete, {21, 42}, None),
    "all of them deleted": (_delete_all, set(), None),
    "written, and fails again": (_fail_again, {6, 21, 42}, "newer"),
    "written, and is well": (_get_well, {21, 42}, "newer"),
}


@pytest.mark.parametrize("qdrant_config", [pytest.param("server", marks=pytest.mark.server)], indirect=True)
@pytest.mark.parametrize("late", LATE)
@pytest.mark.parametrize("killed", [False, True])
def test_what_comes_late_for_a_dropped_point_is_what_a_retry_goes_by(made, words, monkeypatch, late, killed):
    """Deleted late it is not in the quarantine any more; written late, it is the newer one that comes back."""
    act, left_out, text = LATE[late]
    made.revise("0002", DROP)
    real, died = golive.swap, []

    def swap(work, target, names):
        if not died:
            act(made, words, work.store)
        real(work, target, names)

    def dying(*args):
        died.append(1)
        raise KeyboardInterrupt

    monkeypatch.setattr(golive, "swap", swap)
    if killed:
        with monkeypatch.context() as patched:
            patched.setattr(golive, "keep_again", dying)
            with pytest.raises(KeyboardInterrupt):
                upgrade.upgrade(made.settings())
    upgrade.upgrade(made.settings())
    assert {key[0] for key in open_rows(made)} == left_out
    audit = [row for row in history.deletions(made.settings(), made.name).rows if row.kind == "QUARANTINE"]
    assert [row.count for row in audit] == ([len(left_out)] if left_out else [])
    files = list(made.settings().fixes.exports.glob("*-quarantine*"))
    kept = {one.id: records.payload_of(one.stored) for file in files for one in archive.read(file)}
    assert (kept.keys(), len(files)) == (left_out, bool(left_out))
    assert kept.get(6, {"text": text})["text"] == text
    words.wrong.clear()
    assert quarantine.retry(made.settings(), made.name).filled == len(left_out)
    found = made.contents()
    assert (found[6][0]["text"] if 6 in found else None) == text
    assert ids_of(BAD) & found.keys() == left_out | ({6} if text else set())
    assert open_rows(made) == {}


VECTOR = "VectorParams(size=16, distance=Distance.COSINE)"
#: A vector that drops points, and another one of the same rebuild that is filled for them too, or kept without.
BESIDE = {
    "embedded": 'Embed("words", text="kind")',
    "computed": "Compute(backwards)",
    "kept": 'Embed("words", text="text", on_failure="keep_without_vector")',
}
TWO = """
def backwards(point):
    return point.vectors["a"][::-1] * 2

def upgrade():
    return [
        op.AddVector("{{name}}", "b", VECTOR, values=Embed("words", text="text", on_failure="drop")),
        op.AddVector("{{name}}", "c", VECTOR, values=NEXT_TO),
        op.DropVector("{{name}}", "a", cutover="immediate"),
    ]
irreversible = "a test"
"""
STEP = """
def upgrade():
    return [op.{change}]
irreversible = "a test"
"""
TAKEN = STEP.format(change='DropVector("{name}", "VECTOR", cutover="immediate", strategy="in_place")')
GIVEN = STEP.format(change=f'AddVector("{{name}}", "b", {VECTOR}, values=Empty(), strategy="in_place")')


@pytest.mark.parametrize("beside", BESIDE)
def test_a_dropped_point_comes_back_with_all_its_vectors(made, words, beside):
    """What else its rebuild has filled isn't lost with the one that failed, whatever it was made of."""
    made.revise("0002", TWO.replace("{{", "{").replace("}}", "}").replace("VECTOR", VECTOR).replace("NEXT_TO", BESIDE[beside]))
    upgrade.upgrade(made.settings())
    assert ids_of(BAD).isdisjoint(made.contents())
    words.wrong.clear()
    result = quarantine.retry(made.settings(), made.name)
    assert (result.filled, result.failed, result.settled, result.stranded) == (3, 0, 0, 0)
    found = made.contents()
    assert {key: sorted(found[key][1]) for key in ids_of(BAD)} == {key: ["b", "c"] for key in ids_of(BAD)}
    assert open_rows(made) == {}


@pytest.mark.parametrize("qdrant_config", ["local"], indirect=True)
def test_a_file_of_before_gives_a_point_back_whole_or_not_at_all(made, words, monkeypatch):
    """Earlier versions kept dropped points without any of the vectors that were made: embedders make them, others can't."""
    monkeypatch.setattr(Maker, "left_out", lambda self, read: [self._ready(one, {}, self._payload(one)) for one in read])
    body = TWO.replace("{{", "{").replace("}}", "}").replace("VECTOR", VECTOR)
    made.revise("0002", body.replace("NEXT_TO", BESIDE["embedded"]).replace('op.DropVector("{name}", "a", cutover="immediate"),', ""))
    upgrade.upgrade(made.settings())
    back.rollback(made.settings(), "0001")
    made.revise("0002", body.replace("NEXT_TO", BESIDE["computed"]), down="0001")
    upgrade.upgrade(made.settings())
    words.wrong.clear()
    result = quarantine.retry(made.settings(), made.name)
    assert (result.filled, result.stranded) == (0, 3)
    assert {key[0] for key in open_rows(made)} == ids_of(BAD)
    back.rollback(made.settings(), "0001", writes="discard")
    made.revise("0002", body.replace("NEXT_TO", BESIDE["embedded"]), down="0001")
    words.wrong.update({make_point(number).payload["text"]: value for number, value in BAD.items()})
    upgrade.upgrade(made.settings())
    words.wrong.clear()
    assert quarantine.retry(made.settings(), made.name).filled == 3
    found = made.contents()
    assert all(sorted(found[key][1]) == ["b", "c"] for key in ids_of(BAD))


@pytest.mark.parametrize("qdrant_config", ["local"], indirect=True)
@pytest.mark.parametrize("how", [KEEP, DROP], ids=["kept", "dropped"])
def test_nothing_goes_live_whose_every_point_has_failed(made, words, how):
    """A few points may fail by default, but not all of a small collection: an embedder that is down would empty it."""
    store = made.store()
    store.delete(made.name, [make_point(number).id for number in range(POINTS) if number not in BAD])
    store.close()
    made.revise("0002", how)
    before = made.contents()
    with pytest.raises(QuarantineError, match="3 of 3 points .* and 2 may"):
        upgrade.upgrade(made.settings())
    assert made.contents() == before
    del words.wrong[make_point(5).payload["text"]]
    upgrade.upgrade(made.settings())
    assert made.row().state == "ready"


def test_no_vector_is_filled_further_by_another_model(made, words):
    """Neither --retry nor the undo of a deletion puts vectors of another model among those of the recorded one."""
    fix.fix(made.settings(), op.DeletePoints(made.name, ids=[3], max_share=1.0, reason="a test"))
    log = history.deletions(made.settings(), made.name).rows[0].id
    made.revise("0002", KEEP)
    upgrade.upgrade(made.settings())
    configured, before = made.extra["embedders"], made.contents()
    made.extra["embedders"] = {"words": {"type": "hashing", "size": 16}}
    made.__post_init__()
    for again in (lambda: quarantine.retry(made.settings(), made.name), lambda: fix.undo(made.settings(), log)):
        with pytest.raises(DriftError, match="'b' of .* two models"):
            again()
        assert (made.contents(), made.row().state) == (before, "ready")
    made.extra["embedders"] = configured
    made.__post_init__()
    words.wrong.clear()
    assert quarantine.retry(made.settings(), made.name).filled == 3
    fix.undo(made.settings(), log)
    assert (lacking(made), 3 in made.contents()) == (set(), True)


def test_a_vector_of_that_name_that_another_client_fills_is_left_to_it(made, words):
    """Dropped in place, and added again empty: what the quarantine has is about another vector."""
    made.revise("0002", KEEP)
    upgrade.upgrade(made.settings())
    made.revise("0003", TAKEN.replace("VECTOR", "b"))
    made.revise("0004", GIVEN)
    words.wrong.clear()
    for revision in ("0003", "0004"):
        upgrade.upgrade(made.settings(), revision)
        result = quarantine.retry(made.settings(), made.name)
        assert (result.filled, result.stranded, made.row().state) == (0, 3, "pending" if revision == "0003" else "ready")
    assert lacking(made) == made.contents().keys()


def test_a_vector_that_another_client_fills_meanwhile_stays(made, words, monkeypatch):
    """Its own value is not written over by the one that --retry has made in that time."""
    made.revise("0002", KEEP)
    upgrade.upgrade(made.settings())
    words.wrong.clear()
    made_of, theirs = Retry._embedded, [1.0] + [0.0] * 15

    def embedded(self, *rest):
        found = list(made_of(self, *rest))
        self._place.store.edit_vectors(made.name, {6: {"b": theirs}})
        return found

    monkeypatch.setattr(Retry, "_embedded", embedded)
    assert quarantine.retry(made.settings(), made.name).filled == 2
    assert made.contents()[6][1]["b"] == theirs


@pytest.mark.parametrize("how", [KEEP, DROP], ids=["kept", "dropped"])
def test_a_retry_where_there_is_no_place_for_the_vectors_changes_nothing(made, words, how):
    """After a restore to a revision before them, or without a vector that the file has, rows wait; no run stays open."""
    snapshot.create(made.settings(), made.name, archived=True)
    made.revise("0002", how)
    upgrade.upgrade(made.settings())
    words.wrong.clear()
    restore.restore(made.settings(), made.name, consent=True)
    before = made.contents()
    result = quarantine.retry(made.settings(), made.name)
    assert (result.filled, made.contents(), made.row().state) == (0, before, "pending")
    restore.undo(made.settings(), made.name)
    rows = open_rows(made)
    assert {key[0] for key in rows} == ids_of(BAD)
    if how is DROP:
        made.revise("0003", TAKEN.replace("VECTOR", "a"))
        upgrade.upgrade(made.settings())
    assert (quarantine.retry(made.settings(), made.name).filled, made.row().state) == (3, "ready")


@pytest.mark.parametrize("qdrant_config", [pytest.param("server", marks=pytest.mark.server)], indirect=True)
def test_a_dropped_point_that_is_written_late_comes_back_as_that_or_not_at_all(made, words, monkeypatch):
    """What the old generation acknowledged while the name moved is about that point, though it was left out."""
    made.revise("0002", DROP)
    swap = golive.swap

    def late(work, *rest):
        work.store.delete(f"{made.name}__g0001", [6])
        words.wrong["newer"] = BAD[20]
        write(work.store, f"{made.name}__g0001", [make_point(20, text="newer")])
        swap(work, *rest)

    monkeypatch.setattr(golive, "swap", late)
    report = upgrade.upgrade(made.settings()).outcomes[0].report["1.sweep"]
    assert (report["sweep"]["carried"], report["sweep"]["listed"]["count"], report["dropped"]["points"]) == (1, 1, 2)
    assert {key[0] for key in open_rows(made)} == {21, 42}
    words.wrong.clear()
    assert quarantine.retry(made.settings(), made.name).filled == 2
    found = made.contents()
    assert (6 in found, found[21][0]["text"]) == (False, "newer")


@pytest.mark.parametrize("outcome", [KEEP, DROP])
def test_a_point_that_was_written_again_after_an_erasure_is_tried_again_like_any_other(made, words, outcome):
    """An erasure takes the rows of its points along; one of a later rebuild is of the new point."""
    point = make_point(5)
    erase.erase(made.settings(), op.DeletePoints(made.name, ids=[point.id], reason="r"))
    store = made.store()
    write(store, made.name, [point])
    store.close()
    made.revise("0002", outcome)
    upgrade.upgrade(made.settings())
    words.wrong.clear()
    done = quarantine.retry(made.settings(), made.name)
    assert (done.filled, len(made.contents()), lacking(made)) == (3, POINTS, set())
