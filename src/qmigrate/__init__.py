"""Schema migration for Qdrant: versioned revisions, recorded in SQL, proven before they go live.

What a revision file needs is here: the operations as ``op``, what fills vectors, and what makes ids; and what an
application needs: ``ensure`` creates collections while it runs, ``expect`` refuses to serve one that it doesn't fit.
Importing it loads no client library, no numpy and no SQL.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from qmigrate.version import __version__

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path
    from typing import Any

    from qdrant_client import AsyncQdrantClient, QdrantClient

    from qmigrate import operations as op
    from qmigrate.commands.ensure import Ensured
    from qmigrate.commands.expect import Expected
    from qmigrate.declared.collection import Collection
    from qmigrate.model.transform import Scale
    from qmigrate.operations.app_sql import Checksum, WriteBack
    from qmigrate.operations.quality import Compare, KnownItem, Logged, Recall, SameValue, Sentence
    from qmigrate.operations.rekey import Uuid5
    from qmigrate.operations.values import FILL_ME, Compute, CopyOf, Embed, Empty, Shorten
    from qmigrate.operations.variables import variable
    from qmigrate.ports import Embedder
    from qmigrate.settings.load import Settings

#: Module -> what is taken from it when it is first asked for: the command line imports this package for its help, too.
_FROM = {
    "declared.collection": ("Collection",),
    "model.transform": ("Scale",),
    "operations.app_sql": ("Checksum", "WriteBack"),
    "operations.quality": ("Compare", "KnownItem", "Logged", "Recall", "SameValue", "Sentence"),
    "operations.rekey": ("Uuid5",),
    "operations.values": ("FILL_ME", "Compute", "CopyOf", "Embed", "Empty", "Shorten"),
    "operations.variables": ("variable",),
}
_MODULES = {name: f"{__name__}.{module}" for module, names in _FROM.items() for name in names}

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


def __getattr__(name: str) -> object:
    """What is public and not loaded yet."""
    if name == "op":
        found: object = importlib.import_module(f"{__name__}.operations")
    elif name in _MODULES:
        found = getattr(importlib.import_module(_MODULES[name]), name)
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}", name=name, obj=None)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


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
