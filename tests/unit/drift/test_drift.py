"""Drift without a store: what differs, what is a server's default, what ends it, and what is only to be known."""

from __future__ import annotations

import re
import shlex
from dataclasses import replace
from datetime import UTC, datetime

import click
import pytest
from hypothesis import given, settings
from tests.unit.operations.test_operations_source import SCHEMAS

from qmigrate import Compute, CopyOf, Embed, op
from qmigrate.cli.app import root
from qmigrate.drift import (
    Surroundings,
    acceptance,
    collection_findings,
    differences,
    effective,
    embedders_of,
    fingerprint_findings,
    plan_restoration,
    restoration,
)
from qmigrate.drift.undeclared import NOT_SET, declared_anew, settings_after, settings_of, undeclared
from qmigrate.errors import RefusedError
from qmigrate.model.plan import Build, GoLive, InPlace, Job
from qmigrate.model.schema import DISABLED, Change, CollectionSchema, changed
from qmigrate.model.state import (
    Applied,
    Capabilities,
    CollectionState,
    Generation,
    LiveCollection,
    OpenRun,
    Record,
    World,
)

SERVER = Capabilities(False, (1, 18, 3), "Qdrant 1.18.3", True, True, True, True)
LOCAL = replace(SERVER, local=True, version=(0, 0, 0))
A = {"size": 8, "distance": "Cosine"}
HNSW = {"m": 16, "ef_construct": 100, "full_scan_threshold": 10000, "max_indexing_threads": 0, "on_disk": False}
SCALAR = {"scalar": {"type": "int8", "always_ram": True}}


def schema(vectors=None, **parts) -> CollectionSchema:
    """A schema with one vector."""
    return CollectionSchema(vectors={"a": A} if vectors is None else vectors, **parts)


def paths(recorded: CollectionSchema, live: CollectionSchema, *, local: bool = False) -> dict:
    """What differs, by path: (recorded, live)."""
    return {one.path: (one.recorded, one.live) for one in differences(recorded, live, local=local)}


#: (what, recorded, live, path -> (recorded, live))
SCHEMAS_TABLE = (
    ("equal", schema(), schema(), {}),
    ("defaults of the server", schema(config={"hnsw_config": {"m": 16}}),
     schema(config={"hnsw_config": HNSW, "replication_factor": 1, "on_disk_payload": True, "wal_config": {"wal_capacity_mb": 32}}), {}),
    ("nothing declared", schema(), schema(config={"hnsw_config": {**HNSW, "m": 99}}), {}),
    ("a declared default that isn't reported", schema({"a": {**A, "on_disk": False, "datatype": "float32"}}), schema(), {}),
    ("an automatic choice", schema(config={"sharding_method": "auto", "optimizers_config": {"max_optimization_threads": "auto"}}), schema(), {}),
    ("modifier none", schema(sparse={"s": {"modifier": "none"}}), schema(sparse={"s": {}}), {}),
    ("disabled", schema(config={"quantization_config": DISABLED}), schema(), {}),
    ("disabled and there", schema(config={"quantization_config": DISABLED}), schema(config={"quantization_config": SCALAR}),
     {"quantization_config": (DISABLED, SCALAR)}),
    ("size", schema(), schema({"a": {**A, "size": 9}}), {"vectors.a.size": (8, 9)}),
    ("unnamed", schema({"": A}), schema({"": {**A, "distance": "Dot"}}), {"vectors.(unnamed).distance": ("Cosine", "Dot")}),
    ("deep", schema({"a": {**A, "quantization_config": SCALAR}}), schema({"a": {**A, "quantization_config": {"scalar": {"type": "int8", "always_ram": False}}}}),
     {"vectors.a.quantization_config.scalar.always_ram": (True, False)}),
    ("two at once", schema(config={"optimizers_config": {"indexing_threshold": 1, "flush_interval_sec": 5}}),
     schema(config={"optimizers_config": {"indexing_threshold": 2, "flush_interval_sec": 6}}),
     {"optimizers_config.indexing_threshold": (1, 2), "optimizers_config.flush_interval_sec": (5, 6)}),
    ("a float that JSON rounds", schema(config={"optimizers_config": {"deleted_threshold": 0.2}}),
     schema(config={"optimizers_config": {"deleted_threshold": 0.20000000298}}), {}),
    ("metadata false", schema(config={"metadata": {"beta": False}}), schema(config={"metadata": {}}), {"metadata.beta": (False, None)}),
    ("metadata auto", schema(config={"metadata": {"mode": "auto"}}), schema(), {"metadata": ({"mode": "auto"}, None)}),
    ("metadata of others", schema(config={"metadata": {"k": 1}}), schema(config={"metadata": {"k": 1, "theirs": 2}}), {}),
    ("index gone", schema(indexes={"f": {"type": "keyword"}}), schema(), {"payload_indexes.f": ({"type": "keyword"}, None)}),
    ("index added", schema(), schema(indexes={"f.g[]": {"type": "float"}}), {"payload_indexes.f.g[]": (None, {"type": "float"})}),
    ("index default", schema(indexes={"f": {"type": "text", "lowercase": True}}), schema(indexes={"f": {"type": "text"}}), {}),
    ("dense for sparse", schema({}, sparse={"a": {}}), schema(), {"vectors.a": (None, A), "sparse_vectors.a": ({}, None)}),
)


