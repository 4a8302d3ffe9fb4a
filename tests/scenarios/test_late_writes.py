"""Writes that the old generation takes between the proof and the fence, made on purpose, one kind at a time."""

from __future__ import annotations

import json
import sqlite3
from dataclasses import replace

import pytest
from click.testing import CliRunner
from tests.conftest import clean
from tests.harness import ADD, CREATE, Deployment, counts, make_point, write

from qmigrate.cli.app import root
from qmigrate.commands import history, upgrade
from qmigrate.commands import rollback as back
from qmigrate.commands.session import opened_ledger
from qmigrate.engine.golive import golive
from qmigrate.errors import LeaseHeldError, QmigrateError, RefusedError, UnknownRevisionError
from qmigrate.ledger import Doubt
from qmigrate.model.report import KEPT, MAY_OVERWRITE, MAY_UNDO
from qmigrate.store.records import DIGEST_SIZE
from qmigrate.store.server import capabilities
from qmigrate.store.server.server import ServerStore

POINTS = 30


@pytest.fixture(params=["operation ids", "flushed only"])
def made(request, qdrant_server, tmp_path, monkeypatch):
    """A loaded collection with a pending rebuild, on a server that reports operation ids and on one that does not."""
    if request.param == "flushed only":
        original = capabilities.read

        def older(nodes):
            return replace(original(nodes), version=(1, 16, 3), barrier=False, vector_names=False)

        monkeypatch.setattr(capabilities, "read", older)
    deployment = Deployment(
        tmp_path / "project",
        {"url": qdrant_server.url, "grpc_port": qdrant_server.grpc_port, "timeout": 2},
        f"sqlite:///{tmp_path}/ledger.db",
    )
    deployment.revise("0001", CREATE)
    upgrade.upgrade(deployment.settings())
    deployment.load(POINTS, uuids=False)
    deployment.revise("0002", ADD)
    yield deployment
    clean(deployment)


def before_the_swap(monkeypatch, deployment, action):
    """Do something to the old generation after the proof and right before the name moves."""
    original = golive.swap

    def late(work, target, names):
        if target.startswith(deployment.name):
            action(work.store)
        original(work, target, names)

    monkeypatch.setattr(golive, "swap", late)


def after_the_swap(monkeypatch, deployment, action):
    """Do something to the new generation right after the name has moved, before the sweep."""
    original = golive.sweep

    def early(work, *args, **kwargs):
        action(work.store)
        return original(work, *args, **kwargs)

    monkeypatch.setattr(golive, "sweep", early)


def sweep_of(result):
    """The sweep's report of the last job."""
    found = [facts["sweep"] for facts in result.outcomes[-1].report.values() if isinstance(facts.get("sweep"), dict)]
    return found[-1]


@pytest.mark.server
def test_late_writes_are_carried_into_the_new_generation(made, monkeypatch):
    """A new point, a changed one and a deleted one arrive after the proof: all three are there after the sweep."""

    def late(store):
        old = f"{made.name}__g0001"
        write(store, old, [make_point(100), make_point(3, text="late")])
        store.delete(old, [9])

    before_the_swap(monkeypatch, made, late)
    result = upgrade.upgrade(made.settings())
    found = made.contents()
    assert sweep_of(result)["carried"] == 3
    assert found[4][0]["text"] == "late"
    assert len(found[4][1]["b"]) == 16
    assert 101 in found
    assert 9 not in found
    assert len(found) == POINTS


@pytest.mark.server
def test_a_newer_write_of_the_new_generation_is_kept_and_listed(made, monkeypatch):
    """Both sides took a write of one id: the new side's value stands, and the id is in the report."""
    before_the_swap(monkeypatch, made, lambda store: write(store, f"{made.name}__g0001", [make_point(3, text="old side")]))
    after_the_swap(monkeypatch, made, lambda store: write(store, made.name, [make_point(3, text="new side")]))
    report = sweep_of(upgrade.upgrade(made.settings()))
    assert made.contents()[4][0]["text"] == "new side"
    assert 4 in {identifier for identifier, _ in report["listed"]["named"]}


@pytest.mark.server
def test_a_carry_beside_foreign_writes_is_listed(made, monkeypatch):
    """The new side took a write of another id since the proof: the carry stands, and says that it is not proven."""
    before_the_swap(monkeypatch, made, lambda store: write(store, f"{made.name}__g0001", [make_point(3, text="late")]))
    after_the_swap(monkeypatch, made, lambda store: write(store, made.name, [make_point(7, text="other")]))
    report = sweep_of(upgrade.upgrade(made.settings()))
    found = made.contents()
    assert (found[4][0]["text"], found[8][0]["text"]) == ("late", "other")
    assert 4 in {identifier for identifier, _ in report["listed"]["named"]}


