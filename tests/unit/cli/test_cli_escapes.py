"""No text of a payload, a reason or an argument steers the terminal, and every shown command can be pasted."""

from __future__ import annotations

import ast
import io
import json
import logging
import re
import shlex
import subprocess
import sys
import unicodedata
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.progress import Progress, TextColumn
from rich.table import Table
from rich.text import Text

from qmigrate.cli import shell
from qmigrate.cli.app import run
from qmigrate.cli.console import console
from qmigrate.cli.layout import columns, labelled
from qmigrate.cli.progress import Bars, Lines
from qmigrate.text import one_line, quote, visible, visible_json

SOURCE = Path(__file__).parents[3] / "src" / "qmigrate"
#: Writes the clipboard, sets a title, clears the screen, in 7 and 8 bits; turns the direction of writing.
EVIL = "a\x1b]52;c;cm0gLXJm\x07b\x1b[2J\x9b31m\x9d0;t\x9c\r\x08\x7f\u202e\u2066c\u2028"
OBEYED = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\u200e\u200f\u2028\u2029]")


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    """An empty current folder, and logging as it was."""
    monkeypatch.chdir(tmp_path)
    kept, root = logging.lastResort, logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield tmp_path
    logging.lastResort, root.handlers[:] = kept, handlers
    root.setLevel(level)


@given(st.text())
def test_nothing_is_left_that_a_terminal_obeys(text):
    """Whatever the text, no control character and no turn of direction is left, and the rest stays as it is."""
    shown = visible(text)
    assert not OBEYED.search(shown)
    assert not any(unicodedata.category(one) == "Cc" and one not in "\n\t" for one in shown)
    assert visible(shown) == shown
    if not OBEYED.search(text) and "\u061c" not in text and "\ufeff" not in text:
        assert shown == text
    assert "\n" not in one_line(text)


@given(st.text())
def test_json_says_the_same_value(text):
    """In JSON the escapes are those of JSON, so a program reads what was meant."""
    written = visible_json(json.dumps({text: [text]}, ensure_ascii=False))
    assert not OBEYED.search(written)
    assert json.loads(written) == {text: [text]}


def _table():
    table = Table(EVIL)
    table.add_row(EVIL)
    return table


@pytest.mark.parametrize(
    "printed",
    [EVIL, Text(EVIL), Text.assemble((EVIL, "bold"), EVIL), _table(), Text("x").append(EVIL)],
    ids=["str", "Text", "assembled", "table", "appended"],
)
def test_a_console_shows_what_it_prints(printed, capsys):
    """Whatever is printed through a console, by whichever way."""
    console(plain=True).print(printed)
    out = capsys.readouterr().out
    assert not OBEYED.search(out)
    assert "\\x1b]52;c;" in out


@pytest.mark.parametrize("kind", [Lines, Bars])
def test_progress_shows_what_it_is_given(kind, monkeypatch):
    """Names, notes and summaries of long work are shown, and the bar still moves its own cursor."""
    made = console(stderr=True, plain=True)
    made.file = io.StringIO()
    shown = kind(made)
    shown.begin(EVIL, EVIL, 3)
    shown.advance(1, EVIL)
    shown.say(EVIL)
    shown.end(EVIL)
    shown.close()
    assert not OBEYED.search(made.file.getvalue())


def test_a_live_bar_keeps_its_own_sequences():
    """What the display itself sends to the terminal is left alone."""
    made = console(stderr=True, plain=True)
    made.file, made._force_terminal = io.StringIO(), True
    with Progress(TextColumn("{task.description}", markup=False), console=made, transient=True) as bar:
        bar.add_task(EVIL)
    written = made.file.getvalue()
    assert "\x1b[?25l" in written
    assert "\x1b]52" not in written
    assert "\x9b" not in written


def test_a_value_begins_no_line_of_its_own():
    """A payload with a line feed can't look like a line of qmigrate's."""
    lines = [*columns([["1", "x\nerror: all is lost"], [Text("2\n", style="bold"), "y"]]), *labelled("a", ["b\nc"])]
    assert len(lines) == 3
    assert not any("\n" in line.plain for line in lines)


@pytest.mark.parametrize(
    "args",
    [
        [EVIL],
        ["status", EVIL],
        ["fix", "undo", EVIL],
        ["--config", EVIL, "status"],
        ["--config", EVIL, "--debug", "status"],
        ["--config", EVIL, "-vv", "status"],
        ["--qdrant-url", EVIL, "status"],
        ["revision", "-m", EVIL],
        ["fix", "delete", "docs", "--filter", EVIL],
        ["fix", "delete", "docs", "--param", EVIL],
    ],
)
@pytest.mark.parametrize("more", [[], ["--json"]])
def test_arguments_come_back_harmless(args, more, capsys):
    """An argument that is repeated in an error, a traceback or JSON is shown."""
    run([*args, *more])
    said = capsys.readouterr()
    assert not OBEYED.search(said.out + said.err)
    if more:
        assert json.loads(said.out)["ok"] is False


