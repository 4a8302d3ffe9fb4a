"""What every page is made with: templates, forms, answers and the files that they load. It knows no page and no verb.

Everything works without JavaScript: forms are posted, pages are loaded again. What scripts add is named in
``assets/qmigrate.js``.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, quote, urlencode

from fastapi import APIRouter, Depends, HTTPException, Request, Response
from fastapi.responses import HTMLResponse, RedirectResponse
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException as StarletteHTTPException
from starlette.routing import BaseRoute, Route

from qmigrate.console.access import Access, Caller, acting, allow, from_here
from qmigrate.console.pages.assets import ASSETS
from qmigrate.console.pages.words import environment
from qmigrate.console.problems import VerbRoute, answer, status_of
from qmigrate.errors import QmigrateError
from qmigrate.settings.load import Settings

if TYPE_CHECKING:
    from jinja2 import Environment

#: What is said once, on the next page: `__Host-` keeps other hosts from setting it, a signature other programs.
FLASH = "__Host-qmigrate-said"
#: Most bytes of a form: ids and reasons, never data.
MOST = 64_000
#: Paths whose answers are for programs, whatever they accept.
_MACHINES = ("/api/", "/health", "/livez", "/readyz", "/metrics")
#: In this order in the navigation; one whose page isn't there is left out.
NAVIGATION = (
    ("/", "Overview"),
    ("/collections", "Collections"),
    ("/runs", "Runs"),
    ("/plan", "Plan"),
    ("/directories", "Directories"),
    ("/requests", "Requests"),
    ("/audit", "Audit"),
)


@dataclass(frozen=True, slots=True)
class Form:
    """A form that was sent by a caller who may send it.

    Attributes:
        values: field -> its values, in order.
    """

    values: Mapping[str, tuple[str, ...]]

    def text(self, name: str, default: str = "") -> str:
        """The last value of a field, without blanks around it."""
        return self.values.get(name, (default,))[-1].strip()

    def all(self, name: str) -> tuple[str, ...]:
        """Every value of a field that may be given several times; empty ones left out."""
        return tuple(one for one in self.values.get(name, ()) if one)

    def ticked(self, name: str) -> bool:
        """Whether a box was ticked."""
        return name in self.values


@dataclass(slots=True)
class Site:
    """What pages are made with.

    Attributes:
        settings: of qmigrate.
        access: who may call.
        templates: the environment of the templates.
        routes: of all pages.
    """

    settings: Settings
    access: Access
    templates: Environment = field(default_factory=environment)
    routes: list[BaseRoute] = field(default_factory=list)

    @property
    def paths(self) -> frozenset[str]:
        """Of pages that are there, for the navigation."""
        return frozenset(one.path for one in self.routes if isinstance(one, Route) and "GET" in (one.methods or ()))

    def router(self) -> APIRouter:
        """A router whose errors are pages, and whose routes are not part of the API's description."""
        return APIRouter(route_class=_route_of(self), include_in_schema=False)

    def allows(self, role: str) -> Any:
        """Of a page that callers with at least this role may see: ``dependencies=[site.allows("viewer")]``."""
        return Depends(self.access.needs(role))

    def takes(self, role: str | None) -> Any:
        """Of what takes a form from callers with at least this role: ``dependencies=[site.takes("operator")]``.

        Its field ``csrf`` is checked, which the macro ``form`` of the templates writes; :func:`form_of` has the others.

        Args:
            role: None for a form that is filled in before a log-in.
        """

        async def read(request: Request) -> None:
            values = await _values(request)
            given = values.pop("csrf", ("",))[-1]
            if role is not None:
                allow(request, self.access.caller(request, csrf=given), role)
            elif not from_here(request):
                raise HTTPException(403, "the request is not from a page of this console")
            request.state.form = Form(values)

        return Depends(read)

    def acting(self, request: Request) -> Settings:
        """The settings, for who calls: what they do is recorded with their name."""
        return acting(self.settings, request)

    def render(self, request: Request, template: str, status: int = 200, **facts: Any) -> HTMLResponse:
        """A page.

        Args:
            request: that it answers.
            template: its name.
            status: of HTTP.
            **facts: what the template shows; ``title`` is the page's.
        """
        caller: Caller | None = getattr(request.state, "caller", None)
        said = self._said(request)
        root = request.scope.get("root_path", "")
        page = self.templates.get_template(template).render(
            {
                # Not "caller": in a template that is what a block gives to its macro.
                "who": caller,
                "csrf": (caller.csrf or "") if caller else "",
                "may": caller.may if caller else lambda _: False,
                "navigation": [(path, word) for path, word in NAVIGATION if path in self.paths] if caller else [],
                "path": request.url.path.removeprefix(root),
                "query": request.url.query,
                "said": said,
                "now": datetime.now(UTC),
                "url": lambda path, /, *names, **query: _url(root, path, names, query),
                "asset": lambda name: f"{root}{ASSETS.path(name)}",
                **facts,
            }
        )
        response = HTMLResponse(page, status)
        if said:
            response.delete_cookie(FLASH, path="/", secure=True, httponly=True, samesite="strict")
        return response

    def done(self, request: Request, path: str, *names: object, said: str = "") -> RedirectResponse:
        """Where to go after a form: another page, which says once what was done. A reload repeats nothing."""
        response = RedirectResponse(_url(request.scope.get("root_path", ""), path, names, {}), 303)
        if said:
            value = base64.urlsafe_b64encode(json.dumps(said[:1000]).encode()).decode()
            signed = f"{value}.{self.access.signed('said', value)}"
            response.set_cookie(FLASH, signed, max_age=60, path="/", secure=True, httponly=True, samesite="strict")
        return response

    def failed(self, request: Request, error: QmigrateError) -> Response:
        """An error of a verb: what, where, why, and the next command."""
        if not wants_page(request):
            return answer(error)
        # The way to the page where the form was is that of the browser: nothing was sent again.
        return self.render(
            request, "error.html", status_of(error), title="Not done", message=error.message, hint=error.hint,
            exit_code=error.exit_code, kind=type(error).__name__,
        )

    def refused(self, request: Request, error: StarletteHTTPException) -> Response:
        """An error of HTTP, as a page: no log-in, a role too small, nothing of that name."""
        response = self.render(
            request, "error.html", error.status_code, title=_TITLES.get(error.status_code, "Not possible"),
            message=str(error.detail), hint=None, exit_code=None, kind=None, log_in=error.status_code == 401,
        )
        for name, value in (error.headers or {}).items():
            # With it a browser would ask for a password that doesn't exist.
            if name.lower() != "www-authenticate":
                response.headers[name] = value
        return response

    def _said(self, request: Request) -> str:
        value, _, signature = request.cookies.get(FLASH, "").rpartition(".")
        if not value or not self.access.is_signed("said", value, signature):
            return ""
        try:
            return str(json.loads(base64.urlsafe_b64decode(value)))
        except (ValueError, binascii.Error):
            return ""


