"""Find and parse the Python files of an app's folder.

This module uses only `ast`. An import would run the app on a computer that is not the target.
"""

from __future__ import annotations

import ast
import os
import re
import stat
import sys
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from bake.app import ignore
from bake.config.debian import TARGETS
from bake.errors import AppFolderError, AppSyntaxError

#: Folders without code of the app. Libraries such as Wagtail and Mezzanine make new projects from `project_template`.
SKIPPED_FOLDERS = {
    "tests", "test", "docs", "doc", "node_modules", "build", "dist", "venv", "migrations", "project_template",
    "__pycache__",
}  # fmt: skip
SKIPPED_FILES = re.compile(r"(test_.*|.*_test|conftest|noxfile)\.py")
#: The script of setuptools, and the files of a project beside it. In other folders, this is a name like any other.
SETUP, PROJECT_FILES = "setup.py", {"pyproject.toml", "setup.cfg", "MANIFEST.in"}
#: The maximum size of a file to read. A larger one contains data. The largest file of 18 public apps has 153 kB.
MAX_FILE_BYTES = 2**20
#: The maximum total size. The largest of 18 public apps (Home Assistant, 8,000 files) has 39 MB. Parsing a megabyte
#: takes about half a second.
MAX_BYTES = 64 * 2**20


OWN_PYTHON = sys.version_info[:2]
OLDEST_PYTHON = min(target.python for target in TARGETS.values())
#: Newer syntax, by the version of Python that introduced it: what the faulty line or the parser's message contains.
NEWER_SYNTAX = {
    (3, 12): re.compile(r"^f-string|\b[fF][rR]?[\"']|\b[rR][fF][\"']|^\s*type\s+\w+|\b(def|class)\s+\w+\s*\["),
    (3, 14): re.compile(r"^\s*except\*?\s+[\w.]+\s*,(?!.*\bas\b)|\b[tT][rR]?[\"']|\b[rR][tT][\"']"),
}


@dataclass(frozen=True)
class Fault:
    """A line that bake cannot parse.

    `newer`: the Python that may have introduced its syntax, if bake's is older, and the target's is not. `hint` names
    the Python if the target's is older, too.
    """

    line: int
    message: str
    text: str = ""
    newer: tuple[int, int] | None = None
    hint: str = ""

    @property
    def reason(self) -> str:
        """Return why the file was not read."""
        if self.newer is None:
            return f"line {self.line}: {self.message}"
        own, newer = ("{}.{}".format(*version) for version in (sys.version_info[:2], self.newer))
        return f"line {self.line} may need Python {newer}, and bake runs on {own}"


@dataclass(frozen=True)
class PythonFile:
    """A file's path below the app's folder and its tree, which is empty if bake did not read the file."""

    path: PurePosixPath
    tree: ast.Module
    #: Why the file was not read.
    skip_reason: str = ""
    fault: Fault | None = None
    #: Whether each target's Python reads the file in the same way.
    is_portable: bool = True


def find(folder: Path) -> Iterator[PurePosixPath]:
    """Yield the files that could be modules of the app, in order, except those that an ignore file excludes."""
    committed = ignore.committed(folder)
    pending: list[tuple[str, list[ignore.Rules]]] = [("", [])]
    while pending:
        prefix, rules = pending.pop()
        subfolder = folder / prefix
        try:
            entries = sorted(os.scandir(subfolder), key=lambda entry: entry.name)
        except OSError:
            continue
        rules = ignore.read(folder, subfolder, rules, committed)
        folders = []
        is_project = not prefix or not PROJECT_FILES.isdisjoint(entry.name for entry in entries)
        for entry in entries:
            name = prefix + entry.name
            if entry.name == SETUP and is_project:
                continue
            if entry.is_dir(follow_symlinks=False):
                if _may_be_package(entry) and not _is_ignored(rules, f"{name}/"):
                    folders.append((f"{name}/", rules))
            elif _may_be_module(entry.name) and not _is_ignored(rules, name):
                yield PurePosixPath(name)
        pending += reversed(folders)


def _is_ignored(rules: list[ignore.Rules], name: str) -> bool:
    """Return whether the release excludes a path. .bakeignore overrides .gitignore."""
    verdicts = (ignore.verdict(rules, file, name)[0] for file in (ignore.BAKEIGNORE, ".gitignore"))
    return bool(next((verdict for verdict in verdicts if verdict is not None), False))


def _may_be_package(entry: os.DirEntry[str]) -> bool:
    has_package_name = entry.name.isidentifier() and entry.name not in SKIPPED_FOLDERS
    return has_package_name and not (Path(entry.path) / "pyvenv.cfg").exists()


def _may_be_module(name: str) -> bool:
    return name.endswith(".py") and name[:-3].isidentifier() and not SKIPPED_FILES.fullmatch(name)


