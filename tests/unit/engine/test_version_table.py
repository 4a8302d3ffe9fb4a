"""The table of point versions: order, what counts as changed, spilled or not, and its room in memory and on disk."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import uuid

import numpy as np
import pytest

from qmigrate import scratch
from qmigrate.engine.prove import versions
from qmigrate.engine.prove.versions import Circumstances, VersionTable, settled
from qmigrate.errors import NoVersionsError, UnavailableError
from qmigrate.model.ids import pages_of, points_of
from qmigrate.ports import Placement, VersionPage
from qmigrate.store import records

#: Ends with a zero byte, is nothing else, is all ones: what a text of bytes could be taken wrong in.
ODD = ["00000000-0000-0000-0000-000000000000", "01020304-0506-0708-090a-0b0c0d0e0f00", "ffffffff-ffff-ffff-ffff-ffffffffffff"]


def table(numbers, most=versions.IN_MEMORY, circumstances=None, page=7):
    """A table of number by id, added in pages of one kind, in no order."""
    made = VersionTable(circumstances, most=most)
    shuffled = list(numbers.items())
    np.random.default_rng(5).shuffle(shuffled)
    for kind in (int, str):
        rows = [(int(one) if kind is int else str(one), int(number)) for one, number in shuffled if _kind(one) is kind]
        for start in range(0, len(rows), page):
            part = rows[start : start + page]
            (ids,) = pages_of(one for one, _ in part)
            made.add(VersionPage(ids, np.array([number for _, number in part], np.uint64)))
    return made


def _kind(one):
    return int if str(one).isdigit() else str


def flat(pages):
    """All ids of pages."""
    return [one for page in pages for one in points_of(page)]


def uuid_of(number):
    """The UUID of a number."""
    return str(uuid.uuid5(uuid.NAMESPACE_OID, str(number)))


def some(count):
    """Ids of both kinds, the largest and odd ones included."""
    numbers = {number * 7919 % 100_003: number + 1 for number in range(count)}
    texts = {uuid_of(number): number + 1 for number in range(count)}
    return {**numbers, 0: 5, 2**64 - 1: 6, 2**63: 7, **texts, **dict.fromkeys(ODD, 9)}


@pytest.mark.parametrize("most", [versions.IN_MEMORY, 50, 8], ids=["in memory", "some runs", "many runs"])
def test_the_table_has_every_point_in_order(most):
    """Numbers before UUIDs, and UUIDs by their bytes."""
    numbers = some(200)
    with table(numbers, most) as made:
        for _ in range(2):
            pages = list(made.pages())
            ids = flat(page.ids for page in pages)
            assert ids == sorted(numbers, key=records.order_key)
            found = [int(one) for page in pages for one in page.numbers]
            assert dict(zip(ids, found, strict=True)) == numbers


A, B, C = (uuid_of(number) for number in range(3))
CASES = {
    "nothing": ({1: 1, A: 2}, {1: 1, A: 2}, set()),
    "empty": ({}, {}, set()),
    "from empty": ({}, {1: 1, A: 2}, {1, A}),
    "to empty": ({1: 1, A: 2}, {}, {1, A}),
    "new": ({1: 1}, {1: 1, 2: 2, A: 3}, {2, A}),
    "other number": ({1: 1, A: 2, B: 2}, {1: 3, A: 2, B: 4}, {1, B}),
    "lower number": ({1: 3}, {1: 1}, {1}),
    "not listed": ({1: 1, 2: 2, A: 3, B: 4}, {2: 2, A: 3}, {1, B}),
    "all three": ({1: 1, 2: 2, 3: 3}, {2: 9, 3: 3, 4: 4}, {1, 2, 4}),
    "other kind": ({1: 1, 2: 1}, {A: 1, B: 1}, {1, 2, A, B}),
    "largest": ({2**64 - 1: 1, 2**63: 1}, {2**64 - 1: 2, 2**63: 1}, {2**64 - 1}),
    "odd": (dict.fromkeys(ODD, 1), {ODD[0]: 1, ODD[1]: 2, ODD[2]: 1}, {ODD[1]}),
}


@pytest.mark.parametrize("most", [versions.IN_MEMORY, 2], ids=["in memory", "in a file"])
@pytest.mark.parametrize(("before", "now", "expected"), CASES.values(), ids=CASES)
def test_what_changed(before, now, expected, most):
    """New, another number, or not listed any more; in order."""
    with table(before, most) as earlier, table(now, most) as later:
        assert flat(later.changed_since(earlier)) == sorted(expected, key=records.order_key)


@pytest.mark.parametrize("most", [versions.IN_MEMORY, 100, 9])
def test_what_changed_among_many(most):
    """As a plain comparison of two dicts finds it."""
    before = some(500)
    now = {one: number + (number % 5 == 0) for one, number in before.items() if number % 11} | {4: 1, C: 1}
    with table(before, most) as earlier, table(now, 64) as later:
        expected = {one for one in before.keys() | now.keys() if before.get(one) != now.get(one)}
        assert flat(later.changed_since(earlier)) == sorted(expected, key=records.order_key)
        assert flat(later.changed_since(later)) == []


@pytest.mark.parametrize("most", [versions.IN_MEMORY, 2])
def test_a_point_that_is_listed_twice_counts_as_written(most):
    """Unless both say the same: which of two numbers is the later one is not known."""
    with table({1: 1, 2: 1, 3: 1}, most) as earlier, table({1: 1, 2: 1, 3: 1}, most) as later:
        later.add(VersionPage(np.array([2, 1], np.uint64), np.array([5, 1], np.uint64)))
        assert flat(later.changed_since(earlier)) == [2]
        assert flat(later.changed_since(later)) == [2]
        assert flat(page.ids for page in later.pages()) == [1, 2, 3]


@pytest.mark.parametrize("most", [versions.IN_MEMORY, 3])
def test_what_is_not_listed(most):
    """Ids that are there but in no listing, whatever is only listed."""
    listed = {1: 1, 3: 1, 7: 1, A: 1}
    there = sorted([1, 2, 3, 4, A, B, ODD[0]], key=records.order_key)
    with table(listed, most) as made:
        assert flat(made.unlisted(pages_of(there))) == [one for one in there if one not in listed]
        assert flat(made.unlisted([])) == []
    with VersionTable() as empty:
        assert flat(empty.unlisted(pages_of(there))) == there


ONE = Placement(((0, 1, "Active"), (1, 1, "Active")))
REFUSED = {
    "moved": (Circumstances(ONE, {}), Circumstances(Placement(((0, 1, "Active"), (1, 2, "Active"))), {}), "moved"),
    "counted back": (Circumstances(ONE, {"n/0": 8}), Circumstances(ONE, {"n/0": 7}), "earlier number"),
    "other shards": (Circumstances(ONE, {"n/0": 8}), Circumstances(ONE, {"n/1": 9}), "earlier number"),
    "ids unknown": (Circumstances(ONE, {"n/0": 8}), Circumstances(ONE, {}), "earlier number"),
}


@pytest.mark.parametrize(("before", "now", "words"), REFUSED.values(), ids=REFUSED)
def test_listings_that_can_not_be_compared(before, now, words):
    """Equal numbers would prove nothing."""
    earlier, later = (table({1: 1}, circumstances=one) for one in (before, now))
    with earlier, later, pytest.raises(NoVersionsError, match=words):
        list(later.changed_since(earlier))


UNSETTLED = {
    "a transfer": (Placement(((0, 1, "Active"),), ("shard 0 from peer 1 to 2",)), "being moved"),
    "two replicas": (Placement(((0, 1, "Active"), (0, 2, "Active"))), "several replicas"),
    "a dead replica": (Placement(((0, 1, "Dead"),)), "Dead"),
}


@pytest.mark.parametrize(("placement", "words"), UNSETTLED.values(), ids=UNSETTLED)
def test_placements_whose_numbers_mean_nothing(placement, words):
    """They are refused before anything is listed."""
    assert settled(ONE) == ONE
    with pytest.raises(NoVersionsError, match=words):
        settled(placement)


def test_bytes_of_a_point():
    """At most forty on disk."""
    assert [kind.itemsize for kind in versions._KINDS] == [16, 24]


def test_the_file_has_no_name_and_is_gone_at_the_end(tmp_path, monkeypatch):
    """So that nothing is left after a kill, and no other user can open it."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    made = table(some(50), 10)
    assert made._file is not None
    assert list(tmp_path.iterdir()) == []
    assert os.fstat(made._file.fileno()).st_mode & 0o777 == 0o600
    made.close()
    made.close()
    assert made._file is None


