"""Shared libraries: what wheels ask for, read from real programs."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest

from bake.bundle import shared_libraries
from bake.config.debian import DEBIAN_13
from bake.errors import WheelError

#: Part of every Debian; it needs libselinux and the C library.
PROGRAM = Path("/bin/ls").read_bytes()


def wheel(folder: Path, name: str, **files: bytes) -> Path:
    path = folder / f"{name}-1.0-cp313-cp313-linux_x86_64.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for place, content in files.items():
            archive.writestr(place, content)
    return path


def test_what_no_wheel_carries_is_expected_of_the_system(tmp_path: Path) -> None:
    one = wheel(
        tmp_path, "one", **{"one/_c.cpython-313-x86_64-linux-gnu.so": PROGRAM, "one/x.py": b"", "a.so": b"text"}
    )
    assert shared_libraries.required_libraries([one]) == {"libselinux.so.1": "one"}
    two = wheel(tmp_path, "two", **{"two.libs/libselinux.so.1": b"carried"})
    assert shared_libraries.required_libraries([one, two]) == {}


def test_packages_are_named(tmp_path: Path) -> None:
    wanted = {"libGL.so.1": "opencv_python", "libglib-2.0.so.0": "opencv_python", "libodd.so.9": "odd"}
    with pytest.raises(WheelError) as caught:
        shared_libraries.require(wanted, ("git",), DEBIAN_13)
    assert caught.value.message == "opencv_python needs libGL.so.1, libglib-2.0.so.0, which no wheel contains"
    assert "`packages: [git, libgl1, libglib2.0-0t64]`" in caught.value.hint
    assert shared_libraries.require(wanted, ("libgl1", "libglib2.0-0t64"), DEBIAN_13) == ["libodd.so.9 for odd"]


@pytest.mark.parametrize("name", ["libc.so.6", "libstdc++.so.6", "libz.so.1", "ld-linux-x86-64.so.2", "libcrypto.so.3"])
def test_every_machine_has_some(name: str) -> None:
    assert shared_libraries.PRESENT.fullmatch(name)
