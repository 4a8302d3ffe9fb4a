"""Values that the datatype of a vector would cut off: refused before anything is made, wherever they come from."""

from __future__ import annotations

import math

import numpy as np
import pytest
from tests.harness import Deployment, write

from qmigrate import Scale
from qmigrate.commands import rollback, snapshot, upgrade
from qmigrate.engine import rebuild
from qmigrate.engine.build import preflight
from qmigrate.engine.points.transformation import Maker
from qmigrate.errors import PlanError, RefusedError, VerificationError
from qmigrate.model.transform import Point
from qmigrate.store import records

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


#: For float16: what it makes infinity of, and vectors that are below its range as a whole.
BEYOND_HALF = [[1.0, 65520.0, 0.0, 1.0], [1.0, -1e30, 0.0, 1.0], [0.0, 6e-5, 0.0, 1e-9], [0.0, 0.0, -1e-8, 0.0]]
#: Its largest and its smallest, what it rounds, and a value that becomes 0 next to larger ones.
WITHIN_HALF = [
    [1.0, 65504.0, -65519.0, 1.0],
    [6.2e-5, 5e-8, 7e-7, -6e-8],
    [1.0, 1e-9, 0.1, 1 / 3],
]


def with_half(made: Deployment, way: str, vectors: list[list[float]], monkeypatch) -> None:
    """A collection with these vectors far behind the first page, and a pending revision that makes them float16."""
    monkeypatch.setattr(preflight, "TRIED", 64)
    load(made, None)
    store = made.store()
    write(store, made.name, [Point(ODD + at, {}, {"a": vector}) for at, vector in enumerate(vectors)])
    store.close()
    made.revise("0002", REVISIONS[way].replace("UINT8", "FLOAT16").replace("value * 2", "value"))


@pytest.mark.parametrize("vector", BEYOND_HALF, ids=str)
@pytest.mark.parametrize("way", list(REVISIONS))
def test_a_vector_beyond_float16_is_refused(deployment, way, vector, monkeypatch):
    """The point and what float16 would make of it are named, and the live collection stays."""
    with_half(deployment, way, [vector], monkeypatch)
    before = deployment.contents()
    with pytest.raises(PlanError, match=f"point {ODD} of {deployment.name} would get the value .*float16") as refused:
        upgrade.upgrade(deployment.settings())
    assert "Compute" in (refused.value.hint or "")
    assert deployment.contents() == before
    rollback.abort(deployment.settings())
    assert deployment.contents() == before


@pytest.mark.parametrize("way", list(REVISIONS))
def test_what_float16_holds_is_kept_as_it_rounds(deployment, way, monkeypatch):
    """Every value arrives as numpy rounds it, the smallest ones too, and the proof holds."""
    with_half(deployment, way, WITHIN_HALF, monkeypatch)
    upgrade.upgrade(deployment.settings())
    store = deployment.store()
    form = np.float32 if store.capabilities.local else np.float16
    found = store.fetch(deployment.name, [ODD + at for at in range(len(WITHIN_HALF))])
    store.close()
    name = "a" if way == "altered" else "b"
    seen = {records.point_id(one): records.vectors_of(one)[name] for one in found}
    expected = {ODD + at: np.array(vector, dtype=np.float32).astype(form) for at, vector in enumerate(WITHIN_HALF)}
    assert seen == {one: vector.astype(np.float32).tolist() for one, vector in expected.items()}


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


KINDS = ("float32", "float16", "uint8")
PAIRS = [(old, new) for old in KINDS for new in KINDS]
VECTOR = '"{old}_{new}": VectorParams(size=4, distance=Distance.EUCLID, datatype="{kind}")'


def altered(old: str, new: str) -> str:
    """One vector of another datatype."""
    params = f'VectorParams(size=4, distance=Distance.EUCLID, datatype="{new}")'
    return f'op.AlterVector("{{name}}", "{old}_{new}", {params}, values=CopyOf("{old}_{new}"), cutover="immediate")'


