#!/bin/sh
# Wait until cloud-init has applied the document. If it failed, print the reason and end the bake. Runs as root on the
# machine.
set -u

echo "bake: waiting for cloud-init"
systemctl is-system-running --wait > /dev/null
cloud-init status --wait > /dev/null 2>&1
# In Debian 12, cloud-init stops waiting at the first error. It writes this file at the end.
seconds=0
while [ ! -e /run/cloud-init/result.json ] && [ $seconds -lt 1800 ]; do
    sleep 1
    seconds=$((seconds + 1))
done

result=$(systemctl show --value --property Result app-setup.service)
active=$(systemctl is-active app.service)
# Print the machine's error for bake: JSON in base64, because Packer changes commas and line breaks.
report() {
    echo "bake: result $(printf %s "$1" | base64 -w 0)"
}
if [ "$(systemctl show --value --property ExecMainStartTimestampMonotonic app-setup.service)" = 0 ]; then
    echo "bake: the end of cloud-init's output:"
    tail -n 30 /var/log/cloud-init-output.log
    unstarted='{"kind": "StepError", "message": "cloud-init did not start app-setup"}'
    report "$(cat /run/app/result.json 2> /dev/null || echo "$unstarted")"
    exit 1
fi
if [ "$result" != success ] || [ "$active" != active ]; then
    journalctl --sync
    journalctl --namespace=app --sync || true
    if [ "$result" = success ]; then
        report '{"kind": "NotStarted", "message": "app has ended after its start"}'
    else
        report "$(cat /run/app/result.json)"
    fi
    echo "bake: app-setup $result, app $active; their last lines:"
    # bake writes all lines to its log, and shows the last ones on the screen.
    journalctl --namespace='*' --no-pager -b -o cat -n 2000 -u app-setup.service -u 'app-job@*' -u 'app-process@*' -u app.service \
        -u app-next.service
    exit 1
fi
if [ -s /var/lib/app-observed.json ]; then echo "bake: observed $(cat /var/lib/app-observed.json)"; fi
if [ -e /run/app-check/notes ]; then sort -u /run/app-check/notes | sed 's/^/bake: note /'; fi
cloud-init status --long | grep -E '^(status|errors|recoverable)' || true

# Residue for a test: the proof checks that the finished disk does not contain this text.
if [ -n "${CANARY:-}" ]; then
    for file in /root/.bash_history /tmp/canary /var/tmp/canary /var/log/canary.log \
        /var/lib/app/canary /home/debian/.bash_history /home/debian/.ssh/canary /etc/ssh/ssh_host_canary; do
        echo "$CANARY" > "$file"
    done
    logger "$CANARY"
    # The app's journal.
    systemd-run -q --wait --collect -p LogNamespace=app logger "$CANARY" || true
    echo "$CANARY" > /srv/canary-deleted
    sync
    rm /srv/canary-deleted
fi
echo "bake: set up"
