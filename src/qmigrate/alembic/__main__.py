"""``python -m qmigrate.alembic``: Alembic's command line with qmigrate's exit codes. It adds no command of its own.

Alembic answers every error with 255, but an entrypoint must tell "too long for here" from "Qdrant is down". So errors
that come from qmigrate keep their code, and ``current --check-heads`` answers 3 when SQL revisions are pending.
"""

from __future__ import annotations

import os
import signal
import sys
from types import FrameType

from alembic.config import main as alembic
from alembic.util import CommandError

from qmigrate.errors import PendingError, QmigrateError, StoppedError
from qmigrate.text import visible

#: Alembic's own answer to every error.
FAILED = 255


def main(arguments: list[str]) -> int:
    """Run Alembic with `arguments`; returns the exit code."""
    before = signal.signal(signal.SIGTERM, _terminated)
    # gRPC would write every try of a connection to stderr, besides the one error that reports it.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    try:
        alembic(["--raiseerr", *arguments], prog="python -m qmigrate.alembic")
    except _Terminated as stopped:
        error = StoppedError("stopped between two steps, as asked", signal_number=stopped.number)
        sys.stderr.write(f"FAILED: {error}\n")
        return error.exit_code
    except (CommandError, QmigrateError) as error:
        sys.stderr.write(visible(f"FAILED: {error}\n"))
        if not isinstance(error, CommandError) and error.hint:
            sys.stderr.write(visible(f"  → {error.hint}\n"))
        return exit_code(error)
    finally:
        signal.signal(signal.SIGTERM, before)
    return 0


def exit_code(error: BaseException) -> int:
    """The code of the error of ours that this one is, or was caused by; else Alembic's."""
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, QmigrateError):
            return seen.exit_code
        # By its name: Alembic has it since 1.17.1.
        if type(seen).__name__ == "DatabaseNotAtHead":
            return PendingError.exit_code
        seen = seen.__cause__
    return FAILED


class _Terminated(BaseException):
    """A signal, as no error: what is left out where it can't be had, such as an estimate, would pass over an error."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


def _terminated(number: int, _frame: FrameType | None) -> None:
    """While nothing of qmigrate runs, which has a handler of its own: SQL is rolled back and the lock is given up."""
    raise _Terminated(number)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
