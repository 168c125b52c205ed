#!/bin/sh
# Make app-setup switch to the release that a source stanza ($1) names by its digest ($2). For a roll back, $3 and $4 are
# the current and the previous release that bake has seen. Another push may have changed the machine since: then change
# nothing, print the reason to stderr, and exit with 75.
# Otherwise print three parts: app-setup's result as one line, which is empty if an older bake made the machine; the
# current and the previous release in a line; and app-setup's journal. If the switch fails, print the app's journal as
# well, and exit with the status of systemctl.
set -eu

. ./lock.sh
. ./releases.sh

refuse() {
    echo "$1; the current release is $(current)" >&2
    exit 75
}
layout() { tr -d ' \n' | grep -o '"layout":"[^"]*"'; }
if [ "$(printf '%s' "$1" | layout)" != "$(layout < /etc/app/source.json)" ]; then
    refuse "an upgrade has changed the layout of releases"
fi
if [ "${3-}" ] && [ "$3 $4" != "$(current) $(previous)" ]; then
    refuse "release $3 is no longer the current one, or $4 not the one before it"
fi
if [ ! -e /srv/app/releases/"$2" ] && [ ! -e /var/lib/app-incoming/"$2".tar ]; then
    refuse "release $2 was removed"
fi

# A run of app-setup that reads the earlier stanza, because something else started it just now, has to end first.
while :; do
    printf '%s\n' "$1" > /etc/app/source.json.partial
    chmod 644 /etc/app/source.json.partial
    mv /etc/app/source.json.partial /etc/app/source.json
    if is_idle; then break; fi
    await_idle
done
rm -f /run/app/result.json
status=0
systemctl start app-setup.service 2> /dev/null || status=$?
printf '%s\n' "$(cat /run/app/result.json 2> /dev/null)"
echo "$(current) $(previous)"
sync_journals
run=$(systemctl show --value --property InvocationID app-setup.service)
print_journal "_SYSTEMD_INVOCATION_ID=$run"
if [ $status != 0 ]; then print_app_journal; fi
exit $status
