"""A deployment as a trial: what is behind a name, what it has to equal, and the way of one row through it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import httpx
import numpy as np
import pytest
from qdrant_client import grpc
from qdrant_client.conversions.conversion import json_to_value
from tests.harness import Deployment
from tests.scenarios.operations_points import FUNCTIONS
from tests.scenarios.operations_table import Row

from qmigrate.commands import check, status, upgrade
from qmigrate.commands import rollback as back
from qmigrate.errors import RefusedError
from qmigrate.model.schema import CollectionSchema
from qmigrate.model.transform import Point
from qmigrate.store import records
from qmigrate.store.server.fencing import NO_LIMIT

#: Points per request: what the strict mode of one row allows.
CHUNK = 5
UNCHANGED = Row("unchanged", "")


@dataclass(frozen=True)
class Seen:
    """What is behind a name.

    Attributes:
        schema: as JSON, without the logical name among its aliases; None when there is no collection.
        points: id -> (payload, vectors).
        aliases: of the whole deployment, and `collections` likewise.
        shards: how many reported an operation id.
    """

    schema: dict[str, Any] | None
    points: dict[Any, tuple[dict, dict]]
    aliases: dict[str, str]
    collections: tuple[str, ...]
    shards: int


class Trial:
    """A deployment with one collection, seen from outside.

    Attributes:
        url: of the server, or None in local mode.
    """

    def __init__(self, made: Deployment) -> None:
        self.made = made
        self.url = made.qdrant.get("url")
        self.local = self.url is None
        self.settings = made.settings()

    def revise(self, identifier: str, operations: str, functions: str = FUNCTIONS) -> None:
        """Write a revision with `operations`; NAME is the collection."""
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

    def put(self, given: list[Point], name: str | None = None) -> None:
        """Write points through the logical name (or another one)."""
        store = self.made.store()
        try:
            for start in range(0, len(given), CHUNK):
                store.upsert(name or self.made.name, [ready(point) for point in given[start : start + CHUNK]]).wait()
        finally:
            store.close()

    def look(self, name: str | None = None) -> Seen:
        """Everything behind a name, read past qmigrate's commands."""
        wanted, mine = name or self.made.name, self.made.name
        store = self.made.store()
        try:
            aliases = {alias: target for alias, target in store.aliases().items() if alias.startswith(mine)}
            physical = tuple(one for one in store.physical_names() if one.startswith(mine))
            found = store.describe(wanted)
            pages = list(store.scan(wanted)) if found is not None else []
            ids = store.operation_ids(wanted) if found is not None else {}
        finally:
            store.close()
        found_points = {
            records.point_id(stored): (records.payload_of(stored), records.vectors_of(stored))
            for page in pages
            for stored in page
        }
        return Seen(shown(found.schema, mine) if found else None, found_points, aliases, physical, len(ids))

    def check_drift(self, row: Row) -> None:
        """Nothing differs from the record but payload indexes that the row makes by hand."""
        made = {
            f"payload_indexes.{body['field_name']}" for _, path, body in row.prepare if path.startswith("/index")
        }
        (found,) = check.check(self.settings, only=[self.made.name]).collections
        drifted = {one.path: (one.recorded, one.live) for one in found.findings if one.severity == "drift"}
        assert set(drifted) == made, drifted

    def history(self) -> list[tuple[str, str, str | None]]:
        """(direction, revision, strategy), newest first."""
        rows = status.history(self.settings).rows
        return [(row.direction, row.revision, row.strategy) for row in rows if row.collection == self.made.name]

    def check_row(self, revision: str, count: int, *pending: str, state: str = "ready") -> None:
        """What `status` reports."""
        row = self.made.row()
        seen = (row.revision, row.state, row.points, row.pending)
        assert seen == (revision, "pending" if pending else state, count, pending), f"{seen} {row.detail}"


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
    further = sorted(alias.removeprefix(name) for alias in schema.aliases if alias != name)
    return {**schema.to_json(), "aliases": further}


# --- what is compared ---------------------------------------------------------------------------------------------


