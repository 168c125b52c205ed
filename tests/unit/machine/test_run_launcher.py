"""The launcher of programs that serve by themselves: start, connections, stop, and the faults of programs."""

from __future__ import annotations

import contextlib
import http.client
import os
import resource
import signal
import time
from pathlib import Path

import pytest
from asgi_loader import PATIENCE, Connection, assert_stop_waits
from conftest import soon
from run_launcher import APP, Launcher, free_port

from bake.diagnosis.diagnosis import diagnose

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
#: Reads an upload late, and sends it back.
SLOW = """
import os, time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_error(404)

    def do_POST(self):
        time.sleep(1)
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

ThreadingHTTPServer(("127.0.0.1", int(os.environ["PORT"])), Handler).serve_forever()
"""


def sent(launcher: Launcher, request: bytes) -> Connection:
    """Return a connection on which a request was sent as it is written."""
    connection = Connection(launcher.path)
    connection.connect()
    connection.sock.sendall(request)
    return connection


def cpu_seconds(pid: int) -> float:
    """Return the CPU time of a process."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def leave_descriptors(pid: int, number: int) -> None:
    """Let a process open so many more files."""
    limit = len(list(Path(f"/proc/{pid}/fd").iterdir())) + number
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (limit, limit))


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


def test_an_upload_to_a_slow_program_and_its_large_answer_are_whole(tmp_path: Path) -> None:
    with Launcher(tmp_path, SLOW) as launcher:
        launcher.await_ready()
        connection = Connection(launcher.path)
        body = os.urandom(8_000_000)
        connection.request("POST", "/", body)
        time.sleep(1)
        assert connection.getresponse().read() == body
        connection.close()


def test_visitors_of_a_program_that_no_longer_listens_are_told_at_once(tmp_path: Path) -> None:
    text = "import os, time\nfrom http.server import *\n" + (
        "with HTTPServer(('127.0.0.1', int(os.environ['PORT'])), SimpleHTTPRequestHandler) as server:\n"
        "    server.handle_request()\ntime.sleep(99)\n"
    )
    with Launcher(tmp_path, text) as launcher:
        launcher.await_ready()
        for _ in range(2):
            with pytest.raises(ConnectionError):
                launcher.get("/")


def test_a_program_that_refuses_an_upload_is_heard(tmp_path: Path) -> None:
    text = SLOW.replace("        time.sleep(1)\n", "        self.send_error(413)\n        return\n")
    with Launcher(tmp_path, text) as launcher:
        launcher.await_ready()
        connection = sent(launcher, b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\n")
        assert connection.sock.recv(99).startswith(b"HTTP/1.0 413 ")
        connection.close()


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


@pytest.mark.parametrize(("server", "is_stuck"), [("HTTPServer", True), ("ThreadingHTTPServer", False)])
def test_a_program_that_answers_nobody_is_ended(tmp_path: Path, server: str, is_stuck: bool) -> None:
    with Launcher(tmp_path, APP.replace("ThreadingHTTPServer", server), limits={"request": 1}) as launcher:
        launcher.await_ready()
        with contextlib.closing(sent(launcher, b"GET /wait?seconds=9 HTTP/1.1\r\nHost: a\r\n\r\n")):
            if is_stuck:
                assert launcher.process.wait(PATIENCE) == 1
            else:
                time.sleep(5)
                assert launcher.get("/").status == 200
    assert ("answers nothing within 1 s" in launcher.log.read_text()) == is_stuck


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
        connection = sent(launcher, b"GET /socket HTTP/1.1\r\nUpgrade: websocket\r\n\r\n")
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


def test_visitors_wait_without_a_busy_loop_while_no_descriptors_are_left(tmp_path: Path) -> None:
    with Launcher(tmp_path) as launcher:
        launcher.await_ready()
        pid = launcher.process.pid
        # Three visitors take two descriptors each, and the fourth one only finds one.
        leave_descriptors(pid, 7)
        visitors = [sent(launcher, b"GET /wait?seconds=5 HTTP/1.0\r\n\r\n") for _ in range(6)]
        begin = cpu_seconds(pid)
        time.sleep(3.5)
        assert cpu_seconds(pid) - begin < 0.5
        assert 1 <= launcher.log.read_text().count("Too many open files") < 10
        for visitor in visitors:
            assert visitor.sock.recv(99).startswith(b"HTTP/1.0 200 ")
            visitor.close()
        assert launcher.get("/").status == 200
        assert launcher.stop() == 0


def test_a_stop_while_no_descriptors_are_left_is_orderly(tmp_path: Path) -> None:
    with Launcher(tmp_path) as launcher:
        launcher.await_ready()
        leave_descriptors(launcher.process.pid, 3)
        visitors = [sent(launcher, b"GET /wait?seconds=2 HTTP/1.0\r\n\r\n") for _ in range(5)]
        assert soon(lambda: "Too many open files" in launcher.log.read_text())
        assert launcher.stop() == 0
        assert "Traceback" not in launcher.log.read_text()
        # The others wait in the socket for the next start.
        launcher.restart()
        for visitor in visitors:
            assert visitor.sock.recv(99).startswith(b"HTTP/1.0 200 ")
            visitor.close()
