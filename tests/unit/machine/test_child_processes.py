"""The child processes of an app in the machine's uWSGI: signals reach them."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from test_uwsgi import started

APP = """
import os, subprocess, threading, time

def forked():
    reading, writing = os.pipe()
    if not os.fork():
        with open("/proc/self/status", "rb") as status: os.write(writing, status.read())
        os._exit(0)
    os.wait()
    return os.read(reading, 9999).decode()

def app(environ, start_response):
    time.sleep(0.3)
    start_response("200 OK", [("Content-Type", "text/plain")])
    if environ["PATH_INFO"] == "/forked":
        status = forked()
    else:
        status = subprocess.run(["cat", "/proc/self/status"], capture_output=True, text=True).stdout
    mask = next(line.split()[1] for line in status.splitlines() if line.startswith("SigBlk:"))
    return [f"{threading.current_thread().name} {mask}".encode()]
"""


#: An app that starts Python as many do: by its name in sys.executable, and by multiprocessing's way to spawn.
PYTHON = """
import multiprocessing, subprocess, sys

def app(environ, start_response):
    started = subprocess.run([sys.executable, "-c", "import sys; print(sys.prefix)"], capture_output=True, text=True)
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        result = pool.apply_async(abs, [-1]).get(20)
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [f"{started.stdout.strip() == sys.prefix} {result}".encode()]
"""


def test_sys_executable_is_python_and_not_uwsgi(tmp_path: Path) -> None:
    with started(tmp_path, app=PYTHON) as machine:
        assert machine.get("/").body.decode() == "True 1"


@pytest.mark.parametrize("path", ["/", "/forked"])
def test_a_child_of_each_thread_gets_all_signals(tmp_path: Path, path: str) -> None:
    """uWSGI blocks all signals in the threads of a worker but one, and children inherit that."""
    with started(tmp_path, app=APP) as machine, ThreadPoolExecutor(24) as pool:
        answers = [answer.body.decode().split() for answer in pool.map(machine.get, [path] * 24)]
    assert len({thread for thread, _ in answers}) > 1
    assert {mask for _, mask in answers} == {"0" * 16}
