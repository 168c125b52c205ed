"""Read the ignore files of an app's folder."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import re2
from pathspec import GitIgnoreSpec
from pathspec.patterns.gitignore.spec import GitIgnoreSpecPattern

from bake.errors import AppFolderError
from bake.host import foreign_text, git

#: The file that excludes more than .gitignore does, or includes paths that bake would exclude.
BAKEIGNORE = ".bakeignore"
IGNORE_FILES = (BAKEIGNORE, ".gitignore")
#: The largest file. Below that, re2 refuses what needs more than its 8 MB: from 1,300 to 12,000 patterns in trials.
MAX_CHARACTERS = 2**17


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
        return self.spec.check_file(comparable(name[len(self.path.rpartition("/")[0]) :].lstrip("/"))).include


def comparable(name: str) -> str:
    """Return a name as re2 can compare it: bytes that are not UTF-8 are replaced, as they are in the ignore files."""
    return name.encode(errors="surrogateescape").decode(errors="replace")


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


def read(folder: Path, subfolder: Path, outer: list[Rules], committed_paths: Collection[str]) -> list[Rules]:
    """Return the rules for a `subfolder` of the app's `folder`: those of its own ignore files, and the `outer` ones.

    Raises AppFolderError for a file that cannot be read, is UTF-16, or has too many patterns.
    """
    files = [subfolder / name for name in IGNORE_FILES if (subfolder / name).is_file()]
    return [*(_read(folder, path, () if path.name == BAKEIGNORE else committed_paths) for path in files), *outer]


def _read(folder: Path, path: Path, exempt: Collection[str]) -> Rules:
    try:
        text = foreign_text.read(path, "replace")
    except OSError as error:
        raise AppFolderError(f"{path} cannot be read: {error.strerror}", "Correct the file, or its mode.") from None
    if "\0" in text:  # Patterns of UTF-16 match no path, so files with secrets could get into the release.
        line = text.count("\n", 0, text.index("\0")) + 1
        raise AppFolderError(
            f"{path}: line {line} is not UTF-8 text, so its patterns have no effect",
            "Save it as UTF-8. PowerShell saves UTF-16 by default.",
        )
    try:
        # The time of re2 grows with the length of a path. Python's own expressions try each way to divide a path
        # between asterisks: for ten of them and a name of 255 characters, that takes years.
        spec = GitIgnoreSpec([*_patterns(text[:MAX_CHARACTERS].splitlines())], backend="re2")
    except re2.error:
        spec = None
    if spec is None or len(text) > MAX_CHARACTERS:
        raise AppFolderError(f"{path} has too many patterns", "Name folders instead of their files.")
    return Rules(path.relative_to(folder).as_posix(), spec, exempt)


def _patterns(lines: Iterable[str]) -> Iterator[GitIgnoreSpecPattern]:
    """Yield the patterns of the lines, without those that git ignores, too: `!`, `[z-a]`, a backslash at the end."""
    for line in lines:
        with contextlib.suppress(ValueError, re.error):
            yield GitIgnoreSpecPattern(line)


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
