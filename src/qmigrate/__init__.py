"""Schema migration for Qdrant: versioned revisions, recorded in SQL, proven before they go live.

What a revision file needs is here: the operations as ``op``, what fills vectors, and what makes ids; and what an
application needs: ``ensure`` creates collections while it runs, ``expect`` refuses to serve one that it doesn't fit.
Importing it loads no client library, no numpy and no SQL.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from qmigrate import operations as op
from qmigrate.declared.collection import Collection
from qmigrate.model.transform import Scale
from qmigrate.operations.app_sql import Checksum, WriteBack
from qmigrate.operations.quality import Compare, KnownItem, Logged, Recall, SameValue, Sentence
from qmigrate.operations.rekey import Uuid5
from qmigrate.operations.values import FILL_ME, Compute, CopyOf, Embed, Empty, Shorten
from qmigrate.operations.variables import variable
from qmigrate.version import __version__

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path
    from typing import Any

    from qdrant_client import AsyncQdrantClient, QdrantClient

    from qmigrate.commands.ensure import Ensured
    from qmigrate.commands.expect import Expected
    from qmigrate.ports import Embedder
    from qmigrate.settings.load import Settings

__all__ = [  # noqa: RUF022  in plain order
    "Checksum",
    "Collection",
    "Compare",
    "Compute",
    "CopyOf",
    "Embed",
    "Empty",
    "FILL_ME",
    "KnownItem",
    "Logged",
    "Recall",
    "SameValue",
    "Scale",
    "Sentence",
    "Shorten",
    "Uuid5",
    "WriteBack",
    "__version__",
    "ensure",
    "expect",
    "op",
    "variable",
]


def ensure(
    client: QdrantClient | AsyncQdrantClient,
    name: str,
    *,
    settings: Settings | None = None,
    config: str | Path | None = None,
) -> Ensured:
    """Make sure that a collection is there and under management; see :func:`qmigrate.commands.ensure.ensure`."""
    from qmigrate.commands.ensure import ensure as run

    return run(client, name, settings=settings, config=config)


def expect(
    collection: str,
    *,
    revision: str | None = None,
    embedder: str | Embedder | Mapping[str, str | Embedder] | None = None,
    vectors: Mapping[str, Any] | None = None,
    client: QdrantClient | AsyncQdrantClient | None = None,
    settings: Settings | None = None,
    config: str | Path | None = None,
) -> Expected:
    """Refuse, at the start of an application, to serve a collection that isn't what it declares.

    ``qmigrate.expect("docs", revision="0003", embedder="words")``; what the arguments mean is in
    :class:`qmigrate.commands.expect.Expectation`, and what is raised by :func:`qmigrate.commands.expect.expect`.
    """
    from qmigrate.commands.expect import Expectation
    from qmigrate.commands.expect import expect as run

    wanted = Expectation(collection, revision, embedder, vectors or {})
    return run(wanted, client=client, settings=settings, config=config)
