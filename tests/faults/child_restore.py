"""A child process that restores, or takes a restore back, and is killed at a chosen point. See ``child``."""

from __future__ import annotations

import sys
from pathlib import Path

from tests.faults.child import Points, watch

from qmigrate.commands import restore
from qmigrate.settings.load import Settings


def main() -> int:
    """``child_restore.py CONFIG COLLECTION SNAPSHOT|--undo KILL_AT LOG``."""
    config, collection, snapshot, kill_at, log = sys.argv[1:6]
    watch(Points(int(kill_at) if kill_at != "-" else None, Path(log) if log != "-" else None))
    settings = Settings.load(config=Path(config))
    if snapshot == "--undo":
        restore.undo(settings, collection)
    else:
        restore.restore(settings, collection, snapshot, consent=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
