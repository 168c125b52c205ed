#!/bin/sh
# Read pairs of Debian versions, a pair a line. Print those whose first version is older than the second.
set -eu

while read -r version fixed; do
    if dpkg --compare-versions "$version" lt "$fixed"; then
        echo "$version $fixed"
    fi
done
