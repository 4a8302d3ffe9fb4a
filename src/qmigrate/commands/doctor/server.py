"""Qdrant itself: reach, versions of all nodes, cluster, clocks, room. It reads no collection's inside."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path

from qmigrate.commands.doctor.deployment import SKEW, Deployment, some
from qmigrate.commands.results import Check
from qmigrate.engine.points.base import ENTRY_SIZE
from qmigrate.errors import StoreError
from qmigrate.ledger import examine
from qmigrate.ledger.schema import HEAD
from qmigrate.model.health import ClusterHealth, KeyRights
from qmigrate.model.state import MINIMUM_SERVER, OPERATION_IDS_SINCE, Capabilities, LiveCollection, OpenRun
from qmigrate.model.weight import Weight
from qmigrate.store.server.examine import MOST_COLLECTIONS
from qmigrate.text import counted, documented, quote, size

#: What a verb needs of the key, the least first.
#: ``none`` doesn't open Qdrant, or can do without it · ``any`` a key that is let in · ``read`` reading everything ·
#: ``rw`` writing and snapshots of the collection, besides reading everything · ``manage`` making collections and
#: moving aliases.
#: A table here, not a word at each command: the command line is a layer above doctor, and some rows are of an option.
#: A verb, or an option that may need more, without a row fails tests/scenarios/test_rights.py.
NEEDS: Mapping[str, str] = {
    "init": "none",
    "revision": "none",
    "check --offline": "none",
    "schema": "none",
    "history": "none",
    "heads": "none",
    "branches": "none",
    "show": "none",
    "squash": "none",
    "edit": "none",
    "completion": "none",
    "init --guided": "any",
    "repair --accept": "none",
    "repair --unlock": "none",
    "export show": "none",
    "jobs": "none",
    "requests list": "none",
    "requests show": "none",
    "approve": "none",
    "reject": "none",
    "wait": "any",
    "doctor": "any",
    "status": "read",
    "plan": "read",
    "check": "read",
    "verify": "read",
    "evaluate": "read",
    "try-models": "read",
    "metrics": "read",
    "serve": "read",
    "fix stats": "read",
    "fix quarantine": "none",
    "snapshot list": "read",
    "revision --from-drift": "read",
    "revision --from-live": "read",
    "snapshot create --archive": "read",
    "snapshot create": "rw",
    "snapshot delete": "rw",
    "stamp": "manage",
    "adopt": "manage",
    "upgrade": "manage",
    "cutover": "manage",
    "rollback": "manage",
    "abort": "manage",
    "gc": "manage",
    "snapshot restore": "manage",
    "fix sync": "manage",
    "fix delete": "manage",
    "fix orphans": "manage",
    "fix reset": "manage",
    "fix retrain": "manage",
    "fix undo": "manage",
    "fix quarantine --retry": "manage",
    "repair --leftovers": "manage",
    "repair --name": "manage",
    "repair --vanished": "manage",
    "repair --schema": "manage",
    "worker": "manage",
    "requests run": "manage",
}
#: By level of the key: need -> ``yes``, ``no``, or ``partly``: for the collections that the key names.
ANSWERS: Mapping[str, Mapping[str, str]] = {
    "manage": {"none": "yes", "any": "yes", "read": "yes", "rw": "yes", "manage": "yes"},
    "read": {"none": "yes", "any": "yes", "read": "yes", "rw": "no", "manage": "no"},
    "limited": {"none": "yes", "any": "yes", "read": "partly", "rw": "partly", "manage": "no"},
    "none": {"none": "yes", "any": "no", "read": "no", "rw": "no", "manage": "no"},
}
_KEY = f"a key that may manage collections: {documented('rights', 'Keys of Qdrant')}"


def verbs_of(rights: KeyRights) -> dict[str, str]:
    """Verb -> ``yes``, ``partly`` or ``no``."""
    answers = dict(ANSWERS[rights.level])
    if rights.level == "limited" and "rw" not in rights.collections.values():
        answers["rw"] = "no"
    if rights.level == "limited" and not any(access in ("r", "rw") for access in rights.collections.values()):
        # prw: points only. Not even the state of a collection's shards can be read.
        answers["read"] = "no"
    return {verb: answers[need] for verb, need in NEEDS.items()}


def of_key(patient: Deployment) -> Iterator[Check]:
    """Verbs that this key is enough for."""
    rights = patient.rights()
    verbs = verbs_of(rights)
    facts = {"level": rights.level, "verbs": verbs, "collections": dict(rights.collections)}
    what = "the key" if rights.sent else "no key"
    if rights.level == "manage":
        shown = f"{what} may do everything"
        if not rights.sent:
            shown = "the server requires no key: any client may do everything"
        hint = None if rights.sent else "give it one: service.api_key in Qdrant's config"
        yield Check("rights", True if rights.sent else None, shown, hint, facts=facts)
        return
    if rights.level == "read":
        able, unable = _split(verbs)
        detail = f"{what} may only read: enough for {able}; not for {unable}"
        yield Check("rights", None, detail, f"for upgrade and the like: {_KEY}", facts=facts)
        return
    if rights.level == "limited":
        hint = f"use a key that reads everything, or {_KEY}"
        yield Check("rights", None, _limited(rights), hint, warns=True, facts=facts)
        return
    yield Check("rights", None, f"{what} is rejected, so no verb that opens Qdrant can be used", facts=facts)


def _split(verbs: Mapping[str, str]) -> tuple[str, str]:
    able = [verb for verb, answer in verbs.items() if answer == "yes" and NEEDS[verb] not in ("none", "any")]
    unable = [verb for verb, answer in verbs.items() if answer == "no"]
    return some(able, len(able)), some(unable, len(unable))


def _limited(rights: KeyRights) -> str:
    listed = [f"{name} ({access})" for name, access in sorted(rights.collections.items())]
    more = f" (the first {MOST_COLLECTIONS} were tried)" if len(listed) == MOST_COLLECTIONS else ""
    seen = f"it sees {some(listed)}{more}" if listed else "it sees no collection"
    return (
        f"the key is limited to some collections: {seen}; what it doesn't see looks as if it were gone, and no upgrade "
        "can be made with it"
    )


#: Minor versions that client and server may be apart, as the client library has it.
MOST_APART = 1
#: Collections whose points are weighed to find the one whose copy takes most.
WEIGHED = 5


def connected(patient: Deployment) -> Iterator[Check]:
    """It answers, and lets its names be read."""
    able = patient.store().capabilities
    found = f"{counted(len(patient.physical()), 'collection')}, {counted(len(patient.aliases()), 'alias', 'aliases')}"
    facts = {"label": able.label, "local": able.local, "nodes": able.nodes, "missing": _missing(able)}
    missing = _missing(able)
    shown = f"not available: {', '.join(missing)}" if missing else "everything available"
    yield Check("qdrant", True, f"{able.label}; {found}; {shown}", facts=facts)


def _missing(can: Capabilities) -> list[str]:
    return [
        label
        for label, there in (
            ("snapshots", can.snapshots),
            ("payload indexes", can.payload_indexes),
            ("named vectors on a live collection", can.vector_names),
            ("operation ids (barriers)", can.barrier or can.local),
        )
        if not there
    ]


def nodes(patient: Deployment) -> Iterator[Check]:
    """Every node that the settings name answers."""
    found = patient.nodes()
    # The first one is the one that is asked for everything else: when it is down, that is reported already.
    for node in found[1:] if patient.broken("store") else found:
        if node.problem is not None:
            yield Check(f"node {node.label}", False, node.problem, node.hint, 9)
        elif node.recovery_mode:
            detail = "it runs in recovery mode: collections are not loaded, and nothing can be migrated"
            hint = "repair what made it necessary, and start it without QDRANT__STORAGE__RECOVERY_MODE"
            yield Check(f"node {node.label}", False, detail, hint, 9)
    reached = [node for node in found if node.problem is None]
    if len(found) > 1 and len(reached) == len(found):
        slowest = max(node.seconds for node in reached) * 1000
        yield Check("nodes", True, f"{len(found)} answer, the slowest in {slowest:.0f} ms")


def versions(patient: Deployment) -> Iterator[Check]:
    """Of every node, and of peers that are not watched; mixed ones are a rolling upgrade under way."""
    told = {node.label: _shown(node.version) for node in patient.nodes() if node.version is not None}
    if not patient.broken("cluster"):
        told.update({peer.uri: peer.version for peer in patient.cluster().peers if peer.version and not peer.watched})
    oldest = min(node.version for node in patient.nodes() if node.version is not None)
    facts = {"nodes": told, "minimum": _shown(MINIMUM_SERVER)}
    if oldest < MINIMUM_SERVER:
        # Reported by the check "qdrant", which can't connect to it.
        return
    different = sorted(set(told.values()))
    if len(different) > 1:
        shadowed = [] if patient.broken("aliases") else [n for n in patient.aliases() if n in patient.physical()]
        detail = f"nodes of different versions: {', '.join(f'{label} {shown}' for label, shown in told.items())}"
        if shadowed:
            detail += f"; {some(shadowed)} hides a plain collection of its name, which versions treat differently"
            hint = "finish the upgrade of Qdrant now, and migrate nothing before; then qmigrate gc"
            yield Check("versions", False, detail, hint, 9, facts=facts)
        else:
            hint = "finish the upgrade of Qdrant before you migrate"
            yield Check("versions", None, detail, hint, warns=True, facts=facts)
        return
    yield Check("versions", True, f"Qdrant {different[0]} everywhere, {_shown(MINIMUM_SERVER)} is needed", facts=facts)
    if oldest < OPERATION_IDS_SINCE:
        detail = f"Qdrant {different[0]} reports no operation ids: after each swap the old generation is read once more"
        hint = f"upgrade Qdrant to {_shown(OPERATION_IDS_SINCE)} or newer, one minor version at a time"
        yield Check("operation ids", None, detail, hint, facts=facts)


def client(patient: Deployment) -> Iterator[Check]:
    """The client library speaks the server's version."""
    shown = version("qdrant-client")
    found = re.match(r"(\d+)\.(\d+)", shown)
    told = patient.reached().version
    if found is None or told is None:
        return
    ours = (int(found[1]), int(found[2]))
    facts = {"client": shown, "server": _shown(told)}
    if ours[0] != told[0] or abs(ours[1] - told[1]) > MOST_APART:
        detail = f"qdrant-client {shown} and Qdrant {_shown(told)} are more than one minor version apart"
        hint = f'pip install "qdrant-client=={told[0]}.{told[1]}.*", or upgrade Qdrant'
        newer = "; settings that only one of them has are refused, never dropped"
        yield Check("client", None, detail + newer, hint if ours < told[:2] else "upgrade Qdrant", facts=facts)
        return
    yield Check("client", True, f"qdrant-client {shown} fits Qdrant {_shown(told)}", facts=facts)


