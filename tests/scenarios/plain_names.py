"""Plain collections under management, for the tests of how their names become aliases. It tests nothing."""

from __future__ import annotations

from tests.harness import CREATE, Deployment, make_point, write

from qmigrate.commands.session import session
from qmigrate.ledger import View
from qmigrate.model.plan import Closing, Job
from qmigrate.model.schema import CollectionSchema
from qmigrate.model.state import Generation

SCHEMA = CollectionSchema(vectors={"a": {"size": 8, "distance": "Cosine"}})


def plain(deployment: Deployment, points: int = 40) -> None:
    """A plain collection with points, taken over at revision 0001."""
    deployment.revise("0001", CREATE)
    store = deployment.store()
    store.create_collection(deployment.name, SCHEMA, seal=None)
    write(store, deployment.name, [make_point(n, uuid_id=n % 3 == 2) for n in range(points)])
    store.close()
    take_over(deployment)


def take_over(deployment: Deployment) -> None:
    """Register what is there."""
    name = deployment.name
    with session(deployment.settings(), writes=True) as opened:
        revision = opened.revisions.get("0001")
        closing = Closing(0, "0001", "upgrade", revision.checksum, SCHEMA, None)
        seal = {"version": 1, "ledger": opened.ledger_id, "collection": name, "generation": 0, "revision": "0001",
                "checksum": revision.checksum, "state": "live", "embedders": {}}
        with opened.ledger.hold(name, timeout=10, ttl=10) as lease:
            run = lease.open_run("adopt", Job(name, "", (), (closing,)), {}, actor="t", tool="t", server="t")
            lease.close_step(
                run, 0, closings=[closing], view=View(name, "0001", name, SCHEMA, {}),
                generations=[Generation(0, name, None, ("0001",), SCHEMA, "live", swept=True)],
                strategy="create", physical=name, changes=(), report={}, phase="close", last=True,
            )
            opened.store.write_seal(name, seal)
