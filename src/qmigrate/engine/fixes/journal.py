"""What a data fix changes, written down before it changes anything: entries in pages, as JSON in zstd. No request.

The pages lie where the bases of rebuilds lie, under a name of their own: staged page by page, and there at once.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence, Set
from itertools import repeat
from pathlib import Path

import zstandard

from qmigrate.atomic_file import writing
from qmigrate.ledger import Lease, Ledger
from qmigrate.model.facts.audit import Audited
from qmigrate.model.fix import PointEdit
from qmigrate.model.schema import JsonObject
from qmigrate.model.transform import PointId

#: Entries of a stored page.
PAGE = 2000


def journal_name(run: int, step: int) -> str:
    """Under which name the ledger keeps it. No collection can have such a name."""
    return f"edit:{run}:{step}"


def journal_of(told: Audited) -> str:
    """The same of a fix of ours in the audit."""
    return journal_name(told.run or 0, told.step or 0)


def write(lease: Lease, name: str, entries: Iterable[PointEdit]) -> int:
    """Store all entries, or none; what an interrupted attempt has left is replaced.

    Returns:
        How many there are.
    """
    lease.discard_stage(name)
    lease.drop_base(name)
    count, page = 0, list[PointEdit]()
    try:
        for entry in entries:
            page.append(entry)
            count += 1
            if len(page) >= PAGE:
                lease.stage_base(name, 0, [packed(page)])
                page = []
        lease.stage_base(name, 0, [packed(page)] if page else [])
    except BaseException:
        lease.discard_stage(name)
        raise
    lease.commit_base(name)
    return count


def windows(ledger: Ledger, name: str, skip: int = 0, size: int = PAGE) -> Iterator[list[PointEdit]]:
    """The stored entries, this many at a time, and at the end the rest.

    Args:
        skip: number of entries that are done already.
    """
    found: list[PointEdit] = []
    for page in ledger.base_pages(name):
        found += unpacked(page)
        if skip:
            done = min(skip, len(found))
            found, skip = found[done:], skip - done
        while len(found) >= size:
            yield found[:size]
            found = found[size:]
    if found:
        yield found


def write_ids(path: Path, entries: Iterable[Sequence[PointEdit]]) -> int:
    """Write the ids of entries as JSON Lines, complete or not at all, for its owner alone; how many there are.

    Raises:
        UnavailableError: the file can't be written.
    """
    count = 0
    with writing(path) as out:
        for some in entries:
            out.write("".join(f"{json.dumps(entry.id)}\n" for entry in some).encode())
            count += len(some)
    return count


def without(page: bytes, ids: Set[PointId]) -> tuple[bytes, int]:
    """A page without the entries of some points, and how many it had."""
    entries = unpacked(page)
    kept = [entry for entry in entries if entry.id not in ids]
    return (page, 0) if len(kept) == len(entries) else (packed(kept), len(entries) - len(kept))


def packed(entries: Sequence[PointEdit]) -> bytes:
    """A page of entries as it is stored: by column, and what is one object in all entries only once."""
    page = {
        "ids": [entry.id for entry in entries],
        "before": _once([entry.before for entry in entries]),
        "after": _once([entry.after for entry in entries]),
    }
    lines = json.dumps(page, ensure_ascii=False, separators=(",", ":"))
    return zstandard.compress(lines.encode(), 3)


def unpacked(page: bytes) -> list[PointEdit]:
    """The entries of a stored page."""
    found = json.loads(zstandard.decompress(page))
    before, after = (one if isinstance(one, list) else repeat(one) for one in (found["before"], found["after"]))
    return list(map(PointEdit, found["ids"], before, after))


def _once(column: list[JsonObject]) -> list[JsonObject] | JsonObject:
    # Equal is not enough: 1, 1.0 and true are.
    return column[0] if column and all(one is column[0] for one in column) else column