def check_schema(seen: dict[str, Any], before: dict[str, Any], row: Row, *, local: bool) -> None:
    """What the row names is there; everything else is exactly as before, defaults and all."""
    assert seen["aliases"] == sorted([*before["aliases"], *row.has.get("aliases", ())])
    for family in ("vectors", "sparse", "indexes", "config"):
        wanted: Mapping[str, Any] = row.has.get(family, {})
        if local and family in ("indexes", "config"):
            wanted = {name: value for name, value in wanted.items() if name == "metadata"}
        gone = {name for name, value in wanted.items() if value is None}
        names = (set(before[family]) | set(wanted)) - gone
        assert set(seen[family]) == names, f"{family}: {sorted(seen[family])}, not {sorted(names)}"
        for name, value in seen[family].items():
            if name not in wanted:
                assert value == before[family][name], f"{family} {name}: {value}, was {before[family][name]}"
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
    """Ids, payloads (types too), carried vectors bit by bit, new ones as in the row."""
    assert seen.keys() == before.keys(), f"ids: {seen.keys() ^ before.keys()}"
    for key, (payload, vectors) in before.items():
        wanted_payload, wanted = row.after(key, payload, vectors)
        found_payload, found = seen[key]
        assert exact(found_payload) == exact(wanted_payload), f"{key}: {found_payload}, not {wanted_payload}"
        assert found.keys() == wanted.keys(), f"{key}: vectors {sorted(found)}, not {sorted(wanted)}"
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
    before = begin(row, trial)
    trial.check_row("0001", len(before.points), "0002")
    trial.upgrade()
    check_forward(row, trial, before)
    history = trial.history()
    strategy = "copy" if row.strategy == "clone" and trial.local else row.strategy
    assert history == [("upgrade", "0002", strategy), ("upgrade", "0001", "create")], history
    if strategy in ("copy", "clone"):
        proof = status.history(trial.settings).rows[0].report["verification"]
        assert (proof["points"], proof["proven"], proof["repaired"]) == (len(before.points), len(before.points), 0), proof
    # Local mode only declares settings, so there nothing stands in the way.
    if row.refused and not (trial.local and "unset" in row.refused):
        with pytest.raises(RefusedError, match=row.refused) as refused:
            back.rollback(trial.settings, "-1")
        assert refused.value.exit_code == 10
        check_forward(row, trial, before)
        assert len(trial.history()) == 2
        return
    back.rollback(trial.settings, "-1")
    seen = trial.look()
    if strategy in ("copy", "clone") and not trial.local:
        before = replace(before, schema=unfenced(before.schema))
    assert seen.schema == before.schema, f"{seen.schema}, was {before.schema}"
    check_points(seen.points, before.points, UNCHANGED, local=trial.local)
    trial.check_row("0001", len(before.points), "0002")
    trial.check_drift(row)
    trial.upgrade()
    check_forward(row, trial, before)
    assert [entry[0] for entry in trial.history()] == ["upgrade", "rollback", "upgrade", "upgrade"]


def begin(row: Row, trial: Trial) -> Seen:
    """The start of a row: its collection as it is right before revision 0002, which is there and not applied."""
    trial.revise("0001", row.start)
    trial.upgrade()
    loaded = row.points()
    trial.put(loaded)
    for method, path, body in row.prepare:
        trial.rest(method, path, body)
    before = trial.look()
    assert {key: exact(payload) for key, (payload, _) in before.points.items()} == {
        point.id: exact(point.payload) for point in loaded
    }
    trial.revise("0002", row.change)
    return before


def unfenced(schema: dict[str, Any]) -> dict[str, Any]:
    """A schema after its fence was lifted: strict mode can't be unset, so a limit too large to matter stays."""
    strict = schema["config"].get("strict_mode_config", {})
    lifted = {"enabled": False, "write_rate_limit": NO_LIMIT, **strict}
    return {**schema, "config": {**schema["config"], "strict_mode_config": lifted}}


def check_forward(row: Row, trial: Trial, before: Seen) -> None:
    """The state that revision 0002 leads to."""
    seen = trial.look()
    check_schema(seen.schema, before.schema, row, local=trial.local)
    check_points(seen.points, before.points, row, local=trial.local)
    trial.check_row("0002", len(before.points), state="drift" if row.prepare else "ready")
    trial.check_drift(row)
    serving = seen.aliases[trial.made.name]
    names = {trial.made.name, *(trial.made.name + alias for alias in row.has.get("aliases", ()))}
    assert seen.aliases == dict.fromkeys(names, serving), seen.aliases
