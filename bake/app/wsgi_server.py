"""Serve WSGI apps by gunicorn or waitress: their requirements, and the settings that the machine decides."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from packaging.utils import canonicalize_name

from bake.app import server_pins
from bake.app.requirement_line import Line
from bake.config.recipe import Recipe
from bake.errors import RecipeError
from bake.host import foreign_text

#: The oldest releases that work. gunicorn 20 needs pkg_resources, which new versions of setuptools do not have.
MINIMUM = {"gunicorn": "gunicorn>=21", "waitress": "waitress>=2.1"}
#: Further requirements of gunicorn's workers for apps with these packages. gunicorn 26 has no worker for eventlet.
GREEN = {"eventlet": "gunicorn<26", "gevent": "packaging"}
NOTE = "requirements: bake adds {} for `server: {}`"
#: The app's settings of gunicorn.
SETTINGS = "gunicorn.conf.py"
#: The settings that the machine decides. cloud-init/features/wsgi/wsgi_server.py has the values.
MACHINE = {
    "bind", "chdir", "control_socket_disable", "daemon", "forwarded_allow_ips", "graceful_timeout", "group", "pidfile",
    "keepalive", "reload", "secure_scheme_headers", "user",
}  # fmt: skip


def served(server: str, lines: Iterable[Line], notes: list[str]) -> list[Line]:
    """Return the app's requirements with those of the server. Note what the app does not name, or pins too low."""
    lines = server_pins.raised(lines, MINIMUM[server], notes)
    names = {line.name for line in lines if not line.constraint}
    if server not in names:
        notes.append(NOTE.format(server, server))
    texts = [MINIMUM[server], *(text for name, text in GREEN.items() if server == "gunicorn" and name in names)]
    location = f"bake's `server: {server}`"
    return [*lines, *(Line(text, location, canonicalize_name(re.split("[<>=]", text)[0])) for text in texts)]


def for_python(recipe: Recipe, notes: list[str]) -> Recipe:
    """Return the recipe of a WSGI app with a server that runs the app's Python: gunicorn, unless it names one.

    Raises RecipeError if it names uWSGI, which is Debian's and runs only Debian's own Python.
    """
    if recipe.server != "uwsgi" or not recipe.target.has_interpreter:
        return recipe
    if "server" in recipe.model_fields_set:
        raise RecipeError(
            f"`server: uwsgi` runs only Debian's own Python, and bake.yaml has `python: {recipe.python}`",
            "Write `server: gunicorn` or `server: waitress`.",
        )
    notes.append("server: gunicorn (uWSGI is Debian's, and runs only Debian's own Python)")
    return recipe.model_copy(update={"server": "gunicorn"})


def ignored_settings(folder: Path) -> Iterator[str]:
    """Yield a note for each setting in the app's gunicorn.conf.py that the machine decides. Nothing is executed."""
    try:
        tree = ast.parse(foreign_text.read(folder / SETTINGS))
    except (OSError, SyntaxError, ValueError, RecursionError, MemoryError):
        return
    for statement in tree.body:
        if isinstance(statement, ast.Assign | ast.AnnAssign):
            targets = statement.targets if isinstance(statement, ast.Assign) else [statement.target]
            for target in targets:
                if isinstance(target, ast.Name) and target.id in MACHINE:
                    yield f"ignored: {SETTINGS}:{statement.lineno} sets {target.id}, which the machine decides"
