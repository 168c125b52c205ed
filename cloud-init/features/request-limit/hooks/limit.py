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
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import uwsgi

#: Seconds for one request, unless the recipe has `limits.request`.
REQUEST = 60
#: The longest time in seconds that a worker waits for its other requests before it ends.
DRAIN = 20
#: The response to a request that takes too long. Unlike the page of a machine that starts, it does not reload itself.
LATE = b"HTTP/1.1 504 Gateway Timeout\r\nContent-Type: text/plain\r\n\r\nThe request took too long.\n"
#: Names of headers of a response that is no stream.
LENGTH = {"content-length", "x-accel-buffering"}
#: uWSGI logs no crash of a worker with this exit status.
QUIET = 29
#: The app's socket, which systemd passes.
LISTENER = 3
#: What a request's environ is marked with: the time at which it has taken too long, and whether its response has begun.
END, BEGUN = "bake.end", "bake.begun"
#: The last environ of each thread of this worker, and the descriptor of the visitor's connection. A request with END is
#: being answered: uWSGI empties its environ after the last part of the response, and closes the connection only then.
LAST: dict[int, tuple[dict, int]] = {}


class Stream:
    """A response without a length. Until its first part is there, the visitor can get another response."""

    def __init__(self, environ: dict, body: Iterable[bytes]) -> None:
        """Wrap the body that the app has returned."""
        self.environ, self.body = environ, body

    def __iter__(self) -> Iterator[bytes]:
        for part in self.body:
            self.environ[BEGUN] = True
            yield part

    def close(self) -> None:
        """Close the app's response."""
        getattr(self.body, "close", bool)()


def running() -> dict[tuple[int, float], tuple[dict, int]]:
    """Return the requests that are being answered, by their threads and ends."""
    last = [*LAST.items()]
    return {(thread, end): (environ, connection) for thread, (environ, connection) in last if (end := environ.get(END))}


def expire(end: float, environ: dict, connection: int) -> None:
    """Answer the visitor, unless the response has begun, and end the connection. The app's thread goes on."""
    with contextlib.suppress(OSError), socket.socket(fileno=os.dup(connection)) as client:
        # If the request goes on, the copy is of its connection. uWSGI closes its own descriptor, but not the copy.
        if environ.get(END) == end:
            if not environ.get(BEGUN):
                client.send(LATE)
            client.shutdown(socket.SHUT_RDWR)


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
    late: set[tuple[int, float]] = set()
    deadline = 0.0
    while True:
        time.sleep(0.5)
        now, requests = time.monotonic(), running()
        if late and (late >= requests.keys() or now > deadline):
            for (_, end), request in requests.items():
                expire(end, *request)
            # An ordinary exit would wait for the threads.
            os._exit(QUIET)
        for thread, end in requests.keys() - late:
            if end < now:
                environ, connection = requests[thread, end]
                method, path = environ.get("REQUEST_METHOD"), environ.get("PATH_INFO")
                print(f"<4>app: {method} {path!r} took longer than {limit} s", file=sys.stderr)
                traceback.print_stack(sys._current_frames().get(thread))
                expire(end, environ, connection)
                deadline = deadline or now + min(DRAIN, limit)
                late.add((thread, end))
        if late:
            refuse()


def streaming(app: Callable) -> Callable:
    """Return the app in a middleware that marks its requests, and does what the loader's own `streaming` does.

    It counts for small pages: two middlewares, with an object for each request, took 5 % of their CPU time.
    """
    limit = recipe_of_release.get("limits", {}).get("request", REQUEST)
    unstarted = [threading.Thread(target=watch, args=(limit,), daemon=True)]

    def application(environ: dict, start_response: Callable) -> Iterable[bytes]:
        has_length = False

        def start(status: str, headers: list, *problem: object) -> object:
            nonlocal has_length
            for name, _ in headers:
                if name.lower() in LENGTH:
                    has_length = name.lower() == "content-length"
                    return start_response(status, headers, *problem)
            return start_response(status, [*headers, ("X-Accel-Buffering", "no")], *problem)

        # With `preload`, the worker is a fork of the process that loaded the app, and threads do not survive a fork.
        if unstarted:
            with contextlib.suppress(IndexError):
                unstarted.pop().start()
        environ[END] = time.monotonic() + limit
        LAST[threading.get_ident()] = environ, uwsgi.connection_fd()
        body = app(environ, start)
        # uWSGI sends files itself, without Python.
        if hasattr(body, "read"):
            del environ[END]
        elif has_length or isinstance(body, bytes):
            environ[BEGUN] = True
        else:
            return Stream(environ, body)
        return body

    return application


#: The recipe, which is read before the app can change the working directory.
recipe_of_release = json.loads(Path("../recipe.json").read_text())
