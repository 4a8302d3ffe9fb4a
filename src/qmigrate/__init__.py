"""Schema migration for Qdrant: versioned revisions, recorded in SQL, proven before they go live.

What a revision file needs is here: the operations as ``op``, and what fills vectors. Importing it loads no
client library, no numpy and no SQL.
"""

from __future__ import annotations

from qmigrate import operations as op
from qmigrate.operations.values import Compute, CopyOf, Embed, Empty

__version__ = "0.1.0"

__all__ = ["Compute", "CopyOf", "Embed", "Empty", "__version__", "op"]
