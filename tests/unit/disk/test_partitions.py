"""A tree of files to a disk: what real tools read from it afterwards."""

from __future__ import annotations

import io
import json
import os
import struct
import tarfile
from pathlib import Path

import pytest

from bake.disk import partitions
from bake.errors import BaseError, ProgramError
from bake.host.programs import run
from bake.image import host_requirements

MIB = 1 << 20
SIZE = 80 * MIB
BOOT_IMG = bytes(range(256)) * 2
CORE_IMG = bytes(512) + os.urandom(30_000)
SECRET = b"a secret that is deleted: 5e1f0c1b"

pytestmark = pytest.mark.skipif(bool(host_requirements.rootless_fault()), reason="user namespaces do not work here")


def archive(path: Path, files: dict[str, bytes]) -> Path:
    """A tar archive as mmdebstrap makes them; the owner of what lies below `srv` is 800."""
    with tarfile.open(path, "w") as tar:
        folders = sorted({str(parent) for name in files for parent in Path(name).parents} - {"."})
        for folder in folders:
            info = tarfile.TarInfo(f"./{folder}")
            info.type, info.mode = tarfile.DIRTYPE, 0o755
            tar.addfile(info)
        for name, content in files.items():
            info = tarfile.TarInfo(f"./{name}")
            info.size, info.mode = len(content), 0o640
            info.uid = info.gid = 800 if name.startswith("srv") else 0
            tar.addfile(info, io.BytesIO(content))
    return path


