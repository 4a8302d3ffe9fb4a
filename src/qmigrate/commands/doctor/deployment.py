"""What doctor checks, each part opened once and only when it is asked for. It judges none.

A part that is broken stays broken, so that it is waited for once.

Requests are given less time than an upgrade's: a server that is down shows within seconds.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Any

from qmigrate.commands.results import Check
from qmigrate.commands.session import open_store, opened_ledger, read_readable
from qmigrate.errors import QmigrateError, StoreError
from qmigrate.ledger import Ledger
from qmigrate.model.health import ClusterHealth, KeyRights, NodeHealth, Stored
from qmigrate.model.names import GENERATION, is_own_alias
from qmigrate.model.state import LiveCollection, World
from qmigrate.model.weight import Weight
from qmigrate.observe import observe
from qmigrate.ports import Store
from qmigrate.revisions.graph import Revisions
from qmigrate.settings.load import Settings
from qmigrate.store import ConnectionSettings
from qmigrate.store.server.examine import Examiner
from qmigrate.store.weigh import weigh

#: Longest time of one request, in seconds.
PATIENCE = 10.0


class Deployment:
    """The parts of a deployment.

    Args:
        settings: of the deployment.
        deadline: on the monotonic clock, for what can be bounded.
    """

    def __init__(self, settings: Settings, *, deadline: float) -> None:
        qdrant = replace(settings.qdrant, timeout=min(settings.qdrant.timeout, PATIENCE))
        self.settings = replace(settings, qdrant=qdrant)
        self.deadline = deadline
        self._stack = ExitStack()
        self._known: dict[str, Any] = {}
        #: Embedders that are loaded or being loaded, by name and settings.
        self.loading: dict[tuple[str, str], Any] = {}

    def __enter__(self) -> Deployment:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    @property
    def local(self) -> bool:
        """Whether Qdrant is the client's local mode."""
        return self.settings.qdrant.path is not None

    @property
    def left(self) -> float:
        """Seconds of the budget that are left, at least 0."""
        return max(0.0, self.deadline - time.monotonic())

    def broken(self, part: str) -> bool:
        """Whether a part (the name of a method here) can't be had."""
        try:
            getattr(self, part)()
        except QmigrateError:
            return True
        return False

    def _once(self, name: str, make: Callable[[], Any]) -> Any:
        if name not in self._known:
            try:
                self._known[name] = make()
            except QmigrateError as error:
                self._known[name] = error
        found = self._known[name]
        if isinstance(found, QmigrateError):
            raise found
        return found

    def revisions(self) -> Revisions:
        """The revision files, as far as they can be read, where the ledger can be read; else all of them."""
        return self._read()[0]

    def file_problems(self) -> tuple[QmigrateError, ...]:
        """What is wrong with revision files."""
        return self._read()[1]

    def _read(self) -> tuple[Revisions, tuple[QmigrateError, ...]]:
        found: tuple[Revisions, tuple[QmigrateError, ...]] = self._once("revisions", self._read_revisions)
        return found

    def _read_revisions(self) -> tuple[Revisions, tuple[QmigrateError, ...]]:
        if self.broken("ledger"):
            return Revisions.load(self.settings.scripts), ()
        return read_readable(self.settings, self.ledger())

    def ledger(self) -> Ledger:
        """The ledger, of a version that this code reads."""
        found: Ledger = self._once("ledger", self._open_ledger)
        return found

    def _open_ledger(self) -> Ledger:
        ledger = self._stack.enter_context(opened_ledger(self.settings))
        ledger.identity()
        return ledger

    def examiner(self) -> Examiner:
        """Examines the server; not in local mode. Opening it sends nothing."""
        found: Examiner = self._once("examiner", self._open_examiner)
        return found

    def _open_examiner(self) -> Examiner:
        examiner = Examiner(ConnectionSettings(**self.settings.connection()))
        self._stack.callback(examiner.close)
        return examiner

    def points_at(self) -> str:
        """Where points go, on a port of its own: ``host:port``; not in local mode."""
        found: str = self._once("points_at", lambda: self.examiner().points_reachable())
        return found

    def nodes(self) -> tuple[NodeHealth, ...]:
        """What every node reports; a node that is down is part of it."""
        found: tuple[NodeHealth, ...] = self._once("nodes", lambda: self.examiner().nodes())
        return found

    def reached(self) -> NodeHealth:
        """The first node that answers.

        Raises:
            StoreError: none does.
        """
        found = self.nodes()
        answers = next((node for node in found if node.problem is None), None)
        if answers is None:
            raise StoreError(str(found[0].problem), hint=found[0].hint)
        return answers

    def cluster(self) -> ClusterHealth:
        """The cluster as one node sees it."""
        found: ClusterHealth = self._once("cluster", lambda: self.examiner().cluster())
        return found

    def stored(self) -> Mapping[str, Stored]:
        """What each collection takes; empty in local mode."""
        found: Mapping[str, Stored] = self._once("stored", lambda: {} if self.local else self.examiner().stored())
        return found

    def rights(self) -> KeyRights:
        """What the key may do."""
        found: KeyRights = self._once("rights", lambda: self.examiner().rights())
        return found

    def store(self) -> Store:
        """Qdrant, connected."""
        found: Store = self._once("store", lambda: open_store(self.settings, self._stack, writes=False, partial=True))
        return found

    def physical(self) -> tuple[str, ...]:
        """Physical collections, generations among them."""
        found: tuple[str, ...] = self._once("physical", lambda: self.store().physical_names())
        return found

    def aliases(self) -> Mapping[str, str]:
        """Every alias, qmigrate's own among them."""
        found: Mapping[str, str] = self._once("aliases", lambda: self.store().aliases())
        return found

    def live(self) -> Mapping[str, LiveCollection]:
        """Every physical collection by its own name; without the ledger."""
        found: Mapping[str, LiveCollection] = self._once("live", self._describe)
        return found

    def _describe(self) -> Mapping[str, LiveCollection]:
        # An alias of the same name would hide a shadowed collection; it is read through its other alias.
        ways = {name: self._way_to(name) for name in self.physical()}
        described = self.store().describe_all([way for way in ways.values() if way is not None])
        found = {name: described.get(way) for name, way in ways.items() if way is not None}
        return {name: one for name, one in found.items() if one is not None}

    def _way_to(self, physical: str) -> str | None:
        aliases = self.aliases()
        if aliases.get(physical, physical) == physical:
            return physical
        return next((alias for alias, target in aliases.items() if target == physical), None)

    def world(self) -> World:
        """Ledger and Qdrant together."""
        found: World = self._once("world", lambda: observe(self.ledger(), self.store()))
        return found

    def weighed(self, name: str, live: LiveCollection) -> int:
        """Bytes of the points of a collection, by a sample that is taken once; as declared where none can be read."""
        # A port that is closed would be asked for each sample again and again.
        way = self._way_to(name) if self.local or not self.broken("points_at") else None
        found: Weight = self._once(f"weight {name}", lambda: weigh(self.store(), way) if way else Weight())
        return live.points * found.per_point(live.schema)

    def used(self) -> Mapping[str, LiveCollection]:
        """The collections that applications use: all but generations that no name points to."""
        named = {target for alias, target in self.aliases().items() if not is_own_alias(alias, target)}
        return {
            name: live for name, live in self.live().items() if name in named or GENERATION.match(name) is None
        }


