"""The module of a bundle's release that exchanges the app's workers, on sockets of the test's own."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import pytest
from conftest import Fake
from machine_nginx import read_packet

from bake.host import paths


@pytest.fixture
def exchange(serving: ModuleType, rooted: Callable[..., ModuleType], tmp_path: Path) -> ModuleType:
    (tmp_path / "proc").symlink_to("/proc")
    return rooted("exchange.py", paths.features() / "zero-downtime")


class App:
    """Answers on a socket as uWSGI would, with the status it is given."""

    def __init__(self, path: Path, status: int) -> None:
        self.status, self.heard = status, list[dict[str, str]]()
        #: Seconds until it answers, and between two bytes of its answer, which then has no end.
        self.delay = self.pause = 0.0
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(str(path))
        self.listener.listen()
        threading.Thread(target=self.serve, daemon=True).start()

    def serve(self) -> None:
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            with client:
                self.heard.append(dict(read_packet(client)))
                time.sleep(self.delay)
                with contextlib.suppress(OSError):
                    while self.pause:
                        client.sendall(b"X")
                        time.sleep(self.pause)
                with contextlib.suppress(BrokenPipeError):
                    client.sendall(f"HTTP/1.1 {self.status} SAID\r\nContent-Length: 0\r\n\r\n".encode())


@pytest.fixture
def app(tmp_path: Path) -> Iterator[Callable[..., App]]:
    """Start an app behind a service's socket: app("app", 503)."""
    started: list[App] = []

    def start(name: str, status: int) -> App:
        started.append(App(tmp_path / f"run/app/{name}.sock", status))
        return started[-1]

    yield start
    for one in started:
        one.listener.shutdown(socket.SHUT_RDWR)
        one.listener.close()


def test_a_service_is_asked_as_nginx_would(exchange: ModuleType, app: Callable[..., App]) -> None:
    answering = app("app-next", 404)
    assert exchange.ask("app-next", "/sant%C3%A9?deep=1", "one.example") == 404
    (heard,) = answering.heard
    assert (heard["REQUEST_URI"], heard["HTTP_HOST"]) == ("/sant%C3%A9?deep=1", "one.example")
    assert (heard["PATH_INFO"], heard["QUERY_STRING"]) == ("/sant\xc3\xa9", "deep=1")
    assert heard["HTTPS"] == "on" and heard["HTTP_X_FORWARDED_PROTO"] == "https"


def test_a_service_may_take_all_of_the_patience(
    exchange: ModuleType, app: Callable[..., App], monkeypatch: pytest.MonkeyPatch
) -> None:
    slow = app("app-next", 200)
    slow.delay = 0.5
    monkeypatch.setattr(exchange, "HEALTH_PATIENCE", 0.2)
    with pytest.raises(TimeoutError):
        exchange.ask("app-next", "/", "one.example")
    monkeypatch.setattr(exchange, "HEALTH_PATIENCE", 5)
    assert exchange.ask("app-next", "/", "one.example") == 200


def test_visitors_are_led_to_a_service_in_one_step(exchange: ModuleType) -> None:
    (exchange.RUN / ".uwsgi.sock.new").symlink_to("/left/by/a/power/cut")
    for name in ("app", "app-next"):
        exchange.lead(name)
        assert exchange.DOOR.readlink() == exchange.socket_of(name)
    assert [path.name for path in exchange.RUN.iterdir() if path.is_symlink()] == ["uwsgi.sock"]


def test_a_service_is_busy_while_somebody_is_connected(exchange: ModuleType) -> None:
    # The kernel's own table, and a server that accepts nobody yet: who waits counts as well.
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(exchange.socket_of("app")))
        listener.listen()
        assert not exchange.busy("app")
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(exchange.socket_of("app")))
            assert exchange.busy("app")
            assert not exchange.busy("app-next")
            exchange.await_idle("app", 0.1)
        listener.accept()[0].close()
        assert not exchange.busy("app")


