"""Describe Debian releases as data: versions, which decide the compatible wheels, and packages."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Target:
    """A Debian release on one architecture.

    `python` and `glibc` are (major, minor) versions, which decide the compatible
    wheels; `patch` is the third part of Python's version. They come from the
    release's package lists. `python_date` is the day (YYYY-MM-DD) on which that
    minor version of Python was released, from PEP 664 (3.11) and PEP 719 (3.13).
    """

    name: str
    suite: str
    python: tuple[int, int]
    glibc: tuple[int, int]
    python_date: str
    arch: str = "amd64"
    patch: int = 0

    @property
    def python_version(self) -> str:
        """Return the Python version as uv and pip take it, such as `3.13`."""
        return "{}.{}".format(*self.python)

    @property
    def python_full_version(self) -> str:
        """Return the complete version of the release's Python, such as `3.13.5`."""
        return f"{self.python_version}.{self.patch}"

    def sentences(self, start: str, end: str = "") -> tuple[str, str, str]:
        """Return a sentence about this release: complete, without its name, and also without its Python."""
        python = f"{start} for Python {self.python_version}"
        return f"{python} on {self.name}{end}", python + end, start + end

    @property
    def uv_platform(self) -> str:
        """Return uv's name of the newest manylinux platform for this glibc. uv supports versions up to 2.40."""
        return "x86_64-manylinux_{}_{}".format(*min(self.glibc, (2, 40)))


DEBIAN_12 = Target("debian-12", "bookworm", python=(3, 11), glibc=(2, 36), python_date="2022-10-24", patch=2)
DEBIAN_13 = Target("debian-13", "trixie", python=(3, 13), glibc=(2, 41), python_date="2024-10-07", patch=5)
TARGETS = {target.name: target for target in (DEBIAN_12, DEBIAN_13)}

#: Packages that every machine needs. The document installs them; the base disk already has them.
MACHINE_PACKAGES = (
    "ca-certificates",
    "certbot",
    "curl",
    "nftables",
    "nginx",
    "openssh-server",
    "python3-installer",
    "python3-venv",
    "unattended-upgrades",
    "uwsgi-core",
    "uwsgi-plugin-python3",
)

#: Further packages of the base disk: to boot, to be reachable and to be administered.
BASE_PACKAGES = (
    "cloud-guest-utils",
    "cloud-init",
    "dbus",
    "fdisk",
    "grub-cloud-amd64",
    "iproute2",
    "iputils-ping",
    "kmod",
    "less",
    "lz4",
    "linux-image-cloud-amd64",
    "nano",
    "procps",
    "sudo",
    "systemd-resolved",
    "systemd-sysv",
    "systemd-timesyncd",
    "udev",
)