@pytest.fixture(scope="module")
def assembled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A disk of a small tree; tests that change it copy it."""
    folder = tmp_path_factory.mktemp("disk")
    files = {
        partitions.BOOT_IMG: BOOT_IMG,
        partitions.CORE_IMG: CORE_IMG,
        "etc/hostname": b"hello\n",
        "boot/efi/EFI/BOOT/BOOTX64.EFI": b"shim",
        "srv/secret": SECRET * 1000,
        "srv/kept": b"kept " * 2000,
    }
    partitions.assemble(archive(folder / "tree.tar", files), folder / "disk.raw", SIZE)
    return folder / "disk.raw"


@pytest.fixture
def copied(assembled: Path, tmp_path: Path) -> Path:
    run(["cp", "--sparse=always", assembled, tmp_path / "disk.raw"])
    return tmp_path / "disk.raw"


def debugfs(raw: Path, request: str, *, write: bool = False) -> str:
    return run(["debugfs", *(["-w"] if write else []), "-R", request, partitions.root_of(raw)]).stdout


def table(raw: Path) -> dict[int, tuple[int, int, str]]:
    """Partitions by number, as sfdisk reads them: start and size in bytes, name."""
    found = json.loads(run(["sfdisk", "--json", raw]).stdout)["partitiontable"]
    assert found["label"] == "gpt"
    return {
        int(row["node"].removeprefix(str(raw)).lstrip("p")): (row["start"] * 512, row["size"] * 512, row["name"])
        for row in found["partitions"]
    }


def test_sfdisk_takes_the_table(tmp_path: Path) -> None:
    raw = tmp_path / "raw"
    with raw.open("wb") as stream:
        stream.truncate(SIZE)
    run(["sfdisk", "--quiet", raw], stdin=partitions.partition_table(SIZE))
    assert table(raw) == {
        14: (1 * MIB, 3 * MIB, "bios"),
        15: (4 * MIB, 64 * MIB, "esp"),
        1: (68 * MIB, SIZE - 69 * MIB, "root"),
    }


def test_a_file_that_is_too_large_for_the_memory_is_refused(
    copied: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "large").write_bytes(bytes(3 * MIB))
    debugfs(copied, f"write {tmp_path}/large large", write=True)
    partitions.extract(copied, "/large", tmp_path / "copy")
    monkeypatch.setattr(partitions, "LARGEST", 2 * MIB)
    with pytest.raises(BaseError, match="/large on the disk has more than 2 MB"):
        partitions.extract(copied, "/large", tmp_path / "copy")


def test_sfdisk_refuses_a_disk_that_is_too_small(tmp_path: Path) -> None:
    # Shows that the test above could fail.
    raw = tmp_path / "raw"
    with raw.open("wb") as stream:
        stream.truncate(SIZE // 2)
    with pytest.raises(ProgramError):
        run(["sfdisk", "--quiet", raw], stdin=partitions.partition_table(SIZE))


def test_the_root_can_be_read(assembled: Path) -> None:
    assert debugfs(assembled, "cat /etc/hostname") == "hello\n"
    assert debugfs(assembled, "cat /srv/kept") == "kept " * 2000
    assert run(["e2fsck", "-fn", partitions.root_of(assembled)], check=False).status == 0
    assert run(["e2label", partitions.root_of(assembled)]).stdout == "root\n"


def test_the_root_fills_its_partition(assembled: Path) -> None:
    rows = dict(line.split(":", 1) for line in debugfs(assembled, "stats -h").splitlines() if ":" in line)
    assert int(rows["Block count"]) * int(rows["Block size"]) == SIZE - 69 * MIB


def test_owners_and_modes_are_the_archives(assembled: Path) -> None:
    rows = {line.split()[-1]: line.split() for line in debugfs(assembled, "ls -l /srv").splitlines() if line.strip()}
    assert rows["kept"][1:5] == ["100640", "(1)", "800", "800"]
    assert rows["."][3:5] == ["0", "0"]


def test_the_file_system_has_only_what_old_tools_know(assembled: Path) -> None:
    features = next(line for line in debugfs(assembled, "stats -h").splitlines() if "features" in line).split()
    assert "extent" in features
    assert not {"has_journal", "orphan_file", "metadata_csum_seed"} & set(features)


def test_grub_stands_where_its_own_installer_puts_it(assembled: Path) -> None:
    content = assembled.read_bytes()[: 4 * MIB]
    first = content[:512]
    assert first[:0x5C] == BOOT_IMG[:0x5C]
    assert struct.unpack_from("<Q", first, 0x5C) == (2048,)
    assert first[0x66:0x68] == b"\x90\x90"
    assert first[0x68:440] == BOOT_IMG[0x68:440]
    assert first[510:] == b"\x55\xaa"
    core = content[MIB : MIB + len(CORE_IMG)]
    assert core[:500] == CORE_IMG[:500]
    assert core[512:] == CORE_IMG[512:]
    # The rest of it: from the sector after the first, so many sectors, to segment 0x820.
    assert struct.unpack_from("<QHH", core, 500) == (2049, -(-len(CORE_IMG) // 512) - 1, 0x820)


def test_the_efi_partition_is_the_tree_s_folder(assembled: Path, tmp_path: Path) -> None:
    argv = ["mcopy", "-i", f"{assembled}@@{partitions.ESP_START}", "::EFI/BOOT/BOOTX64.EFI", str(tmp_path / "there")]
    run(argv)
    assert (tmp_path / "there").read_bytes() == b"shim"
    # What a mount point hides would only take room.
    assert debugfs(assembled, "ls /boot/efi").split("(12)")[-1].strip().endswith("..")


def test_boot_code_leaves_the_table_alone(assembled: Path, copied: Path) -> None:
    partitions.boot_code(copied, b"\xff" * 512, CORE_IMG)
    assert table(copied) == table(assembled)


def test_a_core_image_that_does_not_fit_is_refused(copied: Path) -> None:
    before = copied.read_bytes()[:512]
    with pytest.raises(BaseError, match="core image"):
        partitions.boot_code(copied, BOOT_IMG, bytes(3 * MIB + 1))
    assert copied.read_bytes()[:512] == before


def test_the_efi_partition_is_fat(assembled: Path) -> None:
    assert "Volume in drive : is ESP" in run(["mdir", "-i", f"{assembled}@@4M", "::"], check=False).stdout


def test_assembling_leaves_only_the_disk(assembled: Path) -> None:
    assert sorted(path.name for path in assembled.parent.iterdir()) == ["disk.raw", "tree.tar"]


def test_a_disk_has_holes(assembled: Path) -> None:
    assert assembled.stat().st_size == SIZE
    assert assembled.stat().st_blocks * 512 < 8 * MIB


def test_nothing_deleted_comes_along(copied: Path, tmp_path: Path) -> None:
    debugfs(copied, "rm /srv/secret", write=True)
    # The canary is still on the disk: without it the test would show nothing.
    assert SECRET in copied.read_bytes()
    sealed = tmp_path / "sealed.raw"
    partitions.copy_used_blocks(copied, sealed)
    content = sealed.read_bytes()
    assert content.find(SECRET) == -1
    same = content[: 68 * MIB] == copied.read_bytes()[: 68 * MIB]
    assert same
    assert debugfs(sealed, "cat /srv/kept") == "kept " * 2000
    assert run(["e2fsck", "-fn", partitions.root_of(sealed)], check=False).status == 0
    assert "has_journal" in debugfs(sealed, "stats -h")
    assert table(sealed) == table(copied)
    # The table's backup came along too.
    assert "backup" not in run(["sfdisk", "--verify", sealed], check=False).stderr
    assert sealed.stat().st_size == SIZE


def test_not_even_names_of_deleted_files_come_along(copied: Path, tmp_path: Path) -> None:
    debugfs(copied, "rm /srv/secret", write=True)
    partitions.copy_used_blocks(copied, tmp_path / "sealed.raw")
    assert (tmp_path / "sealed.raw").read_bytes().find(b"secret") == -1


def test_what_is_not_deleted_does_come_along(copied: Path, tmp_path: Path) -> None:
    partitions.copy_used_blocks(copied, tmp_path / "sealed.raw")
    assert SECRET in (tmp_path / "sealed.raw").read_bytes()


def test_a_file_system_that_is_dirty_is_mended(copied: Path, tmp_path: Path) -> None:
    inode = debugfs(copied, "stat /srv/kept").split()[1]
    debugfs(copied, f"freei <{inode}>", write=True)
    assert run(["e2fsck", "-fn", partitions.root_of(copied)], check=False).status != 0
    partitions.copy_used_blocks(copied, tmp_path / "sealed.raw")
    assert run(["e2fsck", "-fn", partitions.root_of(tmp_path / "sealed.raw")], check=False).status == 0
    assert debugfs(tmp_path / "sealed.raw", "cat /srv/kept") == "kept " * 2000


def test_a_disk_that_is_beyond_repair_is_refused(copied: Path, tmp_path: Path) -> None:
    with copied.open("r+b") as stream:
        stream.seek(partitions.ROOT_START)
        stream.write(bytes(SIZE - 69 * MIB))
    with pytest.raises(BaseError, match="damaged"):
        partitions.copy_used_blocks(copied, tmp_path / "sealed.raw")


@pytest.mark.parametrize("compress", [False, True])
def test_a_disk_comes_back_from_qcow2_as_it_was(assembled: Path, tmp_path: Path, compress: bool) -> None:
    image, raw = tmp_path / "image.qcow2", tmp_path / "raw"
    partitions.to_qcow2(assembled, image, compress=compress)
    facts = json.loads(run(["qemu-img", "info", "--output=json", image]).stdout)
    assert (facts["format"], facts["virtual-size"]) == ("qcow2", SIZE)
    assert (facts["format-specific"]["data"]["compression-type"] == "zstd") == compress
    partitions.to_raw(image, raw)
    same = raw.read_bytes() == assembled.read_bytes()
    assert same
    assert raw.stat().st_blocks * 512 < 8 * MIB


def test_compressing_makes_it_smaller(assembled: Path, tmp_path: Path) -> None:
    for compress in (False, True):
        partitions.to_qcow2(assembled, tmp_path / f"{compress}", compress=compress)
    assert (tmp_path / "True").stat().st_size < (tmp_path / "False").stat().st_size / 2
