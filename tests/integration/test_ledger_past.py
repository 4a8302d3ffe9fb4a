"""What the ledger knows of earlier times: moments of a history, and ids that must never come back."""

from __future__ import annotations

import json

import pytest
from sqlalchemy import insert

from qmigrate.ledger import Ledger, View, tables
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
