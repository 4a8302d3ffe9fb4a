"""check: whether everything is as the ledger left it, and whether anything is pending. It only reads."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Set
from dataclasses import dataclass, replace
from typing import Any

from qmigrate.commands.inline import applied_files
from qmigrate.commands.session import Session, UserCode, session
from qmigrate.commands.sql_gate import links_of
from qmigrate.drift import (
    Finding,
    Surroundings,
    collection_findings,
    embedders_of,
    file_findings,
    fingerprint_findings,
    note,
)
from qmigrate.errors import QmigrateError
from qmigrate.model.names import check_known, met_by_any
from qmigrate.model.state import CollectionState, World
from qmigrate.observe import observe
from qmigrate.planner.forward import pending, to_create
from qmigrate.planner.members import naming
from qmigrate.planner.replaced import stands_at
from qmigrate.settings.load import Settings

#: Exit codes: drift wins over what is pending.
DRIFT, PENDING = 4, 3
#: How often a collection is checked again that another client changed meanwhile.
MOST_LOOKS = 5


@dataclass(frozen=True, slots=True)
class CheckedCollection:
    """One collection.

    Attributes:
        revision: the newest applied one, or None.
        physical: what serves, or None.
        findings: drift first, then what is pending, then notes.
    """

    name: str
    revision: str | None
    physical: str | None
    findings: tuple[Finding, ...] = ()


@dataclass(frozen=True, slots=True)
class Checked:
    """`check`.

    Attributes:
        qdrant: where, and which version.
        ledger: where, without secrets.
        collections: every one that was checked.
        files: findings about revision files.
        drift: how many findings are drift.
        pending: how many are unfinished work.
        notes: how many are only to be known.
        exit_code: 4 with drift, else 3 with pending work, else 0.
        silent: why nodes of the cluster were left out, one line each.
        not_compared: collections whose settings were not recorded when something was last applied, so that those which
            no revision declares can't be compared.
    """

    qdrant: str
    ledger: str
    collections: tuple[CheckedCollection, ...]
    files: tuple[Finding, ...] = ()
    drift: int = 0
    pending: int = 0
    notes: int = 0
    exit_code: int = 0
    silent: tuple[str, ...] = ()
    not_compared: tuple[str, ...] = ()


def check(
    settings: Settings | None = None, *, only: Iterable[str] | None = None, strict: bool = False, models: bool = True
) -> Checked:
    """Compare live and recorded: schema, seal, names, generations, models, files; and look for pending revisions.

    Args:
        only: restrict to these logical names.
        strict: collections that are not under management, and aliases that no revision declares, are drift.
        models: load the configured embedders to compare their fingerprints.

    Raises:
        NotFoundError: a name of `only` is nowhere.
    """
    settings = settings or Settings.load()
    with session(settings, writes=False, unchanged=False, partial=True) as opened:
        return compare(opened, None, only, strict=strict, models=models)


def compare(
    opened: Session, world: World | None, only: Iterable[str] | None, *, strict: bool = False, models: bool = True
) -> Checked:
    """The same in a session that is open.

    Args:
        world: as it was observed in it, for the first look.
    """
    for _ in range(MOST_LOOKS):
        world = world or observe(opened.ledger, opened.store)
        found = _checked(opened, world, only, strict=strict, models=models)
        drifting = [row.name for row in found.collections if any(one.severity == "drift" for one in row.findings)]
        if not drifting or _stood_still(opened, world, drifting):
            break
        world = None
    return found


def _stood_still(opened: Session, world: World, names: list[str]) -> bool:
    """SQL and Qdrant are not read at one instant: what a deployment has changed in between is not drift."""
    later = observe(opened.ledger, opened.store, only=names).collections
    return all(later[name].basis() == world.collections[name].basis() for name in names)


def _checked(opened: Session, world: World, only: Iterable[str] | None, *, strict: bool, models: bool) -> Checked:
    new = to_create(world, opened.revisions)
    names = _chosen(only, {*world.collections, *new})
    around = _surroundings(opened, world, names)
    fingerprints = _Fingerprints(opened) if models else None
    rows = [_look(opened, world, name, around, fingerprints) for name in sorted(names & world.collections.keys())]
    rows += [
        CheckedCollection(name, None, None, (_pending(entries, create=True),))
        for name, entries in new.items()
        if name in names
    ]
    runs = [state.open_run for name, state in world.collections.items() if state.open_run and name in names]
    files = file_findings(opened.files(), applied_files(opened.revisions, opened.ledger), runs)
    passed = links_of(opened, world, frozenset(one.id for one in opened.revisions.order()))
    told = (note("revision", "sql", line, "qmigrate status", strict=True) for line in passed)
    files = (*files, *(one.under(strict=strict) for one in told))
    seen = [row for row in rows if row is not None]
    checked = _counted(world.capabilities.label, opened.ledger.url_label, seen, files, strict=strict)
    states = [world.collections[row.name] for row in seen if row.name in world.collections]
    unknown = () if world.capabilities.local else tuple(state.name for state in states if _not_recorded(state))
    return replace(checked, silent=world.capabilities.silent, not_compared=unknown)


def _not_recorded(state: CollectionState) -> bool:
    """Whether an earlier qmigrate has kept nothing of the settings that no revision declares."""
    return any(row.state == "live" and row.settings is None for row in state.generations)


def _chosen(only: Iterable[str] | None, known: Set[str]) -> set[str]:
    if only is None:
        return set(known)
    patterns = tuple(only)
    check_known("collection", patterns, known)
    return set(met_by_any(patterns, known))


def _surroundings(opened: Session, world: World, names: Set[str]) -> Surroundings:
    physical, aliases = frozenset(opened.store.physical_names()), opened.store.aliases()
    reached: dict[str, str] = {}
    for name in names & world.collections.keys():
        for row in world.collections[name].generations:
            way = _way(row.physical, aliases) if row.state == "retired" and row.physical in physical else None
            if way is not None:
                reached[way] = row.physical
    found = opened.store.describe_all(sorted(reached), aliases)
    kept = {reached[way]: seen for way, seen in found.items() if seen is not None and seen.physical == reached[way]}
    serving = [one.live for one in world.collections.values() if one.live is not None]
    owners = {one.physical: one.foreign_owner(world.ledger_id) for one in serving}
    others = {name: owner for name, owner in owners.items() if owner is not None}
    return Surroundings(world.ledger_id, world.capabilities, aliases, physical, kept, others)


def _way(physical: str, aliases: Mapping[str, str]) -> str | None:
    """A name that leads to a collection: its own, or another alias where an alias of its name hides it."""
    if physical not in aliases:
        return physical
    return next((alias for alias, target in sorted(aliases.items()) if target == physical), None)


class _Fingerprints:
    """Fingerprints of the embedders that are asked for, each loaded once per configuration."""

    def __init__(self, opened: Session) -> None:
        self._opened = opened

    def of(self, name: str, wanted: Iterable[str]) -> tuple[dict[str, Mapping[str, Any]], dict[str, str]]:
        """Embedder -> fingerprint as this collection has them, and embedder -> why it can't be loaded."""
        code = UserCode(self._opened, self._opened.settings.for_collection(name))
        now: dict[str, Mapping[str, Any]] = {}
        broken: dict[str, str] = {}
        for embedder in sorted(set(wanted) & code.settings.embedders.keys()):
            try:
                # As SQL keeps it: tuples are lists there.
                now[embedder] = json.loads(json.dumps(code.embedder(embedder).fingerprint()))
            except QmigrateError as error:
                broken[embedder] = error.message
        return now, broken


