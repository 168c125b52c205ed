"""Run the machine's loader of ASGI apps with a real uvicorn, as app.service does.

    with Loader(tmp_path, APP, workers=2) as loader:
        assert loader.get("/").status == 200

The loader is the machine's, byte for byte, but for the paths of the WSGI loader and of its lock.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from conftest import PROGRAMS

from bake.host import paths

#: Seconds to start, and to answer, on a computer that is busy.
PATIENCE = 60
#: Seconds for a request, in tests of this limit. A shorter one would end requests on a busy computer.
REQUEST = 3
#: systemd passes the listening socket as descriptor 3.
PASS = "import os, sys; os.dup2(int(sys.argv[1]), 3); os.set_inheritable(3, True); os.execv(sys.argv[2], sys.argv[2:])"

APP = """
import asyncio, contextlib, os, time
from pathlib import Path
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.responses import JSONResponse, PlainTextResponse, StreamingResponse
from starlette.routing import Route, WebSocketRoute

@contextlib.asynccontextmanager
async def lifespan(app):
    with open("../events", "a") as events: print("startup", file=events)
    yield
    with open("../events", "a") as events: print("shutdown", file=events)

async def show(request):
    scope = request.scope
    headers = {name.decode(): value.decode() for name, value in scope["headers"]}
    facts = {name: scope[name] for name in ("client", "scheme", "path", "method")}
    return JSONResponse({**facts, "raw": scope["raw_path"].decode(), "headers": headers, "url": str(request.url),
                         "pid": os.getpid(), "body": len(await request.body())})

async def wait(request):
    await asyncio.sleep(float(request.query_params["seconds"]))
    return PlainTextResponse("waited")

def block(request):
    time.sleep(float(request.query_params["seconds"]))
    return PlainTextResponse("blocked")

async def hang(request):
    time.sleep(float(request.query_params["seconds"]))

async def stream(request):
    async def parts():
        for number in range(3):
            yield f"part {number}\\n"
            await asyncio.sleep(0.5)
    return StreamingResponse(parts(), media_type="text/plain")

async def events(request):
    async def parts():
        while True:
            yield "data: now\\n\\n"
            await asyncio.sleep(0.1)
    return StreamingResponse(parts(), media_type="text/event-stream")

async def echo(websocket):
    await websocket.accept()
    await websocket.send_json({"scheme": websocket.url.scheme, "client": websocket.client.host})
    async for text in websocket.iter_text():
        await websocket.send_text(text)

routes = [Route("/wait", wait), Route("/block", block), Route("/hang", hang), Route("/stream", stream),
          Route("/events", events),
          WebSocketRoute("/echo", echo), Route("/{path:path}", show, methods=["GET", "POST"])]

async def around(request, call_next):
    # As `@app.middleware("http")` of FastAPI: the app's own task waits for its threads.
    return await call_next(request)

middleware = [Middleware(BaseHTTPMiddleware, dispatch=around)]
app = Starlette(routes=routes, lifespan=lifespan, middleware=middleware)
"""


@dataclass(frozen=True)
class Answer:
    """A response."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class Connection(http.client.HTTPConnection):
    """An HTTP connection to a socket in the file system."""

    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=PATIENCE)
        self.path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self.path))


def listen(path: Path) -> socket.socket:
    """Return a socket that listens at a path, as systemd would make it."""
    path.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(path))
    listener.listen(1024)
    return listener


