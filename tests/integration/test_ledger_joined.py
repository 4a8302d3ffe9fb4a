"""Workers next to the holder of a lease: they write while it holds, and neither renew it nor write over each other."""

from __future__ import annotations

import pytest
from sqlalchemy import select, update

from qmigrate.errors import LeaseHeldError
from qmigrate.ledger import Ledger, join, tables
from qmigrate.model.plan import Job


@pytest.fixture
def other(ledger, ledger_url):
    """The same ledger as another process sees it."""
    opened = Ledger.open(ledger_url)
    yield opened
    opened.close()


def expiry(ledger):
    """When the only lease ends."""
    with ledger.database.reading() as connection:
        return connection.scalar(select(tables.leases.c.expires_at))


def test_a_worker_writes_by_the_lease_of_another_process_and_renews_nothing(ledger, other):
    """A range is its worker's until another one moves it; then its late checkpoint is refused, and nothing changes."""
    with ledger.hold("notes", timeout=0, ttl=600) as lease:
        run = lease.open_run("upgrade", Job("notes", "b", ()), {}, actor="a", tool="t", server="s")
        lease.fix_ranges(run, 0, [(None, 7), (7, None)])
        before = expiry(ledger)
        with join(other, "notes", lease.epoch, ttl=600) as first, join(other, "notes", lease.epoch, ttl=600) as second:
            assert first.own_range(run, 0, 1).points == 0
            first.checkpoint(run, 0, 1, 8, 2, False, "base", [b"one"])
            first.checkpoint(run, 0, 1, 9, 3, False, "base", [b"two"])
            assert second.own_range(run, 0, 1).cursor == 9
            second.checkpoint(run, 0, 1, 12, 6, True, "base", [b"three"])
            with pytest.raises(LeaseHeldError, match="range 1 of notes was advanced by another worker"):
                first.checkpoint(run, 0, 1, 10, 4, False, "base", [b"late"])
            assert first.remaining() > 0
        assert expiry(ledger) == before
        assert lease.remaining() > 0
        share = ledger.ranges(run, 0)[1]
        assert (share.cursor, share.points, share.done) == (12, 6, True)
        assert list(ledger.base_pages("base")) == [b"one", b"two", b"three"]


@pytest.mark.parametrize("how", ["given back", "expired", "taken over"])
def test_a_worker_of_a_holder_that_is_gone_writes_nothing(ledger, other, how):
    """However the lease ended: the next write of its worker is refused, and no new one can join."""
    with ledger.hold("notes", timeout=0, ttl=600) as lease:
        epoch = lease.epoch
        run = lease.open_run("upgrade", Job("notes", "b", ()), {}, actor="a", tool="t", server="s")
        lease.fix_ranges(run, 0, [(None, None)])
        with join(other, "notes", epoch, ttl=600) as worker:
            worker.own_range(run, 0, 0)
            if how == "given back":
                lease._end()
            else:
                gone = {"expires_at": ledger.database.now(-1)} if how == "expired" else {"epoch": epoch + 1}
                with ledger.database.writing() as connection:
                    connection.execute(update(tables.leases).values(**gone))
            with pytest.raises(LeaseHeldError, match="its holder is gone"):
                worker.checkpoint(run, 0, 0, 5, 1, False, "base", [])
            assert worker.remaining() == 0
        with pytest.raises(LeaseHeldError), join(other, "notes", epoch, ttl=600):
            pass
        assert ledger.ranges(run, 0)[0].points == 0
