"""Measure the machine's nginx and uWSGI beside other servers, and print a table: nox -s bench.

The servers get the same app, the same Python and one nginx process each. All of them run during the measurement, and
wrk asks one at a time, in an order that changes with each round. Options: --rounds 9 --seconds 3.
"""

from __future__ import annotations

import argparse
import os
import random
import re
import shutil
import socket
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from importlib.machinery import SourceFileLoader
from pathlib import Path
from subprocess import DEVNULL, Popen

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE.parent / "unit"), str(HERE.parent / "unit" / "machine")]

from conftest import PROGRAMS, soon  # noqa: E402
from machine_nginx import MachineNginx, program  # noqa: E402
from machine_uwsgi import MachineUwsgi  # noqa: E402

from bake.host import programs  # noqa: E402

#: Connections at a time: twice the slots of a machine with two CPUs.
CONNECTIONS = 32
#: Seconds until a server answers.
PATIENCE = 30
#: The loads: wrk's arguments for each.
LOADS = {
    "small": ["/small"], "computes": ["/cpu"], "waits 50 ms": ["/wait"], "mixed": ["/", "-s", str(HERE / "mixed.lua")],
}  # fmt: skip


@dataclass(frozen=True)
class Sample:
    """The result of one measurement: answers a second, and the 99th percentile of their times in milliseconds."""

    rate: float
    p99: float


def measure(port: int, words: Sequence[str], seconds: int) -> Sample:
    """Ask a server for a while. Raises AssertionError if a response is an error."""
    path, *options = words
    argv = ["wrk", "-t1", f"-c{CONNECTIONS}", f"-d{seconds}s", "--latency", *options, f"http://127.0.0.1:{port}{path}"]
    text = programs.run(argv).stdout
    assert "Non-2xx" not in text and "Socket errors" not in text, text
    rate, percentile = re.search(r"Requests/sec: +([\d.]+)", text), re.search(r"99% +([\d.]+)(us|ms|s)\b", text)
    assert rate and percentile, text
    return Sample(float(rate[1]), float(percentile[1]) * {"us": 0.001, "ms": 1, "s": 1000}[percentile[2]])


def workers() -> int:
    """Return the number of workers that a machine like this computer has, by the machine's own rule."""
    sys.path.append(str(PROGRAMS))
    configure = SourceFileLoader("configure", str(PROGRAMS / "configure")).load_module()
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    count: int = configure.workers(len(os.sched_getaffinity(0)), memory, configure.WORKER_MEMORY)
    return count


@contextmanager
def machine(folder: Path, venv: Path) -> Iterator[int]:
    """Start the machine's nginx and uWSGI, and yield the port."""
    folder.joinpath("release").mkdir(parents=True)
    folder.joinpath("release/venv").symlink_to(venv)
    with MachineNginx(folder / "root") as nginx:
        nginx.app.close()
        text = (HERE / "app.py").read_text()
        with MachineUwsgi(folder, text, nginx.root / "run/app/uwsgi.sock", workers()) as uwsgi:
            uwsgi.await_ready(workers())
            yield nginx.http


def free_port() -> int:
    """Return a port that no program listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextmanager
def proxied(folder: Path, argv: Sequence[str]) -> Iterator[int]:
    """Start a server, whose socket is `app.sock` in its folder, with nginx in front of it. Yield the port."""
    folder.mkdir()
    shutil.copy(HERE / "app.py", folder)
    port = free_port()
    text = (HERE / "nginx.conf").read_text().replace("PORT", str(port)).replace("SOCKET", f"{folder}/app.sock")
    (folder / "nginx.conf").write_text(text)
    front = [program(), "-p", folder, "-c", folder / "nginx.conf", "-e", folder / "error.log"]
    commands = [argv, [*front, "-g", "daemon off; master_process off;"]]
    with ExitStack() as stack, (folder / "log").open("wb") as log:
        for command in commands:
            options = {"cwd": folder, "stdin": DEVNULL, "stdout": log, "stderr": log}
            process = Popen(programs.contained_argv(command), **options)  # type: ignore[call-overload]
            stack.callback(process.wait)
            stack.callback(process.terminate)
            if command is argv:
                assert soon((folder / "app.sock").exists, PATIENCE), (folder / "log").read_text()
        yield port


def servers(venv: Path) -> dict[str, Callable[[Path], object]]:
    """Return the servers: a name, and the context manager that starts one in a folder."""
    cpus, slots, run = len(os.sched_getaffinity(0)), workers() * 4, f"{venv}/bin"
    gunicorn = [f"{run}/gunicorn", "--bind", "unix:app.sock"]
    granian = [f"{run}/granian", "--interface", "wsgi", "--uds", "app.sock", "--no-ws"]
    threads = ["--workers", f"{workers()}", "--blocking-threads", "4", "app:app"]
    return {
        f"bake: uWSGI, {slots} slots": lambda folder: machine(folder, venv),
        # The number of workers that gunicorn's documentation recommends.
        f"gunicorn sync, {2 * cpus + 1} slots": lambda folder: proxied(
            folder, [*gunicorn, "--workers", f"{2 * cpus + 1}", "app:app"]
        ),
        f"gunicorn gthread, {slots} slots": lambda folder: proxied(
            folder, [*gunicorn, "--worker-class", "gthread", "--workers", f"{workers()}", "--threads", "4", "app:app"]
        ),
        f"granian, {slots} slots": lambda folder: proxied(folder, [*granian, *threads]),
    }


def interval(values: Sequence[float], digits: int) -> str:
    """Return the median and its interval: all but the smallest and the largest value (96 % for nine rounds)."""
    inner = sorted(values)[1:-1] or values
    return f"{statistics.median(values):.{digits}f} ({inner[0]:.{digits}f} to {inner[-1]:.{digits}f})"


def table(samples: dict[tuple[str, str], list[Sample]]) -> str:
    """Return the results as a table in Markdown."""
    rows = ["| load | server | answers a second | 99th percentile, ms |", "|---|---|---|---|"]
    for (load, name), values in samples.items():
        rates, times = [sample.rate for sample in values], [sample.p99 for sample in values]
        rows.append(f"| {load} | {name} | {interval(rates, 0)} | {interval(times, 1)} |")
    return "\n".join(rows)


def main() -> None:
    """Measure, and print the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("venv", type=Path)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--seconds", type=int, default=3)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="bench") as place, ExitStack() as stack:
        ports = {
            name: stack.enter_context(start(Path(place, str(number))))  # type: ignore[arg-type]
            for number, (name, start) in enumerate(servers(options.venv.resolve()).items())
        }
        samples: dict[tuple[str, str], list[Sample]] = {(load, name): [] for load in LOADS for name in ports}
        for port in ports.values():
            measure(port, LOADS["mixed"], 1)
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