class Loader:
    """A running loader of a release below `folder`. Its socket is at `path`, or else in a folder of its own.

    `recipe` are further keys of the recipe, and `environment` further variables.
    """

    #: The loader's file below cloud-init/features, its arguments, and the recipe's key for the app.
    feature = "asgi/asgi.py"
    arguments: tuple[str, ...] = ()
    #: The text of the program that passes the socket, and then runs the loader.
    passing = PASS
    keys: Mapping[str, object] = {"asgi": "app:app"}
    #: The Python that runs the loader.
    python = sys.executable

    def __init__(
        self,
        folder: Path,
        text: str = APP,
        workers: int = 1,
        path: Path | None = None,
        environment: Mapping[str, str] | None = None,
        **recipe: object,
    ) -> None:
        """Start the loader. It may not serve yet."""
        self.release, self.log, self.program = folder / "release", folder / "log", folder / Path(self.feature).name
        (self.release / "source").mkdir(parents=True, exist_ok=True)
        (self.release / "source/app.py").write_text(text)
        (self.release / "recipe.json").write_text(json.dumps({**self.keys, **recipe}))
        program = (paths.features() / self.feature).read_text()
        program = program.replace("/tmp/first", f"{folder}/first").replace("/usr/lib/app/", f"{PROGRAMS}/")
        self.program.write_text(program)
        # The path of a socket has at most 107 characters.
        self.sockets = tempfile.TemporaryDirectory()
        self.path = path or Path(self.sockets.name, "app.sock")
        self.listener = listen(self.path)
        self.notified = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.notified.bind(f"{self.sockets.name}/notify")
        self.notified.settimeout(PATIENCE)
        self.environment = {
            "PATH": os.environ["PATH"], "APP_RELEASE": str(self.release), "APP_WORKERS": str(workers),
            "NOTIFY_SOCKET": f"{self.sockets.name}/notify", "PYTHONDONTWRITEBYTECODE": "1", "PYTHONUNBUFFERED": "1",
            **(environment or {}),
        }  # fmt: skip
        self.process = self.restart()

    def restart(self) -> subprocess.Popen[bytes]:
        """Start the loader again, on the same socket."""
        number = self.listener.fileno()
        argv = [
            sys.executable,
            "-c",
            self.passing,
            str(number),
            self.python,
            "-P",
            str(self.program),
            *self.arguments,
        ]
        with self.log.open("a") as log:
            self.process = subprocess.Popen(argv, env=self.environment, pass_fds=[number], stdout=log, stderr=log)
        return self.process

    def await_ready(self) -> None:
        """Wait until the loader reports READY."""
        assert self.notified.recv(100) == b"READY=1"

    def get(self, path: str, **headers: str) -> Answer:
        """Send a request to the loader's socket, without nginx."""
        with contextlib.closing(Connection(self.path)) as connection:
            connection.request("GET", path, headers={"Connection": "close", **headers})
            response = connection.getresponse()
            return Answer(response.status, dict(response.getheaders()), response.read())

    def start_again(self) -> None:
        """Restart the loader as systemd does, and wait until it serves."""
        self.stop()
        self.restart()
        self.await_ready()

    def workers(self) -> list[int]:
        """Return the ids of the worker processes."""
        return [
            int(pid) for pid in Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        ]

    def stop(self) -> int:
        """Send SIGTERM, and return the exit status."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(PATIENCE)

    def events(self) -> list[str]:
        """Return the events of the app's lifespan."""
        path = self.release / "events"
        return path.read_text().split() if path.exists() else []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *problem: object) -> None:
        if self.process.poll() is None:
            # The parent would replace its workers. Like systemd, kill them after it.
            workers = self.workers()
            self.process.kill()
            for pid in workers:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        self.process.wait()
        self.notified.close()
        self.listener.close()
        self.sockets.cleanup()


def assert_stop_waits(server: Loader, slow_path: str) -> None:
    """Assert that a stop finishes a slow request, and that the next start answers one that comes meanwhile."""
    server.await_ready()
    statuses: list[int] = []
    waiting = threading.Thread(target=lambda: statuses.append(server.get(slow_path).status))
    waiting.start()
    time.sleep(0.7)
    server.process.send_signal(signal.SIGTERM)
    time.sleep(0.7)
    later = threading.Thread(target=lambda: statuses.append(server.get("/").status))
    later.start()
    assert server.process.wait(PATIENCE) == 0
    waiting.join()
    assert statuses == [200]
    server.restart()
    later.join()
    assert statuses == [200, 200]
