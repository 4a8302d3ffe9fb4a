"""How a store is chosen and opened. It reads no settings file and knows no request."""

from __future__ import annotations

from dataclasses import dataclass, field
from urllib.parse import urlsplit

from qmigrate.errors import ConfigError
from qmigrate.ports import Store


@dataclass(frozen=True, slots=True)
class ConnectionSettings:
    """Where Qdrant is; exactly one of `url` and `path` is set.

    Attributes:
        url: REST address of a server, http or https.
        path: folder of local mode, or ``":memory:"``.
        grpc_port: port of the same host for points; None for 6334.
        api_key: sent with every request, never shown.
        timeout: longest time of one request in seconds.
        nodes: REST addresses of every node of a cluster, for what must be seen on all of them.
        ca_cert: PEM file of the authority that signed the server's certificate.
        prefix: path in front of Qdrant's own, behind a reverse proxy.
        compression: gzip on gRPC; slower on a local network.
    """

    url: str | None = None
    path: str | None = None
    grpc_port: int | None = 6334
    api_key: str | None = field(default=None, repr=False)
    timeout: float = 60.0
    nodes: tuple[str, ...] = ()
    ca_cert: str | None = None
    prefix: str = ""
    compression: bool = False

    @property
    def watched(self) -> tuple[str, ...]:
        """Addresses of the nodes that are watched: `nodes`, or `url` alone."""
        return self.nodes or ((self.url,) if self.url else ())


def connect(settings: ConnectionSettings) -> Store:
    """Open the store that the settings name, and check that it can be used.

    Raises:
        ConfigError: neither or both of `url` and `path`, or a URL that is not http(s).
        StoreError: the server can't be reached, denies the key, or is not Qdrant.
        ServerTooOldError: a node is older than collection metadata, where the seal lives.
        LeaseHeldError: another process uses the folder of local mode.
    """
    if (settings.url is None) == (settings.path is None):
        raise ConfigError(
            "Qdrant needs exactly one of a URL (a server) and a path (local mode)",
            hint="set qdrant.url or qdrant.path in qmigrate.yaml",
        )
    if settings.path is not None:
        from qmigrate.store.local import LocalStore

        return LocalStore.open(settings.path)
    for url in (settings.url or "", *settings.nodes):
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ConfigError(
                f"{url!r} is not the address of a Qdrant server",
                hint="write it as http://localhost:6333 or https://…",
            )
    from qmigrate.store.server import ServerStore

    return ServerStore.open(settings)
