"""The Alembic environment next to the revisions, read from its text. It runs and imports nothing of it."""

from __future__ import annotations

import ast
import configparser
import os
import re
import tomllib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from qmigrate.errors import ConfigError
from qmigrate.model.names import dimension_key
from qmigrate.revisions.python_source import PythonSource, Span, full_name, imported, span

#: The directives of the bridge. The first argument is the step: a revision of qmigrate, or a key.
DIRECTIVES = frozenset({"require", "run", "apply", "revert", "fix"})
#: A short form of ``apply``, whose key is made of its arguments.
SHORT = "add_vector_dimension"
#: Where Alembic's settings are looked for, next to those of qmigrate.
PLACES = ("alembic.ini", "migrations/alembic.ini", "pyproject.toml")
_BRIDGE = re.compile(r"^qmigrate\.alembic\.(?:qdrant\.)?(?P<name>\w+)$")
_CREATED = re.compile(r"^Create Date:\s*(?P<when>\S+(?: \S+)?)\s*$", re.MULTILINE)
#: What ``alembic.op`` has that sends no SQL.
_SILENT = frozenset({"get_context", "f", "inline_literal", "register_operation", "implementation_for"})
_TAKES_AWAY = re.compile(r"\bdrop\s+(table|column)\b|\brename\s+(to|column)\b", re.IGNORECASE)
_DROPS = frozenset({"drop_column", "drop_table", "rename_table"})


@dataclass(frozen=True, slots=True)
class Statement:
    """One call in ``upgrade()`` or ``downgrade()``.

    Attributes:
        kind: ``sql``, or a directive of the bridge.
        name: as it is called: ``drop_column``, ``run``.
        step: the first argument of a directive; None where it is computed or there is none.
        contract: it takes away, or renames, what old code uses.
        call: its syntax.
        span: its lines.
        position: where it runs, in the order of the function.
    """

    kind: str
    name: str
    step: str | None
    contract: bool
    call: ast.Call
    span: Span
    position: tuple[int, int]

    def keyword(self, name: str) -> ast.expr | None:
        """The value of a keyword argument."""
        return next((one.value for one in self.call.keywords if one.arg == name), None)


@dataclass(frozen=True, slots=True, eq=False)
class SqlRevision:
    """A revision of Alembic.

    Attributes:
        parents: what it follows or depends on.
        created: its ``Create Date``, or None.
    """

    source: PythonSource
    id: str
    parents: tuple[str, ...]
    created: datetime | None
    upgrade: tuple[Statement, ...]
    downgrade: tuple[Statement, ...]

    def directives(self, *kinds: str) -> tuple[Statement, ...]:
        """The vector steps of ``upgrade()``, in order."""
        wanted = kinds or tuple(DIRECTIVES)
        return tuple(one for one in self.upgrade if one.kind in wanted)


@dataclass(frozen=True, slots=True)
class SqlProject:
    """An Alembic environment.

    Attributes:
        config: alembic.ini or pyproject.toml.
        env: env.py, or None when it isn't there.
        sources: every file of the versions folders.
        revisions: those that could be read, by id.
        problem: why the environment can't be read, or None.
    """

    config: PythonSource
    env: PythonSource | None = None
    sources: tuple[PythonSource, ...] = ()
    revisions: dict[str, SqlRevision] = field(default_factory=dict)
    problem: str | None = None

    def every_source(self) -> Iterator[PythonSource]:
        """Every file that a rule may find something in."""
        yield self.config
        yield from (self.env,) if self.env is not None else ()
        yield from self.sources

    def ancestors(self, wanted: str) -> frozenset[str]:
        """Everything that runs before a revision, as far as the files show it."""
        found: set[str] = set()
        todo = [wanted]
        while todo:
            one = self.revisions.get(todo.pop())
            new = [parent for parent in one.parents if parent not in found] if one is not None else []
            found.update(new)
            todo += new
        return frozenset(found) - {wanted}


def find(folder: Path, named: Path | None) -> SqlProject | None:
    """The environment that is named, or that lies next to the settings; None when there is none.

    Args:
        folder: of the settings.
        named: alembic.ini or a pyproject.toml.

    Raises:
        ConfigError: what is named is not there.
    """
    if named is not None:
        if not named.is_file():
            raise ConfigError(f"sql.config: there is no file {named}", hint="name alembic.ini, or pyproject.toml")
        return _from_config(named, must=True)
    for name in PLACES:
        found = _from_config(folder / name, must=False) if (folder / name).is_file() else None
        if found is not None:
            return found
    return None


