"""init and revision: the files that a project starts with, and whether what they name answers."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any
from urllib.parse import quote

from qmigrate import atomic_file
from qmigrate.commands.results import InitResult, RevisionResult
from qmigrate.commands.settings_schema import settings_schema_text
from qmigrate.errors import ConfigError
from qmigrate.operations.text.operation import operation_of, operation_source
from qmigrate.operations.text.source import CodeWriter
from qmigrate.revisions.new import create, initialise, new_id
from qmigrate.settings.load import CONFIG_NAME, Settings

#: Where git reads what is not part of the project, and what that is: the embedded stores, exports and archives.
GITIGNORE, _IGNORED = ".gitignore", ".qmigrate/"
#: For editors, next to the revisions.
SCHEMA_NAME = "qmigrate.schema.json"


@dataclass(frozen=True, slots=True)
class Answers:
    """Sections of a new settings file, as they are written; an empty one is that of the template.

    Attributes:
        qdrant: ``url``, ``api_key_env``, or nothing for the embedded one.
        ledger: ``url`` or ``url_env``, or nothing for a file.
        embedders: by name.
    """

    qdrant: Mapping[str, Any] = field(default_factory=dict)
    ledger: Mapping[str, Any] = field(default_factory=dict)
    embedders: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


def init(settings: Settings | None = None, answers: Answers | None = None) -> InitResult:
    """Write what is missing of a project: settings, the folder of the revisions, a line in ``.gitignore``.

    Nothing that is there is overwritten. A settings file that is there says where the revisions are.

    Args:
        settings: where the project is.
        answers: what a new settings file says instead of the embedded stores.

    Raises:
        ConfigError: the folder can't be written; or there is a settings file already, and `answers` for another one.
        RevisionError: the folder of the revisions can't be written.
    """
    settings = settings or Settings.load(stores=False)
    config = settings.config or settings.folder / CONFIG_NAME
    if answers is not None:
        check_new(settings)
    _check_writable(settings.folder)
    made = initialise(settings.scripts)
    schema = settings.scripts / SCHEMA_NAME
    further = [schema] if _write_missing(schema, settings_schema_text()) else []
    if _write_missing(config, _content(settings, answers or Answers())):
        made.insert(0, config)
    if _ignore(settings.folder / GITIGNORE):
        further.append(settings.folder / GITIGNORE)
    expected = (config, settings.scripts / "script.py.mako", settings.scripts / "versions")
    kept = tuple(one for one in expected if one not in made)
    return InitResult(tuple(made), config, settings.scripts, further=tuple(further), kept=kept)


def revision(
    settings: Settings | None,
    message: str,
    *,
    merge: bool = False,
    revision_id: str | None = None,
    operations: Sequence[str] = (),
) -> RevisionResult:
    """Write the next revision file.

    Args:
        settings: where the scripts are.
        message: what changes, in words.
        merge: join several heads.
        revision_id: instead of the next one.
        operations: what it does, each as the text of one: ``op.DropVector("docs", "old", cutover="hold")``.

    Raises:
        RevisionError: see :func:`qmigrate.revisions.new.create`.
        PlanError: a text is not that of an operation.
    """
    settings = settings or Settings.load(stores=False)
    chosen = new_id(settings.scripts, settings.revision_ids, revision_id)
    source = sum((operation_source(operation_of(one)) for one in operations), CodeWriter()) if operations else None
    made = create(settings.scripts, message, revision_id=chosen, merge=merge, source=source)
    return RevisionResult(path=made.path, revision=made.id, down=made.down, message=message)


def check_new(settings: Settings) -> None:
    """There is no settings file yet: what is chosen for it must not be asked for in vain.

    Raises:
        ConfigError: there is one.
    """
    if settings.config is not None:
        hint = "qmigrate init makes what is missing next to it; qmigrate doctor tries what it names"
        raise ConfigError(f"{settings.config} exists already; nothing was overwritten", hint=hint)


def try_qdrant(settings: Settings) -> str:
    """What is at the other end of ``qdrant:``, in a few words.

    Raises:
        StoreError: nothing answers, or it refuses the key.
    """
    from qmigrate.commands.session import open_store

    with ExitStack() as stack:
        store = open_store(settings, stack, writes=False)
        store.physical_names()
        return store.capabilities.label


def try_points(settings: Settings) -> str:
    """Where the points of a server go, which is a port of its own: ``host:port``.

    Raises:
        StoreError: it doesn't answer.
    """
    from qmigrate.store import ConnectionSettings
    from qmigrate.store.server.examine import Examiner

    examiner = Examiner(ConnectionSettings(**settings.connection()))
    try:
        return examiner.points_reachable()
    finally:
        examiner.close()


def try_ledger(settings: Settings) -> str:
    """The database of ``ledger:``, in a few words. Nothing is written.

    Raises:
        LedgerError: it can't be reached.
    """
    from qmigrate.commands.session import opened_ledger

    with opened_ledger(settings) as ledger:
        ledger.identity()
        return ledger.url_label


def try_embedder(name: str, config: Mapping[str, Any]) -> str:
    """What an embedder makes, in a few words: it is loaded, and given a text where its settings don't say the size.

    Raises:
        EmbedError: it can't be loaded.
        EmbedderError: its server doesn't answer.
    """
    from qmigrate.embed import load

    embedder = load(name, config)
    size = embedder.size
    if size is None or config.get("type") == "http":
        made = embedder.embed(["a text to try it with"])
        size = len(made[0]) if len(made) else None
    return f"{size} values" if size else "it answers"


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


def _content(settings: Settings, answers: Answers) -> str:
    """The template with the place of the revisions and of the schema, and the sections that were chosen."""
    template = (resources.files("qmigrate") / "templates" / CONFIG_NAME).read_text(encoding="utf-8")
    shown = Path(_shown(settings))
    place = quote(("" if shown.is_absolute() else "./") + (shown / SCHEMA_NAME).as_posix())
    text = template.replace("${scripts}", _scalar(str(shown))).replace("${schema}", place)
    for name in ("qdrant", "ledger", "embedders"):
        chosen = getattr(answers, name)
        if chosen:
            text = _with_section(text, name, chosen)
    return text


def _shown(settings: Settings) -> str:
    """The folder of the revisions, as seen from that of the settings."""
    scripts = settings.scripts
    return str(scripts.relative_to(settings.folder) if scripts.is_relative_to(settings.folder) else scripts)


def _with_section(text: str, name: str, chosen: Mapping[str, Any]) -> str:
    """A section of the template in other words; the comments of the template go with what they are about."""
    import yaml

    body = yaml.safe_dump(dict(chosen), default_flow_style=None, sort_keys=False, allow_unicode=True)
    made = f"{name}:\n" + "".join(f"  {line}\n" for line in body.splitlines())
    return re.sub(rf"^{name}:\n(?:[ ].*\n)*", lambda _: made, text, count=1, flags=re.MULTILINE)


def _scalar(text: str) -> str:
    """As JSON, which is YAML, where a folder's name has characters that mean something there."""
    import yaml

    plain = re.fullmatch(r"[\w./][\w./-]*", text, re.ASCII) and yaml.safe_load(text) == text
    return text if plain else json.dumps(text, ensure_ascii=False)


def _ignore(path: Path) -> bool:
    """Have git leave out what the embedded stores write; whether a line was needed.

    A line is appended to an existing file, and nothing else of it changes.
    """
    try:
        before = path.read_text(encoding="utf-8") if path.exists() else ""
        if any(line.strip().strip("/") in (".qmigrate", ".*") for line in before.splitlines()):
            return False
        with path.open("a", encoding="utf-8", newline="\n") as file:
            file.write(("\n" if before and not before.endswith("\n") else "") + _IGNORED + "\n")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} can't be written: {getattr(error, 'strerror', None) or 'not UTF-8'}") from error
    return True


def _write_missing(path: Path, content: str) -> bool:
    """Write a file where there is none; whether there was none."""
    try:
        with path.open("x", encoding="utf-8", newline="\n") as file:
            file.write(content)
    except FileExistsError:
        return False
    except OSError as error:
        raise ConfigError(f"{path} can't be written: {error.strerror}") from error
    return True
