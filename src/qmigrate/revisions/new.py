"""New revision files: composed from the template, then written. It opens no store and overwrites nothing."""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING

from qmigrate.errors import RevisionError
from qmigrate.operations.text.code import quoted
from qmigrate.revisions.file import Revision, is_revision, load_file
from qmigrate.revisions.graph import Revisions

if TYPE_CHECKING:
    from qmigrate.operations.text.source import CodeWriter

#: In a file without operations yet: nothing that would be unused, and what is likely to be needed.
_IMPORTS = """# from qdrant_client.models import Distance, VectorParams
# from qmigrate import Embed, op"""

_DOWN = re.compile(r"^down_revision = .*$", re.MULTILINE)
_SQL = re.compile(r"^requires_sql = .*$", re.MULTILINE)

#: An id that is a moment, with letters behind it, or without as an earlier version has made it; without vowels they
#: spell nothing.
_MOMENT = re.compile(r"20\d{12}[a-z]*")
_LETTERS, _LETTERS_OF_ID = "bcdfghjkmnpqrstvwxz", 4


@dataclass(frozen=True, slots=True)
class NewFile:
    """A revision file that is not written yet."""

    path: Path
    id: str
    text: str


def compose(
    scripts: Path,
    message: str,
    *,
    revision_id: str | None = None,
    merge: bool = False,
    source: CodeWriter | None = None,
    downgrade: CodeWriter | None = None,
    after: NewFile | None = None,
    required: bool = True,
) -> NewFile:
    """The next revision file, numbered one above the highest, that follows the head. Nothing is written.

    Args:
        scripts: folder of ``versions/``, and of ``script.py.mako`` unless the built-in one is to be used.
        message: becomes the docstring, and the name of the file.
        revision_id: instead of the next number.
        merge: follow every head, so that there is one again.
        source: what ``upgrade()`` returns; by default nothing yet. A template of the user's without
            ``${imports}`` and ``${operations}`` can't take it: then the built-in one is used.
        downgrade: what ``downgrade()`` returns; by default there is none. Likewise, with ``${downgrade}``.
        after: a file that is not written yet, and that this one follows in place of the head.
        required: the folder has to be there; else it is the first revision where there is none.

    Raises:
        RevisionError: the existing files can't be used, there are several heads and no `merge`, or the id is taken.
    """
    known = Revisions.load(scripts) if required or (scripts / "versions").is_dir() else Revisions.none()
    if not message.strip():
        raise RevisionError("a new revision needs a message", hint='qmigrate revision -m "what changes"')
    down = (after.id,) if after is not None else _parents(known, merge)
    taken = [word for one in known.order() for word in (one.id, one.path.name, *one.replaces)]
    taken += [after.id] if after else []
    identifier = revision_id or _next_number(taken)
    if known.knows(identifier):
        raise RevisionError(f"there is a revision {identifier} already: {known.get(identifier).path}")
    path = scripts / "versions" / f"{identifier}_{_slug(message)}.py"
    text = _render(scripts / "script.py.mako", message, identifier, down, (source, downgrade))
    return NewFile(path, identifier, text)


def compose_squashed(
    scripts: Path,
    words: tuple[str, str],
    identifier: str,
    down: tuple[str, ...],
    code: tuple[CodeWriter, CodeWriter | None],
    variables: Iterable[str],
    requires_sql: str | None,
) -> NewFile:
    """A revision file that stands for others, where those are. Nothing is written.

    Args:
        scripts: see :func:`compose`.
        words: the docstring, and what the file is called after its id.
        identifier: its id.
        down: what it follows.
        code: what ``upgrade()`` returns, and ``downgrade()``.
        variables: assignments that come after ``down_revision``.
        requires_sql: Alembic's revision that must be applied first.

    Raises:
        RevisionError: the id is taken, or the template can't be used.
    """
    known, (message, name) = Revisions.load(scripts), words
    if known.knows(identifier):
        hint = "give it another one: --rev-id ID"
        raise RevisionError(f"there is a revision {identifier} already: {known.get(identifier).path}", hint=hint)
    text = _render(scripts / "script.py.mako", message, identifier, down, code)
    if not all(len(pattern.findall(text)) == 1 for pattern in (_DOWN, _SQL)):
        # A template of the user's that has no such lines.
        text = _render(scripts / "script.py.mako.none", message, identifier, down, code)
    said = f"requires_sql = {_literal(requires_sql)}"
    text = _SQL.sub(lambda _: said, text, count=1)
    text = _DOWN.sub(lambda found: "\n".join((found.group(), *variables)), text, count=1)
    return NewFile(scripts / "versions" / f"{identifier}_{_slug(name)}.py", identifier, text)


def is_moment(revision: str) -> bool:
    """Whether an id is the moment in which the revision was made."""
    return _MOMENT.fullmatch(revision) is not None


