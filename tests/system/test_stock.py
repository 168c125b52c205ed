"""A bake on a cloud image that is not ours: what it lacks is installed in it."""

import hashlib
import os
from pathlib import Path

import pytest

from bake import disk, places
from bake.run import run

pytestmark = pytest.mark.long

#: What a cloud image of Debian's carries besides `important`, as far as it matters here. An imitation: Debian's own
#: images are not to be had from a package archive.
PACKAGES = (
    "apparmor", "bash-completion", "ca-certificates", "cloud-guest-utils", "cloud-init", "dbus", "dosfstools",
    "ethtool", "fdisk", "grub-cloud-amd64", "less", "libpam-systemd", "linux-image-cloud-amd64", "locales", "lsof",
    "man-db", "netplan.io", "openssh-client", "openssh-server", "pciutils", "python3", "screen", "socat", "sudo",
    "systemd-resolved", "systemd-timesyncd", "unattended-upgrades", "vim", "wget",
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


@pytest.fixture(scope="module", params=["trixie", "bookworm"])
def stock(request, tmp_path_factory):
    """A disk as a provider has it, its root elsewhere than on ours; qcow2."""
    work = tmp_path_factory.mktemp("stock")
    tree, archive, script = work / "tree.tar", work / "stock.tar", work / "finish.sh"
    # How it boots is ours; nothing else is.
    run(["tar", "-C", places.base_rootfs(), "--owner=0", "--group=0", "-cf", tree, "boot", "etc/fstab"])
    script.write_text(FINISH)
    run(
        ["mmdebstrap", "--variant=important", "--format=tar", "--include=" + ",".join(PACKAGES),
         "--aptopt=Apt::Install-Recommends false",
         f"--essential-hook=tar-in {tree} /",
         f"--customize-hook=upload {script} /finish.sh",
         "--customize-hook=upload /etc/ssl/certs/ca-certificates.crt /authorities.crt",
         '--customize-hook=chroot "$1" sh -eu /finish.sh', '--customize-hook=rm "$1/finish.sh"',
         request.param, archive],
        namespaces=os.geteuid() == 0,
    )  # fmt: skip
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(disk, "ROOT_START", 130 * disk.MIB)
        disk.assemble(archive, work / "stock.raw", 2 * 1024**3)
        run(["tune2fs", "-j", disk.root_of(work / "stock.raw")])
    disk.to_qcow2(work / "stock.raw", work / "stock.qcow2", compress=True)
    (work / "stock.raw").unlink()
    archive.unlink()
    return work / "stock.qcow2"


def test_an_app_is_baked_on_it(stock, app, bake):
    folder, write = app
    digest = hashlib.sha512(stock.read_bytes()).hexdigest()
    write("bake.yaml", f"name: on-stock\nbase: {{image: {stock}, sha512: {digest}}}\n")
    called = bake("image", folder, timeout=2400)
    assert called.code == 0, called.stderr
    assert Path(called.stdout.strip()).is_file()


def test_another_digest_is_refused(stock, app, bake):
    folder, write = app
    write("bake.yaml", f"base: {{image: {stock}, sha512: {'0' * 128}}}\n")
    called = bake("image", folder)
    assert called.code == 40
    assert "base.sha512" in called.stderr and called.stdout == ""
