"""Doctor's judgement of a server's reports, case by case: clusters, versions, room and clocks that no test can make."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from qmigrate.commands.doctor import TABLE, Row, collections, examine, server
from qmigrate.commands.doctor.deployment import SKEW, some
from qmigrate.commands.doctor.server import NEEDS, of_key, verbs_of
from qmigrate.commands.results import Check, Doctor
from qmigrate.errors import DriftError, StoreError
from qmigrate.model.health import ClusterHealth, KeyRights, NodeHealth, Peer, Stored
from qmigrate.model.schema import CollectionSchema
from qmigrate.model.state import LiveCollection
from qmigrate.model.weight import Weight
from qmigrate.planner.leftovers import LONGEST_PROBE, own_aliases, probes
from qmigrate.store.server.capabilities import LOCAL

SCHEMA = CollectionSchema(vectors={"a": {"size": 100, "distance": "Dot"}})
NODE = NodeHealth("q:6333", version=(1, 18, 3), ram=10**10, resident=10**9, disk=10**12, skew=0.0)
SERVER = LOCAL.__class__(False, (1, 18, 3), "Qdrant 1.18.3 at q:6333", True, True, True, True)
#: Parts of a healthy server with one collection behind an alias.
WELL = {
    "local": False,
    "nodes": (NODE,),
    "reached": NODE,
    "cluster": ClusterHealth(enabled=False),
    "rights": KeyRights(sent=True, accepted=True, reads=True, manages=True),
    "store": SimpleNamespace(capabilities=SERVER),
    "aliases": {"c": "c__g0001"},
    "physical": ("c__g0001",),
    "live": {"c__g0001": LiveCollection("c__g0001", SCHEMA, points=1000)},
    "stored": {"c__g0001": Stored(bytes=400_000)},
}


class Patient:
    """Parts as given; a part that is an error is broken."""

    def __init__(self, **parts) -> None:
        self.parts = {**WELL, **parts}
        self.parts.setdefault("used", self.parts["live"])
        self.local = self.parts["local"]
        self.left = 1.0
        self.settings = SimpleNamespace(qdrant=SimpleNamespace(path=None))

    def weighed(self, _name, live):
        return live.points * Weight().per_point(live.schema)

    def broken(self, part):
        return isinstance(self.parts.get(part), Exception)

    def __getattr__(self, name):
        def part():
            found = self.parts[name]
            if isinstance(found, Exception):
                raise found
            return found

        return part


def levels(look, **parts) -> list[tuple[str, str]]:
    """(name, level) of what a check finds."""
    return [(check.name, check.level) for check in look(Patient(**parts))]


def node(label="r:6333", **changed) -> NodeHealth:
    """Another node."""
    return NodeHealth(**{"label": label, "version": (1, 18, 3), "skew": 0.0, **changed})


def peer(number: int, version="1.18.3", watched=True) -> Peer:
    """A member of the cluster."""
    return Peer(str(number), f"http://n{number}:6335", version, watched)


THREE = ClusterHealth(enabled=True, peers=(peer(1), peer(2), peer(3)))
DOWN = node(version=None, skew=None, problem="can't be reached", hint="is it up?")
CASES = {
    "one version": (server.versions, {}, [("versions", "ok")]),
    "rolling upgrade": (server.versions, {"nodes": (NODE, node(version=(1, 17, 1)))}, [("versions", "warn")]),
    "rolling upgrade of a peer that is not watched": (
        server.versions,
        {"cluster": ClusterHealth(enabled=True, peers=(peer(1), peer(2, "1.17.1", watched=False)))},
        [("versions", "warn")],
    ),
    "rolling upgrade next to a shadowed name": (
        server.versions,
        {"nodes": (NODE, node(version=(1, 17, 1))), "physical": ("c", "c__g0001")},
        [("versions", "fail")],
    ),
    "a shadowed name on one node": (collections.shadowed, {"physical": ("c", "c__g0001")}, [("shadowed names", "warn")]),
    "a shadowed name on three nodes": (
        collections.shadowed,
        {"physical": ("c", "c__g0001"), "store": SimpleNamespace(capabilities=replace(SERVER, peers=3))},
        [("shadowed names", "fail")],
    ),
    "no operation ids": (
        server.versions, {"nodes": (node(version=(1, 16, 3)),)}, [("versions", "ok"), ("operation ids", "info")]
    ),
    "too old": (server.versions, {"nodes": (node(version=(1, 15, 5)),)}, []),
    "cluster not told": (server.versions, {"cluster": StoreError("denied")}, [("versions", "ok")]),
    "client far away": (server.client, {"reached": node(version=(1, 16, 0))}, [("client", "info")]),
    "client next door": (server.client, {"reached": node(version=(1, 20, 4))}, [("client", "ok")]),
    "second node down": (server.nodes, {"nodes": (NODE, DOWN)}, [("node r:6333", "fail")]),
    "first node down, told already": (
        server.nodes, {"nodes": (DOWN, NODE), "store": StoreError("down")}, []
    ),
    "all nodes up": (server.nodes, {"nodes": (NODE, node())}, [("nodes", "ok")]),
    "recovery mode": (server.nodes, {"nodes": (node(recovery_mode=True),)}, [("node r:6333", "fail")]),
    "single node": (server.cluster, {}, [("cluster", "ok")]),
    "three nodes": (server.cluster, {"cluster": THREE}, [("cluster", "ok")]),
    "no leader": (server.cluster, {"cluster": ClusterHealth(True, THREE.peers, leader=False)}, [("cluster", "fail")]),
    "consensus stopped": (
        server.cluster,
        {"cluster": ClusterHealth(True, THREE.peers, consensus="stopped_with_err: disk full", pending=3)},
        [("cluster", "fail"), ("consensus", "warn")],
    ),
    "a peer that hears nothing": (
        server.cluster,
        {"cluster": ClusterHealth(True, THREE.peers, failures=("http://n2:6335: timeout",))},
        [("cluster", "fail")],
    ),
    "limited key": (
        server.cluster, {"rights": KeyRights(sent=True, accepted=True)}, [("cluster", "info")]
    ),
    "barriers": (server.barriers, {}, []),
    "unwatched": (
        server.barriers,
        {
            "store": SimpleNamespace(capabilities=LOCAL.__class__(False, (1, 18, 3), "q", True, True, True, False)),
            "cluster": ClusterHealth(True, (peer(1), peer(2, watched=False))),
        },
        [("barriers", "warn")],
    ),
    "clocks agree": (server.server_clock, {"nodes": (NODE, node())}, [("server clock", "ok")]),
    "one clock is off": (server.server_clock, {"nodes": (NODE, node(skew=-42.0))}, [("server clock", "warn")]),
    "clock not told": (server.server_clock, {"nodes": (node(skew=None),)}, []),
    "room in RAM": (server.ram, {}, [("RAM", "ok")]),
    "no room in RAM": (server.ram, {"nodes": (node(ram=10**9, resident=10**9 - 1),)}, [("RAM", "warn")]),
    "RAM not told": (server.ram, {"nodes": (node(),)}, [("RAM", "info")]),
    "disk": (server.disk, {}, [("disk", "info")]),
    "no limit of collections": (server.number, {}, []),
    "below the limit": (
        server.number, {"reached": node(most_collections=2)}, [("number of collections", "ok")]
    ),
    "at the limit": (
        server.number, {"reached": node(most_collections=1)}, [("number of collections", "fail")]
    ),
    "a shard on its way": (
        collections.transfers,
        {"stored": {"c": Stored(transfers=("shard 0 from peer 1 to peer 2",), snapshots_running=1)}},
        [("transfers of c", "warn"), ("snapshots of c", "info")],
    ),
    "the key may do everything": (of_key, {}, [("rights", "ok")]),
    "no key is asked for": (
        of_key, {"rights": KeyRights(False, True, True, True)}, [("rights", "info")]
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_what_a_server_tells_is_judged(case):
    """Each case gives the findings and levels that it should, and every warning and failure names what to do."""
    look, parts, expected = CASES[case]
    found = list(look(Patient(**parts)))
    assert [(check.name, check.level) for check in found] == expected
    assert all(check.hint for check in found if check.level in ("fail", "warn"))


TROUBLES = {
    "red": ({"status": "red"}, "fail", "red"),
    "optimizer error": ({"problem": "no space left"}, "fail", "no space left"),
    "a dead replica": ({"inactive": ("shard 0 on peer 7: Dead",)}, "warn", "peer 7: Dead"),
    "hidden points": ({"hidden": 12}, "warn", "12 now"),
    "prevent_unoptimized": ({"prevents_unoptimized": True}, "warn", "hides points"),
    "shards that can't be asked": ({"unread": "no active replica"}, "fail", "no active replica"),
    "custom sharding": ({"custom_sharding": True}, "warn", "custom sharding"),
}


@pytest.mark.parametrize("case", TROUBLES)
def test_what_a_collection_tells_is_judged(case):
    """A collection that can't be read completely or written safely is named; the others count as well."""
    changed, level, says = TROUBLES[case]
    live = {"bad": LiveCollection("bad", SCHEMA, **changed), "good": LiveCollection("good", SCHEMA, points=5)}
    found = {check.name: check for check in collections.health(Patient(live=live))}
    assert (found["collection bad"].level, says in found["collection bad"].detail) == (level, True)
    assert found["health"].facts == {"well": 1, "collections": 2}