@pytest.mark.parametrize(("recorded", "live", "found"), [row[1:] for row in SCHEMAS_TABLE], ids=[row[0] for row in SCHEMAS_TABLE])
def test_differences(recorded, live, found):
    """Only declared fields count, each with its path; complete parts count on both sides."""
    assert paths(recorded, live) == found


@settings(max_examples=150, deadline=None)
@given(recorded=SCHEMAS, live=SCHEMAS)
def test_accepted_and_restored_schemas_have_no_drift(recorded, live):
    """Whatever two schemas are: what is accepted is recorded as live, what is restored is live as recorded."""
    for local in (False, True):
        accepted = acceptance(recorded, live, local=local)
        assert differences(merged(recorded, accepted), live, local=local) == ()
        restored = restoration(recorded, live, local=local)
        assert differences(recorded, changed(live, restored), local=local) == ()
        assert differences(recorded, recorded, local=local) == ()


def merged(recorded: CollectionSchema, found) -> CollectionSchema:
    """A recorded schema after changes: a declared field that is not set any more is declared no longer."""
    return changed(recorded, found)


def test_local_mode_keeps_less():
    """Local mode reports neither indexes nor settings: only what decides values, metadata and aliases are compared."""
    recorded = schema(
        {"a": {**A, "hnsw_config": {"m": 4}, "on_disk": True}},
        sparse={"s": {"modifier": "idf", "index": {"on_disk": True}}},
        indexes={"f": {"type": "keyword"}},
        config={"hnsw_config": {"m": 4}, "shard_number": 3, "metadata": {"k": 1}},
    )
    live = schema(sparse={"s": {"modifier": "idf"}}, config={"metadata": {"k": 1}})
    assert paths(recorded, live, local=True) == {}
    assert paths(recorded, live.with_(vectors={"a": {**A, "size": 9}}, config={}), local=True) == {
        "vectors.a.size": (8, 9),
        "metadata": ({"k": 1}, None),
    }


# --- a collection and what is around it -----------------------------------------------------------------------------


def seal(**changed) -> dict:
    """The seal of the serving generation."""
    return {"version": 1, "ledger": "L", "collection": "docs", "generation": 2, "revision": "0002", "checksum": "sum-2",
            "state": "live", "embedders": {}, **changed}


def state(**changed) -> CollectionState:
    """``docs`` at 0002 on its second generation, the first one kept."""
    recorded = schema()
    given = {
        "name": "docs",
        "kind": "alias",
        "managed": True,
        "applied": tuple(Applied(f"000{n}", f"sum-{n}", f"docs__g000{n}", "copy", None) for n in (1, 2)),
        "declared": recorded,
        "live": LiveCollection("docs__g0002", recorded, seal=seal()),
        "generations": (
            Generation(1, "docs__g0001", None, ("0001",), recorded, "retired"),
            Generation(2, "docs__g0002", 1, ("0001", "0002"), recorded, "live", server="Qdrant 1.18.3 at x"),
        ),
        **changed,
    }
    return CollectionState(**given)


KEPT = LiveCollection("docs__g0001", schema(), seal=seal(generation=1, revision="0001", checksum="sum-1"))


