"""Serve the ASGI app that the recipe names, with uvicorn on the socket that systemd passes.

The parent starts the workers, replaces those that end, and reports READY when the first one serves. Each worker loads
the app itself. Runs as the app's user in the virtualenv. Part of a release with an ASGI app.
"""

import asyncio
import faulthandler
import fcntl
import json
import os
import signal
import socket
import sys
import time
import traceback
from collections.abc import Callable
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import ModuleType

#: Seconds for one request, unless the recipe has `limits.request`.
REQUEST = 60
#: Seconds more until a worker with a blocked event loop ends. nginx has answered by then; without its answer, visitors
#: would get the page of a machine that starts, which reloads itself.
MARGIN = 10
#: The longest time in seconds for the requests of a worker that stops. app.service kills it after TimeoutStopSec.
DRAIN = 60
#: Seconds until a worker that has ended is replaced.
PAUSE = 2
#: nginx limits the headers of a request to 64 KiB and its first line.
HEADERS = 1 << 17
#: Names of headers of a response that is no stream. ASGI has them in small letters.
LENGTH = {b"content-length", b"x-accel-buffering"}
#: The signals that the parent handles. A worker sends SIGUSR1 when it serves.
SIGNALS = {signal.SIGTERM, signal.SIGCHLD, signal.SIGUSR1}


class Request:
    """A request whose response begins within a limit of seconds. If it does not, the response is 504.

    It also turns off nginx's buffering for streams, the responses without a length.
    """

    def __init__(self, scope: dict, send: Callable, limit: float) -> None:
        """Begin to count, in the task that serves the request."""
        self.scope, self.send, self.limit = scope, send, limit
        self.is_begun = self.is_late = False
        self.task = asyncio.current_task()
        self.end = time.monotonic() + limit
        RUNNING.add(self)

    async def serve(self, app: Callable, receive: Callable) -> None:
        """Call the app."""
        try:
            await app(self.scope, receive, self.relay)
        except asyncio.CancelledError:
            if not self.is_late:
                raise
        finally:
            RUNNING.discard(self)

    async def relay(self, message: dict) -> None:
        """Send a part of the app's response."""
        if self.is_late:
            return
        if message["type"] == "http.response.start":
            self.is_begun = True
            headers = message.get("headers", ())
            for name, _ in headers:
                if name in LENGTH:
                    break
            else:
                message = {**message, "headers": [*headers, (b"x-accel-buffering", b"no")]}
        await self.send(message)

    def expire(self) -> None:
        """Answer in place of the app. It may wait for a thread, which cannot be ended, so this has its own task."""
        if not (self.is_begun or self.is_late):
            self.is_late = True
            self.answer = asyncio.get_running_loop().create_task(self.refuse())

    async def refuse(self) -> None:
        """Send 504, and end the app's work on the request."""
        method, path = self.scope["method"], self.scope["path"]
        print(f"<4>app: {method} {path!r} took longer than {self.limit} s", file=sys.stderr)
        await self.send({"type": "http.response.start", "status": 504, "headers": [(b"content-type", b"text/plain")]})
        await self.send({"type": "http.response.body", "body": b"The request took too long.\n"})
        if self.task:
            self.task.cancel()


#: The requests of this worker. `watch` looks for late ones.
RUNNING: set[Request] = set()


def bounded(app: Callable, limit: float) -> Callable:
    """Return the app in a middleware that bounds its requests."""

    async def application(scope: dict, receive: Callable, send: Callable) -> None:
        if scope["type"] == "http":
            await Request(scope, send, limit).serve(app, receive)
        else:
            await app(scope, receive, send)

    return application


async def watch(limit: float) -> None:
    """End late requests, and a worker whose event loop is blocked for `limit` seconds and MARGIN, with a traceback."""
    while True:
        faulthandler.dump_traceback_later(limit + MARGIN, exit=True)
        await asyncio.sleep(0.5)
        now = time.monotonic()
        for request in [*RUNNING]:
            if request.end < now:
                request.expire()


def load(recipe: dict) -> Callable:
    """Return the app. `find` of the WSGI loader evaluates the recipe's expression."""
    for hook in Path("../settings/hooks").glob("*.py"):
        # The hooks know a worker by the name of its module.
        exec(hook.read_text(), {"__name__": "uwsgi_file_asgi"})
    finder = ModuleType("finder")
    SourceFileLoader("finder", "/usr/lib/app/wsgi.py").exec_module(finder)
    try:
        return finder.find(recipe["asgi"])
    except SystemExit as problem:
        raise ImportError(problem)  # noqa: B904


