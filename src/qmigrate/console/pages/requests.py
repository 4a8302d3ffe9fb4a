"""What waits for another person's approval, one of it in full, and the buttons that decide it. A verb decides."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, HTTPException, Query, Request, Response

import qmigrate.commands.examples as examples
import qmigrate.commands.jobs as jobs
import qmigrate.commands.requests as requests
from qmigrate.console.access import Caller
from qmigrate.console.approvals import check_reject, decide
from qmigrate.console.contract import typed
from qmigrate.console.pages.site import Site, form_of
from qmigrate.ledger.approvals import APPROVED, DONE, PENDING, RUNNING, STATES

#: Rows of a page.
_ROWS = 50
#: What a picture's address is signed for: only examples of a page have one.
_SIGNED = "example"


def request_routes(site: Site) -> APIRouter:
    """`/requests` and what belongs to it."""
    router = site.router()
    _listed(router, site)
    _decided(router, site)
    return router


def _listed(router: APIRouter, site: Site) -> None:
    viewer = [site.allows("viewer")]

    @router.get("/requests", dependencies=viewer)
    def page(
        request: Request, state: str = "", collection: str = "", page: Annotated[int, Query(ge=1, le=100_000)] = 1
    ) -> Response:
        known = [state] if state in STATES else []
        # One more than is shown: whether there is a next page.
        found = requests.requests(
            site.settings, known, collection=collection or None, limit=_ROWS + 1, offset=(page - 1) * _ROWS
        ).rows
        facts: dict[str, Any] = {"states": STATES, "state": state, "collection": collection, "page": page}
        facts |= {"more": len(found) > _ROWS}
        return site.render(request, "requests.html", title="Requests", rows=found[:_ROWS], **facts)

    @router.get("/requests/{number:int}", dependencies=viewer)
    def one(request: Request, number: int) -> Response:
        found = requests.request(site.settings, number)
        # Counting reads the collection: not for a page that renews itself.
        seen = examples.review(site.settings, number) if found.state == PENDING else None
        done = examples.outcome(site.settings, number) if found.state == DONE else None
        caller: Caller = request.state.caller
        acting = site.acting(request)
        facts: dict[str, Any] = {
            "why_not": requests.why_not(acting, number) if found.state == PENDING and caller.may("approver") else None,
            "mine": found.asked_by == caller.user,
            "busy": found.state in (APPROVED, RUNNING),
            "image": lambda example: _image(site, number, example.id) if example.image else None,
        }
        return site.render(request, "request.html", title=f"Request {number}", one=found, seen=seen, done=done, **facts)

    @router.get("/requests/{number:int}/image/{point}", dependencies=viewer)
    def image(number: int, point: str, sign: str = "") -> Response:
        if not site.access.is_signed(_SIGNED, f"{number}/{point}", sign):
            raise HTTPException(404, "there is no such picture")
        return Response(examples.small_image(site.settings, number, typed(point)), media_type="image/jpeg")


def _image(site: Site, number: int, identifier: int | str) -> tuple[str, str]:
    """The address of the picture of an example: its point as a path has it, and the signature."""
    point = str(identifier)
    return point, site.access.signed(_SIGNED, f"{number}/{point}")


def _decided(router: APIRouter, site: Site) -> None:
    @router.post("/requests/{number:int}/approve", dependencies=[site.takes("approver")])
    def approve(request: Request, number: int) -> Response:
        form = form_of(request)
        if not form.ticked("seen"):
            raise HTTPException(400, "tick that you have checked what would go; nothing was approved")
        _, job = decide(site.acting(request), number, form.text("reason") or None)
        said = f"Request {number} is approved" + (f"; job {job.id} does it." if job is not None else ".")
        return site.done(request, "/requests", number, said=said)

    @router.post("/requests/{number:int}/reject", dependencies=[site.takes("operator")])
    def reject(request: Request, number: int) -> Response:
        reason = form_of(request).text("reason")
        if not reason:
            raise HTTPException(400, "say why, for who asked; nothing was decided")
        check_reject(site.settings, request.state.caller, number)
        requests.reject(site.acting(request), number, reason=reason)
        return site.done(request, "/requests", number, said=f"Request {number} is rejected.")

    @router.post("/requests/{number:int}/run", dependencies=[site.takes("operator")])
    def run(request: Request, number: int) -> Response:
        job = jobs.submit_approved(site.acting(request), number)
        if job is None:
            raise HTTPException(409, f"request {number} is run by its own command again")
        return site.done(request, "/requests", number, said=f"Job {job.id} does it.")

    @router.post("/requests/{number:int}/undo", dependencies=[site.takes("operator")])
    def undo(request: Request, number: int) -> Response:
        if not form_of(request).ticked("seen"):
            raise HTTPException(400, "tick that the points are to come back; nothing was changed")
        done = examples.outcome(site.settings, number)
        if done is None or done.undo_until is None:
            raise HTTPException(409, f"nothing of request {number} can be undone")
        job, _ = jobs.submit(site.acting(request), "undo", {"log": done.log})
        return site.done(request, "/requests", number, said=f"Job {job.id} undoes fix {done.log}.")
