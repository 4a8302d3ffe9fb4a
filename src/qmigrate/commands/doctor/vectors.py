"""Whether the vectors of collections are sound: by their numbers, by their models, and by searching. It only reads."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np

from qmigrate.commands.doctor.deployment import Deployment, some
from qmigrate.commands.results import Check
from qmigrate.embed.stream import Failure
from qmigrate.engine.points.checksums import (
    Checksums,
    digests_of_vector,
    embed_alone,
    recorded_digest,
    shows,
    vectors_as_returned,
)
from qmigrate.engine.points.embed_input import embed_input
from qmigrate.engine.points.transformation import is_model
from qmigrate.engine.work import OneAtATime
from qmigrate.errors import EmbedError, QmigrateError
from qmigrate.evaluation.measures import overlap
from qmigrate.evaluation.soundness import NAMED, Odd, Soundness
from qmigrate.model.facts.soundness import VectorFinding, VectorHealth
from qmigrate.model.facts.stored import plain
from qmigrate.model.inference import ServerText
from qmigrate.model.names import unknown
from qmigrate.model.state import LiveCollection
from qmigrate.model.transform import Payload, PointId
from qmigrate.operations.values import Embed
from qmigrate.operations.vector import RenameVector
from qmigrate.ports import CountsTokens, Embedder, Stored
from qmigrate.sequences import in_parts
from qmigrate.settings.load import Settings
from qmigrate.store import records
from qmigrate.text import counted, quote

#: Points of a sample, and of one page; points that are embedded again, and that search is measured with.
SAMPLE, _PAGE, _EMBEDDED, _SEARCHED = 2000, 500, 64, 50
#: A model gives the same vector again but for its arithmetic; below this it had another text, or was another model.
_SAME, _FOREIGN = 0.98, 0.3
#: What recall should be, how many results count, and by which ef it is tried.
_RECALL, _K, _EFS = 0.99, 10, (128, 256, 512, 1024, 2048)


@dataclass(frozen=True, slots=True)
class VectorsWanted:
    """What of the vectors is examined.

    Attributes:
        collections: logical names; empty for every one that is under management, or that nothing manages.
        every: all points, not a sample.
    """

    collections: tuple[str, ...] = ()
    every: bool = False


@dataclass(frozen=True, slots=True)
class _Context:
    """What :class:`Checksums` needs."""

    settings: Settings
    code: Any


@dataclass(slots=True)
class _Inputs:
    """What was seen of the inputs of one vector that an embedder fills.

    Attributes:
        checked: points whose input was compared with SQL; `other`: those that it is another one of.
        reason: of the first of them.
        texts: that were counted; `cut`: those that are longer than the model reads.
        longest: tokens of the longest one.
        failed: why nothing more of them is known, or None.
    """

    checked: int = 0
    other: Odd = field(default_factory=Odd)
    reason: str = ""
    texts: int = 0
    cut: Odd = field(default_factory=Odd)
    longest: int = 0
    failed: str | None = None


@dataclass(frozen=True, slots=True)
class _Again:
    """Points that were embedded again.

    Attributes:
        points: with their inputs, and what the model makes of them now, as it returns it; no failures.
    """

    points: Sequence[tuple[Stored, Any, Any]]

    def ids(self) -> list[PointId]:
        """Of all of them."""
        return [records.point_id(stored) for stored, _, _ in self.points]


def checks(patient: Deployment, wanted: VectorsWanted) -> Iterator[Check]:
    """The findings about every collection that is meant, as checks; see :func:`health`."""
    for name in wanted.collections or tuple(sorted(_served(patient))):
        found = health(patient, name, every=wanted.every)
        for one in found.findings:
            facts = {"finding": plain(one)}
            yield Check(f"vector {one.vector!r} of {name}", None, one.detail, one.command, warns=True, facts=facts)
        for note in found.notes:
            yield Check(f"vectors of {name}", None, note)
        if not found.findings:
            seen = f"{counted(found.seen, 'point')} of {found.points:,} seen, nothing odd"
            yield Check(f"vectors of {name}", True, seen, facts={"health": plain(replace(found, findings=()))})


def _served(patient: Deployment) -> Mapping[str, LiveCollection]:
    """Logical name -> what serves it, of managed and plain collections."""
    states = patient.world().collections.items()
    return {name: state.live for name, state in states if state.live is not None}


def health(patient: Deployment, name: str, *, every: bool = False) -> VectorHealth:
    """Everything that is odd about the vectors of one collection.

    Args:
        every: read all points, not a sample of them.

    Raises:
        UsageError: there is no such collection.
    """
    live = _served(patient).get(name) or patient.store().describe(name)
    if live is None:
        raise unknown("collection", name, _served(patient))
    examined = _Examined(patient, name, live)
    for page in examined.pages(every=every):
        examined.look(page)
    findings = [*examined.by_numbers(), *examined.missing(), *examined.by_models(), *examined.by_searching()]
    return VectorHealth(name, examined.total, examined.count, tuple(findings), tuple(examined.notes))


class _Examined:
    """One collection, and what was seen of it."""

    def __init__(self, patient: Deployment, name: str, live: LiveCollection) -> None:
        self._patient, self._name, self._live = patient, name, live
        self._store = patient.store()
        self._settings = patient.settings.for_collection(name)
        self.total = self._store.count(name)
        self.count = 0
        self.notes: list[str] = []
        self._seen = {vector: Soundness() for vector in live.schema.vectors}
        self._some: list[Stored] = []
        self._filled = fillings(patient, name)
        self._models: dict[str, Embedder] = {}
        self._inputs = {vector: _Inputs() for vector in self._filled if vector in live.schema.vector_names()}
        #: For :class:`Checksums`: one examination is one caller.
        self.turn = OneAtATime()
        self._checksums = Checksums(_Context(self._settings, self))

    def pages(self, *, every: bool) -> Iterator[Sequence[Stored]]:
        """Points of a sample, or all."""
        if every:
            yield from self._store.scan(self._name, page=_PAGE)
            return
        ids = self._store.sample_ids(self._name, SAMPLE)
        for part in in_parts(ids, _PAGE):
            yield self._store.fetch(self._name, part)

    def look(self, page: Sequence[Stored]) -> None:
        """See some points."""
        self.count += len(page)
        self._some += page[: max(0, _EMBEDDED - len(self._some))]
        for vector, seen in self._seen.items():
            rows, ids, payloads = [], [], []
            for stored in page:
                message = records.vector_messages(stored).get(vector)
                array = records.array_of(message) if message is not None else None
                if array is None or array.ndim != 1:
                    # A multivector has rows of its own, of which each may be as it likes.
                    continue
                rows.append(array)
                ids.append(records.point_id(stored))
                payloads.append(records.payload_digest(stored))
            if rows:
                seen.add(ids, np.stack(rows), payloads)
        for vector, inputs in self._inputs.items():
            if inputs.failed is None:
                try:
                    self._read(vector, inputs, page)
                except QmigrateError as error:
                    inputs.failed = error.message

    def _read(self, vector: str, inputs: _Inputs, page: Sequence[Stored]) -> None:
        """The inputs of a page, next to SQL's checksums and to what the model reads of a text."""
        filling = self._filled[vector]
        usable = _usable(vector, filling, page)
        ids, items = [records.point_id(one) for one, _ in usable], [item for _, item in usable]
        if filling.checksum is not None and not _of_vectors(filling):
            payload_of = partial(_payload_at, [one for one, _ in usable])
            checked = self._checksums.checked(filling, ids, payload_of, items)
            failures = {one: made for one, made in zip(ids, checked, strict=True) if isinstance(made, Failure)}
            inputs.checked += len(ids)
            inputs.other.add(list(failures))
            inputs.reason = inputs.reason or next((made.message for made in failures.values()), "")
        texts = [(one, item) for one, item in zip(ids, items, strict=True) if type(item) is str]
        if not texts:
            return
        embedder = self._embedder(filling.embedder)
        if not isinstance(embedder, CountsTokens):
            return
        tokens, most = embedder.count_tokens([text for _, text in texts]), embedder.max_tokens
        if tokens is None or most is None:
            return
        inputs.texts += len(texts)
        inputs.longest = max(inputs.longest, *tokens)
        inputs.cut.add([one for (one, _), number in zip(texts, tokens, strict=True) if number > most])

    def by_numbers(self) -> Iterator[VectorFinding]:
        """What the numbers alone show."""
        for vector, seen in self._seen.items():
            again = self._again(vector)
            for kind, odd, what in (
                ("zero", seen.zero, "all zeros: without a direction no search finds them"),
                ("nan", seen.not_a_number, "not a number in some place: every comparison with them fails"),
                ("infinite", seen.infinite, "infinite in some place: every distance to them is the same"),
            ):
                if odd.points:
                    yield self._finding(vector, kind, odd, f"{self._of(odd)} {what}", again)
            odd, normalised = seen.off_the_rule, self._live.schema.vectors[vector].get("distance") == "Cosine"
            if odd.points and not normalised and seen.lengths is not None:
                ends = "lengths from {:.3g} to {:.3g}".format(*seen.lengths)
                what = f"{self._of(odd)} not of length 1, as the others are ({ends}); the distance doesn't normalise"
                yield self._finding(vector, "unnormalised", odd, what, again)
            if seen.constant:
                named = some([str(one) for one in seen.constant])
                every = Odd(seen.vectors, seen.first(NAMED))
                what = f"{counted(len(seen.constant), 'dimension')} with the same value in every point: {named}"
                yield self._finding(vector, "constant", every, what, again, suspicion=True)
            if seen.copies.points:
                what = f"{self._of(seen.copies)} they have exactly the vector of another point with another payload"
                other = seen.copies.ids[-1]
                delete = f"qmigrate fix delete {quote(self._name)} --id {quote(str(other))} --reason 'a copy'"
                command = f"check which one is right; the others go by: {delete}"
                yield self._finding(vector, "copies", seen.copies, what, command, suspicion=True)
            yield from self._mixture(vector, seen, again)

    def _mixture(self, vector: str, seen: Soundness, again: str) -> Iterator[VectorFinding]:
        found = seen.mixture()
        if found is None:
            return
        what = (
            f"it looks as if two models had made them: {found.share:.1%} of the vectors have {found.purity:.1%} of "
            f"their neighbours among themselves, the centres of the two kinds are {found.centres:.2f} alike (cosine), "
            f"and their large dimensions {found.profiles:.2f} (correlation). It may also be two kinds of points"
        )
        odd = Odd(round(found.share * seen.vectors), list(found.ids))
        yield self._finding(vector, "mixed", odd, what, again, suspicion=True)

    def missing(self) -> Iterator[VectorFinding]:
        """Points that lack a vector, of all."""
        for vector in sorted(self._live.schema.vector_names()):
            lacking = self._store.count(self._name, without_vector=vector)
            if not lacking:
                continue
            where = {"must_not": [{"has_vector": vector}]}
            page = next(self._store.scan(self._name, page=NAMED, payload=False, vectors=False, where=where), ())
            ids = [records.point_id(one) for one in page][:NAMED]
            what = f"{counted(lacking, 'point')} of {self.total:,} have no such vector"
            command = f"qmigrate fix quarantine {quote(self._name)} --retry, where they could not be embedded; else "
            yield self._finding(vector, "missing", Odd(lacking, ids), what, command + self._again(vector))

    def by_models(self) -> Iterator[VectorFinding]:
        """What comparing with the recorded model shows: vectors of something else, texts that are cut off."""
        for vector, inputs in self._inputs.items():
            filling = self._filled[vector]
            yield from self._of_inputs(vector, filling, inputs)
            try:
                yield from self._by_model(vector, filling)
            except QmigrateError as error:
                self.notes.append(f"vector {vector!r} is not compared with its model: {error.message}")

    def _of_inputs(self, vector: str, filling: Embed, inputs: _Inputs) -> Iterator[VectorFinding]:
        if inputs.failed is not None:
            self.notes.append(f"what vector {vector!r} was made of is not examined: {inputs.failed}")
        if inputs.other.points:
            seen = f"{inputs.other.points:,} of {counted(inputs.checked, 'point')} that were compared"
            what = f"{seen}: not what SQL has: {inputs.reason}"
            yield self._finding(vector, "checksum", inputs.other, what, self._again(vector))
        if inputs.cut.points:
            most = getattr(self._embedder(filling.embedder), "max_tokens", None)
            what = (
                f"{inputs.cut.points:,} of {counted(inputs.texts, 'text')} are longer than the {most:,} tokens that "
                f"the model reads (up to {inputs.longest:,}): what is behind them is not in the vector"
            )
            command = "embed parts of the texts as points of their own, or take a model that reads more"
            yield self._finding(vector, "truncated", inputs.cut, what, command)

    def _by_model(self, vector: str, filling: Embed) -> Iterator[VectorFinding]:
        embedder = self._embedder(filling.embedder)
        recorded = self._recorded().get(vector)
        if recorded is not None and not is_model(embedder, recorded):
            self.notes.append(
                f"vector {vector!r} was filled by another model than embedder {filling.embedder!r} is now, so it isn't "
                "embedded again to be compared"
            )
            return
        again = self._made_again(vector, filling)
        if _of_vectors(filling):
            yield from self._by_vector_checksum(vector, filling, again)
        stale, foreign = Odd(), Odd()
        worst = 1.0
        for stored, _, fresh in again.points:
            message = records.vector_messages(stored)[vector]
            if isinstance(fresh, Mapping | ServerText) or message.WhichOneof("vector") == "sparse":
                continue
            alike = _alike(records.array_of(message), fresh)
            worst = min(worst, alike)
            if alike < _SAME:
                (foreign if alike < _FOREIGN else stale).add([records.point_id(stored)])
        command = self._again(vector)
        seen = f"of {counted(len(again.points), 'point')} that were embedded again by {filling.embedder}"
        if foreign.points:
            what = f"{foreign.points:,} {seen} have nothing to do with it (cosine down to {worst:.2f}): another model's"
            yield self._finding(vector, "other-model", foreign, what, command)
        if stale.points:
            what = f"{stale.points:,} {seen} are of another text (cosine below {_SAME}): it changed after the embedding"
            yield self._finding(vector, "stale", stale, what, command)

    def _made_again(self, vector: str, filling: Embed) -> _Again:
        usable = _usable(vector, filling, self._some)
        made = vectors_as_returned(self._embedder(filling.embedder), [item for _, item in usable])
        triples = zip(usable, made, strict=True)
        return _Again([(*one, fresh) for one, fresh in triples if not isinstance(fresh, EmbedError)])

    def _by_vector_checksum(self, vector: str, filling: Embed, again: _Again) -> Iterator[VectorFinding]:
        """SQL's checksums of vectors, next to what is stored and to what the model that they are of makes again."""
        wanted = filling.checksum
        assert wanted is not None  # noqa: S101  the caller looked
        name, own = wanted.embedder or filling.embedder, wanted.embedder in (None, filling.embedder)
        embedder, known = self._embedder(name), self._checksums.known(wanted, again.ids())
        items = [item for _, item, _ in again.points]
        made = [fresh for _, _, fresh in again.points] if own else vectors_as_returned(embedder, items)
        as_stored, by_model, neither = 0, 0, Odd()
        for (stored, item, _), fresh in zip(again.points, made, strict=True):
            expected = recorded_digest(known.get(records.point_id(stored)), wanted.algorithm)
            if expected is None:
                continue
            row = records.array_of(records.vector_messages(stored)[vector]) if own else None
            if expected in digests_of_vector(row, wanted.algorithm):
                as_stored += 1
            elif shows(expected, fresh, wanted.algorithm, partial(embed_alone, embedder, item)):
                by_model += 1
            else:
                neither.add([records.point_id(stored)])
        proven, whole = as_stored + by_model, as_stored + by_model + neither.points
        where = f"{wanted.column} in {wanted.database}"
        shown = f"{as_stored:,} as stored, {by_model:,} embedded by {name} again"
        if not whole:
            self.notes.append(f"vector {vector!r}: there is no valid {where} of the points that were seen")
        elif proven >= neither.points:
            self.notes.append(f"vector {vector!r}: {proven:,} of {whole:,} have their {where}: {shown}")
            if neither.points:
                what = (
                    f"{neither.points:,} of {counted(whole, 'point')}: neither the stored vector nor what {name} "
                    f"makes of its input again has its {where}, and the others have it ({shown})"
                )
                yield self._finding(vector, "checksum", neither, what, self._again(vector), suspicion=True)
        else:
            self.notes.append(
                f"vector {vector!r}: {neither.points:,} of {whole:,} can't be proven by their {where}: {name} returns "
                "other numbers here. Another device, library or batch changes the last digits as well as another input "
                "does, and a stored cosine vector is normalised"
            )

    def embedder(self, name: str) -> Embedder:
        """For :class:`Checksums`."""
        return self._embedder(name)

    def by_searching(self) -> Iterator[VectorFinding]:
        """Whether the index finds what an exact search finds, and by which ef it would."""
        if self._store.capabilities.local:
            self.notes.append("local mode has no index: every search is exact")
            return
        for vector, params in self._live.schema.vectors.items():
            if params.get("multivector_config"):
                continue
            usable = [one for one in self._some if _searchable(records.vector_messages(one).get(vector))]
            queries = [records.array_of(records.vector_messages(one)[vector]) for one in usable][:_SEARCHED]
            if not queries:
                continue
            exact = self._nearest(vector, queries, None, exact=True)
            found = self._nearest(vector, queries, None, exact=False)
            recall, lacking = _recall(exact, found), Odd()
            if recall >= _RECALL:
                continue
            asked = zip(usable, exact, found, strict=False)
            lacking.add([records.point_id(one) for one, best, got in asked if overlap(best, got, _K) < 1])
            enough = next(
                (ef for ef in _EFS if _recall(exact, self._nearest(vector, queries, ef, exact=False)) >= _RECALL), None
            )
            way = f"hnsw_ef={enough} in the search gives it" if enough else f"no hnsw_ef up to {_EFS[-1]:,} gives it"
            what = (
                f"the index finds {recall:.3f} of what an exact search finds (k={_K}), by the vectors of "
                f"{len(queries):,} points, of which {lacking.points:,} miss something; for {_RECALL} {way}"
            )
            command = (
                f"search with SearchParams(hnsw_ef={enough}); or a finer index in a revision: "
                if enough
                else "a finer index in a revision: "
            )
            command += f'op.UpdateCollection("{self._name}", hnsw_config=HnswConfigDiff(m=32, ef_construct=256))'
            yield self._finding(vector, "recall", lacking, what, command)

    def _nearest(self, vector: str, queries: Sequence[Any], ef: int | None, *, exact: bool) -> list[list[PointId]]:
        return self._store.nearest(self._name, vector, queries, limit=_K, exact=exact, ef=ef)

    def _embedder(self, name: str) -> Embedder:
        from qmigrate.commands.session import configured_embedder

        if name not in self._models:
            self._models[name] = configured_embedder(name, self._settings.embedders)
        return self._models[name]

    def _recorded(self) -> Mapping[str, Any]:
        view = self._patient.ledger().view(self._name) if not self._patient.broken("ledger") else None
        return view.embedders if view is not None else {}

    def _again(self, vector: str) -> str:
        filling = self._filled.get(vector)
        said = f'Embed("{filling.embedder}", …)' if filling is not None else "Embed(…)"
        start = f'qmigrate revision -m "vectors again", with op.Reembed("{self._name}", "{vector}", '
        return f'{start}values={said}, cutover="hold")'

    def _of(self, odd: Odd) -> str:
        return f"{counted(odd.points, 'point')} of {self.count:,} seen:"

    def _finding(
        self, vector: str, kind: str, odd: Odd, detail: str, command: str, *, suspicion: bool = False
    ) -> VectorFinding:
        named = f" (ids {', '.join(map(str, odd.ids))})" if odd.ids else ""
        return VectorFinding(
            self._name, vector, kind, odd.points, tuple(odd.ids), f"{detail}{named}", command, suspicion
        )


