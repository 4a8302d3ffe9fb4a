"""Operations on a whole collection: create, drop, update, reshard. No vectors of existing points, no I/O."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import KW_ONLY, dataclass, field, fields
from typing import Any, ClassVar, cast

from qmigrate.model import names as patterns
from qmigrate.model.schema import CollectionSchema, JsonObject
from qmigrate.model.transform import PointTransform
from qmigrate.operations.base import Key, Operation, Wish, assign, leaves, merged, plain, plain_object
from qmigrate.operations.checks import (
    index_problem,
    logical_name_problem,
    metadata_problem,
    name_problem,
    shown,
    value_problem,
)
from qmigrate.operations.client_types import (
    CollectionParams,
    DenseDiffs,
    DenseVectors,
    Hnsw,
    Indexes,
    Optimizers,
    Quantization,
    QuantizationDiff,
    Sharding,
    SparseVectors,
    StrictMode,
    Wal,
)
from qmigrate.operations.index import index_params
from qmigrate.operations.vector_common import vector_words
from qmigrate.parameters.catalogue import catalogue
from qmigrate.parameters.own import DENSE
from qmigrate.text import did_you_mean, quote


@dataclass(frozen=True, slots=True)
class SetAlias(Operation):
    """Give a collection a further name. It moves with the collection whenever a new generation goes live.

    Args:
        alias: the further name; if it is an alias of another collection, it is re-pointed. Where it led is recorded,
            and the way back gives it back, unless another client has moved it since.
        collection: the logical name of the collection; one name, no glob.
    """

    named_by: ClassVar[tuple[str, ...]] = ("collection", "alias")
    exact: ClassVar[bool] = True

    alias: str
    collection: str

    def label(self) -> str:
        """The arguments in the order of the constructor."""
        return f'SetAlias("{self.alias}", "{self.collection}")'

    def check_schema(self, schema: CollectionSchema) -> None:  # noqa: ARG002
        """See the base class."""
        problem = logical_name_problem(self.alias, "the alias")
        problem = problem or logical_name_problem(self.collection, "the collection")
        if self.alias == self.collection:
            problem = "a collection can't be an alias of itself"
        if problem:
            raise self.error(problem)

    def apply(self, schema: CollectionSchema | None) -> CollectionSchema | None:
        """See the base class."""
        return schema.with_(aliases=tuple(sorted({*schema.aliases, self.alias}))) if schema else None

    def describe(self) -> str:
        """See the base class."""
        return f"set alias {self.alias}"

    def touched(self) -> frozenset[Key]:
        """See the base class."""
        return frozenset({("alias", self.alias)})


@dataclass(frozen=True, slots=True)
class CreateCollection(Operation):
    """Make a collection that doesn't exist yet; ``qmigrate adopt`` is for one that does.

    Parameters are objects of ``qdrant_client.models``, or plain JSON in the shape of Qdrant's REST API. What
    is left out is the server's default.

    Args:
        name: the logical name; it becomes an alias of the first generation. A glob (with ``*`` or ``?``) stands for
            collections that are equal: it creates nothing by itself, but defines what ``qmigrate.ensure`` makes of a
            name that matches.
        vectors: dense vectors and multivectors: ``VectorParams`` by name, one ``VectorParams`` for the
            unnamed vector, or nothing.
        sparse_vectors: ``SparseVectorParams`` by name.
        payload_indexes: by field: a ``PayloadSchemaType``, its name, or an object like
            ``KeywordIndexParams``.
        hnsw_config: ``HnswConfigDiff``.
        wal_config: ``WalConfigDiff``; can't be changed later but by a copy.
        optimizers_config: ``OptimizersConfigDiff``.
        shard_number: number of shards; ``Reshard`` changes it by a copy.
        sharding_method: ``auto`` is the only one that is supported.
        replication_factor: replicas of each shard.
        write_consistency_factor: replicas that must confirm a write.
        on_disk_payload: keep payloads on disk.
        quantization_config: ``ScalarQuantization``, ``ProductQuantization`` or ``BinaryQuantization``.
        strict_mode_config: ``StrictModeConfig``.
        metadata: JSON of your own; the key ``qmigrate`` is reserved for the seal.
    """

    creates: ClassVar[bool] = True
    named_by: ClassVar[tuple[str, ...]] = ("name",)

    name: str
    vectors: DenseVectors = field(default_factory=dict)
    sparse_vectors: SparseVectors = field(default_factory=dict)
    payload_indexes: Indexes = field(default_factory=dict)
    _: KW_ONLY
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

    def __post_init__(self) -> None:
        label = self.label()
        given = plain_object(self.vectors, f"{label}: vectors") or {}
        single = any(key in given and not isinstance(given[key], Mapping) for key in DENSE)
        indexes = self.payload_indexes or {}
        if not isinstance(indexes, Mapping):
            raise self.error(f"payload_indexes must map fields to indexes, not be {indexes!r}")
        assign(
            self,
            vectors={"": given} if single else given,
            sparse_vectors=plain_object(self.sparse_vectors, f"{label}: sparse_vectors") or {},
            payload_indexes={name: index_params(schema, label) for name, schema in indexes.items()},
        )
        for name in self.settings():
            assign(self, **{name: plain(getattr(self, name), f"{label}: {name}", keep_none=name == "metadata")})

    @classmethod
    def settings(cls) -> tuple[str, ...]:
        """The arguments that are settings of the collection, in the order in which they are written."""
        return tuple(one.name for one in fields(cls) if one.kw_only)

    @property
    def is_glob(self) -> bool:
        """Brackets alone make none: a collection may have them in its name."""
        return patterns.has_wildcard(self.written)

    @property
    def config(self) -> JsonObject:
        """The fields of the create call that were given, besides the vectors."""
        given = {name: getattr(self, name) for name in self.settings()}
        return {name: value for name, value in given.items() if value is not None}

    def check(self, schema: CollectionSchema | None) -> None:
        """See the base class."""
        self.check_words()
        problem = None if self.is_glob else logical_name_problem(self.pattern, "the name")
        if problem:
            raise self.error(problem)
        if schema is not None:
            hint = f"take it over instead: qmigrate adopt {quote(self.pattern)}"
            raise self.error(f"{self.pattern} exists already", hint=hint)
        self._check_vectors()
        for name, params in sorted(self._plain(self.payload_indexes).items()):
            problem = None if name else "a payload index has no field"
            problem = problem or index_problem(params)
            if problem:
                raise self.error(f"payload index {name}: {problem}")
        problem = value_problem(self.config, catalogue().create, "the collection") or metadata_problem(self.metadata)
        if self.sharding_method == "custom":
            problem = 'sharding_method="custom" is not supported'
        if problem:
            raise self.error(problem)

    def _check_vectors(self) -> None:
        for name, params in sorted(self.vectors.items()):
            problem = name_problem(name, "the vector's name") or value_problem(params, catalogue().vector, "params")
            if problem:
                raise self.error(f"vector {shown(name)}: {problem}")
        for name, params in sorted(self.sparse_vectors.items()):
            problem = name_problem(name, "the vector's name") or value_problem(params, catalogue().sparse, "params")
            if not name:
                problem = "a sparse vector needs a name"
            if name in self.vectors:
                problem = "there is a dense vector of that name"
            if problem:
                raise self.error(f"sparse vector {shown(name)}: {problem}")

    def check_schema(self, schema: CollectionSchema) -> None:  # noqa: ARG002
        """Never reached: :meth:`check` refuses a schema."""
        raise self.error(f"{self.pattern} exists already")

    def apply(self, schema: CollectionSchema | None) -> CollectionSchema:  # noqa: ARG002
        """The schema that it declares."""
        return CollectionSchema(
            vectors=self._plain(self.vectors),
            sparse=self._plain(self.sparse_vectors),
            indexes=self._plain(self.payload_indexes),
            config=self.config,
        )

    @staticmethod
    def _plain(given: object) -> dict[str, JsonObject]:
        """By name, as the constructor has kept it: JSON, whatever it was given as."""
        return cast("dict[str, JsonObject]", given)

    def transform(self, schema: CollectionSchema) -> PointTransform:  # noqa: ARG002
        """There are no points before it."""
        return PointTransform.identity(frozenset())

    def describe(self) -> str:
        """See the base class."""
        made = [vector_words(name, params) for name, params in sorted(self.vectors.items())]
        made += [f"{name} sparse" for name in sorted(self.sparse_vectors)]
        indexes = sorted(self._plain(self.payload_indexes).items())
        made += [f"index {name} {params.get('type')}" for name, params in indexes]
        return f"create collection {self.pattern}: {', '.join(made) or 'no vectors'}"

    def touched(self) -> frozenset[Key]:
        """See the base class."""
        vectors: set[Key] = {("vector", name) for name in (*self.vectors, *self.sparse_vectors)}
        indexes: set[Key] = {("payload index", name) for name in self.payload_indexes}
        config = {key for name, value in self.config.items() for key in leaves(("setting", name), value)}
        return frozenset({("creation",), *vectors, *indexes, *config})


@dataclass(frozen=True, slots=True)
class DropCollection(Operation):
    """Take the name away. The generation is retired, not deleted: it can come back until ``gc`` removes it.

    Args:
        name: the logical name, or a glob.
    """

    drops: ClassVar[bool] = True
    named_by: ClassVar[tuple[str, ...]] = ("name",)

    name: str

    def check(self, schema: CollectionSchema | None) -> None:
        """See the base class. By itself it means that readers will fail, so no ``cutover=`` is asked for."""
        self.check_words()
        if schema is None:
            raise self.error(f"there is no collection {self.pattern}")

    def apply(self, schema: CollectionSchema | None) -> None:
        """Nothing is left."""

    def incompatible(self, schema: CollectionSchema) -> str:  # noqa: ARG002
        """See the base class."""
        return "the collection is dropped"

    def describe(self) -> str:
        """See the base class."""
        return "drop the collection (kept aside until gc)"

    def touched(self) -> frozenset[Key]:
        """Everything."""
        return frozenset({()})


@dataclass(frozen=True, slots=True, init=False)
class UpdateCollection(Operation):
    """Change settings of a collection and its vectors; nothing that decides stored values.

    What is left out stays as it is. Settings that only say how to serve (optimizers, strict mode, metadata,
    params) are changed on the live collection; HNSW and quantization rebuild every segment, so that is done next to
    it, in a clone that the server makes of a snapshot, or in a copy where it can't. So are optimizer settings that
    cut segments again, and the place of payloads, when the collection is big (100,000 points and more).

    Args:
        collection: logical name or glob.
        hnsw_config: ``HnswConfigDiff``.
        optimizers_config: ``OptimizersConfigDiff``.
        quantization_config: a quantization, or ``Disabled.DISABLED``; it replaces the complete old
            one.
        strict_mode_config: ``StrictModeConfig``.
        params: ``CollectionParamsDiff``: replication_factor, write_consistency_factor, read_fan_out_factor,
            read_fan_out_delay_ms, on_disk_payload.
        vectors_config: ``VectorParamsDiff`` by name of a dense vector; ``""`` is the unnamed one.
        sparse_vectors_config: ``SparseVectorParams`` by name.
        metadata: keys to set; others stay.
        strategy: ``in_place`` to do it on the live collection, ``clone`` or ``copy`` to do it next to it.
    """

    collection: str
    config: JsonObject
    params: JsonObject
    vectors_config: JsonObject
    sparse_vectors_config: JsonObject
    wish: Wish

    def __init__(  # noqa: PLR0913  the fields of Qdrant's update call
        self,
        collection: str,
        *,
        hnsw_config: Hnsw | None = None,
        optimizers_config: Optimizers | None = None,
        quantization_config: QuantizationDiff | None = None,
        strict_mode_config: StrictMode | None = None,
        params: CollectionParams | None = None,
        vectors_config: DenseDiffs | None = None,
        sparse_vectors_config: SparseVectors | None = None,
        metadata: Mapping[str, Any] | None = None,
        strategy: Wish = None,
    ) -> None:
        assign(self, collection=collection, wish=strategy)
        label = self.label()
        given = {
            "hnsw_config": plain(hnsw_config, f"{label}: hnsw_config"),
            "optimizers_config": plain(optimizers_config, f"{label}: optimizers_config"),
            "quantization_config": plain(quantization_config, f"{label}: quantization_config"),
            "strict_mode_config": plain(strict_mode_config, f"{label}: strict_mode_config"),
            "metadata": plain(metadata, f"{label}: metadata", keep_none=True),
        }
        assign(
            self,
            config={name: value for name, value in given.items() if value is not None},
            params=plain_object(params, f"{label}: params") or {},
            vectors_config=plain_object(vectors_config, f"{label}: vectors_config") or {},
            sparse_vectors_config=plain_object(sparse_vectors_config, f"{label}: sparse_vectors_config") or {},
        )

    def check_schema(self, schema: CollectionSchema) -> None:
        """See the base class."""
        if not (self.config or self.params or self.vectors_config or self.sparse_vectors_config):
            raise self.error("it changes nothing: no setting is given")
        problem = (
            value_problem(self.config, catalogue().update, "the collection")
            or value_problem(self.params, catalogue().params, "params")
            or metadata_problem(self.config.get("metadata"))
        )
        if problem:
            raise self.error(problem)
        families = (
            ("vector", self.vectors_config, schema.vectors, catalogue().vector_diff),
            ("sparse vector", self.sparse_vectors_config, schema.sparse, catalogue().sparse),
        )
        for family, wanted, present, kind in families:
            for name, diff in sorted(wanted.items()):
                if name not in present:
                    raise self.error(f"there is no {family} {shown(name)}{did_you_mean(name, present)}")
                problem = value_problem(diff, kind, f"{family} {shown(name)}")
                if problem:
                    raise self.error(problem)

    def apply(self, schema: CollectionSchema | None) -> CollectionSchema | None:
        """See the base class."""
        if schema is None:
            return None
        config = merged(schema.config, {k: v for k, v in self.config.items() if k != "metadata"})
        config.update(self.params)
        if "metadata" in self.config:
            # Qdrant merges only the first level of metadata.
            config["metadata"] = {**(config.get("metadata") or {}), **self.config["metadata"]}
        return schema.with_(
            config=config,
            vectors=merged(schema.vectors, self.vectors_config),
            sparse=merged(schema.sparse, self.sparse_vectors_config),
        )

    def describe(self) -> str:
        """See the base class."""
        keys = [*self.config, *self.params]
        keys += [f"vector {shown(name)}" for name in (*self.vectors_config, *self.sparse_vectors_config)]
        return f"update settings: {', '.join(sorted(keys))}"

    def touched(self) -> frozenset[Key]:
        """See the base class."""
        keys = set(leaves(("setting",), {**self.config, **self.params}))
        for name, diff in {**self.vectors_config, **self.sparse_vectors_config}.items():
            keys.update(leaves(("vector", name), diff))
        return frozenset(keys)


@dataclass(frozen=True, slots=True)
class Reshard(Operation):
    """Change how a collection is spread over a cluster.

    Another shard number means a copy: every point finds its shard again. The replication factor alone is changed on
    the live collection: the setting, and then the replicas themselves are made or removed, and waited for, at most
    one on each node.

    Args:
        collection: logical name or glob.
        shard_number: number of shards.
        replication_factor: replicas of each shard.
        write_consistency_factor: replicas that must confirm a write.
    """

    collection: str
    shard_number: int | None = None
    replication_factor: int | None = None
    write_consistency_factor: int | None = None

    @property
    def _given(self) -> JsonObject:
        names = ("shard_number", "replication_factor", "write_consistency_factor")
        return {name: getattr(self, name) for name in names if getattr(self, name) is not None}

    def check_schema(self, schema: CollectionSchema) -> None:
        """See the base class."""
        if not self._given:
            raise self.error("give shard_number or replication_factor")
        problem = value_problem(self._given, catalogue().create, "the collection")
        if schema.config.get("sharding_method") == "custom":
            problem = "the collection uses custom sharding, which is not supported"
        if problem:
            raise self.error(problem)

    def apply(self, schema: CollectionSchema | None) -> CollectionSchema | None:
        """See the base class."""
        return schema.with_(config={**schema.config, **self._given}) if schema else None

    def describe(self) -> str:
        """See the base class."""
        return "reshard: " + ", ".join(f"{name} {value}" for name, value in self._given.items())

    def touched(self) -> frozenset[Key]:
        """See the base class."""
        return frozenset(("setting", name) for name in self._given)
