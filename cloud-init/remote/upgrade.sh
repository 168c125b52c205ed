#!/bin/sh
# Install the uploaded set of the machine's own files, and print the journal of its program. If that fails, print the
# app's journal as well, and exit with the program's status.
set -eu

# The lock allows one push or upgrade at a time. A run in progress ends first, even if its connection was lost.
exec 9> /run/app/push.lock
flock 9
states() { systemctl show --value --property ActiveState app-setup.service app-upgrade.service; }
while states | grep -qvE '^(inactive|failed|)$'; do sleep 1; done

cd /var/lib/app-machine
rm -rf new
mkdir new
tar --no-same-owner -C new -xf new.tar
start=$(date +%s)
status=0
# In a unit of its own, so that a lost connection does not end it. When the program ends, for whatever reason, systemd
# runs `heal`, which puts the earlier files back unless the upgrade was complete.
systemd-run -q --wait --collect --unit app-upgrade -p TimeoutStopSec=1h \
    -p "ExecStopPost=/usr/bin/python3 -B /var/lib/app-machine/new/renew.py heal /" \
    /usr/bin/python3 -B /var/lib/app-machine/new/renew.py install / /var/lib/app-machine/new || status=$?
rm -rf new new.tar
journalctl --sync || true
# journalctl may not show the newest lines at once, so retry.
for try in 1 2 3; do
    lines=$(journalctl -q -o cat --since "@$start" _SYSTEMD_UNIT=app-upgrade.service) || true
    if [ -n "$lines" ] || [ $try = 3 ]; then break; fi
    sleep 1
done
printf '%s\n' "$lines"
echo "--- the app's journal"
if [ $status != 0 ]; then
    journalctl -q -o cat -n 2000 --since "@$start" -u app-next.service -u app.service -u 'app-job@*' || true
fi
exit $status
