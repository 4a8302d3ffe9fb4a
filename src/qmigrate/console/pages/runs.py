"""Runs: a list with filters, and one run, live by a stream of events; without scripts it is loaded again."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import JSONResponse

import qmigrate.commands.pace as paces
import qmigrate.commands.runs as running
from qmigrate.commands.history import KINDS
from qmigrate.console.pages.site import Site
from qmigrate.console.plots import HEIGHT, WIDTH, columns, plots
from qmigrate.console.running import Number
from qmigrate.console.streams import Streams, View, event

#: Runs of a page.
_PAGE = 50
#: Kind of a late write -> what to do about it.
ADVICE: Mapping[str, str] = {
    "may_undo_delete": "Delete the point again if the application had deleted it",
    "may_overwrite": "Compare both values, and write the point again where the older one has won",
    "kept": "The new generation's value counts: write the old one's again where that is the later",
    "not_made": "It is only in the generation that was left, which gc deletes: write it again if it is needed",
    "may_have_missed": "Send a request by a filter, made in those moments, again",
    "unknown": "Compare both values",
}
#: What the parts of a run need besides it, whatever the settings are.
PARTS: Mapping[str, Any] = {"meanings": KINDS, "advice": ADVICE, "width": WIDTH, "height": HEIGHT}


def runs_routes(site: Site) -> APIRouter:
    """`/runs`, `/runs/7`, and what its script loads."""
    router, allowed = site.router(), [site.allows("viewer")]

    @router.get("/runs", dependencies=allowed)
    def listed(
        request: Request,
        collection: str = "",
        state: str = "",
        verb: str = "",
        actor: str = "",
        offset: Annotated[int, Query(ge=0, le=1_000_000)] = 0,
    ) -> Response:
        given = {"collection": collection, "state": state, "verb": verb, "actor": actor}
        chosen = {name: value or None for name, value in given.items()}
        found = running.runs(
            site.settings,
            collection=chosen["collection"],
            states=(state,) if state in running.STATES else (),
            verb=chosen["verb"],
            actor=chosen["actor"],
            limit=_PAGE,
            offset=offset,
        )
        return site.render(
            request,
            "runs.html",
            title="Runs",
            found=found,
            chosen=chosen,
            filtered=any(chosen.values()),
            states=running.STATES,
            newer=max(0, offset - _PAGE) if offset else None,
            older=offset + _PAGE if offset + _PAGE < found.total else None,
        )

    @router.get("/runs/{number}", dependencies=allowed)
    def one(request: Request, number: Number) -> Response:
        found, figures = running.run_with_figures(site.settings, number)
        name, title = found.summary.collection, f"Run {number}: {found.summary.verb} of {found.summary.collection}"
        asked = paces.asked(site.settings, name, number) if found.summary.state == "running" else None
        shown = {"run": found, "plots": plots(figures), "asked": asked, **parts(site)}
        return site.render(request, "run.html", title=title, **shown)

    @router.get("/runs/{number}/figures", dependencies=allowed)
    def figures(number: Number) -> Response:
        found = running.figures(site.settings, number)
        return JSONResponse(columns(plots(found), found))

    @router.get("/runs/{number}/events", dependencies=allowed)
    async def follow(request: Request, number: Number) -> Response:
        def tell(view: View, seen: int) -> list[str]:
            page = site.render(request, "run_live.html", title="", run=view.run)
            fresh = view.run.last_sample > seen
            return [*([event("", "samples")] if fresh else []), event(bytes(page.body).decode(), None, view.id)]

        streams: Streams = request.app.state.streams
        return await streams.answer(request, number, tell)

    return router


def parts(site: Site) -> dict[str, Any]:
    """What the parts of a run need besides it."""
    return {**PARTS, "fields": site.settings.console.fields}
