"""Applications at work while a deployment is migrated: readers and writers that count what failed. It tests nothing."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

import httpx


@dataclass
class Reader(threading.Thread):
    """Searches, scrolls and counts by name, over REST as any application would, and times every failure.

    Attributes:
        pause: seconds between two requests; without one a reader takes all that its core has.
        reads: requests that were answered.
        failures: (collection, status or error) of each that was not answered with 200.
        wrong: collections that answered with fewer points than they ever had.
    """

    url: str
    names: Sequence[str]
    least: dict[str, int]
    vector: dict[str, object]
    seed: int = 0
    pause: float = 0.0
    reads: int = 0
    failures: list[tuple[str, str]] = field(default_factory=list)
    wrong: list[tuple[str, int]] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__(daemon=True)
        self.stopped = threading.Event()
        self.random = random.Random(self.seed)

    def __hash__(self) -> int:
        return id(self)

    def run(self) -> None:
        """Read until stopped."""
        with httpx.Client(base_url=self.url, timeout=20) as client:
            while not self.stopped.is_set():
                name = self.random.choice(self.names)
                kind = self.random.choice(("count", "scroll", "query"))
                try:
                    answer = self._ask(client, name, kind)
                except httpx.HTTPError as error:
                    self.failures.append((name, type(error).__name__))
                    continue
                if answer.status_code != 200:
                    self.failures.append((name, f"{kind} {answer.status_code}: {answer.text[:200]}"))
                    continue
                self.reads += 1
                self.stopped.wait(self.pause)
                if kind == "count":
                    count = answer.json()["result"]["count"]
                    if count < self.least[name]:
                        self.wrong.append((name, count))

    def _ask(self, client: httpx.Client, name: str, kind: str) -> httpx.Response:
        path = f"/collections/{name}/points"
        if kind == "count":
            return client.post(f"{path}/count", json={"exact": True})
        if kind == "scroll":
            return client.post(f"{path}/scroll", json={"limit": 20})
        return client.post(f"{path}/query", json={"limit": 5, **self.vector[name]})

    def stop(self) -> None:
        """Stop and wait."""
        self.stopped.set()
        self.join(timeout=60)


@dataclass
class Writer(threading.Thread):
    """Upserts new points by name and remembers which were acknowledged.

    Attributes:
        truth: collection -> ids acknowledged.
        refused: requests that were answered with something else than 200.
    """

    url: str
    names: Sequence[str]
    vectors: dict[str, object]
    seed: int = 0
    pause: float = 0.002
    refused: list[tuple[str, str]] = field(default_factory=list)
    truth: dict[str, set[int]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        super().__init__(daemon=True)
        self.stopped = threading.Event()
        self.random = random.Random(self.seed)
        self.next = 1_000_000 * (self.seed + 1)

    def __hash__(self) -> int:
        return id(self)

    def run(self) -> None:
        """Write until stopped; every writer has ids of its own."""
        with httpx.Client(base_url=self.url, timeout=20) as client:
            while not self.stopped.is_set():
                name = self.random.choice(self.names)
                self.next += 1
                point = {"id": self.next, "vector": self.vectors[name], "payload": {"text": f"late {self.next}"}}
                try:
                    answer = client.put(
                        f"/collections/{name}/points", params={"wait": "true"}, json={"points": [point]}
                    )
                except httpx.HTTPError as error:
                    self.refused.append((name, type(error).__name__))
                    continue
                if answer.status_code == 200:
                    self.truth.setdefault(name, set()).add(self.next)
                else:
                    self.refused.append((name, f"{answer.status_code}: {answer.text[:120]}"))
                time.sleep(self.pause)

    def stop(self) -> None:
        """Stop and wait."""
        self.stopped.set()
        self.join(timeout=60)
