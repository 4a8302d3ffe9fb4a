"""The plan, and what follows from it: run, hold, cut over, roll back, pause, stop, abort. Each is asked for as a job.

Behind each button is a page that says what will happen, and asks for the consent that the command asks for. What is
sent names the plan that was shown: where that has become another one, nothing is asked for.
"""

from __future__ import annotations

import hashlib
import json
import secrets
from collections.abc import Sequence
from typing import Annotated, Any

from fastapi import APIRouter, HTTPException, Query, Request, Response

import qmigrate.commands.jobs as jobs
import qmigrate.commands.overview as first
import qmigrate.commands.pace as paces
import qmigrate.commands.rollback as back
import qmigrate.commands.upgrade as upgrades
from qmigrate.commands.cutover import cutover
from qmigrate.commands.job_kinds import OWN
from qmigrate.commands.rollback import WRITES
from qmigrate.console.pages.site import Form, Site, form_of
from qmigrate.errors import RefusedError, UsageError
from qmigrate.model.plan import GoLive, Plan
from qmigrate.text import counted, to_plain

#: The word that has to be typed where writes are lost.
DISCARD = "discard"
Names = Annotated[list[str] | None, Query()]


def plan_routes(site: Site) -> APIRouter:
    """`/plan` and what is asked for from there."""
    router = site.router()
    _forward(router, site)
    _cut_over(router, site)
    _backward(router, site)
    _under_way(router, site)
    _jobs(router, site)
    return router


def _forward(router: APIRouter, site: Site) -> None:
    """The plan, and running it, to the end or until it is held."""

    @router.get("/plan", dependencies=[site.allows("viewer")])
    def plan(request: Request, target: str = "head", only: Names = None) -> Response:
        made = upgrades.plan(site.settings, target, only)
        return site.render(request, "plan.html", title="Plan", plan=made, target=target, only=only or [])

    @router.get("/plan/run", dependencies=[site.allows("operator")])
    def ask(request: Request, target: str = "head", only: Names = None, hold: bool = False) -> Response:
        made = upgrades.plan(site.settings, target, only)
        return site.render(
            request,
            "plan_run.html",
            title="Build and hold" if hold else "Run the plan",
            plan=made,
            target=target,
            only=only or [],
            hold=hold,
            gaps=_gaps(made),
            lost=upgrades.irreversible(site.settings, target, only),
            seen=digest(made),
            key=secrets.token_hex(16),
        )

    @router.post("/plan/run", dependencies=[site.takes("operator")])
    def run(request: Request) -> Response:
        form = form_of(request)
        target, only = form.text("target") or "head", list(form.all("only")) or None
        made = upgrades.plan(site.settings, target, only)
        _check_seen(form, made)
        if not made.collections or made.refusals:
            raise RefusedError("there is nothing to run as things are", hint="qmigrate plan")
        agreed = set(form.all("irreversible"))
        for revision, why in upgrades.irreversible(site.settings, target, only).items():
            if revision not in agreed:
                raise UsageError(f"revision {revision} has no way back ({why}): that has to be agreed to by name")
        gaps = _gaps(made)
        if gaps and not form.ticked("allow_gap"):
            raise UsageError(f"reads of {', '.join(gaps)} fail for some milliseconds: that has to be agreed to")
        arguments = {
            "target": made.target[0] if len(made.target) == 1 else "heads",
            "only": only,
            "hold": form.text("hold") == "yes",
            "allow_gap": bool(gaps),
        }
        return _asked(site, request, form, "upgrade", arguments)


def _cut_over(router: APIRouter, site: Site) -> None:
    """Going live with what is held."""

    @router.get("/plan/cutover", dependencies=[site.allows("operator")])
    def ask(request: Request, name: Names = None) -> Response:
        found = cutover(site.settings, name or (), every=not name, dry_run=True)
        every = cutover(site.settings, (), every=True, dry_run=True) if name else found
        key = secrets.token_hex(16)
        return site.render(
            request, "plan_cutover.html", title="Cut over", found=found, seen=digest(every.held), key=key
        )

    @router.post("/plan/cutover", dependencies=[site.takes("operator")])
    def run(request: Request) -> Response:
        form = form_of(request)
        names = list(form.all("name"))
        if not names:
            raise UsageError("no collection was chosen", hint="qmigrate status shows what is held")
        shown = cutover(site.settings, (), every=True, dry_run=True)
        _check_seen(form, shown.held)
        return _asked(site, request, form, "cutover", {"names": names})


def _backward(router: APIRouter, site: Site) -> None:
    """Going back to an earlier revision."""

    @router.get("/plan/rollback", dependencies=[site.allows("operator")])
    def ask(request: Request, target: str = "", only: str = "") -> Response:
        if not target or not only:
            ways = first.overview(site.settings).back
            return site.render(request, "plan_ways.html", title="Roll back", ways=ways)
        made = back.rollback(site.settings, target, only=[only], writes="carry", dry_run=True).plan
        return site.render(
            request,
            "plan_rollback.html",
            title="Roll back",
            plan=made,
            target=target,
            only=only,
            way=first.ways_back(site.settings, only),
            word=DISCARD,
            seen=digest(made),
            key=secrets.token_hex(16),
        )

    @router.post("/plan/rollback", dependencies=[site.takes("operator")])
    def run(request: Request) -> Response:
        form = form_of(request)
        target, only, writes = form.text("target"), form.text("only"), form.text("writes")
        if not target or not only or writes not in WRITES:
            raise UsageError(f"a rollback needs a target, a collection, and one of {', '.join(WRITES)}")
        if writes == "discard" and form.text("typed") != DISCARD:
            raise UsageError(f"what was written since would be lost: type {DISCARD!r} to agree to that")
        made = back.rollback(site.settings, target, only=[only], writes="carry", dry_run=True).plan
        _check_seen(form, made)
        return _asked(site, request, form, "rollback", {"target": target, "only": [only], "writes": writes})


