"""The first look for orphans, kept in the ledger until the second one: the lease is free in between. No request.

There is one of a collection at a time. It is worth something for the same query, on the same generation, and for a
week; a point that changed since counts as seen for the first time.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Set
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import IO, Any

from qmigrate import scratch
from qmigrate.engine.fixes.journal import PAGE, packed, unpacked
from qmigrate.ledger import Lease, Ledger
from qmigrate.model.facts.edits import Edit, OrphansEdit
from qmigrate.model.facts.stored import loaded
from qmigrate.model.fix import PointEdit
from qmigrate.model.schema import JsonObject
from qmigrate.model.transform import PointId
from qmigrate.rows import Moment

#: How long it may be kept for a second look.
WORTH = timedelta(days=7)
#: Ranges of the stored pages: entries, and what is recorded about them.
_ENTRIES, _HEAD = 0, 1


@dataclass(frozen=True, slots=True)
class Sighting:
    """What was seen at the first look.

    Attributes:
        query: which comparison it was.
        physical: the generation.
        seen_at: when it had ended, by the ledger's clock.
        moment: the same in SQL, with the transactions that were open.
        points: of the collection.
        strays: how many there were.
        counts: what else was counted.
    """

    query: str
    physical: str
    seen_at: datetime
    moment: Moment
    points: int
    strays: int
    counts: Mapping[str, int]

    def due(self, edit: JsonObject) -> datetime:
        """From when on a second look counts."""
        return self.seen_at + timedelta(seconds=loaded(OrphansEdit, edit).grace if self.strays else 0)

    def serves(self, edit: JsonObject, physical: str, now: datetime) -> bool:
        """Whether it is a first look for this edit."""
        return self.query == query_of(edit) and self.physical == physical and now - self.seen_at < WORTH


def query_of(edit: JsonObject) -> str:
    """What decides which points are orphans, as a digest."""
    said = {"sql": edit["sql"], "id_field": edit.get("id_field"), "filter": edit.get("filter")}
    return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()[:32]


def known(ledger: Ledger, collection: str) -> Sighting | None:
    """The one that is kept, or None."""
    for page in ledger.base_pages(_name(collection), _HEAD):
        (entry,) = unpacked(page)
        said: dict[str, Any] = entry.after
        at, border, *names = said.pop("moment")
        moment = Moment(datetime.fromisoformat(at) if at else None, border, tuple(*names))
        return Sighting(**{**said, "seen_at": datetime.fromisoformat(said["seen_at"]), "moment": moment})
    return None


def entries(ledger: Ledger, collection: str) -> Iterator[list[PointEdit]]:
    """The strays of it, in the order of ids, a page at a time."""
    for page in ledger.base_pages(_name(collection), _ENTRIES):
        yield unpacked(page)


class Keeping:
    """Writes one, all of it or nothing; a lease is held while it is made.

    Args:
        lease: of the collection.
        found: the strays; they are read once.
    """

    def __init__(self, lease: Lease, found: Iterable[PointEdit]) -> None:
        self._lease = lease
        self._name = _name(lease.collection)
        self.strays = 0
        page: list[PointEdit] = []
        lease.discard_stage(self._name)
        try:
            for entry in found:
                page.append(entry)
                self.strays += 1
                if len(page) >= PAGE:
                    lease.stage_base(self._name, _ENTRIES, [packed(page)])
                    page = []
            lease.stage_base(self._name, _ENTRIES, [packed(page)] if page else [])
        except BaseException:
            lease.discard_stage(self._name)
            raise

    def keep(self, sighting: Sighting) -> None:
        """It counts from now on, and the one before it no more."""
        moment = sighting.moment
        said = {
            "query": sighting.query,
            "physical": sighting.physical,
            "seen_at": sighting.seen_at.isoformat(),
            "moment": [moment.at.isoformat() if moment.at else None, moment.border, list(moment.open)],
            "points": sighting.points,
            "strays": sighting.strays,
            "counts": dict(sighting.counts),
        }
        self._lease.stage_base(self._name, _HEAD, [packed([PointEdit(0, {}, said)])])
        self._lease.commit_base(self._name)

    def drop(self) -> None:
        """Nothing is kept."""
        self._lease.discard_stage(self._name)


def forget_with(lease: Lease, ids: Set[PointId], tell: Callable[[int], object]) -> None:
    """Forget a first look that has seen some of these points: the next comparison starts over.

    Args:
        tell: called with how many it had, before it is deleted.
    """
    seen = sum(entry.id in ids for page in entries(lease.ledger, lease.collection) for entry in page)
    if seen:
        tell(seen)
        lease.drop_base(_name(lease.collection))


def drop_first_look(lease: Lease, edit: JsonObject) -> None:
    """It has served, or was overtaken: the next comparison starts over."""
    if Edit.of(edit).kind == "orphans" and lease.ledger.has_base(_name(lease.collection)):
        lease.drop_base(_name(lease.collection))


def _name(collection: str) -> str:
    """Under which name the ledger keeps it. No collection can have such a name, and it fits however long that is."""
    return f"sighting:{hashlib.sha256(collection.encode()).hexdigest()[:32]}"


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
