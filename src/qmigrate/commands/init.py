"""init and revision: the files that a project starts with. They open neither Qdrant nor SQL."""

from __future__ import annotations

import json
import os
import re
from importlib import resources
from pathlib import Path

from qmigrate import atomic_file
from qmigrate.commands.results import InitResult, RevisionResult
from qmigrate.errors import ConfigError
from qmigrate.revisions.new import create, initialise
from qmigrate.settings.load import CONFIG_NAME, Settings


def init(settings: Settings) -> InitResult:
    """Write ``qmigrate.yaml``, the template and an empty ``versions/`` next to the current folder's code.

    Raises:
        ConfigError: there is a settings file already, or the folder can't be written; nothing is overwritten.
        RevisionError: the same for the folder of the revisions.
    """
    config = settings.folder / CONFIG_NAME
    if config.exists():
        hint = 'the next step: qmigrate revision -m "what changes"'
        raise ConfigError(f"{config} exists already; nothing was overwritten", hint=hint)
    _check_writable(settings.folder)
    made = initialise(settings.scripts)
    _write(config, _content(settings))
    return InitResult(created=(config, *made), config=config, scripts=settings.scripts)


def revision(
    settings: Settings, message: str, *, merge: bool = False, revision_id: str | None = None
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
    made = create(settings.scripts, message, revision_id=revision_id, merge=merge)
    return RevisionResult(path=made.path, revision=made.id, down=made.down, message=message)


#: The file that assistants read, and the lines between which it has what is ours.
AGENTS = "AGENTS.md"
_BEGIN, _END = "<!-- qmigrate: begin", "<!-- qmigrate: end -->"


def agents(settings: Settings) -> InitResult:
    """Write the rules for AI assistants into ``AGENTS.md``: a file of its own, or a part of the one that is there.

    What the part holds is replaced; everything around it stays as it is.

    Raises:
        ConfigError: the file can't be read or written, or holds the beginning of the part without its end.
    """
    path = settings.folder / AGENTS
    _check_writable(settings.folder)
    rules = (resources.files("qmigrate") / "templates" / AGENTS).read_text(encoding="utf-8")
    rules = rules.replace("${scripts}", _shown(settings))
    try:
        before = path.read_text(encoding="utf-8") if path.exists() else ""
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path} can't be read: {error}") from error
    after = _with_part(path, before, rules)
    if after != before:
        with atomic_file.writing(path, mode=0o644) as out:
            out.write(after.encode())
    made = (path,) if after != before else ()
    return InitResult(created=made, config=settings.folder / CONFIG_NAME, scripts=settings.scripts)


def _with_part(path: Path, text: str, part: str) -> str:
    start = text.find(_BEGIN)
    if start < 0:
        return f"{text.rstrip()}\n\n{part}" if text.strip() else part
    end = text.find(_END, start)
    if end < 0:
        raise ConfigError(
            f"{path} has a line that begins with {_BEGIN!r}, and none with {_END!r}",
            hint="put that line behind the part of qmigrate, or remove the part; then qmigrate init --agents",
        )
    return text[:start] + part.rstrip("\n") + text[end + len(_END) :]


def _check_writable(folder: Path) -> None:
    """Before the first file, so that a refusal leaves none behind."""
    if not folder.is_dir():
        raise ConfigError(f"there is no folder {folder}")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise ConfigError(f"{folder} can't be written: permission denied")


def _content(settings: Settings) -> str:
    import yaml

    template = (resources.files("qmigrate") / "templates" / CONFIG_NAME).read_text(encoding="utf-8")
    shown = _shown(settings)
    # As JSON, which is YAML, where a folder's name has characters that mean something there.
    plain = re.fullmatch(r"[\w./][\w./-]*", shown, re.ASCII) and yaml.safe_load(shown) == shown
    return template.replace("${scripts}", shown if plain else json.dumps(shown, ensure_ascii=False))


def _shown(settings: Settings) -> str:
    """The folder of the revisions, as seen from that of the settings."""
    scripts = settings.scripts
    return str(scripts.relative_to(settings.folder) if scripts.is_relative_to(settings.folder) else scripts)


def _write(path: Path, content: str) -> None:
    try:
        with path.open("x", encoding="utf-8", newline="\n") as file:
            file.write(content)
    except OSError as error:
        raise ConfigError(f"{path} can't be written: {error.strerror}") from error
