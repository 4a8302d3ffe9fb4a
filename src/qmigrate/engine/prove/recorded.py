"""Point versions that are kept with a base, and what was written since by them (rule 15). It judges no point.

What vouches for what:

* A record is the listing that was taken **before** the contents were read which the base has. It belongs to that base
  and may be older than it has to be, but never newer: a point that has the recorded number still is not written since.
* What is listed with another number, is not listed, was not, or is in the base and not listed, is a *candidate*. It is
  read by its id and compared with the base, so that a record saves reading and never says by itself that a point was
  written. Our own writes (repairs, carries, fixes) make candidates that turn out to be what the base has.
* Numbers are compared only within what gave them: the same collection by the same build of the server, with the same
  vectors, its shards where they were, no operation id lower than then. Some points that would not be read are read all
  the same, and must be what the base has: a collection that was put back from elsewhere has numbers of another past.

Where any of this doesn't hold, the reason is given, and everything is read.
"""

from __future__ import annotations

import heapq
import json
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby, islice
from typing import Any

import numpy as np

from qmigrate.engine.epoch_aliases import reach
from qmigrate.engine.points.base import BaseEntry, BaseLookup, digest_of, dirty_keys, ids_of, versions_name
from qmigrate.engine.prove.choice import check_able, described, vector_alone
from qmigrate.engine.prove.versions import Circumstances, VersionTable, listed, listing
from qmigrate.engine.work import Work
from qmigrate.errors import NoVersionsError
from qmigrate.ledger import Lease, Ledger
from qmigrate.model.facts.stored import loaded, plain
from qmigrate.model.ids import NUMBERS, UUIDS, Page, as_page, packed, points_of
from qmigrate.model.schema import CollectionSchema, JsonObject
from qmigrate.model.transform import PointId
from qmigrate.ports import OperationIds, Placement, Store, Stored, VersionPage
from qmigrate.store import records

#: Points from which a generation is listed for the sake of its record alone; fewer are read in a moment.
WORTH_IT = 20_000
#: Candidates beyond which reading everything is faster: a share of all points, at least and at most this many.
MOST_OF_ALL, FEW, MOST = 0.2, 1024, 500_000
#: Candidates of one request.
AT_ONCE = 256
#: Points that are read although their versions say that they need not be.
SAMPLE = 100
#: Entries of a stored page.
_PAGE = 10_000
#: Ranges of a record in the ledger: what it was listed under, and its entries.
_HEAD, _ENTRIES = 0, 1
#: With what a stored page of entries begins.
_OF_NUMBERS, _OF_UUIDS = b"n", b"u"

Found = tuple[bytes, Stored | None, BaseEntry | None]


@dataclass(frozen=True, slots=True)
class Recorded:
    """Under what a generation was listed.

    Attributes:
        physical: its name.
        vector: by which it was listed.
        points: that were.
        server: version of the server.
        vectors: what its points could hold: see :func:`vectors_of`.
        replicas: where its shards were.
        operations: operation ids behind the barrier before the listing.
        run: of the ledger, which has proven the base.
    """

    physical: str
    vector: str
    points: int
    server: tuple[int, ...]
    vectors: JsonObject
    replicas: tuple[tuple[int, int, str], ...]
    operations: Mapping[str, int]
    run: int = 0

    @property
    def circumstances(self) -> Circumstances:
        """What a later listing has to follow."""
        return Circumstances(Placement(self.replicas), self.operations)


@dataclass(frozen=True, slots=True)
class Kept:
    """One collection as a base has it, and how it is reached now.

    Attributes:
        base: name of the base.
        side: of it that the collection is: ``source`` or ``target``.
        physical: name of the collection.
        reached: by which requests get to it.
        records: (base, side) of the records that are taken, the first that is there; by default that of this base.
            Another one must be older than the contents that this base has.
        late: entries that count instead of those of the base.
    """

    store: Store
    ledger: Ledger
    base: str
    side: str
    physical: str
    reached: str
    records: tuple[tuple[str, str], ...] = ()
    late: Mapping[bytes, BaseEntry] = field(default_factory=dict)
    tick: Callable[[], None] = lambda: None

    def lookup(self) -> Callable[[Iterable[bytes]], dict[bytes, BaseEntry]]:
        """What finds the entries of points, with this collection as the source."""
        base, late = BaseLookup(self.ledger, self.base, turned=self.side == "target"), self.late

        def find(keys: Iterable[bytes]) -> dict[bytes, BaseEntry]:
            wanted = set(keys)
            return {**base.find(wanted - late.keys()), **{key: late[key] for key in wanted & late.keys()}}

        return find


