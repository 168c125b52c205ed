"""Serve WSGI apps by gunicorn or waitress: their requirements, and the settings that the machine decides."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator
from pathlib import Path

from bake.app.requirement_line import Line

#: The oldest releases that work. gunicorn 20 needs pkg_resources, which new versions of setuptools do not have.
MINIMUM = {"gunicorn": "gunicorn>=21", "waitress": "waitress>=2.1"}
NOTE = "requirements: bake adds {} for `server: {}`"
#: The app's settings of gunicorn.
SETTINGS = "gunicorn.conf.py"
#: The settings that the machine decides. cloud-init/features/wsgi/wsgi_server.py has the values.
MACHINE = {
    "bind", "chdir", "control_socket_disable", "daemon", "forwarded_allow_ips", "graceful_timeout", "group", "pidfile",
    "reload", "secure_scheme_headers", "user",
}  # fmt: skip


def required(server: str, lines: Iterable[Line], notes: list[str]) -> list[Line]:
    """Return the line that the server needs. Note it if the app's requirements do not name it."""
    if all(line.name != server or line.constraint for line in lines):
        notes.append(NOTE.format(server, server))
    return [Line(MINIMUM[server], f"bake's `server: {server}`", server)]


def ignored_settings(folder: Path) -> Iterator[str]:
    """Yield a note for each setting in the app's gunicorn.conf.py that the machine decides. Nothing is executed."""
    try:
        tree = ast.parse((folder / SETTINGS).read_text(encoding="utf-8-sig"))
    except (OSError, SyntaxError, ValueError, RecursionError, MemoryError):
        return
    for statement in tree.body:
        if isinstance(statement, ast.Assign | ast.AnnAssign):
            targets = statement.targets if isinstance(statement, ast.Assign) else [statement.target]
            for target in targets:
                if isinstance(target, ast.Name) and target.id in MACHINE:
                    yield f"ignored: {SETTINGS}:{statement.lineno} sets {target.id}, which the machine decides"
