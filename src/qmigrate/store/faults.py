"""The one place where answers and failures of Qdrant become our errors. It sends and retries nothing.

Texts of the server are kept, cut to one readable length; the api key is in none of them, since no header is shown.
"""

from __future__ import annotations

import json
import re
import sqlite3
from typing import Any

import grpc
import httpx

from qmigrate.errors import (
    ConflictError,
    DeniedError,
    LeaseHeldError,
    NotFoundError,
    QmigrateError,
    RateLimitedError,
    StoreError,
)
from qmigrate.text import documented

#: Longest text of a server that is repeated in a message.
_LONGEST = 600
_EXISTS = re.compile(r"already exists", re.IGNORECASE)
_MISSING = re.compile(r"not found|doesn't exist|does not exist", re.IGNORECASE)
_STALE_LOCK = "already accessed by another instance"


class TransientError(StoreError):
    """A request that may succeed when it is repeated.

    Attributes:
        unknown: whether the server may have carried it out nevertheless.
        retry_after: seconds that the server asks to wait, or None.
        answered: whether Qdrant itself has answered that it failed, so that nothing continues in it.
    """

    def __init__(
        self,
        message: str,
        *,
        hint: str | None = None,
        unknown: bool = True,
        retry_after: float | None = None,
        answered: bool = False,
    ) -> None:
        super().__init__(message, hint=hint)
        self.unknown = unknown
        self.retry_after = retry_after
        self.answered = answered


class SlowError(TransientError):
    """The request took longer than its timeout; the server may still be working on it."""


class LimitedError(RateLimitedError, TransientError):
    """Refused by a limiter; nothing is known of the other shards of a collection."""


class RefusedRequestError(StoreError):
    """The server refused the request itself (400): it is malformed, or beyond a limit of strict mode."""


def is_unclear(error: BaseException) -> bool:
    """Whether a request that failed so may have been carried out, or may still be: a cluster may yet agree on it.

    Only what is known to refuse before anything is done is clear: a proxy has statuses of its own for giving up on a
    server that continues, and an answer that can't be read shows nothing.
    """
    if isinstance(error, TransientError):
        return error.unknown
    return not isinstance(error, DeniedError | NotFoundError | ConflictError | RefusedRequestError)


#: How a server words it that has no inference service; it says so as an internal error, which would be tried again.
_NO_INFERENCE = "InferenceService URL not configured"
_INFERENCE = (
    "inference.address in the server's own configuration names such a service (Qdrant Cloud has one); without it only "
    "model: qdrant/bm25 works, or another type of embedder"
)


def of_response(response: httpx.Response, label: str) -> StoreError:
    """The error that a REST answer of 300 and above stands for."""
    text = _server_text(response)
    where = f"Qdrant at {label}"
    code = response.status_code
    if code in (401, 403):
        return _denied(where, text, writing=response.request.method != "GET", known=code == 403)
    if code == 404:
        return NotFoundError(f"{where}: {text or 'not found'}")
    if code == 409 or (code == 400 and _EXISTS.search(text) and "different configuration" not in text):
        return ConflictError(f"{where}: {text or 'it exists already'}")
    if code == 429:
        wait = _seconds(response.headers.get("retry-after"))
        return LimitedError(f"{where} limits requests: {text}", retry_after=wait)
    if code in (400, 422):
        return RefusedRequestError(f"{where} refused a request: {text}")
    if _NO_INFERENCE in text:
        return RefusedRequestError(f"{where} makes no vectors of texts: {text}", hint=_INFERENCE)
    if code in (408, 500, 502, 503, 504, 507):
        return TransientError(f"{where} failed a request with {code}: {text}", answered=_from_qdrant(response))
    return StoreError(f"{where} answered {code}: {text}", hint="is this address Qdrant's own, or a proxy's?")


def of_transport(error: httpx.HTTPError, label: str, timeout: float, *, listed: bool = False) -> StoreError:
    """The error of a REST request that got no answer.

    Args:
        listed: the node is one of qdrant.nodes, not the one of qdrant.url.
    """
    hint = reach(label, listed=listed)
    where = f"Qdrant at {label}"
    if isinstance(error, httpx.ConnectTimeout):
        return TransientError(
            f"{where} can't be reached: no connection within {timeout:g} s", hint=hint, unknown=False
        )
    if isinstance(error, httpx.TimeoutException):
        return SlowError(
            f"{where} gave no answer within {timeout:g} s", hint="qdrant.timeout in qmigrate.yaml sets the limit"
        )
    reason = str(error) or type(error).__name__
    if isinstance(error, httpx.ConnectError):
        return _of_tls(where, reason, _REST) or TransientError(
            f"{where} can't be reached: {reason}", hint=hint, unknown=False
        )
    plain = f"{hint}; it must begin with https:// if the server speaks TLS"
    return TransientError(f"{where} can't be reached: {reason}", hint=plain if _is_plain(error) else hint)


