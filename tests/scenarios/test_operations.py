"""Every operation on every store: up, back, up again. Each row checks schema, points, status and history."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import httpx
import numpy as np
import pytest
from qdrant_client import grpc
from qdrant_client.conversions.conversion import json_to_value
from tests.conftest import clean
from tests.harness import Deployment
from tests.scenarios.operations_table import FUNCTIONS, ROWS, Row

from qmigrate.commands import rollback as back
from qmigrate.commands import status, upgrade
from qmigrate.errors import RefusedError
from qmigrate.model.schema import CollectionSchema
from qmigrate.model.transform import Point
from qmigrate.store import records
from qmigrate.store.fence import NO_LIMIT

#: Points per request: what the strict mode of one row allows.
CHUNK = 5
#: Rows that run at the same time; a server answers them while it waits for its disk.
WORKERS = 6
CASES = [
    pytest.param(row, store, id=f"{row.name}-{store}", marks=[pytest.mark.server] if store == "server" else [])
    for row in ROWS
    for store in row.stores
]


class Trial:
    """A deployment with one collection, seen from outside.

    Attributes:
        url: of the server, or None in local mode.
    """

    def __init__(self, made: Deployment) -> None:
        self.made = made
        self.url = made.qdrant.get("url")
        self.settings = made.settings()

    def revise(self, identifier: str, operations: str, functions: str = FUNCTIONS) -> None:
        """Write a revision that says `operations`; NAME is the collection."""
        source = f'\nNAME = "{self.made.name}"\n{functions}\n\ndef upgrade():\n    return [{operations}]\n'
        self.made.revise(identifier, source.replace("{", "{{").replace("}", "}}"))

    def upgrade(self, target: str = "head") -> None:
        """Upgrade, with one job at most left to do."""
        upgrade.upgrade(self.settings, target)

    def rest(self, method: str, path: str, body: Any, name: str | None = None) -> Any:
        """A request about the collection, past qmigrate."""
        answer = httpx.request(method, f"{self.url}/collections/{name or self.made.name}{path}", json=body, timeout=20)
        assert answer.status_code == 200, answer.text
        return answer.json()["result"]

    def put(self, points: list[Point], name: str | None = None) -> None:
        """Write points through the logical name (or another one)."""
        store = self.made.store()
        try:
            for start in range(0, len(points), CHUNK):
                store.upsert(name or self.made.name, [ready(point) for point in points[start : start + CHUNK]]).wait()
        finally:
            store.close()

    def schema(self, name: str | None = None) -> dict[str, Any] | None:
        """The live schema as JSON; of aliases only the further ones, without the collection's name."""
        store = self.made.store()
        try:
            found = store.describe(name or self.made.name)
        finally:
            store.close()
        return None if found is None else shown(found.schema, self.made.name)

    def contents(self, name: str | None = None) -> dict[Any, tuple[dict, dict]]:
        """Id -> (payload, vectors)."""
        store = self.made.store()
        try:
            pages = list(store.scan(name or self.made.name))
        finally:
            store.close()
        return {
            records.point_id(stored): (records.payload_of(stored), records.vectors_of(stored))
            for page in pages
            for stored in page
        }

    def names(self) -> tuple[dict[str, str], list[str]]:
        """Aliases and collections of this deployment."""
        store = self.made.store()
        try:
            mine = {alias: target for alias, target in store.aliases().items() if alias.startswith(self.made.name)}
            return mine, [name for name in store.physical_names() if name.startswith(self.made.name)]
        finally:
            store.close()

    def history(self) -> list[tuple[str, str, str | None]]:
        """(direction, revision, strategy), newest first."""
        rows = status.history(self.settings).rows
        return [(row.direction, row.revision, row.strategy) for row in rows if row.collection == self.made.name]

    def check_row(self, revision: str, points: int, *pending: str) -> None:
        """What `status` says."""
        row = self.made.row()
        assert (row.revision, row.state, row.points) == (revision, "pending" if pending else "ready", points)
        assert row.pending == pending


