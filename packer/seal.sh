#!/bin/sh
# Remove all data of this machine and this bake, then power off. Runs as root in a separate unit, as the last step of a
# bake. Deleted data stays in the free blocks of the disk until the end of this script clears them.
set -eu

# A power-off means success. After any failure the machine keeps running, and the build fails at Packer's
# shutdown_timeout.
systemctl stop 'app-*.timer' 'app-job@*.service' 'app-process@*.service' app.service app.socket nginx.service cron.service 2> /dev/null || true
systemctl stop unattended-upgrades.service apt-daily.timer apt-daily-upgrade.timer certbot.timer \
    systemd-timesyncd.service 2> /dev/null || true

# The journals of nginx and of the app, which have stopped: each has a journald of its own, which would write again after
# this script has deleted them.
systemctl stop 'systemd-journald@*.socket' 'systemd-journald-varlink@*.socket' 'systemd-journald@*.service' \
    2> /dev/null || true

# Services of the app's packages write logs until they stop, as Redis does.
systemctl list-units --plain --no-legend --type service --state running | while read -r unit _; do
    case $unit in
        ssh* | systemd-* | dbus* | *getty@* | user@* | run-*) ;;
        *) systemctl stop "$unit" || true ;;
    esac
done

# Delete the bake's user (`admin` on Debian's AMIs). cloud-init creates it on the next machine, with the keys for that
# machine.
for user in debian admin; do
    loginctl terminate-user $user 2> /dev/null || true
    pkill -KILL -u $user 2> /dev/null || true
    userdel --force --remove $user 2> /dev/null || true
done
rm -f /etc/sudoers.d/90-cloud-init-users
passwd --quiet --lock root

# The machine's identity.
: > /etc/machine-id
rm -f /var/lib/dbus/machine-id /etc/hostname /etc/machine-info /etc/mailname
rm -f /etc/ssh/ssh_host_* /var/lib/systemd/random-seed /var/lib/systemd/credential.secret
rm -rf /root/.ssh /root/.cache /root/.config
sed -i '/cloud-init\|manage_etc_hosts/d; /127\.0\.1\.1/d' /etc/hosts

# The next machine's sshd. Packer's client would not agree with it.
. /etc/os-release
install -m 644 "/tmp/sshd-algorithms/$VERSION_ID.conf" /etc/ssh/sshd_config.d/60-algorithms.conf

# cloud-init's state, and the files that it wrote for this network.
rm -rf /var/lib/cloud /run/cloud-init
rm -f /etc/netplan/* /etc/systemd/network/10-cloud-init* /etc/network/interfaces.d/* /etc/ssh/sshd_config.d/50-cloud-init.conf \
    /etc/ssh/sshd_config.d/*0-app-keys-only.conf
rm -rf /var/lib/dhcp /var/lib/dhcpcd /var/lib/systemd/network /var/lib/NetworkManager

# Logs, histories, spools, caches, backups and time stamps.
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

# Each machine makes its own keys and accounts at certificate authorities.
rm -rf /etc/letsencrypt/accounts /etc/letsencrypt/live /etc/letsencrypt/archive /etc/letsencrypt/keys /etc/letsencrypt/csr \
    /etc/letsencrypt/renewal /etc/ssl/private/ssl-cert-snakeoil.key

# Deleting a file does not wipe its blocks. Discard the free blocks, so that they read as zeros. If the volume does not
# support discard (EBS), fill them with zeros.
sync
fstrim / 2> /dev/null || { cat /dev/zero > /zeros 2> /dev/null || true; sync; rm /zeros; }
sync
# Do not stop units one by one, because they would write logs and seeds again.
systemctl poweroff --force
