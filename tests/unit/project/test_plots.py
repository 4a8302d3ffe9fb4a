"""The pictures of docs/performance.md are drawn from the figures that are stored next to the benches."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def plots():
    """scripts/plots.py."""
    spec = importlib.util.spec_from_file_location("plots", ROOT / "scripts" / "plots.py")
    assert spec is not None
    assert spec.loader is not None
    made = importlib.util.module_from_spec(spec)
    sys.modules["plots"] = made
    spec.loader.exec_module(made)
    yield made
    del sys.modules["plots"]


def test_the_pictures_are_those_of_the_stored_figures(plots):
    """After another measurement scripts/plots.py is to be run; each picture is well-formed, and says what was measured."""
    for name, made in plots.drawn().items():
        assert (ROOT / "docs" / "images" / f"{name}.svg").read_text(encoding="utf-8") == made
        words = " ".join(ElementTree.fromstring(made).itertext())  # noqa: S314  our own
        assert "points" in words
        assert "nan" not in made


def test_the_tables_are_those_of_the_stored_figures(plots):
    """Between the marks of the page."""
    shown = (ROOT / "docs" / "performance.md").read_text(encoding="utf-8")
    assert plots.page(shown) == shown


def test_what_is_longest_fills_its_group_and_no_bar_leaves_it(plots):
    """Bars of one group share a scale; the parts of a bar are next to each other."""
    lines = [plots.Bar("a", ((10.0, "#1"), (30.0, "#2")), "40"), plots.Bar("b", ((20.0, "#1"),), "20 & <more>")]
    root = ElementTree.fromstring(plots.bars("title", {"group": lines}, "note"))  # noqa: S314  our own
    found = [one for one in root.iter("{http://www.w3.org/2000/svg}rect") if "x" in one.attrib]
    spans = [(float(one.get("x", 0)), float(one.get("width", 0))) for one in found]
    assert spans[0][0] + spans[0][1] == pytest.approx(spans[1][0], abs=0.2)
    assert spans[2][1] == pytest.approx((spans[0][1] + spans[1][1]) / 2, abs=0.2)
    assert "20 & <more>" in " ".join(root.itertext())
