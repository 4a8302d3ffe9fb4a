"""What a collection looks like, and the difference of two of them. It knows nothing of revisions, servers or SQL."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from qmigrate.model.facts.stored import by_field, loaded

JsonObject = dict[str, Any]

#: Fields of Qdrant's create call that can only be chosen when a collection is made.
FIXED_CONFIG = frozenset({"shard_number", "sharding_method", "wal_config"})
#: Changes that the server rebuilds every segment for: done next to the live collection unless asked otherwise.
HEAVY_CONFIG = frozenset({"hnsw_config", "quantization_config"})
#: Optimizer settings by which a server cuts or merges segments again, or builds indexes where there were none.
RESHAPING_OPTIMIZERS = frozenset(
    {
        "deleted_threshold",
        "vacuum_min_vector_number",
        "default_segment_number",
        "max_segment_size",
        "memmap_threshold",
        "indexing_threshold",
    }
)
#: Settings of an existing vector that the server can change; every other field decides the stored values.
TUNABLE_VECTOR_FIELDS = frozenset({"hnsw_config", "quantization_config", "on_disk", "memory"})
#: The same for a sparse vector.
TUNABLE_SPARSE_FIELDS = frozenset({"index"})
#: A datatype of four bits a value.
FOUR_BITS = "turbo4"
#: How an update says that there is no quantization any more; a new collection is made without the field.
DISABLED = "Disabled"


@dataclass(frozen=True, slots=True)
class CollectionSchema:
    """The schema of one collection, in the shape of Qdrant's REST API, without the seal.

    Attributes:
        vectors: dense and multivectors by name; ``""`` is the unnamed one. Values are ``VectorParams``.
        sparse: sparse vectors by name. Values are ``SparseVectorParams``.
        indexes: payload indexes by field. Values always carry ``type``.
        config: every other field of the create call by its own name (``hnsw_config``, ``shard_number``,
            ``on_disk_payload``, ``metadata``, …). Only what was declared or found, never a guessed default.
        aliases: names of the collection in addition to its logical name, sorted.
    """

    vectors: Mapping[str, JsonObject] = field(default_factory=dict)
    sparse: Mapping[str, JsonObject] = field(default_factory=dict)
    indexes: Mapping[str, JsonObject] = field(default_factory=dict)
    config: Mapping[str, Any] = field(default_factory=dict)
    aliases: tuple[str, ...] = ()

    def vector_names(self) -> frozenset[str]:
        """Names of all vectors, dense and sparse."""
        return frozenset(self.vectors) | frozenset(self.sparse)

    def bytes_per_point(self) -> int:
        """Vectors as float32 and a guess of 200 bytes for id and payload: an estimate for people."""
        return 200 + sum(4 * int(params.get("size", 0)) for params in self.vectors.values())

    def create_request(self) -> JsonObject:
        """The body of Qdrant's create call; payload indexes and aliases are separate calls."""
        body: JsonObject = _without_disabled(self.config)
        vectors = {name: _without_disabled(params) for name, params in self.vectors.items()}
        body["vectors"] = vectors[""] if set(vectors) == {""} else vectors
        if self.sparse:
            body["sparse_vectors"] = dict(self.sparse)
        return body

    def to_json(self) -> JsonObject:
        """A JSON object that :meth:`from_json` reads back equal."""
        return by_field(self)

    @classmethod
    def from_json(cls, data: JsonObject) -> CollectionSchema:
        """The inverse of :meth:`to_json`."""
        return loaded(cls, data)

    def with_(self, **parts: Any) -> CollectionSchema:
        """A copy with the given attributes replaced."""
        return replace(self, **parts)


@dataclass(frozen=True, slots=True)
class Change:
    """One difference of two schemas, and at the same time one piece of in-place work.

    Attributes:
        kind: ``vector.add | vector.drop | vector.alter``, ``sparse.…``, ``index.add | index.drop | index.alter``,
            ``config.set``, ``alias.add | alias.drop``.
        name: vector, field, alias, or the config key.
        after: the new value; None for a drop, but of an alias that is handed back: ``physical``, where it led before.
        before: the value that was there; None for an add, but of an alias: ``physical``, where it led before, or, of
            one that is undone, the only place that it is taken from.
    """

    kind: str
    name: str
    after: Any = None
    before: Any = None

    def reverse(self) -> Change:
        """The change that takes this one back."""
        turned = {"add": "drop", "drop": "add"}
        family, verb = self.kind.split(".")
        return Change(f"{family}.{turned.get(verb, verb)}", self.name, after=self.before, before=self.after)

    def light(self) -> bool:
        """Whether a live collection takes it at once, without rebuilding its segments."""
        if self.kind in ("index.add", "index.drop", "alias.add", "alias.drop"):
            return True
        return self.kind == "config.set" and self.name not in FIXED_CONFIG | HEAVY_CONFIG

    def heavy_when_big(self) -> bool:
        """Whether a light change keeps a live collection busy once that is big: it touches every point or segment."""
        if self.kind == "index.add":
            return True
        if self.kind != "config.set":
            return False
        if self.name == "optimizers_config":
            return not RESHAPING_OPTIMIZERS.isdisjoint(_differing_keys(self.before or {}, self.after or {}))
        return self.name == "on_disk_payload"

    def possible_in_place(self) -> bool:
        """Whether a server can do it on the live collection at all, however long that takes."""
        if self.kind == "config.set":
            return self.name not in FIXED_CONFIG
        if self.kind == "vector.alter":
            return _differing_keys(self.before, self.after) <= TUNABLE_VECTOR_FIELDS
        if self.kind == "sparse.alter":
            return _differing_keys(self.before, self.after) <= TUNABLE_SPARSE_FIELDS
        return True

    def undoable(self) -> bool:
        """Whether the server can be brought back by :meth:`reverse` alone.

        Server config has no None: a value that was not set before can't be unset. Dropped vectors are gone.
        """
        if self.kind in ("vector.drop", "sparse.drop"):
            return False
        if self.kind == "config.set" and self.name in ("metadata", "quantization_config"):
            # Metadata keys can be removed, and quantization can be turned off.
            return True
        if self.kind == "config.set" and self.before is None:
            return False
        if self.kind in ("config.set", "vector.alter", "sparse.alter"):
            return not _unset_paths(self.before, self.after)
        return True

    def describe(self) -> str:
        """A line for people."""
        family, verb = self.kind.split(".")
        words = {"config": "setting", "index": "payload index", "sparse": "sparse vector"}.get(family, family)
        label = self.name if self.name or family != "vector" else "(unnamed)"
        if self.kind == "alias.drop" and (self.after or {}).get("physical"):
            return f"give alias {label} back to {self.after['physical']}"
        return f"{verb} {words} {label}"

    def to_json(self) -> JsonObject:
        """Plain JSON."""
        return by_field(self)

    @classmethod
    def from_json(cls, data: JsonObject) -> Change:
        """The inverse of :meth:`to_json`."""
        return loaded(cls, data)


