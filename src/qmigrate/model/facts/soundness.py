"""What is found about the vectors of a collection, as programs and pages get it. It examines nothing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class VectorFinding:
    """One thing that is odd about a vector field.

    Attributes:
        kind: ``zero``, ``nan``, ``infinite``, ``unnormalised``, ``constant``, ``copies``, ``mixed``, ``missing``,
            ``other-model``, ``stale``, ``checksum``, ``no-input``, ``truncated`` or ``recall``.
        points: how many of those that were seen; of ``missing``, of all; of ``recall``, that ask and miss something.
        ids: the first five.
        detail: what was found, with its evidence, for people.
        command: what repairs it, as it is typed.
        suspicion: it may also be as it should be.
    """

    collection: str
    vector: str
    kind: str
    points: int
    ids: tuple[Any, ...]
    detail: str
    command: str
    suspicion: bool = False


@dataclass(frozen=True, slots=True)
class VectorHealth:
    """Vectors of a collection.

    Attributes:
        points: that the collection has; `seen`: of them.
        findings: what is odd.
        notes: what could not be examined, and why; and of what only a part was.
        embedded: points that were embedded again and compared, of the vector of which most were.
        searched: points that were searched for, of the vector of which most were.
    """

    collection: str
    points: int
    seen: int
    findings: tuple[VectorFinding, ...]
    notes: tuple[str, ...] = ()
    embedded: int = 0
    searched: int = 0
