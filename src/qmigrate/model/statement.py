"""What may be asked of the application's SQL: one SELECT, or what marks rows. It judges the text, and runs nothing."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator

#: What hides words and semicolons from a search in the text: comments, strings, quoted names, dollar quotes.
_OPAQUE = re.compile(
    r"--[^\n]*|/\*.*?\*/|'(?:[^']|'')*'|\"(?:[^\"]|\"\")*\"|`[^`]*`|\$(\w*)\$.*?\$\1\$",
    re.DOTALL,
)
#: What bounds how many rows come, as databases say it.
_CUT = re.compile(
    r"\blimit\s+(?!all\b|null\b)[\w:(]+|\boffset\s+[\d:(]+|\bfetch\s+(?:first|next)\b|\btablesample\b|"
    r"\bselect\s+top\b\s*\(?\s*\d*|\brownum\b",
    re.IGNORECASE,
)
_CHANGES = ("update", "insert", "delete", "merge", "with")
_READS = ("select", "with", "values", "table")


def problem(sql: object) -> str | None:
    """Why a text is not one SELECT, or None when it seems to be one."""
    if not isinstance(sql, str) or not sql.strip():
        return "the query is empty"
    naked = bare(sql).strip().rstrip("; \t\n")
    if ";" in naked:
        return "the query has several statements"
    first = re.match(r"[\s(]*(\w+)", naked)
    word = first.group(1).lower() if first else ""
    if word not in _READS:
        return f"the query is not a SELECT: it begins with {word.upper() or repr(naked[:20])}"
    return None


def problem_of_change(sql: object) -> str | None:
    """Why a text is not one statement that changes chosen rows, or None when it seems to be one."""
    if not isinstance(sql, str) or not sql.strip():
        return "the statement is empty"
    plain = bare(sql).strip().rstrip("; \t\n")
    if ";" in plain:
        return "there are several statements in one"
    words = re.findall(r"\w+", plain.lower())
    if not words or words[0] not in _CHANGES:
        return f"the statement marks no rows: it begins with {(words[0] if words else plain[:20]).upper()}"
    if any(_is_boundless(level, plain) for level in _levels(plain)):
        return "the statement has no WHERE of its own, so it would change every row"
    return None


def cut(sql: str) -> str | None:
    """What in a query leaves out rows for their number alone, such as a LIMIT; None where nothing does."""
    found = _CUT.search(outside(bare(sql)))
    return " ".join(found.group().upper().split()) if found else None


def _is_boundless(level: str, plain: str) -> bool:
    """Whether what is outside of the inner parentheses changes rows, and excludes none."""
    words = re.findall(r"\w+", level.lower())
    if not words or "where" in words:
        return False
    # Behind WITH the verb comes later; what inserts may say UPDATE of what is there already.
    behind = words[0] == "with" and {"insert", "merge"}.isdisjoint(words)
    changes = ("update" in words and "set" in words) or ("delete" in words and "from" in words)
    if not changes or (words[0] not in ("update", "delete") and not behind):
        return False
    # MySQL joins the table with a query that chooses its rows.
    tables = words[: words.index("set")] if "set" in words else words
    joined = "join" in tables and {"left", "cross"}.isdisjoint(tables) and not {"on", "using"}.isdisjoint(tables)
    return not (joined and re.search(r"\bwhere\b", plain, re.IGNORECASE))


def _levels(plain: str) -> Iterator[str]:
    """The content of every pair of parentheses without what is in inner ones, and what is outside of all."""
    while (found := re.search(r"\(([^()]*)\)", plain)) is not None:
        yield found.group(1)
        plain = f"{plain[: found.start()]} {plain[found.end() :]}"
    yield plain


def outside(plain: str) -> str:
    """A statement without what is in parentheses."""
    *_, last = _levels(plain)
    return last


def table_of(sql: str) -> str:
    """The table that a statement changes, as it names it; ``statement`` where that isn't plain."""
    named = r"(?:\"[^\"]+\"|`[^`]+`|\w+)(?:\s*\.\s*(?:\"[^\"]+\"|`[^`]+`|\w+))*"
    text = re.sub(r"--[^\n]*|/\*.*?\*/", " ", sql, flags=re.DOTALL)
    found = re.search(rf"\b(?:update(?:\s+only)?|into|delete\s+from)\s+({named})", text, re.IGNORECASE)
    return re.sub(r"[\"`\s]", "", found.group(1)) if found else "statement"


def repeats(sql: str) -> bool:
    """Whether twice looks like more than once: an INSERT that doesn't say what becomes of a row that is there."""
    words = re.findall(r"\w+", bare(sql).lower())
    spared = {"conflict", "duplicate", "ignore", "replace", "exists"}
    return "insert" in words and spared.isdisjoint(words)


def body(sql: str) -> str:
    """The statement without trailing semicolons and comments, so that it can stand inside another one."""
    kept = sql.rstrip("; \t\r\n")
    last = next(reversed(list(_OPAQUE.finditer(kept))), None)
    if last is not None and last.end() == len(kept) and last.group().startswith(("--", "/*")):
        return body(kept[: last.start()])
    # A colon in a string or a comment is not a parameter.
    return _OPAQUE.sub(lambda found: re.sub(r"(?<!\\):", r"\:", found.group()), kept)


def parameters(sql: str) -> frozenset[str]:
    """Names of the ``:parameters`` in a statement."""
    return frozenset(re.findall(r"(?<![:\w\\]):(\w+)(?!:)", bare(sql)))


def problem_of_values(sql: str, given: Collection[str]) -> str | None:
    """Why these values don't fit the parameters of a query: each has one, and none is for nothing.

    A value that the query doesn't ask for was to bound it: without it, more rows are selected than intended.
    """
    known = parameters(sql)
    missing, unused = known - set(given), set(given) - known
    if missing:
        return f"the query has a parameter :{min(missing)} without a value"
    return f"there is a value for {min(unused)}, and the query has no parameter :{min(unused)}" if unused else None


def bare(sql: str) -> str:
    """The text without comments, and with empty strings and names where there are any."""
    return _OPAQUE.sub(lambda found: " " if found.group().startswith(("--", "/*")) else " '' ", sql)
