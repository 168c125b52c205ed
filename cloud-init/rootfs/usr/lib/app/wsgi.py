"""What uWSGI loads: finds the app that the recipe names, and stands between the two where that helps.

It lets server-sent events through, and tells systemd when the app is loaded.
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


def find(wanted: str) -> object:
    """The app: module:expression as bake.yaml has it, or a file for PasteDeploy."""
    if wanted.endswith(".ini"):
        deploy = importlib.import_module("paste.deploy")
        return deploy.loadapp(f"config:{Path(wanted).absolute()}")
    name, _, expression = wanted.partition(":")
    module = importlib.import_module(name)
    # Names of the module, or of modules it has loaded; bake has seen that it calls with plain values alone.
    names, first = {**sys.modules}, re.match(r"\w+", expression)[0]
    if hasattr(module, first):
        names[first] = getattr(module, first)
    return eval(expression, names)


def hide_tracebacks() -> None:
    """CherryPy shows them to visitors, unless the app says otherwise; the journal has them anyway."""
    if "cherrypy" in sys.modules:
        sys.modules["cherrypy"].config.setdefault("request.show_tracebacks", False)


def streaming(app: object) -> object:
    """The app, whose server-sent events nginx hands on as they come. It holds answers back otherwise: a
    visitor who reads slowly keeps no worker waiting.
    """

    def application(environ: dict, start_response: object) -> object:
        def start(status: str, headers: list, *problem: object) -> object:
            kinds = [value for name, value in headers if name.lower() == "content-type"]
            if kinds and kinds[0].lower().startswith("text/event-stream"):
                headers = [*headers, ("X-Accel-Buffering", "no")]
            return start_response(status, headers, *problem)

        return app(environ, start)

    return application


if __name__.startswith("uwsgi_file"):
    import uwsgi

    # A worker that is told to stop before it has loaded the app would never hear of it: uWSGI listens afterwards.
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    # The first loads alone: it serves sooner, and what the app makes once is there for the others. As many of these
    # load at once as there are CPUs. /tmp is the unit's own.
    turn = Path("/tmp/first").open("a")  # noqa: SIM115
    fcntl.flock(turn, fcntl.LOCK_EX)
    if turn.seek(0, 2):
        turn = Path(f"/tmp/{uwsgi.worker_id() % os.cpu_count()}").open("a")  # noqa: SIM115
        fcntl.flock(turn, fcntl.LOCK_EX)
    release = Path.cwd().parent
    for hook in release.glob("settings/hooks/*.py"):
        exec(hook.read_text(), {"__name__": __name__})
    try:
        application = streaming(find(json.loads((release / "recipe.json").read_text())["wsgi"]))
    except SystemExit as problem:
        # uWSGI would start another worker, for ever; an error of any other kind ends it.
        raise ImportError(problem)  # noqa: B904
    hide_tracebacks()
    turn.write("first")
    turn.flush()
    # A child that the app has forked has this file open, too: to close it here would not give up the turn.
    fcntl.flock(turn, fcntl.LOCK_UN)
    # To systemd: the first worker's report counts, see app.service.
    socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM).sendto(b"READY=1", "/run/systemd/notify")
