"""Schema migration for Qdrant: versioned revisions, recorded in SQL, proven before they go live.

What a revision file needs is here: the operations as ``op``, and what fills vectors; and what an application needs
that creates collections while it runs: ``ensure``. Importing it loads no client library, no numpy and no SQL.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from qmigrate import operations as op
from qmigrate.operations.values import Compute, CopyOf, Embed, Empty

if TYPE_CHECKING:
    from pathlib import Path

    from qdrant_client import QdrantClient

    from qmigrate.commands.ensure import Ensured
    from qmigrate.settings import Settings

__version__ = "0.1.0"

__all__ = ["Compute", "CopyOf", "Embed", "Empty", "__version__", "ensure", "op"]


def ensure(
    client: QdrantClient, name: str, *, settings: Settings | None = None, config: str | Path | None = None
) -> Ensured:
    """Make sure that a collection is there and under management; see :func:`qmigrate.commands.ensure.ensure`."""
    from qmigrate.commands.ensure import ensure as run

    return run(client, name, settings=settings, config=config)
