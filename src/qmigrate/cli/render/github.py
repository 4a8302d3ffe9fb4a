"""Workflow commands of GitHub Actions, which it shows next to the lines of a change. It uses no result."""

from __future__ import annotations


def annotation(
    level: str, message: str, *, title: str = "", file: str = "", line: int | None = None, end_line: int | None = None
) -> str:
    """One annotation.

    Args:
        level: ``error | warning | notice``.
        message: may have several lines.
        file: relative to the root of the repository.
        line: the first one, from 1.
        end_line: the last one.
    """
    given = {"file": file, "line": line, "endLine": end_line, "title": title}
    properties = ",".join(f"{key}={_property(str(value))}" for key, value in given.items() if value)
    return f"::{level}{' ' if properties else ''}{properties}::{_escaped(message)}"


def _escaped(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _escaped(text).replace(":", "%3A").replace(",", "%2C")
