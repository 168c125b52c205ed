"""Somebody's image as the base: disks made here by the tools that make real ones."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
from conftest import Site

from bake.config.sections import BaseImage
from bake.disk import base_disk, cloud_image, partitions
from bake.errors import BaseError, NetworkError
from bake.host.cache import Age
from bake.host.programs import run
from bake.host.progress import Phase
from bake.image import host_requirements

MIB = 1 << 20
OS_RELEASE = 'PRETTY_NAME="Debian GNU/Linux 12 (bookworm)"\nID=debian\nVERSION_ID="12"\n'

pytestmark = pytest.mark.skipif(bool(host_requirements.rootless_fault()), reason="user namespaces do not work here")


def make(path: Path, files: dict[str, bytes], start: int = 128 * MIB) -> Path:
    """A disk as cloud images are laid out, its root elsewhere than on ours; qcow2."""
    tree, raw = path.parent / "image-tree", path.parent / "image.raw"
    for name, content in files.items():
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        (tree / name).write_bytes(content)
    size = start + 64 * MIB
    with raw.open("wb") as stream:
        stream.truncate(size)
    rows = f"label: gpt\n15 : start=2048, size=4096, type=uefi\n1 : start={start // 512}, size={63 * MIB // 512}\n"
    run(["sfdisk", "--quiet", raw], stdin=rows)
    run(["mke2fs", "-q", "-F", "-t", "ext4", "-E", f"offset={start}", "-d", tree, raw, f"{63 * 1024}k"])
    partitions.to_qcow2(raw, path, compress=True)
    return path


FILES = {"usr/lib/os-release": OS_RELEASE.encode(), "boot/vmlinuz-6.1-cloud-amd64": b"a kernel", "etc/fstab": b"\n"}


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make(tmp_path_factory.mktemp("stock") / "debian.qcow2", FILES)


@pytest.fixture
def work(tmp_path: Path) -> Path:
    (tmp_path / "work").mkdir()
    return tmp_path / "work"


PHASE = Phase("base", None)


def wanted(image: Path | str, digest: str | None = None) -> BaseImage:
    given = digest or hashlib.sha512(Path(image).read_bytes()).hexdigest()
    return BaseImage(image=str(image), sha512=given)


def test_an_image_becomes_a_base(image: Path, work: Path, cache_folder: Path) -> None:
    # Its path is seen from the app's folder.
    asked = BaseImage(image=image.name, sha512=wanted(image).sha512)
    made = cloud_image.build(asked, image.parent, work, PHASE)
    assert made == base_disk.find(cloud_image.key(asked), Age(1))
    assert (made.release, made.kernel.read_bytes()) == ("debian-12", b"a kernel")
    facts = json.loads(run(["qemu-img", "info", "--output=json", made.disk]).stdout)
    assert (facts["format"], facts["virtual-size"]) == ("qcow2", base_disk.DISK_SIZE)
    assert list(work.iterdir()) == [work / "os-release"]


def test_one_flipped_byte_is_refused_before_anything_looks_at_it(
    image: Path, work: Path, cache_folder: Path, tmp_path: Path
) -> None:
    content = bytearray(image.read_bytes())
    content[len(content) // 2] ^= 1
    (tmp_path / "flipped.qcow2").write_bytes(content)
    with pytest.raises(BaseError, match="differs from the image that") as caught:
        cloud_image.build(wanted(tmp_path / "flipped.qcow2", wanted(image).sha512), tmp_path, work, PHASE)
    assert "base.sha512" in (caught.value.hint or "")
    assert not (cache_folder / "base").exists()


@pytest.mark.parametrize(
    ("files", "problem"),
    [
        (
            {**FILES, "usr/lib/os-release": b'ID=ubuntu\nVERSION_ID="26.04"\n'},
            "contains ubuntu-26.04; bake supports debian-12",
        ),
        ({name: text for name, text in FILES.items() if "os-release" in name}, "has no kernel"),
        ({"boot/vmlinuz-6.1": b"a kernel"}, "has no file /usr/lib/os-release"),
    ],
)
def test_what_is_no_debian_we_know_is_refused(
    work: Path, cache_folder: Path, tmp_path: Path, files: dict[str, bytes], problem: str
) -> None:
    with pytest.raises(BaseError, match=problem):
        cloud_image.build(wanted(make(tmp_path / "other.qcow2", files)), tmp_path, work, PHASE)
    assert list((cache_folder / "base").glob("*")) == []


def test_an_image_cannot_bring_files_of_this_computer_along(image: Path, work: Path, tmp_path: Path) -> None:
    overlay = tmp_path / "overlay.qcow2"
    run(["qemu-img", "create", "-q", "-f", "qcow2", "-b", image, "-F", "qcow2", overlay])
    with pytest.raises(BaseError, match="without a backing file"):
        cloud_image.build(wanted(overlay), tmp_path, work, PHASE)


def test_a_disk_without_partitions_is_refused(work: Path, cache_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "empty.raw").write_bytes(bytes(4 * MIB))
    with pytest.raises(BaseError, match="no partition table with an ext4 root"):
        cloud_image.build(wanted(tmp_path / "empty.raw"), tmp_path, work, PHASE)


def test_an_image_that_is_not_there_is_said_so(work: Path, tmp_path: Path) -> None:
    with pytest.raises(BaseError, match=r"gone\.qcow2 cannot be read: No such file"):
        cloud_image.build(wanted("gone.qcow2", "0" * 128), tmp_path, work, PHASE)


def test_an_image_is_fetched(site: Site, image: Path, work: Path, cache_folder: Path) -> None:
    (site.folder / "debian.qcow2").symlink_to(image)
    asked = BaseImage(image=f"{site.address}/debian.qcow2", sha512=wanted(image).sha512)
    assert cloud_image.build(asked, work, work, PHASE).release == "debian-12"


@pytest.mark.parametrize("place", ["/nothing-here.qcow2", ":1/x.qcow2"])
def test_an_image_that_cannot_be_fetched_is_said_so(site: Site, work: Path, place: str) -> None:
    address = f"{site.address}{place}" if place.startswith("/") else f"https://127.0.0.1{place}"
    with pytest.raises(NetworkError, match="cannot be fetched"):
        cloud_image.build(BaseImage(image=address, sha512="0" * 128), work, work, PHASE)