def test_a_yellow_collection_is_only_told():
    """Optimizing is not a problem; an upgrade waits for it."""
    live = {"c": LiveCollection("c", SCHEMA, status="yellow")}
    assert levels(collections.health, live=live) == [("health", "ok"), ("optimizing", "info")]


def test_unknown_settings_are_named():
    """What this version doesn't know of a collection would be lost by a rebuild: it is named, with the collection."""
    live = {"c": LiveCollection("c", SCHEMA, unknown=("params.new_thing",))}
    found = list(collections.unknown(Patient(live=live)))
    assert [(check.name, check.level, check.hint) for check in found] == [("settings of c", "warn", "update qmigrate")]
    assert "params.new_thing" in found[0].detail


STRICT = {
    "off": ({"enabled": False, "max_query_limit": 1}, []),
    "harmless": ({"enabled": True, "max_query_limit": 10_000}, []),
    "small pages": ({"enabled": True, "max_query_limit": 10}, [("strict mode max_query_limit", "warn")]),
    "slow writes": ({"enabled": True, "write_rate_limit": 60}, [("strict mode write_rate_limit", "warn")]),
    "a fence": ({"enabled": True, "write_rate_limit": 1}, []),
    "bounded": (
        {"enabled": True, "max_points_count": 10**9, "search_allow_exact": False},
        [("strict mode max_points_count", "info"), ("strict mode search_allow_exact", "info")],
    ),
}


