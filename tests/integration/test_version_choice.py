"""The choice between versions and contents, its trial, and listings next to writers, on a real server."""

from __future__ import annotations

import re
import threading
import time
from contextlib import closing, contextmanager
from itertools import count
from types import SimpleNamespace

import httpx
import numpy as np
import pytest
from tests.harness import write

from qmigrate.engine.epoch_aliases import release
from qmigrate.engine.prove.choice import ByContent, ByVersion, choose
from qmigrate.engine.prove.versions import listing
from qmigrate.engine.work import Work
from qmigrate.errors import LeaseHeldError, NotFoundError, NoVersionsError
from qmigrate.ledger import Ledger
from qmigrate.model.ids import pages_of, points_of
from qmigrate.model.names import EpochAlias
from qmigrate.model.plan import Job
from qmigrate.model.schema import Change, CollectionSchema
from qmigrate.model.state import CollectionState
from qmigrate.model.transform import Point
from qmigrate.ports import Placement, Silent, VersionPage
from qmigrate.settings.load import Settings
from qmigrate.store import ConnectionSettings, connect

server = pytest.mark.server

SMALL = {"size": 2, "distance": "Dot"}
LARGE = {"size": 8, "distance": "Cosine"}
SPARSE = {"s": {}}
SCHEMA = CollectionSchema(vectors={"large": LARGE, "small": SMALL})


def made(store, name, schema=SCHEMA, count=30, vectors=None):
    """A collection of `count` points."""
    store.create_collection(name, schema, seal=None)
    given = vectors or {"large": [1.0] * 8, "small": [1.0, 2.0]}
    write(store, name, [Point(number, {"n": number}, given) for number in range(count)])


@contextmanager
def at_work(store, name, folder):
    """What a phase works with."""
    with closing(Ledger.open(f"sqlite:///{folder}/ledger.db")) as ledger:
        ledger.prepare()
        with ledger.hold(name, timeout=5) as lease:
            yield Work(
                name, store, lease, None, Settings.load(stores=False), Silent(), CollectionState(name, "alias", True),
                Job(name, "basis", ()), "x",
            )


@pytest.fixture
def work(server_store, fresh_name, tmp_path):
    """On the server."""
    with at_work(server_store, fresh_name, tmp_path) as found:
        yield found


def names(fresh_name):
    """Source and shadow."""
    return f"{fresh_name}__g0001", f"{fresh_name}__g0002"


@server
def test_versions_are_chosen_and_the_trial_leaves_nothing(work, server_store, fresh_name):
    """By the smallest vector of each side."""
    source, shadow = names(fresh_name)
    made(server_store, source)
    made(server_store, shadow, CollectionSchema(vectors={"large": LARGE, "new": {"size": 1, "distance": "Dot"}}), 0)
    assert choose(work, source, shadow) == ByVersion("small", "large")
    assert server_store.count(shadow) == 0
    assert server_store.count(source) == 30
    release(work, (shadow,))
    assert not [alias for alias in server_store.aliases() if alias.startswith(fresh_name)]
    # A second time, on a generation that is filled.
    write(server_store, shadow, [Point(number, {}, {"large": [1.0] * 8}) for number in range(30)])
    assert choose(work, source, shadow) == ByVersion("small", "large")
    assert server_store.count(shadow) == 30


PARAMS = {
    "unnamed": {"": {"size": 4, "distance": "Euclid"}},
    "uint8": {"a": {"size": 4, "distance": "Manhattan", "datatype": "uint8"}},
    "float16": {"a": {"size": 4, "distance": "Cosine", "datatype": "float16"}},
    "multivector": {"a": {"size": 4, "distance": "Cosine", "multivector_config": {"comparator": "max_sim"}}},
    "on disk": {"a": {"size": 4, "distance": "Dot", "on_disk": True}},
    "quantized": {"a": {"size": 32, "distance": "Dot", "quantization_config": {"scalar": {"type": "int8"}}}},
    "binary": {"a": {"size": 32, "distance": "Dot", "quantization_config": {"binary": {"always_ram": True}}}},
}


@server
@pytest.mark.parametrize("kind", PARAMS)
def test_the_trial_holds_for_every_kind_of_vector(work, server_store, fresh_name, kind):
    """And on several shards."""
    source, shadow = names(fresh_name)
    schema = CollectionSchema(vectors=PARAMS[kind], config={"shard_number": 3})
    for name in (source, shadow):
        server_store.create_collection(name, schema, seal=None)
    (vector,) = PARAMS[kind]
    assert choose(work, source, shadow) == ByVersion(vector, vector)
    assert server_store.count(shadow) == 0


