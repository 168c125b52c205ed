"""Make a bootable disk from a tree of files, and convert disks.

Nothing here needs root, a loop device or the device mapper. sfdisk writes partition
tables; mke2fs and mtools write file systems at their offsets; this module writes
GRUB's sectors as grub-bios-setup would.
"""

from __future__ import annotations

import json
import os
import struct
from pathlib import Path

from bake.errors import BaseError
from bake.host import files
from bake.host.programs import Argv, as_root, run

SECTOR = 512
MIB = 1024 * 1024
#: The largest file to take from a disk: a kernel has 10 MB, but the author of an image decides what it contains.
LARGEST = 64 * MIB
#: The first byte of each partition. Root is last, so that it can grow with the disk.
#: The partition numbers (14, 15, 1) are those of Debian's cloud images.
BIOS_START = 1 * MIB
ESP_START = 4 * MIB
ROOT_START = 68 * MIB
#: Bytes for the backup partition table, after the last partition.
GPT_TAIL = 1 * MIB

BOOT_IMG = "boot/grub/i386-pc/boot.img"
CORE_IMG = "boot/grub/i386-pc/core.img"
#: The folder of the tree that becomes the content of the EFI partition.
EFI = "boot/efi/EFI"

_GUID = {
    "bios": "21686148-6449-6E6F-744E-656564454649",
    "esp": "C12A7328-F81F-11D2-BA4B-00A0C93EC93B",
    "root": "4F68BCE3-E8CD-4DB1-96E7-FBCAF984B709",
}


def partition_table(size: int) -> str:
    """Return sfdisk's script for a disk of `size` bytes."""
    rows = (
        (14, BIOS_START, ESP_START, "bios"),
        (15, ESP_START, ROOT_START, "esp"),
        (1, ROOT_START, size - GPT_TAIL, "root"),
    )
    lines = ["label: gpt", "unit: sectors"]
    for number, start, end, kind in rows:
        lines.append(
            f"{number} : start={start // SECTOR}, size={(end - start) // SECTOR}, type={_GUID[kind]}, name={kind}"
        )
    return "\n".join(lines) + "\n"


def ext4_argv(tree: Path, disk: Path, size: int) -> Argv:
    """Return the mke2fs command that makes the root file system of `disk` from `tree`.

    It turns off features that Debian 12's GRUB or e2fsck does not support.
    """
    return [
        "mke2fs", "-q", "-F", "-t", "ext4", "-L", "root", "-m", "1",
        "-O", "^orphan_file,^metadata_csum_seed,^has_journal",
        "-E", f"offset={ROOT_START},lazy_itable_init=0,root_owner=0:0",
        "-d", tree, disk, f"{(size - GPT_TAIL - ROOT_START) // 1024}k",
    ]  # fmt: skip


def boot_code(disk: Path, boot_img: bytes, core_img: bytes) -> None:
    """Write GRUB for BIOS: boot.img to the first sector, core.img to its partition.

    The offsets come from GRUB's i386/pc/boot.h. 0x5c holds the number of core.img's first
    sector, 0x66 a jump that hard disks do not need. The last 12 bytes of core.img's first
    sector locate the rest of it.
    """
    if len(core_img) > ESP_START - BIOS_START:
        raise BaseError(
            f"GRUB's core image has {len(core_img)} bytes, but its partition only {ESP_START - BIOS_START}",
            "This is a bug in bake. Please report it.",
        )
    first_sector = BIOS_START // SECTOR
    core = bytearray(core_img)
    remaining_sectors = (len(core) + SECTOR - 1) // SECTOR - 1
    struct.pack_into("<QHH", core, SECTOR - 12, first_sector + 1, remaining_sectors, 0x820)
    boot = bytearray(boot_img[:440])
    struct.pack_into("<Q", boot, 0x5C, first_sector)
    boot[0x66:0x68] = b"\x90\x90"
    with disk.open("r+b") as stream:
        stream.write(boot)
        stream.seek(BIOS_START)
        stream.write(core)


