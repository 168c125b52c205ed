"""What uWSGI loads: finds the app that the recipe names, and stands between the two where that helps.

It says so where the app writes in vain, and lets server-sent events through.
"""

import ast
import importlib
import json
import os
import sys
from pathlib import Path

#: Audit events (Python's own list of them) that change files, by the places of their paths.
CHANGES = {"os.mkdir": (0,), "os.remove": (0,), "os.rename": (0, 1), "os.rmdir": (0,), "sqlite3.connect": (0,)}
#: Where an app may write, and where programs do without meaning to keep anything.
OPEN = ("/var/lib/app/", "/var/cache/app/", "/tmp/", "/var/tmp/", "/dev/", "/proc/", "/run/")
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT


def find(wanted: str) -> object:
    """The app: module:expression as bake.yaml has it, or a file for PasteDeploy."""
    if wanted.endswith(".ini"):
        deploy = importlib.import_module("paste.deploy")
        return deploy.loadapp(f"config:{Path(wanted).absolute()}")
    name, _, expression = wanted.partition(":")
    return evaluate(ast.parse(expression, mode="eval").body, importlib.import_module(name))


def evaluate(node: ast.expr, module: object) -> object:
    """Names of the module, or of modules it has loaded; attributes; calls with plain values."""
    if isinstance(node, ast.Name):
        return getattr(module, node.id) if hasattr(module, node.id) else sys.modules[node.id]
    if isinstance(node, ast.Attribute):
        return getattr(evaluate(node.value, module), node.attr)
    values = [argument.value for argument in node.args]
    named = {keyword.arg: keyword.value.value for keyword in node.keywords}
    return evaluate(node.func, module)(*values, **named)


def hide_tracebacks() -> None:
    """CherryPy shows them to visitors, unless the app says otherwise; the journal has them anyway."""
    if "cherrypy" in sys.modules:
        sys.modules["cherrypy"].config.setdefault("request.show_tracebacks", False)


class Watch:
    """Names the folder, once, when the app writes where it may not: the app's own error seldom does."""

    def __init__(self, source: Path) -> None:
        """`source` is the app's folder."""
        self.source = os.path.realpath(source)
        self.told: set[str] = set()

    def __call__(self, event: str, values: tuple) -> None:
        """Python's audit hook: sees files before they are opened."""
        if event == "open":
            if isinstance(values[2], int) and values[2] & WRITING:
                self.look(values[0])
        elif event in CHANGES:
            for place in CHANGES[event]:
                self.look(values[place])

    def look(self, path: object) -> None:
        """Tell about a path that the app's sandbox keeps closed."""
        # SQLite's databases in memory have names of their own: ":memory:", "file:…".
        if not isinstance(path, str | bytes | os.PathLike) or os.fsdecode(path).startswith((":", "file:")):
            return
        real = os.path.realpath(os.fsdecode(path))
        if real.startswith(OPEN) or "__pycache__" in real:
            return
        inside = real.startswith(self.source + os.sep)
        name = os.path.relpath(real, self.source) if inside else real
        folder = str(Path(name).parent) if os.sep in name.strip(os.sep) else name
        if folder in self.told:
            return
        self.told.add(folder)
        why, way = "only /var/lib/app can be", "The app's own settings should point there."
        if inside:
            why, way = "the app's folder is read-only", f"To keep it, write into bake.yaml:  writable: [{folder}]"
        print(f"<4>app: {name} cannot be written: {why}. {way}", file=sys.stderr, flush=True)


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
    release = Path.cwd().parent
    sys.addaudithook(Watch(release / "source"))
    application = streaming(find(json.loads((release / "recipe.json").read_text())["wsgi"]))
    hide_tracebacks()
