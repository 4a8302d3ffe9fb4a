"""The operations reference: what each operation and value takes, and what it answers for an example collection."""

from __future__ import annotations

import ast
import inspect
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, get_args

import markdown as md
import qdrant_client.models as models
from examples import OPERATIONS, VALUES, Example

import qmigrate
from qmigrate import op
from qmigrate.commands.lint import lint
from qmigrate.errors import PlanError
from qmigrate.model.schema import CollectionSchema
from qmigrate.model.state import Capabilities
from qmigrate.operations.base import BIG, Cutover, Operation, Wish
from qmigrate.operations.data import DataFix
from qmigrate.operations.values import Value
from qmigrate.parameters.own import SERVER_DEFAULTS
from qmigrate.settings.load import Settings
from qmigrate.settings.values import Seconds

#: What the answers are about: a collection of two vectors and an index, with the settings of a fresh server.
SCHEMA = CollectionSchema(
    vectors={"text": {"size": 384, "distance": "Cosine"}, "image": {"size": 512, "distance": "Cosine"}},
    sparse={},
    indexes={"kind": {"type": "keyword"}},
    config={**SERVER_DEFAULTS, "shard_number": 1},
)
SERVER = Capabilities(
    local=False,
    version=(1, 19, 0),
    label="Qdrant 1.19.0",
    snapshots=True,
    payload_indexes=True,
    vector_names=True,
    barrier=True,
    prefixes=True,
    versions=True,
)
CLUSTER = Capabilities(
    local=False,
    version=(1, 19, 0),
    label="Qdrant 1.19.0",
    snapshots=True,
    payload_indexes=True,
    vector_names=True,
    barrier=True,
    nodes=3,
    peers=3,
)
#: Column of the strategies -> the server, and how many points.
PLACES = {
    f"fewer than {BIG:,} points": (SERVER, 1_000),
    f"{BIG:,} points and more": (SERVER, 10 * BIG),
    "a cluster": (CLUSTER, 10 * BIG),
}
#: Names of the code for what a person writes.
ALIASES = {"Wish": Wish, "Cutover": Cutover, "Value": Value}
#: A project around an example, for the lint.
FIRST = """
def upgrade():
    sizes = {"text": 384, "image": 512}
    vectors = {name: VectorParams(size=size, distance=Distance.COSINE) for name, size in sizes.items()}
    return [op.CreateCollection("docs", vectors, payload_indexes={"kind": "keyword"})]
"""
RETURN = "\n\ndef upgrade():\n    return ["
EMBEDDERS = {"large": {"type": "hashing", "size": 1024}, "newer": {"type": "hashing", "size": 384}}
HOW = {"in_place": "in place", "clone": "clone", "copy": "copy"}


READING = """## How to read this page

**Strategies.** *In place*: the live collection is changed. *Clone*: the server clones the collection by a snapshot, and
the clone is changed, proven and swapped in. *Copy*: every point is written into a new generation next to the live one,
proven, and swapped in. `strategy=` asks for one where the operation takes it; `plan` says which one it is, and why.
What the tables show is answered by the code for an example: `docs`, with the vectors `text` (384, cosine) and `image`
(512, cosine), a keyword index on `kind`, and the settings of a fresh Qdrant 1.19.
*lint* is what [`qmigrate check --offline`](../lint.md) has about a revision with the example alone; it asks no server,
so it doesn't know what a setting was before, and is stricter there.

**Effect on readers.** Where existing readers or writers would fail, the operation takes `cutover=` and refuses to be
without it. `cutover="immediate"`: it goes live at the end of the run, together with the deployment of the readers.
`cutover="hold"`: it is built, proven, and waits for [`qmigrate cutover`](cli.md#qmigrate-cutover) (exit code 11). A
revision
is held as a whole, with everything that shares its copy.

**The way back.** `qmigrate rollback` never needs `downgrade()` where the way back can be derived: while the previous
generation is kept (`rebuild.holdover`), the name moves back in milliseconds; later the change is reversed where it
was made in place and nothing is lost by it; what was built next to the live collection needs a `downgrade()` then.
Where only the kept generation leads back, the page says why, and the lint
([QM302 and QM303](../lint.md)) asks the revision for one of:

```python
irreversible = "the old vectors mean nothing; the previous generation has them until gc"


def downgrade():
    params = VectorParams(size=512, distance=Distance.COSINE)
    return [op.AddVector("docs", "image", params, values=Embed("clip", image="path"))]
```

- `irreversible` is a sentence for the person who rolls back: it is shown when nothing leads back any more.
- `downgrade()` returns operations, as `upgrade()` does. It is used when the previous generation is gone, and always for
  `op.Call`; one that returns `[]` declares that there is nothing to take back.

**`requires_sql`.** A revision that must not run before the SQL schema is there names Alembic's revision:

```python
revision = "0004"
down_revision = "0003"
requires_sql = "a1b2c3"
```

`qmigrate upgrade` applies everything before it, ends with exit code 3 and names `alembic upgrade a1b2c3`. It goes
with every
operation; [Alembic](../alembic.md#the-other-direction-requires_sql) has the details.

**Names.** `collection` is a logical name or a glob (`memory_*`): the operation is done for each collection that
matches,
each with its own proof and swap."""


