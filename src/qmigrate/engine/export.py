"""A collection written into an archive, page by page. It changes nothing in Qdrant."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from qmigrate import archive
from qmigrate.archive import Header, Summary, WholeFacts
from qmigrate.engine.epoch_aliases import reach
from qmigrate.engine.work import Work
from qmigrate.errors import ArchiveError, NotFoundError, RefusedError
from qmigrate.ledger import Ledger
from qmigrate.model.facts.phases import SourceSnapshot, WrittenArchive
from qmigrate.model.facts.stored import by_field
from qmigrate.model.schema import FOUR_BITS, CollectionSchema, JsonObject, rounds_again
from qmigrate.model.state import (
    Capabilities,
    CollectionState,
    Generation,
    LiveCollection,
    Moment,
    marks_of,
    moments_of,
)
from qmigrate.ports import Store
from qmigrate.store import portable, records
from qmigrate.text import counted, quote

#: `Header.kind` for an archive of a complete collection.
WHOLE = "snapshot"


def export(
    store: Store,
    address: str,
    path: Path,
    header: Header,
    tick: Callable[[int], None] | None = None,
    whole: Callable[[], None] = lambda: None,
) -> Summary:
    """Write every point behind `address`, each as it was when it was read.

    Args:
        address: the name by which the collection is reached.
        tick: called with the points of every page.
        whole: called behind the last page; where it raises, no file is left.

    Raises:
        UnavailableError: the file can't be written.
        StoreError: a point can't be read.
    """
    first = next(iter(store.scan(address, page=64)), ())
    size = records.page_size(first, limit=2 * 2**20)

    def pages() -> Iterator[Sequence[JsonObject]]:
        for page in store.scan(address, page=size):
            yield portable.page_to_json(page)
            if tick is not None:
                tick(len(page))
        whole()

    return archive.write(path, header, pages())


def header_of(
    state: CollectionState, live: LiveCollection, moments: Sequence[Moment], *, ledger: str | None, can: Capabilities
) -> Header:
    """What an archive of a collection has about itself, so that it can be restored here or elsewhere.

    Args:
        live: the generation that is read; it need not be the one that serves.
        moments: the collection's history.
        can: of the store that it is read from.

    Raises:
        RefusedError: a collection whose shard keys would be lost, or that could not be restored from it.
    """
    rounded = [] if can.local else [name for name, params in live.schema.vectors.items() if rounds_again(params)]
    if rounded:
        raise RefusedError(
            f"vector {rounded[0]!r} of {live.physical} is {FOUR_BITS}, and a server scales its values at each "
            "write: an archive would not restore the values that it has",
            hint="make a server-side snapshot: qmigrate snapshot create without --archive",
        )
    if live.custom_sharding:
        raise RefusedError(
            f"{live.physical} uses custom sharding, and an archive can't hold shard keys",
            hint="make a server-side snapshot: qmigrate snapshot create without --archive",
        )
    generation = state.generation(live.physical)
    there = moments_of(moments, state.generations, live.physical)
    declared = there[-1].declared if there else generation.schema if generation else None
    facts = WholeFacts(
        revisions=tuple((revision, checksum) for revision, checksum, _ in there[-1].applied) if there else (),
        declared=declared,
        embedders=marks_of(live).embedders or {},
        aliases=live.schema.aliases,
        local=can.local,
    )
    return Header(
        kind=WHOLE,
        name=state.name,
        physical=live.physical,
        generation=generation.number if generation is not None else None,
        schema=without_fence(live.schema.with_(aliases=()), generation),
        ledger=ledger,
        source=can.label,
        created_at=datetime.now(UTC),
        facts=by_field(facts),
    )


def file_name(physical: str, stamp: str) -> str:
    """How the archive of a collection is called; what a file system can't take is left out, the header has it all."""
    return re.sub(r"[^\w.-]", "_", physical)[:100] + f"-{stamp}{archive.SUFFIX}"


def run_file(folder: Path, physical: str, run: int, what: str = "", *, started: datetime | None) -> Path:
    """Where a run keeps points; the same however often it is interrupted, and no other run's.

    Each ledger counts its runs from 1, and several may share a folder: staging and production of one checkout, a copy
    of a ledger, one that was lost. The moment at which a run began is its own.

    Args:
        started: that moment; None for a run of a version that named files without it.
    """
    stamp = f"{started.astimezone(UTC):%Y%m%dT%H%M%S%f}-" if started is not None else ""
    return folder / file_name(physical, f"{stamp}run{run}" + (f"-{what}" if what else ""))


def making(folder: Path) -> str:
    """What makes a folder, in front of another command; nothing where it is there."""
    return "" if folder.is_dir() else f"mkdir -p {quote(folder)} && "


def started_at(ledger: Ledger, run: int) -> datetime | None:
    """When a run that is not finished began; None where there is none."""
    return next((one.started_at for one in ledger.open_runs() if one.id == run), None)


def is_ours(header: Header, ledger_id: str | None) -> bool:
    """Whether a file is of this ledger: in another one the same names may mean other points."""
    return header.ledger in (None, ledger_id)


def remove_ours(path: Path, ledger_id: str) -> None:
    """Remove a file that this ledger has kept; one that another ledger has written over it stays."""
    with suppress(ArchiveError):
        if path.is_file() and not is_ours(archive.summary(path).header, ledger_id):
            return
    path.unlink(missing_ok=True)


def without_fence(schema: CollectionSchema, generation: Generation | None) -> CollectionSchema:
    """The schema without the fence of a generation that was left: what is made of it has to take writes."""
    if generation is None or generation.fence is None:
        return schema
    config: Mapping[str, object] = {**schema.config, "strict_mode_config": dict(generation.fence)}
    return schema.with_(config={name: value for name, value in config.items() if value != {}})


def described(store: Store, address: str) -> LiveCollection:
    """The collection behind a name.

    Raises:
        NotFoundError: there is none.
    """
    found = store.describe(address)
    if found is None:
        raise NotFoundError(f"there is no collection {address} any more")
    return found


def save(work: Work, source: str) -> SourceSnapshot:
    """The archive that a rebuild leaves; its name is the run's, so that an interrupted try is written over."""
    address = reach(work, source)
    live = described(work.store, address)
    ledger, can = work.lease.ledger, work.store.capabilities
    # The run itself may have made what is read.
    state = replace(work.state, generations=ledger.generations(work.collection))
    header = header_of(state, live, ledger.moments(work.collection), ledger=work.ledger_id, can=can)
    path = run_file(work.settings.archives, source, work.run, started=started_at(ledger, work.run))
    work.progress.begin(work.collection, "archive", live.points)
    made = export(work.store, address, path, header, work.tick)
    work.progress.end(counted(made.points, "point"))
    entry = WrittenArchive(path.name, str(path), made.size, made.digest, made.points)
    # Load-bearing: an archive has points, no names; without these a person couldn't restore what clients used.
    return SourceSnapshot(archive=entry, aliases=work.store.aliases())
