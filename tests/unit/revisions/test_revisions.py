"""Revision files and their graph: what is read, in which order, and every mistake as one clear error."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import textwrap
from datetime import UTC, datetime
from pathlib import Path

import pytest
import yaml
from hypothesis import assume, example, given
from hypothesis import strategies as st
from jsonschema import Draft7Validator

from qmigrate.commands.init import init, revision
from qmigrate.errors import ConfigError, RevisionError
from qmigrate.model.schema import CollectionSchema
from qmigrate.operations.text.source import create_source
from qmigrate.revisions import new
from qmigrate.revisions.graph import Revisions
from qmigrate.revisions.new import create, initialise, new_id
from qmigrate.settings.load import Settings

INDEX = 'op.CreatePayloadIndex("c", "f{}", "keyword")'


@pytest.fixture
def scripts(tmp_path):
    """An empty folder of revisions."""
    (tmp_path / "versions").mkdir()
    return tmp_path


def write(scripts: Path, identifier: str, down=None, body: str | None = None, name: str | None = None) -> Path:
    """A revision file with one operation, or with the given body."""
    path = scripts / "versions" / f"{name or identifier + '_rev'}.py"
    if body is None:
        body = f"def upgrade():\n    return [{INDEX.format(identifier)}]\n"
    head = f'"""Revision {identifier}.\n\nMore about it."""\nfrom qmigrate import op\n'
    path.write_text(f"{head}revision = {identifier!r}\ndown_revision = {down!r}\n{textwrap.dedent(body)}")
    return path


def chain(scripts: Path, *identifiers: str) -> Revisions:
    """Revisions that follow each other."""
    down = None
    for identifier in identifiers:
        write(scripts, identifier, down)
        down = identifier
    return Revisions.load(scripts)


def refusal(scripts: Path) -> RevisionError:
    """The error that loading ends in."""
    with pytest.raises(RevisionError) as caught:
        Revisions.load(scripts)
    return caught.value


def test_a_file_is_read(scripts):
    """Id, parent, docstring, checksum, operations and the further variables arrive."""
    body = f'requires_sql = "abc"\nirreversible = "too big"\ndef upgrade():\n    return ({INDEX.format(1)},)\n'
    path = write(scripts, "0001", None, body)
    found = Revisions.load(scripts).get("0001")
    assert (found.id, found.down, found.path, found.doc) == ("0001", (), path, "Revision 0001.")
    assert found.checksum == hashlib.sha256(path.read_bytes()).hexdigest()
    assert [operation.pattern for operation in found.operations] == ["c"]
    assert (found.has_downgrade, found.irreversible, found.requires_sql) == (False, "too big", "abc")


def test_the_checksum_ignores_line_endings(scripts):
    """A checkout with CRLF is the same revision; any other byte is not."""
    path = write(scripts, "0001")
    before = Revisions.load(scripts).get("0001").checksum
    content = path.read_bytes()
    path.write_bytes(content.replace(b"\n", b"\r\n"))
    assert Revisions.load(scripts).get("0001").checksum == before
    path.write_bytes(content + b"#")
    assert Revisions.load(scripts).get("0001").checksum != before


def test_an_empty_folder_has_no_revisions(scripts):
    """No revision is not an error."""
    found = Revisions.load(scripts)
    assert (found.order(), found.heads(), found.head()) == ((), (), None)
    assert found.resolve("head", current=frozenset()) == frozenset()


def test_a_missing_folder_says_how_to_make_it(tmp_path):
    """Without the folder, the error names qmigrate init."""
    with pytest.raises(RevisionError, match="no folder") as caught:
        Revisions.load(tmp_path / "nowhere")
    assert "qmigrate init" in (caught.value.hint or "")


def test_a_file_runs_once_and_leaves_nothing_behind(scripts):
    """Loading executes each file and each upgrade() once, and writes no bytecode next to it."""
    seen = scripts / "seen"
    body = f"""
    with open({str(seen)!r}, "a") as file:
        file.write("file ")
    def upgrade():
        with open({str(seen)!r}, "a") as file:
            file.write("upgrade ")
        return []
    """
    write(scripts, "0001", None, body)
    found = Revisions.load(scripts)
    found.order(), found.head(), found.get("0001"), found.resolve("head", current=frozenset())
    assert seen.read_text() == "file upgrade "
    assert [path.name for path in (scripts / "versions").iterdir()] == ["0001_rev.py"]


def test_the_code_that_runs_is_the_code_of_the_checksum(scripts):
    """Stale bytecode next to a file is not used."""
    path = write(scripts, "0001")
    code = f"import importlib.util as u; s = u.spec_from_file_location('m', {str(path)!r}); "
    code += "m = u.module_from_spec(s); s.loader.exec_module(m)"
    subprocess.run([sys.executable, "-c", code], check=True, env={"PYTHONPATH": ":".join(sys.path)})
    assert (path.parent / "__pycache__").is_dir()
    stat = path.stat()
    path.write_text(path.read_text().replace("f0001", "f0002"))
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert "f0002" in repr(Revisions.load(scripts).get("0001").operations)


def test_dataclasses_in_a_revision_work(scripts):
    """A revision may define classes with postponed annotations: its module can be looked up by name."""
    path = write(scripts, "0001")
    extra = "import dataclasses\n@dataclasses.dataclass\nclass A:\n    x: int = 0\n"
    path.write_text("from __future__ import annotations\n" + path.read_text().split('"""')[2] + extra)
    assert Revisions.load(scripts).get("0001").doc == ""


