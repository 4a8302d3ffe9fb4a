"""Builds the site of docs/ with Zensical, strictly, and checks what comes out. It writes below build/ only.

``python scripts/site.py`` stages the pages in build/site-pages, builds build/site and checks it; exit code 1 and one
line per finding when a link leads nowhere, a page is not in the navigation, or anything is loaded from another host.
"""

from __future__ import annotations

import html
import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote, urlsplit

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"
CONFIG = tomllib.loads((ROOT / "zensical.toml").read_text(encoding="utf-8"))["project"]
PAGES, SITE = ROOT / CONFIG["docs_dir"], ROOT / CONFIG["site_dir"]
_FENCE = re.compile(r"(^[ >]*```.*?^[ >]*```[^\n]*$)", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"(!?)\[((?:[^\[\]]|\[[^\[\]]*\])*)\]\(([^()\s]+)\)")
#: A line of a paragraph, right before a list; the beginning of a list within a list.
_BEFORE_LIST = re.compile(r"^((?!\s|[-*|#>] ?|\d+\. )\S.*)\n(?=(?:[-*]|\d+\.) )", re.MULTILINE)
_NESTED = re.compile(r"^ {2,3}(?=(?:[-*]|\d+\.) )", re.MULTILINE)
#: A row of a table, and code in it.
_ROW, _CODE = re.compile(r"^\|.*$", re.MULTILINE), re.compile(r"(`+).+?\1")
#: What a browser would load, and from where.
_LOADED = re.compile(
    r"<(?:script|img|iframe|source|video|audio|embed)\b[^>]*?\ssrc=[\"']?([^\"'\s>]+)"
    r"|<link\b(?=[^>]*rel=[\"']?(?:stylesheet|preload|preconnect|icon|modulepreload|dns-prefetch|manifest))"
    r"[^>]*?\shref=[\"']?([^\"'\s>]+)"
    r"|url\([\"']?([^\"')]+)|@import\s+[\"']([^\"']+)",
    re.IGNORECASE,
)


def sources() -> dict[Path, str]:
    """File of the repository -> its page or file of the site."""
    found = {file: file.relative_to(DOCS).as_posix() for file in sorted(DOCS.rglob("*")) if file.is_file()}
    found |= {ROOT / f"{name}.md": f"{name.lower()}.md" for name in ("CHANGELOG", "CONTRIBUTING", "SECURITY")}
    found |= {file: f"examples/{file.parent.name}.md" for file in sorted(ROOT.glob("examples/*/README.md"))}
    return found


def staged(file: Path, pages: dict[Path, str]) -> str:
    """The text of a page with its links as the site has them.

    Args:
        pages: as `sources` returns them.
    """
    parts = _FENCE.split(file.read_text(encoding="utf-8"))
    parts[::2] = [_as_python(_LINK.sub(lambda found: _link(found, file, pages), part)) for part in parts[::2]]
    return "".join(parts)


def _as_python(text: str) -> str:
    """What GitHub and Python's Markdown read differently, as the latter needs it.

    Lists: behind an empty line, and four columns further in within another one. Code in tables: with bare pipes.
    """
    text = _BEFORE_LIST.sub(r"\1\n\n", _NESTED.sub("    ", text))
    return _ROW.sub(lambda row: _CODE.sub(lambda code: code[0].replace("\\|", "|"), row[0]), text)


def _link(found: re.Match[str], file: Path, pages: dict[Path, str]) -> str:
    mark, text, target = found.groups()
    parts = urlsplit(target)
    if parts.scheme or not parts.path:
        return found[0]
    there = Path(os.path.normpath(file.parent / unquote(parts.path)))
    if there.is_dir() and there / "README.md" in pages:
        there /= "README.md"
    page = pages.get(there)
    anchor = f"#{parts.fragment}" if parts.fragment else ""
    if page is not None:
        return f"{mark}[{text}]({os.path.relpath(page, Path(pages[file]).parent)}{anchor})"
    if not there.exists():
        raise SystemExit(f"{file.relative_to(ROOT)}: {target} leads nowhere")
    # A file of the repository that is not a page: the site links to it where the repository has an address.
    address = repository()
    return f"[{text}]({address}/blob/main/{there.relative_to(ROOT).as_posix()}{anchor})" if address else text


