"""Requests that need another person's approval, over HTTP: shown, approved, rejected, run. It decides nothing."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Depends, HTTPException, Query, Request
from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

import qmigrate.commands.jobs as jobs
import qmigrate.commands.requests as requests
from qmigrate.console.access import Access, Caller, acting
from qmigrate.console.background import JobResponse, shown
from qmigrate.console.problems import VerbRoute
from qmigrate.ledger.job_queue import QueuedJob
from qmigrate.model.approval import CONSOLE, Person
from qmigrate.settings.load import Settings

#: Numbers of requests; no database takes a larger one.
_Number = Annotated[int, Field(ge=1, lt=1 << 63)]


class _Body(BaseModel):
    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, extra="forbid")


class ApproveBody(_Body):
    """What who approves has to say."""

    reason: str | None = Field(None, max_length=2000, description="For the record")


class RejectBody(_Body):
    """Why it is not done."""

    reason: str = Field(min_length=1, max_length=2000, description="For who asked")


class RequestResponse(_Body):
    """A request."""

    id: int
    collection: str
    kind: str = Field(description="delete, soft, orphans, erase, reset, drop or gc")
    words: str = Field(description="What is asked for, in full")
    what: dict[str, Any] = Field(description="The same as the approval is bound to it")
    reason: str | None
    state: str = Field(description="pending, approved, rejected, expired, moved, running, done or ended")
    changes: int = Field(description="Points that would go, counted when it was asked for")
    points: int
    share: float
    above: str
    allowed: tuple[int, int] = Field(description="How many points there may be when it runs")
    asked_by: str
    asked_as: str
    created_at: datetime
    expires_at: datetime
    decided_by: str | None
    decided_as: str | None
    decided_at: datetime | None
    decided_why: str | None
    run: int | None
    log: int | None = Field(description="Its number in the audit, once it is done")
    undo: bool
    found: int | None
    command: str | None = Field(description="What to do next")


class ApprovedResponse(_Body):
    """What was approved, and the job that does it."""

    request: RequestResponse
    job: JobResponse | None = Field(description="None where its command has to be called again")


def requests_router(settings: Settings, access: Access) -> APIRouter:
    """Requests; who may approve is asked of the caller's role here, and of the person by the verb."""
    router = APIRouter(route_class=VerbRoute)
    _reading(router, settings)
    _deciding(router, settings, access)
    return router


def decide(settings: Settings, number: int, reason: str | None) -> tuple[requests.RequestRow, QueuedJob | None]:
    """Approve, and have it run by whichever worker is there, in the name of who asked.

    Args:
        settings: for who approves.
    """
    approved = requests.approve(settings, number, reason=reason)
    return approved, jobs.submit_approved(settings, number)


def check_reject(settings: Settings, caller: Caller, number: int) -> None:
    """See that who rejects is an approver, or withdraws what they have asked for.

    Raises:
        HTTPException: 403.
    """
    if caller.may("approver"):
        return
    found = requests.request(settings, number)
    asked = Person(found.asked_by, CONSOLE)
    if not asked.is_same(Person(caller.user, CONSOLE)):
        raise HTTPException(403, f"this needs the role approver, and {caller.user} has {caller.role}")


def _reading(router: APIRouter, settings: Settings) -> None:
    tags: list[Any] = ["Requests"]

    @router.get("/requests", response_model=list[RequestResponse], tags=tags)
    def list_requests(
        state: Annotated[list[str] | None, Query()] = None,
        collection: str | None = None,
        limit: Annotated[int, Query(ge=1, le=1000)] = 50,
        offset: Annotated[int, Query(ge=0, le=1_000_000)] = 0,
    ) -> Any:
        """What needs, or has had, another person's approval, newest first."""
        found = requests.requests(settings, state or (), collection=collection, limit=limit, offset=offset)
        return [_shown(one) for one in found.rows]

    @router.get("/requests/{number}", response_model=RequestResponse, tags=tags)
    def get_request(number: _Number) -> Any:
        """One request."""
        return _shown(requests.request(settings, number))


def _deciding(router: APIRouter, settings: Settings, access: Access) -> None:
    tags: list[Any] = ["Requests"]
    approver, operator = Depends(access.needs("approver")), Depends(access.needs("operator"))

    @router.post("/requests/{number}/approve", response_model=ApprovedResponse, dependencies=[approver], tags=tags)
    def approve_request(request: Request, number: _Number, body: ApproveBody) -> Any:
        """Approve what another person has asked for; a worker does it then, in their name."""
        found, job = decide(acting(settings, request), number, body.reason)
        return ApprovedResponse(request=_shown(found), job=None if job is None else shown(settings, job))

    @router.post("/requests/{number}/reject", response_model=RequestResponse, dependencies=[operator], tags=tags)
    def reject_request(request: Request, number: _Number, body: RejectBody) -> Any:
        """Reject a request, or take its approval back before it runs; an operator may withdraw their own."""
        check_reject(settings, request.state.caller, number)
        return _shown(requests.reject(acting(settings, request), number, reason=body.reason))

    @router.post(
        "/requests/{number}/run", status_code=202, response_model=JobResponse, dependencies=[operator], tags=tags
    )
    def run_request(request: Request, number: _Number) -> Any:
        """Have what was approved done by a worker, where an earlier try has come to nothing."""
        found = jobs.submit_approved(acting(settings, request), number)
        if found is None:
            raise HTTPException(409, f"request {number} is run by its own command again")
        return shown(settings, found)


def _shown(one: requests.RequestRow) -> RequestResponse:
    return RequestResponse(**{name: getattr(one, name) for name in RequestResponse.model_fields})
