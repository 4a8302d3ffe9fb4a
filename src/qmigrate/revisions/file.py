"""One revision file: run it once, check its contents. It reads no other file and runs no operation."""

from __future__ import annotations

import builtins
import hashlib
import importlib.util
import inspect
import re
import sys
import traceback
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

from qmigrate import operations
from qmigrate.errors import QmigrateError, RevisionError
from qmigrate.model.transform import Scale
from qmigrate.operations.app_sql import Checksum, WriteBack
from qmigrate.operations.base import Operation
from qmigrate.operations.quality import Compare, KnownItem, Logged, Recall, SameValue, Sentence
from qmigrate.operations.rekey import Uuid5
from qmigrate.operations.values import Compute, CopyOf, Embed, Empty, Shorten
from qmigrate.text import did_you_mean

#: Without the characters that the syntax of targets needs for itself.
_ID = re.compile(r"[^\s@+:-]+")
_RESERVED = frozenset({"head", "heads", "base"})
#: What a revision makes operations of, besides ``op``: what ``from qmigrate import …`` offers it.
VALUES: Mapping[str, type] = {
    one.__name__: one
    for one in (
        *(Checksum, Compute, CopyOf, Embed, Empty, Scale, Shorten, Uuid5, WriteBack),
        *(Compare, KnownItem, Logged, Recall, SameValue, Sentence),
    )
}
#: Where Qdrant's own parameter objects come from; read only where the revision has loaded it.
_CLIENT = "qdrant_client.models"
#: How Python says that arguments don't fit: ``AddVector.__init__() got an unexpected keyword argument 'vlaues'``.
_CALL = re.compile(r"(?P<name>\w+)\.__init__\(\) (?P<trouble>.*)", re.DOTALL)
_NOT_THERE = re.compile(r"cannot import name '(?P<name>\w+)' from '(?P<module>[\w.]+)'")
_QUOTED = re.compile(r"'(\w+)'")
#: How alike an argument has to be to a known one: there are few, so that ``hnsw`` may stand for ``hnsw_config``.
_ALIKE = 0.5


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
        replaces: ids of the revisions that it stands for, in the order in which they are applied: see
            ``planner/replaced.py``.
        replaces_for: of which of them each name or glob was a part, where that is not all of them for all.
        squashed: those of them that were squashed revisions themselves -> what each of these stands for.
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
    replaces: tuple[str, ...] = ()
    replaces_for: tuple[tuple[str, tuple[str, ...]], ...] = ()
    squashed: tuple[tuple[str, tuple[str, ...]], ...] = ()
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
    replaces = _replaces(module, file)
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
        replaces=replaces,
        replaces_for=_parts(module, file, "replaces_for", replaces),
        squashed=_parts(module, file, "squashed", replaces),
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
        raise _failure(error, file) from error
    return module


def _line(error: BaseException, file: Path) -> str:
    """``, line N``: the place in the revision file where it went wrong."""
    if isinstance(error, SyntaxError) and error.filename == str(file) and error.lineno:
        return f", line {error.lineno}"
    frames = traceback.extract_tb(error.__traceback__)
    lines = [frame.lineno for frame in frames if frame.filename == str(file)]
    return f", line {lines[-1]}" if lines else ""


def _failure(error: BaseException, file: Path, during: str = "") -> RevisionError:
    """What running a file ended in: a mistake that is known in plain words, anything else in those of Python.

    Args:
        during: put in front of what is not known.
    """
    where = f"{file}{_line(error, file)}"
    if isinstance(error, QmigrateError):
        return RevisionError(f"{where}: {error.message}", hint=error.hint)
    said, hint = _mistake(error)
    if said:
        return RevisionError(f"{where}: {said}", hint=hint)
    message = error.msg if isinstance(error, SyntaxError) else str(error)
    named = f"{type(error).__name__}: {message}" if message else type(error).__name__
    return RevisionError(f"{where}: {during}{named}", hint=hint)