def test_every_pair_of_datatypes_keeps_what_both_hold(deployment):
    """All nine at once: whole numbers arrive as they are, and fractions as the narrower of the two rounds them."""
    vectors = ", ".join(VECTOR.format(old=old, new=new, kind=old) for old, new in PAIRS)
    deployment.revise("0001", f'def upgrade():\n    return [op.CreateCollection("{{name}}", {{{{{vectors}}}}})]\n')
    upgrade.upgrade(deployment.settings())
    fractions = {pair: "uint8" not in pair for pair in PAIRS}
    whole, broken = [0.0, 255.0, 7.0, 128.0], [1 / 3, -0.1, 1234.5, 1e-3]
    store = deployment.store()
    form = np.float32 if store.capabilities.local else np.float16
    write(store, deployment.name, [
        Point(1, {}, {f"{old}_{new}": whole for old, new in PAIRS}),
        Point(2, {}, {f"{old}_{new}": broken if fractions[old, new] else whole for old, new in PAIRS}),
    ])  # fmt: skip
    store.close()
    deployment.revise("0002", f"def upgrade():\n    return [{', '.join(altered(old, new) for old, new in PAIRS if old != new)}]\n")
    upgrade.upgrade(deployment.settings())
    store = deployment.store()
    first, second = (records.vectors_of(one) for one in store.fetch(deployment.name, [1, 2]))
    store.close()
    for old, new in PAIRS:
        assert first[f"{old}_{new}"] == whole, (old, new)
        kept = np.asarray(broken, dtype=form if "float16" in (old, new) else np.float32).astype(np.float32)
        expected = kept.tolist() if fractions[old, new] else whole
        assert second[f"{old}_{new}"] == expected, (old, new)


SCALED = """
def upgrade():
    return [op.{how}("{{name}}", "{vector}", VectorParams(size=4, distance=Distance.EUCLID, datatype=Datatype.UINT8),
                     values=CopyOf("a", scale=Scale(-2.0, 2.0)){cutover})]
"""
WAYS = {
    "added": SCALED.format(how="AddVector", vector="b", cutover=""),
    "altered": SCALED.format(how="AlterVector", vector="a", cutover=', cutover="immediate"'),
}


def load_fractions(made: Deployment, odd: list[float] | None) -> dict:
    """A cosine collection of unit vectors, and one point that may be another; its contents."""
    distance = "COSINE" if odd is None else "EUCLID"
    made.revise("0001", CREATE.replace("EUCLID", distance))
    upgrade.upgrade(made.settings())
    store = made.store()
    points = [Point(one, {"n": one}, {"a": [math.cos(one), math.sin(one), 0.0, -0.0]}) for one in range(1, 200)]
    if odd is not None:
        points[ODD - 1] = Point(ODD, {}, {"a": odd})
    write(store, made.name, points)
    store.close()
    return made.contents()


@pytest.mark.parametrize("way", list(WAYS))
def test_scaled_values_are_proven(deployment, way):
    """Each is what the rule makes of it, and the plan names readers where a vector that they use changes."""
    before = load_fractions(deployment, None)
    deployment.revise("0002", WAYS[way])
    planned = upgrade.plan(deployment.settings()).collections[0]
    assert "scaled from -2 … 2 to 0 … 255, each vector to within 0.05 of its own length" in str(planned.lines)
    assert ("queries have to be scaled as well" in str(planned) or "distance of vector a" in str(planned)) == (way == "altered")
    upgrade.upgrade(deployment.settings())
    scale = Scale(-2.0, 2.0)
    vector = "a" if way == "altered" else "b"
    found = deployment.contents()
    assert {one: vectors[vector] for one, (_, vectors) in found.items()} == {
        one: scale.apply(vectors["a"]).tolist() for one, (_, vectors) in before.items()
    }
    assert all(scale.loss(vectors["a"]) < 0.02 for _, vectors in before.values())


@pytest.mark.parametrize("way", list(WAYS))
@pytest.mark.parametrize(
    ("odd", "words"),
    [([0.1, 2.5, 0.0, 0.0], "the value 2.5: .* has no number for it"), ([0.01, 0.0, 0.0, 0.0], "of its own length")],
    ids=["outside", "too short"],
)
def test_what_a_scale_would_lose_is_refused(deployment, way, odd, words):
    """Before anything is made, by point and value, however few points it is."""
    before = load_fractions(deployment, odd)
    deployment.revise("0002", WAYS[way])
    with pytest.raises(PlanError, match=f"point {ODD} of {deployment.name} would get {words}|{words}"):
        upgrade.upgrade(deployment.settings())
    assert deployment.contents() == before


HUGE, TINY = "[1e30, 1e30, 1e30, 1e30]", "[1e-9, 1e-9, 1e-9, 1e-9]"
#: A vector that the server keeps as nothing but zeros: too long to be normalised, or below what the datatype has.
VANISHING = {
    "computed, cosine": f"""
def upgrade():
    return [op.AddVector("{{name}}", "b", VectorParams(size=4, distance=Distance.COSINE),
                         values=Compute(lambda point: {HUGE} if point.id == {ODD} else point.vectors["a"]))]
""",
    "computed, float16": f"""
def upgrade():
    return [op.AddVector("{{name}}", "b", VectorParams(size=4, distance=Distance.DOT, datatype=Datatype.FLOAT16),
                         values=Compute(lambda point: {TINY} if point.id == {ODD} else point.vectors["a"]))]
""",
    "copied, cosine": """
def upgrade():
    return [op.AddVector("{name}", "b", VectorParams(size=4, distance=Distance.COSINE), values=CopyOf("a"))]
""",
    "altered, cosine": """
def upgrade():
    return [op.AlterVector("{name}", "a", VectorParams(size=4, distance=Distance.COSINE), values=CopyOf("a"),
                           cutover="immediate")]
""",
}


