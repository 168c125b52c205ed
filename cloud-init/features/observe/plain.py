"""Serve the app by the server of Python's own library, where nothing tells how its author runs it."""

import json
from importlib.machinery import SourceFileLoader
from pathlib import Path
from socketserver import ThreadingMixIn
from types import ModuleType
from wsgiref.simple_server import WSGIServer, make_server

PORT = 8000


class Server(ThreadingMixIn, WSGIServer):
    """A server whose other pages answer while one is silent: a stream of events has no end."""

    daemon_threads = True


if __name__ == "__main__":
    wanted = json.loads(Path("../recipe.json").read_text())["wsgi"]
    finder = ModuleType("finder")
    SourceFileLoader("finder", "/usr/lib/app/wsgi.py").exec_module(finder)
    make_server("127.0.0.1", PORT, finder.find(wanted), Server).serve_forever()
