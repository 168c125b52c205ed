#!/bin/sh
# Store standard input at a path ($1), readable only by root. The file gets its name only if it has all bytes ($2).
# Refuse a file for which the disk has no room: unpacked and with its virtualenv, it takes about three times its size,
# and the app's data needs space as well.
set -eu

umask 077
mkdir -p "$(dirname "$1")"
free=$(df -PB1 "$(dirname "$1")" | awk 'NR == 2 { print $4 }')
if [ "$free" -lt $((4 * $2)) ]; then
    echo "$(dirname "$1") has $((free / 1000000)) MB of free space; the release needs $((4 * $2 / 1000000)) MB" >&2
    exit 28
fi
# Another push of the same release may write at the same moment, so each has a file of its own.
partial=$(mktemp "$1.XXXXXX")
trap 'rm -f "$partial"' EXIT
cat > "$partial"
[ "$(stat -c %s "$partial")" = "$2" ]
mv "$partial" "$1"