#: Names that one line shows; all of them are in the facts.
NAMED = 5


def some(names: Sequence[str], most: int = NAMED) -> str:
    """The first names, and how many more there are."""
    rest = len(names) - most
    return ", ".join(names[:most]) + (f" and {rest:,} more" if rest > 0 else "")


@dataclass(frozen=True, slots=True)
class Skew:
    """How far two clocks may be apart, in seconds.

    Attributes:
        warns: from here on times in logs and history don't fit together.
        fails: from here on what is kept until a date can't be relied on, nor can tokens that expire.
    """

    warns: float = 5.0
    fails: float = 300.0

    def judge(self, name: str, whose: str, ahead: float) -> Check:
        """A finding about a clock that is `ahead` seconds ahead of this machine's (negative: behind)."""
        apart = abs(ahead)
        facts = {"seconds_ahead": round(ahead, 1)}
        if apart <= self.warns:
            shown = "within a second" if apart < 1 else f"to {apart:.0f} s"
            return Check(name, True, f"{whose} and this machine agree {shown}", facts=facts)
        detail = (
            f"{whose} is {apart:,.0f} s {'ahead of' if ahead > 0 else 'behind'} this machine; leases are not affected "
            "(they use the database's clock alone), but times of history and holdover are off"
        )
        hint = "synchronise both machines by NTP"
        if apart > self.fails:
            return Check(name, False, detail, hint, 9, facts=facts)
        return Check(name, None, detail, hint, warns=True, facts=facts)


SKEW = Skew()