def changes(before: CollectionSchema, after: CollectionSchema) -> tuple[Change, ...]:
    """The work that turns `before` into `after`; reversed, its undo; with (live, recorded), the drift.

    Only declared fields count: what `after` leaves unset counts as equal, so server defaults don't differ.

    Returns:
        Changes in a safe order: drops of aliases first, additions of aliases last.
    """
    found = [
        *(Change("alias.drop", name) for name in before.aliases if name not in after.aliases),
        *_named("vector", before.vectors, after.vectors),
        *_named("sparse", before.sparse, after.sparse),
        *_named("index", before.indexes, after.indexes),
        *_config(before.config, after.config),
        *(Change("alias.add", name) for name in after.aliases if name not in before.aliases),
    ]
    return tuple(found)


def changed(schema: CollectionSchema, found: Iterable[Change]) -> CollectionSchema:
    """`schema` after these changes: what they leave on a server, config by its keys."""
    parts: dict[str, dict[str, Any]] = {
        "vector": dict(schema.vectors),
        "sparse": dict(schema.sparse),
        "index": dict(schema.indexes),
        "config": dict(schema.config),
        "alias": dict.fromkeys(schema.aliases),
    }
    for change in found:
        family, verb = change.kind.split(".")
        if verb == "drop" or (family == "config" and change.after is None):
            parts[family].pop(change.name, None)
        else:
            parts[family][change.name] = change.after
    return CollectionSchema(
        vectors=parts["vector"],
        sparse=parts["sparse"],
        indexes=parts["index"],
        config=parts["config"],
        aliases=tuple(sorted(parts["alias"])),
    )


def _named(family: str, before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[Change]:
    for name in sorted(set(before) | set(after)):
        if name not in after:
            yield Change(f"{family}.drop", name, before=before[name])
        elif name not in before:
            yield Change(f"{family}.add", name, after=after[name])
        elif declared_differs(before[name], after[name]):
            yield Change(f"{family}.alter", name, after=after[name], before=before[name])


def _config(before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[Change]:
    for name in sorted(after):
        if after[name] is not None and _field_differs(name, before.get(name), after[name]):
            yield Change("config.set", name, after=after[name], before=before.get(name))


def rounds_again(params: Mapping[str, Any]) -> bool:
    """Whether a server changes the values of such a vector whenever they are written, even what it has returned itself.

    Four bits a value are scaled again each time; a cosine vector is not, since it has no length.
    """
    return params.get("datatype") == FOUR_BITS and params.get("distance") != "Cosine"


def declared_differs(found: Any, declared: Any) -> bool:
    """Whether a value that was declared is not what was found; unset parts of `declared` say nothing."""
    if declared is None:
        return False
    if isinstance(declared, Mapping):
        if not isinstance(found, Mapping):
            return bool(declared)
        return any(_field_differs(key, found.get(key), value) for key, value in declared.items())
    if isinstance(declared, float) or isinstance(found, float):
        if not isinstance(found, int | float) or not isinstance(declared, int | float):
            return True
        return not abs(found - declared) <= 1e-6 * max(1.0, abs(declared))
    return bool(found != declared)


def _without_disabled(params: Mapping[str, Any]) -> JsonObject:
    return {key: value for key, value in params.items() if key != "quantization_config" or value != DISABLED}


def _field_differs(name: str, found: Any, declared: Any) -> bool:
    if name == "quantization_config" and declared == DISABLED:
        return found not in (None, DISABLED)
    return declared_differs(found, declared)


def _differing_keys(before: JsonObject, after: JsonObject) -> set[str]:
    return {key for key in after if _field_differs(key, before.get(key), after[key])}


def _unset_paths(before: Any, after: Any) -> list[str]:
    """Keys that `after` sets and `before` did not have: they can't be unset on a server."""
    if not isinstance(after, Mapping):
        return []
    if not isinstance(before, Mapping):
        return list(after)
    missing = [key for key in after if after[key] is not None and before.get(key) is None]
    # A quantization is replaced as a whole.
    deep = [key for key in after if key not in missing and key != "quantization_config"]
    nested = [key for key in deep if _unset_paths(before.get(key), after[key])]
    return missing + nested
