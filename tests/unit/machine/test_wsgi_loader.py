"""gunicorn and waitress for WSGI apps: start, requests, settings, stop, and apps that do not start."""

from __future__ import annotations

import contextlib
import http.client
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from asgi_loader import PATIENCE, REQUEST, Connection, assert_stop_waits
from conftest import soon, write
from wsgi_loader import APP, Gunicorn, Waitress

from bake.app import wsgi_server
from bake.host import paths

KINDS = pytest.mark.parametrize("kind", [Gunicorn, Waitress])


def write_settings(folder: Path, text: str) -> Path:
    """Write the app's gunicorn.conf.py, and return its folder."""
    source = folder / "release/source"
    source.mkdir(parents=True)
    (source / "gunicorn.conf.py").write_text(text)
    return source


@KINDS
def test_the_app_gets_the_request_and_the_visitor_that_nginx_names(tmp_path: Path, kind: type[Gunicorn]) -> None:
    headers = {"Host": "shop.example", "X-Real-IP": "192.0.2.7", "X-Forwarded-Proto": "https"}
    with kind(tmp_path) as server:
        server.await_ready()
        words = server.get("/a%20b", **headers).body.decode().rsplit(" ", 5)
        assert words[0] == "/a b" and words[1:4] == ["192.0.2.7", "https", "shop.example"]
        assert server.stop() == 0


def test_nothing_that_follows_a_request_reaches_the_app(tmp_path: Path) -> None:
    """nginx passes on what a visitor sends after an answer of 101, with any headers."""
    text = APP.replace('"200 OK"', '"101 Switching Protocols"')
    request = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n"
    with Gunicorn(tmp_path, text) as server, contextlib.closing(Connection(server.path)) as connection:
        server.await_ready()
        connection.connect()
        connection.sock.sendall(request * 2)
        response = b"".join(iter(lambda: connection.sock.recv(1 << 16), b""))
    assert response.count(b"HTTP/1.1 101 ") == 1


@KINDS
def test_the_server_conforms_to_wsgi(tmp_path: Path, kind: type[Gunicorn]) -> None:
    # It raises AssertionError for what PEP 3333 excludes, such as a SERVER_SOFTWARE of None, or a read without a size.
    text = APP.replace(".read()", ".read(9)")
    with kind(tmp_path, f"{text}\nfrom wsgiref.validate import validator\napp = validator(app)\n") as server:
        server.await_ready()
        assert server.get("/?seconds=0").status == 200, server.log.read_text()


def test_an_app_of_flask_socketio_gets_the_worker_of_its_library(tmp_path: Path) -> None:
    worker = "from gunicorn.workers.gthread import ThreadWorker\nclass GeventWebSocketWorker(ThreadWorker): pass\n"
    write(
        tmp_path / "release/source",
        {"flask_socketio.py": "", "geventwebsocket/__init__.py": "", "geventwebsocket/gunicorn/workers.py": worker},
    )
    text = f"import gc, geventwebsocket.gunicorn.workers as w\n{APP}".replace(
        "    body = ",
        "    facts += [type(o).__name__ for o in gc.get_objects() if isinstance(o, w.ThreadWorker)]\n    body = ",
    )
    with Gunicorn(tmp_path, text) as server:
        server.await_ready()
        assert b"GeventWebSocketWorker" in server.get("/").body
        assert server.stop() == 0


@KINDS
@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("import missing_library\n", "No module named 'missing_library'"),
        ("raise SystemExit('why')", "ImportError: why"),
    ],
)
def test_an_app_that_does_not_start_ends_the_server(
    tmp_path: Path, kind: type[Gunicorn], text: str, message: str
) -> None:
    with kind(tmp_path, text) as server:
        assert server.process.wait(PATIENCE) != 0
    assert message in server.log.read_text()


@KINDS
def test_a_stop_waits_for_requests_and_new_ones_wait_for_the_next_start(tmp_path: Path, kind: type[Gunicorn]) -> None:
    with kind(tmp_path) as server:
        assert_stop_waits(server, "/?seconds=2")


@KINDS
def test_a_stop_is_bounded_by_the_limit_of_a_request(tmp_path: Path, kind: type[Gunicorn]) -> None:
    with kind(tmp_path, limits={"request": REQUEST}) as server:
        server.await_ready()
        connection = Connection(server.path)
        connection.request("GET", "/?seconds=60")
        time.sleep(0.7)
        begin = time.monotonic()
        server.stop()
        assert time.monotonic() - begin < REQUEST + 10
        connection.close()


def test_gunicorn_has_the_app_s_settings_but_not_those_of_the_machine(tmp_path: Path) -> None:
    settings = "workers = 3\nbind = '127.0.0.1:1'\ndaemon = True\nuser = 'nobody'\npidfile = '/nowhere/pid'\n"
    source = write_settings(tmp_path, f"{settings}def on_starting(server): print('own hook')\n")
    with Gunicorn(tmp_path) as server:
        server.await_ready()
        assert soon(lambda: len(server.workers()) == 3, PATIENCE)
        assert server.get("/").status == 200
    assert "own hook" in server.log.read_text()
    notes = list(wsgi_server.ignored_settings(source))
    assert [note.split()[2:4] for note in notes] == [
        ["sets", f"{name},"] for name in ("bind", "daemon", "user", "pidfile")
    ]
    assert "gunicorn.conf.py:2" in notes[0]


def test_both_sides_name_the_same_settings(program: Callable[..., ModuleType]) -> None:
    machine = program("wsgi_server.py", paths.features() / "wsgi").MACHINE
    assert {*machine, "graceful_timeout"} == wsgi_server.MACHINE


@pytest.mark.parametrize(("arguments", "keys", "count"), [(("next",), {}, 2), ((), {"limits": {"workers": 2}}, 2)])
def test_the_machine_s_workers_come_first(
    tmp_path: Path, arguments: tuple[str, ...], keys: dict[str, Any], count: int
) -> None:
    write_settings(tmp_path, "workers = 5\n")

    class Next(Gunicorn):
        pass

    Next.arguments = arguments
    with Next(tmp_path, workers=2, **keys) as server:
        server.await_ready()
        assert soon(lambda: len(server.workers()) == count, PATIENCE)
        time.sleep(1)
        assert len(server.workers()) == count


def test_a_large_body_passes_waitress(tmp_path: Path) -> None:
    with Waitress(tmp_path, limits={"body": 3_000_000}) as server:
        server.await_ready()
        connection = Connection(server.path)
        connection.request("POST", "/", b"x" * 3_000_000, {"Connection": "close"})
        assert connection.getresponse().read().endswith(b" 3000000")
        connection.close()


def test_a_hung_worker_of_gunicorn_is_replaced(tmp_path: Path) -> None:
    write_settings(tmp_path, "worker_class = 'sync'\nthreads = 1\n")
    with Gunicorn(tmp_path, APP, limits={"request": 2}) as server:
        server.await_ready()
        begin = time.monotonic()
        with contextlib.suppress(OSError, http.client.HTTPException):
            assert server.get("/?seconds=60").status >= 500
        assert time.monotonic() - begin < PATIENCE
        assert server.get("/").status == 200
