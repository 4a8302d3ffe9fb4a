"""doctor --vectors: planted faults are found with their points and what repairs them, and sound ones aren't accused."""

from __future__ import annotations

import json
import math

import pytest
from tests.harness import ADD, CREATE, Deployment, write
from tests.scenarios.cli import call

from qmigrate.commands import upgrade
from qmigrate.model.transform import Point


def contents_of(made: Deployment) -> dict:
    """Id -> point, as it is."""
    return {one: Point(one, payload, vectors) for one, (payload, vectors) in made.contents().items()}


def distinct(number: int) -> list[float]:
    """No two points have one."""
    return [math.sin(number * (place + 1) * 1.3) for place in range(8)]


@pytest.fixture
def sound(deployment):
    """Points with a vector that nothing has filled, and one that the embedder of the settings has."""
    deployment.revise("0001", CREATE)
    upgrade.upgrade(deployment.settings())
    store = deployment.store()
    points = [Point(one, {"text": f"the text number {one} of {one * 7}"}, {"a": distinct(one)}) for one in range(1, 81)]
    write(store, deployment.name, points)
    store.close()
    deployment.revise("0002", ADD)
    upgrade.upgrade(deployment.settings())
    return deployment


def found_in(made: Deployment, *more: str) -> dict:
    """Kind -> finding, of what the command prints."""
    said = call(made.root, "doctor", "--vectors", *more, "--json")
    assert said.code == 0, said.text
    findings = [one["facts"]["finding"] for one in said.json["data"]["checks"] if "finding" in one["facts"]]
    return {f"{one['vector']}.{one['kind']}": one for one in findings}


def test_sound_vectors_are_not_accused(sound):
    """Neither on a sample nor when all are read; nothing is changed."""
    before = sound.contents()
    for more in ((), ("--all",), ("--only", sound.name)):
        assert found_in(sound, *more) == {}
    said = call(sound.root, "doctor", "--vectors")
    assert "80 points of 80 seen, nothing odd" in said.out
    assert sound.contents() == before


def test_planted_faults_are_found(sound):
    """Copies with other payloads, a text that changed since, another model's vector, and one that is missing."""
    points = contents_of(sound)
    names = sorted(points)
    copied, of, stale, foreign, lacking = names[3], names[4], names[10], names[20], names[30]
    planted = [
        *(Point(one, points[one].payload, {**points[one].vectors, "a": distinct(500)}) for one in (copied, of)),
        Point(stale, {**points[stale].payload, "text": points[stale].payload["text"] + " and more"}, points[stale].vectors),
        Point(foreign, points[foreign].payload, {**points[foreign].vectors, "b": [-x for x in points[foreign].vectors["b"]]}),
        Point(lacking, points[lacking].payload, {"a": points[lacking].vectors["a"]}),
    ]
    store = sound.store()
    write(store, sound.name, planted)
    store.close()
    found = found_in(sound, "--all")
    assert set(found) == {"a.copies", "b.stale", "b.other-model", "b.missing"}, json.dumps(found, indent=1)
    assert set(found["a.copies"]["ids"]) == {copied, of}
    assert found["b.stale"]["ids"] == [stale]
    assert found["b.other-model"]["ids"] == [foreign]
    assert (found["b.missing"]["points"], found["b.missing"]["ids"]) == (1, [lacking])
    assert "qmigrate fix delete" in found["a.copies"]["command"]
    assert 'op.Reembed("' in found["b.stale"]["command"]


def test_what_can_not_be_asked_is_named(sound):
    """A collection that isn't there, and options that choose nothing."""
    said = call(sound.root, "doctor", "--vectors", "--only", "nothing")
    assert "nothing" in said.text
    assert "there is no collection" in said.text
    assert call(sound.root, "doctor", "--all").code == 2