def _look(
    opened: Session, world: World, name: str, around: Surroundings, fingerprints: _Fingerprints | None
) -> CheckedCollection | None:
    state = world.collections[name]
    found = list(collection_findings(state, around))
    wanted = frozenset(revision.id for revision in opened.revisions.order())
    missing = pending(world, opened.revisions, wanted, name)
    if missing:
        found.append(_pending(missing, create=False))
    if fingerprints is not None and state.embedders:
        found += _models(opened, state, fingerprints)
    newest = stands_at(state, opened.revisions)
    if state.kind == "absent" and newest is None and not found:
        return None
    return CheckedCollection(name, newest, state.physical, tuple(found))


def _models(opened: Session, state: CollectionState, fingerprints: _Fingerprints) -> list[Finding]:
    about = naming(opened.revisions, state.applied_revisions(), state.name)
    operations = [operation for _, matching in about for operation in matching]
    embedders = embedders_of(operations)
    now, broken = fingerprints.of(state.name, embedders.values())
    return list(fingerprint_findings(state.embedders, embedders, now, broken))


def _pending(revisions: tuple[str, ...], *, create: bool) -> Finding:
    what = "will be created" if create else f"{len(revisions)} pending"
    message = f"{what}: {', '.join(revisions)}"
    return Finding("revision", "pending", "revision", message, fixes=("qmigrate upgrade",))


def _counted(
    qdrant: str, ledger: str, rows: list[CheckedCollection], files: tuple[Finding, ...], *, strict: bool
) -> Checked:
    order = ("drift", "pending", "note")
    shown = []
    for row in rows:
        judged = [finding.under(strict=strict) for finding in row.findings]
        judged.sort(key=lambda finding: order.index(finding.severity))
        shown.append(CheckedCollection(row.name, row.revision, row.physical, tuple(judged)))
    every = [*files, *(finding for row in shown for finding in row.findings)]
    drift, unfinished, notes = (sum(one.severity == severity for one in every) for severity in order)
    code = DRIFT if drift else PENDING if unfinished else 0
    return Checked(qdrant, ledger, tuple(shown), files, drift, unfinished, notes, code)