def reach(label: str, *, listed: bool) -> str:
    """What to check where a node can't be reached.

    Args:
        listed: it is one of qdrant.nodes, not the one of qdrant.url.
    """
    return _REACH_LISTED.format(label=label) if listed else _REACH


def _is_plain(error: httpx.HTTPError) -> bool:
    """Whether a server that closed the connection was asked without TLS."""
    try:
        return isinstance(error, httpx.RemoteProtocolError | httpx.ReadError) and error.request.url.scheme == "http"
    except RuntimeError:  # it belongs to no request
        return False


#: Where the name of the server stands, and what is to be done when it doesn't speak TLS.
_REST = ("qdrant.url", "write http:// in qdrant.url, or the port that speaks TLS")
_GRPC = ("qdrant.grpc_host", "qdrant.grpc_tls: false in qmigrate.yaml, where only REST is encrypted; or grpc_port")


def _of_tls(where: str, reason: str, settings: tuple[str, str]) -> StoreError | None:
    """The error of a failed handshake, which no repetition repairs; None where it is something else."""
    lower = reason.lower()
    named, without = settings
    if re.search(r"(hostname|ip address) mismatch|hostname verification|no match found for server name", lower):
        return StoreError(
            f"{where} can't be used: its certificate is for another name",
            hint=f"{named} must be a name that the certificate has",
        )
    if "certificate has expired" in lower:
        return StoreError(f"{where} can't be used: its certificate has expired", hint="renew it on the server")
    if "certificate_verify_failed" in lower or "unable to get local issuer" in lower:
        found = re.search(r"(?:verify failed|VERIFY_FAILED): ([^:(]+)", reason)
        why = f" ({found.group(1).strip()})" if found else ""
        return StoreError(
            f"{where} can't be used: its certificate is not trusted{why}",
            hint="qdrant.ca_cert names the PEM file of the authority that signed it; for a self-signed one, itself",
        )
    if re.search(r"wrong_version_number|record.layer.failure|packet_length_too_long|http_request", lower):
        return StoreError(f"{where} can't be used: what answers there doesn't speak TLS", hint=without)
    if "ssl" in lower and "handshake" in lower:
        return StoreError(f"{where} can't be used: the TLS handshake failed: {_cut(reason)}", hint=without)
    return None


_REACH = "is the server up, and is qdrant.url in qmigrate.yaml its address? qmigrate wait waits for it"
_REACH_LISTED = (
    "qdrant.nodes in qmigrate.yaml lists {label}: is that node up, and is this its address? What writes needs "
    "every node; status, plan, check, history and doctor work without it"
)


_PORT = (
    "qdrant.grpc_port in qmigrate.yaml must be the server's gRPC port, and grpc_host its host behind a proxy; "
    "prefer_rest: true if a proxy blocks gRPC"
)


def of_rpc(error: grpc.RpcError, label: str, timeout: float) -> StoreError:
    """The error of a gRPC request."""
    code, text = error.code(), _cut(error.details() or "")
    where = f"Qdrant at {label} (gRPC)"
    if code in (grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.PERMISSION_DENIED):
        return _denied(where, text, writing=True, known=code is grpc.StatusCode.PERMISSION_DENIED)
    if code is grpc.StatusCode.NOT_FOUND:
        return NotFoundError(f"{where}: {text}")
    if code is grpc.StatusCode.ALREADY_EXISTS:
        return ConflictError(f"{where}: {text}")
    if code is grpc.StatusCode.RESOURCE_EXHAUSTED:
        found = dict(error.trailing_metadata() or ())
        return LimitedError(f"{where} limits requests: {text}", retry_after=_seconds(found.get("retry-after")))
    if code is grpc.StatusCode.DEADLINE_EXCEEDED:
        return SlowError(
            f"{where} gave no answer within {timeout:g} s", hint="qdrant.timeout in qmigrate.yaml sets the limit"
        )
    if code is grpc.StatusCode.UNAVAILABLE:
        if "http1.x server" in text or "parsing HTTP/2" in text:
            return StoreError(f"{where} can't be used: what answers there doesn't speak gRPC", hint=_PORT)
        return _of_tls(where, text, _GRPC) or TransientError(
            f"{where} can't be reached: {text}",
            hint=_PORT + ("; grpc_tls: true, if it speaks TLS" if "Socket closed" in text else ""),
        )
    if code in (grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.FAILED_PRECONDITION):
        return RefusedRequestError(f"{where} refused a request: {text}")
    if code is grpc.StatusCode.UNIMPLEMENTED or re.search(r"http2 header with status: 4\d\d", text):
        return StoreError(f"{where} can't be used: what answers there doesn't speak Qdrant's gRPC ({text})", hint=_PORT)
    if _NO_INFERENCE in text:
        return RefusedRequestError(f"{where} makes no vectors of texts: {text}", hint=_INFERENCE)
    if code in (grpc.StatusCode.INTERNAL, grpc.StatusCode.ABORTED, grpc.StatusCode.UNKNOWN):
        return TransientError(f"{where} failed a request: {text}")
    return StoreError(f"{where} answered {code.name}: {text}")


