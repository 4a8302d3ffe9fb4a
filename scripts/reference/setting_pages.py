"""The settings reference: keys, kinds and defaults as the validation has them, and Qdrant's parameter objects.

Which keys there are is asked of the validation itself, by a key that it refuses: it names those that it knows.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, get_type_hints

import markdown as md
import yaml

from qmigrate.commands import presets
from qmigrate.embed import _BACKENDS
from qmigrate.errors import ConfigError
from qmigrate.operations import DeleteOrphans, DeletePoints, SyncPayload
from qmigrate.parameters.catalogue import catalogue, installed
from qmigrate.parameters.kinds import Each, Fields, Listed, Number, Whole, Words
from qmigrate.settings import approval, console, sections
from qmigrate.settings import values as read
from qmigrate.settings.load import DatabaseSettings, LedgerSettings, QdrantSettings, Settings
from qmigrate.settings.spelling import VARIABLES

#: Section -> the class that has its values.
SECTIONS: dict[str, type] = {
    "qdrant": QdrantSettings,
    "ledger": LedgerSettings,
    "databases": DatabaseSettings,
    "sql": sections.SqlSettings,
    "rebuild": sections.RebuildSettings,
    "fixes": sections.FixSettings,
    "limits": sections.LimitSettings,
    "estimates": sections.EstimateSettings,
    "health": sections.HealthSettings,
    "lint": sections.LintSettings,
    "metrics": sections.MetricSettings,
    "console": console.ConsoleSettings,
}
#: Where a key is tried that isn't there, when it is not the section itself.
INSIDE = {
    "databases": ("databases", "app"),
    "ray": ("rebuild", "ray"),
    "budget": ("rebuild", "budget"),
    "approval": ("fixes", "approval"),
}
URLS = {
    "url": ("a SQLAlchemy URL", "with a password in clear, better one of the next two"),
    "url_env": ("a variable's name", "the environment variable that holds the URL"),
    "url_file": ("a path", "the file that holds the URL, as a mounted secret"),
}
#: What no field of a class says, by section: kind, meaning.
MORE: dict[str, dict[str, tuple[str, str]]] = {
    "qdrant": {
        "api_key_env": ("a variable's name", "the environment variable that holds the API key; the key is never here"),
    },
    "ledger": {
        **URLS,
        "schema": ("a text", "PostgreSQL schema of the tables; by default the connection's"),
        "file_systems": ("a list, each a text", ""),
    },
    "databases": URLS,
    "sql": URLS,
}
DEFAULTS = {
    ("qdrant", "path"): "`.qmigrate/qdrant`, without a `url`",
    ("ledger", "url"): "`sqlite:///.qmigrate/ledger.db`; must be given where Qdrant is on another host",
    ("sql", "url"): "the ledger's database",
}
#: Variables of the environment, without QMIGRATE_.
ENVIRONMENT = {
    "CONFIG": "the settings file; `qmigrate.yaml` in the current folder by default",
    "SCRIPTS": "the folder of the revisions, as `scripts:`",
    "ACTOR": "who acts, for every record; the user of the system by default",
    "REQUESTED_BY": "whose request something irreversible is, and why: a name, a colon, a reason",
    "LOG": "`text` or `json`: the lines on stderr",
    "LEDGER_URL": "as `ledger.url`",
    "QDRANT_URL": "as `qdrant.url`",
    "QDRANT_API_KEY": "the API key",
    "QDRANT_GRPC_PORT": "as `qdrant.grpc_port`",
    "QDRANT_GRPC_HOST": "as `qdrant.grpc_host`",
    "ON_START": "read by the image's entrypoint: `upgrade`, `check` or `off` ([deploy](../deploy.md))",
    "WAIT": "read by the entrypoint: longest wait for PostgreSQL and Qdrant",
    "MAX_ESTIMATE": "read by the entrypoint: what is expected to take longer is not started",
    "LOCK_TIMEOUT": "read by the entrypoint: longest wait for another replica that migrates",
}
DECLARED = (
    "The declaration that `revision --autogenerate` and `check --declared` compare the revisions with: "
    '`"app.schema:collections"`, a list of `qmigrate.Collection` in Python, or a YAML file. Without the key it is '
    "`collections.yaml`, where that is there. [Declared schemas](../declared.md)."
)
IDS = (
    "How a new revision gets its id. `sequence`: the next number. `time`: the moment in UTC and four letters, as "
    "`20261130201512kqtd`, so that two branches that both add a revision are merged as they are, by "
    "`revision --merge`. `auto`, the default: as the folder has them, which is `time` in an empty one."
)
SCRIPTS = "The folder of `versions/` and, if you have one of your own, `script.py.mako`."
EMBEDDERS = (
    'Name -> `type` and the keys of that type. A revision names it: `Embed("words", text="body")`. '
    "[Embedders](../embedders.md) has what each key means; here is which type has which."
)
COLLECTIONS = (
    "Exact logical name -> `rebuild`, `fixes` (`undo`, `max_share`, `soft_delete`, `approval`) and `embedders` of that "
    "collection alone; what is left out is as above. Globs are refused."
)


def pages() -> dict[str, str]:
    """Path below docs/ -> text."""
    parts = [_head(), "## scripts", SCRIPTS, "## declared", DECLARED, "## revision_ids", IDS]
    parts += map(_section, SECTIONS)
    parts += [_within("ray", sections.RaySettings), _within("budget", sections.BudgetSettings), _approval()]
    parts += [_presets(), _embedders(), f"## collections\n\n{COLLECTIONS}", _environment()]
    undocumented = known("") - {"scripts", "declared", "revision_ids", "embedders", "collections", *SECTIONS}
    assert not undocumented, undocumented
    return {"reference/settings.md": md.page(*parts), "reference/parameters.md": md.page(*_parameters())}


def known(*path: str) -> set[str]:
    """The keys that the validation knows at a place of the file."""
    odd: Any = {"no such key": 1}
    for name in reversed([one for one in path if one]):
        odd = {name: odd}
    with TemporaryDirectory() as folder:
        file = Path(folder) / "qmigrate.yaml"
        file.write_text(yaml.safe_dump(odd), encoding="utf-8")
        try:
            Settings.load(config=file, environ={}, stores=False)
        except ConfigError as error:
            return set((error.hint or "").partition("known keys here: ")[2].partition(";")[0].split(", "))
    raise AssertionError(f"an unknown key is accepted in {path}")


def _head() -> str:
    return """# Settings