@pytest.mark.server
@pytest.mark.parametrize("qdrant_config", ["server"], indirect=True)
@pytest.mark.parametrize("way", list(VANISHING))
def test_a_vector_that_is_stored_as_zeros_is_not_proven(deployment, way, monkeypatch):
    """Every point is checked, whether or not it is one of the sample, and whatever was checked as it was made."""
    monkeypatch.setattr(Maker, "_check_kept", lambda *_: None)
    deployment.extra["rebuild"] = {"sample": 0}
    deployment.__post_init__()
    load(deployment, None)
    if "computed" not in way:
        store = deployment.store()
        write(store, deployment.name, [Point(ODD, {}, {"a": [1e30] * 4})])
        store.close()
    before = deployment.contents()
    deployment.revise("0002", VANISHING[way])
    with pytest.raises(VerificationError, match=f"1 of 199 points .* {ODD} vector '[ab]' (is all zeros|differs)"):
        upgrade.upgrade(deployment.settings())
    assert deployment.contents() == before


FOUR_BITS = """
def upgrade():
    return [op.CreateCollection("{name}", {{"a": VectorParams(size=64, distance=Distance.EUCLID,
                                                            datatype=Datatype.TURBO4)}})]
"""
COPY = """
def upgrade():
    return [op.TransformPoints("{name}", lambda point: point.payload)]
"""
DENSER = """
def upgrade():
    return [op.UpdateCollection("{name}", hnsw_config=HnswConfigDiff(m=8))]
"""
INTO_FOUR_BITS = """
def doubled(point):
    return [value * 2 for value in point.vectors["a"]]


def upgrade():
    return [op.AddVector("{name}", "b", VectorParams(size=64, distance=Distance.EUCLID, datatype=Datatype.TURBO4),
                         values=VALUES)]
"""


def load_wide(made: Deployment, create: str) -> dict:
    """A collection of some size, and its contents."""
    made.revise("0001", create)
    upgrade.upgrade(made.settings())
    store = made.store()
    write(store, made.name, [Point(one, {}, {"a": [math.sin(one * place) for place in range(64)]}) for one in range(1, 40)])
    store.close()
    return made.contents()


@pytest.mark.server
@pytest.mark.parametrize("qdrant_config", ["server"], indirect=True)
def test_values_that_every_writing_changes_are_not_copied(deployment):
    """A server scales four bits a value again: refused before anything is made, for a copy and for an archive."""
    before = load_wide(deployment, FOUR_BITS)
    deployment.revise("0002", COPY)
    with pytest.raises(PlanError, match="'a' of .* is turbo4") as refused:
        upgrade.upgrade(deployment.settings())
    assert "clone" in (refused.value.hint or "")
    with pytest.raises(RefusedError, match="is turbo4"):
        snapshot.create(deployment.settings(), deployment.name, archived=True)
    store = deployment.store()
    assert [one for one in store.physical_names() if one.startswith(deployment.name)] == [f"{deployment.name}__g0001"]
    store.close()
    assert deployment.contents() == before


@pytest.mark.server
@pytest.mark.parametrize("qdrant_config", ["server"], indirect=True)
def test_four_bits_can_be_filled_but_not_copied_into(deployment):
    """A carried value could not be proven; a computed one is close enough to itself."""
    load_wide(deployment, FOUR_BITS.replace("Datatype.TURBO4", "None"))
    path = deployment.revise("0002", INTO_FOUR_BITS.replace("VALUES", 'CopyOf("a")'))
    with pytest.raises(PlanError, match="turbo4 keeps four bits"):
        upgrade.upgrade(deployment.settings())
    path.unlink()
    deployment.revise("0002", INTO_FOUR_BITS.replace("VALUES", "Compute(doubled)"), down="0001")
    upgrade.upgrade(deployment.settings())
    assert all("b" in vectors for _, vectors in deployment.contents().values())


@pytest.mark.server
@pytest.mark.parametrize("qdrant_config", ["server"], indirect=True)
@pytest.mark.parametrize("cloned", [True, False])
def test_four_bits_are_cloned_or_refused(deployment, monkeypatch, cloned):
    """What changes no values is cloned by the server bit by bit; where it can't be, it is not copied instead."""
    before = load_wide(deployment, FOUR_BITS)
    deployment.revise("0002", DENSER)
    if cloned:
        upgrade.upgrade(deployment.settings())
    else:
        monkeypatch.setattr(rebuild, "why_not", lambda step, work: "it is tried")
        with pytest.raises(PlanError, match="could not be proven"):
            upgrade.upgrade(deployment.settings())
    assert deployment.contents() == before
