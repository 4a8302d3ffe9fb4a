"""Points in files: a header line, a line per point, a closing line. It handles the format, no collection and no plan.

An archive is JSON Lines (UTF-8) in zstd frames; ``zstd -dc FILE`` shows it. The closing line is a frame of its own, so
that a summary needs neither the points nor their time. Every line begins with ``{"check":"<32 hex digits>",``: XXH3-128
of the line before it (its check) and of the rest of the line, so the first line that was changed, moved, repeated or
left out is known by its number. It guards against damage and against an editor, not against a forger.

::

    {"check":"…","format":"qmigrate.archive/1","kind":"snapshot","name":…,"physical":…,"generation":…,"schema":{…},
     "ledger":…,"source":…,"created_at":…,"facts":{…}}
    {"check":"…","id":7,"payload":{…},"vectors":{…}}          see qmigrate.store.portable; in Qdrant's order of ids
    {"check":"…","points":1}

A file appears under its name only when it is complete: see :mod:`qmigrate.atomic_file`.
"""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence, Set
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import IO, Any, NamedTuple, TypeVar

import xxhash
import zstandard

from qmigrate.atomic_file import clean, writing
from qmigrate.errors import ArchiveError
from qmigrate.model.facts.stored import by_field, loaded
from qmigrate.model.schema import CollectionSchema, JsonObject
from qmigrate.model.transform import PointId
from qmigrate.ports import Stored
from qmigrate.store import portable, records
from qmigrate.text import counted

T = TypeVar("T")

FORMAT = "qmigrate.archive/1"
#: How an archive is called.
SUFFIX = ".jsonl.zst"
#: A compression that keeps up with a server's reading; vectors hardly get smaller with a higher one.
LEVEL = 3
#: Longest line that is read: far beyond any point that a server takes, small enough not to fill the memory.
MOST_LINE = 256 * 2**20
#: Bytes at the end of a file in which the closing frame is looked for.
_TAIL = 4096
#: Points between two calls of `tick`.
_TICK = 500
_PREFIX = b'{"check":"'
_HEX = 32
_BODY = len(_PREFIX) + _HEX + 2


@dataclass(frozen=True, slots=True)
class Header:
    """The header and the end of an archive.

    Attributes:
        kind: ``snapshot``, or what else the points were taken for.
        name: the logical name.
        physical: the collection that was read.
        generation: its number; None for one without.
        schema: as it was found, in Qdrant's REST shape.
        ledger: id of the ledger that the collection belonged to, or None.
        source: label of the store.
        created_at: when the writing began.
        facts: further plain JSON, as :meth:`told` reads it.
    """

    kind: str
    name: str
    physical: str
    generation: int | None
    schema: CollectionSchema
    ledger: str | None
    source: str
    created_at: datetime
    facts: JsonObject = field(default_factory=dict)

    def told(self, of: type[T]) -> T:
        """Its facts as one of the classes below; those of another one say nothing."""
        return loaded(of, self.facts)


@dataclass(frozen=True, slots=True)
class WholeFacts:
    """Of a whole collection.

    Attributes:
        revisions: id and checksum of each that was applied, oldest first.
        declared: its recorded schema; None where there was none.
        embedders: vector -> model fingerprint.
        aliases: its further names, for people.
        local: whether it was read in local mode.
    """

    revisions: tuple[tuple[str, str], ...] = ()
    declared: CollectionSchema | None = None
    embedders: Mapping[str, Any] = field(default_factory=dict)
    aliases: tuple[str, ...] = ()
    local: bool = False


