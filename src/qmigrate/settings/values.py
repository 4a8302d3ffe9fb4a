"""Readers of single settings: units, URLs, paths. It depends on no section, and shows no secret in an error.

What a library would say of a wrong value is less, and may be the value: docs/adr/0010.
"""

from __future__ import annotations

import ipaddress
import json
import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import SplitResult, urlsplit

from qmigrate.errors import ConfigError, without_secrets
from qmigrate.settings.spelling import refuse_misread
from qmigrate.text import did_you_mean

_WORDS = {"second": 1.0, "sec": 1.0, "minute": 60.0, "min": 60.0, "hour": 3600.0, "day": 86400.0, "week": 604800.0}
_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "w": 604800.0} | {
    word + ending: seconds for word, seconds in _WORDS.items() for ending in ("", "s")
}
_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*([a-z]+)")
#: Up to the last @, so that a password with odd characters is never shown in part.
_CREDENTIALS = re.compile(r"(?<=://)(?:([^:@/?#]*)(?::.*)?|.*)@", re.DOTALL)
#: Most characters of the facts of a caller as JSON.
LONGEST_FACTS = 65_536

Reader = Callable[[Any, str], Any]


@dataclass(frozen=True, slots=True)
class ValueContext:
    """Where values come from: the folder that relative paths start at, and the environment.

    Attributes:
        is_project: it is the folder of a settings file, not just the current one.
    """

    folder: Path
    environ: Mapping[str, str]
    is_project: bool = False


def empty_variable(name: str) -> ConfigError:
    """The error for an environment variable that is set and empty: mostly a secret that is missing."""
    return ConfigError(
        f"the environment variable {name} is set, but empty", hint=f"give {name} a value, or unset it for the default"
    )


def empty_key(name: str) -> ConfigError:
    """The error for a key of the file without a value, where the default would be another store."""
    return ConfigError(
        f"{name} is given in the settings, but empty", hint=f"give {name} a value, or leave it out for the default"
    )


def refuse_empty(environ: Mapping[str, str], **arguments: object) -> None:
    """Refuse empty values, since the default in their place would be another store.

    Args:
        environ: of it, every variable whose name begins with ``QMIGRATE_``.
        arguments: by name; None is not given.

    Raises:
        ConfigError: naming the first one.
    """
    for name, value in arguments.items():
        if value is not None and not str(value).strip():
            option = f"--{name.replace('_', '-')}"
            raise ConfigError(f"{option} is given, but empty", hint=f"give {option} a value, or leave it out")
    for name in sorted(environ):
        if name.startswith("QMIGRATE_") and not environ[name].strip():
            raise empty_variable(name)


def redact(url: str) -> str:
    """A URL for people: user and host stay, passwords, keys and signatures become ``***``."""

    def masked(match: re.Match[str]) -> str:
        user = match.group(1) or ""
        return f"{user}:***@" if ":" in match.group(0) or not user else f"{user}@"

    return without_secrets(_CREDENTIALS.sub(masked, url))


class UnknownKeyError(ConfigError):
    """A key of the settings that is never read."""


def check_keys(data: Mapping[Any, Any], known: Iterable[str], at: str) -> None:
    """Refuse keys that are never read.

    Raises:
        UnknownKeyError: naming the first one, and the key that was probably meant.
    """
    known = list(known)
    for name in data:
        if name not in known:
            where = f"{at}.{name}" if at else str(name)
            raise UnknownKeyError(
                f'unknown key "{where}" in the settings{did_you_mean(name, known)}',
                hint=f"known keys here: {', '.join(sorted(known))}",
            )


@contextmanager
def naming(file: Path | None) -> Iterator[None]:
    """Have an unknown key say in which file it is."""
    try:
        yield
    except UnknownKeyError as error:
        if file is not None:
            error.hint = f"{error.hint}; the file is {short_path(file)}"
        raise


def _wrong(at: str, wanted: str, value: Any) -> ConfigError:
    shown = value
    if isinstance(value, str):
        # What comes before an @ may be a password even where the value is not a URL at all.
        shown = redact(value) if "://" in value else re.sub(r".*@", "***@", value, flags=re.DOTALL)
    return ConfigError(
        f"{at} must be {wanted}, not {shown!r}",
        hint="correct it where it is set: qmigrate.yaml, else a variable QMIGRATE_… or an option",
    )


