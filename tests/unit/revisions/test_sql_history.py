"""What of Alembic is applied, from its files and the heads of its version table."""

from __future__ import annotations

import inspect

import pytest
from alembic.config import Config

from qmigrate.errors import ConfigError, RevisionError
from qmigrate.revisions import alembic_files
from qmigrate.revisions.sql_history import is_applied

REVISION = 'revision = "{}"\ndown_revision = {!r}\n\n\ndef upgrade():\n    pass\n'
SETTINGS = {
    "alembic.ini": "[alembic]\nscript_location = %(here)s/scripts\n",
    "pyproject.toml": '[tool.alembic]\nscript_location = "%(here)s/scripts"\n',
    # Flask-Migrate names no place: it is that of the file.
    "scripts/alembic.ini": "[alembic]\n",
}


def readable(file: str) -> bool:
    """Whether the installed Alembic reads it: pyproject.toml since 1.16."""
    return not file.endswith(".toml") or "toml_file" in inspect.signature(Config.__init__).parameters


@pytest.fixture(params=[name for name in SETTINGS if readable(name)])
def config(request, tmp_path):
    """Two revisions, found by each kind of settings file."""
    versions = tmp_path / "scripts" / "versions"
    versions.mkdir(parents=True)
    (tmp_path / "scripts" / "env.py").write_text("")
    for name, before in (("a1", None), ("a2", "a1"), ("a3", "a2")):
        (versions / f"{name}.py").write_text(REVISION.format(name, before))
    (tmp_path / request.param).write_text(SETTINGS[request.param])
    return tmp_path / request.param


@pytest.mark.parametrize(
    ("wanted", "heads", "applied"),
    [("a2", ("a2",), True), ("a1", ("a3",), True), ("a3", ("a2",), False), ("a1", (), False)],
)
def test_a_revision_is_applied_when_a_head_comes_after_it(config, wanted, heads, applied):
    """Whatever file Alembic has its settings in."""
    assert is_applied(wanted, heads, config) is applied


def test_an_unknown_revision_is_an_error(config):
    """It names the revision and the command that shows the others."""
    with pytest.raises(RevisionError, match="zz"):
        is_applied("zz", ("a2",), config)


def test_without_files_only_the_heads_are_known():
    """Anything else would be a guess."""
    assert is_applied("a2", ("a2",), None)
    with pytest.raises(ConfigError, match="Alembic's files"):
        is_applied("a1", ("a2",), None)


def test_a_pyproject_counts_only_with_a_section_of_alembic(tmp_path):
    """Most projects have one, and most of these say nothing of Alembic."""
    (tmp_path / "scripts").mkdir()
    file = tmp_path / "pyproject.toml"
    file.write_text('[project]\nname = "x"\n')
    assert alembic_files.find(tmp_path, None) is None
    file.write_text(SETTINGS["pyproject.toml"])
    assert alembic_files.find(tmp_path, None).config.path == file