def _mistake(error: BaseException) -> tuple[str, str | None]:
    """What was written wrongly, and what is right; an empty text where it is none of the usual mistakes."""
    if isinstance(error, TypeError):
        return _wrong_call(error)
    if isinstance(error, NameError):
        return _no_such_name(error)
    if isinstance(error, AttributeError):
        return _no_such_attribute(error)
    if isinstance(error, ImportError):
        match = _NOT_THERE.match(str(error))
        module = sys.modules.get(match["module"]) if match else None
        if match is None or module is None:
            return "", None
        return f"{match['module']} has no {match['name']}{did_you_mean(match['name'], _public(module))}", None
    # Qdrant's own objects are pydantic's, whose texts are several lines with an address.
    problems, title = getattr(error, "errors", None), getattr(error, "title", None)
    if callable(problems) and isinstance(title, str):
        known = getattr(getattr(sys.modules.get(_CLIENT), title, None), "model_fields", {})
        said = "; ".join(_of_the_client(one, title, known) for one in problems())
        return said, f"{title} takes {', '.join(known)}" if known else None
    return "", None


def _wrong_call(error: TypeError) -> tuple[str, str | None]:
    """Arguments that an operation, or what it is made of, doesn't take, or lacks."""
    match = _CALL.match(str(error))
    if match is None:
        # A value of a wrong type, in the middle of what was made of it.
        made = next((one for one in _frames(error) if isinstance(one.get("self"), (Operation, *VALUES.values()))), None)
        return (f"{type(made['self']).__name__} can't be made of these values: {error}", None) if made else ("", None)
    name, trouble = match["name"], match["trouble"]
    if name == "BaseModel":
        return (
            f"an object of {_CLIENT} takes its fields by name only",
            "for example VectorParams(size=384, distance=Distance.COSINE)",
        )
    kind = {**VALUES, **{one: getattr(operations, one) for one in operations.__all__}}.get(name)
    if kind is None:
        return "", None
    takes = {one: part for one, part in inspect.signature(kind).parameters.items() if part.kind != part.VAR_KEYWORD}
    named = _QUOTED.findall(trouble)
    if trouble.startswith("got an unexpected keyword"):
        said = f"{name} has no argument {named[0]}{did_you_mean(named[0], takes, alike=_ALIKE)}"
    elif trouble.startswith("got multiple values"):
        said = f"{name} is given {named[0]} twice"
    elif trouble.startswith("missing"):
        said = f"{name} is called without {', '.join(named)}"
    else:
        placed = [one for one, part in takes.items() if part.kind != part.KEYWORD_ONLY]
        said = f"{name} takes {'only ' * bool(placed)}{', '.join(placed) or 'nothing'} without a name"
    return said, _takes(name, takes)


def _takes(name: str, takes: Mapping[str, inspect.Parameter]) -> str:
    """What an operation can be given: ``Embed needs embedder; it may have text=, image=``."""
    shown = {one: f"{one}=" if part.kind == part.KEYWORD_ONLY else one for one, part in takes.items()}
    needed = [shown[one] for one, part in takes.items() if part.default is part.empty]
    further = [shown[one] for one in takes if shown[one] not in needed]
    if not takes:
        return f"{name}() takes no arguments"
    parts = [f"needs {', '.join(needed)}"] if needed else []
    parts += [f"may have {', '.join(further)}"] if further else []
    return f"{name} {'; it '.join(parts)}"


def _no_such_name(error: NameError) -> tuple[str, str | None]:
    """A name that was not imported, or is spelt otherwise."""
    name = error.name
    if not name:
        return "", None
    if name in VALUES or name == "op":
        return f"{name} is not imported", f"from qmigrate import {name}"
    if name in operations.__all__:
        return f"{name} is an operation, and those are named by op", f"op.{name}, after: from qmigrate import op"
    if hasattr(sys.modules.get(_CLIENT), name):
        return f"{name} is not imported", f"from {_CLIENT} import {name}"
    known = {one for frame in _frames(error) for one in frame if not one.startswith("_")}
    return f"{name} is not defined{did_you_mean(name, known | set(dir(builtins)) | set(VALUES))}", None


