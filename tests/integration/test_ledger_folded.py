"""What is applied, passed and since when, of a long history: SQL's answer is that of going through it row by row."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta

import pytest

from qmigrate.ledger import Ledger, summary, tables
from qmigrate.model.plan import APPLYING, ASIDE, FIXED, REPAIRED, RESTORED, SQUASHED

FIRST = datetime(2026, 11, 1, tzinfo=UTC)
DIRECTIONS = (*(["upgrade", "rollback"] * 4), "stamp", "unstamp", RESTORED, FIXED, REPAIRED, SQUASHED, SQUASHED)


def entries(seed: int, most: int = 150) -> list[dict]:
    """Rows of three collections in any order that the columns allow."""
    chance = random.Random(seed)
    return [
        {
            "id": number + 1,
            "collection": chance.choice(("a", "b", "c")),
            "run": number,
            "revision": chance.choice(("1", "2", "3", "4")),
            "direction": chance.choice(DIRECTIONS),
            "checksum": f"sum {number}",
            "strategy": "copy",
            "physical": chance.choice((None, "g1", "g2", "g3")),
            "changes": [],
            "report": {},
            "actor": "ann",
            "created_at": FIRST + timedelta(hours=number),
        }
        for number in range(chance.randrange(most) * (seed > 0))
    ]


def one_by_one(rows: list[dict]) -> tuple[dict, dict, dict]:
    """(collection -> [(revision, checksum, what served before)], collection -> passed, collection -> since when)."""
    counting, served, passed, since, shown = {}, {}, {}, {}, {}
    for row in rows:
        name, revision = row["collection"], row["revision"]
        if row["physical"] is not None and shown.get(name) != row["physical"]:
            shown[name], since[name] = row["physical"], row["created_at"]
        if row["direction"] == SQUASHED:
            passed.setdefault(name, set()).add(revision)
            continue
        left = served.get(name)
        served[name] = row["physical"] or left
        if row["direction"] in ASIDE:
            continue
        passed.get(name, set()).discard(revision)
        counting.pop((name, revision), None)
        if row["direction"] in APPLYING:
            counting[name, revision] = (row["checksum"], left)
    applied = {}
    for (name, revision), (checksum, left) in counting.items():
        applied.setdefault(name, []).append((revision, checksum, left))
    return applied, {name: found for name, found in passed.items() if found}, since


@pytest.mark.parametrize("seed", range(6))
def test_a_history_is_folded_as_row_by_row(ledger: Ledger, seed):
    """Of all collections and of each alone: what counts, in which order, what served before, and since when."""
    rows = entries(seed)
    ledger.prepare()
    with ledger.database.writing() as connection:
        if rows:
            connection.execute(tables.history.insert(), rows)
    applied, passed, since = one_by_one(rows)
    found = {name: [(one.revision, one.checksum, one.left) for one in all_] for name, all_ in ledger.all_applied().items()}
    assert found == applied
    assert {name: set(all_) for name, all_ in ledger.passed().items() if all_} == passed
    assert summary.went_live(ledger) == since
    for name in ("a", "b", "c"):
        alone = [(one.revision, one.checksum, one.left) for one in ledger.applied(name)]
        assert alone == applied.get(name, [])
        assert set(ledger.passed(name).get(name, ())) == passed.get(name, set())
