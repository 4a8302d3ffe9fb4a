"""QM2: what the code of a revision does when it is loaded, and what its functions do to points."""

from __future__ import annotations

import ast
import sys
from collections.abc import Callable, Iterator
from typing import Any

from qmigrate.lint.project import Project
from qmigrate.lint.rule import ERROR, WARNING, Hit, Rule
from qmigrate.operations.base import Operation
from qmigrate.operations.call import Call
from qmigrate.revisions.file import Revision
from qmigrate.revisions.python_source import (
    PythonSource,
    definition,
    full_name,
    imported,
    mentioned,
    not_returned,
    span,
)

#: Libraries that take seconds to load, or that only talk to something outside.
HEAVY = frozenset(
    {
        "torch",
        "torchvision",
        "tensorflow",
        "keras",
        "jax",
        "transformers",
        "sentence_transformers",
        "open_clip",
        "clip",
        "onnxruntime",
        "sklearn",
        "scipy",
        "pandas",
        "polars",
        "spacy",
        "nltk",
        "cv2",
        "requests",
        "httpx",
        "aiohttp",
        "urllib3",
        "boto3",
        "botocore",
        "google",
        "openai",
        "cohere",
        "anthropic",
        "redis",
        "sqlalchemy",
        "psycopg",
        "psycopg2",
        "asyncpg",
        "pymongo",
        "django",
        "flask",
        "fastapi",
        "alembic",
    }
)
#: What a revision may import besides the standard library: it comes with qmigrate.
PLAIN = frozenset({"qmigrate", "qdrant_client", "numpy", "__future__"})

#: Names whose answer is another one at the next call, or on the next machine.
_UNSTEADY = (
    "random.",
    "secrets.",
    "numpy.random.",
    "uuid.uuid1",
    "uuid.uuid4",
    "os.urandom",
    "os.environ",
    "os.getenv",
    "os.getpid",
    "time.time",
    "time.monotonic",
    "time.perf_counter",
    "time.localtime",
    "time.gmtime",
    "time.ctime",
    "datetime.datetime.now",
    "datetime.datetime.utcnow",
    "datetime.datetime.today",
    "datetime.date.today",
    "socket.gethostname",
    "platform.",
    "getpass.getuser",
)
#: With a seed they answer the same again.
_SEEDED = frozenset(
    {
        "random.Random",
        "random.seed",
        "numpy.random.default_rng",
        "numpy.random.RandomState",
        "numpy.random.seed",
        "numpy.random.Generator",
        "numpy.random.PCG64",
    }
)
#: What leaves the process.
_OUTSIDE = (
    "requests.",
    "httpx.",
    "aiohttp.",
    "urllib.request.",
    "urllib3.",
    "socket.",
    "http.client.",
    "smtplib.",
    "ftplib.",
    "subprocess.",
    "os.system",
    "os.popen",
    "sqlite3.",
    "sqlalchemy.create_engine",
    "psycopg.",
    "psycopg2.",
    "boto3.",
    "redis.",
    "openai.",
    "qdrant_client.QdrantClient",
    "qdrant_client.AsyncQdrantClient",
)
_FILES = frozenset({"open", "io.open", "input", "os.listdir", "os.walk", "os.scandir", "shutil.rmtree", "os.remove"})


def _is_outside(name: str) -> bool:
    # socket.gethostname leaves nothing, but it is unsteady, and reported as such.
    return name in _FILES or (name.startswith(_OUTSIDE) and name != "socket.gethostname")


def _is_unsteady(name: str, node: ast.expr) -> bool:
    if name in _SEEDED:
        return isinstance(node, ast.Call) and not node.args and not node.keywords
    if name == "hash":
        return isinstance(node, ast.Call)
    return name.startswith(_UNSTEADY)


def _module_level(tree: ast.Module) -> Iterator[ast.stmt]:
    for node in tree.body:
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield node


def _heavy(project: Project) -> Iterator[Hit]:
    for source in project.sources:
        for node, root in _imports(source):
            if root in HEAVY:
                yield Hit(source, span(node), f"{root} is imported when the revision is loaded")


