"""The base of a rebuild: per point a digest of both sides as last read, packed into pages. It compares nothing."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from operator import itemgetter
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from qmigrate.model.ids import NUMBERS, Page, as_page
from qmigrate.store import records
from qmigrate.store.records import DIGEST_SIZE, KEY_SIZE, Digest, digest_under, order_key

if TYPE_CHECKING:
    from qmigrate.ledger import Carry, Lease, Ledger

ENTRY_SIZE = KEY_SIZE + 2 * DIGEST_SIZE
#: The same for arrays: see :func:`pack` and :func:`qmigrate.store.records.order_key`.
_ENTRY = np.dtype([("kind", np.uint8), ("id", "S16"), ("source", "S16"), ("target", "S16")])
#: Entries of a stored page.
PAGE_ENTRIES = 2000
#: The sides of a base, as :class:`BaseEntry` names them.
SIDES = ("source", "target")


class BaseEntry(NamedTuple):
    """hS and hT of one point: the complete source point, and the target point, each as last read."""

    source: bytes
    target: bytes


def pack(entries: Iterable[tuple[bytes, BaseEntry]]) -> bytes:
    """A page as bytes."""
    return b"".join(key + entry.source + entry.target for key, entry in entries)


def unpack(pages: Iterable[bytes]) -> Iterator[tuple[bytes, BaseEntry]]:
    """(key, entry) in stored order."""
    middle = KEY_SIZE + DIGEST_SIZE
    for page in pages:
        for offset in range(0, len(page), ENTRY_SIZE):
            row = page[offset : offset + ENTRY_SIZE]
            yield row[:KEY_SIZE], BaseEntry(row[KEY_SIZE:middle], row[middle:])


def committed(ledger: Ledger, name: str, number: int | None = None) -> Iterator[bytes]:
    """The pages of a base that counts, without the points that an unfinished pass has recomputed.

    Args:
        number: of one range; None for all in order.
    """
    keys = dirty_keys(ledger, name, number)
    for page in ledger.base_pages(name, number):
        yield without(page, keys) if keys else page


def dirty_keys(ledger: Ledger, name: str, number: int | None = None) -> set[bytes]:
    """Order keys of the points that an unfinished pass has recomputed: for these the base doesn't count."""
    return {
        page[offset : offset + KEY_SIZE]
        for page in ledger.dirty(name, number)
        for offset in range(0, len(page), KEY_SIZE)
    }


def ids_of(pages: Iterable[bytes], side: str) -> Iterator[Page]:
    """The points of a base that one side has, as pages of ids, in stored order.

    Args:
        side: ``source`` or ``target``.
    """
    for page in filter(None, pages):
        entries = np.frombuffer(page, _ENTRY)
        # ABSENT is all zeros.
        entries = entries[entries[side] != b""]
        are_numbers = entries["kind"] == 0
        yield np.ascontiguousarray(entries["id"][are_numbers]).view(">u8")[::2].astype(NUMBERS)
        yield as_page(entries["id"][~are_numbers])


def counted_of(pages: Iterable[bytes]) -> tuple[int, int]:
    """How many points the source has, and how many of these the target has not."""
    points = lacking = 0
    for page in filter(None, pages):
        entries = np.frombuffer(page, _ENTRY)
        here = entries["source"] != b""
        points += int(here.sum())
        lacking += int((here & (entries["target"] == b"")).sum())
    return points, lacking


def digest_of(ledger: Ledger, name: str) -> Digest:
    """What makes the digests of a base, and of all that is compared with it."""
    return digest_under(ledger.digest_key(name))


def digest_of_bytes(ledger: Ledger, name: str) -> Callable[[bytes], bytes]:
    """The same of points as bytes: see :meth:`qmigrate.ports.Store.scan_canonical`."""
    return records.digest_of_bytes(ledger.digest_key(name))


def without(page: bytes, keys: Set[bytes]) -> bytes:
    """A page without the entries of some points; the very same page where it has none of them."""
    if not any(page[offset : offset + KEY_SIZE] in keys for offset in range(0, len(page), ENTRY_SIZE)):
        return page
    return pack((key, entry) for key, entry in unpack([page]) if key not in keys)


def exchanged(pages: Iterable[bytes]) -> Iterator[bytes]:
    """The base with its sides exchanged: what a rollback starts from."""
    for page in pages:
        entries = np.frombuffer(page, _ENTRY).copy()
        entries["source"], entries["target"] = entries["target"].copy(), entries["source"].copy()
        yield entries.tobytes()


