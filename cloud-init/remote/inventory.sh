#!/bin/sh
# Print what a machine has installed: the code name of its Debian version, the lock of the current release, a line of
# dashes, and the fields of dpkg's status that name packages, their versions and their sources.
set -eu

(. /etc/os-release && echo "$VERSION_CODENAME")
cat /srv/app/current/lock.txt
echo ---
grep -E '^((Package|Status|Version|Source|Built-Using):.*)?$' /var/lib/dpkg/status
