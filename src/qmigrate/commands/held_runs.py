"""What is built and waits for its cut-over, read from the ledger. It lets nothing on."""

from __future__ import annotations

from collections.abc import Iterable

from qmigrate.commands.results import Held
from qmigrate.commands.session import Session
from qmigrate.model.facts.phases import Hold
from qmigrate.model.state import OpenRun


def held_run(run: OpenRun) -> Held | None:
    """What a held run waits with; None when it isn't held."""
    position = run.waiting()
    if run.state != "held" or position is None:
        return None
    return Held(
        collection=run.job.collection,
        physical=str(run.job.steps[position].target),
        revisions=tuple(closing.revision for closing in run.job.closes if closing.step >= position),
        run=run.id,
        since=run.facts(Hold, position).since,
        refused=run.error,
    )


def held_collections(session: Session, only: Iterable[str] | None) -> tuple[Held, ...]:
    """Everything that is held now, of all collections or of `only`, by name."""
    chosen = frozenset(only) if only is not None else None
    newest = {run.job.collection: run for run in session.ledger.open_runs()}
    found = [held_run(run) for name, run in sorted(newest.items()) if chosen is None or name in chosen]
    return tuple(one for one in found if one is not None)
