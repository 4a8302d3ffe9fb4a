"""Memory of pages that is used again, and given back afterwards."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

from qmigrate.engine.points import allocator

#: Blocks as large as pages, several at a time; what the kernel had to clear for them shows in the faults.
FAULTS = """
import resource, sys
from contextlib import nullcontext
from qmigrate.engine.points.allocator import pages_reused

def rounds():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(10):
        blocks = [bytes(4 * 2**20) for _ in range(8)]
        blocks = [bytearray(block) for block in blocks]
        del blocks
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

rounds()
with pages_reused() if sys.argv[1] == "inside" else nullcontext():
    rounds()
    print(rounds())
"""


@pytest.fixture
def calls(monkeypatch):
    """What is asked of the C library."""
    found = []
    monkeypatch.setattr(allocator, "_of_glibc", lambda name: lambda *args: found.append((name, *args)) or 1)
    return found


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library")
def test_pages_cost_no_new_memory_while_they_are_moved():
    """Far fewer pages of the system are asked for; a process of its own, since tests share the allocator."""
    faults = {}
    for where in ("inside", "outside"):
        command = [sys.executable, "-c", FAULTS, where]
        said = subprocess.run(command, capture_output=True, text=True, check=True, env={"PATH": ""})
        faults[where] = int(said.stdout)
    assert faults["inside"] * 3 < faults["outside"], faults


def test_it_lasts_until_the_last_has_left(calls):
    """Several collections may be copied at a time."""
    one, other = allocator.pages_reused(), allocator.pages_reused()
    with one:
        begun = list(calls)
        with other:
            pass
        assert calls == begun
    assert [name for name, *_ in calls[len(begun) :]][-1] == "malloc_trim"
    assert len(begun) == 3


@pytest.mark.parametrize(
    ("environment", "library"), [({"MALLOC_ARENA_MAX": "2"}, "glibc"), ({"GLIBC_TUNABLES": "x"}, "glibc"), ({}, "musl")]
)
def test_what_is_decided_elsewhere_stays(monkeypatch, environment, library):
    """By the environment, or where the C library is another one."""
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(platform, "libc_ver", lambda: (library, "2.36"))
    assert allocator._of_glibc("mallopt") is None