def repository() -> str | None:
    """The address of the repository, as pyproject.toml has it."""
    urls = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"].get("urls", {})
    found = next((urls[name] for name in ("Source", "Repository", "source", "repository") if name in urls), None)
    return found.rstrip("/") if found else None


def stage() -> None:
    """Copy every page and file into the folder that Zensical reads."""
    shutil.rmtree(PAGES, ignore_errors=True)
    pages = sources()
    for file, name in pages.items():
        target = PAGES / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if file.suffix == ".md":
            target.write_text(staged(file, pages), encoding="utf-8")
        else:
            shutil.copy(file, target)


def navigation(entries: object = CONFIG["nav"]) -> Iterator[str]:
    """The pages of the navigation."""
    if isinstance(entries, str):
        yield entries
    elif isinstance(entries, list):
        for one in entries:
            yield from navigation(one)
    elif isinstance(entries, dict):
        for one in entries.values():
            yield from navigation(one)


def unlisted() -> list[str]:
    """Pages that the navigation lacks, and entries of it without a page."""
    pages = {name for name in sources().values() if name.endswith(".md")}
    listed = list(navigation())
    twice = {name for name in listed if listed.count(name) > 1}
    return sorted((pages ^ set(listed)) | twice)


def findings(site: Path) -> Iterator[str]:
    """What is wrong with the files of a site."""
    pages = {file: file.read_text(encoding="utf-8") for file in sorted(site.rglob("*.html"))}
    anchors = {file: set(re.findall(r"\sid=[\"']?([^\"'\s>]+)", text)) for file, text in pages.items()}
    for file, text in pages.items():
        for target in re.findall(r"<a\b[^>]*?\shref=[\"']?([^\"'\s>]*)", text):
            if problem := _dead(file, html.unescape(target), anchors, site):
                yield f"{file.relative_to(site)}: {problem}"
    for file in sorted(site.rglob("*")):
        if file.suffix in (".html", ".css", ".svg"):
            for groups in _LOADED.findall(file.read_text(encoding="utf-8")):
                address = next(one for one in groups if one)
                if re.match(r"(https?:)?//", address):
                    yield f"{file.relative_to(site)}: loads {address}"


def _dead(file: Path, target: str, anchors: dict[Path, set[str]], site: Path) -> str | None:
    parts = urlsplit(target)
    if parts.scheme or parts.netloc:
        return None
    # The page for what isn't there is shown at any address, so its links begin at the site's root.
    start = site if parts.path.startswith("/") else file.parent
    there = Path(os.path.normpath(start / unquote(parts.path).lstrip("/"))) if parts.path else file
    there = there / "index.html" if there.is_dir() else there
    if not there.is_relative_to(site) or not there.exists():
        return f"{target} leads nowhere"
    fragment = unquote(parts.fragment)
    if fragment and there in anchors and fragment not in anchors[there]:
        return f"{target} leads to no heading"
    return None


def main() -> int:
    """Build and check."""
    if odd := unlisted():
        print("zensical.toml: not in the navigation, or no page, or there twice: " + ", ".join(odd))
        return 1
    stage()
    shutil.rmtree(SITE, ignore_errors=True)
    program = Path(sys.executable).with_name("zensical")
    built = subprocess.run([program, "build", "--clean", "--strict"], cwd=ROOT, check=False)
    if built.returncode:
        return 1
    found = list(findings(SITE))
    print("\n".join(found) or f"{len(list(SITE.rglob('*.html')))} pages in {SITE.relative_to(ROOT)}")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
