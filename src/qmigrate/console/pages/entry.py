"""Logging in and out: a link, a form for a token, and back to the first page. Who may log in, `access` decides."""

from __future__ import annotations

from fastapi import APIRouter, HTTPException, Request, Response

from qmigrate.console.access import COOKIE, set_cookie
from qmigrate.console.pages.site import Site, form_of


def entry_routes(site: Site) -> APIRouter:
    """`/login` and `/logout`."""
    router = site.router()

    def entered(request: Request, token: str) -> Response:
        _, cookie = site.access.log_in(request, token)
        response = site.done(request, "/")
        set_cookie(response, cookie)
        return response

    @router.get("/login")
    def by_link(request: Request, token: str = "") -> Response:
        if not token:
            raise HTTPException(401, "a token is missing")
        return entered(request, token)

    @router.post("/login", dependencies=[site.takes(None)])
    def by_form(request: Request) -> Response:
        return entered(request, form_of(request).text("token"))

    @router.post("/logout", dependencies=[site.takes("viewer")])
    def leave(request: Request) -> Response:
        response = site.done(request, "/")
        response.delete_cookie(COOKIE, path="/", secure=True, httponly=True, samesite="strict")
        return response

    return router
