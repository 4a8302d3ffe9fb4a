"""Local mode with operation ids and point versions as a server of one shard has them. It tests nothing."""

from __future__ import annotations

from collections import Counter
from types import SimpleNamespace

import numpy as np
from qdrant_client import grpc

from qmigrate.model.ids import pages_of, points_of
from qmigrate.ports import Placement, VersionPage
from qmigrate.store import records
from qmigrate.store.local.local import LocalStore


class Numbers:
    """Operations of every collection, and the number of the one that last wrote each point."""

    def __init__(self) -> None:
        self.last: Counter[str] = Counter()
        self.points: dict[str, dict] = {}

    def wrote(self, name: str, ids) -> int:
        """One operation."""
        self.last[name] += 1
        self.points.setdefault(name, {}).update(dict.fromkeys(ids, self.last[name]))
        return self.last[name]


def numbered(monkeypatch) -> None:
    """Local mode with operation ids and versions as a server of one shard has them."""
    told = Numbers()
    upsert, delete, edit = LocalStore.upsert, LocalStore.delete, LocalStore.edit_payloads

    def physical(store, name):
        return store.aliases().get(name, name)

    def upserted(self, name, points, *, new_only=False):
        ids = [records.point_id(grpc.PointStruct.FromString(point)) for point in points]
        ids = [one for one in ids if not (new_only and one in self.fetch_ids(name, ids))]
        pending = upsert(self, name, points, new_only=new_only)
        number = told.wrote(physical(self, name), ids)
        return SimpleNamespace(wait=lambda: pending.wait() or number)

    def deleted(self, name, ids):
        delete(self, name, ids)
        there = told.points.setdefault(physical(self, name), {})
        for one in ids:
            there.pop(one, None)
        return told.wrote(physical(self, name), ())

    def edited(self, name, edits):
        edit(self, name, edits)
        for one in edits:
            told.wrote(physical(self, name), one.ids)

    def versions(self, name, vector, *, ids=None):
        found = told.points.get(physical(self, name), {})
        rows = [one for one in self.fetch_ids(name, list(found)) if ids is None or one in ids]
        for page in pages_of(sorted(rows, key=records.order_key)):
            yield VersionPage(page, np.array([found[one] for one in points_of(page)], np.uint64))

    def passed(self, name):
        told.wrote(physical(self, name), ())
        return self.operation_ids(name)

    for name, method in {
        "upsert": upserted, "delete": deleted, "edit_payloads": edited, "versions": versions, "barrier": passed,
        "placement": lambda self, name: Placement(((0, 0, "Active"),)),
        "operation_ids": lambda self, name: {"local/0": told.last[physical(self, name)]},
    }.items():
        monkeypatch.setattr(LocalStore, name, method)
    monkeypatch.setattr("qmigrate.engine.prove.choice.check_able", lambda store: None)
