"""How many points there were, by day: the last count is kept, and an earlier ledger has none."""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta

from sqlalchemy import select, text

from qmigrate.ledger import Ledger, tables
from qmigrate.ledger.counts import KEPT, counted_by_day, counted_last, keep_counts
from qmigrate.ledger.reader import present

LONG_AGO = datetime(2020, 1, 1, tzinfo=UTC)


def test_the_last_count_of_a_day_is_kept_and_old_days_go(ledger: Ledger, ledger_url):
    """Several may count at once; what is older than a year and a month is removed by the next count."""
    assert (counted_last(ledger), counted_by_day(ledger, "docs", LONG_AGO)) == (None, {})
    ledger.prepare()
    assert counted_last(ledger) is None
    now = present(ledger)
    old = [
        {"collection": "docs", "day": f"{now - ago:%Y-%m-%d}", "points": 5, "counted_at": now - ago}
        for ago in (timedelta(days=3), KEPT - timedelta(days=1), KEPT + timedelta(days=2))
    ]
    with ledger.database.writing() as connection:
        connection.execute(tables.counts.insert(), old)
    gate, failed = threading.Barrier(4), []

    def count(points: int) -> None:
        mine = Ledger.open(ledger_url)
        gate.wait()
        try:
            keep_counts(mine, {"docs": points, "notes": 1})
        except Exception as error:
            failed.append(error)
        finally:
            mine.close()

    threads = [threading.Thread(target=count, args=(points,)) for points in (7, 8, 9, 10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failed
    keep_counts(ledger, {"docs": 12})
    today, before = f"{present(ledger):%Y-%m-%d}", f"{now - timedelta(days=3):%Y-%m-%d}"
    assert counted_by_day(ledger, "docs", now - timedelta(days=30)) == {before: 5, today: 12}
    assert counted_by_day(ledger, "notes", LONG_AGO) == {today: 1}
    assert len(counted_by_day(ledger, "docs", LONG_AGO)) == 3
    newest = counted_last(ledger)
    assert newest is not None
    assert abs(newest - present(ledger)) < timedelta(minutes=1)
    keep_counts(ledger, {})


def test_an_earlier_ledger_has_no_counts(ledger: Ledger, ledger_url):
    """It is read as it is; the first count evolves it."""
    ledger.prepare()
    with ledger.database.writing() as connection:
        tables.counts.drop(connection)
        connection.execute(text("UPDATE qdrant_ledger_version SET version_num = '0012'"))
    earlier = Ledger.open(ledger_url)
    try:
        assert (counted_last(earlier), counted_by_day(earlier, "docs", LONG_AGO)) == (None, {})
        keep_counts(earlier, {"docs": 3})
        assert list(counted_by_day(earlier, "docs", LONG_AGO).values()) == [3]
        assert earlier.rows(select(tables.counts.c.points))[0]["points"] == 3
    finally:
        earlier.close()