def test_a_document_is_exact_in_a_file_and_harmless_on_a_terminal(capsys, monkeypatch):
    """What others read from a file is not changed; only a terminal gets it shown."""
    made = shell.Shell(shell.Options())
    made.document(EVIL)
    assert capsys.readouterr().out == EVIL + "\n"
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    made.document(EVIL)
    assert not OBEYED.search(capsys.readouterr().out)


def test_warnings_of_libraries_are_shown_too():
    """A log record, a warning and the end of a thread that no code asked for go through the same escape."""
    code = (
        "import logging, sys, threading, warnings, click\n"
        "from qmigrate.cli import app\nfrom qmigrate.cli.shell import with_shell\n"
        "@app.root.command('probe')\n"
        "@with_shell\n"
        "def probe(shell):\n"
        f"    logging.getLogger('lib').warning({EVIL!r})\n"
        f"    warnings.warn({EVIL!r}, UserWarning, stacklevel=1)\n"
        f"    died = threading.Thread(target=lambda: int({EVIL!r}))\n"
        "    died.start(); died.join()\n"
        "app.main(['probe'])\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr.count("x1b]52;c;") >= 3
    assert "Traceback" in done.stderr
    assert not OBEYED.search(done.stderr)


def test_the_command_line_writes_in_one_place():
    """Only the shell writes without a console, so that nothing gets past the escape."""
    found = []
    for file in sorted((SOURCE / "cli").rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.Call):
                continue
            name = ast.unparse(node.func)
            raw = name in ("print", "click.echo", "click.secho", "click.confirm", "click.prompt", "click.style", "click.edit", "Console")
            if raw or re.search(r"std(out|err)\.write|print_exc|print_exception", name):
                found.append(f"{file.relative_to(SOURCE)}: {name}")
    # The shell escapes; an editor is given the name of a file.
    assert found == [
        "cli/reset.py: click.prompt",
        *(f"cli/shell.py: click.{name}" for name in ("echo", "confirm", "prompt")),
        "cli/show.py: click.edit",
    ]


#: Programs whose commands are shown, and what follows them up to the end of a command inside a sentence.
_PROGRAM = re.compile(
    r"(?:qmigrate (?:adopt|upgrade|rollback|abort|cutover|gc|stamp|snapshot|repair|revision|check|fix|verify|history"
    r"|schema|plan)(?: (?:create|list|restore|delete|undo|sync|quarantine))?|alembic upgrade|alembic -c|zstd -dc)"
    r"(?: X| [A-Z]+| --?[a-z-]+| …)* $"
)


def _unquoted(tree: ast.AST):
    """Placeholders of commands inside f-strings that are put in as they are."""
    for node in ast.walk(tree):
        if not isinstance(node, ast.JoinedStr):
            continue
        text = ""
        for part in node.values:
            if isinstance(part, ast.Constant):
                text += str(part.value)
                continue
            shown = ast.unparse(part.value)
            if _PROGRAM.search(text) and not shown.startswith("quote(") and "map(quote, " not in shown:
                yield node.lineno, shown
            text += "X" if text.endswith(" ") else "x"


def test_every_command_that_is_shown_is_quoted():
    """A name with a blank, a bracket or a quote is one word of the command that a message ends in."""
    found = {
        f"{file.relative_to(SOURCE)}:{line} {shown}"
        for file in SOURCE.rglob("*.py")
        for line, shown in _unquoted(ast.parse(file.read_text(encoding="utf-8")))
    }
    assert found == set()


def test_the_test_of_quoting_can_fail():
    """An unquoted name is found, also as the second one of a command."""
    code = 'x = f"first: qmigrate snapshot restore {quote(a)} {b} --undo, then {c}"; y = f"qmigrate gc {d} --now"'
    assert [shown for _, shown in _unquoted(ast.parse(code))] == ["b", "d"]


@given(st.text(min_size=1))
def test_a_quoted_word_is_one_word(text):
    """Whatever a name holds, a shell reads it back as it is."""
    if "\0" not in text:
        assert shlex.split(f"qmigrate adopt {quote(text)} --take-over") == ["qmigrate", "adopt", text, "--take-over"]


@pytest.mark.parametrize("flags", [["-v"], ["-vv"], ["--debug"]])
def test_no_secret_of_a_url_is_in_a_log_or_a_traceback(flags, capsys, monkeypatch):
    """What a library logs or raises may quote a URL; what signs it is masked."""

    def lint(*_args, **_more):
        logging.getLogger("lib").warning("asked %s", "https://b/a?X-Amz-Signature=hush&y=1")
        raise RuntimeError("https://u:hush@b/a?sig=hush&y=1")

    monkeypatch.setattr("qmigrate.commands.lint.lint", lint)
    assert run([*flags, "check", "--offline"]) == 1
    said = capsys.readouterr()
    assert "hush" not in said.err + said.out
    assert said.err.count("=***&y=1") >= 2
