"""What a server reports about itself, from real ones: a single node, three nodes, a node that is down, keys."""

from __future__ import annotations

import pytest
from tests.conftest_qdrant import clean, free_port
from tests.harness import write
from tests.integration.test_store_cluster import SCHEMA, nodes  # noqa: F401  a fixture
from tests.scenarios.keys import ENV, KEY, READ_KEY, limited, token

from qmigrate.errors import StoreError
from qmigrate.model.transform import Point
from qmigrate.model.weight import MOST_ROOM
from qmigrate.store import connect
from qmigrate.store.server.examine import Examiner

pytestmark = pytest.mark.server


@pytest.fixture
def examined():
    """Opens examiners, and closes them at the end."""
    made = []

    def opened(settings) -> Examiner:
        made.append(Examiner(settings))
        return made[-1]

    yield opened
    for one in made:
        one.close()


def test_a_single_node_tells_version_memory_and_clock(qdrant_server, examined):
    """Version, RAM of the machine, RAM held, disks, clock and number of collections are reported; the rest is empty."""
    examiner = examined(qdrant_server.settings())
    (node,) = examiner.nodes()
    assert node.problem is None
    assert node.version >= (1, 16, 0)
    # A container without a limit reports 2^63 or so: that counts as unknown.
    assert 0 < node.resident < (MOST_ROOM if node.ram is None else node.ram)
    assert node.disk > 10**6
    assert abs(node.skew) < 5
    assert node.most_collections is None
    assert not examiner.cluster().enabled
    assert examiner.points_reachable().endswith(f":{qdrant_server.grpc_port}")


def test_a_limit_of_collections_and_recovery_mode_are_told(qdrant_with, examined):
    """storage.max_collections is reported; a server in recovery mode is recognised as one."""
    (node,) = examined(qdrant_with({"QDRANT__STORAGE__MAX_COLLECTIONS": "7"}).settings()).nodes()
    assert (node.most_collections, node.recovery_mode) == (7, False)
    (node,) = examined(qdrant_with({"QDRANT__STORAGE__RECOVERY_MODE": "mending"}).settings()).nodes()
    assert node.recovery_mode


def test_a_node_that_is_down_is_part_of_the_answer(qdrant_server, examined):
    """The others are reported anyway."""
    gone = f"http://127.0.0.1:{free_port()}"
    settings = qdrant_server.settings(nodes=(qdrant_server.url, gone), timeout=0.5)
    there, lost = examined(settings).nodes()
    assert there.problem is None
    assert "can't be reached" in lost.problem
    with pytest.raises(StoreError, match="gRPC"):
        examined(qdrant_server.settings(grpc_port=free_port(), timeout=0.5)).points_reachable()


def test_what_a_collection_takes_is_estimated(qdrant_server, examined, fresh_name):
    """Bytes of vectors and payload grow with the points; a collection that isn't there isn't listed."""
    store = connect(qdrant_server.settings())
    try:
        store.create_collection(fresh_name, SCHEMA.with_(config={}), seal=None)
        write(store, fresh_name, [Point(number, {"text": "x" * 100}, {"a": [1.0, 2.0, 3.0, 4.0]}) for number in range(500)])
        told = examined(qdrant_server.settings()).stored()
        assert told[fresh_name].bytes >= 500 * (16 + 100)
        assert told[fresh_name].transfers == ()
        assert "no_such_collection" not in told
    finally:
        clean(store, fresh_name)
        store.close()


def test_three_nodes_are_told_with_their_versions(nodes, examined, fresh_name):  # noqa: F811
    """Every peer with its version, whether it is watched, a leader, and the bytes of all replicas."""
    partial = examined(nodes[0].settings()).cluster()
    assert (partial.enabled, partial.leader, partial.consensus, len(partial.peers)) == (True, True, "working", 3)
    assert sum(peer.watched for peer in partial.peers) == 1
    whole = nodes[0].settings(nodes=tuple(node.url for node in nodes))
    examiner = examined(whole)
    assert all(peer.watched for peer in examiner.cluster().peers)
    assert len(examiner.nodes()) == 3
    store = connect(whole)
    try:
        store.create_collection(fresh_name, SCHEMA, seal=None)
        write(store, fresh_name, [Point(number, {}, {"a": [1.0, 2.0, 3.0, 4.0]}) for number in range(60)])
        assert examiner.stored()[fresh_name].bytes >= 2 * 60 * 16
    finally:
        clean(store, fresh_name)
        store.close()


def test_rights_are_seen_for_each_kind_of_key(qdrant_with, examined, fresh_name):
    """Managing, reading and limited keys, and those that are not let in; of limited ones, the access to each name."""
    server = qdrant_with(ENV)
    store = connect(server.settings(api_key=KEY))
    for suffix in ("a", "b", "c"):
        store.create_collection(f"{fresh_name}{suffix}", SCHEMA.with_(config={}), seal=None)
    before = {name: store.operation_ids(name) for name in store.physical_names()}
    names = [f"{fresh_name}{suffix}" for suffix in ("a", "b", "c")]
    mixed = token([{"collection": name, "access": access} for name, access in zip(names, ("r", "prw", "rw"), strict=True)])
    for key, level, found in [
        (KEY, "manage", {}),
        (token("m"), "manage", {}),
        (READ_KEY, "read", {}),
        (token("r"), "read", {}),
        (mixed, "limited", dict(zip(names, ("r", "prw", "rw"), strict=True))),
        (limited("rw", names[1], "no_such_collection"), "limited", {names[1]: "rw"}),
        ("another key", "none", {}),
        (token("m", hours=-9), "none", {}),
        (None, "none", {}),
    ]:
        rights = examined(server.settings(api_key=key)).rights()
        assert (rights.level, dict(rights.collections), rights.sent) == (level, found, key is not None)
    assert {name: store.operation_ids(name) for name in store.physical_names()} == before
    store.close()
