"""Run the machine's program that serves WSGI apps with gunicorn or waitress, as app.service does."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path

from asgi_loader import Loader

#: Passes the socket as systemd does, which names the process in a variable.
PASS = (
    "import os, sys; os.dup2(int(sys.argv[1]), 3); os.set_inheritable(3, True); os.environ['LISTEN_FDS'] = '1'; "
    "os.environ['LISTEN_PID'] = str(os.getpid()); os.execv(sys.argv[2], sys.argv[2:])"
)
APP = """
import os, time
from urllib.parse import parse_qs

def app(environ, start_response):
    query = parse_qs(environ["QUERY_STRING"])
    time.sleep(float(query.get("seconds", ["0"])[0]))
    facts = [environ[name] for name in ("PATH_INFO", "REMOTE_ADDR", "wsgi.url_scheme", "HTTP_HOST")]
    body = " ".join([*facts, str(os.getpid()), str(len(environ["wsgi.input"].read()))]).encode()
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))])
    return [body]
"""


class Gunicorn(Loader):
    """A running server with gunicorn, as `Loader`. The app is APP unless `text` is given."""

    feature = "wsgi/wsgi_server.py"
    passing = PASS
    keys: Mapping[str, object] = {"wsgi": "app:app", "server": "gunicorn"}

    def __init__(
        self, folder: Path, text: str = APP, workers: int = 1, path: Path | None = None, **recipe: object
    ) -> None:
        """Start the server."""
        # The virtualenv of a release has the server; here the tests' own has it.
        modules = os.pathsep.join(sys.path[1:])
        super().__init__(folder, text, workers, path, {"PYTHONPATH": modules}, **recipe)


class Waitress(Gunicorn):
    """A running server with waitress."""

    keys: Mapping[str, object] = {"wsgi": "app:app", "server": "waitress"}