def test_the_order_is_that_of_the_graph(scripts):
    """Parents come before children whatever the files are called; a merge comes after both branches."""
    write(scripts, "b", None, name="9_b")
    write(scripts, "x", "b", name="1_x")
    write(scripts, "y", "b", name="0_y")
    write(scripts, "m", ("x", "y"), "def upgrade():\n    return []\n", name="2_m")
    found = Revisions.load(scripts)
    assert [one.id for one in found.order()] == ["b", "y", "x", "m"]
    assert found.head().id == "m"
    assert found.get("m").down == ("x", "y")
    assert found.ancestors("m") == {"b", "x", "y"}
    assert found.ancestors("b") == frozenset()


def test_several_heads_are_named(scripts):
    """Two files after the same parent: head() names both and the way out; heads() and order() still work."""
    chain(scripts, "0001")
    write(scripts, "0002", "0001")
    write(scripts, "0003", "0001")
    found = Revisions.load(scripts)
    assert found.heads() == ("0002", "0003")
    assert len(found.order()) == 3
    with pytest.raises(RevisionError, match=r"2 heads: 0002 \(0002_rev.py\), 0003 \(0003_rev.py\)") as caught:
        found.resolve("head", current=frozenset())
    assert "qmigrate revision --merge" in (caught.value.hint or "")
    assert found.resolve("heads", current=frozenset()) == {"0001", "0002", "0003"}


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("def upgrade(:\n    return []\n", r"0001_rev.py, line \d+: SyntaxError: "),
        ("import os\nraise ValueError('no')\n", r"0001_rev.py, line 8: ValueError: no"),
        ("import not_there_at_all\n", r"line 7: ModuleNotFoundError: No module named 'not_there_at_all'"),
        ("raise SystemExit\n", r"line 7: SystemExit"),
        ("x = 1\n", r"0001_rev.py has no upgrade\(\)"),
        ("upgrade = 3\n", r"has no upgrade\(\)"),
        ("def upgrade():\n    return 1 / 0\n", r"line 8: upgrade\(\) failed: ZeroDivisionError: division by zero"),
        ("def upgrade():\n    pass\n", r"must return a list of operations, not None"),
        ("def upgrade():\n    return ['x']\n", r"item 0 of upgrade\(\) is not an operation, but 'x'"),
        ("def upgrade():\n    return [op.CreatePayloadIndex]\n", r"item 0 of upgrade\(\) is not an operation"),
        ("revision = None\ndef upgrade():\n    return []\n", r"0001_rev.py has no revision variable"),
        ("revision = 'a-b'\ndef upgrade():\n    return []\n", r"revision must be a string without"),
        ("revision = 'head'\ndef upgrade():\n    return []\n", r"revision must be a string without"),
        ("down_revision = 3\ndef upgrade():\n    return []\n", r"down_revision must be None, an id or a tuple"),
        ("requires_sql = 3\ndef upgrade():\n    return []\n", r"requires_sql must be a string or None"),
        ("depends_on = 'x'\ndef upgrade():\n    return []\n", r"depends_on is not supported"),
        ("del down_revision\ndef upgrade():\n    return []\n", r"has no down_revision variable"),
    ],
)
def test_a_file_that_cannot_be_used_is_named(scripts, body, said):
    """Each mistake in a file is one RevisionError with file, line where known, and what is wrong."""
    write(scripts, "0001", None, body)
    message = refusal(scripts).message
    assert "0001_rev.py" in message
    assert re.search(said, message), message


