"""Settings from flags, environment, qmigrate.yaml and defaults, in this order. It opens no store."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, replace
from functools import cache
from pathlib import Path
from typing import Annotated, Any, get_type_hints

from qmigrate.errors import ConfigError
from qmigrate.settings import values as read
from qmigrate.settings.approval import ApprovalSettings, Called
from qmigrate.settings.console import ConsoleSettings
from qmigrate.settings.sections import (
    EstimateSettings,
    FixSettings,
    HealthSettings,
    LimitSettings,
    LintSettings,
    MetricSettings,
    RebuildSettings,
    SqlSettings,
    health_of,
)
from qmigrate.settings.spelling import refuse_globs, refuse_misspelt
from qmigrate.settings.values import ValueContext
from qmigrate.text import did_you_mean

# Annotated[type, reader]: the field is a key of the file, and this is how its value is read.

#: Looked for in the current folder when neither a flag nor the environment names a file.
CONFIG_NAME = "qmigrate.yaml"


@dataclass(frozen=True, slots=True)
class QdrantSettings:
    """Where Qdrant is.

    Attributes:
        url: of a server, http or https; None in local mode.
        path: folder of the client's local mode; None with a server.
        grpc_port: the server's gRPC port; ``QMIGRATE_QDRANT_GRPC_PORT`` wins over the file.
        grpc_host: where gRPC has a name of its own, behind a proxy; None for the host of `url`;
            ``QMIGRATE_QDRANT_GRPC_HOST`` wins over the file.
        grpc_tls: whether gRPC is encrypted; None where it is as in `url`.
        prefer_rest: points go over REST too, behind a proxy that blocks gRPC; several times slower.
        api_key: from ``QMIGRATE_QDRANT_API_KEY`` or the variable that ``api_key_env`` names; never shown.
        timeout: longest time of one request, in seconds.
        nodes: REST URLs of every node of a cluster, for what has to be seen on all of them.
        ca_cert: PEM file of the authority that signed the server's certificate.
        prefix: path in front of Qdrant's own, behind a reverse proxy.
        compression: gzip on gRPC; slower on a local network.
    """

    url: Annotated[str | None, read.server_url] = None
    path: Annotated[Path | None, read.path] = None
    grpc_port: Annotated[int, read.integer_between(1, 65535)] = 6334
    grpc_host: Annotated[str | None, read.host] = None
    grpc_tls: Annotated[bool | None, read.automatic(read.flag)] = None
    prefer_rest: Annotated[bool, read.flag] = False
    api_key: str | None = field(default=None, repr=False)
    timeout: Annotated[float, read.timeout] = 60.0
    nodes: Annotated[tuple[str, ...], read.listed(read.server_url)] = ()
    ca_cert: Annotated[Path | None, read.path] = None
    prefix: Annotated[str, read.text] = ""
    compression: Annotated[bool, read.flag] = False

    @property
    def label(self) -> str:
        """For people, without secrets: ``qdrant:6333``, or the folder."""
        return read.authority(self.url) if self.url else read.short_path(self.path or Path())


@dataclass(frozen=True, slots=True)
class LedgerSettings:
    """Where the SQL state is.

    Attributes:
        url: SQLAlchemy URL; may hold a password, so it is never shown.
        schema: PostgreSQL schema of the tables; None for the connection's default.
        defaulted: not configured: SQLite next to the configuration.
        file_systems: types of file systems, as ``virtiofs``, on which a SQLite file may lie besides those of local
            disks: no other machine writes there.
    """

    url: str = field(default="", repr=False)
    schema: str | None = None
    defaulted: bool = False
    file_systems: tuple[str, ...] = ()

    @property
    def label(self) -> str:
        """For people, without secrets: ``postgresql app@db/app``, ``sqlite .qmigrate/ledger.db``."""
        return read.sql_label(self.url)


@dataclass(frozen=True, slots=True)
class DatabaseSettings:
    """One SQL database of the application.

    Attributes:
        url: SQLAlchemy URL, or None when the variable or file that holds it is not there; never shown.
        missing: why `url` is None, for people.
    """

    url: str | None = field(default=None, repr=False)
    missing: str = ""


@dataclass(frozen=True, slots=True)
class CollectionOverride:
    """What ``collections:`` has for one logical name; `rebuild` and `fixes` hold only the keys that were given."""

    rebuild: Mapping[str, Any] = field(default_factory=dict)
    fixes: Mapping[str, Any] = field(default_factory=dict)
    embedders: Mapping[str, Mapping[str, Any]] = field(default_factory=dict, repr=False)


@dataclass(frozen=True, slots=True)
class Settings:
    """Everything that can be configured. Neither ``repr`` nor ``str`` shows a secret.

    Attributes:
        scripts: folder of ``script.py.mako`` and ``versions/``.
        declared: the declaration of the collections: ``app.schema:collections``, or a YAML file; None for
            ``collections.yaml`` where it is there.
        revision_ids: how a new revision gets its id: ``sequence``, ``time``, or ``auto``, as the folder has them.
        folder: where relative paths start: the file's folder, else the current one.
        config: the file that was read, or None.
        embedders: name -> ``type`` and the keys of that type.
        collections: overrides by logical name; use :meth:`for_collection`.
        actor: who runs it, for every record; None for the user of the system.
        metadata: further facts of the caller, for the audit.
        called: how it came to be called; only what logs callers in sets it.
        client: the application's own client, by which Qdrant is reached: see :meth:`with_client`.
    """

    qdrant: QdrantSettings = field(default_factory=QdrantSettings)
    ledger: LedgerSettings = field(default_factory=LedgerSettings)
    databases: Mapping[str, DatabaseSettings] = field(default_factory=dict)
    sql: SqlSettings = field(default_factory=SqlSettings)
    scripts: Path = Path("qdrant_migrations")
    declared: str | None = None
    revision_ids: str = "auto"
    embedders: Mapping[str, Mapping[str, Any]] = field(default_factory=dict, repr=False)
    rebuild: RebuildSettings = field(default_factory=RebuildSettings)
    fixes: FixSettings = field(default_factory=FixSettings)
    limits: LimitSettings = field(default_factory=LimitSettings)
    estimates: EstimateSettings = field(default_factory=EstimateSettings)
    health: HealthSettings = field(default_factory=HealthSettings)
    lint: LintSettings = field(default_factory=LintSettings)
    metrics: MetricSettings = field(default_factory=MetricSettings)
    console: ConsoleSettings = field(default_factory=ConsoleSettings)
    collections: Mapping[str, CollectionOverride] = field(default_factory=dict)
    folder: Path = Path()
    config: Path | None = None
    actor: str | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict, repr=False)
    called: Called = field(default_factory=Called, repr=False)
    client: Any = field(default=None, repr=False, compare=False)

    @classmethod
    def load(
        cls,
        *,
        config: str | Path | None = None,
        qdrant_url: str | None = None,
        ledger_url: str | None = None,
        scripts: str | Path | None = None,
        actor: str | None = None,
        environ: Mapping[str, str] | None = None,
        stores: bool = True,
        content: Mapping[str, Any] | None = None,
    ) -> Settings:
        """Read the settings; it touches files only.

        Args:
            config: the file; else ``QMIGRATE_CONFIG``, else ``qmigrate.yaml`` in the current folder if there.
            qdrant_url: wins over ``QMIGRATE_QDRANT_URL`` and the file.
            ledger_url: wins over ``QMIGRATE_LEDGER_URL`` and the file.
            scripts: wins over ``QMIGRATE_SCRIPTS`` and the file.
            actor: wins over ``QMIGRATE_ACTOR``.
            environ: instead of ``os.environ``.
            stores: whether Qdrant and the ledger will be used; if not, they need not fit together.
            content: what a settings file would say, instead of one: relative paths start at the current folder.

        Raises:
            ConfigError: unknown key, wrong type or unit, unreadable file, remote server with local ledger; an empty
                argument, or an empty variable whose name begins with ``QMIGRATE_``.
        """
        environ = os.environ if environ is None else environ
        read.refuse_empty(environ, config=config, qdrant_url=qdrant_url, ledger_url=ledger_url, scripts=scripts)
        here = ValueContext(Path.cwd(), environ)
        file, data = (None, dict(content)) if content is not None else _read_file(config, here)
        source = ValueContext(file.parent if file else here.folder, environ, file is not None or content is not None)
        with read.naming(file):
            _check_names(data, environ)
            urls = {"qdrant": qdrant_url or environ.get("QMIGRATE_QDRANT_URL")}
            urls["ledger"] = ledger_url or environ.get("QMIGRATE_LEDGER_URL")
            _refuse_empty_sections(file, data, urls)
            part = {name: read.mapping(data.get(name) or {}, name) for name in _SECTIONS if name not in _ALONE}
            found = cls(
                qdrant=_qdrant(part["qdrant"], urls["qdrant"], source),
                ledger=_ledger(part["ledger"], urls["ledger"], here, source),
                databases={name: _database(name, value, source) for name, value in part["databases"].items()},
                sql=_sql(part["sql"], source),
                declared=_declared(data.get("declared")),
                revision_ids=_IDS(data.get("revision_ids") or "auto", "revision_ids"),
                scripts=_scripts(data.get("scripts"), scripts or environ.get("QMIGRATE_SCRIPTS"), here, source),
                embedders=_embedders(part["embedders"], "embedders", source),
                fixes=_fixes(part["fixes"], source),
                **{name: kind(**_values(kind, part[name], name, source)) for name, kind in _PLAIN.items()},
                health=HealthSettings(**_values(HealthSettings, part["health"], "health", source) | health_of(environ)),
                collections=_overrides(part["collections"], source),
                folder=source.folder,
                config=file,
                actor=_actor(environ.get("QMIGRATE_ACTOR")) if actor is None else _actor(actor, "--actor"),
            )
        if stores:
            _refuse_lost_ledger(found)
        return found

    def acting(self, actor: str | None = None, metadata: Mapping[str, Any] | None = None) -> Settings:
        """The same for another actor, or with further facts for the audit; None changes nothing.

        Raises:
            ConfigError: an empty name, or facts that are not plain JSON.
        """
        return replace(
            self,
            actor=self.actor if actor is None else _actor(actor, "actor"),
            metadata=self.metadata if metadata is None else read.facts(metadata),
        )

    def called_by(self, proven: str | None = None, again: Mapping[str, Any] | None = None) -> Settings:
        """The same for a caller whom something has logged in; see :class:`Called`. None leaves that as it is."""
        return replace(self, called=Called(proven or self.called.proven, again or self.called.again))

    @property
    def asks_approvals(self) -> bool:
        """Whether anything of any collection may need the approval of another person."""
        own = (one.fixes.get("approval") for one in self.collections.values())
        return self.fixes.approval is not None or any(one is not None for one in own)

    def for_collection(self, name: str) -> Settings:
        """These settings with the overrides for a logical name merged in."""
        override = self.collections.get(name)
        if override is None:
            return self
        return replace(
            self,
            rebuild=replace(self.rebuild, **override.rebuild),
            fixes=replace(self.fixes, **override.fixes),
            embedders={**self.embedders, **override.embedders},
        )

    def with_client(self, client: object | None) -> Settings:
        """The same for an application that has a client open: in local mode its folder admits no other process.

        Args:
            client: a ``QdrantClient`` or ``AsyncQdrantClient`` of the Qdrant that these settings name; it is left open.
                None changes nothing.
        """
        return self if client is None else replace(self, client=client)

    def with_engine(self, engine: str | None) -> Settings:
        """The same with another ``rebuild.engine`` for every collection; None changes nothing."""
        if engine is None:
            return self
        others = {
            name: replace(one, rebuild={key: value for key, value in one.rebuild.items() if key != "engine"})
            for name, one in self.collections.items()
        }
        return replace(self, rebuild=replace(self.rebuild, engine=engine), collections=others)

    @property
    def archives(self) -> Path:
        """Folder of the archives that are made without a folder named."""
        return self.folder / ".qmigrate" / "snapshots"

    def connection(self) -> dict[str, Any]:
        """Keyword arguments of ``qmigrate.store.connect.ConnectionSettings``."""
        return {
            "url": self.qdrant.url,
            "path": str(self.qdrant.path) if self.qdrant.path else None,
            "grpc_port": self.qdrant.grpc_port,
            "grpc_host": self.qdrant.grpc_host,
            "grpc_tls": self.qdrant.grpc_tls,
            "prefer_rest": self.qdrant.prefer_rest,
            "api_key": self.qdrant.api_key,
            "timeout": self.qdrant.timeout,
            "nodes": self.qdrant.nodes,
            "ca_cert": str(self.qdrant.ca_cert) if self.qdrant.ca_cert else None,
            "prefix": self.qdrant.prefix,
            "compression": self.qdrant.compression,
        }

    def database(self, name: str) -> str:
        """The SQLAlchemy URL of one of the application's databases.

        Raises:
            ConfigError: it is not configured, or its variable or file is missing.
        """
        found = self.databases.get(name)
        if found is None:
            raise ConfigError(
                f"no database {name!r} in the settings{did_you_mean(name, self.databases)}",
                hint=f"write into qmigrate.yaml: databases: {{{name}: {{url_env: DATABASE_URL}}}}, or {{url: …}}",
            )
        if found.url is None:
            raise ConfigError(f"databases.{name}: {found.missing}")
        return found.url


#: What may be set for the fixes of one collection; the rest is the same for all.
_FIXES_OF_ONE = ("undo", "max_share", "soft_delete", "approval")
#: The sections of the file.
_SECTIONS = tuple(
    entry.name
    for entry in fields(Settings)
    if entry.name not in ("folder", "config", "actor", "metadata", "called", "client")
)


#: Those that are one value.
_ALONE = ("scripts", "declared", "revision_ids")
_IDS = read.choice("auto", "sequence", "time")


def section_names() -> tuple[str, ...]:
    """The keys at the top of the file."""
    return _SECTIONS


def override_keys() -> tuple[str, ...]:
    """The keys of ``fixes`` that ``collections:`` may have for one of them."""
    return _FIXES_OF_ONE


#: Sections whose values come from the file alone.
_PLAIN: Mapping[str, Any] = {
    "rebuild": RebuildSettings,
    "limits": LimitSettings,
    "estimates": EstimateSettings,
    "lint": LintSettings,
    "metrics": MetricSettings,
    "console": ConsoleSettings,
}
#: Variables of the health settings, without their beginning.
_HEALTH = tuple(f"HEALTH_{entry.name.upper()}" for entry in fields(HealthSettings))
#: Most characters of an actor's name.
_LONGEST_ACTOR = 255


def _actor(name: str | None, where: str = "QMIGRATE_ACTOR") -> str | None:
    """Who acts, as it is recorded.

    Raises:
        ConfigError: it is empty: a record that should name a person would name none.
    """
    if name is None:
        return None
    found = name.strip()
    if not found or len(found) > _LONGEST_ACTOR or not found.isprintable():
        raise ConfigError(
            f"{where} must name who acts, in 1 to {_LONGEST_ACTOR} printable characters",
            hint="leave it out, and the user of the system is recorded",
        )
    return found


def _check_names(data: Mapping[str, Any], environ: Mapping[str, str]) -> None:
    """Neither a section nor a variable is misspelt."""
    read.check_keys(data, _SECTIONS, "")
    refuse_misspelt(environ, _HEALTH, data)


def _read_file(config: str | Path | None, here: ValueContext) -> tuple[Path | None, dict[str, Any]]:
    named = config or here.environ.get("QMIGRATE_CONFIG")
    if named is None or not str(named):
        default = here.folder / CONFIG_NAME
        return (default, read.yaml_file(default)) if default.is_file() else (None, {})
    chosen = here.folder / read.path(str(named), "config")
    return chosen, read.yaml_file(chosen)


def _refuse_empty_sections(file: Path | None, data: Mapping[str, Any], urls: Mapping[str, str | None]) -> None:
    """A file, or a section, that was left empty by what should have filled it doesn't mean the embedded stores.

    Args:
        urls: by section, what is given instead.

    Raises:
        ConfigError: naming it.
    """
    for name, url in urls.items():
        if name in data and not data[name] and not url:
            raise read.empty_key(name)
    if file is not None and not data and not urls["qdrant"] and not file.read_text(encoding="utf-8-sig").strip():
        raise ConfigError(
            f"the settings file {file} is empty", hint="write it again, or remove it for the defaults: embedded stores"
        )


@cache
def _readers(section: type) -> Mapping[str, Callable[[Any, str], Any]]:
    """Key -> what converts its value; looked up once, since the hints of a section are text."""
    hints = get_type_hints(section, include_extras=True)
    return {name: hint.__metadata__[0] for name, hint in hints.items() if hasattr(hint, "__metadata__")}


def _values(section: type, data: Mapping[str, Any], at: str, source: ValueContext) -> dict[str, Any]:
    """The keys that were given, converted; ``null`` means the default."""
    readers = _readers(section)
    read.check_keys(data, readers, at)
    given = [name for name in readers if data.get(name) is not None]
    found = {name: readers[name](data[name], f"{at}.{name}") for name in given}
    return {name: _rooted(one, source) for name, one in found.items()}


def _rooted(value: Any, source: ValueContext) -> Any:
    """A path as seen from the settings; any other value as it is."""
    if isinstance(value, ApprovalSettings):
        return replace(value, image_roots=tuple(str(source.folder / one) for one in value.image_roots))
    return source.folder / value if isinstance(value, Path) else value


def _qdrant(data: dict[str, Any], url: str | None, source: ValueContext) -> QdrantSettings:
    known = [entry.name for entry in fields(QdrantSettings) if entry.name != "api_key"]
    read.check_keys(data, [*known, "api_key_env"], "qdrant")
    named = data.pop("api_key_env", None)
    values = _values(QdrantSettings, data, "qdrant", source)
    if url:
        values["url"] = read.server_url(url, "the URL of Qdrant")
        values.pop("path", None)
    elif empty := next((name for name in ("url", "path") if name in data and name not in values), None):
        raise read.empty_key(f"qdrant.{empty}")
    elif "url" in values and "path" in values:
        raise ConfigError("qdrant has both url and path: a server and local mode; keep one of them")
    elif "url" not in values:
        values.setdefault("path", source.folder / ".qmigrate" / "qdrant")
    values.update(read.split_prefix(values.get("url"), values.get("prefix", "")))
    port = source.environ.get("QMIGRATE_QDRANT_GRPC_PORT")
    if port is not None:
        values["grpc_port"] = _port(port)
    host = source.environ.get("QMIGRATE_QDRANT_GRPC_HOST")
    if host is not None:
        values["grpc_host"] = read.host(host, "QMIGRATE_QDRANT_GRPC_HOST")
    key = source.environ.get("QMIGRATE_QDRANT_API_KEY")
    if key is None and named is not None:
        key = source.environ.get(read.variable_name(named, "qdrant.api_key_env"))
        if key is not None and not key.strip():
            raise read.empty_variable(named)
    return QdrantSettings(**values, api_key=key)


def _refuse_impossible_ledger(folder: Path) -> None:
    """The default ledger is made in a folder next to the settings; in an image that is often read-only."""
    there = folder
    while not there.exists() and there != there.parent:
        there = there.parent
    if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
        raise ConfigError(
            f"no ledger is configured, and the default, a SQLite file in {folder}, can't be written: {there} is "
            f"{'read-only for this user' if there.is_dir() else 'not a folder'}",
            hint="set QMIGRATE_LEDGER_URL, or ledger.url in qmigrate.yaml, to your SQL database",
        )


def _port(written: str) -> int:
    """The gRPC port that the environment names."""
    name = "QMIGRATE_QDRANT_GRPC_PORT"
    if not written.strip().isascii() or not written.strip().isdigit():
        raise ConfigError(f"{name}: expected a port such as 6334, got {written!r}")
    found: int = read.integer_between(1, 65535)(int(written), name)
    return found


def _ledger(data: dict[str, Any], url: str | None, here: ValueContext, source: ValueContext) -> LedgerSettings:
    read.check_keys(data, ["url", "url_env", "url_file", "schema", "file_systems"], "ledger")
    schema = None if data.get("schema") is None else read.text(data["schema"], "ledger.schema")
    systems = read.listed(read.text)(data.get("file_systems") or [], "ledger.file_systems")
    if url:
        chosen = read.sql_url(url, "the URL of the ledger", here, ledger=True)
        return LedgerSettings(url=chosen, schema=schema, file_systems=systems)
    found, missing = read.indirect_url(data, "ledger", source, ledger=True)
    if missing:
        raise ConfigError(f"ledger: {missing}", hint="set it, or pass --ledger-url")
    if found is not None:
        return LedgerSettings(url=found, schema=schema, file_systems=systems)
    default = f"sqlite:///{source.folder / '.qmigrate' / 'ledger.db'}"
    return LedgerSettings(url=default, schema=schema, defaulted=True, file_systems=systems)


def _sql(data: dict[str, Any], source: ValueContext) -> SqlSettings:
    read.check_keys(data, ["url", "url_env", "url_file", "version_table", "version_table_schema", "config"], "sql")
    url, missing = read.indirect_url(data, "sql", source)
    if missing:
        raise ConfigError(f"sql: {missing}", hint="set it, or leave it out if Alembic uses the ledger's database")
    others = {name: value for name, value in data.items() if not name.startswith("url")}
    return SqlSettings(url=url, **_values(SqlSettings, others, "sql", source))


def _database(name: str, data: Any, source: ValueContext) -> DatabaseSettings:
    at = f"databases.{name}"
    entry = read.mapping(data, at)
    read.check_keys(entry, ["url", "url_env", "url_file"], at)
    url, missing = read.indirect_url(entry, at, source)
    if url is None and not missing:
        missing = "none of url, url_env and url_file is given"
    return DatabaseSettings(url=url, missing=missing)


def _scripts(written: Any, chosen: str | Path | None, here: ValueContext, source: ValueContext) -> Path:
    if chosen:
        return here.folder / read.path(str(chosen), "scripts")
    return source.folder / read.path("qdrant_migrations" if written is None else written, "scripts")


def _declared(written: Any) -> str | None:
    """Where the declaration is."""
    found = None if written is None else read.text(written, "declared")
    if found == "":
        raise read.empty_key("declared")
    return found


def _embedders(data: Mapping[str, Any], at: str, source: ValueContext) -> dict[str, Mapping[str, Any]]:
    found: dict[str, Mapping[str, Any]] = {}
    for name, value in data.items():
        entry = read.mapping(value, f"{at}.{name}")
        if not isinstance(entry.get("type"), str):
            raise ConfigError(f"{at}.{name} has no type", hint="for example: type: hashing")
        if entry.get("image_roots") is not None:
            roots = read.listed(read.path)(entry["image_roots"], f"{at}.{name}.image_roots")
            entry["image_roots"] = [str(source.folder / root) for root in roots]
        if entry["type"] == "callable":
            # Without a settings file the current folder is not a project.
            default = ["."] if source.is_project else []
            folders = read.listed(read.path)(entry.get("sys_path", default) or [], f"{at}.{name}.sys_path")
            entry["sys_path"] = [str(source.folder / one) for one in folders]
        if entry.get("api_key_file") is not None:
            file = read.path(entry["api_key_file"], f"{at}.{name}.api_key_file")
            entry["api_key_file"] = str(source.folder / file)
        if isinstance(entry.get("tokenizer"), str):
            entry["tokenizer"] = str(source.folder / Path(entry["tokenizer"]).expanduser())
        for key in ("model", "pretrained", "cache_dir", "cache_folder"):
            if isinstance(entry.get(key), str):
                entry[key] = _placed(entry[key], source)
        found[name] = entry
    return found


def _placed(written: str, source: ValueContext) -> str:
    """A folder or file of a model that is written like one (``./models/x``), as seen from the settings."""
    schema, bare = ("local-dir:", written[10:]) if written.startswith("local-dir:") else ("", written)
    if not schema and not bare.startswith(("./", "../", "~/")):
        return written
    return f"{schema}{source.folder / Path(bare).expanduser()}"


def _fixes(data: Mapping[str, Any], source: ValueContext) -> FixSettings:
    exports = {"exports": source.folder / FixSettings().exports}
    return FixSettings(**exports | _values(FixSettings, data, "fixes", source))


def _overrides(data: Mapping[str, Any], source: ValueContext) -> dict[str, CollectionOverride]:
    refuse_globs(data)
    return {name: _override(name, value, source) for name, value in data.items()}


def _override(name: str, data: Any, source: ValueContext) -> CollectionOverride:
    at = f"collections.{name}"
    entry = read.mapping(data or {}, at)
    read.check_keys(entry, ["rebuild", "fixes", "embedders"], at)
    rebuild = read.mapping(entry.get("rebuild") or {}, f"{at}.rebuild")
    fixes = read.mapping(entry.get("fixes") or {}, f"{at}.fixes")
    read.check_keys(fixes, _FIXES_OF_ONE, f"{at}.fixes")
    embedders = read.mapping(entry.get("embedders") or {}, f"{at}.embedders")
    return CollectionOverride(
        fixes=_values(FixSettings, fixes, f"{at}.fixes", source),
        rebuild=_values(RebuildSettings, rebuild, f"{at}.rebuild", source),
        embedders=_embedders(embedders, f"{at}.embedders", source),
    )


def _refuse_lost_ledger(settings: Settings) -> None:
    """A ledger that was not chosen would be a file in a container, which may not even be able to write it."""
    url = settings.qdrant.url
    if settings.ledger.defaulted:
        _refuse_impossible_ledger(settings.folder / ".qmigrate")
    if url and settings.ledger.defaulted and not read.is_this_host(url):
        raise ConfigError(
            f"Qdrant is on another host ({read.authority(url)}), but no ledger is configured: the default is "
            "a SQLite file on this host, and what it records would be lost with this container",
            hint="set QMIGRATE_LEDGER_URL, or ledger.url in qmigrate.yaml, to your SQL database; "
            "to use a file on this host anyway: sqlite:///.qmigrate/ledger.db",
        )