def fillings(patient: Deployment, name: str) -> dict[str, Embed]:
    """Vector, as it is called now -> what the applied revisions fill it by; nothing where they can't be read."""
    if patient.broken("ledger") or patient.broken("revisions"):
        return {}
    applied = {entry.revision for entry in patient.ledger().all_applied().get(name, ())}
    found: dict[str, Embed] = {}
    for revision in patient.revisions().order():
        if revision.id not in applied:
            continue
        for operation in revision.operations:
            if not operation.matches(name):
                continue
            if isinstance(operation, RenameVector) and operation.vector in found:
                found[operation.new_name] = found.pop(operation.vector)
            for vector, value in operation.filled().items():
                found.pop(vector, None)
                if isinstance(value, Embed):
                    found[vector] = value
    return found


def _usable(vector: str, filling: Embed, points: Sequence[Stored]) -> list[tuple[Stored, Any]]:
    """Points that have a vector, with what the embedder gets of each; without those that have nothing for it."""
    having = [one for one in points if vector in records.vector_messages(one)]
    found = ((one, embed_input(filling, records.payload_of(one))) for one in having)
    return [(one, item) for one, item in found if item is not None and not isinstance(item, Failure)]


def _of_vectors(filling: Embed) -> bool:
    """Whether SQL's checksum is of a vector, which a model has to make again."""
    return filling.checksum is not None and filling.checksum.kind == "python-floats" and filling.checksum.field is None


def _payload_at(points: Sequence[Stored], place: int) -> Payload:
    return records.payload_of(points[place])


def _alike(one: Any, other: Any) -> float:
    """Cosine of two vectors, or the smallest of the rows of two multivectors; -1 where they can't be compared."""
    one, other = (np.atleast_2d(np.asarray(rows, dtype=np.float64)) for rows in (one, other))
    if one.shape != other.shape:
        return -1.0
    lengths = np.linalg.norm(one, axis=1) * np.linalg.norm(other, axis=1)
    with suppress(ValueError):
        return float(((one * other).sum(axis=1) / np.maximum(lengths, 1e-12)).min())
    return -1.0


def _searchable(message: Any) -> bool:
    if message is None:
        return False
    values = records.array_of(message)
    return values.ndim == 1 and bool(np.isfinite(values).all() and values.any())


def _recall(exact: Sequence[Sequence[PointId]], found: Sequence[Sequence[PointId]]) -> float:
    shares = [overlap(one, other, _K) for one, other in zip(exact, found, strict=True) if one]
    return sum(shares) / len(shares) if shares else 1.0
