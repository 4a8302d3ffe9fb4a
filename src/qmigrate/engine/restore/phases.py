"""The phases of a build that restores: each goes to where the points come from. It does nothing itself."""

from __future__ import annotations

from collections.abc import Mapping
from types import ModuleType

from qmigrate.engine.restore import archive, empty
from qmigrate.engine.restore import snapshot as from_snapshot
from qmigrate.engine.restore.empty import origin_of
from qmigrate.engine.work import Work
from qmigrate.model.facts.phases import Fill, Preflight, Proof, SourceSnapshot
from qmigrate.model.origin import ARCHIVE, NOTHING, SNAPSHOT
from qmigrate.model.plan import Build

_KINDS: Mapping[str, ModuleType] = {ARCHIVE: archive, SNAPSHOT: from_snapshot, NOTHING: empty}


def recovers(step: Build) -> bool:
    """Whether a server makes the generation of a snapshot, so that it comes with its points and its index."""
    return step.fill == "restore" and origin_of(step).kind == SNAPSHOT


def preflight(step: Build, work: Work) -> Preflight:
    """Only reads."""
    found: Preflight = _of(step).preflight(step, work)
    return found


def snapshot(step: Build, work: Work) -> SourceSnapshot:
    """No new one: what serves stays as it is. The one that a server recovers is noted."""
    return from_snapshot.chosen(step, work) if recovers(step) else SourceSnapshot()


def shadow(step: Build, work: Work) -> Build:
    """Have a server recover the generation; an archive's is made like any other, and never comes here."""
    return from_snapshot.shadow(step, work)


def check_schema(step: Build, work: Work) -> None:
    """Say where a recovered generation is not what was recorded of its revision."""
    drift = from_snapshot.drifted(step, work)
    if drift:
        what = "; ".join(change.describe() for change in drift)
        work.progress.say(f"{work.collection}: the snapshot differs from what was recorded then: {what}")


def fill(step: Build, work: Work) -> Fill:
    """Every point is there, but for those that were erased since."""
    found: Fill = _of(step).fill(step, work)
    return found


def converge(step: Build, work: Work) -> Proof:
    """The proof; what was seen is the base by which later writes are recognised.

    Raises:
        VerificationError: it doesn't hold.
    """
    found: Proof = _of(step).converge(step, work)
    return found


def _of(step: Build) -> ModuleType:
    return _KINDS[origin_of(step).kind]
