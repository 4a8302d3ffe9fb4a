"""Versions kept with a base: what they find is what reading everything finds, and when they are not relied on."""

from __future__ import annotations

import uuid
from contextlib import closing
from dataclasses import replace
from types import SimpleNamespace

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from tests.fakes import NumberedStore

from qmigrate.engine.points.base import BaseEntry, BaseLookup, counted_of, digest_of, exchanged, pack, unpack
from qmigrate.engine.prove import recorded
from qmigrate.engine.prove.recorded import Kept, written_since
from qmigrate.engine.prove.versions import listed
from qmigrate.engine.retire.late_writes import differing
from qmigrate.errors import NoVersionsError
from qmigrate.ledger import Ledger
from qmigrate.sequences import join
from qmigrate.store import records

NAME = "c__g0002"
IDS = [*range(12), 2**64 - 1, *(str(uuid.uuid5(uuid.NAMESPACE_OID, str(number))) for number in range(8))]
#: An example takes a while, and a smaller one says little more.
WITHOUT_SHRINKING = (Phase.explicit, Phase.reuse, Phase.generate)
WRITES = st.lists(st.tuples(st.sampled_from(IDS), st.sampled_from(["put", "same", "bare", "remove"]), st.integers(0, 9)))


def done(store: NumberedStore, writes) -> None:
    """Write to the collection."""
    for identifier, how, value in writes:
        if how == "remove":
            store.remove(identifier)
        else:
            known = store.points.get(identifier, (value, True))
            store.put(identifier, known[0] if how == "same" else value, vector=known[1] if how == "same" else how == "put")


class Made:
    """A ledger with the base of a collection, and the versions that were listed before."""

    def __init__(self, ledger: Ledger, lease, store: NumberedStore, side: str = "target") -> None:
        self.store, self.ledger, self.side = store, ledger, side
        self.work = SimpleNamespace(store=store, lease=lease, tick=lambda: None, run=7)

    def listed(self):
        """Now, behind a barrier."""
        return listed(self.store, NAME, "a", lambda: self.store.barrier(NAME), tick=lambda: None)

    def keep(self, table) -> None:
        """Keep a listing."""
        recorded.keep(self.work, NAME, self.side, (NAME, NAME), "a", table)

    def based(self) -> None:
        """The base has what is there now, in small pages."""
        digest = digest_of(self.ledger, NAME)
        entries = []
        for key, stored in self.store.all():
            seen = digest(stored)
            entries.append((key, BaseEntry(records.ABSENT, seen) if self.side == "target" else BaseEntry(seen, records.ABSENT)))
        self.work.lease.discard_stage(NAME)
        self.work.lease.stage_base(NAME, 0, [pack(entries[at : at + 3]) for at in range(0, len(entries), 3)])
        self.work.lease.commit_base(NAME)

    def kept(self, **changes) -> Kept:
        """As the base has it."""
        return replace(Kept(self.store, self.ledger, NAME, self.side, NAME, NAME), **changes)

    def candidates(self, **changes) -> list[bytes]:
        """What may have been written."""
        return written_since(self.kept(**changes), lambda: self.store.barrier(NAME))

    def by_version(self):
        """What was written, by the candidates."""
        kept = self.kept()
        return differing(recorded.read(kept, self.candidates()), digest_of(self.ledger, NAME))

    def by_content(self):
        """What was written, by reading all."""
        pages = self.ledger.base_pages(NAME)
        base = unpack(exchanged(pages) if self.side == "target" else pages)
        return differing(join(self.store.all(), base), digest_of(self.ledger, NAME))


@pytest.fixture(scope="module")
def opened(tmp_path_factory):
    """A ledger and a lease, for all examples."""
    with closing(Ledger.open(f"sqlite:///{tmp_path_factory.mktemp('recorded')}/ledger.db")) as ledger:
        ledger.prepare()
        with ledger.hold("c", timeout=5) as lease:
            yield ledger, lease


@pytest.fixture
def made(opened):
    """Twenty points that were listed, read, and not written since."""
    made = Made(*opened, NumberedStore())
    for number, identifier in enumerate(IDS[:20]):
        made.store.put(identifier, number)
    with made.listed() as table:
        made.keep(table)
    made.based()
    return made


@settings(max_examples=80, deadline=None, phases=WITHOUT_SHRINKING)
@given(
    before=WRITES, between=WRITES, after=WRITES, lacking=st.sets(st.sampled_from(IDS)),
    lacked=st.sets(st.sampled_from(IDS)), shards=st.integers(1, 3), side=st.sampled_from(["source", "target"]),
)
def test_versions_find_what_contents_find(opened, before, between, after, lacking, lacked, shards, side):
    """Whatever was written before, next to and behind the reading of the base, and whatever the listings lacked."""
    made = Made(*opened, NumberedStore(shards), side)
    done(made.store, before)
    made.store.lacking = lacked
    with made.listed() as table:
        made.keep(table)
        done(made.store, between)
        made.based()
        done(made.store, after)
        made.store.lacking = lacking
        with pytest.MonkeyPatch.context() as patch:
            # Else what is missed would show in points that are read in any case, and everything would be read.
            patch.setattr(recorded, "SAMPLE", 0)
            assert made.by_version() == made.by_content()


