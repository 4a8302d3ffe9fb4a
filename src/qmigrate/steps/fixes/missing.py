"""Rows without a point: checked again, counted, and written to a file on request. It changes no point."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

from qmigrate.model.fix import Found
from qmigrate.model.schema import JsonObject
from qmigrate.model.transform import PointId
from qmigrate.rows import Queue
from qmigrate.steps.fixes.protocol import Place
from qmigrate.whole import writing

#: Ids that are looked for again at a time.
_AT_ONCE = 1000
#: A file of this kind has a JSON value per line, so that 17 and "17" stay apart.
JSON_LINES = ".jsonl"
#: How many are really missing, of a portion.
Confirm = Callable[[Sequence[PointId]], list[PointId]]


class Missing:
    """Collects what seems to be missing.

    Args:
        found: where those that are get counted.
        confirm: looks for them again.
        sinks: get the ids of those that are.
    """

    def __init__(
        self, found: Found, confirm: Confirm, sinks: Sequence[Callable[[Sequence[PointId]], object]] = ()
    ) -> None:
        self._found = found
        self._confirm = confirm
        self._sinks = sinks
        self._ids: list[PointId] = []

    def add(self, identifier: PointId) -> None:
        """One more."""
        self._ids.append(identifier)
        if len(self._ids) >= _AT_ONCE:
            self.flush()

    def flush(self) -> None:
        """Look for those that came so far."""
        if not self._ids:
            return
        gone = self._confirm(self._ids)
        self._found.add("missing", len(gone))
        for sink in self._sinks:
            sink(gone)
        self._ids = []


@contextmanager
def collecting(place: Place, edit: JsonObject, found: Found, confirm: Confirm) -> Iterator[Missing]:
    """A collector with the sinks that an edit names: ``missing_to`` (a file), ``missing_table`` (of its database).

    Raises:
        RowsError: the table doesn't fit; nothing was looked for yet.
        UnavailableError: the file can't be written.
    """
    with ExitStack() as stack:
        sinks: list[Callable[[Sequence[PointId]], object]] = []
        if edit.get("missing_table"):
            database = edit["sql"]["database"]
            url = place.settings.database(database)
            queue = stack.enter_context(closing(Queue(url, edit["missing_table"], place.collection, name=database)))
            queue.check()
            sinks.append(queue.add)
        if edit.get("missing_to"):
            path = Path(edit["missing_to"])
            out, spelt = stack.enter_context(writing(path)), json.dumps if path.suffix == JSON_LINES else str
            sinks.append(lambda ids: out.write("".join(f"{spelt(one)}\n" for one in ids).encode()))
        missing = Missing(found, confirm, sinks)
        yield missing
        missing.flush()
