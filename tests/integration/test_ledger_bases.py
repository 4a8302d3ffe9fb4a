"""The base, ranges, carries and quarantine of a rebuild, on both databases."""

from __future__ import annotations

from collections.abc import Iterator
from random import Random

import pytest
from sqlalchemy import select

from qmigrate.engine.points.base import BaseEntry, BasePages, pack, unpack
from qmigrate.errors import LedgerError, QmigrateError
from qmigrate.ledger import ANY_RANGE, Lease, Ledger, Quarantined, bases, tables
from qmigrate.model.plan import Job
from qmigrate.store.records import order_key

pytestmark = pytest.mark.timeout(120)

BIGGEST = 2**64 - 1
UUID = "9d3c1f6e-0000-4000-8000-000000000001"


@pytest.fixture
def lease(ledger: Ledger) -> Iterator[Lease]:
    """The lease of the collection ``notes``."""
    with ledger.hold("notes", timeout=0) as held:
        yield held


def opened(lease: Lease) -> int:
    """A run, opened."""
    return lease.open_run("upgrade", Job("notes", "b", ()), {}, actor="ann", tool="0.1", server="q", total_points=70)


def test_ranges_are_fixed_once(ledger: Ledger, lease: Lease) -> None:
    """A second call returns what is stored, and the largest id survives."""
    run = opened(lease)
    borders = [(None, 7), (7, BIGGEST), (BIGGEST, UUID), (UUID, None)]
    fixed = lease.fix_ranges(run, 0, borders)
    assert [(share.number, share.start, share.stop) for share in fixed] == [
        (number, *edges) for number, edges in enumerate(borders)
    ]
    assert all((share.cursor, share.points, share.done) == (None, 0, False) for share in fixed)
    assert lease.fix_ranges(run, 0, [(None, None)]) == fixed == ledger.ranges(run, 0)
    assert ledger.ranges(run, 1) == ()


def test_a_checkpoint_moves_cursor_base_and_progress_together(ledger: Ledger, lease: Lease) -> None:
    """Pages are read in the order of ranges, whatever the order of the checkpoints; the run counts all ranges."""
    run = opened(lease)
    lease.fix_ranges(run, 0, [(None, 7), (7, None)])
    lease.checkpoint(run, 0, 1, BIGGEST, 20, False, "g", [b"1a", b"1b"])
    lease.checkpoint(run, 0, 0, 6, 3, True, "g", [b"0a"])
    lease.checkpoint(run, 0, 1, UUID, 25, True, "g", [b"1c"])
    assert list(ledger.base_pages("g")) == [b"0a", b"1a", b"1b", b"1c"]
    assert list(ledger.base_pages("g", 1)) == [b"1a", b"1b", b"1c"]
    assert [(share.cursor, share.points, share.done) for share in ledger.ranges(run, 0)] == [
        (6, 3, True),
        (UUID, 25, True),
    ]
    found = ledger.open_run("notes")
    assert found is not None
    assert found.done_points == 28
    lease.progress(run, 40, 50)
    found = ledger.open_run("notes")
    assert found is not None
    assert (found.done_points, found.total_points) == (40, 50)
    with pytest.raises(QmigrateError, match="no range 9"):
        lease.checkpoint(run, 0, 9, 1, 1, False, "g", [b"x"])
    assert b"x" not in list(ledger.base_pages("g"))


def test_a_staged_base_is_invisible_until_it_is_committed(ledger: Ledger, lease: Lease) -> None:
    """Staging, discarding and committing; the committed base is replaced completely."""
    run = opened(lease)
    lease.fix_ranges(run, 0, [(None, None)])
    assert not ledger.has_base("g")
    lease.checkpoint(run, 0, 0, 1, 1, True, "g", [b"old"])
    lease.stage_base("g", 1, [b"dead"])
    assert list(ledger.base_pages("g")) == [b"old"]
    lease.discard_stage("g")
    many = [bytes([number]) * 3 for number in range(20)]
    lease.stage_base("g", 2, many[10:])
    lease.stage_base("g", 0, many[:5])
    lease.stage_base("g", 0, many[5:10])
    assert list(ledger.base_pages("g")) == [b"old"]
    lease.commit_base("g")
    assert list(ledger.base_pages("g")) == many
    assert list(ledger.base_pages("g", 2)) == many[10:]
    lease.drop_base("g")
    assert not ledger.has_base("g")
    assert list(ledger.base_pages("g")) == []
    with ledger.database.reading() as connection:
        assert connection.execute(select(tables.fingerprints.c.page)).all() == [], "replaced pages are deleted"


def test_an_empty_base_is_a_base(ledger: Ledger, lease: Lease) -> None:
    """A pass over an empty collection commits a base without pages, also in place of another."""
    lease.discard_stage("g")
    lease.commit_base("g")
    assert ledger.has_base("g")
    lease.stage_base("g", 0, [b"one"])
    lease.commit_base("g")
    lease.discard_stage("g")
    lease.commit_base("g")
    assert list(ledger.base_pages("g")) == []
    assert ledger.has_base("g")


