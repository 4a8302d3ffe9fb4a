"""A child process that copies without computing anything, in small pages, and is killed at a chosen point.

Points are counted as in ``child.py``, and around each request that writes points, reads pages or lists versions. Halfway
to the kill, points of the source become others, which the parent takes back afterwards. It tests nothing.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from tests.faults.child import Points, watch
from tests.harness import make_point, write

from qmigrate.commands import upgrade
from qmigrate.engine.build import copy
from qmigrate.settings.load import Settings
from qmigrate.store import ConnectionSettings, connect, records
from qmigrate.store.server.server import ServerStore

PAGE = 7
#: Numbers of points that another client changes while the child copies, and one that it inserts.
CHANGED, INSERTED = (1, 2, 23, 44), 700
#: Requests for pages are counted as each of them is asked for.
READS = ("scan_ready", "scan_canonical", "versions")
WRITES = ("upsert", "fetch", "barrier", "flush")


class Meddled(Points):
    """At half of the way to the kill another client writes."""

    def __init__(self, kill_at: int | None, log: Path | None, settings: Settings, source: str) -> None:
        super().__init__(kill_at, log)
        self._settings, self._source = settings, source

    def reach(self, label: str) -> None:
        """One more point."""
        if self.kill_at is not None and self.count == self.kill_at // 2:
            store = connect(ConnectionSettings(**self._settings.connection()))
            try:
                # Not by the methods that are watched: this is another client.
                with store_as_it_is():
                    write(store, self._source, [make_point(number, text="B") for number in (*CHANGED, INSERTED)])
            finally:
                store.close()
        super().reach(label)


ORIGINAL = ServerStore.upsert


class store_as_it_is:  # noqa: N801  reads as a block
    """While the block runs, writing points does not count."""

    def __enter__(self) -> None:
        self._watched = ServerStore.upsert
        ServerStore.upsert = ORIGINAL

    def __exit__(self, *_: object) -> None:
        ServerStore.upsert = self._watched


def watch_points(points: Points) -> None:
    """Around each request about points."""
    for name in WRITES:
        original = getattr(ServerStore, name)

        def wrapped(self, *args, _original=original, _name=name, **kwargs):
            points.reach(f"before {_name}")
            result = _original(self, *args, **kwargs)
            points.reach(f"after {_name}")
            return result

        setattr(ServerStore, name, wrapped)
    for name in READS:
        original = getattr(ServerStore, name)

        def paged(self, *args, _original=original, _name=name, **kwargs):
            for page in _original(self, *args, **kwargs):
                points.reach(f"a page of {_name}")
                yield page

        setattr(ServerStore, name, paged)


def main() -> int:
    """``child_bytes.py CONFIG SOURCE KILL_AT LOG HOW``; `HOW` is ``version`` or ``content``."""
    config, source, kill_at, log, how = sys.argv[1:6]
    settings = Settings.load(config=Path(config))
    points = Meddled(int(kill_at) if kill_at != "-" else None, Path(log) if log != "-" else None, settings, source)
    watch(points)
    watch_points(points)
    records.page_size = lambda *_args, **_more: PAGE
    copy.CHECKPOINT_EVERY = 0.0
    if how == "content":
        import qmigrate.engine.prove.proof as proof

        proof.can_list = lambda *_: False
    result = upgrade.upgrade(settings)
    print(json.dumps([outcome.collection for outcome in result.outcomes]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