STRICT = {"enabled": True}
REASONS = {
    "exact": ({"strict_mode_config": {**STRICT, "search_allow_exact": False}}, "forbids exact search"),
    "limit": ({"strict_mode_config": {**STRICT, "max_query_limit": 100}}, "max_query_limit"),
    "rate": ({"strict_mode_config": {**STRICT, "read_rate_limit": 1000}}, "read_rate_limit"),
    "replicas": ({"replication_factor": 2}, "several replicas"),
    "hidden": ({"optimizers_config": {"prevent_unoptimized": True}}, "prevent_unoptimized"),
}


@server
@pytest.mark.parametrize("which", [0, 1], ids=["source", "shadow"])
@pytest.mark.parametrize(("config", "words"), REASONS.values(), ids=REASONS)
def test_settings_that_forbid_it(work, server_store, fresh_name, config, words, which):
    """Of either side; nothing is written then."""
    both = names(fresh_name)
    for place, name in enumerate(both):
        schema = SCHEMA.with_(config=config if place == which else {})
        made(server_store, name, schema, 0)
    found = choose(work, *both)
    assert isinstance(found, ByContent)
    assert words in found.reason
    assert both[which] in found.reason
    assert not [alias for alias in server_store.aliases() if alias.startswith(fresh_name)]


@server
def test_a_collection_of_sparse_vectors_only(work, server_store, fresh_name):
    """They list only points that share an index."""
    source, shadow = names(fresh_name)
    made(server_store, source)
    made(server_store, shadow, CollectionSchema(sparse=SPARSE), 0)
    assert choose(work, source, shadow) == ByContent("there is no dense vector by which versions could be listed")


@server
def test_a_vector_that_few_points_have_is_not_taken(work, server_store, fresh_name):
    """The smallest one that nine tenths have; none at all where no vector is in nine tenths."""
    source, shadow = names(fresh_name)
    made(server_store, source, vectors={"large": [1.0] * 8})
    made(server_store, shadow, count=0)
    assert choose(work, source, shadow) == ByVersion("large", "small")
    write(server_store, source, [Point(number, {}, {"small": [1.0, 2.0]}) for number in range(100, 120)])
    found = choose(work, source, shadow)
    assert found == ByContent(f"no dense vector is in 90% of the points of {source}")


def test_local_mode_reads(fresh_name, tmp_path):
    """It has no numbers."""
    store = connect(ConnectionSettings(path=str(tmp_path / "qdrant")))
    with closing(store), at_work(store, fresh_name, tmp_path) as work:
        source, shadow = names(fresh_name)
        for name in (source, shadow):
            store.create_collection(name, SCHEMA, seal=None)
        assert choose(work, source, shadow) == ByContent("local mode has no point versions")
        assert store.placement(source) == Placement()
        with pytest.raises(NoVersionsError):
            store.versions(source, "small")


class Lying:
    """The store of a server whose numbers are not what they should be.

    Args:
        store: the real one.
        change: number by id, as it is said -> as it is reported.
    """

    def __init__(self, store, change=lambda found, whole: found) -> None:
        self._store = store
        self._change = change

    def __getattr__(self, name):
        return getattr(self._store, name)

    def versions(self, name, vector, *, ids=None):
        """What is reported, by id."""
        found = {one: int(number) for page in self._store.versions(name, vector, ids=ids) for one, number in
                 zip(points_of(page.ids), page.numbers, strict=True)}
        for one, number in self._change(found, ids is None).items():
            yield VersionPage(pages_of([one])[0], np.array([number], np.uint64))


def steady(found, whole):
    """Never moves."""
    return dict.fromkeys(found, 7)


TICKS = count()


def moving(found, whole):
    """Moves by itself."""
    return {one: number + next(TICKS) for one, number in found.items()}


LIES = {
    "steady": (steady, "kept its version"),
    "moving": (moving, "differ|another version"),
    "zero": (lambda found, whole: dict.fromkeys(found, 0), "kept its version"),
    "nothing": (lambda found, whole: {}, "not listed"),
    "whole lacks": (lambda found, whole: {} if whole else found, "differ"),
}


@server
@pytest.mark.parametrize(("change", "words"), LIES.values(), ids=LIES)
def test_a_server_whose_numbers_say_nothing(work, server_store, fresh_name, change, words):
    """Whatever its version: what the trial sees counts; the generation stays empty."""
    source, shadow = names(fresh_name)
    made(server_store, source, count=0)
    made(server_store, shadow, count=0)
    work.store = Lying(server_store, change)
    found = choose(work, source, shadow)
    assert isinstance(found, ByContent)
    assert re.search(words, found.reason)
    assert server_store.count(shadow) == 0


