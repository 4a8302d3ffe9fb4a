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
from pathlib import Path

from tests.bench.servers import Server
from tests.conftest import clean
from tests.harness import ADD, Deployment, loaded_on

#: Points per second, so that a copy takes as long on every machine, and seconds that it is to take.
RATE, SECONDS = 1_000, 27
SHARE = 0.6


def killed(options, server: Server) -> None:
    """Each round once without and once with a kill; the ratio of the medians."""
    whole, both = [], []
    for _ in range(options.killed):
        whole.append(_timed(server, options.timeout, options.sql, None))
        both.append(_timed(server, options.timeout, options.sql, SHARE * whole[-1]))
        sys.stdout.write(f"  undisturbed {whole[-1]:.1f} s, killed and run again {both[-1]:.1f} s: {both[-1] / whole[-1]:.2f}\n")
        sys.stdout.flush()
    ratio = statistics.median(both) / statistics.median(whole)
    sys.stdout.write(
        f"\n{options.killed} rounds, {RATE * SECONDS:,} points, timeout {options.timeout} s, killed at {SHARE:.0%}: "
        f"{statistics.median(whole):.1f} s and {statistics.median(both):.1f} s, {ratio:.2f} times as long\n"
    )


def _timed(server: Server, timeout: int, ledger: str | None, kill_at: float | None) -> float:
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
    process = _upgrade(made)
    said = process.communicate()[0]
    took = time.monotonic() - started
    if process.returncode:
        raise SystemExit(said)
    clean(made)
    shutil.rmtree(folder, ignore_errors=True)
    return took


def _upgrade(made: Deployment) -> subprocess.Popen[str]:
    command = [str(Path(sys.executable).with_name("qmigrate")), "--config", str(made.config), "upgrade"]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
