"""A child process that upgrades with small pages, so that much is on its way when its embedder kills it."""

from __future__ import annotations

import sys
import threading
from pathlib import Path

from qmigrate.commands import upgrade
from qmigrate.engine.build import copy
from qmigrate.errors import StoppedError
from qmigrate.settings.load import Settings
from qmigrate.store import records


def main() -> int:
    """``child_embed.py CONFIG FOLDER SECONDS``: where the embedder's module is; how often a checkpoint is made."""
    sys.path.insert(0, sys.argv[2])
    records.page_size = lambda *_arguments, **_more: 10
    copy.CHECKPOINT_EVERY = float(sys.argv[3])
    try:
        upgrade.upgrade(Settings.load(config=Path(sys.argv[1])))
    except StoppedError as stopped:
        print([thread.name for thread in threading.enumerate() if thread.name.startswith("embed ")])
        return stopped.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
