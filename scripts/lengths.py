"""Short functions and short files are read in one go; no linter here counts both, so this one does.

Exit code 1 and one line per finding when a function is longer than 60 lines or a file longer than 600, under src.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

MOST_LINES_OF_A_FUNCTION = 60
MOST_LINES_OF_A_FILE = 600
ROOT = Path(__file__).resolve().parent.parent


def findings(source: Path) -> Iterator[str]:
    """What is too long in one file, docstrings included."""
    content = source.read_text(encoding="utf-8")
    name = source.relative_to(ROOT) if source.is_relative_to(ROOT) else source
    lines = len(content.splitlines())
    if lines > MOST_LINES_OF_A_FILE:
        yield f"{name}: {lines} lines, at most {MOST_LINES_OF_A_FILE}"
    for node in ast.walk(ast.parse(content)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            length = (node.end_lineno or node.lineno) - node.lineno + 1
            if length > MOST_LINES_OF_A_FUNCTION:
                yield f"{name}:{node.lineno}: {node.name} has {length} lines, at most {MOST_LINES_OF_A_FUNCTION}"


def main(folders: list[str]) -> int:
    """Print every finding under the folders (default: src); 1 when there is one."""
    places = [Path(folder).resolve() for folder in folders] or [ROOT / "src"]
    found = [line for place in places for file in sorted(place.rglob("*.py")) for line in findings(file)]
    for line in found:
        print(line)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
