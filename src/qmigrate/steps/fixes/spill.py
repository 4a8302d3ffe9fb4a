"""Ids that wait for each other in a file: in memory they would grow with the collection. It knows no store."""

from __future__ import annotations

import json
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

from qmigrate.errors import UnavailableError
from qmigrate.model.transform import PointId


class Spill:
    """Ids in the order in which they were added, in a file without a name that only its owner can read."""

    def __init__(self) -> None:
        self._file = tempfile.TemporaryFile("w+", encoding="ascii", prefix="qmigrate-")  # noqa: SIM115  see close
        self.count = 0

    def close(self) -> None:
        """Forget them."""
        self._file.close()

    def add(self, identifier: PointId) -> None:
        """One more."""
        with there_is_room():
            self._file.write(json.dumps(identifier) + "\n")
        self.count += 1

    def __iter__(self) -> Iterator[PointId]:
        """All of them; nothing may be added meanwhile."""
        with there_is_room():
            self._file.seek(0)
        for line in self._file:
            yield json.loads(line)


@contextmanager
def there_is_room() -> Iterator[None]:
    """What a temporary file meets in words.

    Raises:
        UnavailableError: it can't be written.
    """
    try:
        yield
    except (OSError, sqlite3.OperationalError) as error:
        raise UnavailableError(
            f"a temporary file in {tempfile.gettempdir()} can't be written: {error}",
            hint="make room there, or name another folder: TMPDIR; nothing was changed",
        ) from error
