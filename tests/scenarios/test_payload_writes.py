"""Payload keys set and deleted, and functions called, by revisions: what is done, undone, refused and recorded."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from qdrant_client import models
from tests.conftest_postgres import fresh_database
from tests.harness import CREATE, Deployment, audit, make_point, write

from qmigrate import fix as program
from qmigrate import op
from qmigrate.commands import fix, rehearse, status, upgrade
from qmigrate.commands import rollback as back
from qmigrate.engine.fixes import edit
from qmigrate.errors import LedgerError, PlanError, RefusedError, UsageError, VerificationError
from qmigrate.ledger import Lease

ODD = models.Filter(must=[models.FieldCondition(key="kind", match=models.MatchValue(value="odd"))])


@pytest.fixture
def made(deployment: Deployment, request):
    """Local mode with SQLite, a server with PostgreSQL: twenty points, ten of them odd, one with a null."""

    def prepared() -> Deployment:
        deployment.revise("0001", CREATE)
        upgrade.upgrade(deployment.settings())
        points = [make_point(number) for number in range(20)]
        for point in points:
            point.payload["kind"] = "odd" if point.id % 2 else "even"
        points[2].payload["text"] = None
        store = deployment.store()
        write(store, deployment.name, points)
        store.close()
        return deployment

    if "url" not in deployment.qdrant:
        yield prepared()
        return
    with fresh_database(request.getfixturevalue("postgres_url")) as url:
        deployment.ledger_url = url
        deployment.__post_init__()
        yield prepared()


def payloads(made: Deployment) -> dict:
    """Id -> payload of everything."""
    return {identifier: payload for identifier, (payload, _) in made.contents().items()}


SETS = {"state": "seen", "tags": {"a": [1, None]}}
#: Operation -> what becomes of a payload that it is about.
WRITES = [
    (lambda name: op.SetPayload(name, SETS, filter=ODD, max_share=0.6, reason="r"), "SET_PAYLOAD", lambda old: {**old, **SETS}),
    (lambda name: op.DeletePayload(name, ["text", "nowhere"], filter=ODD, max_share=0.6), "DELETE_PAYLOAD",
     lambda old: {key: value for key, value in old.items() if key != "text"}),
    # What it selects by is what it changes: a point that is done is not selected any more.
    (lambda name: op.SetPayload(name, {"kind": "other"}, filter=ODD, max_share=0.6), "SET_PAYLOAD", lambda old: {**old, "kind": "other"}),
]


@pytest.mark.parametrize(("make", "kind", "becomes"), WRITES)
def test_payload_is_written_recorded_and_undone(made, make, kind, becomes):
    """Exactly the points of the filter change, once; the record has what; the undo restores what was there."""
    settings, before, operation = made.settings(), payloads(made), make(made.name)
    (preview,) = fix.review(settings, operation).previews
    assert (preview.changes, preview.counts["selected"], payloads(made)) == (10, 10, before)
    (done,) = program.run(operation, settings=settings).done
    assert (done.changed, done.verified) == (10, 10)
    wanted = {one: becomes(old) if old["kind"] == "odd" else old for one, old in before.items()}
    assert payloads(made) == wanted
    assert program.run(operation, settings=settings).changed == 0
    (row,) = audit(made)
    assert (row.kind, row.count, row.facts["changed"], row.facts["filter"]) == (kind, 0, 10, operation.filter)
    (undone,) = program.undo(done.log, settings=settings).done
    # A key that held null is as good as one that isn't there.
    assert (undone.changed, {one: bare(old) for one, old in payloads(made).items()}) == (
        10 - (kind == "DELETE_PAYLOAD"), {one: bare(old) for one, old in before.items()}
    )


def bare(payload: dict) -> dict:
    """Without keys that hold null."""
    return {key: value for key, value in payload.items() if value is not None}


def test_every_point_and_the_cap(made):
    """Without a filter it is every point, which the cap refuses before the first write, unless it allows that."""
    settings, before = made.settings(), payloads(made)
    with pytest.raises(RefusedError, match="20 of 20 points .* more than the cap of 10%") as raised:
        program.run(op.SetPayload(made.name, {"state": 1}), settings=settings)
    assert "--max-share 1" in raised.value.hint
    assert payloads(made) == before
    # An upgrade has no such option: what to write into the revision is said instead, by the plan as well.
    made.revise("0002", 'def upgrade():\n    return [op.SetPayload("{name}", {{"state": 1}})]\n', down="0001")
    (planned,) = upgrade.plan(settings).refusals
    with pytest.raises(RefusedError, match="more than the cap of 10%") as raised:
        upgrade.upgrade(settings)
    for hint in (planned.hint, raised.value.hint):
        assert "op.SetPayload(…, max_share=1)" in hint, hint
        assert "--max-share" not in hint, hint
    assert payloads(made) == before
    program.run(op.SetPayload(made.name, {"state": 1}, max_share=1), settings=settings)
    assert all(payload["state"] == 1 for payload in payloads(made).values())


def test_what_changed_since_it_was_found_is_let_be(made, monkeypatch):
    """A point that leaves the filter, or gets another value, between finding and writing stays as it is."""
    original = edit._change

    def meanwhile(work, step, fixing, hand, entries):
        store = made.store() if "url" in made.qdrant else work.store
        store.overwrite_payload(made.name, 1, {"kind": "even"})
        store.overwrite_payload(made.name, 3, {"kind": "odd", "state": "newer"})
        store.delete(made.name, [5])
        if store is not work.store:
            store.close()
        return original(work, step, fixing, hand, entries)

    monkeypatch.setattr(edit, "_change", meanwhile)
    (done,) = program.run(op.SetPayload(made.name, {"state": "seen"}, filter=ODD, max_share=1), settings=made.settings()).done
    assert (done.changed, done.changed_meanwhile, done.gone) == (7, 2, 1)
    found = payloads(made)
    assert ("state" in found[1], found[3]["state"], 5 in found) == (False, "newer", False)


ADD = """
def upgrade():
    return [op.AddVector("{name}", "b", VectorParams(size=16, distance=Distance.COSINE), values=Embed("words", text="kind"))]