def vectors_of(schema: CollectionSchema) -> JsonObject:
    """What decides which values a point holds: who takes a vector away changes every point, and no version."""
    told = ("size", "distance", "datatype", "multivector_config")
    dense = {name: {key: params.get(key) for key in told} for name, params in sorted(schema.vectors.items())}
    return {"dense": dense, "sparse": sorted(schema.sparse)}


@dataclass(frozen=True, slots=True)
class Alone:
    """A generation that is compared with no other one, as it was listed before its proof has read it.

    Attributes:
        base: name of the base that has what was read.
        epoch: lease epoch of the holder.
        vector: by which it was listed.
    """

    base: str
    epoch: int
    vector: str
    table: VersionTable


def list_alone(work: Work, base: str, physical: str) -> None:
    """List a generation that no name leads to yet, before its proof reads it; where there are few points, nothing."""
    earlier = work.kept.pop(Alone, None)
    if earlier is not None:
        earlier.table.close()
    if work.store.count(reach(work, physical)) < WORTH_IT:
        return
    try:
        vector = vector_alone(work, physical)
        work.kept[Alone] = Alone(base, work.lease.epoch, vector, listing(work, physical, vector))
    except NoVersionsError as error:
        work.progress.say(f"{work.collection}: no versions of {physical} are kept: {error.message}")


def keep_alone(work: Work, base: str, physical: str) -> None:
    """Keep what was listed, once its name has moved."""
    found = work.kept.pop(Alone, None)
    if found is not None and (found.base, found.epoch) == (base, work.lease.epoch):
        with found.table:
            keep(work, base, "target", (physical, reach(work, physical)), found.vector, found.table)


def keep(work: Work, base: str, side: str, at: tuple[str, str], vector: str, table: VersionTable) -> None:
    """Keep a listing that was taken before the contents were read that the base has; an earlier record is replaced.

    Args:
        at: physical name of the collection, and the name by which it is reached.
        vector: by which it was listed.
    """
    physical, reached = at
    found = work.store.describe(reached)
    if found is None:
        return
    name, lease = versions_name(base, side), work.lease
    head = Recorded(
        physical,
        vector,
        sum(len(page.ids) for page in table.pages()),
        work.store.capabilities.version,
        vectors_of(found.schema),
        table.circumstances.placement.replicas,
        dict(table.circumstances.operations),
        work.run,
    )
    lease.discard_stage(name)
    lease.stage_base(name, _HEAD, [json.dumps(plain(head), sort_keys=True).encode()])
    pages = (_packed(part) for page in table.pages() for part in _parts(page))
    while some := list(islice(pages, 8)):
        work.tick()
        lease.stage_base(name, _ENTRIES, some)
    lease.commit_base(name)


def known(ledger: Ledger, base: str, side: str) -> Recorded | None:
    """What is recorded of one side of a base; None where nothing is, or where it can't be read."""
    body = ledger.some_base_pages(versions_name(base, side), _HEAD, [0]).get(0, b"")
    try:
        return loaded(Recorded, json.loads(body)) if body else None
    except ValueError:
        return None


