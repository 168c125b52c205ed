"""Read an app's folder, or the source that its recipe names, which is fetched to the cache."""

from __future__ import annotations

import json
import re
import shutil
import sys
import zipfile
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from bake.app import project_metadata
from bake.bundle import debian_choice
from bake.bundle.lock import Lock
from bake.bundle.wheel_builder import LOCK_OPTIONS, LockOptions
from bake.config import loader
from bake.config.recipe import Recipe
from bake.config.sections import App
from bake.errors import SourceError
from bake.host import git, paths
from bake.host.download import download
from bake.host.files import atomic_output
from bake.host.programs import run
from bake.host.progress import Reporter

#: Arguments to unpack archives, here and on a machine. -I: Python must not import modules from the current folder.
UNZIP = ("-I", "-m", "zipfile", "-e")
UNTAR = ("--no-same-owner", "--no-same-permissions", "-C")


@dataclass(frozen=True)
class AppSource:
    """An app: the folder that a person named, and its recipe, which may name another source of the app's files.

    `lock` has its requirements for the Debian release in the recipe, if they were resolved.
    """

    folder: Path
    recipe: Recipe
    lock: Lock | None = None

    @classmethod
    def read(
        cls, folder: Path, report: Reporter, options: LockOptions = LOCK_OPTIONS, base: str | None = None
    ) -> AppSource:
        """Return an app with all keys that bake detects in its folder, and the Debian release that suits it.

        `base` overrides the one in bake.yaml. Resolves the requirements. Raises the errors of `debian_choice.complete`.
        """
        recipe = _recipe(folder, base)
        choice = debian_choice.complete(folder_of(folder, recipe), recipe, report, options)
        return cls(folder, choice.recipe, choice.lock)

    @classmethod
    def read_unresolved(cls, folder: Path, report: Reporter, base: str | None = None) -> AppSource:
        """Return an app as `read` does, without resolving its requirements. A missing `base` stays missing.

        For machines with a known release, and for launch settings.
        """
        recipe = _recipe(folder, base)
        return cls(folder, debian_choice.complete_without_base(folder_of(folder, recipe), recipe, report))

    @cached_property
    def files(self) -> Path:
        """Return the folder with the app's files. Raises the errors of `folder_of`."""
        return folder_of(self.folder, self.recipe)

    @property
    def commit(self) -> str:
        """Return the commit of the app's files, with `-dirty` if they differ from it; empty if there is none."""
        return (self.recipe.app.commit or "") if self.recipe.app else git.state(self.folder)

    @property
    def version(self) -> str:
        """Return the version of the app, or "" if it is unknown."""
        project = project_metadata.find(self.files)
        return (project.version if project else (self.recipe.package or "").partition("==")[2]) or ""


def _recipe(folder: Path, base: str | None) -> Recipe:
    """Return the recipe in bake.yaml, with `base` if it is set."""
    recipe = loader.read(folder)
    return recipe.model_copy(update={"base": base}) if base else recipe


def folder_of(folder: Path, recipe: Recipe) -> Path:
    """Return the folder with the app's files: `folder`, or the source that the recipe names, fetched to the cache.

    Raises NetworkError, or SourceError if the source does not exist or its digest differs.
    """
    app = recipe.app
    if app is None or app.package:
        return folder
    address = str(app.git or app.archive)
    # Strip leading dots, because `..` would be another folder.
    name = re.sub(r"(\.git|\.zip|\.t\w+|\.tar\.\w+)?/*$", "", address).rpartition("/")[2].lstrip(".")
    entry = paths.cache() / "fetched" / str(app.commit or app.sha256)
    if not entry.exists():
        with atomic_output(entry) as partial:
            partial.mkdir()
            destination = partial / (name or "app")
            if app.git:
                git.check_out(app.git, str(app.commit), destination)
            else:
                _unpack(app, destination)
    return next(path for path in entry.iterdir() if path.is_dir())


def _unpack(app: App, destination: Path) -> None:
    """Fetch and unpack an archive. If it contains a single folder, as a forge's archives do, unpack that folder."""
    archive, files = destination.with_name(".archive"), destination.with_name(".files")
    files.mkdir()
    digest = download(str(app.archive), archive, "sha256")
    if digest != app.sha256:
        raise SourceError(
            f"{app.archive} differs from the archive that bake.yaml names: its SHA-256 is {digest}",
            "If its publisher replaced it, set `app.sha256` to the new digest from a trusted source.",
        )
    is_zip = zipfile.is_zipfile(archive)
    if not is_zip and re.search("^[bcp]", run(["tar", "-tvf", archive], check=False).stdout, re.MULTILINE):
        raise SourceError(
            f"{app.archive} contains a device or a pipe",
            "Set `app.archive` in bake.yaml to an archive of only files, folders and links.",
        )
    unpack: list[str | Path] = (
        [sys.executable, *UNZIP, archive, files] if is_zip else ["tar", *UNTAR, files, "-xf", archive]
    )
    result = run(unpack, check=False)
    if result.status:
        raise SourceError(
            f"{app.archive} is neither a tar nor a zip archive",
            "Set `app.archive` in bake.yaml to the URL of the archive itself.",
            result.stderr.strip(),
        )
    archive.unlink()
    entries = list(files.iterdir())
    if len(entries) == 1 and entries[0].is_symlink():
        raise SourceError(
            f"{app.archive} contains only the link {entries[0].name}",
            "Set `app.archive` in bake.yaml to an archive of the files themselves.",
        )
    root = entries[0] if len(entries) == 1 and entries[0].is_dir() else files
    command = ["python3", *UNZIP, ".archive", ".fetched"] if is_zip else ["tar", *UNTAR, ".fetched", "-xf", ".archive"]
    destination.with_name(".unpack").write_text(json.dumps([" ".join(command), "" if root is files else root.name]))
    root.rename(destination)
    shutil.rmtree(files, ignore_errors=True)