def around(**changed) -> Surroundings:
    """What belongs to it."""
    given = {
        "ledger_id": "L",
        "capabilities": SERVER,
        "aliases": {"docs": "docs__g0002"},
        "physical": frozenset({"docs__g0001", "docs__g0002"}),
        "kept": {"docs__g0001": KEPT},
        **changed,
    }
    return Surroundings(**given)


def found(of: CollectionState, beside: Surroundings | None = None) -> list[tuple[str, str, str]]:
    """(kind, severity, path) of every finding."""
    return [(one.kind, one.severity, one.path) for one in collection_findings(of, beside or around())]


def run(run_state: str = "running", *, steps=(), records=(), leased=False) -> OpenRun:
    """An unfinished run."""
    return OpenRun(7, "upgrade", run_state, Job("docs", "b", tuple(steps)), {}, "me", "web-7", datetime(2025, 11, 1, tzinfo=UTC), "boom", tuple(records), leased=leased)


BUILD = Build((), "docs__g0002", "docs__g0003", 3, schema(), "copy", "")
GO = GoLive((), "docs__g0002", "docs__g0003", ("docs",))
HERE = InPlace((), "docs__g0002", (), "")
DRIFTED = LiveCollection("docs__g0002", schema(indexes={"f": {"type": "keyword"}}), seal=seal())


def hidden(**changed) -> CollectionState:
    """``docs`` once was a plain collection, which its alias hides now."""
    rows = (
        Generation(0, "docs", None, ("0001",), schema(), "retired"),
        Generation(2, "docs__g0002", 0, ("0001", "0002"), schema(), "live", server="Qdrant 1.18.3 at x"),
    )
    return state(generations=rows, hides=True, **changed)


TWICE = schema(config={"replication_factor": 2})
REPLICATED = {"declared": TWICE, "live": LiveCollection("docs__g0002", TWICE, seal=seal(), replicas=1)}
BEHIND = around(
    aliases={"docs": "docs__g0002", "docs__old": "docs"},
    physical=frozenset({"docs", "docs__g0002"}),
    kept={"docs": LiveCollection("docs", schema(), seal=seal(generation=0))},
)
#: (what, state, surroundings, (kind, severity, path) of what is found)
COLLECTIONS = (
    ("clean", state(), around(), []),
    ("an index", state(live=DRIFTED), around(), [("schema", "drift", "payload_indexes.f")]),
    ("a running upgrade", state(open_run=run(leased=True)), around(), [("run", "pending", "run")]),
    ("a held one, with drift", state(open_run=run("held", steps=(BUILD, GO), records=(Record(1, "hold", "running"),)), live=DRIFTED), around(),
     [("run", "pending", "run"), ("schema", "drift", "payload_indexes.f")]),
    ("an interrupted swap", state(open_run=run(steps=(BUILD, GO), records=(Record(1, "swap", "running"),)), live=DRIFTED), around(),
     [("run", "pending", "run"), ("run", "note", "run")]),
    ("an interrupted change in place", state(open_run=run("failed", steps=(HERE,), records=(Record(0, "change", "running"),)), live=DRIFTED), around(),
     [("run", "pending", "run"), ("run", "note", "run")]),
    ("unmanaged", CollectionState("other", "plain", False, live=LiveCollection("other", schema())), around(), [("unmanaged", "note", "other")]),
    ("of another ledger", CollectionState("other", "plain", False, live=LiveCollection("other", schema(), seal=seal(ledger="M"))), around(),
     [("foreign", "note", "other")]),
    ("dropped and recreated", state(kind="plain", generations=(), declared=None, live=LiveCollection("docs", schema())), around(physical=frozenset({"docs"}), kept={}), [("unmanaged", "note", "docs")]),
    ("dropped", state(kind="absent", live=None, generations=(Generation(1, "docs__g0001", None, (), schema(), "gone"),)), around(physical=frozenset()), []),
    ("gone", state(kind="absent", live=None), around(physical=frozenset({"docs__g0001"})), [("name", "drift", "docs")]),
    ("moved", state(live=LiveCollection("docs__g0001", schema())), around(), [("name", "drift", "docs")]),
    ("not sealed", state(live=LiveCollection("docs__g0002", schema())), around(), [("seal", "drift", "seal")]),
    ("two fields of the seal", state(live=LiveCollection("docs__g0002", schema(), seal=seal(state="building", generation=3))), around(),
     [("seal", "drift", "seal.generation"), ("seal", "drift", "seal.state")]),
    ("a way back gone", state(), around(kept={}, physical=frozenset({"docs__g0002"})), [("generation", "drift", "generation docs__g0001")]),
    ("a way back recreated", state(), around(kept={"docs__g0001": LiveCollection("docs__g0001", schema())}), [("generation", "drift", "generation docs__g0001")]),
    ("a way back without its vector", state(), around(kept={"docs__g0001": replace(KEPT, schema=schema({}))}), [("generation", "drift", "generation docs__g0001")]),
    ("a generation of no ledger", state(), around(physical=frozenset({"docs__g0001", "docs__g0002", "docs__g0009"})), [("generation", "note", "generation docs__g0009")]),
    ("unknown settings", state(live=LiveCollection("docs__g0002", schema(), seal=seal(), unknown=("params.new",))), around(), [("schema", "note", "unknown")]),
    ("fewer replicas than declared", state(**REPLICATED), replace(around(), capabilities=replace(SERVER, peers=3)), [("schema", "drift", "replicas")]),
    ("as many replicas as there are nodes", state(**REPLICATED), replace(around(), capabilities=replace(SERVER, peers=1)), []),
    ("not all there", state(live=replace(DRIFTED, unread="no active replica")), around(), [("schema", "note", "settings")]),
    ("hidden", hidden(), BEHIND, [("hidden", "note", "hidden docs")]),
    ("hidden by an older server", hidden(), replace(BEHIND, capabilities=replace(SERVER, version=(1, 19, 0))), [("hidden", "drift", "hidden docs")]),
    ("hidden on three nodes", hidden(), replace(BEHIND, capabilities=replace(SERVER, peers=3)), [("hidden", "drift", "hidden docs")]),
    ("hidden where the number of nodes is unknown", hidden(), replace(BEHIND, capabilities=replace(SERVER, peers=0)), [("hidden", "note", "hidden docs")]),
    ("hidden without a way", hidden(), replace(BEHIND, aliases={"docs": "docs__g0002"}, kept={}), [("hidden", "drift", "hidden docs")]),
    ("hidden by no known run", state(hides=True), replace(BEHIND, kept={"docs__g0001": KEPT}, physical=frozenset({"docs", "docs__g0001", "docs__g0002"})),
     [("hidden", "drift", "hidden docs")]),
)


