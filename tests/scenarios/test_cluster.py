"""A cluster of three: plain names are never hidden, replicas are made, and reading continues without a node."""

from __future__ import annotations

import json
from contextlib import ExitStack

import httpx
import pytest
from tests.conftest_qdrant import free_port, running
from tests.harness import ADD, CREATE, Deployment, make_point, write
from tests.integration.test_store_cluster import nodes  # noqa: F401  a fixture
from tests.scenarios.cli import call
from tests.scenarios.plain_names import plain

from qmigrate.commands import rollback as back
from qmigrate.commands import status, upgrade
from qmigrate.commands.drift import restore
from qmigrate.commands.readiness import Parts
from qmigrate.errors import RefusedError
from qmigrate.model.names import PROBE_PREFIX

pytestmark = [pytest.mark.server, pytest.mark.timeout(300)]


@pytest.fixture
def made(nodes, tmp_path):  # noqa: F811
    """A deployment on three nodes."""
    from tests.conftest import clean

    address = {"url": nodes[0].url, "grpc_port": nodes[0].grpc_port, "timeout": 10, "nodes": [node.url for node in nodes]}
    deployment = Deployment(tmp_path / "project", address, f"sqlite:///{tmp_path}/ledger.db")
    yield deployment
    clean(deployment)


def found_by(made: Deployment, node) -> dict:
    """What one node reports of the collection's shards."""
    return httpx.get(f"{node.url}/collections/{made.name}/cluster", timeout=20).json()["result"]


def test_a_plain_name_is_never_hidden_on_several_nodes(made, nodes):  # noqa: F811
    """Refused before anything is tried or written; the gap works, and every node serves the new generation."""
    plain(made)
    made.revise("0002", ADD)
    before = made.contents()
    told = "\n".join(line for item in upgrade.plan(made.settings()).collections for line in item.reasons)
    assert ("--allow-gap" in told, f"adopt {made.name} --alias" in told) == (True, True)
    with pytest.raises(RefusedError, match="plain collection"):
        upgrade.upgrade(made.settings())
    store = made.store()
    names = store.physical_names()
    store.close()
    assert made.name in names
    assert not [name for name in names if name.startswith((PROBE_PREFIX, f"{made.name}__"))]
    upgrade.upgrade(made.settings(), allow_gap=True)
    assert made.contents().keys() == before.keys()
    for node in nodes:
        seen = httpx.post(f"{node.url}/collections/{made.name}/points/count", json={"exact": True}, timeout=20).json()
        assert seen["result"]["count"] == len(before)


def test_a_hidden_name_on_several_nodes_is_an_error(made, nodes):  # noqa: F811
    """As one is that was hidden before a node was added: check and doctor say so, work stops, gc ends it."""
    made.revise("0001", CREATE)
    upgrade.upgrade(made.settings())
    url = nodes[0].url
    other = {"vectors": {"a": {"size": 8, "distance": "Cosine"}}}
    assert httpx.put(f"{url}/collections/{made.name}_x", json=other, timeout=20).status_code == 200
    # An alias takes the name of a collection by a rename, as hiding does it.
    actions = [
        {"create_alias": {"alias_name": f"{made.name}_y", "collection_name": f"{made.name}__g0001"}},
        {"rename_alias": {"old_alias_name": f"{made.name}_y", "new_alias_name": f"{made.name}_x"}},
    ]
    for action in actions:
        assert httpx.post(f"{url}/collections/aliases", json={"actions": [action]}, timeout=20).status_code == 200
    said = call(made.root, "check", "--only", f"{made.name}_x", "--json")
    kinds = {one["kind"]: one["severity"] for row in said.json["data"]["collections"] for one in row["findings"]}
    assert kinds.get("hidden") == "drift"
    doctor = call(made.root, "doctor", "--json").json["data"]["checks"]
    assert [one["ok"] for one in doctor if one["name"] == "shadowed names"] == [False]
    httpx.delete(f"{url}/collections/{made.name}_x", timeout=20)


@pytest.mark.parametrize("asked", [0, 1], ids=["the old node", "the new node"])
def test_the_way_out_of_a_hidden_name_works_where_a_node_was_added(qdrant_program, tmp_path, asked):
    """Nothing takes what serves for the hidden one; what check names as the way out removes that, and nothing else."""
    assert qdrant_program
    first = free_port()
    with ExitStack() as stack:
        servers = []

        def joined() -> None:
            port = free_port() if servers else first
            env = {"QDRANT__CLUSTER__ENABLED": "true", "QDRANT__CLUSTER__P2P__PORT": str(port)}
            join = ("--bootstrap", f"http://127.0.0.1:{first}") if servers else ()
            servers.append(stack.enter_context(running(env, (*join, "--uri", f"http://127.0.0.1:{port}"))))

        joined()
        address = {"url": servers[0].url, "grpc_port": servers[0].grpc_port, "timeout": 10}
        made = Deployment(tmp_path / "project", address, f"sqlite:///{tmp_path}/ledger.db")
        plain(made)
        made.revise("0002", ADD)
        upgrade.upgrade(made.settings())
        before = made.contents()
        joined()
        of_new = {"url": servers[asked].url, "grpc_port": servers[asked].grpc_port}
        made.qdrant = {**address, **of_new, "nodes": [one.url for one in servers]}
        made.__post_init__()
        way = f"qmigrate gc {made.name} --now --generation {made.name} --discard-writes"
        said = call(made.root, "check")
        assert (way in said.text, "was recreated" in said.text, "--vanished" in said.text) == (True, False, False)
        refused = call(made.root, *way.split()[1:-1], "--yes")
        assert (refused.code, way in refused.text) == (10, True), refused.text
        assert call(made.root, *way.split()[1:], "--yes").code == 0
        store = made.store()
        assert store.physical_names() == (f"{made.name}__g0001",)
        assert store.aliases() == {made.name: f"{made.name}__g0001"}
        for number in range(3):
            write(store, made.name, [make_point(800 + number)])
        store.close()
        assert made.contents().items() >= before.items()
        assert call(made.root, "check").code == 0


