"""The choice between versions and contents, its trial, and listings next to writers, on a real server."""

from __future__ import annotations

import re
from contextlib import closing, contextmanager
from itertools import count

import numpy as np
import pytest
from tests.harness import write

from qmigrate.engine.epoch_aliases import release
from qmigrate.engine.prove.choice import ByContent, ByVersion, choose
from qmigrate.engine.work import Work
from qmigrate.errors import NoVersionsError
from qmigrate.ledger import Ledger
from qmigrate.model.ids import pages_of, points_of
from qmigrate.model.plan import Job
from qmigrate.model.schema import CollectionSchema
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
    store.create_collection(name, schema, seal=None, defer_index=False)
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
        server_store.create_collection(name, schema, seal=None, defer_index=False)
    (vector,) = PARAMS[kind]
    assert choose(work, source, shadow) == ByVersion(vector, vector)
    assert server_store.count(shadow) == 0


STRICT = {"enabled": True}
REASONS = {
    "exact": ({"strict_mode_config": {**STRICT, "search_allow_exact": False}}, "forbids exact search"),
    "limit": ({"strict_mode_config": {**STRICT, "max_query_limit": 100}}, "max_query_limit"),
    "rate": ({"strict_mode_config": {**STRICT, "read_rate_limit": 1000}}, "read_rate_limit"),
    "replicas": ({"replication_factor": 2}, "several replicas"),
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
            store.create_collection(name, SCHEMA, seal=None, defer_index=False)
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

    def __init__(self, store, change) -> None:
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