def test_a_failing_file_is_not_left_among_the_modules(scripts):
    """A file that could not be run leaves no half-made module behind."""
    write(scripts, "0001", None, "raise ValueError\n")
    refusal(scripts)
    assert not [name for name in sys.modules if name.startswith("qmigrate_revision_") and "0001_rev" in name
                and getattr(sys.modules[name], "__file__", "").startswith(str(scripts))]


def test_a_missing_parent_names_the_file(scripts):
    """A revision after one that has no file is refused."""
    write(scripts, "0002", "0001")
    assert re.search(r"0002_rev.py follows the revision 0001, and no file has that id", refusal(scripts).message)


def test_duplicate_ids_name_both_files(scripts):
    """Two files of one id are refused."""
    write(scripts, "0001")
    write(scripts, "0001", None, name="0001_other")
    assert re.search(r"revision 0001: .*0001_other.py and .*0001_rev.py", refusal(scripts).message)


@pytest.mark.parametrize("closed", [False, True])
def test_a_cycle_names_its_files(scripts, closed):
    """Revisions that follow each other are refused, with and without a base next to them."""
    write(scripts, "0002", "0003")
    write(scripts, "0003", "0002")
    if not closed:
        write(scripts, "0001")
    assert re.search(r"in a circle: .*0002_rev.py, .*0003_rev.py", refusal(scripts).message)


def test_a_revision_after_itself_is_a_cycle(scripts):
    """A self-reference is refused like any cycle."""
    write(scripts, "0001", "0001")
    assert "in a circle" in refusal(scripts).message


def test_other_files_are_left_alone(scripts):
    """__init__.py, editors' dot files, folders and other endings are not revisions."""
    chain(scripts, "0001")
    versions = scripts / "versions"
    (versions / "__init__.py").write_text("raise ValueError")
    (versions / ".#0002.py").write_text("raise ValueError")
    (versions / "notes.txt").write_text("x")
    (versions / "folder.py").mkdir()
    assert [one.id for one in Revisions.load(scripts).order()] == ["0001"]


def test_a_revision_is_found_by_prefix_and_file_name(scripts):
    """An exact id wins, else a unique beginning, else the name of the file."""
    found = chain(scripts, "ab", "abc", "x1")
    assert found.get("ab").id == "ab"
    assert found.get("x").id == "x1"
    assert found.get("x1_rev").id == "x1"
    with pytest.raises(RevisionError, match='several revisions begin with "a": ab, abc'):
        found.get("a")
    for missing in ("zz", ""):
        with pytest.raises(RevisionError, match="there is no revision"):
            found.get(missing)


