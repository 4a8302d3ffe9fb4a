"""Plain collection names: how a collection that has the logical name itself makes room for an alias. Pure."""

from __future__ import annotations

from dataclasses import replace

from qmigrate.errors import PlanError, RefusedError
from qmigrate.model.names import generation_name, old_alias
from qmigrate.model.plan import Build, GoLive, Step
from qmigrate.model.state import CollectionState, World
from qmigrate.planner.members import Position
from qmigrate.text import quote


def refuse_unknown(before: Position, reason: str) -> None:
    """A copy is made of what this version knows: settings that it doesn't know would be lost silently.

    Args:
        before: the collection that would be copied.
        reason: why it would be a copy.

    Raises:
        PlanError: it has such settings; they are named.
    """
    if before.unknown:
        raise PlanError(
            f"{before.physical} has settings that this version of qmigrate doesn't know, and a copy would lose them: "
            f"{', '.join(before.unknown)} (a copy, because: {reason})",
            hint="update qmigrate, or revert these settings first",
            facts={"unknown": list(before.unknown)},
        )


def notice(before: Position) -> tuple[str, ...]:
    """What a person should know of a clone of such a collection, one line each."""
    if not before.unknown:
        return ()
    names = ", ".join(before.unknown)
    return (f"settings unknown to this version are left to the server's clone, and checked in it: {names}",)


def way_of(world: World, *, setting: str, allow_gap: bool) -> str:
    """How a plain name may become an alias: ``shadow``, ``gap``, or ``refuse`` without consent.

    Args:
        world: with ``hiding`` where that was tried; a mere plan takes it for possible.
        setting: ``rebuild.plain_names``.
        allow_gap: consent to a gap of some milliseconds.
    """
    if world.capabilities.local:
        # No other client is there to see a gap.
        return "gap"
    if setting == "gap" or world.hiding is False or world.capabilities.may_be_several:
        return "gap" if allow_gap else "refuse"
    return "shadow"


def settled(before: Position) -> tuple[tuple[Step, ...], Position]:
    """First an identical generation, proven, takes the name from the plain collection, which is deleted.

    From then on the name is an alias like any other, so every later step and every way back is an ordinary one.

    Raises:
        RefusedError: that leaves a gap, and it was not consented to.
    """
    if before.plain == "refuse":
        raise RefusedError(
            f"{before.name} is a plain collection, and its name can become an alias only with a gap of some "
            "milliseconds in which reads fail",
            hint="qmigrate upgrade --allow-gap consents to it; or let the application use another name once: "
            f"qmigrate adopt {quote(before.name)} --alias NAME",
        )
    reason = "the plain collection makes room for an alias of its name"
    refuse_unknown(before, reason)
    assert before.live is not None  # noqa: S101  a plain collection is there
    target = generation_name(before.name, before.number)
    build = Build(
        ops=(),
        source=before.physical,
        target=target,
        number=before.number,
        schema=before.live,
        fill="copy",
        reason=reason,
    )
    names = (before.name, *before.live.aliases)
    golive = GoLive((), before.physical, target, names, writes="freeze", place="gap")
    return (build, golive), replace(before, physical=target, number=before.number + 1)


def in_order(room: tuple[Step, ...], build: Build, golive: GoLive) -> tuple[Step, ...]:
    """Everything is built and proven before the plain collection is deleted: only builds refuse what was not foreseen.

    Args:
        room: the steps of :func:`settled`, or none.
    """
    builds = tuple(step for step in room if isinstance(step, Build))
    return (*builds, build, *(step for step in room if step not in builds), golive)


def refuse_to_uncover(before: Position) -> None:
    """Taking the alias away would bring the hidden collection to light.

    Raises:
        RefusedError: always while one is hidden.
    """
    if before.hides:
        raise RefusedError(
            f"the alias {before.name} hides the old collection of that name ({old_alias(before.name)}), which would "
            "serve again if the name were removed",
            hint=f"remove it first: qmigrate gc {quote(before.name)} --now --generation {quote(before.name)}",
        )


def describe(state: CollectionState, steps: list[Step]) -> list[str]:
    """What a person should know of how the name moves, one line each."""
    lines = []
    for step in steps:
        if isinstance(step, GoLive) and step.place == "shadow" and not step.back:
            lines.append(f"no gap: an alias hides the old collection, which stays as {old_alias(state.name)} until gc")
            lines.append("from gc on the name isn't in get_collections: use qmigrate.ensure, not create_collection")
        elif isinstance(step, GoLive) and step.place == "gap":
            if any(isinstance(one, Build) and one.source == step.target for one in steps):
                lines.append("first everything is built and proven; until then nothing is deleted")
            lines.append(f"a gap of milliseconds: {step.target} is proven identical while writes are refused,")
            lines.append(f"then the plain collection {state.name} is deleted and its name becomes an alias")
            lines.append(
                "on a server it takes consent: --allow-gap; without a gap: "
                f"qmigrate adopt {quote(state.name)} --alias NAME"
            )
    return lines
