#!/bin/sh
# Print the state of a machine, one line each: the source stanza, the current release, the previous release, and all
# releases on the machine.
set -eu

tr -d '\n' < /etc/app/source.json
echo
basename "$(readlink /srv/app/current)"
basename "$(readlink /srv/app/previous)"
find /srv/app/releases -mindepth 1 -maxdepth 1 ! -name '.*' -printf '%f ' || true
echo
