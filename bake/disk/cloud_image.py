"""Use a cloud image as the base: fetch it, verify it, detect its release and keep it in the cache.

During the bake, app-setup installs the packages that the image lacks.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
import shutil
from collections.abc import Callable
from pathlib import Path

from bake.config.debian import TARGETS
from bake.config.sections import BaseImage
from bake.disk import base_disk, base_manifest, partitions
from bake.disk.base_manifest import BaseManifest
from bake.errors import BaseError, ProgramError
from bake.host import cache, files, paths
from bake.host.download import download
from bake.host.programs import run
from bake.host.progress import Phase


def key(image: BaseImage) -> str:
    """Return the digest of a base's inputs: the image's bytes and this code."""
    code = [files.file_digest(Path(__file__)), files.file_digest(Path(partitions.__file__ or ""))]
    return files.digest({"sha512": image.sha512, "code": code})


def build(image: BaseImage, folder: Path, work: Path, phase: Phase) -> base_disk.Base:
    """Fetch an image, verify it, and add it to the cache as a base disk. A local path is relative to `folder`.

    Raises NetworkError, or BaseError if the digest differs or the release is not supported.
    """
    files.require_space(work, base_disk.SPACE_NEEDED)
    file, raw = work / "stock.img", work / "stock.raw"
    _fetch(image, folder, file, lambda share: phase.progress(0.8 * share, "fetching"))
    phase.progress(0.8, "reading the image")
    partitions.to_raw(file, raw, _format(image, file))
    file.unlink()
    base_key = key(image)
    with files.atomic_output(paths.cache() / "base" / base_key) as entry:
        entry.mkdir()
        try:
            release = _release(image, raw, work)
            names = run(["debugfs", "-R", "ls -p /boot", partitions.root_of(raw)]).stdout
            kernels = sorted(re.findall(r"/(vmlinuz-[^/]+)/", names))
            if not kernels:
                raise BaseError(
                    f"{image.image} has no kernel in /boot", "Choose a bootable image as `base.image` in bake.yaml."
                )
            partitions.extract(raw, f"/boot/{kernels[-1]}", entry / "vmlinuz")
        except (ProgramError, LookupError) as error:
            raise BaseError(
                f"{image.image} has no partition table with an ext4 root file system",
                "Choose another image, such as one of Debian's, as `base.image` in bake.yaml.",
                str(error),
            ) from None
        if raw.stat().st_size < base_disk.DISK_SIZE:
            # Make room for packages. cloud-init grows the root file system.
            run(["qemu-img", "resize", "-q", "-f", "raw", raw, str(base_disk.DISK_SIZE)])
        partitions.to_qcow2(raw, entry / "disk.qcow2", compress=False)
        (entry / base_manifest.FILE_NAME).write_text(BaseManifest.now(release).to_json())
    raw.unlink()
    base = base_disk.find(base_key, cache.Age(math.inf))
    assert base is not None
    return base


def _fetch(image: BaseImage, folder: Path, destination: Path, progress: Callable[[float], None]) -> None:
    """Copy or download an image to `destination`, and verify it."""
    if image.is_remote:
        digest = download(image.image, destination, "sha512", progress)
    else:
        try:
            shutil.copyfile(folder / image.image, destination)
        except OSError as error:
            raise BaseError(
                f"{image.image} cannot be read: {error.strerror}", "Correct `base.image` in bake.yaml."
            ) from None
        with destination.open("rb") as stream:
            digest = hashlib.file_digest(stream, "sha512").hexdigest()
    if digest != image.sha512:
        raise BaseError(
            f"{image.image} differs from the image that bake.yaml names: its SHA-512 is {digest}",
            "Fetch it again. If its publisher replaced it, set `base.sha512` to the new digest from a trusted source.",
        )


def _format(image: BaseImage, path: Path) -> str:
    """Return the format of an image: qcow2 or raw. Raises BaseError if it refers to other files of this computer."""
    info = json.loads(run(["qemu-img", "info", "--output=json", path]).stdout)
    format_data = info.get("format-specific", {}).get("data", {})
    if info["format"] not in ("qcow2", "raw") or "backing-filename" in info or "data-file" in format_data:
        raise BaseError(
            f"{image.image} is neither a raw disk nor a qcow2 image without a backing file",
            "Convert it: `qemu-img convert -O qcow2 IMAGE NEW`.",
        )
    return str(info["format"])


def _release(image: BaseImage, raw: Path, work: Path) -> str:
    """Return the name of the Debian release on a disk. Raises BaseError if bake does not support it."""
    os_release = work / "os-release"
    partitions.extract(raw, "/usr/lib/os-release", os_release)
    fields = dict(re.findall(r'^(\w+)="?([^"\n]*)"?$', os_release.read_text(), re.MULTILINE))
    name = f"{fields.get('ID')}-{fields.get('VERSION_ID')}"
    if name not in TARGETS:
        raise BaseError(
            f"{image.image} contains {name}; bake supports {', '.join(TARGETS)}",
            "Choose an image of a supported release as `base.image` in bake.yaml.",
        )
    return name
