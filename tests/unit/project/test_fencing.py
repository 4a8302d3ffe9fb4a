"""What keeps an unfenced request from being written: who makes permits and own aliases, and which methods ask for one."""

from __future__ import annotations

import ast
import math
import typing
from pathlib import Path

import pytest

from qmigrate.errors import LeaseHeldError, QmigrateError
from qmigrate.model.names import EpochAlias, Permit, as_own, as_probe, own_alias
from qmigrate.ports import Store

SOURCE = Path(__file__).parents[3] / "src" / "qmigrate"
#: Writes that need no own alias, and why.
FREE = {
    "create_collection": "the server refuses a name that is taken",
    "create_snapshot": "it changes no collection",
    "recover_snapshot": "its name was never used, and is given up where the outcome is unclear",
    "delete_snapshot": "a person may name one with a key that makes no alias",
    "barrier": "it changes nothing",
    "flush": "it changes nothing",
    "hides_collections": "names that were made up",
    "drop_collection": "it takes a permit",
}


def calls(name: str) -> dict[str, int]:
    """Module -> how often it calls something of this name."""
    found: dict[str, int] = {}
    for file in sorted(SOURCE.rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Call):
                called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", None)
                if called == name:
                    where = str(file.relative_to(SOURCE))
                    found[where] = found.get(where, 0) + 1
    return found


@pytest.mark.parametrize(
    ("name", "modules"),
    [
        ("Permit", {"ledger/writer.py"}),
        ("drop_collection", {"engine/retire/retire.py"}),
        ("begin_deletion", {"engine/retire/retire.py"}),
        ("of_probe", {"engine/retire/retire.py", "store/server/hiding.py"}),
        ("EpochAlias", {"model/names.py"}),
        ("as_probe", {"commands/repair.py"}),
        # Nothing but the executor goes on before late requests of an earlier holder have landed.
        ("remove_earlier", {"engine/executor.py", "engine/epoch_aliases.py"}),
        ("await_late", {"engine/executor.py", "engine/rebuild.py", "engine/epoch_aliases.py", "engine/prove/proof.py"}),
        ("cast", set()),
    ],
)
def test_only_these_modules_call(name, modules):
    """A deletion has one place, a permit comes from a lease, and no string is declared to be an own alias."""
    found = {module for module in calls(name) if name != "cast" or module.startswith(("engine", "commands"))}
    assert found == modules


def writes() -> list[str]:
    """Methods of the store's protocol that change something."""
    return [name for name, found in vars(Store).items() if (getattr(found, "__doc__", None) or "").startswith("*Write")]


@pytest.mark.parametrize("name", writes())
def test_what_changes_something_asks_for_an_own_alias(name):
    """By its type, so that a physical name doesn't pass the type check; exceptions are few and say why."""
    hints = list(typing.get_type_hints(getattr(Store, name)).values())
    asks = EpochAlias in hints or any(EpochAlias in part.__args__ for one in hints for part in getattr(one, "__args__", ()) if hasattr(part, "__args__"))
    assert asks != (name in FREE)


def test_the_exceptions_are_writes_of_the_protocol():
    """None of them is a leftover."""
    assert set(FREE) <= set(writes())


def test_a_permit_for_probes_is_for_probes_only():
    """A generation can't be deleted as a probe."""
    assert Permit.of_probe("qmigrate_probe_1_2_a").use(1e9) == "qmigrate_probe_1_2_a"
    with pytest.raises(QmigrateError):
        Permit.of_probe("notes__g0001")


def test_a_permit_is_used_within_the_lease_and_once():
    """The lease outlives the request, or nothing is sent."""
    with pytest.raises(LeaseHeldError):
        Permit("notes__g0001", lambda: 5.0).use(5.0)
    permit = Permit("notes__g0001", lambda: math.inf)
    permit.use(5.0)
    with pytest.raises(QmigrateError):
        permit.use(5.0)


def test_own_aliases_are_recognised():
    """What was looked up is one, or it is refused."""
    for alias in (own_alias("notes__g0001", 3), own_alias("notes__g0001", 3, 7)):
        assert as_own(alias) == alias
    for wrong in ("notes", "notes__g0001", "notes__old", "qmigrate_probe_1"):
        with pytest.raises(ValueError, match="not an alias"):
            as_own(wrong)
    with pytest.raises(ValueError, match="probe"):
        as_probe("notes")
