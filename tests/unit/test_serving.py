"""The machine's module that starts the app and exchanges its workers, on sockets of the test's own."""

from __future__ import annotations

import json
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import pytest
from conftest import Fake


@pytest.fixture
def serving(program: Callable[[str], ModuleType], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> ModuleType:
    module = program("serving.py")
    monkeypatch.setattr(module, "RUN", tmp_path)
    monkeypatch.setattr(module, "DOOR", tmp_path / "uwsgi.sock")
    monkeypatch.setattr(module, "SERVED", tmp_path / "served")
    monkeypatch.setattr(module, "NAMES", tmp_path / "names")
    monkeypatch.setattr(module, "HEALTH_PATIENCE", 0.3)
    (tmp_path / "names").write_text("one.example\ntwo.example\n")
    return module


class App:
    """Answers on a socket as uWSGI would, with the statuses it is given; the last one again and again."""

    def __init__(self, path: Path, statuses: list[int]) -> None:
        self.statuses, self.heard = statuses, list[dict[str, str]]()
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
                kind, size, other = struct.unpack("<BHB", client.recv(4, socket.MSG_WAITALL))
                assert (kind, other) == (0, 0)
                packet = client.recv(size, socket.MSG_WAITALL)
                words = []
                while packet:
                    (length,) = struct.unpack("<H", packet[:2])
                    words.append(packet[2 : 2 + length].decode())
                    packet = packet[2 + length :]
                self.heard.append(dict(zip(words[::2], words[1::2], strict=True)))
                status = self.statuses.pop(0) if len(self.statuses) > 1 else self.statuses[0]
                client.sendall(f"HTTP/1.1 {status} SAID\r\nContent-Length: 0\r\n\r\n".encode())


@pytest.fixture
def app(tmp_path: Path) -> Iterator[Callable[..., App]]:
    """Start an app behind a service's socket: app("app", 503, 200)."""
    started: list[App] = []

    def start(name: str, *statuses: int) -> App:
        started.append(App(tmp_path / f"{name}.sock", list(statuses)))
        return started[-1]

    yield start
    for one in started:
        one.listener.shutdown(socket.SHUT_RDWR)
        one.listener.close()


@pytest.mark.parametrize(
    ("statuses", "path", "problem"),
    [
        ([200], None, None),
        ([404], None, None),
        ([500], None, "unhealthy: / answers 500"),
        ([302], "/healthz?deep=1", None),
        ([404], "/healthz", "unhealthy: /healthz answers 404"),
        # An app may need a moment.
        ([503, 200], None, None),
        ([503], None, "unhealthy: / answers 503"),
    ],
)
def test_health_is_what_the_recipe_says(
    serving: ModuleType, app: Callable[..., App], statuses: list[int], path: str | None, problem: str | None
) -> None:
    answering = app("app", *statuses)
    # What /etc/app/domains says goes before what the recipe said.
    recipe = {"check": {"health": path}, "domains": ["recipe.example"]}
    if problem:
        with pytest.raises(serving.StepError, match=problem):
            serving.await_health("app", recipe)
    else:
        serving.await_health("app", recipe)
    heard = answering.heard[0]
    assert (heard["REQUEST_URI"], heard["HTTP_HOST"]) == (path or "/", "one.example")
    assert "?" not in heard["PATH_INFO"]


def test_an_app_that_nobody_serves_is_unhealthy(serving: ModuleType) -> None:
    with pytest.raises(serving.StepError, match="unhealthy: / does not answer"):
        serving.await_health("app", {})


def test_visitors_are_led_to_a_service_in_one_step(serving: ModuleType, tmp_path: Path) -> None:
    (tmp_path / ".uwsgi.sock.new").symlink_to("/left/by/a/power/cut")
    for name in ("app", "app-next"):
        serving.lead(name)
        assert serving.DOOR.readlink() == tmp_path / f"{name}.sock"
    assert [path.name for path in tmp_path.iterdir() if path.is_symlink()] == ["uwsgi.sock"]


def test_a_service_is_busy_while_somebody_is_connected(serving: ModuleType, tmp_path: Path) -> None:
    # The kernel's own table, and a server that accepts nobody yet: who waits counts as well.
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "app.sock"))
        listener.listen()
        assert not serving.busy("app")
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(tmp_path / "app.sock"))
            assert serving.busy("app")
            assert not serving.busy("app-next")
            serving.await_idle("app", 0.1)
        listener.accept()[0].close()
        assert not serving.busy("app")


