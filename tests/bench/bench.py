"""Measure the machine's nginx and uWSGI beside other servers, and print a table: nox -s bench.

The servers get the same app, the same Python and one nginx process each. All of them run during the measurement, and
wrk asks one at a time, in an order that changes with each round. Options: --rounds 9 --seconds 3, and --pairs for the
servers other than uWSGI.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import re
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import stacks

from bake.host import programs

HERE = Path(__file__).parent
#: Connections at a time: twice the slots of a machine with two CPUs.
CONNECTIONS = 32
#: The loads: wrk's arguments for each.
LOADS = {
    "small": ["/small"], "computes": ["/cpu"], "waits 50 ms": ["/wait"], "mixed": ["/", "-s", str(HERE / "mixed.lua")],
}  # fmt: skip


@dataclass(frozen=True)
class Sample:
    """The result of one measurement.

    Answers a second, the 99th percentile of their times in milliseconds, and milliseconds of CPU time for each, nginx's
    included.
    """

    rate: float
    p99: float
    cpu: float


def measure(port: int, words: Sequence[str], seconds: int) -> Sample:
    """Ask a server for a while. Raises AssertionError if a response is an error."""
    path, *options = words
    argv = ["wrk", "-t1", f"-c{CONNECTIONS}", f"-d{seconds}s", "--latency", *options, f"http://127.0.0.1:{port}{path}"]
    before = cpu_seconds()
    text = programs.run(argv).stdout
    spent = cpu_seconds() - before
    assert "Non-2xx" not in text and "Socket errors" not in text, text
    rate, percentile = re.search(r"Requests/sec: +([\d.]+)", text), re.search(r"99% +([\d.]+)(us|ms|s)\b", text)
    count = re.search(r"(\d+) requests in", text)
    assert rate and percentile and count, text
    late = float(percentile[1]) * {"us": 0.001, "ms": 1, "s": 1000}[percentile[2]]
    return Sample(float(rate[1]), late, spent * 1000 / int(count[1]))


def cpu_seconds() -> float:
    """Return the CPU time in seconds that the processes below this one have taken so far, without those that ended."""
    table = {}
    for status in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            fields = status.read_text().rpartition(")")[2].split()
            table[int(status.parent.name)] = int(fields[1]), int(fields[11]) + int(fields[12])
    ours, before = {os.getpid()}, set[int]()
    while ours != before:
        before = ours
        ours = before | {pid for pid, (parent, _) in table.items() if parent in before}
    return sum(ticks for pid, (_, ticks) in table.items() if pid in ours) / os.sysconf("SC_CLK_TCK")


def interval(values: Sequence[float], digits: int) -> str:
    """Return the median and its interval: all but the smallest and the largest value (96 % for nine rounds)."""
    inner = sorted(values)[1:-1] or values
    return f"{statistics.median(values):.{digits}f} ({inner[0]:.{digits}f} to {inner[-1]:.{digits}f})"


def table(samples: dict[tuple[str, str], list[Sample]]) -> str:
    """Return the results as a table in Markdown."""
    rows = ["| load | server | answers a second | 99th percentile, ms | CPU ms an answer |", "|---|---|---|---|---|"]
    for (load, name), values in samples.items():
        rates, times = [sample.rate for sample in values], [sample.p99 for sample in values]
        spent = statistics.median(sample.cpu for sample in values)
        rows.append(f"| {load} | {name} | {interval(rates, 0)} | {interval(times, 1)} | {spent:.2f} |")
    return "\n".join(rows)


def main() -> None:
    """Measure, and print the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("venv", type=Path)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--seconds", type=int, default=3)
    parser.add_argument("--pairs", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="bench") as place, ExitStack() as stack:
        servers = (stacks.pairs if options.pairs else stacks.wsgi)(options.venv.resolve())
        loads = ["small", "waits 50 ms"] if options.pairs else [*LOADS]
        ports = {
            name: stack.enter_context(start(Path(place, str(number))))
            for number, (name, start) in enumerate(servers.items())
        }
        samples: dict[tuple[str, str], list[Sample]] = {(load, name): [] for load in loads for name in ports}
        for port in ports.values():
            measure(port, LOADS["small"], 1)
        for turn in range(options.rounds):
            for load, name in random.sample(list(samples), len(samples)):
                samples[load, name].append(measure(ports[name], LOADS[load], options.seconds))
            print(f"round {turn + 1} of {options.rounds}", file=sys.stderr)
    facts = f"{CONNECTIONS} connections, {options.rounds} rounds of {options.seconds} s"
    print(f"{time.strftime('%Y-%m-%d')}, {len(os.sched_getaffinity(0))} CPUs, {facts}:")
    print("the median, and the interval without the extremes\n")
    print(table(samples))


if __name__ == "__main__":
    main()
