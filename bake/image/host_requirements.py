"""Check which programs a bake needs, which of them are installed, and how to install the others."""

from __future__ import annotations

import os
import platform
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from bake.errors import ProgramError, ToolError
from bake.host import mmdebstrap, paths, programs
from bake.image import packer

#: Program to the Debian package that contains it.
TOOLS = {
    "packer": "packer",
    "qemu-system-x86_64": "qemu-system-x86",
    "qemu-img": "qemu-utils",
    "mmdebstrap": "mmdebstrap",
    "xorriso": "xorriso",
    "mformat": "mtools",
    "sfdisk": "fdisk",
    "mke2fs": "e2fsprogs",
    "e2image": "e2fsprogs",
    "debugfs": "e2fsprogs",
    "ssh": "openssh-client",
    "ssh-keygen": "openssh-client",
    "mount": "mount",
    "unshare": "util-linux",
    "setpriv": "util-linux",
    "tar": "tar",
}
#: Programs that mmdebstrap needs if it does not run as root.
ROOTLESS_TOOLS = {"newuidmap": "uidmap"}
#: Files that the programs read, and the packages that contain them.
FILES = {
    "/usr/share/keyrings/debian-archive-keyring.gpg": "debian-archive-keyring",
    "/usr/share/seabios/bios-256k.bin": "seabios",
}

#: The codename of Debian 12, whose packer package is one static program.
PACKER_RELEASE = "bookworm"
#: Files for apt that allow packer alone from there, and their folders.
PACKER_FILES = {"bake-packer.sources": "sources.list.d", "bake-packer.pref": "preferences.d"}
PACKER_ELSEWHERE = """\
{system} has no packer package. Install Packer as HashiCorp's documentation explains. Then run in this folder:
  packer init packer/plugins
(bake's tests use Packer 1.6.6, as in Debian 12; they did not cover Packer >= 1.7.)"""

#: A hint for computers that cannot bake, such as macOS, WSL and small virtual machines.
PYTHON_ONLY_HINT = "`bake init`, `render`, `check` and `push` need only Python and ssh."


@dataclass(frozen=True)
class Need:
    """A program or file that a bake needs, the Debian package that contains it, and its path if it is installed."""

    name: str
    package: str
    path: str


def needs() -> list[Need]:
    """Return the programs and files that a bake needs on this computer. `path` is empty if one is missing."""
    tools = dict(TOOLS)
    if os.geteuid() != 0:
        tools |= ROOTLESS_TOOLS
    rows = [Need(name, package, str(programs.which(name) or "")) for name, package in tools.items()]
    return rows + [Need(name, package, name if Path(name).exists() else "") for name, package in FILES.items()]


def system() -> dict[str, str]:
    """Return the fields of /etc/os-release, or nothing if there is no such file."""
    try:
        return platform.freedesktop_os_release()
    except OSError:
        return {}


def packer_advice() -> str:
    """Return how to install Packer where apt has no packer package; empty on Debian and Ubuntu: `install` adds one."""
    fields = system()
    if "debian" in (fields.get("ID"), *fields.get("ID_LIKE", "").split()):
        return ""
    return PACKER_ELSEWHERE.format(system=fields.get("PRETTY_NAME", "This system"))


def rootless_fault() -> str:
    """Return why user namespaces do not work for the current user; empty if they work or are not needed."""
    if os.geteuid() == 0:
        return ""
    try:
        programs.run(["unshare", "--user", "--map-auto", "--map-root-user", "--", "true"])
    except (ProgramError, ToolError) as error:
        return f"user namespaces do not work for this user: {error.details or error.message}"
    return ""


def missing_packages() -> list[str]:
    """Return the missing Debian packages, sorted."""
    return sorted({need.package for need in needs() if not need.path})


def _sudo() -> list[str]:
    return [] if os.geteuid() == 0 else ["sudo"]


