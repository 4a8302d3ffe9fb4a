"""What is in the settings and would be read as something else, or not at all: refused, never a default."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

from qmigrate.errors import ConfigError
from qmigrate.model.names import has_wildcard
from qmigrate.text import did_you_mean

_PREFIX = "QMIGRATE_"
#: Variables that are read, by this package or by the entrypoint of its image, without their beginning.
VARIABLES = frozenset(
    (
        *("CONFIG", "SCRIPTS", "ACTOR", "REQUESTED_BY", "LOG", "LEDGER_URL"),
        *("ON_START", "WAIT", "MAX_ESTIMATE", "LOCK_TIMEOUT"),
        *("QDRANT_URL", "QDRANT_API_KEY", "QDRANT_GRPC_PORT", "QDRANT_GRPC_HOST"),
    )
)
#: What Kubernetes adds for a service whose name begins like that.
_LINK = re.compile(r".*_(SERVICE_HOST|SERVICE_PORT\w*|PORT(_\d+_(TCP|UDP)\w*)?)")
#: What names the stores.
_PLACES = ("QDRANT", "LEDGER")
#: How alike a name has to be to one that is read; 1 is equal.
_ALIKE = 0.8
_WHOLE = re.compile(r"[-+]?(0|[1-9][0-9_]*)")
_NUMBER = re.compile(r"-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?")
#: Keys of a preset or check whose values are compared with payloads, or go to SQL.
_COMPARED = frozenset({"filter", "parameters", "prefix", "tenant", "columns"})


def refuse_misspelt(environ: Mapping[str, str], more: Collection[str], data: object) -> None:
    """Refuse variables that look like ones that are read, and are not.

    Args:
        more: further names that are read, without their beginning.
        data: of the settings file: what it names is read, whatever it is called.

    Raises:
        ConfigError: naming the first one, and what was probably meant.
    """
    known = {*VARIABLES, *more}
    named = frozenset(_texts(data))
    for variable in sorted(environ):
        name = variable.removeprefix(_PREFIX)
        if name == variable or name in known or variable in named or _LINK.fullmatch(name):
            continue
        meant = did_you_mean(name, known, alike=_ALIKE, before=_PREFIX)
        if meant or name.startswith(_PLACES):
            raise ConfigError(
                f"the environment variable {variable} is not a setting of qmigrate{meant}",
                hint=f"rename it, or unset it; known are {', '.join(_PREFIX + one for one in sorted(VARIABLES))}",
            )


def refuse_globs(names: Collection[str]) -> None:
    """Refuse a glob where the settings of one collection are meant: it would change nothing.

    Raises:
        ConfigError: naming it.
    """
    for name in names:
        if has_wildcard(name):
            raise ConfigError(
                f"collections: in the settings has {name}, a glob, but takes exact names only",
                hint="write each name, or set it for all: rebuild:, fixes:, embedders:",
            )


def refuse_misread(node: Any, file: Path, read: Callable[[str], object]) -> None:
    """Refuse plain words that YAML reads as something else than they mean: ``010`` is 8 to it, ``12:30`` is 750.

    In what is compared with payloads, dates and ``no`` as well: there a text may be meant.

    Args:
        node: of the entire file, as YAML's composer gives it.
        read: what YAML makes of a word.

    Raises:
        ConfigError: names the line.
    """
    for scalar, compared in _scalars(node, compared=False):
        kind, text = scalar.tag.rpartition(":")[2], str(scalar.value)
        odd = kind == "int" and not (_NUMBER if compared else _WHOLE).fullmatch(text)
        odd = odd or (compared and kind == "float" and not _NUMBER.fullmatch(text))
        odd = odd or (compared and kind == "bool" and text.lower() not in ("true", "false"))
        if odd or (compared and kind == "timestamp"):
            line = scalar.start_mark.line + 1
            raise ConfigError(
                f"{file}, line {line}: YAML reads {text} as {'a date' if kind == 'timestamp' else read(text)}",
                hint=f'put a string in quotes: "{text}"; write a number in decimal digits',
            )


def _scalars(node: Any, *, compared: bool) -> Iterator[tuple[Any, bool]]:
    """Every plain scalar, and whether payloads are compared with it."""
    if node is None:
        return
    if isinstance(node.value, str):
        if node.style is None:
            yield node, compared
        return
    for item in node.value:
        if isinstance(item, tuple):
            yield from _scalars(item[1], compared=compared or str(item[0].value) in _COMPARED)
        else:
            yield from _scalars(item, compared=compared)


def _texts(data: object) -> Iterator[str]:
    if isinstance(data, str):
        yield data
    elif isinstance(data, Mapping):
        for value in data.values():
            yield from _texts(value)
    elif isinstance(data, list | tuple):
        for value in data:
            yield from _texts(value)
