"""The loader of ASGI apps with a real uvicorn: start, requests, limits, stop, and the exchange over one socket."""

from __future__ import annotations

import os
import signal
import threading
import time
from pathlib import Path

import pytest
from asgi_loader import APP, PATIENCE, REQUEST, Connection, Loader
from conftest import soon

from bake.config import contract
from bake.diagnosis.diagnosis import diagnose


def test_each_worker_loads_the_app_and_stops_with_its_lifespan(tmp_path: Path) -> None:
    with Loader(tmp_path, workers=2) as loader:
        loader.await_ready()
        # READY comes with the first worker; the lock is free when all serve.
        assert soon(lambda: loader.events() == ["startup"] * 2, PATIENCE)
        assert len(loader.workers()) == 2
        assert loader.get("/").status == 200
        assert loader.stop() == 0
        assert sorted(loader.events()) == ["shutdown"] * 2 + ["startup"] * 2
    assert loader.log.read_text() == ""


ASGI2 = """
class app:
    def __init__(self, scope):
        self.scope = scope

    async def __call__(self, receive, send):
        assert self.scope["type"] == "http"
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"hello"})
"""


def test_an_app_with_the_older_interface_is_served(tmp_path: Path) -> None:
    with Loader(tmp_path, ASGI2) as loader:
        loader.await_ready()
        assert loader.get("/").body == b"hello"


def test_the_visitor_is_the_one_that_nginx_names(tmp_path: Path) -> None:
    with Loader(tmp_path) as loader:
        loader.await_ready()
        answer = loader.get("/", **{"X-Forwarded-For": "192.0.2.7", "X-Forwarded-Proto": "https"})
        assert b'"client":["192.0.2.7",0]' in answer.body and b'"scheme":"https"' in answer.body
        assert "server" not in answer.headers


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("import missing_library\n", "ModuleNotFoundError: No module named 'missing_library'"),
        ("raise SystemExit('no configuration')\n", "ImportError: no configuration"),
        ("app = 1 / 0\n", "ZeroDivisionError: division by zero"),
        ("def app(number): ...\napp(len(5))\n", "TypeError: object of type 'int' has no len()"),
        (APP.replace("    yield\n", "    raise RuntimeError('no database')\n    yield\n"), "RuntimeError: no database"),
    ],
)
def test_an_app_that_does_not_start_ends_the_loader_with_a_traceback(tmp_path: Path, text: str, message: str) -> None:
    with Loader(tmp_path, text, workers=2) as loader:
        assert loader.process.wait(PATIENCE) == 1
    log = loader.log.read_text()
    assert message in log
    # The last traceback is what `bake image` and `bake push` show.
    place = str(loader.release / "source")
    cause = diagnose(log.replace(place, f"{contract.CURRENT}/source")).exception
    assert cause is not None
    assert f"{cause.type}: {cause.message}" == message
    # An app that exits has no frame in the error that replaces its SystemExit.
    assert cause.location.startswith("app.py:") or "SystemExit" in text


@pytest.mark.parametrize("path", ["/wait?seconds=60", "/block?seconds=60"])
def test_a_request_that_exceeds_its_limit_is_answered(tmp_path: Path, path: str) -> None:
    with Loader(tmp_path, limits={"request": REQUEST}) as loader:
        loader.await_ready()
        begin = time.monotonic()
        assert loader.get(path).status == 504
        assert time.monotonic() - begin < 30
        assert f"app: GET '{path.partition('?')[0]}' took longer than {REQUEST} s" in loader.log.read_text()
        # A response that has begun may take longer.
        assert loader.get("/stream").body.endswith(b"part 2\n")


def test_a_worker_whose_event_loop_is_blocked_is_replaced(tmp_path: Path) -> None:
    with Loader(tmp_path, limits={"request": REQUEST}) as loader:
        loader.await_ready()
        (worker,) = loader.workers()
        with pytest.raises(ConnectionError):
            loader.get("/hang?seconds=30")
        log = loader.log.read_text()
        assert f"Timeout (0:00:{REQUEST + contract.SERVER_MARGIN})!" in log and "in hang\n" in log
        assert loader.get("/").status == 200
        assert worker not in loader.workers()


def test_a_worker_that_dies_is_replaced_while_others_serve(tmp_path: Path) -> None:
    with Loader(tmp_path, workers=2) as loader:
        loader.await_ready()
        assert soon(lambda: len(loader.events()) == 2, PATIENCE)
        os.kill(loader.workers()[0], signal.SIGKILL)
        assert loader.get("/").status == 200
        assert soon(lambda: len(loader.events()) == 3, PATIENCE)


def test_a_stopped_loader_finishes_its_requests_within_a_bound(tmp_path: Path) -> None:
    with Loader(tmp_path) as loader:
        loader.await_ready()
        answers = list[int]()
        visitor = threading.Thread(target=lambda: answers.append(loader.get("/wait?seconds=2").status))
        visitor.start()
        time.sleep(0.5)
        assert loader.stop() == 0
        visitor.join()
        assert answers == [200] and loader.events()[-1] == "shutdown"


def test_an_endless_stream_does_not_keep_a_stopped_loader(tmp_path: Path) -> None:
    endless = APP.replace("for number in range(3)", "for number in range(999)")
    with Loader(tmp_path, endless, limits={"request": REQUEST}) as loader:
        loader.await_ready()
        connection = Connection(loader.path)
        connection.request("GET", "/stream")
        assert connection.getresponse().read(7) == b"part 0\n"
        begin = time.monotonic()
        assert loader.stop() == 0
        assert time.monotonic() - begin < 30
        connection.close()


def test_one_import_serves_all_workers_of_an_app_that_is_preloaded(tmp_path: Path) -> None:
    text = APP + "import secrets\nKEY = secrets.token_hex()\nprint('loaded', flush=True)\n"
    with Loader(tmp_path, text, workers=2, environment={contract.PRELOAD: "1"}) as loader:
        loader.await_ready()
        assert soon(lambda: len(loader.events()) == 2, PATIENCE)
    assert loader.log.read_text().count("loaded") == 1


class Visitors:
    """Threads that send requests to a socket without a pause, and keep the answers."""

    def __init__(self, path: Path, count: int) -> None:
        self.path, self.statuses, self.problems = path, list[int](), list[str]()
        self.leave = threading.Event()
        self.threads = [threading.Thread(target=self.visit) for _ in range(count)]
        for thread in self.threads:
            thread.start()

    def visit(self) -> None:
        while not self.leave.is_set():
            connection = Connection(self.path)
            try:
                connection.request("GET", "/wait?seconds=0.01", headers={"Connection": "close"})
                self.statuses.append(connection.getresponse().status)
            except OSError as problem:
                self.problems.append(repr(problem))
            finally:
                connection.close()

    def end(self) -> None:
        self.leave.set()
        for thread in self.threads:
            thread.join()


def test_restarts_over_one_inherited_socket_lose_no_request(tmp_path: Path) -> None:
    """systemd keeps the socket: requests wait in its backlog while the loader restarts."""
    with Loader(tmp_path / "a", workers=2) as first:
        first.await_ready()
        visitors = Visitors(first.path, 8)
        try:
            for _ in range(3):
                time.sleep(1)
                assert first.stop() == 0
                first.restart()
                first.await_ready()
            time.sleep(1)
        finally:
            visitors.end()
    assert visitors.problems == []
    assert set(visitors.statuses) == {200} and len(visitors.statuses) > 50
