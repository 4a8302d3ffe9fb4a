"""What points take, from reading some of them. It never fails: what can't be read counts as declared."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any

from qmigrate.errors import QmigrateError
from qmigrate.model.weight import Weight
from qmigrate.ports import Store, Stored
from qmigrate.store import records

#: Points that are read, and how many at once: points may be megabytes, and an estimate must not take long.
POINTS, AT_ONCE = 64, 16
#: Bytes after which enough was seen.
ENOUGH = 16 * 2**20


def weigh(store: Store, name: str, points: int = POINTS) -> Weight:
    """The weight of the points behind a name, by up to `points` of them at random."""
    seen: list[Stored] = []
    read = 0
    try:
        ids = store.sample_ids(name, points)
        for first in range(0, len(ids), AT_ONCE):
            page = store.fetch(name, ids[first : first + AT_ONCE])
            seen += page
            read += sum(one.ByteSize() for one in page)
            if read > ENOUGH:
                break
    except QmigrateError:
        # The verb itself reports what can't be read.
        pass
    return weight_of(seen)


def weight_of(points: Iterable[Stored]) -> Weight:
    """The weight of these points."""
    values: Counter[str] = Counter()
    rows: Counter[str] = Counter()
    multi: set[str] = set()
    number, payload = 0, 0
    for stored in points:
        number += 1
        payload += sum(len(key.encode()) + value.ByteSize() for key, value in stored.payload.items())
        for name, message in records.vector_messages(stored).items():
            values[name] += _values(message)
            if message.WhichOneof("vector") == "multi_dense":
                multi.add(name)
                rows[name] += len(message.multi_dense.vectors)
            elif message.WhichOneof("vector") == "dense":
                rows[name] += 1
    if not number:
        return Weight()
    each, mean = ({name: count / number for name, count in counts.items()} for counts in (values, rows))
    return Weight(number, payload / number, each, mean, frozenset(multi))


def _values(message: Any) -> int:
    kind = message.WhichOneof("vector")
    if kind == "sparse":
        return len(message.sparse.indices)
    if kind == "multi_dense":
        return sum(len(row.data) for row in message.multi_dense.vectors)
    return len(message.dense.data if kind == "dense" else message.data)
