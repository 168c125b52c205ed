"""Tags: by which everything of ours at AWS is found again, and told from everything else.

What is made carries `bake:run`. While it is only a step on the way to something, or is meant to go, it also carries
`bake:expires`; taking that tag away is what makes it permanent.
"""

from __future__ import annotations

import fcntl
import os
import secrets
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from bake import places, store

RUN, EXPIRES, APP = "bake:run", "bake:expires", "bake:app"
#: On a key pair: the name of the AMI that its run is about to make by Packer, which tags it a moment after only.
MAKING = "bake:making"
#: How long what is temporary may be needed: the longest upload or launch that we can think of.
LIFE = timedelta(hours=6)
#: Characters of a tag's value that EC2 and EBS both take (EC2 takes one more).
LONGEST = 255
FORM = "%Y-%m-%dT%H:%M:%SZ"

Tags = dict[str, str]


def temporary() -> Tags:
    """The tag of what goes, unless it is made permanent."""
    return {EXPIRES: (datetime.now(UTC) + LIFE).strftime(FORM)}


def written(tags: Tags) -> list[dict[str, str]]:
    """As AWS takes them."""
    return [{"Key": key, "Value": value} for key, value in sorted(tags.items()) if value]


def listed(names: Iterable[str]) -> str:
    """Names in one value, as many as there is room for, each whole."""
    text = " ".join(names)
    return text if len(text) <= LONGEST else text[: LONGEST + 1].rpartition(" ")[0]


def read(thing: dict[str, Any]) -> Tags:
    """The tags of something that AWS describes."""
    return {tag["Key"]: tag["Value"] for tag in thing.get("Tags") or thing.get("TagSet") or ()}


def of(kinds: Iterable[str], tags: Tags) -> list[dict[str, Any]]:
    """TagSpecifications: tags for each kind of thing that one call makes."""
    return [{"ResourceType": kind, "Tags": written(tags)} for kind in kinds]


def having(**tags: str) -> list[dict[str, Any]]:
    """Filters: who has these tags, named without `bake:`; an empty value is any."""
    return [
        {"Name": f"tag:bake:{key}", "Values": [value]} if value else {"Name": "tag-key", "Values": [f"bake:{key}"]}
        for key, value in tags.items()
    ]


@contextmanager
def run() -> Iterator[str]:
    """A run's own name. Its file is locked while it works, and stays when it fails: then what it left is left over.

    The kernel drops the lock with the process, however that ends.
    """
    name = secrets.token_hex(8)
    with _lock(name):
        yield name
        _place(name).unlink(missing_ok=True)


def is_over(tags: Tags) -> bool:
    """Whether what has these tags is left over: its time is up, or its run was one of this computer's and has ended."""
    expires = tags.get(EXPIRES)
    if expires is None:
        return False
    try:
        late = datetime.strptime(expires, FORM).replace(tzinfo=UTC) < datetime.now(UTC)
    except ValueError:
        return False
    return late or _has_crashed(tags.get(RUN, ""))


def forget_old_runs() -> None:
    """Remove the files of runs that ended so long ago that all they left has expired."""
    folder = _place("")
    for path in folder.iterdir() if folder.is_dir() else ():
        if store.age_days(path.stat().st_mtime) > 2 * LIFE.days + 1 and _has_crashed(path.name):
            path.unlink(missing_ok=True)


def _place(name: str) -> Path:
    return places.cache() / "runs" / name


@contextmanager
def _lock(name: str) -> Iterator[None]:
    path = _place(name)
    with store.disk_faults(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    fcntl.flock(handle, fcntl.LOCK_EX)
    try:
        yield
    finally:
        os.close(handle)


def _has_crashed(name: str) -> bool:
    """Whether a run's file is here, and nobody holds it. Without one nothing is known: it ended well, or elsewhere."""
    path = _place(name)
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
