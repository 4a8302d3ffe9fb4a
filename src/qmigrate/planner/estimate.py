"""How long a job takes: from earlier runs where there are any, else from reading a little of what is there. Pure.

The model of a copy: seconds = (fill + proof + index) per point × points, plus a fixed part per step. Each of the parts
is taken from the newest run of the same collection that shows it, else of any other one: of a fill that embeds, from
one with the same models. What no run shows is taken from a trial: reading some points shows what a copy and its proof
take, searching by some what a graph does. It is an estimate for people and entrypoints, and used for nothing else.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field, replace

from qmigrate.model.facts.history import Measured
from qmigrate.model.names import rehearsal_name
from qmigrate.model.plan import Build, CollectionPlan, EmbeddingCost, InPlace, Job, Plan, Retire, Step
from qmigrate.model.schema import Change, CollectionSchema, changes
from qmigrate.model.state import CollectionState
from qmigrate.model.weight import graph_of
from qmigrate.settings.sections import EstimateSettings

#: Below this many points a run shows more about its fixed part than about its speed.
FEWEST_POINTS = 500
MEASURED, TRIED, ASSUMED = "earlier runs", "a trial", "assumed"
#: How much faster a payload index is built than an HNSW graph of one vector.
_PAYLOAD_INDEX = 50
#: What a copy and its proof take, each in times of reading the points once: on a server, and in local mode.
_FILLING, _PROVING = (4.0, 3.5), (4.0, 3.5)
#: What a point takes in a graph, in times of a search of one segment by as many candidates; and seconds in which the
#: optimizers begin, and are seen to have ended.
_LINKING, _SETTLING = 4.0, 3.0
#: Kilobytes of a vector from which on a server builds a graph, where nothing is declared.
_THRESHOLD = 10_000
#: How much quicker a server reads points for an index of their payloads than it sends them.
_READ_THERE = 3
#: What is said of a whole that has such a part, the surest first.
_BASES = (MEASURED, TRIED, ASSUMED)


@dataclass(frozen=True, slots=True)
class Speed(Measured):
    """What an earlier run measured; see :func:`qmigrate.engine.golive.golive.speed_of`.

    Attributes:
        collection: that the run was about.
        around: seconds that the run took besides; None where it is not known.
    """

    collection: str = field(kw_only=True)
    around: float | None = field(default=None, kw_only=True)


@dataclass(frozen=True, slots=True)
class Trial:
    """What reading and searching a little of a live collection has shown.

    Attributes:
        read: seconds that reading a point takes.
        weight: bytes of such a point.
        search: seconds of a search of one segment by the graph, with as many candidates as a graph is built with, of
            those that run at the same time; None where there is no graph.
        values: of the vector that was searched by.
    """

    read: float
    weight: int
    search: float | None = None
    values: int = 0


@dataclass(frozen=True, slots=True)
class Copy:
    """A copy to be estimated.

    Attributes:
        points: to be filled.
        embeds: how many vectors are embedded.
        schema: of the target.
        total: to be proven and indexed; more than `points` where a run is resumed.
        weight: bytes of a point of the target, by a sample of the source.
        models: which embedders, as in :class:`Measured`.
    """

    collection: str
    points: int
    embeds: int
    schema: CollectionSchema
    total: int
    weight: int
    models: tuple[str, ...] = ()


def seconds_of_copy(
    wanted: Copy,
    speeds: Sequence[Speed],
    rates: EstimateSettings,
    *,
    local: bool,
    trial: Trial | None = None,
    tried: Collection[str] = (),
) -> tuple[float, str]:
    """Seconds of one copy with its proof and index, and what that is taken from.

    Args:
        speeds: of earlier runs, newest first.
        local: whether it runs in the client's local mode.
        trial: of the live collection, for what no run shows.
        tried: models whose speed ``rates.embed`` is, by a trial.
    """
    parts = parts_of_copy(wanted, speeds, rates, local=local, trial=trial, tried=tried)
    return rates.step + sum(seconds for seconds, _ in parts.values()), weakest(basis for _, basis in parts.values())


def parts_of_copy(
    wanted: Copy,
    speeds: Sequence[Speed],
    rates: EstimateSettings,
    *,
    local: bool,
    trial: Trial | None = None,
    tried: Collection[str] = (),
) -> dict[str, tuple[float, str]]:
    """``copy``, ``proof`` and ``index``, each with its seconds and what they are taken from; arguments as above."""
    return {
        "copy": _filling(wanted, speeds, rates, trial, tried, local=local),
        "proof": _proving(wanted, speeds, rates, trial, local=local),
        "index": seconds_of_index(wanted, speeds, rates, trial, local=local),
    }


def weakest(bases: Iterable[str]) -> str:
    """What a sum of parts is taken from."""
    return max(bases, key=_BASES.index, default=MEASURED)


def steps_of(speeds: Sequence[Speed], rates: EstimateSettings) -> EstimateSettings:
    """The same with the fixed part of a step as the quickest of the newest runs has shown it."""
    shown = [one.around for one in speeds if one.around is not None][:_RECENT]
    # A run of one copy has two steps: the build, and going live.
    return replace(rates, step=max(min(shown) / 2, _SHORTEST)) if shown else rates


#: Newest runs that show a fixed part, and the least that a step takes, in seconds.
_RECENT, _SHORTEST = 5, 0.2


def _filling(
    wanted: Copy,
    speeds: Sequence[Speed],
    rates: EstimateSettings,
    trial: Trial | None,
    tried: Collection[str],
    *,
    local: bool,
) -> tuple[float, str]:
    known = _nearest(wanted, speeds)
    if known is not None:
        # What is embedded costs what the model costs; everything else what its bytes cost.
        return wanted.points * known.fill / known.points * (1.0 if wanted.embeds else _scale(wanted, known)), MEASURED
    embedding, embedded = _embedding(wanted, speeds, rates, tried)
    plain = _own_first(wanted, [one for one in speeds if not one.embeds])
    if plain is not None:
        seconds, basis = wanted.points * plain.fill / plain.points * _scale(wanted, plain), MEASURED
    elif trial is not None:
        seconds, basis = _read(wanted.points, wanted.weight, trial) * _FILLING[local], TRIED
    elif local:
        seconds, basis = wanted.points / rates.local / 2, ASSUMED
    else:
        seconds, basis = wanted.points * wanted.weight / rates.copy, ASSUMED
    return seconds + embedding, weakest([basis, embedded])


def _embedding(
    wanted: Copy, speeds: Sequence[Speed], rates: EstimateSettings, tried: Collection[str]
) -> tuple[float, str]:
    """Seconds of what is embedded, one model after the other."""
    parts = []
    for model in wanted.models:
        rate = rate_of(model, wanted.collection, speeds)
        basis = MEASURED if rate is not None else TRIED if model in tried else ASSUMED
        parts.append((wanted.points / (rates.embed if rate is None else rate), basis))
    unnamed = max(0, wanted.embeds - len(parts))
    parts += [(wanted.points / rates.embed, ASSUMED)] * unnamed
    return sum(seconds for seconds, _ in parts), weakest(basis for _, basis in parts)


def _proving(
    wanted: Copy, speeds: Sequence[Speed], rates: EstimateSettings, trial: Trial | None, *, local: bool
) -> tuple[float, str]:
    known = _nearest(wanted, speeds) or _own_first(wanted, speeds)
    if known is not None:
        return wanted.total * known.prove / known.total * _scale(wanted, known), MEASURED
    if trial is not None:
        return _read(wanted.total, wanted.weight, trial) * _PROVING[local], TRIED
    seconds = wanted.total / rates.local / 2 if local else wanted.total * wanted.weight / rates.copy
    return seconds, ASSUMED


def seconds_of_index(
    wanted: Copy, speeds: Sequence[Speed], rates: EstimateSettings, trial: Trial | None, *, local: bool
) -> tuple[float, str]:
    """Seconds until the graphs of a new generation are built, and what that is taken from.

    Nothing follows from a run that was too small for a graph.
    """
    if local:
        return 0.0, MEASURED
    large = has_graph(wanted.schema, wanted.total)
    known = _nearest(wanted, speeds) or _own_first(wanted, speeds)
    if known is not None and large and not _had_graph(known, wanted.schema):
        known = _own_first(wanted, [one for one in speeds if _had_graph(one, wanted.schema)])
    if known is not None:
        return wanted.total * known.index / known.total * _scale(wanted, known), MEASURED
    values = wanted.total * _values(wanted.schema)
    if not large:
        return values / rates.index, MEASURED
    if trial is not None and trial.search is not None:
        return _SETTLING + values / max(trial.values, 1) * trial.search * _LINKING, TRIED
    return values / rates.index, ASSUMED


def has_graph(schema: CollectionSchema, points: int) -> bool:
    """Whether a server builds a graph of this many points: a smaller collection is searched without one."""
    config = schema.config.get("optimizers_config") or {}
    threshold = config.get("indexing_threshold")
    threshold = _THRESHOLD if threshold is None else threshold
    return bool(threshold) and points * _values(schema) * 4 > threshold * 1000


def _had_graph(speed: Speed, schema: CollectionSchema) -> bool:
    """Whether a run was large enough for graphs; its own settings are not known any more."""
    threshold = (schema.config.get("optimizers_config") or {}).get("indexing_threshold") or _THRESHOLD
    return speed.total * speed.width > threshold * 1000


def _scale(wanted: Copy, known: Speed) -> float:
    """How much heavier a point is than those of an earlier run."""
    if known.weight is not None:
        return wanted.weight / max(known.weight, 1)
    return wanted.schema.bytes_per_point() / max(known.width, 1)


def _read(points: int, weight: int, trial: Trial) -> float:
    return points * trial.read * weight / max(trial.weight, 1)


def _own_first(wanted: Copy, speeds: Sequence[Speed]) -> Speed | None:
    """The newest run that is long enough to be a measure, of the same collection where there is one."""
    fitting = [one for one in speeds if one.points >= FEWEST_POINTS]
    return next((one for one in fitting if one.collection == wanted.collection), next(iter(fitting), None))


def seconds_of_clone(
    wanted: Copy,
    before: CollectionSchema,
    speeds: Sequence[Speed],
    rates: EstimateSettings,
    trial: Trial | None = None,
) -> tuple[float, str]:
    """Seconds of a clone by the server, and what that is taken from.

    It is the recovery, what is changed in it, and the proof; its index comes along.

    Args:
        wanted: with the weight of the source, of which nothing is left out.
        before: schema of the source.
        speeds: of earlier runs, newest first.
        trial: of the live collection, for what no run shows.
    """
    proof, basis = _proving(wanted, speeds, rates, trial, local=False)
    moving, moved = wanted.total * wanted.weight / rates.copy, ASSUMED
    if trial is not None:
        # A file is written, read and checked.
        moving, moved = _read(wanted.total, wanted.weight, trial), TRIED
    elif basis == MEASURED:
        moving, moved = proof, MEASURED
    changed, how = seconds_of_changes(changes(before, wanted.schema), wanted, speeds, rates, trial)
    return moving + proof + changed, weakest([basis, moved, how])


def projected(speed: Speed, wanted: Copy, speeds: Sequence[Speed], rates: EstimateSettings, *, local: bool) -> float:
    """Seconds of a whole collection at the speed of a few of its points.

    Not of the index: a server builds no graph for a few points, so what they took is not a measure.
    """
    index, _ = seconds_of_index(wanted, speeds, rates, None, local=local)
    return rates.step + wanted.total * (speed.fill / speed.points + speed.prove / speed.total) + index


def seconds_of_changes(
    work: Sequence[Change],
    wanted: Copy,
    speeds: Sequence[Speed],
    rates: EstimateSettings,
    trial: Trial | None = None,
) -> tuple[float, str]:
    """Seconds of in-place work, and what that is taken from.

    Settings are at once, a payload index reads every point once, what rebuilds segments takes as long as an index.

    Args:
        wanted: what the collection would be as a copy.
        speeds: of earlier runs, newest first.
        trial: of the live collection, for what no run shows.
    """
    found, bases = rates.step, [MEASURED]
    for change in work:
        if change.kind in ("index.add", "index.alter"):
            each, basis = _PAYLOAD_INDEX / rates.index, ASSUMED
            if trial is not None:
                each, basis = trial.read / _READ_THERE, TRIED
            found, bases = found + wanted.total * each, [*bases, basis]
        elif not change.light():
            seconds, basis = seconds_of_index(wanted, speeds, rates, trial, local=False)
            found, bases = found + seconds, [*bases, basis]
    return found, weakest(bases)


def rate_of(model: str, collection: str, speeds: Sequence[Speed]) -> float | None:
    """Points per second of one embedder, of the newest run that had no other one; None where there is none.

    Args:
        model: as in :class:`Measured`.
        collection: whose own runs come first.
    """
    fitting = [one for one in speeds if one.models == (model,) and one.points >= FEWEST_POINTS and one.fill > 0]
    own = [one for one in fitting if one.collection == collection]
    found = next(iter(own or fitting), None)
    return None if found is None else found.points / found.fill


def _nearest(wanted: Copy, speeds: Sequence[Speed]) -> Speed | None:
    fitting = [
        speed
        for speed in speeds
        if speed.embeds == wanted.embeds and speed.points >= FEWEST_POINTS and _same_models(wanted, speed)
    ]
    own = [speed for speed in fitting if speed.collection == wanted.collection]
    return next(iter(own or fitting), None)


def _same_models(wanted: Copy, speed: Speed) -> bool:
    """Whether the same embedders were at work; of runs before that was recorded, the collection's own count."""
    if not speed.models:
        return not wanted.models or speed.collection == wanted.collection
    return speed.models == wanted.models


