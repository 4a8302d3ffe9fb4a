"""What a revision can say: the namespace ``qmigrate.op``. Descriptions only, no I/O."""

from __future__ import annotations

from qmigrate.operations.call import Call
from qmigrate.operations.collection import CreateCollection, DropCollection, Reshard, SetAlias, UpdateCollection
from qmigrate.operations.data import SyncPayload
from qmigrate.operations.deletion import DeleteOrphans, DeletePoints
from qmigrate.operations.index import CreatePayloadIndex, DropPayloadIndex
from qmigrate.operations.payload import DeletePayload, SetPayload, TransformPoints
from qmigrate.operations.rekey import Rekey
from qmigrate.operations.vector import AddVector, AlterVector, DropVector, Reembed, RenameVector

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
