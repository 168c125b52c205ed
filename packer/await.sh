#!/bin/sh
# Runs as root on the machine that is being baked: waits until the document has been
# applied, and stops the bake with the reason where it could not be.
set -u

echo "bake: waiting for cloud-init"
cloud-init status --wait > /dev/null 2>&1
# Debian 12's stops waiting at the first error, however small; this file is there at the end.
seconds=0
while [ ! -e /run/cloud-init/result.json ] && [ $seconds -lt 1800 ]; do
    sleep 1
    seconds=$((seconds + 1))
done

result=$(systemctl show --value --property Result app-setup.service)
active=$(systemctl is-active app.service)
if [ "$(systemctl show --value --property ExecMainStartTimestampMonotonic app-setup.service)" = 0 ]; then
    echo "bake: the end of cloud-init's output:"
    tail -n 30 /var/log/cloud-init-output.log
    echo "app-setup failed: cloud-init never started it"
    exit 1
fi
if [ "$result" != success ] || [ "$active" != active ]; then
    journalctl --sync
    journalctl --no-pager -b -o cat -u app-setup.service | grep 'app-setup failed' | tail -n 1
    echo "bake: app-setup $result, app $active; their last lines:"
    # All of them go into the log that bake keeps. The screen shows the last few.
    journalctl --no-pager -b -o cat -n 2000 -u app-setup.service -u 'app-job@*' -u app.service -u app-next.service
    exit 1
fi
if [ -s /var/lib/app-observed.json ]; then echo "bake: observed $(cat /var/lib/app-observed.json)"; fi
journalctl --no-pager -b -o cat -u app-setup.service | sed -n 's/.* is not tried here: .*/bake: note &/p' | sort -u
cloud-init status --long | grep -E '^(status|errors|recoverable)' || true

# What must not come along: the proof looks for this text in the finished disk.
if [ -n "${CANARY:-}" ]; then
    for file in /root/.bash_history /tmp/canary /var/tmp/canary /var/log/canary.log \
        /var/lib/app/canary /home/debian/.bash_history /home/debian/.ssh/canary /etc/ssh/ssh_host_canary; do
        echo "$CANARY" > "$file"
    done
    logger "$CANARY"
    echo "$CANARY" > /srv/canary-deleted
    sync
    rm /srv/canary-deleted
fi
echo "bake: set up"