@settings(max_examples=40, deadline=None)
@given(writes=WRITES, size=st.integers(1, 9), dirty=st.sets(st.sampled_from(IDS)))
def test_a_point_is_found_in_its_page_of_the_base(opened, writes, size, dirty):
    """Wherever it is, but for one that a pass was about to make again."""
    _, lease = opened
    store = NumberedStore()
    done(store, writes)
    entries = {key: BaseEntry(bytes([1]) * 16, bytes([number % 7]) * 16) for number, (key, _) in enumerate(store.all())}
    ordered = sorted(entries.items())
    lease.drop_base("lookup")
    middle = len(ordered) // 2
    for number, part in enumerate((ordered[:middle], ordered[middle:])):
        lease.stage_base("lookup", number, [pack(part[at : at + size]) for at in range(0, len(part), size)])
    lease.commit_base("lookup")
    keys = [records.order_key(one) for one in IDS]
    marked = [records.order_key(one) for one in dirty]
    lease.mark_dirty("lookup", 0, marked)
    ledger = lease.ledger
    assert BaseLookup(ledger, "lookup").find(keys) == {key: one for key, one in entries.items() if key not in marked}
    turned = BaseLookup(ledger, "lookup", turned=True).find(keys)
    assert all(turned[key] == (entries[key].target, entries[key].source) for key in turned)
    lacking = sum(entry.target == records.ABSENT for entry in entries.values())
    assert counted_of(ledger.base_pages("lookup")) == (len(entries), lacking)


def test_only_what_was_written_is_a_candidate(made):
    """And some points that need not be, as a check."""
    made.store.put(IDS[3], 99)
    made.store.remove(IDS[15])
    made.store.put(IDS[20], 1)
    assert made.candidates() == sorted(map(records.order_key, (IDS[3], IDS[15], IDS[20])))
    assert {found for found, _ in made.by_version().named} == {IDS[3], IDS[15], IDS[20]}


def moved(made):
    """To another node."""
    made.store.peer = 2


def counted_less(made):
    """As if the server had lost what it had acknowledged."""
    made.store.ids = dict.fromkeys(made.store.ids, 1)


def upgraded(made):
    """Another build of the server."""
    made.store.capabilities = replace(made.store.capabilities, version=(1, 19, 1))


def without_a_vector(made):
    """Its points may hold something else, and no version shows it."""
    made.store.schema = replace(made.store.schema, sparse={"s": {}})


def put_back(made):
    """From elsewhere: other contents, and by chance the same numbers."""
    made.store.points = {one: (value + 1, *rest) for one, (value, *rest) in made.store.points.items()}


def limited(made):
    """By strict mode."""
    strict = {"enabled": True, "search_allow_exact": False}
    made.store.schema = replace(made.store.schema, config={"strict_mode_config": strict})


def damaged(made):
    """In the ledger."""
    made.work.lease.stage_base(f"{NAME}@t", 0, [b"{"])
    made.work.lease.commit_base(f"{NAME}@t")


def dropped(made):
    """Out of the ledger."""
    made.work.lease.drop_base(f"{NAME}@t")


def much(made):
    """More than is worth asking for one by one."""
    for number in range(1, recorded.FEW + 2):
        made.store.put(number * 1000, number)


@pytest.mark.parametrize(
    ("change", "because"),
    [
        (moved, "shards were moved"),
        (counted_less, "from an earlier number on"),
        (upgraded, "recorded by Qdrant 1.19.0, which is 1.19.1 by now"),
        (without_a_vector, "has other vectors than when"),
        (put_back, "that are not what they were"),
        (limited, "forbids exact search"),
        (damaged, "no versions of the points"),
        (dropped, "no versions of the points"),
        (much, "more than 1,024 points of c__g0002 have other versions"),
    ],
)
def test_what_makes_numbers_mean_nothing_is_told(made, change, because):
    """Then everything is read."""
    change(made)
    with pytest.raises(NoVersionsError, match=because):
        made.candidates()


def test_a_record_of_another_collection_is_not_taken(made):
    """Whatever name it is kept under."""
    with pytest.raises(NoVersionsError, match="are those of c__g0002"):
        made.candidates(physical="c__g0003")


def test_a_record_that_is_older_than_the_base_is_taken_in_its_place(made):
    """What was written before the base was read is a candidate, too, and found to be what the base has."""
    made.work.lease.stage_base("other", 0, list(made.ledger.base_pages(NAME)))
    made.work.lease.commit_base("other")
    made.store.put(IDS[3], 99)
    kept = made.kept(base="other", records=(("other", "target"), (NAME, "target")))
    assert written_since(kept, lambda: made.store.barrier(NAME)) == [records.order_key(IDS[3])]


def test_ids_that_were_erased_are_in_no_record(made):
    """Of either kind; what is left is compared as before."""
    erased = [IDS[2], IDS[14]]
    recorded.forget(made.work.lease, NAME, "target", erased)
    for identifier in erased:
        made.store.remove(identifier)
    _, table = recorded.take(made.kept())
    with table:
        left = table.sample(1000)
    assert set(left) == set(IDS[:20]) - set(erased)
    # The base still has them: see drop_records.
    assert made.candidates() == sorted(map(records.order_key, erased))
    made.store.put(IDS[5], 77)
    assert records.order_key(IDS[5]) in made.candidates()