def test_points_that_are_made_again_stay_known_until_a_pass_is_committed(ledger: Ledger, lease: Lease) -> None:
    """By range, or of any; discarding a stage keeps them, so does a base that no pass has read; dropping forgets."""
    lease.mark_dirty("g", 0, [b"a", b"b"])
    lease.mark_dirty("g", 0, [])
    lease.mark_dirty("g", 0, [b"c"])
    lease.mark_dirty("g", 1, [b"d"])
    lease.mark_dirty("g", ANY_RANGE, [b"e"])
    lease.mark_dirty("other", 0, [b"f"])
    assert sorted(ledger.dirty("g")) == [b"ab", b"c", b"d", b"e"]
    assert sorted(ledger.dirty("g", 1)) == [b"d", b"e"]
    lease.stage_base("g", 0, [b"page"])
    lease.discard_stage("g")
    lease.commit_base("g", seen=False)
    assert len(list(ledger.dirty("g"))) == 4
    lease.forget_dirty("g", {b"a", b"e", b"x"})
    lease.forget_dirty("g", set())
    assert sorted(ledger.dirty("g")) == [b"", b"b", b"c", b"d"]
    lease.commit_base("g")
    assert list(ledger.dirty("g")) == []
    lease.drop_base("other")
    assert list(ledger.dirty("other")) == []


