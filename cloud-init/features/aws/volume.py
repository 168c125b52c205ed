"""Keep the app's data on an EBS volume that outlives the machine: find it by its id, format it once, mount it at boot.

Only an empty volume is formatted. Part of a release's settings if bake.yaml has `aws`; Python's standard library only.
"""

import os
import re
import shutil
import subprocess
import time
from pathlib import Path

import serving
from step import STATE, StepError, command, say, tell

#: The id of the volume, written by the launch.
ASKED = Path("/etc/app/data")
DATA = Path("/var/lib/app")
OWNER = "app"
DEVICES, BLOCKS = Path("/dev"), Path("/sys/block")
#: The label of the file system, and its label until it is complete. The next boot repeats an interrupted format.
LABEL, UNFINISHED = "app-data", "app-data.new"
#: Seconds to wait for a volume that is attached after the start of the machine.
PATIENCE = 600


def find(volume: str) -> Path | None:
    """Return the device of a volume, or None. Its serial number is the volume's id without the dash."""
    for path in (*BLOCKS.glob("*/serial"), *BLOCKS.glob("*/device/serial")):
        device = DEVICES / path.relative_to(BLOCKS).parts[0]
        if path.read_text().strip() == volume.replace("-", "") and device.exists():
            return device
    return None


def attached(volume: str) -> Path:
    """Return the device of a volume. Wait until it is attached; raises StepError after PATIENCE."""
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
    """Return a device's contents as blkid's TYPE, LABEL and others; {} if both blkid and wipefs find it empty.

    Raises StepError if it contains anything other than one file system.
    """
    signs = command("wipefs", "--no-act", "--noheadings", "--output", "TYPE", device).split()
    blkid = subprocess.run(["blkid", "-p", "-o", "export", device], capture_output=True, text=True)
    fields = dict(line.split("=", 1) for line in blkid.stdout.splitlines() if "=" in line)
    # blkid(8) exits with 0 if it found something, 2 if it found nothing, and 8 if the result is ambiguous.
    if blkid.returncode == 2 and not signs:
        return {}
    if blkid.returncode == 0 and signs == [fields.get("TYPE")]:
        return fields
    held = ", ".join(signs) or "something"
    raise StepError(f"{device} has {held}, not one file system, and is unchanged: use an empty volume")


def make(device: Path, *options: str) -> None:
    """Create an empty file system. It gets its final label when all of it is on the volume."""
    command("mkfs.ext4", "-q", "-m", "0", "-L", UNFINISHED, *options, device)
    command("sync", device)
    command("e2label", device, LABEL)
    command("sync", device)


def prepare(device: Path) -> None:
    """Format or check a device, so that it can be mounted. Raises StepError if it contains something else."""
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
        # e2fsck(8): 1 means that it corrected errors.
        if done.returncode > 1:
            last = done.stdout.strip().rpartition("\n")[2]
            raise StepError(f"{device} is damaged, try `e2fsck {device}`: {last}")


def mount() -> None:
    """Mount the volume that ASKED names at DATA. Raises StepError if that fails; the app never runs without it."""
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
    # The volume may have grown.
    command("resize2fs", device)
