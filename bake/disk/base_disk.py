"""Build a bootable base disk from the Debian archive, and keep it in the cache until it is too old."""

from __future__ import annotations

import fnmatch
import io
import math
import tarfile
from dataclasses import dataclass, replace
from pathlib import Path

from bake.config.debian import Target, base_packages
from bake.disk import base_manifest, dpkg, partitions, security_updates
from bake.disk.base_manifest import BaseManifest
from bake.host import cache, files, mmdebstrap, paths
from bake.host.programs import Argv
from bake.host.progress import Phase

#: The image's virtual size in bytes. On larger disks of a cloud, the root file system grows.
DISK_SIZE = 3 * 1024**3
#: The largest total size of mmdebstrap's tree, its archive and the disk, in bytes.
SPACE_NEEDED = 3 * 1000**3


@dataclass(frozen=True)
class Base:
    """A base disk in the cache: a bootable qcow2 image, its kernel, and the name of its Debian release.

    `created` is in seconds since the epoch.
    """

    disk: Path
    kernel: Path
    key: str
    created: float
    date: str
    release: str


def mmdebstrap_argv(target: Target, packages: tuple[str, ...], mirror: str | None, tree: Path, archive: Path) -> Argv:
    """Return the mmdebstrap command. apt verifies the archive's signatures against Debian's keyring."""
    script = paths.tree() / "cloud-init" / "base-disk" / "customize.sh"
    return [
        "mmdebstrap", *mmdebstrap.options(target.arch, packages),
        f"--essential-hook=tar-in {tree} /",
        f"--customize-hook=upload {script} /base.sh",
        '--customize-hook=chroot "$1" sh /base.sh',
        '--customize-hook=rm "$1/base.sh"',
        target.suite, archive, *([mirror] if mirror else []),
    ]  # fmt: skip


def base_tree(archive: Path) -> None:
    """Write the files of `cloud-init/base-disk/rootfs` to a tar archive, owned by root."""
    folder = paths.base_disk_rootfs()
    with tarfile.open(archive, "w") as tar:
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                info = tarfile.TarInfo(str(path.relative_to(folder)))
                content = path.read_bytes()
                info.size, info.mode = len(content), 0o755 if path.stat().st_mode & 0o100 else 0o644
                tar.addfile(info, io.BytesIO(content))


def key(target: Target, extra_packages: tuple[str, ...], mirror: str | None) -> str:
    """Return the digest of all inputs of a base disk, except the archive's state, for which its age counts."""
    return files.digest(
        {
            "target": target.name,
            "packages": base_packages(target, extra_packages),
            "mirror": mirror,
            "tree": files.tree_digest(paths.base_disk_rootfs()),
            "script": files.file_digest(paths.tree() / "cloud-init" / "base-disk" / "customize.sh"),
            "code": [files.file_digest(Path(module.__file__ or "")) for module in (mmdebstrap, partitions)]
            + [files.file_digest(Path(__file__))],
        }
    )


def _debian_tree(mirror: str | None) -> mmdebstrap.Tree:
    return mmdebstrap.Tree("base disk", "packages", mirror, "bake-base")


def reap() -> None:
    """Remove the files of a build that was killed. The caller must hold the cache's lock."""
    _debian_tree(None).reap()


def find(key: str, age: cache.Age) -> Base | None:
    """Return the base disk in the cache, or None if there is none, or it is too old."""
    entry = paths.cache() / "base" / key
    manifest = BaseManifest.read(entry)
    if manifest is None or not age.admits(manifest.made):
        return None
    cache.touch(entry)
    return Base(entry / "disk.qcow2", entry / "vmlinuz", key, manifest.made, manifest.date, manifest.release)


def build(target: Target, extra_packages: tuple[str, ...], mirror: str | None, work: Path, phase: Phase) -> Base:
    """Build a base disk and add it to the cache. Raises RequirementError, NetworkError or BaseError."""
    files.require_space(work, SPACE_NEEDED)
    packages = base_packages(target, extra_packages)
    tree, archive = work / "base-tree.tar", work / "base.tar"
    base_tree(tree)
    argv = mmdebstrap_argv(target, packages, mirror, tree, archive)
    mmdebstrap.run(argv, _debian_tree(mirror), work, phase.progress)
    base_key = key(target, extra_packages, mirror)
    with files.atomic_output(paths.cache() / "base" / base_key) as entry:
        entry.mkdir()
        phase.progress(0.9, "making the disk")
        partitions.assemble(archive, work / "base.raw", DISK_SIZE)
        partitions.to_qcow2(work / "base.raw", entry / "disk.qcow2", compress=False)
        (work / "base.raw").unlink()
        (entry / "vmlinuz").write_bytes(_read(archive, "./boot/vmlinuz-*"))
        manifest = BaseManifest.now(target.name)
        # A mirror may lack security updates, and another build would not add them.
        if mirror is None:
            packages_of_base = dpkg.package_versions(_read(archive, "./var/lib/dpkg/status").decode())
            url = security_updates.url_of(_read(archive, "./etc/apt/sources.list.d/debian.sources").decode())
            manifest = replace(manifest, packages=packages_of_base, security_url=url)
        (entry / base_manifest.FILE_NAME).write_text(manifest.to_json())
    archive.unlink()
    base = find(base_key, cache.Age(math.inf))
    assert base is not None
    return base


def _read(archive: Path, pattern: str) -> bytes:
    """Return the content of the first file in the archive whose path matches `pattern`, or b"" if there is none."""
    with tarfile.open(archive) as tar:
        for member in tar:
            if fnmatch.fnmatch(member.name, pattern) and (stream := tar.extractfile(member)):
                return stream.read()
    return b""