#: A collection as a server reports it, with nothing declared but its vector.
REPORTED = schema(
    {"a": {**A}},
    config={"hnsw_config": HNSW, "optimizers_config": {"indexing_threshold": 10000, "flush_interval_sec": 5}, "on_disk_payload": True},
)


def reported(**changed) -> CollectionSchema:
    """The same with some of its settings changed by hand; None takes one away."""
    config = {**REPORTED.config, **{key: value for key, value in changed.items() if key != "vectors"}}
    return schema(changed.get("vectors", REPORTED.vectors), config={key: value for key, value in config.items() if value is not None})


def served(live: CollectionSchema, *, recorded=REPORTED, declared=None, version=(1, 18, 3), **row) -> CollectionState:
    """``docs``, whose settings were recorded when 0002 was applied."""
    then = settings_of(LiveCollection("docs__g0002", recorded), version)
    generation = Generation(2, "docs__g0002", None, ("0001", "0002"), schema(), "live", settings=then, **row)
    return state(generations=(generation,), declared=declared or schema(), live=LiveCollection("docs__g0002", live, seal=seal(generation=2)))


STRICT = {"enabled": True, "max_query_limit": 10}
FENCED = {"enabled": True, "write_rate_limit": 1}
#: (what, recorded, live, more, path -> (recorded, live))
UNDECLARED = (
    ("as recorded", REPORTED, REPORTED, {}, {}),
    ("HNSW", REPORTED, reported(hnsw_config={**HNSW, "m": 32}), {}, {"hnsw_config.m": (16, 32)}),
    ("optimizers", REPORTED, reported(optimizers_config={"indexing_threshold": 0, "flush_interval_sec": 5}), {}, {"optimizers_config.indexing_threshold": (10000, 0)}),
    ("place of payloads", REPORTED, reported(on_disk_payload=False), {}, {"on_disk_payload": (True, False)}),
    ("quantization", REPORTED, reported(quantization_config=SCALAR), {}, {"quantization_config": (DISABLED, SCALAR)}),
    ("quantization gone", reported(quantization_config=SCALAR), REPORTED, {}, {"quantization_config": (SCALAR, None)}),
    ("another quantization", reported(quantization_config=SCALAR), reported(quantization_config={"binary": {}}), {}, {"quantization_config.scalar": (SCALAR["scalar"], None)}),
    ("a field of a quantization", reported(quantization_config=SCALAR), reported(quantization_config={"scalar": {"type": "int8", "always_ram": False}}), {},
     {"quantization_config.scalar.always_ram": (True, False)}),
    ("strict mode", REPORTED, reported(strict_mode_config=STRICT), {},
     {"strict_mode_config.enabled": (False, True), "strict_mode_config.max_query_limit": (NOT_SET, 10)}),
    ("strict mode off", REPORTED, reported(strict_mode_config={"enabled": False, "max_query_limit": 10}), {}, {}),
    ("a fence that was lifted", REPORTED, reported(strict_mode_config={"enabled": False, "write_rate_limit": 10**9}), {}, {}),
    ("a fence lifted from strict mode", reported(strict_mode_config=STRICT), reported(strict_mode_config={**STRICT, "write_rate_limit": 10**9}), {}, {}),
    ("a fence in force", REPORTED, reported(strict_mode_config=FENCED), {"fence": {}}, {}),
    ("a vector on disk", REPORTED, reported(vectors={"a": {**A, "on_disk": True}}), {}, {"vectors.a.on_disk": (False, True)}),
    ("HNSW of a vector", REPORTED, reported(vectors={"a": {**A, "hnsw_config": {"m": 32}}}), {}, {"vectors.a.hnsw_config.m": (16, 32)}),
    ("HNSW of a vector, as of all", REPORTED, reported(vectors={"a": {**A, "hnsw_config": {"m": 16}}}), {}, {}),
    ("declared as it is", REPORTED, reported(hnsw_config={**HNSW, "m": 32}), {"declared": schema(config={"hnsw_config": {"m": 32}})}, {}),
    ("declared, and changed", REPORTED, reported(hnsw_config={**HNSW, "m": 32}), {"declared": schema(config={"hnsw_config": {"m": 16}})}, {"hnsw_config.m": (16, 32)}),
    ("metadata of an application", REPORTED, reported(metadata={"k": 1}), {}, {}),
    ("a server that reports more", REPORTED, reported(hnsw_config={**HNSW, "new_limit": 7}), {"version": (1, 17, 1)}, {}),
    ("a server that reports less", reported(hnsw_config={**HNSW, "old_limit": 7}), REPORTED, {"version": (1, 17, 1)}, {}),
    ("another value by another server", REPORTED, reported(hnsw_config={**HNSW, "m": 32}), {"version": (1, 17, 1)}, {"hnsw_config.m": (16, 32)}),
)


