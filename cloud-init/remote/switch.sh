#!/bin/sh
# Make app-setup switch to the release that a source stanza ($1) names. Print app-setup's result as one line, which is
# empty if an older bake made the machine, and then its journal. If the switch fails, print the app's journal as well,
# and exit with the status of systemctl.
set -eu

. ./lock.sh

printf '%s\n' "$1" > /etc/app/source.json.partial
chmod 644 /etc/app/source.json.partial
mv /etc/app/source.json.partial /etc/app/source.json
rm -f /run/app/result.json
status=0
systemctl start app-setup.service 2> /dev/null || status=$?
printf '%s\n' "$(cat /run/app/result.json 2> /dev/null)"
sync_journals
run=$(systemctl show --value --property InvocationID app-setup.service)
print_journal "_SYSTEMD_INVOCATION_ID=$run"
if [ $status != 0 ]; then print_app_journal; fi
exit $status
