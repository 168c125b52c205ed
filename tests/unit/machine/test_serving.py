"""The machine's module that starts the app and asks how it is, through a server of the test's own."""

from __future__ import annotations

import http.server
import re
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import pytest
import trustme
from conftest import Fake

from bake.host import paths


class Nginx(http.server.ThreadingHTTPServer):
    """Answers over HTTPS with the statuses it is given, the last one again and again; its certificate is nobody's."""

    def __init__(self, authority: trustme.CA) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.statuses, self.named, self.heard = [200], list[str](), list[tuple[str, str]]()
        #: Seconds until it answers.
        self.delay = 0.0
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.sni_callback = lambda connection, name, context: self.named.append(name)
        authority.issue_cert("another.example").configure_cert(context)
        self.socket = context.wrap_socket(self.socket, server_side=True)


class Handler(http.server.BaseHTTPRequestHandler):
    """Answers for an `Nginx`, and keeps the connection open."""

    server: Nginx
    protocol_version = "HTTP/1.1"

    def log_message(self, *words: object) -> None:
        """Say nothing."""

    def do_GET(self) -> None:
        self.server.heard.append((self.path, self.headers["Host"]))
        time.sleep(self.server.delay)
        statuses = self.server.statuses
        self.send_response(statuses.pop(0) if len(statuses) > 1 else statuses[0])
        self.send_header("Content-Length", "0")
        self.end_headers()


@pytest.fixture
def https(monkeypatch: pytest.MonkeyPatch) -> Callable[[tuple[str, int]], None]:
    """Have this computer's port 443 be elsewhere."""
    connect = socket.create_connection

    def put(place: tuple[str, int]) -> None:
        def instead(address: tuple[str, int], timeout: float) -> socket.socket:
            assert address == ("127.0.0.1", 443)
            return connect(place, timeout)

        monkeypatch.setattr(socket, "create_connection", instead)

    return put


@pytest.fixture
def nginx(authority: trustme.CA, https: Callable[[tuple[str, int]], None]) -> Iterator[Nginx]:
    server = Nginx(authority)
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    https(("127.0.0.1", server.server_port))
    yield server
    server.shutdown()
    server.server_close()


def test_the_app_is_asked_as_a_visitor_would(serving: ModuleType, nginx: Nginx) -> None:
    nginx.statuses = [404, 200]
    assert [serving.ask("/up?deep=1", name) for name in ("one.example", "localhost")] == [404, 200]
    assert nginx.heard == [("/up?deep=1", "one.example"), ("/up?deep=1", "localhost")]
    assert nginx.named == ["one.example", "localhost"]


@pytest.mark.parametrize(
    ("statuses", "path", "problem"),
    [
        ([200], None, None),
        ([404], None, None),
        ([500], None, "/ answers 500"),
        ([302], "/healthz?deep=1", None),
        ([404], "/healthz", "/healthz answers 404"),
        # An app may need a moment.
        ([503, 200], None, None),
        ([503], None, "/ answers 503"),
    ],
)
def test_health_is_what_the_recipe_says(
    serving: ModuleType, nginx: Nginx, statuses: list[int], path: str | None, problem: str | None
) -> None:
    nginx.statuses = statuses
    # What /etc/app/domains says goes before what the recipe said.
    recipe = {"check": {"health": path}, "domains": ["recipe.example"]}
    if problem:
        with pytest.raises(serving.Unhealthy, match=problem):
            serving.await_health(recipe)
    else:
        serving.await_health(recipe)
    assert nginx.heard[0] == (path or "/", "one.example")


def test_a_machine_without_names_is_asked_all_the_same(serving: ModuleType, nginx: Nginx) -> None:
    serving.NAMES.write_text("")
    serving.await_health({})
    assert nginx.heard == [("/", "localhost")]


def test_a_machine_of_a_wildcard_is_asked_by_a_name(serving: ModuleType, nginx: Nginx) -> None:
    serving.NAMES.write_text("*.one.example\n")
    serving.await_health({})
    assert nginx.heard == [("/", "www.one.example")]


def test_an_app_that_nobody_serves_is_unhealthy(serving: ModuleType, https: Callable[[tuple[str, int]], None]) -> None:
    with socket.socket() as deaf:
        deaf.bind(("127.0.0.1", 0))
        https(deaf.getsockname())
        with pytest.raises(serving.Unhealthy, match=r"^/ does not answer"):
            serving.await_health({})


def test_a_page_may_take_all_of_the_patience(
    serving: ModuleType, nginx: Nginx, monkeypatch: pytest.MonkeyPatch
) -> None:
    nginx.delay = 0.5
    monkeypatch.setattr(serving, "HEALTH_PATIENCE", 5)
    serving.await_health({})
    monkeypatch.setattr(serving, "HEALTH_PATIENCE", 0.2)
    with pytest.raises(serving.Unhealthy, match=r"^/ does not answer: The read operation timed out"):
        serving.await_health({})


def test_an_app_that_does_not_stop_is_killed(serving: ModuleType, fake: Fake, tmp_path: Path) -> None:
    calls = tmp_path / "calls"
    # An app with EXTEND_TIMEOUT_USEC: systemd waits for it until it is killed.
    fake("systemctl", f'echo "$*" >> {calls}; [ $1 != restart ] || exec sleep 60')
    fake("timeout", f'echo "timeout $1" >> {calls}; shift; exec /usr/bin/timeout 0.5 "$@"')
    with pytest.raises(serving.NotStarted):
        serving.start("app")
    said = calls.read_text().splitlines()
    assert [said[0], *said[2:]] == ["start app.socket", "restart app.service", "kill -sKILL app.service"]
    # No app is killed within the time of its unit.
    text = (paths.rootfs() / "etc/systemd/system/app.service").read_text()
    seconds = sum(map(int, re.findall(r"^Timeout(?:Start|Stop)Sec=(\d+)$", text, re.M)))
    assert 0 < seconds < int(said[1].removeprefix("timeout "))


def test_health_may_be_asked_of_others(serving: ModuleType, nginx: Nginx) -> None:
    asked: list[tuple[str, str]] = []

    def ask(path: str, name: str) -> int:
        asked.append((path, name))
        return 204

    serving.await_health({"check": {"health": "/up"}}, ask)
    assert asked == [("/up", "one.example")] and nginx.heard == []


def test_settings_are_told_apart_by_every_file(serving: ModuleType, tmp_path: Path) -> None:
    digests = [serving.settings(tmp_path / "one"), serving.settings(tmp_path / "two")]
    for path in serving.SETTINGS:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("A=1\n")
        digests.append(serving.settings(tmp_path / "one"))
    assert len(set(digests)) == 2 + len(serving.SETTINGS)
    assert serving.settings(tmp_path / "one") == digests[-1]


def test_the_app_listens_where_nginx_is_led(program: Callable[..., ModuleType]) -> None:
    machine, serving = paths.rootfs(), program("serving.py")
    assert f"ListenStream={serving.SOCKET}\n" in (machine / "etc/systemd/system/app.socket").read_text()
    assert f"uwsgi_pass unix:{serving.DOOR};" in (machine / "usr/lib/app/nginx/server.conf").read_text()
