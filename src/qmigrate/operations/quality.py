"""What a revision can ask of search before the name moves. It describes, and searches nothing."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import KW_ONLY, dataclass
from typing import Any

from qmigrate.errors import PlanError
from qmigrate.model import statement

#: Instead of a file: points of the collection at random.
SAMPLE = "sample"


@dataclass(frozen=True, slots=True)
class Recall:
    """How much of what an exact search finds the index of the new generation must find, before it goes live.

    Args:
        queries: ``sample`` (vectors of points at random), or a JSON Lines file next to ``qmigrate.yaml``: each line a
            list of numbers, or a text that the embedder of the vector makes one of.
        at_least: the share, above 0 and at most 1, on average over the queries.
        k: how many results are compared.
        count: how many queries of a sample.
        hnsw_ef: of the search that is measured; None for the collection's own.

    Raises:
        PlanError: a value makes no sense.
    """

    queries: str = SAMPLE
    _: KW_ONLY
    at_least: float
    k: int = 10
    count: int = 100
    hnsw_ef: int | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.queries, str) or not self.queries.strip():
            raise PlanError(f"Recall: queries must be {SAMPLE!r} or a file, not {self.queries!r}")
        share = self.at_least
        if isinstance(share, bool) or not isinstance(share, int | float) or not 0 < share <= 1:
            raise PlanError(f"Recall: at_least must be above 0 and at most 1, not {share!r}")
        for name, value in (("k", self.k), ("count", self.count), ("hnsw_ef", self.hnsw_ef)):
            if name == "hnsw_ef" and value is None:
                continue
            if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= 10_000:
                raise PlanError(f"Recall: {name} must be a whole number from 1 to 10,000, not {value!r}")

    def describe(self) -> str:
        """``recall@10 of at least 95 %``."""
        return f"recall@{self.k} of at least {self.at_least:.4g}"


@dataclass(frozen=True, slots=True)
class _OfField:
    """Questions that are made of a payload field of points."""

    field: str

    def __post_init__(self) -> None:
        _check_name(type(self).__name__, self.field)


@dataclass(frozen=True, slots=True)
class KnownItem(_OfField):
    """Questions made of points: a text of each asks for its own point. Take one that isn't embedded, such as a title.

    Args:
        field: payload field, or a key inside one, with the text.

    Raises:
        PlanError: it is not a name.
    """

    def describe(self) -> str:
        """A few words for people."""
        return f"{self.field} of points"


@dataclass(frozen=True, slots=True)
class Sentence(_OfField):
    """Questions made of points: one sentence of a longer text asks for its own point.

    Args:
        field: payload field, or a key inside one, with the text.

    Raises:
        PlanError: it is not a name.
    """

    def describe(self) -> str:
        """A few words for people."""
        return f"a sentence of {self.field} of points"


@dataclass(frozen=True, slots=True)
class SameValue(_OfField):
    """Questions made of points: each asks, by its own vector, for those with the same value. No embedder is needed.

    Args:
        field: payload field with what belongs together, such as the number of a product or of a duplicate.

    Raises:
        PlanError: it is not a name.
    """

    def describe(self) -> str:
        """A few words for people."""
        return f"points with the same {self.field}"


@dataclass(frozen=True, slots=True)
class Logged:
    """Questions of a log in SQL.

    Args:
        sql: one SELECT with a column ``query`` (a text) or ``image`` (the name of one), and where it is known
            ``relevant``: the id of a point that a user took. Several rows may have one query.
        database: name under ``databases:`` in the settings.
        parameters: values of the query's ``:parameters``.

    Raises:
        PlanError: no SELECT, or a parameter without a value.
    """

    sql: str
    _: KW_ONLY
    database: str = "app"
    parameters: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        _check_name("Logged", self.database)
        trouble = statement.problem(self.sql)
        if trouble:
            raise PlanError(f"Logged: {trouble}", hint="write one SELECT that returns query and relevant")
        if not isinstance(self.parameters, Mapping):
            raise PlanError(
                f"Logged: parameters must be a dict of names and values, not {self.parameters!r}",
                hint='parameters={"since": "2025-01-01"}',
            )
        unset = statement.parameters(self.sql) - self.parameters.keys()
        if unset:
            raise PlanError(f"Logged: the statement has a parameter :{min(unset)} without a value")

    def describe(self) -> str:
        """A few words for people."""
        return f"a log in {self.database}"


Queries = str | KnownItem | Sentence | SameValue | Logged
#: What a gate may decide by.
DECIDES = ("ndcg", "recall", "mrr", "overlap")


@dataclass(frozen=True, slots=True)
class Compare:
    """How good search by the new vector must be next to search by the old one, on the same questions, to go live.

    It must be shown that the average over the questions is at least this share of the old average. Where they don't
    show it, the old generation serves on, as it does where they show the opposite.

    Args:
        queries: a file next to ``qmigrate.yaml`` with questions and what should be found (JSON Lines, or CSV),
            ``Logged(…)``, or made of the points: ``KnownItem``, ``Sentence``, ``SameValue``.
        at_least: share of the old average, above 0 and at most 2: above 1 the new one must be better.
        k: how many results of a search count.
        by: what questions are grouped by: a key of the file, a column of the log, or a payload field of points
            that questions are made of. None of them may be shown to be worse.
        measure: what is averaged: ``ndcg``, ``recall``, ``mrr``; or ``overlap`` with the old results, which needs no
            relevant points.
        confidence: of the decision, from 0.5 to 0.999.
        count: most questions.
        old_vector: that is compared with; None for the one of the same name, else the only one.
        embedder: of the questions for the new vector; None for the one that fills it.
        old_embedder: of the questions for the old vector; None for the one of the settings that has filled it.

    Raises:
        PlanError: a value makes no sense.
    """

    queries: Queries
    _: KW_ONLY
    at_least: float = 0.98
    k: int = 10
    by: str | None = None
    measure: str = "ndcg"
    confidence: float = 0.95
    count: int = 1000
    old_vector: str | None = None
    embedder: str | None = None
    old_embedder: str | None = None

    def __post_init__(self) -> None:
        if isinstance(self.queries, str):
            _check_name("Compare", self.queries)
        elif not isinstance(self.queries, KnownItem | Sentence | SameValue | Logged):
            raise PlanError(
                f"Compare: queries must be a file, KnownItem, Sentence, SameValue or Logged, not {self.queries!r:.80}"
            )
        for name, least, most in (("at_least", 0.0, 2.0), ("confidence", 0.5, 0.999)):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int | float) or not least <= value <= most or not value:
                raise PlanError(f"Compare: {name} must be a number from {least:g} to {most:g}, not {value!r}")
        for name in ("k", "count"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= 10_000:
                raise PlanError(f"Compare: {name} must be a whole number from 1 to 10,000, not {value!r}")
        if self.measure not in DECIDES:
            raise PlanError(f"Compare: measure must be one of {', '.join(DECIDES)}, not {self.measure!r}")
        for name in ("by", "old_vector", "embedder", "old_embedder"):
            value = getattr(self, name)
            if value is not None and (not isinstance(value, str) or (not value and name != "old_vector")):
                raise PlanError(f"Compare: {name} must be a name, not {value!r}")

    def describe(self) -> str:
        """``ndcg@10 of at least 0.98 of the old one``."""
        asked = self.queries if isinstance(self.queries, str) else self.queries.describe()
        by = f", by {self.by}" if self.by is not None else ""
        return f"{self.measure}@{self.k} of at least {self.at_least:.4g} of the old one ({asked}{by})"


#: What search by a vector must find before the name moves.
Gate = Recall | Compare


def _check_name(label: str, value: object) -> None:
    if not isinstance(value, str) or not value.strip():
        raise PlanError(f"{label}: expected a name, got {value!r}")
