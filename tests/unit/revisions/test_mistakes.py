"""What is written wrongly in a revision file, as the first user of an operation does, and how it is said."""

from __future__ import annotations

import inspect

import pytest

import qmigrate
from qmigrate import op
from qmigrate.errors import PlanError, RevisionError
from qmigrate.revisions.file import VALUES, load_file

HEAD = """from qdrant_client.models import Distance, VectorParams
from qmigrate import Embed, Empty, op
revision, down_revision = "0002", "0001"
V = VectorParams(size=2, distance=Distance.DOT)

def upgrade():
    return [
        {}
    ]
"""
ADD = "AddVector needs collection, vector, params, values=; it may have quality=, strategy="
EMBED = "Embed needs embedder; it may have text=, image=, on_failure=, checksum=, write_back="

#: What is written -> what is said of it, and what is right.
MISTAKES = {
    'op.AddVector("docs", "b", V, vlaues=Empty())': ('AddVector has no argument vlaues; did you mean "values"?', ADD),
    'op.AddVector("docs", "b", V)': ("AddVector is called without values", ADD),
    'op.AddVector("docs", values=Empty())': ("AddVector is called without vector, params", ADD),
    'op.AddVector("docs", "b", V, Empty())': ("AddVector takes only collection, vector, params without a name", ADD),
    'op.AddVector("docs", "b", V, vector="b", values=Empty())': ("AddVector is given vector twice", ADD),
    'op.AddVector("docs", "b", V, values=Embed("words", txt="title"))': (
        'Embed has no argument txt; did you mean "text"?',
        EMBED,
    ),
    'op.AddVector("docs", "b", V, values=Embed("words", "title"))': ("Embed takes only embedder without a name", EMBED),
    'op.AddVector("docs", "b", V, values=Embed("words"))': (
        "Embed('words'): give what to embed, either text= or image=",
        "for example Embed('words', text=\"content\")",
    ),
    'op.AddVector("docs", "b", V, values=Empty(1))': ("Empty takes nothing without a name", "Empty() takes no arguments"),
    'op.CreateCollection("docs", V, hnsw={})': ('has no argument hnsw; did you mean "hnsw_config"?', "needs name; it may"),
    'op.Reembed("docs", "b", values=Empty(), cutovr="hold")': ('did you mean "cutover"?', "Reembed needs collection"),
    'op.CreatColection("docs", V)': ("has no operation 'CreatColection'; did you mean \"CreateCollection\"?", None),
    "op.Uuid5()": ("qmigrate.op has no operation 'Uuid5'", "from qmigrate import Uuid5"),
    'CreateCollection("docs", V)': ("CreateCollection is an operation", "op.CreateCollection, after: from qmigrate"),
    'op.DropVector("docs", CopyOf("a"))': ("CopyOf is not imported", "from qmigrate import CopyOf"),
    'op.AddVector("docs", "b", SparseVectorParams(), values=Empty())': (
        "SparseVectorParams is not imported",
        "from qdrant_client.models import SparseVectorParams",
    ),
    'op.AddVector("docs", "b", VectorParms(size=2), values=Empty())': ('did you mean "VectorParams"?', None),
    'op.CreateCollection("docs", VectorParams(size=2, distance=Distance.COSIN))': (
        'Distance has no COSIN; did you mean "COSINE"?',
        None,
    ),
    'op.CreateCollection("docs", VectorParams(sise=2, distance=Distance.DOT))': (
        'VectorParams is made without size; VectorParams has no field sise; did you mean "size"?',
        "VectorParams takes size, distance",
    ),
    'op.CreateCollection("docs", VectorParams(size="x", distance=Distance.DOT))': ("VectorParams: size: ", "takes size"),
    'op.CreateCollection("docs", VectorParams(2, Distance.DOT))': ("takes its fields by name only", "VectorParams(size="),
    "op.AddVector": ("item 0 of upgrade() is not an operation", "put its arguments in parentheses"),
    '[op.DropVector("docs", "a")]': ("item 0 of upgrade() is not an operation", "put an asterisk before it"),
}


