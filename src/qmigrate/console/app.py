"""The application: API, pages, who may call them, headers. It starts no server, and calls no verb by itself."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from fastapi import Depends, FastAPI, Request, Response
from fastapi.exception_handlers import http_exception_handler
from fastapi.exceptions import RequestValidationError
from fastapi.responses import PlainTextResponse
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.routing import Mount, Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from qmigrate import __version__
from qmigrate.console.access import Access, Caller
from qmigrate.console.approvals import requests_router
from qmigrate.console.background import jobs_router
from qmigrate.console.contract import vectors_router
from qmigrate.console.pages import add_pages
from qmigrate.console.pages.site import Site, wants_page
from qmigrate.console.problems import PlainJson, VerbRoute, unreadable
from qmigrate.console.reading import METRICS, metrics_endpoint, reading_router
from qmigrate.console.running import runs_router
from qmigrate.console.schemas import PROBLEMS, answers, describe
from qmigrate.console.streams import Streams
from qmigrate.errors import QmigrateError
from qmigrate.health import Health
from qmigrate.model.approval import CONSOLE
from qmigrate.settings.load import Settings

PREFIX = "/api/v1"
#: Most bytes of a body: names, ids and reasons, never data.
MOST = 1_000_000
#: Of every answer: nothing of another host is loaded, and no other page shows this one.
HEADERS = {
    "Content-Security-Policy": "default-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'self'",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "no-store",
}


def create_app(settings: Settings, *, access: Access | None = None) -> FastAPI:
    """The API and the pages of a deployment, as an ASGI application.

    Args:
        settings: of qmigrate.
        access: who may call; by default read from the settings.

    Raises:
        ConfigError: a token can't be read.
    """
    known = access or Access.of(settings)
    # Every caller from here on was logged in by it.
    settings = settings.called_by(CONSOLE)
    app = FastAPI(
        title="qmigrate",
        version=__version__,
        # Their pages load scripts of another host.
        docs_url=None,
        redoc_url=None,
        openapi_url=f"{PREFIX}/openapi.json",
    )
    app.router.route_class = VerbRoute
    app.add_middleware(_Bounded)
    app.middleware("http")(_with_headers)
    viewer, operator = Depends(known.needs("viewer")), Depends(known.needs("operator", reading="viewer"))
    described: dict[str, Any] = {"prefix": PREFIX, "responses": PROBLEMS}
    app.include_router(reading_router(settings), dependencies=[viewer], **described)
    app.state.streams = Streams(settings)
    app.include_router(runs_router(settings, app.state.streams), dependencies=[viewer], **described)
    app.include_router(vectors_router(settings, actor=_user, dependencies=[operator]), **described)
    app.include_router(jobs_router(settings, _user), dependencies=[operator], **described)
    app.include_router(requests_router(settings, known), dependencies=[viewer], **described)
    app.add_api_route(
        "/metrics",
        metrics_endpoint(settings),
        dependencies=[viewer],
        tags=["Monitoring"],
        response_class=PlainTextResponse,
        responses=METRICS | PROBLEMS,
    )
    _who(app, known)
    _refusals(app, add_pages(app, settings, known))
    describe(app)
    health = Health(settings=settings)
    app.router.routes += [Mount("/health", health), Route("/livez", health), Route("/readyz", health)]
    return app


def _user(request: Request) -> str:
    found: Caller = request.state.caller
    return found.user


@dataclass(frozen=True, slots=True)
class Me:
    """Who calls.

    Attributes:
        user: recorded as the actor.
        role: what they may do.
        csrf: what requests carry that change something; None without a cookie.
    """

    user: str
    role: str
    csrf: str | None


def _who(app: FastAPI, access: Access) -> None:
    @app.get(f"{PREFIX}/me", tags=["State"], responses=answers(Me, "who calls") | PROBLEMS)
    def me(request: Request) -> Any:
        """Who calls, and what they may do; with a cookie, the token that requests which change something carry."""
        found = access.caller(request)
        return PlainJson(Me(found.user, found.role, found.csrf))


class _Bounded:
    """No body is longer than :data:`MOST`: it is read before it is known who sends it."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on; what is too long ends with 413."""
        taken = 0

        async def bounded() -> Message:
            nonlocal taken
            message = await receive()
            taken += len(message.get("body", b""))
            if taken > MOST:
                raise HTTPException(413, f"the body has more than {MOST:,} bytes")
            return message

        await self._app(scope, bounded if scope["type"] == "http" else receive, send)


async def _with_headers(request: Request, call: Callable[[Request], Awaitable[Response]]) -> Response:
    response = await call(request)
    for name, value in HEADERS.items():
        response.headers.setdefault(name, value)
    return response


def _refusals(app: FastAPI, site: Site) -> None:
    """Errors outside of a route: pages for people, answers for programs."""

    async def answered(request: Request, error: Exception) -> Response:
        assert isinstance(error, QmigrateError)  # noqa: S101  registered for it
        return site.failed(request, error)

    async def refused(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)  # noqa: S101  registered for it
        if wants_page(request):
            return await run_in_threadpool(site.refused, request, error)
        return await http_exception_handler(request, error)

    async def malformed(request: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)  # noqa: S101  registered for it
        if wants_page(request):
            found = HTTPException(404, "there is no such page: a part of its address is not what it must be")
            return await run_in_threadpool(site.refused, request, found)
        return unreadable(error)

    app.add_exception_handler(QmigrateError, answered)
    app.add_exception_handler(HTTPException, refused)
    app.add_exception_handler(RequestValidationError, malformed)
