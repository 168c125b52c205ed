#!/bin/sh
# Wait until no other push or upgrade runs on the machine. Define print_journal for the script that includes this one.
set -eu

# The lock allows one push or upgrade at a time. A run in progress ends first, even if its connection was lost.
exec 9> /run/app/push.lock
flock 9
states() { systemctl show --value --property ActiveState app-setup.service app-upgrade.service; }
while states | grep -qvE '^(inactive|failed|)$'; do sleep 1; done

# journalctl may not show the newest lines at once, so retry.
print_journal() {
    for try in 1 2 3; do
        lines=$(journalctl -q -o cat "$@") || true
        if [ -n "$lines" ] || [ $try = 3 ]; then break; fi
        sleep 1
    done
    printf '%s\n' "$lines"
}
