"""Look for what must not stay on a disk: words planted while an image was baked, and values that its app was lent."""

from __future__ import annotations

import mmap
import os
import tarfile
import zipfile
from collections.abc import Iterable, Iterator
from pathlib import Path

from bake.errors import CheckError

#: A shorter value stands in other files by chance. Bytes.
SHORTEST = 8


def find(disk: Path, words: dict[str, str]) -> dict[str, int]:
    """Return the names of the words that stand anywhere in a raw disk, free blocks included, and the byte of each."""
    found: dict[str, int] = {}
    for start, end, view in _data(disk):
        for name, word in words.items():
            at = view.find(word.encode(), start, end)
            if at >= 0:
                found.setdefault(name, at)
    return found


def require_none(disk: Path, planted: dict[str, str], lent: dict[str, str], inputs: Iterable[Path]) -> None:
    """Raise CheckError where a word of the bake's is left on a raw disk.

    `planted` are random. `lent` are values of people, which may stand in what the image was made of by itself: one that
    is found counts only where none of the `inputs` has it, raw disks and bundles.
    """
    values = {name: value for name, value in lent.items() if len(value.encode()) >= SHORTEST}
    found = find(disk, {**planted, **values})
    # Making a raw disk of a base takes seconds, and is seldom needed.
    sources = list(inputs) if found.keys() & values.keys() else []
    left = [name for name in found if name in planted or not _stands_in(sources, values[name].encode())]
    if left:
        raise CheckError(
            f"The {left[0]} of the bake is in the image, at byte {found[left[0]]}",
            "This is a fault of bake's seal: please report it.",
        )


def _data(disk: Path) -> Iterator[tuple[int, int, mmap.mmap]]:
    """Yield the stretches of a file that are no holes: first byte, end, and all of it."""
    with disk.open("rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as view:
        end = 0
        while True:
            try:
                start = os.lseek(stream.fileno(), end, os.SEEK_DATA)
            except OSError:
                return
            end = os.lseek(stream.fileno(), start, os.SEEK_HOLE)
            yield start, end, view


def _stands_in(inputs: Iterable[Path], value: bytes) -> bool:
    """Return whether a disk has a value, or a file of a bundle, those inside of its wheels included."""
    for path in inputs:
        if any(view.find(value, start, end) >= 0 for start, end, view in _data(path)):
            return True
        if path.suffix == ".tar" and any(value in content for content in _wheels_files(path)):
            return True
    return False


def _wheels_files(bundle: Path) -> Iterator[bytes]:
    with tarfile.open(bundle) as tar:
        for member in tar:
            if member.name.endswith(".whl"):
                with zipfile.ZipFile(tar.extractfile(member)) as wheel:  # type: ignore[arg-type]
                    yield from (wheel.read(name) for name in wheel.namelist())
