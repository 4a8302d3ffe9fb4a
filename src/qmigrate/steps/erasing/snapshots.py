"""Server-side snapshots that may hold what was erased: listed, or replaced by one without it. It reads no snapshot."""

from __future__ import annotations

from collections.abc import Mapping

from qmigrate.errors import DeniedError
from qmigrate.model.plan import Build
from qmigrate.model.schema import JsonObject
from qmigrate.steps.owned import own, reach
from qmigrate.steps.work import Facts, Work

#: What becomes of them.
LISTED, REPLACED = "list", "replace"


def handle(work: Work, live: str, present: Mapping[str, str], how: str) -> Facts:
    """Every snapshot that was there before this phase; with ``replace`` a fresh one of the live generation takes over.

    One that an unfinished run needs is left, and reported. May be repeated: what is deleted is reported first.

    Returns:
        ``holding`` (collection, name, created_at, deleted), ``made`` (the name of the fresh one, or None), and
        ``unseen``: why they could not be looked for, or None.

    Raises:
        DeniedError: the key may not list them, and they were to be replaced.
    """
    if not work.store.capabilities.snapshots:
        return {"holding": [], "made": None, "unseen": None}
    try:
        found = [entry for physical in present for entry in _of(work, physical)]
    except DeniedError as error:
        if how == REPLACED:
            raise
        return {"holding": [], "made": None, "unseen": error.message}
    if "holding" not in work.facts("snapshots"):
        work.note({"holding": found})
    holding = [dict(entry) for entry in work.facts("snapshots")["holding"]]
    if how != REPLACED or not holding:
        return {"holding": holding, "made": None, "unseen": None}
    made = _fresh(work, live, {entry["name"] for entry in holding if entry["collection"] == live})
    needed = _needed(work)
    for entry in holding:
        if entry["name"] not in needed and not entry["deleted"]:
            work.store.delete_snapshot(own(work, entry["collection"]), entry["name"])
            entry["deleted"] = True
            work.note({"holding": holding})
            work.tick()
    return {"holding": holding, "made": made, "unseen": None}


def _of(work: Work, physical: str) -> list[JsonObject]:
    return [
        {
            "collection": physical,
            "name": made.name,
            "created_at": made.created_at.isoformat() if made.created_at else None,
            "deleted": False,
        }
        for made in work.store.list_snapshots(reach(work, physical))
    ]


def _fresh(work: Work, live: str, before: set[str]) -> str:
    """The new snapshot; one that an interrupted try has made is taken."""
    address = reach(work, live)
    found = [made.name for made in work.store.list_snapshots(address) if made.name not in before]
    if found:
        return found[-1]
    work.progress.say(f"{work.collection}: making a snapshot without what was erased")
    return work.store.create_snapshot(address).name


def _needed(work: Work) -> set[str]:
    """Names of those that an unfinished run has made or restores."""
    names: set[str] = set()
    for run in work.lease.ledger.open_runs():
        made = [record.facts.get("snapshot") for record in run.records if record.phase == "snapshot"]
        names |= {str(one["name"]) for one in made if one}
        names |= {str(step.origin["name"]) for step in run.job.steps if isinstance(step, Build) and step.origin}
    return names
