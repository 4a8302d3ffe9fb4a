"""One thing that is not as recorded, for people and programs. It judges nothing."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

DRIFT, PENDING, NOTE = "drift", "pending", "note"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that differs, is unfinished, or should be known.

    Attributes:
        kind: ``schema | seal | name | alias | generation | hidden | embedder | file | run | revision | unmanaged |
            foreign``.
        severity: ``drift``, ``pending`` or ``note``.
        path: where, outermost part first: ``vectors.a.hnsw_config.m``, ``seal.revision``, ``alias docs_read``.
        message: one sentence.
        recorded: what the ledger has; None where nothing is recorded.
        live: what Qdrant (or the folder, for files) has; None where nothing is there.
        fixes: what to do, the first choice first; commands where there is one.
        strict: whether a note counts as drift when nothing unknown is allowed.
    """

    kind: str
    severity: str
    path: str
    message: str
    recorded: Any = None
    live: Any = None
    fixes: tuple[str, ...] = ()
    strict: bool = False

    def under(self, *, strict: bool) -> Finding:
        """This finding as it counts: with `strict`, what is not recorded is drift."""
        return replace(self, severity=DRIFT) if strict and self.strict else self


def drift(kind: str, path: str, message: str, *fixes: str, recorded: Any = None, live: Any = None) -> Finding:
    """A difference that has to be accepted or repaired."""
    return Finding(kind, DRIFT, path, message, recorded, live, fixes)


def note(kind: str, path: str, message: str, *fixes: str, live: Any = None, strict: bool = False) -> Finding:
    """Something to be known."""
    return Finding(kind, NOTE, path, message, None, live, fixes, strict)


def unfinished(kind: str, path: str, message: str, *fixes: str) -> Finding:
    """Work that is still to be done."""
    return Finding(kind, PENDING, path, message, fixes=fixes)
