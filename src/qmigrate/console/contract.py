"""The contract for vectors, version 1.2.0: deletions, retraining, directories, orphans and reset over HTTP.

Each endpoint stands for a preset of the settings, or for a verb; none selects points by itself. The older paths
(``/sessions/{id}/vectors``, ``/vectors/cleanup``, ``DELETE /vectors/reset``) are answered by the same functions.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Annotated, Any

from fastapi import APIRouter, Body, HTTPException, Query, Request, Response
from fastapi.params import Depends
from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

from qmigrate.commands import vectors
from qmigrate.commands.reset import PHRASE
from qmigrate.console.access import called
from qmigrate.console.background import ACCEPTED, Actor, Background
from qmigrate.console.problems import VerbRoute
from qmigrate.model.approval import APPLICATION
from qmigrate.settings.load import Settings

VERSION = "1.2.0"


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
    """Points in a folder are to be embedded again."""

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
    confirmation_text: str = Field(description=f"Must exactly match '{PHRASE}'")
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
    give its dependencies. With ``Prefer: respond-async`` they answer with a job, which a worker does:
    ``qmigrate worker``.

    Args:
        settings: of qmigrate; ``console`` has what the endpoints stand for.
        actor: who calls, for the records; by default the settings' actor.
        dependencies: of every endpoint, as ``[Depends(logged_in)]``.
    """
    router = APIRouter(route_class=VerbRoute, dependencies=list(dependencies))
    if actor is not None and settings.called.proven is None:
        settings = settings.called_by(APPLICATION)
    background = Background(settings, actor)
    _deletions(router, settings, background)
    _others(router, settings, background)
    _older(router, settings, background)
    return router


def _deletions(router: APIRouter, settings: Settings, background: Background) -> None:
    tags: list[Any] = ["Vector Management"]

    def delete(request: Request, endpoint: str, value: Any, shown: str, reason: str | None = None) -> Any:
        said = vectors.reason_of(settings, endpoint, reason, called(request))
        given = {"endpoint": endpoint, "value": value, "reason": said}
        if later := background.asked(request, "delete", given):
            return later
        done = vectors.delete(background.acting(request, "delete", given), endpoint, value, reason=said)
        return DeletedResponse(deleted_count=done.deleted, path_prefix=shown, log_id=done.log)

    @router.delete("/vectors/by-directory", response_model=DeletedResponse, responses=ACCEPTED, tags=tags)
    def delete_by_directory(request: Request, body: Annotated[DeleteByDirectoryRequest, Body()]) -> Any:
        """Delete the vectors in a directory."""
        _confirmed(body.confirm, "Must confirm deletion by setting confirm=true")
        return delete(request, "directory", body.path_prefix, body.path_prefix, body.deletion_reason)

    @router.delete("/vectors/by-asset/{asset_id}", status_code=204, responses=ACCEPTED, tags=tags)
    def delete_by_asset(request: Request, asset_id: str) -> Response:
        """Delete the vectors of one asset. It needs no confirmation."""
        given = {"endpoint": "asset", "value": typed(asset_id), "reason": called(request)}
        if later := background.asked(request, "delete", given):
            return later
        acting = background.acting(request, "delete", given)
        found = vectors.delete(acting, "asset", given["value"], reason=called(request))
        if not found.deleted:
            raise HTTPException(404, f"No vectors found for asset {asset_id}")
        return Response(status_code=204)

    @router.delete(
        "/vectors/by-session/{session_id}", response_model=DeletedResponse, responses=ACCEPTED, tags=tags
    )
    def delete_by_session(request: Request, session_id: int, confirm: bool = False) -> Any:
        """Delete the vectors of a training session."""
        _confirmed(confirm, "Must confirm deletion with ?confirm=true")
        return delete(request, "session", session_id, f"session_{session_id}")

    @router.delete(
        "/vectors/by-category/{category_id}", response_model=DeletedResponse, responses=ACCEPTED, tags=tags
    )
    def delete_by_category(request: Request, category_id: int, confirm: bool = False) -> Any:
        """Delete the vectors of a category."""
        _confirmed(confirm, "Must confirm deletion with ?confirm=true")
        return delete(request, "category", category_id, f"category_{category_id}")