def parse(folder: Path, paths: Iterable[PurePosixPath], python: tuple[int, int]) -> Iterator[PythonFile]:
    """Yield the files with their trees, one at a time. `python` is the version on the target.

    A file that is too large, too deeply nested or has a fault has no tree. Skips anything but regular files. Raises
    AppFolderError before reading if the total exceeds MAX_BYTES.
    """
    sizes = _sizes(folder, paths)
    if sum(size for size in sizes.values() if size <= MAX_FILE_BYTES) > MAX_BYTES:
        raise _size_error(folder, sizes)
    for path, size in sizes.items():
        if size > MAX_FILE_BYTES:
            limit = f"{_megabytes(size)}; bake treats files of more than {_megabytes(MAX_FILE_BYTES)} as data"
            yield PythonFile(path, ast.Module([], []), limit)
            continue
        try:
            content = (folder / path).read_bytes()
        except OSError as error:
            raise _unreadable(path, error) from None
        file = _parsed(path, content, min(python, OLDEST_PYTHON))
        yield replace(_parsed(path, content, python), is_portable=False) if file.fault else file


def _parsed(path: PurePosixPath, content: bytes, python: tuple[int, int]) -> PythonFile:
    """Return a file with its tree, as this version of Python reads it."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            # A newer Python than the target's refuses its newer syntax.
            return PythonFile(path, ast.parse(content, str(path), feature_version=min(python, OWN_PYTHON)))
    except SyntaxError as error:
        fault = _fault(error, python)
    except ValueError as error:  # null bytes
        fault = Fault(1, str(error))
    except (RecursionError, MemoryError):  # by Python's limits for its parser
        return PythonFile(path, ast.Module([], []), "its code is nested too deeply")
    return PythonFile(path, ast.Module([], []), fault.reason, fault)


def _fault(error: SyntaxError, python: tuple[int, int]) -> Fault:
    """Return a fault. Its line may be correct on the target's Python if that is newer than bake's own."""
    text = error.text or ""
    versions = [
        version
        for version, pattern in NEWER_SYNTAX.items()
        if version > min(python, OWN_PYTHON) and (pattern.search(text) or pattern.search(error.msg))
    ]
    newer = next((version for version in versions if OWN_PYTHON < version <= python), None)
    later = ["{}.{}".format(*version) for version in versions if version > python]
    hint = f' If it is the syntax of Python {later[0]}, write `python: "{later[0]}"` in bake.yaml.' if later else ""
    return Fault(error.lineno or 1, error.msg, text.strip(), newer, hint)


def require_valid(faults: Mapping[PurePosixPath, Fault]) -> None:
    """Raise AppSyntaxError with all faults, unless there is none or each is in newer syntax than bake can parse."""
    lines = {f"{path}:{fault.line}": fault for path, fault in faults.items() if fault.newer is None}
    for location, fault in [*lines.items()][:1]:
        raise AppSyntaxError(
            f"{location}: {fault.message}",
            f"Correct the line. If the app does not use the file, add it to .bakeignore.{fault.hint}",
            "\n".join(f"{location}: {fault.text}" for location, fault in lines.items()),
        )


def _sizes(folder: Path, paths: Iterable[PurePosixPath]) -> dict[PurePosixPath, int]:
    """Return the regular files of `paths`, with their sizes in bytes. Raises AppFolderError."""
    sizes = {}
    for path in paths:
        try:
            status = (folder / path).stat()
        except OSError as error:
            raise _unreadable(path, error) from None
        if stat.S_ISREG(status.st_mode):
            sizes[path] = status.st_size
    return sizes


def _unreadable(path: PurePosixPath, error: OSError) -> AppFolderError:
    return AppFolderError(f"{path} cannot be read: {error.strerror}", "Change its mode, or exclude it in .bakeignore.")


def _size_error(folder: Path, sizes: dict[PurePosixPath, int]) -> AppFolderError:
    """Return the error for more than MAX_BYTES, with the five largest folders."""
    read_sizes = {path: size for path, size in sizes.items() if size <= MAX_FILE_BYTES}
    totals: Counter[str] = Counter()
    for path, size in read_sizes.items():
        parents = "".join(f"{part}/" for part in path.parts[:-1][:2])
        totals[f"/{parents or path.name}"] += size
    return AppFolderError(
        f"{folder} has {_megabytes(sum(read_sizes.values()))} of Python in {len(read_sizes):,} files; "
        f"bake reads at most {_megabytes(MAX_BYTES)} to find the app",
        f"Add the folders that are not part of the app to {folder / ignore.BAKEIGNORE}, one on each line. bake then "
        "neither reads them nor puts them into the image.",
        "\n".join(f"{name}  has {_megabytes(size)}" for name, size in totals.most_common(5)),
    )


def _megabytes(size: int) -> str:
    return f"{size / 2**20:.1f} MB".replace(".0 ", " ")
