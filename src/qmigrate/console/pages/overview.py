"""The first page, for who is on call: are users hurt, what runs, what to do next. It shows what `overview` answers."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response

import qmigrate.commands.overview as first
from qmigrate.console.pages.site import Site


def overview_routes(site: Site) -> APIRouter:
    """`/`."""
    router = site.router()

    @router.get("/", dependencies=[site.allows("viewer")])
    def overview(request: Request, count: bool = False) -> Response:
        found = first.overview(site.settings, count=count)
        return site.render(request, "overview.html", title="Overview", found=found)

    return router
