"""The public surface: what is exported, and what an import costs."""

import inspect
import json
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import qmigrate
from qmigrate import op
from qmigrate.operations.base import Operation

HEAVY = ("torch", "numpy", "grpc", "sqlalchemy", "qdrant_client", "alembic", "httpx", "pydantic", "rich", "click", "prometheus_client")


@pytest.mark.parametrize("module", [qmigrate, op], ids=lambda module: module.__name__)
def test_names_are_sorted_and_real(module):
    """Every exported name exists, and the list is sorted and without repetition."""
    names = list(module.__all__)
    assert names == sorted(set(names))
    assert all(hasattr(module, name) for name in names)


def test_all_operations_are_exported():
    """Every concrete operation of the package is in the namespace, and nothing else is."""

    def concrete(parent):
        for child in parent.__subclasses__():
            if not inspect.isabstract(child) and child.__module__.startswith("qmigrate."):
                yield child.__name__
            yield from concrete(child)

    assert set(concrete(Operation)) == set(op.__all__)


def test_an_editor_offers_the_operations_and_nothing_else():
    """What a console completes after `op.` are the operations: no module of theirs, no helper."""
    assert dir(op) == op.__all__


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("CreateColection", '; did you mean "CreateCollection"?'),
        ("addvector", '; did you mean "AddVector"?'),
        ("Frobnicate", ""),
    ],
)
def test_an_operation_that_is_misspelt(name, meant):
    """The error is Python's own kind, and names the operation that was probably meant."""
    with pytest.raises(AttributeError) as caught:
        getattr(op, name)
    assert str(caught.value) == f"qmigrate.op has no operation {name!r}{meant}"


def test_the_package_exports_what_a_revision_needs():
    """The values and the operations are there under the names that revisions and applications use."""
    public = {name for name in dir(qmigrate) if not name.startswith("_") and getattr(qmigrate, name)} & set(qmigrate.__all__)
    values = {"Checksum", "Compare", "Compute", "CopyOf", "Embed", "Empty", "FILL_ME", "KnownItem", "Logged", "Recall", "SameValue", "Scale", "Sentence", "Shorten", "Uuid5", "WriteBack", "variable"}
    assert public == {*values, "Collection", "ensure", "expect", "op"}


def test_version_is_that_of_the_distribution():
    """`__version__` and the project file agree."""
    project = Path(__file__).parents[3] / "pyproject.toml"
    assert qmigrate.__version__ == tomllib.loads(project.read_text())["project"]["version"]


def test_import_loads_nothing_heavy():
    """Importing the package, and making an operation of plain values, loads no client, SQL or numeric library."""
    code = (
        "import json, sys\n"
        "from qmigrate import Embed, op\n"
        "op.AddVector('c', 'v', {'size': 4, 'distance': 'Cosine'}, values=Embed('e', text='t')).describe()\n"
        "op.AddVector('c', 's', {'modifier': 'idf'}, values=Embed('e', text='t')).describe()\n"
        "op.CreateCollection('c', {'v': {'size': 4, 'distance': 'Dot'}}, {'s': {}}, {'f': 'keyword'}, hnsw_config={'m': 8})\n"
        "print(json.dumps(sorted({name.split('.')[0] for name in sys.modules})))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert set(json.loads(done.stdout)).isdisjoint(HEAVY)


@pytest.mark.parametrize("name", op.__all__)
def test_operations_are_documented_and_frozen(name):
    """Every operation is a frozen slotted dataclass, and its docstring, or that of its base, explains each argument."""
    found = getattr(op, name)
    words = "\n".join(one.__doc__ or "" for one in found.__mro__ if issubclass(one, Operation))
    assert found.__dataclass_params__.frozen
    assert "__slots__" in vars(found)
    arguments = list(inspect.signature(found).parameters)
    missing = [one for one in arguments if f"{one}: " not in words]
    assert missing == []


@pytest.mark.parametrize(
    ("name", "arguments"),
    [("SetPayload", ({"a": 1}, {"must": []}, 0.5, "why")), ("DeletePayload", ("a", {"must": []}, 0.5, "why"))],
)
def test_what_a_fix_has_from_its_base_keeps_its_position(name, arguments):
    """Arguments that every fix of payload keys has may be given by position where they always could be."""
    made = getattr(op, name)("docs", *arguments)
    assert (made.collection, made.filter, made.max_share, made.reason) == ("docs", {"must": []}, 0.5, "why")
