"""Texts as a vector for each of their tokens (ColBERT), for MAX_SIM multivectors, by sentence-transformers or PyLate.

It scores nothing: the server does. Prefixes, lengths, query expansion and the tokens that count are the model's own.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qmigrate.embed.backends.sentence_transformers import TASKS, TextModel, model_of
from qmigrate.embed.options import Options
from qmigrate.embed.torch_models import library
from qmigrate.errors import EmbedError
from qmigrate.model.schema import JsonObject
from qmigrate.ports import Embedder

#: What decides the output of a model of PyLate and is in none of its weights.
_OF_PYLATE = (
    "query_prefix",
    "document_prefix",
    "query_length",
    "document_length",
    "do_query_expansion",
    "attend_to_expansion_tokens",
    "skiplist_words",
)


def build(options: Options) -> Embedder:
    """From ``{type: colbert, model: lightonai/GTE-ModernColBERT-v1}``.

    ``task: query`` is for questions. A text of more than ``max_rows`` tokens is a failure of that item;
    ``document_length`` and ``query_length`` cut texts off before. The other keys are those of the type
    ``sentence_transformers``.

    Raises:
        EmbedError: the library is missing, or a value is wrong.
    """
    model = model_of(options, "lightonai/GTE-ModernColBERT-v1")
    return _ColBert(options, model, options.choice("task", TASKS))


class _ColBert(TextModel):
    """Items are texts; a vector has as many rows as tokens that count."""

    kind, made_by = "colbert", "MultiVectorEncoder"

    def __init__(self, options: Options, model: str, task: str) -> None:
        super().__init__(options, model, f"encode_{task}")
        self._normalize = bool(options.flag("normalize_embeddings", True))
        self._is_query = task == "query"
        self._most = options.integer("max_rows", None)
        self._lengths = {
            name: length for name in ("document_length", "query_length") if (length := options.integer(name, None))
        }

    def _found(self, package: Any, torch: Any) -> Any:
        if hasattr(package, self.made_by):
            return self._cut(self._whole(package, torch))
        try:
            models = library(self._options, "pylate.models")
        except EmbedError as error:
            raise EmbedError(
                f"embedder {self._options.name!r}: sentence-transformers {package.__version__} has no "
                "MultiVectorEncoder",
                hint="pip install -U 'sentence-transformers>=6.0', or: pip install pylate",
            ) from error
        # It has one method for both, and its own words for which it is.
        self.made_by, self._method = "ColBERT", "encode"
        return self._cut(self._whole(models, torch))

    def _longest(self, loaded: Any) -> int | None:
        model, name = loaded.model, "query_length" if self._is_query else "document_length"
        found = getattr(model if hasattr(model, name) else model[0], name, None)
        return found if isinstance(found, int) else super()._longest(loaded)

    def _cut(self, model: Any) -> Any:
        """With the configured lengths."""
        for name, length in self._lengths.items():
            # PyLate keeps them itself, sentence-transformers in the module that tokenizes.
            setattr(model if hasattr(model, name) else model[0], name, length)
        return model

    def _vectors(self, model: Any, part: Sequence[Any]) -> list[Any]:
        return [self._bounded(text, rows) for text, rows in zip(part, self._rows(model, part), strict=True)]

    def _rows(self, model: Any, part: Sequence[Any]) -> list[NDArray[np.float32]]:
        more = {"is_query": self._is_query} if self._method == "encode" else {}
        made = self._asked(model, part, convert_to_numpy=True, normalize_embeddings=self._normalize, **more)
        return [np.asarray(rows, dtype=np.float32) for rows in made]

    def _bounded(self, text: str, rows: NDArray[np.float32]) -> Any:
        if not len(rows):
            return EmbedError(f"embedder {self._options.name!r}: no token of the text counts: {text[:60]!r}")
        if self._most is not None and len(rows) > self._most:
            return EmbedError(
                f"embedder {self._options.name!r}: the text has {len(rows):,} tokens that count, and max_rows is "
                f"{self._most:,}: {text[:60]!r}",
                hint="cut texts off by document_length, or raise max_rows, of this embedder in qmigrate.yaml",
            )
        return rows

    def _compared(self, model: Any, texts: Sequence[Any]) -> NDArray[np.float32]:
        return np.vstack(self._rows(model, texts))

    def _fingerprint(self, model: Any, version: str, precision: str) -> JsonObject:
        found = super()._fingerprint(model, version, precision)
        told = {name: getattr(model, name, getattr(model[0], name, None)) for name in _OF_PYLATE}
        return {**found, "library": type(model).__module__.split(".")[0], "late_interaction": told}
