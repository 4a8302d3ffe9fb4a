"""Archives: every point comes back bit by bit, and a file that was touched is refused with its line named."""

from __future__ import annotations

import json
import math
import struct
import subprocess
import sys
import uuid
from datetime import UTC, datetime

import numpy as np
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st
from qdrant_client import grpc
from qdrant_client.conversions.conversion import json_to_value

from qmigrate import archive
from qmigrate.atomic_file import PART
from qmigrate.errors import ArchiveError, StoreError, UnavailableError
from qmigrate.model.schema import CollectionSchema
from qmigrate.store import exact, portable, records, wire

SCHEMA = CollectionSchema(vectors={"a": {"size": 2, "distance": "Dot"}}, config={"metadata": {"x": None}})
INT64 = st.integers(-(2**63), 2**63 - 1)
#: Any 32 bits: signalling NaN, negative zero and infinities included.
FLOATS = st.lists(st.integers(0, 2**32 - 1), max_size=9).map(lambda bits: struct.pack(f"<{len(bits)}I", *bits))
TEXTS = st.text(max_size=12)
VALUES = st.recursive(
    st.none() | st.booleans() | INT64 | st.floats(allow_nan=False) | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=8,
)
IDS = st.integers(0, 2**64 - 1) | st.uuids().map(str)


def dense(raw: bytes) -> bytes:
    """The message of a dense vector of these float32 bytes."""
    return wire.field(101, wire.field(1, raw) if raw else b"")


def sparse(pairs: dict[int, bytes]) -> bytes:
    """The message of a sparse vector."""
    made = grpc.VectorOutput()
    made.sparse.indices.extend(pairs)
    values = b"".join(pairs.values())
    return wire.field(102, (wire.field(1, values) if values else b"") + made.sparse.SerializeToString())


VECTORS = st.one_of(
    FLOATS.map(dense),
    FLOATS.map(lambda raw: wire.field(1, raw) if raw else b""),
    st.lists(FLOATS, max_size=3).map(
        lambda rows: wire.field(103, b"".join(wire.field(1, wire.field(1, row) if row else b"") for row in rows))
    ),
    st.dictionaries(st.integers(0, 2**32 - 1), st.binary(min_size=4, max_size=4), max_size=4).map(sparse),
)


@st.composite
def stored_points(draw):
    """A point as a server hands it out, of any kind."""
    made = grpc.RetrievedPoint()
    identifier = draw(IDS)
    if isinstance(identifier, int):
        made.id.num = identifier
    else:
        made.id.uuid = identifier
    for key, value in draw(st.dictionaries(TEXTS, VALUES, max_size=3)).items():
        made.payload[key].CopyFrom(json_to_value(value))
    form = draw(st.sampled_from(["none", "empty", "unnamed", "named"]))
    if form == "empty":
        made.vectors.vectors.SetInParent()
    elif form == "unnamed":
        made.vectors.vector.MergeFromString(draw(VECTORS))
    elif form == "named":
        for name, vector in draw(st.dictionaries(TEXTS, VECTORS, min_size=1, max_size=3)).items():
            made.vectors.vectors.vectors[name].MergeFromString(vector)
    return made


def through_json(point):
    """What a line of an archive makes of a JSON object."""
    return json.loads(json.dumps(point, ensure_ascii=False).encode())


@given(stored_points())
@settings(max_examples=400, deadline=None)
def test_a_point_comes_back_bit_by_bit(stored):
    """Ids, payload with its number types, and every kind of vector, NaN and negative zero included: equal digests."""
    back = portable.from_json(through_json(portable.to_json(stored)))
    assert records.same(back, stored)


@given(stored_points())
@settings(max_examples=100, deadline=None)
def test_a_point_from_an_archive_is_written_as_a_copy_would(stored):
    """The bytes that are sent hold the same vectors as those of a copy of the stored point."""
    back = portable.from_json(through_json(portable.to_json(stored)))
    wanted, made = (grpc.PointStruct.FromString(portable.ready(one)) for one in (stored, back))
    assert made.SerializeToString(deterministic=True) == wanted.SerializeToString(deterministic=True)


