"""How long starting takes: the help, the state of a local project, and an entrypoint that has nothing to do.

Everything is a process of its own, in rounds whose order rotates, next to `python -c pass` and one `alembic current`:
medians of the clock and of the processor, and ratios within this one run.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import yaml
from tests.bench.servers import Server
from tests.conftest_postgres import NONE_FOUND, found_postgres, fresh_database

ROOT = Path(__file__).resolve().parents[2]
BIN = Path(sys.executable).parent


class Place:
    """A folder, and the environment of a deployment in it."""

    def __init__(self, folder: Path, **variables: str) -> None:
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("QMIGRATE_", "ALEMBIC_"))}
        self.folder = folder
        self.environment = {**kept, "PATH": f"{BIN}:{os.environ['PATH']}", "NO_COLOR": "1", **variables}

    def run(self, *command: str) -> tuple[float, float]:
        """Milliseconds of the clock, and of the processor with all children."""
        before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
        done = subprocess.run(command, cwd=self.folder, env=self.environment, capture_output=True, text=True)
        wall, after = time.perf_counter() - started, resource.getrusage(resource.RUSAGE_CHILDREN)
        if done.returncode:
            raise SystemExit(f"{' '.join(command)} ended with {done.returncode}\n{done.stdout}{done.stderr}")
        used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        return wall * 1000, used * 1000


def local_project(folder: Path) -> Place:
    """The tour of the project at its newest revision: local mode, SQLite, a thousand points."""
    shutil.copytree(ROOT / "examples" / "pydocs", folder, ignore=shutil.ignore_patterns(".qmigrate", "__pycache__"))
    place = Place(folder)
    for command in (("qmigrate", "upgrade", "0001"), ("python", "load.py"), ("qmigrate", "upgrade")):
        place.run(*command)
    return place


@contextlib.contextmanager
def deployment(folder: Path) -> Iterator[Place]:
    """The reference deployment, migrated: a Qdrant server, and PostgreSQL."""
    with found_postgres() as postgres:
        if postgres is None:
            raise SystemExit(NONE_FOUND)
        with fresh_database(postgres) as database:
            server = Server()
            try:
                config = yaml.safe_load((ROOT / "qmigrate.yaml").read_text())
                config["qdrant"] = {"url": server.url, "grpc_port": server.grpc_port}
                config["scripts"] = str(ROOT / "qdrant_migrations")
                config["sql"] = {"config": str(ROOT / "alembic.ini")}
                folder.mkdir()
                (folder / "qmigrate.yaml").write_text(yaml.safe_dump(config))
                place = Place(
                    folder,
                    QMIGRATE_CONFIG=str(folder / "qmigrate.yaml"),
                    QMIGRATE_LEDGER_URL=database,
                    ALEMBIC_CONFIG=str(ROOT / "alembic.ini"),
                )
                place.run(str(ROOT / "docker-entrypoint.sh"), "true")
                yield place
            finally:
                server.stop()


def measure(rounds: int) -> dict[str, list[tuple[float, float]]]:
    """Every way, `rounds` times, each round from another one on; one round before them counts for nothing."""
    folder = Path(tempfile.mkdtemp(prefix="bench-start-"))
    entrypoint = str(ROOT / "docker-entrypoint.sh")
    try:
        local = local_project(folder / "local")
        with deployment(folder / "deployment") as deployed:
            ways = {
                "python -c pass": (local, ("python", "-c", "pass")),
                "python -c 'import qdrant_client'": (local, ("python", "-c", "import qdrant_client")),
                "qmigrate --help": (local, ("qmigrate", "--help")),
                "qmigrate status, local": (local, ("qmigrate", "status")),
                "alembic current": (deployed, ("alembic", "current")),
                "entrypoint, nothing to do": (deployed, (entrypoint, "true")),
                "entrypoint, check": (deployed, ("env", "QMIGRATE_ON_START=check", entrypoint, "true")),
            }
            found: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
            names = list(ways)
            for number in range(rounds + 1):
                for name in names[number % len(names) :] + names[: number % len(names)]:
                    place, command = ways[name]
                    took = place.run(*command)
                    if number:
                        found[name].append(took)
            return found
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def report(found: dict[str, list[tuple[float, float]]], rounds: int) -> None:
    """Medians with the spread, and the ratios to both yardsticks."""
    clock = {name: statistics.median(took[0] for took in rows) for name, rows in found.items()}
    used = {name: statistics.median(took[1] for took in rows) for name, rows in found.items()}
    sys.stdout.write(f"medians of {rounds}, load {os.getloadavg()[0]:.1f}\n\n")
    header = ("", "clock", "from – to", "processor", "÷ python", "÷ alembic")
    sys.stdout.write("{:34} {:>9} {:>15} {:>10} {:>9} {:>10}\n".format(*header))
    for name, rows in found.items():
        walls = [took[0] for took in rows]
        python, alembic = used[name] / used["python -c pass"], used[name] / used["alembic current"]
        between = f"{min(walls):,.0f} – {max(walls):,.0f}"
        line = f"{name:34} {clock[name]:6,.0f} ms {between:>15} {used[name]:7,.0f} ms {python:9.1f} {alembic:10.2f}"
        sys.stdout.write(line + "\n")
    sys.stdout.write("\nratios are of the processor's time, which other work on the machine moves least\n")


def main() -> int:
    """Parse, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    if shutil.which("qdrant") is None:
        raise SystemExit("scripts/bench needs a `qdrant` program on PATH")
    report(measure(options.rounds), options.rounds)
    return 0


if __name__ == "__main__":
    sys.exit(main())
