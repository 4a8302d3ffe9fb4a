"""Search by a new vector next to search by an old one, on the same questions. It changes nothing."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from qmigrate.embed.inputs import ImageName
from qmigrate.embed.stream import Failure, embed_all
from qmigrate.engine.epoch_aliases import reach
from qmigrate.engine.points.transformation import is_model
from qmigrate.engine.work import Code, Tick, Work
from qmigrate.errors import EmbedError, UsageError, VerificationError
from qmigrate.evaluation import questions as made
from qmigrate.evaluation.comparison import OVERLAP, Answered, Rule, Sides, compared
from qmigrate.evaluation.questions import Question
from qmigrate.model.facts.comparison import Compared
from qmigrate.model.facts.stored import plain
from qmigrate.model.plan import Build
from qmigrate.model.schema import CollectionSchema
from qmigrate.model.transform import Payload, PointId
from qmigrate.operations.quality import Compare, KnownItem, Logged, SameValue
from qmigrate.operations.values import Embed
from qmigrate.ports import Embedder, Progress, Store
from qmigrate.rows import Query, Rows
from qmigrate.store import records
from qmigrate.text import quote

if TYPE_CHECKING:
    from qmigrate.settings.load import Settings

#: Points that are read for each question that is made of one: some have no such text, or share it.
_SPARE = 3
#: Points with one value, at most: what more of them share doesn't show that they belong together.
ALIKE = 20
#: Questions that are asked before the first one that is timed: caches are cold.
_WARM_UP = 5


@dataclass(frozen=True, slots=True)
class Side:
    """One of the two searches.

    Attributes:
        name: by which requests get to the collection.
        vector: that is searched by.
        size: of a dense one, or None.
        embedder: of the texts that ask; None where only vectors do.
        shown: the vector, for people.
    """

    name: str
    vector: str
    size: int | None
    embedder: Embedder | None
    shown: str


@dataclass(frozen=True, slots=True)
class Words:
    """How what a message asks for is written: in a revision, or as options of a verb.

    Attributes:
        before: the embedder of the questions for the old search.
        after: likewise for the new one.
        vectors: questions that need no embedder.
        overlap: the measure that needs no relevant points.
    """

    before: str = "old_embedder="
    after: str = "embedder="
    vectors: str = "SameValue(…)"
    overlap: str = 'measure="overlap"'


@dataclass(frozen=True, slots=True)
class Asking:
    """What comparing needs, whether a run does it or a verb.

    Attributes:
        alone: calls a function while no other code of the user's runs.
        words: how messages name what they ask for.
    """

    store: Store
    settings: Settings
    progress: Progress
    tick: Tick
    alone: Callable[[Callable[[], Any]], Any]
    words: Words = Words()


def compare(step: Build, work: Work, vector: str, gate: Compare, filling: Any) -> Compared | None:
    """Both searches on the same questions; None of a collection without a point, as in a fresh environment.

    Raises:
        UsageError: the questions can't be read, or there is nothing to compare with.
        VerificationError: the new search may not serve.
    """
    work.progress.begin(work.collection, "compare", None)
    if not work.store.count(reach(work, str(step.source))) and not work.store.count(step.target):
        work.progress.end("not compared: there is no point")
        return None
    before, after = sides_of(step, work, vector, gate, filling)

    def alone(call: Callable[[], Any]) -> Any:
        with work.code.turn.of(work, work.tick):
            return call()

    asking = Asking(work.store, work.settings, work.progress, work.tick, alone)
    found = ask(asking, before, after, gate)
    work.progress.end(found.reason)
    if not found.go:
        raise no_go(found, work.collection)
    # What the journal and the history keep has no text and no id of a point: an erasure couldn't take it back.
    return replace(found, misses=())


def no_go(found: Compared, collection: str) -> VerificationError:
    """The error of a search that may not serve."""
    return VerificationError(
        f"NO-GO for search by vector {found.vector!r} of {collection}: {found.reason}. "
        "The live collection was not touched",
        hint="qmigrate upgrade --json shows every figure and miss, --html FILE as a page; more or other questions: "
        f"change quality= in the revision, after qmigrate abort {quote(collection)}, which also drops the new model",
        facts={"compared": plain(found), "collection": collection},
    )


def sides_of(step: Build, work: Work, vector: str, gate: Compare, filling: Any) -> tuple[Side, Side]:
    """The old and the new search of a build.

    Raises:
        UsageError: which vector is the old one is open, or a model of the questions is not in the settings.
    """
    physical = str(step.source)
    source = work.store.describe(physical)
    assert source is not None  # noqa: S101  the caller read it
    old = old_vector(source.schema, vector, gate.old_vector)
    texts = not isinstance(gate.queries, SameValue)
    name = gate.embedder or (filling.embedder if isinstance(filling, Embed) else None)
    after = work.code.embedder(name) if texts and name is not None else None
    view = work.lease.ledger.view(work.collection)
    recorded = (view.embedders if view is not None else {}).get(old)
    before = model_of(work.code, work.settings.embedders, gate.old_embedder, recorded, first=name) if texts else None
    return (
        Side(reach(work, physical), old, size_of(source.schema, old), before, old),
        Side(step.target, vector, size_of(step.schema, vector), after, vector),
    )


def size_of(schema: CollectionSchema, vector: str) -> int | None:
    """How many values a dense vector or a row of it has."""
    return schema.vectors.get(vector, {}).get("size")


def old_vector(schema: CollectionSchema, new: str, wanted: str | None) -> str:
    """Which vector of the source is compared with.

    Raises:
        UsageError: there is no such one, or several.
    """
    names = sorted(schema.vector_names())
    chosen = wanted if wanted is not None else new if new in names else names[0] if len(names) == 1 else None
    if chosen is None or chosen not in names:
        what = "which vector is compared with is open" if chosen is None else f"there is no vector {chosen!r}"
        raise UsageError(
            f"{what}: the collection has {', '.join(map(repr, names)) or 'none'}",
            hint='name it: quality=Compare(…, old_vector="text")',
        )
    return chosen


def model_of(
    code: Code, configured: Mapping[str, Any], name: str | None, recorded: Any, *, first: str | None = None
) -> Embedder | None:
    """The model that a vector was filled by: the one that is named, else the one with the recorded fingerprint.

    Args:
        first: which one is tried first, where none is named.
    """
    if name is not None:
        return code.embedder(name)
    if recorded is None:
        return None
    for one in sorted(configured, key=lambda other: (other != first, other)):
        try:
            found = code.embedder(one)
            if is_model(found, recorded):
                return found
        except EmbedError:
            # One that can't be loaded here is not needed for this, perhaps.
            continue
    return None


def ask(asking: Asking, before: Side, after: Side, gate: Compare) -> Compared:
    """Ask all questions of both, and compare what they find.

    Raises:
        UsageError: there is no question, or none that can be decided by.
    """
    where = gate.queries if isinstance(gate.queries, str) else gate.queries.describe()
    found = _usable(_questions(asking, before, gate), gate, (where, asking.words))[: gate.count]
    vectors = [
        _vectors(asking, side, found, option)
        for side, option in ((before, asking.words.before), (after, asking.words.after))
    ]
    pairs = list(zip(*vectors, strict=True))
    asked = [(one, pair) for one, pair in zip(found, pairs, strict=True) if _both(pair)]
    if not asked:
        raise UsageError(f"none of the questions of {where} could be asked: nothing was embedded by both models")
    _each(asking, before, after, asked[:_WARM_UP], gate.k)
    answered = _each(asking, before, after, asked, gate.k)
    rule = Rule(gate.k, gate.measure, gate.at_least, gate.confidence)
    return compared(answered, rule, Sides(after.shown, before.shown, where), unanswered=len(found) - len(asked))


def check(work: Work, gate: Compare, before: Side, after: Side) -> None:
    """What can be known before anything is made: that a file can be read, and that both sides have a model of texts.

    Raises:
        UsageError: it is not so.
    """
    words = Words()
    if isinstance(gate.queries, str):
        asked = made.from_file(work.settings.folder / gate.queries, gate.by)
        found = _usable(asked, gate, (gate.queries, words))
        if all(item_of(one) is None for one in found):
            return
    if not isinstance(gate.queries, SameValue):
        _model(before, words.before, words)
        _model(after, words.after, words)


def _usable(found: list[Question], gate: Compare, said: tuple[str, Words]) -> list[Question]:
    """Those that say something: of a question that nothing is known of, both searches would seem to miss all.

    Args:
        said: where they come from, and how messages name what they ask for.
    """
    where, words = said
    if not found:
        raise UsageError(f"there is no question: {where} gives none")
    usable = found if gate.measure == OVERLAP else [one for one in found if one.relevant]
    if not usable:
        raise UsageError(
            f"{where} names no relevant point, so {gate.measure} can't be measured",
            hint='add "relevant" to the questions, or compare with what was found before: ' + words.overlap,
        )
    return usable


def _model(side: Side, option: str, words: Words) -> Embedder:
    if side.embedder is None:
        raise UsageError(
            f"the questions have to be embedded, and no embedder is known for vector {side.shown!r} of {side.name}",
            hint=f"name the one of the settings that makes vectors of the questions: {option}; or ask by vectors: "
            + words.vectors,
        )
    return side.embedder


def _both(pair: tuple[Any, Any]) -> bool:
    return all(one is not None for one in pair)


def _each(
    asking: Asking, before: Side, after: Side, asked: Sequence[tuple[Question, tuple[Any, Any]]], k: int
) -> list[Answered]:
    """One question at a time, as users ask: of each search its results, and how long it took."""
    answered = []
    for question, vectors in asked:
        results, took = [], []
        for side, vector in zip((before, after), vectors, strict=True):
            began = time.perf_counter()
            # A point finds itself: one more is asked for, and it is left out.
            more = k + (question.own is not None)
            best = asking.store.nearest(side.name, side.vector, [vector], limit=more, exact=False)[0]
            took.append(time.perf_counter() - began)
            results.append([one for one in best if one != question.own][:k])
        answered.append(Answered(question, results[0], results[1], (took[0], took[1])))
        asking.tick()
    return answered


def _vectors(asking: Asking, side: Side, questions: Sequence[Question], option: str) -> list[Any]:
    """What a search gets for each question; None where it can't be had.

    Args:
        option: by which its embedder is named.
    """
    items = [item for one in questions if (item := item_of(one)) is not None]
    embedded: Iterator[Any] = iter(())
    if items:
        embedder = _model(side, option, asking.words)
        made = asking.alone(lambda: embed_all(embedder, items, size=side.size))
        failed = next((one for one in made if isinstance(one, Failure)), None)
        if failed is not None and all(isinstance(one, Failure) for one in made):
            raise UsageError(
                f"no question could be embedded for vector {side.shown!r} of {side.name}: {failed.message}",
                hint=f"name another embedder of the settings: {option}",
            )
        embedded = iter(made)
    own = {one.own for one in questions if one.own is not None}
    stored = _stored(asking.store, side, sorted(own, key=records.order_key)) if own else {}
    found: list[Any] = []
    for one in questions:
        given = one.vector if one.own is None else stored.get(one.own)
        vector = next(embedded) if item_of(one) is not None else given
        fits = one.vector is None or side.size is None or len(one.vector) == side.size
        found.append(vector if fits and not isinstance(vector, Failure) else None)
    return found


def item_of(question: Question) -> Any:
    """What an embedder gets of a question: its text, or the name of its image; None where a vector asks."""
    return ImageName(question.image) if question.image is not None else question.text


def _stored(store: Store, side: Side, ids: Sequence[PointId]) -> dict[PointId, Any]:
    found = {}
    for stored in store.fetch(side.name, ids, payload=False):
        message = records.vector_messages(stored).get(side.vector)
        if message is not None:
            sparse = message.WhichOneof("vector") == "sparse"
            found[records.point_id(stored)] = records.vector_value(message) if sparse else records.array_of(message)
    return found


def _questions(asking: Asking, before: Side, gate: Compare) -> list[Question]:
    wanted = gate.queries
    if isinstance(wanted, str | Logged):
        return made_of(asking.settings, wanted, gate.by)
    fields = [wanted.field, *([gate.by] if gate.by else [])]
    points = list(_sampled(asking.store, before.name, gate.count * _SPARE, [one.split(".")[0] for one in fields]))
    if isinstance(wanted, SameValue):
        return made.alike(_groups(asking, before.name, points, wanted.field, gate), gate.by)
    make = made.known_items if isinstance(wanted, KnownItem) else made.sentences
    return make(points, wanted.field, gate.by)


def made_of(settings: Settings, wanted: str | Logged, by: str | None) -> list[Question]:
    """The questions of a file, or of a log.

    Raises:
        UsageError: they can't be read.
        RowsError: the query can't be used.
    """
    if isinstance(wanted, str):
        return made.from_file(settings.folder / wanted, by)
    # Which columns there have to be depends on what asks: a text or an image.
    query = Query(wanted.sql, "", (), wanted.parameters)
    with closing(Rows(settings.database(wanted.database), query, name=wanted.database)) as rows:
        return made.from_rows(rows.every(), by, f"the log in {wanted.database}")


def _sampled(store: Store, name: str, count: int, fields: Sequence[str]) -> Iterator[tuple[PointId, Payload]]:
    ids = store.sample_ids(name, count)
    for stored in store.fetch(name, ids, payload=fields, vectors=False) if ids else ():
        yield records.point_id(stored), records.payload_of(stored)


def _groups(
    asking: Asking, name: str, points: Sequence[tuple[PointId, Payload]], field: str, gate: Compare
) -> Iterator[Sequence[tuple[PointId, Payload]]]:
    """Points that share a value with one of those, as long as few do."""
    values = dict.fromkeys(one for _, payload in points if isinstance(one := payload.get(field), str | int))
    found = 0
    for value in values:
        where = {"must": [{"key": field, "match": {"value": value}}]}
        keys = [gate.by] if gate.by else False
        page = next(asking.store.scan(name, page=ALIKE + 1, payload=keys, vectors=False, where=where), ())
        if 1 < len(page) <= ALIKE:
            yield [(records.point_id(stored), records.payload_of(stored)) for stored in page]
            found += 1
        asking.tick()
        if found >= gate.count:
            return
