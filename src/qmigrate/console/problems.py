"""Errors of the verbs as answers of HTTP: a status, one sentence, and what to do next. It handles none of them."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Container, Coroutine
from contextlib import suppress
from typing import Any

from fastapi import Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException
from starlette.routing import NoMatchFound

from qmigrate.errors import (
    ApprovalNeededError,
    ConfigError,
    LeaseHeldError,
    NotConfiguredError,
    NotFoundError,
    PointsNotFoundError,
    QmigrateError,
    UnavailableError,
    UnknownRevisionError,
    UsageError,
    without_secrets,
)
from qmigrate.text import to_plain

#: The first class that fits decides. What is refused, pending, held or drifted is a conflict with how things are.
STATUSES: tuple[tuple[type[QmigrateError], int], ...] = (
    (PointsNotFoundError, 404),
    (UnknownRevisionError, 404),
    (NotFoundError, 404),
    (NotConfiguredError, 501),
    (ConfigError, 500),
    (UsageError, 422),
    (LeaseHeldError, 409),
    (ApprovalNeededError, 202),
    (UnavailableError, 503),
)
_CONFLICT, _INTERNAL = 409, 500
#: Seconds after which another try may succeed, by status.
RETRY_AFTER = {503: 5}
_log = logging.getLogger(__name__)


class PlainJson(JSONResponse):
    """JSON of any value, also of texts that no encoding has: a client may send half of a pair of surrogates."""

    def render(self, content: Any) -> bytes:
        """As JSON: what would stand for half a pair is an escape of JSON, too."""
        text = json.dumps(to_plain(content), ensure_ascii=False, allow_nan=False, separators=(",", ":"))
        return text.encode("utf-8", "backslashreplace")


def of_fields(content: Any, fields: Container[str]) -> Any:
    """Plain JSON in which of each point that a fix has shown only these fields of its payload are left."""
    if isinstance(content, list):
        return [of_fields(one, fields) for one in content]
    if not isinstance(content, dict):
        return content
    if content.keys() >= {"id", "before", "after"}:
        sides = {name: _only(content[name], fields) for name in ("before", "after")}
        return {**content, **sides}
    return {name: of_fields(one, fields) for name, one in content.items()}


def _only(payload: Any, fields: Container[str]) -> Any:
    return {name: one for name, one in payload.items() if name in fields} if isinstance(payload, dict) else payload


def unreadable(error: RequestValidationError) -> PlainJson:
    """A request that doesn't have the form that is described, as FastAPI says it."""
    return PlainJson({"detail": error.errors()}, 422)


def status_of(error: QmigrateError) -> int:
    """The status that stands for an error."""
    for kind, status in STATUSES:
        if isinstance(error, kind):
            return status
    return _INTERNAL if error.exit_code == 1 else _CONFLICT


def answer(error: QmigrateError, where: Request | None = None) -> JSONResponse:
    """An error as a response: ``detail`` as FastAPI has it, and what `--json` has of it.

    Args:
        where: the request that is answered, for the address of what it has led to.
    """
    status = status_of(error)
    body = {
        "detail": error.message,
        "hint": error.hint,
        "type": type(error).__name__,
        "exitCode": error.exit_code,
        "code": error.code or None,
        "facts": to_plain(error.facts),
    }
    asked = error.facts.get("request")
    if isinstance(error, ApprovalNeededError) and asked is not None:
        # Nothing of the contract: it has no such answer, and none is given where no approval is configured.
        body |= {"requestId": asked, "state": "pending"}
    kept = {key: value for key, value in body.items() if value not in (None, {})}
    headers = {"Retry-After": str(RETRY_AFTER[status])} if status in RETRY_AFTER else {}
    if where is not None and "requestId" in kept:
        # The router for vectors may be mounted without that of the requests.
        with suppress(NoMatchFound):
            headers["Location"] = where.url_for("get_request", number=kept["requestId"]).path
    return PlainJson(kept, status, headers)


def unexpected(error: Exception) -> JSONResponse:
    """A fault of qmigrate, or of something that it uses; what it quotes holds no secret."""
    _log.error("unexpected %s: %s", type(error).__name__, without_secrets(str(error)), exc_info=error)
    return PlainJson({"detail": "an unexpected error: the log of the server has it", "exitCode": 1}, _INTERNAL)


class VerbRoute(APIRoute):
    """A route whose errors of qmigrate become answers, in whatever application it is mounted."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """The handler of FastAPI, with the errors answered."""
        handle = super().get_route_handler()

        async def handled(request: Request) -> Response:
            try:
                return await handle(request)
            except QmigrateError as error:
                return self.failed(request, error)
            except (HTTPException, RequestValidationError):
                raise
            except Exception as error:  # the last resort: never a traceback in an answer
                return self.faulty(request, error)

        return handled

    def failed(self, request: Request, error: QmigrateError) -> Response:
        """The answer to a request whose verb has failed."""
        return answer(error, request)

    def faulty(self, request: Request, error: Exception) -> Response:  # noqa: ARG002  for those that answer with a page
        """The answer to one that has come upon a fault."""
        return unexpected(error)
