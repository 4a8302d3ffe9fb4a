"""What is, over HTTP: collections, plan, history, deletions, schema, drift, metrics. Each answer is a verb's result."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import PlainTextResponse

import qmigrate.commands.history as audit
import qmigrate.commands.metrics as monitoring
import qmigrate.commands.schema as documents
import qmigrate.commands.snapshot as snapshot
import qmigrate.commands.status as state
import qmigrate.commands.upgrade as upgrades
from qmigrate.commands.check import Checked, check
from qmigrate.commands.collection import collection as one_of
from qmigrate.commands.examined import Examination
from qmigrate.commands.gc import GcResult, review
from qmigrate.commands.overview import WayBack
from qmigrate.commands.results import CollectionStatus, History, Snapshots, Status
from qmigrate.console.access import Caller
from qmigrate.console.problems import PlainJson, VerbRoute, of_fields
from qmigrate.console.schemas import answers
from qmigrate.model.names import unknown
from qmigrate.model.plan import Plan
from qmigrate.settings.load import Settings
from qmigrate.text import aware, to_plain

Limit = Annotated[int, Query(ge=1, le=10_000)]


_DELETIONS = answers(audit.Deletions)
_DELETIONS[200]["content"] |= {kind: {"schema": {"type": "string"}} for kind in ("text/csv", "application/jsonl")}


@dataclass(frozen=True, slots=True)
class WholeCollection:
    """One collection.

    Attributes:
        status: as in the list of all.
        generations: those that are kept, and what becomes of them; None where none is under management.
        schema: what it looks like.
        back: where it can return to, until when, and by which command, or why not; what was written since is in
            `status`. None where nothing is applied.
        health: what the newest examination of its vectors has found; None where none was asked for.
    """

    status: CollectionStatus
    generations: GcResult | None
    schema: tuple[documents.Document, ...]
    back: WayBack | None = None
    health: Examination | None = None


def reading_router(settings: Settings) -> APIRouter:
    """Everything that only reads. Answers have the fields of `--json`."""
    router = APIRouter(route_class=VerbRoute)
    _collections(router, settings)
    _records(router, settings)
    return router


def _collections(router: APIRouter, settings: Settings) -> None:
    @router.get("/collections", tags=["State"], responses=answers(Status))
    def collections() -> Any:
        """Every collection: revision, generation, points, state, and the next command."""
        return _json(settings, state.status(settings))

    @router.get("/collections/{name}", tags=["State"], responses=answers(WholeCollection))
    def collection(name: str) -> Any:
        """One collection: generations that are kept, schema, way back, and the health of its vectors."""
        found = state.status(settings)
        row = next((one for one in found.collections if one.name == name), None)
        if row is None:
            raise unknown("collection", name, [one.name for one in found.collections])
        whole = documents.schema(settings, [name])
        if row.state in ("unmanaged", "foreign", "plain"):
            return _json(settings, WholeCollection(row, None, whole.collections))
        seen = one_of(settings, name)
        return _json(settings, WholeCollection(row, review(settings, name), whole.collections, seen.back, seen.vectors))

    @router.get("/schema", tags=["State"], responses=answers(documents.Schemas))
    def schema(revision: str | None = None) -> Any:
        """What every collection looks like; at a revision, as the files declare it."""
        return _json(settings, documents.schema(settings, revision=revision))

    @router.get("/plan", tags=["State"], responses=answers(Plan))
    def plan(request: Request, target: str = "head") -> Any:
        """What an upgrade would do. It writes nothing, and loads models only for an operator."""
        caller: Caller = request.state.caller
        return _json(settings, upgrades.plan(settings, target, models=caller.may("operator")))

    @router.get("/check", tags=["State"], responses=answers(Checked))
    def drift() -> Any:
        """What is live compared with what is recorded."""
        return _json(settings, check(settings))

    @router.get("/snapshots", tags=["State"], responses=answers(Snapshots))
    def snapshots() -> Any:
        """Snapshots of the server, and archives."""
        return _json(settings, snapshot.list_(settings))


def _records(router: APIRouter, settings: Settings) -> None:
    @router.get("/history", tags=["Records"], responses=answers(History))
    def history(collection: str | None = None, limit: Limit = 50) -> Any:
        """What was applied and rolled back, newest first."""
        return _json(settings, state.history(settings, collection, limit))

    @router.get("/deletions", tags=["Records"], responses=_DELETIONS)
    def deletions(
        collection: str | None = None,
        since: datetime | None = None,
        kind: str | None = None,
        target: str | None = None,
        actor: str | None = None,
        limit: Limit = 50,
        offset: Annotated[int, Query(ge=0, le=1_000_000)] = 0,
        form: Annotated[str, Query(alias="format", pattern="^(json|jsonl|csv)$")] = "json",
    ) -> Response:
        """What was deleted and changed on purpose, newest first; `format=csv` for a spreadsheet, or `jsonl`."""
        begin = None if since is None else aware(since)
        whole = audit.deletions(
            settings, collection, since=begin, kind=kind, target=target, actor=actor, limit=limit + offset
        )
        found = audit.Deletions(whole.rows[offset:])
        return _json(settings, found) if form == "json" else exported(found, form)


def exported(found: audit.Deletions, form: str) -> Response:
    """Rows of the audit as a file.

    Args:
        form: ``csv`` or ``jsonl``.
    """
    text, kind = (audit.as_csv(found), "text/csv") if form == "csv" else (audit.as_jsonl(found), "application/jsonl")
    named = {"Content-Disposition": f'attachment; filename="deletions.{form}"'}
    return PlainTextResponse(text, headers=named, media_type=kind)


_OPENMETRICS = "application/openmetrics-text; version=1.0.0; charset=utf-8"
METRICS: dict[int | str, dict[str, Any]] = {
    200: {"description": "OpenMetrics", "content": {_OPENMETRICS: {"schema": {"type": "string"}}}}
}


def metrics_endpoint(settings: Settings) -> Callable[[], Response]:
    """`/metrics`, as OpenMetrics."""

    def metrics() -> Response:
        """Figures for monitoring."""
        text = monitoring.exposition(monitoring.metrics(settings))
        return PlainTextResponse(text, media_type=_OPENMETRICS)

    return metrics


def _json(settings: Settings, result: Any) -> Response:
    return PlainJson(of_fields(to_plain(result), settings.console.fields))
