"""Writes right behind a listing, and deletions of points that no listing has: the passes and the sweep find them."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from qdrant_client import QdrantClient
from qdrant_client.models import PointIdsList
from tests.conftest import clean
from tests.harness import ADD, loaded_on, make_point, write

from qmigrate.commands import upgrade
from qmigrate.engine import rebuild
from qmigrate.engine.golive import golive
from qmigrate.engine.prove import choice, delta, proof
from qmigrate.engine.prove.choice import ByVersion
from qmigrate.store.faults import RefusedRequestError, SlowError
from qmigrate.store.server import versions

pytestmark = [pytest.mark.server, pytest.mark.timeout(180)]

POINTS = 60


@pytest.fixture
def made(qdrant_server, tmp_path):
    """A loaded collection with a pending rebuild, whose writers go on."""
    deployment = loaded_on(qdrant_server, tmp_path, POINTS, uuids=True)
    deployment.revise("0002", ADD)
    yield deployment
    clean(deployment)


def writes_before_and_behind_the_proof(monkeypatch, full=None) -> None:
    """Another client writes before the full pass and behind it, so that versions are listed and a delta pass follows."""
    prove, full = rebuild.prove, full or proof.last_pass

    def proving(work, sides, **options):
        write(work.store, sides.source, [make_point(0, text="before the proof")])
        return prove(work, sides, **options)

    def last_pass(work, sides, sample):
        report = full(work, sides, sample)
        write(work.store, sides.source, [make_point(3, text="behind the full pass")])
        return report

    monkeypatch.setattr(rebuild, "prove", proving)
    monkeypatch.setattr(proof, "last_pass", last_pass)


def after_listing(monkeypatch, number: int, action: Callable) -> list[str]:
    """Do something right after the source was listed for the `number`th time, counted from 1; the names listed."""
    listing, seen = delta.listing, []

    def listed(work, name, vector, **options):
        table = listing(work, name, vector, **options)
        if name.endswith("__g0001"):
            seen.append(name)
            if len(seen) == number:
                action(work.store, name)
        return table

    monkeypatch.setattr(delta, "listing", listed)
    return seen


def texts(made, name=None):
    """The text of each point behind the name, or of a generation."""
    return {one: payload.get("text") for one, (payload, _) in made.contents(name).items()}


def test_a_write_right_behind_the_listing_of_a_delta_pass_is_not_taken_for_proven(made, monkeypatch):
    """What that listing doesn't show isn't in the pass, so its operation ids must not count as seen by it."""
    writes_before_and_behind_the_proof(monkeypatch)
    seen = after_listing(monkeypatch, 2, lambda store, name: write(store, name, [make_point(6, text="in between")]))
    upgrade.upgrade(made.settings())
    assert len(seen) >= 2
    now = texts(made)
    assert now[7] == "in between"
    assert now == texts(made, f"{made.name}__g0001")


def test_a_barrier_that_shows_nothing_is_not_taken_for_a_write(made, monkeypatch):
    """Nothing was written behind the full pass: no other pass follows, and the sweep reads nothing."""
    prove, reads = rebuild.prove, []

    def proving(work, sides, **options):
        write(work.store, sides.source, [make_point(0, text="before the proof")])
        return prove(work, sides, **options)

    delta_pass = proof.delta_pass
    monkeypatch.setattr(rebuild, "prove", proving)
    monkeypatch.setattr(proof, "delta_pass", lambda *args: reads.append(args) or delta_pass(*args))
    (outcome,) = upgrade.upgrade(made.settings()).outcomes
    assert not reads
    assert outcome.report["1.sweep"]["sweep"]["rounds"] == 0
    assert texts(made)[1] == "before the proof"


def without_the_vector(made, ids) -> None:
    """These points have no vector by which they could be listed."""
    client = QdrantClient(url=made.qdrant["url"], grpc_port=made.qdrant["grpc_port"], check_compatibility=False)
    client.delete_vectors(made.name, ["a"], ids)
    client.close()


def test_a_late_deletion_of_a_point_that_no_listing_has_is_carried(made, monkeypatch):
    """It has not the vector by which is listed: it was in no listing before, and is in none now."""
    without_the_vector(made, [13, 16])
    writes_before_and_behind_the_proof(monkeypatch)
    swap = golive.swap

    def late(work, target, names):
        work.store.delete(f"{made.name}__g0001", [13])
        return swap(work, target, names)

    monkeypatch.setattr(golive, "swap", late)
    upgrade.upgrade(made.settings())
    assert 13 not in texts(made)
    assert texts(made) == texts(made, f"{made.name}__g0001")


def test_a_deletion_behind_the_full_pass_of_a_point_that_no_listing_has_is_made(made, monkeypatch):
    """The new generation is listed by a vector that each of its points has, so nothing was written there either."""
    without_the_vector(made, [13, 16])
    monkeypatch.setattr(delta, "choose", lambda *_args: ByVersion("a", "b"))
    full = proof.last_pass
    writes_before_and_behind_the_proof(monkeypatch, full=lambda *args: _then(full(*args), made, [13]))
    upgrade.upgrade(made.settings())
    assert 13 not in texts(made)
    assert texts(made) == texts(made, f"{made.name}__g0001")


def _then(report, made, ids):
    client = QdrantClient(url=made.qdrant["url"], grpc_port=made.qdrant["grpc_port"], check_compatibility=False)
    client.delete(made.name, PointIdsList(points=ids))
    client.close()
    return report


@pytest.mark.parametrize("method", ["upsert", "versions"])
def test_what_the_server_refuses_or_has_no_time_for_only_means_that_all_points_are_read(made, monkeypatch, method):
    """The trial is refused, or an exact search takes longer than a request may: the upgrade needs neither."""
    if method == "upsert":
        monkeypatch.setattr(choice, "_write", lambda *_args: _raise(RefusedRequestError("no room for further points")))
    else:
        monkeypatch.setattr(versions, "decoded", lambda _answer: _raise(SlowError("no answer within 5 s")))
    made.extra["rebuild"] = {"writes": "freeze"}
    made.__post_init__()
    upgrade.upgrade(made.settings())
    assert all("b" in vectors for _, vectors in made.contents().values())
    assert texts(made) == texts(made, f"{made.name}__g0001")


def test_with_auto_a_quiet_collection_that_cant_be_listed_is_read_once(made, monkeypatch):
    """Nothing was written since the proof of the build, and another one would not tell how long a pause would be."""
    monkeypatch.setattr(choice, "_write", lambda *_args: _raise(RefusedRequestError("no room for further points")))
    made.extra["rebuild"] = {"writes": "auto"}
    made.__post_init__()
    full, passes = proof.last_pass, []
    monkeypatch.setattr(proof, "last_pass", lambda *args: passes.append(args) or full(*args))
    upgrade.upgrade(made.settings())
    assert len(passes) == 1
    assert all("b" in vectors for _, vectors in made.contents().values())


def _raise(error):
    raise error
