"""Each collection fails by itself: with --keep-going the others are done, and every failure is named at the end."""

from __future__ import annotations

import pytest
from tests.harness import Deployment, by_hand, make_point, write
from tests.scenarios.cli import call

from qmigrate.commands import cutover, status, upgrade
from qmigrate.commands import rollback as back
from qmigrate.engine import rebuild
from qmigrate.errors import CollectionsFailedError, LeaseHeldError, PlanError, QmigrateError, StoppedError
from qmigrate.ledger import Ledger

CREATE = """
def upgrade():
    return [
        op.CreateCollection(one, {{"a": VectorParams(size=8, distance=Distance.COSINE)}})
        for one in ("{name}_a", "{name}_b", "{name}_c")
    ]
"""
ADD = """
def upgrade():
    return [op.AddVector("{name}_*", "b", VectorParams(size=16, distance=Distance.COSINE), values=Embed("words", text="text"))]
"""
HOLD = """
def upgrade():
    return [op.RenameVector("{name}_*", "a", "z", cutover="hold")]
"""


@pytest.fixture
def three(deployment) -> Deployment:
    """Three collections at 0001; 0002 is pending, and of the first one a point can't be embedded."""
    deployment.revise("0001", CREATE)
    upgrade.upgrade(deployment.settings())
    store = deployment.store()
    for letter in "abc":
        write(store, f"{deployment.name}_{letter}", [make_point(number) for number in range(6)])
    spoil(store, deployment.name)
    store.close()
    deployment.revise("0002", ADD)
    return deployment


def spoil(store, name: str) -> None:
    """A point without the text that is embedded."""
    point = make_point(50)
    del point.payload["text"]
    write(store, f"{name}_a", [point])


def mend(made: Deployment) -> None:
    """Give it the text."""
    store = made.store()
    write(store, f"{made.name}_a", [make_point(50)])
    store.close()


def states(made: Deployment) -> dict:
    """Last letter of each collection -> (revision, state)."""
    return {row.name[-1]: (row.revision, row.state) for row in status.status(made.settings()).collections if made.name in row.name}


def fail_in(monkeypatch, made: Deployment, *letters: str, error: Exception | None = None) -> None:
    """Building the shadow of these collections fails."""
    original = rebuild.copy_ranges

    def copy(work, *args):
        if work.collection[-1] in letters:
            raise error or QmigrateError(f"no luck with {work.collection}")
        return original(work, *args)

    monkeypatch.setattr(rebuild, "copy_ranges", copy)


def test_without_it_the_first_failure_stops_everything(three):
    """As before: nothing is begun behind it."""
    with pytest.raises(QmigrateError) as failed:
        upgrade.upgrade(three.settings())
    assert not isinstance(failed.value, CollectionsFailedError)
    assert states(three) == {"a": ("0001", "failed"), "b": ("0001", "pending"), "c": ("0001", "pending")}


def test_the_others_are_done_and_the_failure_is_raised_at_the_end(three):
    """The error names the collection, has the exit code of its failure, and the result of the others."""
    with pytest.raises(CollectionsFailedError) as failed:
        upgrade.upgrade(three.settings(), keep_going=True)
    assert failed.value.exit_code == 2
    assert set(failed.value.failed) == {f"{three.name}_a"}
    assert f"{three.name}_a" in failed.value.message
    assert [one.collection[-1] for one in failed.value.result.outcomes] == ["b", "c"]
    assert states(three) == {"a": ("0001", "failed"), "b": ("0002", "ready"), "c": ("0002", "ready")}
    mend(three)
    assert upgrade.upgrade(three.settings()).exit_code == 0
    assert states(three)["a"] == ("0002", "ready")


def test_a_failed_run_is_tried_again_and_stops_no_other(three, monkeypatch):
    """Its resume obeys the choice as well, and an upgrade of another collection doesn't touch it."""
    mend(three)
    fail_in(monkeypatch, three, "a")
    with pytest.raises(QmigrateError, match="no luck"):
        upgrade.upgrade(three.settings(), only=[f"{three.name}_a"])
    assert states(three)["a"] == ("0001", "failed")
    assert upgrade.upgrade(three.settings(), only=[f"{three.name}_b"]).exit_code == 0
    with pytest.raises(QmigrateError, match="no luck"):
        upgrade.upgrade(three.settings())
    assert states(three) == {"a": ("0001", "failed"), "b": ("0002", "ready"), "c": ("0001", "pending")}
    with pytest.raises(CollectionsFailedError) as failed:
        upgrade.upgrade(three.settings(), keep_going=True)
    assert failed.value.exit_code == 1
    assert [one.collection[-1] for one in failed.value.result.outcomes] == ["c"]
    monkeypatch.undo()
    assert [one.collection[-1] for one in upgrade.upgrade(three.settings(), keep_going=True).resumed] == ["a"]
    assert set(states(three).values()) == {("0002", "ready")}


