"""A child process that upgrades and writes to SQL in small portions, to be killed at a journal write in between."""

from __future__ import annotations

import sys
from pathlib import Path

from tests.faults.child import Points, watch

from qmigrate.commands import upgrade
from qmigrate.engine import write_back
from qmigrate.settings.load import Settings


def main() -> int:
    """``child_write_back.py CONFIG KILL_AT LOG``; ``-`` for neither."""
    write_back.PORTION = 15
    kill_at, log = sys.argv[2], sys.argv[3]
    watch(Points(int(kill_at) if kill_at != "-" else None, Path(log) if log != "-" else None))
    upgrade.upgrade(Settings.load(config=Path(sys.argv[1])))
    return 0


if __name__ == "__main__":
    sys.exit(main())
