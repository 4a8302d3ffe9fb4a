"""What needs another person's approval, and who counts as another one. It reads nothing and decides no bound."""

from __future__ import annotations

import hashlib
import json
import unicodedata
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from qmigrate.model.facts.edits import Edit, words_of
from qmigrate.model.facts.stored import plain
from qmigrate.model.plan import Build, EditPoints, GoLive, Job, Retire, Step
from qmigrate.model.schema import JsonObject

#: Kinds of edits that take points away. What a purge takes was approved when it was marked.
DELETIONS = frozenset({"delete", "soft", "orphans", "erase"})
RESET, DROP, RETIRE = "reset", "drop", "gc"
#: Of an edit: how much of it was agreed to, how fast it goes, and where its ids are written; not what is deleted.
_BESIDE = frozenset({"expect", "most", "max_rate", "ids_to", "missing_to", "log_empty"})
#: How a person is known: logged in by the console, or by the application around it; else it is only what they say.
CONSOLE, APPLICATION = "console", "application"


@dataclass(frozen=True, slots=True)
class Person:
    """Who asks, or approves.

    Attributes:
        actor: the name that is recorded.
        proven: ``console`` or ``application``, which has logged them in; None where the name is only what they say.
        user: of the operating system, by its number and not by the environment; None where the name is proven.
        host: whose user that is.
        agent: the assistant that runs the command, where one is recognised.
        behind: the person whom an assistant or a script names: ``name: why``.
    """

    actor: str
    proven: str | None = None
    user: str | None = None
    host: str | None = None
    agent: str | None = None
    behind: str | None = None

    @classmethod
    def of(cls, stored: Mapping[str, Any]) -> Person:
        """As the ledger has it."""
        return cls(**{name: stored.get(name) for name in cls.__slots__})  # type: ignore[arg-type]

    def to_json(self) -> JsonObject:
        """What the ledger keeps."""
        return {name: getattr(self, name) for name in self.__slots__}

    @property
    def shown(self) -> str:
        """For people: ``kim, logged in by the console``; ``kim, as OS user app on host web says``."""
        if self.proven is not None:
            return f"{self.actor}, logged in by the {self.proven}"
        return f"{self.actor}, as the system user {self.user or 'unknown'} on {self.host or 'an unknown host'} says"

    def is_same(self, other: Person) -> bool:
        """Whether both may be one person; any doubt counts."""
        loose = self.proven is None or other.proven is None
        return bool(set(self._names(loose=loose)) & set(other._names(loose=loose)))

    def _names(self, *, loose: bool) -> Iterator[str]:
        """What they may be called; `loose`: an account at another host, or an address, may be the same person's."""
        said = (self.behind or "").partition(":")[0]
        for name in (self.actor, self.user, said):
            found = _normal(name or "")
            if found:
                yield found
                if loose:
                    yield found.partition("@")[0]


def _normal(name: str) -> str:
    """A name without differences that people don't see: case, width, blanks."""
    return " ".join(unicodedata.normalize("NFKC", name).casefold().split())


@dataclass(frozen=True, slots=True)
class Wanted:
    """A step that may need an approval.

    Attributes:
        kind: ``delete``, ``soft``, ``orphans``, ``erase``, ``reset``, ``drop`` or ``gc``.
        what: the step as it is bound to its approval, plain JSON.
        reason: why, as it was given.
        changes: points that would go.
        points: of the collection.
    """

    collection: str
    kind: str
    what: JsonObject
    reason: str | None
    changes: int = 0
    points: int = 0

    @property
    def digest(self) -> str:
        """Of what is done and to which collection: another selection, reason or revision is another one."""
        return digest_of(self.collection, self.kind, self.what)

    @property
    def would(self) -> str:
        """What would become of the points, behind "would"."""
        others = {RESET: "be left behind", DROP: "go with the collection", RETIRE: "lose their way back"}
        return others.get(self.kind) or words_of({"kind": self.kind}).would


def digest_of(collection: str, kind: str, what: Mapping[str, Any]) -> str:
    """SHA-256, in hex."""
    text = json.dumps([collection, kind, what], sort_keys=True, ensure_ascii=False, default=str)
    return hashlib.sha256(text.encode("utf-8", "backslashreplace")).hexdigest()


def wanted(job: Job, position: int) -> Wanted | None:
    """The step at a position of a job, where it takes points away; None for all others."""
    found = _what(job.steps[position])
    if found is None:
        return None
    kind, what, reason = found
    # As JSON has it: a tuple or a moment must read the same once it is stored.
    kept: JsonObject = json.loads(json.dumps(plain(what | _revisions(job, position)), default=str))
    return Wanted(job.collection, kind, kept, reason)


def _what(step: Step) -> tuple[str, JsonObject, str | None] | None:
    if isinstance(step, EditPoints):
        edit = Edit.of(step.edit)
        bare = {name: value for name, value in step.edit.items() if name not in _BESIDE}
        return (edit.kind, {"edit": bare}, step.reason) if edit.kind in DELETIONS else None
    if isinstance(step, Build):
        origin = step.origin or {}
        empty = step.fill == "restore" and origin.get("kind") == "nothing"
        return (RESET, {"reason": origin.get("reason")}, origin.get("reason")) if empty else None
    if isinstance(step, GoLive):
        drops = step.target is None
        return (DROP, {"generation": step.source}, None) if drops else None
    if isinstance(step, Retire):
        return RETIRE, {"generation": step.target, "writes": step.writes}, step.reason
    return None


def _revisions(job: Job, position: int) -> JsonObject:
    """The revision that says so, with the checksum of its file: an edited file is another wish."""
    refs = getattr(job.steps[position], "ops", ())
    if not refs:
        return {}
    sums = {closing.revision: closing.checksum for closing in job.closes}
    return {"revisions": [[ref.revision, ref.index, sums.get(ref.revision)] for ref in refs]}
