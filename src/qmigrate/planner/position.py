"""Where a collection stands while its revisions are folded. A value; it folds nothing itself."""

from __future__ import annotations

from dataclasses import dataclass

from qmigrate.model.schema import CollectionSchema


@dataclass(frozen=True, slots=True)
class Position:
    """Where a collection stands while its revisions are folded, one after the other.

    Attributes:
        declared: the recorded schema; None while it doesn't exist.
        live: what the serving generation has, or will have; None likewise.
        physical: its physical name.
        number: the next free generation number.
        hides: the alias hides a plain collection of its name.
        plain: how a plain name may become an alias: ``shadow | gap | refuse``.
        points: of the serving generation, approximately.
        unknown: settings of it that this version doesn't know, as paths.
    """

    name: str
    declared: CollectionSchema | None
    live: CollectionSchema | None
    physical: str | None
    number: int
    hides: bool = False
    plain: str = "shadow"
    points: int = 0
    unknown: tuple[str, ...] = ()
