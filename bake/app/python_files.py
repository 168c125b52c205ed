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
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from bake.app import ignore
from bake.errors import AppFolderError, AppSyntaxError

SKIPPED_FOLDERS = {"tests", "test", "docs", "doc", "node_modules", "build", "dist", "venv", "migrations", "__pycache__"}
SKIPPED_FILES = re.compile(r"(test_.*|.*_test|conftest|setup|noxfile)\.py")
#: The maximum size of a file to read. A larger one contains data. The largest file of 18 public apps has 153 kB.
MAX_FILE_BYTES = 2**20
#: The maximum total size. The largest of 18 public apps (Home Assistant, 8,000 files) has 39 MB. Parsing a megabyte
#: takes about half a second.
MAX_BYTES = 64 * 2**20


@dataclass(frozen=True)
class PythonFile:
    """A file's path below the app's folder and its tree, which is empty if bake did not read the file."""

    path: PurePosixPath
    tree: ast.Module
    #: Why the file was not read.
    skip_reason: str = ""


def find(folder: Path) -> Iterator[PurePosixPath]:
    """Yield the files that could be modules of the app, in order, except those that a .bakeignore excludes."""
    pending: list[tuple[str, list[ignore.Rules]]] = [("", [])]
    while pending:
        prefix, rules = pending.pop()
        subfolder = folder / prefix
        try:
            entries = sorted(os.scandir(subfolder), key=lambda entry: entry.name)
        except OSError:
            continue
        if (subfolder / ignore.BAKEIGNORE).is_file():
            rules = [ignore.read(folder, subfolder / ignore.BAKEIGNORE), *rules]
        folders = []
        for entry in entries:
            name = prefix + entry.name
            if entry.is_dir(follow_symlinks=False):
                if _may_be_package(entry) and not ignore.verdict(rules, ignore.BAKEIGNORE, f"{name}/")[0]:
                    folders.append((f"{name}/", rules))
            elif _may_be_module(entry.name) and not ignore.verdict(rules, ignore.BAKEIGNORE, name)[0]:
                yield PurePosixPath(name)
        pending += reversed(folders)


def _may_be_package(entry: os.DirEntry[str]) -> bool:
    has_package_name = entry.name.isidentifier() and entry.name not in SKIPPED_FOLDERS
    return has_package_name and not (Path(entry.path) / "pyvenv.cfg").exists()


def _may_be_module(name: str) -> bool:
    return name.endswith(".py") and name[:-3].isidentifier() and not SKIPPED_FILES.fullmatch(name)


def parse(folder: Path, paths: Iterable[PurePosixPath], python: tuple[int, int]) -> Iterator[PythonFile]:
    """Yield the files with their trees, one at a time. `python` is the version on the target.

    A file that is too large or too deeply nested has no tree. Skips anything but regular files. Raises AppFolderError
    before reading if the total exceeds MAX_BYTES, and AppSyntaxError at the end with all faults.
    """
    sizes = _sizes(folder, paths)
    if sum(size for size in sizes.values() if size <= MAX_FILE_BYTES) > MAX_BYTES:
        raise _size_error(folder, sizes)
    faults: list[tuple[str, str, str]] = []
    for path, size in sizes.items():
        if size > MAX_FILE_BYTES:
            limit = f"{_megabytes(size)}; bake treats files of more than {_megabytes(MAX_FILE_BYTES)} as data"
            yield PythonFile(path, ast.Module([], []), limit)
            continue
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                tree = ast.parse((folder / path).read_bytes(), str(path))
        except OSError as error:
            raise _unreadable(path, error) from None
        except SyntaxError as error:
            faults.append((f"{path}:{error.lineno or 1}", error.msg, (error.text or "").strip()))
        except ValueError as error:  # null bytes
            faults.append((f"{path}:1", str(error), ""))
        except (RecursionError, MemoryError):  # by Python's limits for its parser
            yield PythonFile(path, ast.Module([], []), "its code is nested too deeply")
        else:
            yield PythonFile(path, tree)
    if faults:
        hint, own_python = "Correct the line.", sys.version_info[:2]
        if own_python < python:
            hint += " bake runs on Python {}.{} and cannot parse newer syntax, even if the image's Python {}.{} can."
        raise AppSyntaxError(
            f"{faults[0][0]}: {faults[0][1]}",
            hint.format(*own_python, *python),
            "\n".join(f"{location}: {line}" for location, _, line in faults),
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
