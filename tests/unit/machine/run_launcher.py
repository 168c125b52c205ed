"""Run the machine's launcher of programs that serve by themselves, as app.service does."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
from collections.abc import Mapping
from pathlib import Path

from asgi_loader import Loader

#: A server of Python's standard library, as its documentation shows it.
APP = """
import http.server, os, time
from urllib.parse import urlsplit

class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        path, query = urlsplit(self.path).path, urlsplit(self.path).query
        if path == "/stream":
            self.send_response(200)
            self.end_headers()
            for number in range(3):
                self.wfile.write(b"part %d\\n" % number)
                self.wfile.flush()
                time.sleep(0.5)
            return
        if path == "/wait":
            time.sleep(float(query.partition("=")[2]))
        body = f"{path} {os.getpid()} {self.headers['X-Forwarded-For']}".encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *words):
        pass

if __name__ == "__main__":
    http.server.ThreadingHTTPServer(("127.0.0.1", int(os.environ["PORT"])), Handler).serve_forever()
"""


def free_port() -> int:
    """Return a port at which nothing listens."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


class Launcher(Loader):
    """A running launcher, as `Loader`."""

    feature = "run/run.py"
    keys: Mapping[str, object] = {"run": "python3 app.py"}

    def __init__(
        self, folder: Path, text: str = APP, workers: int = 1, path: Path | None = None, **recipe: object
    ) -> None:
        """Start the launcher with a free port."""
        self.port = free_port()
        self.arguments = (str(self.port),)
        super().__init__(folder, text, workers, path, None, **recipe)

    def __exit__(self, *problem: object) -> None:
        groups = self.workers() if self.process.poll() is None else []
        super().__exit__(*problem)
        # The program's own processes.
        for pid in groups:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(pid, signal.SIGKILL)
