"""Ids that wait for each other in a file: in memory they would grow with the collection. Independent of the store."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO

from qmigrate import scratch
from qmigrate.model.transform import PointId


class Spill:
    """Ids in the order in which they were added; see :func:`spilling`."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.count = 0

    def add(self, identifier: PointId) -> None:
        """One more.

        Raises:
            UnavailableError: there is no room for it.
        """
        with scratch.room():
            self._file.write(json.dumps(identifier).encode() + b"\n")
        self.count += 1

    def __iter__(self) -> Iterator[PointId]:
        """All of them; nothing may be added while it runs.

        Raises:
            UnavailableError: there was no room for the last of them.
        """
        with scratch.room():
            self._file.seek(0)
        while True:
            with scratch.room():
                line = self._file.readline()
            if not line:
                return
            yield json.loads(line)


@contextmanager
def spilling() -> Iterator[Spill]:
    """A spill in a file without a name that only its owner can read.

    Raises:
        UnavailableError: it can't be made.
    """
    with scratch.file() as file:
        yield Spill(file)
