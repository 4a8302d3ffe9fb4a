"""Whether an error means that a device has no memory left, whatever library raises it. It frees none."""

from __future__ import annotations

#: How libraries word it that raise nothing more special than a RuntimeError: torch on CUDA, MPS and CPU, and others.
_SAYINGS = ("out of memory", "can't allocate memory", "cannot allocate memory", "failed to allocate")


def out_of_memory(error: BaseException) -> bool:
    """Whether it is torch's OutOfMemoryError, Python's MemoryError, or an error with such words."""
    if isinstance(error, MemoryError) or any(one.__name__ == "OutOfMemoryError" for one in type(error).__mro__):
        return True
    return isinstance(error, RuntimeError) and any(words in str(error).lower() for words in _SAYINGS)