@server
def test_the_trial_is_fenced(work, server_store, fresh_name):
    """A later holder has removed the own alias: nothing is written any more, and nothing is said about versions."""
    source, shadow = names(fresh_name)
    made(server_store, source, count=0)
    made(server_store, shadow, count=0)

    class Late(Lying):
        def upsert(self, name, points, **more):
            """Too late."""
            self._store.drop_alias(name)
            return self._store.upsert(name, points, **more)

    work.store = Late(server_store)
    with pytest.raises(NotFoundError):
        choose(work, source, shadow)
    assert server_store.count(shadow) == 0


@server
def test_a_holder_of_the_past_tries_nothing(work, server_store, fresh_name, tmp_path):
    """Its lease is another's: no alias is left behind."""
    source, shadow = names(fresh_name)
    made(server_store, source, count=0)
    made(server_store, shadow, count=0)

    def lost():
        raise LeaseHeldError("taken over")

    work.lease = SimpleNamespace(epoch=work.lease.epoch, renew=lost, ledger=work.lease.ledger)
    with pytest.raises(LeaseHeldError):
        choose(work, source, shadow)
    assert not [alias for alias in server_store.aliases() if alias.startswith(fresh_name)]
    assert server_store.count(shadow) == 0


def wait_until(holds):
    """Poll for at most a minute."""
    deadline = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def flat(pages):
    """All ids of pages."""
    return [one for page in pages for one in points_of(page)]


@server
def test_a_listing_is_compared_with_an_earlier_one(work, server_store, fresh_name):
    """New, written and deleted points are candidates; points without the vector have no number."""
    source, _ = names(fresh_name)
    made(server_store, source)
    write(server_store, source, [Point(100, {}, {"large": [1.0] * 8})])
    with listing(work, source, "small") as before:
        assert flat(before.unlisted(server_store.scan_ids(source))) == [100]
        server_store.delete(EpochAlias(source), [3])
        write(server_store, source, [Point(one, {}, {"small": [1.0, 2.0]}) for one in (5, 50)])
        with listing(work, source, "small") as now:
            assert flat(now.changed_since(before)) == [3, 5, 50]
        with listing(work, source, "small", most=4) as again:
            assert flat(again.changed_since(before)) == [3, 5, 50]


@server
def test_writes_that_nobody_waited_for_are_listed(work, server_store, qdrant_server, fresh_name):
    """The barrier stands behind them."""
    source, _ = names(fresh_name)
    made(server_store, source, count=3000)
    with listing(work, source, "small") as before:
        for start in range(0, 3000, 1000):
            body = {"payload": {"n": -1}, "points": list(range(start, start + 1000))}
            path = f"{qdrant_server.url}/collections/{source}/points/payload?wait=false"
            httpx.post(path, json=body).raise_for_status()
        with listing(work, source, "small") as now:
            assert len(flat(now.changed_since(before))) == 3000


@server
def test_building_the_graph_moves_no_number(work, server_store, qdrant_server, fresh_name):
    """Points in other segments are the same points."""
    source, _ = names(fresh_name)
    schema = CollectionSchema(
        vectors={"a": {"size": 64, "distance": "Dot"}}, config={"optimizers_config": {"indexing_threshold": 50}}
    )
    server_store.create_collection(source, schema, seal=None)
    server_store.complete_collection(EpochAlias(source), schema, defer_index=True)
    rows = np.random.default_rng(3).normal(size=(3000, 64)).astype(np.float32)
    write(server_store, source, [Point(number, {}, {"a": row}) for number, row in enumerate(rows)])
    with listing(work, source, "a") as before:
        server_store.build_index(EpochAlias(source), schema)
        seen = f"{qdrant_server.url}/collections/{source}"
        wait_until(lambda: httpx.get(seen).json()["result"]["indexed_vectors_count"] >= 2000)
        with listing(work, source, "a") as now:
            assert flat(now.changed_since(before)) == []
            assert len(flat(page.ids for page in now.pages())) == 3000


@server
def test_shards_that_move_meanwhile_are_no_listing(work, server_store, fresh_name):
    """The contents are read then."""
    source, _ = names(fresh_name)
    made(server_store, source)
    placements = iter([Placement(((0, 1, "Active"),)), Placement(((0, 2, "Active"),))])

    class Moving(Lying):
        def placement(self, _name):
            """Another one each time."""
            return next(placements)

    work.store = Moving(server_store)
    with pytest.raises(NoVersionsError, match="moved"):
        listing(work, source, "small")


