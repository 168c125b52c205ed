"""Disks as a VPS provider has them: what Debian's cloud image carries, made here from the archive.

An imitation. Debian's own images are not to be had from a package archive, so the packages are those of the
published list, and how the disk boots is ours.
"""

import os
from pathlib import Path

import pytest

from bake.disk import partitions
from bake.host import cache, files, paths
from bake.host.programs import run

#: What the configuration names that Debian's generic cloud images are built from (debian-cloud-images, its classes
#: AMD64, CLOUD, GENERIC, SYSTEM_BOOT, TIME_SYSTEMD and EXTRAS), for both releases, besides `important`.
PACKAGES = (
    "apparmor", "apt-listchanges", "apt-utils", "bash-completion", "bind9-host", "ca-certificates", "cloud-guest-utils",
    "cloud-init", "cloud-initramfs-growroot", "curl", "dosfstools", "e2fsprogs", "ethtool", "grub-cloud-amd64", "init",
    "iptables", "iputils-ping", "less", "libnss-myhostname", "libpam-systemd", "linux-image-cloud-amd64", "man-db",
    "manpages", "nano", "netbase", "netplan.io", "openssh-server", "pciutils", "polkitd", "psmisc", "reportbug",
    "screen", "socat", "ssh-import-id", "sudo", "systemd-resolved", "systemd-timesyncd", "tcpdump", "traceroute",
    "unattended-upgrades", "uuid-runtime", "vim", "vim-tiny", "whiptail", "xz-utils", "zstd",
)  # fmt: skip
#: It boots by BIOS, knows the authorities that this computer knows, and has never been booted.
FINISH = r"""
mkdir -p /boot/grub/i386-pc
cp /usr/lib/grub/i386-pc/*.mod /usr/lib/grub/i386-pc/*.lst /usr/lib/grub/i386-pc/boot.img /boot/grub/i386-pc/
grub-mkimage -O i386-pc -p '(,gpt1)/boot/grub' -o /boot/grub/i386-pc/core.img \
    biosdisk part_gpt ext2 normal configfile linux search search_label serial terminal
printf '#!/bin/sh\nexit 0\n' > /etc/grub.d/enable_cloud
chmod 755 /etc/grub.d/enable_cloud
cp /authorities.crt /etc/ssl/certs/ca-certificates.crt
apt-get purge -q -y ifupdown > /dev/null
command -v cloud-init
systemctl enable systemd-networkd.service systemd-resolved.service
ln -sf ../run/systemd/resolve/stub-resolv.conf /etc/resolv.conf
echo 'locale: C.UTF-8' > /etc/cloud/cloud.cfg.d/01_imitation.cfg
: > /etc/machine-id
rm -f /etc/ssh/ssh_host_* /etc/hostname /authorities.crt
"""
#: Bytes. A small VPS's disk, before it is grown.
SIZE = 2 * 1024**3
SUITES = {"debian-12": "bookworm", "debian-13": "trixie"}


def make(release: str, work: Path) -> Path:
    """A disk of a release, its root elsewhere than on ours; qcow2, from the cache while it is a week old."""
    authorities = Path("/etc/ssl/certs/ca-certificates.crt")
    key = files.digest(
        [release, PACKAGES, FINISH, SIZE, files.file_digest(authorities), files.file_digest(Path(partitions.__file__))]
    )
    kept = paths.cache() / "imitation" / f"{key}.qcow2"
    if kept.exists() and cache.age_days(kept.stat().st_mtime) < 7:
        return kept
    tree, archive, script = work / "tree.tar", work / "stock.tar", work / "finish.sh"
    # How it boots is ours; nothing else is.
    run(["tar", "-C", paths.base_disk_rootfs(), "--owner=0", "--group=0", "-cf", tree, "boot", "etc/fstab"])
    script.write_text(FINISH)
    run(
        ["mmdebstrap", "--variant=important", "--format=tar", "--include=" + ",".join(PACKAGES),
         "--aptopt=Apt::Install-Recommends false",
         f"--essential-hook=tar-in {tree} /",
         f"--customize-hook=upload {script} /finish.sh",
         f"--customize-hook=upload {authorities} /authorities.crt",
         '--customize-hook=chroot "$1" sh -eu /finish.sh', '--customize-hook=rm "$1/finish.sh"',
         SUITES[release], archive],
        namespaces=os.geteuid() == 0,
    )  # fmt: skip
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(partitions, "ROOT_START", 130 * partitions.MIB)
        partitions.assemble(archive, work / "stock.raw", SIZE)
        run(["tune2fs", "-j", partitions.root_of(work / "stock.raw")])
    archive.unlink()
    with files.atomic_output(kept) as partial:
        partitions.to_qcow2(work / "stock.raw", partial, compress=True)
    (work / "stock.raw").unlink()
    return kept
