"""Adopt: take a collection under management as it is, or record it at other revisions. It touches no point.

The seal is written before the ledger's rows, both after the run that declares the intent: a crash between them is
finished by the next command like any other run.
"""

from __future__ import annotations

from qmigrate.engine.closing import close_adopt
from qmigrate.engine.epoch_aliases import holder, revoke_earlier, swap
from qmigrate.engine.work import Phase, Work
from qmigrate.errors import RefusedError
from qmigrate.model.facts.phases import Closed, LivePreflight, Named
from qmigrate.model.names import is_own_alias
from qmigrate.model.plan import Adopt
from qmigrate.model.state import LiveCollection, marks_of
from qmigrate.text import quote


def preflight(step: Adopt, work: Work) -> LivePreflight:
    """Only reads: the collection is still there under its name, and it belongs to whom the plan saw."""
    if step.target is None:
        return LivePreflight()
    live = work.store.describe(step.target)
    if live is None or live.physical != step.target:
        raise RefusedError(f"{step.target}, which was to be taken over as {work.collection}, is gone")
    _check_name(step, work)
    _check_seal(step, work, live)
    _check_aliases(step, work)
    return LivePreflight(live.points)


def _check_name(step: Adopt, work: Work) -> None:
    serving = holder(work)
    if serving != step.target and not (step.alias and serving is None):
        begun = work.phase != PHASES[0].name
        raise RefusedError(
            f"{work.collection} is served by {serving or 'nothing'} now, and not by {step.target}: another client "
            "moved it",
            hint=f"qmigrate abort {quote(work.collection)} ends this run; then adopt what is there now"
            if begun
            else "run the command again: it looks again",
        )


def _check_seal(step: Adopt, work: Work, live: LiveCollection) -> None:
    seal = marks_of(live)
    if not live.seal or seal.ledger == work.ledger_id or live.seal == step.overrides:
        return
    raise RefusedError(
        f"{step.target} has now got a seal of another ledger ({seal.ledger}, at {seal.revision})",
        hint="find out who uses it: is another deployment running?",
    )


def _check_aliases(step: Adopt, work: Work) -> None:
    """An application's alias that looks like ours would be taken for one that a dead process has left."""
    if step.overrides is not None or work.generation(step.target) is not None:
        return
    for alias, physical in sorted(work.store.aliases().items()):
        if physical == step.target and is_own_alias(alias, physical):
            raise RefusedError(
                f"{alias}, an alias of {physical}, has the form of names that qmigrate makes and removes itself "
                "(…__e12), so it could not be distinguished from them",
                hint="give it another name, or remove it if no client uses it; then run the same command again",
            )


def name(step: Adopt, work: Work) -> Named:
    """Its holder under the other ledger can't write to it any more; a new logical name is made."""
    if step.overrides is not None:
        physicals = [str(step.target), *step.beside]
        left = [alias for alias, at in work.store.aliases().items() if at in physicals and is_own_alias(alias, at)]
        if left:
            revoke_earlier(work, physicals, foreign=True)
    if step.target is not None:
        # An interruption may lie between the look and here.
        _check_name(step, work)
    if step.alias and step.target is not None and holder(work) is None:
        swap(work, step.target, [work.collection])
    return Named()


def close(step: Adopt, work: Work) -> Closed:
    """Seal, then everything recorded in one transaction."""
    close_adopt(work, step)
    return Closed()


PHASES = (
    Phase(LivePreflight, preflight),
    Phase(Named, name),
    Phase(Closed, close),
)
