"""A rebuild that is killed at 60 % and run again, next to one that is not disturbed: how much longer both take."""

from __future__ import annotations

import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from qdrant_client import QdrantClient
from sqlalchemy import create_engine, make_url, select, text
from tests.bench.servers import Server
from tests.conftest import clean
from tests.harness import ADD, Deployment, loaded_on

from qmigrate.ledger.tables import leases

#: Points per second, so that a copy takes as long on every machine, and seconds that it is to take.
RATE, SECONDS = 1_000, 27
SHARE = 0.6


def killed(options, server: Server) -> None:
    """Each round once without and once with a kill; the ratio of the medians."""
    whole, both, resumed = [], [], []
    for _ in range(options.killed):
        with _ledger(options.sql) as ledger:
            whole.append(_timed(server, options.timeout, ledger, None)[0])
        with _ledger(options.sql) as ledger:
            took, pause, held = _timed(server, options.timeout, ledger, SHARE * whole[-1])
        both.append(took)
        resumed.append(pause)
        sys.stdout.write(
            f"  undisturbed {whole[-1]:.1f} s, killed and run again {took:.1f} s: {took / whole[-1]:.2f}; the next "
            f"process had the lease {held:.1f} s behind the kill, and there was a point more after {pause:.1f} s; load {os.getloadavg()[0]:.0f}\n"
        )
        sys.stdout.flush()
    ratio = statistics.median(both) / statistics.median(whole)
    sys.stdout.write(
        f"\n{options.killed} rounds, {RATE * SECONDS:,} points, timeout {options.timeout} s, killed at {SHARE:.0%}: "
        f"{statistics.median(whole):.1f} s and {statistics.median(both):.1f} s, {ratio:.2f} times as long; the copy went on {statistics.median(resumed):.1f} s behind "
        f"the kill\n"
    )


@contextmanager
def _ledger(url: str | None) -> Iterator[str | None]:
    """A database of its own on that server; None for SQLite."""
    if url is None:
        yield None
        return
    name = f"bench_killed_{uuid.uuid4().hex[:8]}"
    engine = create_engine(url, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(text(f"CREATE DATABASE {name}"))
        yield make_url(url).set(database=name).render_as_string(hide_password=False)
        connection.execute(text(f"DROP DATABASE {name} WITH (FORCE)"))
    engine.dispose()


def _timed(server: Server, timeout: int, ledger: str | None, kill_at: float | None) -> tuple[float, float, float]:
    """Seconds of all, from the kill until a point more was there, and until the next process had the lease."""
    folder = Path(tempfile.mkdtemp(prefix="bench-killed-"))
    made = loaded_on(
        server, folder, RATE * SECONDS, timeout=timeout, rebuild={"max_rate": RATE}, limits={"lease_ttl": "30s"},
        **({"ledger": {"url": ledger}} if ledger else {}),
    )
    made.revise("0002", ADD)
    started = time.monotonic()
    if kill_at is not None:
        process = _upgrade(made)
        time.sleep(kill_at)
        assert process.poll() is None, "it was over before the kill"
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    killed_at = time.monotonic()
    process = _upgrade(made)
    started_again = pause = 0.0
    if kill_at is not None:
        with closing(QdrantClient(url=server.url, grpc_port=server.grpc_port, prefer_grpc=True)) as client:
            # What was under way lands before the next process has loaded its libraries.
            time.sleep(0.3)
            there = client.count(f"{made.name}__g0002").count
            before = _epoch(made)
            while _epoch(made) == before and process.poll() is None:
                time.sleep(0.05)
            started_again = time.monotonic() - killed_at
            while client.count(f"{made.name}__g0002").count == there and process.poll() is None:
                time.sleep(0.05)
            pause = time.monotonic() - killed_at
    said = process.communicate()[0]
    took = time.monotonic() - started
    if process.returncode:
        raise SystemExit(said)
    clean(made)
    shutil.rmtree(folder, ignore_errors=True)
    return took, pause, started_again


def _epoch(made: Deployment) -> int:
    """How often its lease was taken."""
    engine = create_engine(made.settings().ledger.url)
    with engine.connect() as connection:
        found = connection.execute(select(leases.c.epoch).where(leases.c.name == made.name)).scalar()
    engine.dispose()
    return int(found or 0)


def _upgrade(made: Deployment) -> subprocess.Popen[str]:
    command = [str(Path(sys.executable).with_name("qmigrate")), "--config", str(made.config), "upgrade"]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
