"""A request of a dead holder lands as late as it can, at any point of the next one's work: the proof finds what it left.

The next holder copies at once. What the dead one had sent through its alias may land until the longest request time is
over: before each write of the next one, and at the last moment before that one goes on to what must not meet it.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
from tests.conftest import clean
from tests.faults.pause import WRITES
from tests.faults.stride import thinned
from tests.harness import ADD, CREATE, Deployment, make_point, write

from qmigrate.commands import upgrade
from qmigrate.engine import executor, rebuild
from qmigrate.engine.prove import proof
from qmigrate.model.transform import Point
from qmigrate.store.server.server import ServerStore

pytestmark = pytest.mark.server

POINTS = 12
#: A vector that is made of one that the target doesn't have: nothing in the target shows from which.
FROM_DROPPED = """
def upgrade():
    return [
        op.AddVector("{name}", "b", VectorParams(size=4, distance=Distance.DOT),
                     values=Compute(lambda point: [float(place) for place in point.vectors["a"][:4]])),
        op.DropVector("{name}", "a", cutover="immediate"),
    ]
"""
PAYLOAD = """
def upgrade():
    return [op.TransformPoints("{name}", lambda point: {{**point.payload, "more": point.payload["text"] + "!"}})]
"""


@pytest.fixture
def prepare(qdrant_server, tmp_path):
    """Makes a loaded collection with a rebuild pending that was interrupted before it had copied anything."""
    all_made = []

    def made(number: int, body: str, monkeypatch: pytest.MonkeyPatch) -> Deployment:
        folder = tmp_path / str(number)
        qdrant = {"url": qdrant_server.url, "grpc_port": qdrant_server.grpc_port, "timeout": 1}
        one = Deployment(folder / "project", qdrant, f"sqlite:///{folder}/ledger.db", extra={"rebuild": {"workers": 1}})
        all_made.append(one)
        one.revise("0001", CREATE)
        upgrade.upgrade(one.settings())
        one.load(POINTS, uuids=False)
        one.revise("0002", body)

        def dies(*_arguments: object) -> None:
            raise KeyboardInterrupt

        with monkeypatch.context() as patch:
            patch.setattr(rebuild, "copy_ranges", dies)
            with pytest.raises(KeyboardInterrupt):
                upgrade.upgrade(one.settings())
        return one

    yield made
    for one in all_made:
        clean(one)


def changed(made: Deployment, *, vector: bool) -> None:
    """Since the dead one has read: a point has another text, or another vector, and one is deleted."""
    store = made.store()
    point = make_point(1, text=None if vector else "another text")
    write(store, made.name, [Point(point.id, point.payload, {"a": [9.0] * 8})] if vector else [point])
    store.delete(made.name, [3])
    store.close()


class Straggler:
    """Lands once, when the test says so: what the dead holder made of the points as it had read them."""

    def __init__(self, made: Deployment, points: list[Point]) -> None:
        self._made, self._points = made, points
        self.landed_in: str | None = None

    def land(self, where: str) -> None:
        if self.landed_in is None:
            self.landed_in = where
            store = self._made.store()
            # The server has resolved the alias before that was removed.
            write(store, f"{self._made.name}__g0002", self._points)
            store.close()


def resumed(made: Deployment, monkeypatch: pytest.MonkeyPatch, straggler: Straggler, at: int | None) -> int:
    """The next holder, with the straggler before its write of this number, None for as late as possible.

    Returns:
        How many writes there are up to that moment.
    """
    passed = 0
    over = False

    def counted(name: str, original: Callable[..., object]) -> Callable[..., object]:
        def write_(self: ServerStore, *arguments: object, **more: object) -> object:
            nonlocal passed
            if not over:
                if passed == at:
                    straggler.land(name)
                passed += 1
            return original(self, *arguments, **more)

        return write_

    def waited(work: object) -> None:
        nonlocal over
        wait(work)
        if not over:
            straggler.land("the last moment")
        over = True

    with monkeypatch.context() as patch:
        wait = executor.await_late
        patch.setattr(executor, "await_late", waited)
        patch.setattr(rebuild, "await_late", waited)
        patch.setattr(proof, "await_late", waited)
        for name in WRITES:
            if hasattr(ServerStore, name):
                patch.setattr(ServerStore, name, counted(name, getattr(ServerStore, name)))
        upgrade.upgrade(made.settings())
    return passed


CASES = {
    "embedded": (ADD, lambda point: {**point.vectors, "b": [1.0] * 16}),
    "payload": (PAYLOAD, lambda point: point.vectors),
}


@pytest.mark.timeout(600)
@pytest.mark.parametrize("case", ["payload", pytest.param("embedded", marks=pytest.mark.nightly)])
def test_what_lands_during_the_copy_is_found_by_the_proof(case, prepare, monkeypatch):
    """A text that has changed since, and a point that was deleted: neither is what the straggler says."""
    body, vectors = CASES[case]

    def run(number: int, at: int | None) -> tuple[int, Deployment]:
        made = prepare(number, body, monkeypatch)
        old = [make_point(1), make_point(2)]
        changed(made, vector=False)
        payload = (lambda point: {**point.payload, "more": point.payload["text"] + "!"}) if case == "payload" else None
        points = [Point(one.id, payload(one) if payload else one.payload, vectors(one)) for one in old]
        straggler = Straggler(made, points)
        writes = resumed(made, monkeypatch, straggler, at)
        assert straggler.landed_in is not None
        found = made.contents()
        assert set(found) == set(range(1, POINTS + 1)) - {3}, straggler.landed_in
        assert found[2][0]["text"] == "another text", straggler.landed_in
        if case == "embedded":
            assert found[2][1]["b"] != found[1][1]["b"]
            assert len({str(vectors["b"]) for _, vectors in found.values()}) == len(found)
        else:
            assert found[2][0]["more"] == "another text!"
        assert (made.row().revision, made.row().state) == ("0002", "ready")
        return writes, made

    writes, _ = run(0, None)
    assert writes >= 3
    for at in thinned(list(range(writes))):
        run(at + 1, at)


def test_what_lands_behind_the_proof_is_found_by_another_listing(prepare, monkeypatch):
    """The proof has read all points by then, and goes on while the dead may still write."""
    made = prepare(0, ADD, monkeypatch)
    one = make_point(1)
    changed(made, vector=False)
    straggler = Straggler(made, [Point(one.id, one.payload, {**one.vectors, "b": [1.0] * 16}), make_point(2)])
    resumed(made, monkeypatch, straggler, None)
    assert straggler.landed_in == "the last moment"
    found = made.contents()
    assert set(found) == set(range(1, POINTS + 1)) - {3}
    assert found[2][0]["text"] == "another text"
    assert found[2][1]["b"] != [1.0] * 16


def test_a_vector_that_nothing_in_the_target_explains_is_not_made_before(prepare, monkeypatch):
    """There the copy itself waits: what lands late would be taken for right."""
    made = prepare(0, FROM_DROPPED, monkeypatch)
    one = make_point(1)
    straggler = Straggler(made, [Point(one.id, one.payload, {"b": one.vectors["a"][:4]})])
    changed(made, vector=True)
    store = made.store()
    source = {identifier: vectors["a"] for identifier, (_, vectors) in made.contents().items()}
    store.close()
    resumed(made, monkeypatch, straggler, None)
    assert straggler.landed_in == "the last moment"
    found = {identifier: vectors["b"] for identifier, (_, vectors) in made.contents().items()}
    assert found == {identifier: vector[:4] for identifier, vector in source.items()}
