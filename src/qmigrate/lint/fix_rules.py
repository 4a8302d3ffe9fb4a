"""QM7: data fixes in revisions: what they may take along, whether there is a way back, and what they ask of SQL."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

from qmigrate.lint.change_rules import each_operation
from qmigrate.lint.project import Project, Use
from qmigrate.lint.rule import ERROR, WARNING, Hit, Rule
from qmigrate.model import statement
from qmigrate.operations.data import DataFix
from qmigrate.operations.deletion import DeleteOrphans, DeletePoints
from qmigrate.operations.payload import PayloadWrite

#: Statements that change something, wherever they are in a query.
_WRITES = re.compile(r"\b(insert\s+into|update|delete\s+from|merge\s+into|truncate|nextval)\b", re.IGNORECASE)
_LIMITS = re.compile(
    r"\b(limit|offset|top|fetch\s+first|fetch\s+next|tablesample)\b(?=\s*[\d:(]|\s+(?:rows?|system|bernoulli)\b)",
    re.IGNORECASE,
)
_ORDER = re.compile(r"\border\s+by\b", re.IGNORECASE)
_STAR = re.compile(r"^\s*select\s+(?:distinct\s+)?(?:\w+\s*\.\s*)?\*", re.IGNORECASE)
#: What people write who think of LIKE, or of a shell.
_PATTERN = re.compile(r"[*?]|%$")


def _fixes(project: Project) -> Iterator[Use]:
    for use in each_operation(project):
        if isinstance(use.operation, DataFix):
            yield use


def _hits(why: Callable[[DataFix], str | None]) -> Callable[[Project], Iterator[Hit]]:
    """A rule that checks one data fix at a time."""

    def look(project: Project) -> Iterator[Hit]:
        for use in _fixes(project):
            assert isinstance(use.operation, DataFix)  # noqa: S101  that is what _fixes yields
            said = why(use.operation)
            if said is not None:
                yield Hit(use.source, use.span, f"{use.operation.label()}: {said}")

    return look


def _mixed(project: Project) -> Iterator[Hit]:
    for use in _fixes(project):
        others = [one for one in use.revision.operations if one.edit() is None and (one.matches(use.name))]
        if others:
            yield Hit(use.source, use.span, f"{use.operation.label()} is in one revision with {others[0].label()}")


def _no_cap(fix: DataFix) -> str | None:
    # Without a filter every point is meant.
    if isinstance(fix, PayloadWrite) and fix.filter is None:
        return None
    return "it may change every point" if getattr(fix, "max_share", None) == 1 else None


def _capped(fix: DataFix) -> str | None:
    if isinstance(fix, PayloadWrite) and fix.filter is None and fix.max_share is None:
        return "it changes every point, and only the cap of the settings applies"
    return None


def _glob(fix: DataFix) -> str | None:
    if not fix.is_glob or getattr(fix, "max_share", None) is not None:
        return None
    return f"it is done to every collection that matches {fix.pattern}, with the cap of the settings"


def _no_export(fix: DataFix) -> str | None:
    return "the points are not kept, so there is no undo" if getattr(fix, "export", True) is False else None


def _reason(fix: DataFix) -> str | None:
    said = getattr(fix, "reason", None)
    if not isinstance(fix, DeletePoints | DeleteOrphans) or not isinstance(said, str) or len(said.split()) > 1:
        return None
    return f"the reason is {said.strip()!r}" if said.strip() else None


def _no_second_look(fix: DataFix) -> str | None:
    if isinstance(fix, DeleteOrphans) and isinstance(fix.grace, int | float) and fix.grace < 60:
        return f"grace is {fix.grace:g} s, so a row that is being inserted doesn't save its point"
    return None


def _pattern(fix: DataFix) -> str | None:
    if isinstance(fix, DeletePoints) and isinstance(fix.prefix, str) and _PATTERN.search(fix.prefix):
        return f"the prefix {fix.prefix!r} is taken letter by letter"
    return None


def _all_but(fix: DataFix) -> str | None:
    if not isinstance(fix, DeletePoints) or not isinstance(fix.filter, dict):
        return None
    if fix.ids is not None or fix.prefix is not None or fix.sql is not None:
        return None
    given = {name for name in ("must", "should", "min_should", "must_not") if fix.filter.get(name)}
    return "its filter only names what stays" if given == {"must_not"} else None


def _asked(why: Callable[[DataFix, str, str], str | None]) -> Callable[[Project], Iterator[Hit]]:
    """A rule about the query: as it is, and without comments, strings and quoted names."""

    def said(fix: DataFix) -> str | None:
        sql = getattr(fix, "sql", None)
        if not isinstance(sql, str) or statement.problem(sql) is not None:
            return None
        return why(fix, sql, statement.bare(sql))

    return _hits(said)


def _writes(_fix: DataFix, _sql: str, bare: str) -> str | None:
    found = _WRITES.search(bare)
    return f"the query has {' '.join(found.group().upper().split())} in it" if found else None


def _cut_off(fix: DataFix, _sql: str, bare: str) -> str | None:
    found = _LIMITS.search(bare) if isinstance(fix, DeleteOrphans) else None
    return f"the query has {' '.join(found.group().upper().split())} in it" if found else None


def _ordered(_fix: DataFix, _sql: str, bare: str) -> str | None:
    # One that belongs to a window or a sub-query is in parentheses.
    return "the query has ORDER BY" if _ORDER.search(statement.outside(bare)) and not _LIMITS.search(bare) else None


def _star(_fix: DataFix, _sql: str, bare: str) -> str | None:
    return "the query returns whatever columns there are" if _STAR.search(bare) else None


def _no_key(fix: DataFix, sql: str, bare: str) -> str | None:
    key = getattr(fix, "key", "")
    if not isinstance(key, str) or not key or "*" in bare or re.search(rf"\b{re.escape(key)}\b", sql):
        return None
    return f"the query has no column {key!r}"


RULES = (
    Rule(
        "QM701",
        "fix-beside-change",
        ERROR,
        "data fix in one revision with a change of schema",
        "The upgrade would stop before its first write: a fix changes the live points, a change may build others.",
        "put it into a revision of its own, after this one",
        _mixed,
    ),
    Rule(
        "QM702",
        "no-cap",
        WARNING,
        "data fix that may change every point",
        "Nothing stops a condition that selects more than was meant.",
        "max_share= a little above what qmigrate plan counts",
        _hits(_no_cap),
    ),
    Rule(
        "QM703",
        "glob-without-cap",
        WARNING,
        "data fix of a glob without a cap of its own",
        "It is done to collections that were not meant, each judged by a cap that was set for something else.",
        "name the collection, or set max_share= for all of them",
        _hits(_glob),
    ),
    Rule(
        "QM704",
        "no-export",
        WARNING,
        "deletion that keeps nothing",
        "There is no undo, and a rollback of the revision doesn't bring points back.",
        "leave export=False out; for a person's request there is an erasure",
        _hits(_no_export),
    ),
    Rule(
        "QM705",
        "thin-reason",
        WARNING,
        "deletion whose reason is one word",
        "The audit shows it when, in a year, the question is why these points are gone.",
        "name in a few words who asked for it and why, or the number of the request",
        _hits(_reason),
    ),
    Rule(
        "QM706",
        "no-second-look",
        WARNING,
        "orphans deleted at first sight",
        "A point whose row is not committed yet looks like one whose row is gone.",
        "leave grace= out, or stop the application and say so here",
        _hits(_no_second_look),
    ),
    Rule(
        "QM707",
        "prefix-pattern",
        WARNING,
        "prefix that looks like a pattern",
        "A prefix is a folder, and these signs are letters of its name: it selects nothing, or something else.",
        "the folder alone: /photos/2024",
        _hits(_pattern),
    ),
    Rule(
        "QM708",
        "all-but",
        WARNING,
        "deletion of all points but some",
        "It also takes what is written between its review and its upgrade, and every kind of point that comes later.",
        "name under must= what goes",
        _hits(_all_but),
    ),
    Rule(
        "QM709",
        "query-writes",
        ERROR,
        "query that writes",
        "It is asked in a read-only transaction: the upgrade would stop.",
        "one SELECT that only reads",
        _asked(_writes),
    ),
    Rule(
        "QM710",
        "rows-cut-off",
        ERROR,
        "orphans by a query that leaves rows out",
        "Every row beyond the limit looks as if it were gone, and its point is deleted.",
        "a query that returns every row",
        _asked(_cut_off),
    ),
    Rule(
        "QM711",
        "query-sorts",
        WARNING,
        "query with ORDER BY",
        "The database sorts twice: rows are asked for in the order of ids.",
        "leave it out",
        _asked(_ordered),
    ),
    Rule(
        "QM712",
        "query-takes-all",
        WARNING,
        "query with SELECT *",
        "It changes its meaning with the table, and breaks when a second column gets the name of the key.",
        "name the columns that are needed",
        _asked(_star),
    ),
    Rule(
        "QM713",
        "no-key-column",
        ERROR,
        "query without its key",
        "The upgrade would stop before its first write.",
        "name the column in the SELECT: … AS id, or set key=",
        _asked(_no_key),
    ),
    Rule(
        "QM714",
        "every-point-capped",
        WARNING,
        "payload write for every point below a cap",
        "The upgrade stops before its first write wherever more than the cap would change (a tenth by default).",
        "max_share=1 where every point is meant, or a filter for those that are",
        _hits(_capped),
    ),
)
