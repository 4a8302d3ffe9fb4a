"""Where Qdrant is, as a value. It opens nothing."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class ConnectionSettings:
    """Where Qdrant is; exactly one of `url` and `path` is set.

    Attributes:
        url: REST address of a server, http or https.
        path: folder of local mode, or ``":memory:"``.
        absent: the folder is not there and is not to be made: something empty in memory stands for it.
        grpc_port: port for points; None for 6334.
        grpc_host: host for points; None for that of `url`.
        grpc_tls: whether points go through TLS; None where they do as in `url`.
        prefer_rest: points go over REST too, where gRPC can't pass.
        api_key: sent with every request, never shown.
        timeout: longest time of one request in seconds.
        nodes: REST addresses of every node of a cluster, for what must be seen on all of them.
        ca_cert: PEM file of the authority that signed the server's certificate.
        prefix: path in front of Qdrant's own, behind a reverse proxy.
        compression: gzip on gRPC; slower on a local network.
    """

    url: str | None = None
    path: str | None = None
    absent: bool = False
    grpc_port: int | None = 6334
    grpc_host: str | None = None
    grpc_tls: bool | None = None
    prefer_rest: bool = False
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
