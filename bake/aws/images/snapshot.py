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
from typing import TYPE_CHECKING

from botocore.exceptions import ClientError

from bake.aws import tags
from bake.aws.images import blocks
from bake.aws.instances import inventory
from bake.aws.session import WORKERS, Cloud, code_of
from bake.errors import CloudError
from bake.host import files, paths
from bake.host.progress import Phase

if TYPE_CHECKING:
    from mypy_boto3_ebs.type_defs import StartSnapshotRequestTypeDef
    from mypy_boto3_ec2.type_defs import SnapshotTypeDef

#: Minutes without a block after which AWS abandons a snapshot (StartSnapshot: Timeout; 10 to 4320).
TIMEOUT = 60
#: Maximum number of blocks in memory, 512 KiB each: the ones being uploaded and as many in the queue.
IN_FLIGHT = 2 * WORKERS
#: Seconds to wait until AWS completes a snapshot, which takes minutes for large ones.
PATIENCE, PATIENCE_AFTER_REJECTION = 1800, 300
#: Seconds during which EBS may not find a snapshot that was just started (Amazon's coldsnap retries for 132 s).
NEW_SNAPSHOT_PATIENCE = 120
#: Tag with the digest of the snapshot's content.
CONTENT = "bake:content"


@dataclass(frozen=True)
class Snapshot:
    """A complete snapshot: its id, its content, and the number of blocks that this upload sent."""

    id: str
    content: blocks.Content
    sent_blocks: int


@dataclass(frozen=True)
class Destination:
    """The place of a snapshot: an account and region, the ARN of the key that encrypts it (or None), and its tags."""

    cloud: Cloud
    kms_key: str | None
    image_tags: tags.Tags


@dataclass(frozen=True)
class Changes:
    """The blocks of a disk that its snapshot's parent lacks: indexes of those with data, and of those that are zero.

    `digests` has the digest of each block with data, also of those that did not change.
    """

    disk: Path
    digests: dict[int, str]
    data: frozenset[int]
    zeros: frozenset[int]

    @classmethod
    def of(cls, disk: Path, digests: dict[int, str], parent: dict[int, str]) -> Changes:
        """Return the changes since a parent, given by the digests of its blocks."""
        data = frozenset(index for index, value in digests.items() if parent.get(index) != value)
        # Blocks of the parent that are zero now must be uploaded as zeros.
        return cls(disk, digests, data, frozenset(parent) - frozenset(digests))

    def __len__(self) -> int:
        return len(self.data) + len(self.zeros)

    def without(self, indexes: frozenset[int]) -> Changes:
        """Return the changes except some blocks."""
        return replace(self, data=self.data - indexes, zeros=self.zeros - indexes)

    def read(self) -> Iterator[tuple[int, bytes]]:
        """Yield the index and the content of each block."""
        with self.disk.open("rb") as stream:
            for index in sorted(self.data):
                yield index, os.pread(stream.fileno(), blocks.SIZE, index * blocks.SIZE).ljust(blocks.SIZE, b"\0")
        for index in sorted(self.zeros):
            yield index, blocks.ZEROS

    def verify(self, index: int, block: bytes) -> None:
        """Raise CloudError if a block differs from its digest, because the disk changed."""
        if index in self.data and self.digests[index] != blocks.digest(block):
            raise CloudError(f"{self.disk} changed during its upload", "Run the same command again.")

    @property
    def checksum(self) -> str:
        """Return the digest of the blocks' digests in the order of the blocks, in base64."""
        zeros = blocks.digest(blocks.ZEROS)
        indexes = sorted(self.data | self.zeros)
        linear = b"".join(base64.b64decode(self.digests.get(index, zeros)) for index in indexes)
        return base64.b64encode(hashlib.sha256(linear).digest()).decode()


@dataclass(frozen=True)
class UploadState:
    """An upload in progress: the parent's blocks, and the indexes of the blocks that were sent."""

    snapshot: str
    parent: dict[int, str]
    sent_blocks: frozenset[int] = frozenset()
    is_complete: bool = False