def test_names_of_any_bytes_disturb_nobody(serving: ModuleType, tmp_path: Path) -> None:
    row = "0000000000000000: 00000003 00000000 00000000 0001 03 12345"
    table = tmp_path / "unix"
    table.write_bytes(f"Num RefCount Protocol Flags Type St Inode Path\n{row} @odd".encode() + b"\n\n\xff name\n")
    assert not serving.busy("app", table)
    table.write_text(table.read_text(errors="replace") + f"{row} {tmp_path}/app.sock\n")
    assert serving.busy("app", table)


@pytest.fixture
def systemctl(serving: ModuleType, fake: Fake, tmp_path: Path) -> Path:
    """A systemctl that notes its words, and where the door leads at that moment; it fails at those in `fails`."""
    note = f'echo "$* ($(basename "$(readlink {tmp_path}/uwsgi.sock)"))" >> {tmp_path}/words'
    fake("systemctl", f'{note}; ! grep -qxF "$*" {tmp_path}/fails 2> /dev/null')
    serving.lead("app")
    return tmp_path / "words"


def test_visitors_are_elsewhere_while_the_app_is_exchanged(
    serving: ModuleType, app: Callable[..., App], systemctl: Path
) -> None:
    app("app", 200)
    app("app-next", 200)
    serving.hand_over({})
    assert systemctl.read_text().splitlines() == [
        "start app-next.socket (app.sock)",
        "restart app-next.service (app.sock)",
        "start app.socket (app-next.sock)",
        "restart app.service (app-next.sock)",
        "stop app-next.socket app-next.service (app.sock)",
    ]


def test_an_app_that_is_not_well_is_seen_by_no_visitor(
    serving: ModuleType, app: Callable[..., App], systemctl: Path
) -> None:
    app("app-next", 500)
    serving.SERVED.write_text("before")
    with pytest.raises(serving.StepError, match="answers 500"):
        serving.hand_over({})
    words = systemctl.read_text()
    assert "app.service" not in words and "(app-next.sock)" not in words
    assert words.endswith("stop app-next.socket app-next.service (app.sock)\n")
    assert serving.SERVED.read_text() == "before"


def test_an_app_that_does_not_start_is_said_so(serving: ModuleType, systemctl: Path, tmp_path: Path) -> None:
    (tmp_path / "fails").write_text("restart app-next.service\n")
    with pytest.raises(serving.StepError, match="app start failed: `journalctl -u app-next` says why"):
        serving.hand_over({})
    assert serving.DOOR.readlink().name == "app.sock"


def test_settings_are_told_apart_by_every_file(serving: ModuleType, tmp_path: Path) -> None:
    serving.SETTINGS = (tmp_path / "env", tmp_path / "secrets.env")
    digests = [serving.settings(tmp_path / "one"), serving.settings(tmp_path / "two")]
    for path in serving.SETTINGS:
        path.write_text("A=1\n")
        digests.append(serving.settings(tmp_path / "one"))
    assert len(set(digests)) == 4
    assert serving.settings(tmp_path / "one") == digests[-1]


def test_the_units_listen_where_nginx_is_led(serving: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Path(__file__).parents[2] / "cloud-init/rootfs"
    monkeypatch.setattr(serving, "RUN", Path("/run/app"))
    for name in (serving.APP, serving.NEXT):
        unit = (machine / f"etc/systemd/system/{name}.socket").read_text()
        assert f"ListenStream={serving.socket_of(name)}\n" in unit
    assert "uwsgi_pass unix:/run/app/uwsgi.sock;" in (machine / "usr/lib/app/nginx/server.conf").read_text()
    assert json.dumps(str(serving.DOOR)).endswith('/uwsgi.sock"')