def _says(reader: Reader, wanted: str) -> Reader:
    """A reader that is made, with what it takes as its docstring, as those have that are written out."""
    reader.__doc__ = f"{wanted[:1].upper()}{wanted[1:]}."
    return reader


def said(reader: Reader) -> str:
    """What a reader takes, within a sentence: the first line of its docstring."""
    words = (reader.__doc__ or "").strip().partition("\n")[0].rstrip(".")
    return words[:1].lower() + words[1:] if words[1:2].islower() or words[1:2] == " " else words


def text(value: Any, at: str) -> str:
    """A text."""
    if not isinstance(value, str):
        raise _wrong(at, "a string", value)
    return value.strip()


def flag(value: Any, at: str) -> bool:
    """True or false."""
    if not isinstance(value, bool):
        raise _wrong(at, "true or false", value)
    return value


def mapping(value: Any, at: str) -> dict[str, Any]:
    """Keys and values."""
    if not isinstance(value, Mapping):
        raise ConfigError(f"{at} must be keys and values, not a {type(value).__name__}")
    odd = next((name for name in value if not isinstance(name, str)), None)
    if odd is not None:
        raise ConfigError(f"{at}: the key {odd!r:.80} is not a text")
    return dict(value)


def _number(value: Any, at: str, wanted: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise _wrong(at, wanted, value)
    return float(value)


def integer_between(lowest: int, highest: int) -> Reader:
    """Reader of a whole number within bounds."""
    wanted = f"a whole number from {lowest:,} to {highest:,}"

    def reader(value: Any, at: str) -> int:
        if not isinstance(value, int) or isinstance(value, bool) or not lowest <= value <= highest:
            raise _wrong(at, wanted, value)
        return value

    return _says(reader, wanted)


def positive(value: Any, at: str) -> float:
    """A number above 0."""
    found = _number(value, at, "a number above 0")
    if found <= 0:
        raise _wrong(at, "a number above 0", value)
    return found


#: What stands behind a large number.
_LARGE = {"K": 1_000, "M": 1_000_000, "G": 1_000_000_000}


def amount(value: Any, at: str) -> int:
    """A whole number above 0, also written as 40M or 2.5M."""
    text = str(value).strip().upper()
    times = _LARGE.get(text[-1:], 1)
    try:
        found = float(text[:-1] if times > 1 else text) * times
    except ValueError:
        found = 0.0
    if isinstance(value, bool) or not 1 <= found < 2**53 or found != int(found):
        raise _wrong(at, "a whole number above 0, such as 500000 or 40M", value)
    return int(found)


def share(value: Any, at: str) -> float:
    """A number from 0 to 1."""
    found = _number(value, at, "a share from 0 to 1")
    if not 0 <= found <= 1:
        raise _wrong(at, "a share from 0 to 1", value)
    return found


def allowance(value: Any, at: str) -> float:
    """A share from 0 to 1, which has a decimal point, or a count, which has none and stays a whole number."""
    return share(value, at) if isinstance(value, float) else integer_between(0, 10**12)(value, at)


class Seconds(float):
    """A duration with a unit, in seconds. A plain number is none: days are never meant as seconds."""

    __slots__ = ()


#: A century in seconds, which is unlimited: more can't be counted back from today, nor waited for by a thread.
FOR_EVER = 100 * 365.25 * 86400


def _bounded(seconds: float) -> Seconds:
    return Seconds(min(seconds, FOR_EVER))


def parse_duration(value: object) -> Seconds | None:
    """A duration: ``60s``, ``5m``, ``24h``, ``90d``, ``90 days``, a ``timedelta``, or 0; else None.

    There is no other reader of durations: settings, operations, presets, command line and Python's arguments use it.
    None is longer than :data:`FOR_EVER`.
    """
    if isinstance(value, Seconds):
        return value
    if isinstance(value, timedelta):
        return _bounded(value.total_seconds()) if value >= timedelta() else None
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    if isinstance(value, int | float) or is_bare_number(value):
        return Seconds(0.0) if float(value) == 0 else None
    match = _DURATION.fullmatch(value.strip().lower())
    unit = match and _UNITS.get(match.group(2))
    return _bounded(float(match.group(1)) * unit) if match and unit else None


def parse_timeout(value: object) -> Seconds | None:
    """How long one request may take: a duration, or a bare number of seconds, as HTTP clients have it."""
    bare = is_bare_number(value) and isinstance(value, int | float | str)
    return _bounded(float(value)) if bare else parse_duration(value)  # type: ignore[arg-type]


def duration_problem(value: object) -> str:
    """Why something is not a duration, after its name: ``has no unit: …``."""
    shown = repr(value)[:40]
    if is_bare_number(value):
        number = str(value).strip()
        return f"is {shown}, which has no unit: write {number}d, {number}h, {number}m or {number}s"
    return f"must be a duration such as 90d, 24h, 5m or 60s, not {shown}"


def is_bare_number(value: object) -> bool:
    """Whether it is a number without a unit."""
    if isinstance(value, int | float):
        return not isinstance(value, bool | Seconds) and math.isfinite(value) and value >= 0
    return isinstance(value, str) and re.fullmatch(r"\d+(\.\d*)?|\.\d+", value.strip()) is not None


def duration(value: Any, at: str) -> float:
    """A duration such as ``60s``, ``5m``, ``24h`` or ``7d``.

    Returns:
        Seconds.
    """
    found = parse_duration(value)
    if found is None:
        if is_bare_number(value):
            raise ConfigError(f"{at} {duration_problem(value)}")
        raise _wrong(at, "a duration such as 60s, 5m, 24h or 7d", value)
    return found


def timeout(value: Any, at: str) -> float:
    """A duration such as ``60s`` or ``5m``; a number without a unit is one of seconds, as HTTP clients have it."""
    found = parse_timeout(value)
    if found is None:
        raise _wrong(at, "a duration such as 60s or 5m", value)
    return found


def positive_duration(value: Any, at: str) -> float:
    """A duration above 0, such as ``60s``, ``5m``, ``24h`` or ``7d``.

    Returns:
        Seconds.
    """
    found = duration(value, at)
    if found <= 0:
        raise _wrong(at, "a duration above 0", value)
    return found


def choice(*known: str) -> Reader:
    """Reader of one of some words."""

    def reader(value: Any, at: str) -> str:
        # YAML reads a bare `off` as false.
        word = {False: "off", True: "on"}.get(value, value) if isinstance(value, bool) else value
        if word not in known:
            raise _wrong(at, " or ".join(known), value)
        return str(word)

    return _says(reader, " or ".join(f"``{one}``" for one in known))


def automatic(reader: Reader) -> Reader:
    """Reader of ``auto``, which gives None, or of what `reader` reads."""

    def either(value: Any, at: str) -> Any:
        return None if value == "auto" else reader(value, at)

    return _says(either, f"``auto``, or {said(reader)}")


def listed(reader: Reader) -> Reader:
    """Reader of a list."""

    def every(value: Any, at: str) -> tuple[Any, ...]:
        if not isinstance(value, list | tuple):
            raise _wrong(at, "a list", value)
        return tuple(reader(item, f"{at}[{position}]") for position, item in enumerate(value))

    return _says(every, f"a list, each {said(reader)}")


def each(reader: Reader) -> Reader:
    """Reader of a mapping whose values are all of one kind."""

    def every(value: Any, at: str) -> dict[str, Any]:
        return {name: reader(one, f"{at}.{name}") for name, one in mapping(value, at).items()}

    return _says(every, f"names, each with {said(reader)}")


def path(value: Any, at: str) -> Path:
    """A path."""
    if not isinstance(value, str) or not value.strip():
        raise _wrong(at, "a path", value)
    return Path(value.strip()).expanduser()


def variable_name(value: Any, at: str) -> str:
    """The name of an environment variable."""
    if not isinstance(value, str) or not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", value):
        # The value is not shown: it may be the key itself, put in the wrong place.
        raise ConfigError(f"{at} must be the name of an environment variable, not the secret itself")
    return value


def server_url(value: Any, at: str) -> str:
    """The http or https URL of a Qdrant server, without a slash at the end."""
    parts = _split(value)
    if parts is None or parts.scheme not in ("http", "https") or not parts.hostname:
        raise _wrong(at, "a URL such as http://localhost:6333", value)
    if "@" in parts.netloc:
        raise ConfigError(
            # Neither part is shown: people put the key in the place of the user.
            f"{at} holds a user or password, which Qdrant has no use for: {parts.scheme}://***@{authority(value)}",
            hint="a key belongs in qdrant.api_key_env or QMIGRATE_QDRANT_API_KEY",
        )
    if parts.query or parts.fragment:
        raise _wrong(at, "a URL without ? and #", value)
    return str(value).strip().rstrip("/")


def host(value: Any, at: str) -> str:
    """The name or address of a host alone."""
    parts = _split(f"//{value}" if isinstance(value, str) else None)
    bare = parts is not None and parts.hostname and parts.netloc == str(value).strip() and parts.port is None
    if not bare or "@" in str(value):
        raise _wrong(at, "a host such as qdrant.example.com, without https:// and port", value)
    return str(parts.hostname if parts else value)


def split_prefix(url: str | None, prefix: str) -> dict[str, Any]:
    """Url and prefix apart, as the store expects them; a path in the URL is the prefix."""
    inside = urlsplit(url).path.strip("/") if url else ""
    if not url or not inside:
        return {"prefix": prefix.strip("/")}
    if prefix.strip("/") not in ("", inside):
        raise ConfigError(f"qdrant.url ends in /{inside}, but qdrant.prefix is {prefix!r}; keep one of them")
    return {"url": url[: -len(inside) - 1], "prefix": inside}


def _split(value: Any) -> SplitResult | None:
    if not isinstance(value, str) or re.search(r"\s", value.strip()):
        return None
    try:
        parts = urlsplit(value.strip())
        valid = parts.port is None or parts.port > 0
    except ValueError:
        return None
    return parts if valid else None


def authority(url: str) -> str:
    """Host and port of a URL, for people."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    host = f"[{host}]" if ":" in host else host
    return f"{host}:{parts.port}" if parts.port else host


def is_this_host(url: str) -> bool:
    """Whether a URL addresses the host that we run on: localhost, 127.*, ::1."""
    host = (urlsplit(url).hostname or "").rstrip(".")
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def sql_url(value: Any, at: str, source: ValueContext, *, ledger: bool = False) -> str:
    """A SQLAlchemy URL with an absolute SQLite path, and psycopg 3 where PostgreSQL's driver is left open."""
    if not isinstance(value, str) or not re.match(r"[A-Za-z][A-Za-z0-9_+]*://", value.strip()):
        raise _wrong(at, "a SQLAlchemy URL such as postgresql+psycopg://app@db/app", value)
    scheme, rest = value.strip().split("://", 1)
    if scheme in ("postgres", "postgresql"):
        return f"postgresql+psycopg://{rest}"
    kind = scheme.split("+")[0]
    if ledger and kind not in ("postgresql", "sqlite"):
        raise ConfigError(f"{at}: the ledger lives in PostgreSQL or SQLite, not in {kind} ({redact(value)})")
    if kind != "sqlite":
        return f"{scheme}://{rest}"
    file, mark, query = rest.removeprefix("/").partition("?")
    if not rest.startswith("/") and file:
        raise _wrong(at, "a SQLite URL with three slashes (relative) or four (absolute)", value)
    if file in ("", ":memory:"):
        if ledger:
            raise ConfigError(f"{at}: a ledger in memory would be lost when the command ends; name a file")
        return f"{scheme}://{rest}"
    return f"{scheme}:///{source.folder / file}{mark}{query}"


def indirect_url(
    data: Mapping[str, Any], at: str, source: ValueContext, *, ledger: bool = False
) -> tuple[str | None, str]:
    """A SQL URL given as ``url``, ``url_env`` or ``url_file``.

    Returns:
        The URL or None, and why it is None where a variable or file was named.
    """
    given = [name for name in ("url", "url_env", "url_file") if data.get(name) is not None]
    if len(given) > 1:
        raise ConfigError(f"{at} has both {given[0]} and {given[1]}; keep one of them")
    if not given:
        empty = next((name for name in ("url", "url_env", "url_file") if name in data), None)
        return None, f"{empty} is given, but empty" if empty else ""
    name, value = given[0], data[given[0]]
    if name == "url_env":
        found = source.environ.get(variable_name(value, f"{at}.url_env"))
        if not found or not found.strip():
            return None, f"the environment variable {value} is {'not set' if found is None else 'set, but empty'}"
        return sql_url(found, f"{at}.url (from {value})", source, ledger=ledger), ""
    if name == "url_file":
        file = source.folder / path(value, f"{at}.url_file")
        try:
            found = file.read_text(encoding="utf-8-sig").strip()
        except (OSError, UnicodeDecodeError) as error:
            return None, f"the file {file} can't be read: {_why(error)}"
        return sql_url(found, f"{at}.url (from {file})", source, ledger=ledger), ""
    return sql_url(value, f"{at}.url", source, ledger=ledger), ""


def sql_label(url: str) -> str:
    """A SQL URL for people: kind, user, host and database; no password, no parameters."""
    scheme, _, rest = url.partition("://")
    kind = scheme.split("+")[0]
    rest = rest.partition("?")[0]
    if kind == "sqlite":
        return f"sqlite {short_path(Path(rest.removeprefix('/')))}" if rest.strip("/") else "sqlite in memory"
    user, mark, place = rest.rpartition("@")
    return f"{kind} {user.partition(':')[0]}{mark}{place}"


def short_path(found: Path) -> str:
    """A path as seen from the current folder where it lies inside, else as it is."""
    here = Path.cwd()
    return str(found.relative_to(here)) if found.is_relative_to(here) else str(found)


def _why(error: Exception) -> str:
    return getattr(error, "strerror", None) or "it is not UTF-8"


def yaml_file(file: Path) -> dict[str, Any]:
    """The keys and values of a YAML file; an empty file has none.

    Raises:
        ConfigError: it is missing, unreadable, no YAML, or holds something else than keys and values.
    """
    import yaml

    try:
        content = file.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        hint = "qmigrate init makes one"
        raise ConfigError(f"the settings file {file} does not exist", hint=hint) from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"the settings file {file} can't be read: {_why(error)}") from error
    try:
        data = yaml.safe_load(content)
        tree = yaml.compose(content, Loader=yaml.SafeLoader)
        _check_written(tree, file)
        refuse_misread(tree, file, yaml.safe_load)
    except yaml.YAMLError as error:
        # Not str(error): it quotes the line, which may hold a password.
        mark = getattr(error, "problem_mark", None)
        line = f", line {mark.line + 1}" if mark else ""
        problem = getattr(error, "problem", None) or "it is not YAML"
        raise ConfigError(f"{file}{line}: {problem}") from None
    if data is None:
        return {}
    if not isinstance(data, dict):
        raise ConfigError(f"{file} must hold keys and values, not a {type(data).__name__}")
    return data


