"""Errors as Alembic shows them: one message without a traceback. It repairs nothing."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from alembic.util import CommandError

from qmigrate.errors import QmigrateError
from qmigrate.model.words import visible


class BridgeError(CommandError):
    """What Alembic prints as ``FAILED: …``; it ends with exit code 255, as all its errors do.

    Attributes:
        error: ours, with its own exit code, hint and facts.
    """

    def __init__(self, error: QmigrateError) -> None:
        hint = "".join(f"\n  → {line}" for line in (error.hint or "").splitlines())
        # Alembic writes it to the terminal as it is.
        super().__init__(visible(f"{error.message}{hint}"))
        self.error = error


@contextmanager
def shown_by_alembic() -> Iterator[None]:
    """Turn our errors into one that Alembic shows."""
    try:
        yield
    except QmigrateError as error:
        raise BridgeError(error) from error