def forget(lease: Lease, base: str, side: str, ids: Iterable[PointId]) -> None:
    """Take points out of a record: nothing keeps the ids of points that were erased."""
    wanted = set(ids)
    if not wanted:
        return
    numbers = np.array([one for one in wanted if isinstance(one, int)], NUMBERS)
    texts = packed(np.array([str(one) for one in wanted if not isinstance(one, int)], UUIDS))

    def change(body: bytes) -> bytes:
        if body[:1] not in (_OF_NUMBERS, _OF_UUIDS):
            return body
        entries = _unpacked(body)
        left = ~np.isin(entries["id"], numbers if body[:1] == _OF_NUMBERS else texts)
        return body if left.all() else _stored(entries[left])

    lease.rewrite_pages(versions_name(base, side), change)


def comparable(kept: Kept) -> tuple[Recorded, str]:
    """Under what a collection was listed, where it can still be compared with that; and where the record is.

    Raises:
        NoVersionsError: there is none, or the collection or the server is not what it was.
    """
    check_able(kept.store)
    places = kept.records or ((kept.base, kept.side),)
    found = next(((head, *place) for place in places if (head := known(kept.ledger, *place)) is not None), None)
    if found is None:
        raise NoVersionsError(f"no versions of the points of {kept.physical} were recorded when it was proven")
    head, base, side = found
    if head.physical != kept.physical:
        raise NoVersionsError(f"the versions that were recorded are those of {head.physical}")
    if head.server != kept.store.capabilities.version:
        then, now = (".".join(map(str, one)) for one in (head.server, kept.store.capabilities.version))
        raise NoVersionsError(f"the versions of its points were recorded by Qdrant {then}, which is {now} by now")
    live = described(kept.store, kept.reached, kept.physical)
    if vectors_of(live.schema) != plain(head.vectors):
        raise NoVersionsError(f"{kept.physical} has other vectors than when its versions were recorded")
    return head, versions_name(base, side)


def take(kept: Kept) -> tuple[Recorded, VersionTable]:
    """The record of a collection, where some points show that it holds; the table is to be closed.

    Raises:
        NoVersionsError: it doesn't, or as :func:`comparable`.
    """
    head, name = comparable(kept)
    table = VersionTable(head.circumstances)
    try:
        for body in kept.ledger.base_pages(name, _ENTRIES):
            kept.tick()
            entries = _unpacked(body)
            table.add(VersionPage(as_page(entries["id"]), entries["number"]))
        _check_sample(kept, head, table)
    except BaseException:
        table.close()
        raise
    return head, table


def written_since(
    kept: Kept, operations: Callable[[], OperationIds], *, few: int = FEW, most: int = MOST
) -> list[bytes]:
    """Order keys of the points that may have been written since the base was made, ascending.

    Args:
        operations: sends a barrier, or gives the ids behind one that has just passed.
        few: points from which a share of all is too many.
        most: points that are too many in any case.

    Raises:
        NoVersionsError: that can't be known, or reading all is faster.
    """
    head, before = take(kept)
    with before, listed(kept.store, kept.reached, head.vector, operations, tick=kept.tick) as now:
        streams = [
            now.changed_since(before),
            unlisted(kept.store, kept.reached, head.vector, now),
            now.unlisted(ids_of(kept.ledger.base_pages(kept.base), kept.side)),
        ]
        keys = heapq.merge(*map(order_keys, streams), sorted({*dirty_keys(kept.ledger, kept.base), *kept.late}))
        most = max(few, min(most, int(head.points * MOST_OF_ALL)))
        found = list(islice((key for key, _ in groupby(keys)), most + 1))
    if len(found) > most:
        raise NoVersionsError(f"more than {most:,} points of {kept.physical} have other versions")
    return found


def read(kept: Kept, keys: Iterable[bytes]) -> Iterator[Found]:
    """These points as they are now, with what the base has of them, in their order."""
    find = kept.lookup()
    for batch in batches(keys, AT_ONCE):
        kept.tick()
        here = by_key(kept.store.fetch(kept.reached, [records.id_of_key(key) for key in batch]))
        entries = find(batch)
        for key in batch:
            yield key, here.get(key), entries.get(key)