def _no_such_attribute(error: AttributeError) -> tuple[str, str | None]:
    """A misspelt member of a module or class: ``Distance has no COSIN``."""
    if isinstance(error.obj, ModuleType | type) and error.name:
        return f"{error.obj.__name__} has no {error.name}{did_you_mean(error.name, _public(error.obj))}", None
    if error.obj is not None or not error.name:
        return "", None
    # What op says itself names the operation that was meant.
    return str(error), f"from qmigrate import {error.name}" if error.name in VALUES else None


def _of_the_client(problem: Mapping[str, Any], title: str, known: Iterable[str]) -> str:
    place = ".".join(str(part) for part in problem.get("loc", ())) or "it"
    if problem.get("type") == "extra_forbidden":
        return f"{title} has no field {place}{did_you_mean(place, known, alike=_ALIKE)}"
    if problem.get("type") == "missing":
        return f"{title} is made without {place}"
    return f"{title}: {place}: {problem.get('msg')}, not {problem.get('input')!r:.60}"


def _public(owner: object) -> list[str]:
    return [one for one in dir(owner) if not one.startswith("_")]


def _frames(error: BaseException) -> list[dict[str, Any]]:
    """The names that every function had in which the error was passed on, the innermost first."""
    found = [{**frame.f_globals, **frame.f_locals} for frame, _ in traceback.walk_tb(error.__traceback__)]
    return found[::-1]


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


def _replaces(module: ModuleType, file: Path) -> tuple[str, ...]:
    found = getattr(module, "replaces", None) or ()
    if not _are_ids(found):
        raise RevisionError(f"{file}: replaces must be a list of ids, not {found!r:.80}")
    return tuple(dict.fromkeys(found))


def _parts(
    module: ModuleType, file: Path, name: str, replaces: tuple[str, ...]
) -> tuple[tuple[str, tuple[str, ...]], ...]:
    """A variable that says which of the replaced ids belong together."""
    found = getattr(module, name, None) or {}
    what = "collection" if name == "replaces_for" else "id"
    if not isinstance(found, Mapping) or not all(isinstance(key, str) and _are_ids(ids) for key, ids in found.items()):
        raise RevisionError(f"{file}: {name} must be an object of lists of ids by {what}, not {found!r:.80}")
    named = {one for ids in found.values() for one in ids} | (set(found) if name == "squashed" else set())
    unknown = sorted(named - set(replaces))
    if unknown:
        raise RevisionError(f"{file}: {name} names {unknown[0]}, which is not in replaces")
    return tuple((key, tuple(ids)) for key, ids in found.items())


def _are_ids(found: object) -> bool:
    return isinstance(found, list | tuple) and all(map(is_identifier, found))


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
        raise _failure(error, file, f"{function}() failed: ") from error
    code = getattr(getattr(module, function), "__code__", None)
    where = f"{file}, line {code.co_firstlineno}" if code is not None and code.co_filename == str(file) else str(file)
    if not isinstance(found, list | tuple):
        kind = "an operation alone" if isinstance(found, Operation) else type(found).__name__
        raise RevisionError(
            f"{where}: {function}() must return a list of operations, not {'None' if found is None else kind}",
            hint=f"write return [{type(found).__name__}(…)], in brackets"
            if isinstance(found, Operation)
            else "return [op.…, op.…]; return [] when there is nothing to do",
        )
    for position, item in enumerate(found):
        if not isinstance(item, Operation):
            raise RevisionError(
                f"{where}: item {position} of {function}() is not an operation, but {item!r:.80}", hint=_meant(item)
            )
    return tuple(found)


def _meant(item: object) -> str:
    """How what is in the list of operations, and is none, becomes one."""
    if isinstance(item, type) and issubclass(item, Operation):
        return f"put its arguments in parentheses behind it: op.{item.__name__}(…)"
    if isinstance(item, list | tuple) and item and all(isinstance(one, Operation) for one in item):
        return "it is a list of operations itself: put an asterisk before it, which makes them items of this one"
    return "operations are made by qmigrate.op, for example op.CreatePayloadIndex(…)"