def test_a_base_keeps_the_kind_of_digest_that_it_was_begun_with(
    ledger: Ledger, lease: Lease, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was started before there was a key continues without one, and so does what takes its entries; else keyed."""
    with monkeypatch.context() as before:
        before.setattr(bases, "KEYED", None)
        lease.stage_base("old", 0, [b"one"])
        lease.commit_base("old")
    lease.stage_base("old", 0, [b"two"])
    lease.commit_base("old")
    lease.stage_base("new", 0, [b"one"])
    assert (ledger.digest_key("old"), ledger.digest_key("new")) == (None, ledger.own_key())
    assert ledger.digest_key("none yet") == ledger.own_key()
    for like, name in (("old", "old<"), ("new", "new<"), ("none yet", "yet<")):
        lease.begin_base(name, like=like)
        assert not ledger.has_base(name)
        assert ledger.digest_key(name) == ledger.digest_key(like)
    lease.begin_base("new<", like="old")
    assert ledger.digest_key("new<") is None
    lease.drop_base("old")
    lease.stage_base("old", 0, [b"one"])
    assert ledger.digest_key("old") == ledger.own_key()


def test_bases_of_other_generations_are_left_alone(ledger: Ledger, lease: Lease) -> None:
    """Replacing and dropping one base keeps the other."""
    for name in ("g", "g<"):
        lease.stage_base(name, 0, [name.encode()])
        lease.commit_base(name)
    lease.stage_base("g", 0, [b"new"])
    lease.commit_base("g")
    assert list(ledger.base_pages("g<")) == [b"g<"]
    lease.drop_base("g")
    assert list(ledger.base_pages("g<")) == [b"g<"]


def test_a_base_that_is_replaced_while_it_is_read_is_no_base(ledger: Ledger, lease: Lease) -> None:
    """The reader gets an error, never the mixture of two passes."""
    for content in (b"a", b"b"):
        lease.stage_base("g", 0, [content] * 20)
        if content == b"a":
            lease.commit_base("g")
            bases = ledger.base_pages("g")
            assert next(bases) == b"a"
    lease.commit_base("g")
    with pytest.raises(LedgerError, match="replaced"):
        list(bases)


def test_carries_are_kept_by_point(ledger: Ledger, lease: Lease) -> None:
    """Bytes come back as they were; a second state of the same point replaces the first."""
    run = opened(lease)
    lease.carry(run, 0, 7, b"\x00\xff", b"", "running")
    lease.carry(run, 0, UUID, b"u", b"v", "listed")
    lease.carry(run, 0, BIGGEST, b"b", b"c", "done")
    lease.carry(run, 0, 7, b"\x00\xff", b"\x01", "done")
    found = {entry.point_id: (entry.before, entry.after, entry.state) for entry in ledger.carries(run, 0)}
    assert found == {7: (b"\x00\xff", b"\x01", "done"), UUID: (b"u", b"v", "listed"), BIGGEST: (b"b", b"c", "done")}
    assert ledger.carries(run, 1) == []


def test_quarantined_points_are_counted_once(ledger: Ledger, lease: Lease) -> None:
    """A point that fails again is another attempt; one that went well is forgotten; one that is settled is kept."""
    failed = [Quarantined(point, "b", "kept", "embed", "broken\x00file", "a.jpg", b"\x00\xff") for point in (7, "7")]
    lease.quarantine("g", 3, failed)
    lease.quarantine("g", 4, [failed[0], Quarantined(7, "c", "dropped", "read", "no text")])
    lease.quarantine("h", 3, failed)
    assert (ledger.quarantined("g"), ledger.quarantined("h"), ledger.quarantined("i")) == (2, 2, 0)
    rows = {(row.point_id, row.vector): row for row in ledger.quarantine(["g"])}
    assert {key: (row.attempts, row.run) for key, row in rows.items()} == {
        (7, "b"): (2, 4),
        ("7", "b"): (1, 3),
        (7, "c"): (1, 4),
    }
    row = rows[7, "b"]
    assert (row.outcome, row.stage, row.reason) == ("kept", "embed", "broken\\x00file")
    assert (row.source, row.digest, row.generation, row.resolved_at) == ("a.jpg", b"\x00\xff", "g", None)
    lease.quarantine("g", 5, (), [7])
    lease.resolve_quarantine({("h", 7, "b"): "filled"})
    assert (ledger.quarantined("g"), ledger.quarantined("h")) == (1, 1)
    settled = ledger.quarantine(["g", "h"], settled=True)
    assert {(row.generation, row.point_id): row.resolution for row in settled} == {
        ("g", "7"): None,
        ("h", 7): "filled",
        ("h", "7"): None,
    }
    run = lease.open_run("upgrade", Job("notes", "b", ()), {}, actor="a", tool="t", server="s")
    lease.fix_ranges(run, 0, [(None, None)])
    for _ in range(2):
        lease.checkpoint(run, 0, 0, 9, 9, False, "i", [], failed[:1])
    assert [row.attempts for row in ledger.quarantine(["i"])] == [2]


@pytest.mark.parametrize("seed", range(4))
def test_single_points_of_a_base_are_replaced_where_they_stand(ledger: Ledger, lease: Lease, seed: int) -> None:
    """Any sequence of replaced, added and dropped entries gives the base that a pass over all would have written."""
    random = Random(seed)
    border = order_key(500)
    model = {order_key(random.randrange(1000)): entry(random) for _ in range(300)}
    for number in (0, 1):
        keys = sorted(key for key in model if (key >= border) == number)
        pages = [keys[at : at + 40] for at in range(0, len(keys), 40)]
        lease.stage_base("g", number, [pack((key, model[key]) for key in page) for page in pages])
    lease.commit_base("g")
    for _ in range(12):
        base = BasePages(lease, "g")
        for number in (0, 1):
            low, high = (0, 500) if number == 0 else (500, 1000)
            keys = {order_key(random.randrange(low, high)) for _ in range(random.choice((1, 20, 200)))}
            assert base.read(number, keys) == {key: model[key] for key in keys if key in model}
            changed = {key: entry(random) if random.random() < 0.5 else None for key in keys}
            base.write(number, changed)
            model.update({key: one for key, one in changed.items() if one is not None})
            for key, one in changed.items():
                if one is None:
                    model.pop(key, None)
        assert list(unpack(ledger.base_pages("g"))) == sorted(model.items())


def test_a_base_without_pages_gets_its_first(ledger: Ledger, lease: Lease) -> None:
    """A range in which nothing was, and one whose points have all gone, take entries too, in order."""
    lease.fix_ranges(opened(lease), 0, [(None, 7), (7, None)])
    lease.commit_base("g")
    base = BasePages(lease, "g")
    one, other = BaseEntry(bytes(16), b"1" * 16), BaseEntry(bytes(16), b"2" * 16)
    base.write(1, {order_key(9): one})
    base.write(0, {order_key(3): one})
    base.write(1, {order_key(8): other, order_key(10): other})
    assert [key for key, _ in unpack(ledger.base_pages("g"))] == [order_key(one) for one in (3, 8, 9, 10)]
    base.write(1, dict.fromkeys([order_key(8), order_key(9), order_key(10)]))
    base = BasePages(lease, "g")
    base.write(1, {order_key(11): one})
    assert list(unpack(ledger.base_pages("g"))) == [(order_key(3), one), (order_key(11), one)]


def test_points_with_rising_ids_come_into_pages_of_bounded_size(
    ledger: Ledger, lease: Lease, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last page is divided when it has grown to twice its size; earlier ones keep their places."""
    monkeypatch.setattr("qmigrate.engine.points.base.PAGE_ENTRIES", 10)
    random = Random(0)
    model = {order_key(one): entry(random) for one in range(0, 40, 2)}
    lease.stage_base("g", 0, [pack((key, model[key]) for key in sorted(model)[at : at + 10]) for at in (0, 10)])
    lease.commit_base("g")
    base = BasePages(lease, "g")
    for first in range(38, 200, 7):
        added = {order_key(one): entry(random) for one in range(first, first + 7)}
        gone = dict.fromkeys(order_key(random.randrange(first)) for _ in range(2))
        model = {key: one for key, one in {**model, **added}.items() if key not in gone}
        base.write(0, {**gone, **added})
        assert list(unpack(ledger.base_pages("g"))) == sorted(model.items())
    assert base.read(0, model) == model
    assert max(len(list(unpack([page]))) for page in ledger.base_pages("g")) <= 20


def entry(random: Random) -> BaseEntry:
    """An entry with any digests."""
    return BaseEntry(random.randbytes(16), random.randbytes(16))
