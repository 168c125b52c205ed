"""The machine's uWSGI and nginx with a real app: limits of requests, and streams."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from conftest import soon
from machine_nginx import Answer, MachineNginx
from machine_uwsgi import MachineUwsgi

from bake.host import paths
from bake.host.programs import run

#: Seconds for a request in these tests, and the delay that a busy computer may add.
LIMIT, DELAY = 4, 6

APP = """
import io, os, time

def stream(seconds):
    try:
        for number in range(3):
            yield b"part %d\\n" % number
            time.sleep(seconds)
    finally:
        with open("../closed", "a") as file: file.write("closed ")

def late(seconds):
    time.sleep(seconds)
    yield b"late"

def app(environ, start_response):
    path, _, seconds = environ["PATH_INFO"].strip("/").partition("/")
    headers = [("Content-Type", environ["QUERY_STRING"] or "text/plain")]
    headers += [("Content-Length", "3")] * (path == "length") + [("X-Accel-Buffering", "no")] * (path == "late")
    start_response("200 OK", headers)
    if path == "late":
        return late(float(seconds))
    if path == "stream":
        return stream(float(seconds))
    if path == "file":
        return environ["wsgi.file_wrapper"](io.BytesIO(bytes(range(256)) * 1000), 8192)
    if path == "sleep":
        time.sleep(float(seconds))
    return [b"%d" % os.getpid() if path != "length" else b"abc"]
