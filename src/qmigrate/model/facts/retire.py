"""What each phase of a deletion of a generation learns: one frozen dataclass per phase. They decide nothing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from qmigrate.model.facts.phases import Facts, Ids
from qmigrate.model.facts.stored import UNLEARNED, Unlearned


@dataclass(frozen=True, slots=True)
class Retiring(Facts):
    """Of any phase that retires.

    Attributes:
        spared: why the generation stays; None as long as nothing speaks against its deletion.
        hint: what can be done about it.
        generation: that was written to.
        writes: how many points differ, as ``count``, and at most 20 of them, as ``named``.
    """

    spared: str | None = None
    hint: str | Unlearned | None = UNLEARNED
    generation: str | None = None
    writes: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class RetirePreflight(Retiring):
    """Whether the generation is there, the one that its name leads to as an alias, and its points."""

    phase: ClassVar[str] = "preflight"
    present: bool | None = None
    hidden_by: str | Unlearned | None = UNLEARNED
    points: int | None = None


@dataclass(frozen=True, slots=True)
class RetireCheck(Retiring):
    """That nothing was written to it.

    Attributes:
        ids: its operation ids then.
        barrier_delta: how far one barrier moves them.
        epoch: lease epoch of the process that has checked it.
        taken_at: when its tokens were taken last, in seconds of that process's monotonic clock.
    """

    phase: ClassVar[str] = "check"
    ids: Ids | None = None
    barrier_delta: int | None = None
    epoch: int | None = None
    taken_at: float | None = None


@dataclass(frozen=True, slots=True)
class RetiredSnapshot:
    """A snapshot that went with its generation.

    Attributes:
        size: in bytes.
        kept: whether it was exported.
        file: where it is then.
        sha256: of the file.
    """

    name: str
    size: int
    kept: bool
    file: str | Unlearned = UNLEARNED
    sha256: str | Unlearned = UNLEARNED


@dataclass(frozen=True, slots=True)
class RetireSnapshots(Retiring):
    """The snapshots that went with it."""

    phase: ClassVar[str] = "snapshots"
    snapshots: tuple[RetiredSnapshot, ...] | None = None


@dataclass(frozen=True, slots=True)
class RetireDelete(Retiring):
    """Whether the collection was there to be deleted."""

    phase: ClassVar[str] = "delete"
    deleted: bool | None = None
