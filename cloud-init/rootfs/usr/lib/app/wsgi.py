"""What uWSGI loads: finds the app that the recipe names, and stands between the two where that helps.

It lets server-sent events through.
"""

import ast
import importlib
import json
import sys
from pathlib import Path


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
    for hook in release.glob("settings/watch.py"):
        exec(hook.read_text())
    application = streaming(find(json.loads((release / "recipe.json").read_text())["wsgi"]))
    hide_tracebacks()