def of_local(error: Exception, path: str) -> QmigrateError:
    """The error of local mode, which raises plain ValueError, KeyError and RuntimeError."""
    text = _cut(str(error))
    where = f"local Qdrant in {path}"
    if _STALE_LOCK in text:
        return LeaseHeldError(
            f"{where} is in use by another process or client, and local mode is for one client only",
            hint="wait until it has ended, or run a Qdrant server and set qdrant.url; an application can pass the "
            "client that it has open: client=",
        )
    if isinstance(error, sqlite3.ProgrammingError) and "thread" in text:
        return StoreError(
            f"{where} was opened in another thread, which alone may use it",
            hint="open the client with force_disable_check_same_thread=True, or call from the thread that opened it",
        )
    if isinstance(error, OSError):
        reason = error.strerror or text or type(error).__name__
        return StoreError(
            f"{where} can't be used: {error.filename or path}: {reason}",
            hint="qdrant.path in qmigrate.yaml must be a folder that this user may write, with free space",
        )
    if _EXISTS.search(text):
        return ConflictError(f"{where}: {text}")
    if _MISSING.search(text):
        return NotFoundError(f"{where}: {text}")
    if isinstance(error, ValueError):
        return RefusedRequestError(f"{where} refused a request: {text}")
    return StoreError(f"{where}: {text or type(error).__name__}")


def not_qdrant(label: str, detail: str) -> StoreError:
    """What answers at the address is not Qdrant."""
    return StoreError(
        f"what answers at {label} is not Qdrant: {detail}",
        hint="qdrant.url is the REST address (port 6333 unless changed), qdrant.prefix the path behind a proxy",
    )


def _denied(where: str, text: str, *, writing: bool, known: bool) -> DeniedError:
    lower = text.lower()
    if writing and ("access is required" in lower or "write access" in lower or "forbidden" in lower):
        return DeniedError(
            f"{where} refused a write: the api key is read-only, or its rights are too small ({text})",
            hint="give qmigrate a key that may manage collections; qmigrate doctor shows what this one may do",
        )
    if "expired" in lower:
        new = f"create a new one: {documented('rights', 'Keys of Qdrant')}"
        return DeniedError(f"{where} denied access: the token has expired", hint=new, known=False)
    if known and "access" in lower:
        return DeniedError(
            f"{where} denied access: the rights of the api key are too small ({text})",
            hint="give qmigrate a key that may read every collection; qmigrate doctor shows what this one may do",
        )
    return DeniedError(
        f"{where} denied access: the api key is missing or wrong ({text or 'no reason given'})",
        hint="set QMIGRATE_QDRANT_API_KEY, or the variable that qdrant.api_key_env names",
        known=False,
    )


def _server_text(response: httpx.Response) -> str:
    try:
        body: Any = response.json()
    except (json.JSONDecodeError, UnicodeDecodeError):
        kind = response.headers.get("content-type", "")
        return "" if "html" in kind else _cut(response.text)
    status = body.get("status") if isinstance(body, dict) else None
    if isinstance(status, dict) and "error" in status:
        return _cut(str(status["error"]))
    return _cut(response.text)


def _from_qdrant(response: httpx.Response) -> bool:
    """Whether Qdrant itself has answered that it failed for good: a proxy can't tell what continues behind it."""
    try:
        body: Any = response.json()
    except (json.JSONDecodeError, UnicodeDecodeError):
        return False
    return response.status_code in (500, 507) and isinstance(body, dict) and isinstance(body.get("status"), dict)


def _cut(text: str) -> str:
    flat = " ".join(text.split())
    return flat if len(flat) <= _LONGEST else flat[: _LONGEST - 1] + "…"


def _seconds(value: str | bytes | None) -> float | None:
    try:
        return float(value) if value is not None else None
    except ValueError:
        return None