@pytest.mark.parametrize("case", STRICT)
def test_limits_of_strict_mode(case):
    """Only limits that are in force and would hurt are named; a fence is a leftover, not a limit."""
    config, expected = STRICT[case]
    live = {name: LiveCollection(name, SCHEMA.with_(config={"strict_mode_config": config})) for name in ("c", "d")}
    found = list(collections.strict_mode(Patient(live=live)))
    assert [(check.name, check.level) for check in found[:-1]] == expected
    assert all(check.facts["collections"] == ["c", "d"] for check in found[:-1])
    assert (found[-1].name, found[-1].level) == ("strict mode", "ok")


@pytest.mark.parametrize(
    ("ahead", "level"), [(0, "ok"), (-4.9, "ok"), (5.1, "warn"), (-299, "warn"), (301, "fail"), (-3600, "fail")]
)
def test_clocks(ahead, level):
    """A few seconds are nothing, a minute is reported, an hour is a failure: in both directions."""
    found = SKEW.judge("clock", "the database", ahead)
    assert found.level == level
    assert found.facts == {"seconds_ahead": round(ahead, 1)}


def lease(name="c", epoch=5, expired=True):
    """A row of the leases."""
    return SimpleNamespace(name=name, epoch=epoch, expired=expired)


@pytest.mark.parametrize(
    ("alias", "target", "leases", "open_runs", "state"),
    [
        ("c__g0001__e5", "c__g0001", [lease()], (), "left"),
        ("c__g0001__e5__2", "c__g0001", [lease()], (), "left"),
        ("c__e4", "c", [lease()], (), "left"),
        ("c__g0001__e5", "c__g0001", [lease(expired=False)], (), "in use"),
        ("c__g0001__e5", "c__g0001", [lease()], ("c",), "kept"),
        ("c__g0001__e6", "c__g0001", [lease()], (), "foreign"),
        ("c__g0001__e5", "c__g0001", [], (), "foreign"),
        ("c__g0001__e5", "c__g0001", [lease("d")], (), "foreign"),
        ("model__e5", "c__g0001", [lease()], (), None),
        ("c", "c__g0001", [lease()], (), None),
    ],
)
def test_whose_own_aliases_are(alias, target, leases, open_runs, state):
    """Only what a lease of this ledger has made, and is not needed any more, is a leftover."""
    found = own_aliases({alias: target}, leases, open_runs)
    assert [one.state for one in found] == ([state] if state else [])


def test_probes_tell_when_they_began():
    """Only one that began long ago has ended for certain; names that say nothing are left alone."""
    old, new, other = "qmigrate_probe_655a0000_ab_a", "qmigrate_probe_655b0000_ab_c", "qmigrate_probe_mine"
    now = 0x655A0000 + LONGEST_PROBE + 1
    assert probes(["c", old, new, other], now) == ([old], [new, other])
    assert probes([old], now - 2) == ([], [old])


