"""Upload a raw disk as an EBS snapshot with the EBS direct APIs, without an instance.

Only non-zero blocks are uploaded and, after an earlier upload, only the blocks that differ from it. A journal records
the uploaded blocks, so that an interrupted upload can resume.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import threading
import time
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from botocore.exceptions import ClientError

from bake.aws import tags
from bake.aws.images import blocks
from bake.aws.instances import inventory
from bake.aws.session import WORKERS, Cloud, code_of
from bake.errors import CloudError
from bake.host import files, paths
from bake.host.progress import Phase

#: Minutes without a block after which AWS abandons a snapshot (StartSnapshot: Timeout; 10 to 4320).
TIMEOUT = 60
#: Maximum number of blocks in memory, 512 KiB each: the ones being uploaded and as many in the queue.
IN_FLIGHT = 2 * WORKERS
#: Seconds to wait until AWS completes a snapshot, which takes minutes for large ones.
PATIENCE, PATIENCE_AFTER_REFUSAL = 1800, 300
#: Seconds during which EBS may not find a snapshot that was just started (Amazon's coldsnap retries for 132 s).
KNOWN_AFTER = 120
#: Tag with the digest of the snapshot's content.
CONTENT = "bake:content"


@dataclass(frozen=True)
class Snapshot:
    """A complete snapshot: its id, its content, and the number of blocks that this upload sent."""

    name: str
    content: blocks.Content
    sent: int


@dataclass(frozen=True)
class Begun:
    """An upload in progress: the parent's blocks, and the indexes of the blocks that were sent."""

    snapshot: str
    parent: dict[int, str]
    sent: frozenset[int] = frozenset()
    is_complete: bool = False


class Journal:
    """The journal of an upload: a first line with the snapshot and its parent, then the index of each sent block."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._guard = threading.Lock()

    def read(self) -> Begun | None:
        """Return the interrupted upload, or None if there is none or AWS has abandoned it."""
        try:
            if time.time() - self.path.stat().st_mtime > (TIMEOUT - 5) * 60:
                return None
            first, *others = self.path.read_text().splitlines()
            told = json.loads(first)
            parent = {int(index): str(value) for index, value in told["parent"].items()}
            # An interruption may leave a partial line.
            sent = frozenset(int(line.removesuffix(".")) for line in others if line.endswith("."))
            return Begun(str(told["snapshot"]), parent, sent)
        except (OSError, ValueError, KeyError, AttributeError, TypeError):
            return None

    def begin(self, begun: Begun) -> None:
        """Start the journal of another upload."""
        files.write(self.path, json.dumps({"snapshot": begun.snapshot, "parent": begun.parent}) + "\n")

    def add(self, index: int) -> None:
        """Record that a block was sent."""
        with self._guard, self.path.open("a") as stream:
            stream.write(f"{index}.\n")


def upload(
    cloud: Cloud, disk: Path, before: blocks.Content | None, kms_key: str | None, marks: tags.Tags, phase: Phase
) -> Snapshot:
    """Upload a raw disk, wait until the snapshot is complete, and return it. It has the tags `marks` and is temporary.

    `before` is the content of the last snapshot, which may become the parent. `kms_key` is the ARN of a key to encrypt
    with; StartSnapshot does not accept both a key and a parent. If the account encrypts by default, a snapshot has the
    key of its parent.
    """
    phase.progress(0, "reading the disk")
    now = blocks.digests(disk)
    size = blocks.gibibytes(disk)
    content = blocks.Content("", size, now)
    journal = Journal(paths.cache() / "uploads" / f"{files.digest([content.sha256, cloud.region, kms_key])}.journal")
    begun = _resumed(cloud, journal, marks)
    if begun is None:
        parent = before if before and not kms_key and _is_there(cloud, before, size) else None
        begun = _started(cloud, content, parent, kms_key, marks)
        journal.begin(begun)
    wanted = {index for index, value in now.items() if begun.parent.get(index) != value}
    # Blocks of the parent that are zero now must be uploaded as zeros.
    emptied = set(begun.parent) - set(now)
    changed = wanted | emptied
    if not begun.is_complete:
        _send(cloud, begun.snapshot, disk, now, wanted - begun.sent, emptied - begun.sent, journal, phase)
        _complete(cloud, begun.snapshot, changed, now, phase)
    journal.path.unlink(missing_ok=True)
    return Snapshot(begun.snapshot, replace(content, snapshot=begun.snapshot), len(changed))


def _is_there(cloud: Cloud, before: blocks.Content, size: int) -> bool:
    """Return whether the last snapshot still exists, is complete, and has the recorded content and size."""
    found = find(cloud, before.snapshot)
    return (
        found is not None
        and found["State"] == "completed"
        and before.gibibytes == size
        and tags.read(found).get(CONTENT) == before.sha256
    )


def find(cloud: Cloud, name: str) -> dict[str, Any] | None:
    """Return the description of a snapshot of this account, or None."""
    try:
        (found,) = cloud("ec2").describe_snapshots(SnapshotIds=[name], OwnerIds=["self"])["Snapshots"]
    except ClientError as error:
        if code_of(error).startswith("InvalidSnapshot"):
            return None
        raise
    return dict(found)


def _resumed(cloud: Cloud, journal: Journal, marks: tags.Tags) -> Begun | None:
    """Return the upload in the journal if it can resume, and tag it as this run's."""
    begun = journal.read()
    found = find(cloud, begun.snapshot) if begun else None
    if begun is None or found is None or found["State"] == "error" or tags.EXPIRES not in tags.read(found):
        return None
    cloud("ec2").create_tags(Resources=[begun.snapshot], Tags=tags.written({**marks, **tags.temporary()}))
    return replace(begun, is_complete=found["State"] == "completed")


