"""What the client's models don't say about Qdrant's parameters: bounds, what is refused, defaults. Only tables."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from qmigrate.model.weight import BYTES
from qmigrate.parameters.kinds import Number, Whole

#: The oldest client that is supported, as in pyproject.toml.
OLDEST_CLIENT = (1, 20)

_SHARE = Number(0, 1)
_POSITIVE = Whole(1)
#: (model, field) -> bounds. The models have none; a server answers what is beyond them with an error, or takes it for
#: something else. What no line is about: whole numbers are 0 or more (`derive` says why), others have no end.
BOUNDS: Mapping[tuple[str, str], Whole | Number] = {
    # The server's own limit of a dense vector.
    ("VectorParams", "size"): Whole(1, 65536),
    # Shares of the points, of the values.
    ("OptimizersConfigDiff", "deleted_threshold"): _SHARE,
    ("ScalarQuantizationConfig", "quantile"): _SHARE,
    # A percentage.
    ("StrictModeConfig", "max_resident_memory_percent"): Whole(0, 100),
    # A factor: below zero it would search for less than nothing.
    ("StrictModeConfig", "search_max_oversampling"): Number(0),
    # A log without room, a collection without a shard, a shard without a replica: there are none.
    ("WalConfigDiff", "wal_capacity_mb"): _POSITIVE,
    ("CreateCollection", "shard_number"): _POSITIVE,
    ("CreateCollection", "replication_factor"): _POSITIVE,
    ("CollectionParamsDiff", "replication_factor"): _POSITIVE,
    # At least one replica has to confirm a write.
    ("CreateCollection", "write_consistency_factor"): _POSITIVE,
    ("CollectionParamsDiff", "write_consistency_factor"): _POSITIVE,
}

#: Enumeration -> the words that are taken, where a new one needs more than to be passed on. The proof of a rebuild
#: compares stored values, so it must know what each of these does to them.
WORDS: Mapping[str, frozenset[str]] = {
    # How many bytes a value has, and what it loses: `model/weight.py`, `store/records.py`.
    "Datatype": frozenset({"float32", *BYTES}),
    # Which of them normalise: `store/records.py`.
    "Distance": frozenset({"Cosine", "Euclid", "Dot", "Manhattan"}),
}

#: What ``params`` of an update may not have, with the reason. A live collection's are carried over all the same.
NOT_IN_PARAMS: Mapping[str, str] = {
    "payload": "CreateCollection has no argument for it, so that a later copy would need two operations to say it; "
    "servers have it from 1.20 on",
    "id_tracker": "as payload",
}

#: What a vector is, before the client is imported: making an operation of plain values takes no client.
#: Fields that every dense vector has; fields that only a sparse one has.
DENSE, SPARSE = frozenset({"size", "distance"}), frozenset({"index", "modifier"})

#: Blocks that the collection's info and the create call name differently: info -> create.
OTHER_NAMES: Mapping[str, str] = {"optimizer_config": "optimizers_config"}

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
