"""Links of the pages: each leads to a file and a heading that are there, and each test that the README names is one."""

from __future__ import annotations

import os
import re
import runpy
from functools import cache
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

ROOT = Path(__file__).parents[3]
PAGES = sorted(
    [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "examples").rglob("*.md"), *ROOT.glob("*/README.md")]
)
SITE = runpy.run_path(str(ROOT / "scripts" / "site.py"))
FENCE = re.compile(r"^[ >]*```.*?^[ >]*```", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\[(?:[^\[\]]|\[[^\[\]]*\])*\]\(([^()\s]+)\)")


@cache
def headings(page: Path) -> frozenset[str]:
    """Anchors of a page, as GitHub and the site make them."""
    text = FENCE.sub("", page.read_text(encoding="utf-8"))
    found: dict[str, int] = {}
    made = set()
    for words in re.findall(r"^#{1,6} (.+?)\s*$", text, re.MULTILINE):
        bare = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", words)
        slug = re.sub(r"\s", "-", re.sub(r"[^\w\s-]", "", bare.lower()).strip())
        made.add(f"{slug}-{found[slug]}" if slug in found else slug)
        found[slug] = found.get(slug, 0) + 1
    return frozenset(made)


def dead(page: Path, text: str) -> list[str]:
    """Links of a text that lead nowhere."""
    found = []
    for target in LINK.findall(FENCE.sub("", text)):
        parts = urlsplit(target)
        if parts.scheme:
            continue
        there = Path(os.path.normpath(page.parent / unquote(parts.path))) if parts.path else page
        if not there.exists() or (parts.fragment and there.suffix == ".md" and parts.fragment not in headings(there)):
            found.append(target)
    return found


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_no_link_is_dead(page):
    """Files, folders and headings; addresses of other hosts are not asked."""
    assert dead(page, page.read_text(encoding="utf-8")) == []


def test_a_dead_link_is_found():
    """No file, no heading, no heading of another page."""
    text = "[a](nowhere.md) [b](#no-such-heading) [c](docs/safety.md#no) [d](docs/safety.md#after-a-kill) ![e](docs/images/no.svg)"
    assert dead(ROOT / "README.md", text) == ["nowhere.md", "#no-such-heading", "docs/safety.md#no", "docs/images/no.svg"]


def test_each_test_that_the_readme_names_is_there():
    """A sentence about a problem that it solves has the test that holds it: the function, in the file that the link leads to."""
    readme = (ROOT / "README.md").read_text(encoding="utf-8").partition("## Problems that it solves")[2].partition("\n## ")[0]
    named = re.findall(r"\[(test_\w+)\]\((tests/[\w/]+\.py)\)", readme)
    assert len(named) >= 8
    for name, file in named:
        assert f"\ndef {name}(" in (ROOT / file).read_text(encoding="utf-8"), f"{file} has no {name}"
    for point in re.split(r"^- ", readme, flags=re.MULTILINE)[1:]:
        assert "](tests/" in point, point


def test_every_page_has_a_place_in_the_site():
    """Once, in the navigation of zensical.toml."""
    assert SITE["unlisted"]() == []


@pytest.mark.parametrize("file", sorted(SITE["sources"]()), ids=lambda file: file.relative_to(ROOT).as_posix())
def test_a_page_of_the_site_leads_to_pages_of_the_site(file):
    """What the site has is linked there; other files of the repository are named, or linked where it has an address."""
    pages = SITE["sources"]()
    if file.suffix != ".md":
        assert pages[file]
        return
    text = FENCE.sub("", SITE["staged"](file, pages))
    for target in LINK.findall(text):
        parts = urlsplit(target)
        if not parts.scheme and parts.path:
            assert os.path.normpath(Path(pages[file]).parent / unquote(parts.path)) in pages.values(), target


def test_the_pages_are_read_as_on_github(tmp_path):
    """A list right behind a line of text gets an empty line, code in a table its bare pipe; blocks stay as they are."""
    page = tmp_path / "page.md"
    page.write_text("Two:\n- one\n- two\n   - nested\n\n```\ntext\n- no list\n```\n| `a \\| b` | c \\| d |\n|---|\n", encoding="utf-8")
    assert SITE["staged"](page, {page: "page.md"}) == (
        "Two:\n\n- one\n- two\n    - nested\n\n```\ntext\n- no list\n```\n| `a | b` | c \\| d |\n|---|\n"
    )


def test_what_is_wrong_with_a_site_is_found(tmp_path):
    """A page that is gone, a heading that is gone, and whatever a browser would load from another host."""
    (tmp_path / "a.html").write_text(
        '<a href="b.html#here">1</a><a href=b.html#gone>2</a><a href="c.html">3</a><a href="https://qdrant.tech">4</a>'
        '<script src="https://unpkg.com/x.js"></script><link rel="stylesheet" href="//fonts.example/x.css">'
        '<a href="/a.html">5</a><img src="x.png">',
        encoding="utf-8",
    )
    (tmp_path / "b.html").write_text('<h1 id="here">b</h1><link rel="canonical" href="https://example.org/b.html">', encoding="utf-8")
    (tmp_path / "x.css").write_text("a { background: url(https://example.org/x.png) }", encoding="utf-8")
    assert list(SITE["findings"](tmp_path)) == [
        "a.html: b.html#gone leads to no heading",
        "a.html: c.html leads nowhere",
        "a.html: loads https://unpkg.com/x.js",
        "a.html: loads //fonts.example/x.css",
        "x.css: loads https://example.org/x.png",
    ]
