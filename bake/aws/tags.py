"""Tags that identify the AWS resources bake created.

All have the tag `bake:run`. Temporary resources also have `bake:expires`. Removing that tag makes them permanent.
"""

from __future__ import annotations

import fcntl
import os
import secrets
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict

from bake.host import cache, files, paths

if TYPE_CHECKING:
    from mypy_boto3_ec2.literals import ResourceTypeType
    from mypy_boto3_ec2.type_defs import FilterTypeDef, TagSpecificationTypeDef, TagTypeDef

RUN, EXPIRES, APP = "bake:run", "bake:expires", "bake:app"
#: Tag of a key pair: the name of the AMI that Packer makes in its run. Packer tags the AMI itself only afterwards.
AMI_NAME = "bake:making"
#: The lifetime of temporary resources: longer than any launch. A longer upload renews it.
LIFETIME = timedelta(hours=6)
#: Seconds after which a run renews the expiry of a resource that it still works on.
RENEWAL = LIFETIME.total_seconds() / 6
#: Maximum length of a tag's value in both EC2 and EBS (EC2 allows one more character).
MAX_LENGTH = 255
#: The form of the time in the tag `bake:expires`.
TIME_FORMAT = "%Y-%m-%dT%H:%M:%SZ"

Tags = dict[str, str]


class Tagged(TypedDict, total=False):
    """AWS's description of a resource, as far as its tags."""

    Tags: list[TagTypeDef]


def expiry() -> Tags:
    """Return the tag of a temporary resource: the time at which it expires."""
    return {EXPIRES: (datetime.now(UTC) + LIFETIME).strftime(TIME_FORMAT)}


def to_api(tags: Tags) -> list[TagTypeDef]:
    """Return tags in the form of AWS's APIs. Tags without a value are omitted."""
    return [{"Key": key, "Value": value} for key, value in sorted(tags.items()) if value]


def join_names(names: Iterable[str]) -> str:
    """Return as many whole names as fit in one tag's value, separated by spaces."""
    text = " ".join(names)
    return text if len(text) <= MAX_LENGTH else text[: MAX_LENGTH + 1].rpartition(" ")[0]


def read(resource: Tagged) -> Tags:
    """Return the tags in AWS's description of a resource."""
    return {tag["Key"]: tag["Value"] for tag in resource.get("Tags") or ()}


def specifications(kinds: Iterable[ResourceTypeType], tags: Tags) -> list[TagSpecificationTypeDef]:
    """Return TagSpecifications with tags for each kind of resource that a call creates."""
    return [{"ResourceType": kind, "Tags": to_api(tags)} for kind in kinds]


def filters(**tags: str) -> list[FilterTypeDef]:
    """Return filters for resources with these tags, named without `bake:`. An empty value matches any value."""
    return [
        {"Name": f"tag:bake:{key}", "Values": [value]} if value else {"Name": "tag-key", "Values": [f"bake:{key}"]}
        for key, value in tags.items()
    ]


@contextmanager
def run() -> Iterator[str]:
    """Yield a new run's name, and hold a lock on the run's file during the block.

    If the block fails, the file stays, which marks the run's resources as leftover. The kernel releases the lock when
    the process ends.
    """
    name = secrets.token_hex(8)
    with _lock(name):
        yield name
        (_runs_folder() / name).unlink(missing_ok=True)


def is_leftover(tags: Tags) -> bool:
    """Return whether a resource with these tags is leftover: it has expired, or its run on this computer has ended."""
    expires = tags.get(EXPIRES)
    if expires is None:
        return False
    try:
        has_expired = datetime.strptime(expires, TIME_FORMAT).replace(tzinfo=UTC) < datetime.now(UTC)
    except ValueError:
        return False
    return has_expired or _has_crashed(tags.get(RUN, ""))


def forget_old_runs() -> None:
    """Remove the files of runs that ended so long ago that all their resources have expired."""
    folder = _runs_folder()
    for path in folder.iterdir() if folder.is_dir() else ():
        if cache.age_days(path.stat().st_mtime) > 2 * LIFETIME.days + 1 and _has_crashed(path.name):
            path.unlink(missing_ok=True)


def _runs_folder() -> Path:
    return paths.cache() / "runs"


@contextmanager
def _lock(name: str) -> Iterator[None]:
    path = _runs_folder() / name
    with files.disk_faults(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    fcntl.flock(handle, fcntl.LOCK_EX)
    try:
        yield
    finally:
        os.close(handle)


def _has_crashed(name: str) -> bool:
    """Return whether a run failed on this computer: its file exists without a lock.

    Without a file, the run succeeded, or it ran on another computer.
    """
    path = _runs_folder() / name
    if not name.isalnum() or not path.is_file():
        return False
    handle = os.open(path, os.O_RDWR)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    finally:
        os.close(handle)
    return True
