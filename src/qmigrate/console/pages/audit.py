"""The audit of deletions and fixes: filtered, page by page, and as a file. It shows what `history --deletions` does."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response

import qmigrate.commands.history as audit
from qmigrate.console.pages.site import Site
from qmigrate.console.reading import exported
from qmigrate.settings.load import Settings

#: Rows of a page, and the most of a file.
_ROWS, _ALL = 50, 1_000_000


def audit_routes(site: Site) -> APIRouter:
    """`/audit`, and `/audit/export`."""
    router = site.router()
    viewer = [site.allows("viewer")]

    @router.get("/audit", dependencies=viewer)
    def page(
        request: Request,
        collection: str = "",
        kind: str = "",
        target: str = "",
        actor: str = "",
        since: str = "",
        page: Annotated[int, Query(ge=1, le=100_000)] = 1,
    ) -> Response:
        given = {"collection": collection, "kind": kind, "target": target, "actor": actor, "since": since}
        found = _found(site.settings, given, page * _ROWS + 1)
        rows = found.rows[(page - 1) * _ROWS : page * _ROWS]
        more = len(found.rows) > page * _ROWS
        kept = site.settings.fixes.audit
        facts: dict[str, Any] = {"given": given, "page": page, "more": more, "kept": kept, "notes": found.notes}
        return site.render(request, "audit.html", title="Audit", rows=rows, **facts)

    @router.get("/audit/export", dependencies=viewer)
    def export(
        form: Annotated[str, Query(alias="format", pattern="^(csv|jsonl)$")],
        collection: str = "",
        kind: str = "",
        target: str = "",
        actor: str = "",
        since: str = "",
    ) -> Response:
        given = {"collection": collection, "kind": kind, "target": target, "actor": actor, "since": since}
        return exported(_found(site.settings, given, _ALL), form)

    return router


def _found(settings: Settings, given: dict[str, str], limit: int) -> audit.Deletions:
    """Rows that fit; an empty field of the form asks for nothing."""
    wanted: dict[str, Any] = {name: value.strip() or None for name, value in given.items()}
    wanted["since"] = _day(wanted["since"])
    return audit.deletions(settings, wanted.pop("collection"), limit=limit, **wanted)


def _day(said: str | None) -> datetime | None:
    """The beginning of a day in UTC; None where it is none, which filters nothing."""
    try:
        return datetime.fromisoformat(said or "").replace(tzinfo=UTC)
    except ValueError:
        return None