@pytest.mark.parametrize("number", [2**63, 2**63 + 5, 2**64 - 1])
def test_integers_that_grpc_loses_come_back_exactly(number):
    """A line of an archive holds the integer, and what is read from it is the point with its integer."""
    payload = {"n": [{"deep": number}], "d": 2.0**63}
    stored = grpc.RetrievedPoint(id=grpc.PointId(num=1))
    for key, value in payload.items():
        stored.payload[key].CopyFrom(exact.value_of(value))
    (made,) = portable.page_to_json([stored])
    assert json.dumps(made["payload"], sort_keys=True) == json.dumps(payload, sort_keys=True)
    assert records.same(portable.from_json(through_json(made)), stored)


def test_numbers_that_json_lacks_are_kept():
    """NaN and infinities of a payload, which local mode takes, stay numbers."""
    stored = grpc.RetrievedPoint(id=grpc.PointId(num=1))
    for key, value in {"nan": math.nan, "inf": -math.inf, "zero": -0.0}.items():
        stored.payload[key].double_value = value
    back = portable.from_json(through_json(portable.to_json(stored)))
    assert records.same(back, stored)


def test_shard_keys_have_no_place():
    """A point of a collection with custom sharding is refused, not stripped of its key."""
    stored = grpc.RetrievedPoint(id=grpc.PointId(num=1), shard_key=grpc.ShardKey(keyword="k"))
    with pytest.raises(StoreError, match="shard key"):
        portable.to_json(stored)


@pytest.mark.parametrize(
    "point",
    [
        {"payload": {}},
        {"id": True, "payload": {}},
        {"id": -1, "payload": {}},
        {"id": 2**64, "payload": {}},
        {"id": "no uuid", "payload": {}},
        {"id": 1.5, "payload": {}},
        {"id": 1, "payload": []},
        {"id": 1, "payload": {}, "vector": "AAA"},
        {"id": 1, "payload": {}, "vector": "AAAA"},
        {"id": 1, "payload": {}, "vectors": {"a": {"indices": [-1], "values": ""}}},
        {"id": 1, "payload": {}, "vectors": {"a": {}}},
    ],
)
def test_what_is_no_point_is_refused(point):
    """A line of another origin is an error of one kind, whatever is wrong with it."""
    with pytest.raises(portable.NotPortableError):
        portable.from_json(point)


def header(**changed):
    """A header of a small collection."""
    values = {
        "kind": "snapshot",
        "name": "c/ü",
        "physical": "c__g0001",
        "generation": 1,
        "schema": SCHEMA,
        "ledger": "l",
        "source": "test",
        "created_at": datetime(2026, 11, 21, 12, 0, tzinfo=UTC),
        "facts": {"revisions": ["0001"]},
    }
    return archive.Header(**{**values, **changed})


def point(number):
    """A point of the archive as JSON."""
    made = grpc.RetrievedPoint()
    if number < 100:
        made.id.num = number
    else:
        made.id.uuid = str(uuid.UUID(int=number))
    made.payload["text"].CopyFrom(json_to_value(f"line\nbreak \u2028 {number}"))
    raw = np.array([number, -0.0], dtype="<f4").tobytes()
    made.vectors.vectors.vectors["a"].MergeFromString(dense(raw))
    return portable.to_json(made)


def make(folder, numbers=(1, 2, 3, 100, 101)):
    """An archive of these points."""
    path = folder / "made.jsonl.zst"
    made = archive.write(path, header(), [[point(number) for number in numbers]])
    assert made.points == len(numbers)
    return path


def lines_of(path):
    """The decompressed lines of an archive."""
    with path.open("rb") as file:
        reader = zstandard.ZstdDecompressor().stream_reader(file, read_across_frames=True)
        return reader.read().splitlines(keepends=True)


def rewrite(path, lines):
    """Put other lines in the place of those of an archive, as an editor would."""
    path.write_bytes(zstandard.ZstdCompressor().compress(b"".join(lines)))