@pytest.mark.parametrize(
    ("target", "current", "wanted"),
    [
        ("head", "", "1234"),
        ("heads", "", "1234"),
        ("base", "12", ""),
        ("r3", "", "123"),
        ("+1", "", "1"),
        ("+2", "1", "123"),
        ("-1", "1234", "123"),
        ("-2", "123", "1"),
        ("-1", "1", ""),
        ("+1", "2", "123"),
        ("-1", "13", "12"),
        ("r2+1", "", "123"),
        ("r2-1", "4", "1"),
        ("r1-1", "4", ""),
        ("head-1", "", "123"),
        ("base+1", "1234", "1"),
    ],
)
def test_targets(scripts, target, current, wanted):
    """A target means the revision and everything before it; relative ones count from what is applied."""
    found = chain(scripts, "r1", "r2", "r3", "r4")

    def named(digits: str) -> frozenset[str]:
        return frozenset(f"r{digit}" for digit in digits)

    assert found.resolve(target, current=named(current)) == named(wanted)


@pytest.mark.parametrize(
    ("target", "current", "said"),
    [
        ("+1", {"0001", "0002"}, "goes too far: no revision follows"),
        ("-1", set(), "goes too far: nothing is left"),
        ("+1", {"gone"}, "have no file any more: gone"),
        ("nope+1", set(), 'no revision "nope"'),
        ("nope", set(), 'no revision "nope"'),
    ],
)
def test_targets_that_do_not_exist(scripts, target, current, said):
    """A target beyond the graph is an error, never the nearest one."""
    found = chain(scripts, "0001", "0002")
    with pytest.raises(RevisionError, match=said):
        found.resolve(target, current=frozenset(current))


def test_ambiguous_steps_are_refused(scripts):
    """Where the graph branches, +1 and -1 ask for a name."""
    chain(scripts, "0001")
    write(scripts, "0002", "0001")
    write(scripts, "0003", "0001")
    found = Revisions.load(scripts)
    for target, current in (("+1", {"0001"}), ("-1", {"0002", "0003"})):
        with pytest.raises(RevisionError, match=r"is ambiguous here: 0002 \(0002_rev.py\), 0003"):
            found.resolve(target, current=frozenset(current))
    assert found.resolve("-1", current=frozenset({"0001", "0003"})) == {"0001"}


def test_a_revision_without_operations_is_no_step(scripts):
    """An empty merge is applied nowhere, so steps go past it instead of standing on it forever."""
    chain(scripts, "1", "2")
    write(scripts, "m", "2", "def upgrade():\n    return []\n")
    write(scripts, "3", "m")
    found = Revisions.load(scripts)
    assert found.resolve("+1", current=frozenset({"1", "2"})) == {"1", "2", "m", "3"}
    assert found.resolve("-1", current=frozenset({"1", "2", "3"})) == {"1", "2", "m"}
    assert found.resolve("-2", current=frozenset({"1", "2", "3"})) == {"1"}


def test_downgrade_operations_are_what_the_file_writes(scripts):
    """downgrade() is called when asked for; a file without one gives None, a broken one an error."""
    body = "def upgrade():\n    return []\ndef downgrade():\n    return [op.DropPayloadIndex('c', 'f')]\n"
    write(scripts, "0001", None, body)
    write(scripts, "0002", "0001")
    write(scripts, "0003", "0002", "def upgrade():\n    return []\ndef downgrade():\n    raise KeyError('k')\n")
    found = Revisions.load(scripts)
    assert len(found.downgrade_operations("0001")) == 1
    assert found.get("0001").has_downgrade
    assert found.downgrade_operations("0002") is None
    with pytest.raises(RevisionError, match=r"0003_rev.py, line 10: downgrade\(\) failed: KeyError"):
        found.downgrade_operations("0003")


