"""Search by a new vector before the name moves: the index against an exact search, and against what was before.

It changes nothing.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from qmigrate.embed.stream import Failure, embed_all
from qmigrate.engine.build.comparison import check, compare, sides_of
from qmigrate.engine.epoch_aliases import reach
from qmigrate.engine.work import Work
from qmigrate.errors import UsageError, VerificationError
from qmigrate.model.facts.phases import Quality, Searched
from qmigrate.model.facts.stored import plain
from qmigrate.model.plan import Build
from qmigrate.model.schema import CollectionSchema
from qmigrate.model.transform import PointId
from qmigrate.operations.quality import SAMPLE, Compare, Gate, Recall
from qmigrate.operations.values import Embed
from qmigrate.store import records
from qmigrate.text import quote

#: Points of a sample, for each that is needed: some may lose the vector or be deleted before it is read.
_SPARE = 2


def gates_of(step: Build, work: Work) -> list[tuple[str, Gate, Any]]:
    """Vector as it is called in the end, gate, and what fills it; of vectors that are there in the end."""
    source = work.store.describe(str(step.source))
    current: CollectionSchema | None = source.schema if source is not None else None
    found: dict[str, tuple[Gate, Any]] = {}
    for operation in work.operations(step.ops):
        if current is None:
            break
        transform = operation.transform(current)
        carried = {old: new for new, old in transform.vectors.items()}
        found = {carried[name]: gate for name, gate in found.items() if name in carried}
        values = operation.filled()
        found.update({name: (gate, values.get(name)) for name, gate in operation.gates().items()})
        current = operation.apply(current)
    return [(name, gate, value) for name, (gate, value) in found.items() if name in step.schema.vector_names()]


def check_gates(step: Build, work: Work) -> None:
    """What of the gates can be known before anything is made.

    Raises:
        UsageError: questions can't be read, or there is nothing to compare with.
    """
    for vector, gate, filling in gates_of(step, work):
        if isinstance(gate, Compare):
            check(work, gate, *sides_of(step, work, vector, gate, filling))


def measured(step: Build, work: Work, gates: Sequence[tuple[str, Gate, Any]]) -> Quality:
    """Every gate of a build.

    Raises:
        UsageError: questions can't be read, or there is nothing to compare with.
        VerificationError: one of them is not passed.
    """
    searched, compared = [], []
    for vector, gate, filling in gates:
        if isinstance(gate, Compare):
            found = compare(step, work, vector, gate, filling)
            compared += [found] if found is not None else []
        else:
            searched.append(measure_quality(step, work, vector, gate, filling))
    return Quality(tuple(searched), tuple(compared) or None)


def measure_quality(step: Build, work: Work, vector: str, gate: Recall, filling: Any) -> Searched:
    """Recall of the index, and how many of the results are those from before.

    Raises:
        UsageError: the file of queries can't be read.
        VerificationError: the index finds too little.
    """
    facts = Searched(vector, gate.k, gate.at_least, None, None)
    if work.store.capabilities.local:
        return replace(facts, why="local mode has no index: every search is exact")
    work.progress.begin(work.collection, "search", None)
    ids, queries = _queries(step, work, vector, gate, filling)
    if not queries:
        return replace(facts, why="there is no query: no point has the vector")
    # A point finds itself: one more is asked for, and it is left out.
    more = gate.k + (1 if ids else 0)
    found = work.store.nearest(step.target, vector, queries, limit=more, exact=False, ef=gate.hnsw_ef)
    exact = work.store.nearest(step.target, vector, queries, limit=more, exact=True)
    before = _before(step, work, vector, ids, more)
    recall = _shared(exact, found, ids, gate.k)
    if recall is None:
        why = "there is nothing to be found: no other point has the vector"
        return replace(facts, queries=len(queries), why=why)
    overlap = _shared(before, exact, ids, gate.k) if before is not None else None
    work.progress.end(f"recall@{gate.k} {recall:.3f}")
    facts = replace(facts, recall=round(recall, 4), overlap=None if overlap is None else round(overlap, 4))
    if recall < gate.at_least:
        raise VerificationError(
            f"search in {step.target} by vector {vector!r} finds {recall:.3f} of what an exact search finds, but at "
            f"least {gate.at_least:.4g} is needed (k={gate.k}, {len(queries):,} queries). The live collection was not "
            "touched",
            hint=f"give {step.target} a larger hnsw_config (m, ef_construct) and run qmigrate upgrade again: it is "
            f"measured again and continues; or qmigrate abort {quote(work.collection)}",
            facts={"quality": plain(facts)},
        )
    return replace(facts, queries=len(queries))


def _queries(
    step: Build, work: Work, vector: str, gate: Recall, filling: Any
) -> tuple[list[PointId], list[Sequence[float]]]:
    """Queries, with the ids of the points that they are of; none for those of a file."""
    if gate.queries != SAMPLE:
        return [], _from_file(step, work, vector, gate.queries, filling)
    wanted = work.store.sample_ids(step.target, gate.count * _SPARE, having=vector)
    vectors = _vectors(work, step.target, vector, wanted)
    ids = [identifier for identifier in wanted if identifier in vectors][: gate.count]
    return ids, [vectors[identifier] for identifier in ids]


def _vectors(work: Work, physical: str, vector: str, ids: Sequence[PointId]) -> Mapping[PointId, Any]:
    found = {}
    for stored in work.store.fetch(reach(work, physical), ids, payload=False) if ids else ():
        message = records.vector_messages(stored).get(vector)
        if message is not None:
            found[records.point_id(stored)] = records.array_of(message)
    return found


def _before(
    step: Build, work: Work, vector: str, ids: Sequence[PointId], limit: int
) -> list[list[PointId]] | None:
    """What the same points found in the old generation by their vector of that name."""
    source = str(step.source)
    old = _vectors(work, source, vector, ids)
    if not ids or len(old) < len(ids):
        return None
    queries = [old[identifier] for identifier in ids]
    if any(np.ndim(one) != 1 for one in queries):
        return None
    return work.store.nearest(reach(work, source), vector, queries, limit=limit, exact=True)


def _from_file(step: Build, work: Work, vector: str, name: str, filling: Any) -> list[Sequence[float]]:
    """Vectors of a file of JSON Lines; its texts are embedded."""
    path = work.settings.folder / name
    size = step.schema.vectors[vector].get("size")
    lines: list[Any] = []
    try:
        with path.open(encoding="utf-8-sig") as file:
            for number, line in enumerate(file, start=1):
                if line.strip():
                    lines.append(_query(json.loads(line), f"line {number:,} of {path.name}", size))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise UsageError(f"the queries of vector {vector!r} can't be read from {path}: {error}") from error
    texts = [one for one in lines if isinstance(one, str)]
    if texts and not isinstance(filling, Embed):
        raise UsageError(
            f"{path.name} holds texts, and vector {vector!r} has no embedder",
            hint="write the queries as lists of numbers",
        )
    with work.code.turn.of(work, work.tick):
        made = iter(embed_all(work.code.embedder(filling.embedder), texts, size=size) if texts else ())
    found: list[Any] = [next(made) if isinstance(one, str) else one for one in lines]
    for one in found:
        if isinstance(one, Failure):
            raise UsageError(f"a query of {path.name} can't be embedded: {one.message}")
    return found


def _query(value: Any, where: str, size: Any) -> Any:
    """A list of numbers of the right length, or a text.

    Raises:
        UsageError: it is neither.
    """
    if isinstance(value, Mapping) and len(value) == 1:
        value = next(iter(value.values()))
    if isinstance(value, str) and value.strip():
        return value
    numbers = isinstance(value, list) and all(isinstance(one, int | float) for one in value)
    if not numbers or (size is not None and len(value) != size):
        raise UsageError(f"{where} is neither a string nor a list of {size} numbers")
    return value


def _shared(
    wanted: Sequence[Sequence[PointId]], found: Sequence[Sequence[PointId]], ids: Sequence[PointId], k: int
) -> float | None:
    """How many of the first `k` of one search are among those of the other, on average; a point itself is left out.

    None where the first search finds nothing: then nothing is known of the other one.
    """
    shares = []
    for place, (one, other) in enumerate(zip(wanted, found, strict=True)):
        own = ids[place] if ids else None
        best = [identifier for identifier in one if identifier != own][:k]
        there = {identifier for identifier in other if identifier != own}
        if best:
            shares.append(len(there.intersection(best)) / len(best))
    return sum(shares) / len(shares) if shares else None