def _imports(source: PythonSource) -> Iterator[tuple[ast.stmt, str]]:
    for node in _module_level(source.tree):
        if isinstance(node, ast.Import):
            yield from ((node, alias.name.split(".")[0]) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node, "." if node.level else str(node.module).split(".")[0]


def _works_while_loading(project: Project) -> Iterator[Hit]:
    for source in project.sources:
        parts: list[ast.AST] = list(_module_level(source.tree))
        parts += [found for found in map(source.function, ("upgrade", "downgrade")) if found is not None]
        seen: set[int] = set()
        for part in parts:
            for name, node in mentioned(source, part):
                if node.lineno not in seen and (_is_outside(name) or _is_unsteady(name, node)):
                    seen.add(node.lineno)
                    yield Hit(source, span(node), f"{name} is used while the revision is loaded")


def _not_covered(project: Project) -> Iterator[Hit]:
    for source in project.sources:
        for node, root in _imports(source):
            if root not in sys.stdlib_module_names and root not in PLAIN and root not in HEAVY:
                yield Hit(source, span(node), f"{root} is code outside this file")


def _unsteady(project: Project) -> Iterator[Hit]:
    for source, node in _functions(project):
        seen: set[str] = set()
        for name, found in mentioned(source, node):
            if _is_unsteady(name, found) and name not in seen:
                seen.add(name)
                yield Hit(source, span(found), f"{_named(node)} uses {name}: its result differs the next time")
        for inner in ast.walk(node):
            if isinstance(inner, ast.Global | ast.Nonlocal):
                words = ", ".join(inner.names)
                yield Hit(source, span(inner), f"{_named(node)} keeps {words} from one point to the next")


def _outside(project: Project) -> Iterator[Hit]:
    for source, node in _functions(project):
        seen: set[str] = set()
        for name, found in mentioned(source, node):
            if isinstance(found, ast.Call) and _is_outside(name) and name not in seen:
                seen.add(name)
                yield Hit(source, span(found), f"{_named(node)} calls {name} for every point")


def _functions(project: Project) -> Iterator[tuple[PythonSource, ast.FunctionDef | ast.Lambda]]:
    """Every function of a revision that is called with points, once."""
    for source, revision in project.loaded():
        seen: set[int] = set()
        for function in functions_of(revision):
            node = definition(source, function)
            if node is not None and id(node) not in seen:
                seen.add(id(node))
                yield source, node


def functions_of(revision: Revision) -> Iterator[Callable[..., Any]]:
    """The functions that a revision passes to its operations."""
    for operation in revision.operations:
        yield from functions_of_operation(operation)


def functions_of_operation(operation: Operation) -> Iterator[Callable[..., Any]]:
    """Functions over points: the operation's own, and those that compute a vector; not one that is only called."""
    if isinstance(operation, Call):
        return
    for holder in (operation, *operation.filled().values()):
        for attribute in ("function", "inverse"):
            found = getattr(holder, attribute, None)
            if callable(found):
                yield found


def _named(node: ast.FunctionDef | ast.Lambda) -> str:
    return node.name if isinstance(node, ast.FunctionDef) else "the lambda"


def _client(project: Project) -> Iterator[Hit]:
    for source in project.sources:
        names = imported(source.tree)
        for node in ast.walk(source.tree):
            name = full_name(node.func, names) if isinstance(node, ast.Call) else None
            if name in ("qdrant_client.QdrantClient", "qdrant_client.AsyncQdrantClient"):
                yield Hit(source, span(node), "the revision connects to Qdrant by itself")


def _not_returned(project: Project) -> Iterator[Hit]:
    for source in project.sources:
        for name, node in not_returned(source):
            yield Hit(source, span(node), f"{name}(…) is made, and not returned by upgrade()")


RULES = (
    Rule(
        "QM201",
        "heavy-import",
        WARNING,
        "heavy import in a revision",
        "Every command loads every revision: status would wait for it, and fail where it isn't installed.",
        "import it inside the function that needs it, or make it an embedder of the settings",
        _heavy,
    ),
    Rule(
        "QM202",
        "work-while-loading",
        ERROR,
        "I/O or surroundings while a revision is loaded",
        "A revision is data: plan, lint and upgrade have to read the same thing, on every machine and at any time.",
        "write the value down, or do it in a function of an operation",
        _works_while_loading,
    ),
    Rule(
        "QM203",
        "outside-code",
        WARNING,
        "code that the checksum doesn't cover",
        "An applied revision is guarded by the checksum of its file; what it imports may change unseen.",
        "copy what is needed into the revision",
        _not_covered,
    ),
    Rule(
        "QM204",
        "not-deterministic",
        ERROR,
        "function that gives something else the next time",
        "The proof and every resume call it again and compare: the upgrade would never be proven.",
        "make the result a function of the point alone: derive ids with uuid5, pass fixed values and seeds",
        _unsteady,
    ),
    Rule(
        "QM205",
        "io-per-point",
        ERROR,
        "function that leaves the process for every point",
        "It is called for every point, more than once, from several threads; what it reads may change in between.",
        "use an embedder of the settings for models, and SQL for values that live there",
        _outside,
    ),
    Rule(
        "QM206",
        "own-client",
        ERROR,
        "revision with a Qdrant client of its own",
        "What it writes is not planned, not recorded, not proven and can't be undone.",
        "use an operation of qmigrate.op",
        _client,
    ),
    Rule(
        "QM207",
        "not-returned",
        ERROR,
        "operation that is made and not returned",
        "An operation only describes what is to be done: one that upgrade() doesn't return is never done.",
        "write it into the list that upgrade() returns",
        _not_returned,
    ),
)