def assemble(archive: Path, disk: Path, size: int) -> None:
    """Make a bootable raw disk of `size` bytes at `disk` from a tar archive of a Debian tree.

    The folder of `disk` holds the temporary files.
    """
    scratch = disk.parent
    disk.unlink(missing_ok=True)
    with disk.open("wb") as stream:
        stream.truncate(size)
    run(["sfdisk", "--quiet", disk], stdin=partition_table(size))
    tree, esp = scratch / "tree", scratch / "esp.img"
    # Exclude device nodes, which only root may create. The kernel provides /dev.
    unpack = 'mkdir "$1" && tar -C "$1" --exclude="./dev/*" -xpf "$2"'
    run([*as_root(), "sh", "-euc", unpack, "sh", tree, archive])
    boot_code(disk, (tree / BOOT_IMG).read_bytes(), (tree / CORE_IMG).read_bytes())
    with esp.open("wb") as stream:
        stream.truncate(ROOT_START - ESP_START)
    run(["mformat", "-i", esp, "-v", "ESP", "-F", "::"])
    run(["mcopy", "-s", "-i", esp, tree / EFI, "::"])
    run(["dd", f"if={esp}", f"of={disk}", "bs=1M", f"seek={ESP_START // MIB}", "conv=notrunc,sparse", "status=none"])
    esp.unlink()
    # The EFI partition is mounted over this folder.
    files.remove(tree / EFI)
    run([*as_root(), *ext4_argv(tree, disk, size)])
    files.remove(tree)


def root(disk: Path) -> tuple[int, int]:
    """Return the first byte and the end of a raw disk's root partition, which is the last one so that it can grow."""
    table = json.loads(run(["sfdisk", "--json", disk]).stdout)["partitiontable"]
    last = max(table["partitions"], key=lambda partition: int(partition["start"]))
    return last["start"] * SECTOR, (last["start"] + last["size"]) * SECTOR


def root_of(disk: Path) -> str:
    """Return the name of a raw disk's root file system for libext2fs (e2fsck, tune2fs, debugfs)."""
    return f"{disk}?offset={root(disk)[0]}"


def extract(disk: Path, path: str, destination: Path) -> None:
    """Write a file of a raw disk's root file system to `destination`.

    Raises BaseError if there is no such file, or if it is larger than LARGEST.
    """
    run(["debugfs", "-R", f'dump "{path}" "{destination}"', root_of(disk)])
    if not destination.is_file() or not destination.stat().st_size:
        raise BaseError(f"The disk has no file {path}", "Use a disk of a Debian system with an ext4 root file system.")
    if destination.stat().st_size > LARGEST:
        raise BaseError(f"{path} on the disk has more than {LARGEST >> 20} MB", "Use a disk of a Debian system.")


def copy_used_blocks(source: Path, copy: Path) -> None:
    """Copy the used blocks of a baked disk to the raw disk `copy`, which then has no deleted data.

    `copy` gets a new, empty file system journal, because the old one contains old blocks.
    """
    copy.touch()
    start, end = root(source)
    size = source.stat().st_size
    file_system = root_of(source)
    for argv in (["e2fsck", "-fyD"], ["tune2fs", "-O", "^has_journal,^orphan_file"], ["e2fsck", "-fy"]):
        result = run([*argv, file_system], check=False)
        if result.status > 1:
            raise BaseError("The file system of the baked disk is damaged", "Bake again with --refresh.", result.stdout)
    run(["e2image", "-ra", "-O", str(start), "-o", str(start), source, copy])
    # The partition table, the boot code and the EFI partition are before the root partition, the
    # backup of the table is after it.
    os.truncate(copy, size)
    for first, last in ((0, start), (end, size)):
        extent = [f"skip={first}", f"seek={first}", f"count={last - first}"]
        options = ["bs=1M", "iflag=skip_bytes,count_bytes", "oflag=seek_bytes", "conv=notrunc,sparse", "status=none"]
        run(["dd", f"if={source}", f"of={copy}", *extent, *options])
    run(["tune2fs", "-j", root_of(copy)])


def to_raw(source: Path, raw: Path, form: str = "qcow2") -> None:
    """Convert an image of the format `form` to a raw disk with holes."""
    run(["qemu-img", "convert", "-f", form, "-O", "raw", "-m", "2", "-W", source, raw])


def to_qcow2(raw: Path, image: Path, *, compress: bool) -> None:
    """Convert a raw disk to a qcow2 image, with zstd compression if `compress` is true."""
    options = ["-c", "-o", "compression_type=zstd"] if compress else []
    run(["qemu-img", "convert", "-f", "raw", "-O", "qcow2", *options, "-m", "2", "-W", raw, image])
