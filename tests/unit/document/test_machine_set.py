"""The machine's own files as a set: its version, and the paths that a set ever had."""

from __future__ import annotations

import json
import tarfile
from dataclasses import replace
from pathlib import Path

import pytest

from bake import __version__
from bake.config.debian import TARGETS, Target
from bake.document import cloud_config, machine_set
from bake.document.machine_files import File
from bake.document.machine_set import PATHS, MachineSet

EACH = pytest.mark.parametrize("target", TARGETS.values(), ids=TARGETS)


@EACH
def test_each_path_outside_of_the_programs_is_listed(target: Target) -> None:
    """A machine with this set is upgraded some day. A path that the list lacks would stay on it forever."""
    outside = {file.path for file in MachineSet.of(target).files if not file.path.startswith("/usr/lib/app/")}
    assert outside <= {*PATHS}, "add the new path to PATHS in bake/document/machine_set.py, and never remove it"


def test_a_path_that_a_set_lost_is_still_listed() -> None:
    """The machines of that time have the file. In /etc/systemd, it would hide the release's own unit."""
    assert {*PATHS} >= {f"/etc/systemd/system/app-next.{kind}" for kind in ("service", "socket")}
    assert list(PATHS) == sorted(PATHS)


@EACH
def test_a_version_changes_with_each_name_mode_and_content(target: Target) -> None:
    new = MachineSet.of(target)
    first, rest = new.files[0], new.files[1:]
    others = [rest, *([replace(first, **change), *rest] for change in ({"path": "/x"}, {"mode": 0}, {"content": b""}))]
    assert len({new.version, *(MachineSet(files).version for files in others)}) == 5
    assert new.version.startswith(f"{__version__}+") and MachineSet(new.files[::-1]).version == new.version


def test_debian_versions_have_sets_of_different_versions() -> None:
    assert len({MachineSet.of(target).version for target in TARGETS.values()}) == len(TARGETS)


@EACH
def test_a_machine_of_a_document_without_comments_has_the_set(target: Target) -> None:
    new = MachineSet.of(target)
    stripped = machine_set.digest([cloud_config.strip(file) for file in new.files])
    assert stripped != machine_set.digest(new.files)
    assert new.is_digest(machine_set.digest(new.files)) and new.is_digest(stripped) and not new.is_digest("0" * 64)


def test_an_archive_has_the_files_their_digests_and_the_programs_that_install_them(tmp_path: Path) -> None:
    files = [File("/usr/lib/app/setup", 0o755, b"\xff"), File("/usr/lib/tmpfiles.d/app.conf", 0o644, b"d\n")]
    MachineSet(files).write(tmp_path / "new.tar", File("/etc/app/source.json", 0o644, b"{}"))
    with tarfile.open(tmp_path / "new.tar") as archive:
        names = archive.getnames()
        description = json.load(archive.extractfile("set.json"))  # type: ignore[arg-type]
    programs = {"renew.py", "install_release.py", "health.py", "app-restore.service"}
    assert {*names} == {*programs, "set.json", "source.json", *(f"files{file.path}" for file in files)}
    assert description["version"] == MachineSet(files).version and description["paths"] == list(PATHS)
    assert description["files"] == machine_set.rows(files)
