"""Replaced files that are still in use: as the kernel lists them, and what does not count."""

from __future__ import annotations

import mmap
from pathlib import Path

from bake.verify.replaced_files import replaced


def test_the_kernel_marks_replaced_files_as_the_program_expects(tmp_path: Path) -> None:
    library = tmp_path / "libx.so"
    library.write_bytes(b"x" * mmap.PAGESIZE)
    executable = mmap.PROT_READ | mmap.PROT_EXEC
    with library.open("rb") as stream, mmap.mmap(stream.fileno(), 0, mmap.MAP_PRIVATE, executable):
        library.unlink()
        maps = Path("/proc/self/maps").read_text()
    assert f" {library} (deleted)\n" in maps
    assert replaced(maps.replace(str(library), "/usr/lib/libx.so")) == {"/usr/lib/libx.so"}
    # Files of an app, and of the memory, do not count.
    assert replaced(maps) == replaced("7f0-7f1 rw-s 00000000 00:01 5      /dev/zero (deleted)\n") == set()
    assert replaced("7f0-7f1 r-xp 00000000 00:01 5      /memfd:x /usr/lib/x (deleted)\n") == set()