def _others(router: APIRouter, settings: Settings, background: Background) -> None:
    tags: list[Any] = ["Vector Management"]

    @router.post("/vectors/retrain", response_model=RetrainDirectoryResponse, responses=ACCEPTED, tags=tags)
    def retrain_directory(request: Request, body: RetrainDirectoryRequest) -> Any:
        """Delete the vectors in a directory, mark its sessions, and queue its training."""
        _confirmed(body.confirm, "Must confirm retraining by setting confirm=true")
        said = vectors.reason_of(settings, "retrain", body.deletion_reason, called(request))
        given = {"path_prefix": body.path_prefix, "category_id": body.category_id, "reason": said}
        if later := background.asked(request, "retrain", given):
            return later
        acting = background.acting(request, "retrain", given)
        done = vectors.retrain_directory(acting, body.path_prefix, body.category_id, reason=said)
        return RetrainDirectoryResponse(deleted_count=done.deleted, job_id=done.job, sessions_reset=done.sessions)

    @router.get("/vectors/directories/status", response_model=list[DirectoryStatusResponse], tags=tags)
    def directory_status() -> Any:
        """Directories with their vectors, their sessions and when they were last trained."""
        return [
            DirectoryStatusResponse(
                path=one.path,
                vector_count=one.vectors,
                session_count=one.sessions,
                last_trained_at=one.last_trained_at,
            )
            for one in vectors.directories(settings)
        ]

    @router.post("/vectors/cleanup-orphans", response_model=CleanupOrphansResponse, responses=ACCEPTED, tags=tags)
    def cleanup_orphans(request: Request, body: CleanupOrphansRequest) -> Any:
        """Delete the vectors whose row is gone. It takes as long as the `grace` of its preset."""
        _confirmed(body.confirm, "Must confirm cleanup by setting confirm=true")
        said = vectors.reason_of(settings, "orphans", body.deletion_reason, called(request))
        given = {"reason": said}
        if later := background.asked(request, "orphans", given):
            return later
        done = vectors.delete_orphans(background.acting(request, "orphans", given), reason=said)
        return CleanupOrphansResponse(deleted_count=done.deleted, orphan_asset_ids=list(done.ids))

    @router.post("/vectors/reset", response_model=ResetCollectionResponse, responses=ACCEPTED, tags=tags)
    def reset_collection(request: Request, body: ResetCollectionRequest) -> Any:
        """Start over with an empty collection; what was there is kept until it is collected, and can be undone."""
        _confirmed(body.confirm, "Must confirm reset by setting confirm=true")
        if body.confirmation_text != PHRASE:
            raise HTTPException(400, f"confirmationText must exactly match '{PHRASE}'")
        said = body.deletion_reason or called(request)
        given = {"reason": said}
        if later := background.asked(request, "reset", given):
            return later
        left = vectors.delete_all(background.acting(request, "reset", given), reason=said).deleted
        message = f"Successfully deleted {left} vectors and reset collection"
        return ResetCollectionResponse(deleted_count=left, message=message)


def _older(router: APIRouter, settings: Settings, background: Background) -> None:
    tags: list[Any] = ["Vector Management, older paths"]

    @router.delete("/sessions/{session_id}/vectors", status_code=204, responses=ACCEPTED, tags=tags)
    def delete_session_vectors(request: Request, session_id: int) -> Response:
        """Delete the vectors of a training session; its rows stay."""
        said = vectors.reason_of(settings, "session", None, called(request))
        given = {"endpoint": "session", "value": session_id, "reason": said}
        if later := background.asked(request, "delete", given):
            return later
        vectors.delete(background.acting(request, "delete", given), "session", session_id, reason=said)
        return Response(status_code=204)

    @router.post("/vectors/cleanup", response_model=dict[str, int], responses=ACCEPTED, tags=tags)
    def cleanup_orphaned_vectors(request: Request) -> Any:
        """Delete the vectors whose row is gone."""
        said = vectors.reason_of(settings, "orphans", None, called(request))
        if later := background.asked(request, "orphans", {"reason": said}):
            return later
        acting = background.acting(request, "orphans", {"reason": said})
        return {"deleted": vectors.delete_orphans(acting, reason=said).deleted}

    @router.delete("/vectors/reset", status_code=204, responses=ACCEPTED, tags=tags)
    def reset_vectors(
        request: Request, confirm: Annotated[bool, Query(description="Must be true to confirm deletion")]
    ) -> Response:
        """Start over with an empty collection."""
        _confirmed(confirm, "Must confirm deletion with ?confirm=true")
        said = called(request)
        if later := background.asked(request, "reset", {"reason": said}):
            return later
        vectors.delete_all(background.acting(request, "reset", {"reason": said}), reason=said)
        return Response(status_code=204)

    @router.delete("/sessions/{session_id}", status_code=204, responses=ACCEPTED, tags=tags)
    def delete_session(request: Request, session_id: int, delete_vectors: bool = True) -> Response:
        """Delete a training session, and by default its vectors before it."""
        said = vectors.reason_of(settings, "session", None, called(request))
        given = {"session": session_id, "vectors": delete_vectors, "reason": said}
        if later := background.asked(request, "session", given):
            return later
        acting = background.acting(request, "session", given)
        if vectors.delete_session(acting, session_id, vectors=delete_vectors, reason=said) is None:
            raise HTTPException(404, f"Training session {session_id} not found")
        return Response(status_code=204)


def typed(value: str) -> int | str:
    """A value of a path: a number where it is written as one, a text in quotes, and any other text as it stands."""
    if re.fullmatch(r"0|-?[1-9][0-9]{0,18}", value, re.ASCII) or re.fullmatch(r"1[0-9]{19}", value, re.ASCII):
        return int(value)
    if len(value) > 1 and value[0] == value[-1] == '"':
        return value[1:-1]
    return value


def _confirmed(confirm: bool, detail: str) -> None:
    if not confirm:
        raise HTTPException(400, detail)