def directives_of(file: Path, function: str) -> tuple[Statement, ...]:
    """The vector steps in ``upgrade()`` or ``downgrade()`` of one revision, in order; none where it can't be read."""
    source = PythonSource.parse(file)
    found = _statements(source, function, dict(_constants(source.tree)))
    return tuple(one for one in found if one.kind in DIRECTIVES)


def directives_behind_sql(file: Path, function: str) -> tuple[Statement, ...]:
    """Those of them that come after a statement of SQL in the same function, in order."""
    source = PythonSource.parse(file)
    found = list(_statements(source, function, dict(_constants(source.tree))))
    first = next((number for number, one in enumerate(found) if one.kind == "sql"), len(found))
    return tuple(one for one in found[first:] if one.kind in DIRECTIVES)


def _from_config(file: Path, *, must: bool) -> SqlProject | None:
    source = PythonSource(file)
    # A pyproject.toml that has nothing to do with Alembic is none of our business.
    must = must or file.suffix != ".toml"
    try:
        text = file.read_text(encoding="utf-8-sig")
        options = _toml_options(text, file.parent) if file.suffix == ".toml" else _ini_options(text, file.parent)
    except (OSError, ValueError, configparser.Error) as error:
        return SqlProject(source, problem=f"it can't be read: {error}") if must else None
    location = options.get("script_location")
    if not location and (file.parent / "env.py").is_file():
        # Flask-Migrate keeps it next to the scripts and names it nowhere.
        location = "."
    if not location:
        return SqlProject(source, problem="it names no script_location") if must else None
    folder = _place(location, file.parent)
    if not folder.is_dir():
        return SqlProject(source, problem=f"its script_location {location} is not a folder")
    return _read(source, folder, list(_versions(options, folder, file.parent)))


def _ini_options(text: str, here: Path) -> dict[str, str]:
    parser = configparser.ConfigParser({"here": here.as_posix()})
    parser.read_string(text)
    wanted = ("script_location", "version_locations", "path_separator", "version_path_separator")
    if not parser.has_section("alembic"):
        return {}
    return {one: parser.get("alembic", one) for one in wanted if parser.has_option("alembic", one)}


def _toml_options(text: str, here: Path) -> dict[str, str]:
    options = tomllib.loads(text).get("tool", {}).get("alembic", {})
    found = {name: value for name, value in options.items() if isinstance(value, str)}
    if isinstance(options.get("version_locations"), list):
        found |= {"version_locations": "\n".join(options["version_locations"]), "path_separator": "newline"}
    return {name: value.replace("%(here)s", here.as_posix()) for name, value in found.items()}


def _versions(options: dict[str, str], folder: Path, here: Path) -> Iterator[Path]:
    named = options.get("version_locations")
    if not named:
        yield folder / "versions"
        return
    separators = {"os": os.pathsep, "newline": "\n", "space": None, ":": ":", ";": ";"}
    word = options.get("path_separator") or options.get("version_path_separator")
    # What Alembic took before it had the option.
    parts = re.split(r"[,\s]+", named.strip()) if word not in separators else named.split(separators[word])
    for part in parts:
        if part.strip():
            yield _place(part.strip(), here)


def _place(location: str, here: Path) -> Path:
    """A folder, or ``package:folder`` of a package that lies here; nothing is imported."""
    package, colon, inner = location.partition(":")
    if colon and re.fullmatch(r"[A-Za-z_][\w.]*", package):
        places = [here / root / package.replace(".", "/") / inner for root in ("", "src")]
        return next((one for one in places if one.is_dir()), places[0])
    return here / location


def _read(config: PythonSource, folder: Path, versions: Iterable[Path]) -> SqlProject:
    env = PythonSource.parse(folder / "env.py") if (folder / "env.py").is_file() else None
    files = sorted(file for one in versions for file in one.rglob("*.py") if "__pycache__" not in file.parts)
    sources = tuple(PythonSource.parse(file) for file in files)
    revisions: dict[str, SqlRevision] = {}
    for source in sources:
        found = _revision(source)
        if found is not None:
            revisions.setdefault(found.id, found)
    return SqlProject(config, env, sources, revisions)


