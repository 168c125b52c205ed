"""Serve the WSGI app that the recipe names with gunicorn or waitress, on the socket that systemd passes.

gunicorn has as many workers as the machine computes, or as the app's gunicorn.conf.py says. With the argument `next`,
for app-next.service, only the former counts. Runs as the app's user in the virtualenv. Part of a release with `server`.
"""

import faulthandler
import fcntl
import importlib.util
import json
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterable
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import ModuleType

#: Seconds for one request, and threads of a worker, unless the recipe has them in `limits`.
REQUEST, THREADS = 60, 8
#: Seconds more until a stuck worker ends. nginx has answered by then; without its answer, visitors would get the page
#: of a machine that starts, which reloads itself.
MARGIN = 10
#: Bytes of a request's body: nginx has the same limit.
BODY = 10485760
#: The longest time in seconds for the requests of a server that stops. app.service kills it after TimeoutStopSec.
DRAIN = 60
#: Connections that waitress accepts at once, and the length of the queue of app.socket.
CONNECTIONS, BACKLOG = 1000, 1024
#: gunicorn's workers for apps of Flask-SocketIO, by the library in the virtualenv.
WORKERS = {
    "eventlet": "eventlet",
    "geventwebsocket": "geventwebsocket.gunicorn.workers.GeventWebSocketWorker",
    "gevent": "gevent",
}
#: What an app reads about its visitor, and nginx's headers with it.
VISITOR = [
    ("REMOTE_ADDR", "HTTP_X_REAL_IP"),
    ("wsgi.url_scheme", "HTTP_X_FORWARDED_PROTO"),
    ("SERVER_PORT", "HTTP_X_FORWARDED_PORT"),
]
#: The settings of gunicorn that the machine decides. bake prints those that gunicorn.conf.py sets.
MACHINE = {
    "bind": ["127.0.0.1:8000"],  # gunicorn prefers the socket of systemd.
    "chdir": ".",
    "control_socket_disable": True,
    "daemon": False,
    "forwarded_allow_ips": "*",
    "group": os.getgid(),
    # nginx sends one request on a connection. What follows an answer of 101 has not passed its checks.
    "keepalive": 0,
    "pidfile": None,
    "reload": False,
    "secure_scheme_headers": {"X-FORWARDED-PROTO": "https"},
    "user": os.getuid(),
}


def visited(app: Callable) -> Callable:
    """Return the app in a middleware that tells it about the visitor as uWSGI does. nginx sets these headers."""

    def application(environ: dict, start_response: Callable) -> Iterable[bytes]:
        for name, header in VISITOR:
            if header in environ:
                environ[name] = environ[header]
        return app(environ, start_response)

    return application


def replaceable(app: Callable, threads: int, limit: float) -> Callable:
    """Return the app in a middleware that ends a process when each of its `threads` has a request over `limit` seconds.

    Python cannot end a thread. gunicorn's arbiter or systemd starts another process.
    """
    begun: dict[int, float] = {}
    watchers: list[threading.Thread] = []

    def watch() -> None:
        while True:
            time.sleep(1)
            late = time.monotonic() - limit - MARGIN
            if sum(begin < late for begin in [*begun.values()]) >= threads:
                print(f"<4>app: all {threads} threads of a process took longer than {limit} s", file=sys.stderr)
                faulthandler.dump_traceback()
                os._exit(1)

    def application(environ: dict, start_response: Callable) -> Iterable[bytes]:
        # A WebSocket has its thread for as long as it is open.
        if "HTTP_UPGRADE" in environ:
            return app(environ, start_response)
        # Not earlier: threads do not survive gunicorn's fork.
        if not watchers:
            watchers.append(threading.Thread(target=watch, daemon=True))
            watchers[0].start()
        thread = threading.get_ident()
        begun[thread] = time.monotonic()
        try:
            return app(environ, start_response)
        finally:
            begun.pop(thread, None)

    return application


