"""Parameters in REST shape written as objects of ``qdrant_client.models``. Only tables and their reading; no client."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from qmigrate.model.schema import JsonObject
from qmigrate.operations.code import Code, Word, call, listed, literal, mapping

Writer = Callable[[Any, set[str]], Code]


@dataclass(frozen=True, slots=True)
class Choice:
    """A member of an enumeration; its name is its value in capitals."""

    name: str

    def __call__(self, value: Any, used: set[str]) -> Code:
        """As code; names that have to be imported go into `used`."""
        used.add(self.name)
        return Word(f"{self.name}.{str(value).upper()}")


@dataclass(frozen=True, slots=True)
class Model:
    """An object; `fields` names those that are not plain values."""

    name: str
    fields: Mapping[str, Writer] = field(default_factory=dict)

    def __call__(self, value: Any, used: set[str]) -> Code:
        """As code; names that have to be imported go into `used`."""
        used.add(self.name)
        return call(self.name, **{key: written(self.fields.get(key), item, used) for key, item in value.items()})


@dataclass(frozen=True, slots=True)
class ByKey:
    """One of several objects, identified by its only key; a string stands for itself."""

    kinds: Mapping[str, Writer]
    text: Writer | None = None

    def __call__(self, value: Any, used: set[str]) -> Code:
        """As code; names that have to be imported go into `used`."""
        if isinstance(value, str):
            return written(self.text, value, used)
        return written(self.kinds.get(next(iter(value))), value, used)


@dataclass(frozen=True, slots=True)
class Each:
    """Every value of an object or item of a list."""

    of: Writer

    def __call__(self, value: Any, used: set[str]) -> Code:
        """As code; names that have to be imported go into `used`."""
        if isinstance(value, Mapping):
            return mapping({key: self.of(item, used) for key, item in value.items()})
        return listed([self.of(item, used) for item in value])


def written(writer: Writer | None, value: Any, used: set[str]) -> Code:
    """With `writer`, or as the plain value that it is."""
    return literal(value) if writer is None else writer(value, used)


_MEMORY = {"memory": Choice("Memory")}


def _method(name: str, model: str, fields: Mapping[str, Writer]) -> Model:
    quantization = {"turbo": "TurboQuantization"}.get(name, f"{name.title()}Quantization")
    return Model(quantization, {name: Model(model, {**fields, **_MEMORY})})


HNSW = Model("HnswConfigDiff", _MEMORY)
OPTIMIZERS = Model(
    "OptimizersConfigDiff",
    {
        "max_optimization_threads": lambda value, used: (
            Choice("MaxOptimizationThreadsSetting")(value, used) if isinstance(value, str) else literal(value)
        )
    },
)
WAL = Model("WalConfigDiff")
STRICT_MODE = Model(
    "StrictModeConfig",
    {
        "multivector_config": Each(Model("StrictModeMultivector")),
        "sparse_config": Each(Model("StrictModeSparse")),
    },
)
QUANTIZATION = ByKey(
    {
        "scalar": _method("scalar", "ScalarQuantizationConfig", {"type": Choice("ScalarType")}),
        "product": _method("product", "ProductQuantizationConfig", {"compression": Choice("CompressionRatio")}),
        "binary": _method(
            "binary",
            "BinaryQuantizationConfig",
            {
                "encoding": Choice("BinaryQuantizationEncoding"),
                "query_encoding": Choice("BinaryQuantizationQueryEncoding"),
            },
        ),
        "turbo": _method("turbo", "TurboQuantQuantizationConfig", {"bits": Choice("TurboQuantBitSize")}),
    },
    text=Choice("Disabled"),
)
VECTOR = Model(
    "VectorParams",
    {
        "distance": Choice("Distance"),
        "hnsw_config": HNSW,
        "quantization_config": QUANTIZATION,
        "datatype": Choice("Datatype"),
        "multivector_config": Model("MultiVectorConfig", {"comparator": Choice("MultiVectorComparator")}),
        **_MEMORY,
    },
)
SPARSE = Model(
    "SparseVectorParams",
    {
        "index": Model("SparseIndexParams", {"datatype": Choice("Datatype"), **_MEMORY}),
        "modifier": Choice("Modifier"),
    },
)
COLLECTION_PARAMS = Model("CollectionParamsDiff")

_STOPWORDS = Model("StopwordsSet", {"languages": Each(Choice("Language"))})
_STEMMERS: Mapping[str, Writer] = {
    "snowball": Model("SnowballParams", {"type": Choice("Snowball"), "language": Choice("SnowballLanguage")}),
    "none": Model("DisabledStemmerParams", {"type": Choice("NoStemmer")}),
}
_INDEX_FIELDS: Mapping[str, Writer] = {
    **_MEMORY,
    "tokenizer": Choice("TokenizerType"),
    "stopwords": lambda value, used: (
        Choice("Language")(value, used) if isinstance(value, str) else _STOPWORDS(value, used)
    ),
    "stemmer": lambda value, used: written(_STEMMERS.get(value["type"]), value, used),
    "scoring": lambda value, used: (
        literal(value)
        if isinstance(value, bool)
        else Model("TextScoringParams", {"type": Choice("TextScoringType")})(value, used)
    ),
}


def index(params: JsonObject, used: set[str]) -> Code:
    """Parameters of a payload index: its type alone, or an object like ``KeywordIndexParams``."""
    kind = str(params["type"])
    if len(params) == 1:
        return Choice("PayloadSchemaType")(kind, used)
    title = kind.title()
    return Model(f"{title}IndexParams", {**_INDEX_FIELDS, "type": Choice(f"{title}IndexType")})(params, used)


#: The fields of Qdrant's create call and update call that are objects of their own.
CONFIG: Mapping[str, Writer] = {
    "hnsw_config": HNSW,
    "wal_config": WAL,
    "optimizers_config": OPTIMIZERS,
    "sharding_method": Choice("ShardingMethod"),
    "quantization_config": QUANTIZATION,
    "strict_mode_config": STRICT_MODE,
}
