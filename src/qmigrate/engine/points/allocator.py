"""Memory of pages is used again for the next ones, where the C library is glibc. It allocates nothing itself."""

from __future__ import annotations

import ctypes
import os
import platform
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

#: Parameters of ``mallopt``, as ``malloc.h`` has them.
_TRIM_THRESHOLD, _TOP_PAD, _MMAP_THRESHOLD = -1, -2, -3
#: While pages are moved: what is asked for at a time, what is mapped on its own, what may lie free.
_WHILE = ((_MMAP_THRESHOLD, 32 * 2**20), (_TOP_PAD, 16 * 2**20), (_TRIM_THRESHOLD, 128 * 2**20))
#: Afterwards: what glibc comes to by itself where blocks of a few megabytes are freed.
_AFTER = ((_TOP_PAD, 128 * 2**10), (_TRIM_THRESHOLD, 16 * 2**20))
#: Who has set any of these has decided.
_DECIDED = ("MALLOC_", "GLIBC_TUNABLES")

_lock = threading.Lock()
_inside = 0


@contextmanager
def pages_reused() -> Iterator[None]:
    """For the process, until the last of those who are inside has left.

    glibc gives the memory of a page back to the system as soon as it is free, and has every part of it cleared for the
    next page: two thirds of what it takes to change the tags of a page, or to serialise it. Afterwards what is free is
    given back. Where another allocator is used, or the environment says how this one works, nothing is changed.
    """
    global _inside
    with _lock:
        if not _inside:
            _set(_WHILE)
        _inside += 1
    try:
        yield
    finally:
        with _lock:
            _inside -= 1
            if not _inside:
                _set(_AFTER)
                _give_back()


def _set(values: tuple[tuple[int, int], ...]) -> None:
    mallopt = _of_glibc("mallopt")
    if mallopt is not None:
        for parameter, value in values:
            mallopt(parameter, value)


def _give_back() -> None:
    trim = _of_glibc("malloc_trim")
    if trim is not None:
        trim(0)


def _of_glibc(name: str) -> Callable[..., int] | None:
    if any(one.startswith(_DECIDED) for one in os.environ) or platform.libc_ver()[0] != "glibc":
        return None
    return getattr(ctypes.CDLL(None), name, None)
