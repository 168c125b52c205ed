"""The visitor's address and scheme behind a trusted proxy, as the app gets them from each server of HTTP."""

from __future__ import annotations

from pathlib import Path

import pytest
from asgi_loader import Loader
from machine_nginx import Answer, MachineNginx
from run_launcher import Launcher
from test_proxy import FORWARDED, PROXY, VISITOR, settings
from wsgi_loader import Gunicorn, Waitress

#: A page for a program: its visitor's address and scheme.
PROGRAM = """
import http.server, os

class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        names = "X-Real-IP", "X-Forwarded-For", "X-Forwarded-Proto", "X-Forwarded-Port"
        body = " ".join(self.headers.get(name, "none") for name in names).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

http.server.ThreadingHTTPServer(("127.0.0.1", int(os.environ["PORT"])), Handler).serve_forever()
"""
#: The same for a WSGI app, and for an ASGI app.
WSGI = """
def app(environ, start_response):
    names = "REMOTE_ADDR", "HTTP_X_FORWARDED_FOR", "wsgi.url_scheme", "SERVER_PORT"
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [" ".join(environ[name] for name in names).encode()]
"""
ASGI = """
async def app(scope, receive, send):
    if scope["type"] == "http":
        headers = {name.decode(): value.decode() for name, value in scope["headers"]}
        words = scope["client"][0], headers["x-forwarded-for"], scope["scheme"], headers["x-forwarded-port"]
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": " ".join(words).encode()})
"""


@pytest.mark.parametrize(
    ("kind", "text"),
    [(Launcher, PROGRAM), (Gunicorn, WSGI), (Waitress, WSGI), (Loader, ASGI)],
    ids=["run", "gunicorn", "waitress", "asgi"],
)
def test_each_server_passes_on_what_a_trusted_proxy_tells_and_nothing_that_others_forge(
    tmp_path: Path, kind: type[Loader], text: str
) -> None:
    files = settings(tmp_path, **{"wsgi": None, **kind.keys})
    with (
        MachineNginx(tmp_path / "root", files=files) as nginx,
        kind(tmp_path / "app", text, path=nginx.socket_of_app()) as server,
    ):
        server.await_ready()

        def ask(source: str, scheme: str, tls: str | None = None) -> Answer:
            nginx.source = source
            return nginx.get("/", "shop.example", {**FORWARDED, "X-Forwarded-Proto": scheme}, tls)

        assert ask(PROXY, "https").body.decode().split() == [VISITOR, VISITOR, "https", "443"]
        assert ask(PROXY, "http", "shop.example").body.decode().split() == [VISITOR, VISITOR, "http", "80"]
        # The ports of these visitors are those of this test's nginx.
        assert ask("127.0.0.1", "https").body.decode().split()[:3] == ["127.0.0.1", "127.0.0.1", "http"]
        answer = ask("127.0.0.1", "http", "shop.example")
        assert answer.body.decode().split()[:3] == ["127.0.0.1", "127.0.0.1", "https"]