def left_and_right(digests: bytes) -> tuple[bytes, bytes]:
    """The two digests of a carry's ``before`` or ``after``: of the generation left, and of the one that serves."""
    return digests[:DIGEST_SIZE], digests[DIGEST_SIZE:]


def left_by(carries: Iterable[Carry], states: Set[str] | None = None) -> dict[bytes, BaseEntry]:
    """What carries in one of `states` (None: in any) have left behind, by order key: their ids' newest base."""
    return {
        order_key(carry.point_id): BaseEntry(*left_and_right(carry.after))
        for carry in carries
        if states is None or carry.state in states
    }


def base_name(source: str | None, target: str | None, *, back: bool) -> str:
    """Under which name the ledger keeps the base of a step: forwards and backwards are two."""
    return f"{source}<" if back else str(target)


def versions_name(base: str, side: str) -> str:
    """Under which name the ledger keeps the versions of one side of a base: see ``engine/prove/recorded.py``.

    Args:
        side: ``source`` or ``target``.
    """
    return f"{base}@{side[0]}"


def drop_base(lease: Lease, name: str) -> None:
    """Forget a base altogether, and the versions that are kept with it; no error when there is none."""
    drop_versions(lease, name)
    lease.drop_base(name)


def drop_versions(lease: Lease, name: str) -> None:
    """Forget the versions that are kept with a base: from now on only contents show what was written since."""
    for side in SIDES:
        lease.drop_base(versions_name(name, side))


class PageWriter:
    """Collects entries and hands full pages on."""

    def __init__(self) -> None:
        self._entries: list[tuple[bytes, BaseEntry]] = []
        # What came before the entries: packed, and how many these are.
        self._packed: list[bytes] = []
        self._count = 0

    def add(self, key: bytes, entry: BaseEntry) -> None:
        """One more entry, in key order."""
        self._entries.append((key, entry))

    def add_equal(self, keys: bytes, digests: Sequence[bytes]) -> None:
        """Further entries of points that are equal on both sides.

        Args:
            keys: of all of them, in order.
            digests: of each.
        """
        rows = np.empty((len(digests), ENTRY_SIZE), np.uint8)
        rows[:, :KEY_SIZE] = np.frombuffer(keys, np.uint8).reshape(-1, KEY_SIZE)
        seen = np.frombuffer(b"".join(digests), np.uint8).reshape(-1, DIGEST_SIZE)
        rows[:, KEY_SIZE : KEY_SIZE + DIGEST_SIZE] = rows[:, KEY_SIZE + DIGEST_SIZE :] = seen
        self._pack()
        self._packed.append(rows.tobytes())
        self._count += len(rows)

    @property
    def full(self) -> bool:
        """Whether a page is complete."""
        return self._count + len(self._entries) >= PAGE_ENTRIES

    def take(self) -> list[bytes]:
        """Everything collected, as at most one page."""
        self._pack()
        page, self._packed, self._count = b"".join(self._packed), [], 0
        return [page] if page else []

    def _pack(self) -> None:
        if self._entries:
            self._packed.append(pack(self._entries))
            self._count += len(self._entries)
            self._entries = []


class BaseLookup:
    """The committed base of a rebuild by single points, wherever they are in it; other pages stay unread.

    Args:
        ledger: that keeps it.
        name: of the base.
        turned: whether its sides change places.
    """

    def __init__(self, ledger: Ledger, name: str, *, turned: bool = False) -> None:
        self._ledger = ledger
        self._name = name
        self._turned = turned
        # Ranges follow each other in the order of the ids, and so do the pages of a range.
        self._pages = sorted(
            (head, number, page) for number, page, head in ledger.base_heads(name, KEY_SIZE) if head
        )
        self._dirty = dirty_keys(ledger, name)

    def find(self, keys: Iterable[bytes]) -> dict[bytes, BaseEntry]:
        """The entries of some points, without those that an unfinished pass has recomputed."""
        by_page: dict[int, list[bytes]] = {}
        for key in set(keys) - self._dirty:
            place = bisect_right(self._pages, (key, 1 << 62, 0)) - 1
            if place >= 0:
                by_page.setdefault(place, []).append(key)
        found: dict[bytes, BaseEntry] = {}
        for place, some in by_page.items():
            _, number, page = self._pages[place]
            body = self._ledger.some_base_pages(self._name, number, [page]).get(page, b"")
            for key in some:
                entry = entry_of(body, key)
                if entry is not None:
                    found[key] = BaseEntry(entry.target, entry.source) if self._turned else entry
        return found


