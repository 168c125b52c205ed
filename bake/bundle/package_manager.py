"""Decide which package manager of Node an app's front end needs, and how it installs the packages of a lock file."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from bake.bundle.isolated_assets import BuildCommands
from bake.config.assets import Assets
from bake.errors import AssetsError
from bake.host import foreign_text

#: Returns the text of a file of the app, or None if there is none.
ReadText = Callable[[str], str | None]
#: The installation of exactly the packages in a lock file.
INSTALLS = {
    "package-lock.json": "npm ci",
    "npm-shrinkwrap.json": "npm ci",
    "pnpm-lock.yaml": "pnpm install --frozen-lockfile",
    "yarn.lock": "yarn install --frozen-lockfile",
}
LOCK_FILES = {"npm": "package-lock.json", "pnpm": "pnpm-lock.yaml", "yarn": "yarn.lock"}
#: The version of pnpm that reads a lock file, by the file's own version.
PNPM_VERSIONS = {"5": "7", "6": "8", "9": "9"}
#: The last version of the first yarn, and the major version of the one that replaced it, which is another package.
YARN_1, YARN = "yarn@1.22.22", "@yarnpkg/cli-dist@4"
#: Its option has another name, and several versions end with an error for the old one.
YARN_INSTALL = "yarn install --immutable"
#: The next step if there is no lock file.
COMMIT = "Run `npm install --package-lock-only` in that folder, and commit package-lock.json."
DEPENDENCIES = ("dependencies", "devDependencies", "optionalDependencies", "workspaces")


def build_commands(assets: Assets, read_text: ReadText) -> BuildCommands:
    """Return the commands of a front end's build. `read_text` reads the app's files.

    Raises AssetsError if there is no package.json, or no lock file for its packages.
    """
    folder = f"{assets.source}/" if assets.source else ""
    project = _project(f"{folder}package.json", read_text)
    lock_files = [name for name in INSTALLS if read_text(folder + name) is not None]
    match = re.match(r"(\w+)@(\d[\w.-]*)", str(project.get("packageManager")))
    chosen, version = match.groups() if match else ("", "")
    install = assets.install
    if install is None:
        suitable = [name for name in lock_files if INSTALLS[name].split()[0] == chosen] or lock_files
        install = INSTALLS[suitable[0]] if suitable else ""
        if not suitable and any(project.get(key) for key in DEPENDENCIES):
            raise AssetsError(
                f"assets: {folder}package.json has no lock file beside it, which makes each build the same",
                f"{COMMIT} Or set `install: npm install`, which fetches the newest packages.",
            )
    elif re.match(r"npm\s+ci\b", install) and not any(INSTALLS[name] == "npm ci" for name in lock_files):
        others = f"; it has {', '.join(lock_files)}: remove `install`" if lock_files else ""
        raise AssetsError(f"assets: `{install}` needs {folder}package-lock.json{others}", COMMIT)
    words = f"{install} {assets.run}"
    manager = next((name for name in ("pnpm", "yarn") if re.search(rf"\b{name}\b", words)), "npm")
    lock_text = read_text(folder + LOCK_FILES[manager]) or ""
    tool = _tool(manager, version * (manager == chosen), lock_text)
    if assets.install is None and tool.startswith(YARN.rpartition("@")[0]):
        install = YARN_INSTALL
    return BuildCommands(assets, install, tool)


def _project(name: str, read_text: ReadText) -> dict[str, Any]:
    """Return the content of a package.json."""
    text = read_text(name)
    if text is None:
        raise AssetsError(
            f"assets: the app has no {name}, or bake excludes it",
            "Set `source` to the folder of package.json, such as `assets: {source: frontend, …}`.",
        )
    try:
        project = foreign_text.from_json(text)
    except ValueError as error:
        raise AssetsError(f"assets: {name} is not JSON: {error}", "Correct it.") from None
    return project if isinstance(project, dict) else {}


def _tool(manager: str, version: str, lock_text: str) -> str:
    """Return the package of pnpm or yarn in the version of package.json, or for the lock file; "" for npm."""
    if manager == "pnpm":
        match = re.search(r"^lockfileVersion: '?(\d+)", lock_text, re.M)
        return f"pnpm@{version or PNPM_VERSIONS.get(match[1] if match else '', '9')}"
    if manager == "yarn" and version:
        return f"yarn@{version}" if version.startswith("1.") else f"@yarnpkg/cli-dist@{version}"
    if manager == "yarn":
        return YARN if "__metadata:" in lock_text else YARN_1
    return ""