@pytest.mark.server
def test_the_old_generation_takes_no_write_after_the_swap(made):
    """The fence stands until a rollback lifts it, and the live generation is never left fenced."""
    upgrade.upgrade(made.settings())
    store = made.store()
    try:
        old = f"{made.name}__g0001"
        with pytest.raises(QmigrateError, match="(?i)rate limit|429"):
            write(store, old, [make_point(200)])
        for number in range(3):
            write(store, made.name, [make_point(200 + number)])
    finally:
        store.close()
    back.rollback(made.settings(), "0001", writes="carry")
    made.load(3, start=300, uuids=False)
    upgrade.upgrade(made.settings())
    made.load(3, start=400, uuids=False)
    assert len(made.contents()) == POINTS + 9


@pytest.mark.server
def test_late_writes_of_a_rollback_are_carried_back(made, monkeypatch):
    """The same sweep with the sides exchanged: what the left generation took after the proof is in its parent."""
    upgrade.upgrade(made.settings())

    def late(store):
        write(store, f"{made.name}__g0002", [make_point(3, text="late"), make_point(100)])
        store.delete(f"{made.name}__g0002", [9])

    before_the_swap(monkeypatch, made, late)
    result = back.rollback(made.settings(), "0001")
    found = made.contents()
    assert sweep_of(result)["carried"] == 3
    assert found[4][0]["text"] == "late"
    assert set(found[4][1]) == {"a"}
    assert 101 in found
    assert 9 not in found


@pytest.mark.server
def test_writes_before_a_rollback_are_seen_without_operation_ids_too(made):
    """One write since the upgrade is enough to ask for a decision."""
    upgrade.upgrade(made.settings())
    made.load(1, start=50, uuids=False)
    with pytest.raises(RefusedError) as refused:
        back.rollback(made.settings(), "0001")
    assert refused.value.facts["writes_since"]["added"] == 1


@pytest.mark.server
def test_writes_between_the_swap_and_the_end_are_counted_by_a_rollback(made, monkeypatch):
    """The new generation took them after the proof: they are writes since, and never lost silently."""
    after_the_swap(monkeypatch, made, lambda store: write(store, made.name, [make_point(500), make_point(3, text="new")]))
    upgrade.upgrade(made.settings())
    with pytest.raises(RefusedError) as refused:
        back.rollback(made.settings(), "0001")
    assert counts(refused.value.facts["writes_since"]) == (1, 1, 0)


@pytest.mark.server
def test_a_late_point_that_cannot_be_made_is_listed_and_stops_nobody(made, monkeypatch):
    """It has no text to embed: the run ends, and its id is in the report."""

    def late(store):
        point = make_point(100)
        del point.payload["text"]
        write(store, f"{made.name}__g0001", [point, make_point(101)])

    before_the_swap(monkeypatch, made, late)
    report = sweep_of(upgrade.upgrade(made.settings()))
    assert report["carried"] == 1
    assert "has no" in dict(report["listed"]["named"])[101] or "missing" in dict(report["listed"]["named"])[101]
    assert made.row().state == "ready"


@pytest.mark.server
def test_carried_writes_are_not_writes_since(made, monkeypatch):
    """What the sweep carried stands in the base: going back right afterwards has nothing to ask."""
    before_the_swap(monkeypatch, made, lambda store: write(store, f"{made.name}__g0001", [make_point(3, text="late")]))
    upgrade.upgrade(made.settings())
    result = back.rollback(made.settings(), "0001")
    assert made.contents()[4][0]["text"] == "late"
    assert made.row().revision == "0001"
    assert counts(result.outcomes[-1].report["0.preflight"]["writes_since"]) == (0, 0, 0)


@pytest.mark.server
def test_a_holder_of_the_past_cannot_swap_any_more(made, monkeypatch):
    """A holder that stood still before its swap finds its lease taken, and moves no name."""
    create = ServerStore.create_alias
    taken = []

    def overtaken(self, alias, target):
        create(self, alias, target)
        if alias.endswith("__0") and not taken:
            # In between another process takes over: the epoch in the ledger grows.
            taken.append(alias)
            connection = sqlite3.connect(made.ledger_url.removeprefix("sqlite:///"), timeout=10)
            connection.execute("UPDATE qdrant_migration_leases SET epoch = epoch + 1 WHERE name = ?", (made.name,))
            connection.commit()
            connection.close()

    monkeypatch.setattr(ServerStore, "create_alias", overtaken)
    with pytest.raises(LeaseHeldError):
        upgrade.upgrade(made.settings())
    store = made.store()
    assert store.aliases()[made.name] == f"{made.name}__g0001"
    store.close()


def rows_of(made, revision="0002"):
    """(kind, id, written to the old generation, in the new one now) of `history --carried`."""
    found = history.carried(made.settings(), revision, made.name)
    return [(row.kind, row.id, row.old["now"], row.new["now"]) for row in found.rows], found


