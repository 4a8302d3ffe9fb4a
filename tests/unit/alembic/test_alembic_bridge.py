"""What the bridge to Alembic and inline revisions compute, without any database."""

from __future__ import annotations

import dataclasses
import re
import tomllib
from datetime import timedelta
from fnmatch import fnmatchcase
from pathlib import Path

import pytest
from qdrant_client.models import Distance, PayloadSchemaType, VectorParams

from qmigrate import Compute, CopyOf, Embed, Empty, op
from qmigrate.alembic.offline import _regex
from qmigrate.commands.sql_gate import reachable
from qmigrate.errors import PlanError, RevisionError
from qmigrate.model.state import Applied
from qmigrate.operations.text.stored import checksum_of, from_text, to_text
from qmigrate.planner.guard import unfinished
from qmigrate.revisions.alembic_files import directives_of
from qmigrate.revisions.file import Revision
from qmigrate.revisions.graph import Revisions

DENSE = VectorParams(size=4, distance=Distance.DOT)
EVERY = [
    op.CreateCollection("docs", {"a": DENSE}, payload_indexes={"kind": PayloadSchemaType.KEYWORD}, shard_number=2),
    op.DropCollection("docs"),
    op.AddVector("docs*", "b", DENSE, values=Embed("words", text="{title} {body}")),
    op.AddVector("docs", "", {"size": 4, "distance": "Cosine"}, values=CopyOf("a")),
    op.AlterVector("docs", "a", DENSE, cutover="hold"),
    op.Reembed("docs", "a", values=Embed("words", image="path"), cutover="immediate"),
    op.DropVector("docs", "a", cutover="immediate"),
    op.RenameVector("docs", "a", "b", cutover="hold"),
    op.CreatePayloadIndex("docs", "kind", PayloadSchemaType.KEYWORD),
    op.DropPayloadIndex("docs", "kind"),
    op.UpdateCollection("docs", hnsw_config={"m": 32}),
    op.Reshard("docs", shard_number=3),
    op.SetAlias("other", "docs"),
    op.SetPayload("docs", {"a": {"$is": "mine", "$tuple": [1]}, "b": {"$object": 1}}, filter={"must": [{"is_empty": {"key": "a"}}]}),
    op.DeletePayload("docs", ["a"], max_share=1.0, reason="r"),
    op.AddVector("docs", "c", DENSE, values=Empty()),
]
CODE = [
    op.AddVector("docs", "c", DENSE, values=Compute(len)),
    op.TransformPoints("docs", lambda point: point.payload),
    op.Call("docs", print),
]


def test_operations_survive_as_text():
    """Every operation without code comes back equal, in a text that is the same for equal operations."""
    text = to_text(EVERY)
    assert list(from_text(text)) == EVERY
    assert to_text(from_text(text)) == text
    assert len({checksum_of(to_text([one])) for one in EVERY}) == len(EVERY)
    stored = {type(one).__name__ for one in EVERY}
    assert stored | {type(one).__name__ for one in CODE} >= {name for name in op.__all__ if name in KNOWN}


def test_a_recorded_duration_is_one_of_seconds():
    """What is kept without a file is a number there, which in a file has no unit; earlier texts stay what they were."""
    wanted = [
        op.DeleteOrphans("c", "SELECT id FROM t", reason="r", grace="10m"),
        op.DeletePoints("c", older_than={"field": "at", "age": timedelta(days=90)}, reason="r"),
    ]
    text = to_text(wanted)
    assert ('"grace":600.0' in text, '"age":7776000.0' in text) == (True, True)
    assert "grace" not in to_text([op.DeleteOrphans("c", "SELECT id FROM t", reason="r", grace="15m")])
    for one, again in zip(wanted, from_text(text), strict=True):
        again.check_words()
        assert (again, again.edit()) == (one, one.edit())


def test_a_text_without_an_argument_of_today_means_its_default():
    """What an earlier version has recorded is read as it was meant, and has the same text today."""
    earlier = '[{"$is":"DeletePoints","collection":"docs","ids":[7],"reason":"r"}]'
    (found,) = from_text(earlier)
    assert found == op.DeletePoints("docs", ids=[7], reason="r")
    assert to_text([found]) == earlier
    assert to_text([op.DeletePoints("docs", ids=[7], reason="r", export=False)]) != earlier


#: Operations that this table speaks of; those that are made later have tests of their own.
KNOWN = {type(one).__name__ for one in [*EVERY, *CODE]}


@pytest.mark.parametrize("operation", CODE, ids=lambda one: type(one).__name__)
def test_own_code_is_refused_as_text(operation):
    """A function stands in a file or nowhere; the message names the way."""
    with pytest.raises(PlanError, match="can't be recorded without a file") as caught:
        to_text([operation])
    assert "qmigrate revision" in caught.value.hint


def test_a_text_makes_operations_only():
    """A name that is not an operation is refused, whatever module has it."""
    for name in ("Operation", "assign", "Compute", "Popen"):
        with pytest.raises(PlanError, match="doesn't have"):
            from_text(f'[{{"$is": "{name}"}}]')


def revision(identifier, *down, operations=(), **others):
    """Without a file."""
    return Revision(
        identifier, down, Path(f"{identifier}_rev.py"), "", identifier, tuple(operations), False, None, None,
        **others,
    )  # fmt: skip