@dataclass(frozen=True, slots=True)
class DeletedFacts:
    """Of points that a fix has deleted.

    Attributes:
        applied: the revisions that they were at; None where an earlier version didn't say.
        by: revision -> checksum of its file, and the run that had applied it.
    """

    applied: tuple[str, ...] | None = None
    by: Mapping[str, tuple[str, int | None]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ErasedFacts:
    """Of any archive: how many points were taken out again, and the same by who has asked for it."""

    erased: int = 0
    erased_by: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Summary:
    """An archive without its points.

    Attributes:
        path: the file.
        header: its first line.
        points: how many there are.
        digest: the check of the closing line, which every line before it has a part in; in hex.
        size: of the file, in bytes.
    """

    path: Path
    header: Header
    points: int
    digest: str
    size: int


class Archived(NamedTuple):
    """One point of an archive.

    Attributes:
        line: its number, for messages.
        key: order key of the id.
        stored: the point as a server returns it.
    """

    line: int
    key: bytes
    stored: Stored

    @property
    def id(self) -> PointId:
        """The point's id."""
        return records.point_id(self.stored)


def write(path: Path, header: Header, pages: Iterable[Sequence[JsonObject]]) -> Summary:
    """Write an archive; it appears under `path` when it is complete, over one of that name.

    Args:
        path: of a name that ends with :data:`SUFFIX`.
        pages: points as :mod:`qmigrate.store.portable` makes them, ascending in Qdrant's order.

    Raises:
        UnavailableError: the file can't be written.
    """
    clean(path.parent, SUFFIX)
    with writing(path) as out:
        points, digest = _write_lines(out, header, pages)
        size = out.tell()
    return Summary(path, header, points, digest, size)


def read(path: Path, *, digest: str | None = None) -> Iterator[Archived]:
    """Every point, in order, each line checked before it is returned; memory for one line at a time.

    The end is only reached when the closing line fits. A caller that must not begin with a file that is damaged further
    down calls :func:`verify` first.

    Args:
        digest: of the archive that is meant: the end is only reached when it is still that one.

    Raises:
        ArchiveError: a line is damaged, changed, moved, repeated or missing; names it. Or it is another archive.
    """
    if digest is not None:
        # This look saves the work; the one at the end is about what was read.
        check_digest(path, summary(path).digest, digest)
    reader = _Reader(path)
    for _, point in reader.points():
        yield point
    if digest is not None:
        check_digest(path, reader.check.hex(), digest)


def check_digest(path: Path, found: str, digest: str) -> None:
    """See that an archive is still the one that was chosen.

    Raises:
        ArchiveError: another one has its name now.
    """
    if found != digest:
        raise ArchiveError(
            f"{path.name} is another archive than the one that was chosen: it was replaced since",
            hint="put that one back under this name and run the command again; where a run has begun, an abort of "
            "it ends that",
        )


def verify(path: Path, tick: Callable[[], None] = lambda: None) -> Summary:
    """Read and check every line.

    Args:
        tick: called now and then.

    Raises:
        ArchiveError: see :func:`read`.
    """
    reader = _Reader(path)
    points = 0
    for points, _ in reader.points():
        if points % _TICK == 0:
            tick()
    return Summary(path, reader.header, points, reader.check.hex(), path.stat().st_size)


def without(path: Path, ids: Set[PointId], tick: Callable[[], None] = lambda: None, by: str = "") -> tuple[int, int]:
    """Take points out of an archive; it is written again, unless it has none of them.

    Its header counts under ``erased`` what was taken out. Every line is checked before anything is written.

    Args:
        tick: called now and then.
        by: who asks for it: the header counts under ``erased_by`` what was taken out for them, over all attempts.

    Returns:
        How many points were taken out, and how many are left.

    Raises:
        ArchiveError: see :func:`read`.
        UnavailableError: the file can't be written.
    """
    reader = _Reader(path)
    gone = count = 0
    for count, point in reader.points():
        gone += point.id in ids
        if count % _TICK == 0:
            tick()
    if not gone:
        return 0, count
    before = reader.header.told(ErasedFacts)
    facts = {**reader.header.facts, "erased": before.erased + gone}
    if by:
        facts["erased_by"] = {**before.erased_by, by: before.erased_by.get(by, 0) + gone}
    with writing(path) as out:
        _write_lines(out, replace(reader.header, facts=facts), reader.documents(ids, tick))
    return gone, count - gone


def summary(path: Path) -> Summary:
    """First and last line, without reading the points; without a check whether they are complete.

    Raises:
        ArchiveError: it is not an archive, or has no closing line.
    """
    header = _Reader(path).header
    closing = _closing_frame(path)
    if closing is None:
        raise ArchiveError(f"{path.name} has no closing line: it was cut off, or is not an archive", hint=_OTHER)
    return Summary(path, header, *closing, path.stat().st_size)


def summaries(folder: Path) -> list[Summary]:
    """Every readable archive of a folder, oldest first; none when there is no such folder."""
    found = []
    for path in sorted(folder.glob(f"*{SUFFIX}")):
        with suppress(ArchiveError):
            found.append(summary(path))
    return sorted(found, key=lambda one: (one.header.created_at, one.path.name))


_OTHER = "use another snapshot: qmigrate snapshot list"


def _closing_frame(path: Path) -> tuple[int, str] | None:
    """(points, digest) of the frame at the very end of a file; None when it is not complete."""
    with _reading(path) as file:
        file.seek(max(0, path.stat().st_size - _TAIL))
        tail = file.read()
    start = len(tail)
    while (start := tail.rfind(zstandard.FRAME_HEADER, 0, start)) >= 0:
        with suppress(zstandard.ZstdError, ValueError, KeyError):
            line = zstandard.ZstdDecompressor().decompress(tail[start:], max_output_size=_TAIL, allow_extra_data=False)
            closing = json.loads(line)
            return int(closing["points"]), str(closing["check"])
    return None


class _Reader:
    """Lines of one file, each checked against the one before it. Opens the file for each pass."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.check = b""
        self.number = 0
        lines = self._bodies()
        self.header = self._parsed(next(lines), _header)
        lines.close()

    def points(self) -> Iterator[tuple[int, Archived]]:
        """(count so far, point) of every point line; ends only after a closing line that fits."""
        count, last = 0, b""
        lines = self._bodies()
        next(lines)
        for body in lines:
            if body.startswith(b'{"points":'):
                self._close(self._parsed(body, lambda closing: int(closing["points"])), count, lines)
                return
            point = self._parsed(body, self._point)
            if point.key <= last:
                raise self._wrong("its id is not after the previous one")
            count, last = count + 1, point.key
            yield count, point
        raise self._wrong("the archive ends here without its closing line: it was cut off", ahead=1)

    def documents(self, ids: Set[PointId], tick: Callable[[], None]) -> Iterator[Sequence[JsonObject]]:
        """Point lines as they are, one at a time, without some ids."""
        lines = self._bodies()
        next(lines)
        for body in lines:
            if body.startswith(b'{"points":'):
                lines.close()
                return
            point = json.loads(body)
            if point["id"] not in ids:
                yield [point]
            if self.number % _TICK == 0:
                tick()

    def _point(self, data: JsonObject) -> Archived:
        stored = portable.from_json(data)
        return Archived(self.number, records.order_key(records.point_id(stored)), stored)

    def _close(self, told: int, count: int, lines: Iterator[bytes]) -> None:
        if told != count:
            raise self._wrong(f"it should have {counted(told, 'point')}, but has {count:,}")
        check = self.check
        if next(lines, None) is not None:
            raise self._wrong("it is after the closing line")
        if _closing_frame(self.path) != (count, check.hex()):
            raise self._wrong("the file was cut off in it, or packed again")
        self.check = check

    def _parsed(self, body: bytes, parse: Any) -> Any:
        try:
            return parse(json.loads(body))
        except (ValueError, KeyError, TypeError) as error:
            raise self._wrong(f"it can't be read ({error})") from error

    def _bodies(self) -> Generator[bytes, None, None]:
        """The rest of every line after its check, once that fits."""
        self.check, self.number = b"", 0
        for line in self._lines():
            self.number += 1
            if not line.endswith(b"\n"):
                raise self._wrong("it has no end: the archive was cut off here")
            body = b"{" + line[_BODY:]
            seen = xxhash.xxh3_128_digest(self.check + body)
            if line[:_BODY] != _PREFIX + seen.hex().encode() + b'",':
                raise self._wrong("it was changed, moved, repeated, or a line before it is missing")
            self.check = seen
            yield body
        if not self.number:
            raise self._wrong("the file is empty", ahead=1)

    def _lines(self) -> Iterator[bytes]:
        with _reading(self.path) as file:
            stream = zstandard.ZstdDecompressor().stream_reader(file, read_across_frames=True)
            with io.BufferedReader(stream) as lines:
                while True:
                    try:
                        line = lines.readline(MOST_LINE)
                    except zstandard.ZstdError as error:
                        raise self._wrong(f"the file is damaged here ({error})", ahead=1) from error
                    if not line:
                        return
                    yield line

    def _wrong(self, reason: str, *, ahead: int = 0) -> ArchiveError:
        line = self.number + ahead
        return ArchiveError(
            f"{self.path.name} is not used: line {line:,}: {reason}", hint=_OTHER, facts={"line": line}
        )


@contextmanager
def _reading(path: Path) -> Iterator[IO[bytes]]:
    try:
        with path.open("rb") as file:
            yield file
    except OSError as error:
        raise ArchiveError(f"{path} can't be read: {error.strerror or type(error).__name__}", hint=_OTHER) from error


def _header(data: JsonObject) -> Header:
    if data.get("format") != FORMAT:
        raise ValueError(f"its format is {data.get('format')!r}, not {FORMAT}")
    return loaded(Header, data)


def _write_lines(out: IO[bytes], header: Header, pages: Iterable[Sequence[JsonObject]]) -> tuple[int, str]:
    """(points, digest) of what was written."""
    compressor = zstandard.ZstdCompressor(level=LEVEL, write_checksum=True)
    check, count = b"", 0
    with compressor.stream_writer(out, closefd=False) as frame:
        check = _write_line(frame, check, {"format": FORMAT, **by_field(header)})
    with compressor.stream_writer(out, closefd=False) as frame:
        for page in pages:
            for point in page:
                check = _write_line(frame, check, point)
            count += len(page)
    with compressor.stream_writer(out, closefd=False) as frame:
        check = _write_line(frame, check, {"points": count})
    return count, check.hex()


def _write_line(out: Any, check: bytes, content: JsonObject) -> bytes:
    """One line after the one whose check is given; its own check."""
    body = json.dumps(content, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"
    mine = xxhash.xxh3_128_digest(check + body)
    out.write(_PREFIX + mine.hex().encode() + b'",' + body[1:])
    return mine
