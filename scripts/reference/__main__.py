"""Writes the pages of docs/reference that are made from the code.

``python scripts/reference`` writes them; with ``--check``: exit code 1 and one line for each that is not current.
"""

from __future__ import annotations

import sys
from functools import cache
from pathlib import Path

import command_pages
import json_pages
import operation_pages
import setting_pages

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
MAKERS = (operation_pages, setting_pages, command_pages, json_pages)


@cache
def pages() -> dict[str, str]:
    """Path below docs/ -> text."""
    return {name: text for maker in MAKERS for name, text in maker.pages().items()}


def stale() -> list[str]:
    """Pages that differ from what the code gives, are missing, or are not made any more."""
    made = dict(pages())
    other = DOCS / "reference" / "parameters.md"
    if other.is_file() and f"(here {setting_pages.minor()})" not in other.read_text(encoding="utf-8"):
        # Another client is installed than the one that the page is about.
        made.pop("reference/parameters.md")
    different = [name for name, text in made.items() if not _is(DOCS / name, text)]
    folder = DOCS / "reference" / "schemas"
    left = [f"reference/schemas/{one.name}" for one in folder.glob("*") if f"reference/schemas/{one.name}" not in made]
    return sorted([*different, *left])


def _is(file: Path, text: str) -> bool:
    return file.is_file() and file.read_text(encoding="utf-8") == text


def main(arguments: list[str]) -> int:
    """Write or check; 1 when something is missing or not current."""
    if missing := operation_pages.missing():
        print(f"scripts/reference/examples.py: no example of {', '.join(missing)}, or one of what isn't there")
        return 1
    found = stale()
    if "--check" in arguments:
        print("".join(f"docs/{name} is not current: scripts/docs --generate\n" for name in found), end="")
        return 1 if found else 0
    made = pages()
    for name in found:
        file = DOCS / name
        if name not in made:
            file.unlink()
            continue
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(made[name], encoding="utf-8", newline="\n")
        print(f"wrote docs/{name}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
