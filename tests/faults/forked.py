"""Runs the killed children from a process that has everything imported: a fork takes milliseconds, a start seconds.

``python -m tests.faults.forked`` is that process: a line of JSON in, a child forked, its exit code out. It tests nothing.
"""

from __future__ import annotations

import atexit
import functools
import importlib
import json
import os
import select
import subprocess
import sys
import tempfile
import traceback
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
#: What the children import late; a module that isn't installed is left out.
PRELOADED = (
    "tests.faults.child",
    "tests.faults.child_restore",
    "alembic.command",
    "grpc",
    "psycopg",
    "qdrant_client.local.qdrant_local",
    "qmigrate.embed",
    "sqlalchemy.dialects.postgresql",
    "sqlalchemy.dialects.sqlite",
)


@functools.cache
def _server() -> subprocess.Popen[str]:
    path = os.pathsep.join([str(ROOT), str(ROOT / "src")])
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.faults.forked"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": path},
    )
    atexit.register(process.communicate)
    return process


def run(module: str, *arguments: str, timeout: float = 120) -> subprocess.CompletedProcess[str]:
    """``python -m MODULE ARGUMENTS``, in a fork; a negative code is the signal that ended it, as in subprocess.

    Raises:
        TimeoutError: it took longer than `timeout` seconds.
    """
    server = _server()
    assert server.stdin is not None
    assert server.stdout is not None
    with tempfile.TemporaryDirectory() as folder:
        said = [str(Path(folder) / name) for name in ("out", "err")]
        server.stdin.write(json.dumps([module, list(arguments), *said]) + "\n")
        server.stdin.flush()
        if not select.select([server.stdout], [], [], timeout)[0]:
            raise TimeoutError(f"{module} {' '.join(arguments)} took more than {timeout:.0f} s")
        code = int(server.stdout.readline())
        out, err = (Path(name).read_text() for name in said)
    return subprocess.CompletedProcess([module, *arguments], code, out, err)


def _child(module: str, arguments: list[str], out: str, err: str) -> None:
    """In the fork: everything goes where the parent looks, and nothing of the server's own is run at the end."""
    code = 1
    try:
        for number, name in ((0, os.devnull), (1, out), (2, err)):
            opened = os.open(name, os.O_RDWR | os.O_CREAT, 0o600)
            os.dup2(opened, number)
        sys.argv = [module, *arguments]
        code = importlib.import_module(module).main()
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else 1
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def serve() -> None:
    """Fork one child after the other until stdin ends."""
    for name in PRELOADED:
        try:
            importlib.import_module(name)
        except ModuleNotFoundError as error:
            if error.name != name:
                raise
    for line in sys.stdin:
        pid = os.fork()
        if pid == 0:
            _child(*json.loads(line))
        print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)


if __name__ == "__main__":
    serve()