def test_the_replication_factor_makes_and_removes_replicas(made, nodes):  # noqa: F811
    """Two of each shard after the upgrade, on different nodes and active; one again after the rollback; check agrees."""
    made.revise("0001", CREATE.replace('COSINE)}})', 'COSINE)}}, shard_number=3, replication_factor=1)'))
    upgrade.upgrade(made.settings())
    made.load(60)
    before = made.contents()
    made.revise("0002", 'def upgrade():\n    return [op.Reshard("{name}", replication_factor=2)]\n')
    upgrade.upgrade(made.settings())
    assert _replicas(made, nodes[0]) == {0: 2, 1: 2, 2: 2}
    assert made.contents() == before
    assert call(made.root, "check", "--only", made.name).code == 0
    back.rollback(made.settings(), "0001")
    assert _replicas(made, nodes[0]) == {0: 1, 1: 1, 2: 1}
    assert made.contents() == before
    upgrade.upgrade(made.settings())
    told = found_by(made, nodes[0])
    peer = told["peer_id"] if told["local_shards"] else told["remote_shards"][0]["peer_id"]
    shard = (told["local_shards"] or told["remote_shards"])[0]["shard_id"]
    gone = {"drop_replica": {"shard_id": shard, "peer_id": peer}}
    assert httpx.post(f"{nodes[0].url}/collections/{made.name}__g0001/cluster", json=gone, timeout=30).status_code == 200
    said = call(made.root, "check", "--only", made.name, "--json")
    assert (said.code, [one["path"] for row in said.json["data"]["collections"] for one in row["findings"]]) == (4, ["replicas"])
    restore(made.settings(), made.name)
    assert _replicas(made, nodes[0]) == {0: 2, 1: 2, 2: 2}


def _replicas(made: Deployment, node) -> dict[int, int]:
    told = found_by(made, node)
    counts: dict[int, int] = {}
    for shard in (*told["local_shards"], *told["remote_shards"]):
        assert shard["state"] == "Active"
        counts[shard["shard_id"]] = counts.get(shard["shard_id"], 0) + 1
    return counts


@pytest.mark.nightly
def test_reading_goes_on_without_a_node(qdrant_program, tmp_path):
    """A node killed: status, plan, check, history and doctor answer and name it; what it holds alone is named too."""
    assert qdrant_program
    first = free_port()
    with ExitStack() as stack:
        servers = []
        for number in range(3):
            port = first if number == 0 else free_port()
            env = {"QDRANT__CLUSTER__ENABLED": "true", "QDRANT__CLUSTER__P2P__PORT": str(port)}
            join = () if number == 0 else ("--bootstrap", f"http://127.0.0.1:{first}")
            servers.append(stack.enter_context(running(env, (*join, "--uri", f"http://127.0.0.1:{port}"))))
        address = {
            "url": servers[0].url,
            "grpc_port": servers[0].grpc_port,
            "timeout": 10,
            "nodes": [node.url for node in servers],
        }
        made = Deployment(tmp_path / "project", address, f"sqlite:///{tmp_path}/ledger.db")
        # One shard on each node: no node has all of it.
        made.revise("0001", CREATE.replace('COSINE)}})', 'COSINE)}}, shard_number=3, replication_factor=1)'))
        upgrade.upgrade(made.settings())
        store = made.store()
        write(store, made.name, [make_point(number) for number in range(30)])
        store.close()
        made.revise("0002", ADD)
        gone = servers[2].url.removeprefix("http://")
        servers[2].stop()
        found = status.status(made.settings())
        assert any(gone in note for note in found.notes)
        (row,) = [one for one in found.collections if one.name == made.name]
        assert row.revision == "0001"
        for verb in (("status",), ("plan",), ("check",), ("history",), ("doctor",)):
            said = call(made.root, *verb, "--json")
            assert "data" in json.loads(said.out), (verb, said.err)
            assert gone in said.out + said.err or verb == ("history",), verb
        # What writes needs every node, and names the one that is missing; so does what waits for all of them.
        for verb in (("upgrade",), ("wait", "--timeout", "1s")):
            said = call(made.root, *verb)
            assert (said.code, gone in said.err, "What writes needs every node" in said.err) == (9, True, True), said.err
        # What asks no shard continues as well: figures, and whether a service is ready.
        assert 'qmigrate_up{store="qdrant"} 1.0' in call(made.root, "metrics").out
        asked = Parts(made.settings(), 10.0)
        asked.qdrant()
        assert [row.name for row in asked.look().collections] == [made.name]
