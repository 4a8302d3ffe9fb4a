"""The quickstart, in the README and on its own page: from an empty folder to a second vector and back, as it stands."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
from tests.scenarios import pages

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
SECTION = README.partition("\n## Quickstart\n")[2].partition("\n## ")[0]
#: Lines of the README's, at most: it fits a screen.
MOST = 64


@pytest.mark.parametrize("page", ["README.md", "docs/quickstart.md"])
def test_the_quickstart_works_as_it_stands(page, tmp_path):
    """Every file and command, in an empty folder; what the page shows is what is printed. Then the checks before a release."""
    text = SECTION if page == "README.md" else (ROOT / page).read_text(encoding="utf-8")
    typed = pages.run(text, tmp_path)
    verbs = [command.split()[1] for command in typed if command.startswith("qmigrate")]
    steps = [verb for place, verb in enumerate(verbs) if verb not in verbs[:place]]
    assert steps == ["init", "revision", "plan", "upgrade", "rollback", "status"]
    assert sum(command.startswith("python") for command in typed) >= 2
    if page == "docs/quickstart.md":
        more = (ROOT / "docs" / "checks.md").read_text(encoding="utf-8")
        assert len(pages.run(more, tmp_path)) == more.count("$ qmigrate")
        assert (tmp_path / "plan.json").is_file()


def test_the_quickstart_of_the_readme_fits_a_screen():
    """Who tries it sees where it ends."""
    assert len(SECTION.strip().splitlines()) <= MOST


def test_a_page_that_shows_something_else_is_found(tmp_path):
    """A line that the command doesn't print, a wrong exit code, a revision that was never made."""
    for text in ("```console\n$ qmigrate init\nmade coffee\n```\n", "```console\n$ qmigrate plan     # exit 3\n```\n",
                 '```python title="qdrant_migrations/versions/0009_x.py"\n```\n'):  # fmt: skip
        with pytest.raises(AssertionError):
            pages.run(text, tmp_path)


def test_what_is_installed_is_what_the_page_says():
    """The name of the distribution, and a command of each name that `uvx` is given."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert re.findall(r"pip install (\S+)", README) == [project["name"]]
    assert project["name"] in project["scripts"]
    assert set(re.findall(r"uvx (?:--from \S+ )?(\S+)", README)) <= set(project["scripts"])
    assert set(project["scripts"].values()) == {"qmigrate.cli:main"}