def test_what_was_written_is_read(tmp_path):
    """Header, points and their lines; only the owner can read the file, and nothing else is left in the folder."""
    path = make(tmp_path / "deep" / "folder")
    found = list(archive.read(path))
    assert [(one.line, one.id) for one in found] == [
        (2, 1),
        (3, 2),
        (4, 3),
        (5, str(uuid.UUID(int=100))),
        (6, str(uuid.UUID(int=101))),
    ]
    assert [portable.to_json(one.stored) for one in found] == [point(number) for number in (1, 2, 3, 100, 101)]
    seen = archive.verify(path)
    assert seen == archive.summary(path) == archive.summaries(path.parent)[0]
    assert (seen.header, seen.points, seen.size) == (header(), 5, path.stat().st_size)
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700
    assert [one.name for one in path.parent.iterdir()] == [path.name]


def test_an_empty_collection_is_an_archive_too(tmp_path):
    """No points, one closing line."""
    path = make(tmp_path, ())
    assert list(archive.read(path)) == []
    assert archive.verify(path).points == archive.summary(path).points == 0


def test_points_are_taken_out_of_an_archive(tmp_path):
    """The others stay bit by bit and in order, and the header counts; a damaged archive is left unchanged."""
    made = make(tmp_path, (1, 2, 3, 101))
    uuid_id = point(101)["id"]
    rest = [(one.id, one.stored) for one in archive.read(made) if one.id not in (2, uuid_id)]
    assert archive.without(made, {99}) == (0, 4)
    assert archive.without(made, {2, uuid_id, 99}) == (2, 2)
    assert archive.without(made, {3}) == (1, 1)
    seen = archive.verify(made)
    assert (seen.points, seen.header.told(archive.ErasedFacts).erased) == (1, 3)
    assert [(one.id, one.stored) for one in archive.read(made)] == rest[:1]
    assert made.stat().st_mode & 0o777 == 0o600
    assert archive.without(made, {1}) == (1, 0)
    broken = make(tmp_path, (1, 2, 3))
    content = broken.read_bytes()[:-30]
    broken.write_bytes(content)
    with pytest.raises(ArchiveError):
        archive.without(broken, {2})
    assert broken.read_bytes() == content


def every_change(lines):
    """(what, changed lines, line to be named) for each way to touch each line."""
    for number, line in enumerate(lines, start=1):
        before, after = lines[: number - 1], lines[number:]
        middle = len(line) // 2
        flipped = line[:middle] + bytes([line[middle] ^ 1]) + line[middle + 1 :]
        yield f"flip {number}", [*before, flipped, *after], number
        yield f"flip the check of {number}", [*before, line[:12] + bytes([line[12] ^ 1]) + line[13:], *after], number
        yield f"duplicate {number}", [*before, line, line, *after], number + 1
        yield f"cut inside {number}", [*before, line[:middle]], number
        yield f"cut before {number}", before, number
        if after:
            yield f"swap {number}", [*before, after[0], line, *after[1:]], number
            yield f"leave out {number}", [*before, *after], number
        yield f"insert before {number}", [*before, b'{"check":"00"}\n', line, *after], number
    yield "append", [*lines, b"more\n"], len(lines) + 1


def test_every_touched_line_is_named(tmp_path):
    """Flipped, repeated, moved, left out, cut off: the message and its facts name the first line that doesn't fit."""
    path = make(tmp_path)
    lines = lines_of(path)
    assert len(lines) == 7
    count = 0
    for what, changed, line in every_change(lines):
        rewrite(path, changed)
        with pytest.raises(ArchiveError, match=f"line {line}: ") as refused:
            archive.verify(path)
        assert refused.value.facts == {"line": line}, what
        with pytest.raises(ArchiveError):
            list(archive.read(path))
        count += 1
    assert count > 50


