"""Copying a collection: ours by path, both ceilings, a clone, and the tools there are, in rounds whose order rotates.

One server has the source and what is written; only `QdrantClient.migrate`, which can't name a target, writes to another.
Every run is a process of its own, so that memory is its own; everything is in a network of its own where that is
allowed, so that the bytes are, too. A line counts only where afterwards the number of points and a digest of all of them are those
of the source, or of what every point was to become.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import statistics
import sys
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

from tests.bench import copy_ways, null_server
from tests.bench.copy_ways import SOURCE, WORKLOADS, Place, Run, Way, Workload
from tests.bench.servers import Server

#: Set in the process that has a network of its own.
ALONE = "QMIGRATE_BENCH_ALONE"


def in_child(work: Callable[[], Any]) -> Any:
    """The result of a function in a process of its own, which has loaded everything before; it passes as JSON."""
    source, sink = os.pipe()
    child = os.fork()
    if not child:
        os.close(source)
        try:
            found = (True, work())
        except BaseException as error:
            found = (False, f"{type(error).__name__}: {error}")
        with os.fdopen(sink, "w") as writing:
            json.dump(found, writing)
        os._exit(0)
    os.close(sink)
    with os.fdopen(source) as reading:
        said = reading.read()
    os.waitpid(child, 0)
    good, result = json.loads(said) if said else (False, "it died")
    if not good:
        raise SystemExit(f"a run failed: {result}")
    return result


def _peak() -> float:
    """The most memory of this process since it was set back, in MB; of its children where they had more."""
    own = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    children = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    return max(int(own.split()[1]), children) / 1024


def _bytes() -> int:
    """What has passed the loopback device of this network."""
    line = next(one for one in Path("/proc/net/dev").read_text().splitlines() if one.strip().startswith("lo:"))
    return int(line.split()[1])


def _processor() -> float:
    used = os.times()
    return used.user + used.system + used.children_user + used.children_system


def measured(way: Way, workload: Workload, points: int, servers: tuple[Server, Server]) -> dict[str, Any]:
    """One run, in the process that does it."""
    # Back to what is in use now: what others have loaded before is none of it.
    Path("/proc/self/clear_refs").write_text("5")
    took: dict[str, Any] = {}

    def stopwatch(prefix: str) -> Callable[[Callable[[], object]], None]:
        def watch(work: Callable[[], object]) -> None:
            before = (time.perf_counter(), _processor(), sum(one.cpu() for one in servers), _bytes())
            work()
            after = (time.perf_counter(), _processor(), sum(one.cpu() for one in servers), _bytes())
            names = ("seconds", "client", "server", "bytes")
            took.update({prefix + name: now - then for name, now, then in zip(names, after, before, strict=True)})

        return watch

    here, there = (Place(one.url, one.grpc_port) for one in servers)
    run = Run(here, there, workload, points, stopwatch(""), stopwatch("proof "))
    way.run(run)
    took["peak"] = _peak()
    took["where"] = (run.where[0].url, run.where[1])
    return took


def checked(way: Way, took: dict[str, Any], servers: tuple[Server, Server], wanted: list[Any]) -> None:
    """Stop where what is there now isn't what should be."""
    url, name = took.pop("where")
    if not way.copies:
        return
    server = next(one for one in servers if one.url == url)
    found = in_child(lambda: copy_ways.digest(Place(server.url, server.grpc_port), name))
    if found != wanted:
        raise SystemExit(f"{way.label}: expected {wanted[0]} points, digest {wanted[1]}, got {found[0]}, {found[1]}")


def of_workload(workload: Workload, options: argparse.Namespace) -> dict[str, list[dict[str, Any]]]:
    """Every way, `rounds` times and once before; servers and source are new for each workload."""
    servers = (Server(), Server())
    here, there = (Place(one.url, one.grpc_port) for one in servers)
    try:
        in_child(lambda: copy_ways.load(here, workload, options.points))
        known = copy_ways.ways()
        chosen = {name: way for name, way in known.items() if not options.only or name in options.only}
        chosen = {name: way for name, way in chosen.items() if not (way.dense and workload.sparse)}
        wanted = {
            name: in_child(lambda way=way: copy_ways.digest(here, SOURCE, way.change)) for name, way in chosen.items()
        }
        found: dict[str, list[dict[str, Any]]] = {name: [] for name in chosen}
        names = list(chosen)
        for number in range(options.rounds + 1):
            first = number % len(names)
            for name in names[first:] + names[:first]:
                way = chosen[name]
                took = in_child(lambda way=way: measured(way, workload, options.points, servers))
                target = took["where"]
                checked(way, took, servers, wanted[name])
                if options.ready and number == options.rounds and way.copies:
                    server = next(one for one in servers if one.url == target[0])
                    place = Place(server.url, server.grpc_port)
                    took["ready"] = in_child(lambda place=place, name=target[1]: copy_ways.ready(place, name))
                in_child(lambda: copy_ways.remove(here, there))
                if number:
                    found[name].append(took)
        return found
    finally:
        for one in servers:
            one.stop()


