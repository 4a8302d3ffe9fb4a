"""What looking costs: requests and statements, counted. What is seen is tested where it is used."""

from __future__ import annotations

import pytest
from sqlalchemy import event
from sqlalchemy.engine import Engine
from tests.conftest import clean
from tests.harness import ADD, CREATE, Deployment
from tests.scenarios.long_ledger import multiplied

from qmigrate import fix, op
from qmigrate.commands import doctor, upgrade
from qmigrate.commands.collection import collection
from qmigrate.commands.doctor.server import WEIGHED
from qmigrate.commands.history import deletions
from qmigrate.commands.overview import overview
from qmigrate.commands.runs import runs
from qmigrate.commands.status import history, status
from qmigrate.ledger import Ledger
from qmigrate.ledger.reader import LedgerReader
from qmigrate.model.schema import CollectionSchema
from qmigrate.observe import observe
from qmigrate.store.server.rest import Rest

PLAIN = CollectionSchema(vectors={"a": {"size": 8, "distance": "Cosine"}})
MORE = 12


@pytest.fixture
def sent(monkeypatch):
    """Counts REST requests and SQL statements."""
    counts = {"rest": 0, "sql": 0}
    send = Rest.send

    def request(self, *args, **kwargs):
        counts["rest"] += 1
        return send(self, *args, **kwargs)

    def statement(*_):
        counts["sql"] += 1

    monkeypatch.setattr(Rest, "send", request)
    event.listen(Engine, "before_cursor_execute", statement)
    yield counts
    event.remove(Engine, "before_cursor_execute", statement)


@pytest.fixture
def many(qdrant_with, ledger_url, tmp_path):
    """A deployment on a server of its own, and what makes more collections there."""
    server = qdrant_with()
    made = Deployment(tmp_path / "p", {"url": server.url, "grpc_port": server.grpc_port}, ledger_url)
    made.revise("0001", CREATE)
    upgrade.upgrade(made.settings())
    made.revise("0002", ADD)
    upgrade.upgrade(made.settings())

    def more() -> None:
        store = made.store()
        for number in range(MORE):
            store.create_collection(f"c{number}", PLAIN, seal=None)
        store.close()

    return made, more


def cost(sent: dict, call) -> dict:
    """What one call sends."""
    sent.update(rest=0, sql=0)
    call()
    return dict(sent)


@pytest.mark.server
@pytest.mark.parametrize(
    ("only", "requests"), [(None, 2 * MORE), (["NAME"], 0)], ids=["everything", "one name"]
)
def test_observing_asks_twice_per_collection_and_never_more_of_sql(many, sent, only, requests):
    """More collections cost two requests each, and no SQL; to show one name they cost nothing."""
    made, more = many
    names = [made.name] if only else None
    ledger, store = Ledger.open(made.ledger_url), made.store()
    try:
        observe(ledger, store, only=names)
        few = cost(sent, lambda: observe(ledger, store, only=names))
        more()
        lots = cost(sent, lambda: observe(ledger, store, only=names))
        assert lots["rest"] - few["rest"] == requests
        assert lots["sql"] == few["sql"]
        assert len(observe(ledger, store).collections) == MORE + 1
    finally:
        store.close()
        ledger.close()


@pytest.mark.server
def test_doctor_asks_four_times_per_collection(many, sent):
    """The same for doctor, which checks every physical collection in addition to every name: four requests, no SQL."""
    made, more = many
    settings = made.settings()
    few = cost(sent, lambda: doctor.doctor(settings))
    more()
    lots = cost(sent, lambda: doctor.doctor(settings))
    # A few of the largest are weighed, however many there are; one was among the few.
    assert lots["rest"] - few["rest"] == 4 * MORE + WEIGHED - 1
    assert lots["sql"] == few["sql"]


def test_everything_and_one_name_see_the_same(deployment):
    """A collection looks the same whether it is read alone or with all others, before, during and after upgrades."""
    made = deployment
    made.revise("0001", CREATE)
    upgrade.upgrade(made.settings())
    made.load(5)
    made.revise("0002", ADD)
    upgrade.upgrade(made.settings())
    ledger, store = Ledger.open(made.ledger_url), made.store()
    try:
        whole, alone = observe(ledger, store), observe(ledger, store, only=[made.name, "absent"])
        assert whole.collections[made.name] == alone.collections[made.name]
        assert whole.collections[made.name].basis() == alone.collections[made.name].basis()
        assert alone.collections["absent"].kind == "absent"
    finally:
        store.close()
        ledger.close()


#: What pages of the console show, and the most rows of it that depend on how long the past is: what is listed.
LOOKS = {
    "overview": (lambda settings, name: overview(settings), 110),
    "overview counted": (lambda settings, name: overview(settings, count=True), 160),
    "status": (lambda settings, name: status(settings), 60),
    "collection": (lambda settings, name: collection(settings, name), 10),
    "history": (lambda settings, name: history(settings, name, 50), 160),
    "runs": (lambda settings, name: runs(settings, limit=50), 110),
    "deletions": (lambda settings, name: deletions(settings, name, limit=50), 110),
}


@pytest.mark.server
def test_a_long_past_is_not_read_whole(qdrant_server, ledger_url, tmp_path, monkeypatch):
    """However many rows runs, history and audit have: what shows today reads those that it shows."""
    made = Deployment(tmp_path / "p", {"url": qdrant_server.url, "grpc_port": qdrant_server.grpc_port}, ledger_url)
    made.revise("0001", CREATE)
    upgrade.upgrade(made.settings())
    made.load(20)
    made.revise("0002", ADD)
    upgrade.upgrade(made.settings())
    fix.run(op.SetPayload(made.name, {"seen": True}, max_share=1.0), settings=made.settings())
    read = [0]

    def counting(name: str) -> None:
        plain = getattr(LedgerReader, name)

        def counted(self, query):
            found = plain(self, query)
            read[0] += len(found)
            return found

        monkeypatch.setattr(LedgerReader, name, counted)

    counting("_rows")
    counting("_tuples")

    def rows() -> dict[str, int]:
        found = {}
        for look, (ask, _) in LOOKS.items():
            read[0] = 0
            ask(made.settings(), made.name)
            found[look] = read[0]
        return found

    few = rows()
    multiplied(made, 700)
    many = rows()
    more = {look: many[look] - few[look] for look in LOOKS}
    assert {look: count for look, count in more.items() if count > LOOKS[look][1]} == {}
    assert more["overview"] > 50, "what was multiplied is of these 24 hours"
    clean(made)
