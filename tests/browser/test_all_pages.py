"""Every page in a browser: no finding of axe, nothing wider than the window, nothing of another host."""

from __future__ import annotations

import pytest
from tests.browser.conftest import listening
from tests.browser.test_directories import served as served

WIDTHS = (360, 820, 1440)


@pytest.fixture
def scripts() -> bool:
    """Axe is a script."""
    return True


@pytest.fixture
def console(served):
    """A console with one collection, which has directories."""
    with listening(served.made) as found:
        yield found


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_page_is_for_everybody(console, opened, scheme):
    """WCAG 2.2 AA as far as axe can tell; at each width no page scrolls sideways."""
    from axe_playwright_python.sync_playwright import Axe

    axe, findings, wide = Axe(), {}, []
    page = opened(console, "approver", color_scheme=scheme)
    links = page.locator("nav a").evaluate_all("found => found.map(one => one.href)")
    assert len(links) >= 4
    extra = ["/directories/delete?path=/photos/", "/directories/reset", "/nothing-of-that-name"]
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