def row(rows: list[dict[str, Any]], points: int, label: str) -> dict[str, Any]:
    """One line of the table: medians of the rounds, and the spread of the rate."""
    rates = sorted(points / one["seconds"] for one in rows)
    made: dict[str, Any] = {"label": label, "rate": statistics.median(rates), "rates": [rates[0], rates[-1]]}
    for name in ("client", "server", "bytes", "proof client", "proof server", "proof seconds"):
        values = [one[name] for one in rows if name in one]
        if values:
            scale = 1 if name == "bytes" else 1e6
            made[name] = statistics.median(values) / points * scale
    made["peak"] = statistics.median(one["peak"] for one in rows)
    late = [one["seconds"] + one["ready"] for one in rows if "ready" in one]
    if late:
        made["ready"] = late[-1]
    return made


def table(title: str, rows: dict[str, dict[str, Any]]) -> str:
    """For people."""
    head = f"{title}\n{'':40}{'points/s':>10}{'from – to':>19}{'ready':>8}{'client':>9}{'server':>9}{'bytes':>8}{'peak':>8}\n"
    lines = [head]
    for one in rows.values():
        between = "{:,.0f} – {:,.0f}".format(*one["rates"])
        late = f"{one['ready']:.1f} s" if "ready" in one else "–"
        wire = f"{one['bytes']:,.0f}" if os.environ.get(ALONE) else "–"
        lines.append(
            f"{one['label']:40}{one['rate']:10,.0f}{between:>19}{late:>8}{one['client']:6.1f} µs"
            f"{one['server']:6.1f} µs{wire:>8}{one['peak']:5.0f} MB\n"
        )
        if "proof seconds" in one:
            rate = 1e6 / one["proof seconds"]
            lines.append(
                f"{'  its proof':40}{rate:10,.0f}{'':19}{'':8}{one['proof client']:6.1f} µs{one['proof server']:6.1f} µs\n"
            )
    return "".join(lines) + "".join(f"  {one}\n" for one in ratios(rows))


def ratios(rows: dict[str, dict[str, Any]]) -> list[str]:
    """What the goals are about."""
    if "bytes" not in rows:
        return []
    rate = rows["bytes"]["rate"]
    said = []
    if {"read", "write"} <= set(rows):
        lower = min(rows["read"]["rate"], rows["write"]["rate"])
        said.append(f"ours ÷ lower ceiling {rate / lower:.2f}")
        # Reading and writing share the cores with us: what they take together is the least that a copy takes.
        both = sum(rows[name]["server"] for name in ("read", "write"))
        said.append(f"ours ÷ floor of these cores {rate / (os.cpu_count() or 1) * both / 1e6:.2f}")
        proof = rows["bytes"]["proof seconds"] * rows["read"]["rate"] / 1e6
        said.append(f"proof ÷ reading both sides {proof / 2:.2f}")
    for name, label in (("migrate", "migrate"), ("migrate-rest", "migrate over REST"), ("tool", "official tool"), ("naive", "loop")):
        if name in rows:
            said.append(f"ours ÷ {label} {rate / rows[name]['rate']:.1f}")
    return said


def alone() -> None:
    """Start again in a network of its own, where that is allowed: only then the bytes are ours alone."""
    if os.environ.get(ALONE) is not None or shutil.which("unshare") is None or shutil.which("ip") is None:
        return
    command = ["unshare", "--net", "sh", "-c", 'ip link set lo up && exec "$@"', "sh", sys.executable, *sys.argv]
    if os.system("unshare --net true 2>/dev/null") == 0:
        os.execvpe("unshare", command, {**os.environ, ALONE: "1"})
    os.environ[ALONE] = ""


def main() -> int:
    """Parse, run, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--points", type=int, default=40_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--workload", nargs="*", choices=list(WORKLOADS), default=list(WORKLOADS))
    parser.add_argument("--only", nargs="*", choices=list(copy_ways.ways()), default=[])
    parser.add_argument("--ready", action="store_true", help="in the last round, also seconds until it is indexed")
    parser.add_argument("--null", nargs="?", const="", metavar="SIZES", help="our engine and a server that does nothing")
    parser.add_argument("--json", type=Path, help="also write the figures there, for scripts/plots.py")
    options = parser.parse_args()
    if options.null is not None:
        found = null_server.growth([int(one) for one in options.null.split(",") if one])
    else:
        if shutil.which("qdrant") is None:
            raise SystemExit("scripts/bench needs a `qdrant` program on PATH")
        alone()
        found = copied(options)
    if options.json:
        options.json.write_text(json.dumps(found, indent=1) + "\n")
    return 0


def copied(options: argparse.Namespace) -> dict[str, Any]:
    """All workloads, each printed when it is done."""
    labels = {name: way.label for name, way in copy_ways.ways().items()}
    versions = {name: version(name) for name in ("qdrant-client", "grpcio", "protobuf")}
    said = ", ".join(f"{name} {number}" for name, number in versions.items())
    sys.stdout.write(f"{options.points:,} points, medians of {options.rounds}; {said}; {os.cpu_count()} cores\n\n")
    found: dict[str, Any] = {"points": options.points, "rounds": options.rounds, "versions": versions}
    found |= {"workloads": {}, "ratios": {}, "loads": {}}
    for name in options.workload:
        runs = of_workload(WORKLOADS[name], options)
        rows = {way: row(one, options.points, labels[way]) for way, one in runs.items()}
        found["workloads"][name], found["ratios"][name] = rows, ratios(rows)
        found["loads"][name] = os.getloadavg()[0]
        sys.stdout.write(f"{table(f'{name}, load {os.getloadavg()[0]:.1f}', rows)}\n")
        sys.stdout.flush()
    return found


if __name__ == "__main__":
    sys.exit(main())
