"""The gRPC connection to one server. It sends nothing by itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import grpc

from qmigrate.errors import ConfigError
from qmigrate.store.address import ConnectionSettings

#: Qdrant's own default.
DEFAULT_PORT = 6334
#: grpcio's bit set of allowed algorithms with identity only: the server compresses whatever is allowed, at ten
#: times the cost of reading it.
_IDENTITY_ONLY = ("grpc.compression_enabled_algorithms_bitset", 1)


def address(settings: ConnectionSettings) -> str:
    """``host:port`` of the gRPC service."""
    host = settings.grpc_host or urlsplit(str(settings.url)).hostname or ""
    shown = f"[{host}]" if ":" in host else host
    return f"{shown}:{settings.grpc_port or DEFAULT_PORT}"


def open_channel(settings: ConnectionSettings) -> Any:
    """A channel of our own.

    No connection shared with others, no compression unless asked for, no size limits, no hidden retries.
    """
    options: list[tuple[str, int]] = [
        ("grpc.max_send_message_length", -1),
        ("grpc.max_receive_message_length", -1),
        ("grpc.enable_retries", 0),
        ("grpc.use_local_subchannel_pool", 1),
        ("grpc.initial_reconnect_backoff_ms", 100),
        ("grpc.max_reconnect_backoff_ms", 2000),
    ]
    compression = grpc.Compression.Gzip if settings.compression else None
    if compression is None:
        options.append(_IDENTITY_ONLY)
    encrypted = urlsplit(str(settings.url)).scheme == "https" if settings.grpc_tls is None else settings.grpc_tls
    if encrypted:
        credentials = grpc.ssl_channel_credentials(_authorities(settings.ca_cert))
        return grpc.secure_channel(address(settings), credentials, options=options, compression=compression)
    return grpc.insecure_channel(address(settings), options=options, compression=compression)


def _authorities(ca_cert: str | None) -> bytes | None:
    if ca_cert is None:
        return None
    try:
        return Path(ca_cert).read_bytes()
    except OSError as error:
        raise ConfigError(
            f"the certificate {ca_cert} can't be read: {error}", hint="qdrant.ca_cert names a PEM file"
        ) from error
