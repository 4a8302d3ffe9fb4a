"""Names that nothing has any more, since a revision dropped them or their loss was recorded: nothing waits for them."""

from __future__ import annotations

import pytest
from tests.harness import CREATE, Deployment, by_hand
from tests.scenarios.cli import call, left

import qmigrate
from qmigrate.commands import gate
from qmigrate.errors import RevisionError
from qmigrate.model.schema import CollectionSchema

TWO = """
def upgrade():
    made = {{"a": VectorParams(size=8, distance=Distance.COSINE)}}
    return [op.CreateCollection("{name}_a", made), op.CreateCollection("{name}_b", made)]
"""
DROP = """
def upgrade():
    return [op.DropCollection("{name}_b")]
"""
ALL = """
def upgrade():
    return [op.CreatePayloadIndex("{name}_*", "kind", PayloadSchemaType.KEYWORD)]
"""
AGAIN = """
def upgrade():
    return [op.CreateCollection("{name}_b", {{"z": VectorParams(size=4, distance=Distance.DOT)}})]
"""
ADD = """
def upgrade():
    return [op.AddVector("{name}", "b", VectorParams(size=16, distance=Distance.COSINE), values=Embed("words", text="text"))]
"""


def row(made: Deployment, name: str) -> dict:
    """One collection in `status`."""
    found = call(made.root, "status", "--json").json["data"]["collections"]
    return next(one for one in found if one["name"] == name)


def settled(made: Deployment, revision: str) -> None:
    """Nothing is pending anywhere: upgrade, check, status and the gate agree."""
    said = call(made.root, "upgrade")
    assert (said.code, said.out.startswith("Nothing to do")) == (0, True), said.text
    assert call(made.root, "check").code == 0, call(made.root, "check").text
    assert call(made.root, "status", "--exit-code").code == 0
    assert gate.gate_state(made.settings(), revision).is_open


def test_nothing_is_pending_for_what_a_revision_has_dropped(deployment):
    """A later glob that would have met it is about the others alone; what recreates it is about it."""
    made = deployment
    made.revise("0001", TWO)
    made.revise("0002", DROP)
    made.revise("0003", ALL)
    before = call(made.root, "plan", "--json").json["data"]["collections"]
    assert call(made.root, "upgrade").code == 0, before
    settled(made, "0003")
    made.revise("0004", ALL.replace('"kind"', '"n"').replace("KEYWORD", "INTEGER"))
    assert gate.gate_state(made.settings(), "0004").pending == {f"{made.name}_a": ("0004",)}
    assert call(made.root, "upgrade").code == 0
    settled(made, "0004")
    made.revise("0005", AGAIN)
    assert gate.gate_state(made.settings(), "0005").pending == {f"{made.name}_b": ("0005",)}
    assert call(made.root, "check").code == 3
    assert call(made.root, "upgrade").code == 0
    settled(made, "0005")


def test_what_a_pending_revision_drops_is_not_pending_behind_it(deployment):
    """Both are pending at once: the glob behind the drop is not about it."""
    made = deployment
    made.revise("0001", TWO)
    assert call(made.root, "upgrade").code == 0
    made.revise("0002", DROP)
    made.revise("0003", ALL)
    assert row(made, f"{made.name}_b")["pending"] == ["0002"]
    assert gate.gate_state(made.settings(), "0003").pending == {f"{made.name}_a": ("0003",), f"{made.name}_b": ("0002",)}
    assert call(made.root, "upgrade").code == 0
    settled(made, "0003")


@pytest.fixture
def lost(deployment) -> Deployment:
    """At 0001 with points; another client has deleted it, and that is recorded."""
    made = deployment
    made.revise("0001", CREATE)
    assert call(made.root, "upgrade").code == 0
    made.load(5)
    store = made.store()
    store.drop_alias(made.name)
    store.drop_collection(by_hand(f"{made.name}__g0001"))
    store.close()
    assert call(made.root, "upgrade").code == 7
    assert call(made.root, "repair", "--vanished", f"{made.name}__g0001").code == 0
    return made


def test_a_recorded_loss_is_neither_ready_nor_pending_nor_done_again_and_again(lost):
    """Status reports that nothing has the name, check how it comes back; a revision behind it is not about it."""
    for revision in ("0001", "0002"):
        settled(lost, revision)
        said = call(lost.root, "check")
        assert "the loss of what served it is recorded" in said.out
        assert f"qmigrate rollback base --only {lost.name}" in said.out
        assert (row(lost, lost.name)["state"], row(lost, lost.name)["pending"]) == ("gone", [])
        if revision == "0001":
            lost.revise("0002", ADD)