def install_argv(packages: list[str]) -> list[list[str]]:
    """Return the commands that install packages, with sudo unless the current user is root."""
    apt_get = [*_sudo(), "env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "-q", "-y"]
    return [[*apt_get, "update"], [*apt_get, "install", "--no-install-recommends", *packages]]


def install(packages: list[str], note: Callable[[str], None] = lambda text: None) -> None:
    """Install packages with apt-get. On Debian or Ubuntu without packer, add Debian 12's; call `note` with that fact.

    Raises ToolError with instructions if it is impossible.
    """
    if programs.which("apt-get") is None:
        raise ToolError(
            f"Missing Debian packages: {', '.join(packages)}",
            "This system has no apt-get. Install the programs of these packages with its own package manager.",
        )
    advice = packer_advice()
    if "packer" in packages and advice:
        raise ToolError("Packer is not installed", advice)
    if os.geteuid() != 0 and programs.which("sudo") is None:
        raise ToolError(
            f"Missing Debian packages: {', '.join(packages)}", f"Run as root: apt-get install {' '.join(packages)}"
        )
    update_argv, add_argv = install_argv(packages)
    # The package lists may be stale or absent. Ignore the status: a third party's source may fail.
    programs.run(update_argv, check=False)
    try:
        # madison prints nothing for a package that no source has.
        if "packer" in packages and not programs.run(["apt-cache", "madison", "packer"]).stdout.strip():
            # Ubuntu gets Debian's keys and mmdebstrap only now.
            if others := [package for package in packages if package != "packer"]:
                programs.run(install_argv(others)[1])
            _add_packer_source(note)
            programs.run(update_argv, check=False)
        programs.run(add_argv)
    except ProgramError as error:
        raise ToolError(
            f"apt-get could not install {', '.join(packages)}", "Its output is above.", error.details
        ) from error


def _add_packer_source(note: Callable[[str], None]) -> None:
    """Write PACKER_FILES, with the mirror that apt uses for this Debian version, or else with mmdebstrap's."""
    fields = system()
    is_debian = fields.get("ID") == "debian"
    name = f"Debian {fields.get('VERSION_ID', 'testing')}" if is_debian else fields.get("PRETTY_NAME", "This system")
    mirror = _mirror() if is_debian else mmdebstrap.default_mirror(PACKER_RELEASE)
    note(f"{name} has no packer package. bake adds Debian 12 as a source of apt for that package alone:")
    folder = paths.tree() / "packer" / "apt"
    for name, directory in PACKER_FILES.items():
        destination = f"/etc/apt/{directory}/{name}"
        note(f"  {destination}")
        text = (folder / name).read_text().replace("MIRROR", mirror)
        programs.run([*_sudo(), "install", "-m", "644", "/dev/stdin", destination], stdin=text)


def _mirror() -> str:
    """Return the URL from which apt gets this Debian version's main packages. Raises ToolError if there is none."""
    options = ["--format", "$(CODENAME) $(REPO_URI)", "Created-By: Packages", "Component: main", "Origin: Debian"]
    rows = programs.run(["apt-get", "indextargets", *options], check=False).stdout.splitlines()
    codename = system().get("VERSION_CODENAME", "sid")
    for row in rows:
        release, _, mirror = row.partition(" ")
        if release == codename:
            return mirror
    raise ToolError(
        f"apt has no source of Debian's {codename}, so bake cannot add Debian 12's packer from the same mirror",
        "Add the source to /etc/apt/sources.list.d, run `apt-get update`, and then the same command again.",
    )


def verify() -> None:
    """Raise ToolError with everything that is missing, unless a bake can run here."""
    packages = missing_packages()
    if packages:
        advice = packer_advice() if "packer" in packages else ""
        hint = f"{advice or 'Run `bake doctor --install`.'}\n{PYTHON_ONLY_HINT}"
        raise ToolError(f"Missing Debian packages: {', '.join(packages)}", hint)
    packer.version()
    fault = rootless_fault()
    if fault:
        raise ToolError(
            fault, "Add ranges for the user to /etc/subuid and /etc/subgid (`usermod --add-subuids`), or run as root."
        )
