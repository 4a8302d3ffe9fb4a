"""try-models: embedders on a sample of a collection, before any is chosen. It searches here, and writes nothing."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from qmigrate.commands.session import Session, session
from qmigrate.embed import price_of, together_of
from qmigrate.embed.stream import Failure, embed_all
from qmigrate.engine.build.comparison import ALIKE, item_of, made_of
from qmigrate.engine.points.embed_input import embed_input
from qmigrate.errors import UsageError
from qmigrate.evaluation import questions as made
from qmigrate.evaluation.comparison import Answered, Rule, Sides, compared
from qmigrate.evaluation.exact import Searched, searched
from qmigrate.evaluation.questions import Question
from qmigrate.model.facts.comparison import Compared, SearchFigures
from qmigrate.model.inference import ServerText
from qmigrate.model.names import unknown
from qmigrate.model.plan import EmbeddingCost
from qmigrate.model.transform import Payload, PointId
from qmigrate.observe import known_names
from qmigrate.operations.quality import KnownItem, Logged, Queries, SameValue, Sentence
from qmigrate.operations.values import Embed
from qmigrate.planner.estimate import cost_of
from qmigrate.ports import CountsTokens, Embedder, Progress
from qmigrate.settings.load import Settings
from qmigrate.store import records

#: Items that are embedded before the clock starts: a model is loaded and warmed up by its first batch.
_WARM_UP = 8


@dataclass(frozen=True, slots=True)
class TryWanted:
    """What is tried.

    Attributes:
        embedders: names of the settings; the first one is what the others are compared with.
        queries: where the questions come from; those about points outside of the sample are left out.
        text: what is embedded of a payload, as in ``Embed``; None with `image`.
        image: likewise.
        sample: points at random.
        k: results that count.
        at_least: share of the first one's nDCG that another one has to reach.
        by: what the questions are grouped by, as in ``Compare``.
    """

    embedders: tuple[str, ...]
    queries: Queries
    text: str | None = None
    image: str | None = None
    sample: int = 2000
    k: int = 10
    at_least: float = 0.98
    by: str | None = None


@dataclass(frozen=True, slots=True)
class TriedModel:
    """One embedder on the sample.

    Attributes:
        size: of its vectors; of sparse ones the values of one on average.
        bytes_per_point: of a vector as float32; of sparse ones and of rows on average.
        items_per_second: on this machine, without the first items.
        seconds: for the whole collection, at that speed.
        cost: of the whole collection.
        failed: items of the sample that have no vector.
        figures: of exact search in the sample.
        compared: with the first one; None for that itself.
    """

    embedder: str
    size: int
    bytes_per_point: int
    items_per_second: float
    seconds: float
    cost: EmbeddingCost
    failed: int
    figures: SearchFigures
    compared: Compared | None


@dataclass(frozen=True, slots=True)
class TriedModels:
    """What they did.

    Attributes:
        points: of the collection.
        sampled: of them.
        questions: that were asked.
    """

    collection: str
    points: int
    sampled: int
    questions: int
    models: tuple[TriedModel, ...]


@dataclass(frozen=True, slots=True)
class _Ranking:
    """What one model found: ids per question, and seconds of each."""

    results: Sequence[Sequence[PointId]]
    took: Sequence[float]


@dataclass(frozen=True, slots=True)
class _Sample:
    """What every model gets."""

    ids: Sequence[PointId]
    items: Sequence[Any]
    questions: Sequence[Question]


def try_models(
    settings: Settings | None, collection: str, wanted: TryWanted, *, progress: Progress | None = None
) -> TriedModels:
    """Embed a sample by each embedder, ask the same questions of each, and measure quality, speed, room and money.

    Raises:
        UsageError: nothing to embed is named, there is no question about the sample, or vectors are not dense.
        EmbedError: an embedder can't be loaded.
    """
    settings = settings or Settings.load()
    if not wanted.embedders:
        raise UsageError("no embedder is named", hint="--embedder NAME, once for each")
    filling = Embed(wanted.embedders[0], text=wanted.text, image=wanted.image)
    with session(settings, writes=False, progress=progress, partial=True, readable=True) as opened:
        if opened.store.describe(collection) is None:
            raise unknown("collection", collection, known_names(opened.ledger, opened.store))
        sample = _sample(opened, collection, wanted, filling)
        points = opened.store.count(collection)
        configured = opened.settings.for_collection(collection).embedders
        found: list[tuple[TriedModel, _Ranking]] = []
        for name in wanted.embedders:
            opened.progress.begin(collection, f"try {name}", None)
            embedder = opened.embedder(name, configured)
            with opened.turn.of(opened):
                found.append(_tried(embedder, name, sample, wanted, (points, configured.get(name, {})), found))
            opened.progress.end(f"{found[-1][0].items_per_second:,.0f} items/s")
    models = tuple(model for model, _ in found)
    return TriedModels(collection, points, len(sample.ids), len(sample.questions), models)


def _sample(opened: Session, collection: str, wanted: TryWanted, filling: Embed) -> _Sample:
    ids = opened.store.sample_ids(collection, wanted.sample)
    points = [
        (records.point_id(one), records.payload_of(one)) for one in opened.store.fetch(collection, ids, vectors=False)
    ]
    inputs = [(identifier, embed_input(filling, payload)) for identifier, payload in points]
    usable = [(identifier, item) for identifier, item in inputs if item is not None and not isinstance(item, Failure)]
    there = {identifier for identifier, _ in usable}
    questions = [
        one
        for one in _questions(opened, wanted, points)
        if (item_of(one) is not None or one.own in there) and any(identifier in there for identifier in one.relevant)
    ]
    if not questions:
        raise UsageError("there is no question about any of the sampled points", hint="take a larger --sample")
    return _Sample([one for one, _ in usable], [item for _, item in usable], questions)


def _questions(
    opened: Session, wanted: TryWanted, points: Sequence[tuple[PointId, Payload]]
) -> list[Question]:
    queries, by = wanted.queries, wanted.by
    if isinstance(queries, KnownItem):
        return made.known_items(points, queries.field, by)
    if isinstance(queries, Sentence):
        return made.sentences(points, queries.field, by)
    if isinstance(queries, SameValue):
        groups: dict[str | int, list[tuple[PointId, Payload]]] = {}
        for identifier, payload in points:
            value = payload.get(queries.field)
            if isinstance(value, str | int):
                groups.setdefault(value, []).append((identifier, payload))
        return made.alike([one for one in groups.values() if len(one) <= ALIKE], by)
    assert isinstance(queries, str | Logged)  # noqa: S101  there are no others
    return made_of(opened.settings, queries, by)


def _tried(
    embedder: Embedder,
    name: str,
    sample: _Sample,
    wanted: TryWanted,
    whole: tuple[int, Mapping[str, Any]],
    before: Sequence[tuple[TriedModel, _Ranking]],
) -> tuple[TriedModel, _Ranking]:
    points, config = whole
    embed_all(embedder, sample.items[:_WARM_UP], size=None)
    began = time.perf_counter()
    vectors = embed_all(embedder, sample.items, size=None)
    speed = len(sample.items) / max(time.perf_counter() - began, 1e-9)
    asked = _asked(embedder, sample, vectors)
    # Words without their rarity would rank by the commonest ones.
    ranking, index, failed = _ranked(name, sample, vectors, asked, (wanted.k, config.get("type") == "bm25"))
    first = before[0][1] if before else ranking
    rule = Rule(wanted.k, "ndcg", wanted.at_least, 0.95)
    pairs = zip(sample.questions, first.results, ranking.results, first.took, ranking.took, strict=True)
    answered = [Answered(one, old, new, (slow, fast)) for one, old, new, slow, fast in pairs]
    found = compared(answered, rule, Sides(name, wanted.embedders[0], "the same questions"))
    texts = [one for one in sample.items if type(one) is str]
    counted = embedder.count_tokens(texts) if isinstance(embedder, CountsTokens) and texts else None
    model = TriedModel(
        embedder=name,
        size=index.size,
        bytes_per_point=index.bytes,
        items_per_second=round(speed, 1),
        seconds=round(points / speed, 1),
        cost=cost_of(name, points, counted, price_of(config), together_of(config)),
        failed=failed,
        figures=found.total.after,
        compared=found if before else None,
    )
    return model, ranking


def _asked(embedder: Embedder, sample: _Sample, vectors: Sequence[Any]) -> list[Any]:
    """What each question searches by: its text or image embedded, or the vector of the point that asks."""
    items = [item for one in sample.questions if (item := item_of(one)) is not None]
    embedded = iter(embed_all(embedder, items, size=None) if items else ())
    own = dict(zip(sample.ids, vectors, strict=True))
    return [own[one.own] if one.own is not None else next(embedded) for one in sample.questions]


def _ranked(
    name: str, sample: _Sample, vectors: Sequence[Any], asked: Sequence[Any], how: tuple[int, bool]
) -> tuple[_Ranking, Searched, int]:
    """Exact search; a question that can't be embedded finds nothing, and neither does one that is near to nothing.

    Args:
        how: results that count, and whether sparse values are weighed by how rare they are.
    """
    k, idf = how
    kept = [(one, vector) for one, vector in zip(sample.ids, vectors, strict=True) if not isinstance(vector, Failure)]
    if not kept:
        raise UsageError(f"embedder {name!r} made no vector of the sample: {vectors[0].message}")
    if any(isinstance(vector, ServerText) for _, vector in kept):
        raise UsageError(
            f"embedder {name!r} leaves it to the server to make vectors while points are written, and nothing is "
            "written when models are tried",
            hint="add it as a vector of its own, with a gate: quality=Compare(…)",
        )
    try:
        index = searched([vector for _, vector in kept], idf=idf)
    except ValueError as error:
        raise UsageError(f"embedder {name!r} {error}") from error
    results: list[Sequence[PointId]] = []
    took = []
    for question, one in zip(sample.questions, asked, strict=True):
        began = time.perf_counter()
        if isinstance(one, Failure):
            results.append(())
        else:
            scores = index.score(one)
            # A point finds itself.
            order = np.argsort(-scores, kind="stable")[: k + 1].tolist()
            # By words a search finds only what has one of them.
            near = [place for place in order if scores[place] > 0] if isinstance(one, dict) else order
            best = [kept[place][0] for place in near]
            results.append([identifier for identifier in best if identifier != question.own][:k])
        took.append(time.perf_counter() - began)
    return _Ranking(results, took), index, len(vectors) - len(kept)
