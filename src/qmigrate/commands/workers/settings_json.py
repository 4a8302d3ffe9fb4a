"""Settings as plain JSON and back, for a worker that must have the very same ones. It reads no file."""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping
from dataclasses import fields, is_dataclass
from datetime import date, datetime
from pathlib import Path
from typing import Any

from qmigrate.errors import ConfigError
from qmigrate.settings import load as main_settings
from qmigrate.settings import sections
from qmigrate.settings.load import Settings

#: The classes that settings consist of, by name.
_CLASSES: Mapping[str, Any] = {
    name: found
    for module in (main_settings, sections)
    for name, found in vars(module).items()
    if isinstance(found, type) and is_dataclass(found)
}
#: What else YAML and the readers make, besides JSON's own: name -> (type, as JSON, back). A datetime is a date, too.
_KINDS: Mapping[str, tuple[type, Callable[[Any], Any], Callable[[Any], Any]]] = {
    "path": (Path, str, Path),
    "tuple": (tuple, lambda value: list(map(_plain, value)), lambda of: tuple(map(_made, of))),
    "set": (set, lambda value: list(map(_plain, value)), lambda of: set(map(_made, of))),
    "datetime": (datetime, datetime.isoformat, datetime.fromisoformat),
    "date": (date, date.isoformat, date.fromisoformat),
    "bytes": (bytes, lambda value: base64.b64encode(value).decode(), base64.b64decode),
}


def to_json(settings: Settings) -> Any:
    """What :func:`from_json` makes the same settings of. It has their secrets in clear.

    Raises:
        ConfigError: a program has put something into them that no settings file can hold.
    """
    return _plain(settings)


def from_json(carried: Any) -> Settings:
    """The settings again."""
    made = _made(carried)
    if not isinstance(made, Settings):
        raise ConfigError(f"a worker was given {type(made).__name__} for its settings")
    return made


def _plain(value: Any) -> Any:
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, list):
        return list(map(_plain, value))
    if isinstance(value, Mapping):
        # In pairs: keys of YAML need not be texts.
        return {"is": "mapping", "of": [[_plain(key), _plain(one)] for key, one in value.items()]}
    name = type(value).__name__
    if _CLASSES.get(name) is type(value):
        return {"is": name, "of": {one.name: _plain(getattr(value, one.name)) for one in fields(_CLASSES[name])}}
    for kind, (wanted, there, _) in _KINDS.items():
        if isinstance(value, wanted):
            return {"is": kind, "of": there(value)}
    raise ConfigError(
        f"the settings hold a value of type {name}, which can't be handed to a worker process",
        hint="use texts, numbers, lists and mappings in the settings, as a file does; or rebuild.devices: []",
    )


def _made(carried: Any) -> Any:
    if isinstance(carried, list):
        return list(map(_made, carried))
    if not isinstance(carried, dict):
        return carried
    kind, of = carried["is"], carried["of"]
    if kind == "mapping":
        return {_made(key): _made(one) for key, one in of}
    if kind in _KINDS:
        return _KINDS[kind][2](of)
    return _CLASSES[kind](**{name: _made(one) for name, one in of.items()})
