"""The one place where answers and failures of Qdrant become our errors. It sends and retries nothing.

Texts of the server are kept, cut to one readable length; the api key is in none of them, since no header is shown.
"""

from __future__ import annotations

import json
import re
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
        answered: whether Qdrant itself has said that it failed, so that nothing goes on in it.
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
    if code in (408, 500, 502, 503, 504, 507):
        return TransientError(f"{where} failed a request with {code}: {text}", answered=_from_qdrant(response))
    return StoreError(f"{where} answered {code}: {text}", hint="is this address Qdrant's own, or a proxy's?")


def of_transport(error: httpx.HTTPError, label: str, timeout: float) -> StoreError:
    """The error of a REST request that got no answer."""
    where = f"Qdrant at {label}"
    if isinstance(error, httpx.ConnectTimeout):
        return TransientError(
            f"{where} can't be reached: no connection within {timeout:g} s", hint=_REACH, unknown=False
        )
    if isinstance(error, httpx.TimeoutException):
        return SlowError(
            f"{where} gave no answer within {timeout:g} s", hint="qdrant.timeout in qmigrate.yaml sets the limit"
        )
    reason = str(error) or type(error).__name__
    if isinstance(error, httpx.ConnectError):
        hint = "does the server speak https, as the address says?" if "SSL" in reason else _REACH
        return TransientError(f"{where} can't be reached: {reason}", hint=hint, unknown=False)
    return TransientError(f"{where} can't be reached: {reason}", hint=_REACH)


_REACH = "is the server up, and is qdrant.url in qmigrate.yaml its address? qmigrate wait waits for it"


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
        return TransientError(
            f"{where} can't be reached: {text}", hint="qdrant.grpc_port in qmigrate.yaml must be the server's gRPC port"
        )
    if code in (grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.FAILED_PRECONDITION):
        return RefusedRequestError(f"{where} refused a request: {text}")
    if code in (grpc.StatusCode.INTERNAL, grpc.StatusCode.ABORTED, grpc.StatusCode.UNKNOWN):
        return TransientError(f"{where} failed a request: {text}")
    return StoreError(f"{where} answered {code.name}: {text}")


def of_local(error: Exception, path: str) -> QmigrateError:
    """The error of local mode, which raises plain ValueError, KeyError and RuntimeError."""
    text = _cut(str(error))
    where = f"local Qdrant in {path}"
    if _STALE_LOCK in text:
        return LeaseHeldError(
            f"{where} is in use by another process, and local mode is for one process only",
            hint="wait until it has ended, or run a Qdrant server and set qdrant.url",
        )
    if isinstance(error, OSError):
        reason = error.strerror or text or type(error).__name__
        return StoreError(
            f"{where} can't be used: {error.filename or path}: {reason}",
            hint="qdrant.path in qmigrate.yaml must be a folder that this user may write, with room left",
        )
    if _EXISTS.search(text):
        return ConflictError(f"{where}: {text}")
    if _MISSING.search(text):
        return NotFoundError(f"{where}: {text}")
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
        return DeniedError(
            f"{where} denied access: the token has expired", hint="make a new one (docs/rights.md)", known=False
        )
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
    """Whether Qdrant itself has answered that it failed for good: a proxy says nothing about what goes on behind it."""
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
