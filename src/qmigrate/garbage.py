"""How often Python looks for garbage cycles while points pass through: seldom. It frees nothing and is not a setting.

A pass makes a few small objects per point and lets them go at once. By default Python takes every 700 new ones as a
reason to look for cycles, and walks over all that lives again and again: that was half of the CPU of a deletion.
"""

from __future__ import annotations

import gc
import threading
from collections.abc import Iterator
from contextlib import contextmanager

#: New objects between two passes over the young ones; a pass over this many takes a millisecond or two.
_YOUNG = 50_000

_lock = threading.Lock()
_working = 0
_before = gc.get_threshold()


@contextmanager
def seldom_collected() -> Iterator[None]:
    """Raise the threshold of the collector, for the process, until the last of those who are inside has left.

    What an application has set higher, or has switched off, stays as it is.
    """
    global _before, _working
    with _lock:
        if not _working:
            _before = gc.get_threshold()
            if 0 < _before[0] < _YOUNG:
                gc.set_threshold(_YOUNG, *_before[1:])
        _working += 1
    try:
        yield
    finally:
        with _lock:
            _working -= 1
            if not _working:
                gc.set_threshold(*_before)
