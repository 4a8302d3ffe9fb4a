"""Texts of sentence-transformers, tokenized apart from the model, which does all the rest itself. It embeds nothing."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from qmigrate.errors import QmigrateError

#: How far a vector of a text that was tokenized apart may be from the library's own.
_NEAR = 1e-3
_TRIALS = ("a", "a longer text of several words, so that the other one is padded")


class Tokenized(str):
    """A text together with its tokens."""

    __slots__ = ("features",)
    features: dict[str, Any]

    @property
    def weight(self) -> int:
        """How many tokens it has."""
        return max((len(one) for one in self.features.values() if hasattr(one, "__len__")), default=1)


class Tokens:
    """Sits between a model and its own tokenizing, and answers for texts that bring their tokens along.

    Args:
        model: of sentence-transformers; from now on it takes :class:`Tokenized`, too.
        encode: embeds texts by the model, as it is configured.
    """

    def __init__(self, model: Any, encode: Callable[[Sequence[str]], Any]) -> None:
        self._name = "preprocess" if hasattr(model, "preprocess") else "tokenize"
        self._original: Callable[..., Any] = getattr(model, self._name)
        self._tokenizer: Any = getattr(model, "tokenizer", None)
        self._arguments: Mapping[str, Any] | None = None
        # A fast tokenizer keeps its padding as a state of its own, so one call at a time sets it.
        self._lock = threading.Lock()
        setattr(model, self._name, self._tokenized)
        #: Whether it gives what the library gives; otherwise texts are passed as they are.
        self.works = self._tried(encode)

    def of(self, texts: Sequence[str]) -> list[Tokenized]:
        """Texts with their tokens."""
        with self._lock:
            found = self._original(list(texts), **(self._arguments or {}))
        mask = found["attention_mask"].bool()
        made = []
        for place, text in enumerate(texts):
            one = Tokenized(text)
            one.features = {
                name: value[place][mask[place]] if hasattr(value, "shape") and value.shape == mask.shape else value
                for name, value in found.items()
            }
            made.append(one)
        return made

    def _tried(self, encode: Callable[[Sequence[str]], Any]) -> bool:
        """Ask the model once each way: whatever differs or fails there would in every batch."""
        wanted = encode(_TRIALS)
        if self._arguments is None or not hasattr(self._tokenizer, "pad"):
            return False
        try:
            texts = self.of(_TRIALS)
            plain = {name for name, value in texts[0].features.items() if hasattr(value, "shape")}
            if not plain <= set(self._tokenizer.model_input_names):
                return False
            return bool(np.allclose(encode(texts), wanted, atol=_NEAR))
        except QmigrateError:
            return False
        except (KeyError, TypeError, ValueError, AttributeError, RuntimeError):
            return False

    def _tokenized(self, texts: Any, *rest: Any, **arguments: Any) -> Any:
        if not all(isinstance(text, Tokenized) for text in texts):
            self._arguments = arguments if not rest else None
            with self._lock:
                return self._original(texts, *rest, **arguments)
        rows = [text.features for text in texts]
        shared = {name: value for name, value in rows[0].items() if not hasattr(value, "shape")}
        tokens = [{name: row[name].tolist() for name in row if name not in shared} for row in rows]
        with self._lock:
            padded = self._tokenizer.pad(tokens, padding=True, return_tensors="pt")
        return {**dict(padded), **shared}
