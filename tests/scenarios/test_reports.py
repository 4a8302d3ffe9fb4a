"""Reports of plan, upgrade and verify: one file that needs nothing else, also where the command fails."""

from __future__ import annotations

import builtins
import itertools
import re
import stat
import sys
import time
from pathlib import Path

import pytest
from tests.harness import ADD, CREATE, Deployment
from tests.scenarios.cli import call
from tests.scenarios.console import Parsed

from qmigrate.commands import runs, upgrade
from qmigrate.console.plots import plots
from qmigrate.engine import figures
from qmigrate.errors import StoreError
from qmigrate.ledger import Ledger
from qmigrate.model.facts.figures import Figures, Sample
from qmigrate.store.local.local import LocalStore

HOSTILE = "<img src=x onerror=alert(1)>'\"&\u202e"


@pytest.fixture
def local(tmp_path, monkeypatch) -> Deployment:
    """Local mode with a collection of some points, and a revision that is to come."""
    # However slow this machine is: a test has the figures that it makes.
    monkeypatch.setattr(figures, "FIRST_PAUSE", 1e6)
    made = Deployment(tmp_path / "project", {"path": str(tmp_path / "qdrant")}, f"sqlite:///{tmp_path}/ledger.db")
    made.revise("0001", CREATE)
    upgrade.upgrade(made.settings())
    made.load(20)
    made.revise("0002", ADD)
    return made


class Whole(Parsed):
    """A report, checked: whatever it needs is in it, and every element is closed."""

    VOID = frozenset({"meta", "br", "link", "input", "path", "img"})

    def __init__(self, file: Path) -> None:
        self.open: list[str] = []
        raw = file.read_text(encoding="utf-8")
        super().__init__(raw)
        self.raw = raw
        assert self.open == [], "an element is not closed"
        assert raw.startswith("<!doctype html>")
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
        tags = {tag for tag, _ in self.elements}
        assert not tags & {"script", "link", "iframe", "object", "img", "form", "base"}
        for tag, given in self.elements:
            assert not [name for name in given if name.startswith(("on", "hx-")) or name in ("src", "href", "style", "action")], (tag, given)
        policy = next(given["content"] for _, given in self.elements if given.get("http-equiv") == "Content-Security-Policy")
        assert policy == "default-src 'none'; style-src 'unsafe-inline'"
        assert not re.search(r"@import|url\(", raw)
        headings = [int(tag[1]) for tag, _ in self.elements if re.fullmatch("h[1-6]", tag)]
        assert headings[0] == 1
        assert all(later <= before + 1 for before, later in itertools.pairwise(headings)), headings
        identifiers = [given["id"] for _, given in self.elements if "id" in given]
        assert len(identifiers) == len(set(identifiers))

    def handle_starttag(self, tag, attrs):
        super().handle_starttag(tag, attrs)
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        super().handle_starttag(tag, attrs)

    def handle_endtag(self, tag):
        # What may stay open is closed by what is around it; here nothing is left open at all.
        assert self.open.pop() == tag, (tag, self.getpos())


def test_a_plan(local, tmp_path):
    """As the terminal shows it; nothing is written anywhere else."""
    file = tmp_path / "plan.html"
    # What was tried takes another time each time.
    found = call(local.root, "plan", "--no-trial", "--html", str(file))
    assert found.code == 0, found.text
    page = Whole(file)
    for words in (local.name, "copy", "20", "0002", "Nothing was written.", f"qmigrate plan --no-trial --html {file}", "exit code 0", "embeds 20 items"):
        assert words in page.text, words
    assert "planned" in page.text
    plain = call(local.root, "plan", "--no-trial")
    assert found.out == plain.out, "what is printed stays as it is"


def test_an_upgrade_with_its_proof(local, tmp_path):
    """What was planned, what became of it, the phases, the proof, and the way back."""
    file = tmp_path / "new" / "upgrade.html"
    found = call(local.root, "upgrade", "--html", str(file))
    assert found.code == 0, found.text
    page = Whole(file)
    for words in ("Outcome", "What was planned", "20 of 20 points", "Run 2: upgrade", "converge", "qmigrate rollback"):
        assert words in page.text, words
    assert "Run 1" not in page.text, "an earlier one is not of this command"
    again = call(local.root, "upgrade", "--html", str(file))
    assert again.code == 0
    assert "Nothing was to be done." in Whole(file).text


def test_a_dry_run_is_a_plan(local, tmp_path):
    """It has no outcome."""
    found = call(local.root, "upgrade", "--dry-run", "--html", str(tmp_path / "dry.html"))
    assert found.code == 0, found.text
    page = Whole(tmp_path / "dry.html")
    assert "Outcome" not in page.text
    assert "Nothing was written." in page.text


@pytest.mark.parametrize("form", [(), ("--json",)])
def test_an_upgrade_that_fails_says_so(local, tmp_path, monkeypatch, form):
    """What failed, what was not touched, and the next command; the exit code stays that of the failure."""
    file = tmp_path / "failed.html"

    def broken(*_, **__):
        raise StoreError(f"the server is away {HOSTILE}", hint=f"qmigrate doctor {HOSTILE}")

    monkeypatch.setattr(LocalStore, "readiness", broken)
    found = call(local.root, "upgrade", "--html", str(file), *form)
    assert found.code == StoreError.exit_code, found.text
    page = Whole(file)
    assert "failed" in page.text
    for words in ("the server is away <img src=x onerror=alert(1)>", "as before: no client notices anything", "qmigrate upgrade", "qmigrate abort", "StoreError"):
        assert words in page.text, words
    assert "\u202e" not in page.raw, "nothing turns the direction of writing"
    monkeypatch.undo()
    resumed = call(local.root, "upgrade", "--html", str(file))
    assert resumed.code == 0, resumed.text
    assert "Run 2: upgrade" in Whole(file).text, "the run that was resumed is of this command"


