"""check for people and machines: the difference, annotations for GitHub, SARIF that code scanning takes."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from rich.console import Console
from tests.scenarios.cli import call
from tests.unit.lint.test_lint import CREATE, DROP, Folder

from qmigrate.cli.check import github_lines, show_check
from qmigrate.cli.findings import annotation
from qmigrate.commands.check import Checked, CheckedCollection
from qmigrate.drift import Finding
from qmigrate.lint import RULES

SCHEMA = Finding("schema", "drift", "vectors.a.hnsw_config.m", "vectors.a.hnsw_config.m was changed by hand", 16, 32,
                 ("restore it: qmigrate repair --schema docs", "accept it: qmigrate revision --from-drift"))
LOST = Finding("schema", "drift", "payload_indexes.kind", "payload_indexes.kind is missing", {"type": "keyword"}, None, SCHEMA.fixes)
SEAL = Finding("seal", "drift", "seal.revision", "the seal is at an earlier revision", "0003", "0002", ("qmigrate repair --schema docs",))
PENDING = Finding("revision", "pending", "revision", "1 pending: 0004", fixes=("qmigrate upgrade",))
NOTE = Finding("alias", "note", "alias more", "is a further alias that no revision declares", live="docs__g0002")
CHECKED = Checked(
    "Qdrant 1.18.3 at qdrant:6333",
    "postgresql app@db/app",
    (CheckedCollection("docs", "0003", "docs__g0002", (SCHEMA, LOST, SEAL, PENDING, NOTE)), CheckedCollection("fine", "0003", "fine__g0001")),
    (),
    3,
    1,
    1,
    4,
)


def shown(result: Checked) -> list[str]:
    """The lines on a terminal of 80 columns."""
    console = Console(width=80, color_system=None, soft_wrap=True, record=True)
    with console.capture() as capture:
        show_check(console, result)
    return [line.rstrip() for line in capture.get().splitlines()]


def test_a_difference_is_two_columns():
    """Each field with what is recorded and what is live, each suggestion once, and what counts at the end."""
    assert shown(CHECKED) == [
        "Qdrant 1.18.3 at qdrant:6333 · ledger postgresql app@db/app",
        "",
        "docs  0003 · docs__g0002",
        "         field                    recorded                live",
        "  drift  vectors.a.hnsw_config.m  16                   →  32",
        '  drift  payload_indexes.kind     {"type": "keyword"}  →  –',
        "  drift  the seal is at an earlier revision",
        "         recorded 0003 → live 0002",
        "  pending  1 pending: 0004",
        "  note  alias more is a further alias that no revision declares",
        "  → restore it: qmigrate repair --schema docs",
        "  → accept it: qmigrate revision --from-drift",
        "  → qmigrate repair --schema docs",
        "  → qmigrate upgrade",
        "",
        "2 collections: 3 drift, 1 pending, 1 note. (4)",
    ]


def test_nothing_to_say():
    """One line when everything is in order."""
    clean = Checked("Qdrant", "sqlite", (CheckedCollection("fine", "0003", "fine__g0001"),))
    assert shown(clean)[-1] == "Everything is as recorded: 1 collection."


def test_annotations_of_drift():
    """Drift is an error, pending work a warning, a note a notice; each on one line."""
    lines = github_lines(CHECKED)
    assert [line.split(" ")[0] for line in lines] == ["::error", "::error", "::error", "::warning", "::notice"]
    assert lines[0] == (
        "::error title=docs%3A schema::vectors.a.hnsw_config.m was changed by hand (recorded 16, live 32)"
        "%0Arestore it: qmigrate repair --schema docs%0Aaccept it: qmigrate revision --from-drift"
    )


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        ({"message": "a\nb % c\r"}, "::error::a%0Ab %25 c%0D"),
        ({"message": "m", "file": "a,b:c.py", "line": 3, "end_line": 5, "title": "t"}, "::error file=a%2Cb%3Ac.py,line=3,endLine=5,title=t::m"),
    ],
)
def test_an_annotation_is_escaped(given, wanted):
    """What GitHub would read as syntax is escaped as it asks for."""
    assert annotation("error", **given) == wanted


@pytest.fixture
def folder(tmp_path) -> Folder:
    """A project with one error, one warning, one file that can't be loaded, and one ignored finding."""
    made = Folder(tmp_path / "project")
    made.revise(f"{CREATE}, op.CreatePayloadIndex('docs', 'n', 'integer')")
    made.revise(f"{DROP}, op.DropPayloadIndex('docs', 'n')")
    made.revise("op.DropCollection('docs'),  # qmigrate: ignore[QM302] no query used it\n")
    made.write("0009 ü.py", "def broken(:\n")
    return made


def offline(made: Folder, *flags: str):
    """Check --offline."""
    return call(made.root, "check", "--offline", *flags)


def test_for_people(folder):
    """Per file the line, the code, the reason and what to do; the exit code at the end."""
    said = offline(folder)
    assert (said.code, said.err) == (8, "")
    assert "qdrant_migrations/versions/0002_rev.py\n" in said.out
    assert re.search(r"^  \d+: error QM302  DropVector", said.out, re.M)
    assert re.search(r"^  \d+: warning QM502  filters on n", said.out, re.M)
    assert "      → irreversible = " in said.out
    assert said.out.splitlines()[-1] == "4 revisions: 2 errors, 1 warning; 1 ignored with a reason. (8)"
    assert "(no query used it)" in offline(folder, "-v").out
    assert "(no query used it)" not in said.out


