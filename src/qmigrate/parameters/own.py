"""What Qdrant's parameter objects may hold: fields, kinds of values, defaults. Only tables."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Whole:
    """A whole number from `least` up to `most` (None: no upper end)."""

    least: int = 0
    most: int | None = None


@dataclass(frozen=True, slots=True)
class Number:
    """A number from `least` to `most`, both included (None: no such end)."""

    least: float | None = None
    most: float | None = None


@dataclass(frozen=True, slots=True)
class Fields:
    """An object with known fields; those of `required` must be there."""

    known: Mapping[str, Any]
    required: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Each:
    """An object whose keys are free, and whose values are all of one kind."""

    of: Any


@dataclass(frozen=True, slots=True)
class Listed:
    """A list of one kind."""

    of: Any


COUNT = Whole(0)
POSITIVE = Whole(1)
#: Qdrant's own limit of a dense vector.
SIZE = Whole(1, 65536)

DISTANCES = frozenset({"Cosine", "Euclid", "Dot", "Manhattan"})
DATATYPES = frozenset({"float32", "float16", "uint8", "turbo4", "turbo8", "turbo16"})
MEMORY = frozenset({"cold", "cached", "pinned"})
LANGUAGES = frozenset(
    {
        "arabic",
        "azerbaijani",
        "basque",
        "bengali",
        "catalan",
        "chinese",
        "danish",
        "dutch",
        "english",
        "finnish",
        "french",
        "german",
        "greek",
        "hebrew",
        "hinglish",
        "hungarian",
        "indonesian",
        "italian",
        "japanese",
        "kazakh",
        "nepali",
        "norwegian",
        "portuguese",
        "romanian",
        "russian",
        "slovene",
        "spanish",
        "swedish",
        "tajik",
        "turkish",
    }
)
STEMMED = frozenset(
    {
        "arabic",
        "armenian",
        "danish",
        "dutch",
        "english",
        "finnish",
        "french",
        "german",
        "greek",
        "hungarian",
        "italian",
        "norwegian",
        "portuguese",
        "romanian",
        "russian",
        "spanish",
        "swedish",
        "tamil",
        "turkish",
    }
)

HNSW = Fields(
    {
        "m": COUNT,
        "ef_construct": COUNT,
        "full_scan_threshold": COUNT,
        "max_indexing_threads": COUNT,
        "on_disk": bool,
        "memory": MEMORY,
        "payload_m": COUNT,
        "inline_storage": bool,
    }
)
OPTIMIZERS = Fields(
    {
        "deleted_threshold": Number(0, 1),
        "vacuum_min_vector_number": COUNT,
        "default_segment_number": COUNT,
        "max_segment_size": COUNT,
        "memmap_threshold": COUNT,
        "indexing_threshold": COUNT,
        "flush_interval_sec": COUNT,
        "max_optimization_threads": (COUNT, frozenset({"auto"})),
        "prevent_unoptimized": bool,
    }
)
WAL = Fields({"wal_capacity_mb": POSITIVE, "wal_segments_ahead": COUNT, "wal_retain_closed": COUNT})
STRICT_MODE = Fields(
    {
        "enabled": bool,
        "max_query_limit": COUNT,
        "max_timeout": COUNT,
        "unindexed_filtering_retrieve": bool,
        "unindexed_filtering_update": bool,
        "search_max_hnsw_ef": COUNT,
        "search_allow_exact": bool,
        "search_max_oversampling": Number(0),
        "upsert_max_batchsize": COUNT,
        "search_max_batchsize": COUNT,
        "max_collection_vector_size_bytes": COUNT,
        "read_rate_limit": COUNT,
        "write_rate_limit": COUNT,
        "max_collection_payload_size_bytes": COUNT,
        "max_points_count": COUNT,
        "filter_max_conditions": COUNT,
        "condition_max_size": COUNT,
        "multivector_config": Each(Fields({"max_vectors": COUNT})),
        "sparse_config": Each(Fields({"max_length": COUNT})),
        "max_payload_index_count": COUNT,
        "max_resident_memory_percent": Whole(0, 100),
    }
)

_IN_MEMORY = {"always_ram": bool, "memory": MEMORY}
#: One method out of these; `checks` sees to it that it is one.
QUANTIZATION_METHODS: Mapping[str, Fields] = {
    "scalar": Fields({"type": frozenset({"int8"}), "quantile": Number(0, 1), **_IN_MEMORY}, required=("type",)),
    "product": Fields(
        {"compression": frozenset({"x4", "x8", "x16", "x32", "x64"}), **_IN_MEMORY}, required=("compression",)
    ),
    "binary": Fields(
        {
            "encoding": frozenset({"one_bit", "two_bits", "one_and_half_bits"}),
            "query_encoding": frozenset({"default", "binary", "scalar4bits", "scalar8bits"}),
            **_IN_MEMORY,
        }
    ),
    "turbo": Fields({"bits": frozenset({"bits1", "bits1_5", "bits2", "bits4", "bits8"}), **_IN_MEMORY}),
}
QUANTIZATION = Fields(QUANTIZATION_METHODS)
#: What an update may have besides a method: no quantization any more.
QUANTIZATION_DIFF = (QUANTIZATION, frozenset({"Disabled"}))

VECTOR = Fields(
    {
        "size": SIZE,
        "distance": DISTANCES,
        "hnsw_config": HNSW,
        "quantization_config": QUANTIZATION,
        "on_disk": bool,
        "memory": MEMORY,
        "datatype": DATATYPES,
        "multivector_config": Fields({"comparator": frozenset({"max_sim"})}, required=("comparator",)),
    },
    required=("size", "distance"),
)
VECTOR_DIFF = Fields({"hnsw_config": HNSW, "quantization_config": QUANTIZATION_DIFF, "on_disk": bool, "memory": MEMORY})
SPARSE = Fields(
    {
        "index": Fields({"full_scan_threshold": COUNT, "on_disk": bool, "memory": MEMORY, "datatype": DATATYPES}),
        "modifier": frozenset({"none", "idf"}),
    }
)

#: The fields of Qdrant's create call besides the vectors.
CREATE_CONFIG = Fields(
    {
        "hnsw_config": HNSW,
        "wal_config": WAL,
        "optimizers_config": OPTIMIZERS,
        "shard_number": POSITIVE,
        "sharding_method": frozenset({"auto", "custom"}),
        "replication_factor": POSITIVE,
        "write_consistency_factor": POSITIVE,
        "on_disk_payload": bool,
        "quantization_config": QUANTIZATION,
        "strict_mode_config": STRICT_MODE,
        "metadata": Each(Any),
    }
)
COLLECTION_PARAMS = Fields(
    {
        "replication_factor": POSITIVE,
        "write_consistency_factor": POSITIVE,
        "read_fan_out_factor": COUNT,
        "read_fan_out_delay_ms": COUNT,
        "on_disk_payload": bool,
    }
)
#: The fields of Qdrant's update call that are objects of their own in a schema's config.
UPDATE_CONFIG = Fields(
    {
        "hnsw_config": HNSW,
        "optimizers_config": OPTIMIZERS,
        "quantization_config": QUANTIZATION_DIFF,
        "strict_mode_config": STRICT_MODE,
        "metadata": Each(Any),
    }
)

_EVERY_INDEX: Mapping[str, Any] = {
    "type": str,
    "on_disk": bool,
    "memory": MEMORY,
    "enable_hnsw": bool,
    "nested": str,
}
#: Payload indexes by type.
INDEXES: Mapping[str, Fields] = {
    "keyword": Fields({**_EVERY_INDEX, "is_tenant": bool, "prefix": bool}),
    "integer": Fields({**_EVERY_INDEX, "lookup": bool, "range": bool, "is_principal": bool}),
    "float": Fields({**_EVERY_INDEX, "is_principal": bool}),
    "geo": Fields(_EVERY_INDEX),
    "text": Fields(
        {
            **_EVERY_INDEX,
            "tokenizer": frozenset({"prefix", "whitespace", "word", "multilingual", "code"}),
            "min_token_len": COUNT,
            "max_token_len": COUNT,
            "lowercase": bool,
            "ascii_folding": bool,
            "phrase_matching": bool,
            "stopwords": (Fields({"languages": Listed(LANGUAGES), "custom": Listed(str)}), LANGUAGES),
            "stemmer": Fields({"type": frozenset({"snowball", "none"}), "language": STEMMED}, required=("type",)),
            "scoring": (bool, Fields({"type": str})),
        }
    ),
    "bool": Fields(_EVERY_INDEX),
    "datetime": Fields({**_EVERY_INDEX, "is_principal": bool}),
    "uuid": Fields({**_EVERY_INDEX, "is_tenant": bool}),
}

#: Where something is kept, for what has no other parameter.
_PLACED = Fields({"memory": MEMORY})
#: ``config`` of the collection info, as a server returns it; ``vectors`` is one vector's or several's by name.
INFO = Fields(
    {
        "params": Fields(
            {
                **COLLECTION_PARAMS.known,
                "vectors": Each(VECTOR),
                "sparse_vectors": Each(SPARSE),
                "shard_number": POSITIVE,
                "sharding_method": frozenset({"auto", "custom"}),
                "payload": _PLACED,
                "id_tracker": _PLACED,
            }
        ),
        "hnsw_config": HNSW,
        "optimizer_config": OPTIMIZERS,
        "wal_config": WAL,
        "quantization_config": QUANTIZATION,
        "strict_mode_config": STRICT_MODE,
        "metadata": Any,
    }
)
#: One entry of ``payload_schema``, by the type of its index.
INDEX_INFO: Mapping[str, Fields] = {
    kind: Fields({"data_type": str, "params": params, "points": COUNT}) for kind, params in INDEXES.items()
}

#: What a server takes where a parameter is left out, when that is not ``false``.
DEFAULTS: Mapping[str, Any] = {
    "datatype": "float32",
    "modifier": "none",
    "lookup": True,
    "range": True,
    "enable_hnsw": True,
    "lowercase": True,
    "tokenizer": "word",
}

#: What a server of 1.16 to 1.19 with its shipped settings fills in where a create call leaves it out. A cluster
#: chooses its own shard number, so that is left out here.
SERVER_DEFAULTS: Mapping[str, Any] = {
    "hnsw_config": {
        "m": 16,
        "ef_construct": 100,
        "full_scan_threshold": 10000,
        "max_indexing_threads": 0,
        "on_disk": False,
    },
    "wal_config": {"wal_capacity_mb": 32, "wal_segments_ahead": 0, "wal_retain_closed": 1},
    "optimizers_config": {
        "deleted_threshold": 0.2,
        "vacuum_min_vector_number": 1000,
        "default_segment_number": 0,
        "indexing_threshold": 10000,
        "flush_interval_sec": 5,
    },
    "replication_factor": 1,
    "write_consistency_factor": 1,
    "on_disk_payload": True,
}
