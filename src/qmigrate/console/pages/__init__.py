"""The pages of the console. Each shows what a verb of `commands` answers: they decide nothing and keep no state."""

from __future__ import annotations

from collections.abc import Callable

from fastapi import APIRouter, FastAPI

from qmigrate.console.access import Access
from qmigrate.console.pages.assets import assets_router
from qmigrate.console.pages.audit import audit_routes
from qmigrate.console.pages.collection import collection_routes
from qmigrate.console.pages.directories import directory_routes
from qmigrate.console.pages.entry import entry_routes
from qmigrate.console.pages.overview import overview_routes
from qmigrate.console.pages.plan import plan_routes
from qmigrate.console.pages.requests import request_routes
from qmigrate.console.pages.runs import runs_routes
from qmigrate.console.pages.site import Site
from qmigrate.settings.load import Settings

#: Each makes the routes of one page or of several that belong together.
PAGES: tuple[Callable[[Site], APIRouter], ...] = (
    entry_routes,
    overview_routes,
    collection_routes,
    runs_routes,
    plan_routes,
    directory_routes,
    request_routes,
    audit_routes,
)


def add_pages(app: FastAPI, settings: Settings, access: Access) -> Site:
    """Add every page, and the files that they load, to an application."""
    site = Site(settings, access)
    for router in (assets_router(), *(make(site) for make in PAGES)):
        site.routes.extend(router.routes)
        app.include_router(router)
    app.state.site = site
    return site
