"""End requests that take longer than `limits.request`, and the uWSGI worker that has one. wsgi.py runs it.

uWSGI's own limit is one field per worker. The requests of a worker's other threads reset it (uwsgi#2706).
"""

import contextlib
import json
import os
import select
import socket
import sys
import threading
import time
import traceback
from collections.abc import Callable
from pathlib import Path

import uwsgi

#: Seconds for one request, unless the recipe has `limits.request`.
REQUEST = 60
#: The longest time in seconds that a worker waits for its other requests before it ends.
DRAIN = 20
#: The response to a request that takes too long. Unlike the page of a machine that starts, it does not reload itself.
LATE = b"HTTP/1.1 504 Gateway Timeout\r\nContent-Type: text/plain\r\n\r\nThe request took too long.\n"
#: uWSGI logs no crash of a worker with this exit status.
QUIET = 29
#: The app's socket, which systemd passes.
LISTENER = 3


class Request:
    """A request that a thread of this worker answers. uWSGI iterates over it to get the response."""

    def __init__(self, environ: dict, limit: float) -> None:
        """Note the visitor's connection, and the time at which the request has taken `limit` seconds."""
        self.environ = environ
        self.thread, self.connection = threading.get_ident(), uwsgi.connection_fd()
        self.end = time.monotonic() + limit
        self.body: object = ()
        self.begun = False
        RUNNING.add(self)

    def __iter__(self) -> object:
        self.parts = iter(self.body)  # type: ignore[call-overload]
        return self

    def __next__(self) -> object:
        part = next(self.parts)
        self.begun = True
        return part

    def close(self) -> None:
        """Close the app's response."""
        try:
            getattr(self.body, "close", bool)()
        finally:
            self.finish()

    def finish(self) -> None:
        """Forget the request. uWSGI closes its connection next."""
        with LOCK:
            RUNNING.discard(self)

    def expire(self) -> None:
        """Answer the visitor, unless the response has begun, and end the connection. The app's thread goes on."""
        with LOCK, contextlib.suppress(OSError):
            if self in RUNNING:
                # uWSGI closes its own descriptor, but not the copy.
                with socket.socket(fileno=os.dup(self.connection)) as client:
                    if not self.begun:
                        client.send(LATE)
                    client.shutdown(socket.SHUT_RDWR)


#: The requests of this worker.
RUNNING: set[Request] = set()
LOCK = threading.Lock()


def refuse() -> None:
    """Leave new requests to the other workers: remove the app's socket from the epoll instances of uWSGI's threads."""
    for path in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):
            # The copy is closed with its object. Other files than epoll instances raise OSError.
            select.epoll.fromfd(os.dup(int(path.name))).unregister(LISTENER)


def watch(limit: float) -> None:
    """End each request that takes longer than `limit` seconds, and then this worker, because threads cannot be ended.

    The worker takes no new requests, and waits for those that it has. uWSGI starts another one.
    """
    late: set[Request] = set()
    deadline = 0.0
    while True:
        time.sleep(0.5)
        now = time.monotonic()
        if late and (late >= RUNNING or now > deadline):
            for request in [*RUNNING]:
                request.expire()
            # An ordinary exit would wait for the threads.
            os._exit(QUIET)
        for request in {*RUNNING} - late:
            if request.end < now:
                name = "{REQUEST_METHOD} {PATH_INFO!r}".format_map(request.environ)
                print(f"<4>app: {name} took longer than {limit} s", file=sys.stderr)
                traceback.print_stack(sys._current_frames().get(request.thread))
                request.expire()
                deadline = deadline or now + min(DRAIN, limit)
                late.add(request)
        if late:
            refuse()


def bounded(app: object, limit: float) -> object:
    """Return the app in a middleware that ends requests which take longer than `limit` seconds."""
    watchers: list[threading.Thread] = []

    def application(environ: dict, start_response: object) -> object:
        # With `preload`, the worker is a fork of the process that loaded the app, and threads do not survive a fork.
        with LOCK:
            if not watchers:
                watchers.append(threading.Thread(target=watch, args=(limit,), daemon=True))
                watchers[0].start()
        request = Request(environ, limit)
        try:
            request.body = app(environ, start_response)  # type: ignore[operator]
        except BaseException:
            request.finish()
            raise
        # uWSGI sends files itself, without Python.
        if hasattr(request.body, "read"):
            request.finish()
            return request.body
        if isinstance(request.body, bytes):
            request.body = [request.body]
        return request

    return application


#: The function of wsgi.py that this hook replaces. wsgi.py runs the hook in its own namespace. That of an older machine
#: does not; there, the hook has no effect.
stream: Callable = globals().get("streaming", bool)
#: The recipe, which is read before the app can change the working directory.
recipe_of_release = json.loads(Path("../recipe.json").read_text())


def streaming(app: object) -> object:
    """Return the app in the loader's middleware and in this one."""
    return bounded(stream(app), recipe_of_release.get("limits", {}).get("request", REQUEST))
