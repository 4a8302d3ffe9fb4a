"""An embedder that stops in the middle of a copy, says so, and goes on once it may: a test can interrupt exactly there."""

from __future__ import annotations

import hashlib
import os
import threading
import time
from pathlib import Path

SIZE = 768
#: Items that one process embeds before it stops: more than a preflight tries, fewer than a measurement of its speed does.
FREE = int(os.environ.get("GATE_FREE", "60"))

_lock = threading.Lock()
_embedded = 0


def embed(items):
    """A vector that is a function of the item."""
    global _embedded
    with _lock:
        _embedded += len(items)
        stop = _embedded > FREE
    folder = Path(os.environ["GATE"])
    if stop and not (folder / "open").exists():
        (folder / "asked").touch()
        while not (folder / "open").exists():
            time.sleep(0.02)
    return [vector(item) for item in items]


def vector(item) -> list[float]:
    """768 numbers from the item's digest."""
    digest = hashlib.sha256(str(item).encode()).digest()
    return [float(digest[place % 32]) - 127.5 + place / SIZE for place in range(SIZE)]
