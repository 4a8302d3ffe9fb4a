"""Generated pairs of schemas on a real server: upgrade gives what is declared, and the way back gives the first."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from tests.conftest_qdrant import clean
from tests.declared_schemas import decide, generate, pairs
from tests.harness import Deployment, write

from qmigrate.commands import check, rollback, schema, upgrade
from qmigrate.declared.compare import compare
from qmigrate.declared.replay import Replayed
from qmigrate.errors import RefusedError
from qmigrate.model.schema import CollectionSchema
from qmigrate.model.transform import Point


def points(found: CollectionSchema, count: int) -> list[Point]:
    """With a value for every vector."""
    made = []
    for number in range(1, count + 1):
        vectors: dict = {name: {"indices": [number], "values": [1.0]} for name in found.sparse}
        for name, params in found.vectors.items():
            row = [float(number + place) for place in range(params["size"])]
            vectors[name] = [row, row] if params.get("multivector_config") else row
        made.append(Point(number, {"kind": f"k{number % 2}", "year": number, "body": f"text {number}"}, vectors))
    return made


def live(made: Deployment) -> CollectionSchema:
    """What the server has."""
    (found,) = schema.schema(made.settings(), ["things"], source="live").collections
    return found.schema


def differs(wanted, found: CollectionSchema) -> list[str]:
    """What the comparison would still do to what is live."""
    return [one.operation.describe() for one in compare(wanted, Replayed(found), {}, drops=True).pieces]


def applied_and_undone(server, folder: Path, pair) -> bool:
    """Whether the way back was there: where a setting can't be unset and has no known default, it is refused."""
    qdrant = {"url": server.url, "grpc_port": server.grpc_port, "timeout": 20}
    made = Deployment(folder, qdrant, f"sqlite:///{folder}/ledger.db", name="things")
    scripts = folder / "qdrant_migrations"
    before, after = (one.wanted() for one in pair)
    generate(scripts, [before], "first")
    store = made.store()
    try:
        upgrade.upgrade(made.settings())
        write(store, "things", points(before.schema, 12))
        first = live(made)
        assert differs(before, first) == []
        outline = generate(scripts, [after], "second")
        decide(scripts)
        if not outline.stages:
            return True
        upgrade.upgrade(made.settings())
        assert differs(after, live(made)) == []
        assert check.check(made.settings(), models=False).exit_code == 0
        if not rolled_back(made):
            return False
        then = live(made)
        assert (then.vectors, then.sparse, then.indexes) == (first.vectors, first.sparse, first.indexes)
        assert differs(before, then) == []
        return True
    finally:
        store.close()
        rest = made.store()
        try:
            clean(rest, "things")
        finally:
            rest.close()


def rolled_back(made: Deployment) -> bool:
    """Whether it is at the first revision again; False where that was refused, for one of two reasons."""
    try:
        rollback.rollback(made.settings(), "0001", only=["things"])
    except RefusedError as error:
        why = error.message
    else:
        return True
    assert "can't be unset" in why or "went live together" in why
    return False


@pytest.mark.server
@pytest.mark.nightly
@pytest.mark.timeout(3000)
def test_50_pairs_on_a_server(qdrant_server):
    """Upgrade on a real server gives the declared schema, downgrade gives the first."""
    ways_back = []

    @settings(max_examples=50, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(pair=pairs())
    def one(pair):
        with tempfile.TemporaryDirectory() as folder:
            ways_back.append(applied_and_undone(qdrant_server, Path(folder) / "project", pair))

    one()
    # The figure of the run, shown with -s.
    print(f"{len(ways_back)} pairs on a server: {ways_back.count(True)} there and back")
    assert ways_back.count(True) > len(ways_back) / 2
