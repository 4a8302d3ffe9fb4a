"""Data fixes: operations that change points of the live collection, with a preview, a cap and a way back. No I/O."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

from qmigrate.model import statement
from qmigrate.model.payload_path import covers
from qmigrate.model.schema import CollectionSchema, JsonObject
from qmigrate.operations.base import Key, Operation, Strategy, assign, plain

#: A payload key at the top, without a way to anything inside.
KEY = re.compile(r"[^\s.\[\]\"'\\:]+")
#: The same, or the way to a value inside objects: ``metadata.person_id``.
PATH = re.compile(rf"{KEY.pattern}(\.{KEY.pattern})*")


class DataFix(Operation):
    """What all data fixes have in common: they leave the schema as it is and are a step of their own."""

    __slots__ = ()

    rewrites_payload: ClassVar[bool] = True

    def strategy(self, schema: CollectionSchema, capabilities: Any, points: int = 0) -> Strategy:  # noqa: ARG002
        """On the live collection: nothing is rebuilt for it."""
        return Strategy("in_place", "points of the live collection, each recorded for undo")

    def irreversible_reason(self, schema: CollectionSchema) -> str | None:  # noqa: ARG002
        """Going back leaves the points as they are: what a fix did is undone separately, with ``fix undo``."""
        return None

    def shows(self) -> str | None:
        """See the base class."""
        return "see each point as it is changed"

    def share_problem(self, share: object) -> str | None:
        """Why this is not a cap."""
        if share is None or (isinstance(share, int | float) and not isinstance(share, bool) and 0 < share <= 1):
            return None
        return f"max_share must be above 0 and at most 1 (a share of the collection), not {share!r}"


@dataclass(frozen=True, slots=True)
class SyncPayload(DataFix):
    """Make payload fields equal to columns of the application's SQL, for the points that a query returns.

    Every row is one point. Its value is set where the point has none or another one; where it is NULL, the key is
    removed. Points without a row are left alone, and rows without a point are only counted.

    Args:
        collection: logical name or glob.
        sql: one SELECT without ORDER BY; ``:names`` are parameters.
        key: its column with the point's id.
        fields: payload key -> column; or names that are both. ``metadata.person_id`` is the value in an object (its
            column is ``person_id``, unless given): what else is in it stays.
        database: name under ``databases:`` in the settings.
        parameters: values of the query's parameters.
        max_share: the largest share of the points that may change; None for ``fixes.max_share`` of the settings.
        reason: for the record.
        json: columns that hold JSON, also as text: what it means is compared and set. A field of such a column may be
            a path into it: ``{"metadata.person_id": "meta.person_id"}``.
    """

    named_by: ClassVar[tuple[str, ...]] = ("collection", "key")

    collection: str
    sql: str
    key: str = "id"
    fields: Mapping[str, str] | Sequence[str] = ()
    database: str = "app"
    parameters: Mapping[str, Any] = field(default_factory=dict)
    max_share: float | None = None
    reason: str = ""
    json: Sequence[str] = ()

    def __post_init__(self) -> None:
        """Names that are both become pairs."""
        assign(self, json=(self.json,) if isinstance(self.json, str) else self.json)
        if isinstance(self.json, Iterable):
            assign(self, json=tuple(self.json))
        if isinstance(self.fields, str):
            assign(self, fields=_columns([self.fields]))
        elif isinstance(self.fields, Iterable) and not isinstance(self.fields, Mapping):
            assign(self, fields=_columns(self.fields))

    def check_words(self) -> None:
        """See the base class."""
        Operation.check_words(self)
        trouble = statement.problem(self.sql)
        if trouble:
            raise self.error(trouble, hint="write one SELECT that returns the ids and the values")
        if not isinstance(self.fields, Mapping) or not self.fields:
            raise self.error("no field is named", hint='fields={"payload key": "column"}')
        if not isinstance(self.json, tuple):
            raise self.error(f"json must be a list of columns, not {self.json!r:.60}")
        self._check_fields(self.fields)
        for name, value in (("key", self.key), ("database", self.database), *self.fields.items()):
            if not isinstance(value, str) or not value:
                raise self.error(f"{name} must be a name, not {value!r}")
        problem = statement.problem_of_values(self.sql, self.parameters) or self.share_problem(self.max_share)
        if problem:
            raise self.error(problem)

    def _check_fields(self, fields: Mapping[str, str]) -> None:
        odd = [name for name in fields if not isinstance(name, str) or not PATH.fullmatch(name)]
        if odd:
            raise self.error(
                f"{odd[0]!r} is not a payload key that can be synced",
                hint="a key, or a path through objects: metadata.person_id; lists have no path here",
            )
        for name in fields:
            outer = next((one for one in fields if one != name and covers(one, name)), None)
            if outer is not None:
                raise self.error(f"{name} lies inside {outer}: only one of the two can be synced")
        unknown = [column for column in self.json if not any(covers(column, one) for one in fields.values())]
        if unknown:
            raise self.error(f"json names {unknown[0]!r}, which is not a column of fields")
        paths = [one for one in fields.values() if isinstance(one, str) and not PATH.fullmatch(one)]
        if paths and any(covers(column, paths[0]) for column in self.json):
            raise self.error(f"{paths[0]!r} is not a path into a column")

    def edit(self) -> JsonObject:
        """See the base class."""
        return {
            "kind": "sync",
            "undo": "undo",
            "database": self.database,
            "sql": self.sql,
            "key": self.key,
            "fields": dict(self.fields) if isinstance(self.fields, Mapping) else {},
            "parameters": plain(self.parameters, f"{self.label()}: parameters", keep_none=True),
            "max_share": self.max_share,
            "reason": self.reason or None,
            **({"json": list(self.json)} if self.json else {}),
        }

    def describe(self) -> str:
        """See the base class."""
        return f"sync payload {', '.join(self.fields)} with the database {self.database}"

    def touched(self) -> frozenset[Key]:
        """See the base class."""
        return frozenset(("payload", name) for name in self.fields)


def _columns(names: Sequence[str]) -> dict[str, str]:
    """Names that are keys and columns: of a path the last part is the column."""
    return {name: name.rpartition(".")[2] if isinstance(name, str) else name for name in names}
