"""Our engine and a gRPC server that does nothing: processor time per point, next to the client's in the same run."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from tests.bench import null_server

#: Points, and values of their vector.
POINTS, DIM = 4_000, 256
#: Processor time of our fill, at most, of what scroll and upsert of the client as shipped take; 0.1 was measured.
OF_THE_CLIENT = 0.5
#: Of reading and writing the same bytes as they are, at most; it was 2 to 3 times that.
OF_RAW = 15.0
#: Processor time of the proof, which reads both sides, at most of what the client takes to read one and write it.
PROOF_OF_THE_CLIENT = 1.0
#: MB by which twenty times as many points may exceed few.
GROWTH_MB = 120


def test_the_pages_are_what_a_server_would_answer():
    """Ids in order without a gap, the next offset, and an end; the same points by id."""
    from qdrant_client import grpc

    pages = null_server.Pages(2_500, 8)
    seen: list[int] = []
    request = grpc.ScrollPoints(limit=1000)
    while True:
        found = grpc.ScrollResponse.FromString(pages.scroll(request.SerializeToString(), None))
        seen += [one.id.num for one in found.result]
        assert {len(one.vectors.vectors.vectors["a"].dense.data) for one in found.result} == {8}
        if not found.HasField("next_page_offset"):
            break
        request.offset.CopyFrom(found.next_page_offset)
    assert seen == list(range(null_server.FIRST, null_server.FIRST + 2_500))
    wanted = grpc.GetPoints(ids=[grpc.PointId(num=seen[7]), grpc.PointId(num=seen[2_499])])
    got = grpc.GetResponse.FromString(pages.get(wanted.SerializeToString(), None))
    assert [one.id.num for one in got.result] == [seen[7], seen[2_499]]


def test_a_copy_takes_a_part_of_the_clients_processor_time():
    """Ratios within one run, with a wide margin: no clock, and no figure of this machine.

    The best of three counts, taken in turn: what else runs can only add to a figure.
    """
    best: dict[str, float] = {}
    with null_server.running(POINTS, DIM) as port:
        for _ in range(3):
            ours = null_server.copy_of(port, POINTS, DIM)
            took = {
                "fill": ours["fill processor"],
                "proof": ours["converge processor"],
                "client": null_server.client_of(port, POINTS // 4) * 4,
                "raw": null_server.raw_of(port, POINTS),
            }
            best = {name: min(used, best.get(name, used)) for name, used in took.items()}
    per_point = {name: round(used / POINTS * 1e6, 1) for name, used in best.items()}
    fill, proof, client, raw = best["fill"], best["proof"], best["client"], best["raw"]
    assert fill < client * OF_THE_CLIENT, per_point
    assert proof < client * PROOF_OF_THE_CLIENT, per_point
    assert fill < raw * OF_RAW, per_point


@pytest.mark.nightly
@pytest.mark.timeout(280)
def test_memory_does_not_grow_with_what_is_read_over_grpc():
    """Points that are parts of answers: the sample of the proof once kept every answer that one of it came in."""
    peaks = []
    for count in (10_000, 200_000):
        command = [sys.executable, "-m", "tests.bench.null_server", "measure", str(count), "128"]
        done = subprocess.run(command, cwd=null_server.ROOT, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        peaks.append(json.loads(done.stdout)["peak"])
    assert peaks[1] - peaks[0] < GROWTH_MB