def _under_way(router: APIRouter, site: Site) -> None:
    """What can be asked of a run: its pace, and that it ends."""

    @router.post("/pace", dependencies=[site.takes("operator")])
    def pace(request: Request) -> Response:
        form = form_of(request)
        given = form.text("run")
        run = int(given) if given.isdecimal() and len(given) < 19 else None
        acting = site.acting(request)
        found = paces.pace(acting, form.text("name"), form.text("ask"), rate=_rate(form), expected=run)
        said = {
            "pause": "pauses at its next checkpoint",
            "resume": "goes on",
            "slower": f"goes at most {found.rate:,.0f} points/s" if found.rate else "goes slower",
            "full": "goes on at full speed",
            "stop": "stops at its next checkpoint",
        }[found.ask]
        if run is not None and form.text("back") == "run":
            return site.done(request, "/runs", run, said=f"It {said}, within some seconds.")
        return site.done(request, "/", said=f"The run of {found.collection} {said}, within some seconds.")

    @router.get("/plan/abort", dependencies=[site.allows("operator")])
    def ask(request: Request, name: str) -> Response:
        run = paces.unfinished(site.settings, name)
        if run is None:
            raise HTTPException(404, f"{name} has no unfinished run")
        facts: dict[str, Any] = {"name": name, "run": run.id, "working": run.leased, "key": secrets.token_hex(16)}
        return site.render(request, "plan_abort.html", title="Abort", **facts)

    @router.post("/plan/abort", dependencies=[site.takes("operator")])
    def abort(request: Request) -> Response:
        form = form_of(request)
        name = form.text("name")
        run = paces.unfinished(site.settings, name)
        if run is None or form.text("run") != str(run.id):
            raise RefusedError(f"the unfinished run of {name} is another one than was shown", hint="qmigrate status")
        if run.leased:
            paces.pace(site.acting(request), name, "stop", expected=run.id)
        return _asked(site, request, form, "abort", {"collection": name, "run": run.id})


def _jobs(router: APIRouter, site: Site) -> None:
    """What was asked for, and what becomes of it."""

    @router.get("/jobs", dependencies=[site.allows("viewer")])
    def every(request: Request) -> Response:
        return site.render(request, "jobs.html", title="Jobs", jobs=jobs.jobs(site.settings).rows)

    @router.get("/jobs/{identifier}", dependencies=[site.allows("viewer")])
    def one(request: Request, identifier: str) -> Response:
        return site.render(request, "job.html", title="Job", job=jobs.job(site.settings, identifier), own=OWN)

    @router.post("/jobs/{identifier}/cancel", dependencies=[site.takes("operator")])
    def cancel(request: Request, identifier: str) -> Response:
        jobs.cancel(site.acting(request), identifier)
        return site.done(request, "/jobs", identifier, said="It stops at its next checkpoint, or doesn't begin.")


def digest(shown: Any) -> str:
    """A digest of what a person was shown."""
    return hashlib.sha256(json.dumps(to_plain(_steady(shown)), sort_keys=True, default=str).encode()).hexdigest()[:32]


def _steady(shown: Any) -> Any:
    """Without what changes by itself from one look to the next: estimates and counts."""
    if not isinstance(shown, Plan):
        return shown
    return [[item.job.to_json(), list(item.incompatible), item.holds] for item in shown.collections]


def _check_seen(form: Form, shown: Any) -> None:
    """Stop where what would be done is not what was shown.

    Raises:
        RefusedError: exit code 10, as for any plan that has moved.
    """
    if form.text("seen") != digest(shown):
        raise RefusedError(
            "what would be done now is not what was shown: it has changed since",
            hint="go back, and read it again; in a terminal: qmigrate plan",
        )


def _gaps(made: Plan) -> list[str]:
    """Collections whose name is taken away for a moment."""
    return [
        item.job.collection
        for item in made.collections
        if any(isinstance(step, GoLive) and step.place == "gap" for step in item.job.steps)
    ]


def _asked(site: Site, request: Request, form: Form, kind: str, arguments: dict[str, Any]) -> Response:
    """Ask for the job; a form that is sent twice asks for one."""
    given = {name: value for name, value in arguments.items() if value not in (None, False)}
    found, new = jobs.submit(site.acting(request), kind, given, key=form.text("key") or None)
    said = f"Asked for: {_words(kind, given)}." if new else "This was asked for already."
    return site.done(request, "/jobs", found.id, said=said)


def _words(kind: str, given: dict[str, Any]) -> str:
    names: Sequence[str] = given.get("names") or given.get("only") or ()
    what = counted(len(names), "collection") if len(names) > 1 else "".join(names) or given.get("collection", "")
    return f"{kind} {given.get('target', '')} {what}".strip()


def _rate(form: Form) -> float | None:
    given = form.text("rate")
    if not given:
        return None
    try:
        return float(given.replace(",", ""))
    except ValueError:
        raise UsageError(f"a rate is a number of points per second, not {given!r}") from None