def test_no_room_names_the_folder(monkeypatch):
    """As everything that is put aside."""

    def full(*_args, **_more):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(scratch.tempfile, "TemporaryFile", full)
    with pytest.raises(UnavailableError, match="No space left"):
        table(some(50), 10)


#: Megabytes that ten times as many points may cost in addition: a block of each run, not points.
GROWTH_MB = 60

PROGRAM = """
import resource, sys
import numpy as np
from qmigrate.engine.prove.versions import VersionTable
from qmigrate.ports import VersionPage

def filled(count, add):
    made, page = VersionTable(most=200_000), 10_000
    for start in range(0, count, page):
        ids = (np.arange(start, start + page, dtype=np.uint64) * np.uint64(7919)) % np.uint64(count)
        made.add(VersionPage(ids, ids + np.uint64(add) * (ids % np.uint64(1000) == 0)))
    return made

count = int(sys.argv[1])
with filled(count, 0) as one, filled(count, 5) as other:
    print(sum(map(len, other.changed_since(one))), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
"""


@pytest.mark.nightly
def test_memory_does_not_grow_with_the_listing():
    """Ten times as many points: two files instead, and a block of each run."""
    found = []
    for count in (400_000, 4_000_000):
        done = subprocess.run([sys.executable, "-c", PROGRAM, str(count)], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        changed, peak = done.stdout.split()
        assert int(changed) == count // 1000
        found.append(float(peak))
    assert found[1] - found[0] < GROWTH_MB
