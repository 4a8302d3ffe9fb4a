"""A child process that upgrades while the source is written to, and is killed before the base of a pass is committed."""

from __future__ import annotations

import sys
from pathlib import Path

from tests.faults.child import Points, watch
from tests.harness import write
from tests.scenarios.stale import point

from qmigrate.commands import upgrade
from qmigrate.engine import rebuild
from qmigrate.settings.load import Settings


def main() -> int:
    """``child_stale.py CONFIG LABEL``: point 5 gets its second vector right behind the fill."""
    config, label = sys.argv[1:3]
    copy_ranges = rebuild.copy_ranges

    def copied(work, step, *args):
        facts = copy_ranges(work, step, *args)
        write(work.store, step.source, [point(5, turned=True)])
        return facts

    rebuild.copy_ranges = copied
    watch(Points(None, None, label))
    upgrade.upgrade(Settings.load(config=Path(config)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