def new_id(scripts: Path, ids: str, given: str | None = None, after: NewFile | None = None) -> str | None:
    """The id of a new revision: the moment in which it is made, in UTC, and letters; None for the next number.

    Two branches that both add a revision have other ids, so that they are merged as they are: also where two people, or
    two jobs, make one in the same second.

    Args:
        ids: ``sequence``, ``time``, or ``auto``: as the folder has them, and the moment in an empty one.
        given: the id that was asked for; it wins.
        after: a file that is not written yet, and that the new one follows.
    """
    if given is not None:
        return given
    folder = scripts / "versions"
    files = [file for file in folder.glob("*.py") if is_revision(file)] if folder.is_dir() else []
    names = {file.name.partition("_")[0] for file in files}
    names |= {after.id} if after is not None else set()
    if ids == "sequence" or (ids == "auto" and names and not any(_MOMENT.fullmatch(name) for name in names)):
        return None
    moment = datetime.now(UTC)
    # By their ids, too, the later one comes later.
    while any(name.startswith(f"{moment:%Y%m%d%H%M%S}") for name in names):
        moment += timedelta(seconds=1)
    return f"{moment:%Y%m%d%H%M%S}" + "".join(secrets.choice(_LETTERS) for _ in range(_LETTERS_OF_ID))


def create(
    scripts: Path,
    message: str,
    *,
    revision_id: str | None = None,
    merge: bool = False,
    source: CodeWriter | None = None,
) -> Revision:
    """Write a new revision file; see :func:`compose`.

    Returns:
        The revision as it reads back.

    Raises:
        RevisionError: see :func:`compose`; or the file exists, or the folder can't be written.
    """
    return write_new(compose(scripts, message, revision_id=revision_id, merge=merge, source=source))


def write_new(made: NewFile) -> Revision:
    """Write a composed file and read it back; one that can't be read is taken away again.

    Raises:
        RevisionError: the file exists, can't be written, or can't be read.
    """
    _write_new(made.path, made.text)
    try:
        return load_file(made.path)[0]
    except RevisionError:
        made.path.unlink()
        raise


def initialise(scripts: Path) -> list[Path]:
    """Make what is missing of the folder of the revisions: the template, and an empty ``versions/``.

    Returns:
        What was made; nothing that was there is touched.

    Raises:
        RevisionError: the folder can't be written.
    """
    template, versions = scripts / "script.py.mako", scripts / "versions"
    missing = [one for one in (template, versions) if not one.exists()]
    try:
        versions.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RevisionError(f"{versions} can't be made: {error.strerror}") from error
    if template in missing:
        _write_new(template, _packaged_template())
    return missing


def _parents(known: Revisions, merge: bool) -> tuple[str, ...]:
    if not merge:
        head = known.head()
        return (head.id,) if head else ()
    if len(known.heads()) < 2:
        raise RevisionError("there is nothing to merge: the revisions have one head, or none")
    return known.heads()


def _next_number(words: Iterable[str]) -> str:
    numbers = [int(match.group()) for word in words if (match := re.match(r"\d{1,9}(?=_|$)", word))]
    return f"{max(numbers, default=0) + 1:04d}"


def _slug(message: str) -> str:
    words = re.findall(r"[a-z0-9]+", message.lower())
    return "_".join(words)[:40].rstrip("_") or "revision"


def _packaged_template() -> str:
    return (resources.files("qmigrate") / "templates" / "script.py.mako").read_text(encoding="utf-8")


def _render(
    template: Path,
    message: str,
    identifier: str,
    down: tuple[str, ...],
    sources: tuple[CodeWriter | None, CodeWriter | None],
) -> str:
    from mako.template import Template  # type: ignore[import-untyped]

    source, back = sources

    try:
        text = template.read_text(encoding="utf-8-sig") if template.exists() else _packaged_template()
        needed = ["operations", "imports"] * (source is not None) + ["downgrade"] * (back is not None)
        if not all(name in text for name in needed):
            text = _packaged_template()
        whole = source + back if source is not None and back is not None else source
        found = Template(text=text, strict_undefined=True).render_unicode(  # noqa: S702  # not HTML
            message=_docstring(message),
            up_revision=identifier,
            down_revision=down[0] if len(down) == 1 else down or None,
            create_date=datetime.now(UTC),
            imports=whole.imports() if whole is not None else _IMPORTS,
            operations=source.text() if source is not None else "[]",
            downgrade=back.text() if back is not None else "",
            literal=_literal,
        )
    except Exception as error:
        # A template is code of the user: anything may go wrong in it.
        raise RevisionError(f"{template} can't be used: {type(error).__name__}: {error}") from error
    return str(found)


def _literal(value: str | tuple[str, ...] | None) -> str:
    """As Python writes it, with the quotes of the rest of the file."""
    if isinstance(value, tuple):
        return f"({', '.join(map(quoted, value))})"
    return "None" if value is None else quoted(value)


def _docstring(message: str) -> str:
    """The message as it may be written between triple quotes."""
    # From Python 3.13 on a docstring holds no half of a character, not even as an escape.
    text = re.sub(r"[\ud800-\udfff]", "\ufffd", " ".join(message.split()))
    body = text.rstrip('"')
    # Those at the end would close the docstring together with what follows.
    closing = len(text) - len(body)
    escaped = body.replace("\\", "\\\\").replace('"""', '\\"\\"\\"') + '\\"' * closing
    # What can't be seen, and what a file can't hold, as a null byte.
    return "".join(one if one.isprintable() else repr(one)[1:-1] for one in escaped)


def _write_new(path: Path, content: str) -> None:
    try:
        with path.open("x", encoding="utf-8", newline="\n") as file:
            file.write(content)
    except FileExistsError:
        raise RevisionError(f"{path} exists already; nothing was overwritten") from None
    except OSError as error:
        raise RevisionError(f"{path} can't be written: {error.strerror}") from error
