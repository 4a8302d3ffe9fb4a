"""Which models a plan fills vectors with, and which filled them until now, in words. It embeds and writes nothing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from qmigrate.commands.session import Session
from qmigrate.embed import known_size
from qmigrate.embed.fingerprint import fingerprint_words
from qmigrate.errors import QmigrateError
from qmigrate.model.plan import Build, CollectionPlan, Plan
from qmigrate.model.state import World
from qmigrate.operations.values import Embed
from qmigrate.steps.preflight import check_size
from qmigrate.steps.work import transform_of


def with_models(opened: Session, world: World, plan: Plan, *, load: bool) -> Plan:
    """The plan with a note for each vector that changes its model, and for each model with random weights.

    Args:
        load: whether embedders are loaded, which is how a change of model is known. Only those are that fill a vector
            whose earlier model is recorded; one that can't be loaded is a note.

    Raises:
        EmbedError: by the settings an embedder makes vectors of another size than declared.
    """
    found = [note for item in plan.collections for note in _notes(opened, world, item, load=load)]
    return replace(plan, notes=tuple(dict.fromkeys([*plan.notes, *found])))


def _notes(opened: Session, world: World, item: CollectionPlan, *, load: bool) -> Iterator[str]:
    name = item.job.collection
    state = world.collections.get(name)
    configured = opened.settings.for_collection(name).embedders
    live = state.live if state else None
    if state is None or live is None:
        return
    schema, recorded = live.schema, dict(state.embedders)
    for step in item.job.steps:
        if not isinstance(step, Build) or step.source is None:
            continue
        transform = transform_of([opened.operation(ref) for ref in step.ops], schema)
        for vector in transform.filled:
            filling = transform.values[vector]
            if isinstance(filling, Embed):
                made = known_size(configured.get(filling.embedder, {}))
                check_size(name, step, vector, filling.embedder, made)
                yield from _random(name, vector, filling, configured)
                if load and vector in recorded:
                    yield _change(opened, name, vector, filling, configured, recorded[vector])
        schema = step.schema
        recorded = {target: recorded[source] for target, source in transform.vectors.items() if source in recorded}


def _random(name: str, vector: str, filling: Embed, configured: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    seed = configured.get(filling.embedder, {}).get("random_weights")
    if seed is not None:
        yield (
            f"{name}: vector {vector or '(unnamed)'} is filled by {filling.embedder} with random weights "
            f"(seed {seed}): for trials only, its searches mean nothing"
        )


def _change(
    opened: Session,
    name: str,
    vector: str,
    filling: Embed,
    configured: Mapping[str, Mapping[str, Any]],
    before: Mapping[str, Any],
) -> str:
    shown = f"{name}: vector {vector or '(unnamed)'}"
    try:
        after = opened.embedder(filling.embedder, configured).fingerprint()
    except QmigrateError as error:
        return f"{shown} can't be filled: {error.message}"
    if dict(after) == dict(before):
        return f"{shown} is filled again by the model that it has: {fingerprint_words(after)}"
    return f"{shown} changes its model: {fingerprint_words(before, after)} → {fingerprint_words(after, before)}"