@pytest.fixture
def files(tmp_path):
    """0001 ← 0002 ← 0003, each with an index on docs."""
    (tmp_path / "versions").mkdir()
    down = None
    for identifier in ("0001", "0002", "0003"):
        text = f'from qmigrate import op\nrevision = "{identifier}"\ndown_revision = {down!r}\n'
        made = "op.CreateCollection('docs', {})" if down is None else f"op.DropPayloadIndex('docs', '{identifier}')"
        (tmp_path / "versions" / f"{identifier}.py").write_text(text + f"def upgrade():\n    return [{made}]\n")
        down = identifier
    return Revisions.load(tmp_path)


@pytest.mark.parametrize(
    ("inline", "order", "closures"),
    [
        ([("x", "0001")], "0001 x 0002 0003", {"0001": "0001", "0002": "0001 x 0002", "x": "0001 x"}),
        ([("x", "0003")], "0001 0002 0003 x", {"0003": "0001 0002 0003", "head": "0001 0002 0003 x"}),
        ([("x",), ("y", "x")], "x y 0001 0002 0003", {"0001": "x y 0001", "y": "x y"}),
        ([("x", "gone")], "x 0001 0002 0003", {"x": "x"}),
    ],
)
def test_an_inline_revision_stands_where_it_was_applied(files, inline, order, closures):
    """Behind what was applied then, before every file that comes after that; a file that is gone doesn't matter."""
    found = files.with_inline(revision(one, *down, inline=True) for one, *down in inline)
    assert [one.id for one in found.order()] == order.split()
    assert [one.id for one in files.order()] == ["0001", "0002", "0003"]
    for target, wanted in closures.items():
        assert found.resolve(target, current=frozenset()) == frozenset(wanted.split())
    assert found.heads() == ("0003",)


def test_the_newest_inline_revision_goes_back_first(files):
    """-1 undoes what was applied last; a file with the same id is refused."""
    found = files.with_inline([revision("x", "0002", operations=[op.DropPayloadIndex("docs", "k")], inline=True)])
    applied = frozenset({"0001", "0002", "x"})
    assert found.resolve("-1", current=applied) == {"0001", "0002"}
    assert found.resolve("-1", current=applied | {"0003"}) == applied
    with pytest.raises(RevisionError, match="which is the key of"):
        files.with_inline([revision("0002", inline=True)])


def test_what_the_ledger_alone_says_is_unfinished(files):
    """Known collections by their applied revisions, others by the files that name them."""
    entries = (Applied("0001", "sum", "docs__g0001", "create", None),)
    assert unfinished({"docs": entries}, files, frozenset({"0001", "0002"})) == {"docs": ("0002",)}
    assert unfinished({"docs": entries}, files, frozenset({"0001"})) == {}
    assert unfinished({}, files, frozenset({"0001"})) == {"docs": ("0001",)}


def test_what_waits_stops_what_follows(files):
    """Everything before it can continue."""
    wanted = frozenset({"0001", "0002", "0003"})
    assert reachable(files, wanted, ["0002"]) == {"0001"}
    assert reachable(files, wanted, []) == wanted


SCRIPT = '''
from qmigrate.alembic import qdrant
import qmigrate.alembic
STEP = "named"

def upgrade():
    qdrant.require("0001")
    if True:
        qmigrate.alembic.qdrant.run(revision="0002")
    qdrant.apply(STEP)
    qdrant.apply(made())
    other.require("0009")
    qdrant.add_vector_dimension(collection="c", vector_name="v", size=3)

def downgrade():
    qdrant.revert("0002")
'''


def test_directives_are_read_from_the_text(tmp_path):
    """In their order, per direction, and nothing of the file is run; a broken file has none."""
    file = tmp_path / "a1.py"
    file.write_text(SCRIPT + "\nraise SystemExit")
    found = [(one.kind, one.step) for one in directives_of(file, "upgrade")]
    assert found == [("require", "0001"), ("run", "0002"), ("apply", "named"), ("apply", None), ("apply", "add_v_to_c")]
    assert [(one.kind, one.step) for one in directives_of(file, "downgrade")] == [("revert", "0002")]
    file.write_text("def upgrade(:")
    assert directives_of(file, "upgrade") == ()


@pytest.mark.parametrize("pattern", ["docs*", "a?c", "a[bc]d", "a[!b]c", "x.y*", "a-b_*", "[[]a*", "$a*"])
def test_a_glob_means_the_same_to_postgresql(pattern):
    """As a regular expression it matches the names that the glob matches."""
    expression = re.compile(_regex(pattern))
    for name in ("docs", "docs_1", "abc", "acc", "abd", "acd", "x.y1", "xzy1", "a-b_c", "[abc", "$abc", "adc"):
        assert bool(expression.match(name)) == fnmatchcase(name, pattern), name


def test_no_plugin_of_alembic_is_installed():
    """An entry point there would break Alembic 1.18 to 1.20.0 for every project in the environment."""
    project = tomllib.loads((Path(__file__).parents[3] / "pyproject.toml").read_text())["project"]
    assert "entry-points" not in project
    assert dataclasses.is_dataclass(Revision)
