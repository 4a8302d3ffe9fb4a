"""What is stored and read back: what is ignored, what is refused, and what an error says of it."""

from __future__ import annotations

import importlib
import json
import pkgutil
from dataclasses import is_dataclass
from datetime import UTC, datetime, timedelta, timezone

import msgspec
import numpy as np
import pytest

from qmigrate import archive
from qmigrate.commands.plan_file import SavedPlan
from qmigrate.model import facts, origin, plan
from qmigrate.model.facts.audit import Audited, NotChanged
from qmigrate.model.facts.edits import Edit, OlderThan, RemovalEdit
from qmigrate.model.facts.phases import Hold, Proof, Swap
from qmigrate.model.facts.stored import by_field, lenient, loaded, plain, refuse_unknown
from qmigrate.model.plan import Build, CollectionPlan, Job, OpRef, Retire, Step
from qmigrate.model.schema import CollectionSchema
from qmigrate.model.state import LiveCollection, Seal, marks_of
from qmigrate.operations.deletion import DeleteOrphans, DeletePoints

SECRET = "hunter2"
ARCHIVED = (archive.Header, archive.WholeFacts, archive.DeletedFacts, archive.ErasedFacts)
STEP = {"kind": "retire", "target": "docs__g0001", "reason": "old"}


def stored_classes():
    """Every class that is read back."""
    modules = [plan, origin, *(importlib.import_module(f"{facts.__name__}.{one.name}") for one in pkgutil.iter_modules(facts.__path__))]
    found = {one for module in modules for one in vars(module).values() if is_dataclass(one) and isinstance(one, type)}
    return sorted({*found, SavedPlan, Seal, *ARCHIVED}, key=lambda one: one.__qualname__)


@pytest.mark.parametrize("kind", stored_classes(), ids=lambda one: one.__name__)
def test_every_type_of_a_field_is_one_that_can_be_read(kind):
    """A type that the library doesn't know would only be found by the row that has it."""

    def unknown(one):
        if isinstance(one, msgspec.inspect.CustomType) and not hasattr(one.cls, "from_json"):
            yield one.cls
        for part in (getattr(one, name, None) for name in ("fields", "types", "item_types", "item_type", "key_type", "value_type", "type")):
            for inner in part if isinstance(part, tuple) else (part,):
                if isinstance(inner, msgspec.inspect.Type | msgspec.inspect.Field):
                    yield from unknown(inner)

    assert list(unknown(msgspec.inspect.type_info(kind))) == []


