"""Search a disk for values that the seal must have removed: random words, and the app's temporary environment."""

from __future__ import annotations

import mmap
import os
import tarfile
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from bake.config.secret_names import may_be_secret
from bake.errors import CheckError

#: Minimum length of a value in bytes. Shorter values occur in other files by chance.
MIN_LENGTH = 8


def find(disk: Path, words: dict[str, str]) -> dict[str, int]:
    """Return the name and the byte offset of each word that occurs in a raw disk, free blocks included."""
    offsets: dict[str, int] = {}
    for start, end, view in _data(disk):
        for name, word in words.items():
            offset = view.find(word.encode(), start, end)
            if offset >= 0:
                offsets.setdefault(name, offset)
    return offsets


def private(values: Mapping[str, str], shown: str) -> dict[str, str]:
    """Return the values of check.env, by their variables' names, that an image must not contain.

    `shown` is text that the image has because the app made it public: the titles and paths of its pages, and the names
    of folders that it wrote. A value in there counts only if its name is that of a secret.
    """
    return {name: value for name, value in values.items() if may_be_secret(name) or value not in shown}


def require_none(
    disk: Path, random_values: dict[str, str], chosen_values: dict[str, str], inputs: Iterable[Path]
) -> None:
    """Raise CheckError if a value that existed only during the bake is still on a raw disk.

    A person chose the `chosen_values`, so the image's own files may contain them. Such a value counts only if none of
    the `inputs` (raw disks and bundles) contains it.
    """
    long_values = {name: value for name, value in chosen_values.items() if len(value.encode()) >= MIN_LENGTH}
    offsets = find(disk, {**random_values, **long_values})
    # Converting a base to a raw disk takes seconds and is rarely needed, so the inputs are read only here.
    sources = list(inputs) if offsets.keys() & long_values.keys() else []
    leaks = [
        name for name in offsets if name in random_values or not _any_contains(sources, long_values[name].encode())
    ]
    if leaks:
        hint = "This is a bug in bake's sealing step. Please report it."
        if leaks[0] in chosen_values:
            hint = f"If the app shows this value to visitors, choose one that it does not show. Otherwise: {hint}"
        raise CheckError(f"The image still contains the {leaks[0]} of the bake, at byte {offsets[leaks[0]]}", hint)


def _data(disk: Path) -> Iterator[tuple[int, int, mmap.mmap]]:
    """Yield the first byte and the end of each stretch of data between a file's holes, and a view of the whole file."""
    with disk.open("rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as view:
        end = 0
        while True:
            try:
                start = os.lseek(stream.fileno(), end, os.SEEK_DATA)
            except OSError:
                return
            end = os.lseek(stream.fileno(), start, os.SEEK_HOLE)
            yield start, end, view


def _any_contains(inputs: Iterable[Path], value: bytes) -> bool:
    """Return whether a disk contains a value, or a bundle does, including the files inside its wheels."""
    for path in inputs:
        if any(view.find(value, start, end) >= 0 for start, end, view in _data(path)):
            return True
        if path.suffix == ".tar" and any(value in content for content in _wheel_files(path)):
            return True
    return False


def _wheel_files(bundle: Path) -> Iterator[bytes]:
    with tarfile.open(bundle) as tar:
        for member in tar:
            if member.name.endswith(".whl"):
                with zipfile.ZipFile(tar.extractfile(member)) as wheel:  # type: ignore[arg-type]
                    yield from (wheel.read(name) for name in wheel.namelist())
