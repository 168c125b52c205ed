"""What a bake needs here, with systems that lack it."""

from __future__ import annotations

import os
import shlex
import sys
from pathlib import Path

import pytest
from conftest import REPOSITORY, Fake

from bake.errors import ProgramError, ToolError
from bake.host import programs
from bake.image import host_requirements

AS_ROOT = os.geteuid() == 0
DEBIAN_12 = 'ID=debian\nVERSION_ID="12"\nVERSION_CODENAME=bookworm\n'
DEBIAN_13 = 'ID=debian\nVERSION_ID="13"\nVERSION_CODENAME=trixie\n'
UBUNTU = 'ID=ubuntu\nID_LIKE=debian\nVERSION_ID="24.04"\nPRETTY_NAME="Ubuntu 24.04 LTS"\n'
FEDORA = 'ID=fedora\nPRETTY_NAME="Fedora Linux 43"\n'


@pytest.fixture
def bare(fake: Fake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A PATH with nothing but fakes; administrators' folders are still looked at."""
    monkeypatch.setenv("PATH", str(tmp_path / "fakes"))
    return tmp_path / "fakes"


def test_what_is_missing_is_named_by_package_once(bare: Path, fake: Fake) -> None:
    missing = host_requirements.missing_packages()
    assert {"packer", "qemu-utils", "xorriso", "openssh-client"} <= set(missing)
    assert missing == sorted(set(missing))
    fake("xorriso", "")
    assert "xorriso" not in host_requirements.missing_packages()
    fake("ssh", "")
    assert "openssh-client" in host_requirements.missing_packages()
    fake("ssh-keygen", "")
    assert "openssh-client" not in host_requirements.missing_packages()


def test_needs_say_where_a_program_is(bare: Path, fake: Fake) -> None:
    found = {need.name: need.path for need in host_requirements.needs()}
    assert found["packer"] == ""
    assert found.keys() >= {*host_requirements.TOOLS, *host_requirements.FILES}
    fake("packer", "")
    assert {need.name: need.path for need in host_requirements.needs()}["packer"] == str(bare / "packer")


def test_the_newuidmap_is_needed_by_those_who_are_not_root() -> None:
    assert ("newuidmap" in {need.name for need in host_requirements.needs()}) is not AS_ROOT


def test_a_bake_that_cannot_run_says_everything_that_is_missing(bare: Path) -> None:
    with pytest.raises(ToolError) as caught:
        host_requirements.verify()
    assert {"packer", "xorriso", "openssh-client"} <= set(caught.value.message.replace(",", "").split())
    assert caught.value.hint


def advice(os_release: str, tmp_path: Path) -> str:
    """What is said about Packer on a system whose /etc/os-release is this; in a mount namespace."""
    (tmp_path / "os-release").write_text(os_release)
    show = "from bake.image import host_requirements; print(host_requirements.packer_advice())"
    python = shlex.join([sys.executable, "-c", show])
    script = f"mount --bind {tmp_path}/os-release /etc/os-release && exec {python}"
    own_user = [] if AS_ROOT else ["--user", "--map-root-user"]
    try:
        return programs.run(["unshare", *own_user, "--mount", "sh", "-c", script], cwd=REPOSITORY).stdout.strip()
    except ProgramError as error:
        pytest.skip(f"no mount namespace here: {error.details}")


def test_debian_12_has_packer(tmp_path: Path) -> None:
    assert advice(DEBIAN_12, tmp_path) == ""


@pytest.mark.parametrize("system", [DEBIAN_13, UBUNTU])
def test_debian_13_and_ubuntu_need_no_advice(system: str, tmp_path: Path) -> None:
    assert advice(system, tmp_path) == ""


def test_other_systems_are_called_by_their_names(tmp_path: Path) -> None:
    assert advice(FEDORA, tmp_path).startswith("Fedora Linux 43 has no packer package")


def test_the_words_for_apt() -> None:
    update, install = host_requirements.install_argv(["a", "b"])
    assert (update[0] == "sudo") is not AS_ROOT
    assert update[-1] == "update"
    assert install[-4:] == ["install", "--no-install-recommends", "a", "b"]
    assert "DEBIAN_FRONTEND=noninteractive" in install


@pytest.fixture
def apt(fake: Fake, tmp_path: Path) -> Path:
    """An apt-get that writes down its words, and has `broken` packages and sources."""
    words = tmp_path / "words"
    fake("sudo", 'exec "$@"')
    fake("apt-get", f'echo "$*" >> {words}; echo working; case "$*" in *update) exit 100;; *broken*) exit 100;; esac')
    return words


def test_packages_are_installed_though_a_source_fails(apt: Path) -> None:
    host_requirements.install(["xorriso", "mtools"])
    assert apt.read_text().splitlines() == ["-q -y update", "-q -y install --no-install-recommends xorriso mtools"]


def test_debian_without_packer_gets_debian_12_s_from_its_own_mirror(
    apt: Path, fake: Fake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(host_requirements, "system", lambda: {"ID": "debian", "VERSION_CODENAME": "trixie"})
    written = tmp_path / "written"
    fake("apt-cache", f"[ ! -e {written} ] || echo packer")
    fake("install", f'echo "$4" >> {written}; cat >> {written}')
    fake(
        "apt-get",
        f'echo "$*" >> {apt}\ncase "$*" in *indextargets*) '
        'echo "sid http://no.example/"; echo "trixie http://mirror.example/debian/";; esac',
    )
    notes: list[str] = []
    host_requirements.install(["mtools", "packer"], notes.append)
    text = written.read_text()
    assert "/etc/apt/sources.list.d/bake-packer.sources\n" in text
    assert "/etc/apt/preferences.d/bake-packer.pref\n" in text
    assert "\nURIs: http://mirror.example/debian/\nSuites: bookworm\n" in text
    assert "Package: *\nPin: release o=Debian,n=bookworm\nPin-Priority: -1\n" in text
    assert "for that package alone" in notes[0] and len(notes) == 3
    calls = [call for call in apt.read_text().splitlines() if "indextargets" not in call]
    # What Ubuntu needs to know Debian's keys and mirror comes first.
    assert [call.split()[2] for call in calls] == ["update", "install", "update", "install"]
    assert calls[1].endswith(" mtools") and calls[3].endswith(" mtools packer")
    # Again: apt knows a package, so nothing is written.
    written.write_text("")
    host_requirements.install(["packer"], notes.append)
    assert written.read_text() == "" and len(notes) == 3


def test_ubuntu_gets_debian_12_s_packer_from_the_mirror_of_mmdebstrap(
    apt: Path, fake: Fake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fields = {"ID": "ubuntu", "ID_LIKE": "debian", "PRETTY_NAME": "Ubuntu 24.04.3 LTS"}
    monkeypatch.setattr(host_requirements, "system", lambda: fields)
    fake("apt-cache", "true")
    fake("install", f"cat >> {tmp_path}/written")
    fake("mmdebstrap", 'echo "I: a line" >&2; echo "deb http://mirror.example/debian bookworm main" >&2')
    notes: list[str] = []
    host_requirements.install(["packer"], notes.append)
    assert notes[0].startswith("Ubuntu 24.04.3 LTS has no packer package. bake adds Debian 12")
    assert "\nURIs: http://mirror.example/debian\nSuites: bookworm\n" in (tmp_path / "written").read_text()


def test_debian_without_packer_and_without_a_mirror_is_told_so(
    apt: Path, fake: Fake, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(host_requirements, "system", lambda: {"ID": "debian", "VERSION_CODENAME": "trixie"})
    fake("apt-cache", "true")
    with pytest.raises(ToolError, match="apt has no source of Debian's trixie"):
        host_requirements.install(["packer"])
    assert "install" not in apt.read_text().split()


def test_packages_that_do_not_install_are_named(apt: Path) -> None:
    with pytest.raises(ToolError, match="could not install broken") as caught:
        host_requirements.install(["broken"])
    assert "working" in caught.value.details


def test_a_system_without_apt_is_told_what_to_look_for(bare: Path) -> None:
    with pytest.raises(ToolError, match="xorriso") as caught:
        host_requirements.install(["xorriso"])
    assert "no apt-get" in caught.value.hint


@pytest.mark.skipif(AS_ROOT, reason="root needs no namespaces of users")
def test_namespaces_that_are_refused_are_said_so(fake: Fake) -> None:
    fake("unshare", "echo refused >&2; exit 1")
    assert "refused" in host_requirements.rootless_fault()


@pytest.mark.skipif(not AS_ROOT, reason="only root needs none")
def test_root_needs_no_namespaces_of_users(fake: Fake) -> None:
    fake("unshare", "echo refused >&2; exit 1")
    assert host_requirements.rootless_fault() == ""
