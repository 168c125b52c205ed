"""Serve the app with the WSGI server of Python's standard library, if the author's command is unknown."""

import json
from importlib.machinery import SourceFileLoader
from pathlib import Path
from socketserver import ThreadingMixIn
from types import ModuleType
from wsgiref.simple_server import WSGIServer, make_server

PORT = 8000


class Server(ThreadingMixIn, WSGIServer):
    """A server with a thread for each request, so that an endless stream does not block other pages."""

    daemon_threads = True


if __name__ == "__main__":
    app = json.loads(Path("../recipe.json").read_text())["wsgi"]
    finder = ModuleType("finder")
    SourceFileLoader("finder", "/usr/lib/app/wsgi.py").exec_module(finder)
    make_server("127.0.0.1", PORT, finder.find(app), Server).serve_forever()
