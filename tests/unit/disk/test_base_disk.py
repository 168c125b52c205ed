"""The base disk: what mmdebstrap is asked for, what is kept in the cache, and what its failures are called."""

from __future__ import annotations

import io
import json
import os
import signal
import tarfile
import time
from pathlib import Path

import pytest
from conftest import Fake, Helper, running, soon

from bake.config.debian import DEBIAN_13, base_packages
from bake.disk import base_disk, partitions
from bake.disk.base_manifest import BaseManifest
from bake.errors import BakeError, BaseError, NetworkError, RequirementError, SpaceError
from bake.host import paths
from bake.host.cache import Age
from bake.host.programs import run
from bake.host.progress import Phase
from bake.image import host_requirements

MIRROR = "http://mirror.example/debian"
STATUS = """\
Package: nginx
Status: install ok installed
Version: 1.26.3-3
Description: small
 Version: not this one

Package: python3
Version: 3.13.5-1
"""
BUILD = """
import sys
from pathlib import Path
from bake.config import debian
from bake.disk import base_disk
from bake.host.progress import Phase
base_disk.build(debian.DEBIAN_13, (), None, Path(sys.argv[1]), Phase("base", None))
"""


@pytest.fixture
def phase() -> Phase:
    return Phase("base", None)


@pytest.fixture
def work(tmp_path: Path, cache_folder: Path) -> Path:
    folder = tmp_path / "work"
    folder.mkdir()
    return folder


@pytest.fixture
def debian(tmp_path: Path) -> Path:
    """As much of a Debian tree as a base disk is made from."""
    path = tmp_path / "debian.tar"
    files = {
        "boot/grub/i386-pc/boot.img": bytes(512),
        "boot/grub/i386-pc/core.img": bytes(30_000),
        "boot/efi/EFI/BOOT/BOOTX64.EFI": b"shim",
        "boot/vmlinuz-6.12-cloud-amd64": b"a kernel",
        "var/lib/dpkg/status": STATUS.encode(),
        "etc/apt/sources.list.d/debian.sources": b"Types: deb\nURIs: http://archive.example\nSuites: trixie-security\n",
    }
    with tarfile.open(path, "w") as tar:
        for name, content in files.items():
            info = tarfile.TarInfo(f"./{name}")
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return path


def test_the_words_for_mmdebstrap() -> None:
    argv = [
        str(word) for word in base_disk.mmdebstrap_argv(DEBIAN_13, ("a", "b"), None, Path("/t.tar"), Path("/o.tar"))
    ]
    assert argv[0] == "mmdebstrap"
    assert "--include=a,b" in argv
    assert "--architectures=amd64" in argv
    assert "--essential-hook=tar-in /t.tar /" in argv
    assert argv[-2:] == ["trixie", "/o.tar"]
    script = next(word for word in argv if "upload" in word).split()[1]
    assert Path(script).is_file()
    assert not any("trusted" in word or "allow-insecure" in word for word in argv)
    with_mirror = base_disk.mmdebstrap_argv(DEBIAN_13, ("a", "b"), MIRROR, Path("/t.tar"), Path("/o.tar"))
    assert list(map(str, with_mirror)) == [*argv, MIRROR]


def test_the_bases_script_parses() -> None:
    run(["sh", "-n", paths.tree() / "cloud-init" / "base-disk" / "customize.sh"])


def test_the_bases_files_belong_to_root(tmp_path: Path) -> None:
    base_disk.base_tree(tmp_path / "tree.tar")
    with tarfile.open(tmp_path / "tree.tar") as tar:
        members = {member.name: member for member in tar}
        assert {(member.uid, member.gid, member.mode) for member in members.values()} == {(0, 0, 0o644)}
        stream = tar.extractfile("etc/fstab")
        assert stream is not None
        assert stream.read() == (paths.base_disk_rootfs() / "etc/fstab").read_bytes()
    here = {
        str(path.relative_to(paths.base_disk_rootfs()))
        for path in paths.base_disk_rootfs().rglob("*")
        if path.is_file()
    }
    assert set(members) == here


def test_the_key_changes_with_what_goes_in() -> None:
    plain = base_disk.key(DEBIAN_13, (), None)
    assert base_disk.key(DEBIAN_13, (), None) == plain
    keys = {plain, base_disk.key(DEBIAN_13, ("libpq5",), None), base_disk.key(DEBIAN_13, (), MIRROR)}
    assert len(keys) == 3
    # Asked for twice, or in another order, is the same.
    assert base_disk.key(DEBIAN_13, ("nginx",), None) == plain
    assert base_disk.key(DEBIAN_13, ("b", "a"), None) == base_disk.key(DEBIAN_13, ("a", "b"), None)


def kept(cache_folder: Path, made: float) -> Path:
    entry = cache_folder / "base" / "abc"
    entry.mkdir(parents=True, exist_ok=True)
    facts = {"made": made, "date": "2026-01-02", "release": "debian-13"}
    (entry / "base.json").write_text(json.dumps(facts))
    os.utime(entry, (1, 1))
    return entry


def test_a_young_base_is_found_and_marked_as_used(cache_folder: Path) -> None:
    moment = time.time() - 3 * 86400
    entry = kept(cache_folder, moment)
    found = base_disk.find("abc", Age(7))
    assert found == base_disk.Base(entry / "disk.qcow2", entry / "vmlinuz", "abc", moment, "2026-01-02", "debian-13")
    assert entry.stat().st_mtime > 1