def points_port(patient: Deployment) -> Iterator[Check]:
    """Points travel over gRPC, on a port of its own, and reach the same server."""
    # First, since it fails at once where nothing listens, and a page would be asked for again and again.
    where = patient.points_at()
    for name in sorted(patient.live())[:1]:
        with suppress(StoreError):
            # The first page shows whether it is; other trouble with a collection is reported by checks of its own.
            next(iter(patient.store().scan(name, page=1, payload=False, vectors=False)), None)
    yield Check("points", True, f"gRPC answers at {where}")


def cluster(patient: Deployment) -> Iterator[Check]:
    """Consensus works, every peer is watched, nothing is waiting."""
    if not patient.broken("rights") and not patient.rights().reads:
        yield Check("cluster", None, "the key may not ask for it", "use a key that may read everything")
        return
    found = patient.cluster()
    if not found.enabled:
        yield Check("cluster", True, "a single node")
        return
    facts = {
        "peers": {peer.uri: peer.version for peer in found.peers},
        "unwatched": [peer.uri for peer in found.peers if not peer.watched],
        "pending": found.pending,
        "consensus": found.consensus,
    }
    trouble = _cluster_trouble(found)
    if trouble:
        hint = "wait until the cluster has recovered (GET /cluster on each node), then run again"
        yield Check("cluster", False, "; ".join(trouble), hint, 9, facts=facts)
    else:
        yield Check("cluster", True, f"{counted(len(found.peers), 'node')}, consensus works", facts=facts)
    if found.pending:
        detail = f"{counted(found.pending, 'operation')} not applied by the consensus yet"
        yield Check("consensus", None, detail, "run it again in a moment: qmigrate doctor", warns=True, facts=facts)


