"""The machine's nginx in front of an ASGI app that a real uvicorn serves."""

from __future__ import annotations

import json
import re
import ssl
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from asgi_loader import PATIENCE, REQUEST, Loader
from machine_nginx import Answer, MachineNginx
from websockets.exceptions import ConnectionClosedError
from websockets.sync.client import ClientConnection, connect

from bake.bundle import release_files
from bake.config.recipe import Recipe
from bake.host import paths

FORGED = "203.0.113.66"
NGINX = "srv/app/current/settings/nginx"
#: The headers that server.conf sets or drops for WSGI apps.
SERVER = (paths.rootfs() / "usr/lib/app/nginx/server.conf").read_text()
IDENTITY = sorted(name.replace("_", "-").lower() for name in re.findall(r"uwsgi_param HTTP_(\w+)", SERVER))


@dataclass
class Machine:
    """nginx, and behind it the loader with its app."""

    nginx: MachineNginx
    loader: Loader

    def websocket(self, tls: bool = False) -> ClientConnection:
        """Connect to the WebSocket that echoes."""
        context = ssl._create_unverified_context() if tls else None
        scheme, port = ("wss", self.nginx.https) if tls else ("ws", self.nginx.http)
        return connect(f"{scheme}://127.0.0.1:{port}/echo", ssl=context, proxy=None)


def start(folder: Path, **keys: Any) -> Iterator[Machine]:
    """Start a machine whose release has an ASGI app."""
    (folder / "static").mkdir()
    recipe = Recipe.model_validate({"asgi": "app:app", **keys}, context={"folder": folder})
    files = {
        f"{NGINX}/{name.rpartition('/')[2]}": file.text
        for name, file in release_files.files(folder, recipe, []).items()
        if name.startswith("settings/nginx/")
    }
    static = {"srv/app/current/source/static/a.css": "body {}"}
    limits = recipe.limits.model_dump(include={"request"})
    with (
        MachineNginx(folder / "root", files={**files, **static}) as nginx,
        Loader(folder / "app", path=nginx.socket_of_app(), limits=limits) as loader,
    ):
        loader.await_ready()
        yield Machine(nginx, loader)


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    yield from start(tmp_path_factory.mktemp("asgi"), static={"/static": "static"})


@pytest.fixture
def impatient(tmp_path: Path) -> Iterator[Machine]:
    """A machine on which a request may take a few seconds."""
    yield from start(tmp_path, limits={"request": REQUEST})


def seen(answer: Answer) -> dict[str, Any]:
    """Return the request as the app reports it."""
    assert answer.status == 200, answer
    request: dict[str, Any] = json.loads(answer.body)
    return request


def test_the_app_gets_the_request_and_the_visitor(machine: Machine) -> None:
    request = seen(machine.nginx.get("//a/b%2Fc?d=%20e", "shop.example:8080"))
    assert (request["raw"], request["path"], request["scheme"]) == ("//a/b%2Fc", "//a/b/c", "http")
    assert request["url"] == "http://shop.example:8080//a/b/c?d=%20e"
    assert request["client"] == ["127.0.0.1", 0]
    assert seen(machine.nginx.get("/", "shop.example", tls="shop.example"))["scheme"] == "https"
    answer = machine.nginx.get("/", "shop.example")
    assert answer.headers["server"] == "nginx" and answer.headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize("name", [name for name in IDENTITY if name not in ("host", "transfer-encoding")])
def test_a_visitor_cannot_forge_a_header(machine: Machine, name: str) -> None:
    headers = seen(machine.nginx.get("/", "shop.example", {name: FORGED}))["headers"]
    assert FORGED not in headers.values()
    underscored = seen(machine.nginx.get("/", "shop.example", {name.replace("-", "_"): FORGED}))["headers"]
    assert FORGED not in underscored.values()


def test_the_app_gets_these_headers_and_no_others(machine: Machine) -> None:
    headers = seen(machine.nginx.get("/", "shop.example:8080", {"X-Own": "kept", "Proxy-Authorization": "x"}))[
        "headers"
    ]
    assert headers == {
        "host": "shop.example:8080", "connection": "close", "x-real-ip": "127.0.0.1", "x-forwarded-for": "127.0.0.1",
        "x-forwarded-proto": "http", "x-forwarded-host": "shop.example:8080", "x-forwarded-port": "8080",
        "x-own": "kept", "proxy-authorization": "x",
    }  # fmt: skip


