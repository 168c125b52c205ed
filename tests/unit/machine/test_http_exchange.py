"""The exchange of servers that speak HTTP, with nginx, two real loaders and visitors without a pause."""

from __future__ import annotations

import contextlib
import http.client
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import pytest
from asgi_loader import PATIENCE, REQUEST, Loader
from conftest import soon
from machine_nginx import MachineNginx
from run_launcher import Launcher
from websockets.exceptions import ConnectionClosedError
from websockets.sync.client import connect
from wsgi_loader import Gunicorn, Waitress

from bake.bundle import release_files
from bake.config.recipe import Recipe


class Visitors:
    """Threads that send requests to nginx without a pause, and keep the statuses and the problems."""

    def __init__(self, port: int, count: int) -> None:
        self.port, self.statuses, self.problems = port, list[int](), list[str]()
        self.leave = threading.Event()
        self.threads = [threading.Thread(target=self.visit) for _ in range(count)]
        for thread in self.threads:
            thread.start()

    def visit(self) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)
        while not self.leave.is_set():
            try:
                connection.request("GET", "/wait?seconds=0.01")
                response = connection.getresponse()
                response.read()
                self.statuses.append(response.status)
            except (OSError, http.client.HTTPException) as problem:
                self.problems.append(repr(problem))
                connection.close()
        connection.close()

    def end(self) -> None:
        self.leave.set()
        for thread in self.threads:
            thread.join()


@pytest.fixture
def exchange(
    serving: ModuleType, rooted: Callable[..., ModuleType], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> ModuleType:
    """The exchange of a release with an ASGI app."""
    files = release_files.files(tmp_path, Recipe.model_validate({"asgi": "app:app"}), [])
    (tmp_path / "exchange.py").write_text(files["settings/exchange.py"].text)
    (tmp_path / "proc").symlink_to("/proc")
    module = rooted("exchange.py", tmp_path)
    monkeypatch.setattr(module, "HEALTH_PATIENCE", PATIENCE)
    monkeypatch.setattr(serving, "HEALTH_PATIENCE", PATIENCE)
    return module


def test_a_service_is_asked_over_http_as_nginx_would(exchange: ModuleType, tmp_path: Path) -> None:
    with Loader(tmp_path / "app", path=exchange.socket_of("app-next")) as loader:
        loader.await_ready()
        assert exchange.ask("app-next", "/santé?deep=1", "one.example") == 200
        assert exchange.ask("app-next", "/stream", "one.example") == 200
    with pytest.raises(OSError):
        exchange.ask("app-next", "/", "one.example")


@contextlib.contextmanager
def machine(
    exchange: ModuleType, folder: Path, monkeypatch: pytest.MonkeyPatch, kind: type[Loader]
) -> Iterator[tuple[MachineNginx, dict[str, Loader]]]:
    """nginx, and behind it two loaders of a kind, which systemd's commands restart and stop."""
    settings = "srv/app/current/settings/nginx"
    recipe = Recipe.model_validate({**kind.keys, "limits": {"request": REQUEST}})
    files = {
        f"{settings}/{name}.conf": release_files.files(folder, recipe, [])[f"settings/nginx/{name}.conf"].text
        for name in ("http", "limits")
    }
    with MachineNginx(folder / "nginx", files=files) as nginx:
        nginx.app.close()
        for name, path in (("RUN", "run/app"), ("DOOR", "run/app/uwsgi.sock")):
            monkeypatch.setattr(exchange, name, folder / "nginx" / path)
        (exchange.RUN / "served").write_text("")
        monkeypatch.setattr(exchange, "SERVED", exchange.RUN / "served")
        limits = {"request": REQUEST}
        loaders = {
            name: kind(folder / name, workers=2, path=exchange.socket_of(name), limits=limits)
            for name in ("app", "app-next")
        }
        monkeypatch.setattr(exchange, "start", lambda name: loaders[name].start_again())
        monkeypatch.setattr(exchange, "command", lambda *words: loaders["app-next"].stop())
        with loaders["app"], loaders["app-next"]:
            for loader in loaders.values():
                loader.await_ready()
            exchange.lead("app")
            yield nginx, loaders


class Client(threading.Thread):
    """A visitor with a WebSocket, who connects again when it is closed. `codes` are those of the closings."""

    def __init__(self, port: int) -> None:
        super().__init__()
        self.port, self.codes, self.leave = port, list[int](), threading.Event()
        self.connected = threading.Event()
        self.start()

    def run(self) -> None:
        while not self.leave.is_set():
            with connect(f"ws://127.0.0.1:{self.port}/echo", proxy=None, open_timeout=PATIENCE) as client:
                client.recv(PATIENCE)
                self.connected.set()
                try:
                    while not self.leave.is_set():
                        with contextlib.suppress(TimeoutError):
                            client.recv(0.1)
                except ConnectionClosedError as closed:
                    self.codes.append(closed.rcvd.code if closed.rcvd else 0)
                    self.connected.clear()


class Follower(Client):
    """A visitor with an event stream, as a browser's EventSource. `codes` has a 0 for each end of a stream."""

    def run(self) -> None:
        while not self.leave.is_set():
            connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)
            connection.request("GET", "/events", headers={"Accept": "text/event-stream"})
            stream = connection.getresponse()
            with contextlib.suppress(http.client.IncompleteRead):
                while not self.leave.is_set() and stream.readline():
                    self.connected.set()
            connection.close()
            if not self.leave.is_set():
                self.connected.clear()
                self.codes.append(0)


@pytest.mark.parametrize(("kind", "codes"), [(Client, [1012]), (Follower, [0])])
def test_an_exchange_ends_what_stays_open_only_once(
    exchange: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: type[Client], codes: list[int]
) -> None:
    with machine(exchange, tmp_path, monkeypatch, Loader) as (nginx, _):
        client = kind(nginx.http)
        assert client.connected.wait(PATIENCE)
        exchange.hand_over({"limits": {"request": REQUEST}})
        assert client.connected.wait(PATIENCE)
        client.leave.set()
        client.join()
    assert client.codes == codes


def test_an_exchange_under_load_fails_no_request_and_closes_a_websocket(
    exchange: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with machine(exchange, tmp_path, monkeypatch, Loader) as (nginx, loaders):
        visitors = Visitors(nginx.http, 6)
        with connect(f"ws://127.0.0.1:{nginx.http}/echo", proxy=None) as client:
            client.recv(PATIENCE)
            begin = time.monotonic()
            exchange.hand_over({"limits": {"request": REQUEST}})
            visitors.end()
            with pytest.raises(ConnectionClosedError) as caught:
                client.recv(0)
        assert caught.value.rcvd is not None and caught.value.rcvd.code == 1012
        # The WebSocket delayed the restart of its server for the drain time.
        assert time.monotonic() - begin > REQUEST + 5
        assert soon(lambda: loaders["app"].events().count("startup") == 4, PATIENCE)
    assert visitors.problems == []
    assert set(visitors.statuses) == {200} and len(visitors.statuses) > 100


@pytest.mark.parametrize("kind", [Launcher, Gunicorn, Waitress])
def test_an_exchange_of_other_servers_under_load_fails_no_request(
    exchange: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: type[Loader]
) -> None:
    with machine(exchange, tmp_path, monkeypatch, kind) as (nginx, loaders):
        visitors = Visitors(nginx.http, 6)
        exchange.hand_over({"limits": {"request": REQUEST}})
        # A restart without an exchange: new connections wait in the socket.
        loaders["app"].start_again()
        visitors.end()
    assert visitors.problems == []
    assert set(visitors.statuses) == {200} and len(visitors.statuses) > 100
