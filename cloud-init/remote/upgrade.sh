#!/bin/sh
# Install the uploaded set of the machine's own files, an archive ($1), and print the journal of its program. If that
# fails, print the app's journal as well, and exit with the program's status.
set -eu

. ./lock.sh

cd /var/lib/app-machine
rm -rf new
# Uploads of interrupted upgrades.
find . -maxdepth 1 -name '*.tar*' -mmin +1440 -delete
mkdir new
tar --no-same-owner -C new -xf "$1"
status=0
# In a unit of its own, so that a lost connection does not end it. When the program ends, for whatever reason, systemd
# runs `heal`, which puts the earlier files back unless the upgrade was complete.
systemd-run -q --wait --collect --unit app-upgrade -p TimeoutStopSec=1h \
    -p "ExecStopPost=/usr/bin/python3 -B /var/lib/app-machine/new/renew.py heal /" \
    /usr/bin/python3 -B /var/lib/app-machine/new/renew.py install / /var/lib/app-machine/new || status=$?
rm -rf new "$1"
sync_journals
# shellcheck disable=SC2154  # lock.sh sets it.
print_journal --since "@$start" _SYSTEMD_UNIT=app-upgrade.service
if [ $status != 0 ]; then print_app_journal; fi
exit $status
