"""Collections: the list, and all of one. They show what `overview` and `collection` answer."""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping, Sequence
from typing import Any

from fastapi import APIRouter, Request, Response

import qmigrate.commands.collection as one
import qmigrate.commands.jobs as jobs
import qmigrate.commands.status as state
from qmigrate.commands.examined import KIND
from qmigrate.console.pages.site import Site, form_of
from qmigrate.console.plots import HEIGHT, WIDTH, points_by_day
from qmigrate.ledger.summary import Day


def collection_routes(site: Site) -> APIRouter:
    """`/collections`."""
    router = site.router()

    @router.get("/collections", dependencies=[site.allows("viewer")])
    def collections(request: Request) -> Response:
        found = state.status(site.settings)
        return site.render(request, "collections.html", title="Collections", found=found)

    @router.get("/collections/{name:path}", dependencies=[site.allows("viewer")])
    def collection(request: Request, name: str) -> Response:
        found = one.collection(site.settings, name)
        schema = found.document.schema if found.document is not None else None
        return site.render(
            request,
            "collection.html",
            title=name,
            found=found,
            vectors=_vectors(schema) if schema is not None else [],
            once=secrets.token_hex(16),
            kept=site.settings.console.keep_jobs,
            config=_flat(schema.config) if schema is not None else [],
            by_day=_with_changes(found.days),
            drawings=points_by_day(found.days),
            width=WIDTH,
            height=HEIGHT,
        )

    @router.post("/examine", dependencies=[site.takes("operator")])
    def examine(request: Request) -> Response:
        form = form_of(request)
        name = form.text("name")
        # It has to be one: a job would find that out much later.
        one.collection(site.settings, name)
        jobs.submit(site.acting(request), KIND, {"collection": name}, key=form.text("key") or None)
        return site.done(request, "/collections", name, said="A job examines its vectors.")

    return router


def _with_changes(days: Sequence[Day]) -> list[tuple[Day, int | None]]:
    """Each day, newest first, with how many more points there are than when they were counted before."""
    found: list[tuple[Day, int | None]] = []
    before: int | None = None
    for day in days:
        more = day.points - before if day.points is not None and before is not None else None
        found.append((day, more))
        before = before if day.points is None else day.points
    return found[::-1]


def _vectors(schema: Any) -> list[tuple[str, str, Any, Any, str]]:
    """Name, kind, size, distance, further parameters."""
    found = []
    for name, params in schema.vectors.items():
        rest = {key: value for key, value in params.items() if key not in ("size", "distance")}
        kind = "multivector" if rest.pop("multivector_config", None) else "dense"
        found.append((name or "(unnamed)", kind, params.get("size"), params.get("distance"), _words(rest)))
    found += [(name, "sparse", None, None, _words(params)) for name, params in schema.sparse.items()]
    return found


def _words(params: Mapping[str, Any]) -> str:
    return ", ".join(f"{path} {value}" for path, value in _flat(params))


def _flat(values: Mapping[str, Any], before: str = "") -> list[tuple[str, str]]:
    """Path and value, as people write them."""
    found: list[tuple[str, str]] = []
    for key, value in values.items():
        if value is None:
            continue
        if isinstance(value, Mapping):
            found += _flat(value, f"{before}{key}.")
        else:
            found.append((f"{before}{key}", value if isinstance(value, str) else json.dumps(value, default=str)))
    return found
