#!/bin/sh
# Read pairs of Debian versions, a pair a line. Print those whose first version is older than the second. Fail where
# dpkg cannot compare two: such a pair is not known to be safe.
set -eu

while read -r version fixed; do
    status=0
    dpkg --compare-versions "$version" lt "$fixed" || status=$?
    case $status in
        0) echo "$version $fixed" ;;
        1) ;;
        *) exit "$status" ;;
    esac
done
