#!/bin/sh
# Print the state of a machine, one line each: the source stanza, the current release, the release to go back to, all
# releases on the machine, and whether its own files can run the processes of a release and an interpreter in it.
set -eu

. ./releases.sh

tr -d '\n' < /etc/app/source.json
echo
current
previous
find /srv/app/releases -mindepth 1 -maxdepth 1 ! -name '.*' -printf '%f ' || true
echo
if grep -qs processes /usr/lib/app/setup; then echo yes; else echo no; fi
if grep -qs settings/interpreter /usr/lib/app/setup; then echo yes; else echo no; fi