def entry_of(page: bytes, key: bytes) -> BaseEntry | None:
    """What a page has of one point; the others are not read."""
    row = bisect_left(_Keys(page), key) * ENTRY_SIZE
    if page[row : row + KEY_SIZE] != key:
        return None
    middle = row + KEY_SIZE + DIGEST_SIZE
    return BaseEntry(page[row + KEY_SIZE : middle], page[middle : row + ENTRY_SIZE])


def changed_page(page: bytes, changed: Mapping[bytes, BaseEntry | None]) -> bytes:
    """A page with other entries of some points, with further ones in their places, and without those that have None."""
    parts, done, keys = [], 0, _Keys(page)
    for key, entry in sorted(changed.items(), key=itemgetter(0)):
        row = bisect_left(keys, key) * ENTRY_SIZE
        parts.append(page[done:row])
        done = row + ENTRY_SIZE if page[row : row + KEY_SIZE] == key else row
        if entry is not None:
            parts.append(key + entry.source + entry.target)
    parts.append(page[done:])
    return b"".join(parts)


class _Keys(Sequence[bytes]):
    """The order keys of a page, which are ascending."""

    def __init__(self, page: bytes) -> None:
        self._page = page

    def __len__(self) -> int:
        return len(self._page) // ENTRY_SIZE

    def __getitem__(self, place: Any) -> Any:
        return self._page[place * ENTRY_SIZE : place * ENTRY_SIZE + KEY_SIZE]


class BasePages:
    """The committed base of a rebuild by single points: which page has them, and what it has; others stay unread.

    Args:
        lease: of the ledger that keeps it.
        name: of the base.
    """

    def __init__(self, lease: Lease, name: str) -> None:
        self._lease = lease
        self._name = name
        self._heads: dict[int, list[tuple[bytes, int]]] = {}
        # What was read last, by range and page: what is read is mostly written next.
        self._bodies: dict[tuple[int, int | None], bytes] = {}
        self._look()

    def _look(self) -> None:
        self._heads.clear()
        for number, page, head in self._lease.ledger.base_heads(self._name, KEY_SIZE):
            # A page that lost all of its points has no place in the order any more.
            if head:
                self._heads.setdefault(number, []).append((head, page))

    def read(self, number: int, keys: Iterable[bytes]) -> dict[bytes, BaseEntry]:
        """The entries of some points of one range, also of those that a pass has recomputed since."""
        found: dict[bytes, BaseEntry] = {}
        by_page: dict[int | None, list[bytes]] = {}
        for key in set(keys):
            by_page.setdefault(self._page_of(number, key), []).append(key)
        self._have(number, by_page.keys())
        for page, some in by_page.items():
            body = self._bodies.get((number, page), b"")
            found.update((key, entry) for key in some if (entry := entry_of(body, key)) is not None)
        return found

    def write(self, number: int, entries: Mapping[bytes, BaseEntry | None]) -> None:
        """Replace the entries of some points of one range, add new ones in their places, and drop those with None."""
        by_page: dict[int | None, dict[bytes, BaseEntry | None]] = {}
        for key, entry in entries.items():
            by_page.setdefault(self._page_of(number, key), {})[key] = entry
        pages, added = {}, {}
        self._have(number, by_page.keys())
        for page, changed in by_page.items():
            body = changed_page(self._bodies.get((number, page), b""), changed)
            # Points with rising ids all come into the last page, which would be written again and again as a whole.
            is_long = len(body) > 2 * PAGE_ENTRIES * ENTRY_SIZE and self._is_last(number, page)
            cut = PAGE_ENTRIES * ENTRY_SIZE if is_long else len(body)
            if page is not None:
                pages[(number, page)] = body[:cut]
                body = body[cut:]
            if body:
                added[number] = body
        self._bodies = {}
        self._lease.replace_pages(self._name, pages, added)
        if added:
            self._look()

    def _have(self, number: int, wanted: Iterable[int | None]) -> None:
        """Have these pages at hand, and no others."""
        known = {(number, page): self._bodies.get((number, page)) for page in wanted if page is not None}
        self._bodies = {place: body for place, body in known.items() if body is not None}
        lacking = [page for _, page in known.keys() - self._bodies.keys()]
        if lacking:
            found = self._lease.ledger.some_base_pages(self._name, number, lacking)
            self._bodies.update(((number, page), body) for page, body in found.items())

    def _is_last(self, number: int, page: int | None) -> bool:
        return page is not None and self._heads[number][-1][1] == page

    def _page_of(self, number: int, key: bytes) -> int | None:
        """The page in whose stretch a key lies; None where the range has no page yet."""
        heads = self._heads.get(number)
        if not heads:
            return None
        return heads[max(bisect_right(heads, (key, 1 << 62)) - 1, 0)][1]