def work(listener: socket.socket, recipe: dict, app: Callable | None) -> int:
    """Serve until SIGTERM, and return the exit status. If `app` is None, load it."""
    import uvicorn

    limit = recipe.get("limits", {}).get("request", REQUEST)
    # The author's server loads an app while its event loop runs. Django's models refuse to be used there.
    if app is None and isinstance(recipe.get("django"), dict):
        app = load(recipe)

    class Server(uvicorn.Server):
        """Load the app, report the start to the parent, and stop without a lost request."""

        async def serve(self, sockets: list[socket.socket] | None = None) -> None:
            self.config.app = app or load(recipe)
            # This decides whether the app has the interface of ASGI 2 or 3.
            self.config.load()
            self.config.loaded_app = bounded(self.config.loaded_app, limit)
            await super().serve(sockets)

        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets)
            if self.started:
                self.watch = asyncio.create_task(watch(limit))
                os.kill(os.getppid(), signal.SIGUSR1)

        async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
            # uvicorn closes connections whose request it has not read yet. So accept no more, and read for a moment.
            for server in self.servers:
                server.close()
            await asyncio.sleep(0.3)
            await super().shutdown(sockets)

    server = Server(
        uvicorn.Config(
            "",
            # nginx is the only client of the socket, and sets the headers of the visitor's address and scheme.
            forwarded_allow_ips="*",
            # Warnings and errors go to the journal. nginx logs the requests.
            log_config=None,
            access_log=False,
            server_header=False,
            date_header=False,
            h11_max_incomplete_event_size=HEADERS,
            # nginx closes connections on which nothing was sent for limits.request and 5 s.
            ws_ping_interval=min(20, limit),
            timeout_graceful_shutdown=min(DRAIN, limit),
        )
    )
    server.run(sockets=[listener])
    return 0 if server.started else 3


def child(listener: socket.socket, recipe: dict, app: Callable | None) -> None:
    """Run a worker in a new process, and exit."""
    status = 1
    try:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
        status = work(listener, recipe, app)
    except SystemExit:
        status = 3  # uvicorn has logged the failure of the app's startup.
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


class Workers:
    """The worker processes. They start one after the other, so files that the app creates once exist for the others."""

    def __init__(self, count: int, run: Callable[[], None], ready: Callable[[], None]) -> None:
        """Keep `count` workers, which call `run` and do not return. When the first one serves, call `ready`."""
        self.count, self.run, self.ready = count, run, ready
        self.pids: set[int] = set()
        #: The worker that does not serve yet, or 0, and the time to start the next one.
        self.starting, self.resume = 0, 0.0
        self.serving = self.stopping = False

    def supervise(self) -> int:
        """Serve until SIGTERM, and return the exit status: 1 if the first worker ends before it serves."""
        while self.pids or not self.stopping:
            if not (self.starting or self.stopping) and len(self.pids) < self.count and time.monotonic() >= self.resume:
                self.starting = os.fork()
                if not self.starting:
                    self.run()
                self.pids.add(self.starting)
            if event := signal.sigtimedwait(SIGNALS, 1):
                self.handle(event.si_signo, event.si_pid)
            for pid in [*self.pids]:
                ended, status = os.waitpid(pid, os.WNOHANG)
                if ended and not (self.serving or self.stopping):
                    return 1
                if ended:
                    self.replace(pid, os.waitstatus_to_exitcode(status))
        return 0

    def handle(self, number: int, sender: int) -> None:
        """Handle a signal: pass on SIGTERM to the workers, and note the worker that serves."""
        if number == signal.SIGTERM:
            self.stopping = True
            for pid in self.pids:
                os.kill(pid, signal.SIGTERM)
        elif number == signal.SIGUSR1 and sender == self.starting:
            self.starting = 0
            if not self.serving:
                self.ready()
            self.serving = True
            if len(self.pids) == self.count:
                fcntl.flock(TURN, fcntl.LOCK_UN)

    def replace(self, pid: int, status: int) -> None:
        """Forget a worker that has ended. Another one starts later."""
        self.pids.remove(pid)
        if pid == self.starting:
            self.starting = 0
        if not self.stopping:
            self.resume = time.monotonic() + PAUSE
            print(f"<4>app: worker {pid} ended with {status}; another one starts", file=sys.stderr)


def main() -> int:
    """Serve the release that this program is part of."""
    release = Path(os.environ["APP_RELEASE"])
    os.chdir(release / "source")
    sys.path[:0] = [f"{release}/source", f"{release}/source/src", f"{release}/settings/django"]
    recipe = json.loads((release / "recipe.json").read_text())
    listener = socket.socket(fileno=3)
    listener.set_inheritable(False)
    place, count = os.environ.pop("NOTIFY_SOCKET"), int(os.environ["APP_WORKERS"])
    app = load(recipe) if os.environ.get("APP_PRELOAD") else None
    signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)

    def ready() -> None:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as client:
            client.sendto(b"READY=1", place)

    return Workers(count, lambda: child(listener, recipe, app), ready).supervise()


if __name__ == "__main__":
    # bake waits until the lock is free: all workers serve. /tmp is private to the unit.
    TURN = Path("/tmp/first").open("a")  # noqa: SIM115
    fcntl.flock(TURN, fcntl.LOCK_EX)
    sys.exit(main())