@pytest.mark.parametrize(("recorded", "live", "more", "wanted"), [row[1:] for row in UNDECLARED], ids=[row[0] for row in UNDECLARED])
def test_settings_that_no_revision_declares_are_compared(recorded, live, more, wanted):
    """With what was recorded when something was last applied; what qmigrate and servers do by themselves isn't drift."""
    of = served(live, recorded=recorded, **more)
    around_it = replace(around(), physical=frozenset({"docs__g0002"}), kept={})
    seen = {one.path: (one.recorded, one.live) for one in collection_findings(of, around_it) if one.severity == "drift"}
    assert seen == wanted
    accepted = acceptance(effective(of, SERVER.version), live, local=False)
    assert bool(accepted) == bool(wanted)
    # Once a revision declares it, and nothing else, nothing differs any more.
    declared = changed(of.declared, accepted)
    assert not [one for one in collection_findings(replace(of, declared=declared), around_it) if one.severity == "drift"]


@pytest.mark.parametrize(("recorded", "live", "more", "wanted"), [row[1:] for row in UNDECLARED], ids=[row[0] for row in UNDECLARED])
def test_undeclared_drift_is_restored_as_far_as_a_server_can(recorded, live, more, wanted):
    """A restoration brings back what was recorded; what was not set, and can't be unset, stays and is reported as such."""
    of = served(live, recorded=recorded, **more)
    possible = {path: values for path, values in wanted.items() if values[0] != NOT_SET}
    plan = plan_restoration(world(of), "docs")
    steps = [step for item in plan.collections for step in item.job.steps]
    assert bool(steps and steps[0].changes) == bool(possible)