def test_what_fails_before_any_run_is_reported_too(local, tmp_path):
    """A revision file that can't be read."""
    local.revise("0003", "def broken(:")
    file = tmp_path / "failed.html"
    found = call(local.root, "upgrade", "--html", str(file))
    assert found.code == 2, found.text
    page = Whole(file)
    assert "0003" in page.text
    assert "No run was left unfinished by it." in page.text


def test_two_collections_compared(local, tmp_path):
    """Equal or not; the points that differ are named with why."""
    assert call(local.root, "upgrade").code == 0
    file, names = tmp_path / "verify.html", (f"{local.name}__g0001", local.name)
    same = call(local.root, "verify", *names, "--html", str(file))
    assert same.code == 0, same.text
    page = Whole(file)
    assert "20 of 20 points" in page.text
    assert "holds" in page.text
    local.load(3, start=20)
    plain = call(local.root, "verify", *names, "-q")
    differ = call(local.root, "verify", *names, "-q", "--html", str(file))
    assert (differ.code, differ.out, differ.err) == (plain.code, plain.out, plain.err)
    assert differ.code == 5
    page = Whole(file)
    assert f"is only in {local.name}" in page.text
    assert "fails" in page.text


def test_every_text_is_escaped(local, tmp_path):
    """Names, titles and reasons hold what others wrote."""
    local.revise("0003", INDEXED, doc=f"title {HOSTILE}")
    file = tmp_path / "plan.html"
    found = call(local.root, "plan", "--html", str(file), "--actor", HOSTILE.replace("\u202e", ""))
    assert found.code == 0, found.text
    page = Whole(file)
    assert "<img src=x" in page.text
    assert "\u202e" not in page.raw


INDEXED = """
def upgrade():
    return [op.CreatePayloadIndex("{name}", "<script>alert(1)</script>", PayloadSchemaType.KEYWORD)]
"""


def test_a_secret_that_was_typed_is_not_in_it(local, tmp_path):
    """The command is shown as it was typed, without passwords."""
    file = tmp_path / "plan.html"
    call(local.root, "plan", "--html", str(file), "--qdrant-url", "http://kim:hunter2@127.0.0.1:1")
    page = Whole(file)
    assert "hunter2" not in page.raw
    assert "http://kim:***@127.0.0.1:1" in page.text


def test_figures_are_drawn_without_a_script(local, tmp_path):
    """Lines with gaps where nothing is known, named and with their newest values."""
    assert call(local.root, "upgrade").code == 0
    ledger = Ledger.open(local.ledger_url)
    found = Figures(pause=2.0)
    for number in range(1, 5):
        busy = {"read": 0.25, "model": 0.5 * (number % 2)} if number != 3 else {}
        found = found.with_one(Sample(number, time.time() + 2 * number, "fill", "fill", number * 10, 40, 5.0 * number, busy, None, 1_000_000))
    with ledger.hold(local.name, timeout=0) as lease:
        lease.keep_figures(2, found)
    ledger.close()
    made = plots(runs.figures(local.settings(), 2))
    assert [one.name for one in made] == ["Points per second", "Busy share per stage", "Memory of the process"]
    rate, busy, _ = made
    assert (rate.top, rate.lines[0].newest, rate.lines[0].path) == ("20/s", "20/s", "M0.0 75.0 L200.0 50.0 L400.0 25.0 L600.0 0.0")
    assert [one.name for one in busy.lines] == ["read", "model"], "in the order of the work"
    assert busy.lines[1].path == "M0.0 50.0 L200.0 100.0 M600.0 100.0"
    assert busy.summary == "Busy share per stage: read 25 %, model 0 %"
    assert plots(runs.figures(local.settings(), 1)) == ()


@pytest.mark.parametrize("place", ["folder", "file.txt/report.html"])
def test_a_file_that_cannot_be_written_is_refused_before_anything_is_done(local, tmp_path, place):
    """Not after an upgrade of hours."""
    (tmp_path / "folder").mkdir()
    (tmp_path / "file.txt").touch()
    found = call(local.root, "upgrade", "--html", str(tmp_path / place))
    assert found.code == 2, found.text
    assert "can't be written" in found.err
    assert local.row().pending


def test_what_fails_to_be_written_in_the_end_is_said_and_is_no_failure(local, tmp_path, monkeypatch):
    """The upgrade is done: its exit code says so."""
    from qmigrate.console import reports

    def broken(*_):
        raise OSError("no space left")

    monkeypatch.setattr(reports, "report", broken)
    found = call(local.root, "upgrade", "--html", str(tmp_path / "report.html"))
    assert found.code == 0, found.text
    assert "the report could not be written: no space left" in found.err
    assert not list(tmp_path.glob("report.html*"))


def test_without_the_extra_it_names_what_to_install(local, tmp_path, monkeypatch):
    """Before anything is done."""
    for name in [one for one in sys.modules if one.startswith(("qmigrate.console.", "jinja2"))]:
        monkeypatch.delitem(sys.modules, name)
    imported = builtins.__import__

    def without(name, *args, **kwargs):
        if name.partition(".")[0] == "jinja2":
            raise ModuleNotFoundError("No module named 'jinja2'", name="jinja2")
        return imported(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    found = call(local.root, "upgrade", "--html", str(tmp_path / "report.html"))
    assert found.code == 2, found.text
    assert "a report needs jinja2, which is not installed" in found.err
    assert "pip install 'qdrant-migrations[console]'" in found.err
    assert local.row().pending
