"""A front page that takes its time, asked by `bake run` and `bake launch`."""

from __future__ import annotations

import contextlib
import http.server
import socketserver
import threading
import time
import types
from collections.abc import Iterator
from typing import cast

import pytest

from bake.aws.instances import health
from bake.deploy import local_run
from bake.errors import BootError
from bake.vm import qemu


class Slow(http.server.ThreadingHTTPServer):
    """An app whose pages take `delay` seconds."""

    delay = 0.6
    daemon_threads = True


class Handler(http.server.BaseHTTPRequestHandler):
    """Answers for a `Slow`."""

    server: Slow

    def log_message(self, *words: object) -> None:
        """Say nothing."""

    def do_GET(self) -> None:
        # Challenges are nginx's to answer.
        if not self.path.startswith("/.well-known/acme-challenge/"):
            time.sleep(self.server.delay)
        self.send_response(200)
        self.end_headers()


@pytest.fixture
def slow() -> Iterator[Slow]:
    server = Slow(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


class Endless(socketserver.BaseRequestHandler):
    """Sends a byte of a header ten times a second, without an end."""

    def handle(self) -> None:
        with contextlib.suppress(OSError):
            self.request.sendall(b"HTTP/1.1 200 OK\r\nX-Long: ")
            while self.request.send(b"x"):
                time.sleep(0.1)


@pytest.fixture
def endless() -> Iterator[int]:
    """The port of a server whose answers have no end."""
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Endless) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        yield server.server_address[1]
        server.shutdown()


#: A machine that runs.
MACHINE = cast(
    qemu.Machine, types.SimpleNamespace(process=types.SimpleNamespace(poll=lambda: None), tail=lambda n=0: "")
)


def test_bake_run_waits_for_a_slow_page(slow: Slow, monkeypatch: pytest.MonkeyPatch) -> None:
    # A page that takes longer than the first greeting.
    monkeypatch.setattr(qemu, "GREETING_PATIENCE", 0.4)
    monkeypatch.setattr(qemu, "BOOT_PATIENCE", 10.0)
    local_run._await_answer(MACHINE, slow.server_port, lambda what: None)
    monkeypatch.setattr(qemu, "BOOT_PATIENCE", 0.3)
    monkeypatch.setattr(local_run, "ANSWER_PATIENCE", 0.3)
    with pytest.raises(BootError, match="did not answer"):
        local_run._await_answer(MACHINE, slow.server_port, lambda what: None)


def test_a_launch_waits_for_a_slow_page(slow: Slow, monkeypatch: pytest.MonkeyPatch) -> None:
    # A machine has to accept the connection soon; the app may take longer.
    monkeypatch.setattr(health, "CONNECT_PATIENCE", 0.2)
    endpoints = health.Endpoints("127.0.0.1", ((80, ("127.0.0.1", slow.server_port)),))
    assert health.ask(endpoints, "shop.example", "/").status == 200
    monkeypatch.setattr(health, "ANSWER_PATIENCE", 0.2)
    answer = health.ask(endpoints, "shop.example", "/")
    assert (answer.status, answer.text) == (0, "timed out")


def test_an_answer_without_an_end_is_no_answer(endless: int, monkeypatch: pytest.MonkeyPatch) -> None:
    begin = time.monotonic()
    assert local_run._status(endless, "/", 0.5) == 0
    monkeypatch.setattr(health, "ANSWER_PATIENCE", 0.5)
    endpoints = health.Endpoints("127.0.0.1", ((80, ("127.0.0.1", endless)),))
    answer = health.ask(endpoints, "shop.example", "/")
    assert (answer.status, answer.text) == (0, "timed out")
    assert time.monotonic() - begin < 10
