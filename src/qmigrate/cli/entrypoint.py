"""``python -P -m qmigrate.cli.entrypoint``: the steps of docker-entrypoint.sh in one process. It does no step's job.

Each step is a command line that a person could type, with its own exit code, log and handling of signals. What they
load is loaded once: as processes of their own, four steps that find nothing to do took four times as long as one.
"""

from __future__ import annotations

import argparse
import logging
import os
import shlex
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import FrameType

from qmigrate.cli import app
from qmigrate.cli.shell import echo
from qmigrate.json_log import VARIABLE, line, now, stamp

#: What a line is said by, as in the script.
NAME = "docker-entrypoint"
#: How a step is called that is Alembic with the exit codes of qmigrate.
ALEMBIC = ("python", "-m", "qmigrate.alembic")
#: Exit codes above it are those of signals, which the script reports; but Alembic's own is none.
_SIGNALS, _ALEMBIC_REFUSED = 128, 255


def steps(mode: str, wait: str, estimate: str, turn: str) -> tuple[tuple[str, ...], ...]:
    """The command lines of a mode, in order.

    Args:
        mode: ``upgrade`` or ``check``.
        wait: longest wait for PostgreSQL and Qdrant.
        estimate: what is expected to take longer is not started.
        turn: longest wait for another replica.
    """
    waits = ("qmigrate", "wait", "--timeout", wait)
    check = ("qmigrate", "check")
    if mode == "check":
        return waits, (*ALEMBIC, "current", "--check-heads"), check
    guards = ("-x", "qdrant=run", "-x", f"qdrant_max_estimate={estimate}", "-x", f"qdrant_lock_timeout={turn}")
    return (
        waits,
        (*ALEMBIC, *guards, "upgrade", "head"),
        ("qmigrate", "upgrade", "--max-estimate", estimate, "--lock-timeout", turn),
        check,
    )


def run(commands: Sequence[Sequence[str]]) -> int:
    """Run command lines one after the other, up to the first that fails.

    Returns:
        Its exit code, or 0.
    """
    for command in commands:
        with _as_it_was():
            code = _run(command)
        sys.stdout.flush()
        if code:
            if code <= _SIGNALS or code == _ALEMBIC_REFUSED:
                say(f"not started: `{shlex.join(command)}` ended with {code}")
            return code
    return 0


def _run(command: Sequence[str]) -> int:
    if command[0] == "qmigrate":
        return app.run(command[1:])
    from qmigrate.alembic.__main__ import main as alembic

    # As for a step of its own: an env.py may import what lies in the current folder.
    sys.path.insert(0, os.getcwd())
    try:
        return alembic(list(command[len(ALEMBIC) :]))
    except SystemExit as ended:
        # Alembic's own way to end where its command line or a setting is wrong.
        return ended.code if isinstance(ended.code, int) else 1
    except Exception as error:
        app.show_traceback(error)
        return app.INTERNAL


@contextmanager
def _as_it_was() -> Iterator[None]:
    """What a step sets for its process is gone with the process; here it is put back for the next one.

    Alembic's env.py configures logging and puts folders on the path where modules are looked for; and what it sets in
    the environment must not lead the next step to another Qdrant.
    """
    environ, folder = dict(os.environ), os.getcwd()
    root, path, last = logging.getLogger(), list(sys.path), logging.lastResort
    level, handlers = root.level, list(root.handlers)
    known = root.manager.loggerDict
    levels = {name: one.level for name, one in known.items() if isinstance(one, logging.Logger)}
    handler = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, handler)
        os.chdir(folder)
        for name in os.environ.keys() - environ.keys():
            del os.environ[name]
        os.environ.update(environ)
        sys.path[:] = path
        logging.lastResort = last
        root.handlers[:] = handlers
        root.setLevel(level)
        for name, one in known.items():
            if isinstance(one, logging.Logger):
                one.setLevel(levels.get(name, logging.NOTSET))
                one.disabled = False


def say(message: str) -> None:
    """One line on stderr, in the form of the script."""
    if os.environ.get(VARIABLE) == "json":
        echo(line("message", logger=NAME, message=message) + "\n", err=True)
    else:
        echo(f"{stamp(now())} {NAME}: {message}\n", err=True)


def _terminated(number: int, _frame: FrameType | None) -> None:
    """Between two steps, or in one that has no checkpoint: nothing is under way."""
    raise SystemExit(_SIGNALS + number)


def main(arguments: Sequence[str]) -> int:
    """Run the steps of a mode; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -P -m qmigrate.cli.entrypoint", description=__doc__)
    parser.add_argument("mode", choices=("upgrade", "check"))
    for name, default in (("--wait", "60s"), ("--max-estimate", "5m"), ("--lock-timeout", "10m")):
        parser.add_argument(name, default=default)
    asked = parser.parse_args(arguments)
    app.set_up_process()
    signal.signal(signal.SIGTERM, _terminated)
    return run(steps(asked.mode, asked.wait, asked.max_estimate, asked.lock_timeout))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
