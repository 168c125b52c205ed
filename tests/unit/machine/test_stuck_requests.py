"""Requests that take longer than `limits.request`, on servers that cannot end them, behind the machine's nginx."""

from __future__ import annotations

import contextlib
import http.client
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from asgi_loader import PATIENCE, REQUEST, Loader
from conftest import soon
from machine_nginx import MachineNginx
from wsgi_loader import Gunicorn, Waitress

from bake.bundle import release_files
from bake.config.recipe import Recipe


@pytest.mark.parametrize(
    ("kind", "path", "threads"),
    [
        (Loader, "/hang?seconds=99", 1),
        (Gunicorn, "/?seconds=99", 1),
        (Gunicorn, "/?seconds=99", 2),
        (Waitress, "/?seconds=99", 2),
    ],
)
def test_stuck_requests_get_504_and_their_worker_is_replaced(
    tmp_path: Path, kind: type[Loader], path: str, threads: int
) -> None:
    limits = {"request": REQUEST, "threads": threads}
    files = release_files.files(tmp_path, Recipe.model_validate({**kind.keys, "limits": limits}), [])
    nginx_files = {f"srv/app/current/{name}": file.text for name, file in files.items() if "/nginx/" in name}
    with (
        MachineNginx(tmp_path / "root", files=nginx_files) as nginx,
        kind(tmp_path / "app", path=nginx.socket_of_app(), limits=limits) as server,
    ):
        server.await_ready()
        workers = {*server.workers()}

        def visit(path: str) -> int:
            connection = http.client.HTTPConnection("127.0.0.1", nginx.http, timeout=PATIENCE)
            with contextlib.closing(connection):
                connection.request("GET", path)
                return connection.getresponse().status

        with ThreadPoolExecutor() as visitors:
            # 503 would be the page that reloads itself, and so asks for the stuck page again.
            assert [*visitors.map(visit, [path] * threads)] == [504] * threads
        if kind is Waitress:
            # systemd starts it again.
            assert server.process.wait(PATIENCE)
            server.restart()
            server.await_ready()
        else:
            assert soon(lambda: server.workers() and workers.isdisjoint(server.workers()), PATIENCE)
        # On a busy computer, the new worker takes longer to start than nginx waits.
        assert soon(lambda: visit("/") == 200, PATIENCE)


def test_a_worker_with_a_free_thread_goes_on(tmp_path: Path) -> None:
    with Waitress(tmp_path, limits={"request": 1, "threads": 2}) as server, ThreadPoolExecutor() as visitors:
        server.await_ready()
        slow = visitors.submit(server.get, "/?seconds=14")
        assert slow.result().status == 200
        assert server.get("/").status == 200
