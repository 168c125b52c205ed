"""The launcher of programs that serve by themselves: start, connections, stop, and the faults of programs."""

from __future__ import annotations

import asyncio
import http.client
import os
import signal
import socket
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
from asgi_loader import PATIENCE, Connection, assert_stop_waits
from conftest import soon
from run_launcher import APP, Launcher, free_port

from bake.diagnosis.diagnosis import diagnose
from bake.host import paths

#: A WebSocket's handshake without its key. The program keeps the connection open.
UPGRADED = """
import os, socket, time
listener = socket.create_server(("127.0.0.1", int(os.environ["PORT"])))
while True:
    client = listener.accept()[0]
    request = client.recv(9999)
    if b"/socket" in request:
        client.sendall(b"HTTP/1.1 101 Switching Protocols\\r\\n\\r\\nhello")
        keep = client
    else:
        client.sendall(b"HTTP/1.1 200 OK\\r\\nContent-Length: 0\\r\\n\\r\\n")
        client.close()
"""


def test_a_program_serves_at_its_port_behind_the_socket(tmp_path: Path) -> None:
    with Launcher(tmp_path) as launcher:
        launcher.await_ready()
        answer = launcher.get("/page", **{"X-Forwarded-For": "192.0.2.7"})
        assert answer.status == 200 and answer.body.startswith(b"/page ") and answer.body.endswith(b" 192.0.2.7")
        connection = http.client.HTTPConnection("127.0.0.1", launcher.port)
        connection.request("GET", "/direct")
        assert connection.getresponse().read().startswith(b"/direct")
        connection.close()
        assert launcher.stop() == 0
    assert launcher.log.read_text() == f"app: 'python3 app.py' starts with PORT={launcher.port}\n"


def test_what_a_visitor_sends_at_once_is_not_lost(program: Callable[..., ModuleType]) -> None:
    run = program("run.py", paths.features() / "run")
    lines: list[bytes] = []

    async def keep(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        lines.append(await reader.readline())
        writer.close()

    async def visit() -> None:
        server = await asyncio.start_server(keep, "127.0.0.1", 0)
        visitor = run.Visitor(server.sockets[0].getsockname()[1])
        nginx, side = socket.socketpair()
        with nginx:
            await asyncio.get_running_loop().connect_accepted_socket(lambda: visitor, side)
            # Debian 12's Python reads before it heeds `pause_reading`.
            visitor.data_received(b"early ")
            nginx.sendall(b"late\n")
            while not lines:
                await asyncio.sleep(0.01)
        server.close()

    asyncio.run(asyncio.wait_for(visit(), PATIENCE))
    assert lines == [b"early late\n"]


def test_ready_is_reported_when_a_slow_program_answers(tmp_path: Path) -> None:
    begin = time.monotonic()
    with Launcher(tmp_path, f"import time\ntime.sleep(3)\n{APP}") as launcher:
        launcher.await_ready()
        assert time.monotonic() - begin > 3
        assert launcher.get("/").status == 200


@pytest.mark.parametrize("text", ["raise SystemExit(3)", "import missing_library", "pass"])
def test_a_program_that_ends_fails_the_start_at_once(tmp_path: Path, text: str) -> None:
    with Launcher(tmp_path, text) as launcher:
        assert launcher.process.wait(PATIENCE) == 1
    assert "'python3 app.py' ended with" in launcher.log.read_text()


def test_a_program_that_ends_later_ends_its_launcher_too(tmp_path: Path) -> None:
    with Launcher(tmp_path) as launcher:
        launcher.await_ready()
        os.kill(int(launcher.get("/").body.split()[1]), signal.SIGKILL)
        assert launcher.process.wait(PATIENCE) == 1


def test_a_program_that_ignores_the_port_is_reported_with_the_key(tmp_path: Path) -> None:
    port = free_port()
    text = APP.replace('int(os.environ["PORT"])', str(port))
    with Launcher(tmp_path / "without", text) as launcher:
        assert soon(lambda: f"write  port: {port}" in launcher.log.read_text(), PATIENCE)
        cure = diagnose(launcher.log.read_text().replace("<4>", "")).text
        assert cure == f"The program does not listen at the port in PORT.\nAdd to bake.yaml:  port: {port}"
        assert launcher.stop() == 0
    with Launcher(tmp_path / "with", text, port=port) as launcher:
        launcher.await_ready()
        assert launcher.get("/").status == 200


def test_frameworks_get_the_port_and_the_machines_variables_stay_hidden(tmp_path: Path) -> None:
    text = APP.replace("self.headers['X-Forwarded-For']", "dict(os.environ)")
    with Launcher(tmp_path, text) as launcher:
        launcher.await_ready()
        shown = launcher.get("/").body.decode()
    for name in ("PORT", "STREAMLIT_SERVER_PORT", "GRADIO_SERVER_PORT", "FLASK_RUN_PORT", "UVICORN_PORT"):
        assert f"'{name}': '{launcher.port}'" in shown
    assert "'STREAMLIT_SERVER_ADDRESS': '127.0.0.1'" in shown and "'BOKEH_ALLOW_WS_ORIGIN': '*'" in shown
    assert "NOTIFY_SOCKET" not in shown and "LISTEN_" not in shown


def test_a_stop_waits_for_requests_and_new_ones_wait_for_the_next_start(tmp_path: Path) -> None:
    with Launcher(tmp_path) as launcher:
        assert_stop_waits(launcher, "/wait?seconds=2")


def test_a_stop_is_bounded_by_the_limit_of_a_request(tmp_path: Path) -> None:
    with Launcher(tmp_path, limits={"request": 1}) as launcher:
        launcher.await_ready()
        connection = Connection(launcher.path)
        connection.request("GET", "/wait?seconds=60")
        time.sleep(0.5)
        begin = time.monotonic()
        assert launcher.stop() == 0
        assert 1 <= time.monotonic() - begin < 8
        connection.close()


def test_a_stop_does_not_wait_for_websockets(tmp_path: Path) -> None:
    with Launcher(tmp_path, UPGRADED) as launcher:
        launcher.await_ready()
        connection = Connection(launcher.path)
        connection.connect()
        connection.sock.sendall(b"GET /socket HTTP/1.1\r\nUpgrade: websocket\r\n\r\n")
        assert connection.sock.recv(99).endswith(b"hello")
        begin = time.monotonic()
        assert launcher.stop() == 0
        assert time.monotonic() - begin < 20
        assert connection.sock.recv(99) == b""
        connection.close()


def test_a_development_server_is_no_fault_of_a_program(tmp_path: Path) -> None:
    text = "print(' * Serving Flask app', flush=True)\nraise KeyError('x')"
    with Launcher(tmp_path, text) as launcher:
        assert launcher.process.wait(PATIENCE) == 1
    assert "own server on import" not in diagnose(launcher.log.read_text()).text


def test_the_programs_of_a_shell_end_too(tmp_path: Path) -> None:
    with Launcher(tmp_path, run="true && python3 app.py && true") as launcher:
        launcher.await_ready()
        pid = int(launcher.get("/").body.split()[1])
        assert launcher.stop() == 0
        assert not Path(f"/proc/{pid}").exists()


def test_a_large_answer_is_whole(tmp_path: Path) -> None:
    text = APP.replace("body = ", "body = b'x' * 20_000_000 if path == '/large' else ")
    with Launcher(tmp_path, text) as launcher:
        launcher.await_ready()
        assert len(launcher.get("/large").body) == 20_000_000
