"""A child process that upgrades a deployment, writes down every picture that is opened, and kills itself at one."""

from __future__ import annotations

import os
import signal
import sys
import threading
from pathlib import Path

from qmigrate import embed
from qmigrate.commands import upgrade
from qmigrate.engine.build import copy
from qmigrate.settings.load import Settings
from qmigrate.store import records


def main() -> int:
    """``child_deployment.py CONFIG FOLDER EMBEDDER``: in the folder ``seen.log`` is written, and ``limit`` read."""
    settings, folder, name = Settings.load(config=Path(sys.argv[1])), Path(sys.argv[2]), sys.argv[3]
    if (folder / "tiny.json").exists():
        import open_clip
        import torch

        torch.set_num_threads(1)
        open_clip.add_model_config(folder / "tiny.json")
    # Small pages, so that much is on its way; no checkpoint, so that only the shadow shows what is there.
    records.page_size = lambda *_arguments, **_more: 10
    copy.CHECKPOINT_EVERY = 3600.0
    kind = type(embed.load(name, settings.embedders[name]))
    prepare, lock = kind.prepare, threading.Lock()

    def written_down(self, items):
        with lock:
            with (folder / "seen.log").open("a") as out:
                out.writelines(f"{item}\n" for item in items)
            limit = folder / "limit"
            if limit.exists() and len((folder / "seen.log").read_text().splitlines()) >= int(limit.read_text()):
                limit.unlink()
                os.kill(os.getpid(), signal.SIGKILL)
        return prepare(self, items)

    kind.prepare = written_down
    upgrade.upgrade(settings, "0003")
    return 0


if __name__ == "__main__":
    sys.exit(main())
