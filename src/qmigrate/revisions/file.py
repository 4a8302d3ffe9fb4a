"""One revision file: run it once, check its contents. It reads no other file and runs no operation."""

from __future__ import annotations

import hashlib
import importlib.util
import re
import sys
import traceback
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

from qmigrate.errors import QmigrateError, RevisionError
from qmigrate.operations.base import Operation

#: Without the characters that the syntax of targets needs for itself.
_ID = re.compile(r"[^\s@+:-]+")
_RESERVED = frozenset({"head", "heads", "base"})


@dataclass(frozen=True, slots=True)
class Revision:
    """One revision file, read and checked.

    Attributes:
        id: its ``revision``.
        down: the ids it follows; empty for the first one, several for a merge.
        path: the file.
        doc: first line of its docstring.
        checksum: SHA-256 of the file with newlines as LF.
        operations: what ``upgrade()`` returned.
        has_downgrade: whether the file writes its own way back.
        irreversible: why there is no way back, or None.
        requires_sql: Alembic revision that must be applied first, or None.
        inline: it has no file but is in a revision of Alembic; `path` names that one.
        problem: why nothing may run its file: it can't be used, is missing, or isn't what was applied; None where it
            may. Without a file the checksum is empty.
    """

    id: str
    down: tuple[str, ...]
    path: Path
    doc: str
    checksum: str
    operations: tuple[Operation, ...]
    has_downgrade: bool
    irreversible: str | None
    requires_sql: str | None
    inline: bool = False
    problem: QmigrateError | None = field(default=None, compare=False)

    @property
    def is_unread(self) -> bool:
        """Whether the file can't be used or is missing, so that what it says is not known."""
        return self.problem is not None and (not self.checksum or isinstance(self.problem, RevisionError))


def is_identifier(found: object) -> bool:
    """Whether it can be the id of a revision."""
    return isinstance(found, str) and _ID.fullmatch(found) is not None and found not in _RESERVED


def is_revision(file: Path) -> bool:
    """Whether a file of the folder is taken for a revision: not ``__init__.py``, no editor's dot file."""
    return file.name != "__init__.py" and not file.name.startswith(".") and not file.is_dir()


def files_of(scripts: Path) -> list[Path]:
    """The files of revisions in ``versions/``, sorted by name; none is read.

    Raises:
        RevisionError: there is no such folder, or it can't be read.
    """
    versions = scripts / "versions"
    if not versions.is_dir():
        raise RevisionError(f"there is no folder {versions}", hint="qmigrate init makes it")
    try:
        return sorted(file for file in versions.glob("*.py") if is_revision(file))
    except OSError as error:
        raise RevisionError(f"{versions} can't be read: {error.strerror}") from error


def load_file(file: Path) -> tuple[Revision, ModuleType]:
    """Execute a file once and read what it declares.

    Raises:
        RevisionError: it can't be read or run, or something is missing; names file and line.
    """
    try:
        content = file.read_bytes()
    except OSError as error:
        raise RevisionError(f"{file} can't be read: {error.strerror}") from error
    module = _execute(file, content)
    identifier = _identifier(module, file)
    if not callable(getattr(module, "upgrade", None)):
        raise RevisionError(f"{file} has no upgrade()", hint="def upgrade(): return [...]")
    for unsupported in ("depends_on", "branch_labels"):
        if getattr(module, unsupported, None):
            raise RevisionError(f"{file}: {unsupported} is not supported", hint="down_revision takes a tuple")
    revision = Revision(
        id=identifier,
        down=_down_revision(module, file),
        path=file,
        doc=next((line.strip() for line in (module.__doc__ or "").splitlines() if line.strip()), ""),
        checksum=hashlib.sha256(content.replace(b"\r\n", b"\n").replace(b"\r", b"\n")).hexdigest(),
        operations=operations_of(module, "upgrade", file),
        has_downgrade=callable(getattr(module, "downgrade", None)),
        irreversible=_text(module, "irreversible", file),
        requires_sql=_text(module, "requires_sql", file),
    )
    return revision, module


def _execute(file: Path, content: bytes) -> ModuleType:
    """Run the very bytes that the checksum is of, and leave no bytecode next to them."""
    digest = hashlib.sha256(str(file.resolve()).encode()).hexdigest()[:8]
    spec = importlib.util.spec_from_file_location(f"qmigrate_revision_{digest}_{file.stem}", file)
    if spec is None:
        raise RevisionError(f"{file} is not a Python file")
    module = importlib.util.module_from_spec(spec)
    # Dataclasses and pickle look a function's module up by name.
    sys.modules[module.__name__] = module
    try:
        code = compile(content, str(file), "exec", dont_inherit=True)
        exec(code, module.__dict__)  # noqa: S102  # running the user's revision is the purpose
    except (Exception, SystemExit) as error:
        del sys.modules[module.__name__]
        raise RevisionError(f"{file}{_line(error, file)}: {_said(error)}") from error
    return module


def _line(error: BaseException, file: Path) -> str:
    """``, line N``: the place in the revision file where it went wrong."""
    if isinstance(error, SyntaxError) and error.filename == str(file) and error.lineno:
        return f", line {error.lineno}"
    frames = traceback.extract_tb(error.__traceback__)
    lines = [frame.lineno for frame in frames if frame.filename == str(file)]
    return f", line {lines[-1]}" if lines else ""


def _said(error: BaseException) -> str:
    message = error.msg if isinstance(error, SyntaxError) else str(error)
    return f"{type(error).__name__}: {message}" if message else type(error).__name__


def _identifier(module: ModuleType, file: Path) -> str:
    found = getattr(module, "revision", None)
    if found is None:
        raise RevisionError(f"{file} has no revision variable", hint='revision = "0001"')
    if not isinstance(found, str) or not is_identifier(found):
        raise RevisionError(f"{file}: revision must be a string without spaces and @ + : -, not {found!r}")
    return found


def _down_revision(module: ModuleType, file: Path) -> tuple[str, ...]:
    if not hasattr(module, "down_revision"):
        raise RevisionError(
            f"{file} has no down_revision variable", hint="down_revision = None for the first revision"
        )
    found = module.down_revision
    listed = () if found is None else (found,) if isinstance(found, str) else found
    if not isinstance(listed, tuple | list) or not all(isinstance(one, str) for one in listed):
        raise RevisionError(f"{file}: down_revision must be None, an id or a tuple of ids, not {found!r}")
    return tuple(dict.fromkeys(listed))


def _text(module: ModuleType, name: str, file: Path) -> str | None:
    found = getattr(module, name, None)
    if found is not None and not isinstance(found, str):
        raise RevisionError(f"{file}: {name} must be a string or None, not {found!r}")
    return found


def operations_of(module: ModuleType, function: str, file: Path) -> tuple[Operation, ...]:
    """What ``upgrade()`` or ``downgrade()`` of a file returns, checked.

    Raises:
        RevisionError: it fails, or returns something else than operations.
    """
    try:
        found: Any = getattr(module, function)()
    except (Exception, SystemExit) as error:
        raise RevisionError(f"{file}{_line(error, file)}: {function}() failed: {_said(error)}") from error
    if not isinstance(found, list | tuple):
        raise RevisionError(
            f"{file}: {function}() must return a list of operations, not {type(found).__name__}",
            hint="return [op.…, op.…]; return [] when there is nothing to do",
        )
    for position, item in enumerate(found):
        if not isinstance(item, Operation):
            raise RevisionError(
                f"{file}: item {position} of {function}() is not an operation, but {item!r:.80}",
                hint="operations are made by qmigrate.op, for example op.CreatePayloadIndex(…)",
            )
    return tuple(found)