def _cluster_trouble(found: ClusterHealth) -> list[str]:
    trouble = [] if found.leader else ["the cluster has no leader"]
    if not found.consensus.startswith(("working", "unknown")):
        trouble.append(f"the consensus thread is {found.consensus}")
    return trouble + [f"messages can't be sent to {failure}" for failure in found.failures]


def barriers(patient: Deployment) -> Iterator[Check]:
    """On a server that reports operation ids, they are read from every node."""
    able = patient.store().capabilities
    if able.barrier or able.version < OPERATION_IDS_SINCE:
        return
    unwatched = [] if patient.broken("cluster") else [p.uri for p in patient.cluster().peers if not p.watched]
    detail = "operation ids of every shard can't be read, so late writes could be missed: a rebuild is refused"
    if unwatched:
        hint = "name every node under qdrant.nodes in qmigrate.yaml"
        yield Check("barriers", None, f"{detail}; not watched: {some(unwatched)}", hint, warns=True)
    else:
        yield Check("barriers", None, detail, "use a key that may read telemetry and the cluster", warns=True)


def server_clock(patient: Deployment) -> Iterator[Check]:
    """Tokens expire by the server's clock, and snapshots carry its times."""
    told = [(node.label, node.skew) for node in patient.nodes() if node.skew is not None]
    for label, skew in told:
        found = SKEW.judge("server clock", f"Qdrant at {label}", skew)
        if found.ok is not True or len(told) == 1:
            yield found
    if len(told) > 1 and all(abs(skew) <= SKEW.warns for _, skew in told):
        yield Check("server clock", True, f"{len(told)} nodes and this machine agree")


