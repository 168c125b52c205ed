"""What makes a machine use the updates that it installed: `updates` of a release, and the end of `boot`."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import REPOSITORY, Fake

from bake.bundle import release_files
from bake.config.recipe import Recipe

UPDATES = REPOSITORY / "cloud-init/features/updates/updates"
BOOT = REPOSITORY / "cloud-init/rootfs/usr/lib/app/boot"
SSL = "7f1-7f2 r-xp 0 fe:01 77                 /usr/lib/x86_64-linux-gnu/libssl.so.3"
#: Maps an executable page of each file argv[1:], or of memory with this name, and prints the kernel's list of maps. It
#: deletes the files that end in `gone`.
MAPPED = """
import mmap, os, sys
maps = []
for path in sys.argv[1:]:
    file = os.open(path, os.O_RDWR) if path[0] == "/" else os.memfd_create(path)
    os.ftruncate(file, mmap.PAGESIZE)
    maps.append(mmap.mmap(file, mmap.PAGESIZE, mmap.MAP_PRIVATE, mmap.PROT_READ | mmap.PROT_EXEC))
    if path[0] == "/" and path.endswith("gone"):
        os.unlink(path)
print(open("/proc/self/maps").read(), end="")
"""


class Machine:
    """A root folder with processes, and the commands that the program called."""

    def __init__(self, root: Path, fake: Fake) -> None:
        self.root, self.calls, self.processes = root, root / "calls", 100
        for folder in ("proc", "run/app", "etc"):
            (root / folder).mkdir(parents=True)
        (root / "etc/machine-id").write_text("0011" + "f" * 28 + "\n")
        for name in ("systemctl", "invoke-rc.d", "shutdown"):
            fake(name, f'echo "{name} $*" >> {self.calls}')
        (root / "run/app/served").touch()
        (root / "run/reboot-required").touch()
        (root / "proc/1").mkdir()
        (root / "proc/1/maps").write_text("55a-55b r--p 0 fe:01 9 /usr/lib/systemd/systemd\n")

    def process(self, cgroup: str, line: str = f"{SSL} (deleted)") -> Path:
        self.processes += 1
        folder = self.root / "proc" / str(self.processes)
        folder.mkdir()
        (folder / "maps").write_text(f"7f0-7f1 r-xp 0 fe:01 5       /usr/lib/libc.so.6\n{line}\n")
        (folder / "cgroup").write_text(f"0::{cgroup}\n")
        return folder

    def run(self, **environment: str) -> list[str]:
        env = {**os.environ, "WAIT": "0", **environment}
        subprocess.run([UPDATES, self.root], env=env, check=True, capture_output=True)
        return self.calls.read_text().splitlines() if self.calls.exists() else []


@pytest.fixture
def machine(tmp_path: Path, fake: Fake) -> Machine:
    return Machine(tmp_path / "root", fake)


def ends_with(machine: Machine, fake: Fake, *folders: Path) -> None:
    """Processes that end when their service restarts."""
    removals = "; ".join(f"rm -r {folder}" for folder in folders)
    fake("systemctl", f'echo "systemctl $*" >> {machine.calls}; {removals}')


def test_services_that_use_replaced_files_restart(machine: Machine, fake: Fake) -> None:
    stale = [machine.process(f"/system.slice/{unit}") for unit in ("ssh.service", "cron.service", "cron.service")]
    machine.process("/system.slice/systemd-networkd.service", SSL)
    ends_with(machine, fake, *stale)
    calls = machine.run()
    assert calls == ["systemctl try-restart cron.service", "systemctl try-restart ssh.service", "shutdown -c"]
    assert not (machine.root / "run/reboot-required").exists()


def test_the_app_and_nginx_are_exchanged(machine: Machine, fake: Fake) -> None:
    app, nginx = machine.process("/system.slice/app.service"), machine.process("/system.slice/nginx.service")
    ends_with(machine, fake, app)
    fake("invoke-rc.d", f'echo "invoke-rc.d $*" >> {machine.calls}; rm -r {nginx}')
    assert machine.run() == ["systemctl start app-setup.service", "invoke-rc.d nginx upgrade", "shutdown -c"]
    # app-setup exchanges the workers of an app whose settings it does not know.
    assert not (machine.root / "run/app/served").exists()


def test_nginx_restarts_where_its_exchange_fails(machine: Machine, fake: Fake) -> None:
    machine.process("/system.slice/nginx.service")
    fake("invoke-rc.d", "exit 2")
    assert machine.run()[0] == "systemctl restart nginx.service"


def test_without_an_upgrade_nothing_happens(machine: Machine) -> None:
    machine.process("/system.slice/nginx.service", SSL)
    # A file of an older release that a job still uses.
    machine.process("/system.slice/app-job@x.service", "7f1-7f2 r-xp 0 fe:01 9  /srv/app/x/venv/a.so (deleted)")
    # Files of a container, which are on another device, and data.
    machine.process("/system.slice/box.scope", "7f1-7f2 r-xp 0 00:2f 9      /usr/lib/libssl.so.3 (deleted)")
    machine.process("/system.slice/box.scope", "7f1-7f2 r--s 0 fe:01 9      /usr/lib/gconv-modules.cache (deleted)")
    assert machine.run() == ["shutdown -c"]
    assert (machine.root / "run/app/served").exists()


def test_no_name_that_an_app_chooses_passes_for_a_replaced_file(machine: Machine, tmp_path: Path) -> None:
    """The app would restart with every look for updates, and the machine would reboot each night."""
    files = [tmp_path / "data /usr/x (deleted)", tmp_path / "data /usr/gone", tmp_path / "data\n7f1 /usr/gone"]
    for path in files:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    command = [sys.executable, "-c", MAPPED, *map(str, files), " /usr/x", "usr/x", "x /usr/gone"]
    maps = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    assert maps.count(" /usr/") > 5 and maps.count(" (deleted)\n") == 6, maps
    folder = machine.process("/system.slice/app.service")
    (folder / "maps").write_text(maps)
    # The files are on the device of the system.
    (machine.root / "proc/1/maps").write_text(next(line for line in maps.splitlines() if str(tmp_path) in line) + "\n")
    assert machine.run() == ["shutdown -c"]


def test_a_replaced_file_is_found_as_the_kernel_lists_it(machine: Machine, tmp_path: Path) -> None:
    library = tmp_path / "libgone"
    library.touch()
    maps = subprocess.run([sys.executable, "-c", MAPPED, library], check=True, capture_output=True, text=True).stdout
    maps = maps.replace(str(library), "/usr/lib/libx.so")
    (machine.process("/system.slice/cron.service") / "maps").write_text(maps)
    (machine.root / "proc/1/maps").write_text(next(line for line in maps.splitlines() if "libx.so" in line) + "\n")
    assert "systemctl try-restart cron.service" in machine.run()


@pytest.mark.parametrize(
    "name", ["/tmp/x /usr/lib/y", "/memfd:x /usr/y", "/tmp/ /usr/y", "/tmp/a\\0127f1 r-xp 0 fe:01 77 /usr/lib/y"]
)
def test_an_app_does_not_reboot_the_machine_by_the_name_of_a_file(machine: Machine, name: str) -> None:
    machine.process("/system.slice/app.service", f"7f1 r-xp 0 fe:01 77                         {name} (deleted)")
    assert machine.run() == ["shutdown -c"]


@pytest.mark.parametrize(
    "cgroup",
    [
        "/system.slice/dbus.service",
        "/system.slice/apt-daily-upgrade.service",
        "/system.slice/system-getty.slice/getty@tty1.service",
        "/user.slice/a/session-1.scope",
        "/system.slice/system-app\\x2djob.slice/app-job@digest.service",
    ],
)
def test_processes_that_must_not_end_are_left_to_a_reboot_in_the_night(machine: Machine, cgroup: str) -> None:
    machine.process(cgroup)
    # The machine's id decides the minute: 0x0011 is 17.
    assert machine.run() == ["shutdown -r 03:47"]


@pytest.mark.parametrize(
    ("reboot", "machine_id", "time"), [("", "0000", "03:30"), ("23:50", "003b", "00:49"), ("04:05", "ffff", "04:20")]
)
def test_each_machine_reboots_in_its_own_minute(machine: Machine, reboot: str, machine_id: str, time: str) -> None:
    (machine.root / "etc/machine-id").write_text(machine_id + "0" * 28 + "\n")
    (machine.root / "run/reboot-required.pkgs").write_text("linux-image\n")
    assert machine.run(**({"REBOOT": reboot} if reboot else {})) == [f"shutdown -r {time}"]


def test_reboots_can_be_off(machine: Machine) -> None:
    (machine.root / "run/reboot-required.pkgs").write_text("linux-image\n")
    assert machine.run(REBOOT="off") == ["shutdown -c"]


def test_the_recipe_sets_the_time_of_reboots(app: Path) -> None:
    name = "settings/units/apt-daily-upgrade.service.d/60-reboot.conf"
    recipe = Recipe.model_validate({"updates": {"reboot": "04:00"}})
    assert release_files.files(app, recipe, [])[name].text == "[Service]\nEnvironment=REBOOT=04:00\n"
    assert "updates" in release_files.feature_names(recipe)
    assert name not in release_files.files(app, Recipe(), [])


@pytest.mark.parametrize(
    ("present", "starts"), [((), True), (("run/app-check",), False), (("var/lib/apt/periodic/upgrade-stamp",), False)]
)
def test_the_first_boot_of_a_machine_starts_its_updates(
    tmp_path: Path, fake: Fake, present: tuple[str, ...], starts: bool
) -> None:
    for name in present:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    fake("systemctl", f'echo "$*" >> {tmp_path}/calls')
    text = BOOT.read_text()
    # Its last statement before the exit, after the app serves.
    statement = text[text.index("\n[ -e /run/app-check ]") : text.rindex("exit $failed")]
    assert text.index("systemctl start app-setup.service") < text.index(statement)
    script = re.sub(r"(?<= )/(run|var)/", rf"{tmp_path}/\1/", statement)
    subprocess.run(["sh", "-eu", "-c", script], check=True)
    calls = tmp_path / "calls"
    assert calls.exists() == starts
    if starts:
        assert calls.read_text() == "start --no-block apt-daily.service apt-daily-upgrade.service\n"


@pytest.mark.parametrize(("days", "is_old"), [(20, True), (13, False)])
def test_only_an_old_image_waits_for_its_updates(tmp_path: Path, days: int, is_old: bool) -> None:
    text = (REPOSITORY / "cloud-init/base-disk/rootfs/etc/systemd/system/app-fresh.service").read_text()
    (condition,) = re.findall(r"^ExecCondition=/bin/sh -c '(.+)'$", text, re.M)
    status = tmp_path / "status"
    status.touch()
    os.utime(status, (time.time() - days * 86400 - 60,) * 2)
    script = condition.replace("/var/lib/dpkg/status", str(status))
    assert (subprocess.run(["sh", "-c", script], check=False).returncode == 0) == is_old
    # The ports are closed before nginx listens, and open again whatever happens.
    assert "Before=nginx.service\n" in text and "Type=exec\n" in text
    (table,) = re.findall(r"^ExecStartPre=/usr/sbin/nft 'table inet (\w+) ", text, re.M)
    assert f"\nExecStopPost=-/usr/sbin/nft delete table inet {table}\n" in text
    # apt's own units are ordered after cloud-final, which waits for the app, which waits for these updates.
    assert "apt-daily" not in re.sub(r"(?m)^#.*", "", text) and "start --no-block app-fresh-upgrade.service" in text
    assert "enable app-fresh.service" in (REPOSITORY / "cloud-init/base-disk/customize.sh").read_text()
