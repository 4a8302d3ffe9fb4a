"""The contract for vectors, version 1.2.0: deletions, retraining, directories, orphans and reset over HTTP.

Each endpoint stands for a preset of the settings, or for a verb; none selects points by itself. The older paths
(``/sessions/{id}/vectors``, ``/vectors/cleanup``, ``DELETE /vectors/reset``) are answered by the same functions.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from datetime import UTC, datetime
from typing import Annotated, Any

from fastapi import APIRouter, Body, HTTPException, Query, Request, Response
from fastapi.params import Depends
from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

from qmigrate import scratch
from qmigrate.commands import fix, presets, reset, retrain, stats
from qmigrate.commands.missing_rows import function_of, handed
from qmigrate.commands.names import ALL
from qmigrate.commands.run_fixes import Done
from qmigrate.console.problems import VerbRoute
from qmigrate.errors import ConfigError, PointsNotFoundError
from qmigrate.settings.load import Settings

VERSION = "1.2.0"
#: Who calls, as a request has it: set by what logs callers in.
Actor = Callable[[Request], str | None]


class _Body(BaseModel):
    """camelCase on the wire; snake_case is taken, too."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True)


class DeleteByDirectoryRequest(_Body):
    """Points in a folder are to be deleted."""

    path_prefix: str = Field(min_length=1, description="Directory, for example /photos/2024/")
    deletion_reason: str | None = Field(None, description="Why, for the audit")
    confirm: bool = Field(description="Must be true to confirm deletion")


class DeletedResponse(_Body):
    """What was deleted."""

    deleted_count: int
    path_prefix: str
    log_id: int | None = Field(description="Its number in the audit: qmigrate fix undo takes it")


class RetrainDirectoryRequest(_Body):
    """Points in a folder are to be made again."""

    path_prefix: str = Field(min_length=1)
    category_id: int
    deletion_reason: str | None = None
    confirm: bool = Field(description="Must be true to confirm")


class RetrainDirectoryResponse(_Body):
    """What was deleted, marked and queued."""

    deleted_count: int
    job_id: str
    sessions_reset: int


class DirectoryStatusResponse(_Body):
    """One directory."""

    path: str
    vector_count: int
    session_count: int
    last_trained_at: str | None = None


class CleanupOrphansRequest(_Body):
    """Points without a row are to be deleted."""

    confirm: bool = Field(description="Must be true to confirm")
    deletion_reason: str | None = None


class CleanupOrphansResponse(_Body):
    """What had no row."""

    deleted_count: int
    orphan_asset_ids: list[str]


class ResetCollectionRequest(_Body):
    """All points are to go."""

    confirm: bool = Field(description="Must be true to confirm")
    confirmation_text: str = Field(description=f"Must exactly match '{reset.PHRASE}'")
    deletion_reason: str | None = None


class ResetCollectionResponse(_Body):
    """What a reset has left behind."""

    deleted_count: int
    message: str


def vectors_router(
    settings: Settings, *, actor: Actor | None = None, dependencies: Sequence[Depends] = ()
) -> APIRouter:
    """The endpoints, to be included in an application of FastAPI.

    ``app.include_router(vectors_router(settings), prefix="/api/v1")``. Who may call them is up to the application:
    give its dependencies.

    Args:
        settings: of qmigrate; ``console`` has what the endpoints stand for.
        actor: who calls, for the records; by default the settings' actor.
        dependencies: of every endpoint, as ``[Depends(logged_in)]``.
    """
    router = APIRouter(route_class=VerbRoute, dependencies=list(dependencies))
    calls = _Calls(settings, actor or (lambda _: None))
    _deletions(router, calls)
    _others(router, calls)
    _older(router, calls)
    return router


def _deletions(router: APIRouter, calls: _Calls) -> None:
    tags: list[Any] = ["Vector Management"]

    @router.delete("/vectors/by-directory", response_model=DeletedResponse, tags=tags)
    def delete_by_directory(request: Request, body: Annotated[DeleteByDirectoryRequest, Body()]) -> DeletedResponse:
        """Delete the vectors in a directory."""
        _confirmed(body.confirm, "Must confirm deletion by setting confirm=true")
        return calls.delete(request, "directory", body.path_prefix, body.path_prefix, body.deletion_reason)

    @router.delete("/vectors/by-asset/{asset_id}", status_code=204, tags=tags)
    def delete_by_asset(request: Request, asset_id: str) -> Response:
        """Delete the vectors of one asset. It needs no confirmation."""
        if not calls.delete(request, "asset", typed(asset_id), asset_id, None).deleted_count:
            raise HTTPException(404, f"No vectors found for asset {asset_id}")
        return Response(status_code=204)

    @router.delete("/vectors/by-session/{session_id}", response_model=DeletedResponse, tags=tags)
    def delete_by_session(request: Request, session_id: int, confirm: bool = False) -> DeletedResponse:
        """Delete the vectors of a training session."""
        _confirmed(confirm, "Must confirm deletion with ?confirm=true")
        return calls.delete(request, "session", session_id, f"session_{session_id}", None)

    @router.delete("/vectors/by-category/{category_id}", response_model=DeletedResponse, tags=tags)
    def delete_by_category(request: Request, category_id: int, confirm: bool = False) -> DeletedResponse:
        """Delete the vectors of a category."""
        _confirmed(confirm, "Must confirm deletion with ?confirm=true")
        return calls.delete(request, "category", category_id, f"category_{category_id}", None)


