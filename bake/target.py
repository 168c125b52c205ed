"""A Debian release as data: what a machine of it runs, and which wheels fit it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Target:
    """A release on one architecture.

    `python` and `glibc` are (major, minor): they decide which wheels fit. `patch` is the third part of
    Python's version.
    Source of the versions: the release's own package lists.
    """

    name: str
    suite: str
    python: tuple[int, int]
    glibc: tuple[int, int]
    arch: str = "amd64"
    patch: int = 0

    @property
    def python_version(self) -> str:
        """As uv and pip take it: `3.13`."""
        return "{}.{}".format(*self.python)

    @property
    def python_full_version(self) -> str:
        """The version of the release's own Python: `3.13.5`."""
        return f"{self.python_version}.{self.patch}"

    @property
    def uv_platform(self) -> str:
        """uv's name for the newest manylinux this glibc runs; uv itself knows none above 2.40."""
        return "x86_64-manylinux_{}_{}".format(*min(self.glibc, (2, 40)))


DEBIAN_12 = Target("debian-12", "bookworm", python=(3, 11), glibc=(2, 36), patch=2)
DEBIAN_13 = Target("debian-13", "trixie", python=(3, 13), glibc=(2, 41), patch=5)
TARGETS = {target.name: target for target in (DEBIAN_12, DEBIAN_13)}

#: What the document asks for on any machine; the base disk carries it already.
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

#: What a disk needs besides to boot, be reached and be looked after.
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
