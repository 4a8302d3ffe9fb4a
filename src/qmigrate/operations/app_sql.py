"""What ties an embedded vector to the application's SQL: a checksum before, a statement after. It asks nothing."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Mapping
from dataclasses import KW_ONLY, dataclass
from typing import Any

from qmigrate.errors import PlanError
from qmigrate.model import statement
from qmigrate.model.schema import JsonObject

#: What :class:`Checksum` does with a point that SQL has no checksum for.
MISSING = ("accept", "fail")
#: What the checksum of a :class:`Checksum` is of.
KINDS = ("input", "python-floats")
#: What a :class:`WriteBack` may name.
NAMES = frozenset(
    {"id", "now", "collection", "vector", "revision", "generation", "fingerprint", "model", "checksum"}
)


@dataclass(frozen=True, slots=True)
class Checksum:
    """What a point is embedded from must still be what the application's SQL has a checksum of.

    A point whose input is another one by now is not embedded: ``on_failure`` decides what becomes of it.

    Args:
        sql: one SELECT with the ids of the points and their checksums, without ORDER BY.
        key: its column with the id.
        column: its column with the checksum: hexadecimal digits (``sha256:`` may precede them), or the bytes.
        field: a payload field that holds the checksum of what the point was made of. It is compared then, and no file
            is read. None: the digest of the input is made, of the bytes of an image's file, or of a text in UTF-8.
        algorithm: of that digest, as :mod:`hashlib` calls it.
        kind: what it is a digest of. ``input``: of what the point is made of. ``python-floats``: of the vector that a
            model had returned, as ``"".join(str(v) for v in vector)`` with Python's floats, before it was stored. The
            model is run again on the input of each point for that; a stored vector can't prove it where the server has
            normalised it. The same input proves itself where the model gives the same numbers to the last bit, which
            another device, library or batch may not.
        embedder: of the settings, that made the vectors of ``python-floats``; None for the one that fills the vector.
        missing: what a point is for which SQL has none (no row, or NULL): ``accept`` or ``fail``.
        database: name under ``databases:`` in the settings.
        parameters: values of the query's ``:parameters``.

    Raises:
        PlanError: no SELECT, an unknown algorithm, or a name that is none.
    """

    sql: str
    _: KW_ONLY
    key: str = "id"
    column: str = "checksum"
    field: str | None = None
    algorithm: str = "sha256"
    kind: str = "input"
    embedder: str | None = None
    missing: str = "accept"
    database: str = "app"
    parameters: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        trouble = statement.problem(self.sql)
        if trouble:
            raise PlanError(f"Checksum: {trouble}", hint="write one SELECT that returns the ids and their checksums")
        _check_names("Checksum", key=self.key, column=self.column, database=self.database, field=self.field or "field")
        _check_parameters("Checksum", self.sql, self.parameters, frozenset())
        if self.missing not in MISSING:
            raise PlanError(f"Checksum: missing must be one of {', '.join(MISSING)}, not {self.missing!r}")
        if self.kind not in KINDS:
            raise PlanError(f"Checksum: kind must be one of {', '.join(KINDS)}, not {self.kind!r}")
        if self.embedder is not None:
            _check_names("Checksum", embedder=self.embedder)
            if self.kind == "input":
                raise PlanError("Checksum: embedder= makes the vectors of kind=\"python-floats\", and of no other kind")
        known = isinstance(self.algorithm, str) and self.algorithm in hashlib.algorithms_guaranteed
        if not known or hashlib.new(self.algorithm).digest_size == 0:
            raise PlanError(f"Checksum: there is no algorithm {self.algorithm!r}", hint='for example "sha256", "md5"')

    def describe(self) -> str:
        """A few words for people."""
        what = f"{self.algorithm} of the vector" if self.kind == "python-floats" else self.algorithm
        return f"checked by {what} in {self.database}"


@dataclass(frozen=True, slots=True)
class WriteBack:
    """A statement for the application's SQL, once for each point that was embedded, when the vector serves.

    It is carried out after the new generation went live: what is never served is never written. It is carried out at
    least once: a run that was killed repeats the last portion, so twice must be the same as once.

    Args:
        sql: one UPDATE, INSERT, DELETE or MERGE. It must name ``:id``, the point's, and may name ``:now`` (UTC, the
            same for all points of a run), ``:collection``, ``:vector``, ``:revision``, ``:generation``,
            ``:fingerprint`` (32 digits), ``:model`` (the same in words), ``:checksum`` (SHA-256 of the vector as it is
            stored: its float32 values in little-endian order).
        database: name under ``databases:`` in the settings.
        parameters: values of further ``:parameters``.

    Raises:
        PlanError: no such statement, no ``:id``, or a parameter without a value.
    """

    sql: str
    _: KW_ONLY
    database: str = "app"
    parameters: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        trouble = statement.problem_of_change(self.sql)
        if trouble:
            example = "UPDATE images SET indexed_at = :now WHERE id = :id"
            raise PlanError(f"WriteBack: {trouble}", hint=f"for example {example}")
        _check_names("WriteBack", database=self.database)
        _check_parameters("WriteBack", self.sql, self.parameters, NAMES)
        odd = [name for name, value in self.parameters.items() if not isinstance(value, str | int | float | None)]
        if odd:
            raise PlanError(f"WriteBack: the parameter {odd[0]!r} must be a string, a number, true, false or None")
        taken = sorted(NAMES & self.parameters.keys())
        if taken:
            raise PlanError(f"WriteBack: :{taken[0]} has a value already", hint="give the parameter another name")
        if "id" not in statement.parameters(self.sql):
            raise PlanError(
                "WriteBack: the statement doesn't name :id, so it would do the same for each point",
                hint="… WHERE id = :id",
            )

    def describe(self) -> str:
        """A few words for people."""
        return f"recorded in {self.database} once it is live"

    def said(self, vector: str, revision: str) -> JsonObject:
        """The statement as plain data, for a job: what of it is the same for every point comes later.

        Args:
            vector: that was filled.
            revision: that declares it.
        """
        return {
            "vector": vector,
            "revision": revision,
            "database": self.database,
            "sql": self.sql,
            "names": sorted(statement.parameters(self.sql)),
            "parameters": dict(self.parameters),
        }


def _check_names(label: str, **names: Any) -> None:
    for name, value in names.items():
        if not isinstance(value, str) or not value.strip():
            raise PlanError(f"{label}: {name} must be a name, not {value!r}")


def _check_parameters(label: str, sql: str, given: Any, known: frozenset[str]) -> None:
    if not isinstance(given, Mapping):
        raise PlanError(f"{label}: parameters must be a mapping, not {given!r:.80}")
    unset = statement.parameters(sql) - known - given.keys()
    if unset:
        some = f"known are {', '.join(f':{name}' for name in sorted(known))}" if known else 'parameters={"name": value}'
        raise PlanError(f"{label}: the statement has a parameter :{min(unset)} without a value", hint=some)
