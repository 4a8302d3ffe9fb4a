"""Answers with ids and versions, decoded from their bytes: as the library decodes them, whatever is in them."""

from __future__ import annotations

import random
import uuid

import numpy as np
import pytest
from google.protobuf.message import DecodeError
from qdrant_client import grpc

from qmigrate.model.ids import points_of
from qmigrate.store.id_pages import ForeignError
from qmigrate.store.server import versions

NUMBERS = [0, 1, 127, 128, 16_383, 16_384, 2**28, 2**35, 2**49, 2**56, 2**63 - 1, 2**63, 2**64 - 1]
UUIDS = [str(uuid.UUID(int=one)) for one in (0, 1, 2**128 - 1)]


def result(identifier, version=0, score=0.0, **more):
    """One result of a search."""
    made = grpc.PointId(num=identifier) if isinstance(identifier, int) else grpc.PointId(uuid=identifier)
    return grpc.ScoredPoint(id=made, version=version, score=score, **more)


def answer(results):
    """As a server sends it."""
    return grpc.QueryResponse(result=results, time=0.25).SerializeToString()


def found(pages):
    """Number by id."""
    return {one: number for page in pages for one, number in zip(points_of(page.ids), page.numbers.tolist(), strict=True)}


CASES = {
    "none": [],
    "numbers": [result(one, version=at) for at, one in enumerate(NUMBERS)],
    "versions": [result(at, version=one) for at, one in enumerate(NUMBERS)],
    "uuids": [result(one, version=at + 1) for at, one in enumerate(UUIDS)],
    "scores": [result(at, version=one, score=0.5 * at) for at, one in enumerate(NUMBERS)],
    "scores of uuids": [result(one, version=at * 1000, score=-1.0) for at, one in enumerate(UUIDS)],
    "not a number": [result(1, version=3, score=float("nan"))],
    "mixed": [result(one, version=7) for one in (1, UUIDS[0], 2**40, UUIDS[1], 0)],
}


@pytest.mark.parametrize("results", CASES.values(), ids=CASES)
def test_answers_of_every_length(results):
    """Read at once, without a message per point."""
    expected = {one.id.num if one.id.WhichOneof("point_id_options") == "num" else one.id.uuid: one.version for one in results}
    assert found(versions._fast(answer(results))) == expected
    assert found(versions.decoded(answer(results))) == expected
    for page in versions.decoded(answer(results)):
        assert page.numbers.dtype == np.uint64


FOREIGN = {
    "a shard key": [result(1, version=3, shard_key=grpc.ShardKey(keyword="a"))],
    "a long shard key": [result(1, version=3, shard_key=grpc.ShardKey(keyword="a" * 200))],
    "an order value": [result(1, version=3, order_value=grpc.OrderValue(int=5))],
    "a payload": [result(1, version=3, payload={"k": grpc.Value(integer_value=3)})],
    "vectors": [result(1, version=3, vectors=grpc.VectorsOutput(vector=grpc.VectorOutput(data=[1.0])))],
    "after others": [result(7, version=3), result(1, version=4, payload={"k": grpc.Value(integer_value=3)})],
}


@pytest.mark.parametrize("results", FOREIGN.values(), ids=FOREIGN)
def test_what_is_not_expected_is_left_to_the_library(results):
    """Slower, and right."""
    with pytest.raises(ForeignError):
        versions._fast(answer(results))
    assert found(versions.decoded(answer(results))) == {one.id.num: one.version for one in results}


def test_any_answers():
    """Both ways find the same, whatever the lengths."""
    pick = random.Random(4)
    for _ in range(50):
        ids = {pick.choice((pick.getrandbits(pick.randint(1, 64)), str(uuid.UUID(int=pick.getrandbits(128))))) for _ in range(60)}
        results = [
            result(one, version=pick.getrandbits(pick.randint(1, 64)), score=pick.choice((0.0, 1.5))) for one in ids
        ]
        whole = answer(results)
        assert found(versions._fast(whole)) == found(versions._slow(whole))


def test_a_part_of_an_answer_is_an_error():
    """Never fewer points."""
    whole = answer(CASES["mixed"])
    for end in range(1, len(whole)):
        try:
            part = versions.decoded(whole[:end])
        except DecodeError:
            continue
        # What ends behind a result is an answer with fewer of them: the frame of gRPC vouches for its length.
        assert found(part).items() <= found(versions.decoded(whole)).items()


@pytest.mark.parametrize(
    ("points", "slices"),
    [(0, 2), (1, 2), (32_000, 2), (32_001, 3), (160_001, 10), (1_000_000, 10), (1_600_001, 17), (10_000_000, 100)],
)
def test_the_number_of_slices(points, slices):
    """Each costs the server a walk through all ids, and the larger it is the more memory."""
    assert versions.slices_of(points) == slices
