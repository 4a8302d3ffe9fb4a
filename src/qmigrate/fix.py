"""Data fixes for programs: the engine of ``qmigrate fix``, for a call right after a commit. It decides nothing itself.

::

    from qmigrate import fix

    fix.sync_payload("faces", sql="SELECT id, person_id FROM faces", fields=["person_id"], ids=changed_ids)

Every function that changes something takes ``actor`` (who asks for it, in every record), ``metadata`` (plain JSON of
the caller, for the audit) and, where points are changed one by one, ``max_rate`` (most points per second). ``ids_to``
is a file that gets all ids, as JSON Lines. All take ``settings``, or ``config``: the settings file, by default
``qmigrate.yaml``, or the file that ``QMIGRATE_CONFIG`` names.
All take ``client``, too, the application's own, which is left open: in local mode its folder lets no other client in.
They wait for SQL and Qdrant: an event loop calls them in a thread, ``await asyncio.to_thread(fix.undo, 7)``.
Several threads at once are let in one after the other, for up to ``limits.lock_timeout``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qmigrate.operations.base import Operation
from qmigrate.operations.data import SyncPayload
from qmigrate.operations.deletion import GRACE, DeleteOrphans, DeletePoints

if TYPE_CHECKING:
    import uuid

    from qdrant_client import AsyncQdrantClient, QdrantClient, models

    from qmigrate.commands.fix import Narrow, Review
    from qmigrate.commands.missing_rows import Taker
    from qmigrate.commands.quarantine import Quarantine, Retried
    from qmigrate.commands.reset import ResetResult
    from qmigrate.commands.retrain import RetrainResult
    from qmigrate.commands.run_fixes import FixResult
    from qmigrate.commands.stats import Statistics
    from qmigrate.settings.load import Settings

__all__ = [
    "check_orphans",
    "check_payload",
    "delete_points",
    "orphans",
    "quarantine",
    "reset",
    "retrain",
    "retry_quarantine",
    "run",
    "stats",
    "sync_payload",
    "undo",
    "visible",
]


def sync_payload(  # noqa: PLR0913  the arguments of the operation, and where it runs
    collection: str,
    *,
    sql: str,
    fields: Mapping[str, str] | Sequence[str],
    key: str = "id",
    database: str = "app",
    parameters: Mapping[str, Any] | None = None,
    json: Sequence[str] = (),
    max_share: float | None = None,
    reason: str = "",
    ids: Sequence[int | str | uuid.UUID] | None = None,
    since: tuple[str, datetime] | None = None,
    ids_to: str | Path | None = None,
    max_rate: float | None = None,
    actor: str | None = None,
    metadata: Mapping[str, Any] | None = None,
    client: QdrantClient | AsyncQdrantClient | None = None,
    settings: Settings | None = None,
    config: str | Path | None = None,
) -> FixResult:
    """Make payload fields equal to columns of SQL; see :class:`qmigrate.operations.data.SyncPayload`.

    Args:
        ids: only these points: what was just committed.
        since: (column, moment): only rows that changed.
        settings: those of qmigrate; by default read from `config`.
        config: the settings file; by default ``qmigrate.yaml``, or the file that ``QMIGRATE_CONFIG`` names.

    Returns:
        Counts, and the number for :func:`undo`.

    Raises:
        RefusedError: more would change than the cap allows; nothing was changed.
    """
    import qmigrate.commands.fix as command

    operation = SyncPayload(collection, sql, key, fields, database, parameters or {}, max_share, reason, json)
    found = _settings(settings, config, client, actor, metadata)
    return command.fix(found, operation, narrow=_narrow(ids, since, ids_to), max_rate=max_rate)


def check_payload(  # noqa: PLR0913  the arguments of the operation, and where it runs
    collection: str,
    *,
    sql: str,
    fields: Mapping[str, str] | Sequence[str],
    key: str = "id",
    database: str = "app",
    parameters: Mapping[str, Any] | None = None,
    json: Sequence[str] = (),
    sample: int | None = None,
    ids_to: str | Path | None = None,
    client: QdrantClient | AsyncQdrantClient | None = None,
    settings: Settings | None = None,
    config: str | Path | None = None,
) -> Review:
    """What :func:`sync_payload` would change: exact counts, or those of a sample. It writes nothing."""
    import qmigrate.commands.fix as command

    operation = SyncPayload(collection, sql, key, fields, database, parameters or {}, json=json)
    narrow = command.Narrow(sample=sample, ids_to=_text(ids_to))
    return command.review(_settings(settings, config, client), operation, narrow)


def delete_points(  # noqa: PLR0913  the arguments of the operation, and where it runs
    collection: str,
    *,
    reason: str,
    ids: Sequence[int | str | uuid.UUID] | None = None,
    filter: Any = None,  # noqa: A002  as Qdrant calls it
    prefix: str | None = None,
    field: str = "path",
    sql: str | None = None,
    key: str = "id",
    database: str = "app",
    parameters: Mapping[str, Any] | None = None,
    max_share: float | None = None,
    export: bool = True,
    type: str | None = None,  # noqa: A002  as the audit calls it
    erase: bool = False,
    snapshots: str = "list",
    older_than: Mapping[str, Any] | None = None,
    soft: bool = False,
    flag: str = "deleted",
    tenant: str | int | None = None,
    expect: int | None = None,
    ids_to: str | Path | None = None,
    max_rate: float | None = None,
    actor: str | None = None,
    metadata: Mapping[str, Any] | None = None,
    client: QdrantClient | AsyncQdrantClient | None = None,
    settings: Settings | None = None,
    config: str | Path | None = None,
) -> FixResult:
    """Delete the points that every given condition selects; see :class:`qmigrate.operations.deletion.DeletePoints`.

    Args:
        erase: for good, from every generation and from everything that was kept of them: see
            :func:`qmigrate.commands.erase.erase`. The result's ``erasure`` has what was found where.
        snapshots: with `erase`: ``list`` those on the server that may hold the points, or ``replace`` them by one
            that doesn't.
        tenant: whose points, where ``fixes.tenants`` of the settings names a field; ``*`` for those of all.
        expect: how many points may go, exactly; None leaves it to the cap.

    Returns:
        Counts, and the number for :func:`undo`.

    Raises:
        RefusedError: more would go than `expect` or the cap allow; nothing was deleted.
    """
    import qmigrate.commands.fix as command
    from qmigrate.commands.erase import erase as erase_points

    found = _settings(settings, config, client, actor, metadata)
    operation = DeletePoints(
        # In the order of the operation's own arguments.
        collection, _plain(ids), filter, prefix, field, sql, key, database, parameters or {}, reason, max_share,
        export=export, type=type, older_than=older_than, soft=soft, flag=flag,
    )
    if erase:
        return erase_points(found, operation, expect=expect, snapshots=snapshots, tenant=tenant, max_rate=max_rate)
    narrow = _narrow(None, None, ids_to)
    return command.fix(found, operation, narrow=narrow, expect=expect, tenant=tenant, max_rate=max_rate)


def orphans(  # noqa: PLR0913  the arguments of the operation, and where it runs
    collection: str,
    *,
    sql: str,
    reason: str,
    key: str = "id",
    id_field: str | None = None,
    database: str = "app",
    parameters: Mapping[str, Any] | None = None,
    grace: str | timedelta | float = GRACE,
    max_share: float | None = None,
    export: bool = True,
    expect: int | None = None,
    missing: str | Path | Taker | None = None,
    missing_table: str | None = None,
    tenant: str | int | None = None,
    wait: bool = True,
    ids_to: str | Path | None = None,
    max_rate: float | None = None,
    actor: str | None = None,
    metadata: Mapping[str, Any] | None = None,
    client: QdrantClient | AsyncQdrantClient | None = None,
    settings: Settings | None = None,
    config: str | Path | None = None,
) -> FixResult:
    """Delete the points that have no row; see :class:`qmigrate.operations.deletion.DeleteOrphans`.

    Args:
        grace: between the two looks: a text with a unit, such as ``"15m"`` (the default), or a ``timedelta``.
        expect: how many points may go, exactly; None leaves it to the cap.
        missing: a file for the ids of rows without a point, or a function that gets lists of them at the end.
        missing_table: a table of the database that gets them, each once: ``collection``, ``id``, ``found_at``.
        tenant: whose points may go, where ``fixes.tenants`` of the settings names a field; ``*`` for those of all.
        wait: for the second look; else the first one is kept, and the same call after `grace` continues.
        settings: those of qmigrate; by default read from `config`.
        config: the settings file; by default ``qmigrate.yaml``, or the file that ``QMIGRATE_CONFIG`` names.

    Returns:
        Counts, and the number for :func:`undo`; ``looked`` where it has to be called again.

    Raises:
        RefusedError: more would go than `expect` or the cap allow, or a transaction doesn't end; nothing was deleted.
    """
    import qmigrate.commands.fix as command
    from qmigrate.commands.missing_rows import handed

    found = _settings(settings, config, client, actor, metadata)
    operation = DeleteOrphans(
        collection, sql, key, database, parameters or {}, reason, grace, max_share, export, id_field
    )
    with handed(*_missing(missing, missing_table, ids_to)) as narrow:
        return command.fix(
            found, operation, narrow=narrow, expect=expect, tenant=tenant, max_rate=max_rate, wait=wait
        )


def check_orphans(  # noqa: PLR0913  the arguments of the operation, and where it runs
    collection: str,
    *,
    sql: str,
    key: str = "id",
    id_field: str | None = None,
    database: str = "app",
    parameters: Mapping[str, Any] | None = None,
    sample: int | None = None,
    missing: str | Path | Taker | None = None,
    missing_table: str | None = None,
    ids_to: str | Path | None = None,
    client: QdrantClient | AsyncQdrantClient | None = None,
    settings: Settings | None = None,
    config: str | Path | None = None,
) -> Review:
    """Points without a row, and rows without a point: exact counts, or those of `sample` points and rows at random.

    It changes no point; ids of rows without a point go where `missing` and `missing_table` name, as in :func:`orphans`.
    """
    from dataclasses import replace

    import qmigrate.commands.fix as command
    from qmigrate.commands.missing_rows import handed
    from qmigrate.commands.names import ALL

    operation = DeleteOrphans(
        collection, sql, key, database, parameters or {}, reason="only checked", id_field=id_field
    )
    found = _settings(settings, config, client)
    with handed(*_missing(missing, missing_table, ids_to)) as narrow:
        # A check need not name a tenant.
        return command.review(found, operation, replace(narrow, sample=sample), tenant=ALL)


def stats(  # noqa: PLR0913  what is counted, what stands next to it, and where
    collection: str,
    *,
    fields: Sequence[str] = (),
    folders: str | None = None,
    depth: int | None = None,
    prefix: str | None = None,
    sql: str | None = None,
    key: str | None = None,
    database: str = "app",
    client: QdrantClient | AsyncQdrantClient | None = None,
    settings: Settings | None = None,
    config: str | Path | None = None,
) -> Statistics:
    """Points per value of `fields`, and per folder of the paths in `folders` (``path``, where no field is named).

    Args:
        depth: count by the first parts of a folder.
        prefix: only what lies in this folder.
        sql: a row per folder or value, whose columns are shown next to it.
        key: its column with that; by default the field's name.
    """
    import qmigrate.commands.stats as command
    from qmigrate.commands.stats import Wanted

    if folders is None and (not fields or depth or prefix is not None):
        folders = "path"
    wanted = Wanted(fields, folders, depth, prefix)
    return command.stats(_settings(settings, config, client), collection, wanted, sql=sql, key=key, database=database)


def reset(  # noqa: PLR0913  what is emptied, the consent to it, and where it runs
    collection: str,
    *,
    reason: str,
    expect: int,
    confirm: str,
    actor: str | None = None,
    metadata: Mapping[str, Any] | None = None,
    client: QdrantClient | AsyncQdrantClient | None = None,
    settings: Settings | None = None,
    config: str | Path | None = None,
) -> ResetResult:
    """Start over with an empty collection of the same schema; the points stay in the generation that served until gc.

    Args:
        expect: points that the collection has, exactly.
        confirm: the phrase ``DELETE ALL VECTORS``.

    Returns:
        Where the points are, and the number for :func:`undo`.

    Raises:
        RefusedError: another phrase or number of points; nothing was changed.
    """
    import qmigrate.commands.reset as command

    found = _settings(settings, config, client, actor, metadata)
    return command.reset(found, collection, reason=reason, expect=expect, confirm=confirm)


def retrain(  # noqa: PLR0913  what is trained again, and where it runs
    preset: str,
    values: Sequence[Any],
    *,
    parameters: Mapping[str, Any] | None = None,
    reason: str = "",
    max_share: float | None = None,
    expect: int | None = None,
    allow_unmarked: bool = False,
    max_rate: float | None = None,
    actor: str | None = None,
    metadata: Mapping[str, Any] | None = None,
    client: QdrantClient | AsyncQdrantClient | None = None,
    settings: Settings | None = None,
    config: str | Path | None = None,
) -> RetrainResult:
    """Delete what a preset selects for each value, and mark its rows by the preset's statements.

    Args:
        preset: its name under ``fixes.presets``, with ``mark`` or ``queue``.
        values: of its parameter ``value``; each is deleted, marked and recorded by itself.
        parameters: of its other parameters.
        expect: how many points may go in all, exactly; None leaves it to the cap.
        allow_unmarked: also where points would go and no row would be marked.

    Raises:
        RefusedError: more would go than `expect` or the cap allow, or no row would be marked; nothing was changed.
    """
    import qmigrate.commands.retrain as command

    wish = command.Wish(preset, values, parameters or {}, reason, max_share=max_share, allow_unmarked=allow_unmarked)
    return command.retrain(_settings(settings, config, client, actor, metadata), wish, expect=expect, max_rate=max_rate)


def run(
    *operations: Operation,
    tenant: str | int | None = None,
    max_rate: float | None = None,
    actor: str | None = None,
    metadata: Mapping[str, Any] | None = None,
    client: QdrantClient | AsyncQdrantClient | None = None,
    settings: Settings | None = None,
    config: str | Path | None = None,
) -> FixResult:
    """Do data fixes of ``qmigrate.op``, in this order; each must allow for its cap.

    Args:
        tenant: whose points deletions are about, where ``fixes.tenants`` names a field; ``*`` for those of all.
    """
    import qmigrate.commands.fix as command

    found = _settings(settings, config, client, actor, metadata)
    return command.fix(found, *operations, tenant=tenant, max_rate=max_rate)


def quarantine(
    collection: str | None = None,
    *,
    client: QdrantClient | AsyncQdrantClient | None = None,
    settings: Settings | None = None,
    config: str | Path | None = None,
) -> Quarantine:
    """Points that could not be embedded; see ``qmigrate fix quarantine``."""
    import qmigrate.commands.quarantine as command

    return command.quarantine(_settings(settings, config, client), collection)


def retry_quarantine(
    collection: str | None = None,
    *,
    max_rate: float | None = None,
    actor: str | None = None,
    metadata: Mapping[str, Any] | None = None,
    client: QdrantClient | AsyncQdrantClient | None = None,
    settings: Settings | None = None,
    config: str | Path | None = None,
) -> Retried:
    """Embed them again; what goes well is filled in, what fails again stays listed."""
    import qmigrate.commands.quarantine as command

    return command.retry(_settings(settings, config, client, actor, metadata), collection, max_rate=max_rate)


def undo(
    log: int,
    *,
    overwrite: bool = False,
    max_rate: float | None = None,
    actor: str | None = None,
    metadata: Mapping[str, Any] | None = None,
    client: QdrantClient | AsyncQdrantClient | None = None,
    settings: Settings | None = None,
    config: str | Path | None = None,
) -> FixResult:
    """Undo what a fix has changed; what was changed since stays, unless `overwrite`.

    Args:
        log: its number, as the result of the fix has it.
    """
    import qmigrate.commands.fix as command

    found = _settings(settings, config, client, actor, metadata)
    return command.undo(found, log, overwrite=overwrite, max_rate=max_rate)


def visible(filter: Any = None, *, flag: str = "deleted") -> models.Filter:  # noqa: A002  as Qdrant calls it
    """A filter for readers: without the points that are only marked as deleted.

    A payload index on ``deleted.at`` (``PayloadSchemaType.DATETIME``) makes it cheap.

    Args:
        filter: what else must hold: ``models.Filter``, or the same as JSON.
        flag: payload key of the mark.
    """
    from qmigrate.store import filters

    found: models.Filter = filters.visible(filter, flag)
    return found


def _settings(
    settings: Settings | None,
    config: str | Path | None,
    client: object | None,
    actor: str | None = None,
    metadata: Mapping[str, Any] | None = None,
) -> Settings:
    from qmigrate.settings.load import Settings as Loaded

    return (settings or Loaded.load(config=config)).acting(actor, metadata).with_client(client)


def _missing(
    to: str | Path | Taker | None, table: str | None, ids_to: str | Path | None
) -> tuple[Narrow, Taker | None]:
    from qmigrate.commands.fix import Narrow

    if to is None or isinstance(to, str | Path):
        return Narrow(missing_to=_text(to), missing_table=table, ids_to=_text(ids_to)), None
    return Narrow(missing_table=table, ids_to=_text(ids_to)), to


def _narrow(
    ids: Sequence[int | str | uuid.UUID] | None, since: tuple[str, datetime] | None, ids_to: str | Path | None
) -> Narrow:
    from qmigrate.commands.fix import Narrow

    column, moment = since or (None, None)
    return Narrow(ids=_plain(ids), column=column, since=moment, ids_to=_text(ids_to))


def _text(path: str | Path | None) -> str | None:
    return None if path is None else str(path)


def _plain(ids: Sequence[int | str | uuid.UUID] | None) -> list[int | str] | None:
    return None if ids is None else [one if isinstance(one, int) else str(one) for one in ids]