def load(recipe: dict, threads: int) -> Callable:
    """Return the app, and report READY. One worker loads it after the other, and has a number of threads, or 0."""
    with Path("/tmp/first").open("a") as turn:
        fcntl.flock(turn, fcntl.LOCK_EX)
        for hook in (release / "settings/hooks").glob("*.py"):
            # The hooks know a worker by the name of its module.
            exec(hook.read_text(), {"__name__": "uwsgi_file_wsgi"})
        wsgi = ModuleType("wsgi")
        SourceFileLoader("wsgi", "/usr/lib/app/wsgi.py").exec_module(wsgi)
        try:
            app = wsgi.streaming(wsgi.find(recipe["wsgi"]))
        except SystemExit as problem:
            raise ImportError(problem)  # noqa: B904
        wsgi.hide_tracebacks()
        fcntl.flock(turn, fcntl.LOCK_UN)
    # The first worker's report counts; see app.service.
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as client:
        client.sendto(b"READY=1", NOTIFY)
    app = visited(app)
    return replaceable(app, threads, recipe.get("limits", {}).get("request", REQUEST)) if threads else app


def gunicorn(recipe: dict, is_next: bool) -> None:
    """Serve with gunicorn. Its arbiter handles SIGTERM."""
    from gunicorn.app.base import Application

    limits = recipe.get("limits", {})
    limit, workers = limits.get("request", REQUEST), int(os.environ["APP_WORKERS"])
    threads = limits.get("threads", THREADS)
    defaults = {"timeout": limit + MARGIN, "threads": threads, "workers": workers, "loglevel": "warning"}
    # Flask-SocketIO prefers the first of these libraries that it can import, and needs its kind of worker.
    green = [kind for name, kind in WORKERS.items() if importlib.util.find_spec(name)]
    if green and importlib.util.find_spec("flask_socketio"):
        defaults["worker_class"] = green[0]
    #: The keys of bake.yaml come before the app's file.
    named = {"timeout": "request" in limits, "threads": "threads" in limits, "workers": is_next or "workers" in limits}
    decided = {**MACHINE, **{name: defaults[name] for name, is_named in named.items() if is_named}}
    decided["graceful_timeout"] = min(DRAIN, limit)
    if os.environ.get("APP_PRELOAD"):
        decided["preload_app"] = True

    class Server(Application):  # type: ignore[misc]
        """gunicorn with the app's settings, and those of the machine."""

        def load_config(self) -> None:
            for name, value in defaults.items():
                self.cfg.set(name, value)
            if Path("gunicorn.conf.py").is_file():
                self.load_config_from_file("gunicorn.conf.py")
            for name, value in decided.items():
                if name in self.cfg.settings:
                    self.cfg.set(name, value)

        def load(self) -> Callable:
            # gunicorn itself replaces the other workers.
            return load(recipe, self.cfg.threads if self.cfg.worker_class_str == "gthread" else 0)

    Server().run()


def waitress(recipe: dict) -> None:
    """Serve with waitress: one process. At SIGTERM, finish the requests that it has."""
    from waitress import create_server, wasyncore

    limits = recipe.get("limits", {})
    threads = limits.get("threads", THREADS)
    stops: list[float] = []
    signal.signal(signal.SIGTERM, lambda *_: stops.append(time.monotonic()))
    channels: dict = {}
    create_server(
        load(recipe, threads), map=channels, sockets=[socket.socket(fileno=3)], threads=threads,
        backlog=BACKLOG, connection_limit=CONNECTIONS, asyncore_use_poll=True,
        clear_untrusted_proxy_headers=False,
        # waitress refuses bodies of this size.
        max_request_body_size=limits.get("body", BODY) + 1,
    )  # fmt: skip
    servers = [*channels.values()]
    drain = min(DRAIN, limits.get("request", REQUEST))
    while not stops or (len(channels) > len(servers) and time.monotonic() < stops[0] + drain):
        for server in servers:
            server.accepting &= not stops
        wasyncore.loop(timeout=0.2, use_poll=True, map=channels, count=1)
    os._exit(0)


if __name__ == "__main__":
    NOTIFY = os.environ.pop("NOTIFY_SOCKET")
    release = Path(os.environ["APP_RELEASE"])
    os.chdir(release / "source")
    sys.path[:0] = [f"{release}/source", f"{release}/source/src", f"{release}/settings/django"]
    machine_recipe = json.loads((release / "recipe.json").read_text())
    if machine_recipe["server"] == "waitress":
        waitress(machine_recipe)
    else:
        gunicorn(machine_recipe, "next" in sys.argv)
