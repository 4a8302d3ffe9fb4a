"""What the ledger has of earlier times: moments of a history, and ids that must never come back."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import insert, text

from qmigrate.ledger import Ledger, Quarantined, View, tables
from qmigrate.model.plan import Closing, Job
from qmigrate.model.schema import CollectionSchema

A, B, C = (CollectionSchema(config={"metadata": {"v": one}}) for one in "abc")


@pytest.fixture
def ledger(ledger_url):
    """A fresh ledger on each database."""
    opened = Ledger.open(ledger_url)
    opened.prepare()
    yield opened
    opened.close()


def close(ledger, physical, closings, strategy="copy"):
    """One run that records these (revision, direction, declared, prior)."""
    made = [Closing(0, revision, direction, f"sum-{revision}", *schemas) for revision, direction, *schemas in closings]
    with ledger.hold("docs", timeout=5) as lease:
        run = lease.open_run("upgrade", Job("docs", "b", (), tuple(made)), {}, actor="me", tool="t", server="s")
        lease.close_step(
            run,
            0,
            closings=made,
            view=View("docs", made[-1].revision, physical, made[-1].declared),
            generations=[],
            strategy=strategy,
            physical=physical,
            changes=[],
            report={},
            phase="close",
            last=True,
        )


def test_moments_tell_what_was_applied_when(ledger):
    """After every entry: the generation, the revisions with their schemas, the recorded schema; a restore adds none."""
    close(ledger, "g1", [("0001", "upgrade", A, None)], "create")
    close(ledger, "g2", [("0002", "upgrade", B, A)])
    close(ledger, "g3", [("0002", "rollback", A, B), ("0001", "restore", A, A)], "restore")
    close(ledger, "g3", [("0003", "upgrade", C, A)], "in_place")
    found = ledger.moments("docs")
    assert [(one.physical, one.direction, [entry[0] for entry in one.applied], one.declared) for one in found] == [
        ("g1", "upgrade", ["0001"], A),
        ("g2", "upgrade", ["0001", "0002"], B),
        ("g3", "rollback", ["0001"], A),
        ("g3", "restore", ["0001"], A),
        ("g3", "upgrade", ["0001", "0003"], C),
    ]
    assert found[1].applied == (("0001", "sum-0001", A), ("0002", "sum-0002", B))
    assert [one.created_at for one in found] == sorted(one.created_at for one in found)
    assert [entry.revision for entry in ledger.applied("docs")] == ["0001", "0003"]
    assert ledger.applied_checksums() == {"0001": "sum-0001", "0003": "sum-0003"}
    assert ledger.moments("other") == ()


def test_erased_ids_are_found_among_others(ledger):
    """Integers, large ones and UUIDs, of this collection only."""
    assert (ledger.erased("docs", [1]), ledger.erasures("docs")) == (set(), 0)
    uuid = "00000000-0000-0000-0000-000000000007"
    with ledger.database.writing() as connection:
        for collection, identifier in (("docs", 1), ("docs", 2**64 - 1), ("docs", uuid), ("other", 2)):
            values = {"collection": collection, "point_id": json.dumps(identifier), "reason": "r", "actor": "a"}
            connection.execute(insert(tables.erasures).values(**values, created_at=ledger.database.now()))
    assert ledger.erased("docs", [1, 2, 2**64 - 1, uuid, "1"]) == {1, 2**64 - 1, uuid}
    assert ledger.erased("docs", []) == set()
    assert (ledger.erasures("docs"), ledger.erasures("other")) == (3, 1)


def test_erasures_are_recorded_by_ids_of_their_time(ledger):
    """Before the first point goes, repeated without harm; later copies and other id spaces are recognised once it is over."""
    many = {number: {0} for number in range(1, 1201)} | {"00000000-0000-0000-0000-000000000007": {0}, 7: {0, 3}}
    with ledger.hold("docs", timeout=5) as lease:
        run = lease.open_run("fix", Job("docs", "b", ()), {}, actor="me", tool="t", server="s")
        for _ in range(2):
            lease.intend_erasures(run, many, "asked")
        now = datetime.now(UTC)
        assert (ledger.erasures("docs"), ledger.erasures("other")) == (1201, 0)
        assert ledger.erased("docs", [7, 5000], made=now + timedelta(days=1)) == {7}
        assert (ledger.erased("docs", [7, 8], space=3), ledger.erased("docs", [7, 8], space=0)) == ({7}, {7, 8})
        lease.settle_erasures(run)
        assert ledger.erased("docs", [7, 8], made=now) == {7, 8}
        assert ledger.erased("docs", [7, 8], made=now + timedelta(days=1)) == set()
        lease.intend_erasures(run, {8: {3}}, "asked again")
        assert ledger.erased("docs", [7, 8], made=now + timedelta(days=1), space=0) == {8}


def test_points_are_taken_out_of_what_the_ledger_keeps(ledger):
    """Quarantine, samples of fixes in journal and history, pages where they stand; others stay as they are."""
    with ledger.hold("docs", timeout=5) as lease:
        run = lease.open_run("fix", Job("docs", "b", ()), {}, actor="me", tool="t", server="s")
        failed = [Quarantined(identifier, "b", "kept", "embed", "secret", "secret", None) for identifier in (1, 2)]
        lease.quarantine("docs__g0001", run, failed)
        found = {"changes": 2, "sample": [{"id": 1, "before": {"p": "secret"}}, {"id": 2, "before": {}}]}
        lease.journal(run, 0, "select", "done", found)
        closing = Closing(0, "fix", "fix", "", A, A)
        lease.close_step(run, 0, closings=[closing], view=None, generations=[], strategy="edit", physical="docs__g0001",
                         changes=[], report={"select": found, "change": {}}, phase="close", last=True)  # fmt: skip
        for number, body in enumerate((b"secret one", b"two")):
            lease.stage_base("edit:1:0", number, [body])
        lease.commit_base("edit:1:0")
        gone = lease.forget_quarantined("docs__g0001", [1, 99]), lease.forget_quarantined("docs__g0002", [2])
        assert (gone, [row.point_id for row in ledger.quarantine(["docs__g0001"])]) == ((1, 0), [2])
        assert (lease.forget_samples([1]), lease.forget_samples([1])) == (2, 0)
        assert ledger.history("docs")[0].report == {"select": {"changes": 2, "sample": [{"id": 2, "before": {}}]}, "change": {}}
        assert lease.rewrite_pages("edit:1:0", lambda page: page.replace(b"secret ", b"")) == 1
        assert list(ledger.base_pages("edit:1:0")) == [b"one", b"two"]


def test_erasures_of_before_count_against_every_copy(ledger_url):
    """The table of an earlier version gets its columns; when its runs were over is unknown."""
    first = Ledger.open(ledger_url)
    first.prepare()
    with first.database.writing() as connection:
        for name in ("run", "id_spaces", "erased_at"):
            connection.execute(text(f"ALTER TABLE qdrant_erasures DROP COLUMN {name}"))
        connection.execute(text("UPDATE qdrant_ledger_version SET version_num = '0003'"))
        known = {"collection": "docs", "point_id": "7", "reason": "asked", "actor": "me"}
        connection.execute(insert(tables.erasures).values(**known, created_at=first.database.now()))
    first.close()
    second = Ledger.open(ledger_url)
    second.prepare()
    assert second.erased("docs", [7, 8], made=datetime.now(UTC) + timedelta(days=1), space=3) == {7}
    second.close()