def pages() -> dict[str, str]:
    """Path below docs/ -> text."""
    return {"reference/operations.md": md.page(_head(), *map(_operation, OPERATIONS), _values())}


def missing() -> list[str]:
    """Operations and values without an example, and examples of what isn't there."""
    # What a declaration is made of is not an argument of an operation: docs/declared.md has it.
    values = {name for name in qmigrate.__all__ if inspect.isclass(getattr(qmigrate, name, None))} - {"Collection"}
    return sorted(set(op.__all__) ^ set(OPERATIONS) | values ^ set(VALUES))


def made(example: Example) -> Any:
    """What the last statement of an example is."""
    scope: dict[str, Any] = {name: getattr(models, name) for name in dir(models) if not name.startswith("_")}
    scope |= {name: getattr(qmigrate, name) for name in qmigrate.__all__ if not name.startswith("_")}
    *before, last = ast.parse(example.code).body
    assert isinstance(last, ast.Expr)
    exec(compile(ast.Module(before, []), "example", "exec"), scope)
    return eval(compile(ast.Expression(last.value), "example", "eval"), scope)


def _head() -> str:
    rows = [[f"[`op.{name}`](#op{name.lower()})", md.first_line(getattr(op, name))] for name in OPERATIONS]
    return f"""# Operations

A revision returns a list of operations: `def upgrade(): return [op.AddVector(…)]`.
They describe a change and do no I/O; `qmigrate plan` shows what becomes of them.

{md.table(["operation", "what it does"], rows)}

What fills a vector, checks it or makes an id: {", ".join(f"[`{name}`](#{name.lower()})" for name in VALUES)}.
What the parameter objects of `qdrant_client.models` may hold: [Qdrant's parameters](parameters.md).

{READING}"""


def _operation(name: str) -> str:
    kind = getattr(op, name)
    parts = [f"## op.{name}", md.lead(kind)]
    for example in OPERATIONS[name]:
        operation = made(example)
        assert isinstance(operation, Operation), name
        if example.title:
            parts.append(f"**{example.title}**")
        parts += [md.block("python", example.code), _facts(operation, example)]
    return "\n\n".join([*parts, _arguments(kind)])


def _facts(operation: Operation, example: Example) -> str:
    """What an operation answers about itself."""
    before = None if operation.creates else SCHEMA
    operation.check(before)
    trouble = None if before is None else operation.incompatible(before)
    takes = "cutover" in inspect.signature(type(operation)).parameters
    rows = [
        ["in the plan", md.code(operation.describe())],
        ["strategy", _strategy(operation)],
        ["readers", _readers(operation, trouble)],
        ["way back", _back(operation)],
    ]
    if takes:
        rows.append(["`cutover`", "Must be given." if trouble else "Not needed here."])
    if operation.irreversible_reason(SCHEMA) if before else False:
        rows.append(["`irreversible` or `downgrade()`", "The revision should have one of them."])
    if rules := _lint(example):
        rows.append(["lint", "; ".join(rules) + "."])
    return "\n".join(f"- {name}: {answer}" for name, answer in rows)


def _lint(example: Example) -> list[str]:
    """What the lint has about a revision with an example and nothing else, by rule."""
    head = "from qdrant_client.models import *\nfrom qmigrate import *\n"
    *before, last = ast.parse(example.code).body
    code = ast.unparse(ast.Module(before, []))
    with TemporaryDirectory() as folder:
        versions = Path(folder) / "versions"
        versions.mkdir()
        for number, down, body in (("0001", None, FIRST), ("0002", "0001", f"{code}\n{RETURN}{ast.unparse(last)}]\n")):
            text = f'"""Revision {number}."""\n{head}revision, down_revision = {number!r}, {down!r}\n{body}'
            (versions / f"{number}_example.py").write_text(text, encoding="utf-8")
        found = lint(Settings(scripts=Path(folder), folder=Path(folder), embedders=EMBEDDERS))
    titles = {rule.code: rule.title for rule in found.rules}
    codes = dict.fromkeys((one.code, one.severity) for one in found.findings if one.revision == "0002")
    return [f"[`{code}`](../lint.md) {titles[code]} ({severity})" for code, severity in codes]