class Journal:
    """The journal of an upload: a first line with the snapshot and its parent, then the index of each sent block."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._guard = threading.Lock()

    def read(self) -> UploadState | None:
        """Return the interrupted upload, or None if there is none or AWS has abandoned it."""
        try:
            if time.time() - self.path.stat().st_mtime > (TIMEOUT - 5) * 60:
                return None
            first, *rows = self.path.read_text().splitlines()
            header = json.loads(first)
            parent = {int(index): str(value) for index, value in header["parent"].items()}
            # An interruption may leave a partial line.
            sent_blocks = frozenset(int(row.removesuffix(".")) for row in rows if row.endswith("."))
            return UploadState(str(header["snapshot"]), parent, sent_blocks)
        except (OSError, ValueError, KeyError, AttributeError, TypeError):
            return None

    def begin(self, state: UploadState) -> None:
        """Start the journal of another upload."""
        files.write(self.path, json.dumps({"snapshot": state.snapshot, "parent": state.parent}) + "\n")

    def add(self, index: int) -> None:
        """Record that a block was sent."""
        with self._guard, self.path.open("a") as stream:
            stream.write(f"{index}.\n")


def upload(disk: Path, last_content: blocks.Content | None, destination: Destination, phase: Phase) -> Snapshot:
    """Upload a raw disk, wait until the snapshot is complete, and return it. It is temporary.

    `last_content` is the content of the last snapshot, which may become the parent. StartSnapshot does not accept both
    a key and a parent. If the account encrypts by default, a snapshot has the key of its parent.
    """
    cloud, kms_key = destination.cloud, destination.kms_key
    phase.progress(0, "reading the disk")
    digests = blocks.digests(disk)
    size = blocks.gibibytes(disk)
    content = blocks.Content("", size, digests)
    journal = Journal(paths.cache() / "uploads" / f"{files.digest([content.sha256, cloud.region, kms_key])}.journal")
    state = _resume(journal, destination)
    if state is None:
        parent = last_content if last_content and not kms_key and _is_usable_parent(cloud, last_content, size) else None
        state = _start(content, parent, destination)
        journal.begin(state)
    changes = Changes.of(disk, digests, state.parent)
    if not state.is_complete:
        _send(destination, state.snapshot, changes.without(state.sent_blocks), journal, phase)
        _complete(cloud, state.snapshot, changes, phase)
    journal.path.unlink(missing_ok=True)
    return Snapshot(state.snapshot, replace(content, snapshot=state.snapshot), len(changes))


def _is_usable_parent(cloud: Cloud, content: blocks.Content, size: int) -> bool:
    """Return whether the last snapshot still exists, is complete, and has the recorded content and size."""
    snapshot = find(cloud, content.snapshot)
    return (
        snapshot is not None
        and snapshot["State"] == "completed"
        and content.gibibytes == size
        and tags.read(snapshot).get(CONTENT) == content.sha256
    )


def find(cloud: Cloud, snapshot_id: str) -> SnapshotTypeDef | None:
    """Return the description of a snapshot of this account, or None."""
    try:
        (snapshot,) = cloud("ec2").describe_snapshots(SnapshotIds=[snapshot_id], OwnerIds=["self"])["Snapshots"]
    except ClientError as error:
        if code_of(error).startswith("InvalidSnapshot"):
            return None
        raise
    return snapshot


def _resume(journal: Journal, destination: Destination) -> UploadState | None:
    """Return the upload in the journal if it can resume, and tag it as this run's."""
    cloud, state = destination.cloud, journal.read()
    snapshot = find(cloud, state.snapshot) if state else None
    if state is None or snapshot is None or snapshot["State"] == "error" or tags.EXPIRES not in tags.read(snapshot):
        return None
    _tag(state.snapshot, destination)
    return replace(state, is_complete=snapshot["State"] == "completed")


def _tag(snapshot_id: str, destination: Destination) -> None:
    """Tag a snapshot as this run's, and as temporary for another LIFETIME."""
    snapshot_tags = {**destination.image_tags, **tags.expiry()}
    destination.cloud("ec2").create_tags(Resources=[snapshot_id], Tags=tags.to_api(snapshot_tags))


