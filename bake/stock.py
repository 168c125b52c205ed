"""A cloud image of somebody's as the base: fetched, verified, looked into, kept in the cache.

What it lacks of a machine's packages, app-setup installs in it while it is baked.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import time
from collections.abc import Callable
from pathlib import Path

from bake import base, disk, places, store
from bake.download import download
from bake.errors import BaseError, ProgramError
from bake.progress import Phase
from bake.recipe import BaseImage
from bake.run import run
from bake.target import TARGETS


def key(wanted: BaseImage) -> str:
    """The digest of what makes a base of an image: its bytes, and this code."""
    code = [store.file_digest(Path(__file__)), store.file_digest(Path(disk.__file__ or ""))]
    return store.digest({"sha512": wanted.sha512, "code": code})


def build(wanted: BaseImage, folder: Path, work: Path, phase: Phase) -> base.Base:
    """Fetch an image, verify it, and put it into the cache as a base disk. Its path is seen from `folder`.

    Raises NetworkError, and BaseError for other bytes than those asked for, or for what is no Debian we know.
    """
    store.require_space(work, base.SPACE_NEEDED)
    fetched, raw = work / "stock.img", work / "stock.raw"
    _fetch(wanted, folder, fetched, lambda share: phase.progress(0.8 * share, "fetching"))
    phase.progress(0.8, "looking into it")
    disk.to_raw(fetched, raw, _format(wanted, fetched))
    fetched.unlink()
    this = key(wanted)
    with store.whole(places.cache() / "base" / this) as entry:
        entry.mkdir()
        try:
            release = _release(wanted, raw, work)
            names = run(["debugfs", "-R", "ls -p /boot", disk.root_of(raw)]).stdout
            kernels = sorted(re.findall(r"/(vmlinuz-[^/]+)/", names))
            if not kernels:
                raise BaseError(f"{wanted.image} has no kernel in /boot", "Take an image that boots by itself.")
            disk.extract(raw, f"/boot/{kernels[-1]}", entry / "vmlinuz")
        except (ProgramError, LookupError) as error:
            raise BaseError(
                f"{wanted.image} has no partitions with an ext4 root, as Debian's images have", "", str(error)
            ) from None
        if raw.stat().st_size < base.DISK_SIZE:
            # cloud-init lets the root grow, and there must be room for packages.
            run(["qemu-img", "resize", "-q", "-f", "raw", raw, str(base.DISK_SIZE)])
        disk.to_qcow2(raw, entry / "disk.qcow2", compress=False)
        facts = {"made": time.time(), "date": time.strftime("%Y-%m-%d"), "release": release}
        (entry / "base.json").write_text(json.dumps(facts, indent=1))
    raw.unlink()
    found = base.find(this, float("inf"))
    assert found is not None
    return found


def _fetch(wanted: BaseImage, folder: Path, out: Path, progress: Callable[[float], None]) -> None:
    """Copy or download an image to `out`, and verify it."""
    if wanted.is_remote:
        found = download(wanted.image, out, "sha512", progress)
    else:
        try:
            shutil.copyfile(folder / wanted.image, out)
        except OSError as error:
            raise BaseError(
                f"{wanted.image} cannot be read: {error.strerror}", "Correct `base.image` in bake.yaml."
            ) from None
        with out.open("rb") as stream:
            found = hashlib.file_digest(stream, "sha512").hexdigest()
    if found != wanted.sha512:
        raise BaseError(
            f"{wanted.image} is not the image that bake.yaml asks for: its SHA-512 is {found}",
            "Fetch it again; where it was renewed, put the new digest, from a place you trust, into `base.sha512`.",
        )


def _format(wanted: BaseImage, image: Path) -> str:
    """How an image is stored: qcow2 or raw. One that leads to other files of this computer is refused."""
    facts = json.loads(run(["qemu-img", "info", "--output=json", image]).stdout)
    more = facts.get("format-specific", {}).get("data", {})
    if facts["format"] not in ("qcow2", "raw") or "backing-filename" in facts or "data-file" in more:
        raise BaseError(
            f"{wanted.image} is neither a qcow2 that stands alone nor a raw disk", "Convert it with qemu-img."
        )
    return str(facts["format"])


def _release(wanted: BaseImage, raw: Path, work: Path) -> str:
    """The release on a disk, of those we know."""
    told = work / "os-release"
    disk.extract(raw, "/usr/lib/os-release", told)
    facts = dict(re.findall(r'^(\w+)="?([^"\n]*)"?$', told.read_text(), re.MULTILINE))
    name = f"{facts.get('ID')}-{facts.get('VERSION_ID')}"
    if name not in TARGETS:
        raise BaseError(f"{wanted.image} is {name}, not one of: {', '.join(TARGETS)}", "Take an image of one of these.")
    return name