def _revision(source: PythonSource) -> SqlRevision | None:
    values = dict(_constants(source.tree))
    name = values.get("revision")
    if not isinstance(name, str):
        return None
    parents = (*_listed(values.get("down_revision")), *_listed(values.get("depends_on")))
    said = _CREATED.search(ast.get_docstring(source.tree, clean=False) or "")
    functions = [tuple(_statements(source, one, values)) for one in ("upgrade", "downgrade")]
    return SqlRevision(source, name, parents, _when(said["when"]) if said else None, *functions)


def _constants(tree: ast.Module) -> Iterator[tuple[str, object]]:
    """Variables of the module with a literal value."""
    for node in tree.body:
        targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
        value = getattr(node, "value", None)
        for target in targets:
            if isinstance(target, ast.Name) and isinstance(value, ast.expr):
                try:
                    yield target.id, ast.literal_eval(value)
                except ValueError:
                    continue


def _listed(value: object) -> tuple[str, ...]:
    if isinstance(value, str):
        return (value,)
    return tuple(one for one in value if isinstance(one, str)) if isinstance(value, list | tuple | set) else ()


def _when(text: str) -> datetime | None:
    try:
        return datetime.fromisoformat(text).replace(tzinfo=None)
    except ValueError:
        return None


def _statements(source: PythonSource, function: str, values: dict[str, object]) -> Iterator[Statement]:
    """Calls of a function, and of the helpers of the same file that it calls, in the order in which they run."""
    start = source.function(function)
    if start is None:
        return
    names = imported(source.tree)
    found: list[Statement] = []
    todo: list[tuple[ast.AST, tuple[int, int] | None]] = [(start, None)]
    seen = {function}
    while todo:
        tree, place = todo.pop()
        batches = set(_batches(tree, names))
        for node in ast.walk(tree):
            if not isinstance(node, ast.Call):
                continue
            position = place or (node.lineno, node.col_offset)
            if isinstance(node.func, ast.Name) and node.func.id not in seen:
                seen.add(node.func.id)
                helper = source.function(node.func.id)
                todo += [(helper, position)] if helper is not None else []
            made = _statement(node, names, batches, values, position)
            found += [made] if made is not None else []
    yield from sorted(found, key=lambda one: (one.position, one.span.line))


def _batches(tree: ast.AST, names: dict[str, str]) -> Iterator[str]:
    """What ``with op.batch_alter_table(…) as name`` calls itself."""
    for node in ast.walk(tree):
        if isinstance(node, ast.withitem) and isinstance(node.context_expr, ast.Call):
            called = full_name(node.context_expr.func, names)
            if called == "alembic.op.batch_alter_table" and isinstance(node.optional_vars, ast.Name):
                yield node.optional_vars.id


def _statement(
    node: ast.Call, names: dict[str, str], batches: set[str], values: dict[str, object], position: tuple[int, int]
) -> Statement | None:
    name = full_name(node.func, names) or ""
    bridged = _BRIDGE.match(name)
    if bridged is not None and bridged["name"] in {*DIRECTIVES, SHORT}:
        called = bridged["name"]
        kind = "apply" if called == SHORT else called
        step = _made_key(node) if called == SHORT else _step(node, values)
        return Statement(kind, called, step, kind == "revert", node, span(node), position)
    owner, _, called = name.rpartition(".")
    if (owner == "alembic.op" and called not in _SILENT) or owner in batches:
        return Statement("sql", called, None, _is_contract(node, called), node, span(node), position)
    return None


def _made_key(node: ast.Call) -> str | None:
    """The key of the short form: one collection and vector is one step, however it is written."""
    given = {one.arg: getattr(one.value, "value", None) for one in node.keywords}
    collection, vector = given.get("collection"), given.get("vector_name")
    return dimension_key(collection, vector) if isinstance(collection, str) and isinstance(vector, str) else None


def _step(node: ast.Call, values: dict[str, object]) -> str | None:
    first = node.args[0] if node.args else next((one.value for one in node.keywords if one.arg), None)
    value = values.get(first.id) if isinstance(first, ast.Name) else getattr(first, "value", None)
    return value if isinstance(value, str) else None


def _is_contract(node: ast.Call, called: str) -> bool:
    if called == "alter_column":
        return any(one.arg == "new_column_name" for one in node.keywords)
    if called == "execute":
        texts = [one.value for one in ast.walk(node) if isinstance(one, ast.Constant) and isinstance(one.value, str)]
        return any(_TAKES_AWAY.search(text) for text in texts)
    return called in _DROPS
