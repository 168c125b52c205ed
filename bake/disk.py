"""Partitions, file system, boot code, conversion: a tree of files to a disk that boots.

Nothing here needs root, a loop device or the device mapper: partition tables are
written with sfdisk, file systems with mke2fs and mtools at their offsets, and
GRUB's sectors by hand, as grub-bios-setup would.
"""

from __future__ import annotations

import json
import os
import struct
from pathlib import Path

from bake import store
from bake.errors import BaseError
from bake.run import Argv, as_root, run

SECTOR = 512
MIB = 1024 * 1024
#: Where each partition starts. Root comes last so that it can grow with the disk;
#: the numbers (14, 15, 1) are those of Debian's own cloud images.
BIOS_START = 1 * MIB
ESP_START = 4 * MIB
ROOT_START = 68 * MIB
#: The backup partition table stands behind the last partition.
GPT_TAIL = 1 * MIB

BOOT_IMG = "boot/grub/i386-pc/boot.img"
CORE_IMG = "boot/grub/i386-pc/core.img"
#: The tree's folder that becomes the EFI partition's content.
EFI = "boot/efi/EFI"

_GUID = {
    "bios": "21686148-6449-6E6F-744E-656564454649",
    "esp": "C12A7328-F81F-11D2-BA4B-00A0C93EC93B",
    "root": "4F68BCE3-E8CD-4DB1-96E7-FBCAF984B709",
}


def partition_table(size: int) -> str:
    """sfdisk's script for a disk of `size` bytes."""
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
    """mke2fs, filling the root file system of `disk` from `tree`.

    Left out are features that Debian 12's GRUB or e2fsck do not know.
    """
    return [
        "mke2fs", "-q", "-F", "-t", "ext4", "-L", "root", "-m", "1",
        "-O", "^orphan_file,^metadata_csum_seed,^has_journal",
        "-E", f"offset={ROOT_START},lazy_itable_init=0,root_owner=0:0",
        "-d", tree, disk, f"{(size - GPT_TAIL - ROOT_START) // 1024}k",
    ]  # fmt: skip


def boot_code(disk: Path, boot_img: bytes, core_img: bytes) -> None:
    """Write GRUB for BIOS: boot.img to the first sector, core.img to its partition.

    The offsets are those of GRUB's i386/pc/boot.h: 0x5c holds core.img's first sector,
    0x66 the jump that hard disks do without; the last 12 bytes of core.img's first
    sector say where the rest of it stands.
    """
    if len(core_img) > ESP_START - BIOS_START:
        raise BaseError(f"GRUB's core image has {len(core_img)} bytes and its partition {ESP_START - BIOS_START}")
    first = BIOS_START // SECTOR
    core = bytearray(core_img)
    rest = (len(core) + SECTOR - 1) // SECTOR - 1
    struct.pack_into("<QHH", core, SECTOR - 12, first + 1, rest, 0x820)
    boot = bytearray(boot_img[:440])
    struct.pack_into("<Q", boot, 0x5C, first)
    boot[0x66:0x68] = b"\x90\x90"
    with disk.open("r+b") as stream:
        stream.write(boot)
        stream.seek(BIOS_START)
        stream.write(core)


def assemble(archive: Path, disk: Path, size: int) -> None:
    """Make a bootable raw disk of `size` bytes at `disk` from a tar archive of a Debian tree.

    Scratch space is taken beside `disk`.
    """
    scratch = disk.parent
    disk.unlink(missing_ok=True)
    with disk.open("wb") as stream:
        stream.truncate(size)
    run(["sfdisk", "--quiet", disk], stdin=partition_table(size))
    tree, esp = scratch / "tree", scratch / "esp.img"
    # Without device nodes, which only root may make: the kernel brings its own /dev.
    unpack = 'mkdir "$1" && tar -C "$1" --exclude="./dev/*" -xpf "$2"'
    run([*as_root(), "sh", "-euc", unpack, "sh", tree, archive])
    boot_code(disk, (tree / BOOT_IMG).read_bytes(), (tree / CORE_IMG).read_bytes())
    with esp.open("wb") as stream:
        stream.truncate(ROOT_START - ESP_START)
    run(["mformat", "-i", esp, "-v", "ESP", "-F", "::"])
    run(["mcopy", "-s", "-i", esp, tree / EFI, "::"])
    run(["dd", f"if={esp}", f"of={disk}", "bs=1M", f"seek={ESP_START // MIB}", "conv=notrunc,sparse", "status=none"])
    esp.unlink()
    # The partition is mounted over it.
    store.remove(tree / EFI)
    run([*as_root(), *ext4_argv(tree, disk, size)])
    store.remove(tree)


def root(disk: Path) -> tuple[int, int]:
    """Where a raw disk's root partition, which stands last so that it can grow, starts and ends. Bytes."""
    table = json.loads(run(["sfdisk", "--json", disk]).stdout)["partitiontable"]
    last = max(table["partitions"], key=lambda partition: int(partition["start"]))
    return last["start"] * SECTOR, (last["start"] + last["size"]) * SECTOR


def root_of(disk: Path) -> str:
    """A raw disk's root file system, as libext2fs (e2fsck, tune2fs, debugfs) names it."""
    return f"{disk}?offset={root(disk)[0]}"


def extract(disk: Path, path: str, out: Path) -> None:
    """Write a file of a raw disk's root file system to `out`. Raises BaseError where it is not there."""
    run(["debugfs", "-R", f'dump "{path}" "{out}"', root_of(disk)])
    if not out.is_file() or not out.stat().st_size:
        raise BaseError(f"The disk has no {path}", "Is it a Debian machine's, with an ext4 root?")


def free_of_residue(source: Path, sealed: Path) -> None:
    """Copy a baked disk, block by block in use, to the raw disk `sealed`: nothing deleted comes along.

    Nor does the file system's journal, which would keep old blocks: the copy gets one that is new and empty.
    """
    sealed.touch()
    start, end = root(source)
    size = source.stat().st_size
    place = root_of(source)
    for argv in (["e2fsck", "-fyD"], ["tune2fs", "-O", "^has_journal,^orphan_file"], ["e2fsck", "-fy"]):
        done = run([*argv, place], check=False)
        if done.status > 1:
            raise BaseError("The baked disk's file system is damaged", "Bake again with --refresh.", done.stdout)
    run(["e2image", "-ra", "-O", str(start), "-o", str(start), source, sealed])
    # The partition table, the boot code and the EFI partition stand before the root, the table's
    # backup behind it.
    os.truncate(sealed, size)
    for first, last in ((0, start), (end, size)):
        part = [f"skip={first}", f"seek={first}", f"count={last - first}"]
        how = ["bs=1M", "iflag=skip_bytes,count_bytes", "oflag=seek_bytes", "conv=notrunc,sparse", "status=none"]
        run(["dd", f"if={source}", f"of={sealed}", *part, *how])
    run(["tune2fs", "-j", root_of(sealed)])


def to_raw(source: Path, raw: Path, form: str = "qcow2") -> None:
    """An image, stored as `form`, to a raw disk with holes."""
    run(["qemu-img", "convert", "-f", form, "-O", "raw", "-m", "2", "-W", source, raw])


def to_qcow2(raw: Path, image: Path, *, compress: bool) -> None:
    """A raw disk to a qcow2; with `compress`, by zstd."""
    how = ["-c", "-o", "compression_type=zstd"] if compress else []
    run(["qemu-img", "convert", "-f", "raw", "-O", "qcow2", *how, "-m", "2", "-W", raw, image])
