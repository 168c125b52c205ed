"""The files of a machine."""

from __future__ import annotations

import json
import re
import shutil
import sys
from pathlib import Path

import pytest
from conftest import REPOSITORY

from bake.config.debian import DEBIAN_12, DEBIAN_13, MACHINE_PACKAGES
from bake.document import machine_files
from bake.host import paths
from bake.host.programs import run

SHOW = """
import json
from bake.config import debian
from bake.document import machine_files
print(json.dumps([[file.path, file.mode, file.text] for file in machine_files.files(debian.DEBIAN_13)]))
"""


def files_of(installed: Path) -> dict[str, tuple[int, str]]:
    said = run([sys.executable, "-B", "-c", SHOW], cwd=installed, env={"PYTHONPATH": str(installed)}).stdout
    return {path: (mode, text) for path, mode, text in json.loads(said)}


def test_every_file_of_the_tree_is_there_with_its_text_and_its_rights() -> None:
    found = {file.path: file for file in machine_files.files(DEBIAN_13)}
    tree = [path for path in paths.rootfs().rglob("*") if path.is_file() and "__pycache__" not in path.parts]
    assert len(tree) > 20
    for path in tree:
        file = found.pop("/" + str(path.relative_to(paths.rootfs())))
        assert file.content == path.read_bytes()
        assert file.mode == (0o755 if path.stat().st_mode & 0o100 else 0o644)
    overlay = [f"/usr/lib/app/nginx/{name}" for name in ("release.conf", "tls-listener")]
    assert list(found) == [*overlay, "/usr/lib/app/packages"]


def test_releases_differ_in_what_their_overlays_hold() -> None:
    twelve, thirteen = ({file.path: file.text for file in machine_files.files(goal)} for goal in (DEBIAN_12, DEBIAN_13))
    assert set(twelve) == set(thirteen)
    different = {path for path in twelve if twelve[path] != thirteen[path]}
    assert different == {f"/usr/lib/app/nginx/{name}" for name in ("release.conf", "tls-listener")}


def test_programs_can_be_run_and_settings_cannot() -> None:
    for file in machine_files.files(DEBIAN_13):
        assert (file.mode == 0o755) == file.content.startswith(b"#!") or file.path.endswith(".nft"), file.path


def test_order_does_not_depend_on_the_disk() -> None:
    paths = [file.path for file in machine_files.files(DEBIAN_13)]
    assert paths == sorted(paths)


def test_packages_are_one_a_line() -> None:
    (packages,) = (file for file in machine_files.files(DEBIAN_13) if file.path == "/usr/lib/app/packages")
    assert packages.content.decode().splitlines() == list(MACHINE_PACKAGES)


def test_a_file_is_bytes_and_sometimes_a_text() -> None:
    assert machine_files.File("/x", 0o644, "é\n".encode()).text == "é\n"
    assert machine_files.File("/x", 0o644, b"\xff").text is None


def test_a_release_may_replace_and_add_files(installed: Path) -> None:
    plain = files_of(installed)
    overlay = installed / "bake/tree/cloud-init/rootfs.debian-13"
    (overlay / "usr/lib/app/boot").write_text("#!/bin/sh\nexit 3\n")
    (overlay / "usr/lib/app/boot").chmod(0o755)
    (overlay / "usr/lib/app/extra").write_text("added\n")
    (overlay.with_name("rootfs.debian-12") / "other").write_text("another release's\n")
    expected = plain | {"/usr/lib/app/boot": (0o755, "#!/bin/sh\nexit 3\n"), "/usr/lib/app/extra": (0o644, "added\n")}
    assert files_of(installed) == expected


def test_python_leaves_nothing_on_the_machine(installed: Path) -> None:
    plain = files_of(installed)
    litter = installed / "bake/tree/cloud-init/rootfs/usr/lib/app/__pycache__"
    litter.mkdir()
    (litter / "setup.cpython-311.pyc").write_bytes(b"\xff")
    assert files_of(installed) == plain


def test_a_copy_without_its_files_says_so(installed: Path) -> None:
    shutil.rmtree(installed / "bake/tree/cloud-init/rootfs")
    catch = "from bake import errors\nfrom bake.config import debian\nfrom bake.document import machine_files\n"
    catch += "try: machine_files.files(debian.DEBIAN_13)\nexcept errors.BakeError as error: print(error, error.hint)"
    said = run([sys.executable, "-c", catch], cwd=installed, env={"PYTHONPATH": str(installed)}).stdout
    assert "is empty" in said
    assert "Install it again" in said


@pytest.mark.parametrize("name", ["setup", "configure", "build-venv"])
def test_the_machines_programs_are_python_that_compiles(name: str) -> None:
    text = (paths.rootfs() / "usr/lib/app" / name).read_text()
    compile(text, name, "exec")
    assert re.match(r"#!/usr/bin/python3( -B| -I)?\n", text)


@pytest.mark.parametrize("path", ["usr/lib/app/boot", "etc/letsencrypt/renewal-hooks/deploy/app"])
def test_the_machines_shell_scripts_parse(path: str) -> None:
    run(["sh", "-n", paths.rootfs() / path])


def test_no_file_of_a_provider_allows_passwords_again() -> None:
    """sshd uses the first value of a setting, and reads sshd_config.d in the order of the names."""
    text = (paths.rootfs() / "usr/lib/app/boot").read_text()
    (name,) = re.findall(r"closed=/etc/ssh/sshd_config.d/(\S+)", text)
    assert name < min("00-cloud.conf", "10-provider.conf", "50-cloud-init.conf")
    assert re.search(r"sshd_config.d/\*0-app-keys-only\.conf", (paths.tree() / "packer/seal.sh").read_text())


def test_no_two_files_of_the_machine_are_copies() -> None:
    """A file that stands in two places is a link in the second, so that a change reaches both."""
    first: dict[bytes, Path] = {}
    for path in sorted((REPOSITORY / "cloud-init").rglob("*")):
        if path.is_file() and not path.is_symlink() and path.suffix != ".pyc" and path.stat().st_size > 100:
            other = first.setdefault(path.read_bytes(), path)
            assert other == path, f"{path} is a copy of {other}: make it a link"
