"""The first page, for who is on call: are users hurt, what runs, what to do next. It shows what `status` answers."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response

import qmigrate.commands.status as state
from qmigrate.console.pages.site import Site


def overview_routes(site: Site) -> APIRouter:
    """`/`."""
    router = site.router()

    @router.get("/", dependencies=[site.allows("viewer")])
    def overview(request: Request) -> Response:
        return site.render(request, "overview.html", title="Overview", found=state.status(site.settings))

    return router
