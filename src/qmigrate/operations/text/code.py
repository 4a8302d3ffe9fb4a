"""Python expressions as small trees, laid out as a formatter would. Independent of operations and parameters."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from qmigrate.model.schema import JsonObject

#: Longest line that is written.
WIDTH = 100
_STEP = 4


@dataclass(frozen=True, slots=True)
class Literal:
    """An expression that is never broken: a literal, a name."""

    text: str


@dataclass(frozen=True, slots=True)
class Group:
    """A call, list or dict: what opens it, its items with what precedes each, and what closes it."""

    opening: str
    items: tuple[tuple[str, Code], ...]
    closing: str


Code = Literal | Group


def call(name: str, *arguments: Code, **named: Code) -> Group:
    """``name(first, key=second)``."""
    items = [*(("", found) for found in arguments), *((f"{key}=", found) for key, found in named.items())]
    return Group(f"{name}(", tuple(items), ")")


def listed(items: Sequence[Code]) -> Group:
    """``[first, second]``."""
    return Group("[", tuple(("", item) for item in items), "]")


def mapping(items: Mapping[str, Code]) -> Group:
    """``{"key": value}``."""
    return Group("{", tuple((f"{quoted(key)}: ", item) for key, item in items.items()), "}")


def literal(value: Any) -> Code:
    """A plain JSON value."""
    if isinstance(value, Mapping):
        return mapping({key: literal(item) for key, item in value.items()})
    if isinstance(value, list | tuple):
        return listed([literal(item) for item in value])
    if isinstance(value, str):
        return Literal(quoted(value))
    return Literal(repr(value).replace("e+", "e") if isinstance(value, float) else repr(value))


def quoted(text: str) -> str:
    """A string literal, in double quotes unless that needs more escapes."""
    # The quote in front makes the body one of single quotes, whatever else the text holds.
    single = repr('"' + text)[2:-1]
    if text.count('"') > text.count("'"):
        return f"'{single}'"
    double = single.replace("\\'", "'").replace('"', '\\"')
    return f'"{double}"'


def flat(code: Code) -> str:
    """On one line, however long."""
    if isinstance(code, Literal):
        return code.text
    return code.opening + ", ".join(before + flat(item) for before, item in code.items) + code.closing


def laid_out(code: Code, *, indent: int = 0, before: str = "", after: str = "") -> str:
    """On one line where it fits, else one item per line.

    Args:
        indent: spaces in front of the first line.
        before: what precedes it on that line.
        after: what follows it on the last line.
    """
    line = f"{' ' * indent}{before}{flat(code)}{after}"
    if isinstance(code, Literal) or not code.items or len(line) <= WIDTH:
        return line
    inner = [laid_out(item, indent=indent + _STEP, before=name, after=",") for name, item in code.items]
    return "\n".join([f"{' ' * indent}{before}{code.opening}", *inner, f"{' ' * indent}{code.closing}{after}"])


Writer = Callable[[Any, set[str]], Code]


@dataclass(frozen=True, slots=True)
class EnumMember:
    """A member of an enumeration; its name is its value in capitals."""

    name: str

    def __call__(self, value: Any, used: set[str]) -> Code:
        """As code; names that have to be imported go into `used`."""
        used.add(self.name)
        return Literal(f"{self.name}.{str(value).upper()}")


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


_MEMORY = {"memory": EnumMember("Memory")}


def _method(name: str, model: str, fields: Mapping[str, Writer]) -> Model:
    quantization = {"turbo": "TurboQuantization"}.get(name, f"{name.title()}Quantization")
    return Model(quantization, {name: Model(model, {**fields, **_MEMORY})})


HNSW = Model("HnswConfigDiff", _MEMORY)
OPTIMIZERS = Model(
    "OptimizersConfigDiff",
    {
        "max_optimization_threads": lambda value, used: (
            EnumMember("MaxOptimizationThreadsSetting")(value, used) if isinstance(value, str) else literal(value)
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
        "scalar": _method("scalar", "ScalarQuantizationConfig", {"type": EnumMember("ScalarType")}),
        "product": _method("product", "ProductQuantizationConfig", {"compression": EnumMember("CompressionRatio")}),
        "binary": _method(
            "binary",
            "BinaryQuantizationConfig",
            {
                "encoding": EnumMember("BinaryQuantizationEncoding"),
                "query_encoding": EnumMember("BinaryQuantizationQueryEncoding"),
            },
        ),
        "turbo": _method("turbo", "TurboQuantQuantizationConfig", {"bits": EnumMember("TurboQuantBitSize")}),
    },
    text=EnumMember("Disabled"),
)
VECTOR = Model(
    "VectorParams",
    {
        "distance": EnumMember("Distance"),
        "hnsw_config": HNSW,
        "quantization_config": QUANTIZATION,
        "datatype": EnumMember("Datatype"),
        "multivector_config": Model("MultiVectorConfig", {"comparator": EnumMember("MultiVectorComparator")}),
        **_MEMORY,
    },
)
SPARSE = Model(
    "SparseVectorParams",
    {
        "index": Model("SparseIndexParams", {"datatype": EnumMember("Datatype"), **_MEMORY}),
        "modifier": EnumMember("Modifier"),
    },
)
COLLECTION_PARAMS = Model("CollectionParamsDiff")

_STOPWORDS = Model("StopwordsSet", {"languages": Each(EnumMember("Language"))})
_STEMMERS: Mapping[str, Writer] = {
    "snowball": Model("SnowballParams", {"type": EnumMember("Snowball"), "language": EnumMember("SnowballLanguage")}),
    "none": Model("DisabledStemmerParams", {"type": EnumMember("NoStemmer")}),
}
_INDEX_FIELDS: Mapping[str, Writer] = {
    **_MEMORY,
    "tokenizer": EnumMember("TokenizerType"),
    "stopwords": lambda value, used: (
        EnumMember("Language")(value, used) if isinstance(value, str) else _STOPWORDS(value, used)
    ),
    "stemmer": lambda value, used: written(_STEMMERS.get(value["type"]), value, used),
    "scoring": lambda value, used: (
        literal(value)
        if isinstance(value, bool)
        else Model("TextScoringParams", {"type": EnumMember("TextScoringType")})(value, used)
    ),
}


def index(params: JsonObject, used: set[str]) -> Code:
    """Parameters of a payload index: its type alone, or an object like ``KeywordIndexParams``."""
    kind = str(params["type"])
    if len(params) == 1:
        return EnumMember("PayloadSchemaType")(kind, used)
    title = kind.title()
    return Model(f"{title}IndexParams", {**_INDEX_FIELDS, "type": EnumMember(f"{title}IndexType")})(params, used)


#: The fields of Qdrant's create call and update call that are objects of their own.
CONFIG: Mapping[str, Writer] = {
    "hnsw_config": HNSW,
    "wal_config": WAL,
    "optimizers_config": OPTIMIZERS,
    "sharding_method": EnumMember("ShardingMethod"),
    "quantization_config": QUANTIZATION,
    "strict_mode_config": STRICT_MODE,
}
