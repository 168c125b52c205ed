"""Which programs a bake needs, which are here, and what to do about the rest."""

from __future__ import annotations

import os
import platform
from dataclasses import dataclass
from pathlib import Path

from bake import packer, run
from bake.errors import ProgramError, ToolError

#: Program to the Debian package that brings it.
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
    "unshare": "util-linux",
    "setpriv": "util-linux",
    "tar": "tar",
}
#: What mmdebstrap needs where it does not run as root.
ROOTLESS = {"newuidmap": "uidmap"}
#: Files that programs read, and the packages that bring them.
FILES = {
    "/usr/share/keyrings/debian-archive-keyring.gpg": "debian-archive-keyring",
    "/usr/share/seabios/bios-256k.bin": "seabios",
}

#: Debian 13 and Ubuntu carry no packer package; Debian 12's is one static binary and runs there.
PACKER_ON_DEBIAN = """\
Debian {version} has no packer package; Debian 12's is one static program and installs there. As root:
  sed 's/{codename}/bookworm/g' /etc/apt/sources.list.d/debian.sources > /etc/apt/sources.list.d/bookworm.sources
  printf 'Package: *\\nPin: release n=bookworm*\\nPin-Priority: -1\\n\\n' > /etc/apt/preferences.d/bookworm
  printf 'Package: packer\\nPin: release n=bookworm\\nPin-Priority: 500\\n' >> /etc/apt/preferences.d/bookworm
  apt-get update && apt-get install packer
(Not proved here on Debian {version}: the bake itself is proved on Debian 12.)"""
PACKER_ELSEWHERE = """\
{system} has no packer package. Install Packer as HashiCorp's documentation says, then, from this folder:
  packer init packer/plugins
(Packer >= 1.7 is not proved here: 1.6.6, Debian 12's, is.)"""

#: What works on a computer that cannot bake: macOS, WSL, a small virtual machine.
WITHOUT_THEM = "`bake init`, `render`, `check` and `push` need only Python and ssh."


@dataclass(frozen=True)
class Need:
    """A program or file that a bake needs, and the Debian package that brings it."""

    name: str
    package: str
    found: str


def needs() -> list[Need]:
    """Everything a bake needs on this machine; `found` is empty where it is missing."""
    tools = dict(TOOLS)
    if os.geteuid() != 0:
        tools |= ROOTLESS
    rows = [Need(name, package, str(run.which(name) or "")) for name, package in tools.items()]
    return rows + [Need(name, package, name if Path(name).exists() else "") for name, package in FILES.items()]


def system() -> dict[str, str]:
    """/etc/os-release."""
    try:
        return platform.freedesktop_os_release()
    except OSError:
        return {}


def packer_advice() -> str:
    """What to do where the system has no packer package; empty on Debian 12."""
    facts = system()
    if facts.get("ID") == "debian":
        if facts.get("VERSION_ID") == "12":
            return ""
        return PACKER_ON_DEBIAN.format(
            version=facts.get("VERSION_ID", "testing"), codename=facts.get("VERSION_CODENAME", "trixie")
        )
    return PACKER_ELSEWHERE.format(system=facts.get("PRETTY_NAME", "This system"))


def rootless_fault() -> str:
    """Why user namespaces do not work here for whoever we are; empty where they do, or are not needed."""
    if os.geteuid() == 0:
        return ""
    try:
        run.run(["unshare", "--user", "--map-auto", "--map-root-user", "--", "true"])
    except (ProgramError, ToolError) as error:
        return f"user namespaces do not work for this user: {error.details or error.message}"
    return ""


def missing_packages() -> list[str]:
    """The Debian packages to install, in order, each once."""
    return sorted({need.package for need in needs() if not need.found})


def install_argv(packages: list[str]) -> list[list[str]]:
    """The commands that install packages, through sudo where we are not root."""
    rights = [] if os.geteuid() == 0 else ["sudo"]
    quiet = [*rights, "env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "-q", "-y"]
    return [[*quiet, "update"], [*quiet, "install", "--no-install-recommends", *packages]]


def install(packages: list[str]) -> None:
    """apt-get what is missing. Raises ToolError with what to do where that cannot work."""
    if run.which("apt-get") is None:
        raise ToolError(
            f"Missing: {', '.join(packages)}",
            "This system has no apt-get: install these Debian packages' programs by its own means.",
        )
    advice = packer_advice()
    if "packer" in packages and advice:
        raise ToolError("Packer is missing", advice)
    if os.geteuid() != 0 and run.which("sudo") is None:
        raise ToolError(f"Missing: {', '.join(packages)}", f"As root: apt-get install {' '.join(packages)}")
    update, add = install_argv(packages)
    # Lists may be stale or absent; a third party's source that fails must not stop us.
    run.run(update, check=False)
    try:
        run.run(add)
    except ProgramError as error:
        raise ToolError(
            f"apt-get could not install {', '.join(packages)}", "Its words are above.", error.details
        ) from error


def verify() -> None:
    """Raise ToolError, naming everything at once, unless a bake can run here."""
    missing = missing_packages()
    if missing:
        advice = packer_advice() if "packer" in missing else ""
        hint = f"{advice or 'Run `bake doctor --install`.'}\n{WITHOUT_THEM}"
        raise ToolError(f"Missing Debian packages: {', '.join(missing)}", hint)
    packer.version()
    fault = rootless_fault()
    if fault:
        raise ToolError(
            fault, "Give the user ranges in /etc/subuid and /etc/subgid (`usermod --add-subuids`), or run as root."
        )
