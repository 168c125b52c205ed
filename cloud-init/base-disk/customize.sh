#!/bin/sh
# Prepare a new Debian tree before it becomes a disk: install the boot loaders, and disable the parts of the boot that
# a server does not need. mmdebstrap runs this inside of the tree, as a customize hook.
set -eu

# The boot code for BIOS. The prefix is the root partition of the disk that GRUB starts from.
mkdir -p /boot/grub/i386-pc
cp /usr/lib/grub/i386-pc/*.mod /usr/lib/grub/i386-pc/*.lst /boot/grub/i386-pc/
grub-mkimage -O i386-pc -p '(,gpt1)/boot/grub' -o /boot/grub/i386-pc/core.img \
    biosdisk part_gpt ext2 normal configfile linux search search_label serial terminal
cp /usr/lib/grub/i386-pc/boot.img /boot/grub/i386-pc/boot.img

# The boot loader for UEFI: Debian's signed shim, at the path that firmware uses without a boot entry, and the signed
# GRUB that the shim starts. They become the EFI partition.
mkdir -p /boot/efi/EFI/BOOT
cp /usr/lib/shim/shimx64.efi.signed /boot/efi/EFI/BOOT/BOOTX64.EFI
cp /usr/lib/grub/x86_64-efi-signed/grubx64.efi.signed /boot/efi/EFI/BOOT/grubx64.efi

# If this file exists, grub-cloud-amd64 writes every upgrade of GRUB to the boot sectors and the EFI partition of the
# disk. It is created only now, because the tree is not on a disk yet.
printf '#!/bin/sh\nexit 0\n' > /etc/grub.d/enable_cloud
chmod 755 /etc/grub.d/enable_cloud

systemctl enable app-fresh.service

# Use one network stack. cloud-init writes networkd's files.
systemctl enable systemd-networkd.service systemd-resolved.service systemd-timesyncd.service nftables.service
ln -sf ../run/systemd/resolve/stub-resolv.conf /etc/resolv.conf

# Each of these units costs every boot a part of a second or more. This machine needs none of them: it does not
# suspend, and it has no LVM snapshots, foreign binaries or kernel debuggers. `systemctl unmask` restores a unit.
systemctl mask grub-common.service e2scrub_reap.service e2scrub_all.timer \
    proc-sys-fs-binfmt_misc.automount systemd-binfmt.service ldconfig.service systemd-pstore.service \
    sys-kernel-debug.mount sys-kernel-tracing.mount sys-kernel-config.mount sys-fs-fuse-connections.mount \
    dev-hugepages.mount modprobe@drm.service modprobe@fuse.service modprobe@configfs.service

# The timers of unattended-upgrades install the upgrades. This service only waits for the shutdown.
systemctl disable unattended-upgrades.service

# Generators run at every boot and every reload of systemd. These ones have no effect here, and the one for ssh loads
# the modules of VMware's and KVM's sockets.
mkdir -p /etc/systemd/system-generators
for generator in debug gpt-auto hibernate-resume rc-local ssh system-update tpm2; do
    ln -s /dev/null "/etc/systemd/system-generators/systemd-$generator-generator"
done

# Set the archive's default sources, whichever mirror the build used. cloud-init's configuration contains them.
primary=$(sed -n 's/^ *primary: *//p' /etc/cloud/cloud.cfg | head -n 1)
security=$(sed -n 's/^ *security: *//p' /etc/cloud/cloud.cfg | head -n 1)
suite=$(. /etc/os-release && echo "$VERSION_CODENAME")
rm -f /etc/apt/sources.list /etc/apt/sources.list.d/*.list /etc/apt/apt.conf.d/99mmdebstrap
cat > /etc/apt/sources.list.d/debian.sources <<EOF
Types: deb
URIs: $primary
Suites: $suite $suite-updates
Components: main
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg

Types: deb
URIs: $security
Suites: $suite-security
Components: main
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg
EOF

# With an empty machine-id, systemd recognises the first boot and creates an id.
: > /etc/machine-id
rm -f /var/lib/dbus/machine-id /etc/ssh/ssh_host_* /etc/hostname
