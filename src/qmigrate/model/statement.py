"""What may be asked of the application's SQL: one SELECT. It judges the text; a read-only mode is behind it."""

from __future__ import annotations

import re

#: What hides words and semicolons from a look at the text: comments, strings, quoted names, dollar quotes.
_OPAQUE = re.compile(
    r"--[^\n]*|/\*.*?\*/|'(?:[^']|'')*'|\"(?:[^\"]|\"\")*\"|`[^`]*`|\$(\w*)\$.*?\$\1\$",
    re.DOTALL,
)
_READS = ("select", "with", "values", "table")


def problem(sql: object) -> str | None:
    """Why a text is not one SELECT, or None when it looks like one."""
    if not isinstance(sql, str) or not sql.strip():
        return "the query is empty"
    naked = bare(sql).strip().rstrip("; \t\n")
    if ";" in naked:
        return "the query has several statements"
    first = re.match(r"[\s(]*(\w+)", naked)
    word = first.group(1).lower() if first else ""
    if word not in _READS:
        return f"the query is no SELECT: it begins with {word.upper() or repr(naked[:20])}"
    return None


def body(sql: str) -> str:
    """The statement without the semicolons and comments at its end, so that it can stand inside another one."""
    kept = sql.rstrip("; \t\r\n")
    last = next(reversed(list(_OPAQUE.finditer(kept))), None)
    if last is not None and last.end() == len(kept) and last.group().startswith(("--", "/*")):
        return body(kept[: last.start()])
    # A colon in a string or a comment is no parameter.
    return _OPAQUE.sub(lambda found: re.sub(r"(?<!\\):", r"\:", found.group()), kept)


def parameters(sql: str) -> frozenset[str]:
    """Names of the ``:parameters`` in a statement."""
    return frozenset(re.findall(r"(?<![:\w\\]):(\w+)(?!:)", bare(sql)))


def bare(sql: str) -> str:
    """The text without comments, and with empty strings and names where there are any."""
    return _OPAQUE.sub(lambda found: " " if found.group().startswith(("--", "/*")) else " '' ", sql)
