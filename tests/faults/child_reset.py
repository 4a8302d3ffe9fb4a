"""A child process that resets a collection, or takes a reset back, and is killed at a chosen point. See ``child``."""

from __future__ import annotations

import sys
from pathlib import Path

from tests.faults.child import Points, watch

from qmigrate.commands import fix, reset
from qmigrate.settings.load import Settings


def main() -> int:
    """``child_reset.py CONFIG COLLECTION POINTS|--undo KILL_AT LOG``."""
    config, collection, points, kill_at, log = sys.argv[1:6]
    watch(Points(int(kill_at) if kill_at != "-" else None, Path(log) if log != "-" else None))
    settings = Settings.load(config=Path(config))
    if points == "--undo":
        fix.undo(settings, 1)
    else:
        reset.reset(settings, collection, reason="test", expect=int(points), confirm=reset.PHRASE)
    return 0


if __name__ == "__main__":
    sys.exit(main())
