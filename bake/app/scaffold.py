"""Write a first bake.yaml for an app's folder, with the detected keys and comments."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path

from bake.app import background_services, detect, entry, needed_variables, node_build, procfile, requirements_files
from bake.app.name_resolution import Reader
from bake.config import contract, loader
from bake.config.loader import FILE_NAME
from bake.config.recipe import Recipe
from bake.errors import AppFolderError, NoAppError, RecipeError, RequirementError, SeveralAppsError
from bake.host import files

HEAD = """\
# The commented keys have the values that bake detects, or defaults. To pin or
# change one, remove its #. bake.example.yaml shows every key.
"""
TAIL = f"""
# The host names of the app, and the email address for the certificate authority.
# domains: [example.com, www.example.com]
# email: you@example.com

# A path that responds with 2xx or 3xx if the app is healthy.
# check: {{health: /healthz}}

# Paths in its own folder that the app writes. The machine keeps them in {contract.DATA}.
# writable: [instance]

# Names of secrets. Their values are in {contract.SECRETS} on the machine, never in an image.
# secrets: [SECRETS_OF_THE_APP]

# Commands that run once for each version:
# release: [flask db upgrade]

# Jobs, and programs that run beside the site.
# timers: {{tidy: {{run: flask tidy, when: daily}}}}
# processes: {{queue: celery -A shop worker}}
"""


def draft(folder: Path, notes: list[str]) -> str:
    """Return the text of a bake.yaml. If there are several apps, it lists the choices.

    Adds a line to `notes` for each key that the author has to set or check.

    Raises AppSyntaxError, which no recipe can fix.
    """
    reader = Reader(folder, Recipe().target.python)
    keys = [_app(reader, notes), _requirements(reader, notes), _front_end(folder, notes), _procfile(folder, notes)]
    keys.append(_background_services(reader, notes))
    return "".join([HEAD, *keys, TAIL.replace("SECRETS_OF_THE_APP", ", ".join(_secrets(folder)))])


def _app(reader: Reader, notes: list[str]) -> str:
    try:
        choice = entry.find(reader, [])
    except SeveralAppsError as error:
        key = error.key
        choices = "".join(f"# {key}: {target}    # {location}\n" for target, location in error.candidates.items())
        notes.append(f"{error.message}: set `{key}`")
        return f"\n# bake found several apps. Remove the # before the one to serve.\n{choices}"
    except NoAppError as error:
        if error.proposal:
            notes.append(f"{error.message}: check `run`")
            return "\n# The app's own server. Check the command.\n" + "".join(f"{line}\n" for line in error.proposal)
        candidates = "".join(f"#   {line}\n" for line in error.details.splitlines())
        notes.append(f"{error.message}: set `wsgi` or `asgi`")
        return f"\n# {error.message}.\n{candidates}# Set its module and callable:\n# wsgi: module:callable\n"
    if choice.app:
        origin = f"created at {choice.app.root.location}"
    else:
        origin = choice.source or "its [app:main]"
    return f"\n# The app: {origin}.\n# {choice.key}: {choice.target}\n"


def _requirements(reader: Reader, notes: list[str]) -> str:
    try:
        file = requirements_files.requirements_file(reader.folder)
    except RequirementError as error:
        notes.append(f"{error.message}: check `requirements`")
        return f"\n# {error.message}. {error.hint}\n"
    if file:
        return f"\n# The app's requirements.\n# requirements: {file}\n"
    if file := requirements_files.file_above(reader.folder, reader.imported_packages):
        notes.append(f"{detect.unlisted(reader.folder)}, but {file}: check `requirements`")
        return f"\n# The app's requirements, above its folder. Check the file.\nrequirements: {file}\n"
    proposal, unknown_names = detect.proposed_requirements(reader)
    if proposal or unknown_names:
        notes.append(f"{detect.unlisted(reader.folder)}: check `requirements`")
        unknown = f"# bake does not know which packages contain {', '.join(unknown_names)}.\n" * bool(unknown_names)
        line = f"requirements: [{', '.join(proposal)}]"
        return f"\n# Proposed from the app's imports. Check the names.\n{unknown}{line}\n"
    return "\n# The app imports no other packages.\n# requirements: []\n"


def _secrets(folder: Path) -> list[str]:
    """Return the names of the secrets in the app's example of a .env, or a usual one."""
    values = needed_variables.examples(folder)
    names: list[str] = []
    for name in values:
        with suppress(ValueError):
            names += Recipe(secrets=(name,)).secrets if needed_variables.is_secret(name, values) else ()
    return names or ["SECRET_KEY"]


def _front_end(folder: Path, notes: list[str]) -> str:
    """Return `assets` as a comment if a package.json has a build, or ""."""
    line = node_build.proposal(folder)
    if not line:
        return ""
    notes.append("package.json has a build: check `assets`")
    return f"\n# The front end. Set the folder that its build writes, and remove the #.\n# {line}\n"


def _procfile(folder: Path, notes: list[str]) -> str:
    """Return the keys that bake takes from the Procfile, or "" without one. The author can then change them."""
    release, processes = procfile.release(folder, notes), procfile.processes(folder, notes)
    text = f"\n# From the {procfile.NAME}: commands that run once for each release.\n" * bool(release)
    text += "".join(f"release: [{json.dumps(command)}]\n" for command in release)
    text += f"\n# From the {procfile.NAME}: programs that run beside the site.\nprocesses:\n" * bool(processes)
    return text + "".join(f"  {name}: {json.dumps(command)}\n" for name, command in processes.items())


def _background_services(reader: Reader, notes: list[str]) -> str:
    """Return what the app may need beside its site, as comments."""
    recipe = Recipe.model_validate({"processes": procfile.processes(reader.folder, [])})
    text = ""
    for proposal in background_services.proposals(reader, recipe):
        notes.append(f"{proposal.reason}: check `{proposal.line.partition(':')[0]}`")
        text += f"\n# {proposal.reason}. {proposal.purpose.capitalize()}, remove the #.\n# {proposal.line}\n"
    return text


def write(folder: Path, notes: list[str]) -> Path:
    """Write the draft and return its path; `notes` as for `draft`. Raises RecipeError if there is a bake.yaml."""
    path = folder / FILE_NAME
    if not folder.is_dir():
        raise AppFolderError(f"{folder} is not a folder", "Give the path of the folder with the app's source.")
    if path.exists():
        raise RecipeError(f"{path} exists", "Edit it; bake.example.yaml shows every key.")
    files.write(path, draft(folder, notes))
    return path


def pin(folder: Path, paths: tuple[str, ...]) -> Path:
    """Write `writable` with these paths into bake.yaml, and return its path. Create the file if there is none.

    Raises RecipeError if there is no path, or the file already has `writable`.
    """
    path = folder / FILE_NAME
    line = f"writable: {{observe: off, paths: [{', '.join(json.dumps(name) for name in paths)}]}}\n"
    if not paths:
        raise RecipeError("The app wrote nothing to its own folder during the bake", "There is nothing to add.")
    if path.exists() and loader.read(folder).writable != Recipe().writable:
        raise RecipeError(f"{path} already has `writable`", "Replace it by the line above.", line)
    text = path.read_text() if path.exists() else draft(folder, [])
    files.write(
        path, f"{text.rstrip()}\n\n# Observed in a bake. With `observe: off`, later bakes add no paths.\n{line}"
    )
    return path
