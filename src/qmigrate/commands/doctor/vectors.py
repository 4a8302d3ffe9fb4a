"""Whether the vectors of collections are sound: by their numbers, by their models, and by searching. It only reads."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np

from qmigrate.commands.doctor import repairs
from qmigrate.commands.doctor.deployment import Deployment, some
from qmigrate.commands.results import Check
from qmigrate.embed import sends
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
from qmigrate.text import counted

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
        embed: how many of each collection are embedded again, to be compared; None for 64 of a sample, and for all
            points with `every`, but for 64 by an embedder that may send them to a service.
    """

    collections: tuple[str, ...] = ()
    every: bool = False
    embed: int | None = None


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
        having: points with the vector; `bare`: those that have nothing any more that it could be made of.
        failed: why nothing more of them is known, or None.
    """

    checked: int = 0
    other: Odd = field(default_factory=Odd)
    reason: str = ""
    texts: int = 0
    cut: Odd = field(default_factory=Odd)
    longest: int = 0
    having: int = 0
    bare: Odd = field(default_factory=Odd)
    failed: str | None = None


@dataclass(slots=True)
class _Compared:
    """What was seen of the points of one vector that were embedded again.

    Attributes:
        most: how many are; None for all.
        embedded: how many were.
        stale, foreign: those that are only like what the model makes now, and those that are nothing like it.
        worst: the smallest cosine.
        as_stored, by_model: those that have SQL's checksum of the vector; `neither`: those that haven't.
        over: nothing more is compared; the notes say why.
    """

    most: int | None
    embedded: int = 0
    stale: Odd = field(default_factory=Odd)
    foreign: Odd = field(default_factory=Odd)
    worst: float = 1.0
    as_stored: int = 0
    by_model: int = 0
    neither: Odd = field(default_factory=Odd)
    over: bool = False


def checks(patient: Deployment, wanted: VectorsWanted) -> Iterator[Check]:
    """The findings about every collection that is meant, as checks; see :func:`health`."""
    for name in wanted.collections or tuple(sorted(_served(patient))):
        found = health(patient, name, wanted)
        for one in found.findings:
            facts = {"finding": plain(one)}
            yield Check(f"vector {one.vector!r} of {name}", None, one.detail, one.command, warns=True, facts=facts)
        for note in found.notes:
            yield Check(f"vectors of {name}", None, note)
        if not found.findings:
            seen = f"{counted(found.seen, 'point')} of {found.points:,} seen"
            seen += f", {found.embedded:,} embedded again" if found.embedded else ""
            seen += f", {found.searched:,} searched for" if found.searched else ""
            facts = {"health": plain(replace(found, findings=()))}
            yield Check(f"vectors of {name}", True, f"{seen}: nothing odd", facts=facts)


def _served(patient: Deployment) -> Mapping[str, LiveCollection]:
    """Logical name -> what serves it, of managed and plain collections."""
    states = patient.world().collections.items()
    return {name: state.live for name, state in states if state.live is not None}


def health(patient: Deployment, name: str, wanted: VectorsWanted | None = None) -> VectorHealth:
    """Everything that is odd about the vectors of one collection.

    Args:
        wanted: how much of it is read; by default a sample.

    Raises:
        UsageError: there is no such collection.
    """
    live = _served(patient).get(name) or patient.store().describe(name)
    if live is None:
        raise unknown("collection", name, _served(patient))
    examined = _Examined(patient, name, live, wanted or VectorsWanted())
    for page in examined.pages():
        examined.look(page)
    findings = [*examined.by_numbers(), *examined.missing(), *examined.by_models(), *examined.by_searching()]
    embedded = max((one.embedded for one in examined.compared.values()), default=0)
    seen, notes = examined.count, tuple(examined.notes)
    return VectorHealth(name, examined.total, seen, tuple(findings), notes, embedded, examined.searched)


class _Examined:
    """One collection, and what was seen of it."""

    def __init__(self, patient: Deployment, name: str, live: LiveCollection, wanted: VectorsWanted) -> None:
        self._patient, self._name, self._live, self._wanted = patient, name, live, wanted
        self._store = patient.store()
        self._settings = patient.settings.for_collection(name)
        self.total = self._store.count(name)
        self.count = self.searched = 0
        #: How many points are going to be seen.
        self._of = self.total if wanted.every else min(SAMPLE, self.total)
        self.notes: list[str] = []
        self._seen = {vector: Soundness() for vector in sorted(live.schema.vector_names())}
        self._some: list[Stored] = []
        self._filled = fillings(patient, name)
        self._models: dict[str, Embedder] = {}
        self._inputs = {vector: _Inputs() for vector in self._filled if vector in live.schema.vector_names()}
        self.compared = {vector: _Compared(self._most(vector)) for vector in self._inputs}
        #: For :class:`Checksums`: one examination is one caller.
        self.turn = OneAtATime()
        self._checksums = Checksums(_Context(self._settings, self))

    def _most(self, vector: str) -> int | None:
        """How many points of a vector are embedded again; None for all."""
        if self._wanted.embed is not None:
            return self._wanted.embed
        config = self._settings.embedders.get(self._filled[vector].embedder, {})
        return None if self._wanted.every and not sends(config) else _EMBEDDED

    def pages(self) -> Iterator[Sequence[Stored]]:
        """Points of a sample, or all."""
        if self._wanted.every:
            yield from self._store.scan(self._name, page=_PAGE)
            return
        ids = self._store.sample_ids(self._name, SAMPLE)
        for part in in_parts(ids, _PAGE):
            yield self._store.fetch(self._name, part)

    def look(self, page: Sequence[Stored]) -> None:
        """See some points."""
        self._some += self._spread(page, _EMBEDDED)
        for vector, seen in self._seen.items():
            rows, others, payloads = [], [], []
            for stored in page:
                message = records.vector_messages(stored).get(vector)
                if message is None:
                    continue
                array, identifier = records.array_of(message), records.point_id(stored)
                if vector in self._live.schema.sparse or array.ndim != 1:
                    others.append((identifier, array))
                    continue
                rows.append((identifier, array))
                payloads.append(records.payload_digest(stored))
            if rows:
                seen.add([one for one, _ in rows], np.stack([array for _, array in rows]), payloads)
            seen.add_others([one for one, _ in others], [array for _, array in others])
        for vector, inputs in self._inputs.items():
            if inputs.failed is None:
                try:
                    self._read(vector, inputs, page)
                except QmigrateError as error:
                    inputs.failed = error.message
            compared = self.compared[vector]
            if not compared.over:
                try:
                    self._compare(vector, compared, self._spread(page, compared.most))
                except QmigrateError as error:
                    self._end(compared, f"vector {vector!r} is not compared with its model: {error.message}")
        self.count += len(page)

    def _spread(self, page: Sequence[Stored], most: int | None) -> Sequence[Stored]:
        """Those of a page that are among `most` points, evenly spread over all that are going to be seen."""
        if most is None:
            return page
        of = max(self._of, 1)
        return [one for at, one in enumerate(page, self.count) if (at + 1) * most // of > at * most // of]

    def _end(self, compared: _Compared, note: str) -> None:
        compared.over = True
        self.notes.append(note)

    def _read(self, vector: str, inputs: _Inputs, page: Sequence[Stored]) -> None:
        """The inputs of a page, next to SQL's checksums and to what the model reads of a text."""
        filling = self._filled[vector]
        usable = _usable(vector, filling, page)
        ids, items = [records.point_id(one) for one, _ in usable], [item for _, item in usable]
        having = [records.point_id(one) for one in page if vector in records.vector_messages(one)]
        inputs.having, filled = inputs.having + len(having), set(ids)
        inputs.bare.add([one for one in having if one not in filled])
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

    def _again(self, vector: str) -> str:
        """The command that fills a vector again by what fills it now."""
        return repairs.again(self._name, vector, self._filled.get(vector))

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
                    yield self._finding(vector, kind, odd, f"{self._seen_of(odd)} {what}", again)
            params = self._live.schema.vectors.get(vector, {})
            odd, normalised = seen.off_the_rule, params.get("distance") == "Cosine"
            if odd.points and not normalised and seen.lengths is not None:
                ends = "lengths from {:.3g} to {:.3g}".format(*seen.lengths)
                what = f"{self._seen_of(odd)} not of length 1, as the others are ({ends})"
                what += "; the distance doesn't normalise"
                yield self._finding(vector, "unnormalised", odd, what, again)
            if seen.constant:
                named = some([str(one) for one in seen.constant])
                what = f"{counted(len(seen.constant), 'dimension')} with the same value in every point: {named}"
                every = Odd(seen.vectors, seen.first(NAMED))
                yield self._finding(vector, "constant", every, what, again, suspicion=True)
            if seen.copies.points:
                what = (
                    f"{self._seen_of(seen.copies)} they have exactly the vector of another point with another payload: "
                    "see which one is right, and delete the others"
                )
                command = repairs.delete(self._name, seen.copies.ids[-1])
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
            command = self._again(vector)
            if vector in self._quarantined():
                command = repairs.retry(self._name)
            yield self._finding(vector, "missing", Odd(lacking, ids), what, command)

    def _quarantined(self) -> set[str]:
        """Vectors of points that could not be embedded, and are kept to be tried again."""
        if self._patient.broken("ledger"):
            return set()
        return {one.vector for one in self._patient.ledger().quarantine([self._live.physical])}

    def by_models(self) -> Iterator[VectorFinding]:
        """What comparing with the recorded model shows: vectors of something else, texts that are cut off."""
        for vector, inputs in self._inputs.items():
            filling = self._filled[vector]
            yield from self._of_inputs(vector, filling, inputs)
            yield from self._by_model(vector, filling, self.compared[vector])

    def _of_inputs(self, vector: str, filling: Embed, inputs: _Inputs) -> Iterator[VectorFinding]:
        if inputs.failed is not None:
            self.notes.append(f"what vector {vector!r} was made of is not examined: {inputs.failed}")
        if inputs.other.points:
            seen = f"{inputs.other.points:,} of {counted(inputs.checked, 'point')} that were compared"
            what = f"{seen}: not what SQL has: {inputs.reason}"
            yield self._finding(vector, "checksum", inputs.other, what, self._again(vector))
        if inputs.bare.points:
            what = (
                f"{inputs.bare.points:,} of {counted(inputs.having, 'point')} have the vector, and nothing in their "
                f"payload that {filling.describe()} could be made of: it is of what was there before"
            )
            command = repairs.again(self._name, vector, replace(filling, on_failure="keep_without_vector"))
            yield self._finding(vector, "no-input", inputs.bare, what, command)
        if inputs.cut.points:
            most = getattr(self._embedder(filling.embedder), "max_tokens", None)
            what = (
                f"{inputs.cut.points:,} of {counted(inputs.texts, 'text')} are longer than the {most:,} tokens that "
                f"the model reads (up to {inputs.longest:,}): what is behind them is not in the vector. A model that "
                "reads more, or parts of the texts as points of their own"
            )
            yield self._finding(vector, "truncated", inputs.cut, what, repairs.again(self._name, vector, None))

    def _compare(self, vector: str, compared: _Compared, points: Sequence[Stored]) -> None:
        """Embed some points again, and see how alike that is to what they have."""
        filling = self._filled[vector]
        usable = _usable(vector, filling, points)
        if not usable:
            return
        embedder, recorded = self._embedder(filling.embedder), self._recorded().get(vector)
        if recorded is not None and not is_model(embedder, recorded):
            was = f"vector {vector!r} was filled by another model than embedder {filling.embedder!r} is now"
            self._end(compared, f"{was}, so it isn't embedded again to be compared")
            return
        made = vectors_as_returned(embedder, [item for _, item in usable])
        again = [(*one, fresh) for one, fresh in zip(usable, made, strict=True) if not isinstance(fresh, EmbedError)]
        if any(isinstance(fresh, ServerText) for _, _, fresh in again):
            self._end(compared, f"vector {vector!r} is made by the server, so it isn't compared with its model")
            return
        compared.embedded += len(again)
        if _of_vectors(filling):
            self._compare_digests(vector, filling, compared, again)
        for stored, _, fresh in again:
            alike = _alike(records.vector_messages(stored)[vector], fresh)
            compared.worst = min(compared.worst, alike)
            if alike < _SAME:
                (compared.foreign if alike < _FOREIGN else compared.stale).add([records.point_id(stored)])

    def _compare_digests(
        self, vector: str, filling: Embed, compared: _Compared, again: Sequence[tuple[Stored, Any, Any]]
    ) -> None:
        """SQL's checksums of vectors, next to what is stored and to what the model that they are of makes again."""
        wanted = filling.checksum
        assert wanted is not None  # noqa: S101  the caller looked
        name, own = wanted.embedder or filling.embedder, wanted.embedder in (None, filling.embedder)
        embedder = self._embedder(name)
        known = self._checksums.known(wanted, [records.point_id(stored) for stored, _, _ in again])
        items = [item for _, item, _ in again]
        made = [fresh for _, _, fresh in again] if own else vectors_as_returned(embedder, items)
        for (stored, item, _), fresh in zip(again, made, strict=True):
            expected = recorded_digest(known.get(records.point_id(stored)), wanted.algorithm)
            if expected is None:
                continue
            row = records.array_of(records.vector_messages(stored)[vector]) if own else None
            if expected in digests_of_vector(row, wanted.algorithm):
                compared.as_stored += 1
            elif shows(expected, fresh, wanted.algorithm, partial(embed_alone, embedder, item)):
                compared.by_model += 1
            else:
                compared.neither.add([records.point_id(stored)])

    def _by_model(self, vector: str, filling: Embed, compared: _Compared) -> Iterator[VectorFinding]:
        if not compared.embedded:
            return
        if _of_vectors(filling):
            yield from self._by_vector_checksum(vector, filling, compared)
        command = self._again(vector)
        seen = f"of {counted(compared.embedded, 'point')} that were embedded again by {filling.embedder}"
        if compared.foreign.points:
            down = f"(cosine down to {compared.worst:.2f}): another model's"
            what = f"{compared.foreign.points:,} {seen} have nothing to do with it {down}"
            yield self._finding(vector, "other-model", compared.foreign, what, command)
        if compared.stale.points:
            what = f"{compared.stale.points:,} {seen} are of another text (cosine below {_SAME})"
            yield self._finding(vector, "stale", compared.stale, f"{what}: it changed after the embedding", command)
        if self._wanted.every and compared.most is not None and compared.embedded < self.count:
            more = f"--embed {self.total} embeds every point again"
            note = f"vector {vector!r}: {compared.embedded:,} of {counted(self.count, 'point')} were embedded again"
            self.notes.append(f"{note}, since {filling.embedder} may send them to a service: {more}")

    def _by_vector_checksum(self, vector: str, filling: Embed, compared: _Compared) -> Iterator[VectorFinding]:
        wanted = filling.checksum
        assert wanted is not None  # noqa: S101  the caller looked
        name, neither = wanted.embedder or filling.embedder, compared.neither
        as_stored, by_model = compared.as_stored, compared.by_model
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
            self.searched = max(self.searched, len(queries))
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
            way = f"SearchParams(hnsw_ef={enough}) in the search" if enough else "a finer index"
            gives = f"hnsw_ef={enough} gives it" if enough else f"no hnsw_ef up to {_EFS[-1]:,} gives it"
            what = (
                f"the index finds {recall:.3f} of what an exact search finds (k={_K}), by the vectors of "
                f"{len(queries):,} points, of which {lacking.points:,} miss something; for {_RECALL} {gives}: {way}"
            )
            yield self._finding(vector, "recall", lacking, what, repairs.finer(self._name, vector, self._live.schema))

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

    def _seen_of(self, odd: Odd) -> str:
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


def _alike(message: Any, fresh: Any) -> float:
    """Cosine of a stored vector and another one, or the smallest of their rows; -1 where they can't be compared."""
    if message.WhichOneof("vector") == "sparse":
        if not isinstance(fresh, Mapping):
            return -1.0
        stored = dict(zip(message.sparse.indices, message.sparse.values, strict=True))
        made = dict(zip(fresh["indices"], fresh["values"], strict=True))
        lengths = [math.hypot(*values.values()) for values in (stored, made)]
        both = sum(value * made.get(place, 0.0) for place, value in stored.items())
        return float(both / max(lengths[0] * lengths[1], 1e-12))
    if isinstance(fresh, Mapping):
        return -1.0
    one, other = (np.atleast_2d(np.asarray(rows, dtype=np.float64)) for rows in (records.array_of(message), fresh))
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