def _others(router: APIRouter, calls: _Calls) -> None:
    tags: list[Any] = ["Vector Management"]

    @router.post("/vectors/retrain", response_model=RetrainDirectoryResponse, tags=tags)
    def retrain_directory(request: Request, body: RetrainDirectoryRequest) -> RetrainDirectoryResponse:
        """Delete the vectors in a directory, mark its sessions, and queue its training."""
        _confirmed(body.confirm, "Must confirm retraining by setting confirm=true")
        return calls.retrain(request, body)

    @router.get("/vectors/directories/status", response_model=list[DirectoryStatusResponse], tags=tags)
    def directory_status() -> list[DirectoryStatusResponse]:
        """Directories with their vectors, their sessions and when they were last trained."""
        return calls.directories()

    @router.post("/vectors/cleanup-orphans", response_model=CleanupOrphansResponse, tags=tags)
    def cleanup_orphans(request: Request, body: CleanupOrphansRequest) -> CleanupOrphansResponse:
        """Delete the vectors whose row is gone."""
        _confirmed(body.confirm, "Must confirm cleanup by setting confirm=true")
        return calls.orphans(request, body.deletion_reason)

    @router.post("/vectors/reset", response_model=ResetCollectionResponse, tags=tags)
    def reset_collection(request: Request, body: ResetCollectionRequest) -> ResetCollectionResponse:
        """Start over with an empty collection; what was there is kept until it is collected, and can be undone."""
        _confirmed(body.confirm, "Must confirm reset by setting confirm=true")
        if body.confirmation_text != reset.PHRASE:
            raise HTTPException(400, f"confirmationText must exactly match '{reset.PHRASE}'")
        left = calls.reset(request, body.deletion_reason)
        message = f"Successfully deleted {left} vectors and reset collection"
        return ResetCollectionResponse(deleted_count=left, message=message)


def _older(router: APIRouter, calls: _Calls) -> None:
    tags: list[Any] = ["Vector Management, older paths"]

    @router.delete("/sessions/{session_id}/vectors", status_code=204, tags=tags)
    def delete_session_vectors(request: Request, session_id: int) -> Response:
        """Delete the vectors of a training session; its rows stay."""
        calls.delete(request, "session", session_id, f"session_{session_id}", None)
        return Response(status_code=204)

    @router.post("/vectors/cleanup", tags=tags)
    def cleanup_orphaned_vectors(request: Request) -> dict[str, int]:
        """Delete the vectors whose row is gone."""
        return {"deleted": calls.orphans(request, None).deleted_count}

    @router.delete("/vectors/reset", status_code=204, tags=tags)
    def reset_vectors(
        request: Request, confirm: Annotated[bool, Query(description="Must be true to confirm deletion")]
    ) -> Response:
        """Start over with an empty collection."""
        _confirmed(confirm, "Must confirm deletion with ?confirm=true")
        calls.reset(request, None)
        return Response(status_code=204)

    @router.delete("/sessions/{session_id}", status_code=204, tags=tags)
    def delete_session(request: Request, session_id: int, delete_vectors: bool = True) -> Response:
        """Delete a training session, and by default its vectors before it."""
        gone = calls.of_application("delete_session")
        if delete_vectors:
            calls.delete(request, "session", session_id, f"session_{session_id}", None)
        if not gone(session_id):
            raise HTTPException(404, f"Training session {session_id} not found")
        return Response(status_code=204)


