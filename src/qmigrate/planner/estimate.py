"""How long a job takes: from the speed of earlier runs where there are any, else from assumed rates. Pure.

The model of a copy: seconds = (fill + proof + index) per point × points, plus a fixed part per step. A speed is taken
from the newest run of the same collection, else of any other one, that embedded with the same models; a copy that
embeds nothing scales with the size of a point. It is an estimate for people and entrypoints, and used for nothing else.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from qmigrate.model.facts.history import Measured
from qmigrate.model.names import rehearsal_name
from qmigrate.model.plan import Build, CollectionPlan, EmbeddingCost, InPlace, Job, Plan, Retire, Step
from qmigrate.model.schema import Change, CollectionSchema, changes
from qmigrate.model.state import CollectionState
from qmigrate.settings.sections import EstimateSettings

#: Below this many points a run shows more about its fixed part than about its speed.
FEWEST_POINTS = 500
MEASURED, TRIED, ASSUMED = "earlier runs", "a trial", "assumed"
#: How much faster a payload index is built than an HNSW graph of one vector.
_PAYLOAD_INDEX = 50


@dataclass(frozen=True, slots=True)
class Speed(Measured):
    """What an earlier run measured; see :func:`qmigrate.engine.golive.golive.speed_of`.

    Attributes:
        collection: that the run was about.
    """

    collection: str = field(kw_only=True)


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
    wanted: Copy, speeds: Sequence[Speed], rates: EstimateSettings, *, local: bool
) -> tuple[float, str]:
    """Seconds of one copy with its proof and index, and what that is taken from.

    Args:
        speeds: of earlier runs, newest first.
        local: whether it runs in the client's local mode.
    """
    known = _nearest(wanted, speeds)
    if known is None:
        return rates.step + _assumed(wanted, rates, local=local), ASSUMED
    # What is embedded costs what the model costs; everything else what its bytes cost.
    scale = wanted.schema.bytes_per_point() / max(known.width, 1)
    if known.weight is not None:
        scale = wanted.weight / max(known.weight, 1)
    fill = wanted.points * known.fill / known.points * (1.0 if wanted.embeds else scale)
    rest = wanted.total * (known.prove + known.index) / known.total * scale
    return rates.step + fill + rest, MEASURED


def seconds_of_clone(wanted: Copy, before: CollectionSchema, rates: EstimateSettings) -> float:
    """Seconds of a clone by the server: the recovery, what is changed in it, and the proof; its index comes along.

    Args:
        wanted: with the weight of the source, of which nothing is left out.
        before: schema of the source.
    """
    moving = 2 * wanted.total * wanted.weight / rates.copy
    return moving + seconds_of_changes(changes(before, wanted.schema), wanted.total, wanted.schema, rates)


def projected(speed: Speed, points: int, schema: CollectionSchema, rates: EstimateSettings, *, local: bool) -> float:
    """Seconds of a whole collection at the speed of a few of its points.

    The index is assumed: a server builds no graph for a few points, so what they took is not a measure.
    """
    index = 0.0 if local else points * _values(schema) / rates.index
    return rates.step + points * (speed.fill / speed.points + speed.prove / speed.total) + index


def seconds_of_changes(
    work: Sequence[Change], points: int, schema: CollectionSchema, rates: EstimateSettings
) -> float:
    """Seconds of in-place work: settings at once, payload indexes quickly, what rebuilds segments like an index."""
    found = rates.step
    for change in work:
        if change.kind in ("index.add", "index.alter"):
            found += points * _PAYLOAD_INDEX / rates.index
        elif not change.light():
            found += points * _values(schema) / rates.index
    return found


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


def _assumed(wanted: Copy, rates: EstimateSettings, *, local: bool) -> float:
    embedding = wanted.points * wanted.embeds / rates.embed
    if local:
        return wanted.total / rates.local + embedding
    copying = wanted.points * wanted.weight / rates.copy
    proving = wanted.total * wanted.weight / rates.copy
    return copying + embedding + proving + wanted.total * _values(wanted.schema) / rates.index


def _values(schema: CollectionSchema) -> int:
    """Vector values of a point."""
    return sum(int(params.get("size", 0)) for params in schema.vectors.values())


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