"""


@dataclass
class Machine:
    """nginx, and behind it uWSGI with the app."""

    nginx: MachineNginx
    uwsgi: MachineUwsgi

    def get(self, path: str) -> Answer:
        """Request a path."""
        return self.nginx.get(path, "shop.example")

    def timed(self, path: str) -> tuple[Answer, float]:
        """Request a path. Return the response, and the seconds that it took."""
        begin = time.monotonic()
        return self.get(path), time.monotonic() - begin


@contextmanager
def started(folder: Path, workers: int = 1, app: str = APP, **keys: object) -> Iterator[Machine]:
    """Start a machine with an app."""
    with MachineNginx(folder / "root") as nginx:
        nginx.app.close()
        with MachineUwsgi(folder, app, nginx.root / "run/app/uwsgi.sock", workers, **keys) as uwsgi:
            uwsgi.await_ready(workers)
            yield Machine(nginx, uwsgi)


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    with started(tmp_path_factory.mktemp("uwsgi")) as machine:
        yield machine


@contextmanager
def visitors(machine: Machine) -> Iterator[list[Answer]]:
    """Request pages one after the other, until the end of the block. The list has the responses."""
    answers: list[Answer] = []
    done = threading.Event()

    def visit() -> None:
        while not done.wait(0.05):
            answers.append(machine.get("/"))

    with ThreadPoolExecutor() as pool:
        tasks = [pool.submit(visit) for _ in range(2)]
        try:
            yield answers
        finally:
            done.set()
        for task in tasks:
            task.result()


@pytest.mark.parametrize("preload", [False, True])
def test_a_slow_request_ends_while_the_same_worker_answers_others(tmp_path: Path, preload: bool) -> None:
    with started(tmp_path, limits={"request": LIMIT}, preload=preload) as machine, visitors(machine) as answers:
        before = machine.get("/").body
        answer, seconds = machine.timed("/sleep/60")
        assert (answer.status, answer.body) == (504, b"The request took too long.\n")
        assert LIMIT <= seconds < LIMIT + DELAY
        # Another worker replaces that with the stuck thread.
        assert soon(lambda: machine.get("/").body != before, LIMIT + DELAY)
    assert len(answers) > 20
    assert {answer.status for answer in answers} == {200}
    log = machine.uwsgi.log.read_text()
    assert f"<4>app: GET '/sleep/60' took longer than {LIMIT} s" in log
    assert "time.sleep(float(seconds))" in log


def test_a_worker_that_ends_finishes_its_other_requests(tmp_path: Path) -> None:
    with started(tmp_path, limits={"request": LIMIT}) as machine, ThreadPoolExecutor() as pool:
        slow = pool.submit(machine.timed, "/sleep/60")
        time.sleep(LIMIT / 2)
        others = [pool.submit(machine.timed, f"/sleep/{LIMIT - 1}") for _ in range(2)]
        assert [task.result()[0].status for task in others] == [200, 200]
        assert slow.result()[0].status == 504
        assert machine.get("/").status == 200


def test_a_stream_without_a_part_at_the_limit_gets_504(tmp_path: Path) -> None:
    with started(tmp_path, limits={"request": LIMIT}) as machine:
        assert machine.get("/late/60").status == 504


def test_a_worker_without_requests_stays(tmp_path: Path) -> None:
    with started(tmp_path, limits={"request": 1}) as machine:
        before = machine.get("/").body
        machine.get("/stream/0")
        time.sleep(3)
        assert machine.get("/").body == before


def test_a_stream_ends_at_the_limit(tmp_path: Path) -> None:
    with started(tmp_path, limits={"request": LIMIT}) as machine:
        begin = time.monotonic()
        with machine.nginx.connect() as client:
            client.sendall(b"GET /stream/60 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
            parts = b"".join(iter(lambda: client.recv(4096), b""))
        assert b"part 0" in parts and b"too long" not in parts
        assert LIMIT <= time.monotonic() - begin < LIMIT + DELAY


def arrivals(machine: Machine, path: str, encoding: str) -> list[float]:
    """Return the times at which the parts of a response arrive."""
    with machine.nginx.connect() as client:
        request = f"GET {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\nAccept-Encoding: {encoding}\r\n\r\n"
        client.sendall(request.encode())
        return [time.monotonic() for _ in iter(lambda: client.recv(4096), b"")]


@pytest.mark.parametrize("encoding", ["identity", "gzip"])
@pytest.mark.parametrize("kind", ["text/plain", "application/x-ndjson", "application/json", "text/event-stream"])
def test_a_stream_arrives_as_it_is_sent(machine: Machine, kind: str, encoding: str) -> None:
    times = arrivals(machine, f"/stream/0.5?{kind}", encoding)
    # The app pauses for half a second after each of three parts.
    assert times[-1] - times[0] > 0.9, times


def test_the_app_s_iterator_is_closed(machine: Machine) -> None:
    closed = machine.uwsgi.release / "closed"
    closed.unlink(missing_ok=True)
    assert machine.get("/stream/0").body == b"part 0\npart 1\npart 2\n"
    assert machine.nginx.send("HEAD /stream/0 HTTP/1.1\nHost: a\nConnection: close").status == 200
    assert soon(lambda: closed.read_text() == "closed closed ", DELAY)


def test_uwsgi_sends_a_file(machine: Machine) -> None:
    assert machine.get("/file").body == bytes(range(256)) * 1000


def test_a_response_with_a_length_is_buffered(machine: Machine) -> None:
    answer = machine.get("/length")
    assert answer.body == b"abc" and "x-accel-buffering" not in answer.headers


def test_the_page_for_a_timeout_does_not_reload_itself(tmp_path: Path) -> None:
    files = {"srv/app/current/settings/nginx/limits.conf": "uwsgi_read_timeout 1s;\n"}
    done = threading.Event()
    with MachineNginx(tmp_path / "root", files=files) as nginx:
        nginx.app.answer = lambda params, body: b"" if done.wait(DELAY) else b"late"
        answer = nginx.get("/", "a")
        done.set()
    assert answer.status == 504
    assert b"refresh" not in answer.body


def test_an_app_may_leave_its_folder_and_return_bytes(tmp_path: Path) -> None:
    start = "def app(environ, start_response):\n    start_response('200 OK', [])\n"
    app = f"import os\nos.chdir('/')\n{start}    return b'body'\n"
    with started(tmp_path, app=app) as machine:
        assert machine.get("/").body == b"body"


def test_the_loader_of_an_older_machine_takes_the_hook_without_effect(tmp_path: Path) -> None:
    (tmp_path / "recipe.json").write_text("{}")
    (tmp_path / "source").mkdir()
    code = "import sys; sys.modules['uwsgi'] = sys; exec(open(sys.argv[1]).read(), {'__name__': 'uwsgi_file_wsgi'})"
    run([sys.executable, "-c", code, paths.features() / "request-limit/hooks/limit.py"], cwd=tmp_path / "source")