def _readers(operation: Operation, trouble: str | None) -> str:
    if trouble:
        return md.sentence(trouble)
    shown = operation.shows()
    return "Nothing changes for them." if shown is None else f"They {shown}."


def _strategy(operation: Operation) -> str:
    if operation.creates:
        return "A new generation; the name becomes its alias."
    if operation.drops:
        return "The name is taken away; the generation is kept until `gc`."
    found = {place: operation.strategy(SCHEMA, *asked) for place, asked in PLACES.items()}
    if len({(one.rank, one.reason) for one in found.values()}) == 1:
        one = next(iter(found.values()))
        return f"**{HOW[one.rank]}** – {one.reason}."
    said: dict[str, list[str]] = {}
    for place, one in found.items():
        said.setdefault(f"**{HOW[one.rank]}** – {one.reason}.", []).append(place)
    places = {what: "one node" if len(at) == 2 else at[0] for what, at in said.items()}
    return "".join(f"\n    - {places[what]}: {what}" for what in said)


def _back(operation: Operation) -> str:
    edit = operation.edit()
    if isinstance(operation, DataFix) and edit is not None:
        if edit["kind"] == "call":
            return f"None but a `downgrade()`: {operation.irreversible_reason(SCHEMA)}."
        how = "`qmigrate fix undo`, within `fixes.undo`" if edit["undo"] else "none: nothing is kept of it"
        return f"A rollback leaves the points as they are. What it did is undone by {how}."
    if operation.creates:
        return "The name is taken away again; the points stay in the generation until `gc`."
    reason = operation.irreversible_reason(SCHEMA)
    ranks = set() if operation.drops else {operation.strategy(SCHEMA, *asked).rank for asked in PLACES.values()}
    where = "Where it was built next to the live collection: milliseconds" if "in_place" in ranks else "Milliseconds"
    kept = "" if ranks == {"in_place"} else f"{where} while the previous generation is kept. Later "
    if reason:
        return f"{kept or 'Only '}{'only ' if kept else ''}by a `downgrade()`: {reason}."
    return f"{kept}derived: the change is reversed." if kept else "Derived: the change is reversed in place."


def _arguments(kind: Any) -> str:
    said = md.entries(kind)
    rows = [
        [md.code(one.name), md.code(_type(one)), _default(one), md.sentence(said.get(one.name, ""))]
        for one in inspect.signature(kind).parameters.values()
    ]
    return md.table(["argument", "type", "default", "meaning"], rows)


def _type(one: inspect.Parameter) -> str:
    """An annotation in the words of its alias."""
    found = str(one.annotation)
    if found in ALIASES:
        words = [repr(word) if isinstance(word, str) else word.__name__ for word in _members(ALIASES[found])]
        return " | ".join(words).replace("NoneType", "None").replace("'", '"')
    return found.replace("PayloadFunction", "Callable[[Point], Payload]").replace("JsonObject", "dict")


def _members(alias: Any) -> tuple[Any, ...]:
    """What an alias stands for, with the words of its literals."""
    return tuple(word for one in get_args(alias) for word in (get_args(one) or (one,)))


def _default(one: inspect.Parameter) -> str:
    if one.default is inspect.Parameter.empty:
        return "must be given"
    if type(one.default).__name__ == "_HAS_DEFAULT_FACTORY_CLASS":
        return "none"
    if isinstance(one.default, Seconds):
        return md.code(f'"{md.duration(one.default)}"')
    return md.code(f"{one.default!r}")


def _values() -> str:
    parts = ["## Values\n\nWhat fills a vector, what is checked before and after, and what makes an id."]
    for name, found in VALUES.items():
        kind = getattr(qmigrate, name)
        parts += [f"### {name}", md.lead(kind)]
        for example in found:
            value = made(example)
            parts += [f"**{example.title}**"] if example.title else []
            parts += [md.block("python", example.code), f"In a plan: {md.code(value.describe())}."]
        raised = md.entries(kind, "Raises").get(PlanError.__name__)
        parts += [_arguments(kind), f"Refused (exit code 2): {md.sentence(raised)}" if raised else ""]
    return "\n\n".join(part for part in parts if part)
