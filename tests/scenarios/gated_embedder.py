"""An embedder that tells when it is asked, and answers only once it may: so a test can interrupt exactly there."""

from __future__ import annotations

import hashlib
import os
import time
from pathlib import Path

SIZE = 768


def embed(items):
    """A vector that is a function of the item."""
    folder = Path(os.environ["GATE"])
    (folder / "asked").touch()
    while not (folder / "open").exists():
        time.sleep(0.02)
    return [vector(item) for item in items]


def vector(item) -> list[float]:
    """768 numbers from the item's digest."""
    digest = hashlib.sha256(str(item).encode()).digest()
    return [float(digest[place % 32]) - 127.5 + place / SIZE for place in range(SIZE)]