def test_new_revisions_follow_the_head(tmp_path):
    """The packaged template makes files that load; numbers count on, the message is the docstring."""
    scripts = tmp_path / "s"
    assert initialise(scripts) == [scripts / "script.py.mako", scripts / "versions"]
    first = create(scripts, "Add l14, next to b32!")
    second = create(scripts, 'say """hi""" \\ and "bye"')
    assert (first.path.name, first.down) == ("0001_add_l14_next_to_b32.py", ())
    assert (second.id, second.down) == ("0002", ("0001",))
    assert [one.doc for one in Revisions.load(scripts).order()] == [
        "Add l14, next to b32!",
        'say """hi""" \\ and "bye"',
    ]


def test_the_number_is_above_every_known_one(scripts):
    """Numbers of ids and of file names count, and a folder without a template works."""
    chain(scripts, "0007")
    write(scripts, "abc", "0007", name="0041_abc")
    assert create(scripts, "next").id == "0042"
    assert create(scripts, "named", revision_id="xyz").path.name == "xyz_named.py"
    assert create(scripts, "after").down == ("xyz",)


def test_a_merge_joins_every_head(scripts):
    """With --merge the new one follows all heads; without it several are refused, with one there is nothing to do."""
    chain(scripts, "0001")
    with pytest.raises(RevisionError, match="nothing to merge"):
        create(scripts, "merge", merge=True)
    write(scripts, "0002", "0001")
    write(scripts, "0003", "0001")
    with pytest.raises(RevisionError, match="2 heads"):
        create(scripts, "next")
    assert create(scripts, "merge", merge=True).down == ("0002", "0003")
    assert Revisions.load(scripts).head().id == "0004"


@pytest.mark.parametrize(
    ("template", "said"),
    [("${missing_variable.x}", "can't be used"), ("% if\n", "can't be used"), ("x = 1\n", "no revision variable")],
)
def test_a_broken_template_leaves_no_file(scripts, template, said):
    """A template that makes no usable revision is named, and nothing stays behind."""
    (scripts / "script.py.mako").write_text(template)
    with pytest.raises(RevisionError, match=said):
        create(scripts, "x")
    assert list((scripts / "versions").iterdir()) == []


PLACES = (
    "${imports}\nrevision = ${repr(up_revision)}\ndown_revision = None\ndef upgrade():\n    return ${operations}\n"
)


@pytest.mark.parametrize("template", [None, "x = 1\n", PLACES])
def test_operations_made_of_a_schema_are_written_in(scripts, template):
    """A file made of a schema returns it, with a template of the user's too, whether it has a place for it or not."""
    if template is not None:
        (scripts / "script.py.mako").write_text(template)
    schema = CollectionSchema({"": {"size": 4, "distance": "Dot"}}, indexes={"a": {"type": "uuid"}})
    made = create(scripts, "baseline", source=create_source("c", schema))
    (operation,) = made.operations
    assert operation.apply(None) == schema
    assert ("x = 1" in made.path.read_text()) is False


@pytest.mark.parametrize(("message", "revision_id"), [("  ", None), ("x", "0001")])
def test_new_revisions_that_cannot_be(scripts, message, revision_id):
    """A blank message and a known id are refused."""
    chain(scripts, "0001")
    with pytest.raises(RevisionError):
        create(scripts, message, revision_id=revision_id)
    assert len(list((scripts / "versions").iterdir())) == 1


def test_init_writes_a_project_once(tmp_path, monkeypatch):
    """Init makes settings that read back and an empty folder; a second init overwrites nothing."""
    monkeypatch.chdir(tmp_path)
    made = init(Settings.load(environ={}))
    assert [str(path.relative_to(tmp_path)) for path in made.created] == [
        "qmigrate.yaml",
        "qdrant_migrations/script.py.mako",
        "qdrant_migrations/versions",
    ]
    found = Settings.load(environ={})
    assert found.config == tmp_path / "qmigrate.yaml"
    assert found.scripts == tmp_path / "qdrant_migrations"
    assert re.fullmatch(r"20\d{12}[a-z]{4}", revision(found, "first").revision)
    made.config.write_text(made.config.read_text() + "# mine\n")
    second = init(Settings.load(environ={}))
    assert (second.created, second.further) == ((), ())
    assert second.kept == (made.config, found.scripts / "script.py.mako", found.scripts / "versions")
    assert made.config.read_text().endswith("# mine\n")