def _check_sample(kept: Kept, head: Recorded, table: VersionTable) -> None:
    """Some points whose numbers say that they need not be read are what the base has.

    Raises:
        NoVersionsError: one is not.
    """
    chosen = table.sample(SAMPLE)
    ids = list(chosen)
    before = _numbers(kept, head.vector, ids)
    same = [one for one in ids if before.get(one) == chosen[one]]
    if not same:
        return
    digest = digest_of(kept.ledger, kept.base)
    here = {records.point_id(stored): stored for stored in kept.store.fetch(kept.reached, same)}
    after = _numbers(kept, head.vector, same)
    dirty = dirty_keys(kept.ledger, kept.base)
    entries = kept.lookup()(map(records.order_key, same))
    for one in same:
        stored, key = here.get(one), records.order_key(one)
        # Written in between, or not covered by the base in any case.
        if stored is None or after.get(one) != chosen[one] or key in dirty:
            continue
        entry = entries.get(key)
        if entry is None or entry.source != digest(stored):
            raise NoVersionsError(f"{kept.physical} has points of the recorded versions that are not what they were")


def _numbers(kept: Kept, vector: str, ids: Sequence[PointId]) -> dict[PointId, int]:
    found: dict[PointId, int] = {}
    for page in kept.store.versions(kept.reached, vector, ids=ids) if ids else ():
        found.update(zip(points_of(page.ids), page.numbers.tolist(), strict=True))
    return found


def unlisted(store: Store, reached: str, vector: str, table: VersionTable) -> Iterator[Page]:
    """Ids that are there and in no listing: points without the vector, and what a listing has missed."""
    points, count = store.count(reached), sum(len(page.ids) for page in table.pages())
    if count == points:
        return
    lacking = list(store.scan_ids(reached, where={"must_not": [{"has_vector": vector}]}))
    if count + sum(map(len, lacking)) == points:
        yield from lacking
    else:
        yield from table.unlisted(store.scan_ids(reached))


def order_keys(pages: Iterable[Page]) -> Iterator[bytes]:
    """Pages of ids as order keys."""
    return (records.order_key(identifier) for page in pages for identifier in points_of(page))


def batches(keys: Iterable[bytes], size: int) -> Iterator[list[bytes]]:
    """The same, this many at a time."""
    rest = iter(keys)
    while batch := list(islice(rest, size)):
        yield batch


def by_key(points: Iterable[Stored]) -> dict[bytes, Stored]:
    """Points by their order keys."""
    return {records.order_key(records.point_id(stored)): stored for stored in points}


def _parts(page: VersionPage) -> Iterator[VersionPage]:
    for first in range(0, len(page.ids), _PAGE):
        yield VersionPage(page.ids[first : first + _PAGE], page.numbers[first : first + _PAGE])


def _packed(page: VersionPage) -> bytes:
    """A page as it is stored: compressed, ids as what each is above the one before it where they are numbers."""
    ids = page.ids if page.ids.dtype == NUMBERS else packed(page.ids)
    entries = np.empty(len(ids), [("id", ids.dtype), ("number", NUMBERS)])
    entries["id"], entries["number"] = ids, page.numbers
    return _stored(entries)


def _stored(entries: Any) -> bytes:
    ids = np.ascontiguousarray(entries["id"])
    if ids.dtype != NUMBERS:
        return _OF_UUIDS + zlib.compress(ids.tobytes() + entries["number"].tobytes(), 1)
    steps = np.diff(ids, prepend=NUMBERS.type(0))
    return _OF_NUMBERS + zlib.compress(steps.tobytes() + entries["number"].tobytes(), 1)


def _unpacked(body: bytes) -> Any:
    content = zlib.decompress(body[1:])
    kind = NUMBERS if body[:1] == _OF_NUMBERS else np.dtype("S16")
    count = len(content) // (kind.itemsize + NUMBERS.itemsize)
    entries = np.empty(count, [("id", kind), ("number", NUMBERS)])
    ids = np.frombuffer(content, kind, count)
    entries["id"] = np.cumsum(ids, dtype=NUMBERS) if kind == NUMBERS else ids
    entries["number"] = np.frombuffer(content, NUMBERS, count, count * kind.itemsize)
    return entries