def test_several_failures_are_all_named(three, monkeypatch):
    """Also an unforeseen one; the exit code is that of the first."""
    fail_in(monkeypatch, three, "c", error=ZeroDivisionError("odd"))
    said = call(three.root, "upgrade", "--keep-going")
    assert said.code == 2
    assert f"{three.name}_b" in said.out
    assert "2 collections failed" in said.err
    for words in (f"{three.name}_a: ", f"{three.name}_c: unexpected ZeroDivisionError: odd"):
        assert words in said.err
    assert "Traceback" not in said.err
    assert call(three.root, "upgrade", "--keep-going", "--json").json["error"]["facts"]["failed"][0]["collection"][-1] in "ac"
    mend(three)
    monkeypatch.undo()
    plain = call(three.root, "upgrade", "--keep-going", "--json")
    assert (plain.code, plain.json["ok"]) == (0, True)


def test_json_has_failures_and_results_in_one_object(three):
    """For programs: who failed and why, and what became of the others."""
    said = call(three.root, "upgrade", "--keep-going", "--json")
    assert said.code == 2
    facts = said.json["error"]["facts"]
    assert [(one["collection"], one["exit_code"]) for one in facts["failed"]] == [(f"{three.name}_a", 2)]
    assert [one["collection"][-1] for one in facts["result"]["outcomes"]] == ["b", "c"]


def test_what_cannot_be_planned_for_one_is_planned_for_the_others(three):
    """A vector that a user made by hand in one collection: the plan of the others continues."""
    mend(three)
    three.revise("0003", 'def upgrade():\n    return [op.DropVector("{name}_*", "b", cutover="immediate")]\n')
    upgrade.upgrade(three.settings(), "0002", only=[f"{three.name}_b"])
    three.revise("0004", 'def upgrade():\n    return [op.SetAlias("{name}_c", "{name}_c")]\n')
    with pytest.raises(PlanError):
        upgrade.upgrade(three.settings())
    with pytest.raises(CollectionsFailedError) as failed:
        upgrade.upgrade(three.settings(), keep_going=True)
    assert {name[-1] for name in failed.value.failed} == {"c"}
    assert isinstance(failed.value.failed[f"{three.name}_c"], PlanError)
    assert {key: value[0] for key, value in states(three).items()} == {"a": "0003", "b": "0003", "c": "0001"}


def test_a_collection_that_somebody_else_works_on_is_one_failure(three):
    """Its lease is held: exit code 6, the others are done."""
    mend(three)
    ledger = Ledger.open(three.ledger_url)
    with ledger.hold(f"{three.name}_b", timeout=5, ttl=30), pytest.raises(CollectionsFailedError) as failed:
        upgrade.upgrade(three.settings(), keep_going=True, lock_timeout=0.1)
    ledger.close()
    assert isinstance(failed.value.failed[f"{three.name}_b"], LeaseHeldError)
    assert failed.value.exit_code == 6
    assert {key: value[0] for key, value in states(three).items()} == {"a": "0002", "b": "0001", "c": "0002"}


def test_a_stop_is_no_failure_of_a_collection(three, monkeypatch):
    """Ctrl-C ends all of it at the checkpoint."""
    mend(three)
    fail_in(monkeypatch, three, "a", error=StoppedError("stopped"))
    with pytest.raises(StoppedError):
        upgrade.upgrade(three.settings(), keep_going=True)
    assert states(three)["b"] == ("0001", "pending")
    monkeypatch.undo()
    back.abort(three.settings())


def test_held_and_failed_are_both_told(three, monkeypatch):
    """A failure wins the exit code; a cut-over keeps going as well."""
    mend(three)
    upgrade.upgrade(three.settings())
    three.revise("0003", HOLD)
    fail_in(monkeypatch, three, "b")
    with pytest.raises(CollectionsFailedError) as failed:
        upgrade.upgrade(three.settings(), keep_going=True)
    assert [one.collection[-1] for one in failed.value.result.held] == ["a", "c"]
    monkeypatch.undo()
    store = three.store()
    store.drop_collection(by_hand(f"{three.name}_a__g0003"))
    store.close()
    with pytest.raises(CollectionsFailedError) as failed:
        cutover.cutover(three.settings(), [f"{three.name}_*"], keep_going=True)
    assert failed.value.exit_code == 7
    assert {key: value for key, value in states(three).items() if key != "b"} == {"a": ("0002", "held"), "c": ("0003", "ready")}