#: Bytes from which a figure is a system's way to say that there is no limit.
_LIMITLESS = 1 << 60


def ram(patient: Deployment) -> Iterator[Check]:
    """Whether the biggest collection fits twice."""
    name, needed = _biggest(patient)
    if patient.local:
        free = available_memory()
        if free is not None and free < _LIMITLESS:
            what = f"{size(free)} of RAM are free here, where local mode keeps every point"
            yield _room("RAM", what, free, name, needed)
        return
    for node in patient.nodes():
        if node.ram is None or node.resident is None:
            if node.problem is None:
                yield Check("RAM", None, f"{node.label} doesn't report its memory (to this key)")
            continue
        free = max(0, node.ram - node.resident)
        held = f"{node.label} holds {size(node.resident)} of its machine's {size(node.ram)}"
        what = f"{held}; a container's limit is not reported"
        facts = {"ram": node.ram, "resident": node.resident}
        yield _room("RAM", what, free, name, needed, facts)


def disk(patient: Deployment) -> Iterator[Check]:
    """The same for the disk, where it is known: a server never reports how much is free."""
    name, needed = _biggest(patient)
    folder = patient.settings.qdrant.path
    if folder is not None:
        place = next(one for one in (folder, *folder.absolute().parents) if one.exists())
        free = shutil.disk_usage(place).free
        if free >= _LIMITLESS:
            yield Check("disk", True, f"{folder} is on a file system that reports no limit")
            return
        yield _room("disk", f"{size(free)} of disk are free in {folder}", free, name, needed)
        return
    for node in patient.nodes():
        if node.problem is not None:
            continue
        told = f"{size(node.disk)} in all" if node.disk else "not even its size"
        copy = f"; a copy of {name}, the biggest collection, takes about {size(needed)} more" if name else ""
        detail = f"free disk of {node.label} is not reported by the server ({told}){copy}"
        facts = {"disk": node.disk, "free": None, "needed": needed}
        yield Check("disk", None, detail, "check it there: df -h, in Qdrant's storage folder", facts=facts)