def _check_written(node: Any, file: Path) -> None:
    """Refuse keys that YAML takes for something else than what is written.

    PyYAML lets the last of two equal keys win: the other value would be ignored silently. And ``no`` is False to it.
    """
    if node is None or isinstance(node.value, str):
        return
    seen: set[str] = set()
    for item in node.value:
        if not isinstance(item, tuple):
            _check_written(item, file)
            continue
        key, value = item
        line, text = key.start_mark.line + 1, str(key.value)
        if isinstance(key.value, str) and text in seen:
            raise ConfigError(f'{file}, line {line}: the key "{text}" is given twice')
        if isinstance(key.value, str) and key.tag.rpartition(":")[2] not in ("str", "merge"):
            raise ConfigError(
                f"{file}, line {line}: the key {text} is not a text to YAML", hint=f'put it in quotes: "{text}"'
            )
        seen.add(text)
        _check_written(value, file)


def facts(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Facts of the caller, as they are recorded.

    Raises:
        ConfigError: they are not plain JSON, or too long.
    """
    try:
        text = json.dumps(dict(metadata), allow_nan=False)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"metadata must be plain JSON: {error}") from None
    if len(text) > LONGEST_FACTS or not all(isinstance(name, str) for name in metadata):
        raise ConfigError(f"metadata must have strings as keys, and at most {LONGEST_FACTS:,} characters as JSON")
    return dict(metadata)