def form_of(request: Request) -> Form:
    """The form that a request has sent, where its route takes one."""
    found: Form = request.state.form
    return found


_TITLES = {401: "Log in first", 403: "Not allowed", 404: "Not found", 429: "Wait a minute"}


def wants_page(request: Request) -> bool:
    """Whether a person is shown the answer: a browser asks for text/html, and the path is none for programs."""
    path = request.url.path.removeprefix(request.scope.get("root_path", ""))
    return "text/html" in request.headers.get("accept", "") and not path.startswith(_MACHINES)


async def _values(request: Request) -> dict[str, tuple[str, ...]]:
    """The fields of a form.

    Raises:
        HTTPException: 400, 413, 415: it can't be read.
    """
    try:
        pairs = parse_qsl((await _body(request)).decode(), keep_blank_values=True, max_num_fields=2000)
    except ValueError:
        raise HTTPException(400, "the form can't be read: it is not URL-encoded UTF-8") from None
    values: dict[str, tuple[str, ...]] = {}
    for name, value in pairs:
        values[name] = (*values.get(name, ()), value)
    return values


async def _body(request: Request) -> bytes:
    """The body of a form.

    Raises:
        HTTPException: 413: it is too long; 415: it isn't one.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind not in ("", "application/x-www-form-urlencoded"):
        raise HTTPException(415, "expected a form: application/x-www-form-urlencoded")
    found = bytearray()
    async for chunk in request.stream():
        found += chunk
        if len(found) > MOST:
            raise HTTPException(413, f"the form has more than {MOST:,} bytes")
    return bytes(found)


def _url(root: str, path: str, names: Sequence[object], query: Mapping[str, object]) -> str:
    """A path of this console: what is written in code, then names, which may hold anything."""
    given = [(name, one) for name, value in query.items() for one in _several(value)]
    whole = "/".join([path.rstrip("/") if names else path, *(quote(str(name), safe="") for name in names)])
    return f"{root}{whole}" + (f"?{urlencode(given)}" if given else "")


def _several(value: object) -> list[str]:
    if value is None or value == "":
        return []
    return [str(one) for one in value] if isinstance(value, list | tuple) else [str(value)]


def _route_of(site: Site) -> type[APIRoute]:
    """A class of routes whose errors of qmigrate are pages."""

    class PageRoute(VerbRoute):
        """A route of a page."""

        def failed(self, request: Request, error: QmigrateError) -> Response:
            """The error as a page."""
            return site.failed(request, error)

        def faulty(self, request: Request, error: Exception) -> Response:
            """That there was one as a page, for a person."""
            response = super().faulty(request, error)
            if not wants_page(request):
                return response
            return site.render(
                request, "error.html", 500, title="A fault", message="an unexpected error: the log of the server has "
                "it", hint=None, exit_code=1, kind=None,
            )

    return PageRoute