def test_a_connection_becomes_a_websocket_and_nothing_else(machine: Machine) -> None:
    upgrade = {"Connection": "Upgrade, X-Forwarded-For", "Upgrade": "h2c", "HTTP2-Settings": "AAMAAABk"}
    headers = seen(machine.nginx.get("/", "shop.example", upgrade))["headers"]
    assert headers["connection"] == "close" and "upgrade" not in headers
    assert headers["x-forwarded-for"] == "127.0.0.1"


def test_bodies_and_headers_have_the_same_bounds_as_for_wsgi_apps(machine: Machine) -> None:
    lines = "POST / HTTP/1.1\nHost: shop.example\nConnection: close\nContent-Length: {}"
    body = b"x" * 1_000_000
    assert seen(machine.nginx.send(lines.format(len(body)), body=body))["body"] == len(body)
    assert machine.nginx.send(lines.format(11 << 20)).status == 413
    cookies = {f"X-Large-{number}": "y" * 13_000 for number in range(3)}
    headers = seen(machine.nginx.get("/", "shop.example", cookies))["headers"]
    assert len(headers["x-large-2"]) == 13_000


@pytest.mark.parametrize("encoding", ["identity", "gzip"])
def test_a_stream_arrives_as_it_is_sent(machine: Machine, encoding: str) -> None:
    with machine.nginx.connect() as client:
        request = f"GET /stream HTTP/1.1\r\nHost: a\r\nConnection: close\r\nAccept-Encoding: {encoding}\r\n\r\n"
        client.sendall(request.encode())
        times = []
        while client.recv(4096):
            times.append(time.monotonic())
    # The app pauses for half a second after each of three parts.
    assert times[-1] - times[0] > 0.9, times


@pytest.mark.parametrize("tls", [False, True])
def test_a_websocket_works_over_http_and_https(machine: Machine, tls: bool) -> None:
    with machine.websocket(tls) as client:
        assert json.loads(client.recv(PATIENCE)) == {"scheme": "wss" if tls else "ws", "client": "127.0.0.1"}
        for text in ("hello", "y" * 100_000):
            client.send(text)
            assert client.recv(PATIENCE) == text


def test_challenges_do_not_reach_the_app(machine: Machine) -> None:
    answer = machine.nginx.get("/.well-known/acme-challenge/none", "a")
    assert answer.status == 404 and b"<center>nginx</center>" in answer.body


def test_nginx_serves_static_files_and_the_app_the_missing_ones(machine: Machine) -> None:
    assert machine.nginx.get("/static/a.css", "a").body == b"body {}"
    assert seen(machine.nginx.get("/static/b.css", "a"))["path"] == "/static/b.css"


def test_an_idle_websocket_outlives_the_limit_of_a_request(impatient: Machine) -> None:
    with impatient.websocket() as client:
        client.recv(PATIENCE)
        # nginx closes connections on which nothing was sent for this time.
        time.sleep(REQUEST + 5 + 2)
        client.send("still here")
        assert client.recv(PATIENCE) == "still here"


def test_a_websocket_learns_that_the_server_restarts(impatient: Machine) -> None:
    with impatient.websocket() as client:
        client.recv(PATIENCE)
        assert impatient.loader.stop() == 0
        with pytest.raises(ConnectionClosedError) as caught:
            client.recv(PATIENCE)
    assert caught.value.rcvd is not None and caught.value.rcvd.code == 1012


def test_visitors_see_the_machines_page_while_the_app_does_not_answer(impatient: Machine) -> None:
    impatient.loader.stop()
    impatient.loader.listener.close()
    answer = impatient.nginx.get("/", "shop.example")
    assert answer.status == 503 and b"is being set up" in answer.body


def test_a_request_that_takes_too_long_is_answered(impatient: Machine) -> None:
    assert impatient.nginx.get("/wait?seconds=60", "shop.example").status == 504
