"""What another client changes in the live collection while the next generation is built: never lost without a word."""

from __future__ import annotations

from dataclasses import replace

import pytest
from tests.harness import ADD, CREATE, make_point, write

from qmigrate.commands import upgrade
from qmigrate.errors import DriftError
from qmigrate.model.schema import Change
from qmigrate.steps import build, golive

POINTS = 20
VECTOR = {"size": 2, "distance": "Dot"}
INDEX = {"type": "integer"}
#: Name -> the change, and what the refusal says of it.
CHANGES = {
    "index": (Change("index.add", "n", after=INDEX), "add payload index n"),
    "metadata": (Change("config.set", "metadata", after={"owner": "search"}), "set setting metadata"),
    "vector": (Change("vector.add", "h", after=VECTOR), "add vector h"),
}
#: Of local mode, which keeps no index.
KEPT = ("metadata", "vector")
#: Behind which call it comes: before the proof of the build, or behind it.
MOMENTS = {"while it is filled": (build, "copy_ranges"), "behind the proof": (build, "prove")}


@pytest.mark.parametrize("moment", list(MOMENTS))
@pytest.mark.parametrize("kind", list(CHANGES))
def test_a_change_by_another_client_is_not_lost(deployment, monkeypatch, kind, moment):
    """The name does not move; once the change is undone, the run goes on and loses no point."""
    if kind not in KEPT and "path" in deployment.qdrant:
        pytest.skip("local mode keeps no payload index")
    deployment.revise("0001", CREATE)
    upgrade.upgrade(deployment.settings())
    deployment.load(POINTS)
    deployment.revise("0002", ADD)
    change, words = CHANGES[kind]
    old = f"{deployment.name}__g0001"
    module, name = MOMENTS[moment]
    original = getattr(module, name)

    def changed(work, *args, **kwargs):
        made = original(work, *args, **kwargs)
        work.store.apply(old, change)
        return made

    with monkeypatch.context() as patch:
        patch.setattr(module, name, changed)
        with pytest.raises(DriftError, match=f"would lose that: {words}") as refused:
            upgrade.upgrade(deployment.settings())
    assert "undo it" in (refused.value.hint or "")
    assert serves(deployment) == old
    store = deployment.store()
    store.apply(old, change.reverse() if kind != "metadata" else Change("config.set", "metadata", {}, change.after))
    store.close()
    upgrade.upgrade(deployment.settings())
    assert serves(deployment) == f"{deployment.name}__g0002"
    assert len(deployment.contents()) == POINTS


@pytest.mark.server
@pytest.mark.parametrize("qdrant_config", ["server"], indirect=True)
def test_what_a_freeze_leaves_in_the_source_is_no_change(deployment, monkeypatch):
    """A frozen run that ends before the name moves goes on: its own limits of writes are nobody's change."""
    deployment.revise("0001", CREATE)
    upgrade.upgrade(deployment.settings())
    deployment.load(POINTS)
    deployment.revise("0002", ADD)
    deployment.extra["rebuild"] = {"writes": "freeze"}
    deployment.__post_init__()

    def ends(*args, **kwargs):
        raise OSError("the process ends here")

    with monkeypatch.context() as patch:
        patch.setattr(golive, "swap", ends)
        with pytest.raises(OSError, match="ends here"):
            upgrade.upgrade(deployment.settings())
    upgrade.upgrade(deployment.settings())
    assert serves(deployment) == f"{deployment.name}__g0002"
    assert len(deployment.contents()) == POINTS


@pytest.mark.server
@pytest.mark.parametrize("qdrant_config", ["server"], indirect=True)
def test_a_vector_that_comes_while_the_name_moves_stops_nobody(deployment, monkeypatch):
    """Behind the last look: a late point with it is named, one without it is carried, and the run ends."""
    deployment.revise("0001", CREATE)
    upgrade.upgrade(deployment.settings())
    deployment.load(POINTS, uuids=False)
    deployment.revise("0002", ADD)
    old = f"{deployment.name}__g0001"
    swap = golive.swap

    def late(work, target, names):
        work.store.apply(old, CHANGES["vector"][0])
        strange = replace(make_point(3, text="strange"), vectors={"a": [1.0] * 8, "h": [1.0, 2.0]})
        write(work.store, old, [strange, make_point(5, text="late")])
        swap(work, target, names)

    monkeypatch.setattr(golive, "swap", late)
    result = upgrade.upgrade(deployment.settings())
    (report,) = (facts["sweep"] for facts in result.outcomes[-1].report.values() if isinstance(facts.get("sweep"), dict))
    assert [(one, "vector 'h'" in reason) for one, reason in report["listed"]["named"]] == [(4, True)]
    found = deployment.contents()
    assert (found[4][0]["n"], found[6][0]["text"]) == (3, "late")
    assert found[4][0]["text"] != "strange"


def serves(deployment) -> str | None:
    """The generation behind the name."""
    store = deployment.store()
    found = store.aliases().get(deployment.name)
    store.close()
    return found
