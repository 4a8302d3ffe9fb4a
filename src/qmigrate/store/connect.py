"""How a store is chosen and opened. It reads no settings file and sends no request."""

from __future__ import annotations

from urllib.parse import urlsplit

from qmigrate.errors import ConfigError
from qmigrate.ports import Store
from qmigrate.store.address import ConnectionSettings


def connect(settings: ConnectionSettings, *, partial: bool = False, patience: float = 0.0) -> Store:
    """Open the store that the settings name, and check that it can be used.

    Args:
        partial: for what only reads: nodes of a cluster that give no answer are left out, and named.
        patience: seconds to wait for another thread of this process that has the folder of local mode open.

    Raises:
        ConfigError: neither or both of `url` and `path`, or a URL that is not http(s).
        StoreError: the server can't be reached, denies the key, or is not Qdrant.
        ServerTooOldError: a node is older than collection metadata, where the seal lives.
        LeaseHeldError: another client has the folder of local mode open.
    """
    if (settings.url is None) == (settings.path is None):
        raise ConfigError(
            "Qdrant needs exactly one of a URL (a server) and a path (local mode)",
            hint="set qdrant.url or qdrant.path in qmigrate.yaml",
        )
    if settings.path is not None:
        from qmigrate.store.local.local import LocalStore

        return LocalStore.open(settings.path, absent=settings.absent, patience=patience)
    for url in (settings.url or "", *settings.nodes):
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ConfigError(
                f"{url!r} is not the address of a Qdrant server",
                hint="write it as http://localhost:6333 or https://…",
            )
    from qmigrate.store.server.server import ServerStore

    return ServerStore.open(settings, partial=partial)
