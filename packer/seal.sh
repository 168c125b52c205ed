#!/bin/sh
# Runs as root, as a service of its own, and is the last thing a baked machine does:
# takes out what belongs to this one machine and this one bake, then powers off.
# What is deleted here is not yet gone from the disk's free blocks: see the end.
set -eu

# The proof of its success is that the machine stops: any failure leaves it running,
# and Packer's shutdown_timeout turns that into a failed build.
systemctl stop 'app-*.timer' 'app-job@*.service' app.service app.socket nginx.service cron.service 2> /dev/null || true
systemctl stop unattended-upgrades.service apt-daily.timer apt-daily-upgrade.timer certbot.timer \
    systemd-timesyncd.service 2> /dev/null || true

# The bake's user (`admin` is that of Debian's AMIs): cloud-init makes it anew on the next machine, with that machine's
# keys.
for user in debian admin; do
    loginctl terminate-user $user 2> /dev/null || true
    pkill -KILL -u $user 2> /dev/null || true
    userdel --force --remove $user 2> /dev/null || true
done
rm -f /etc/sudoers.d/90-cloud-init-users
passwd --quiet --lock root

# Identity.
: > /etc/machine-id
rm -f /var/lib/dbus/machine-id /etc/hostname /etc/machine-info /etc/mailname
rm -f /etc/ssh/ssh_host_* /var/lib/systemd/random-seed /var/lib/systemd/credential.secret
rm -rf /root/.ssh /root/.cache /root/.config
sed -i '/cloud-init\|manage_etc_hosts/d; /127\.0\.1\.1/d' /etc/hosts

# cloud-init's state, and what it wrote for this network.
rm -rf /var/lib/cloud /run/cloud-init
rm -f /etc/netplan/* /etc/systemd/network/10-cloud-init* /etc/network/interfaces.d/* /etc/ssh/sshd_config.d/50-cloud-init.conf \
    /etc/ssh/sshd_config.d/50-app-keys-only.conf
rm -rf /var/lib/dhcp /var/lib/dhcpcd /var/lib/systemd/network /var/lib/NetworkManager

# Logs, histories, spools, caches, backups, stamps.
rm -rf /var/log/journal
find /var/log -type f -delete
: > /var/log/wtmp
chgrp utmp /var/log/wtmp
chmod 664 /var/log/wtmp
rm -rf /var/lib/systemd/timers/* /var/lib/systemd/timesync/* /var/lib/systemd/coredump /var/lib/logrotate /var/crash
rm -rf /var/lib/apt/lists/* /var/lib/apt/periodic/* /var/cache/apt/*.bin /var/cache/apt/archives/*.deb
rm -f /var/cache/debconf/*-old /var/lib/dpkg/*-old /var/cache/debconf/passwords.dat
rm -f /etc/passwd- /etc/shadow- /etc/group- /etc/gshadow- /etc/subuid- /etc/subgid- /etc/.pwd.lock
find /root /home -name '.*_history' -delete
rm -f /root/.viminfo /root/.lesshst /root/.wget-hsts /root/.gitconfig /root/.netrc
find /tmp /var/tmp /var/spool/cron /var/mail /var/lib/app /var/lib/app-incoming /var/cache/app/fresh -mindepth 1 -delete 2> /dev/null || true

# Keys and accounts of certificate authorities are made on the machine.
rm -rf /etc/letsencrypt/accounts /etc/letsencrypt/live /etc/letsencrypt/archive /etc/letsencrypt/keys /etc/letsencrypt/csr \
    /etc/letsencrypt/renewal /etc/ssl/private/ssl-cert-snakeoil.key

# Deleted is not wiped: give the free blocks back, so that they read as zeros. A volume that takes none (EBS) is filled
# with zeros instead.
sync
fstrim / 2> /dev/null || { cat /dev/zero > /zeros 2> /dev/null || true; sync; rm /zeros; }
sync
# Without stopping units one by one: that would write logs and seeds again.
systemctl poweroff --force
