"""What a revision can ask of search before the name moves. It describes, and searches nothing."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass

from qmigrate.errors import PlanError

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
