"""The application: routes, who may call them, headers. It starts no server, and calls no verb by itself."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from fastapi import Depends, FastAPI, Request, Response
from fastapi.responses import JSONResponse, RedirectResponse
from starlette.routing import Mount

from qmigrate import __version__
from qmigrate.console.access import Access, Caller, set_cookie
from qmigrate.console.background import jobs_router
from qmigrate.console.contract import vectors_router
from qmigrate.console.problems import VerbRoute, answer
from qmigrate.console.reading import metrics_endpoint, reading_router
from qmigrate.errors import QmigrateError
from qmigrate.health import Health
from qmigrate.settings.load import Settings

PREFIX = "/api/v1"
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
    """The API of a deployment, as an ASGI application.

    Args:
        settings: of qmigrate.
        access: who may call; by default read from the settings.

    Raises:
        ConfigError: a token can't be read.
    """
    known = access or Access.of(settings)
    app = FastAPI(
        title="qmigrate",
        version=__version__,
        # Their pages load scripts of another host.
        docs_url=None,
        redoc_url=None,
        openapi_url=f"{PREFIX}/openapi.json",
    )
    app.router.route_class = VerbRoute
    app.add_exception_handler(QmigrateError, _answered)
    app.middleware("http")(_with_headers)
    viewer, operator = Depends(known.needs("viewer")), Depends(known.needs("operator", reading="viewer"))
    app.include_router(reading_router(settings), prefix=PREFIX, dependencies=[viewer])
    app.include_router(vectors_router(settings, actor=_user, dependencies=[operator]), prefix=PREFIX)
    app.include_router(jobs_router(settings, _user), prefix=PREFIX, dependencies=[operator])
    app.add_api_route("/metrics", metrics_endpoint(settings), dependencies=[viewer], tags=["Monitoring"])
    _logging_in(app, known)
    app.router.routes.append(Mount("/health", Health(settings=settings)))
    return app


def _user(request: Request) -> str:
    found: Caller = request.state.caller
    return found.user


def _logging_in(app: FastAPI, access: Access) -> None:
    @app.get("/login", include_in_schema=False)
    def log_in(request: Request, token: str = "") -> Response:
        _, cookie = access.log_in(request, token)
        response = RedirectResponse(f"{PREFIX}/me", 303)
        set_cookie(response, cookie)
        return response

    @app.get(f"{PREFIX}/me", tags=["State"])
    def me(request: Request) -> Any:
        """Who calls, and what they may do; with a cookie, the token that requests which change something carry."""
        found = access.caller(request)
        return {"user": found.user, "role": found.role, "csrf": found.csrf}


async def _with_headers(request: Request, call: Callable[[Request], Awaitable[Response]]) -> Response:
    response = await call(request)
    for name, value in HEADERS.items():
        response.headers.setdefault(name, value)
    return response


async def _answered(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, QmigrateError)  # noqa: S101  registered for it
    return answer(error)
