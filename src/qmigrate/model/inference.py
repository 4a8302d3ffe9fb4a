"""A text in the place of a vector: the server makes the vector, when it is written or asked by. Data only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class ServerText:
    """What Qdrant's clients call ``Document``.

    Attributes:
        text: what is embedded.
        model: as the server knows it: ``qdrant/bm25``, or one of its inference service.
        options: of the model; plain JSON.
    """

    text: str
    model: str
    options: Mapping[str, Any] = field(default_factory=dict)
