"""Every page in a browser: no finding of axe, nothing wider than the window, nothing of another host."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from tests.browser.conftest import Console, listening
from tests.browser.test_directories import served as served
from tests.harness import Deployment
from tests.scenarios.console_states import States
from tests.scenarios.test_approvals import asked, ruled

from qmigrate.commands import jobs

WIDTHS = (360, 820, 1440)
pytestmark = pytest.mark.nightly


@pytest.fixture
def scripts() -> bool:
    """Axe is a script."""
    return True


@pytest.fixture
def console(served):
    """A console with one collection, which has directories."""
    with listening(served.made) as found:
        yield found


@pytest.fixture
def pages(request, tmp_path) -> Iterator[tuple[Console, list[str]]]:
    """A console, and pages that its navigation doesn't lead to: of directories and requests, or of runs and plans."""
    if request.param == "requests":
        served = ruled(request.getfixturevalue("served"), fields=["session_id"])
        number, made = asked(served), served.made
        more = ["/directories/delete?path=/photos/", "/directories/reset", "/nothing-of-that-name", f"/requests/{number}"]
    else:
        # As long as the address of a database may be, with nothing in it where a line could end.
        made = Deployment(tmp_path / "project", {"path": str(tmp_path / "qdrant")}, f"sqlite:///{tmp_path}/{'ledger' * 9}.db")
        states = States(made)
        examined, _ = jobs.submit(made.settings(), "examine", {"collection": states.served})
        jobs.work(made.settings(), once=True)
        waits, _ = jobs.submit(made.settings(), "upgrade", {"target": "head"})
        more = [f"/collections/{states.served}", "/?count=1", "/jobs", f"/jobs/{examined.id}", f"/jobs/{waits.id}"]
        more += ["/plan/run", "/plan/cutover", "/plan/rollback", f"/plan/rollback?target=0001&only={states.served}"]
        more += [f"/plan/abort?name={states.failed}", "/runs/5", "/runs/6", "/runs/7"]
    with listening(made) as found:
        yield found, more


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("pages", ["requests", "runs"], indirect=True)
def test_every_page_is_for_everybody(pages, opened, scheme):
    """WCAG 2.2 AA as far as axe can tell; at each width no page scrolls sideways, on a telephone no table does."""
    from axe_playwright_python.sync_playwright import Axe

    console, extra = pages
    axe, findings, wide = Axe(), {}, []
    page = opened(console, "approver", color_scheme=scheme)
    links = page.locator("nav a").evaluate_all("found => found.map(one => one.href)")
    assert len(links) >= 4
    for address in [*links, *(console.url + one for one in extra)]:
        page.goto(address)
        tags = {"runOnly": {"type": "tag", "values": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]}}
        found = axe.run(page, options=tags).response["violations"]
        if found:
            findings[address] = [(one["id"], [node["html"][:120] for node in one["nodes"]]) for one in found]
        for width in WIDTHS:
            page.set_viewport_size({"width": width, "height": 800})
            if page.evaluate("document.documentElement.scrollWidth > document.documentElement.clientWidth"):
                wide.append((address, width))
        page.set_viewport_size({"width": WIDTHS[0], "height": 800})
        cut = "found => found.filter(one => one.scrollWidth > one.clientWidth).map(one => one.querySelector('caption').textContent)"
        wide += [(address, said) for said in page.locator(".wide:has(> table.cards)").evaluate_all(cut)]
    assert not findings
    assert not wide


def test_every_link_of_a_page_is_reached_by_the_keyboard(console, opened):
    """The first stop leads past the navigation."""
    page = opened(console)
    page.goto(f"{console.url}/directories")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to content"
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "main"
