"""Whether changes are found by the versions of points or by their contents: tried on the new generation, and told.

Servers document nothing of these numbers, so nothing is taken from a version of the server. The trial is made on the
generation that is being built, before it is filled: it has the very settings that count, no application reads it,
and what is written there is fenced by its own alias like everything else. A throwaway collection would have none of
this, and one more name to remove after a crash. A point that a killed trial leaves behind has an id of its own and
goes with the proof, which deletes what the source has not.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from qmigrate.engine.barriers import barrier
from qmigrate.engine.epoch_aliases import own, reach
from qmigrate.engine.prove.versions import settled
from qmigrate.engine.work import Work
from qmigrate.errors import NoVersionsError
from qmigrate.model.ids import points_of
from qmigrate.model.names import EpochAlias
from qmigrate.model.schema import CollectionSchema, JsonObject
from qmigrate.model.state import LiveCollection
from qmigrate.model.transform import PointId
from qmigrate.model.weight import BYTES
from qmigrate.ports import Store
from qmigrate.store import records
from qmigrate.store.faults import RefusedRequestError

#: Share of the points that must have the vector: the others are read each time.
ENOUGH = 0.9
#: Points of a collection that the trial lists as a whole, too.
SMALL = 10_000
#: Limits of strict mode that listing would meet, and how it is said.
_LIMITS = ("max_query_limit", "read_rate_limit")

#: Namespace of the ids of its points.
_TRIAL = uuid.UUID("0d7f2f5e-6f0b-4c58-9b0a-8a6a3b1f5c11")
#: What a trial has seen: number by id.
Numbers = Mapping[PointId, int]


@dataclass(frozen=True, slots=True)
class ByVersion:
    """Changes are found by listing versions.

    Attributes:
        source: vector by which the old generation is listed.
        shadow: vector by which the new one is.
    """

    source: str
    shadow: str


@dataclass(frozen=True, slots=True)
class ByContent:
    """Changes are found by reading.

    Attributes:
        reason: why, in one sentence, for the plan and the report.
    """

    reason: str


def choose(work: Work, source: str, shadow: str) -> ByVersion | ByContent:
    """Which way, for two generations by their physical names.

    *Writes* to `shadow`, through its own alias, and removes what it has written.

    Raises:
        StoreError: the server can't be reached.
    """
    try:
        check_able(work.store)
        found = [described(work.store, reach(work, name), name) for name in (source, shadow)]
        there = _vector_of(work, source, found[0].schema, among=None)
        # A vector that both have is in as many points on either side; a new one may yet be in few.
        common = frozenset(found[0].schema.vectors)
        here = _vector_of(work, None, found[1].schema, among=common)
        _look(work, source, there)
        _try(work, shadow, here, found[1].schema.vectors[here])
    except (NoVersionsError, RefusedRequestError) as error:
        # What refuses the writes of a trial may accept those of a copy, which has as many points as there are.
        return ByContent(error.message)
    return ByVersion(there, here)


def vector_alone(work: Work, physical: str) -> str:
    """The vector by which a generation can be listed that nothing is compared with, tried on it.

    *Writes* to it, through its own alias, and removes what it has written: no name may lead to it yet.

    Raises:
        NoVersionsError: there is none.
    """
    check_able(work.store)
    schema = described(work.store, reach(work, physical), physical).schema
    vector = _vector_of(work, physical, schema, among=None)
    try:
        _try(work, physical, vector, schema.vectors[vector])
    except RefusedRequestError as error:
        raise NoVersionsError(error.message) from error
    return vector


def check_able(store: Store) -> None:
    """There are point versions at all.

    Raises:
        NoVersionsError: there are none.
    """
    if store.capabilities.local:
        raise NoVersionsError("local mode has no point versions")
    if not store.capabilities.versions:
        raise NoVersionsError("the server has no point versions")


def described(store: Store, reached: str, name: str) -> LiveCollection:
    """A collection whose numbers can mean something, as far as its settings tell.

    Args:
        reached: name by which requests get to it.
        name: physical.

    Raises:
        NoVersionsError: they can't.
    """
    found = store.describe(reached)
    if found is None:
        raise NoVersionsError(f"{name} is not there")
    if found.custom_sharding:
        raise NoVersionsError(f"{name} has custom shard keys")
    if found.prevents_unoptimized:
        raise NoVersionsError(f"{name} hides points until they are optimized (prevent_unoptimized)")
    settled(store.placement(reached))
    if int(found.schema.config.get("replication_factor") or 1) > 1:
        raise NoVersionsError(f"{name} is to have several replicas, each of which counts its own operations")
    strict: JsonObject = found.schema.config.get("strict_mode_config") or {}
    if strict.get("enabled"):
        if strict.get("search_allow_exact") is False:
            raise NoVersionsError(f"strict mode of {name} forbids exact search")
        for limit in _LIMITS:
            if strict.get(limit) is not None:
                raise NoVersionsError(f"strict mode of {name} limits reads ({limit})")
    return found


def _vector_of(work: Work, name: str | None, schema: CollectionSchema, among: frozenset[str] | None) -> str:
    """The smallest dense vector; of a collection with points, one that nearly all of them have.

    Args:
        name: of the collection that has points; None for one that has none yet.
        among: names that are taken before others.

    Raises:
        NoVersionsError: there is none.
    """
    if not schema.vectors:
        raise NoVersionsError("there is no dense vector by which versions could be listed")

    def order(one: str) -> tuple[bool, bool, float, str]:
        params = schema.vectors[one]
        size = int(params.get("size") or 0) * BYTES.get(params.get("datatype", ""), 4)
        return (among is not None and one not in among, bool(params.get("multivector_config")), size, one)

    ranked = sorted(schema.vectors, key=order)
    if name is None:
        return ranked[0]
    reached = reach(work, name)
    try:
        points = work.store.count(reached)
        for one in ranked:
            if work.store.count(reached, without_vector=one) <= (1 - ENOUGH) * points:
                return one
    except RefusedRequestError as error:
        raise NoVersionsError(f"strict mode of {name} forbids exact counts") from error
    raise NoVersionsError(f"no dense vector is in {ENOUGH:.0%} of the points of {name}")


def _look(work: Work, source: str, vector: str) -> None:
    """A few points of the source show numbers.

    Raises:
        NoVersionsError: they don't, or must not be listed.
    """
    reached = reach(work, source)
    ids = work.store.sample_ids(reached, 10, having=vector)
    seen = _numbers(work, reached, vector, ids)
    if ids and not any(seen.values()):
        raise NoVersionsError(f"the points of {source} have no versions")


def _try(work: Work, shadow: str, vector: str, params: JsonObject) -> None:
    """Write, write the same again, insert and delete points: each number moves when it must, and only then.

    Raises:
        NoVersionsError: one doesn't.
    """
    alias = own(work, shadow)
    value = _value(params)
    # The same each time: what a trial that was killed has left is removed by the next one.
    one, other, third = (str(uuid.uuid5(_TRIAL, f"{shadow} {number}")) for number in range(3))
    with _removed(work, alias, (one, other, third)):
        _write(work, alias, vector, {one: value, other: value})
        first = _seen(work, alias, vector, (one, other, third))
        _expect(first.keys() == {one, other}, "points that were written are not listed by version")
        _write(work, alias, vector, {one: value})
        again = _seen(work, alias, vector, (one, other, third))
        _expect(again.get(one, 0) > first[one], "a point that was written again, with the same value, kept its version")
        _expect(again.get(other) == first[other], "a point that was not written has another version")
        _write(work, alias, vector, {third: value})
        grown = _seen(work, alias, vector, (one, other, third))
        _expect(grown.keys() == {one, other, third}, "a point that was added is not listed by version")
        work.store.delete(alias, [third])
        shrunk = _seen(work, alias, vector, (one, other, third))
        _expect(shrunk == again, "adding and deleting a point changed the versions of others")
        _write(work, alias, vector, {third: value})
        back = _seen(work, alias, vector, (one, other, third))
        _expect(back.get(third, 0) > grown[third], "a point that was deleted and added again kept its version")


@contextmanager
def _removed(work: Work, alias: EpochAlias, ids: tuple[PointId, ...]) -> Iterator[None]:
    """These points are gone at the end."""
    try:
        yield
    finally:
        work.store.delete(alias, list(ids))


def _write(work: Work, alias: EpochAlias, vector: str, values: Mapping[PointId, Any]) -> None:
    for identifier, value in values.items():
        work.store.upsert(alias, [records.new_point(identifier, {vector: value})]).wait()


def _seen(work: Work, alias: EpochAlias, vector: str, ids: tuple[PointId, ...]) -> Numbers:
    """Their numbers: asked for by id, and among all where there are few, which must agree.

    Raises:
        NoVersionsError: they don't.
    """
    work.tick()
    barrier(work.store, alias)
    found = _numbers(work, alias, vector, ids)
    live = work.store.describe(alias)
    if live is not None and live.points < SMALL:
        whole = _numbers(work, alias, vector, None)
        _expect({one: whole[one] for one in ids if one in whole} == found, "listing by id and by slice differ")
    return found


def _numbers(work: Work, name: str, vector: str, ids: Any) -> Numbers:
    found: dict[PointId, int] = {}
    for page in work.store.versions(name, vector, ids=ids):
        found.update(zip(points_of(page.ids), page.numbers.tolist(), strict=True))
    return found


def _expect(holds: bool, otherwise: str) -> None:
    if not holds:
        raise NoVersionsError(otherwise)


def _value(params: JsonObject) -> Any:
    """Something that such a vector keeps, whatever its datatype."""
    row = [1.0] * int(params["size"])
    return [row] if params.get("multivector_config") else row