def ready(point: Point) -> bytes:
    """A point to write."""
    made = grpc.PointStruct(id=grpc.PointId(**{"num" if isinstance(point.id, int) else "uuid": point.id}))
    for key, value in point.payload.items():
        made.payload[key].CopyFrom(json_to_value(value))
    if set(point.vectors) == {""}:
        made.vectors.vector.MergeFromString(records.vector_wire(point.vectors[""]))
        return made.SerializeToString()
    made.vectors.vectors.SetInParent()
    for name, value in point.vectors.items():
        made.vectors.vectors.vectors[name].MergeFromString(records.vector_wire(value))
    return made.SerializeToString()


def shown(schema: CollectionSchema, name: str) -> dict[str, Any]:
    """A schema as JSON whose aliases don't depend on the collection's name."""
    found = copy.deepcopy(schema.to_json())
    found["aliases"] = sorted(alias[len(name) :] for alias in schema.aliases if alias not in (name,))
    return found


# --- what is compared ---------------------------------------------------------------------------------------------


def check_schema(seen: dict[str, Any], before: dict[str, Any], row: Row, *, local: bool) -> None:
    """What the row says is there; everything else is exactly as before, defaults and all."""
    if local:
        seen, before = copy.deepcopy(seen), copy.deepcopy(before)
    assert seen["aliases"] == sorted([*before["aliases"], *row.has.get("aliases", ())])
    for family in ("vectors", "sparse", "indexes", "config"):
        wanted: Mapping[str, Any] = row.has.get(family, {})
        if local and family in ("indexes", "config"):
            wanted = {name: value for name, value in wanted.items() if name == "metadata"}
        gone = {name for name, value in wanted.items() if value is None}
        assert set(seen[family]) == (set(before[family]) | set(wanted)) - gone, family
        for name, value in seen[family].items():
            if name not in wanted:
                assert value == before[family][name], f"{family} {name}"
            else:
                assert not missing(value, wanted[name], local=local), f"{family} {name}: {value}"


def missing(seen: Any, wanted: Any, *, local: bool) -> list[str]:
    """Fields of `wanted` that `seen` doesn't hold; local mode keeps only what decides a vector's values."""
    if not isinstance(wanted, Mapping):
        return [] if json.dumps(seen) == json.dumps(wanted) else [repr(wanted)]
    if not isinstance(seen, Mapping):
        return [repr(wanted)]
    kept = ("size", "distance", "datatype", "multivector_config", "modifier", "comparator")
    keys = [key for key in wanted if not local or "size" not in wanted or key in kept]
    if local and "index" in keys:
        keys.remove("index")
    return [f"{key}: {part}" for key in keys for part in missing(seen.get(key), wanted[key], local=local)]


def check_points(
    seen: Mapping[Any, tuple[dict, dict]], before: Mapping[Any, tuple[dict, dict]], row: Row, *, local: bool
) -> None:
    """Ids, payloads (types too), carried vectors bit by bit, new ones as the row says."""
    assert seen.keys() == before.keys()
    for key, (payload, vectors) in before.items():
        wanted_payload, wanted = row.after(key, payload, vectors)
        found_payload, found = seen[key]
        assert exact(found_payload) == exact(wanted_payload), key
        assert found.keys() == wanted.keys(), key
        for name, value in wanted.items():
            carried = any(value is old for old in vectors.values())
            # Local mode normalises at every write, a server only what is not normalised.
            bitwise = carried and not local and row.loose == 1e-6
            assert equal(found[name], value, 0.0 if bitwise else row.loose), f"{key} {name}: {found[name]} {value}"


def exact(payload: dict) -> str:
    """A payload as text in which 1, 1.0 and true differ."""
    return json.dumps(payload, sort_keys=True)


def equal(seen: Any, wanted: Any, loose: float) -> bool:
    """Whether two vectors of any kind are equal."""
    if isinstance(wanted, Mapping):
        return list(seen["indices"]) == list(wanted["indices"]) and equal(seen["values"], wanted["values"], loose)
    one, other = np.array(seen, dtype=np.float32), np.array(wanted, dtype=np.float32)
    return one.shape == other.shape and bool(np.allclose(one, other, rtol=loose, atol=loose))


# --- the runner -------------------------------------------------------------------------------------------------


