"""Split a disk into the blocks of the EBS direct APIs, and record the digests of non-zero blocks."""

from __future__ import annotations

import base64
import hashlib
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from bake.host import files

#: The size of a block in bytes (EBS direct APIs, StartSnapshot: BlockSize).
SIZE = 512 * 1024
GIB = 1024**3
ZEROS = bytes(SIZE)


def digest(block: bytes) -> str:
    """Return a block's SHA-256 as the EBS direct APIs encode it: base64."""
    return base64.b64encode(hashlib.sha256(block).digest()).decode()


def read(disk: Path) -> Iterator[tuple[int, bytes]]:
    """Yield the index and the bytes of each non-zero block of a raw disk, in order. Holes are skipped."""
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
    """Return the digest of each non-zero block by its index."""
    return {index: digest(block) for index, block in read(disk)}


def gibibytes(disk: Path) -> int:
    """Return the size in GiB of the smallest EBS volume that holds a disk."""
    return -(-disk.stat().st_size // GIB)


@dataclass(frozen=True)
class Content:
    """The content of a snapshot: its volume's size in GiB, and the digest of each non-zero block."""

    snapshot: str
    gibibytes: int
    blocks: dict[int, str]

    @property
    def sha256(self) -> str:
        """Return the digest of the whole content. A tag of the snapshot has it, too, to verify the local record."""
        return files.digest(
            {"gibibytes": self.gibibytes, "blocks": {str(key): self.blocks[key] for key in self.blocks}}
        )

    @classmethod
    def load(cls, path: Path) -> Self | None:
        """Read the content that `save` wrote, or return None if that is impossible."""
        try:
            record: dict[str, Any] = json.loads(path.read_text())
            block_digests = {int(index): str(value) for index, value in record["blocks"].items()}
            return cls(str(record["snapshot"]), int(record["gibibytes"]), block_digests)
        except (OSError, ValueError, KeyError, AttributeError, TypeError):
            return None

    def save(self, path: Path) -> None:
        """Write the content to a file atomically."""
        record = {"snapshot": self.snapshot, "gibibytes": self.gibibytes, "blocks": self.blocks}
        files.write(path, json.dumps(record) + "\n")