def refusal(tmp_path, text: str) -> RevisionError:
    """What loading a file ends in."""
    file = tmp_path / "0002_title.py"
    file.write_text(text)
    with pytest.raises(RevisionError) as caught:
        load_file(file)
    assert caught.value.message.startswith(f"{file}, line ")
    return caught.value


@pytest.mark.parametrize("written", sorted(MISTAKES))
def test_a_usual_mistake_is_said_in_words(tmp_path, written):
    """Where, what, what was probably meant, and what is right; nothing of Python's own types and addresses."""
    said, hint = MISTAKES[written]
    error = refusal(tmp_path, HEAD.format(written))
    assert said in error.message
    assert "Error" not in error.message
    assert "https:" not in error.message
    assert (error.hint is None) if hint is None else (hint in (error.hint or ""))
    place = 6 if "item 0" in said else 8
    assert f"line {place}: " in error.message


@pytest.mark.parametrize("name", sorted({*op.__all__, *VALUES}))
def test_every_operation_and_value_names_its_arguments(tmp_path, name):
    """A keyword that it doesn't have, one too few, one too many."""
    kind = VALUES.get(name) or getattr(op, name)
    called = name if name in VALUES else f"op.{name}"
    head = HEAD.replace("Embed, Empty", "Embed, Empty" if name not in VALUES else f"Empty, {name}")
    error = refusal(tmp_path, head.format(f"{called}(zzz=1)"))
    assert f"{name} has no argument zzz" in error.message
    takes = inspect.signature(kind).parameters
    for argument in takes:
        assert argument in (error.hint or "")
    needed = [one for one, part in takes.items() if part.default is part.empty]
    if needed:
        assert f"{name} is called without {needed[0]}" in refusal(tmp_path, head.format(f"{called}()")).message
    many = ", ".join(["'x'"] * 30)
    assert f"{name} takes " in refusal(tmp_path, head.format(f"{called}({many})")).message


def test_all_that_a_revision_imports_is_known():
    """What ``from qmigrate import …`` offers, but the functions for applications."""
    offered = {name for name in qmigrate.__all__ if isinstance(getattr(qmigrate, name), type)}
    # Of declared schemas, not of revisions.
    assert offered - {"Collection"} == set(VALUES)


@pytest.mark.parametrize(
    ("body", "said", "hint"),
    [
        ('op.DropVector("docs", "a")', "not None", "return [op"),
        ('return op.DropVector("docs", "a")', "not an operation alone", "write return [DropVector("),
        ("return {}", "not dict", "return [op"),
    ],
    ids=["nothing returned", "no list", "a dict"],
)
def test_what_upgrade_returns_is_named_with_its_line(tmp_path, body, said, hint):
    """The line is that of the function: a return that is missing has none."""
    error = refusal(tmp_path, f'from qmigrate import op\nrevision, down_revision = "a", None\n\ndef upgrade():\n    {body}\n')
    assert said in error.message
    assert ", line 4: " in error.message
    assert hint in (error.hint or "")


#: Values of types that nothing takes.
ODD = (None, 5, 1.5, "text", b"x", [], [5], {}, {"a": 5}, {5: 5}, object, len, True, {"a"}, (1, 2))
GOOD = {"params": {"size": 2, "distance": "Dot"}, "function": len, "sql": "SELECT id FROM a", "values": qmigrate.Empty()}


@pytest.mark.parametrize("name", sorted({*op.__all__, *VALUES}))
def test_a_value_of_a_wrong_type_is_said_in_words(name):
    """Made with it, or checked before it is compared: no argument ends in an error of Python."""
    kind = VALUES.get(name) or getattr(op, name)
    takes = {one: part for one, part in inspect.signature(kind).parameters.items() if one != "_"}
    for argument in takes:
        for odd in ODD:
            given = {one: GOOD.get(one, "x") for one, part in takes.items() if part.default is part.empty}
            try:
                made = kind(**{**given, argument: odd})
                if name not in VALUES:
                    made.check_words()
                    made.touched()
                    made.edit()
            except PlanError:
                continue