def test_nothing_is_compared_while_a_run_is_open_or_nothing_was_recorded():
    """What a run has done to settings is recorded when it ends."""
    of = served(reported(hnsw_config={**HNSW, "m": 32}))
    assert undeclared(of, SERVER.version)
    assert not undeclared(replace(of, open_run=run("held", steps=(BUILD, GO))), SERVER.version)
    bare = replace(of, generations=tuple(replace(row, settings=None) for row in of.generations))
    assert not undeclared(bare, SERVER.version)


def test_what_is_applied_records_only_what_it_touched():
    """A change of m leaves a change of ef_construct by hand visible; a new vector is recorded whole, a dropped one goes."""
    prior = settings_of(LiveCollection("c", schema({"a": A, "b": A}, config={"hnsw_config": HNSW})), (1, 18, 3))
    now = settings_of(LiveCollection("c", schema({"a": A, "c": A}, config={"hnsw_config": {**HNSW, "m": 32, "ef_construct": 7}, "quantization_config": SCALAR})), (1, 19, 0))
    made = (Change("config.set", "hnsw_config", {"m": 32}), Change("vector.add", "c", A), Change("vector.drop", "b"), Change("index.add", "f", {"type": "float"}))
    found = settings_after(prior, now, made)
    assert found["config"]["hnsw_config"] == {**HNSW, "m": 32}
    assert "quantization_config" not in found["config"]
    assert (sorted(found["vectors"]), found["indexes"], found["version"]) == (["a", "c"], {}, [1, 18, 3])


def test_what_is_no_longer_declared_is_recorded_as_it_is():
    """Accepted drift changes nothing live: a field that a revision took away is not expected to be as before."""
    before = schema(indexes={"f": {"type": "keyword", "is_tenant": True}}, config={"hnsw_config": {"m": 16, "on_disk": True}})
    after = schema(indexes={"f": {"type": "keyword"}}, config={"hnsw_config": {"m": 32}})
    then = settings_of(LiveCollection("c", before), (1, 18, 3))
    now = settings_of(LiveCollection("c", schema(indexes=after.indexes, config={"hnsw_config": {"m": 32, "ef_construct": 7}})), (1, 18, 3))
    found = settings_after(then, now, declared_anew(before, after))
    assert (found["indexes"], found["config"]) == ({"f": {"type": "keyword"}}, {"hnsw_config": {"m": 32}})
    assert declared_anew(after, after) == ()


@pytest.mark.parametrize(("of", "beside", "wanted"), [row[1:] for row in COLLECTIONS], ids=[row[0] for row in COLLECTIONS])
def test_findings_of_a_collection(of, beside, wanted):
    """Each situation gives exactly its findings, and each of them that asks for something names what to do."""
    assert found(of, beside) == wanted
    for one in collection_findings(of, beside):
        assert one.message
        assert one.fixes or one.path == "run" or one.kind == "foreign"


def test_strict_turns_what_nobody_recorded_into_drift():
    """Unmanaged names count with strict; a hidden collection does not: gc is not due yet."""
    (one,) = collection_findings(CollectionState("other", "plain", False, live=LiveCollection("other", schema())), around())
    assert (one.under(strict=False).severity, one.under(strict=True).severity) == ("note", "drift")
    (other,) = collection_findings(hidden(), BEHIND)
    assert other.under(strict=True).severity == "note"


@pytest.mark.parametrize(("of", "beside"), [row[1:3] for row in COLLECTIONS], ids=[row[0] for row in COLLECTIONS])
def test_suggested_commands_exist(of, beside):
    """Every command that a finding suggests is one that the command line takes."""
    for one in collection_findings(of, beside):
        for fix in one.fixes:
            for words in re.findall(r"qmigrate ((?:[a-z-]+ )?[^,;:()]*)", fix):
                parse(shlex.split(re.split(r" (?:shows|before|removes|finishes) ", f"{words} ")[0]))


def parse(words: list[str]) -> None:
    """Parse a command line without running it."""
    command: click.Command = root
    while isinstance(command, click.Group):
        command, words = command.commands[words[0]], words[1:]
    command.make_context(command.name, list(words))


# --- models ---------------------------------------------------------------------------------------------------------


