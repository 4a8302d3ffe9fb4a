"""snapshot create and list. Snapshots stand aside from plans: they change no point and no name."""

from __future__ import annotations

from fnmatch import fnmatchcase

from qmigrate.commands.results import SnapshotEntry, Snapshots
from qmigrate.commands.session import Session, session
from qmigrate.errors import NotFoundError, StoreError
from qmigrate.observe import observe
from qmigrate.settings import Settings


def create(settings: Settings, pattern: str) -> Snapshots:
    """A server-side snapshot of every collection whose logical name matches.

    Raises:
        StoreError: local mode has no snapshots.
        NotFoundError: nothing matches.
    """
    with session(settings, writes=False) as opened:
        if not opened.store.capabilities.snapshots:
            raise StoreError(
                "local mode has no snapshots", hint="its folder can be copied while no process uses it"
            )
        made = []
        for name, physical in _matching(opened, pattern):
            snapshot = opened.store.create_snapshot(physical)
            made.append(
                SnapshotEntry(name, physical, snapshot.name, snapshot.size, snapshot.checksum, snapshot.created_at)
            )
        return Snapshots(tuple(made))


def list_(settings: Settings, pattern: str = "*") -> Snapshots:
    """Every snapshot of the matching collections, oldest first."""
    with session(settings, writes=False) as opened:
        return Snapshots(
            tuple(
                SnapshotEntry(name, physical, found.name, found.size, found.checksum, found.created_at)
                for name, physical in _matching(opened, pattern)
                for found in opened.store.list_snapshots(physical)
            )
        )


def _matching(opened: Session, pattern: str) -> list[tuple[str, str]]:
    world = observe(opened.ledger, opened.store)
    found = [
        (name, state.physical)
        for name, state in sorted(world.collections.items())
        if state.physical is not None and fnmatchcase(name, pattern)
    ]
    if not found and pattern != "*":
        raise NotFoundError(f"no collection matches {pattern!r}", hint="qmigrate status lists what is there")
    return found
