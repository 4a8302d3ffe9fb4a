"""Directories, points without a row, and starting over: what the contract's endpoints do, inspected first. Verbs do it.

Whatever takes points away is a job: the page says what would go, takes the consent, and shows the job afterwards.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from fastapi import APIRouter, HTTPException, Request, Response

import qmigrate.commands.jobs as jobs
import qmigrate.commands.vectors as vectors
from qmigrate.commands.reset import PHRASE
from qmigrate.console.access import Caller
from qmigrate.console.pages.site import Form, Site, form_of
from qmigrate.errors import NotConfiguredError
from qmigrate.ledger.job_queue import QueuedJob
from qmigrate.settings.load import Settings

#: Rows of the tree; with more, a part of it has to be chosen.
MOST = 500
#: Jobs that are shown, the newest ones.
_JOBS = 8
#: Longest reason, in characters.
_REASON = 2000


@dataclass(frozen=True, slots=True)
class _Action:
    """Something that takes points away.

    Attributes:
        title: of its page.
        button: what is pressed.
        type: as the audit has it.
        review: what it would do.
        kind: of its job.
        arguments: of the job, but for the reason.
        endpoint: of the settings, whose preset has a reason of its own.
    """

    title: str
    button: str
    type: str
    review: Callable[[Settings, str, str], vectors.VectorsReview]
    kind: str
    arguments: Callable[[str, Form], Mapping[str, Any]]
    endpoint: str


#: By the last part of the path. The second argument of a review is the directory, the third the category.
ACTIONS = {
    "delete": _Action(
        "Delete a directory",
        "Delete",
        "DIRECTORY",
        lambda settings, path, _: vectors.delete_review(
            settings, "directory", path, reason=_looking(settings, "directory")
        ),
        "delete",
        lambda path, _: {"endpoint": "directory", "value": path},
        "directory",
    ),
    "retrain": _Action(
        "Train a directory again",
        "Delete and train again",
        "DIRECTORY",
        lambda settings, path, category: vectors.retrain_review(
            settings, path, _category(category or "0"), reason=_looking(settings, "retrain")
        ),
        "retrain",
        lambda path, form: {"path_prefix": path, "category_id": _category(form.text("category"))},
        "retrain",
    ),
    "orphans": _Action(
        "Points without a row",
        "Delete them",
        "ORPHAN",
        lambda settings, _path, _: vectors.orphans_review(settings, reason=_looking(settings, "orphans")),
        "orphans",
        lambda _path, _form: {},
        "orphans",
    ),
    "reset": _Action(
        "Start over with an empty collection",
        "Leave all points behind",
        "FULL_RESET",
        lambda settings, _path, _: vectors.reset_review(settings, reason=_looking(settings, "reset")),
        "reset",
        lambda _path, _form: {},
        "reset",
    ),
}
_OF_A_PATH = frozenset({"delete", "retrain"})


def directory_routes(site: Site) -> APIRouter:
    """`/directories` and what belongs to it."""
    router = site.router()
    viewer, operator = [site.allows("viewer")], [site.allows("operator")]

    @router.get("/directories", dependencies=viewer)
    def page(request: Request, below: str = "") -> Response:
        try:
            found = vectors.folders(vectors.directories(site.settings), below)
        except NotConfiguredError as error:
            return site.render(request, "directories.html", title="Directories", missing=error, **_nothing())
        facts: dict[str, Any] = {
            "collection": vectors.collection_of(site.settings),
            "folders": found[:MOST],
            "left_out": max(0, len(found) - MOST),
            "total": sum(one.vectors for one in found),
            "below": below,
            "buttons": _buttons(site.settings, request.state.caller),
            "can": {name for name in ACTIONS if _is_there(site.settings, name)},
            "jobs": _recent(site.settings),
        }
        return site.render(request, "directories.html", title="Directories", missing=None, **facts)

    @router.get("/directories/{action}", dependencies=operator)
    def ask(request: Request, action: str, path: str = "", category: str = "") -> Response:
        chosen = _chosen(action, path)
        found = chosen.review(site.acting(request), path, category)
        facts: dict[str, Any] = {"action": action, "chosen": chosen, "target": path, "found": found, "phrase": PHRASE}
        caller: Caller = request.state.caller
        facts |= {"category": category, "reason": _reason(site.settings, chosen), "user": caller.user}
        facts |= {"once": secrets.token_urlsafe(16), "shown": json.dumps(dict(found.by_collection))}
        return site.render(request, "directory_action.html", title=chosen.title, **facts)

    @router.post("/directories/{action}", dependencies=[site.takes("operator")])
    def act(request: Request, action: str) -> Response:
        form = form_of(request)
        path = form.text("path")
        chosen = _chosen(action, path)
        reason = form.text("reason")
        if not reason or len(reason) > _REASON:
            said = f"say why, in up to {_REASON:,} characters: the audit keeps it; nothing was changed"
            raise HTTPException(400, said)
        if action == "reset" and form.text("phrase") != PHRASE:
            raise HTTPException(400, f"type {PHRASE} for it; nothing was changed")
        if action != "reset" and not form.ticked("seen"):
            raise HTTPException(400, "tick that you have checked what would go; nothing was changed")
        # A form that is sent twice is one job.
        arguments = {**chosen.arguments(path, form), **_agreed(action, form), "reason": reason}
        job, _ = jobs.submit(site.acting(request), chosen.kind, arguments, key=form.text("once") or None)
        return site.done(request, "/directories", said=f"Job {job.id} does it: {chosen.title.lower()}.")

    return router


def _nothing() -> dict[str, Any]:
    empty: dict[str, Any] = {"collection": None, "folders": [], "left_out": 0, "total": 0, "below": ""}
    return {**empty, "can": set(), "jobs": [], "buttons": []}


def _buttons(settings: Settings, caller: Caller) -> list[tuple[str, str]]:
    """What each directory offers to a caller."""
    words = (("delete", "Delete"), ("retrain", "Train again"))
    return [(name, word) for name, word in words if caller.may("operator") and _is_there(settings, name)]


def _chosen(action: str, path: str) -> _Action:
    """An action that is there.

    Raises:
        HTTPException: 404: there is none; 400: it needs a directory.
    """
    if action not in ACTIONS:
        raise HTTPException(404, f"there is no {action} here")
    if action in _OF_A_PATH and not path:
        raise HTTPException(400, "no directory is named; nothing was changed")
    return ACTIONS[action]


def _agreed(action: str, form: Form) -> dict[str, Any]:
    """How many points were shown when the form was filled in: the job takes no more, whatever was written since.

    Raises:
        HTTPException: 400: the form doesn't say.
    """
    try:
        found = json.loads(form.text("shown"))
        shown = {str(name): int(count) for name, count in found.items()}
    except (ValueError, TypeError, AttributeError):
        raise HTTPException(400, "the form doesn't say how many points were shown; nothing was changed") from None
    return {"most": shown} if action in ("delete", "orphans") else {"expect": sum(shown.values())}


def _category(said: str) -> int:
    if not said.isdecimal() or len(said) > 18:
        raise HTTPException(400, "the category is a number; nothing was changed")
    return int(said)


def _is_there(settings: Settings, action: str) -> bool:
    return action == "reset" or ACTIONS[action].endpoint in settings.console.presets


def _looking(settings: Settings, endpoint: str) -> str:
    return vectors.reason_of(settings, endpoint, None, "inspected in the console")


def _reason(settings: Settings, chosen: _Action) -> str:
    """What the preset says by itself; a person may say it better."""
    return vectors.reason_of(settings, chosen.endpoint, None, " ").strip()


def _recent(settings: Settings) -> list[QueuedJob]:
    """The newest jobs that take points away or bring them back."""
    kinds = {one.kind for one in ACTIONS.values()} | {"undo", "request"}
    return [one for one in jobs.jobs(settings, limit=50).rows if one.kind in kinds][:_JOBS]
