"""The machine's program that mounts the app's volume: what it formats, and what it leaves alone; with real tools."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
from conftest import REPOSITORY, Fake, soon

ID = "vol-0123456789abcdef0"
SIZE = 64 << 20


@pytest.fixture
def disk(tmp_path: Path) -> Path:
    """A volume of 64 MiB that nobody has written to."""
    (tmp_path / "dev").mkdir()
    with (tmp_path / "dev/nvme1n1").open("wb") as stream:
        stream.truncate(SIZE)
    return tmp_path / "dev/nvme1n1"


@pytest.fixture
def volume(
    rooted: Callable[..., ModuleType], fake: Fake, disk: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> ModuleType:
    """The program on a machine below a folder of the test's, whose kernel shows that volume as an NVMe one.

    Its app is not running. What is mounted is written down.
    """
    monkeypatch.setenv("PATH", f"{os.environ['PATH']}{os.pathsep}/usr/sbin")
    fake("systemctl", "exit 3")
    fake("mount", f'echo "$@" >> {tmp_path}/mounted')
    module = rooted("volume.py", REPOSITORY / "cloud-init/features/aws")
    monkeypatch.setattr(module, "PATIENCE", 0.5)
    monkeypatch.setattr(module.shutil, "chown", lambda *words: None)
    module.ASKED.write_text(f"{ID}\n")
    module.DATA.mkdir()
    module.STATE.write_text("is being set up: step 1 of 6, release")
    shown(module, ID.replace("-", ""))
    return module


def shown(module: ModuleType, serial: str, name: str = "nvme1n1", place: str = "device/serial") -> None:
    """Have the kernel show a device with a serial number."""
    path = module.BLOCKS / name / place
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"{serial}   \n")


def run(*words: object) -> str:
    return subprocess.run(list(map(str, words)), check=True, capture_output=True, text=True).stdout


def label(disk: Path) -> str:
    """The label of the ext4 on a disk."""
    return run("/usr/sbin/e2label", disk).strip()


def mounted(tmp_path: Path) -> list[str]:
    path = tmp_path / "mounted"
    return path.read_text().splitlines() if path.exists() else []


def test_without_being_asked_it_does_nothing(volume: ModuleType, disk: Path, tmp_path: Path) -> None:
    volume.ASKED.unlink()
    volume.mount()
    assert mounted(tmp_path) == [] and not any(disk.read_bytes())


@pytest.mark.parametrize(("name", "place"), [("nvme1n1", "device/serial"), ("vdb", "serial")])
def test_it_is_found_by_its_serial_number(volume: ModuleType, disk: Path, name: str, place: str) -> None:
    for path in volume.BLOCKS.rglob("serial"):
        path.unlink()
    shown(volume, "vol0aaaaaaaaaaaaaaaa", "nvme0n1")
    assert volume.find(ID) is None
    shown(volume, ID.replace("-", ""), name, place)
    # The kernel shows a second way to some NVMe devices, which has no device of its own.
    shown(volume, ID.replace("-", ""), "nvme1c1n1")
    disk.rename(disk.with_name(name))
    assert volume.find(ID) == disk.with_name(name)


def test_an_empty_one_is_formatted_once_and_mounted(volume: ModuleType, disk: Path, tmp_path: Path) -> None:
    volume.mount()
    assert label(disk) == "app-data"
    assert mounted(tmp_path) == [f"-t ext4 -o nosuid,nodev {disk} {volume.DATA}"]
    run("/usr/sbin/debugfs", "-w", "-R", f"write {REPOSITORY / 'LICENSE'} kept", disk)
    volume.mount()
    assert "kept" in run("/usr/sbin/debugfs", "-R", "ls -p", disk) and len(mounted(tmp_path)) == 2


def test_what_a_power_cut_left_unfinished_is_made_again(volume: ModuleType, disk: Path) -> None:
    run("/usr/sbin/mkfs.ext4", "-q", "-L", volume.UNFINISHED, disk)
    volume.mount()
    assert label(disk) == "app-data"


@pytest.mark.parametrize(
    ("words", "held"),
    [
        (("/usr/sbin/mkswap",), "swap"),
        (("/usr/sbin/sfdisk", "--quiet", "--label", "dos"), "dos"),
        (("/usr/sbin/sfdisk", "--quiet", "--label", "gpt"), "gpt"),
    ],
)
def test_whatever_else_it_holds_stays(
    volume: ModuleType, disk: Path, tmp_path: Path, words: tuple[str, ...], held: str
) -> None:
    subprocess.run([*words, disk], input=b",,\n" if "sfdisk" in words[0] else b"", check=True, capture_output=True)
    before = disk.read_bytes()
    with pytest.raises(sys.modules["step"].StepError, match=f"has .*{held}.*and is unchanged"):
        volume.mount()
    assert disk.read_bytes() == before and mounted(tmp_path) == []


def test_two_things_at_once_stay_too(volume: ModuleType, disk: Path) -> None:
    run("/usr/sbin/mkfs.ext4", "-q", disk)
    # A partition table that somebody wrote over it.
    with disk.open("r+b") as stream:
        stream.seek(446)
        stream.write(bytes([0, 0, 2, 0, 0x83, 0, 0, 0, 0, 8, 0, 0, 0, 0x10, 0, 0]) + bytes(48) + b"\x55\xaa")
    before = disk.read_bytes()
    with pytest.raises(sys.modules["step"].StepError, match="and is unchanged"):
        volume.mount()
    assert disk.read_bytes() == before


def test_one_that_has_grown_is_used_to_its_end(volume: ModuleType, disk: Path) -> None:
    volume.mount()
    with disk.open("r+b") as stream:
        stream.truncate(2 * SIZE)
    volume.mount()
    blocks = run("/usr/sbin/dumpe2fs", "-h", disk).partition("Block count:")[2].split()[0]
    size = run("/usr/sbin/dumpe2fs", "-h", disk).partition("Block size:")[2].split()[0]
    assert int(blocks) * int(size) == 2 * SIZE


def test_one_that_is_not_attached_is_waited_for_and_nothing_takes_its_place(
    volume: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shown(volume, "vol0aaaaaaaaaaaaaaaa")
    with pytest.raises(sys.modules["step"].StepError, match=f"{ID} is not attached, and only it has the app's data"):
        volume.mount()
    assert f"waiting until {ID}" in capsys.readouterr().out
    assert volume.STATE.read_text() == "waits for its data volume" and mounted(tmp_path) == []


def test_one_that_comes_late_leaves_the_page_as_it_was(volume: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    shown(volume, "vol0aaaaaaaaaaaaaaaa")
    monkeypatch.setattr(volume, "PATIENCE", 10)

    seen = []

    def attach() -> None:
        seen.append(soon(lambda: volume.STATE.read_text() == "waits for its data volume"))
        shown(volume, ID.replace("-", ""))

    somebody = threading.Thread(target=attach)
    somebody.start()
    volume.mount()
    somebody.join()
    assert seen == [True]
    assert volume.STATE.read_text() == "is being set up: step 1 of 6, release"


@pytest.mark.parametrize("text", ["", "vol-", "vol-0123 vol-4567", "/dev/sda", "vol-0123456789ABCDEF0"])
def test_what_is_no_volume_s_id_is_refused(volume: ModuleType, text: str) -> None:
    volume.ASKED.write_text(text)
    with pytest.raises(sys.modules["step"].StepError, match="has no volume id"):
        volume.mount()


def test_under_an_app_that_runs_nothing_is_mounted(volume: ModuleType, fake: Fake, tmp_path: Path, disk: Path) -> None:
    fake("systemctl", "exit 0")
    with pytest.raises(sys.modules["step"].StepError, match="the app runs without its volume: restart the machine"):
        volume.mount()
    assert mounted(tmp_path) == [] and not any(disk.read_bytes())


def test_what_is_out_of_sight_is_said(volume: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    (volume.DATA / "old").touch()
    volume.mount()
    assert "is not empty; " in capsys.readouterr().out
