"""Deleting points on purpose: what selects them, and what is recorded of it. No I/O."""

from __future__ import annotations

import dataclasses
import json
import uuid
from collections.abc import Iterable, Mapping, Sequence
from datetime import timedelta
from typing import Any, ClassVar

from qmigrate.model import payload_path, statement
from qmigrate.model.schema import JsonObject
from qmigrate.operations.base import Key, Operation, assign, plain
from qmigrate.operations.client_types import Filter
from qmigrate.operations.data import KEY, DataFix
from qmigrate.settings.values import Seconds, duration_problem, parse_duration

#: What the audit calls a deletion of something that was named, by its id or by the application's.
ASSET = "ASSET"
_TYPE = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZ_")
#: A century, in seconds.
_MOST_AGE = 100 * 366 * 86400.0
#: How long the second check of orphans waits by default: a quarter of an hour.
GRACE = Seconds(900.0)
#: Ids that the record names of one deletion.
_TARGETS = 100


@dataclasses.dataclass(frozen=True, slots=True)
class DeletePoints(DataFix):
    """Delete the points that every given condition selects; they are exported first, so that it can be undone.

    Right before each batch the conditions are asked again, by id: a point that changed since the preview is left alone.

    Args:
        collection: logical name or glob.
        ids: unsigned integers and UUIDs.
        filter: of Qdrant: ``models.Filter``, or the same as JSON.
        prefix: a folder: points whose `field` is this path or lies below it (``/photos/2024`` selects
            ``/photos/2024/a.jpg`` and not ``/photos/2024-old/a.jpg``).
        field: payload key with the path.
        sql: one SELECT on the application's SQL that returns the ids, without ORDER BY.
        key: its column with the id.
        database: name under ``databases:`` in the settings.
        parameters: values of the query's ``:parameters``.
        reason: why; it is recorded, and must be given.
        max_share: the largest share of the points that may go; None for ``fixes.max_share`` of the settings.
        export: keep the points for an undo; without, there is none.
        type: for the record, as the application calls it (``SESSION``, ``CATEGORY``); by default what selects them.
        older_than: ``{"field": "created_at", "age": "90d"}``: points whose time lies so long ago when it is done. The
            age is a text with a unit, or a ``timedelta``; the field holds texts of times, or seconds since 1970; a
            point without it is never selected.
        soft: only mark them: readers leave them out (``qmigrate.fix.visible``), `gc` deletes them later.
        flag: payload key of the mark: an object with ``at`` and ``reason``.
        target: for the record, what was asked for, in its original words; by default what selects the points.
    """

    rewrites_payload: ClassVar[bool] = True

    collection: str
    ids: Sequence[int | str] | None = None
    filter: Filter | None = None
    prefix: str | None = None
    field: str = "path"
    sql: str | None = None
    key: str = "id"
    database: str = "app"
    parameters: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    reason: str = ""
    max_share: float | None = None
    export: bool = True
    type: str | None = None
    older_than: Mapping[str, Any] | None = None
    soft: bool = False
    flag: str = "deleted"
    target: str | None = None

    def __post_init__(self) -> None:
        """A filter becomes plain JSON, and UUIDs their canonical texts."""
        if self.filter is not None:
            assign(self, filter=plain(self.filter, f"{self.label()}: filter", keep_none=True))
        if isinstance(self.ids, Iterable) and not isinstance(self.ids, str):
            assign(self, ids=[_canonical(one) for one in self.ids])
        if isinstance(self.older_than, Mapping):
            written = self.older_than.get("age")
            age = parse_duration(written)
            assign(self, older_than={**self.older_than, "age": written if age is None else age})

    def as_recorded(self) -> None:
        """What was kept without a file has durations in seconds, as plain numbers."""
        if isinstance(self.older_than, Mapping) and isinstance(self.older_than.get("age"), float):
            assign(self, older_than={**self.older_than, "age": Seconds(self.older_than["age"])})

    def check_words(self) -> None:
        """See the base class."""
        Operation.check_words(self)
        problem, hint = self.problem()
        if problem:
            raise self.error(problem, hint=hint)

    def problem(self) -> tuple[str | None, str | None]:
        """What is wrong with it, and what to do; nothing when it is right."""
        if all(part is None for part in (self.ids, self.filter, self.prefix, self.sql, self.older_than)):
            return "no points are selected: give ids, filter, prefix, sql or older_than", None
        if not isinstance(self.reason, str) or not self.reason.strip():
            return "a reason is required: it is what the audit shows", 'reason="…"'
        problem = self._ids_problem() or self._filter_problem() or self._prefix_problem() or self._sql_problem()
        problem = problem or self._age_problem() or self._soft_problem() or self.share_problem(self.max_share)
        if problem is None and self.type is not None and not (self.type and _TYPE.issuperset(self.type)):
            problem = f"type must be capital letters, not {self.type!r}"
        return problem, None

    def edit(self) -> JsonObject:
        """See the base class."""
        sql = {"database": self.database, "sql": self.sql, "key": self.key}
        given = plain(self.parameters, f"{self.label()}: parameters", keep_none=True)
        return {
            "kind": "soft" if self.soft else "delete",
            "undo": "undo" if self.soft else "bring_back" if self.export else None,
            "ids": None if self.ids is None else list(self.ids),
            "filter": self.filter,
            "prefix": None if self.prefix is None else [self.field, self.prefix],
            "sql": None if self.sql is None else {**sql, "parameters": given},
            "export": self.export,
            "type": self.type or self._type(),
            "target": self.target or self._target(),
            "max_share": self.max_share,
            "reason": self.reason,
            **({"older_than": self._older_than()} if self.older_than is not None else {}),
            **({"flag": self.flag} if self.soft else {}),
        }

    def _older_than(self) -> Any:
        said = self.older_than
        return {**said, "age": _bare(said.get("age"))} if isinstance(said, Mapping) else said

    def erasure(self) -> JsonObject:
        """The same points erased: from every generation and copy, without export and without a way back.

        Not for revisions: which person asked is not for a file that is kept for good and runs in every
        environment. What it is recorded by names no person.

        Raises:
            PlanError: it is marked or goes by age: who asked is erased now, whatever the age.
        """
        if self.soft or self.older_than is not None:
            raise self.error(
                "an erasure is neither soft nor by age", hint="name the points by ids, a query, a filter or a prefix"
            )
        return {
            **self.edit(),
            "kind": "erase",
            "undo": None,
            "export": False,
            "type": self._type(),
            "target": f"erased {self._manner()}",
        }

    def describe(self) -> str:
        """See the base class."""
        return f"{'mark as deleted' if self.soft else 'delete points'}: {self._words()}"

    def touched(self) -> frozenset[Key]:
        """Several may follow each other; the same one twice is a slip."""
        return frozenset({("points of", self._words())})

    def _type(self) -> str:
        if self.prefix is not None:
            return "DIRECTORY"
        if self.ids is not None:
            return ASSET
        return "AGE" if self.older_than is not None and self.filter is None and self.sql is None else "FILTER"

    def _manner(self) -> str:
        """How they were selected, without a value."""
        parts = [f"by {len(self.ids):,} ids" if len(self.ids) != 1 else "by id"] if self.ids is not None else []
        parts += [f"below a path in {self.field}"] if self.prefix is not None else []
        parts += ["by a filter"] if self.filter is not None else []
        parts += [f"by a query on {self.database}"] if self.sql is not None else []
        return ", ".join(parts)

    def _target(self) -> str:
        """The selection as it was given: ids, a folder, a filter, the values of a query or its text."""
        parts = []
        if self.ids is not None:
            parts.append(", ".join(map(str, self.ids[:_TARGETS])) + (", …" if len(self.ids) > _TARGETS else ""))
        parts += [str(self.prefix)] if self.prefix is not None else []
        parts += [json.dumps(self.filter, ensure_ascii=False)] if self.filter is not None else []
        if self.sql is not None:
            given = ", ".join(f"{name}={value}" for name, value in self.parameters.items())
            parts.append(given or " ".join(self.sql.split()))
        parts += [self._age_words()] if self.older_than is not None else []
        return "; ".join(part for part in parts if part)

    def _age_words(self) -> str:
        if self.older_than is None or self._age_problem() is not None:
            return ""
        return f"{self.older_than['field']} older than {self.older_than['age'] / 86400:g} days"

    def _words(self) -> str:
        """What selects them, for people."""
        parts = []
        if self.ids is not None:
            shown = ", ".join(str(one) for one in self.ids[:3])
            parts.append(f"id {shown}" if len(self.ids) <= 3 else f"{len(self.ids):,} ids: {shown}, …")
        if self.prefix is not None:
            parts.append(f"{self.field} below {self.prefix}")
        if self.filter is not None:
            parts.append(f"filter {self.filter}")
        if self.sql is not None:
            parts.append(f"ids of a query on {self.database}")
        parts += [self._age_words()] if self._age_words() else []
        return "; ".join(parts)

    def _ids_problem(self) -> str | None:
        if self.ids is None:
            return None
        if isinstance(self.ids, str) or not isinstance(self.ids, Iterable):
            return f"ids must be a list, not {self.ids!r:.60}"
        odd = [one for one in self.ids if not _is_id(one)]
        return f"{odd[0]!r} is not a point id: unsigned integers and UUIDs are" if odd else None

    def _filter_problem(self) -> str | None:
        if self.filter is None:
            return None
        if not isinstance(self.filter, Mapping):
            return f"the filter must be an object, not {self.filter!r:.60}"
        odd = [name for name in self.filter if name not in payload_path.CONDITIONS]
        if odd:
            return (
                f"the filter has the key {odd[0]!r}; a filter has {', '.join(payload_path.CONDITIONS)}, each with "
                f"conditions: {_meant_filter(self.filter, odd[0])}"
            )
        if not payload_path.has_conditions(self.filter):
            return "the filter has no condition, so it selects every point; use a reset for that"
        problem = payload_path.problem(self.filter)
        if problem:
            return problem
        try:
            json.dumps(self.filter, ensure_ascii=False, allow_nan=False).encode()
        except UnicodeEncodeError:
            return "the filter contains half of a surrogate pair, which is not valid text"
        except ValueError:
            return "the filter contains NaN or Infinity, which are not JSON numbers"
        return None

    def _prefix_problem(self) -> str | None:
        prefix: object = self.prefix
        if prefix is None:
            return None
        if not isinstance(prefix, str):
            return f"the prefix must be a string, the path of a folder, not {prefix!r}; field names the payload key"
        if not prefix.strip("/\\ "):
            return f"the prefix {self.prefix!r} would select every path"
        return None if isinstance(self.field, str) and self.field else "field must name a payload key"

    def _sql_problem(self) -> str | None:
        if self.sql is None:
            return f"there is a value for {min(self.parameters)}, but no query" if self.parameters else None
        return statement.problem(self.sql) or statement.problem_of_values(self.sql, self.parameters)

    def _age_problem(self) -> str | None:
        if self.older_than is None:
            return None
        if not isinstance(self.older_than, Mapping) or set(self.older_than) != {"field", "age"}:
            return f'older_than must be {{"field": "created_at", "age": "90d"}}, not {self.older_than!r:.60}'
        name, age = self.older_than["field"], self.older_than["age"]
        if not isinstance(name, str) or not name:
            return "older_than must name a payload key as its field"
        if not isinstance(age, Seconds):
            return f"the age of older_than {duration_problem(age)}"
        if not 0 < age < _MOST_AGE:
            return f"the age of older_than must be above 0 and below a century, not {age:g} s"
        return None

    def _soft_problem(self) -> str | None:
        if not isinstance(self.flag, str) or not KEY.fullmatch(self.flag):
            return f"the flag {self.flag!r} is not a payload key"
        return "export=False doesn't go with soft: nothing is deleted yet" if self.soft and not self.export else None


