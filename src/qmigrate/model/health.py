"""What a Qdrant server reports: nodes, cluster, disk space, rights of a key. Plain values, no judgement."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

Version = tuple[int, int, int]


@dataclass(frozen=True, slots=True)
class NodeHealth:
    """One node, as it answers itself.

    Attributes:
        label: ``host:port``.
        version: None where it could not be asked.
        problem: why it could not be asked, or None.
        hint: how to repair `problem`.
        seconds: how long one small request took.
        skew: how many seconds its clock is ahead of this machine's, exact to a second; None where it isn't known.
        ram: bytes of the machine that it runs on; a container's limit is not reported.
        resident: bytes that the server itself holds in RAM, mapped files left out.
        disk: bytes of the machine's disks in total; no server reports how much of them is free.
        collections: how many there are.
        most_collections: how many there may be, or None for no limit.
        recovery_mode: whether it was started in recovery mode, and takes no writes.
    """

    label: str
    version: Version | None = None
    problem: str | None = None
    hint: str | None = None
    seconds: float = 0.0
    skew: float | None = None
    ram: int | None = None
    resident: int | None = None
    disk: int | None = None
    collections: int | None = None
    most_collections: int | None = None
    recovery_mode: bool = False


@dataclass(frozen=True, slots=True)
class Peer:
    """A member of the cluster, as the cluster reports it.

    Attributes:
        watched: whether ``qdrant.nodes`` names it.
    """

    id: str
    uri: str
    version: str | None = None
    watched: bool = False


@dataclass(frozen=True, slots=True)
class ClusterHealth:
    """The cluster, as one node sees it.

    Attributes:
        enabled: False for a single node.
        pending: operations that the consensus has not applied yet.
        consensus: ``working``, or what is wrong with its thread.
        leader: whether there is one.
        failures: peers that messages can't be sent to, as ``uri: error``.
    """

    enabled: bool
    peers: tuple[Peer, ...] = ()
    pending: int = 0
    consensus: str = "working"
    leader: bool = True
    failures: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Stored:
    """What one collection takes on the watched nodes, as telemetry estimates it; bytes of all replicas.

    Attributes:
        transfers: shards that are on their way, as ``shard 0 from peer 1 to peer 2``.
        snapshots_running: snapshots that are being made or recovered.
    """

    bytes: int | None = None
    transfers: tuple[str, ...] = ()
    snapshots_running: int = 0


@dataclass(frozen=True, slots=True)
class KeyRights:
    """What the server lets the key do: seen by trying, with requests that change nothing.

    Attributes:
        sent: whether there is a key at all.
        accepted: whether the server lets the key (or its absence) in.
        reads: it may read everything, also telemetry and the cluster.
        manages: it may create and delete collections, and move aliases.
        collections: for a key that is limited to some collections: name -> ``none``, ``r``, ``prw`` or
            ``rw``, the least first.
        reason: the server's words for the first refusal.
    """

    sent: bool
    accepted: bool
    reads: bool = False
    manages: bool = False
    collections: Mapping[str, str] = field(default_factory=dict)
    reason: str = ""

    @property
    def level(self) -> str:
        """``manage``, ``read``, ``limited`` (to some collections) or ``none``."""
        if not self.accepted:
            return "none"
        if self.manages:
            return "manage"
        return "read" if self.reads else "limited"
