#!/bin/sh
# Print the state of a machine's own files as JSON, by a program ($1). The paths ($2) outside of /usr/lib/app that may
# belong to them are a list in JSON.
set -eu

exec python3 -B -c "$1" describe / "$2"
