"""An embedder that lets a test look around in the middle of a copy."""

from __future__ import annotations

from collections.abc import Callable

#: Called before every batch.
looks: list[Callable[[], None]] = []


def embed(items):
    """A vector per item, after every worker has looked."""
    for look in looks:
        look()
    return [[float(len(str(item))), 1.0, 0.0, 0.5] for item in items]
