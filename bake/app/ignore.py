"""Read the ignore files of an app's folder."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from pathspec import GitIgnoreSpec

from bake.errors import AppFolderError
from bake.host import foreign_text, git

#: The file that excludes more than .gitignore does, or includes paths that bake would exclude.
BAKEIGNORE = ".bakeignore"
IGNORE_FILES = (BAKEIGNORE, ".gitignore")


@dataclass(frozen=True)
class Rules:
    """An ignore file: its path below the app's folder, and its patterns for the paths below its own folder.

    The patterns do not apply to the paths in `exempt`.
    """

    path: str
    spec: GitIgnoreSpec
    exempt: Collection[str]

    def ignores(self, name: str) -> bool | None:
        """Return whether the file excludes a path, or None if no pattern matches."""
        if name in self.exempt:
            return None
        return self.spec.check_file(name[len(self.path.rpartition("/")[0]) :].lstrip("/")).include


def committed(folder: Path) -> Collection[str]:
    """Return the paths below a folder that git tracks, and the folders that contain them, as in `static/`.

    .gitignore does not apply to them (gitignore(5)). Without git or a repository that it can read, none are known.
    """
    try:
        with git.open_repository(folder) as repository:
            files = repository.files() if repository else []
    except git.UnreadableError:
        return ()
    return {*files, *(f"{parent}/" for file in files for parent in PurePosixPath(file).parents)}


def read(folder: Path, path: Path, committed_paths: Collection[str]) -> Rules:
    """Return the rules of an ignore file at `path`, in or below the app's `folder`. Raises AppFolderError."""
    try:
        lines = foreign_text.read(path, "replace").splitlines()
    except OSError as error:
        raise AppFolderError(f"{path} cannot be read: {error.strerror}", "Correct the file, or its mode.") from None
    exempt = () if path.name == BAKEIGNORE else committed_paths
    return Rules(path.relative_to(folder).as_posix(), GitIgnoreSpec.from_lines(lines), exempt)


def verdict(rules: Iterable[Rules], file: str, name: str) -> tuple[bool | None, str]:
    """Return whether the ignore files named `file` exclude a path, and the path of the file that decides.

    `rules` begin with the innermost file. None means that no pattern in them matches.
    """
    verdicts = ((rule.ignores(name), rule.path) for rule in rules if rule.path.endswith(file))
    return next((candidate for candidate in verdicts if candidate[0] is not None), (None, ""))


def allows(folder: Path, path: Path) -> bool:
    """Return whether a .bakeignore of an app's `folder` names exactly this file, as in `!/tests/key.txt`."""
    for parent in path.parents:
        name = path.relative_to(parent).as_posix()
        if (rules := parent / BAKEIGNORE).is_file():
            lines = foreign_text.read(rules, "replace").splitlines()
            if not {f"!{name}", f"!/{name}"}.isdisjoint(map(str.rstrip, lines)):
                return True
        if parent == folder:
            break
    return False