def test_what_is_lost_is_made_again_the_way_that_check_names(lost):
    """A rollback takes the record back and leaves no run open; then it is created as a new one."""
    lost.revise("0002", ADD)
    assert call(lost.root, "rollback", "0001").code == 0
    said = call(lost.root, "rollback", "base", "--only", lost.name)
    assert said.code == 0, said.text
    assert f"{lost.name}__g0001" not in said.out
    assert left(lost).open_runs == ()
    said = call(lost.root, "upgrade")
    assert said.code == 0, said.text
    assert row(lost, lost.name)["state"] == "ready"
    assert row(lost, lost.name)["generation"] == "g0002"
    settled(lost, "0002")
    assert call(lost.root, "rollback", "base").code == 0


def test_what_another_client_has_made_again_is_not_nothing_to_do(lost):
    """A revision about it is refused until it is taken over; then it is applied to what is there."""
    store = lost.store()
    made = CollectionSchema(vectors={"a": {"size": 8, "distance": "Cosine"}})
    store.create_collection(lost.name, made, seal=None)
    store.close()
    lost.load(4)
    lost.revise("0002", ADD)
    said = call(lost.root, "upgrade")
    assert (said.code, f"qmigrate adopt {lost.name}" in said.err) == (10, True), said.text
    assert call(lost.root, "adopt", lost.name).code == 0
    if "path" in lost.qdrant:
        # No alias takes the name of a collection there.
        assert row(lost, lost.name)["pending"] == ["0002"]
        return
    said = call(lost.root, "upgrade")
    assert said.code == 0, said.text
    assert len(lost.contents()) == 4
    settled(lost, "0002")


def test_what_is_lost_is_restored(lost, tmp_path):
    """An earlier snapshot brings it back, as check announces."""
    archive = tmp_path / "other"
    other = Deployment(archive / "project", {"path": str(archive / "qdrant")}, f"sqlite:///{archive}/ledger.db")
    other.name = lost.name
    other.revise("0001", CREATE)
    assert call(other.root, "upgrade").code == 0
    other.load(7)
    assert call(other.root, "snapshot", "create", lost.name, "--to", str(archive / "made")).code == 0
    (file,) = (archive / "made").iterdir()
    said = call(lost.root, "snapshot", "restore", lost.name, str(file), "--yes")
    assert said.code == 0, said.text
    assert len(lost.contents()) == 7
    assert row(lost, lost.name)["state"] == "ready"
    settled(lost, "0001")


def test_ensure_says_what_has_happened_to_what_is_lost(lost):
    """Not that a revision dropped it, nor that the client looks elsewhere."""
    from qdrant_client import QdrantClient

    where = lost.qdrant if "path" in lost.qdrant else {"url": lost.qdrant["url"], "grpc_port": lost.qdrant["grpc_port"]}
    client = QdrantClient(**where, check_compatibility=False)
    try:
        with pytest.raises(RevisionError, match="since its loss was recorded") as caught:
            qmigrate.ensure(client, lost.name, settings=lost.settings())
    finally:
        client.close()
    assert f"qmigrate rollback base --only {lost.name}" in str(caught.value.hint)


@pytest.mark.parametrize("how", ["reset", "restore"])
def test_what_is_made_again_by_another_client_is_neither_reset_nor_restored_over(deployment, how):
    """It is not under management, whatever is kept from earlier: refused before anything is built, and nothing is open."""
    made = deployment
    made.revise("0001", CREATE)
    assert call(made.root, "upgrade").code == 0
    made.load(5)
    assert call(made.root, "snapshot", "create", made.name, "--archive").code == 0
    made.revise("0002", DROP.replace("_b", ""))
    assert call(made.root, "upgrade").code == 0
    store = made.store()
    schema = CollectionSchema(vectors={"a": {"size": 8, "distance": "Cosine"}})
    store.create_collection(made.name, schema, seal=None)
    store.close()
    made.load(3, start=50)
    before, there = made.contents(), left(made)
    verbs = {
        "reset": ("fix", "reset", made.name, "--reason", "r", "--yes", "--expect", "3", "--confirm", "DELETE ALL VECTORS"),
        "restore": ("snapshot", "restore", made.name, "--latest", "--yes"),
    }
    for more in ((), ("--dry-run",)):
        said = call(made.root, *verbs[how], *more)
        assert (said.code, "not under management" in said.err) == (10, True), said.text
    assert (made.contents(), left(made)) == (before, there)
    assert call(made.root, "abort").out.startswith("Nothing to abort")
    made.revise("0003", CREATE)
    said = call(made.root, "snapshot", "restore", made.name, "--latest", "--yes", "--into", f"{made.name}_c")
    assert said.code == 0, said.text
    assert len(made.contents(f"{made.name}_c")) == 5
