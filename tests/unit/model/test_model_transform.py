"""The function f: composition and the way back."""

from hypothesis import given
from hypothesis import strategies as st

from qmigrate import Compute, Empty
from qmigrate.model.transform import PointTransform

NAMES = ("a", "b", "c", "")


def one(point):
    """Set a field."""
    return {**point.payload, "one": 1}


def two(point):
    """Set another field."""
    return {**point.payload, "two": 2}


def vector(point):
    """A vector of one value."""
    return [1.0]


FUNCTIONS = st.lists(st.sampled_from([one, two]), max_size=2).map(tuple)
names = st.sampled_from(NAMES)


@st.composite
def transforms(draw):
    """Any transform."""
    carried = draw(st.dictionaries(names, names, max_size=4))
    free = [name for name in NAMES if name not in carried]
    values = draw(st.dictionaries(st.sampled_from(free), st.sampled_from([Empty(), Compute(vector)]))) if free else {}
    return PointTransform(
        vectors=carried,
        converted=frozenset(draw(st.lists(st.sampled_from(sorted(carried)))) if carried else ()),
        values=values,
        payload=draw(FUNCTIONS),
        inverse=draw(st.none() | FUNCTIONS),
        lossless=draw(st.booleans()),
        drops=draw(st.booleans()),
    )


@st.composite
def renamings(draw):
    """Lossless transforms that neither add nor drop a vector."""
    target = draw(st.permutations(NAMES))
    payload = draw(FUNCTIONS)
    return PointTransform(vectors=dict(zip(target, NAMES, strict=True)), payload=payload, inverse=payload)


@given(transforms(), transforms(), transforms())
def test_then_is_associative(first, second, third):
    """It doesn't matter how a chain of transforms is put together."""
    assert first.then(second).then(third) == first.then(second.then(third))


@given(transforms())
def test_identity_is_neutral(transform):
    """Following the identity changes nothing."""
    assert PointTransform.identity(frozenset(NAMES)).then(transform) == transform


@given(renamings())
def test_back_of_back_is_the_transform(transform):
    """Going back twice is going forward."""
    back = transform.back()
    assert back is not None
    assert back.back() == transform


@given(renamings())
def test_there_and_back_carries_every_vector_to_itself(transform):
    """A lossless transform followed by its inverse is the identity of the vectors."""
    back = transform.back()
    assert back is not None
    assert dict(transform.then(back).vectors) == {name: name for name in NAMES}


def test_an_added_vector_is_left_out_on_the_way_back():
    """The old point is had back without the vector that was added, which is lost by it."""
    added = PointTransform(vectors={"a": "a"}, values={"b": Empty()})
    back = added.back()
    assert back is not None
    assert dict(back.vectors) == {"a": "a"}
    assert back.drops
    assert back.back() is None


def test_a_copied_vector_comes_back_from_itself():
    """Where a vector was copied next to itself, the way back takes the original and leaves the copy out."""
    for copy in ("0", "z"):
        back = PointTransform(vectors=dict(sorted({"a": "a", copy: "a"}.items()))).back()
        assert back is not None
        assert dict(back.vectors) == {"a": "a"}
        assert back.drops
        assert not back.lossless


def test_what_can_not_be_had_back():
    """Lost values, rounded values and a payload function without inverse have no way back."""
    carried = {"a": "a"}
    assert PointTransform(vectors=carried, lossless=False).back() is None
    assert PointTransform(vectors=carried, converted=frozenset({"a"})).back() is None
    assert PointTransform(vectors=carried, payload=(one,), inverse=None).back() is None


def test_is_identity():
    """Only a transform that leaves each point exactly as it is reports that."""
    assert PointTransform.identity(frozenset(NAMES)).is_identity()
    assert not PointTransform(vectors={"a": "b"}).is_identity()
    assert not PointTransform(vectors={}, drops=True).is_identity()
    assert not PointTransform(vectors={}, values={"a": Empty()}).is_identity()
    assert not PointTransform(vectors={}, payload=(one,)).is_identity()
    assert not PointTransform(vectors={"a": "a"}, converted=frozenset({"a"})).is_identity()


def test_filled_leaves_empty_ones_out():
    """A vector that nothing fills is not among those that get a value."""
    found = PointTransform(vectors={}, values={"b": Empty(), "c": Compute(vector), "a": Compute(vector)})
    assert found.filled == ("a", "c")
