"""Requests that are answered with a job, and the jobs. A worker does them, not a request."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel
from starlette.routing import NoMatchFound

import qmigrate.commands.jobs as jobs
from qmigrate.console.access import called
from qmigrate.console.problems import PlainJson, VerbRoute, of_fields
from qmigrate.errors import UsageError
from qmigrate.ledger.job_queue import QueuedJob
from qmigrate.settings.load import Settings

#: Who calls, as a request has it: set by what logs callers in.
Actor = Callable[[Request], str | None]


class _Body(BaseModel):
    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, extra="forbid")


class JobResponse(_Body):
    """A job."""

    id: str
    kind: str
    status: str = Field(description="pending, processing, completed or failed")
    stage: str | None
    progress: int = Field(description="of the stage, 0 to 100")
    result: dict[str, Any] | None
    error: dict[str, Any] | None
    actor: str
    cancelled_by: str | None
    created_at: datetime
    updated_at: datetime


class UpgradeRequest(_Body):
    """An upgrade; `only` restricts it to these collections."""

    target: str = "head"
    only: list[str] | None = None


class RollbackRequest(_Body):
    """A rollback to a revision, named by its id."""

    target: str
    only: list[str] | None = None
    writes: str = Field("refuse", pattern="^(refuse|carry|discard)$", description="what becomes of writes since")


class CutoverRequest(_Body):
    """What is to go live."""

    names: list[str] = Field(min_length=1)


class WaitingResponse(BaseModel):
    """What needs another person's approval: it was asked for, and nothing was changed."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True)

    detail: str
    hint: str | None
    type: str
    code: str = Field(description="approval_needed")
    exit_code: int
    request_id: int = Field(description="GET /requests/{id} shows it; the same request again runs it once approved")
    state: str = Field(description="pending")


#: Of an endpoint that may answer with a job, or need another person's approval.
ACCEPTED: dict[int | str, dict[str, Any]] = {
    202: {
        "model": JobResponse | WaitingResponse,
        "description": "Asked for with Prefer: respond-async: the job. Or it needs another person's approval, and was "
        "asked for",
    }
}


class Background:
    """What endpoints need to answer with a job: who calls, and whether they would rather wait."""

    def __init__(self, settings: Settings, actor: Actor | None = None) -> None:
        self._settings, self._actor = settings, actor or (lambda _: None)

    def acting(self, request: Request, kind: str | None = None, arguments: Mapping[str, Any] | None = None) -> Settings:
        """The settings, for who calls.

        Args:
            kind: of the job that would do the same, with its arguments: by it an approval is followed by its run.
        """
        found = self._settings.acting(self._actor(request), {"endpoint": called(request)})
        return found.called_by(again=None if kind is None else {"kind": kind, "arguments": dict(arguments or {})})

    def asked(self, request: Request, kind: str, arguments: Mapping[str, Any]) -> JSONResponse | None:
        """A job, where ``Prefer: respond-async`` asks for one; None where the caller waits.

        Raises:
            UsageError: an ``Idempotency-Key`` without it: it names a job, and this request waits.
        """
        if "respond-async" in [word.strip().lower() for word in request.headers.get("prefer", "").split(",")]:
            return self.job(request, kind, arguments)
        if "idempotency-key" in request.headers:
            raise UsageError(
                "an Idempotency-Key is for jobs, and this request waits for its result",
                hint="send Prefer: respond-async as well",
            )
        return None

    def job(self, request: Request, kind: str, arguments: Mapping[str, Any]) -> JSONResponse:
        """Ask for a job, and answer with it."""
        found, new = jobs.submit(
            self.acting(request), kind, arguments, key=request.headers.get("idempotency-key") or None
        )
        headers = {"Preference-Applied": "respond-async"} if new else {}
        # The router for vectors may be mounted without that of the jobs.
        with suppress(NoMatchFound):
            headers["Location"] = request.url_for("get_job", identifier=found.id).path
        return PlainJson(shown(self._settings, found).model_dump(mode="json", by_alias=True), 202, headers)


def shown(settings: Settings, found: QueuedJob) -> JobResponse:
    """A job as it is answered."""
    return JobResponse(
        id=found.id,
        kind=found.kind,
        status=found.state,
        stage=found.stage,
        progress=found.progress,
        result=of_fields(found.result, settings.console.fields),
        error=found.error,
        actor=found.actor,
        cancelled_by=found.cancelled_by,
        created_at=found.created_at,
        updated_at=found.updated_at,
    )


def jobs_router(settings: Settings, actor: Actor | None = None) -> APIRouter:
    """Jobs, and the verbs that are always done as one."""
    router = APIRouter(route_class=VerbRoute)
    background = Background(settings, actor)
    _listed(router, settings, background)
    _verbs(router, background)
    return router


def _listed(router: APIRouter, settings: Settings, background: Background) -> None:
    tags: list[Any] = ["Jobs"]

    @router.get("/jobs", response_model=list[JobResponse], tags=tags)
    def list_jobs(
        status: Annotated[list[str] | None, Query()] = None,
        limit: Annotated[int, Query(ge=1, le=1000)] = 50,
        offset: Annotated[int, Query(ge=0, le=1_000_000)] = 0,
    ) -> Any:
        """Jobs, newest first."""
        return [shown(settings, one) for one in jobs.jobs(settings, status or (), limit=limit, offset=offset).rows]

    @router.get("/jobs/{identifier}", response_model=JobResponse, tags=tags)
    def get_job(identifier: str) -> Any:
        """One job."""
        return shown(settings, jobs.job(settings, identifier))

    @router.post("/jobs/{identifier}/cancel", response_model=JobResponse, tags=tags)
    def cancel_job(request: Request, identifier: str) -> Any:
        """Let a job that waits not begin, and one that is worked on stop at its next checkpoint."""
        return shown(settings, jobs.cancel(background.acting(request), identifier))


def _verbs(router: APIRouter, background: Background) -> None:
    tags: list[Any] = ["Verbs"]
    accepted: dict[str, Any] = {"status_code": 202, "response_model": JobResponse, "tags": tags}

    @router.post("/upgrade", **accepted)
    def upgrade(request: Request, body: UpgradeRequest) -> Any:
        """Bring every collection to a revision."""
        return background.job(request, "upgrade", body.model_dump())

    @router.post("/rollback", **accepted)
    def rollback(request: Request, body: RollbackRequest) -> Any:
        """Go back to an earlier revision."""
        return background.job(request, "rollback", body.model_dump())

    @router.post("/cutover", **accepted)
    def cutover(request: Request, body: CutoverRequest) -> Any:
        """Go live with what is built and held."""
        return background.job(request, "cutover", body.model_dump())

    @router.post("/deletions/{number}/undo", **accepted)
    def undo(request: Request, number: int) -> Any:
        """Give back what a fix has taken away or changed; what was changed since stays."""
        return background.job(request, "undo", {"log": number})