@pytest.mark.server
def test_a_late_insert_that_undoes_a_delete_is_named(made, monkeypatch):
    """Absent at the proof, inserted late through the old generation, deleted through the name: back, and listed first."""

    def late(store):
        write(store, f"{made.name}__g0001", [make_point(number, text=f"late {number}") for number in range(100, 140)])
        write(store, f"{made.name}__g0001", [make_point(3, text="late")])

    before_the_swap(monkeypatch, made, late)
    after_the_swap(monkeypatch, made, lambda store: store.delete(made.name, [120, 131]))
    report = sweep_of(upgrade.upgrade(made.settings()))
    assert {120, 131} <= made.contents().keys()
    assert (report["may_undo"], report["listed"]["count"]) == (40, 41)
    assert {reason for _, reason in report["listed"]["named"]} == {MAY_UNDO}
    rows, found = rows_of(made)
    assert found.counts == {"may_undo_delete": 40, "may_overwrite": 1}
    assert {(kind, identifier) for kind, identifier, *_ in rows[:40]} == {("may_undo_delete", n) for n in range(101, 141)}
    assert all(f"late {identifier - 1}" in old and f"late {identifier - 1}" in new for _, identifier, old, new in rows[:40])
    assert all(row.old["before"] is None and row.new["met"] is None for row in found.rows[:40])


@pytest.mark.server
def test_what_the_new_generation_kept_is_listed_with_both_values(made, monkeypatch):
    """Both sides took a write: the kept value and the one that wasn't carried, with what it met."""
    before_the_swap(monkeypatch, made, lambda store: write(store, f"{made.name}__g0001", [make_point(3, text="old side")]))
    after_the_swap(monkeypatch, made, lambda store: write(store, made.name, [make_point(3, text="new side")]))
    upgrade.upgrade(made.settings())
    (row,), found = rows_of(made)
    assert row[:2] == ("kept", 4)
    assert ("old side" in row[2], "new side" in row[3]) == (True, True)
    assert found.rows[0].new["met"] not in (None, found.rows[0].new["before"])


S, T, MET, NONE = (bytes([number]) * DIGEST_SIZE for number in (1, 2, 3, 0))
#: (state, what is doubtful, kind): every row that the journal may have of a late write.
JOURNAL = (
    ("running", Doubt(MAY_UNDO, NONE), "may_undo_delete"),
    ("done", Doubt(MAY_UNDO, NONE), "may_undo_delete"),
    ("done", Doubt(MAY_OVERWRITE, MET), "may_overwrite"),
    ("listed", Doubt(KEPT, MET), "kept"),
    ("listed", Doubt("it has no text", None), "not_made"),
    ("listed", None, "unknown"),
    ("done", None, "unknown"),
    ("already there", None, "already_there"),
    ("done", Doubt(None, MET), "carried"),
)


def test_every_kind_of_late_write_is_listed_the_doubtful_first(tmp_path):
    """All of them, with both digests and what both generations hold today; as text, as JSON, and refused with the audit."""
    made = Deployment(tmp_path / "project", {"path": str(tmp_path / "q")}, f"sqlite:///{tmp_path}/ledger.db")
    made.revise("0001", CREATE)
    upgrade.upgrade(made.settings())
    made.load(POINTS, uuids=False)
    made.revise("0002", ADD)
    upgrade.upgrade(made.settings())
    with opened_ledger(made.settings()) as ledger, ledger.hold(made.name, timeout=5) as lease:
        run = ledger.history(made.name)[0].run
        for number, (state, doubt, _) in reversed(list(enumerate(JOURNAL))):
            lease.carry(run, 1, number + 1, S + T, MET + T, state, doubt)
        lease.carry(run, 1, 1000, NONE + NONE, NONE + NONE, "done", Doubt(MAY_UNDO, NONE))
    rows, found = rows_of(made)
    assert [row[:2] for row in rows] == [
        ("may_undo_delete", 1), ("may_undo_delete", 2), ("may_undo_delete", 1000),
        *((kind, number + 1) for number, (_, _, kind) in enumerate(JOURNAL) if number > 1),
    ]
    assert all("text" in old and "text" in new for _, identifier, old, new in rows if identifier < 1000)
    assert rows[2][2:] == (None, None)
    assert (found.rows[0].old["written"], found.rows[3].new["met"]) == (MET.hex(), MET.hex())
    assert found.rows[5].reason == "it has no text"
    assert history.carried(made.settings(), "0001").rows == ()
    with pytest.raises(UnknownRevisionError, match="there is no revision"):
        history.carried(made.settings(), "0009")
    runner = CliRunner()
    arguments = ["--config", str(made.config), "history", "--carried", "0002"]
    text = runner.invoke(root, arguments)
    assert text.exit_code == 0, text.output
    assert "10 late writes around 0002" in text.stdout
    assert text.stdout.index("may undo delete") < text.stdout.index("may overwrite")
    told = json.loads(runner.invoke(root, [*arguments, "--json"]).stdout)["data"]
    assert [row["id"] for row in told["rows"]][:3] == [1, 2, 1000]
    assert runner.invoke(root, [*arguments, "--deletions"]).exit_code == 2
