"""init and revision: the files that a project starts with. They open neither Qdrant nor SQL."""

from __future__ import annotations

import json
import os
import re
from importlib import resources
from pathlib import Path

from qmigrate.commands.results import InitResult, RevisionResult
from qmigrate.errors import ConfigError
from qmigrate.revisions.new import create, initialise
from qmigrate.settings.load import CONFIG_NAME, Settings


def init(settings: Settings | None = None) -> InitResult:
    """Write ``qmigrate.yaml``, the template and an empty ``versions/`` next to the current folder's code.

    Raises:
        ConfigError: there is a settings file already, or the folder can't be written; nothing is overwritten.
        RevisionError: the same for the folder of the revisions.
    """
    settings = settings or Settings.load()
    config = settings.folder / CONFIG_NAME
    if config.exists():
        hint = 'the next step: qmigrate revision -m "what changes"'
        raise ConfigError(f"{config} exists already; nothing was overwritten", hint=hint)
    _check_writable(settings.folder)
    made = initialise(settings.scripts)
    _write(config, _content(settings))
    return InitResult(created=(config, *made), config=config, scripts=settings.scripts)


def revision(
    settings: Settings | None, message: str, *, merge: bool = False, revision_id: str | None = None
) -> RevisionResult:
    """Write the next revision file.

    Args:
        settings: where the scripts are.
        message: what changes, in words.
        merge: join several heads.
        revision_id: instead of the next number.

    Raises:
        RevisionError: see :func:`qmigrate.revisions.new.create`.
    """
    settings = settings or Settings.load()
    made = create(settings.scripts, message, revision_id=revision_id, merge=merge)
    return RevisionResult(path=made.path, revision=made.id, down=made.down, message=message)


def _check_writable(folder: Path) -> None:
    """Before the first file, so that a refusal leaves none behind."""
    if not folder.is_dir():
        raise ConfigError(f"there is no folder {folder}")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise ConfigError(f"{folder} can't be written: permission denied")


def _content(settings: Settings) -> str:
    import yaml

    template = (resources.files("qmigrate") / "templates" / CONFIG_NAME).read_text(encoding="utf-8")
    scripts = settings.scripts
    shown = scripts.relative_to(settings.folder) if scripts.is_relative_to(settings.folder) else scripts
    # As JSON, which is YAML, where a folder's name has characters that mean something there.
    plain = re.fullmatch(r"[\w./][\w./-]*", str(shown), re.ASCII) and yaml.safe_load(str(shown)) == str(shown)
    return template.replace("${scripts}", str(shown) if plain else json.dumps(str(shown), ensure_ascii=False))


def _write(path: Path, content: str) -> None:
    try:
        with path.open("x", encoding="utf-8", newline="\n") as file:
            file.write(content)
    except OSError as error:
        raise ConfigError(f"{path} can't be written: {error.strerror}") from error
