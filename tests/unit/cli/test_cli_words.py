"""Words that people bring along: other names of verbs, verbs of other tools, and the exit codes in each help."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import click
import pytest
from click.testing import CliRunner
from tests import hints
from tests.scenarios.cli import VERBS, call, spawn

from qmigrate.cli.app import root, run
from qmigrate.cli.help import ALIASES, ELSEWHERE, EXIT_CODES, codes_of
from qmigrate.errors import QmigrateError


def leaves(command=root, words=()):
    """Every command that has none below it, with its words."""
    if isinstance(command, click.Group):
        for name, below in command.commands.items():
            yield from leaves(below, (*words, name))
    else:
        yield " ".join(words), command


@pytest.mark.parametrize(("word", "verb"), ALIASES.items(), ids=ALIASES)
def test_another_word_is_the_same_verb(tmp_path, word, verb):
    """It takes the same options, answers with the schema of the verb, and its help is that of the verb."""
    assert call(tmp_path, "init").code == 0
    one, other = call(tmp_path, word, "--json"), call(tmp_path, verb, "--json")
    assert (one.code, one.out) == (other.code, other.out)
    assert one.json["schema"] == f"qmigrate.{verb}/1"
    assert f"qmigrate {verb}" in call(tmp_path, word, "--help").out


@pytest.mark.parametrize(("word", "hint"), sorted(ELSEWHERE.items()), ids=sorted(ELSEWHERE))
def test_a_verb_of_another_tool_is_answered_with_ours(capsys, word, hint):
    """The hint is a command that can be typed as it stands, and the error is that of a usage."""
    assert word not in root.commands
    assert word not in ALIASES
    assert run([word, "x", "--frobnicate"]) == 2
    assert capsys.readouterr().err.splitlines() == [f"error: there is no verb {word!r}", f"  → {hint}"]
    assert hints.problem(hint) is None


@pytest.mark.parametrize(
    ("word", "hint"), [("upgrad", "qmigrate upgrade"), ("Status", "qmigrate status"), ("xyzzy", "qmigrate --help")]
)
def test_a_word_that_is_misspelt(capsys, word, hint):
    """The verb that was probably meant, else all of them; also as JSON."""
    assert run([word]) == 2
    assert f"→ {hint}" in capsys.readouterr().err
    assert run([word, "--json"]) == 2
    assert json.loads(capsys.readouterr().out)["error"]["hint"] == hint


@pytest.mark.parametrize(("verb", "command"), list(leaves()), ids=[verb for verb, _ in leaves()])
def test_each_help_has_its_exit_codes(verb, command):
    """Those that the verb may have, each with its meaning; every verb may be typed wrongly."""
    shown = CliRunner().invoke(command, ["--help"]).output
    assert {0, 1, 2} <= set(codes_of(verb))
    for code in codes_of(verb):
        assert f"  {code:<4}{EXIT_CODES[code]}" in shown
    assert shown.count("\n    ") >= len(codes_of(verb))
    assert max(map(len, shown.splitlines())) <= 80


def test_every_exit_code_is_explained():
    """What errors end with is in the table, and the other way round but for results that are none."""

    def kinds(kind):
        yield kind
        for below in kind.__subclasses__():
            yield from kinds(below)

    raised = {kind.exit_code for kind in kinds(QmigrateError) if kind.__module__.startswith("qmigrate.")}
    assert raised <= set(EXIT_CODES)
    # Findings of the lint, and a first look that was kept: results, no errors.
    assert set(EXIT_CODES) - raised == {0, 8}


def test_versions(tmp_path, monkeypatch):
    """Tool and client always; a server that doesn't answer, or settings that are wrong, change nothing of that."""
    said = call(tmp_path, "--version")
    assert said.code == 0
    assert [line.split()[0] for line in said.out.splitlines()] == ["qmigrate", "qdrant-client"]
    for content in ("qdrant: {url: 'http://127.0.0.1:9'}", "nonsense: {"):
        (tmp_path / "qmigrate.yaml").write_text(content)
        assert call(tmp_path, "--version").out == said.out
        assert call(tmp_path, "--version").err == ""


