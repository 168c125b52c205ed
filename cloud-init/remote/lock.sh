#!/bin/sh
# Wait until no other push or upgrade runs on the machine. Define functions that print journals, for the script that
# includes this one.
set -eu

# The lock allows one push or upgrade at a time. A run in progress ends first, even if its connection was lost.
# Only root can open the file, because everyone who can open it can hold the lock.
(umask 077 && : >> /run/app/lock)
exec 9> /run/app/lock
flock 9
states() { systemctl show --value --property ActiveState app-setup.service app-upgrade.service; }
is_idle() { ! states | grep -qvE '^(inactive|failed|)$'; }
await_idle() { while ! is_idle; do sleep 1; done; }
await_idle

# Have journald write what services have printed. Not each machine has a journal for the app.
sync_journals() {
    journalctl --sync || true
    journalctl --namespace=app --sync 2> /dev/null || true
}

# journalctl may not show the newest lines at once, so retry.
print_journal() {
    for try in 1 2 3; do
        lines=$(journalctl --namespace='*' -q -o cat "$@") || true
        if [ -n "$lines" ] || [ $try = 3 ]; then break; fi
        sleep 1
    done
    printf '%s\n' "$lines"
}

# Print the invocation of a running service, or nothing.
invocation() {
    if systemctl is-active --quiet "$1"; then systemctl show --value --property InvocationID "$1"; fi
}
start=$(date +%s)
app=$(invocation app.service)
next=$(invocation app-next.service)

# Print what the app has logged since this script began. A service that has run all the time has the old release. It may
# log each request of its visitors, and would hide the lines of the new one.
print_app_journal() {
    echo "--- the app's journal"
    set -- -u 'app-job@*' -u 'app-process@*'
    if [ -z "$app" ] || [ "$app" != "$(invocation app.service)" ]; then set -- -u app.service "$@"; fi
    if [ -z "$next" ] || [ "$next" != "$(invocation app-next.service)" ]; then set -- -u app-next.service "$@"; fi
    print_journal -n 2000 --since "@$start" "$@"
}
