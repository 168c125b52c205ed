"""Make the builder roots: Debian trees with a compiler and headers, in which bake builds wheels from source.

A root is made once for each Debian version and set of packages, and kept in the cache. Its files belong to the user
of bake, and no process ever writes to them again.
"""

from __future__ import annotations

import json
import re
import time
from dataclasses import dataclass
from pathlib import Path

from bake.bundle.build_packages import builder_packages
from bake.config.debian import Target
from bake.errors import ToolError
from bake.host import cache, files, mmdebstrap, paths, programs
from bake.host.progress import Reporter

#: The largest total size in bytes of mmdebstrap's tree, its archive and the root.
SPACE_NEEDED = 3 * 1000**3


@dataclass(frozen=True)
class BuilderRoot:
    """A builder root in the cache: its folder, and the digest of its inputs.

    `python` is the archive of an interpreter that builds in it, instead of Debian's.
    """

    folder: Path
    key: str
    python: Path | None = None

    def package_of(self, library: str) -> str:
        """Return the Debian package in the root that contains a shared library, or ""."""
        pattern = re.compile(rf"^/(usr/)?lib/[\w-]+/{re.escape(library)}$", re.M)
        for listing in sorted((self.folder / "var/lib/dpkg/info").glob("*.list")):
            if pattern.search(listing.read_text()):
                return listing.stem.partition(":")[0]
        return ""


def key(target: Target, extra_packages: tuple[str, ...], mirror: str | None) -> str:
    """Return the digest of all inputs of a root, except the archive's state, for which its age counts."""
    packages = builder_packages(extra_packages)
    return files.digest({"suite": target.suite, "options": mmdebstrap.options(target.arch, packages), "mirror": mirror})


def obtain(
    target: Target, extra_packages: tuple[str, ...], mirror: str | None, age: cache.Age, report: Reporter
) -> BuilderRoot:
    """Return a root from the cache, or make one and print its size and the time that it took.

    Raises ToolError, RequirementError, NetworkError or BaseError.
    """
    root_key = key(target, extra_packages, mirror)
    entry = paths.cache() / "builder" / root_key
    root = BuilderRoot(entry / "root", root_key)
    with cache.builder_lock(lambda pid: report.note(f"waiting for the builder root of another bake (pid {pid})")):
        if _is_young(entry, age):
            cache.touch(entry)
            return root
        if programs.which("mmdebstrap") is None:
            raise ToolError("mmdebstrap, which makes builder roots, is not installed", "Run `bake doctor --install`.")
        report.note(f"making the builder root of {target.name}, a Debian tree with compilers …")
        start_time = time.monotonic()
        packages = builder_packages(extra_packages)
        with cache.work_folder() as work:
            size = _make(target, packages, mirror, work)
            files.remove(entry)
            (work / "entry").rename(entry)
        report.note(f"builder root: {target.name}, {size / 1e6:.0f} MB, {time.monotonic() - start_time:.0f} s")
    return root


def _is_young(entry: Path, age: cache.Age) -> bool:
    """Return whether a root exists, and is young enough or was made by this process."""
    manifest = cache.kept(entry / "builder.json")
    if manifest is None:
        return False
    created = json.loads(manifest)["created"]
    return age.admits(created) or cache.is_from_this_run(created)


def _make(target: Target, packages: tuple[str, ...], mirror: str | None, work: Path) -> int:
    """Make a root in the folder `entry` of `work`, and return its size in bytes."""
    files.require_space(work, SPACE_NEEDED)
    archive, entry = work / "builder.tar", work / "entry"
    options = mmdebstrap.options(target.arch, packages)
    tree = mmdebstrap.Tree("builder root", "build_packages", mirror, "bake-builder")
    argv = ["mmdebstrap", *options, target.suite, str(archive), *([mirror] if mirror else [])]
    mmdebstrap.run(argv, tree, work, lambda share, step: None)
    size = archive.stat().st_size
    (entry / "root").mkdir(parents=True)
    # All files belong to the current user, who needs no privilege to remove them. mmdebstrap copies two files of the
    # host. A build gets devices of its own.
    excluded = [f"--exclude=./{name}" for name in ("dev/*", "etc/hostname", "etc/resolv.conf", "var/cache/*")]
    programs.run(["tar", "--extract", "--no-same-owner", "--same-permissions", *excluded, f"--file={archive}",
                  f"--directory={entry / 'root'}"])  # fmt: skip
    archive.unlink()
    cache.keep(entry / "builder.json", json.dumps({"created": time.time(), "release": target.name, "size": size}))
    return size