@pytest.mark.parametrize("missing", ["qmigrate.yaml", "elsewhere/script.py.mako", "elsewhere/versions", "elsewhere"])
def test_init_makes_what_is_missing(tmp_path, monkeypatch, missing):
    """Next to a settings file, and to a folder of revisions, only the rest is made; the file says where that folder is."""
    monkeypatch.chdir(tmp_path)
    init(Settings.load(environ={}, scripts="elsewhere"))
    file = tmp_path / missing
    shutil.rmtree(file) if file.is_dir() else file.unlink()
    again = Settings.load(environ={}, scripts=None if (tmp_path / "qmigrate.yaml").exists() else "elsewhere")
    made = init(again)
    assert [str(one.relative_to(tmp_path)) for one in made.created] == (
        [missing] if missing != "elsewhere" else ["elsewhere/script.py.mako", "elsewhere/versions"]
    )
    assert file.exists()
    assert revision(Settings.load(environ={}), "first").path.parent == tmp_path / "elsewhere" / "versions"


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (None, ".qmigrate/\n"),
        ("", ".qmigrate/\n"),
        ("*.pyc", "*.pyc\n.qmigrate/\n"),
        ("*.pyc\n", "*.pyc\n.qmigrate/\n"),
        ("/.qmigrate\n", "/.qmigrate\n"),
        ("a\n.qmigrate/\nb\n", "a\n.qmigrate/\nb\n"),
    ],
)
def test_git_leaves_out_the_embedded_stores(tmp_path, monkeypatch, before, after):
    """A line is added to what is there, once."""
    monkeypatch.chdir(tmp_path)
    file = tmp_path / ".gitignore"
    if before is not None:
        file.write_text(before)
    made = init(Settings.load(environ={}))
    assert file.read_text() == after
    assert (file in made.further) == (before != after)


def test_an_editor_finds_the_schema_of_the_settings(tmp_path, monkeypatch):
    """The first line of the settings names a file that is there, seen from the settings, and that they fit."""
    monkeypatch.chdir(tmp_path)
    init(Settings.load(environ={}))
    text = (tmp_path / "qmigrate.yaml").read_text()
    named = re.match(r"# yaml-language-server: \$schema=(\S+)\n", text)[1]
    schema = json.loads((tmp_path / named).read_text())
    assert list(Draft7Validator(schema).iter_errors(yaml.safe_load(text))) == []


def test_a_new_revision_passes_a_linter(tmp_path, monkeypatch):
    """Nothing in it is unused or out of order, and it loads as it is."""
    monkeypatch.chdir(tmp_path)
    init(Settings.load(environ={}))
    made = revision(Settings.load(environ={}), "first")
    checked = subprocess.run(
        [sys.executable, "-m", "ruff", "check", "--isolated", "--select", "E,F,I,W", str(made.path)], capture_output=True, text=True
    )
    assert checked.returncode == 0, checked.stdout