def _started(
    cloud: Cloud, content: blocks.Content, parent: blocks.Content | None, kms_key: str | None, marks: tags.Tags
) -> Begun:
    how: dict[str, Any] = {"Encrypted": True, "KmsKeyArn": kms_key} if kms_key else {}
    if parent:
        how["ParentSnapshotId"] = parent.snapshot
    try:
        started = cloud("ebs").start_snapshot(
            VolumeSize=content.gibibytes, Timeout=TIMEOUT, Description=f"bake: {marks.get(tags.APP, '')}",
            Tags=tags.written({**marks, **tags.temporary(), CONTENT: content.sha256}), **how,
        )  # fmt: skip
    except ClientError as error:
        # An account that encrypts by default rejects an unencrypted parent (EBS user guide, "Encryption outcomes").
        if parent is None or code_of(error) != "ValidationException":
            raise
        return _started(cloud, content, None, kms_key, marks)
    return Begun(started["SnapshotId"], parent.blocks if parent else {})


def _send(
    cloud: Cloud,
    snapshot: str,
    disk: Path,
    now: dict[int, str],
    wanted: set[int],
    emptied: set[int],
    journal: Journal,
    phase: Phase,
) -> None:
    """Upload blocks in parallel, with at most IN_FLIGHT of them in memory."""
    client, total, known = cloud("ebs"), len(wanted) + len(emptied), time.monotonic() + KNOWN_AFTER

    def put(index: int, block: bytes) -> None:
        if index in wanted and now[index] != blocks.digest(block):
            raise CloudError(f"{disk} changed during its upload", "Run the same command again.")
        while True:
            try:
                client.put_snapshot_block(
                    SnapshotId=snapshot, BlockIndex=index, BlockData=block, DataLength=blocks.SIZE,
                    Checksum=blocks.digest(block), ChecksumAlgorithm="SHA256",
                )  # fmt: skip
                break
            except ClientError as error:
                if code_of(error) != "ResourceNotFoundException" or time.monotonic() > known:
                    raise
                time.sleep(1)
        journal.add(index)

    done, under_way = 0, set[Future[None]]()
    with ThreadPoolExecutor(WORKERS) as pool:
        try:
            for index, block in _outgoing(disk, wanted, emptied):
                under_way.add(pool.submit(put, index, block))
                if len(under_way) >= IN_FLIGHT:
                    ended, under_way = wait(under_way, return_when=FIRST_COMPLETED)
                    done += _ended(ended)
                    phase.progress(
                        done / total, f"{done * blocks.SIZE / 1e6:.0f} of {total * blocks.SIZE / 1e6:.0f} MB"
                    )
            _ended(under_way)
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def _outgoing(disk: Path, wanted: set[int], emptied: set[int]) -> Iterator[tuple[int, bytes]]:
    with disk.open("rb") as stream:
        for index in sorted(wanted):
            yield index, os.pread(stream.fileno(), blocks.SIZE, index * blocks.SIZE).ljust(blocks.SIZE, b"\0")
    for index in sorted(emptied):
        yield index, blocks.ZEROS


def _ended(futures: set[Future[None]]) -> int:
    for future in futures:
        future.result()
    return len(futures)


def _complete(cloud: Cloud, snapshot: str, changed: set[int], now: dict[int, str], phase: Phase) -> None:
    """Complete a snapshot and wait until AWS has verified it.

    AWS gets the number of changed blocks, and the digest of their digests in the order of the blocks.
    """
    zeros = blocks.digest(blocks.ZEROS)
    linear = b"".join(base64.b64decode(now.get(index, zeros)) for index in sorted(changed))
    refused: ClientError | None = None
    try:
        cloud("ebs").complete_snapshot(
            SnapshotId=snapshot, ChangedBlocksCount=len(changed), ChecksumAlgorithm="SHA256",
            ChecksumAggregationMethod="LINEAR", Checksum=base64.b64encode(hashlib.sha256(linear).digest()).decode(),
        )  # fmt: skip
    except ClientError as error:
        # If the first response was lost, boto3 retries, and AWS rejects the second request.
        if code_of(error) != "ValidationException":
            raise
        refused = error

    def ended() -> dict[str, Any] | None:
        found = find(cloud, snapshot)
        return found if found and found["State"] != "pending" else None

    try:
        found = inventory.until(ended, f"completed {snapshot}", phase, PATIENCE_AFTER_REFUSAL if refused else PATIENCE)
    except CloudError as error:
        raise refused or error from None
    if found["State"] != "completed":
        raise CloudError(
            f"The state of {snapshot} is {found['State']}: {found.get('StateMessage') or 'no reason given'}",
            "Run the same command again.",
        )