class _Answers(BaseHTTPRequestHandler):
    """What a server says of itself, to who has the key."""

    def do_GET(self):
        bodies = {
            "/": {"title": "qdrant", "version": "1.99.0"},
            "/collections": {"result": {"collections": [{"name": "docs__g0001"}, {"name": "plain"}]}},
            "/aliases": {"result": {"aliases": [{"alias_name": "docs", "collection_name": "docs__g0001"}]}},
        }
        body = bodies.get(self.path, {}) if self.headers.get("api-key") == "secret" else "denied"
        self.send_response(200 if isinstance(body, dict) else 401)
        self.end_headers()
        self.wfile.write(json.dumps(body).encode())

    def log_message(self, *args):
        """Nothing."""


@pytest.fixture
def address():
    """Of a server that knows its version and its names."""
    with ThreadingHTTPServer(("127.0.0.1", 0), _Answers) as server:
        serving = threading.Thread(target=server.serve_forever, daemon=True)
        serving.start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        serving.join()


@pytest.mark.parametrize(("key", "known"), [("secret", True), ("wrong", False)])
def test_what_a_server_says_at_once(tmp_path, address, key, known):
    """Its version is a third line, its names are completed; with a wrong key both are as if it were not there."""
    env = {"QMIGRATE_QDRANT_API_KEY": key}
    for args in (("--version", "--qdrant-url", address), ("--qdrant-url", address, "--version")):
        lines = call(tmp_path, *args, env=env).out.splitlines()
        assert lines[2:] == ([f"Qdrant 1.99.0 at {address.removeprefix('http://')}"] if known else [])
    typed = {"COMP_WORDS": f"qmigrate --qdrant-url {address} upgrade --only ", "COMP_CWORD": "5"}
    done = spawn(tmp_path, env={**env, **typed, "_QMIGRATE_COMPLETE": "bash_complete"})
    assert (done.code, done.err) == (0, "")
    assert done.out.split() == (["plain,docs", "plain,plain"] if known else [])


@pytest.mark.server
def test_the_version_of_a_server(qdrant_server, tmp_path):
    """It is asked for, whichever side the option with its address is on."""
    for args in (("--version", "--qdrant-url", qdrant_server.url), ("--qdrant-url", qdrant_server.url, "--version")):
        env = {"QMIGRATE_QDRANT_API_KEY": qdrant_server.api_key} if getattr(qdrant_server, "api_key", None) else {}
        assert call(tmp_path, *args, env=env).out.splitlines()[2].startswith("Qdrant 1.")


FILES = {
    "0001_a.py": ("0001", "None", "First"),
    "0002_b.py": ("0002", '"0001"', "Second"),
    "0003_c.py": ("0003", '"0001"', "Third"),
}


@pytest.fixture
def branched(tmp_path):
    """Two revisions after a first one."""
    assert call(tmp_path, "init").code == 0
    for name, (one, down, doc) in FILES.items():
        body = f'op.CreatePayloadIndex("docs", "f{one}", "keyword")'
        text = f'"""{doc}"""\nfrom qmigrate import op\nrevision = "{one}"\ndown_revision = {down}\ndef upgrade():\n    return [{body}]\n'
        (tmp_path / "qdrant_migrations" / "versions" / name).write_text(text)
    return tmp_path


def test_heads_branches_and_one_revision(branched):
    """What Alembic's words ask for, of the files alone; an unknown one is the error of every verb."""
    rows = {verb: [row["revision"] for row in call(branched, verb, "--json").json["data"]["rows"]] for verb in ("heads", "branches")}
    assert rows == {"heads": ["0002", "0003"], "branches": ["0001"]}
    shown = call(branched, "show", "0001").out
    assert "First" in shown
    assert "0002, 0003" in shown
    assert "docs: add payload index f0001 keyword" in shown
    assert "to no collection" in shown
    assert call(branched, "show").code == 2
    said = call(branched, "show", "9", "--json")
    assert (said.code, said.json["error"]["code"]) == (2, "unknown_revision")


def test_a_revision_is_edited(branched, monkeypatch):
    """Without a terminal its file is printed; with one the editor gets it."""
    file = str(branched / "qdrant_migrations" / "versions" / "0002_b.py")
    assert call(branched, "edit", "0002").out.strip() == file
    opened = []
    monkeypatch.setattr(click, "edit", lambda **given: opened.append(given["filename"]))
    monkeypatch.setattr("qmigrate.cli.shell.Shell.may_ask", True)
    assert call(branched, "edit", "0002").code == 0
    assert opened == [file]


def test_the_table_of_verbs_is_complete():
    """What other tests run for each verb has the new ones; `serve` has no end by itself."""
    assert {verb.replace(".", " ") for verb in VERBS} | {"serve"} == {verb for verb, _ in leaves()}