def test_every_damaged_byte_is_noticed(tmp_path):
    """Whatever byte of the file is flipped, and wherever it is cut: it is refused, with a line."""
    path = make(tmp_path)
    whole = path.read_bytes()
    for position in range(len(whole)):
        path.write_bytes(whole[:position] + bytes([whole[position] ^ 0x10]) + whole[position + 1 :])
        told = told_line(path)
        # Else it is a bit of a frame's header that means nothing: everything in it is what it was.
        assert told or list(archive.read(path))[-1].id == str(uuid.UUID(int=101))
    for size in range(len(whole)):
        path.write_bytes(whole[:size])
        with pytest.raises(ArchiveError, match="line "):
            archive.verify(path)


def told_line(path) -> int | None:
    """The line that a refusal names; None when the archive is accepted."""
    try:
        archive.verify(path)
    except ArchiveError as refused:
        return refused.facts["line"]
    return None


def test_points_out_of_order_are_refused_even_with_good_checks(tmp_path):
    """A writer that doesn't keep the order of ids would break every join."""
    path = tmp_path / "made.jsonl.zst"
    archive.write(path, header(), [[point(2), point(1)]])
    with pytest.raises(ArchiveError, match="line 3: its id is not after"):
        archive.verify(path)


def test_a_line_that_is_no_point_is_refused_even_with_a_good_check(tmp_path):
    """And so is a header of another format."""
    path = tmp_path / "made.jsonl.zst"
    archive.write(path, header(), [[point(1), {"id": "x"}]])
    with pytest.raises(ArchiveError, match="line 3: it can't be read"):
        archive.verify(path)


@pytest.mark.parametrize("content", [b"", b"plain text\n", b"{}\n", b"\x28\xb5\x2f\xfd"])
def test_what_is_no_archive_is_refused(tmp_path, content):
    """Empty, text, or the beginning of a frame."""
    path = tmp_path / "other.jsonl.zst"
    path.write_bytes(content)
    for look in (archive.verify, archive.summary):
        with pytest.raises(ArchiveError):
            look(path)
    assert archive.summaries(tmp_path) == []


def test_a_missing_file_is_named(tmp_path):
    """Not a traceback."""
    with pytest.raises(ArchiveError, match="can't be read: No such file"):
        archive.verify(tmp_path / "none.jsonl.zst")


def test_an_error_while_writing_leaves_nothing(tmp_path):
    """Neither half a file nor its name; one that was there before stays as it was."""
    path = make(tmp_path)
    before = path.read_bytes()

    def pages():
        yield [point(1)]
        raise StoreError("gone")

    with pytest.raises(StoreError):
        archive.write(path, header(), pages())
    assert [one.name for one in tmp_path.iterdir()] == [path.name]
    assert path.read_bytes() == before


def test_what_a_killed_writer_left_is_removed_and_a_living_one_is_spared(tmp_path):
    """A part that is not being written goes with the next archive; one that is being written is locked."""
    living = tmp_path / f"living{archive.SUFFIX}"

    def pages():
        yield [point(1)]
        make(tmp_path)
        assert living.with_name(living.name + PART).exists()
        yield [point(2)]

    (tmp_path / f"dead{archive.SUFFIX}{PART}").write_bytes(b"half")
    archive.write(living, header(), pages())
    assert sorted(one.name for one in tmp_path.iterdir()) == [living.name, "made.jsonl.zst"]
    assert archive.verify(living).points == 2


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    """The path and the reason."""
    (tmp_path / "file").write_text("")
    with pytest.raises(UnavailableError, match=r"made\.jsonl\.zst can't be written"):
        archive.write(tmp_path / "file" / "made.jsonl.zst", header(), [])


def test_memory_stays_flat(tmp_path):
    """Writing, verifying and reading many points needs no more memory than a few."""
    code = """
import resource, sys
from pathlib import Path
from tests.unit.root.test_archive import header, point
from qmigrate import archive
def run(count):
    made = point(1)
    pages = ([{**made, "id": number} for number in range(first, first + 500)] for first in range(0, count, 500))
    path = Path(sys.argv[1])
    archive.write(path, header(), pages)
    archive.verify(path)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
few, many = run(2_000), run(60_000)
print(many - few)
"""
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "m.jsonl.zst")], capture_output=True, text=True, check=True
    )
    assert int(done.stdout) < 20_000