def _values(schema: CollectionSchema) -> int:
    """Vector values of a point that a graph is built of."""
    built = (params for params in schema.vectors.values() if graph_of(schema, params).get("m") != 0)
    return sum(int(params.get("size", 0)) for params in built)


#: How many standard errors a range of tokens is wide, to both sides: nearly all sums of such texts are within.
_WIDE = 2.6


def cost_of(
    embedder: str, items: int, counted: Sequence[int] | None, price: float | None, together: int | None
) -> EmbeddingCost:
    """What embedding costs, as a range by the tokens of a sample.

    Args:
        items: in all.
        counted: tokens of each text of the sample; None, or empty, where they are unknown.
        price: of a million tokens.
        together: texts of one request to its server; None where it has none.
    """
    requests = None if together is None else -(-items // together)
    if not counted:
        return EmbeddingCost(embedder, items, None, requests, price)
    mean = sum(counted) / len(counted)
    spread = sum((one - mean) ** 2 for one in counted) / max(1, len(counted) - 1)
    # Of everything there is nothing left to guess.
    wide = _WIDE * math.sqrt(spread / len(counted) * max(0.0, 1 - len(counted) / max(items, 1)))
    tokens = math.floor(items * max(mean - wide, 0)), math.ceil(items * (mean + wide))
    money = None if price is None else (tokens[0] * price / 1e6, tokens[1] * price / 1e6)
    return EmbeddingCost(embedder, items, tokens, requests, price, money)


_REASON = "the end of a rehearsal"


def plan_rehearsal(state: CollectionState, item: CollectionPlan, points: int) -> Plan:
    """The throwaway version of one collection's plan.

    What the server would clone is rehearsed as a copy. Each throwaway is the source of the next.

    Args:
        state: the collection as it is.
        item: what is planned for it.
        points: how many are sampled from the live collection.

    Returns:
        A plan of one job; of none where nothing would be built or changed.
    """
    rehearsed: list[Step] = []
    stands_for: dict[str | None, str] = {None: ""}
    if state.live is not None and any(_works_on(step, state.physical) for step in item.job.steps):
        target = rehearsal_name(state.name, 1)
        rehearsed.append(_sample(state.live.physical, target, state.live.schema, points))
        stands_for[state.physical] = target
    for step in item.job.steps:
        if isinstance(step, Build) and step.source in stands_for:
            target = rehearsal_name(state.name, len(stands_for))
            rehearsed.append(_build(step, stands_for[step.source] or None, target, len(stands_for)))
            stands_for[step.target] = target
        elif isinstance(step, InPlace) and step.target in stands_for:
            # An alias is a name that applications use: it must not lead to a throwaway.
            changes = tuple(change for change in step.changes if not change.kind.startswith("alias."))
            rehearsed.append(replace(step, target=stands_for[step.target], changes=changes))
    if not rehearsed:
        return Plan(verb="rehearse", target=(), collections=())
    made = [step.target for step in rehearsed if isinstance(step, Build)]
    steps = (*rehearsed, *(Retire(target, _REASON) for target in reversed(made)))
    job = Job(state.name, state.basis(), steps)
    plan = replace(item, job=job)
    return Plan(verb="rehearse", target=(), collections=(plan,))


def _works_on(step: Step, physical: str | None) -> bool:
    """Whether a step reads or changes the live collection."""
    return (isinstance(step, Build) and step.source == physical) or (
        isinstance(step, InPlace) and step.target == physical
    )


def _sample(source: str, target: str, schema: CollectionSchema, points: int) -> Build:
    return Build(
        ops=(),
        source=source,
        target=target,
        number=-1,
        schema=schema.with_(aliases=()),
        fill="sample",
        reason="points at random",
        sample=points,
    )


def _build(step: Build, source: str | None, target: str, number: int) -> Build:
    # Numbers below zero are not generations: none is used up.
    fill = "copy" if source else "empty"
    schema = step.schema.with_(aliases=())
    return replace(step, source=source, target=target, number=-number, schema=schema, fill=fill)
