"""Settings that no revision declares, against those that were recorded when something was last applied. Pure.

What differs is laid over the recorded schema as if it had been declared: everything that compares, restores and accepts
declared settings then does the same for it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from qmigrate.drift.schema import says_nothing
from qmigrate.model.schema import DISABLED, Change, CollectionSchema, JsonObject, declared_differs
from qmigrate.model.state import CollectionState, LiveCollection
from qmigrate.parameters.own import DEFAULTS

#: Stands for a value that was not set, and that no server can unset again.
NOT_SET = "not set"
#: Limits from here on limit nothing: a fence that was lifted leaves one, since strict mode can't unset a value.
_NO_LIMIT = 1_000_000_000
_QUANTIZATION = "quantization_config"
Path = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Drifted:
    """One setting that is live with another value than the recorded one.

    Attributes:
        path: family (``vectors``, ``sparse``, ``indexes``, ``config``), name, and the fields down to it.
        was: as recorded; :data:`NOT_SET` where no server can bring that back.
    """

    path: Path
    was: Any


def settings_of(live: LiveCollection, version: tuple[int, ...]) -> JsonObject:
    """What the ledger keeps of the settings of a generation: all of them, metadata and aliases left out."""
    config = {name: value for name, value in live.schema.config.items() if name != "metadata"}
    return {**live.schema.with_(config=config, aliases=()).to_json(), "version": list(version)}


def settings_after(prior: JsonObject, now: JsonObject, changes: tuple[Change, ...]) -> JsonObject:
    """The recorded settings after in-place changes: only what these have touched is as it is now.

    What else was changed by hand since still shows.
    """
    places = {"vector": "vectors", "sparse": "sparse", "index": "indexes", "config": "config"}
    found = dict(prior)
    for change in changes:
        family, verb = change.kind.split(".")
        place = places.get(family)
        if place is None or change.name == "metadata":
            continue
        part = {name: value for name, value in found[place].items() if name != change.name}
        if verb != "drop" and change.name in now[place]:
            before, live = found[place].get(change.name), now[place][change.name]
            part[change.name] = _taken(change.name, before, change.after, live)
        found[place] = part
    return found


def _taken(key: str, prior: Any, after: Any, now: Any) -> Any:
    if key == _QUANTIZATION or not all(isinstance(one, Mapping) for one in (prior, after, now)):
        return now
    touched = {name: _taken(name, prior.get(name), value, now.get(name)) for name, value in after.items()}
    return {name: value for name, value in {**prior, **touched}.items() if value is not None}


def declared_anew(before: CollectionSchema | None, after: CollectionSchema | None) -> tuple[Change, ...]:
    """What revisions declare otherwise than before, as if it had been changed: accepted drift changes nothing live.

    A field that is not declared any more is part of it.
    """
    if before is None or after is None:
        return ()
    families: tuple[tuple[str, Mapping[str, Any], Mapping[str, Any]], ...] = (
        ("vector.alter", before.vectors, after.vectors),
        ("sparse.alter", before.sparse, after.sparse),
        ("index.alter", before.indexes, after.indexes),
        ("config.set", before.config, after.config),
    )
    return tuple(
        Change(kind, name, after=_either(said.get(name), says.get(name)))
        for kind, said, says in families
        for name in sorted({*said, *says})
        if said.get(name) != says.get(name)
    )


def _either(one: Any, other: Any) -> Any:
    """Every field that either has and that differ, with any value that is one."""
    if not isinstance(one, Mapping) or not isinstance(other, Mapping):
        return one if other is None else other
    differ = sorted(name for name in {*one, *other} if one.get(name) != other.get(name))
    return {name: _either(one.get(name), other.get(name)) for name in differ}


def effective(state: CollectionState, version: tuple[int, ...], *, restorable: bool = False) -> CollectionSchema | None:
    """The recorded schema, with every undeclared setting that has drifted as if it had been declared.

    Args:
        version: of the server.
        restorable: leave out what no server can bring back.
    """
    recorded = state.declared
    if recorded is None:
        return None
    drifted = [one for one in undeclared(state, version) if not (restorable and one.was == NOT_SET)]
    parts: dict[str, Any] = recorded.to_json()
    for one in drifted:
        _put(parts[one.path[0]], one.path[1:], one.was)
    return CollectionSchema.from_json(parts) if drifted else recorded


def undeclared(state: CollectionState, version: tuple[int, ...]) -> tuple[Drifted, ...]:
    """Settings of what serves that no revision declares, and that are not as they were recorded.

    Nothing where nothing was recorded, and while a run is open: what it has done to them is not recorded yet.
    """
    serving = next((row for row in state.generations if row.state == "live"), None)
    if serving is None or serving.settings is None or state.live is None or state.declared is None or state.open_run:
        return ()
    same = list(version) == list(serving.settings["version"])
    was, now, said = serving.settings, settings_of(state.live, version), state.declared.to_json()
    found = []
    for place in ("vectors", "sparse", "indexes"):
        # An entire part that is there on one side only is a finding of its own.
        for name in sorted(was[place].keys() & now[place].keys() & said[place].keys()):
            own = {**was["config"].get("hnsw_config", {})} if place == "vectors" else {}
            for path, value in _differing(name, was[place][name], now[place][name], said[place][name], own, same):
                found.append(Drifted((place, name, *path), value))
    before, after = (_without_fences(one["config"]) for one in (was, now))
    if serving.fence is not None:
        before.pop("strict_mode_config", None)
        after.pop("strict_mode_config", None)
    found += [
        Drifted(("config", *path), value) for path, value in _differing("", before, after, said["config"], {}, same)
    ]
    return tuple(found)


def _differing(
    key: str, was: Any, now: Any, said: Any, own: Mapping[str, Any], same: bool
) -> Iterator[tuple[Path, Any]]:
    """(path below, value as recorded) of every leaf that differs and isn't declared.

    Args:
        own: what counts where the recorded value isn't set: the HNSW settings of the collection.
        same: whether the server is of the version of then: another one may report more, or less.
    """
    if key == _QUANTIZATION and _is_other_quantization(was, now):
        if said is None:
            yield (), DISABLED if was is None else was
        return
    if isinstance(was, Mapping) or isinstance(now, Mapping):
        before, after = was or {}, now or {}
        declared = said if isinstance(said, Mapping) else {}
        if said is not None and not isinstance(said, Mapping):
            return
        for name in sorted({*before, *after}):
            inner = before.get(name), after.get(name), declared.get(name)
            for path, value in _differing(name, *inner, own, same):
                yield (name, *path), value
        return
    if said is not None or was == now:
        return
    if was is None:
        was = _unset(key, now, own)
        if not same and was == NOT_SET:
            return
    if now is None:
        if same and not says_nothing(key, was):
            yield (), was
    elif declared_differs(now, was):
        yield (), was


def _is_other_quantization(was: Any, now: Any) -> bool:
    one, other = (set(value) if isinstance(value, Mapping) else set() for value in (was, now))
    return one != other


def _unset(key: str, now: Any, own: Mapping[str, Any]) -> Any:
    """What a server does where a value isn't set; :data:`NOT_SET` where no value means that."""
    if key in own:
        return own[key]
    if says_nothing(key, now):
        return now
    if key in DEFAULTS:
        return DEFAULTS[key]
    return False if isinstance(now, bool) else NOT_SET


def _without_fences(config: Mapping[str, Any]) -> JsonObject:
    """Strict mode that is off doesn't count, and a limit that a lifted fence has left limits nothing."""
    strict = {
        name: value
        for name, value in (config.get("strict_mode_config") or {}).items()
        if not (name == "write_rate_limit" and isinstance(value, int) and value >= _NO_LIMIT)
    }
    kept = {name: value for name, value in config.items() if name != "strict_mode_config"}
    return {**kept, "strict_mode_config": strict} if strict.get("enabled") else kept


def _put(holder: dict[str, Any], path: Path, value: Any) -> None:
    for name in path[:-1]:
        holder[name] = dict(holder.get(name) or {})
        holder = holder[name]
    holder[path[-1]] = value
