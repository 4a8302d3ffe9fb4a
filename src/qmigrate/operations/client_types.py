"""Types of what revisions hand over, for editors and type checkers: the client's models, or the same as JSON.

Nothing is loaded at run time: there they are all `Any`, and `plain` (base.py) refuses what is none of them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import TypeAlias

    from qdrant_client import models

    Json: TypeAlias = Mapping[str, Any]
    Dense: TypeAlias = models.VectorParams | Json
    Sparse: TypeAlias = models.SparseVectorParams | Json
    AnyVector: TypeAlias = models.VectorParams | models.SparseVectorParams | Json
    #: By name; or the parameters of the unnamed vector alone.
    DenseVectors: TypeAlias = Mapping[str, Dense] | models.VectorParams | Json
    SparseVectors: TypeAlias = Mapping[str, Sparse] | Json
    Index: TypeAlias = models.PayloadSchemaType | models.PayloadSchemaParams | str | Json
    Indexes: TypeAlias = Mapping[str, Index]
    Hnsw: TypeAlias = models.HnswConfigDiff | Json
    Wal: TypeAlias = models.WalConfigDiff | Json
    Optimizers: TypeAlias = models.OptimizersConfigDiff | Json
    Quantization: TypeAlias = models.QuantizationConfig | Json
    #: Of an update: ``Disabled`` takes it away.
    QuantizationDiff: TypeAlias = models.QuantizationConfigDiff | str | Json
    StrictMode: TypeAlias = models.StrictModeConfig | Json
    Sharding: TypeAlias = models.ShardingMethod | str
    CollectionParams: TypeAlias = models.CollectionParamsDiff | Json
    DenseDiffs: TypeAlias = Mapping[str, models.VectorParamsDiff | Json] | Json
    Filter: TypeAlias = models.Filter | Json
else:
    Dense = Sparse = AnyVector = DenseVectors = SparseVectors = Index = Indexes = Hnsw = Wal = Optimizers = Any
    Quantization = QuantizationDiff = StrictMode = Sharding = CollectionParams = DenseDiffs = Filter = Any
