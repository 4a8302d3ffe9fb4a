"""Directories in a browser: every action in three clicks, with JavaScript and without."""

from __future__ import annotations

import pytest
from tests.browser.conftest import listening
from tests.harness import Deployment
from tests.scenarios.test_console import Served

from qmigrate.commands import jobs
from qmigrate.commands.reset import PHRASE


@pytest.fixture
def served(tmp_path) -> Served:
    """Six points in three directories, in local mode."""
    made = Deployment(tmp_path / "project", {"path": str(tmp_path / "qdrant")}, f"sqlite:///{tmp_path}/ledger.db")
    return Served(made, f"sqlite:///{tmp_path}/app.db")


@pytest.fixture
def console(served):
    """The console of it."""
    with listening(served.made) as found:
        yield found


def dialog(page, scripts: bool):
    """Where a page asks: over the one that led to it with scripts, by itself without."""
    return page.locator("dialog #ask" if scripts else "main #ask")


@pytest.mark.nightly
def test_a_directory_is_deleted(console, opened, scripts):
    """Look, say why, press; then the job, and what it has done."""
    page = opened(console)
    page.get_by_role("link", name="Directories").click()
    page.get_by_role("row", name="2023/").get_by_role("link", name="Delete").click()
    asked = dialog(page, scripts)
    asked.wait_for()
    assert "3 of 6" in asked.inner_text()
    asked.get_by_label("Reason").fill("scanned again")
    asked.get_by_role("checkbox").check()
    asked.get_by_role("button", name="Delete").click()
    page.get_by_role("status").filter(has_text="does it").wait_for()
    jobs.work(console.made.settings(), once=True)
    if not scripts:
        page.reload()
    page.get_by_text("3 points, fix 1").wait_for()
    page.reload()
    assert page.locator("table.tree").get_by_role("row", name="2023/").count() == 0


def test_a_question_can_be_left(console, opened, scripts):
    """By its button, and by Escape where it is a dialog: nothing is sent."""
    page = opened(console)
    page.goto(f"{console.url}/directories")
    page.get_by_role("link", name="Start over").click()
    asked = dialog(page, scripts)
    asked.get_by_role("link", name="Cancel").click()
    page.get_by_role("link", name="Start over").wait_for()
    if scripts:
        page.get_by_role("link", name="Start over").click()
        dialog(page, scripts).wait_for()
        page.keyboard.press("Escape")
        dialog(page, scripts).wait_for(state="detached")
        assert page.evaluate("document.activeElement.textContent") == "Start over…"
    assert not jobs.jobs(console.made.settings()).rows


@pytest.mark.nightly
def test_starting_over_takes_the_phrase(console, opened, scripts):
    """The browser keeps a form back that lacks it."""
    page = opened(console)
    page.goto(f"{console.url}/directories")
    page.get_by_role("link", name="Start over").click()
    asked = dialog(page, scripts)
    asked.get_by_label("Reason").fill("a new beginning")
    asked.get_by_role("button", name="Leave all points behind").click()
    assert not jobs.jobs(console.made.settings()).rows
    asked.get_by_label("Type").fill(PHRASE)
    asked.get_by_role("button", name="Leave all points behind").click()
    page.get_by_role("status").filter(has_text="does it").wait_for()
    assert jobs.work(console.made.settings(), once=True).ended == 1
    page.reload()
    assert page.get_by_text("No point has a path").count() == 1
