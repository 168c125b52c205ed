"""The program that makes the swap file, with the real mkswap."""

from __future__ import annotations

from pathlib import Path

from conftest import Fake, names

from bake.host import paths, programs

PROGRAM = paths.features() / "swap/swap"
SIZE = 16 << 20


def make(path: Path, size: int = SIZE) -> programs.Result:
    return programs.run(["sh", PROGRAM, path, str(size)], check=False)


def test_the_file_is_swap_space_that_only_root_reads(tmp_path: Path) -> None:
    path = tmp_path / "swap"
    assert make(path).status == 0
    assert (path.stat().st_size, path.stat().st_mode & 0o777) == (SIZE, 0o600)
    # No holes: the kernel takes none.
    assert path.stat().st_blocks * 512 >= SIZE
    with path.open("rb") as stream:
        stream.seek(4096 - 10)
        assert stream.read(10) == b"SWAPSPACE2"


def test_a_file_of_this_size_stays_and_one_of_another_size_is_made_anew(tmp_path: Path) -> None:
    path = tmp_path / "swap"
    make(path)
    inode = path.stat().st_ino
    assert make(path).status == 0 and path.stat().st_ino == inode
    assert make(path, 2 * SIZE).status == 0 and path.stat().st_size == 2 * SIZE


def test_a_disk_without_room_keeps_nothing_of_it(tmp_path: Path, fake: Fake) -> None:
    folder = tmp_path / "small"
    folder.mkdir()
    assert make(folder / "swap", 1 << 60).status != 0
    assert names(folder) == []
    fake("mkswap", "exit 1")
    assert make(folder / "swap").status != 0
    assert names(folder) == []