def test_names_of_any_bytes_disturb_nobody(exchange: ModuleType, tmp_path: Path) -> None:
    row = "0000000000000000: 00000003 00000000 00000000 0001 03 12345"
    table = tmp_path / "unix"
    table.write_bytes(f"Num RefCount Protocol Flags Type St Inode Path\n{row} @odd".encode() + b"\n\n\xff name\n")
    assert not exchange.busy("app", table)
    table.write_text(table.read_text(errors="replace") + f"{row} {exchange.socket_of('app')}\n")
    assert exchange.busy("app", table)


@pytest.fixture
def systemctl(exchange: ModuleType, fake: Fake, tmp_path: Path) -> Path:
    """A systemctl that notes its words, and where the door leads at that moment; it fails at those in `fails`."""
    note = f'echo "$* ($(basename "$(readlink {exchange.DOOR})"))" >> {tmp_path}/words'
    fake("systemctl", f'{note}; ! grep -qxF "$*" {tmp_path}/fails 2> /dev/null')
    exchange.lead("app")
    return tmp_path / "words"


def test_visitors_are_elsewhere_while_the_app_is_exchanged(
    exchange: ModuleType, app: Callable[..., App], systemctl: Path
) -> None:
    services = [app("app", 200), app("app-next", 200)]
    exchange.hand_over({"check": {"health": "/up"}})
    assert systemctl.read_text().splitlines() == [
        "start app-next.socket (app.sock)",
        "restart app-next.service (app.sock)",
        "start app.socket (app-next.sock)",
        "restart app.service (app-next.sock)",
        "stop app-next.socket app-next.service (app.sock)",
    ]
    assert [(heard["HTTP_HOST"], heard["PATH_INFO"]) for one in services for heard in one.heard] == [
        ("one.example", "/up")
    ] * 2


def test_an_app_that_is_not_well_is_seen_by_no_visitor(
    exchange: ModuleType, serving: ModuleType, app: Callable[..., App], systemctl: Path
) -> None:
    app("app-next", 500)
    exchange.SERVED.write_text("before")
    with pytest.raises(serving.Unhealthy, match="answers 500"):
        exchange.hand_over({})
    words = systemctl.read_text()
    assert "app.service" not in words and "(app-next.sock)" not in words
    assert words.endswith("stop app-next.socket app-next.service (app.sock)\n")
    assert exchange.SERVED.read_text() == "before"


def test_what_runs_is_unknown_once_an_app_was_exchanged_that_is_not_well(
    exchange: ModuleType, serving: ModuleType, app: Callable[..., App], systemctl: Path
) -> None:
    app("app", 500)
    app("app-next", 200)
    exchange.SERVED.write_text("before")
    with pytest.raises(serving.Unhealthy, match="answers 500"):
        exchange.hand_over({})
    assert not exchange.SERVED.exists()
    assert systemctl.read_text().endswith("stop app-next.socket app-next.service (app.sock)\n")


def test_an_answer_that_arrives_byte_by_byte_has_no_more_time_than_any(
    exchange: ModuleType, serving: ModuleType, app: Callable[..., App], systemctl: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (exchange, serving):
        monkeypatch.setattr(module, "HEALTH_PATIENCE", 1)
    app("app-next", 200).pause = 0.1
    begin = time.monotonic()
    with pytest.raises(serving.Unhealthy, match="/ does not answer: timed out"):
        exchange.hand_over({})
    assert time.monotonic() - begin < 10
    assert "app.service" not in systemctl.read_text()


def test_an_app_that_does_not_start_is_said_so(
    exchange: ModuleType, serving: ModuleType, systemctl: Path, tmp_path: Path
) -> None:
    (tmp_path / "fails").write_text("restart app-next.service\n")
    with pytest.raises(serving.NotStarted, match="app-next does not start: see `systemctl status app-next`"):
        exchange.hand_over({})
    assert exchange.DOOR.readlink().name == "app.sock"


def test_the_units_listen_where_nginx_is_led(program: Callable[..., ModuleType]) -> None:
    exchange = program("exchange.py", paths.features() / "zero-downtime")
    ours, brought = paths.rootfs() / "etc/systemd/system", paths.features() / "zero-downtime/units"
    for path in (ours / "app.socket", brought / "app-next.socket"):
        assert f"ListenStream={exchange.socket_of(path.stem)}\n" in path.read_text()
