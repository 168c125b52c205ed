"""Load the app that the recipe names into a uWSGI worker, and report to systemd that it is loaded.

A middleware makes nginx pass on streams at once.
"""

import fcntl
import importlib
import json
import os
import re
import signal
import socket
import sys
from pathlib import Path


def find(entry: str) -> object:
    """Return the app. `entry` is module:expression as in bake.yaml, or the path of a PasteDeploy file (.ini)."""
    if entry.endswith(".ini"):
        deploy = importlib.import_module("paste.deploy")
        return deploy.loadapp(f"config:{Path(entry).absolute()}")
    name, _, expression = entry.partition(":")
    module = importlib.import_module(name)
    # Names of the module, or modules that it imported. bake has checked that calls have only literal arguments.
    names, first = {**sys.modules}, re.match(r"\w+", expression)[0]  # type: ignore[index]
    if hasattr(module, first):
        names[first] = getattr(module, first)
    return eval(expression, names)


def hide_tracebacks() -> None:
    """Stop CherryPy from showing tracebacks to visitors, unless the app configures it. The journal has them anyway."""
    if "cherrypy" in sys.modules:
        sys.modules["cherrypy"].config.setdefault("request.show_tracebacks", False)


def streaming(app: object) -> object:
    """Return the app in a middleware that turns off nginx's buffering for streams, the responses without a length.

    nginx buffers others, so that slow visitors do not block a worker.
    """

    def application(environ: dict, start_response: object) -> object:
        def start(status: str, headers: list, *problem: object) -> object:
            for name, _ in headers:
                if name.lower() in ("content-length", "x-accel-buffering"):
                    return start_response(status, headers, *problem)  # type: ignore[operator]
            return start_response(status, [*headers, ("X-Accel-Buffering", "no")], *problem)  # type: ignore[operator]

        return app(environ, start)  # type: ignore[operator]

    return application


if __name__.startswith("uwsgi_file"):
    import uwsgi

    # uWSGI handles the signal only after it has loaded the app. Until then, the default action stops the worker.
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    # The first worker loads alone: it serves sooner, and files that the app creates once exist for the others. Then as
    # many workers load at once as there are CPUs. /tmp is private to the unit.
    turn = Path("/tmp/first").open("a")  # noqa: SIM115
    fcntl.flock(turn, fcntl.LOCK_EX)
    if turn.seek(0, 2):
        turn = Path(f"/tmp/{uwsgi.worker_id() % os.cpu_count()}").open("a")  # noqa: SIM115
        fcntl.flock(turn, fcntl.LOCK_EX)
    release = Path.cwd().parent
    # A hook may replace `streaming`.
    for hook in release.glob("settings/hooks/*.py"):
        exec(hook.read_text(), globals())
    try:
        application = streaming(find(json.loads((release / "recipe.json").read_text())["wsgi"]))
    except SystemExit as problem:
        # After SystemExit, uWSGI would start workers forever. Any other exception ends it.
        raise ImportError(problem)  # noqa: B904
    hide_tracebacks()
    turn.write("first")
    turn.flush()
    # Unlock explicitly: children that the app has forked keep the file open, so closing it would not release the lock.
    fcntl.flock(turn, fcntl.LOCK_UN)
    # Tell systemd that the app is loaded. The first worker's report counts; see app.service.
    socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM).sendto(b"READY=1", "/run/systemd/notify")
