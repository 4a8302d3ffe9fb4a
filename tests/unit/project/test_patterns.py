"""Which names a pattern means, and that nothing else decides it."""

import ast
from pathlib import Path

import pytest

from qmigrate import op
from qmigrate.model import names as patterns
from qmigrate.revisions.graph import Revisions

SOURCE = Path(__file__).parents[3] / "src" / "qmigrate"
NAMES = ["docs[eu]", "docse", "docsu", "other"]
#: Pattern, the names that there are, and those of them that it means.
MEANT = [
    ("docs[eu]", NAMES, ["docs[eu]"]),
    ("docs[eu]", NAMES[1:], ["docse", "docsu"]),
    ("glob:docs[eu]", NAMES, ["docse", "docsu"]),
    ("glob:other", NAMES, ["other"]),
    ("docs*", NAMES, NAMES[:3]),
    ("docs*", [*NAMES, "docs*"], ["docs*"]),
    ("glob:docs*", [*NAMES, "docs*"], [*NAMES[:3], "docs*"]),
    ("docs[[]eu]", NAMES, ["docs[eu]"]),
    ("docs[", NAMES, []),
    ("Docse", NAMES, []),
    ("other", NAMES, ["other"]),
]


@pytest.mark.parametrize(("pattern", "names", "meant"), MEANT)
def test_a_name_that_exists_is_no_glob(pattern, names, meant):
    """A name means itself; a glob is read only where nothing has that name, or where it is marked as one."""
    assert patterns.met(pattern, names) == meant
    assert [name for name in names if op.DropVector(pattern, "a").bound(names).matches(name)] == meant


@pytest.mark.parametrize(
    ("one", "other", "may"),
    [
        ("docs_*", "*_eu", True),
        ("docs?", "docs[ab]", True),
        ("a*b*c", "*x*y", False),
        ("a*b*c", "*x*y*", True),
        ("docs_*", "images_*", False),
        ("docs*", "do", False),
        ("docs*", "docs", True),
        ("*", "", True),
        ("docs[eu]", "docs[eu]", True),
        ("docs[eu]", "docse", True),
        ("docs[eu]", "docs[*", True),
        ("docs[", "docs[", True),
        ("docs[", "docse", False),
        ("glob:docs_*", "glob:*_eu", True),
        ("docs=eu", "docs=*", True),
        ("docs_eu", "docs_us", False),
    ],
)
def test_patterns_that_may_mean_one_name_overlap(one, other, may):
    """Two globs do where a name fits both, though neither fits the other."""
    assert (patterns.overlap(one, other), patterns.overlap(other, one)) == (may, may)


def test_a_name_that_is_not_among_the_choice_is_a_name_all_the_same():
    """Where only some names can be chosen, one that exists next to them still isn't read as a glob."""
    assert patterns.met("docs[eu]", ["docse", "docsu"], NAMES) == []


def test_what_a_revision_creates_is_a_name_for_its_operations(tmp_path):
    """Before anything exists, the name that a revision creates is one for the operations behind it."""
    (tmp_path / "versions").mkdir()
    head = "from qdrant_client.models import *\nfrom qmigrate import op\n"
    body = '\ndef upgrade():\n    return [op.CreateCollection("docs[eu]", {}), op.DropPayloadIndex("docs[eu]", "k")]\n'
    down = '\ndef downgrade():\n    return [op.DropCollection("docs[eu]")]\n'
    (tmp_path / "versions" / "1.py").write_text(f'"""a"""\n{head}revision = "1"\ndown_revision = None\n{body}{down}')
    found = Revisions.load(tmp_path)
    every = (*found.get("1").operations, *found.downgrade_operations("1"))
    assert [[name for name in NAMES if one.matches(name)] for one in every] == [["docs[eu]"]] * 3


def test_names_are_asked_for_only_in_doubt_and_no_downgrade_is_run(tmp_path):
    """Where no pattern may be both, nothing is asked; a downgrade() runs when it is needed, and not before."""
    (tmp_path / "versions").mkdir()
    head = '"""a"""\nfrom qmigrate import op\nrevision = "{}"\ndown_revision = {}\n'
    body = '\ndef upgrade():\n    return [op.DropPayloadIndex("{}", "k")]\n'
    down = '\ndef downgrade():\n    raise SystemError("it ran")\n'
    (tmp_path / "versions" / "1.py").write_text(head.format("1", "None") + body.format("docs*") + down)
    asked = []
    plain = Revisions.load(tmp_path).bound(lambda: asked.append(1) or NAMES)
    assert (len(plain.order()), asked) == (1, [])
    (tmp_path / "versions" / "2.py").write_text(head.format("2", "'1'") + body.format("docs[eu]"))
    found = Revisions.load(tmp_path).bound(lambda: asked.append(1) or NAMES)
    assert [name for name in NAMES if found.get("2").operations[0].matches(name)] == ["docs[eu]"]
    assert asked == [1]


def test_only_one_module_reads_globs():
    """No other module imports fnmatch, or matches with a path's or the glob module's methods."""
    found = []
    for file in sorted(SOURCE.rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            named = [one.name for one in node.names] if isinstance(node, ast.Import) else []
            named += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            if {"fnmatch", "glob"} & set(named):
                found.append(str(file.relative_to(SOURCE)))
    assert found == ["model/names.py"]