def run_row(row: Row, trial: Trial) -> None:
    """Start, points, upgrade, check, rollback, check, upgrade, check."""
    local = trial.url is None
    trial.revise("0001", row.start)
    trial.upgrade()
    points = row.points()
    trial.put(points)
    for method, path, body in row.prepare:
        trial.rest(method, path, body)
    before, contents = trial.schema(), trial.contents()
    assert contents.keys() == {point.id for point in points}
    assert all(exact(contents[point.id][0]) == exact(point.payload) for point in points)
    trial.revise("0002", row.change)
    trial.check_row("0001", len(points), "0002")
    trial.upgrade()
    check_forward(row, trial, before, contents, local=local)
    assert trial.history() == [("upgrade", "0002", row.strategy), ("upgrade", "0001", "create")]
    # Local mode only declares settings, so there nothing stands in the way.
    if row.refused and not (local and "unset" in row.refused):
        refuse_back(row, trial, before, contents, local=local)
        return
    back.rollback(trial.settings, "-1")
    before = unfenced(before, local=local) if row.strategy == "copy" else before
    assert trial.schema() == before
    check_points(trial.contents(), contents, Row("", ""), local=local)
    trial.check_row("0001", len(contents), "0002")
    assert [entry[0] for entry in trial.history()] == ["rollback", "upgrade", "upgrade"]
    trial.upgrade()
    check_forward(row, trial, before, contents, local=local)
    assert [entry[0] for entry in trial.history()] == ["upgrade", "rollback", "upgrade", "upgrade"]
    aliases, _ = trial.names()
    assert not [alias for alias in aliases if "__e" in alias]


def unfenced(schema: dict[str, Any], *, local: bool) -> dict[str, Any]:
    """A schema after a fence was lifted: strict mode can't be unset, so a limit too large to matter stays."""
    if local:
        return schema
    strict = schema["config"].get("strict_mode_config", {})
    lifted = {**strict, "enabled": strict.get("enabled", False), "write_rate_limit": NO_LIMIT}
    return {**schema, "config": {**schema["config"], "strict_mode_config": lifted}}


def check_forward(row: Row, trial: Trial, before: Any, contents: Any, *, local: bool) -> None:
    """The state that revision 0002 leads to."""
    check_schema(trial.schema(), before, row, local=local)
    check_points(trial.contents(), contents, row, local=local)
    trial.check_row("0002", len(contents))
    for alias in row.has.get("aliases", ()):
        assert trial.schema(trial.made.name + alias) == trial.schema()


def refuse_back(row: Row, trial: Trial, before: Any, contents: Any, *, local: bool) -> None:
    """A lossy way back is refused with exit 10, and nothing has changed."""
    with pytest.raises(RefusedError) as refused:
        back.rollback(trial.settings, "-1")
    assert refused.value.exit_code == 10
    assert row.refused in refused.value.message
    check_forward(row, trial, before, contents, local=local)
    assert len(trial.history()) == 2


# --- rows, several at a time ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def outcomes(request, tmp_path_factory) -> Iterator[dict[str, Future]]:
    """Every selected row under way: they spend their time waiting for the server."""
    chosen = [item.callspec.params for item in request.session.items if getattr(item, "originalname", "") == "test_row"]
    server = request.getfixturevalue("qdrant_server") if any(one["store"] == "server" for one in chosen) else None
    with ThreadPoolExecutor(WORKERS) as pool:
        yield {
            f"{one['row'].name}-{one['store']}": pool.submit(
                one_row, one["row"], one["store"], server, tmp_path_factory.mktemp("row")
            )
            for one in chosen
        }


def one_row(row: Row, store: str, server: Any, folder: Any) -> None:
    """A row on a deployment of its own, which is removed afterwards."""
    made = deploy(folder, server if store == "server" else None)
    try:
        run_row(row, Trial(made))
    finally:
        if store == "server":
            clean(made)


def deploy(folder: Any, server: Any, **more: Any) -> Deployment:
    """A deployment on a server, or in local mode when there is none."""
    qdrant = {"path": str(folder / "qdrant")}
    if server is not None:
        qdrant = {"url": server.url, "grpc_port": server.grpc_port, "timeout": 10}
    return Deployment(folder / "project", qdrant, f"sqlite:///{folder}/ledger.db", **more)


@pytest.mark.parametrize(("row", "store"), CASES)
def test_row(row, store, outcomes):
    """An operation does what it says, is taken back exactly (or refuses to), and can be done again."""
    outcomes[f"{row.name}-{store}"].result()
