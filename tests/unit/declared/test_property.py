"""Whatever is declared, before and after an edit: what is generated replays to it, and there is nothing left to do."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from tests.declared_schemas import generate, missing_settings, pairs, plainly, unquantized

from qmigrate.declared.replay import replay
from qmigrate.revisions.graph import Revisions


def check(scripts: Path, wanted) -> None:
    """The revisions make what is declared, told apart from how the comparison sees it."""
    found = replay(Revisions.load(scripts), "things")
    assert found is not None
    inherited = {**found.schema.config, "hnsw_config": {**(found.schema.config.get("hnsw_config") or {}), **(wanted.schema.config.get("hnsw_config") or {})}}
    assert plainly(found.schema, inherited) == plainly(wanted.schema, inherited)
    assert missing_settings(found.schema.config, wanted.schema.config) == []
    for name, params in wanted.schema.vectors.items():
        has = found.schema.vectors[name].get("quantization_config")
        assert unquantized(name, has, params.get("quantization_config")) == []


def generated_twice(pair) -> None:
    """Both states, one after the other, each generated and then found to be there."""
    with tempfile.TemporaryDirectory() as folder:
        scripts = Path(folder)
        (scripts / "versions").mkdir()
        for number, one in enumerate(pair):
            made = generate(scripts, [one.wanted()], f"state {number}")
            assert (made.kept, made.unsaid) == ((), ())
            check(scripts, one.wanted())
            files = sorted((scripts / "versions").iterdir())
            again = generate(scripts, [one.wanted()], "again")
            assert not again.stages
            assert sorted((scripts / "versions").iterdir()) == files


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(pair=pairs())
def test_what_is_generated_replays_to_what_is_declared(pair):
    """replay(after) == declared, and a second run generates nothing."""
    generated_twice(pair)


@pytest.mark.nightly
@pytest.mark.timeout(1800)
@settings(max_examples=500, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(pair=pairs())
def test_500_pairs(pair):
    """The same, 500 times."""
    generated_twice(pair)