`qmigrate.yaml` in the current folder, or the file that `--config` or `QMIGRATE_CONFIG` names; every key has a default.
Options win over variables, variables over the file. A key that isn't known is an error that names the one that was
probably meant; so is a value of another kind, a variable that is set and empty, and a misspelt `QMIGRATE_…`.
Relative paths start at the folder of the file. `null` means the default.

Durations have a unit: `300ms`, `60s`, `5m`, `24h`, `7d`, `2 weeks`. A number without one is refused, but for 0 and
where the
table says so.

```yaml
qdrant: {url: "http://localhost:6333", api_key_env: QDRANT_API_KEY}
ledger: {url_env: DATABASE_URL}
embedders:
  words: {type: hashing, size: 256}
rebuild: {holdover: 14d}
collections:
  images: {rebuild: {max_rate: 500}}
```

This page is made of the code that reads the file."""


def _section(name: str) -> str:
    kind = SECTIONS[name]
    intro = md.sentence(re.sub(r"[,;] durations in seconds", "", md.first_line(kind)))
    if name == "databases":
        intro = "The application's SQL, by a name that fixes use (`database=`); `app` is their default."
    return f"## {name}\n\n{intro}\n\n{_table(name, kind)}"


def _within(name: str, kind: type) -> str:
    """Keys within one of ``rebuild``."""
    return f"### rebuild.{name}\n\n{md.first_line(kind)}\n\n{_table(name, kind)}"


def _approval() -> str:
    """Keys within ``fixes.approval``."""
    kind = approval.ApprovalSettings
    return f"### fixes.approval\n\n{md.first_line(kind)} [Approvals](../approvals.md).\n\n{_table('approval', kind)}"


def _table(name: str, kind: type) -> str:
    hints = get_type_hints(kind, include_extras=True)
    said, more = md.entries(kind, "Attributes"), MORE.get(name, {})
    fields = {one.name: one for one in dataclasses.fields(kind)}
    there = known(*INSIDE.get(name, (name,)))
    ordered = [*[one for one in fields if one in there], *[one for one in more if one in there and one not in fields]]
    assert set(ordered) == there, (name, set(ordered) ^ there)
    rows = []
    for key in ordered:
        reader = next(iter(getattr(hints.get(key), "__metadata__", ())), None)
        what, meaning = more.get(key, ("", ""))
        meaning = meaning or said[key]
        default = DEFAULTS.get((name, key)) or (_default(fields[key], reader) if key in fields else "none")
        absent = "`auto`" if default == "`auto`" else "left out"
        meaning = re.sub(r"\bNone\b", absent, meaning.replace(", in seconds", ""))
        rows.append([f"`{key}`", md.plain(what or read.said(reader)), default, md.sentence(meaning)])
    return md.table(["key", "takes", "default", "meaning"], rows)


def _default(field: dataclasses.Field[Any], reader: Any) -> str:
    value = field.default if field.default is not dataclasses.MISSING else None
    if field.default_factory is not dataclasses.MISSING:
        value = field.default_factory()
    automatic = read.said(reader).startswith("``auto``") if reader else False
    if value is None:
        return "`auto`" if automatic else "none"
    if value in ({}, "", ()) or dataclasses.is_dataclass(value):
        return "none"
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    if reader in (read.duration, read.positive_duration, read.timeout):
        return f"`{md.duration(value)}`"
    if isinstance(value, tuple):
        return f"`[{', '.join(map(str, value))}]`"
    return f"`{int(value)}`" if isinstance(value, float) and value.is_integer() else f"`{value}`"


def _presets() -> str:
    said = {presets.DELETION: DeletePoints, presets.ORPHANS: DeleteOrphans, presets.SYNC: SyncPayload}
    own = {
        "kind": "`deletion` (default), `orphans` or `sync`",
        "tenant": "whose points, where `fixes.tenants` has the collection; a text may be a `:parameter`",
        "mark": "for `fix retrain`: the statement that marks the rows again",
        "queue": "for `fix retrain`: the table that gets the rows, or `{table: …, columns: {…}}`",
        "missing": "file that gets the ids of rows without a point",
        "missing_table": "table that gets them",
        "missing_call": "function that gets them, as `module:function`",
    }
    rows = []
    for kind, operation in said.items():
        meant = md.entries(operation)
        for key in presets._KEYS_OF[kind]:
            meaning = own.get(key) or meant[key]
            if not (key == "kind" and kind != presets.DELETION):
                rows.append([f"`{kind}`" if key != "kind" else "all", f"`{key}`", md.sentence(meaning)])
    return (
        "### fixes.presets\n\nName -> a fix that is done often; texts that are `:name` get a value when it is run. "
        "[Data fixes](../fixes.md) has examples.\n\n" + md.table(["kind", "key", "meaning"], rows)
    )


def _embedders() -> str:
    rows = [[f"`{name}`", ", ".join(f"`{key}`" for key in sorted(one.keys))] for name, one in _BACKENDS.items()]
    return f"## embedders\n\n{EMBEDDERS}\n\n{md.table(['type', 'keys'], rows)}"


def _environment() -> str:
    missing = VARIABLES - set(ENVIRONMENT)
    assert not missing, f"no meaning in ENVIRONMENT: {missing}"
    rows = [[f"`QMIGRATE_{name}`", md.sentence(said)] for name, said in ENVIRONMENT.items() if name in VARIABLES]
    rows += [
        [f"`QMIGRATE_HEALTH_{one.name.upper()}`", f"As `health.{one.name}`."]
        for one in dataclasses.fields(sections.HealthSettings)
        if one.name != "checks"
    ]
    rows += [
        [f"`{name}`", f"As `health.{key}`" + (f"; a number without a unit is in {unit}." if unit else ".")]
        for name, (key, unit) in sections.HEALTH_VARIABLES.items()
    ]
    return f"## Environment\n\n{md.table(['variable', 'meaning'], rows)}"


def _parameters() -> Iterable[str]:
    """What Qdrant's parameter objects may hold, as revisions are checked."""
    found = catalogue()
    yield f"""# Qdrant's parameters

What a revision may give as the objects of `qdrant_client.models`, or as plain JSON of the same shape. It is read
from the
models of the installed client (here {minor()}), with the bounds that a server has besides. A field that isn't listed
is refused
with the one that was probably meant; one that only a newer client knows, with that client's version."""
    named: Mapping[str, Fields] = {
        "VectorParams": found.vector,
        "VectorParamsDiff": found.vector_diff,
        "SparseVectorParams": found.sparse,
        "CollectionParamsDiff": found.params,
        **{one.model: one for one in found.indexes.values()},
    }
    inner: dict[str, Fields] = {}
    for name, fields in [("op.CreateCollection", found.create), ("op.UpdateCollection", found.update), *named.items()]:
        yield f"## {name}\n\n{_fields(fields, inner)}"
    shown = set(named)
    while left := [one for name, one in inner.items() if name not in shown]:
        for one in left:
            shown.add(one.model)
            yield f"## {one.model}\n\n{_fields(one, inner)}"