def number(patient: Deployment) -> Iterator[Check]:
    """A rebuild makes one more collection, and a server may have a limit."""
    most = patient.reached().most_collections
    if most is None:
        return
    have = len(patient.physical())
    facts = {"collections": have, "most": most}
    if have >= most:
        detail = f"the server has {have} collections and allows at most {most}: no rebuild can start"
        hint = "qmigrate gc --dry-run shows what can go; or raise storage.max_collections of the server"
        yield Check("number of collections", False, detail, hint, 9, facts=facts)
    else:
        yield Check("number of collections", True, f"{have} of at most {most}", facts=facts)


def _room(
    name: str, what: str, free: int, biggest: str, needed: int, facts: Mapping[str, int] | None = None
) -> Check:
    known = {**(facts or {}), "free": free, "needed": needed}
    if not biggest:
        return Check(name, True, what, facts=known)
    detail = f"{what}; a copy of {biggest}, the biggest collection, takes about {size(needed)}"
    if free < needed:
        hint = "make room before it is rebuilt; on_disk vectors and payload need little RAM"
        return Check(name, None, detail, hint, warns=True, facts=known)
    return Check(name, True, detail, facts=known)


def _biggest(patient: Deployment) -> tuple[str, int]:
    """The collection whose copy takes most: its physical name ("" where there is none), and the bytes."""
    told = {} if patient.broken("stored") else patient.stored()
    sizes = {name: (told[name].bytes if name in told else None) or 0 for name in patient.used()}
    rough = {name: max(sizes[name], _rough(live)) for name, live in patient.used().items()}
    largest = sorted(rough, key=lambda name: rough[name], reverse=True)[:WEIGHED]
    best = {name: max(sizes[name], patient.weighed(name, patient.used()[name])) for name in largest}
    return max(best.items(), key=lambda entry: entry[1], default=("", 0))


def _rough(live: LiveCollection) -> int:
    """By its declaration alone."""
    return live.points * Weight().per_point(live.schema)


def available_memory() -> int | None:
    """Bytes of RAM that programs can still get here; None where the system doesn't report it."""
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    found = next((line for line in lines if line.startswith("MemAvailable:")), None)
    return int(found.split()[1]) * 1024 if found else None


def _shown(value: tuple[int, int, int]) -> str:
    return ".".join(map(str, value))


#: A ledger whose statements take longer makes an upgrade wait for SQL, in seconds.
SLOW = 0.1


def reached(patient: Deployment) -> Iterator[Check]:
    """It answers, and its tables are of this version."""
    ledger = patient.ledger()
    identity = ledger.identity()
    told = examine.examine_ledger(ledger.database)
    none = "no tables yet: the first command that records something (upgrade, adopt) makes them"
    known = f"identity {identity}" if identity else none
    milliseconds = told.seconds * 1000
    yield Check(
        "ledger",
        True,
        f"{ledger.url_label}, {known}; {told.server}, {milliseconds:.1f} ms a statement",
        facts={
            "identity": identity,
            "server": told.server,
            "version": told.version,
            "code_version": HEAD,
            "milliseconds": round(milliseconds, 2),
        },
    )
    if told.seconds > SLOW:
        yield Check(
            "ledger latency",
            None,
            f"one small statement took {milliseconds:.0f} ms; every checkpoint of a copy waits for several",
            "run qmigrate nearer to its database",
            warns=True,
        )


