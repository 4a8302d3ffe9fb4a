"""A fence that is lifted for a deletion, and the process that continues for one that died in that moment."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from qmigrate.engine.fixes.erase import generations
from qmigrate.errors import StoreError
from qmigrate.model.schema import CollectionSchema
from qmigrate.model.state import Generation, LiveCollection

OLD = "c__g0001"
FENCED = {"enabled": True, "write_rate_limit": 1}


class Server:
    """What a server does about the fence of one generation, and which points it has."""

    def __init__(self, *ids: int, fenced: bool) -> None:
        self.ids = set(ids)
        self.strict = FENCED if fenced else {"enabled": False}
        self.tokens = 1
        self.capabilities = SimpleNamespace(local=False, barrier=True, alone=False, nodes=1, several=False)

    def aliases(self):
        return {f"{OLD}__e7": OLD}

    def describe(self, _name):
        return LiveCollection(OLD, CollectionSchema(config={"strict_mode_config": self.strict}))

    def fetch_ids(self, _name, ids):
        return self.ids & set(ids)

    def barrier(self, _name):
        return {"0": 5}

    def delete(self, _alias, ids):
        assert self.strict != FENCED, "429"
        self.ids -= set(ids)

    def lift_fence(self, _alias, prior):
        self.strict = {**prior, "enabled": False}

    def fence(self, _alias):
        before = self.strict
        if before != FENCED:
            self.strict, self.tokens = FENCED, 1
        return before

    def take_tokens(self, _alias):
        if self.strict != FENCED:
            raise StoreError("it is not fenced")
        taken, self.tokens = self.tokens, 0
        return taken


def work_on(store: Server) -> SimpleNamespace:
    """A process that holds the lease; the ledger has the fence, and how the generation was left."""
    row = Generation(1, OLD, None, ("0001",), CollectionSchema(), "retired", fence={})
    leaving = SimpleNamespace(left=SimpleNamespace(ids={"0": 1}, barrier_delta=1), given_up=False, run=1, step=1)
    ledger = SimpleNamespace(leaving=lambda *_: leaving)
    lease = SimpleNamespace(epoch=7, ledger=ledger)
    return SimpleNamespace(
        store=store, lease=lease, collection="c", generation=lambda _: row, tick=lambda *_: None
    )


@pytest.mark.parametrize("there", [True, False], ids=["the point is there", "the point is gone"])
@pytest.mark.parametrize("fenced", [True, False], ids=["fenced", "left open"])
def test_it_is_fenced_afterwards(there, fenced):
    """However far the process before came, nothing passes the fence once this one is done."""
    store = Server(*([4, 5] if there else [5]), fenced=fenced)
    if fenced:
        store.tokens = 0
    assert generations.delete(work_on(store), OLD, {4}) == int(there)
    assert (store.ids, store.strict, store.tokens) == ({5}, FENCED, 0)
