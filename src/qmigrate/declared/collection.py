"""What a declaration says of one collection, as an application writes it. It reads no file and compares nothing."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import KW_ONLY, dataclass, field
from typing import Any

from qmigrate.errors import PlanError
from qmigrate.model.schema import CollectionSchema
from qmigrate.operations.base import plain
from qmigrate.operations.client_types import (
    DenseVectors,
    Hnsw,
    Indexes,
    Optimizers,
    Quantization,
    Sharding,
    SparseVectors,
    StrictMode,
    Wal,
)
from qmigrate.operations.collection import CreateCollection
from qmigrate.operations.values import Compute, CopyOf, Embed, Empty, Value
from qmigrate.text import did_you_mean

#: Settings that a collection gets right after it is made, since the create call doesn't know them.
LATER = ("read_fan_out_factor", "read_fan_out_delay_ms")


@dataclass(frozen=True, slots=True)
class Wanted:
    """One declared collection, checked, in plain values.

    Attributes:
        name: logical name, or a glob for collections that are equal.
        schema: what it should be.
        values: vector -> what fills it; the words of ``qmigrate schema`` where nothing more is known.
        renamed_from: vector -> its name before.
        was: the name that the collection had before, or None.
        unsaid: settings that no revision can express, by name.
    """

    name: str
    schema: CollectionSchema
    values: Mapping[str, Value | str] = field(default_factory=dict)
    renamed_from: Mapping[str, str] = field(default_factory=dict)
    was: str | None = None
    unsaid: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Collection:
    """A collection as it should be: ``declared: "app.schema:collections"`` names a list of these.

    The arguments are those of ``op.CreateCollection``: objects of ``qdrant_client.models``, or plain JSON. A setting
    that is left out is not compared; a vector or a payload index that is left out is one that should not be there.

    Args:
        name: the logical name, or a glob (``memory_*``) for collections that are equal.
        vectors: ``VectorParams`` by name, or one for the unnamed vector.
        sparse_vectors: ``SparseVectorParams`` by name.
        payload_indexes: by field.
        values: vector -> what fills it: ``Embed(…)``, ``Compute(…)``, ``CopyOf(…)`` or ``Empty()``. A vector that is
            added later is filled with it, and another embedder fills it again. Without it the revision says
            ``FILL_ME``, which has to be decided in review.
        aliases: further names.
        renamed_from: vector -> the name that it had before; a text is the name that the collection had.
        settings: the other fields of ``op.CreateCollection`` have their own names; ``variable(…)`` for those that
            differ by environment.

    Raises:
        PlanError: Qdrant would not take it; the message names what.
    """

    name: str
    vectors: DenseVectors = field(default_factory=dict)
    sparse_vectors: SparseVectors = field(default_factory=dict)
    payload_indexes: Indexes = field(default_factory=dict)
    _: KW_ONLY
    values: Mapping[str, Value | str] = field(default_factory=dict)
    aliases: Iterable[str] = ()
    renamed_from: Mapping[str, str] | str | None = None
    hnsw_config: Hnsw | None = None
    wal_config: Wal | None = None
    optimizers_config: Optimizers | None = None
    shard_number: int | None = None
    sharding_method: Sharding | None = None
    replication_factor: int | None = None
    write_consistency_factor: int | None = None
    on_disk_payload: bool | None = None
    quantization_config: Quantization | None = None
    strict_mode_config: StrictMode | None = None
    metadata: Mapping[str, Any] | None = None
    read_fan_out_factor: int | None = None
    read_fan_out_delay_ms: int | None = None

    def wanted(self) -> Wanted:
        """The same in plain values, checked by what checks ``op.CreateCollection``.

        Raises:
            PlanError: Qdrant would not take it.
        """
        label = f"Collection({self.name!r})"
        names = CreateCollection.settings()
        given = {name: getattr(self, name) for name in names}
        made = CreateCollection(self.name, self.vectors, self.sparse_vectors, self.payload_indexes, **given)
        try:
            made.check(None)
        except PlanError as error:
            raise PlanError(error.message.replace(made.label(), label), hint=error.hint) from error
        schema = made.apply(None)
        later = {name: plain(getattr(self, name), f"{label}: {name}") for name in LATER}
        config = {**schema.config, **{name: value for name, value in later.items() if value is not None}}
        vectors = schema.vector_names()
        self._check_named(label, vectors)
        was, renamed = (self.renamed_from, {}) if isinstance(self.renamed_from, str) else (None, self.renamed_from)
        aliases = tuple(sorted({str(one) for one in self.aliases}))
        return Wanted(self.name, schema.with_(config=config, aliases=aliases), self.values, renamed or {}, was)

    def _check_named(self, label: str, vectors: frozenset[str]) -> None:
        """What is about vectors names those that there are, and says what it may say.

        Raises:
            PlanError: it doesn't.
        """
        renamed = self.renamed_from if isinstance(self.renamed_from, Mapping) else {}
        for what, named in (("values", self.values), ("renamed_from", renamed)):
            if not isinstance(named, Mapping):
                raise PlanError(f"{label}: {what} must map vectors, not be {named!r:.80}")
            for vector in named:
                if vector not in vectors:
                    raise PlanError(
                        f"{label}: {what} names a vector {vector!r} that it doesn't have{did_you_mean(vector, vectors)}"
                    )
        for vector, value in self.values.items():
            if not isinstance(value, Embed | Compute | CopyOf | Empty | str):
                raise PlanError(
                    f"{label}: values[{vector!r}] must be Embed(…), Compute(…), CopyOf(…) or Empty(), not {value!r:.80}"
                )
        for vector, old in renamed.items():
            if not isinstance(old, str) or old in vectors:
                raise PlanError(f"{label}: renamed_from[{vector!r}] must be a name that no vector has now, not {old!r}")
        if isinstance(self.aliases, str):
            raise PlanError(f"{label}: aliases must be a list of names, not {self.aliases!r}")