"""
WRITE = """
def upgrade():
    return [op.SetPayload("{name}", {{"state": "seen"}}, filter={{"must": [{{"key": "kind", "match": {{"value": "odd"}}}}]}}, max_share=0.6),
            op.DeletePayload("{name}", "n", max_share=1)]
"""


def test_in_a_revision(made):
    """Planned with exact counts behind the rebuild before it, which it is not joined with; a rollback lets points be."""
    made.revise("0002", ADD)
    made.revise("0003", WRITE)
    settings = made.settings()
    (item,) = upgrade.plan(settings).collections
    assert [step.kind for step in item.job.steps] == ["build", "golive", "edit", "edit"]
    assert [(found["changes"], found["points"]) for found in item.edits] == [(10, 20), (20, 20)]
    upgrade.upgrade(settings)
    assert {row.kind for row in audit(made)} == {"SET_PAYLOAD", "DELETE_PAYLOAD"}
    assert all("n" not in payload and ("state" in payload) == (payload["kind"] == "odd") for payload in payloads(made).values())
    back.rollback(settings, "-1")
    assert made.row().revision == "0002"
    assert all("n" not in payload for payload in payloads(made).values())
    # The generation before has the payloads of then: what was set since is written since, and carried.
    with pytest.raises(RefusedError):
        back.rollback(settings, "-1")
    back.rollback(settings, "-1", writes="carry")
    assert all("n" not in payload and ("state" in payload) == (payload["kind"] == "odd") for payload in payloads(made).values())


#: What can't be declared, and how it is refused.
REFUSED = [
    (lambda: op.SetPayload("docs", {}), "no payload key is named"),
    (lambda: op.SetPayload("docs", ["a"]), "must be an object"),
    (lambda: op.SetPayload("docs", {"a.b": 1}), "'a.b' is not a top-level payload key"),
    (lambda: op.SetPayload("docs", {"a": None}), "op.DeletePayload|no more than an absent key"),
    (lambda: op.SetPayload("docs", {"a": [{"b": 2**63}]}), "64-bit integer"),
    (lambda: op.SetPayload("docs", {"a": float("nan")}), "not JSON"),
    (lambda: op.SetPayload("docs", {"a": 1}, filter={}), "no condition"),
    (lambda: op.SetPayload("docs", {"a": 1}, max_share=2), "max_share"),
    (lambda: op.DeletePayload("docs", []), "no payload key is named"),
    (lambda: op.DeletePayload("docs", "a[]"), "not a top-level payload key"),
    (lambda: op.DeletePayload("docs", "a", filter="x"), "must be an object"),
    (lambda: op.Call("docs", "module:function"), "expected a function"),
    (lambda: op.Call("docs", lambda calling: None), "not a name that it can be recorded under"),
    (lambda: op.Call("docs", print, key=" "), "key must be a string"),
]


@pytest.mark.parametrize(("make", "words"), REFUSED)
def test_what_cannot_be_said(make, words):
    """Refused before anything is planned, naming the operation."""
    with pytest.raises(PlanError, match=words):
        make().check_words()


CALL = '''
from pathlib import Path

def refresh(calling):
    seen = Path({log!r})
    seen.write_text((seen.read_text() if seen.exists() else "") + f"{{calling.collection}} {{calling.key}}\\n")
    {body}
    calling.tick()
    points = [one.id for one in calling.client.scroll(calling.alias, limit=100)[0] if isinstance(one.id, int) and one.id < 5]
    calling.client.set_payload(calling.alias, {{"called": True}}, points=points)
    return {{"points": len(points)}}

def upgrade():
    return [op.Call("{name}", refresh, key="refresh-1")]
'''


def revise_call(made: Deployment, log, body: str = "pass", more: str = "", identifier: str = "0002") -> None:
    """A revision that calls a function, which writes down that it was called."""
    text = CALL.replace("{log!r}", repr(str(log))).replace("{body}", body) + more
    made.revise(identifier, text, down="0001")


def test_a_function_is_called_once_and_recorded(made, tmp_path):
    """It gets the name, an own alias, its key and a client; what it returns is in the record; no plan calls it."""
    log = tmp_path / "called"
    revise_call(made, log)
    (item,) = upgrade.plan(made.settings()).collections
    assert ([step.kind for step in item.job.steps], log.exists()) == (["call"], False)
    assert any("call refresh (key refresh-1)" in line for line in item.lines)
    assert ("downgrade()" in item.way_back, item.edits) == (True, ())
    rehearse.rehearse(made.settings(), 5)
    assert not log.exists()
    upgrade.upgrade(made.settings())
    assert upgrade.upgrade(made.settings()).outcomes == ()
    assert log.read_text() == f"{made.name} refresh-1\n"
    assert {one for one, payload in payloads(made).items() if payload.get("called")} == {1, 2, 3, 4}
    (row,) = audit(made)
    assert (row.kind, row.target, row.count, row.facts["key"], row.facts["returned"]) == ("CALL", "refresh", 0, "refresh-1", {"points": 4})
    assert status.history(made.settings()).rows[0].report["call"]["returned"] == {"points": 4}
    store = made.store()
    assert [alias for alias in store.aliases() if "__e" in alias and alias.startswith(made.name)] == []
    store.close()


def test_no_way_back_over_a_function_without_a_downgrade(made, tmp_path):
    """What it did is not known, so a rollback over it is refused until the revision has what undoes it."""
    revise_call(made, tmp_path / "called")
    upgrade.upgrade(made.settings())
    with pytest.raises(RefusedError, match="what refresh has done is not known to qmigrate"):
        back.rollback(made.settings(), "-1")
    assert made.row().revision == "0002"


@pytest.mark.parametrize("down", ["[]", 'op.DeletePayload("{name}", "called", max_share=1)'])
def test_a_downgrade_takes_a_function_back(made, tmp_path, down):
    """An empty one declares that there is nothing to undo; operations are done."""
    listed = down if down == "[]" else f"[{down}]"
    revise_call(made, tmp_path / "called", more=f"\ndef downgrade():\n    return {listed}\n")
    upgrade.upgrade(made.settings())
    back.rollback(made.settings(), "-1")
    assert made.row().revision == "0001"
    assert any("called" in payload for payload in payloads(made).values()) == (down == "[]")


FAILING = [
    ("raise ValueError('out of order')", UsageError, "refresh of Call.* raised ValueError: out of order"),
    ("return [1]", UsageError, "must return None or a plain JSON object"),
    ("return {{'a': object()}}", UsageError, "must return None or a plain JSON object"),
    ("calling.client.set_payload('nowhere', {{'a': 1}}, points=[1])", UsageError, r"(?s)raised .*nowhere"),
]


@pytest.mark.parametrize(("body", "error", "words"), FAILING)
def test_a_function_that_fails_is_called_again_or_aborted(made, tmp_path, body, error, words):
    """The run stays open and calls it again; an abort ends it, reports that its work stays, and records no revision."""
    log = tmp_path / "called"
    revise_call(made, log, body)
    for _ in range(2):
        with pytest.raises(error, match=words):
            upgrade.upgrade(made.settings())
    assert (len(log.read_text().splitlines()), made.row().state) == (2, "failed")
    plan = back.abort(made.settings()).plan
    assert any("what refresh has done so far stays" in line for line in plan.collections[0].lines)
    assert (made.row().revision, made.row().state, audit(made)) == ("0001", "pending", [])


def test_a_function_that_changes_what_the_collection_is_stops_the_run(made, tmp_path):
    """Settings have operations: a function that took a vector away is found out before anything is recorded."""
    body = "calling.client.delete_vector_name(calling.alias, 'a')"
    revise_call(made, tmp_path / "called", body)
    with pytest.raises(VerificationError, match="refresh has changed .* itself"):
        upgrade.upgrade(made.settings())
    back.abort(made.settings())
    assert made.row().revision == "0001"


@pytest.mark.parametrize("kind", ["payload", "call"])
def test_an_abort_right_before_the_record_leaves_no_trace_in_the_seal(made, tmp_path, monkeypatch, kind):
    """The collection is sealed before the ledger has the revision: an abort in between takes the seal back, too."""
    if kind == "call":
        revise_call(made, tmp_path / "called")
    else:
        made.revise("0002", 'def upgrade():\n    return [op.SetPayload("{name}", {{"state": 1}}, max_share=1)]\n', down="0001")
    original = Lease.close_step

    def broken(self, *args, **kwargs):
        monkeypatch.setattr(Lease, "close_step", original)
        raise LedgerError("the connection broke")

    monkeypatch.setattr(Lease, "close_step", broken)
    with pytest.raises(LedgerError):
        upgrade.upgrade(made.settings())
    back.abort(made.settings())
    assert (made.row().revision, made.row().state) == ("0001", "pending"), made.row().detail
    upgrade.upgrade(made.settings())
    assert (made.row().revision, made.row().state) == ("0002", "ready")


def test_a_function_is_for_revisions_alone(made):
    """A program's own call would be lost with its process, so it is refused."""
    with pytest.raises(PlanError, match="in a revision"):
        program.run(op.Call(made.name, print), settings=made.settings())


PAGE = (Path(__file__).parents[2] / "docs" / "fixes.md").read_text(encoding="utf-8")


def test_the_page_does_what_it_says(made):
    """The revisions of docs/fixes.md: every point has a state and its words counted, and the way back removes these."""
    keys, code = (
        re.search(rf"^## {title}.*?```python\n(.*?)```", PAGE, re.DOTALL | re.MULTILINE)[1]
        for title in ("Payload keys without SQL", "Your own code")
    )
    for identifier, block in (("0002", keys), ("0003", code)):
        made.revise(identifier, block.replace("{", "{{").replace("}", "}}").replace('"images"', f'"{made.name}"'))
    upgrade.upgrade(made.settings())
    found = payloads(made)
    assert all(one["state"] == "new" and one["words"] == len((one["text"] or "").split()) for one in found.values())
    assert next(row.facts["returned"] for row in audit(made) if row.kind == "CALL") == {"counted": 20}
    back.rollback(made.settings(), "-1")
    assert not any("words" in one for one in payloads(made).values())
