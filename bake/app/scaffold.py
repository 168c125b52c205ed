"""A first bake.yaml for an app's folder: what was found, why, and what is left to say."""

from __future__ import annotations

import json
from pathlib import Path

from bake.app import detect
from bake.app.name_resolution import Reader
from bake.config import recipe
from bake.config.recipe import FILE_NAME, Recipe
from bake.errors import AppFolderError, NoAppError, RecipeError, RequirementError, SeveralAppsError
from bake.host import cache

HEAD = """\
# What is commented out is what bake finds by itself, or its default:
# take the # away to hold it fast, or to change it. bake.example.yaml shows every key.
"""
TAIL = """
# The names the app answers to, and who hears of its certificate.
# domains: [example.com, www.example.com]
# email: you@example.com

# A path that answers 2xx or 3xx when the app is well.
# check: {health: /healthz}

# What the app writes in its own folder, to be kept in /var/lib/app.
# writable: [instance]

# Names of secrets; their values go to /etc/app/secrets.env on the machine, never into an image.
# secrets: [SECRET_KEY]

# Commands before each start, and jobs.
# setup: [flask db upgrade]
# timers: {tidy: {run: flask tidy, when: daily}}
"""


def draft(folder: Path) -> str:
    """The text of a bake.yaml that bakes, or that says what has to be chosen.

    Raises AppSyntaxError and AsgiAppError, which no recipe mends.
    """
    reader = Reader(folder, Recipe().target.python)
    return "".join([HEAD, _app(reader), _needs(reader), TAIL])


def _app(reader: Reader) -> str:
    try:
        app = detect.chosen(reader, [])
    except SeveralAppsError as error:
        rows = (line.partition(": to serve this one, write  ") for line in error.details.splitlines())
        choices = "".join(f"# {wsgi}    # {place}\n" for place, _, wsgi in rows)
        return f"\n# Several apps were found: take the # from the one to serve.\n{choices}"
    except NoAppError as error:
        near = "".join(f"#   {line}\n" for line in error.details.splitlines())
        return f"\n# {error.message}.\n{near}# Say where it is:\n# wsgi: module:callable\n"
    wsgi, why = (app.wsgi, f"made at {app.root.place}") if app else (detect.PASTE, "its [app:main]")
    return f"\n# The app: {why}.\n# wsgi: {wsgi}\n"


def _needs(reader: Reader) -> str:
    try:
        return f"\n# What the app needs.\n# requirements: {detect.needed(reader)}\n"
    except RequirementError as error:
        if error.details.startswith("requirements: "):
            return f"\n# Made from the app's imports: look the names over.\n{error.details}\n"
        return f"\n# {error.message}. {error.hint}\n"


def write(folder: Path) -> Path:
    """Write the draft where there is no bake.yaml yet; its path. Raises RecipeError where there is one."""
    path = folder / FILE_NAME
    if not folder.is_dir():
        raise AppFolderError(f"{folder} is not a folder", "Give the folder that holds the app's source.")
    if path.exists():
        raise RecipeError(f"{path} is there already", "Change it by hand; bake.example.yaml shows every key.")
    cache.write(path, draft(folder))
    return path


def pin(folder: Path, paths: tuple[str, ...]) -> Path:
    """Write `writable` with these paths into bake.yaml, a new one if there is none, and return its path.

    Raises RecipeError where there is a `writable` already, or no path to write.
    """
    path = folder / FILE_NAME
    line = f"writable: {{observe: off, paths: [{', '.join(json.dumps(name) for name in paths)}]}}\n"
    if not paths:
        raise RecipeError("The app was seen to write nothing beside its code", "There is nothing to pin.")
    if path.exists() and recipe.read(folder).writable != Recipe().writable:
        raise RecipeError(f"{path} has `writable` already", "Put this line in its place.", line)
    text = path.read_text() if path.exists() else draft(folder)
    cache.write(
        path, f"{text.rstrip()}\n\n# Seen in a bake; `observe: off` keeps later bakes from adding to it.\n{line}"
    )
    return path