def minor() -> str:
    """The minor version of the client that the page of parameters is about."""
    return ".".join(installed().split(".")[:2])


def _fields(fields: Fields, inner: dict[str, Fields]) -> str:
    rows = [
        [f"`{name}`", _kind(kind, inner), "yes" if name in fields.required else ""]
        for name, kind in fields.known.items()
    ]
    return md.table(["field", "takes", "required"], rows)


def _kind(kind: Any, inner: dict[str, Fields]) -> str:
    """A kind in words; objects are remembered for a section of their own."""
    if isinstance(kind, tuple):
        return ", or ".join(_kind(one, inner) for one in kind)
    if isinstance(kind, Words):
        return ", ".join(f"`{word}`" for word in kind.members)
    if isinstance(kind, Whole | Number):
        return _bounds(kind)
    if isinstance(kind, Each):
        return f"names, each with {_kind(kind.of, inner)}"
    if isinstance(kind, Listed):
        return f"a list, each {_kind(kind.of, inner)}"
    if isinstance(kind, Fields):
        if kind.choices:
            return " or ".join(_kind(one, inner) for one in kind.choices)
        inner.setdefault(kind.model, kind)
        return f"[`{kind.model}`](#{kind.model.lower()})"
    return {bool: "`true` or `false`", str: "a text"}.get(kind, "any JSON")


def _bounds(kind: Whole | Number) -> str:
    what = "a whole number" if isinstance(kind, Whole) else "a number"
    if kind.least is not None and kind.most is not None:
        return f"{what} from {kind.least:,} to {kind.most:,}"
    return f"{what} from {kind.least:,}" if kind.least is not None else what
