"""What an erasure has done, place by place. Values; they read nothing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from qmigrate.model.words import quote


@dataclass(frozen=True, slots=True)
class ErasedPlace:
    """One kind of place that held points.

    Attributes:
        name: ``live``, ``generations`` (all others), ``exports``, ``journals``, ``samples``, ``quarantine``,
            ``archives``.
        found: points that were there.
        left: points that were still there when it was checked again.
    """

    name: str
    found: int
    left: int = 0


@dataclass(frozen=True, slots=True)
class HoldingSnapshot:
    """A server-side snapshot that was made before the erasure, and may hold the points.

    Attributes:
        collection: the generation that it is of.
        created_at: as the server reports it, ISO 8601; None where it doesn't.
        deleted: it was replaced by a newer one.
        command: what deletes it.
    """

    collection: str
    name: str
    created_at: str | None
    deleted: bool
    command: str


@dataclass(frozen=True, slots=True)
class Erasure:
    """What an erasure has done to one collection.

    Attributes:
        ids: how many ids no old copy brings back any more.
        places: where points were, and that none is left.
        written_again: points that another client has written again while it ran; they stay.
        snapshots: that may hold the points.
        made: name of the snapshot without them that took the place of these, or None.
        beyond: files that may hold them and could not be changed, each with what to do.
    """

    ids: int
    places: tuple[ErasedPlace, ...]
    written_again: int
    snapshots: tuple[HoldingSnapshot, ...]
    made: str | None
    beyond: tuple[str, ...]


def erased_of(facts: Mapping[str, Mapping[str, Any]], target: str | None) -> Erasure | None:
    """The result of one step, from what its phases learned; None where it was not an erasure, or had nothing to do.

    Args:
        facts: phase -> what it has learned.
        target: the generation that serves.
    """
    if "forget" not in facts or "select" not in facts:
        return None
    there = facts["select"].get("there", {})
    live = there.get(target, 0)
    forgotten, verified = facts["forget"], facts.get("verify", {})
    left = verified.get("left", {})
    counts = {"live": live, "generations": sum(there.values()) - live, **forgotten.get("counts", {})}
    copies = facts.get("snapshots", {})
    return Erasure(
        ids=facts["select"].get("changes", 0),
        places=tuple(ErasedPlace(name, count, left.get(name, 0)) for name, count in counts.items()),
        written_again=verified.get("written_again", 0),
        snapshots=tuple(
            HoldingSnapshot(**entry, command=f"qmigrate snapshot delete {quote(entry['name'])}")
            for entry in copies.get("holding", ())
        ),
        made=copies.get("made"),
        beyond=(*forgotten.get("beyond", ()), *_unseen(copies)),
    )


def _unseen(copies: Mapping[str, Any]) -> tuple[str, ...]:
    said = copies.get("unseen")
    told = f"snapshots could not be listed ({said}): list them with a key that may: qmigrate snapshot list"
    return (told,) if said else ()
