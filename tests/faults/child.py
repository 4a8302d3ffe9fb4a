"""A child process that runs one verb and is killed (SIGKILL) at a chosen point, to be resumed by its parent.

Points are counted while the code runs: every journal write of a lease, before and after it reaches the database, and
every store call that writes. Nothing in the product depends on it.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from qmigrate.commands import cutover, gc, rehearse, upgrade
from qmigrate.commands import rollback as back
from qmigrate.ledger import Lease
from qmigrate.settings.load import Settings
from qmigrate.store.server.server import ServerStore

#: Methods of a lease whose writes are points of the journal.
JOURNAL = (
    "open_run",
    "resume_run",
    "journal",
    "fix_ranges",
    "checkpoint",
    "stage_base",
    "mark_dirty",
    "commit_base",
    "carry",
    "amend_run",
    "drop_base",
    "drop_carries",
    "forget_generation",
    "save_generation",
    "begin_deletion",
    "close_step",
    "finish_run",
    "intend_erasures",
    "settle_erasures",
    "forget_quarantined",
    "forget_samples",
    "rewrite_pages",
)
#: Requests to a server that move names, delete, or make a clone.
REQUESTS = (
    "create_alias",
    "rename_aliases",
    "change_aliases",
    "drop_collection",
    "create_snapshot",
    "recover_snapshot",
    "write_seal",
    "edit_payloads",
    "delete",
)


class Points:
    """Counts points; kills the process at one of them, or writes down what it passed."""

    def __init__(self, kill_at: int | None, log: Path | None, label: str | None = None) -> None:
        self.kill_at = kill_at
        self.label = label
        self.log = log
        self.count = 0

    def reach(self, label: str) -> None:
        """One more point."""
        self.count += 1
        if self.log is not None:
            with self.log.open("a") as out:
                out.write(label + "\n")
        if self.count == self.kill_at or label == self.label:
            os.kill(os.getpid(), signal.SIGKILL)


def watch(points: Points) -> None:
    """Put a point before and after every journal write."""
    for name in JOURNAL:
        original = getattr(Lease, name)

        def wrapped(self, *args, _original=original, _name=name, **kwargs):
            label = _name
            if _name == "journal":
                label = f"journal {args[2]} {args[3]}"
            points.reach(f"before {label}")
            result = _original(self, *args, **kwargs)
            points.reach(f"after {label}")
            return result

        setattr(Lease, name, wrapped)
    for name in REQUESTS:
        _watch_store(points, name)


def _watch_store(points: Points, name: str) -> None:
    original = getattr(ServerStore, name)

    def wrapped(self, *args, **kwargs):
        points.reach(f"before {name}")
        if name == "recover_snapshot":
            result = _recovered(points, self, original, args)
        else:
            result = original(self, *args, **kwargs)
        points.reach(f"after {name}")
        return result

    setattr(ServerStore, name, wrapped)


def _recovered(points: Points, store, original, args):
    """A recovery, with a point while the server is at it."""
    with ThreadPoolExecutor(1) as pool:
        future = pool.submit(original, store, *args)
        while not future.done() and not store.recovering(args[0]):
            pass
        points.reach("before the end of recover_snapshot")
        return future.result()


def main() -> int:
    """``child.py CONFIG VERB TARGET KILL_AT LOG WRITES``; a rehearsal is killed at the label that WRITES names."""
    config, verb, target, kill_at, log, writes = sys.argv[1:7]
    label = writes if verb == "rehearse" else None
    watch(Points(int(kill_at) if kill_at != "-" else None, Path(log) if log != "-" else None, label))
    settings = Settings.load(config=Path(config))
    if verb == "gc":
        print(json.dumps([entry.generation for entry in gc.gc(settings, target).collected]))
        return 0
    if verb == "rehearse":
        rehearse.rehearse(settings, 20)
        return 0
    if verb == "upgrade":
        result = upgrade.upgrade(settings, target, allow_gap=writes == "allow-gap")
    elif verb == "cutover":
        result = cutover.cutover(settings, [target])
    elif verb == "abort":
        result = back.abort(settings, target)
    else:
        result = back.rollback(settings, target, writes=writes)
    print(json.dumps([outcome.collection for outcome in result.outcomes]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