@pytest.mark.parametrize(
    ("kind", "row", "words"),
    [
        (Swap, {"moved": SECRET}, "Swap: Expected `bool`, got `str` - at `$.moved`"),
        (Swap, {"moved": None}, "Swap: Expected `bool`, got `null` - at `$.moved`"),
        (Swap, {"earlier": {SECRET: 1}}, "Swap: Expected `str | null`, got `int` - at `$.earlier[...]`"),
        (Proof, {"dropped": {"file": SECRET}}, "Proof: Object missing required field `points` - at `$.dropped`"),
        (Proof, {"epoch": True}, "Proof: Expected `int | null`, got `bool` - at `$.epoch`"),
        (Hold, {"since": SECRET}, "Hold: Invalid RFC3339 encoded datetime - at `$.since`"),
        (Job, {"collection": "c", "basis": "", "steps": [{**STEP, "writes": 1}]}, "Job: Retire: Expected `str`, got `int` - at `$.writes` - at `$.steps[0]`"),
        (Job, {"collection": "c", "basis": "", "steps": [{**STEP, "kind": "teleport"}]}, "Job: no kind of step is called 'teleport' - at `$.steps[0]`"),
        (Job, {"collection": "c", "basis": "", "steps": [{**STEP, "later": SECRET}]}, "Job: Retire has no 'later' - at `$.steps[0]`"),
        (Job, {"collection": "c", "basis": ""}, "Job: Object missing required field `steps`"),
        (CollectionSchema, {"vectors": None}, "CollectionSchema: Expected `object`, got `null` - at `$.vectors`"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_named_with_its_place_and_without_its_value(kind, row, words):
    """What, where, what was expected, and what kind of value is there; it may be a secret."""
    with pytest.raises(ValueError) as met:
        loaded(kind, row)
    assert str(met.value) == words
    assert SECRET not in f"{met.value!r} {met.value.__cause__!r}"


def test_a_key_of_a_later_version_is_ignored_in_facts_and_refused_in_work():
    """A fact that isn't known changes nothing; an argument of a step that isn't known is work left out."""
    assert loaded(Swap, {"later": 1}) == Swap()
    assert loaded(Job, {"collection": "c", "basis": "b", "steps": [STEP], "closes": [], "later": 1}).steps == (
        Retire("docs__g0001", "old"),
    )
    with pytest.raises(ValueError, match="CollectionPlan has no 'later'"):
        refuse_unknown(CollectionPlan, {"lines": [], "later": 1})


def test_a_step_reads_itself_by_its_kind():
    """And its references to operations are lists of two."""
    build = Build((OpRef("0002", 1),), None, "docs__g0001", 1, CollectionSchema(aliases=("a",)), "empty", "new")
    text = json.dumps(build.to_json())
    assert json.loads(text)["ops"] == [["0002", 1]]
    assert Step.from_json(json.loads(text)) == build
    assert {OpRef("0002", 1): 1}[OpRef("0002", 1)] == 1


@pytest.mark.parametrize(
    ("row", "found"),
    [
        ({"run": True}, Audited()),
        ({"run": 1.0}, Audited()),
        ({"run": None, "file": None}, Audited(file=None)),
        ({"held_until": "2026-01-01T00:00:00"}, Audited()),
        ({"held_until": "2026-01-01T00:00:00+00:00"}, Audited(held_until=datetime(2026, 1, 1, tzinfo=UTC))),
        ({"counts": {"a": "many"}, "purges": 3}, Audited()),
        ({"purges": [1, 2], "not_changed": {"gone": 2}}, Audited(purges=(1, 2), not_changed=NotChanged(gone=2))),
        ({"not_changed": {"gone": "x"}, "said": 4, "other": [1]}, Audited(said={"other": [1]})),
    ],
)  # fmt: skip
def test_a_row_of_another_client_says_what_fits(row, found):
    """Field by field."""
    assert lenient(Audited, row) == found


@pytest.mark.parametrize(
    ("seal", "found"),
    [
        (None, Seal()),
        ({}, Seal()),
        ({"ledger": "L", "generation": 2, "later": 1}, Seal(ledger="L", generation=2)),
        ({"ledger": "L", "generation": "2", "embedders": []}, Seal(ledger="L")),
        ({"ledger": 7, "state": "building"}, Seal(state="building")),
    ],
)  # fmt: skip
def test_a_seal_says_what_is_of_our_form(seal, found):
    """It is metadata that any client may write; what is missing or odd is the seal of no generation of ours."""
    assert Seal.of(seal) == marks_of(LiveCollection("c__g0002", CollectionSchema(), seal=seal)) == found
    assert found.is_of("L", 2) == (found.generation == 2)
    assert marks_of(None) == Seal()


def test_an_archive_tells_by_kind_what_it_has():
    """A file of an earlier version says less; keys of another kind say nothing."""
    whole = archive.WholeFacts(revisions=(("0001", "sum"),), declared=CollectionSchema(), local=True)
    at = datetime(2026, 1, 1, tzinfo=UTC)
    header = archive.Header("snapshot", "c", "c__g0001", 1, CollectionSchema(), None, "", at, by_field(whole))
    assert list(header.facts) == ["revisions", "declared", "embedders", "aliases", "local"]
    assert header.told(archive.WholeFacts) == whole
    assert header.told(archive.DeletedFacts) == archive.DeletedFacts(applied=None)
    assert loaded(archive.Header, json.loads(json.dumps(by_field(header)))) == header


@pytest.mark.parametrize("zone", [UTC, timezone(timedelta(hours=5, minutes=30))])
def test_a_time_is_stored_as_ever(zone):
    """The library would write UTC as ``Z``: other bytes for the same time."""
    at = datetime(2026, 1, 2, 3, 4, 5, 6, tzinfo=zone)
    assert plain(at) == at.isoformat()
    assert loaded(Hold, by_field(Hold(since=at))) == Hold(since=at)


@pytest.mark.parametrize(
    ("operation", "kind"),
    [
        (DeletePoints("c", older_than={"field": "at", "age": "1d"}, reason="r"), RemovalEdit),
        (DeleteOrphans("c", sql="SELECT id FROM t", database="d", reason="r", grace="2h"), RemovalEdit),
    ],
    ids=["age", "grace"],
)
def test_a_duration_of_an_operation_is_a_plain_number_in_its_edit(operation, kind):
    """The library takes no other class for a number."""
    edit = operation.edit()
    assert loaded(kind, edit) == loaded(kind, json.loads(json.dumps(edit)))
    assert {type(one) for one in (edit.get("grace"), (edit.get("older_than") or {}).get("age"))} == {float, type(None)}
    assert loaded(OlderThan, {"field": "at", "age": 60}).age == 60.0


def test_a_number_of_another_library_is_read_as_what_is_stored_of_it():
    """A share that a program has computed may be numpy's own kind of float."""
    operation = DeletePoints("c", filter={"must": []}, max_share=np.float64(0.5), reason="r")
    assert type(loaded(Edit, operation.edit()).max_share) is float