def test_an_old_base_is_not_found(cache_folder: Path) -> None:
    entry = kept(cache_folder, time.time() - 8 * 86400)
    assert base_disk.find("abc", Age(7)) is None
    assert base_disk.find("abc", Age(refresh=True)) is None
    assert entry.stat().st_mtime == 1


def test_no_base_is_found_in_an_empty_cache(cache_folder: Path) -> None:
    assert base_disk.find("abc", Age(7)) is None


@pytest.mark.skipif(bool(host_requirements.rootless_fault()), reason="user namespaces do not work here")
def test_a_base_is_built_and_kept(fake: Fake, work: Path, cache_folder: Path, debian: Path, phase: Phase) -> None:
    fake("mmdebstrap", f'printf "%s\\n" "$@" > {work}/words; cp {debian} "$(grep base.tar {work}/words)"')
    made = base_disk.build(DEBIAN_13, ("libpq5",), None, work, phase)
    assert made.release == "debian-13"
    assert made.kernel.read_bytes() == b"a kernel"
    assert made == base_disk.find(base_disk.key(DEBIAN_13, ("libpq5",), None), Age(1))
    wanted = next(line for line in (work / "words").read_text().splitlines() if line.startswith("--include="))
    packages = wanted.removeprefix("--include=").split(",")
    assert packages == list(base_packages(DEBIAN_13, ("libpq5",)))
    assert {"libpq5", "nginx", "linux-image-cloud-amd64", "linux-sysctl-defaults"} <= set(packages)
    manifest = BaseManifest.read(made.disk.parent)
    assert manifest and manifest.packages == {"nginx": "1.26.3-3"}
    assert manifest.security_url == "http://archive.example/dists/trixie-security"
    facts = json.loads(run(["qemu-img", "info", "--output=json", made.disk]).stdout)
    assert facts["virtual-size"] == base_disk.DISK_SIZE
    partitions.to_raw(made.disk, work / "raw")
    assert "nginx" in run(["debugfs", "-R", "cat /var/lib/dpkg/status", partitions.root_of(work / "raw")]).stdout
    # What is large is gone already, while the bake goes on.
    assert not {path.name for path in work.iterdir()} & {"base.tar", "base.raw", "tree", "esp.img"}


@pytest.mark.parametrize(
    ("said", "kind", "words"),
    [
        ("E: Unable to locate package libnope\nE: Unable to locate package nope2", RequirementError, "libnope, nope2"),
        ("Err:1 Could not resolve 'mirror.example'", NetworkError, MIRROR),
        ("W: Could not connect to mirror.example:80", NetworkError, "cannot be reached"),
        ("E: something else altogether", BaseError, "mmdebstrap could not build"),
    ],
)
def test_failures_are_called_by_their_names(
    fake: Fake, work: Path, cache_folder: Path, phase: Phase, said: str, kind: type[BakeError], words: str
) -> None:
    fake("mmdebstrap", f"cat <<'END' >&2\n{said}\nEND\nexit 25")
    with pytest.raises(kind) as caught:
        base_disk.build(DEBIAN_13, (), MIRROR, work, phase)
    assert words in caught.value.message
    assert caught.value.hint
    assert kind is RequirementError or said in caught.value.details
    assert not (cache_folder / "base").exists()


def test_an_archive_that_is_no_debian_is_no_base(fake: Fake, work: Path, cache_folder: Path, phase: Phase) -> None:
    fake("mmdebstrap", 'for word; do case $word in */base.tar) tar -cf "$word" -T /dev/null;; esac; done')
    with pytest.raises((BakeError, OSError)):
        base_disk.build(DEBIAN_13, (), None, work, phase)
    assert list((cache_folder / "base").iterdir()) == []


def test_room_is_asked_for_first(fake: Fake, work: Path, phase: Phase, monkeypatch: pytest.MonkeyPatch) -> None:
    fake("mmdebstrap", f"touch {work}/started")
    monkeypatch.setattr(base_disk, "SPACE_NEEDED", 10**18)
    with pytest.raises(SpaceError):
        base_disk.build(DEBIAN_13, (), None, work, phase)
    assert not (work / "started").exists()


class Listening(Phase):
    """A phase that remembers what it was told."""

    def __init__(self) -> None:
        super().__init__("base", None)
        self.heard: list[str] = []

    def progress(self, share: float | None = None, what: str = "") -> None:
        self.heard.append(what)


def test_progress_is_read_from_mmdebstraps_own_words(fake: Fake, work: Path, cache_folder: Path) -> None:
    lines = (
        "running apt-get update...", "downloading packages with apt...", "extracting archives...",
        "installing essential packages...", "installing remaining packages inside the chroot...",
        "cleaning package lists and apt cache...", "creating tarball...",
    )  # fmt: skip
    fake("mmdebstrap", "\n".join(f"echo 'I: {line}' >&2" for line in lines) + "\nexit 25")
    phase = Listening()
    with pytest.raises(BaseError):
        base_disk.build(DEBIAN_13, (), None, work, phase)
    assert len(phase.heard) >= 5


def test_nothing_of_mmdebstrap_outlives_us(
    fake: Fake, helper: Helper, work: Path, cache_folder: Path, marker: str
) -> None:
    fake("mmdebstrap", f"sleep {marker} & sleep {marker}; :")
    process = helper(BUILD, work)
    assert soon(lambda: len(running(marker, "sleep")) == 2)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert soon(lambda: not running(marker), 2)