@server
def test_strict_mode_that_comes_later_ends_a_listing(work, server_store, fresh_name):
    """As a refusal of its own kind, at once."""
    source, _ = names(fresh_name)
    made(server_store, source)
    strict = {"enabled": True, "search_allow_exact": False}
    server_store.apply(EpochAlias(source), Change("config.set", "strict_mode_config", strict, None))
    with pytest.raises(NoVersionsError, match="can't be listed"):
        listing(work, source, "small")
    strict = {"enabled": True, "search_allow_exact": True, "max_query_limit": 10}
    server_store.apply(EpochAlias(source), Change("config.set", "strict_mode_config", strict, None))
    with pytest.raises(NoVersionsError, match="can't be listed"):
        listing(work, source, "small")


@server
def test_strict_mode_that_asks_for_indexes_lets_listings_pass(work, server_store, fresh_name):
    """A slice is not a field of payloads, and an id neither."""
    source, shadow = names(fresh_name)
    strict = {"enabled": True, "unindexed_filtering_retrieve": False, "unindexed_filtering_update": False}
    for name in (source, shadow):
        made(server_store, name, SCHEMA.with_(config={"strict_mode_config": strict}))
    assert choose(work, source, shadow) == ByVersion("small", "small")
    with listing(work, source, "small") as found:
        assert flat(page.ids for page in found.pages()) == list(range(30))


@server
def test_next_to_writers_what_is_not_listed_is_found_by_its_id(work, server_store, fresh_name):
    """No point is written without being a candidate later on, and none that stays is lost from sight."""
    source, _ = names(fresh_name)
    made(server_store, source, count=4000)
    ended = threading.Event()
    written: set[int] = set()

    def client():
        other = connect(server_store._settings)
        rows = np.random.default_rng(7)
        while not ended.is_set():
            ids = sorted({int(one) for one in rows.integers(0, 2000, 200)})
            other.edit_vectors(EpochAlias(source), {one: {"small": [3.0, 4.0]} for one in ids})
            written.update(ids)
        other.close()

    with listing(work, source, "small") as before:
        writer = threading.Thread(target=client)
        writer.start()
        try:
            for _ in range(5):
                with listing(work, source, "small") as now:
                    listed = set(flat(page.ids for page in now.pages()))
                    candidates = set(flat(now.changed_since(before)))
                missing = sorted(set(range(4000)) - listed)
                assert candidates >= set(missing)
                asked = flat(page.ids for page in server_store.versions(source, "small", ids=missing))
                assert sorted(asked) == missing
                assert {one for one in candidates if one >= 2000} <= set(missing)
        finally:
            ended.set()
            writer.join()
        with listing(work, source, "small") as last:
            assert set(flat(last.changed_since(before))) == written


class Recording(Lying):
    """Notes the order of what is asked."""

    def __init__(self, store) -> None:
        super().__init__(store)
        self.asked: list[str] = []

    def barrier(self, name):
        """Noted."""
        self.asked.append("barrier")
        return self._store.barrier(name)

    def placement(self, name):
        """Noted."""
        self.asked.append("placement")
        return self._store.placement(name)

    def versions(self, name, vector, *, ids=None):
        """Noted."""
        self.asked.append("versions")
        return self._store.versions(name, vector, ids=ids)


@server
def test_a_listing_stands_behind_a_barrier_and_between_two_readings_of_the_shards(work, server_store, fresh_name):
    """What was accepted before has its number by then, and no shard was moved meanwhile."""
    source, _ = names(fresh_name)
    made(server_store, source, count=3)
    work.store = Recording(server_store)
    listing(work, source, "small").close()
    assert work.store.asked == ["placement", "barrier", "versions", "placement"]


PLACES = {
    "moving": (Placement(((0, 1, "Active"),), ("shard 0 from peer 1 to 2",)), "are being moved"),
    "replicas": (Placement(((0, 1, "Active"), (0, 2, "Active"))), "several replicas"),
    "inactive": (Placement(((0, 1, "Partial"),)), "Partial"),
}


@server
@pytest.mark.parametrize("which", [0, 1], ids=["source", "shadow"])
@pytest.mark.parametrize(("placement", "words"), PLACES.values(), ids=PLACES)
def test_shards_whose_numbers_mean_nothing(work, server_store, fresh_name, placement, words, which):
    """Of either side; the settings don't tell."""
    both = names(fresh_name)
    for name in both:
        made(server_store, name, count=0)

    class Placed(Lying):
        def placement(self, name):
            """Another one for one of the two."""
            return placement if name == both[which] else self._store.placement(name)

    work.store = Placed(server_store)
    found = choose(work, *both)
    assert isinstance(found, ByContent)
    assert words in found.reason
