"""Describe Debian releases as data: versions, which decide the compatible wheels, and packages."""

from __future__ import annotations

from dataclasses import dataclass, replace

#: The day on which each version of Python was released, from PEP 664, 693, 719, 745 and 790. The machine's programs
#: need 3.11.
PYTHON_DATES = {
    (3, 11): "2022-10-24", (3, 12): "2023-10-02", (3, 13): "2024-10-07", (3, 14): "2025-10-07", (3, 15): "2026-10-01",
}  # fmt: skip


@dataclass(frozen=True)
class Target:
    """A Debian release on one architecture, with its own Python or with one that the app's release contains.

    `python` and `glibc` are (major, minor) versions, which decide the compatible
    wheels; `patch` is the third part of Python's version. They come from the
    release's package lists. `node` is the major version of Node. `has_interpreter`: the
    app's release contains the Python. `packages`: those of BASE_PACKAGES that only this release has.
    """

    name: str
    suite: str
    python: tuple[int, int]
    glibc: tuple[int, int]
    arch: str = "amd64"
    patch: int = 0
    has_interpreter: bool = False
    node: int = 0
    packages: tuple[str, ...] = ()

    @property
    def python_version(self) -> str:
        """Return the Python version as uv and pip take it, such as `3.13`."""
        return "{}.{}".format(*self.python)

    @property
    def python_full_version(self) -> str:
        """Return the complete version of the release's Python, such as `3.13.5`."""
        return f"{self.python_version}.{self.patch}"

    @property
    def python_date(self) -> str:
        """Return the day (YYYY-MM-DD) on which the Python's minor version was released."""
        return PYTHON_DATES[self.python]

    def has_python(self, version: str) -> bool:
        """Return whether the Python has a version, such as 3.12 or 3.12.8."""
        return version in (self.python_version, self.python_full_version)

    def with_python(self, version: str | None) -> Target:
        """Return the target whose Python has a version. If that is not Debian's own, the app's release contains it."""
        if version is None or self.has_python(version):
            return self
        major, minor, patch = map(int, f"{version}.0".split(".")[:3])
        return replace(self, python=(major, minor), patch=patch, has_interpreter=True)

    def sentences(self, start: str, end: str = "") -> tuple[str, str, str]:
        """Return a sentence about this release: complete, without its name, and also without its Python."""
        python = f"{start} for Python {self.python_version}"
        return f"{python} on {self.name}{end}", python + end, start + end

    @property
    def uv_platform(self) -> str:
        """Return uv's name of the newest manylinux platform for this glibc. uv supports versions up to 2.40."""
        return "x86_64-manylinux_{}_{}".format(*min(self.glibc, (2, 40)))


DEBIAN_12 = Target("debian-12", "bookworm", python=(3, 11), glibc=(2, 36), patch=2, node=18)
# Debian 12's systemd contains the defaults of the kernel's settings. Debian 13's only recommends their package.
DEBIAN_13 = Target(
    "debian-13", "trixie", python=(3, 13), glibc=(2, 41), patch=5, node=20, packages=("linux-sysctl-defaults",)
)
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


def base_packages(target: Target, extra: tuple[str, ...]) -> tuple[str, ...]:
    """Return the packages of a base disk, sorted. `extra` are those of the app."""
    return tuple(sorted({*BASE_PACKAGES, *MACHINE_PACKAGES, *target.packages, *extra}))
