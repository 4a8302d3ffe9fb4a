"""What must hold before a rebuild starts. It only reads: a refusal here leaves nothing behind."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import islice

from qmigrate.embed import known_kind
from qmigrate.engine import write_back
from qmigrate.engine.build.index import Standstill
from qmigrate.engine.points.budget import check_budget
from qmigrate.engine.points.quarantine import allowed
from qmigrate.engine.points.transformation import Maker, fill_inputs
from qmigrate.engine.prove.rekey import check_ids
from qmigrate.engine.work import Work, transform_of
from qmigrate.engine.workers.pool import places_of
from qmigrate.errors import EmbedError, PlanError, QuarantineError, RefusedError, RepairNeededError, StoreError
from qmigrate.model.facts.phases import Preflight
from qmigrate.model.payload_path import quoted, selected
from qmigrate.model.plan import Build
from qmigrate.model.schema import FOUR_BITS, JsonObject, rounds_again
from qmigrate.model.state import OPERATION_IDS_SINCE, LiveCollection
from qmigrate.model.transform import PointTransform
from qmigrate.operations.checks import KINDS, kind_of
from qmigrate.operations.values import Embed
from qmigrate.operations.vector_common import params_of
from qmigrate.ports import ByServer
from qmigrate.store import records
from qmigrate.text import counted, did_you_mean

#: Ids of unfit points that a message names.
NAMED = 5
#: Points whose payloads show what fields there are, and how many of these a message names.
SAMPLED, FIELDS = 200, 8
#: Points that go through the user's code before anything is written.
TRIED = 8


def check_build(step: Build, work: Work) -> Preflight:
    """Everything that can be known before the first write."""
    if step.source is None:
        _check_names(work, step)
        return Preflight(embedders={}, models={})
    source = work.store.describe(step.source)
    if source is None:
        raise RepairNeededError(f"{step.source}, which serves {work.collection}, is not in Qdrant any more")
    # A clone takes along what this version doesn't know; whether it did is looked up in it.
    check_source(work, source, keeps_unknown=step.fill == "clone")
    transform = transform_of(work.operations(step.ops), source.schema)
    if step.fill == "copy":
        check_rounding(work, step, transform)
    fingerprints: JsonObject = {}
    for vector in transform.filled:
        filling = transform.values[vector]
        if isinstance(filling, Embed):
            fingerprints[vector] = _check_embed(work, step, vector, filling, transform)
    if fingerprints and work.hands is not None:
        work.hands.check()
    check_budget(work, list(fill_inputs(transform).values()), shared=bool(places_of(work, transform)))
    _try_some(work, step, transform)
    write_back.check(step, work)
    if transform.rekeys:
        check_ids(work, step.source, transform)
    view = work.lease.ledger.collections().get(work.collection)
    known = view.embedders if view else {}
    # What a function or the application fills has no model, also where one had filled it before.
    carried = {target: known[vector] for target, vector in transform.vectors.items() if vector in known}
    models = {**carried, **fingerprints}
    found = source.schema.with_(aliases=())
    return Preflight(work.store.count(step.source), fingerprints, models, source=found)


def _check_names(work: Work, step: Build) -> None:
    """A new collection has no point to embed, but its first one would meet an embedder that isn't there.

    Raises:
        EmbedError: the settings don't have one that a revision names.
    """
    for operation in work.operations(step.ops):
        for filling in operation.embeds().values():
            if filling.embedder not in work.settings.embedders:
                work.code.embedder(filling.embedder)


def check_source(work: Work, source: LiveCollection, *, keeps_unknown: bool = False) -> None:
    """A source whose points can all be read, on replicas that all take part, and whose settings can all be kept."""
    if source.unknown and not keeps_unknown:
        raise PlanError(
            f"{source.physical} has settings that this version of qmigrate doesn't know and would lose: "
            f"{', '.join(source.unknown)}",
            hint="update qmigrate, or revert these settings first",
        )
    if not work.store.capabilities.local and not work.store.capabilities.barrier and _is_new_enough(work):
        raise RefusedError(
            f"the operation ids of every shard of {source.physical} can't be read, so late writes could be missed",
            hint="name every node under qdrant.nodes, and use a key that may read telemetry; see qmigrate doctor",
        )
    if source.custom_sharding:
        raise RefusedError(f"{source.physical} uses custom sharding, which is not supported yet")
    if source.prevents_unoptimized or source.hidden:
        raise RefusedError(
            f"{source.physical} hides points that are not optimized yet ({source.hidden:,} now): a copy misses them",
            hint="set prevent_unoptimized to false in its optimizers_config, wait until it is green, and run again",
        )
    if source.inactive:
        raise RefusedError(
            f"not every replica of {source.physical} is active: {', '.join(source.inactive)}",
            hint="wait until the cluster has recovered, then run again",
        )
    if source.status == "red" or source.problem:
        raise StoreError(
            f"{source.physical} is unhealthy: {source.problem or 'status red'}",
            hint="repair the collection first (qmigrate doctor shows its state)",
        )
    if source.status == "yellow" and not work.looking:
        _wait_until_green(work, source.physical)


def check_rounding(work: Work, step: Build, transform: PointTransform) -> None:
    """No vector is copied whose values a server changes whenever they are written; local mode keeps them as they are.

    Raises:
        PlanError: one would be.
    """
    if work.store.capabilities.local:
        return
    found = [name for name in transform.vectors if rounds_again(step.schema.vectors.get(name, {}))]
    if found:
        name = found[0]
        raise PlanError(
            f"vector {name!r} of {work.collection} is {FOUR_BITS}, and a server scales its values at each "
            "write: a copy could not be proven. The live collection was not touched",
            hint=f'what keeps all values can be cloned by the server: strategy="clone"; or give {name!r} another '
            f'datatype first: op.AlterVector(…, values=CopyOf({name!r}), cutover=…)',
        )


def _try_some(work: Work, step: Build, transform: PointTransform) -> None:
    """The user's code on a few points: what it does wrong to every point shows before anything is made.

    Values that are carried into uint8 are all checked, since it keeps few. float16 keeps almost every vector, so a
    first page is enough here, and the others are checked while they are copied.
    """
    maker = Maker(work, transform, step.schema)
    if transform.filled or not transform.keeps_payload:
        maker.make(next(iter(work.store.scan(str(step.source), page=TRIED)), ()))
    narrowing = maker.narrowing()
    if narrowing:
        for page in work.store.scan(str(step.source), payload=False):
            maker.check_values(page)
            work.tick(len(page))
            if "uint8" not in narrowing:
                break


def _is_new_enough(work: Work) -> bool:
    """Whether the server would show operation ids to a key that may ask; an older one is flushed and swept instead."""
    return work.store.capabilities.version >= OPERATION_IDS_SINCE


def _wait_until_green(work: Work, physical: str) -> None:
    """Wait for what a source has to optimize now: a copy of it would fight with that for the same cores.

    A yellow source is read correctly. One that is written to steadily stays yellow: what it got meanwhile is not waited
    for, where the server tells what it has to do.

    Raises:
        RefusedError: it doesn't get on.
    """
    limit = work.settings.limits.settle
    still, first = Standstill(limit), None
    while True:
        seen = work.store.describe(physical)
        if seen is None or seen.status != "yellow":
            return
        reading = work.store.readiness(physical)
        first = first or reading.waiting
        if first and reading.waiting is not None and not first & reading.waiting:
            work.progress.say(f"{physical} has optimized what it had to, and goes on with what is written meanwhile")
            return
        if still.is_over(reading.moved):
            raise RefusedError(
                f"{physical} is {seen.status}: still optimizing, and has not got on for {limit:.0f} s",
                hint="wait until it is green and run again, or raise limits.settle in qmigrate.yaml",
            )
        work.tick(0, f"the server optimizes {physical}: {reading.detail}")
        time.sleep(0.2)


def _check_embed(work: Work, step: Build, vector: str, filling: Embed, transform: PointTransform) -> JsonObject:
    configured = work.settings.embedders.get(filling.embedder, {})
    check_kind(work.collection, step, vector, filling.embedder, known_kind(configured))
    embedder = work.code.embedder(filling.embedder)
    check_size(work.collection, step, vector, filling.embedder, embedder.size)
    if isinstance(embedder, ByServer):
        _check_server(work, str(step.source), filling.embedder, embedder)
    fields = sorted(filling.fields())
    # A template leaves missing parts out, so only the fill can say whether anything remains of a point's text.
    # A payload function may make the field, or take it away.
    if len(fields) == 1 and transform.keeps_payload:
        how = filling.on_failure or work.settings.rebuild.on_failure
        _check_field(work, step, fields[0], vector, how)
    elif transform.keeps_payload:
        _tell_missing(work, str(step.source), fields, vector)
    return embedder.fingerprint()


def _check_server(work: Work, source: str, name: str, embedder: ByServer) -> None:
    """See that the server makes vectors by the model of an embedder.

    Raises:
        EmbedError: it doesn't.
    """
    live = work.store.describe(source)
    there = sorted(live.schema.vector_names()) if live is not None else []
    why = work.store.why_no_inference(source, there[0] if there else "", embedder.for_server("a text to try it with"))
    if why is not None:
        raise EmbedError(
            f"embedder {name!r} leaves it to the server to make vectors, and it doesn't: {why}",
            hint="configure the inference service of the server, or take an embedder of another type: bm25 makes the "
            "same words as qdrant/bm25",
        )


def check_size(collection: str, step: Build, vector: str, embedder: str, size: int | None) -> None:
    """See that an embedder makes vectors of the size that is declared, as far as it is known.

    Raises:
        EmbedError: it doesn't.
    """
    declared = step.schema.vectors.get(vector, {}).get("size")
    if size is not None and declared is not None and size != declared:
        raise EmbedError(
            f"embedder {embedder!r} makes vectors of {size} values, but vector {vector!r} of {collection} is declared "
            f"with {declared}",
            hint="make the sizes agree in the revision or in qmigrate.yaml",
        )


def check_kind(collection: str, step: Build, vector: str, embedder: str, makes: str | None) -> None:
    """See that an embedder makes vectors of the kind that is declared, as far as it is known.

    Raises:
        EmbedError: it doesn't.
    """
    params = params_of(step.schema, vector)
    if makes is None or params is None:
        return
    declared = kind_of(params)
    if makes != declared:
        raise EmbedError(
            f"embedder {embedder!r} makes {KINDS[makes]}, but vector {vector!r} of {collection} is declared for "
            f"{KINDS[declared]}",
            hint="SparseVectorParams() for sparse vectors, VectorParams(…, multivector_config=…) for one a token",
        )


def _check_field(work: Work, step: Build, name: str, vector: str, how: str) -> None:
    source = str(step.source)
    try:
        lacking = work.store.count(source, missing_field=name)
    except StoreError:
        # Strict mode may refuse a filter on a field without an index; the fill reads every point anyway.
        return
    total = work.store.count(source)
    may = 0 if how == "stop" else allowed(work, total)[0]
    if lacking <= may:
        return
    unfit = (
        str(records.point_id(stored))
        for page in work.store.scan(source, payload=selected({name, name.split(".")[0]}), vectors=False)
        for stored in page
        if not _has(records.payload_of(stored), name)
    )
    first = list(islice(unfit, NAMED))
    if quoted(name) != name:
        # The count took it for a path; the embedder reads a key of this very name first.
        lacking = len(first) + sum(1 for _ in unfit)
        if lacking <= may:
            return
    ids = ", ".join(first)
    meant, there = _fields_there(work, source, name)
    said = f"{lacking:,} of {total:,} points of {work.collection} have no {name!r} to embed into {vector!r}{meant}"
    if how == "stop":
        raise EmbedError(
            f"{said}{'' if meant else '.'} First ids: {ids}. {there}",
            hint='fill the field first, or leave those points without the vector: on_failure="keep_without_vector"',
        )
    raise QuarantineError(
        f"{said}{'' if meant else '.'} At most {counted(may, 'point')} may fail. First ids: {ids}. {there}",
        hint=f"fill the field first, or let them pass: limits.max_quarantine: {lacking} in qmigrate.yaml",
    )


def _tell_missing(work: Work, source: str, fields: Sequence[str], vector: str) -> None:
    """Say which part of a template no point has at all: it may be misspelt, and is left out of every text."""
    for name in fields:
        try:
            total, lacking = work.store.count(source), work.store.count(source, missing_field=name)
        except StoreError:
            return
        if 0 < total == lacking:
            meant, there = _fields_there(work, source, name)
            said = f"no point has {name!r}, so {vector!r} is made without it{meant or '.'}"
            work.progress.say(f"{work.collection}: {said} {there}")


def _fields_there(work: Work, source: str, name: str) -> tuple[str, str]:
    """The field that was probably meant, and those that the first points have, each with how many of them."""
    page = next(iter(work.store.scan(source, page=SAMPLED, vectors=False)), ())
    counts: Counter[str] = Counter()
    for stored in page:
        counts.update(_paths(records.payload_of(stored)))
    if not counts:
        return "", f"The first {counted(len(page), 'point')} have no payload"
    common = sorted(counts, key=lambda one: (-counts[one], one))
    named = ", ".join(f"{one} ({counts[one]})" for one in common[:FIELDS])
    more = f" and {len(common) - FIELDS} more" if len(common) > FIELDS else ""
    return did_you_mean(name, counts), f"Fields of the first {counted(len(page), 'point')}: {named}{more}"


def _paths(payload: JsonObject, prefix: str = "") -> Iterator[str]:
    """Every field, and inside of objects the paths that an embedder takes."""
    for key, value in payload.items():
        if isinstance(value, dict) and value:
            yield from _paths(value, f"{prefix}{key}.")
        elif value not in (None, "", []):
            yield f"{prefix}{key}"


def _has(payload: JsonObject, path: str) -> bool:
    value: object = payload
    for part in path.split("."):
        value = value.get(part) if isinstance(value, dict) else None
    return payload.get(path, value) not in (None, "", [])
