"""Debian 13 and Ubuntu as hosts: the README's first command sets up everything in a fresh root, and bakes there.

mmdebstrap makes the root of Debian 13. That of Ubuntu is a tar archive, which BAKE_TEST_UBUNTU names: with PACKAGES in
it, and the component `universe` in its sources. The roots share the kernel and the network of this computer.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.long, pytest.mark.skipif(os.geteuid() != 0, reason="only root enters the tree")]
REPOSITORY = Path(__file__).parents[2]
README = (REPOSITORY / "README.md").read_text().splitlines()
#: Enters the tree as its root: with its own mounts and processes, and the devices of this computer.
ENTER = """
mount --bind "$1" "$1"
for name in dev sys; do mount --rbind "/$name" "$1/$name"; done
mount -t proc proc "$1/proc"
cd "$1"
pivot_root . mnt
umount --lazy /mnt
cd /root/bake
exec sh -euc "$2"
"""
#: What a Debian 13 without Python, compiler and this project's programs starts with.
PACKAGES = "ca-certificates,mount,python3,sudo"


@pytest.fixture(scope="module", params=["debian-13", "ubuntu"])
def run(request, tmp_path_factory):
    """Run a shell command in such a system with a copy of this repository; its output is that of both streams."""
    folder = tmp_path_factory.mktemp(request.param)
    archive = folder / "root.tar" if request.param == "debian-13" else os.environ.get("BAKE_TEST_UBUNTU")
    if archive is None:
        pytest.skip("BAKE_TEST_UBUNTU names no archive")
    if request.param == "debian-13":
        subprocess.run(["mmdebstrap", "--variant=apt", f"--include={PACKAGES}", "trixie", archive], check=True)
    root = folder / "root"
    root.mkdir()
    subprocess.run(["tar", "-C", root, "--exclude=./dev/*", "-xf", archive], check=True)
    # A proxy between here and the archive may have an authority of its own.
    for name in ("etc/resolv.conf", "etc/ssl/certs/ca-certificates.crt"):
        shutil.copy(Path("/") / name, root / name)
    ignored = shutil.ignore_patterns(".git", ".nox", ".venv", "dist", "__pycache__", "*.egg-info")
    shutil.copytree(REPOSITORY, root / "root/bake", symlinks=True, ignore=ignored)
    passed = ("SSL_CERT_FILE", "PIP_CERT", "http_proxy", "https_proxy", "no_proxy")
    variables = {name: os.environ[name] for name in passed if name in os.environ}

    def call(command, timeout):
        words = ["unshare", "--mount", "--pid", "--ipc", "--fork", "--kill-child", "sh", "-euc", ENTER, "sh", root]
        path = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/root", "LANG": "C.UTF-8"}
        done = subprocess.run(
            [*words, command], env={**path, **variables}, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, text=True, timeout=timeout, check=False,
        )  # fmt: skip
        sys.stderr.write(done.stdout)
        assert done.returncode == 0, done.stdout[-2000:]
        return done.stdout

    return call


def test_doctor_installs_all_programs_and_packer_alone_from_debian_12(run):
    output = run("sh setup.sh && .venv/bin/nox -s bake --install-only && .nox/bake/bin/bake doctor --install", 2400)
    assert "has no packer package. bake adds Debian 12 as a source of apt for that package alone" in output
    assert "all programs and files that a bake needs are present" in output
    assert "1.6.6" in run("packer version", 60)
    # Nothing else is, or would be, from Debian 12.
    assert "+deb12" not in run("dpkg-query --show", 60)
    assert "bookworm" not in run("apt-get --simulate dist-upgrade", 120)
    assert "present" in run(".nox/bake/bin/bake doctor --install", 120)


def test_the_first_command_of_the_readme_bakes(run):
    command = next(line for line in README if line.startswith("sh setup.sh"))
    assert "dist/flask-hello/flask-hello.qcow2" in run(command, 5400)
