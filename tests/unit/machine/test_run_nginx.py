"""The machine's nginx in front of a program that serves by itself."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from asgi_loader import PATIENCE
from machine_nginx import MachineNginx
from run_launcher import APP, Launcher
from websockets.sync.client import connect

from bake.bundle import release_files
from bake.config.recipe import Recipe

#: A server of WebSockets, as the documentation of websockets shows it.
WEBSOCKETS = """
import asyncio, os
from websockets.asyncio.server import serve

async def echo(websocket):
    await websocket.send(websocket.request.headers["X-Forwarded-Proto"])
    async for message in websocket:
        await websocket.send(message)

async def main():
    async with serve(echo, "127.0.0.1", int(os.environ["PORT"])) as server:
        await server.serve_forever()

asyncio.run(main())
"""


#: The beginning of APP's header.
LENGTH = '\n        self.send_header("Content-Length"'


def start(folder: Path, text: str) -> Iterator[MachineNginx]:
    """Start a machine whose release has a program."""
    recipe = Recipe.model_validate({"run": "python3 app.py"})
    files = {
        f"srv/app/current/{name}": file.text
        for name, file in release_files.files(folder, recipe, []).items()
        if name.startswith("settings/nginx/")
    }
    with (
        MachineNginx(folder / "root", files=files) as nginx,
        Launcher(folder / "app", text, path=nginx.socket_of_app()) as launcher,
    ):
        launcher.await_ready()
        yield nginx


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[MachineNginx]:
    yield from start(tmp_path, APP)


@pytest.fixture
def websockets(tmp_path: Path) -> Iterator[MachineNginx]:
    yield from start(tmp_path, WEBSOCKETS)


def test_a_program_gets_the_request_and_the_visitor(machine: MachineNginx) -> None:
    answer = machine.get("/a%2Fb", "shop.example", {"X-Forwarded-For": "203.0.113.66"})
    assert answer.status == 200 and answer.body.startswith(b"/a%2Fb ") and answer.body.endswith(b" 127.0.0.1")
    assert answer.headers["server"] == "nginx"


def test_a_program_s_stream_arrives_as_it_is_sent(machine: MachineNginx) -> None:
    with machine.connect() as client:
        client.sendall(b"GET /stream HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        times = []
        while client.recv(4096):
            times.append(time.monotonic())
    assert times[-1] - times[0] > 0.9, times


def test_a_program_s_websocket_passes(websockets: MachineNginx) -> None:
    with connect(f"ws://127.0.0.1:{websockets.http}/", proxy=None) as client:
        assert client.recv(PATIENCE) == "http"
        for text in ("hello", json.dumps(["y" * 100_000])):
            client.send(text)
            assert client.recv(PATIENCE) == text


@pytest.mark.parametrize(("site", "encoding"), [("same-origin", "gzip"), ("same-site", None), ("cross-site", None)])
def test_a_program_s_page_for_another_site_is_not_compressed(tmp_path: Path, site: str, encoding: str | None) -> None:
    text = APP.replace(LENGTH, f'{LENGTH.replace("Length", "Type")}, "text/html"){LENGTH}')
    for machine in start(tmp_path, text):
        headers = {"Accept-Encoding": "gzip", "Sec-Fetch-Site": site}
        answer = machine.get(f"/{'a' * 900}", "shop.example", headers)
        assert (answer.status, answer.headers.get("content-encoding")) == (200, encoding)
