"""Telling the application's SQL which points were embedded, once their vector serves. It changes no point.

Portion by portion, each in one transaction; then where it ends is journaled. A process that dies in between writes the
portion again: at least once, never less.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from qmigrate.embed.options import fingerprint_digest, fingerprint_words
from qmigrate.engine.closing import close_write_back
from qmigrate.engine.epoch_aliases import reach
from qmigrate.engine.points.base import committed, unpack
from qmigrate.engine.work import Phase, Work
from qmigrate.errors import ConfigError, DatabaseError, QmigrateError, RepairNeededError, RowsError
from qmigrate.model.facts.edits import Telling
from qmigrate.model.facts.phases import Closed, Told, WriteBack, WriteBackPreflight
from qmigrate.model.facts.stored import loaded
from qmigrate.model.plan import Build, WriteRows
from qmigrate.model.transform import PointId
from qmigrate.ports import Store, Stored
from qmigrate.rows.marks import Statement
from qmigrate.sequences import parts
from qmigrate.store import records
from qmigrate.text import counted, quote

if TYPE_CHECKING:
    from qmigrate.settings.load import Settings

#: Points of one transaction.
PORTION = 1000


def preflight(step: WriteRows, work: Work) -> WriteBackPreflight:  # noqa: ARG001  what every phase gets
    """The time that every portion writes, also one that is repeated. It asks nothing, so it can't refuse."""
    return WriteBackPreflight(datetime.now(UTC))


def write_back(step: WriteRows, work: Work) -> WriteBack:
    """Each statement for each point that has its vector from this rebuild."""
    try:
        return _write_back(step, work)
    except (DatabaseError, RowsError, ConfigError) as error:
        raise _with_a_way_on(error, step, work) from error


def close(step: WriteRows, work: Work) -> Closed:
    """Recorded."""
    close_write_back(work, step)
    return Closed()


def check(step: Build, work: Work) -> None:
    """Before anything is built: the databases would do what will be asked of them when the target serves.

    Raises:
        RowsError: a statement is refused.
        DatabaseError: a database can't be reached.
        ConfigError: it is not in the settings.
    """
    later = [one for one in work.job.steps if isinstance(one, WriteRows) and one.target == step.target]
    first = next(iter(work.store.scan(str(step.source), page=1, payload=False, vectors=False)), ()) if later else ()
    for one in later:
        for said in tellings(one):
            row = {**common(said, work.collection, one.target, {}, datetime.now(UTC)), "checksum": ""}
            with closing(opened(work.settings, said)) as statement:
                for stored in first:
                    statement.check({**row, "id": records.point_id(stored)})


def _write_back(step: WriteRows, work: Work) -> WriteBack:
    if not work.lease.ledger.has_base(step.target):
        raise RepairNeededError(
            f"which points of {step.target} were embedded is not in the ledger any more, so SQL can't be updated",
            hint=f"qmigrate abort {quote(work.collection)} ends the run; the vectors serve already",
        )
    now = work.facts(WriteBackPreflight).now
    assert now is not None  # noqa: S101  the phase before keeps it
    known = work.lease.ledger.view(work.collection)
    fingerprints = dict(known.embedders) if known else {}
    done = work.facts(WriteBack)
    told = done.told or Told()
    for number, said in enumerate(tellings(step)):
        if number < done.statement:
            continue
        cursor = done.cursor if number == done.statement else None
        row = common(said, work.collection, step.target, fingerprints, now)
        work.progress.begin(work.collection, "write back", None)
        with closing(opened(work.settings, said)) as statement:
            for portion in _portions(work, step, said, cursor):
                rows = rows_of(work.store, reach(work, step.target), said, portion, row)
                told = Told(told.points + len(rows), told.rows + statement.run(rows))
                work.note(WriteBack(number, portion[-1], told))
                work.tick(len(portion))
        work.progress.end(f"{counted(told.points, 'point')}, {counted(told.rows, 'row')} changed in {said.database}")
        # No id is kept longer than it is needed.
        work.note(WriteBack(number + 1, None, told))
    return replace(work.facts(WriteBack), told=told)


def tellings(step: WriteRows) -> tuple[Telling, ...]:
    """The statements of a stored step."""
    return tuple(loaded(Telling, said) for said in step.statements)


def opened(settings: Settings, said: Telling) -> Statement:
    """The statement on its database.

    Raises:
        ConfigError: that is not in the settings.
    """
    return Statement(settings.database(said.database), said.sql, name=said.database)


def common(
    said: Telling, collection: str, generation: str, fingerprints: Mapping[str, Any], now: datetime
) -> dict[str, Any]:
    """What is the same for every point: the parameters without ``id`` and ``checksum``.

    Args:
        said: see :meth:`~qmigrate.operations.app_sql.WriteBack.said`.
        fingerprints: of the embedders, by vector.
    """
    fingerprint = fingerprints.get(said.vector) or {}
    return {
        **said.parameters,
        "now": now,
        "collection": collection,
        "vector": said.vector,
        "revision": said.revision,
        "generation": generation,
        "fingerprint": fingerprint_digest(fingerprint),
        "model": fingerprint_words(fingerprint),
    }


def _portions(work: Work, step: WriteRows, said: Telling, cursor: PointId | None) -> Iterator[list[PointId]]:
    """Ids behind the cursor that this rebuild has embedded, in Qdrant's order.

    The base has them: what the application has written to the new generation since is not of this rebuild.
    """
    lacking = {
        row.point_id for row in work.lease.ledger.quarantine([step.target]) if row.vector == said.vector
    }
    border = records.order_key(cursor) if cursor is not None else b""
    embedded = (
        identifier
        for key, entry in unpack(committed(work.lease.ledger, step.target))
        if key > border and entry.target != records.ABSENT and (identifier := records.id_of_key(key)) not in lacking
    )
    yield from parts(embedded, PORTION)


def rows_of(
    store: Store, address: str, said: Telling, portion: Sequence[PointId], shared: Mapping[str, Any]
) -> list[dict[str, Any]]:
    """The parameters of some points; one that was deleted since is left out."""
    sums = "checksum" in said.names
    found = store.fetch(address, portion, payload=False, vectors=sums)
    there = {records.point_id(stored): _checksum(stored, said.vector) if sums else None for stored in found}
    return [
        {**shared, "id": identifier, "checksum": there[identifier]}
        for identifier in portion
        if identifier in there and (there[identifier] is not None or not sums)
    ]


def _checksum(stored: Stored, vector: str) -> str | None:
    message = records.vector_messages(stored).get(vector)
    if message is None:
        return None
    return hashlib.sha256(records.array_of(message).astype("<f4").tobytes()).hexdigest()


def _with_a_way_on(error: QmigrateError, step: WriteRows, work: Work) -> QmigrateError:
    """The same error, with the note that the swap remains, and how to continue."""
    more = f"qmigrate upgrade resumes it; qmigrate abort {quote(work.collection)} leaves SQL as it is"
    return type(error)(
        f"{work.collection} is live on {step.target}, but SQL was not updated completely: {error.message}",
        hint=f"{error.hint}; then {more}" if error.hint else more,
        facts=error.facts,
    )


PHASES = (
    # It only learns what time it is: an error in a first phase would close the run as refused, and forget the rest.
    Phase(WriteBackPreflight, preflight),
    Phase(WriteBack, write_back),
    Phase(Closed, close),
)