class _Calls:
    """What the endpoints have in common: the verb, its preset, the actor and the reason."""

    def __init__(self, settings: Settings, actor: Actor) -> None:
        self._settings, self._actor = settings, actor

    def delete(self, request: Request, endpoint: str, value: Any, shown: str, reason: str | None) -> DeletedResponse:
        """Delete what a preset selects; none is there: 0 points, which is recorded, too."""
        name = self._preset(endpoint)
        operation = presets.preset(self._settings, name, {"value": value}, reason=self._reason(request, name, reason))
        try:
            # Whose points are meant the preset says.
            result = fix.fix(self._for(request), operation, tenant=ALL)
        except PointsNotFoundError:
            return DeletedResponse(deleted_count=0, path_prefix=shown, log_id=None)
        return DeletedResponse(deleted_count=result.changed, path_prefix=shown, log_id=_newest(result.done))

    def retrain(self, request: Request, body: RetrainDirectoryRequest) -> RetrainDirectoryResponse:
        """Delete, mark, and queue: by the preset, and by the function of the settings where there is one."""
        name = self._preset("retrain")
        queue = self.of_application("queue") if self._settings.console.queue else None
        given = {"category_id": body.category_id}
        taken = presets.parameters_of(self._settings, name)
        reason = self._reason(request, name, body.deletion_reason)
        wish = retrain.Wish(name, [body.path_prefix], {key: given[key] for key in given if key in taken}, reason)
        result = retrain.retrain(self._for(request), wish)
        newest = result.values[-1] if result.values else None
        rows = newest.rows if newest is not None else {}
        job = None
        if queue is not None:
            job = queue(path_prefix=body.path_prefix, category_id=body.category_id, reason=reason)
        return RetrainDirectoryResponse(
            deleted_count=result.deleted,
            job_id=str(job if job is not None else f"retrain-{newest.log if newest is not None else 0}"),
            sessions_reset=max(0, rows.get(self._settings.console.sessions, 0)),
        )

    def directories(self) -> list[DirectoryStatusResponse]:
        """Counts of the collection, and next to them what SQL has of each directory."""
        console = self._settings.console
        query = console.directories
        joined: dict[str, Any] = {}
        if query is not None:
            joined = {"sql": query.sql, "key": query.key, "database": query.database}
        found = stats.stats(self._settings, self._collection(), stats.Wanted(paths=console.paths), **joined)
        groups = sorted(found.grouped[0].groups, key=lambda group: str(group.value))
        return [
            DirectoryStatusResponse(
                path=f"{str(group.value).rstrip('/')}/",
                vector_count=group.points,
                session_count=int(group.columns.get("session_count") or 0),
                last_trained_at=_moment(group.columns.get("last_trained_at")),
            )
            for group in groups
        ]

    def orphans(self, request: Request, reason: str | None) -> CleanupOrphansResponse:
        """Delete points without a row, and tell their ids. It takes as long as the preset's ``grace``."""
        name = self._preset("orphans")
        wish = presets.orphan_preset(self._settings, name, {}, reason=self._reason(request, name, reason))
        taker = function_of(wish.missing_call) if wish.missing_call else None
        with ExitStack() as stack:
            ids = stack.enter_context(scratch.own_folder()) / "ids.jsonl"
            narrow = fix.Narrow(missing_to=wish.missing, missing_table=wish.missing_table, ids_to=str(ids))
            wanted = stack.enter_context(handed(narrow, taker))
            result = fix.fix(self._for(request), wish.operation, narrow=wanted, tenant=ALL)
            lines = ids.read_text(encoding="utf-8").splitlines() if ids.exists() else []
        gone = [str(found["id"] if isinstance(found, Mapping) else found) for found in map(json.loads, lines)]
        return CleanupOrphansResponse(deleted_count=result.changed, orphan_asset_ids=gone)

    def reset(self, request: Request, reason: str | None) -> int:
        """Start over; how many points were left behind."""
        name, said = self._collection(), reason or _endpoint(request)
        there = reset.review(self._settings, name, reason=said).points
        done = reset.reset(self._for(request), name, reason=said, expect=there, confirm=reset.PHRASE)
        return done.left

    def of_application(self, name: str) -> Callable[..., Any]:
        """A function of the application, as the settings name it.

        Raises:
            HTTPException: 501: none is named.
        """
        spec = getattr(self._settings.console, name)
        if spec is None:
            raise HTTPException(501, f"console.{name} of the settings names no function")
        return function_of(spec)

    def _preset(self, endpoint: str) -> str:
        name = self._settings.console.presets.get(endpoint)
        if name is None:
            raise HTTPException(501, f"console.presets.{endpoint} of the settings names no preset")
        return name

    def _collection(self) -> str:
        name = self._settings.console.collection
        if name is None:
            raise ConfigError("console.collection names no collection", hint="console: {collection: NAME}")
        return name

    def _reason(self, request: Request, name: str, given: str | None) -> str:
        """What was given, else the preset's, else which endpoint was called."""
        entry = self._settings.fixes.presets.get(name)
        return given or (isinstance(entry, Mapping) and entry.get("reason")) or _endpoint(request)

    def _for(self, request: Request) -> Settings:
        return self._settings.acting(self._actor(request), {"endpoint": _endpoint(request)})


def typed(value: str) -> int | str:
    """A value of a path: a number where it is written as one, a text in quotes, and any other text as it stands."""
    if value == "0" or (value.isascii() and value.lstrip("-").isdigit() and not value.lstrip("-").startswith("0")):
        return int(value)
    if len(value) > 1 and value[0] == value[-1] == '"':
        return value[1:-1]
    return value


def _confirmed(confirm: bool, detail: str) -> None:
    if not confirm:
        raise HTTPException(400, detail)


def _endpoint(request: Request) -> str:
    return f"{request.method} {request.url.path}"


def _newest(done: Sequence[Done]) -> int | None:
    return next((one.log for one in reversed(done) if one.log is not None), None)


def _moment(value: Any) -> str | None:
    """ISO 8601 in UTC, as the contract has it; a text of the database as it is."""
    if isinstance(value, datetime):
        aware = value if value.tzinfo else value.replace(tzinfo=UTC)
        return aware.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
    return None if value is None else str(value)

