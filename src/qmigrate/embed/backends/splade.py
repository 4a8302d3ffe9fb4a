"""Texts as sparse vectors of learned words (SPLADE), by sentence-transformers. It trains nothing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qmigrate.embed.backends.sentence_transformers import TASKS, TextModel, model_of
from qmigrate.embed.options import Options
from qmigrate.errors import EmbedError
from qmigrate.model.schema import JsonObject
from qmigrate.ports import Embedder


def build(options: Options) -> Embedder:
    """From ``{type: splade, model: naver/splade-v3}``.

    ``task: query`` is for questions. ``max_active_dims`` keeps the largest values of a text only; the other keys are
    those of the type ``sentence_transformers``.

    Raises:
        EmbedError: the library is missing, or a value is wrong.
    """
    return _Splade(options, model_of(options, "naver/splade-v3"), f"encode_{options.choice('task', TASKS)}")


class _Splade(TextModel):
    """Items are texts."""

    kind, made_by = "splade", "SparseEncoder"

    def __init__(self, options: Options, model: str, method: str) -> None:
        super().__init__(options, model, method)
        self._most = options.integer("max_active_dims", None)

    def _found(self, package: Any, torch: Any) -> Any:
        return self._whole(package, torch)

    def _dense(self, model: Any, part: Sequence[Any]) -> Any:
        """A row as long as the vocabulary for each text, on the device."""
        return self._asked(model, part, convert_to_sparse_tensor=False, max_active_dims=self._most)

    def _compared(self, model: Any, texts: Sequence[Any]) -> NDArray[np.float32]:
        return np.asarray(self._dense(model, texts).float().cpu().numpy())

    def _vectors(self, model: Any, part: Sequence[Any]) -> list[Any]:
        made = self._dense(model, part)
        # Only what isn't 0 leaves the device: a few hundred of 30,000 values.
        places = made.nonzero()
        values = made[places[:, 0], places[:, 1]].float().cpu().numpy()
        rows, indices = (column.cpu().numpy() for column in places.unbind(1))
        starts = np.searchsorted(rows, np.arange(len(part) + 1))
        found: list[Any] = []
        for text, start, end in zip(part, starts[:-1], starts[1:], strict=True):
            found.append({"indices": indices[start:end].tolist(), "values": values[start:end].tolist()})
            if start == end:
                found[-1] = EmbedError(f"embedder {self._options.name!r}: no word of the text counts: {text[:60]!r}")
        return found

    def _fingerprint(self, model: Any, version: str, precision: str) -> JsonObject:
        found = super()._fingerprint(model, version, precision)
        return {**found, "size": None, "max_active_dims": self._most or model.max_active_dims}