def rights(patient: Deployment) -> Iterator[Check]:
    """Its user may write every table, and make new ones."""
    found = examine.rights(patient.ledger().database)
    facts = {"lacking": list(found.lacking), "creates": found.creates}
    if found.busy:
        detail = "another process was writing all the time, so the right to write could not be tried"
        yield Check("ledger rights", None, detail, "qmigrate status shows who works", facts=facts)
    elif found.lacking:
        detail = f"plan, status and check can be used; upgrade can't: no right to {some(found.lacking)}"
        hint = f"the grants: {documented('rights', 'SQL of the ledger')}"
        yield Check("ledger rights", None, detail, hint, warns=True, facts=facts)
    elif not found.creates and not patient.ledger().ready():
        detail = "there are no tables yet, and this user may not make them"
        hint = "run the first upgrade or adopt as a user who may, or grant CREATE on the schema: "
        hint += documented("rights", "SQL of the ledger")
        yield Check("ledger rights", None, detail, hint, warns=True, facts=facts)
    elif not found.creates:
        detail = "it may write every table, but not create one: a newer qmigrate that needs new ones would stop"
        yield Check("ledger rights", True, detail, facts=facts)
    else:
        yield Check("ledger rights", True, "it may read, write and create tables", facts=facts)


def room(patient: Deployment) -> Iterator[Check]:
    """A rebuild keeps some bytes per point in the ledger."""
    found = examine.free_disk(patient.ledger().database)
    if found is None:
        yield Check("ledger room", None, "a database server does not report its free disk")
        return
    folder, free = found
    points = 0 if patient.broken("live") else max((one.points for one in patient.live().values()), default=0)
    # The old pages of a base stay until the new ones are committed, and the log holds them once more.
    needed = points * ENTRY_SIZE * 3
    facts = {"folder": str(folder), "free": free, "needed": needed}
    detail = f"{size(free)} free in {folder}; a rebuild of the biggest collection needs about {size(needed)}"
    if free < needed:
        hint = "make room there, or set ledger.url to another place"
        yield Check("ledger room", False, detail, hint, 9, facts=facts)
    else:
        yield Check("ledger room", True, detail, facts=facts)


def ledger_clock(patient: Deployment) -> Iterator[Check]:
    """Leases are counted by the database's clock alone; what is kept until a date is not."""
    told = examine.examine_ledger(patient.ledger().database)
    if told.skew is None:
        yield Check("ledger clock", True, "it is this machine's")
        return
    yield SKEW.judge("ledger clock", "the database", told.skew)


def leases(patient: Deployment) -> Iterator[Check]:
    """Who works right now."""
    for row in patient.ledger().leases():
        if not row.expired:
            detail = f"held by {row.owner} on {row.host} until {row.expires_at:%H:%M:%S}"
            facts = {"owner": row.owner, "host": row.host, "epoch": row.epoch, "expires_at": row.expires_at}
            yield Check(f"lease {row.name}", None, detail, facts=facts)


def runs(patient: Deployment) -> Iterator[Check]:
    """Runs that no process works on and that are not finished."""
    for run in patient.ledger().open_runs():
        if run.leased:
            continue
        name = run.job.collection
        detail = f"{run.verb} of {run.started_at:%Y-%m-%d %H:%M} UTC on {run.host} {_ended(run)}"
        facts = {"run": run.id, "state": run.state, "verb": run.verb, "error": run.error}
        hint = f"qmigrate cutover {quote(name)} finishes it"
        if run.state != "held":
            hint = f"resume it: qmigrate upgrade; or undo it: qmigrate abort {quote(name)}"
        yield Check(f"run of {name}", None, detail, hint, warns=run.state != "held", facts=facts)


def _ended(run: OpenRun) -> str:
    phase = f" in {run.records[-1].phase}" if run.records else ""
    if run.state == "failed":
        return f"failed{phase}: {run.error or 'no reason recorded'}"
    if run.state == "held":
        return "is built and held until its cut-over"
    total = f", {run.done_points:,} of {counted(run.total_points, 'point')}" if run.total_points else ""
    return f"was interrupted{phase}{total}"
