"""Stages of a rebuild, as the first page and the page of a run show them."""

from datetime import UTC, datetime

import pytest

from qmigrate.commands.overview import stages_of
from qmigrate.commands.runs import STAGES
from qmigrate.engine.phases import phases_of
from qmigrate.model.plan import Build, GoLive, Job
from qmigrate.model.schema import CollectionSchema
from qmigrate.model.state import OpenRun, Record

STEPS = (
    Build((), "docs__g0001", "docs__g0002", 2, CollectionSchema(), "copy", "values change"),
    GoLive((), "docs__g0001", "docs__g0002", ("docs",)),
)
PHASES = [(place, phase.name) for place, step in enumerate(STEPS) for phase in phases_of(step)]


def at(records):
    """The stage of an open run whose steps left these records."""
    job = Job("docs", "", STEPS)
    run = OpenRun(1, "upgrade", "running", job, {}, "me", "host", datetime.now(UTC), None, tuple(records))
    words = stages_of(run)
    assert [name for name, _ in words] == list(STAGES)
    (now,) = [place for place, (_, word) in enumerate(words) if word == "now"]
    assert [word for _, word in words] == ["done"] * now + ["now"] + ["todo"] * (len(words) - now - 1)
    return now


def test_a_rebuild_never_goes_back_to_an_earlier_stage():
    """A rebuild never goes back to an earlier stage."""
    seen = [at([])]
    for count in range(1, len(PHASES) + 1):
        seen.append(at(Record(place, name, "running") for place, name in PHASES[:count]))
    assert seen == sorted(seen)
    assert set(seen) == set(range(len(STAGES)))


@pytest.mark.parametrize(("place", "phase"), PHASES)
def test_each_phase_belongs_to_one_stage(place, phase):
    """Each phase belongs to one stage."""
    assert sum((STEPS[place].kind, phase) in belong for belong in STAGES.values()) == 1
