"""Whether the vectors of collections are sound: by their numbers, by their models, and by searching. It only reads."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from qmigrate.commands.doctor.deployment import Deployment, some
from qmigrate.commands.results import Check
from qmigrate.embed.stream import Failure, embed_all
from qmigrate.engine.points.checksums import Checksums
from qmigrate.engine.points.embed_input import embed_input
from qmigrate.engine.points.transformation import is_model
from qmigrate.errors import QmigrateError
from qmigrate.evaluation.measures import overlap
from qmigrate.evaluation.soundness import NAMED, Odd, Soundness
from qmigrate.model.facts.soundness import VectorFinding, VectorHealth
from qmigrate.model.facts.stored import plain
from qmigrate.model.names import unknown
from qmigrate.model.state import LiveCollection
from qmigrate.model.transform import PointId
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
                what = f"{counted(len(seen.constant), 'dimension')} with the same value in every point: {named}"
                yield self._finding(vector, "constant", Odd(), what, again, suspicion=True)
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
            ids = [
                records.point_id(one) for one in self._some if vector not in records.vector_messages(one)
            ][:NAMED]
            what = f"{counted(lacking, 'point')} of {self.total:,} have no such vector"
            command = f"qmigrate fix quarantine {quote(self._name)} --retry, where they could not be embedded; else "
            yield self._finding(vector, "missing", Odd(lacking, ids), what, command + self._again(vector))

    def by_models(self) -> Iterator[VectorFinding]:
        """What comparing with the recorded model shows: vectors of something else, texts that are cut off."""
        for vector, filling in self._filled.items():
            if vector not in self._live.schema.vector_names():
                continue
            try:
                yield from self._by_model(vector, filling)
            except QmigrateError as error:
                self.notes.append(f"vector {vector!r} is not compared with its model: {error.message}")

    def _by_model(self, vector: str, filling: Embed) -> Iterator[VectorFinding]:
        embedder = self._embedder(filling.embedder)
        recorded = self._recorded().get(vector)
        if recorded is not None and not is_model(embedder, recorded):
            self.notes.append(
                f"vector {vector!r} was filled by another model than embedder {filling.embedder!r} is now, so it isn't "
                "embedded again to be compared"
            )
            return
        points = [one for one in self._some if vector in records.vector_messages(one)]
        found = [embed_input(filling, records.payload_of(one)) for one in points]
        pairs = zip(points, found, strict=True)
        usable = [(one, item) for one, item in pairs if item is not None and not isinstance(item, Failure)]
        yield from self._by_checksum(vector, filling, [one for one, _ in usable], [item for _, item in usable])
        yield from self._cut_off(vector, embedder, usable)
        made = embed_all(embedder, [item for _, item in usable], size=None)
        stale, foreign = Odd(), Odd()
        worst = 1.0
        for (stored, _), fresh in zip(usable, made, strict=True):
            message = records.vector_messages(stored)[vector]
            if isinstance(fresh, Failure | Mapping) or message.WhichOneof("vector") == "sparse":
                continue
            alike = _alike(records.array_of(message), fresh)
            worst = min(worst, alike)
            if alike < _SAME:
                (foreign if alike < _FOREIGN else stale).add([records.point_id(stored)])
        again = self._again(vector)
        seen = f"of {counted(len(usable), 'point')} that were embedded again by {filling.embedder}"
        if foreign.points:
            what = f"{foreign.points:,} {seen} have nothing to do with it (cosine down to {worst:.2f}): another model's"
            yield self._finding(vector, "other-model", foreign, what, again)
        if stale.points:
            what = f"{stale.points:,} {seen} are of another text (cosine below {_SAME}): it changed after the embedding"
            yield self._finding(vector, "stale", stale, what, again)

    def _by_checksum(
        self, vector: str, filling: Embed, points: Sequence[Stored], items: Sequence[Any]
    ) -> Iterator[VectorFinding]:
        if filling.checksum is None:
            return
        ids = [records.point_id(one) for one in points]
        context = _Context(self._settings, self)
        checked = Checksums(context).checked(filling, ids, lambda at: records.payload_of(points[at]), items)
        odd = Odd()
        odd.add([identifier for identifier, one in zip(ids, checked, strict=True) if isinstance(one, Failure)])
        if odd.points:
            first = next(one.message for one in checked if isinstance(one, Failure))
            what = f"{self._of(odd)} not what SQL has: {first}"
            yield self._finding(vector, "checksum", odd, what, self._again(vector))

    def embedder(self, name: str) -> Embedder:
        """For :class:`Checksums`."""
        return self._embedder(name)

    def _cut_off(
        self, vector: str, embedder: Embedder, usable: Sequence[tuple[Stored, Any]]
    ) -> Iterator[VectorFinding]:
        texts = [(records.point_id(one), item) for one, item in usable if type(item) is str]
        if not texts or not isinstance(embedder, CountsTokens):
            return
        tokens, most = embedder.count_tokens([text for _, text in texts]), embedder.max_tokens
        if tokens is None or most is None:
            return
        odd = Odd()
        odd.add([identifier for (identifier, _), number in zip(texts, tokens, strict=True) if number > most])
        if odd.points:
            what = (
                f"{odd.points:,} of {counted(len(texts), 'text')} are longer than the {most:,} tokens that the model "
                f"reads (up to {max(tokens):,}): what is behind them is not in the vector"
            )
            command = "embed parts of the texts as points of their own, or take a model that reads more"
            yield self._finding(vector, "truncated", odd, what, command)

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
            recall = _recall(exact, self._nearest(vector, queries, None, exact=False))
            if recall >= _RECALL:
                continue
            enough = next(
                (ef for ef in _EFS if _recall(exact, self._nearest(vector, queries, ef, exact=False)) >= _RECALL), None
            )
            way = f"hnsw_ef={enough} in the search gives it" if enough else f"no hnsw_ef up to {_EFS[-1]:,} gives it"
            what = f"the index finds {recall:.3f} of what an exact search finds (k={_K}); for {_RECALL} {way}"
            command = (
                f"search with SearchParams(hnsw_ef={enough}); or a finer index in a revision: "
                if enough
                else "a finer index in a revision: "
            )
            command += f'op.UpdateCollection("{self._name}", hnsw_config=HnswConfigDiff(m=32, ef_construct=256))'
            yield self._finding(vector, "recall", Odd(), what, command)

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
