"""Qdrant itself: reach, versions of all nodes, cluster, clocks, room. It reads no collection's inside."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path

from qmigrate.commands.doctor.patient import Patient
from qmigrate.commands.doctor.words import SKEW, some
from qmigrate.commands.results import Check
from qmigrate.errors import StoreError
from qmigrate.model.health import ClusterHealth
from qmigrate.model.state import MINIMUM_SERVER, OPERATION_IDS_SINCE, Capabilities, LiveCollection
from qmigrate.model.weight import Weight
from qmigrate.model.words import counted, size

#: Minor versions that client and server may be apart, as the client library has it.
MOST_APART = 1
#: Collections whose points are weighed to find the one whose copy takes most.
WEIGHED = 5


def connected(patient: Patient) -> Iterator[Check]:
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


def nodes(patient: Patient) -> Iterator[Check]:
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


def versions(patient: Patient) -> Iterator[Check]:
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


def client(patient: Patient) -> Iterator[Check]:
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


def points_port(patient: Patient) -> Iterator[Check]:
    """Points travel over gRPC, on a port of its own, and reach the same server."""
    for name in sorted(patient.live())[:1]:
        with suppress(StoreError):
            # The first page shows whether it is; other trouble with a collection is reported by checks of its own.
            next(iter(patient.store().scan(name, page=1, payload=False, vectors=False)), None)
    yield Check("points", True, f"gRPC answers at {patient.examiner().points_reachable()}")


def cluster(patient: Patient) -> Iterator[Check]:
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


def barriers(patient: Patient) -> Iterator[Check]:
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


def clock(patient: Patient) -> Iterator[Check]:
    """Tokens expire by the server's clock, and snapshots carry its times."""
    told = [(node.label, node.skew) for node in patient.nodes() if node.skew is not None]
    for label, skew in told:
        found = SKEW.judge("server clock", f"Qdrant at {label}", skew)
        if found.ok is not True or len(told) == 1:
            yield found
    if len(told) > 1 and all(abs(skew) <= SKEW.warns for _, skew in told):
        yield Check("server clock", True, f"{len(told)} nodes and this machine agree")


def ram(patient: Patient) -> Iterator[Check]:
    """Whether the biggest collection fits twice."""
    name, needed = _biggest(patient)
    if patient.local:
        free = available_memory()
        if free is not None:
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


def disk(patient: Patient) -> Iterator[Check]:
    """The same for the disk, where it is known: a server never reports how much is free."""
    name, needed = _biggest(patient)
    folder = patient.settings.qdrant.path
    if folder is not None:
        place = next(one for one in (folder, *folder.absolute().parents) if one.exists())
        free = shutil.disk_usage(place).free
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


def number(patient: Patient) -> Iterator[Check]:
    """A rebuild makes one more collection, and a server may have a limit."""
    most = patient.reached().most_collections
    if most is None:
        return
    have = len(patient.physical())
    facts = {"collections": have, "most": most}
    if have >= most:
        detail = f"the server has {have} collections and allows at most {most}: no rebuild can start"
        hint = "qmigrate gc, or raise storage.max_collections of the server"
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


def _biggest(patient: Patient) -> tuple[str, int]:
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
