"""Texts that the server itself makes vectors of: by ``qdrant/bm25``, or its inference service. It sends nothing."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from qmigrate.embed.inputs import ImageName, kind_of
from qmigrate.embed.options import Options
from qmigrate.errors import EmbedError
from qmigrate.model.inference import ServerText
from qmigrate.model.schema import JsonObject
from qmigrate.ports import Embedder


def build(options: Options) -> Embedder:
    """From ``{type: qdrant, model: qdrant/bm25, options: {language: german}}``.

    ``size`` is the length of its vectors, where it makes dense ones: for checks before anything is made. ``version``
    distinguishes states of a model that share its name.

    Raises:
        EmbedError: a value is wrong.
    """
    return _ByServer(options)


class _ByServer:
    """Items are texts; what it returns stands where a vector would."""

    max_batch = 256

    def __init__(self, options: Options) -> None:
        self._name = options.name
        model = options.text("model")
        if model is None:
            raise EmbedError(f"embedder {options.name!r} names no model", hint="for example model: qdrant/bm25")
        self._model = model
        self._options = options.table("options")
        self._version = options.text("version")
        self.size = options.integer("size", None)

    def fingerprint(self) -> JsonObject:
        """What the settings say: the server tells nothing of its models."""
        return {
            "type": "qdrant",
            "model": self._model,
            "options": json.dumps(self._options, sort_keys=True),
            "size": self.size,
            "version": self._version,
        }

    def embed(self, items: Sequence[Any]) -> list[Any]:
        """The texts, for the server.

        Raises:
            EmbedError: an item is not text.
        """
        return [self._one(item) for item in items]

    def _one(self, item: Any) -> ServerText:
        if not isinstance(item, str) or isinstance(item, ImageName):
            raise EmbedError(f"embedder {self._name!r} takes texts, not {kind_of(item)}")
        return self.for_server(item)

    def for_server(self, text: str) -> ServerText:
        """See :class:`~qmigrate.ports.ByServer`."""
        return ServerText(text, self._model, self._options)
