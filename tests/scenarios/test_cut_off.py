"""Values that the datatype of a vector would cut off: refused before anything is made, wherever they come from."""

from __future__ import annotations

import pytest
from tests.harness import Deployment, write

from qmigrate.commands import upgrade
from qmigrate.errors import PlanError
from qmigrate.model.transform import Point

CREATE = """
def upgrade():
    return [op.CreateCollection("{name}", {{"a": VectorParams(size=4, distance=Distance.EUCLID)}})]
"""
#: Far behind the first page that is tried.
ODD = 150
ADD = """
def function(point):
    return [value * 2 if point.id != 150 else value for value in point.vectors["a"]]


def upgrade():
    return [op.AddVector("{name}", "b", VectorParams(size=4, distance=Distance.EUCLID, datatype=Datatype.UINT8), values=VALUES)]
"""
ALTER = """
def upgrade():
    return [op.AlterVector("{name}", "a", VectorParams(size=4, distance=Distance.EUCLID, datatype=Datatype.UINT8),
                           values=CopyOf("a"), cutover="immediate")]
"""
REVISIONS = {
    "copy": ADD.replace("VALUES", 'CopyOf("a")'),
    "altered": ALTER,
    "computed": ADD.replace("VALUES", "Compute(function)"),
}


def load(made: Deployment, odd: float | None) -> None:
    """A collection of whole numbers, and one point that may have another."""
    made.revise("0001", CREATE)
    upgrade.upgrade(made.settings())
    store = made.store()
    points = [Point(number, {}, {"a": [float(number % 100), 1.0, 0.0, 120.0]}) for number in range(1, 200)]
    if odd is not None:
        points[ODD - 1] = Point(ODD, {}, {"a": [1.0, odd, 2.0, 3.0]})
    write(store, made.name, points)
    store.close()


@pytest.mark.parametrize("odd", [0.31, -1.0, 255.5, 256.0])
@pytest.mark.parametrize("way", list(REVISIONS))
def test_a_value_that_would_be_cut_off_is_refused(deployment, way, odd):
    """The point and the value are named with the way out, the live collection stays, and what is copied leaves nothing."""
    load(deployment, odd)
    before = deployment.contents()
    deployment.revise("0002", REVISIONS[way])
    with pytest.raises(PlanError, match=f"point {ODD} of {deployment.name} would get the value {odd:g}") as refused:
        upgrade.upgrade(deployment.settings())
    assert refused.value.exit_code == 2
    assert "Compute" in (refused.value.hint or "")
    assert deployment.contents() == before
    store = deployment.store()
    names = [name for name in store.physical_names() if name.startswith(deployment.name)]
    store.close()
    assert names == [f"{deployment.name}__g0001"] or way == "computed"


@pytest.mark.parametrize("way", list(REVISIONS))
def test_whole_numbers_are_kept(deployment, way):
    """From 0 to 255 all of them arrive as they are."""
    load(deployment, None)
    deployment.revise("0002", REVISIONS[way])
    upgrade.upgrade(deployment.settings())
    times = 2 if way == "computed" else 1
    vector = "a" if way == "altered" else "b"
    found = {one: vectors[vector] for one, (_, vectors) in deployment.contents().items()}
    expected = {number: [number % 100 * times, 1 * times, 0, 120 * times] for number in found}
    if way == "computed":
        expected[ODD] = [ODD % 100, 1, 0, 120]
    assert found == expected
