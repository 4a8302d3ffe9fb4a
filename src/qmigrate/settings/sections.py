"""The sections of the settings that only hold values: how to rebuild, how to fix, how far to go. They read no file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, get_type_hints

from qmigrate.errors import ConfigError
from qmigrate.settings import console
from qmigrate.settings import values as read
from qmigrate.settings.approval import ApprovalSettings, approval

_WRITES = read.choice("converge", "freeze", "refuse", "auto")


def read_room(value: Any, at: str) -> float:
    """A number; 0 is none of it."""
    return 0.0 if value == 0 and not isinstance(value, bool) else read.positive(value, at)


@dataclass(frozen=True, slots=True)
class RaySettings:
    """Where the workers of ``engine: ray`` run.

    Attributes:
        address: of the cluster; ``auto`` is that of ``RAY_ADDRESS``, else the one this machine belongs to; ``local``
            starts Ray on this machine for the run.
        workers: how many; None for as many as there is room for.
        num_gpus: of each, also parts of one.
        num_cpus: of each.
        runtime_env: as Ray takes it. Ray keeps it in clear, so no secret belongs there.
    """

    address: Annotated[str, read.text] = "auto"
    workers: Annotated[int | None, read.automatic(read.integer_between(1, 4096))] = None
    num_gpus: Annotated[float, read_room] = 1.0
    num_cpus: Annotated[float, read_room] = 1.0
    runtime_env: Annotated[Mapping[str, Any], read.mapping] = field(default_factory=dict, repr=False)


def read_ray(value: Any, at: str) -> RaySettings:
    """Keys of its own."""
    data = read.mapping(value, at)
    hints = get_type_hints(RaySettings, include_extras=True)
    read.check_keys(data, hints, at)
    given = {name: one for name, one in data.items() if one is not None}
    return RaySettings(**{name: hints[name].__metadata__[0](one, f"{at}.{name}") for name, one in given.items()})


@dataclass(frozen=True, slots=True)
class BudgetSettings:
    """What one rebuild may spend on embedding; it stops at a checkpoint before it spends more, with exit code 12.

    Attributes:
        money: by the ``price`` of its embedders; None for no limit.
        tokens: as the embedders count them, such as ``40M``; None for no limit.
    """

    money: Annotated[float | None, read.positive] = None
    tokens: Annotated[int | None, read.amount] = None


def read_budget(value: Any, at: str) -> BudgetSettings:
    """Keys of its own."""
    data = read.mapping(value, at)
    hints = get_type_hints(BudgetSettings, include_extras=True)
    read.check_keys(data, hints, at)
    given = {name: one for name, one in data.items() if one is not None}
    return BudgetSettings(**{name: hints[name].__metadata__[0](one, f"{at}.{name}") for name, one in given.items()})


@dataclass(frozen=True, slots=True)
class RebuildSettings:
    """How a collection is rebuilt next to the live one.

    Attributes:
        writes: ``converge`` carries what is written since; ``freeze`` has the source refuse writes from the last
            pass until the swap; ``refuse`` stops when anything is written; ``auto`` is ``freeze`` where that pause is
            expected to be shorter than ``limits.write_pause``, else ``converge``.
        snapshot: ``auto`` takes a server-side snapshot first where the server can; ``off`` never.
        verify: ``full``: every point is proven.
        holdover: how long the old generation is kept from the swap on, in seconds; a later value changes no earlier
            promise.
        ranges: shares of the id space that are copied side by side; None lets qmigrate choose.
        workers: ranges in work at the same time, in each process.
        devices: those that vectors are made on, one worker process for each, as ``[cuda:0, cuda:1]``; None takes every
            GPU of this machine where an embedder leaves its ``device`` open, and no process of its own for one.
        engine: who starts workers besides this process: ``local``, by `devices`, or ``ray``.
        ray: where those of ``engine: ray`` run.
        sample: points that are embedded a second time for the proof.
        fuse: pending revisions of one collection copy the data once.
        max_rate: most points per second; None for no limit.
        max_latency: what searches on the live collection may take while points are copied and proven, by the 99th
            percentile of searches that are made for that: both become slower where they take longer. None sends none.
        plain_names: ``auto`` hides a plain collection behind an alias of its name where the server can; ``gap`` never
            does: the collection is deleted and aliased with a gap of some milliseconds (``--allow-gap``).
        gc: ``auto`` retires what is past its holdover when an upgrade starts; ``off`` leaves it there.
        on_failure: what becomes of a point that can't be embedded, where the revision doesn't set it: ``stop`` the run,
            ``keep_without_vector``, or ``drop`` it.
        budget: what may be spent on embedding; None for no limit.
        keep_snapshots: export snapshots to ``fixes.exports`` before their generation is retired; else delete them.
    """

    writes: Annotated[str, _WRITES] = "converge"
    snapshot: Annotated[str, read.choice("auto", "off")] = "auto"
    verify: Annotated[str, read.choice("full")] = "full"
    holdover: Annotated[float, read.duration] = 7 * 86400.0
    ranges: Annotated[int | None, read.automatic(read.integer_between(1, 65536))] = None
    workers: Annotated[int, read.integer_between(1, 256)] = 4
    devices: Annotated[tuple[str, ...] | None, read.automatic(read.listed(read.text))] = None
    engine: Annotated[str, read.choice("local", "ray")] = "local"
    ray: Annotated[RaySettings, read_ray] = field(default_factory=RaySettings)
    sample: Annotated[int, read.integer_between(0, 1_000_000)] = 200
    fuse: Annotated[bool, read.flag] = True
    max_rate: Annotated[float | None, read.positive] = None
    max_latency: Annotated[float | None, read.positive_duration] = None
    plain_names: Annotated[str, read.choice("auto", "gap")] = "auto"
    gc: Annotated[str, read.choice("auto", "off")] = "auto"
    on_failure: Annotated[str, read.choice("stop", "keep_without_vector", "drop")] = "stop"
    budget: Annotated[BudgetSettings | None, read_budget] = None
    keep_snapshots: Annotated[bool, read.flag] = False


@dataclass(frozen=True, slots=True)
class FixSettings:
    """How points are deleted and changed on purpose.

    Attributes:
        exports: folder of the files that an undo needs.
        undo: how long a fix can be undone, in seconds.
        max_share: largest share of a collection that one fix may remove, 0 to 1.
        soft_delete: how long points that were only marked as deleted are kept by `gc`, in seconds.
        tenants: collection or glob -> payload field for the tenant of a point: deletions there name a tenant.
        presets: named fixes, as written in the file.
        consent: whose consent counts without a terminal for what can't be undone: ``any``, that
            of every user, but an assistant has to name a person; ``named``, every command has to (``--requested-by``).
        approval: above how many points a deletion needs the approval of another person; None where none does.
        audit: how long rows of the deletion audit stay in the ledger: `gc` archives older ones to a file in
            ``exports``; None keeps all of them.
    """

    exports: Annotated[Path, read.path] = Path(".qmigrate/exports")
    undo: Annotated[float, read.duration] = 90 * 86400.0
    max_share: Annotated[float, read.share] = 0.1
    soft_delete: Annotated[float, read.duration] = 30 * 86400.0
    tenants: Annotated[Mapping[str, str], read.each(read.text)] = field(default_factory=dict)
    presets: Annotated[Mapping[str, Any], read.mapping] = field(default_factory=dict)
    consent: Annotated[str, read.choice("any", "named")] = "any"
    approval: Annotated[ApprovalSettings | None, approval] = None
    audit: Annotated[float | None, read.positive_duration] = None


@dataclass(frozen=True, slots=True)
class LimitSettings:
    """Bounds; durations in seconds.

    Attributes:
        lock_timeout: how long to wait for a lease that another process holds.
        lease_ttl: how long a lease outlives its last renewal.
        max_quarantine: how many points may fail to be embedded before a run stops: a count (``50``) or a share of the
            points (``0.01``); None for 0.1 % of them, or 10 where that is more, but never all of them.
        ready_timeout: for how long a built collection may make no headway until it is indexed.
        settle: for how long a source that is still optimizing may make no headway; what it has to do is waited for.
        freeze: how long a source may refuse writes before a swap.
        write_pause: with ``writes: auto``, the longest expected pause for which writes are refused.
    """

    lock_timeout: Annotated[float, read.duration] = 60.0
    lease_ttl: Annotated[float, read.positive_duration] = 30.0
    max_quarantine: Annotated[float | None, read.automatic(read.allowance)] = None
    ready_timeout: Annotated[float, read.positive_duration] = 1800.0
    settle: Annotated[float, read.duration] = 600.0
    freeze: Annotated[float, read.positive_duration] = 120.0
    write_pause: Annotated[float, read.positive_duration] = 1.0


@dataclass(frozen=True, slots=True)
class EstimateSettings:
    """Speeds that are assumed where neither an earlier run nor a trial shows them: for two cores without a GPU.

    Attributes:
        copy: bytes per second that are read, written, and as fast again proven.
        index: vector values per second that an HNSW graph is built from.
        embed: points per second for which one vector is embedded.
        local: points per second that the client's local mode copies and proves.
        step: what every step takes besides its points, in seconds.
    """

    copy: Annotated[float, read.positive] = 20e6
    index: Annotated[float, read.positive] = 500e3
    embed: Annotated[float, read.positive] = 50.0
    local: Annotated[float, read.positive] = 500.0
    step: Annotated[float, read.positive_duration] = 2.0


@dataclass(frozen=True, slots=True)
class SqlSettings:
    """Where Alembic's version table is, for revisions that wait for the SQL schema (``requires_sql``).

    Attributes:
        url: SQLAlchemy URL; None for the ledger's database. May hold a password, so it is never shown.
        version_table: its name.
        version_table_schema: None for the connection's default.
        config: alembic.ini; None to look for it next to qmigrate.yaml. The lint reads it, too.
    """

    url: str | None = field(default=None, repr=False)
    version_table: Annotated[str, read.text] = "alembic_version"
    version_table_schema: Annotated[str | None, read.text] = None
    config: Annotated[Path | None, read.path] = None


#: Parts that `/readyz` names itself.
_OWN_PARTS = ("qdrant", "ledger", "schema")


@dataclass(frozen=True, slots=True)
class HealthCheck:
    """A further part that `/readyz` asks; one of both.

    Attributes:
        database: the name of a database under ``databases``, which has to answer.
        function: ``module:attribute``, called without arguments; the part is well unless it raises.
    """

    database: Annotated[str | None, read.text] = None
    function: Annotated[str | None, console.function] = None


def health_checks(value: Any, at: str) -> dict[str, HealthCheck]:
    """``{pg: {database: app}, redis: {function: "app.checks:redis"}}``."""
    found = {}
    for name, given in read.mapping(value, at).items():
        here, entry = f"{at}.{name}", read.mapping(given, f"{at}.{name}")
        read.check_keys(entry, ("database", "function"), here)
        if name in _OWN_PARTS or name.startswith("embedder "):
            raise ConfigError(f"{here}: a part of that name is there already", hint="another name")
        if len(entry) != 1:
            raise ConfigError(f"{here} needs either database or function: what is asked", hint="database: app")
        if "database" in entry:
            found[name] = HealthCheck(database=console.filled(entry["database"], f"{here}.database"))
        else:
            found[name] = HealthCheck(function=console.function(entry["function"], f"{here}.function"))
    return found


@dataclass(frozen=True, slots=True)
class HealthSettings:
    """What `/readyz` asks, and how patiently; durations in seconds.

    Attributes:
        timeout: of one try.
        first: how long the first answer of a part may take in all: connecting costs more than asking again.
        retries: further tries after one that failed.
        cache: how long an answer is used again; one that failed at most one second.
        qdrant: ask whether Qdrant answers.
        ledger: ask whether the ledger's database answers.
        schema: check the collections: revisions, drift, progress.
        embedders: load every configured embedder; it may be a large model, in every process.
        require: what makes the service not ready besides a part that doesn't answer: ``serving`` (the name of a
            collection leads to what the ledger left there), ``pending`` revisions, ``drift``.
        checks: further parts by name: ``{database: app}``, one of ``databases`` that has to answer, or
            ``{function: "app.checks:redis"}``, which is called without arguments and raises where it isn't well.
    """

    timeout: Annotated[float, read.positive_duration] = 0.3
    first: Annotated[float, read.duration] = 5.0
    retries: Annotated[int, read.integer_between(0, 10)] = 2
    cache: Annotated[float, read.duration] = 10.0
    qdrant: Annotated[bool, read.flag] = True
    ledger: Annotated[bool, read.flag] = True
    schema: Annotated[bool, read.flag] = True
    embedders: Annotated[bool, read.flag] = False
    require: Annotated[tuple[str, ...], read.listed(read.choice("serving", "pending", "drift"))] = ("serving",)
    checks: Annotated[Mapping[str, HealthCheck], health_checks] = field(default_factory=dict)


#: Further variables of the health settings, as services have them: the key, and the unit of a bare number.
HEALTH_VARIABLES = {
    "PROBE_TIMEOUT_MS": ("timeout", "ms"),
    "PROBE_RETRIES": ("retries", ""),
    "PROBE_CACHE_SEC": ("cache", "s"),
    "ENABLE_QDRANT": ("qdrant", ""),
}
_FLAGS = {"true": True, "1": True, "yes": True, "on": True, "false": False, "0": False, "no": False, "off": False}


def health_of(environ: Mapping[str, str]) -> dict[str, Any]:
    """The health settings that the environment names: ``QMIGRATE_HEALTH_TIMEOUT``, else ``PROBE_TIMEOUT_MS``, ….

    Raises:
        ConfigError: naming the variable whose value can't be used.
    """
    hints = get_type_hints(HealthSettings, include_extras=True)
    # A variable has no room for what each of them asks.
    del hints["checks"]
    variables = {name: (key, unit) for name, (key, unit) in HEALTH_VARIABLES.items() if name in environ}
    # Our own names come last, and win.
    variables |= {name: (key, "") for key in hints if (name := f"QMIGRATE_HEALTH_{key.upper()}") in environ}
    found = {}
    for name, (key, unit) in variables.items():
        written = environ[name].strip()
        if not written:
            raise ConfigError(f"{name} is empty", hint="give it a value, or leave it out")
        value: Any = f"{written}{unit}" if written.replace(".", "", 1).isdigit() else written
        kind = hints[key].__args__[0] if hasattr(hints[key], "__args__") else hints[key]
        if kind is bool:
            value = _FLAGS.get(written.lower(), written)
        elif kind is int and written.isdigit():
            value = int(written)
        elif key == "require":
            value = [one.strip() for one in written.split(",") if one.strip()]
        found[key] = hints[key].__metadata__[0](value, name)
        if (name, value) == ("ENABLE_QDRANT", False):
            # Who leaves Qdrant out can't be asked for collections either.
            found["schema"] = False
    return found


@dataclass(frozen=True, slots=True)
class LintSettings:
    """What `check --offline` can't find out by itself.

    Attributes:
        run_points: points from which on a step is too long to be done inside `alembic upgrade`.
        points: logical name or glob -> how many points it has, roughly.
    """

    run_points: Annotated[int, read.integer_between(0, 10**12)] = 100_000
    points: Annotated[Mapping[str, int], read.each(read.integer_between(0, 10**12))] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class MetricSettings:
    """What `metrics` compares besides counting points.

    Attributes:
        checks: name -> ``kind`` (``orphans`` or ``sync``), ``collection``, ``sql`` and further keys of that fix.
    """

    checks: Annotated[Mapping[str, Mapping[str, Any]], read.each(read.mapping)] = field(default_factory=dict)