def _meant_filter(given: Mapping[str, Any], odd: str) -> str:
    """The filter that was probably meant, as JSON."""
    inner = given[odd]
    meant = {"must": [{"key": "category", "match": {"value": "cat"}}]}
    if odd == "filter" and isinstance(inner, Mapping) and set(inner) <= set(payload_path.CONDITIONS) and inner:
        meant = dict(inner)
    elif {"key", "has_id", "is_empty", "is_null", "nested"} & set(given):
        meant = {"must": [dict(given)]}
    return json.dumps(meant, ensure_ascii=False, default=str)


def _bare(value: Any) -> Any:
    """A duration as the plain number that a job keeps; what is none stays for the message."""
    return float(value) if isinstance(value, Seconds) else value


def _canonical(one: Any) -> Any:
    """An id as Qdrant writes it; what is none stays for the message."""
    if isinstance(one, uuid.UUID):
        return str(one)
    try:
        return str(uuid.UUID(one)) if isinstance(one, str) else one
    except ValueError:
        return one


def _is_id(one: Any) -> bool:
    if isinstance(one, str):
        try:
            return bool(uuid.UUID(one))
        except ValueError:
            return False
    return isinstance(one, int) and not isinstance(one, bool) and 0 <= one < 2**64


@dataclasses.dataclass(frozen=True, slots=True)
class DeleteOrphans(DataFix):
    """Delete the points that have no row in the application's SQL; they are exported first, so that it can be undone.

    A point goes only when it has no row twice, `grace` apart, once every transaction of the first time has
    ended (PostgreSQL), and when its id has no row right before. A query without any row is refused.

    Args:
        collection: logical name or glob.
        sql: one SELECT that returns the id of every point that should be there, without ORDER BY.
        key: its column with the id.
        database: name under ``databases:`` in the settings: the primary, never a replica.
        parameters: values of the query's ``:parameters``.
        reason: why; it is recorded, and must be given.
        grace: time between the two looks, as ``"15m"`` or a ``timedelta``; 0 only where the application is stopped.
        max_share: the largest share of the points that may go; None for ``fixes.max_share`` of the settings.
        export: keep the points for an undo; without, there is none.
        id_field: the payload field that holds what `key` holds, if not the point id: integers, UUIDs, any text;
            several points may have the same. A point without it is skipped.
        filter: only points that it selects may go, for example those of one tenant; of Qdrant, as an object.
    """

    rewrites_payload: ClassVar[bool] = True

    collection: str
    sql: str
    key: str = "id"
    database: str = "app"
    parameters: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    reason: str = ""
    grace: str | timedelta | float = GRACE
    max_share: float | None = None
    export: bool = True
    id_field: str | None = None
    filter: Filter | None = None

    def __post_init__(self) -> None:
        """A duration becomes seconds; what is none stays for the message."""
        grace = parse_duration(self.grace)
        assign(self, grace=self.grace if grace is None else grace)

    def as_recorded(self) -> None:
        """What was kept without a file has durations in seconds, as plain numbers."""
        if isinstance(self.grace, float):
            assign(self, grace=Seconds(self.grace))

    def check_words(self) -> None:
        """See the base class."""
        if self.id_field is not None and (not isinstance(self.id_field, str) or not self.id_field):
            raise self.error(f"id_field must name a payload field, not {self.id_field!r}")
        if not isinstance(self.grace, Seconds):
            raise self.error(f"grace {duration_problem(self.grace)}")
        Operation.check_words(self)
        problem, hint = self._removal().problem()
        if problem:
            raise self.error(problem, hint=hint)

    def edit(self) -> JsonObject:
        """See the base class."""
        return {**self._removal().edit(), "kind": "orphans", "type": "ORPHAN", "grace": _bare(self.grace), **(
            {"id_field": self.id_field} if self.id_field else {}
        )}

    def describe(self) -> str:
        """See the base class."""
        return f"delete points without a row on the database {self.database}"

    def touched(self) -> frozenset[Key]:
        """See the base class."""
        return frozenset({("points of", "orphans")})

    def _removal(self) -> DeletePoints:
        return DeletePoints(
            self.collection,
            filter=self.filter,
            sql=self.sql,
            key=self.key,
            database=self.database,
            parameters=self.parameters,
            reason=self.reason,
            max_share=self.max_share,
            export=self.export,
        )
