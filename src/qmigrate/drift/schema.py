"""The recorded schema against the live one, field by field, and the changes that bring them together. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from qmigrate.model.schema import (
    DISABLED,
    TUNABLE_SPARSE_FIELDS,
    TUNABLE_VECTOR_FIELDS,
    Change,
    CollectionSchema,
    JsonObject,
    changes,
    declared_differs,
)
from qmigrate.model.state import LiveCollection
from qmigrate.operations.checks import effective

_PLACES = {
    "vector": "vectors",
    "sparse": "sparse_vectors",
    "index": "payload_indexes",
    "config": "",
    "alias": "aliases",
}
#: A word that makes the server choose, which it reports by leaving the field out.
_AUTOMATIC = "auto"
#: The setting that makes no replica by itself once a collection is there.
REPLICATION = "replication_factor"


@dataclass(frozen=True, slots=True)
class Difference:
    """One declared field that is live with another value, or a part that only one side has.

    Attributes:
        path: ``vectors.a.hnsw_config.m``; the unnamed vector is ``(unnamed)``.
        recorded: None where nothing is recorded.
        live: None where nothing is there.
        kind: of the change that would restore it: ``vector.add`` (it is missing), ``index.drop`` (added by hand),
            ``config.set`` (another value), …
        name: of the vector, field, alias or setting.
    """

    path: str
    recorded: Any
    live: Any
    kind: str
    name: str

    @property
    def message(self) -> str:
        """What happened, in a few words."""
        verb = self.kind.split(".")[1]
        if verb == "add":
            return f"{self.path} is missing"
        if verb == "drop":
            return f"{self.path} was added by hand"
        return f"{self.path} was changed by hand"


def differences(recorded: CollectionSchema, live: CollectionSchema, *, local: bool) -> tuple[Difference, ...]:
    """Where a live schema is not the recorded one. What was never declared doesn't count, unless it is an entire part.

    Args:
        live: without the logical name among its aliases.
        local: local mode keeps only what decides the values of vectors, and metadata.
    """
    found = []
    for change in restoration(recorded, live, local=local):
        place, name = _place(change)
        if change.kind.endswith((".add", ".drop")):
            found.append(Difference(f"{place}{name}", change.after, change.before, change.kind, change.name))
            continue
        found += [
            Difference(path, wanted, seen, change.kind, change.name)
            for path, wanted, seen in _differing(f"{place}{name}", change, local=local)
        ]
    return tuple(found)


def restoration(recorded: CollectionSchema, live: CollectionSchema, *, local: bool) -> tuple[Change, ...]:
    """The changes that would make the live schema the recorded one again."""
    found = []
    for change in changes(live, recorded):
        if local and not _kept_locally(change):
            continue
        if change.kind.endswith((".add", ".drop")) or any(_differing("", change, local=local)):
            found.append(change)
    return tuple(found)


def acceptance(recorded: CollectionSchema, live: CollectionSchema, *, local: bool) -> tuple[Change, ...]:
    """The changes that would make the recorded schema the live one: only of what drifted, no server default."""
    return tuple(_accepting(change) for change in restoration(recorded, live, local=local))


def _accepting(change: Change) -> Change:
    turned = change.reverse()
    if change.kind.endswith((".add", ".drop")):
        return turned
    if change.kind == "index.alter":
        # An index is declared completely, and the live one is reported completely.
        return turned
    if change.kind == "config.set" and change.name == "quantization_config" and not change.before:
        return replace(turned, after=DISABLED)
    return replace(turned, after=_as_live(change.after, change.before))


def _as_live(declared: Any, live: Any) -> Any:
    """What was declared, with every differing field as it is live; a field that is gone is left out."""
    if not isinstance(declared, Mapping) or not isinstance(live, Mapping):
        return live
    if _method_differs(declared, live):
        return dict(live)
    return {key: _as_live(value, live[key]) for key, value in declared.items() if live.get(key) is not None}


def _method_differs(declared: Mapping[str, Any], live: Mapping[str, Any]) -> bool:
    """A quantization of another method: the two objects have no field in common."""
    return bool(declared) and bool(live) and not set(declared) & set(live)


def _differing(path: str, change: Change, *, local: bool) -> Iterator[tuple[str, Any, Any]]:
    wanted = _fields_kept(change) if local else change.after
    own = change.kind == "config.set" and change.name == "metadata"
    return _leaves(path, change.name if change.kind == "config.set" else "", wanted, change.before, defaults=not own)


def _place(change: Change) -> tuple[str, str]:
    family = change.kind.split(".")[0]
    place = _PLACES[family]
    name = change.name if change.name or family != "vector" else "(unnamed)"
    return f"{place}." if place else "", name


def _leaves(path: str, key: str, declared: Any, live: Any, *, defaults: bool = True) -> Iterator[tuple[str, Any, Any]]:
    """(path, declared, live) of every declared field that is live with another value.

    Args:
        key: the field that `path` ends with.
        defaults: whether what a server does anyway counts as equal when it isn't reported.
    """
    if isinstance(declared, Mapping) and isinstance(live, Mapping):
        for inner in sorted(declared):
            yield from _leaves(f"{path}.{inner}", inner, declared[inner], live.get(inner), defaults=defaults)
        return
    if defaults and live is None and says_nothing(key, declared):
        return
    if defaults and key == "quantization_config" and declared == DISABLED:
        if live != DISABLED:
            yield path, declared, live
        return
    if declared_differs(live, declared):
        yield path, declared, live


def says_nothing(key: str, declared: Any) -> bool:
    """Whether a declared value is what a server does anyway, and doesn't report."""
    if isinstance(declared, Mapping):
        return all(says_nothing(inner, value) for inner, value in declared.items())
    return declared == _AUTOMATIC or not effective({key: declared})


def _kept_locally(change: Change) -> bool:
    family = change.kind.split(".")[0]
    if family == "alias":
        return True
    if family == "config":
        return change.name == "metadata"
    return family in ("vector", "sparse")


def _fields_kept(change: Change) -> Any:
    """The declared fields that local mode keeps."""
    tunable = {"vector": TUNABLE_VECTOR_FIELDS, "sparse": TUNABLE_SPARSE_FIELDS}.get(change.kind.split(".")[0])
    if tunable is None or not isinstance(change.after, Mapping):
        return change.after
    kept: JsonObject = {key: value for key, value in change.after.items() if key not in tunable}
    return kept


def lacking_replicas(recorded: CollectionSchema, live: LiveCollection, peers: int) -> Change | None:
    """The change that makes the replicas that are declared, where a cluster has fewer of a shard.

    The setting alone makes none, and a node that was removed took its own along.
    """
    declared = recorded.config.get(REPLICATION)
    if declared is None or live.replicas is None or peers == 1:
        return None
    wanted = min(int(declared), peers) if peers else int(declared)
    return Change("config.set", REPLICATION, after=declared, before=live.replicas) if live.replicas < wanted else None
