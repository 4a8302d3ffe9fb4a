"""What an embedder gets of a payload: a field, a key inside it, or a template. It embeds nothing.

The words of ``Embed(text=…)`` and ``Embed(image=…)``: ``content`` is a field, ``meta.title`` a key inside a
field, and what holds a brace is a template like ``{title}: {meta.summary}``; ``{{`` and ``}}`` are braces.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from string import Formatter
from typing import Any

from qmigrate.errors import EmbedError


class ImageName(str):
    """A text that names an image: a path, a URL or base64. An embedder of texts must not take the name for the text."""

    __slots__ = ()


def kind_of(item: object) -> str:
    """The name for what an embedder got: ``an image``, ``bytes``."""
    return "an image" if isinstance(item, ImageName) else type(item).__name__


def read_input(payload: Mapping[str, Any], spec: str) -> str | None:
    """The input that `spec` takes from a payload.

    A list of texts is joined by line ends. In a template a missing part is left out as empty.

    Args:
        payload: plain values.
        spec: a field, a key inside it, or a template.

    Returns:
        The text; None where the field is missing, null, blank or an object (in a template: all of them).

    Raises:
        EmbedError: the template itself is malformed.
    """
    if "{" not in spec and "}" not in spec:
        return _text(_value(payload, spec))
    parts: list[str] = []
    found = False
    for literal, field in _parse(spec):
        parts.append(literal)
        if field is not None:
            text = _text(_value(payload, field))
            found = found or text is not None
            parts.append(text or "")
    return "".join(parts).strip() if found else None


@lru_cache(maxsize=256)
def _parse(template: str) -> tuple[tuple[str, str | None], ...]:
    pieces: list[tuple[str, str | None]] = []
    try:
        for literal, field, form, conversion in Formatter().parse(template):
            if field is not None and (form or conversion):
                raise EmbedError(f"template {template!r}: {{{field}}} takes no format; write the bare field")
            if field is not None and not field.strip():
                raise EmbedError(f"template {template!r}: empty braces name no field")
            pieces.append((literal, field.strip() if field is not None else None))
    except ValueError as error:
        raise EmbedError(
            f"template {template!r} can't be read: {error}",
            hint="write {{ and }} for braces that name no field",
        ) from error
    if all(field is None for _, field in pieces):
        raise EmbedError(f"template {template!r} names no field", hint='for example "{title} {body}"')
    return tuple(pieces)


def _value(payload: Mapping[str, Any], path: str) -> Any:
    """The value under a field, or under a dotted path; a field whose own name has dots comes first."""
    if path in payload:
        return payload[path]
    here: Any = payload
    for key in path.split("."):
        if not isinstance(here, Mapping) or key not in here:
            return None
        here = here[key]
    return here


def _text(value: Any) -> str | None:
    if isinstance(value, str):
        return value if value.strip() else None
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return str(value)
    if isinstance(value, list | tuple):
        texts = [text for item in value if (text := _text(item)) is not None]
        return "\n".join(texts) if texts else None
    return None
