"""pace: ask a run that is worked on, wherever that is, to pause, to go on, to go slower, or to stop. It stops nothing.

The request is a row of the ledger, which the process that works on the run reads at its checkpoints, every two seconds.
It binds only that process: the one that resumes the run later works at full speed. Only filling and converging can
pause: nothing waits for them. A process that fills by workers of its own can only be stopped.
"""

from __future__ import annotations

from dataclasses import dataclass

from qmigrate.commands.session import opened_ledger
from qmigrate.errors import RefusedError, UsageError
from qmigrate.ledger import Ledger
from qmigrate.ledger.decisions import Pace, ask_pace, paces
from qmigrate.ledger.reader import present
from qmigrate.model.state import OpenRun
from qmigrate.settings.load import Settings
from qmigrate.text import did_you_mean

#: What may be asked.
ASKS = ("pause", "resume", "slower", "full", "stop")
#: Of what it did so far, where it is to go slower and no rate is given.
_SLOWER = 0.5
#: The slowest that can be asked for, in points per second.
_SLOWEST = 1.0


@dataclass(frozen=True, slots=True)
class Paced:
    """`pace`: what is asked of a run now.

    Attributes:
        ask: one of :data:`ASKS`.
        rate: most points per second; None for what the settings say.
        paused: whether it stands still.
        host: where it runs.
        by: who has asked for that, or None.
    """

    collection: str
    run: int
    ask: str
    rate: float | None
    paused: bool
    host: str
    by: str | None = None


def pace(
    settings: Settings, collection: str, ask: str, *, rate: float | None = None, expected: int | None = None
) -> Paced:
    """Ask it of the run that works on a collection.

    Args:
        collection: its logical name.
        ask: ``pause``; ``resume``, at the rate it had; ``slower``; ``full`` speed; ``stop`` at the next checkpoint.
        rate: of ``slower``: points per second; by default half of what it does now.
        expected: the run that is meant, where it is known.

    Raises:
        RefusedError: no process works on it, or on another run than was meant.
        UsageError: there is no such request, or the rate is not above zero.
    """
    if ask not in ASKS:
        raise UsageError(f"a run can't be asked to {ask!r}{did_you_mean(ask, ASKS)}", hint=f"one of {', '.join(ASKS)}")
    if rate is not None and (ask != "slower" or not rate > 0):
        raise UsageError("a rate is for slower, and above zero", hint="points per second, as 500")
    with opened_ledger(settings) as ledger:
        run, epoch = _worked_on(ledger, collection)
        if expected not in (None, run.id):
            said = f"what works on {collection} now is run {run.id}, and not {expected}: nothing was asked of it"
            raise RefusedError(said, hint="qmigrate status")
        found = paces(ledger, [run.id]).get(run.id)
        now = found if found is not None and found.epoch == epoch else None
        paused = ask == "pause" or (ask not in ("resume", "full") and now is not None and now.paused)
        asked = Pace(run.id, epoch, paused, ask == "stop", _rate(ledger, run, now, ask, rate), ledger.actor)
        ask_pace(ledger, asked)
    return Paced(collection, run.id, ask, asked.rate, asked.paused, run.host, asked.actor)


def asked(settings: Settings, collection: str, run: int) -> Paced | None:
    """What is asked of a run now; ``ask`` is ``full`` where nothing is. None where no process works on that run."""
    with opened_ledger(settings) as ledger:
        try:
            found, epoch = _worked_on(ledger, collection)
        except RefusedError:
            return None
        now = paces(ledger, [run]).get(run)
    if found.id != run:
        return None
    if now is None or now.epoch != epoch:
        return Paced(collection, run, "full", None, False, found.host)
    word = "stop" if now.stopped else "pause" if now.paused else "slower" if now.rate else "full"
    return Paced(collection, run, word, now.rate, now.paused, found.host, now.actor)


def unfinished(settings: Settings, collection: str) -> OpenRun | None:
    """The run of a collection that is not over; None where there is none."""
    with opened_ledger(settings) as ledger:
        return ledger.open_run(collection)


def _worked_on(ledger: Ledger, collection: str) -> tuple[OpenRun, int]:
    """The run, and the epoch of who works on it."""
    run = ledger.open_run(collection)
    epoch = next((one.epoch for one in ledger.leases() if one.name == collection), None)
    if run is None or not run.leased or epoch is None:
        what = "has no unfinished run" if run is None else f"has a {run.verb} that no process works on"
        raise RefusedError(f"{collection} {what}: nothing can be asked of it", hint="qmigrate status")
    return run, epoch


def _rate(ledger: Ledger, run: OpenRun, now: Pace | None, ask: str, rate: float | None) -> float | None:
    if ask == "full":
        return None
    if ask != "slower" or rate is not None:
        return rate if rate is not None else now.rate if now is not None else None
    if now is not None and now.rate is not None:
        return max(_SLOWEST, now.rate * _SLOWER)
    seconds = max(1.0, (present(ledger) - run.started_at).total_seconds())
    return max(_SLOWEST, run.done_points / seconds * _SLOWER)
