"""A disk in the blocks of the EBS direct APIs: which of them hold something, and what was in them the last time."""

from __future__ import annotations

import base64
import hashlib
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from bake import store

#: Bytes (EBS direct APIs, StartSnapshot: BlockSize).
SIZE = 512 * 1024
GIB = 1024**3
ZEROS = bytes(SIZE)


def digest(block: bytes) -> str:
    """SHA-256 as the EBS direct APIs have it: base64."""
    return base64.b64encode(hashlib.sha256(block).digest()).decode()


def read(disk: Path) -> Iterator[tuple[int, bytes]]:
    """Index and bytes of each block of a raw disk that is not all zeros, in order. Holes are not read."""
    with disk.open("rb") as stream:
        handle, index = stream.fileno(), 0
        while True:
            try:
                start = os.lseek(handle, index * SIZE, os.SEEK_DATA)
            except OSError:
                return
            index = start // SIZE
            block = os.pread(handle, SIZE, index * SIZE).ljust(SIZE, b"\0")
            if block != ZEROS:
                yield index, block
            index += 1


def digests(disk: Path) -> dict[int, str]:
    """Index to digest of each block that is not all zeros."""
    return {index: digest(block) for index, block in read(disk)}


def gibibytes(disk: Path) -> int:
    """The size of the smallest volume that holds a disk, as EBS counts."""
    return -(-disk.stat().st_size // GIB)


@dataclass(frozen=True)
class Content:
    """What is in a snapshot: its volume's size in GiB, and the digest of each block that is not all zeros."""

    snapshot: str
    gibibytes: int
    blocks: dict[int, str]

    @property
    def sha256(self) -> str:
        """Of all of it; a tag of the snapshot says the same, so that neither is believed alone."""
        return store.digest(
            {"gibibytes": self.gibibytes, "blocks": {str(key): self.blocks[key] for key in self.blocks}}
        )

    @classmethod
    def load(cls, path: Path) -> Self | None:
        """What was written there; None where that cannot be read."""
        try:
            said: dict[str, Any] = json.loads(path.read_text())
            found = {int(index): str(value) for index, value in said["blocks"].items()}
            return cls(str(said["snapshot"]), int(said["gibibytes"]), found)
        except (OSError, ValueError, KeyError, AttributeError, TypeError):
            return None

    def save(self, path: Path) -> None:
        """Write it, whole or not at all."""
        said = {"snapshot": self.snapshot, "gibibytes": self.gibibytes, "blocks": self.blocks}
        store.write(path, json.dumps(said) + "\n")
