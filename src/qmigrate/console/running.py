"""Runs over HTTP: a list, one, its figures, and its stream of events. Each answer is what a verb has read."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Path, Query, Request, Response

import qmigrate.commands.runs as running
from qmigrate.commands.runs import Run, RunFigures, Runs
from qmigrate.console.problems import PlainJson, VerbRoute
from qmigrate.console.schemas import answers
from qmigrate.console.streams import Streams, as_json
from qmigrate.settings.load import Settings
from qmigrate.text import aware

#: The number of a run, as databases have it.
Number = Annotated[int, Path(ge=1, lt=1 << 63)]
State = Literal["running", "interrupted", "held", "failed", "done", "refused", "unchanged", "aborted"]
_EVENTS: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "events `run`, `samples` and `end`; `Last-Event-ID` goes on behind what was seen",
        "content": {"text/event-stream": {"schema": {"type": "string"}}},
    },
    204: {"description": "the run is over, and all of it was seen"},
}


def runs_router(settings: Settings, streams: Streams) -> APIRouter:
    """Runs; they have the fields of what `qmigrate.commands.runs` returns."""
    router = APIRouter(route_class=VerbRoute, tags=["Runs"])

    @router.get("/runs", responses=answers(Runs))
    def list_runs(
        collection: str | None = None,
        state: Annotated[list[State] | None, Query()] = None,
        verb: str | None = None,
        actor: str | None = None,
        since: datetime | None = None,
        limit: Annotated[int, Query(ge=1, le=1000)] = 50,
        offset: Annotated[int, Query(ge=0, le=1_000_000)] = 0,
    ) -> Response:
        """Every attempt, newest first: also what failed, was refused, or is being worked on."""
        found = running.runs(
            settings,
            collection=collection,
            states=state or (),
            verb=verb,
            actor=actor,
            since=None if since is None else aware(since),
            limit=limit,
            offset=offset,
        )
        return PlainJson(found)

    @router.get("/runs/{number}", responses=answers(Run))
    def get_run(number: Number) -> Response:
        """One run: how far it is, what it found, why it stopped and what to do, and late writes to check."""
        return PlainJson(running.run(settings, number))

    @router.get("/runs/{number}/figures", responses=answers(RunFigures))
    def get_figures(number: Number) -> Response:
        """How it was doing: points per second, busy shares, the server's queue, memory; a sample now and then."""
        return PlainJson(running.figures(settings, number))

    @router.get("/runs/{number}/events", response_class=Response, responses=_EVENTS)
    async def follow_run(request: Request, number: Number) -> Response:
        """Its progress as server-sent events, until it is over."""
        return await streams.answer(request, number, as_json)

    return router