def _start(content: blocks.Content, parent: blocks.Content | None, destination: Destination) -> UploadState:
    image_tags = destination.image_tags
    parameters: StartSnapshotRequestTypeDef = {
        "VolumeSize": content.gibibytes, "Timeout": TIMEOUT, "Description": f"bake: {image_tags.get(tags.APP, '')}",
        "Tags": tags.to_api({**image_tags, **tags.expiry(), CONTENT: content.sha256}),
    }  # fmt: skip
    if destination.kms_key:
        parameters |= {"Encrypted": True, "KmsKeyArn": destination.kms_key}
    if parent:
        parameters["ParentSnapshotId"] = parent.snapshot
    try:
        response = destination.cloud("ebs").start_snapshot(**parameters)
    except ClientError as error:
        # An account that encrypts by default rejects an unencrypted parent (EBS user guide, "Encryption outcomes").
        if parent is None or code_of(error) != "ValidationException":
            raise
        return _start(content, None, destination)
    return UploadState(response["SnapshotId"], parent.blocks if parent else {})


def _send(destination: Destination, snapshot_id: str, changes: Changes, journal: Journal, phase: Phase) -> None:
    """Upload blocks in parallel, with at most IN_FLIGHT of them in memory.

    Renew the snapshot's expiry, so that a sweep on another computer does not remove it during a slow upload.
    """
    client, total = destination.cloud("ebs"), len(changes)
    deadline = time.monotonic() + NEW_SNAPSHOT_PATIENCE
    renewal = time.monotonic() + tags.RENEWAL

    def put(index: int, block: bytes) -> None:
        changes.verify(index, block)
        while True:
            try:
                client.put_snapshot_block(
                    SnapshotId=snapshot_id, BlockIndex=index, BlockData=block, DataLength=blocks.SIZE,
                    Checksum=blocks.digest(block), ChecksumAlgorithm="SHA256",
                )  # fmt: skip
                break
            except ClientError as error:
                if code_of(error) != "ResourceNotFoundException" or time.monotonic() > deadline:
                    raise
                time.sleep(1)
        journal.add(index)

    count, futures = 0, set[Future[None]]()
    with ThreadPoolExecutor(WORKERS) as pool:
        try:
            for index, block in changes.read():
                futures.add(pool.submit(put, index, block))
                if len(futures) >= IN_FLIGHT:
                    completed_futures, futures = wait(futures, return_when=FIRST_COMPLETED)
                    count += _count_results(completed_futures)
                    if time.monotonic() > renewal:
                        _tag(snapshot_id, destination)
                        renewal = time.monotonic() + tags.RENEWAL
                    phase.progress(
                        count / total, f"{count * blocks.SIZE / 1e6:.0f} of {total * blocks.SIZE / 1e6:.0f} MB"
                    )
            _count_results(futures)
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def _count_results(futures: set[Future[None]]) -> int:
    """Return the number of uploads that ended. Raises the error of one that failed."""
    for future in futures:
        future.result()
    return len(futures)


def _complete(cloud: Cloud, snapshot_id: str, changes: Changes, phase: Phase) -> None:
    """Complete a snapshot and wait until AWS has verified it.

    AWS gets the number of changed blocks and their checksum.
    """
    rejection: ClientError | None = None
    try:
        cloud("ebs").complete_snapshot(
            SnapshotId=snapshot_id, ChangedBlocksCount=len(changes), ChecksumAlgorithm="SHA256",
            ChecksumAggregationMethod="LINEAR", Checksum=changes.checksum,
        )  # fmt: skip
    except ClientError as error:
        # If the first response was lost, boto3 retries, and AWS rejects the second request.
        if code_of(error) != "ValidationException":
            raise
        rejection = error

    def find_finished() -> SnapshotTypeDef | None:
        snapshot = find(cloud, snapshot_id)
        return snapshot if snapshot and snapshot["State"] != "pending" else None

    try:
        snapshot = inventory.until(
            find_finished, f"completed {snapshot_id}", phase, PATIENCE_AFTER_REJECTION if rejection else PATIENCE
        )
    except CloudError as error:
        raise rejection or error from None
    if snapshot["State"] != "completed":
        raise CloudError(
            f"The state of {snapshot_id} is {snapshot['State']}: {snapshot.get('StateMessage') or 'no reason given'}",
            "Run the same command again.",
        )