def test_as_json(folder):
    """The envelope of every verb, or the bare result; the same findings in both."""
    envelope = offline(folder, "--json").json
    assert (envelope["schema"], envelope["ok"]) == ("qmigrate.check/1", True)
    data = envelope["data"]
    assert json.loads(offline(folder, "--format", "json").out) == data
    assert (data["errors"], data["warnings"], data["exit_code"], data["files"]) == (2, 1, 8, 4)
    assert {one["code"] for one in data["findings"]} == {"QM001", "QM302", "QM502"}
    assert data["suppressed"][0]["reason"] == "no query used it"


def test_as_annotations(folder):
    """One line per finding, with a path from the current folder and the lines."""
    said = offline(folder, "--format", "github")
    assert said.code == 8
    lines = said.out.splitlines()
    assert len(lines) == 3
    assert lines[0].startswith("::error file=qdrant_migrations/versions/0002_rev.py,line=")
    assert ",title=QM302::" in lines[0]


def test_as_sarif(folder):
    """A valid SARIF 2.1.0 log: what the schema requires, and what code scanning needs to place and track a finding."""
    said = offline(folder, "--format", "sarif")
    assert said.code == 8
    check_sarif(json.loads(said.out))


def check_sarif(log: dict) -> None:
    """The requirements of the SARIF 2.1.0 schema for the objects that are written."""
    assert log["version"] == "2.1.0"
    assert log["$schema"].endswith("sarif-schema-2.1.0.json")
    assert set(log) <= {"$schema", "version", "runs", "inlineExternalProperties", "properties"}
    (run,) = log["runs"]
    assert set(run) <= {"tool", "results", "columnKind"}
    assert run["columnKind"] in ("utf16CodeUnits", "unicodeCodePoints")
    driver = run["tool"]["driver"]
    assert driver["name"]
    ids = [rule["id"] for rule in driver["rules"]]
    assert ids == [rule.code for rule in RULES]
    assert len(set(ids)) == len(ids)
    for rule in driver["rules"]:
        assert set(rule) <= {"id", "name", "shortDescription", "fullDescription", "help", "defaultConfiguration"}
        assert rule["defaultConfiguration"]["level"] in ("none", "note", "warning", "error")
        for part in ("shortDescription", "fullDescription", "help"):
            assert rule[part]["text"]
    codes = []
    for result in run["results"]:
        codes.append(result["ruleId"])
        assert ids[result["ruleIndex"]] == result["ruleId"]
        assert result["level"] in ("warning", "error")
        assert result["message"]["text"].strip()
        (location,) = result["locations"]
        artifact, region = location["physicalLocation"]["artifactLocation"], location["physicalLocation"]["region"]
        assert artifact["uriBaseId"] == "%SRCROOT%"
        assert re.fullmatch(r"[A-Za-z0-9._~/%-]+", artifact["uri"])
        assert not artifact["uri"].startswith("/")
        assert 1 <= region["startLine"] <= region["endLine"]
        assert all(isinstance(value, str) for value in result["partialFingerprints"].values())
        for one in result.get("suppressions", ()):
            assert one == {"kind": "inSource", "justification": "no query used it"}
    assert sorted(codes) == ["QM001", "QM302", "QM302", "QM502"]
    assert len({json.dumps(one["partialFingerprints"]) for one in run["results"]}) == 4


def test_fingerprints_survive_a_moved_line(folder):
    """A finding that moves down a file is the same finding for code scanning."""
    def fingerprints() -> set[str]:
        log = json.loads(offline(folder, "--format", "sarif").out)
        return {one["partialFingerprints"]["qmigrate/v1"] for one in log["runs"][0]["results"]}

    before = fingerprints()
    path: Path = folder.made[1]
    path.write_text(path.read_text().replace("def upgrade", "#\n#\ndef upgrade"))
    assert fingerprints() == before


@pytest.mark.parametrize("args", [("--only", "x", "--offline"), ("--no-models", "--offline"), ("--format", "sarif"), ("--format", "xml")])
def test_options_that_can_not_go_together(folder, args):
    """What has no meaning is a usage error, not silently ignored."""
    assert call(folder.root, "check", *args).code == 2


def test_no_folder_is_an_error(tmp_path):
    """Without revisions to check nothing is called sound."""
    (tmp_path / "empty").mkdir()
    said = call(tmp_path / "empty", "check", "--offline")
    assert (said.code, "qmigrate init" in said.err) == (2, True)


def test_the_lint_needs_neither_server_nor_ledger(folder):
    """With addresses where nothing answers, the lint works nevertheless."""
    (folder.root / "qmigrate.yaml").write_text(
        "qdrant: {url: 'http://qdrant.invalid:6333'}\nledger: {url: 'postgresql+psycopg://x@db.invalid/x'}\n"
    )
    assert offline(folder).code == 8