def test_the_last_filling_counts():
    """Whatever fills a vector last is what its model is compared with."""
    words, more = Embed("words", text="text"), Embed("more", text="text")
    operations = [
        op.AddVector("docs", "b", A, values=words),
        op.AddVector("docs", "c", A, values=words),
        op.Reembed("docs", "b", values=more, cutover="immediate"),
        op.Reembed("docs", "c", values=Compute(print), cutover="immediate"),
        op.AddVector("docs", "d", A, values=CopyOf("b")),
    ]
    assert embedders_of(operations) == {"b": "more"}


@pytest.mark.parametrize(
    ("now", "broken", "wanted"),
    [
        ({"words": {"type": "hashing", "size": 8}}, {}, []),
        ({"words": {"type": "hashing", "size": 9}}, {}, [("drift", "embedders.b.size", 8, 9)]),
        ({"words": {"type": "hashing", "size": 8, "extra": 1}}, {}, [("drift", "embedders.b.extra", None, 1)]),
        ({}, {"words": "no such module"}, [("drift", "embedders.b", None, None)]),
        ({}, {}, [("note", "embedders.b", None, None)]),
    ],
)
def test_fingerprints(now, broken, wanted):
    """Another model is drift with the field that differs, a broken one is drift, one that is not configured a note."""
    seen = fingerprint_findings({"b": {"type": "hashing", "size": 8}, "": {"x": 1}}, {"b": "words"}, now, broken)
    assert [(one.severity, one.path, one.recorded, one.live) for one in seen] == wanted


# --- the way back in place ------------------------------------------------------------------------------------------


def world(of: CollectionState) -> World:
    """One collection on a server."""
    return World("L", SERVER, {of.name: of})


def test_replicas_that_are_lacking_are_made_by_a_restoration():
    """The setting is as declared already; the step sets it once more, and its phase makes the replicas."""
    spread = replace(world(state(**REPLICATED)), capabilities=replace(SERVER, peers=3))
    (item,) = plan_restoration(spread, "docs").collections
    assert [(change.name, change.after) for change in item.job.steps[0].changes] == [("replication_factor", 2)]
    assert not plan_restoration(world(state(**REPLICATED)), "docs").collections


def test_a_restoration_is_one_step_without_a_revision():
    """What differs is changed in place; metadata keys of others stay; nothing is recorded as applied."""
    recorded = schema(indexes={"f": {"type": "keyword"}}, config={"metadata": {"k": 1}, "hnsw_config": {"m": 16}})
    live = schema(indexes={"g": {"type": "float"}}, config={"metadata": {"k": 2, "theirs": 3}, "hnsw_config": HNSW})
    plan = plan_restoration(world(state(declared=recorded, live=LiveCollection("docs__g0002", live, seal=seal()))), "docs")
    (item,) = plan.collections
    (step,) = item.job.steps
    assert (item.job.closes, step.target, step.ops) == ((), "docs__g0002", ())
    assert [(one.kind, one.name, one.after) for one in step.changes] == [
        ("index.add", "f", {"type": "keyword"}),
        ("index.drop", "g", None),
        ("config.set", "metadata", {"k": 1, "theirs": 3}),
    ]


@pytest.mark.parametrize(
    "of",
    [
        state(live=None, kind="absent"),
        state(live=LiveCollection("docs__g0001", schema())),
        state(open_run=run()),
        CollectionState("docs", "plain", False, live=LiveCollection("docs", schema())),
        state(live=LiveCollection("docs__g0002", schema({}), seal=seal())),
        state(live=LiveCollection("docs__g0002", schema({"a": {**A, "size": 9}}), seal=seal())),
    ],
    ids=["gone", "moved", "unfinished", "unmanaged", "vector gone", "size"],
)
def test_what_is_no_matter_of_a_schema_is_refused(of):
    """A name that is elsewhere, an unfinished run and values that are gone are never repaired by a schema."""
    with pytest.raises(RefusedError) as refused:
        plan_restoration(world(of), "docs")
    assert refused.value.hint


def test_nothing_to_restore():
    """As recorded and sealed: an empty plan. Without its seal: a step that changes nothing but the seal."""
    assert plan_restoration(world(state()), "docs").collections == ()
    plan = plan_restoration(world(state(live=LiveCollection("docs__g0002", schema()))), "docs")
    assert plan.collections[0].job.steps[0].changes == ()
