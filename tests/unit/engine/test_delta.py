"""What delta passes decide without a server: when another one follows, and what the base has beyond a listing."""

from __future__ import annotations

import random
import uuid
from types import SimpleNamespace

import numpy as np
import pytest

from qmigrate.engine.points.base import BaseEntry, ids_of, pack
from qmigrate.engine.prove import proof
from qmigrate.engine.prove.versions import VersionTable
from qmigrate.model.ids import NUMBERS, pages_of, points_of
from qmigrate.model.report import VerificationReport
from qmigrate.ports import VersionPage
from qmigrate.store import records


@pytest.mark.parametrize(
    ("reads", "made"),
    [
        ([5000, 4900, 3], 2),
        ([5000, 300, 90, 3], 3),
        ([5000, 300, 250, 3], 3),
        ([60, 3], 1),
        ([5000, None, 3], 2),
    ],
)
def test_passes_follow_until_one_is_short_or_no_shorter_than_the_one_before(monkeypatch, reads, made):
    """A pass over all is none to compare with: whatever the first delta pass has read is less, or takes less time."""
    rest = iter(reads)
    monkeypatch.setattr(proof, "_pass", lambda *_args, **_options: found(next(rest)))
    monkeypatch.setattr(proof, "barrier", lambda *_args: {})
    monkeypatch.setattr(proof, "reach", lambda *_args: "")
    monkeypatch.setattr(proof, "nothing_written", lambda *_args, **_options: False)
    work = SimpleNamespace(store=None)
    last = proof._until_short(work, SimpleNamespace(source="s"), found(None), 0)
    assert last.read == reads[made - 1]


def found(read: int | None) -> proof._Pass:
    """A pass with this many points read."""
    return proof._Pass(VerificationReport("s", "t"), {}, 0.0, read)


@pytest.mark.parametrize("seed", range(20))
def test_what_the_base_has_on_a_side_and_a_listing_has_not(seed):
    """Numbers up to 2^64 - 1 and UUIDs that end with zeros, in pages of any size, some of them empty."""
    random.seed(seed)
    numbers = [random.choice((random.randrange(50), 2**64 - 1 - random.randrange(50))) for _ in range(30)]
    texts = [str(uuid.UUID(int=random.getrandbits(16) << random.choice((0, 56, 112)))) for _ in range(30)]
    ids = sorted({*numbers, *texts}, key=records.order_key)
    absent = {one for one in ids if random.random() < 0.1}
    some = b"\x01" * 16
    entries = [(records.order_key(one), BaseEntry(some, records.ABSENT if one in absent else some)) for one in ids]
    size = random.choice((1, 7, 100))
    pages = [pack(entries[at : at + size]) for at in range(0, len(entries), size)]
    pages.insert(random.randrange(len(pages) + 1), b"")
    listed = [one for one in ids if random.random() < 0.8]
    for side, expected in (("source", set(ids)), ("target", set(ids) - absent)):
        with VersionTable(most=random.choice((5, 1000))) as table:
            for page in pages_of(random.sample(listed, len(listed))):
                table.add(VersionPage(page, np.ones(len(page), NUMBERS)))
            lacking = [one for page in table.unlisted(ids_of(pages, side)) for one in points_of(page)]
        assert lacking == [one for one in ids if one in expected - set(listed)]
