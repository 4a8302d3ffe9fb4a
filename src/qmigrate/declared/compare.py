"""Declared against replayed: the operations between them, one collection at a time. Pure; it writes no text."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from enum import IntEnum
from typing import Any

from qmigrate.declared import normal
from qmigrate.declared.collection import LATER, Wanted
from qmigrate.declared.fillers import differ, filler_of
from qmigrate.declared.replay import Replayed
from qmigrate.errors import PlanError
from qmigrate.model.names import has_wildcard
from qmigrate.model.schema import DISABLED, CollectionSchema, JsonObject, declared_differs
from qmigrate.operations.base import Operation
from qmigrate.operations.checks import shown
from qmigrate.operations.collection import CreateCollection, DropCollection, Reshard, SetAlias, UpdateCollection
from qmigrate.operations.index import CreatePayloadIndex, DropPayloadIndex
from qmigrate.operations.values import Compute, Embed
from qmigrate.operations.vector import AddVector, AlterVector, DropVector, Reembed, RenameVector
from qmigrate.operations.vector_common import params_of
from qmigrate.parameters.catalogue import catalogue
from qmigrate.parameters.own import SERVER_DEFAULTS
from qmigrate.text import quote

#: What decides stored values: a vector that has other ones is another vector, under whatever name.
_DECISIVE = ("size", "distance", "datatype", "multivector_config")


class Stage(IntEnum):
    """Which of several revisions an operation belongs to: those who read and write have to follow in between."""

    ROOM = 0
    ADD = 1
    SWITCH = 2
    AFTER = 3
    DROP = 4


@dataclass(frozen=True, slots=True)
class Piece:
    """One operation, and what a reader of the revision has to know before it."""

    stage: Stage
    operation: Operation
    comments: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Rename:
    """Something that is gone, and something new that it may be under another name.

    Attributes:
        collection: its logical name; of a collection that may have another name, the new one.
        old: the name that is gone.
        new: the name that is new.
        what: ``vector`` or ``collection``.
    """

    collection: str
    old: str
    new: str
    what: str = "vector"

    @property
    def written(self) -> str:
        """As ``--rename`` takes it."""
        return f"{self.collection}:{self.old}={self.new}" if self.what == "vector" else f"{self.old}={self.new}"


@dataclass(frozen=True, slots=True)
class Compared:
    """What leads from the replayed to the declared collection.

    Attributes:
        pieces: operations with their stages.
        kept: what is not declared any more, and would be dropped with ``--drops``.
        unsaid: what no operation can express.
        silent: settings that revisions have set and the declaration doesn't name.
    """

    pieces: tuple[Piece, ...] = ()
    kept: tuple[str, ...] = ()
    unsaid: tuple[str, ...] = ()
    silent: tuple[str, ...] = ()


def candidates(name: str, before: CollectionSchema, after: CollectionSchema) -> tuple[Rename, ...]:
    """Vectors that may be others under another name: one is gone, one is new, and values of one fit the other."""
    return tuple(one for one in pairs(name, before, after) if _decisive(before, one.old) == _decisive(after, one.new))


def pairs(name: str, before: CollectionSchema, after: CollectionSchema) -> tuple[Rename, ...]:
    """Every vector that is new with every one of its kind that is gone."""
    gone = sorted(before.vector_names() - after.vector_names())
    new = sorted(after.vector_names() - before.vector_names())
    return tuple(Rename(name, old, one) for one in new for old in gone if _family(before, old) == _family(after, one))


def alike(one: CollectionSchema, other: CollectionSchema) -> bool:
    """Whether the points of one collection would fit the other: the same vectors, by the same names."""
    names = one.vector_names()
    if not names or names != other.vector_names():
        return False
    kinds = all(_family(one, name) == _family(other, name) for name in names)
    return kinds and all(_decisive(one, name) == _decisive(other, name) for name in names)


def _family(schema: CollectionSchema, vector: str) -> str:
    return "dense" if vector in schema.vectors else "sparse"


def _decisive(schema: CollectionSchema, vector: str) -> JsonObject:
    if vector in schema.sparse:
        return {}
    plain = normal.dense(schema.vectors[vector], schema.config)
    return {key: plain.get(key) for key in _DECISIVE}


@dataclass(slots=True)
class _Draft:
    """A comparison while it is made: `schema` is what the operations so far lead to."""

    wanted: Wanted
    before: Replayed
    drops: bool
    pattern: str
    pieces: list[Piece] = field(default_factory=list)
    kept: list[str] = field(default_factory=list)
    unsaid: list[str] = field(default_factory=list)
    silent: list[str] = field(default_factory=list)

    def add(self, stage: Stage, operation: Operation, *comments: str) -> None:
        self.pieces.append(Piece(stage, operation, comments))

    def drop(self, stage: Stage, operation: Operation, what: str, *comments: str) -> bool:
        """Whether it may be dropped."""
        if self.drops:
            self.add(stage, operation, *comments)
        else:
            self.kept.append(what)
        return self.drops


def compare(wanted: Wanted, before: Replayed | None, renames: Mapping[str, str], *, drops: bool) -> Compared:
    """What makes a declared collection of the replayed one.

    Args:
        wanted: the declaration; its name is that of the operations.
        before: as the revisions leave it; None where none creates it.
        renames: vectors that have other names now, new -> old.
        drops: whether what is not declared any more goes.
    """
    if before is None:
        return _created(wanted)
    draft = _Draft(wanted, before, drops, pattern_of(wanted.name))
    renamed = {new: old for new, old in renames.items() if old in before.schema.vector_names()}
    for new, old in sorted(renamed.items()):
        _rename(draft, old, new)
    _vectors(draft, frozenset(renamed))
    _indexes(draft)
    _settings(draft)
    for alias in wanted.schema.aliases:
        if alias not in before.schema.aliases:
            draft.add(Stage.ADD, SetAlias(alias, wanted.name))
    draft.unsaid += wanted.unsaid
    return Compared(tuple(draft.pieces), tuple(draft.kept), tuple(draft.unsaid), tuple(draft.silent))


def pattern_of(name: str) -> str:
    """The argument that means this very name where a glob is allowed: brackets would be one."""
    return name if has_wildcard(name) else name.replace("[", "[[]")


def dropped(name: str) -> Piece:
    """The operation that takes a collection away."""
    reason = 'lint asks for irreversible = "why its points may go": they stay only in the generation kept until gc'
    return Piece(Stage.DROP, DropCollection(pattern_of(name)), (reason,))


def _created(wanted: Wanted) -> Compared:
    schema = wanted.schema
    config = {key: value for key, value in schema.config.items() if key not in LATER}
    kept = {key: part for key, value in config.items() if (part := _without_defaults(key, value)) not in (None, {})}
    made = CreateCollection(wanted.name, schema.vectors, schema.sparse, schema.indexes, **kept)
    pieces = [Piece(Stage.ADD, made)]
    later = {key: value for key, value in schema.config.items() if key in LATER}
    if later:
        pieces.append(Piece(Stage.ADD, UpdateCollection(pattern_of(wanted.name), params=later)))
    pieces += [Piece(Stage.ADD, SetAlias(alias, wanted.name)) for alias in schema.aliases]
    return Compared(tuple(pieces), unsaid=wanted.unsaid)


def _rename(draft: _Draft, old: str, new: str) -> None:
    operation = RenameVector(draft.pattern, old, new)
    draft.add(Stage.SWITCH, operation, *_when(operation.incompatible(draft.before.schema), draft.wanted.name))
    draft.before = draft.before.after(operation) or draft.before


def _when(trouble: str, name: str) -> tuple[str, ...]:
    """Both choices of ``cutover=``, before an operation that has none yet."""
    return (
        f"Readers and writers fail afterwards: {trouble}. Decide when it goes live, and add one of",
        'cutover="immediate": at the end of the run; deploy them together with it',
        f'cutover="hold": it is built and proven, and goes live with qmigrate cutover {quote(name)}',
    )


def _vectors(draft: _Draft, renamed: frozenset[str]) -> None:
    before, after = draft.before.schema, draft.wanted.schema
    for name in sorted(before.vector_names()):
        if name not in after.vector_names():
            # The unnamed vector is the only one, so the others make room for it.
            room = "" in after.vectors and "" not in before.vectors
            _drop_vector(draft, name, Stage.ROOM if room else Stage.DROP)
        elif _family(before, name) != _family(after, name):
            if _drop_vector(draft, name, Stage.ROOM):
                _add_vector(draft, name)
        else:
            _same_vector(draft, name, Stage.AFTER if name in renamed else None)
    stays = not draft.drops and "" not in before.vectors and before.vectors.keys() - after.vectors.keys()
    for name in sorted(after.vector_names() - before.vector_names()):
        if name == "" and stays:
            draft.kept.append("the unnamed vector has to be the only one, and makes no room by itself")
        else:
            _add_vector(draft, name)


def _drop_vector(draft: _Draft, name: str, stage: Stage) -> bool:
    operation = DropVector(draft.pattern, name)
    comments = _when(operation.incompatible(draft.before.schema), draft.wanted.name)
    return draft.drop(stage, operation, f"vector {shown(name)}", *comments)


def _add_vector(draft: _Draft, name: str) -> None:
    params = params_of(draft.wanted.schema, name) or {}
    values, comments = filler_of(name, draft.wanted.values.get(name))
    draft.add(Stage.ADD, AddVector(draft.pattern, name, params, values=values), *comments)


def _same_vector(draft: _Draft, name: str, stage: Stage | None) -> None:
    """A vector that both have: its parameters as a whole, and what fills it."""
    before, after = draft.before.schema, draft.wanted.schema
    old, new = params_of(before, name) or {}, params_of(after, name) or {}
    config = _config_after(before.config, after.config)
    if name in after.vectors:
        # The collection's own HNSW settings are changed as well, and both inherit what will be.
        altered = normal.dense_differs(old, new, config)
    else:
        altered = not normal.same(normal.sparse(old), normal.sparse(new))
    declared, known = draft.wanted.values.get(name), draft.before.filled.get(name)
    # What is copied, or left to the application, is a matter of the moment in which a vector was added.
    refilled = known is not None and isinstance(declared, Embed | Compute | str) and differ(declared, known)
    if not altered and not refilled:
        return
    values, comments = filler_of(name, declared)
    if not altered:
        reembed = Reembed(draft.pattern, name, values=values)  # type: ignore[arg-type]
        told = _when(reembed.incompatible(before), draft.wanted.name)
        draft.add(stage or Stage.SWITCH, reembed, *comments, *told)
        return
    operation = AlterVector(draft.pattern, name, new)
    if refilled or not _carried(operation, before):
        operation = AlterVector(draft.pattern, name, new, values=values)
    else:
        comments = ()
    trouble = operation.incompatible(before)
    if trouble:
        draft.add(stage or Stage.SWITCH, operation, *comments, *_when(trouble, draft.wanted.name))
    else:
        draft.add(stage or Stage.ADD, operation, *comments)


def _carried(operation: AlterVector, schema: CollectionSchema) -> bool:
    """Whether the stored values fit the new parameters."""
    try:
        operation.check_schema(schema)
    except PlanError:
        return False
    return True


def _indexes(draft: _Draft) -> None:
    before, after = draft.before.schema.indexes, draft.wanted.schema.indexes
    for name in sorted(before.keys() - after.keys()):
        draft.drop(Stage.DROP, DropPayloadIndex(draft.pattern, name), f"payload index {name}")
    for name, params in sorted(after.items()):
        if name not in before or not normal.same(normal.index(before[name]), normal.index(params)):
            draft.add(Stage.ADD, CreatePayloadIndex(draft.pattern, name, params))


def _settings(draft: _Draft) -> None:
    before, after = draft.before.schema.config, draft.wanted.schema.config
    found = dict(settings(before, after))
    params = {key: found.pop(key) for key in sorted(catalogue().params.known.keys() & found.keys())}
    shards = found.pop("shard_number", None)
    for key in sorted(found.keys() - catalogue().update.known.keys()):
        draft.unsaid.append(f"{key} = {found.pop(key)!r}, which only a new collection can have")
    if params or found:
        draft.add(Stage.ADD, UpdateCollection(draft.pattern, **found, params=params or None))
    if shards is not None:
        draft.add(Stage.ADD, Reshard(draft.pattern, shard_number=shards))
    draft.silent += _silent("", before, after)


def settings(before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """The declared settings that differ, as an update takes them: only the fields that it has to set."""
    for key, value in sorted(after.items()):
        old = before.get(key)
        if key == "quantization_config":
            if normal.quantization_differs(old, value):
                yield key, value
        elif key == "metadata":
            # Qdrant merges the first level only.
            has = old or {}
            wanted = {name: one for name, one in value.items() if name not in has or has[name] != one}
            if wanted:
                yield key, wanted
        elif key == "shard_number" and old is None and value == 1:
            # One node takes one, which a live schema shows and no revision declares.
            continue
        elif isinstance(value, Mapping):
            part = _fields(key, old if isinstance(old, Mapping) else {}, value)
            if part:
                yield key, part
        elif declared_differs(old, value) and (old is not None or declared_differs(SERVER_DEFAULTS.get(key), value)):
            yield key, value


def _fields(key: str, before: Mapping[str, Any], after: Mapping[str, Any]) -> JsonObject:
    silent = SERVER_DEFAULTS.get(key)
    usual = silent if isinstance(silent, Mapping) else {}
    found: JsonObject = {}
    for name, value in after.items():
        old = before.get(name)
        if value is None or (key == "hnsw_config" and name in ("on_disk", "memory")):
            continue
        if isinstance(value, Mapping):
            inner = _fields("", old if isinstance(old, Mapping) else {}, value)
            if inner:
                found[name] = inner
        elif declared_differs(old, value) and not (old is None and _does_nothing(name, value, usual)):
            found[name] = value
    if key == "hnsw_config":
        found |= _placed(before, after)
    return found


def _does_nothing(name: str, value: Any, usual: Mapping[str, Any]) -> bool:
    """Whether a server does that where nothing is set."""
    return value is False if name not in usual else not declared_differs(usual[name], value)


def _placed(before: Mapping[str, Any], after: Mapping[str, Any]) -> JsonObject:
    """``memory`` or its twin ``on_disk`` of the graph: whichever has an effect on top of what is set already."""
    if after.get("on_disk") is None and after.get("memory") is None:
        return {}
    old, new = (normal.hnsw(None, {"hnsw_config": one}).get("memory", "cached") for one in (before, after))
    if old == new:
        return {}
    if after.get("memory") is not None or before.get("memory") is not None:
        return {"memory": new}
    return {"on_disk": after["on_disk"]}


def _config_after(before: Mapping[str, Any], after: Mapping[str, Any]) -> Mapping[str, Any]:
    """The settings that inheriting vectors will see."""
    part = _fields("hnsw_config", before.get("hnsw_config") or {}, after.get("hnsw_config") or {})
    return {**before, "hnsw_config": {**(before.get("hnsw_config") or {}), **part}}


def _without_defaults(key: str, value: Any) -> Any:
    """What a new collection has to be given of a setting: nothing that a server does anyway."""
    if key in ("metadata", "quantization_config"):
        return None if value == DISABLED else value
    if isinstance(value, Mapping):
        usual = SERVER_DEFAULTS.get(key)
        kept = {
            name: one
            for name, one in value.items()
            if one is not None and not _does_nothing(name, one, usual if isinstance(usual, Mapping) else {})
        }
        # Off with limits means that these are kept for later; alone it says nothing.
        if key == "strict_mode_config" and kept and value.get("enabled") is False:
            kept = {"enabled": False, **kept}
        return kept
    return value if declared_differs(SERVER_DEFAULTS.get(key), value) else None


def _silent(where: str, before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    """Settings that are set and not declared: a server can't unset them, so they stay."""
    found = []
    for key, value in sorted(before.items()):
        path = f"{where}.{key}" if where else key
        said = after.get(key)
        if isinstance(value, Mapping) and isinstance(said, Mapping) and key != "metadata":
            found += _silent(path, value, said)
        elif said is None and value not in (None, {}, DISABLED) and not _is_usual(where, key, value):
            found.append(f"{path} = {value!r}")
    return found


def _is_usual(where: str, key: str, value: Any) -> bool:
    usual = SERVER_DEFAULTS.get(where) if where else SERVER_DEFAULTS
    if key in ("on_disk", "memory") or not isinstance(usual, Mapping):
        return value is False
    return not declared_differs(usual.get(key), value)


def renamed_collection(wanted: Wanted, old: str) -> tuple[Wanted, Piece]:
    """A declaration under the name that its collection has, and what gives it the other one as well."""
    aliases = tuple(sorted({*wanted.schema.aliases, wanted.name} - {old}))
    named = replace(wanted, name=old, schema=wanted.schema.with_(aliases=aliases))
    return named, Piece(Stage.ADD, SetAlias(wanted.name, old))
