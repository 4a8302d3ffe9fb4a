"""What a live collection has against what revisions have recorded for it, and which revision fits. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from qmigrate.model.known import VECTOR
from qmigrate.model.schema import (
    TUNABLE_SPARSE_FIELDS,
    TUNABLE_VECTOR_FIELDS,
    Change,
    CollectionSchema,
    changes,
    declared_differs,
)
from qmigrate.model.state import Capabilities
from qmigrate.operations.checks import effective
from qmigrate.operations.reasons import shown
from qmigrate.planner.members import Link

#: Undeclared fields that decide the values of a vector: the server's default is another one.
_DECISIVE = frozenset({"modifier", *VECTOR.known}) - TUNABLE_VECTOR_FIELDS - TUNABLE_SPARSE_FIELDS


@dataclass(frozen=True, slots=True)
class Fit:
    """A revision that fits, or the nearest one.

    Attributes:
        link: the revision with its recorded schema.
        differences: in words; empty where it fits.
        rivals: earlier revisions that fit as well, and whose difference is in the points, which a schema doesn't show.
    """

    link: Link
    differences: tuple[str, ...] = ()
    rivals: tuple[str, ...] = ()


def differences(live: CollectionSchema, recorded: CollectionSchema, can: Capabilities) -> tuple[str, ...]:
    """What differs, one line each: declared fields, and what is there although nothing declares it.

    Further aliases that are not declared are not a difference: they move with the collection. Local mode keeps neither
    payload indexes nor most settings, so there only vectors, names and metadata count.
    """
    found = [change for change in changes(live, recorded) if change.kind != "alias.drop"]
    if can.local:
        kept = ("vector.", "sparse.", "alias.")
        found = [change for change in found if change.kind.startswith(kept) or change.name == "metadata"]
    named = {(change.kind.split(".")[0], change.name) for change in found}
    families = (("vector", live.vectors, recorded.vectors), ("sparse", live.sparse, recorded.sparse))
    for family, present, wanted in families:
        for name in sorted(present.keys() & wanted.keys()):
            more = effective(present[name]).keys() - effective(wanted[name]).keys()
            if more & _DECISIVE and (family, name) not in named:
                found.append(Change(f"{family}.alter", name, wanted[name], present[name]))
    return tuple(said(change) for change in found)


def said(change: Change) -> str:
    """A difference for people: ``payload index kind: recorded {...}, but not there``."""
    family, verb = change.kind.split(".")
    what = {"config": "setting", "index": "payload index", "sparse": "sparse vector"}.get(family, family)
    label = f"{what} {shown(change.name)}"
    if family == "alias":
        return f"{label}: recorded, but not there"
    if verb == "add":
        return f"{label}: recorded ({_value(change.after)}), but not there"
    if verb == "drop":
        return f"{label}: there ({_value(change.before)}), but not recorded"
    return f"{label}: " + "; ".join(_fields(change.before, change.after))


def best_fit(live: CollectionSchema, links: Sequence[Link], can: Capabilities) -> Fit | None:
    """The newest revision whose recorded schema fits, else the one with the fewest differences; None without any."""
    judged = [Fit(link, differences(live, link.after, can)) for link in links if link.after is not None]
    fitting = [fit for fit in judged if not fit.differences]
    if not fitting:
        return min(reversed(judged), key=lambda fit: len(fit.differences), default=None)
    newest = fitting[-1]
    rivals = [fit.link.revision.id for fit in fitting[:-1] if _changes_points(links, fit.link, newest.link)]
    return Fit(newest.link, (), tuple(rivals))


def _changes_points(links: Sequence[Link], earlier: Link, later: Link) -> bool:
    """Whether a revision behind `earlier`, up to `later`, does something to the points."""
    between = links[links.index(earlier) + 1 : links.index(later) + 1]
    for link in between:
        schema = link.before
        for _, operation in link.refs:
            if schema is None or operation.creates or operation.drops:
                return True
            if not operation.transform(schema).is_identity():
                return True
            schema = operation.apply(schema)
    return False


def _fields(before: Any, after: Any, path: str = "") -> list[str]:
    """Fields that differ: ``size 512, recorded 768``."""
    if not isinstance(before, Mapping) or not isinstance(after, Mapping):
        return [f"{path or 'value'} {_value(before)}, recorded {_value(after)}".strip()]
    found = []
    for key in sorted(before.keys() | after.keys()):
        old, new = before.get(key), after.get(key)
        name = f"{path}.{key}" if path else key
        if isinstance(old, Mapping) and isinstance(new, Mapping):
            found += _fields(old, new, name) if declared_differs(old, new) else []
        elif declared_differs(old, new) or (new is None and key in _DECISIVE and effective({key: old})):
            found.append(f"{name} {_value(old)}, recorded {_value(new)}")
    return found


def _value(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {_value(item)}" for key, item in value.items()) or "defaults"
    return "nothing" if value is None else str(value)
