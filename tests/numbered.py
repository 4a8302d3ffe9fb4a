"""Local mode that numbers its writes as a server does, so that what goes by versions is tried without a server.

One shard, one node, barriers and listings; fences let everything pass. It stands in for what a real server was seen to
do (``tests/integration/test_store_versions.py``), and proves nothing about one.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field, replace
from functools import wraps

import numpy as np
from qdrant_client import grpc

from qmigrate.model.ids import pages_of, points_of
from qmigrate.ports import Placement, VersionPage
from qmigrate.store import records
from qmigrate.store.local.local import LocalStore


@dataclass
class Numbers:
    """The operations of one collection: the last number, and that of each point."""

    last: int = 0
    points: dict = field(default_factory=dict)

    def write(self, ids) -> None:
        """One operation on these points."""
        self.last += 1
        self.points.update(dict.fromkeys(ids, self.last))


def number(monkeypatch) -> None:
    """From now on local mode has point versions, as long as the patch lasts."""
    known: defaultdict = defaultdict(Numbers)
    capabilities = LocalStore.capabilities.fget
    vectors = {"local": False, "version": (1, 19, 0), "barrier": True, "versions": True}

    def of(store, name) -> Numbers:
        return known[store._path, store.aliases().get(name, name)]

    def writes(method: str, ids_of) -> None:
        original = getattr(LocalStore, method)

        @wraps(original)
        def numbered(self, name, given, *args, **options):
            result = original(self, name, given, *args, **options)
            of(self, name).write(ids_of(given))
            return result

        monkeypatch.setattr(LocalStore, method, numbered)

    writes("upsert", lambda points: [records.point_id(grpc.PointStruct.FromString(one)) for one in points])
    writes("delete", list)
    writes("edit_payloads", lambda edits: [one for edit in edits for one in edit.ids])
    writes("edit_vectors", list)
    writes("overwrite_payload", lambda identifier: [identifier])
    drop = LocalStore.drop_collection

    def drop_collection(self, permit) -> None:
        known.pop((self._path, permit.physical), None)
        drop(self, permit)

    def barrier(self, name) -> dict[str, int]:
        self.must_exist(name)
        of(self, name).write([])
        return operation_ids(self, name)

    def operation_ids(self, name) -> dict[str, int]:
        self.must_exist(name)
        return {"node/0": of(self, name).last}

    def versions(self, name, vector, *, ids=None):
        lacking = {one for page in self.scan_ids(name, where={"must_not": [{"has_vector": vector}]}) for one in points_of(page)}
        for page in self.scan_ids(name):
            shown = [one for one in points_of(page) if one not in lacking and (ids is None or one in set(ids))]
            for some in pages_of(shown):
                numbers = [of(self, name).points[one] for one in points_of(some)]
                yield VersionPage(some, np.array(numbers, np.uint64))

    monkeypatch.setattr(LocalStore, "capabilities", property(lambda self: replace(capabilities(self), **vectors)))
    monkeypatch.setattr(LocalStore, "drop_collection", drop_collection)
    monkeypatch.setattr(LocalStore, "barrier", barrier)
    monkeypatch.setattr(LocalStore, "operation_ids", operation_ids)
    monkeypatch.setattr(LocalStore, "versions", versions)
    monkeypatch.setattr(LocalStore, "placement", lambda self, name: Placement(((0, 1, "Active"),)))