def test_a_broken_part_is_asked_for_by_nobody_else():
    """A check that needs a broken part isn't made; the others are, and what is left out is named once."""
    rows = (
        Row("a", "first", lambda _: [Check("first", True, "fine")]),
        Row("a", "second", lambda _: [], ("ledger",)),
        Row("a", "third", lambda _: (_ for _ in ()).throw(DriftError("changed", hint="restore it"))),
        Row("a", "fourth", lambda _: [], ("ledger", "store")),
        Row("b", "fifth", lambda _: [Check("fifth", None, "note")]),
    )
    found = examine(Patient(ledger=StoreError("down")), rows)
    assert [(check.name, check.level, check.group) for check in found] == [
        ("first", "ok", "a"), ("third", "fail", "a"), ("fifth", "info", "b"), ("not checked", "info", "doctor")
    ]  # fmt: skip
    # The name of the check has it already.
    assert found[-1].detail == "because of the failures above: second, fourth"
    assert (found[1].exit_code, found[1].hint) == (4, "restore it")


def test_rows_that_only_a_server_has_are_left_out_in_local_mode():
    """Local mode has no nodes, rights or clocks, and isn't blamed for it."""
    rows = (Row("a", "x", lambda _: [Check("x", True, "")], server=True),)
    assert examine(Patient(local=True), rows) == []
    assert {row.group for row in TABLE} == {
        "project", "ledger", "qdrant", "room", "collections", "leftovers", "models"
    }  # fmt: skip


def test_the_exit_code_is_that_of_the_failures_where_they_agree():
    """Warnings and notes never fail; two different failures are 9."""
    warn, drift, repair = Check("a", None, "", warns=True), Check("b", False, "", None, 4), Check("c", False, "", None, 7)
    for checks, code in [((warn,), 0), ((warn, drift), 4), ((drift, drift), 4), ((drift, repair), 9), ((Check("d", False, ""),), 9)]:
        assert Doctor(checks).exit_code == code
    assert (Doctor((warn, drift)).failed, Doctor((warn, drift)).warned) == (1, 1)
    shown = Doctor((warn,), seconds=2.0).to_json()
    assert (shown["warned"], shown["exit_code"], shown["checks"][0]["level"]) == (1, 0, "warn")


def test_every_level_of_a_key_answers_for_every_verb():
    """No verb is without an answer, and a key that isn't let in can use only what doesn't open Qdrant."""
    for rights in (KeyRights(True, False), KeyRights(True, True), KeyRights(True, True, True), KeyRights(True, True, True, True)):
        assert verbs_of(rights).keys() == NEEDS.keys()
    refused = verbs_of(KeyRights(True, False))
    assert {verb for verb, answer in refused.items() if answer == "yes"} == {
        verb for verb, need in NEEDS.items() if need == "none"
    }


def test_many_names_are_cut_short():
    """Five names and a number; all of them are in the facts."""
    assert some([str(number) for number in range(7)]) == "0, 1, 2, 3, 4 and 2 more"
    assert some(["a"]) == "a"


def test_available_memory_is_read_where_there_is_proc(monkeypatch):
    """On Linux a number of bytes; elsewhere nothing, instead of a guess."""
    found = server.available_memory()
    assert found is None or found > 10**6
    monkeypatch.setattr(server, "Path", lambda _: Path("/no/such/file"))
    assert server.available_memory() is None


@pytest.mark.parametrize(
    ("physical", "says"),
    [
        ((), "a, b: aliases; get_collections doesn't list them, and"),
        (("a", "b"), "get_collections lists them until the plain collection that they hide is deleted (gc), and"),
        (("b",), "get_collections doesn't list a, and lists b until gc deletes what is hidden there, and"),
    ],
)
def test_what_lists_a_name_is_said_as_it_is(physical, says):
    """An alias that hides the plain collection of its name doesn't take the name from the list."""
    states = {name: SimpleNamespace(name=name, kind="alias", managed=True) for name in ("b", "a")}
    (found,) = collections.names(Patient(world=SimpleNamespace(collections=states), physical=physical))
    assert (found.name, says in found.detail) == ("aliases", True), found.detail


def test_the_command_that_ends_a_hidden_name_says_which_upgrade_is_meant():
    """Before an upgrade of Qdrant, not of a schema; and it doesn't wait for the holdover."""
    (found,) = collections.shadowed(Patient(physical=("c", "c__g0001")))
    assert "before you upgrade Qdrant itself: qmigrate gc c --now --generation c " in (found.hint or "")
    assert "qmigrate upgrade is not affected" in found.detail
