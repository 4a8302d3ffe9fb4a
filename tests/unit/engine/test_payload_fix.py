"""Which operation says what points should be, from an edit that was stored: those of the package, and no other class."""

import pytest

from qmigrate import op
from qmigrate.engine.fixes.payload import Assign, _operation_of
from qmigrate.errors import RepairNeededError
from qmigrate.model.fix import PointEdit


@pytest.mark.parametrize(
    ("made", "payload", "expected"),
    [
        (op.SetPayload("c", {"a": 1, "b": [2]}), {"a": 0}, {"a": 1, "b": [2]}),
        (op.DeletePayload("c", ["a", "b"]), {"a": 0}, {}),
    ],
    ids=["set", "delete"],
)
def test_a_stored_edit_gives_the_operation_back(made, payload, expected):
    """What is kept of it is enough to know each point as it should be."""
    found, said = _operation_of(made.edit())
    assert (type(found), list(found.payload_keys()), found.after(payload)) == (type(made), ["a", "b"], expected)
    assert said == {name: made.edit()[name] for name in ("values", "removed")}


@pytest.mark.parametrize("name", ["TrimPayload", "Call", "__all__", ""])
def test_an_operation_that_is_not_there_is_refused(name):
    """One of a later version, one that is no such fix, and a name without an operation."""
    with pytest.raises(RepairNeededError, match="no fix"):
        _operation_of({"kind": "payload", "operation": name, "arguments": {}})


@pytest.mark.parametrize(
    ("payload", "state"),
    [
        (None, "gone"),
        ({}, "after"),
        ({"a": None}, "before"),
        ({"a": 1}, "before"),
        ({"a": 2}, "moved"),
    ],
)
def test_a_key_that_holds_null_is_still_there(payload, state):
    """A deletion of a key is done once the key is gone."""
    assert Assign.state(payload, PointEdit(1, {"a": 1}, {})) == state