def test_an_unwritable_place_is_a_readable_error(tmp_path, monkeypatch):
    """Where no folder can be made, the error names it; a plain file in the way stands for it under any user."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(RevisionError, match="can't be made: Not a directory"):
        init(Settings.load(environ={}, scripts="file/s"))
    monkeypatch.setattr("os.access", lambda *_: False)
    with pytest.raises(ConfigError, match="can't be written: permission denied"):
        init(Settings.load(environ={"QMIGRATE_LEDGER_URL": "postgresql+psycopg://app@db/app"}))
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


@given(
    st.one_of(
        st.text(min_size=1),
        st.text(alphabet="\"'\\ \nn#{}$u0x", min_size=1, max_size=12),
        st.text(alphabet=st.characters(categories=["Cs", "Cc", "Cf", "Zl", "Lo", "So"]), min_size=1),
    )
)
@example('say "hi"')
@example('say \\"hi\\"')
@example('"""')
@example('\\"""\\')
@example("ends with a backslash \\")
@example("${message} <%! x %> ## no")
@example("null \0, half \ud800, turned \u202e, \x1b]52;c;x\x07")
def test_any_message_makes_a_file_that_reads_it_back(message):
    """Quotes, backslashes, line feeds and what is not ASCII: the file is valid, and its docstring is the message.

    Half of a character, which an argument that isn't UTF-8 becomes, is the sign for one that is missing.
    """
    words = " ".join(message.split())
    assume(words)
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "versions").mkdir()
        made = create(Path(folder), message)
        assert made.doc == re.sub(r"[\ud800-\udfff]", "\ufffd", words)
        assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u202a-\u202e]", made.path.read_text(encoding="utf-8"))


@pytest.mark.parametrize("name", ["plain", "my: folder #1", "- x", "'q\"", "{a}", "null", "1e5", "é\u2028x"])
def test_init_writes_settings_that_read_back(tmp_path, monkeypatch, name):
    """Whatever the folder of the revisions is called, the settings file names it."""
    monkeypatch.chdir(tmp_path)
    init(Settings.load(environ={}, scripts=name))
    assert Settings.load(environ={}).scripts == tmp_path / name


def test_ids_that_two_branches_do_not_share(scripts):
    """Ids of time: both branches add a revision after the same one, and are merged as they are, without a new name."""
    write(scripts, "0001")
    made = [create(scripts, "one", revision_id=new_id(scripts, "time"))]
    (scripts / "versions" / f"{made[0].id}_one.py").rename(scripts / "aside.py")
    made.append(create(scripts, "two", revision_id=new_id(scripts, "time", "20991231235959")))
    (scripts / "aside.py").rename(made[0].path)
    assert [one.down for one in made] == [("0001",), ("0001",)]
    assert re.fullmatch(r"20\d{12}[a-z]{4}", made[0].id)
    merged = create(scripts, "both", merge=True, revision_id=new_id(scripts, "auto"))
    assert set(merged.down) == {one.id for one in made}
    assert Revisions.load(scripts).heads() == (merged.id,)


def test_ids_of_one_second(scripts, tmp_path, monkeypatch):
    """Two who make a revision in the same second, each in a branch, have other ids; those from before go on as they are."""
    moment = datetime(2026, 12, 1, 3, 0, 0, tzinfo=UTC)

    class Clock(datetime):
        @classmethod
        def now(cls, tz=None):
            return moment

    monkeypatch.setattr(new, "datetime", Clock)
    made = [new_id(scripts, "time") for _ in range(5)]
    assert len(set(made)) > 1
    assert {one[:14] for one in made} == {"20261201030000"}
    write(scripts, "20261201030000", None)
    following = new_id(scripts, "auto")
    assert following[:14] == "20261201030001"
    assert Revisions.load(scripts).get("20261201030000").id == "20261201030000"


def test_ids_go_on_as_the_folder_has_them(scripts):
    """Numbers stay numbers, moments stay moments, and two in one second differ."""
    assert (new_id(scripts, "sequence"), new_id(scripts, "time", "mine")) == (None, "mine")
    # Nothing to go on as: the moment, which no other branch has.
    assert re.fullmatch(r"20\d{12}[a-z]{4}", str(new_id(scripts, "auto")))
    write(scripts, "0001")
    assert new_id(scripts, "auto") is None
    ids = []
    for number in range(3):
        ids.append(create(scripts, f"step {number}", revision_id=new_id(scripts, "time" if number == 0 else "auto")).id)
    assert ids == sorted(set(ids))
    assert Revisions.load(scripts).heads() == (ids[-1],)
    assert new_id(scripts, "sequence") is None
