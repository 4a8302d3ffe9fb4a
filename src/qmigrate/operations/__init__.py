"""What a revision can say: the namespace ``qmigrate.op``. Descriptions only, no I/O."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qmigrate.operations.call import Call
from qmigrate.operations.collection import CreateCollection, DropCollection, Reshard, SetAlias, UpdateCollection
from qmigrate.operations.data import SyncPayload
from qmigrate.operations.deletion import DeleteOrphans, DeletePoints
from qmigrate.operations.index import CreatePayloadIndex, DropPayloadIndex
from qmigrate.operations.payload import DeletePayload, SetPayload, TransformPoints
from qmigrate.operations.rekey import Rekey
from qmigrate.operations.vector import AddVector, AlterVector, DropVector, Quantize, Reembed, RenameVector
from qmigrate.text import did_you_mean

__all__ = [
    "AddVector",
    "AlterVector",
    "Call",
    "CreateCollection",
    "CreatePayloadIndex",
    "DeleteOrphans",
    "DeletePayload",
    "DeletePoints",
    "DropCollection",
    "DropPayloadIndex",
    "DropVector",
    "Quantize",
    "Reembed",
    "Rekey",
    "RenameVector",
    "Reshard",
    "SetAlias",
    "SetPayload",
    "SyncPayload",
    "TransformPoints",
    "UpdateCollection",
]


def __dir__() -> list[str]:
    """The operations: what a console offers after ``op.``."""
    return list(__all__)


if not TYPE_CHECKING:
    # To a type checker, a module with this function has every name.
    def __getattr__(name: str) -> object:
        """There is no such operation.

        Raises:
            AttributeError: with the one that was probably meant.
        """
        raise AttributeError(
            f"qmigrate.op has no operation {name!r}{did_you_mean(name, __all__)}", name=name, obj=None
        )
