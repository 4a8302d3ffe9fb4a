"""The ``estimates:`` section: speeds that are assumed until runs were measured. It measures nothing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from qmigrate import settings_read as read

# As in ``settings``: Annotated[type, reader].


@dataclass(frozen=True, slots=True)
class EstimateSettings:
    """Speeds that are assumed where the ledger knows of no earlier run: conservative, for two cores without a GPU.

    Attributes:
        copy: bytes per second that are read, written, and as fast again proven.
        index: vector values per second that an HNSW graph is built from.
        embed: points per second for which one vector is embedded.
        local: points per second that the client's local mode copies and proves.
        step: seconds of every step beside its points.
    """

    copy: Annotated[float, read.positive] = 20e6
    index: Annotated[float, read.positive] = 500e3
    embed: Annotated[float, read.positive] = 50.0
    local: Annotated[float, read.positive] = 500.0
    step: Annotated[float, read.positive_duration] = 2.0
