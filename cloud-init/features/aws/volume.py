"""The app's data on a volume of EBS, which outlives the machine: found by its id, formatted once, mounted at each boot.

Only a volume that holds nothing at all is formatted. Lies in a release beside its settings, where bake.yaml says `aws`;
Python's standard library only.
"""

import os
import re
import shutil
import subprocess
import time
from pathlib import Path

import serving
from step import STATE, StepError, command, say, tell

#: The volume's id, as a launch gives it.
ASKED = Path("/etc/app/data")
DATA = Path("/var/lib/app")
OWNER = "app"
DEVICES, BLOCKS = Path("/dev"), Path("/sys/block")
#: What its file system is called, and until it is whole: a power cut leaves it to the next boot.
LABEL, UNFINISHED = "app-data", "app-data.new"
#: Seconds for a volume that is attached when the machine already runs.
PATIENCE = 600


def find(volume: str) -> Path | None:
    """The device whose serial number is a volume's id, which is there without its dash."""
    for path in (*BLOCKS.glob("*/serial"), *BLOCKS.glob("*/device/serial")):
        device = DEVICES / path.relative_to(BLOCKS).parts[0]
        if path.read_text().strip() == volume.replace("-", "") and device.exists():
            return device
    return None


def attached(volume: str) -> Path:
    """Its device, once it is there."""
    device, deadline = find(volume), time.monotonic() + PATIENCE
    if device:
        return device
    before = STATE.read_text()
    tell("waits for its data volume")
    say(f"<4>waiting until {volume} of {ASKED} is attached")
    while not device:
        if time.monotonic() > deadline:
            raise StepError(f"{volume} is not attached, and only it has the app's data: attach it, or edit {ASKED}")
        time.sleep(1)
        device = find(volume)
    tell(before)
    return device


def inspect(device: Path) -> dict:
    """What a device holds: blkid's TYPE, LABEL and others; nothing where neither it nor wipefs finds anything."""
    signs = command("wipefs", "--no-act", "--noheadings", "--output", "TYPE", device).split()
    told = subprocess.run(["blkid", "-p", "-o", "export", device], capture_output=True, text=True)
    found = dict(line.split("=", 1) for line in told.stdout.splitlines() if "=" in line)
    # blkid(8): 0 it found something, 2 it found nothing; 8 is more than one thing.
    if told.returncode == 2 and not signs:
        return {}
    if told.returncode == 0 and signs == [found.get("TYPE")]:
        return found
    held = ", ".join(signs) or "something"
    raise StepError(f"{device} has {held}, not one file system, and is unchanged: use an empty volume")


def make(device: Path, *options: str) -> None:
    """An empty file system, which has its name only when all of it is on the volume."""
    command("mkfs.ext4", "-q", "-m", "0", "-L", UNFINISHED, *options, device)
    command("sync", device)
    command("e2label", device, LABEL)
    command("sync", device)


def prepare(device: Path) -> None:
    """Have a device hold a file system that can be mounted. Raises StepError where it holds something else."""
    held = inspect(device)
    if not held:
        say(f"{device} is empty: formatting it")
        make(device)
    elif held["TYPE"] != "ext4":
        kind = held["TYPE"]
        raise StepError(f"{device} has {kind}, and is unchanged: use a volume that is empty or has ext4")
    elif held.get("LABEL") == UNFINISHED:
        say(f"formatting {device} again after an interruption")
        make(device, "-F")
    else:
        done = subprocess.run(["e2fsck", "-p", device], capture_output=True, text=True, timeout=3600)
        # e2fsck(8): 1 is what it has mended.
        if done.returncode > 1:
            last = done.stdout.strip().rpartition("\n")[2]
            raise StepError(f"{device} is damaged, try `e2fsck {device}`: {last}")


def mount() -> None:
    """Have DATA be the volume's that ASKED names. Raises StepError where it cannot be: nothing else takes its place."""
    if not ASKED.exists():
        return
    volume = ASKED.read_text().strip()
    if not re.fullmatch("vol-[0-9a-f]{8,17}", volume):
        raise StepError(f"{ASKED} has no volume id such as vol-0123456789abcdef0")
    device = attached(volume)
    if DATA.is_mount():
        if DATA.stat().st_dev != device.stat().st_rdev:
            raise StepError(f"{DATA} is not on the volume in {ASKED}: restart the machine")
    else:
        if serving.runs(serving.APP):
            raise StepError(f"the app runs without its volume: restart the machine to use {volume}")
        if any(DATA.iterdir()):
            say(f"<4>{DATA} on the machine's own disk is not empty; {volume} hides those files")
        prepare(device)
        command("mount", "-t", "ext4", "-o", "nosuid,nodev", device, DATA)
        shutil.chown(DATA, OWNER, OWNER)
        DATA.chmod(0o750)
        os.sync()
        say(f"{DATA} is on {volume}")
    # A volume that has grown since.
    command("resize2fs", device)
