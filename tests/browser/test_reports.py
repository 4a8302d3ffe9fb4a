"""Reports of comparisons in a browser: no finding of axe, nothing wider than the window, drawings that are seen, no request."""

from __future__ import annotations

import pytest
from tests.scenarios.cli import call
from tests.scenarios.test_compare_reports import ASKED, hostile
from tests.scenarios.test_compare_reports import local as local
from tests.scenarios.test_evaluate import BESIDE

WIDTHS = (360, 820, 1440)
TAGS = {"runOnly": {"type": "tag", "values": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]}}


@pytest.fixture
def reports(local, tmp_path):
    """A comparison with misses whose payloads are hostile, and models that were tried."""
    local.extra["console"] = {"fields": ["title", "body"]}
    local.__post_init__()
    local.revise("0003", BESIDE)
    assert call(local.root, "upgrade").code == 0
    hostile(local)
    made = [tmp_path / "evaluated.html", tmp_path / "tried.html"]
    pair = (f"{local.name}/text", f"{local.name}/new")
    assert call(local.root, "evaluate", *pair, *ASKED, "--html", str(made[0])).code == 5
    models = ("--embedder", "old", "--embedder", "blind", "--text", "{title} {body}", "--known-item", "title", "--sample", "100")
    assert call(local.root, "try-models", local.name, *models, "--html", str(made[1])).code == 0
    return made


@pytest.mark.nightly
def test_reports_of_comparisons_are_for_everybody(chromium, reports):
    """In both schemes; every dot lies within its drawing, and old and new have colours of their own."""
    from axe_playwright_python.sync_playwright import Axe

    complaints: list[str] = []
    for scheme in ("light", "dark"):
        # Axe is a script, which the file itself forbids.
        context = chromium.new_context(color_scheme=scheme, bypass_csp=True)
        page = context.new_page()
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("request", lambda asked: complaints.append(asked.url) if not asked.url.startswith("file://") else None)
        for file in reports:
            page.goto(file.as_uri())
            if scheme == "light" or file is reports[0]:
                found = Axe().run(page, options=TAGS).response["violations"]
                assert [(one["id"], [node["html"][:120] for node in one["nodes"]]) for one in found] == [], (scheme, file.name)
            for width in WIDTHS:
                page.set_viewport_size({"width": width, "height": 800})
                assert not page.evaluate("document.documentElement.scrollWidth > document.documentElement.clientWidth"), (file.name, width)
            colours = page.evaluate(
                "['old', 'new'].map(side => getComputedStyle(document.querySelector(`.intervals path.dot.${side}`)).stroke)"
            )
            assert len(set(colours)) == 2
            outside = page.evaluate(
                """[...document.querySelectorAll('.intervals path.dot')].filter(dot => {
                    const [inner, outer] = [dot.getBoundingClientRect(), dot.ownerSVGElement.getBoundingClientRect()];
                    return inner.left < outer.left - 1 || inner.right > outer.right + 1 || outer.width < 50 || outer.height < 20;
                }).length"""
            )
            assert outside == 0
        context.close()
    assert complaints == []
