"""Values from the command line: JSON as JSON, and numbers distinguished from texts. It opens no store.

A VALUE is a whole number (``90``), a text in double quotes (``"90"``), any JSON behind ``json:`` (``json:0.5``,
``json:true``), and else the text as it is (``007``, ``1e5``, ``2024-01-01``, ``/photos``).
"""

from __future__ import annotations

import json
import math
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from collections.abc import Iterable

#: What a value begins with that is any JSON.
JSON = "json:"
#: What a filter begins with that is YAML.
YAML = "yaml:"
_WHOLE = re.compile(r"0|-?[1-9][0-9]*")
_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?")
_WORDS: dict[str, Any] = {"null": None, "~": None, "": None, "true": True, "false": False}


class _WrongValueError(ValueError):
    """What is wrong, in words that follow the name of the option."""


def json_of(text: str, what: str) -> Any:
    """Strict JSON: no key twice, no half of a surrogate pair, no NaN.

    Args:
        text: the JSON.
        what: for the message.

    Raises:
        click.UsageError: it is not JSON; names the place.
    """
    try:
        found = json.loads(text, object_pairs_hook=_object, parse_constant=_constant, parse_float=_float)
        _check_texts(found)
    except json.JSONDecodeError as error:
        place = f"line {error.lineno}, column {error.colno}"
        raise _usage(f"{what} is not JSON: {error.msg} ({place})") from None
    except _WrongValueError as error:
        raise _usage(f"{what} is not JSON: {error}") from None
    except RecursionError:
        raise _usage(f"{what} is nested too deeply") from None
    except ValueError:
        raise _usage(f"{what} is not JSON: a number in it has too many digits") from None
    return found


def filter_of(text: str) -> Any:
    """A filter: JSON, ``@FILE`` with JSON, or YAML where it is marked: ``yaml:…``, ``@FILE.yaml``.

    Raises:
        click.UsageError: the file can't be read, or it is not what it should be.
    """
    what, yaml = "--filter", text.startswith(YAML)
    content = text.removeprefix(YAML)
    if text.startswith("@"):
        content, what = _content(text[1:]), f"--filter {text}"
        yaml = text.endswith((".yaml", ".yml"))
    if not content.strip():
        # Left out it would select more.
        raise _usage(f"{what} is given, but empty")
    try:
        found = _yaml(content, what) if yaml else json_of(content, what)
    except click.UsageError as error:
        hint = f"; for YAML: --filter '{YAML}…', or @FILE.yaml"
        plain = yaml or content.lstrip()[:1] in ("{", "[")
        raise _usage(error.message + ("" if plain else hint)) from None
    if found is None:
        raise _usage(f"{what} is null, which would select more than a condition does")
    return found


def value_of(text: str, what: str) -> Any:
    """A VALUE; see the module.

    Raises:
        click.UsageError: it begins like JSON, and is not JSON.
    """
    if text.startswith(JSON):
        return json_of(text.removeprefix(JSON), what)
    if len(text) > 1 and text[0] == text[-1] == '"':
        return json_of(text, what)
    if _WHOLE.fullmatch(text):
        return json_of(text, what)
    try:
        _check_texts(text)
    except _WrongValueError as error:
        raise _usage(f"{what}: {error}") from None
    return text


def parameter(text: str) -> tuple[str, Any]:
    """``NAME=VALUE``.

    Raises:
        click.UsageError: it is something else.
    """
    name, mark, value = text.partition("=")
    if not name or not mark:
        raise _usage(f"--param {text}: expected NAME=VALUE")
    return name, value_of(value, f"--param {name}")


def parameters(texts: Iterable[str]) -> dict[str, Any]:
    """Every ``NAME=VALUE``.

    Raises:
        click.UsageError: one is something else, or a name is given twice.
    """
    found: dict[str, Any] = {}
    for name, value in map(parameter, texts):
        if name in found:
            raise _usage(f"--param {name} is given twice")
        found[name] = value
    return found


def point_id(text: str) -> int | str:
    """An id as it is typed: a number, else the text, which the operation judges."""
    return int(text) if re.fullmatch(r"[0-9]{1,20}", text) else text


def _usage(message: str) -> click.UsageError:
    return click.UsageError(message, click.get_current_context(silent=True))


def _content(name: str) -> str:
    """What is in a file; ``-`` is stdin."""
    try:
        data = sys.stdin.buffer.read() if name == "-" else Path(name).read_bytes()
    except OSError as error:
        raise _usage(f"--filter @{name} can't be read: {error.strerror or error}") from None
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise _usage(f"--filter @{name} is not UTF-8: byte {error.start + 1}") from None


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise _WrongValueError(f"the key {json.dumps(key)} is given twice")
        found[key] = value
    return found


def _constant(word: str) -> Any:
    raise _WrongValueError(f"{word} is not a JSON number")


def _float(text: str) -> float:
    found = float(text)
    if not math.isfinite(found):
        raise _WrongValueError(f"{text:.40} is too large for a number")
    return found


def _check_texts(value: Any) -> None:
    """No text holds half of a surrogate pair: no payload does, so nothing would be equal to it."""
    if isinstance(value, str):
        half = next((sign for sign in value if "\ud800" <= sign <= "\udfff"), None)
        if half is not None:
            raise _WrongValueError(f"the text {json.dumps(value):.60} holds \\u{ord(half):04x}, half of a character")
    elif isinstance(value, dict):
        for key, item in value.items():
            _check_texts(key)
            _check_texts(item)
    elif isinstance(value, list):
        for item in value:
            _check_texts(item)


def _yaml(text: str, what: str) -> Any:
    """YAML whose plain words are read as JSON reads them: ``007``, ``1e5x``, ``no`` and dates are texts.

    Raises:
        click.UsageError: it is not YAML, or has a key twice.
    """
    import yaml

    try:
        if any(isinstance(token, yaml.TagToken) for token in yaml.scan(text, Loader=yaml.SafeLoader)):
            raise _WrongValueError("a tag (!!…) is not read; put a text into quotes")
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        found = None if node is None else _of_node(node)
        _check_texts(found)
    except yaml.YAMLError as error:
        line = next(iter(str(error).splitlines()), "")
        raise _usage(f"{what} is not YAML: {line}") from None
    except _WrongValueError as error:
        raise _usage(f"{what}: {error}") from None
    except RecursionError:
        raise _usage(f"{what} is nested too deeply, or contains itself") from None
    return found


def _of_node(node: Any) -> Any:
    if isinstance(node.value, str):
        return _scalar(node)
    if node.value and isinstance(node.value[0], tuple):
        return _object([(_key(key), _of_node(value)) for key, value in node.value])
    return {} if node.tag.endswith(":map") else [_of_node(one) for one in node.value]


def _key(node: Any) -> str:
    if not isinstance(node.value, str):
        raise _WrongValueError(f"a key in line {node.start_mark.line + 1} is not a string")
    return str(node.value)


def _scalar(node: Any) -> Any:
    text = str(node.value)
    if node.style is not None:
        return text
    if text in _WORDS:
        return _WORDS[text]
    return json.loads(text, parse_float=_float) if _NUMBER.fullmatch(text) else text
