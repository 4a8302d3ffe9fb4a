"""The version of a release: what the tag, pyproject.toml and the changelog agree on.

    release_version.py TAG

Prints it; exit code 1 and one line where they don't agree.
"""

from __future__ import annotations

import re
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def problem(tag: str, version: str, changelog: str) -> str | None:
    """Why a tag is not a release of this version, or None.

    Args:
        version: of pyproject.toml.
        changelog: the text of CHANGELOG.md.
    """
    if not re.fullmatch(r"\d+\.\d+\.\d+((a|b|rc)\d+)?", version):
        return f"pyproject.toml: {version} is not a version such as 1.2.3 or 1.2.3rc1"
    if tag != f"v{version}":
        return f"the tag is {tag}, and pyproject.toml has the version {version}: expected v{version}"
    if not re.search(rf"^## \[?{re.escape(version)}\b", changelog, re.MULTILINE):
        return f"CHANGELOG.md has no section {version}: what is under Unreleased belongs there"
    return None


def main(arguments: list[str]) -> int:
    """Print the version, or what is wrong."""
    if len(arguments) != 1:
        print(__doc__, file=sys.stderr)
        return 2
    version = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
    found = problem(arguments[0], version, (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"))
    print(found or version, file=sys.stderr if found else sys.stdout)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
