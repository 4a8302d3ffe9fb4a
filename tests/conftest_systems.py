"""Which tests need Linux, or at least a Unix: by their own words. It tests nothing, and skips nothing on Linux."""

from __future__ import annotations

import inspect
import re
import sys

import pytest

#: Words of a test that only Linux understands, and those that any Unix does.
LINUX = re.compile(r"/proc|/dev/full|/dev/shm|import resource|RLIMIT")
UNIX = re.compile(r"st_mode|S_IMODE|SIG(KILL|STOP|HUP|CONT)|os\.(kill|killpg|fork|symlink)\b|symlink_to|pass_fds|/dev/null")
#: Modules whose helpers need it, whatever the test itself says.
LINUX_MODULES = frozenset({"test_owner"})
UNIX_MODULES = frozenset(
    {
        *("test_children", "test_workers", "test_entrypoint", "test_entrypoint_script", "test_deployment_files"),
        *("test_deployment_killed", "test_deployments", "test_examples", "test_examples_faces"),
    }
)


def missing(module: str, source: str, system: str) -> str | None:
    """Why a test can't run on a system, or None.

    Args:
        module: without folder and ending.
        source: of the test function.
        system: as ``sys.platform``.
    """
    if system != "linux" and (module in LINUX_MODULES or LINUX.search(source)):
        return "needs Linux: /proc, /dev/full or its count of memory"
    if system == "win32" and (module in UNIX_MODULES or UNIX.search(source)):
        return "needs a Unix: its signals, file modes, links or shell"
    return None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip with one line what this system has no means for."""
    if sys.platform == "linux":
        return
    for item in items:
        function = getattr(item, "function", None)
        reason = missing(item.path.stem, inspect.getsource(function) if function else "", sys.platform)
        if reason is not None:
            item.add_marker(pytest.mark.skip(reason=reason))
